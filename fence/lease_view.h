/*
 * lease_view.h - a reader's look at the lease page.
 *
 * Used by the PostgreSQL module (which maps the page once and then only loads
 * words) and by the guardian. Every doubt reads as "no lease": a page that is
 * missing, of another boot, of another time namespace, forgeable or damaged.
 *
 * Clock:  lease_view_check() reads CLOCK_BOOTTIME and CLOCK_MONOTONIC_RAW.
 * Memory: the caller's struct; one read-only mapping, undone by lease_view_close().
 * Errors: enum lease_fault; no errno, no text but lease_fault_text(). libc only.
 *         A page that somebody truncates under the mapping is a SIGBUS: the
 *         process dies, which is the safe end.
 */
#ifndef HA_FENCE_LEASE_VIEW_H
#define HA_FENCE_LEASE_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "fence/lease_layout.h"

/*
 * What runs in every statement lies side by side: a page that is touched costs an entry in the
 * processor's table of pages, and in a virtual machine a miss there costs as much as all the rest.
 */
#define LEASE_HOT __attribute__((hot))

enum lease_fault {
    LEASE_LIVE = 0, /* no fault: the lease is live */
    LEASE_NO_PATH,
    LEASE_NO_FILE,
    LEASE_UNREADABLE,
    LEASE_NOT_REGULAR,
    LEASE_FORGEABLE,
    LEASE_BAD_SIZE,
    LEASE_BAD_MAGIC,
    LEASE_BAD_VERSION,
    LEASE_OTHER_BOOT,
    LEASE_OTHER_TIME_NS,
    LEASE_BAD_REIGN,
    LEASE_OTHER_REIGN,
    LEASE_REVOKED,
    LEASE_EXPIRED,
    LEASE_FAULT_COUNT,
};

struct lease_view {
    const struct lease_layout *at; /* NULL when nothing is mapped */
    uint64_t device;
    uint64_t inode;
};

/* A sentence part for messages: "the lease expired". */
const char *lease_fault_text(enum lease_fault fault);

/*
 * Maps the page at PATH. LEASE_LIVE when it is one to trust (which says nothing about its
 * deadline). The file must be a regular one, no symbolic link, of root or of this process's
 * user, and writable by its owner alone.
 */
enum lease_fault lease_view_open(struct lease_view *view, const char *path);

/*
 * Is the lease live now? `reign` is the only one to obey, 0 for any. Loads the words FIRST and
 * reads the clocks SECOND: a freeze in between then makes it expired, never live.
 */
LEASE_HOT enum lease_fault lease_view_check(const struct lease_view *view, uint64_t reign);

/* The earlier of "BOOTTIME deadline" and now, in ms until then; 0 when there is no live lease. */
int64_t lease_view_rest_ms(const struct lease_view *view);

/* True when PATH no longer names the mapped file, or nothing is mapped. */
bool lease_view_is_stale(const struct lease_view *view, const char *path);

void lease_view_close(struct lease_view *view);

#endif
