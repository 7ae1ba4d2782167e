/*
 * log.h - the durable Raft log: entries, snapshot, term and vote.
 *
 * Append-only, every record behind a CRC32C, written and synced before a call
 * returns HA_OK. A torn tail (an incomplete last record, as a crash leaves it)
 * is cut off with a note; damage anywhere else is a refusal to open that names
 * file and offset. A failed append leaves nothing that a later open could see.
 *
 * Files in the directory: log (entries), snapshot, vote (two checksummed slots).
 * Threads: one call at a time; log_vote_set() may run beside the others.
 * Memory:  the log keeps its entries on disk only; log_load() hands them out.
 */
#ifndef HA_STORE_LOG_H
#define HA_STORE_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "store/fs.h"

#define LOG_ENTRY_BYTES_MAX (256 * 1024)
#define LOG_SNAPSHOT_BYTES_MAX (1024 * 1024)

struct log_entry {
    uint64_t term;
    uint16_t type; /* opaque here: RAFT_COMMAND, RAFT_BARRIER, RAFT_CHANGE */
    const void *data;
    size_t len;
};

struct log_snapshot {
    uint64_t index; /* last entry that it stands for */
    uint64_t term;
    uint64_t configuration_index;
    const void *configuration; /* encoded by the caller */
    size_t configuration_len;
    const void *data;
    size_t len;
};

/* What a start finds. Free with log_loaded_free(). */
struct log_loaded {
    uint64_t term;
    uint64_t voted_for;
    bool has_snapshot;
    struct log_snapshot snapshot;
    uint64_t first_index; /* of entries[0]; snapshot.index + 1 or less (trailing entries) */
    size_t n_entries;
    struct log_entry *entries;
    void *memory;   /* behind all pointers above */
    char note[256]; /* what was repaired (torn tail), or "" */
};

struct log;

/* Opens or creates the log in an existing directory. HA_ECORRUPT names file and offset. */
int log_open(struct fs *fs, const char *dir, struct log **out, struct err *err) HA_MUST_CHECK;
void log_close(struct log *log);

int log_load(struct log *log, struct log_loaded *out, struct err *err) HA_MUST_CHECK;
void log_loaded_free(struct log_loaded *loaded);

/* True when nothing was ever stored: no term, no entry, no snapshot. */
bool log_is_pristine(const struct log *log);

/*
 * Appends n entries; the first gets index `first_index`, which must be the last index + 1.
 * HA_ENOSPC or HA_EIO: nothing of it is there after a restart, the log stays usable where it can
 * be; after HA_ECORRUPT it is not.
 */
int log_append(struct log *log,
               uint64_t first_index,
               const struct log_entry *entries,
               size_t n,
               struct err *err) HA_MUST_CHECK;

/* Drops all entries from `index` on, durably. */
int log_truncate(struct log *log, uint64_t index, struct err *err) HA_MUST_CHECK;

/*
 * Stores a snapshot (temporary file, sync, rename), then drops entries up to
 * snapshot.index - trailing. With trailing = 0 and an index beyond the log's end all entries go.
 */
int log_snapshot_put(struct log *log,
                     const struct log_snapshot *snapshot,
                     uint64_t trailing,
                     struct err *err) HA_MUST_CHECK;

/* The newest snapshot; *memory holds what it points to and is the caller's to free(). */
int log_snapshot_get(struct log *log, struct log_snapshot *out, void **memory, struct err *err)
    HA_MUST_CHECK;

/* Term and vote, durable on return. The term never goes back: HA_EINVAL. */
int log_vote_set(struct log *log, uint64_t term, uint64_t voted_for, struct err *err) HA_MUST_CHECK;

uint64_t log_first_index(const struct log *log);
uint64_t log_last_index(const struct log *log);

#endif
