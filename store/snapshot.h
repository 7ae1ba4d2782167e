/*
 * snapshot.h - the whole state as bytes: versioned, with a CRC32C at the end.
 */
#ifndef HA_STORE_SNAPSHOT_H
#define HA_STORE_SNAPSHOT_H

#include "base/err.h"
#include "store/state.h"

#define SNAPSHOT_BYTES_MAX 65536

/* Bytes written, or 0 when `size` is too small. SNAPSHOT_BYTES_MAX is always enough. */
size_t snapshot_encode(const struct state *state, void *out, size_t size);

/* Replaces *state. On HA_ECORRUPT or HA_EVERSION *state is as it was. */
int snapshot_decode(struct state *state, const void *bytes, size_t len) HA_MUST_CHECK;

#endif
