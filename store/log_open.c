/* Opening the log: its files are created together, and must agree with each other. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/log_internal.h"

/* What log_loaded.memory points to; the entries follow. */
struct loaded_memory {
    void *snapshot;
    void *log;
    struct log_entry entries[];
};

bool
log_is_superseded(const struct log *log)
{
    if (!log->has_snapshot) {
        return false;
    }
    if (log_last_index(log) < log->snapshot_index) {
        return true;
    }
    return log->snapshot_index >= log_first_index(log) &&
           log_term_of(log, log->snapshot_index) != log->snapshot_term;
}

int
log_supersede(struct log *log, struct err *err)
{
    const struct log_file_range nothing = {.first_index = log->snapshot_index + 1,
                                           .term_before = log->snapshot_term,
                                           .is_empty = true};

    return log_file_rewrite(log, &nothing, err);
}

/* The first start: the vote first, so that a log without a vote is a vote that was lost. */
static int
create_files(struct log *log, bool has_vote, struct err *err)
{
    const struct log_file_range nothing = {.first_index = 1, .is_empty = true};
    int rc = HA_OK;

    if (log->has_snapshot || atomic_load(&log->vote_term) > 0) {
        return err_set(err,
                       HA_ECORRUPT,
                       "%s: damaged at offset 0: the file is gone, but %s/%s is there",
                       log->path,
                       log->dir,
                       log->has_snapshot ? LOG_SNAPSHOT_NAME : LOG_VOTE_NAME);
    }
    if (!has_vote) {
        rc = log_vote_create(log, err);
    }
    return rc == HA_OK ? log_file_rewrite(log, &nothing, err) : rc;
}

static int
read_snapshot_place(struct log *log, struct err *err)
{
    struct log_snapshot snapshot = {0};
    void *memory = NULL;
    int rc = log_snapshot_read(log, &snapshot, &memory, err);

    free(memory);
    if (rc == HA_ENOTFOUND) {
        return HA_OK;
    }
    if (rc == HA_OK) {
        log->has_snapshot = true;
        log->snapshot_index = snapshot.index;
        log->snapshot_term = snapshot.term;
    }
    return rc;
}

/* The three files are whole, each for itself. Are they of one piece? */
static int
check_agreement(struct log *log, struct err *err)
{
    const uint64_t vote_term = atomic_load(&log->vote_term);
    const uint64_t first = log_first_index(log);

    if (first > log->snapshot_index + 1) {
        return err_set(err,
                       HA_ECORRUPT,
                       "%s: damaged at offset 0: the log begins at entry %" PRIu64
                       ", and no snapshot stands for the entries before",
                       log->snapshot_path,
                       first);
    }
    if (log_last_term(log) > vote_term || log->snapshot_term > vote_term) {
        return err_set(err,
                       HA_ECORRUPT,
                       "%s/" LOG_VOTE_NAME ": damaged at offset 0: term %" PRIu64
                       " is older than that of the log",
                       log->dir,
                       vote_term);
    }
    /* A crash came between a snapshot and the end of the entries that it replaces. */
    return log_is_superseded(log) ? log_supersede(log, err) : HA_OK;
}

static int
open_files(struct log *log, struct err *err)
{
    static const char *const names[] = {LOG_FILE_NAME, LOG_SNAPSHOT_NAME, LOG_VOTE_NAME};
    bool has_vote;
    int rc = HA_OK;

    for (size_t i = 0; rc == HA_OK && i < HA_COUNT_OF(names); i++) {
        rc = fs_replace_clean(log->fs, log->dir, names[i], err);
    }
    /* What we find must stay, also when the process before died between a rename and its sync. */
    if (rc == HA_OK) {
        rc = log->fs->sync_dir(log->fs, log->dir, err);
    }
    if (rc != HA_OK) {
        return rc;
    }
    rc = log_vote_open(log, err);
    if (rc != HA_OK && rc != HA_ENOTFOUND) {
        return rc;
    }
    has_vote = rc == HA_OK;
    rc = read_snapshot_place(log, err);
    if (rc == HA_OK) {
        rc = log_file_open(log, err);
    }
    if (rc == HA_ENOTFOUND) {
        return create_files(log, has_vote, err);
    }
    if (rc == HA_OK && !has_vote) {
        rc = err_set(err,
                     HA_ECORRUPT,
                     "%s/" LOG_VOTE_NAME ": damaged at offset 0: the file is gone",
                     log->dir);
    }
    return rc == HA_OK ? check_agreement(log, err) : rc;
}

