/*
 * durable.h - what a member must not forget over a restart, beside the Raft log.
 *
 * docs/protocol.md, section 3: the highest reign promised and to whom, the
 * longest promise, the reign that this member opened, the reign it released;
 * and who it is. One record in two checksummed slots of one file: a write
 * goes to one slot and is synced, so a torn write leaves the other; then the
 * other gets a copy, so a damaged slot costs nothing (store/slots.h).
 */
#ifndef HA_STORE_DURABLE_H
#define HA_STORE_DURABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "store/durable_record.h"
#include "store/fs.h"
#include "store/state.h"

/*
 * Reads DIR/durable, and syncs it: what it says stays said. HA_ENOTFOUND when there is none;
 * HA_ECORRUPT when the file is there but no slot is whole (file and offset in the text).
 */
int
durable_load(struct fs *fs, const char *dir, struct durable *out, struct err *err) HA_MUST_CHECK;

/*
 * Writes and syncs. Blocks. Needs no space once the file is there. On failure the record before it
 * is still there; after a restart it may be the new one, when it was the sync that failed.
 */
int durable_save(struct fs *fs, const char *dir, const struct durable *record, struct err *err)
    HA_MUST_CHECK;

/*
 * DIR/state: the last applied state with its log index, so that a member knows after a restart
 * what it knew before, also while no Raft leader says how far the log counts. Not synced: losing
 * the newest is harmless. HA_ENOTFOUND when there is none or it is damaged (it is only a memory).
 */
int state_cache_load(struct fs *fs, const char *dir, struct state *state, uint64_t *index);
int state_cache_save(struct fs *fs, const char *dir, const struct state *state, uint64_t index);

/*
 * Of a member that was removed and forgot its id: removes the log's files and the remembered state,
 * durably. To be called before anything else reads them; a record with an id, or of a member that
 * never had one, is left alone. Stopped half-way, the next start goes on.
 */
int durable_discard_rest(struct fs *fs,
                         const char *dir,
                         const struct durable *record,
                         struct err *err) HA_MUST_CHECK;

#endif
