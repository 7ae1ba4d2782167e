/*
 * log_internal.h - what the files of the log share. Private to log*.c.
 */
#ifndef HA_STORE_LOG_INTERNAL_H
#define HA_STORE_LOG_INTERNAL_H

#include <stdatomic.h>

#include "store/fs_replace.h"
#include "store/log.h"
#include "store/log_record.h"
#include "store/slots.h"

#define LOG_FILE_NAME "log"
#define LOG_SNAPSHOT_NAME "snapshot"
#define LOG_VOTE_NAME "vote"

struct log {
    struct fs *fs;
    char dir[FS_PATH_MAX];
    char path[FS_PATH_MAX];
    char snapshot_path[FS_PATH_MAX];

    int file;     /* the log, open for writing; -1 when there is none */
    uint64_t end; /* all before it is good and, unless is_broken, synced */
    struct log_marks marks;

    bool has_snapshot;
    uint64_t snapshot_index;
    uint64_t snapshot_term;

    /* Set once, by a failure behind which nobody can say what is on disk. */
    bool is_broken;
    char why_broken[256];

    char note[256]; /* for log_loaded */

    /* Of log_vote_set(), which may run in a thread of its own. */
    struct slots vote_slots;
    _Atomic uint64_t vote_term; /* also read by the others */
    uint64_t voted_for;
};

/* log_vote.c */
int log_vote_open(struct log *log, struct err *err); /* HA_ENOTFOUND when there is no file */
int log_vote_create(struct log *log, struct err *err);

/* log_snapshot.c: reads and checks the file; HA_ENOTFOUND when there is none. */
int
log_snapshot_read(const struct log *log, struct log_snapshot *out, void **memory, struct err *err);

/* log_file.c: one log file in place of another. */
struct log_file_range {
    uint64_t first_index; /* entries from here to the end are kept */
    uint64_t term_before; /* term of the entry before */
    bool is_empty;        /* no entry is kept; first_index will be the next one */
};
int log_file_rewrite(struct log *log, const struct log_file_range *keep, struct err *err);
/*
 * Opens the file, walks it, cuts a torn tail and makes sure that the rest is durable. HA_ENOTFOUND
 * when there is none.
 */
int log_file_open(struct log *log, struct err *err);
/* The file's log->end bytes, checked once more; the caller's to free. */
int log_file_read(const struct log *log, void **bytes, struct err *err);
/* Says behind the entries that they were synced. Best effort: a log without it is as good. */
void log_file_seal(struct log *log);

/*
 * log_open.c: true when the snapshot stands for all entries: it lies beyond the last one, or the
 * entry at its index has another term, so that this log and the cluster's went apart before.
 */
bool log_is_superseded(const struct log *log);
/* Puts an empty log behind the snapshot. */
int log_supersede(struct log *log, struct err *err);

/* HA_ECORRUPT with the reason when an earlier failure left the log unusable. */
int log_check_usable(const struct log *log, struct err *err) HA_MUST_CHECK;
/* Every later call fails. Returns `rc`. */
int log_break(struct log *log, int rc, const struct err *why);

/* Term of an entry that is in the file. */
uint64_t log_term_of(const struct log *log, uint64_t index);
uint64_t log_last_term(const struct log *log);

#endif
