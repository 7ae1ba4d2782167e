/*
 * lock.h - an exclusive flock(2) on a file of a volume, held for life.
 *
 * Two containers of one service do live side by side for seconds, and two
 * postmasters in two containers do not see each other. The lock's descriptor
 * is inherited by the postmaster, so a lock obtained means that no process of
 * the old PostgreSQL is left.
 */
#ifndef HA_STORE_LOCK_H
#define HA_STORE_LOCK_H

#include <stdint.h>

#include "base/err.h"

/*
 * Opens (creates) PATH and takes the lock, trying for at most wait_ms (it blocks; call it before
 * the event loop runs). *fd stays open without O_CLOEXEC being set: who spawns decides. HA_EBUSY
 * when somebody else holds it to the end; the text names the path and, as far as known, the
 * holder's process id.
 */
int lock_take(const char *path, int64_t wait_ms, int *fd, struct err *err) HA_MUST_CHECK;

#endif
