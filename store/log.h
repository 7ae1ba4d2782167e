/*
 * log.h - the durable Raft log: entries, snapshot, term and vote.
 *
 * Append-only, every record behind a CRC32C, written and synced before a call
 * returns HA_OK. A torn tail (what a crash leaves of the append that it hit) is
 * cut off with a note; damage anywhere else is a refusal to open that names
 * file and offset. log_record.h says how the two are told apart. A failed append
 * leaves nothing that a later open could see; an append that a crash cut short
 * leaves some first entries of it, each whole, or none.
 *
 * A failure behind which nobody can say what is on disk (a failed sync, or a
 * failed repair) makes the log unusable: every later call, log_vote_set() and the
 * two index functions aside, returns HA_ECORRUPT until it is opened anew.
 *
 * Files in the directory: log (entries), snapshot, vote (two checksummed slots).
 *        They are made together, vote first; one that is missing is damage.
 * Threads: one call at a time; log_vote_set() may run beside the others, except
 *        log_open(), log_load() and log_close().
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
 * No term goes back, is 0, or is newer than the one last given to log_vote_set(): HA_EINVAL.
 * HA_ENOSPC or HA_EIO: nothing of it is there after a restart, the log stays usable where it can
 * be; after HA_ECORRUPT it is not.
 */
int log_append(struct log *log,
               uint64_t first_index,
               const struct log_entry *entries,
               size_t n,
               struct err *err) HA_MUST_CHECK;

/*
 * Drops all entries from `index` on, durably. Nothing to do when it lies beyond the last one;
 * HA_EINVAL when it is not behind the snapshot.
 */
int log_truncate(struct log *log, uint64_t index, struct err *err) HA_MUST_CHECK;

/*
 * Stores a snapshot (temporary file, sync, rename), then drops entries up to
 * snapshot.index - trailing. With an index beyond the log's end all entries go, whatever trailing
 * is; also when the log's entry at that index is of another term, for then it is another history.
 * An error can come after the snapshot is durable: then entries are left that a later one drops.
 */
int log_snapshot_put(struct log *log,
                     const struct log_snapshot *snapshot,
                     uint64_t trailing,
                     struct err *err) HA_MUST_CHECK;

/* The newest snapshot; *memory holds what it points to and is the caller's to free(). */
int log_snapshot_get(struct log *log, struct log_snapshot *out, void **memory, struct err *err)
    HA_MUST_CHECK;

/*
 * Term and vote, durable on return. The term never goes back, and a vote is given once in a term:
 * HA_EINVAL. After a failure the old ones count, and after a restart perhaps the new ones.
 */
int log_vote_set(struct log *log, uint64_t term, uint64_t voted_for, struct err *err) HA_MUST_CHECK;

uint64_t log_first_index(const struct log *log);
uint64_t log_last_index(const struct log *log);

#endif
