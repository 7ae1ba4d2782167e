/* The log file as a whole: opened and repaired, and replaced by a shorter one. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/log_internal.h"

void
log_file_seal(struct log *log)
{
    const uint64_t next = log_last_index(log) + 1;
    const struct log_record seal = {
        .is_seal = true, .index = next, .batch = next, .term = log_last_term(log)};
    uint8_t bytes[LOG_RECORD_HEADER_BYTES];

    log_record_encode(&seal, bytes);
    if (log->fs->write_at(log->fs, log->file, log->end, bytes, sizeof bytes, NULL) == HA_OK) {
        log->end += sizeof bytes;
    }
    /* Else part of one may stand there: the next append writes over it, a start cuts it off. */
}

/*
 * Makes durable what is about to be handed out, and cuts off what an unfinished write left.
 *
 * A process that died may have written entries that it did not get to sync; or the kernel failed to
 * store them, said so to that process, and calls them clean since. They are there to be read and
 * could be lost later. So the last append is written once more, with the same bytes; and
 * the seal before it, which is synced with it.
 */
static int
settle(struct log *log, const uint8_t *bytes, const struct log_walk *found, struct err *err)
{
    struct fs *const fs = log->fs;
    int rc = fs->write_at(fs,
                          log->file,
                          found->last_run,
                          bytes + found->last_run,
                          (size_t)(found->end - found->last_run),
                          err);

    if (rc == HA_OK && found->is_torn) {
        rc = fs->truncate(fs, log->file, found->end, err);
    }
    if (rc == HA_OK) {
        rc = fs->sync(fs, log->file, err);
    }
    if (rc != HA_OK) {
        (void)err_prefix(err, "%s", log->path);
    }
    return rc;
}

int
log_file_open(struct log *log, struct err *err)
{
    struct log_walk found = {0};
    void *bytes = NULL;
    size_t len = 0;
    int rc = log->fs->open(log->fs, log->path, false, &log->file, err);

    if (rc != HA_OK) {
        log->file = -1;
        return rc;
    }
    rc = log->fs->read_all(log->fs, log->path, &bytes, &len, err);
    if (rc != HA_OK) {
        return rc;
    }
    rc = log_walk(log->path, bytes, len, &log->marks, &found, err);
    if (rc == HA_OK) {
        rc = settle(log, bytes, &found, err);
    }
    free(bytes);
    if (rc != HA_OK) {
        return rc;
    }
    log->end = found.end;
    if (found.is_torn) {
        (void)snprintf(log->note,
                       sizeof log->note,
                       "torn tail at offset %" PRIu64 " of the log: %" PRIu64
                       " bytes of an unfinished write cut off, the last entry is %" PRIu64,
                       log->end,
                       len - log->end,
                       log_last_index(log));
    }
    if (!found.is_sealed) {
        log_file_seal(log);
    }
    return HA_OK;
}

/* Where the last entry ends: log->end, or before a seal there. */
static uint64_t
entries_end(const struct log *log, const uint8_t *bytes)
{
    const uint64_t at = log->marks.at[log->marks.n - 1].offset;
    struct log_record last = {0};

    ENSURE(log_record_decode(&last, bytes + at, log->end - at), "log_file_read() checked it");
    return at + LOG_RECORD_HEADER_BYTES + log_padded(last.len);
}

/* The image of a log that begins at keep->first_index, with the records of the one in `old`. */
static uint8_t *
image_new(const struct log *log, const struct log_file_range *keep, const uint8_t *old, size_t *len)
{
    const struct log_file_header header = {keep->first_index, keep->term_before};
    struct log_record seal = {
        .is_seal = true, .index = keep->first_index, .term = keep->term_before};
    size_t kept = 0;
    uint64_t from = 0;
    uint8_t *image;

    if (!keep->is_empty && keep->first_index <= log_last_index(log)) {
        from = log->marks.at[keep->first_index - log->marks.first_index].offset;
        kept = (size_t)(entries_end(log, old) - from);
        seal.index = log_last_index(log) + 1;
        seal.term = log_last_term(log);
    }
    seal.batch = seal.index;
    *len = LOG_FILE_HEADER_BYTES + kept + LOG_RECORD_HEADER_BYTES;
    image = malloc(*len);
    if (image == NULL) {
        return NULL;
    }
    log_file_header_encode(&header, image);
    if (kept > 0) {
        memcpy(image + LOG_FILE_HEADER_BYTES, old + from, kept);
    }
    log_record_encode(&seal, image + LOG_FILE_HEADER_BYTES + kept);
    return image;
}

/* The records as they lie on disk now, checked again: damage must not be copied. */
int
log_file_read(const struct log *log, void **bytes, struct err *err)
{
    struct log_marks marks = {0};
    struct log_walk found = {0};
    size_t len = 0;
    int rc = log->fs->read_all(log->fs, log->path, bytes, &len, err);

    if (rc != HA_OK) {
        return rc;
    }
    if (len > log->end) {
        len = (size_t)log->end; /* part of a seal may stand behind it */
    }
    rc = log_walk(log->path, *bytes, len, &marks, &found, err);
    if (rc == HA_OK && (found.end != log->end || marks.n != log->marks.n)) {
        rc = err_set(err,
                     HA_ECORRUPT,
                     "%s: damaged at offset %" PRIu64 " while in use",
                     log->path,
                     found.end);
    }
    log_marks_fini(&marks);
    if (rc != HA_OK) {
        free(*bytes);
        *bytes = NULL;
    }
    return rc;
}

/* The new file is in place: go on with it. */
static int
switch_to(struct log *log, const uint8_t *image, size_t len, struct err *err)
{
    struct log_marks marks = {0};
    struct log_walk found = {0};
    int file = -1;
    int rc = log_walk(log->path, image, len, &marks, &found, err);

    if (rc == HA_OK) {
        rc = log->fs->open(log->fs, log->path, false, &file, err);
    }
    if (rc != HA_OK) {
        log_marks_fini(&marks);
        return rc;
    }
    ENSURE(found.end == len, "a log that we wrote is whole");
    if (log->file >= 0) {
        (void)log->fs->close(log->fs, log->file);
    }
    log_marks_fini(&log->marks);
    log->marks = marks;
    log->file = file;
    log->end = len;
    return HA_OK;
}

int
log_file_rewrite(struct log *log, const struct log_file_range *keep, struct err *err)
{
    bool is_uncertain = false;
    void *old = NULL;
    uint8_t *image;
    size_t len = 0;
    int rc = log->file < 0 ? HA_OK : log_file_read(log, &old, err);

    if (rc != HA_OK) {
        return rc == HA_ECORRUPT ? log_break(log, rc, err) : rc;
    }
    image = image_new(log, keep, old, &len);
    free(old);
    if (image == NULL) {
        return err_set(err, HA_ENOMEM, "%s: no memory to rewrite it", log->path);
    }
    rc = fs_replace(
        log->fs, log->dir, &(struct fs_content){LOG_FILE_NAME, image, len}, &is_uncertain, err);
    if (rc == HA_OK) {
        is_uncertain = true;
        rc = switch_to(log, image, len, err);
    }
    free(image);
    if (rc != HA_OK && is_uncertain) {
        return log_break(log, rc, err);
    }
    return rc;
}