int
log_open(struct fs *fs, const char *dir, struct log **out, struct err *err)
{
    struct log *const log = calloc(1, sizeof *log);
    int rc;

    if (log == NULL) {
        return err_set(err, HA_ENOMEM, "no memory for the log");
    }
    log->fs = fs;
    log->file = -1;
    log->marks.first_index = 1;
    rc = fs_path(log->path, dir, LOG_FILE_NAME, err);
    if (rc == HA_OK) {
        rc = fs_path(log->snapshot_path, dir, LOG_SNAPSHOT_NAME, err);
    }
    if (rc == HA_OK) {
        (void)snprintf(log->dir, sizeof log->dir, "%s", dir);
        rc = open_files(log, err);
    }
    if (rc != HA_OK) {
        log_close(log);
        return rc;
    }
    *out = log;
    return HA_OK;
}

void
log_close(struct log *log)
{
    if (log == NULL) {
        return;
    }
    if (log->file >= 0) {
        (void)log->fs->close(log->fs, log->file);
    }
    log_marks_fini(&log->marks);
    free(log);
}

/* The entries, as pointers into the bytes of the file. They were checked when these were read. */
static void
take_entries(const struct log *log, const uint8_t *bytes, struct log_entry *entries)
{
    for (size_t i = 0; i < log->marks.n; i++) {
        const uint64_t at = log->marks.at[i].offset;
        struct log_record record = {0};
        const bool is_whole = log_record_decode(&record, bytes + at, log->end - at);

        ENSURE(is_whole, "log_file_read() checked it");
        entries[i] = (struct log_entry){.term = record.term,
                                        .type = record.type,
                                        .data = bytes + at + LOG_RECORD_HEADER_BYTES,
                                        .len = record.len};
    }
}

int
log_load(struct log *log, struct log_loaded *out, struct err *err)
{
    struct loaded_memory *memory;
    int rc = log_check_usable(log, err);

    *out = (struct log_loaded){0};
    if (rc != HA_OK) {
        return rc;
    }
    memory = calloc(1, sizeof *memory + log->marks.n * sizeof memory->entries[0]);
    if (memory == NULL) {
        return err_set(err, HA_ENOMEM, "no memory to load %zu entries", log->marks.n);
    }
    out->memory = memory;
    if (log->has_snapshot) {
        rc = log_snapshot_get(log, &out->snapshot, &memory->snapshot, err);
    }
    if (rc == HA_OK) {
        rc = log_file_read(log, &memory->log, err);
    }
    if (rc != HA_OK) {
        log_loaded_free(out);
        return rc;
    }
    take_entries(log, memory->log, memory->entries);
    out->term = atomic_load(&log->vote_term);
    out->voted_for = log->voted_for;
    out->has_snapshot = log->has_snapshot;
    out->first_index = log_first_index(log);
    out->n_entries = log->marks.n;
    out->entries = memory->entries;
    (void)snprintf(out->note, sizeof out->note, "%s", log->note);
    return HA_OK;
}

void
log_loaded_free(struct log_loaded *loaded)
{
    struct loaded_memory *const memory = loaded->memory;

    if (memory != NULL) {
        free(memory->snapshot);
        free(memory->log);
        free(memory);
    }
    *loaded = (struct log_loaded){0};
}
