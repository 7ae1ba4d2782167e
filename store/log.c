#include "store/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "store/log_internal.h"

uint64_t
log_first_index(const struct log *log)
{
    return log->marks.first_index;
}

uint64_t
log_last_index(const struct log *log)
{
    return log->marks.first_index + log->marks.n - 1;
}

uint64_t
log_term_of(const struct log *log, uint64_t index)
{
    REQUIRE(index >= log_first_index(log) && index <= log_last_index(log), "the entry is there");
    return log->marks.at[index - log->marks.first_index].term;
}

uint64_t
log_last_term(const struct log *log)
{
    return log->marks.n > 0 ? log->marks.at[log->marks.n - 1].term : log->marks.term_before;
}

bool
log_is_pristine(const struct log *log)
{
    return atomic_load(&log->vote_term) == 0 && !log->has_snapshot && log->marks.n == 0;
}

int
log_check_usable(const struct log *log, struct err *err)
{
    if (log->is_broken) {
        return err_set(err,
                       HA_ECORRUPT,
                       "%s: unusable until a restart, since: %s",
                       log->path,
                       log->why_broken);
    }
    return HA_OK;
}

int
log_break(struct log *log, int rc, const struct err *why)
{
    if (!log->is_broken) {
        log->is_broken = true;
        (void)snprintf(log->why_broken,
                       sizeof log->why_broken,
                       "%.*s",
                       (int)sizeof log->why_broken - 1,
                       why != NULL ? why->text : err_code_text(rc));
    }
    return rc;
}

/* An append failed: puts the file back to its end before. */
static int
undo_append(struct log *log, int rc, bool is_sync_failure, struct err *err)
{
    struct err second = {0};
    int undone = log->fs->truncate(log->fs, log->file, log->end, &second);

    if (undone == HA_OK) {
        undone = log->fs->sync(log->fs, log->file, &second);
    }
    (void)err_prefix(err, "%s: append at offset %" PRIu64, log->path, log->end);
    if (undone != HA_OK) {
        /* Whole entries of it may be there after a restart. */
        (void)log_break(log, HA_ECORRUPT, &second);
        return err_set(err,
                       HA_ECORRUPT,
                       "%s: an append failed at offset %" PRIu64 " and could not be undone: %.200s",
                       log->path,
                       log->end,
                       second.text);
    }
    /* After a failed sync the kernel may have dropped what it had not written. Trust no more. */
    return is_sync_failure ? log_break(log, rc, err) : rc;
}

static int
append_check(const struct log *log,
             uint64_t first_index,
             const struct log_entry *entries,
             size_t n,
             struct err *err)
{
    const uint64_t vote_term = atomic_load(&log->vote_term);
    uint64_t term = log_last_term(log);

    if (first_index != log_last_index(log) + 1) {
        return err_set(err,
                       HA_EINVAL,
                       "entry %" PRIu64 " appended behind entry %" PRIu64,
                       first_index,
                       log_last_index(log));
    }
    for (size_t i = 0; i < n; i++) {
        if (entries[i].len > LOG_ENTRY_BYTES_MAX) {
            return err_set(err, HA_ETOOBIG, "an entry of %zu bytes", entries[i].len);
        }
        if (entries[i].term < term || entries[i].term == 0 || entries[i].term > vote_term) {
            return err_set(err,
                           HA_EINVAL,
                           "entry of term %" PRIu64 " behind term %" PRIu64
                           ", in stored term %" PRIu64,
                           entries[i].term,
                           term,
                           vote_term);
        }
        term = entries[i].term;
    }
    return HA_OK;
}

/* The records of the entries, as one block to write. */
static uint8_t *
append_encode(uint64_t first_index, const struct log_entry *entries, size_t n, size_t *len)
{
    size_t at = 0;
    uint8_t *out;

    *len = 0;
    for (size_t i = 0; i < n; i++) {
        *len += LOG_RECORD_HEADER_BYTES + (size_t)log_padded(entries[i].len);
    }
    out = calloc(1, *len);
    if (out == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        const size_t padded = (size_t)log_padded(entries[i].len);
        uint8_t *const data = out + at + LOG_RECORD_HEADER_BYTES;

        if (entries[i].len > 0) {
            memcpy(data, entries[i].data, entries[i].len);
        }
        log_record_encode(&(struct log_record){.type = entries[i].type,
                                               .len = (uint32_t)entries[i].len,
                                               .data_crc = crc32c(0, data, padded),
                                               .index = first_index + i,
                                               .batch = first_index,
                                               .term = entries[i].term},
                          out + at);
        at += LOG_RECORD_HEADER_BYTES + padded;
    }
    return out;
}

/* The entries are on disk: remember where. Room was made before. */
static void
append_take(struct log *log, const struct log_entry *entries, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        log->marks.at[log->marks.n++] = (struct log_mark){log->end, entries[i].term};
        log->end += LOG_RECORD_HEADER_BYTES + log_padded(entries[i].len);
    }
}

int
log_append(struct log *log,
           uint64_t first_index,
           const struct log_entry *entries,
           size_t n,
           struct err *err)
{
    bool is_sync_failure = false;
    uint8_t *bytes;
    size_t len = 0;
    int rc = log_check_usable(log, err);

    if (rc == HA_OK) {
        rc = append_check(log, first_index, entries, n, err);
    }
    if (rc == HA_OK) {
        rc = log_marks_reserve(&log->marks, n, err);
    }
    if (rc != HA_OK || n == 0) {
        return rc;
    }
    bytes = append_encode(first_index, entries, n, &len);
    if (bytes == NULL) {
        return err_set(err, HA_ENOMEM, "no memory to append %zu bytes", len);
    }
    rc = log->fs->write_at(log->fs, log->file, log->end, bytes, len, err);
    free(bytes);
    if (rc == HA_OK) {
        rc = log->fs->sync(log->fs, log->file, err);
        is_sync_failure = rc != HA_OK;
    }
    if (rc != HA_OK) {
        return undo_append(log, rc, is_sync_failure, err);
    }
    append_take(log, entries, n);
    log_file_seal(log);
    return HA_OK;
}

int
log_truncate(struct log *log, uint64_t index, struct err *err)
{
    uint64_t offset;
    int rc = log_check_usable(log, err);

    if (rc != HA_OK || index > log_last_index(log)) {
        return rc;
    }
    if (index < log_first_index(log) || index <= log->snapshot_index) {
        return err_set(err,
                       HA_EINVAL,
                       "truncation at entry %" PRIu64 ", but the log begins at %" PRIu64
                       " and the snapshot is at %" PRIu64,
                       index,
                       log_first_index(log),
                       log->snapshot_index);
    }
    offset = log->marks.at[index - log_first_index(log)].offset;
    rc = log->fs->truncate(log->fs, log->file, offset, err);
    if (rc == HA_OK) {
        rc = log->fs->sync(log->fs, log->file, err);
    }
    if (rc != HA_OK) {
        (void)err_prefix(err, "%s: truncation at offset %" PRIu64, log->path, offset);
        return log_break(log, rc, err);
    }
    log->marks.n = (size_t)(index - log_first_index(log));
    log->end = offset;
    log_file_seal(log);
    return HA_OK;
}
