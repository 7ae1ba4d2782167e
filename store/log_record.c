#include "store/log_record.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/codec.h"
#include "base/crc32c.h"
#include "store/log.h"

#define FILE_MAGIC "hwlog01\n"
#define KIND_ENTRY 0x45676f6cU /* "logE" */
#define KIND_SEAL 0x53676f6cU  /* "logS" */

void
log_file_header_encode(const struct log_file_header *header, uint8_t *out)
{
    struct codec_writer w;

    codec_writer_init(&w, out, LOG_FILE_HEADER_BYTES);
    codec_put_bytes(&w, FILE_MAGIC, 8);
    codec_put_u64(&w, header->first_index);
    codec_put_u64(&w, header->term_before);
    codec_put_u32(&w, 0);
    codec_put_u32(&w, crc32c(0, out, w.len));
    ENSURE(!w.failed && w.len == LOG_FILE_HEADER_BYTES, "the header has a fixed size");
}

static bool
file_header_decode(struct log_file_header *header, const uint8_t *bytes, size_t len)
{
    struct codec_reader r;
    char magic[8];
    uint32_t zero;
    uint32_t crc;

    codec_reader_init(&r, bytes, len);
    codec_get_bytes(&r, magic, sizeof magic);
    header->first_index = codec_get_u64(&r);
    header->term_before = codec_get_u64(&r);
    zero = codec_get_u32(&r);
    crc = codec_get_u32(&r);
    return !r.failed && memcmp(magic, FILE_MAGIC, 8) == 0 && zero == 0 &&
           crc == crc32c(0, bytes, LOG_FILE_HEADER_BYTES - 4) && header->first_index > 0;
}

void
log_record_encode(const struct log_record *record, uint8_t *out)
{
    struct codec_writer w;

    codec_writer_init(&w, out, LOG_RECORD_HEADER_BYTES);
    codec_put_u32(&w, record->is_seal ? KIND_SEAL : KIND_ENTRY);
    codec_put_u32(&w, record->len);
    codec_put_u64(&w, record->index);
    codec_put_u64(&w, record->batch);
    codec_put_u64(&w, record->term);
    codec_put_u16(&w, record->type);
    codec_put_u16(&w, 0);
    codec_put_u32(&w, record->data_crc);
    codec_put_u32(&w, 0);
    codec_put_u32(&w, crc32c(0, out, w.len));
    ENSURE(!w.failed && w.len == LOG_RECORD_HEADER_BYTES, "the header has a fixed size");
}

bool
log_record_decode(struct log_record *record, const uint8_t *bytes, uint64_t left)
{
    struct codec_reader r;
    uint32_t kind;
    uint32_t crc;

    if (left < LOG_RECORD_HEADER_BYTES) {
        return false;
    }
    codec_reader_init(&r, bytes, LOG_RECORD_HEADER_BYTES);
    kind = codec_get_u32(&r);
    if (kind != KIND_ENTRY && kind != KIND_SEAL) {
        return false;
    }
    record->is_seal = kind == KIND_SEAL;
    record->len = codec_get_u32(&r);
    record->index = codec_get_u64(&r);
    record->batch = codec_get_u64(&r);
    record->term = codec_get_u64(&r);
    record->type = codec_get_u16(&r);
    (void)codec_get_u16(&r);
    record->data_crc = codec_get_u32(&r);
    (void)codec_get_u32(&r);
    crc = codec_get_u32(&r);
    return !r.failed && crc == crc32c(0, bytes, LOG_RECORD_HEADER_BYTES - 4);
}

int
log_marks_reserve(struct log_marks *marks, size_t n, struct err *err)
{
    size_t capacity = marks->capacity == 0 ? 64 : marks->capacity;
    struct log_mark *at;

    if (marks->capacity - marks->n >= n) {
        return HA_OK;
    }
    while (capacity - marks->n < n) {
        capacity *= 2;
    }
    at = realloc(marks->at, capacity * sizeof *at);
    if (at == NULL) {
        return err_set(err, HA_ENOMEM, "no memory for %zu log positions", capacity);
    }
    marks->at = at;
    marks->capacity = capacity;
    return HA_OK;
}

void
log_marks_fini(struct log_marks *marks)
{
    free(marks->at);
    *marks = (struct log_marks){0};
}

/* Case 1 of the file comment: was the place of entry `index` synced before something behind it? */
static bool
was_synced(const uint8_t *bytes, uint64_t from, uint64_t len, uint64_t index)
{
    struct log_record record;

    for (uint64_t at = from; at + LOG_RECORD_HEADER_BYTES <= len; at += 8) {
        if (!log_record_decode(&record, bytes + at, len - at)) {
            continue;
        }
        if (record.is_seal ? record.index > index : record.batch > index) {
            return true;
        }
    }
    return false;
}

/* What is wrong with a record whose CRCs hold, or NULL. */
static const char *
record_fault(const struct log_record *record, uint64_t index, uint64_t term)
{
    if (record->index != index) {
        return "wrong index";
    }
    if (record->term < term) {
        return "the term goes back";
    }
    if (record->batch > record->index) {
        return "wrong append";
    }
    if (record->len > (record->is_seal ? 0 : LOG_ENTRY_BYTES_MAX)) {
        return "wrong length";
    }
    return NULL;
}

/* True when the record's data are all there and pass their CRC. */
static bool
data_is_whole(const struct log_record *record, const uint8_t *bytes, uint64_t left)
{
    const uint64_t len = log_padded(record->len);

    return left >= LOG_RECORD_HEADER_BYTES + len &&
           crc32c(0, bytes + LOG_RECORD_HEADER_BYTES, len) == record->data_crc;
}

static int
walk_records(const char *path,
             const uint8_t *bytes,
             size_t len,
             struct log_marks *marks,
             struct log_walk *found,
             struct err *err)
{
    uint64_t index = marks->first_index;
    uint64_t term = marks->term_before;

    while (found->end < len) {
        const uint64_t at = found->end;
        struct log_record record;
        const char *fault;

        if (!log_record_decode(&record, bytes + at, len - at)) {
            found->is_torn = true;
            break;
        }
        fault = record_fault(&record, index, term);
        if (fault != NULL) {
            return err_set(err,
                           HA_ECORRUPT,
                           "%s: damaged at offset %" PRIu64 ": %s (entry %" PRIu64 " belongs here)",
                           path,
                           at,
                           fault,
                           index);
        }
        if (!data_is_whole(&record, bytes + at, len - at)) {
            found->is_torn = true;
            break;
        }
        if (!record.is_seal) {
            if (marks->n == 0 || found->is_sealed) {
                found->last_run = found->entries_end;
            }
            if (log_marks_reserve(marks, 1, err) != HA_OK) {
                return HA_ENOMEM;
            }
            marks->at[marks->n++] = (struct log_mark){at, record.term};
            term = record.term;
            index++;
        }
        found->is_sealed = record.is_seal;
        found->end = at + LOG_RECORD_HEADER_BYTES + log_padded(record.len);
        found->entries_end = record.is_seal ? found->entries_end : found->end;
    }
    if (found->is_torn && was_synced(bytes, found->end + 8, len, index)) {
        return err_set(err,
                       HA_ECORRUPT,
                       "%s: damaged at offset %" PRIu64 ", at entry %" PRIu64
                       ", with synced records behind it",
                       path,
                       found->end,
                       index);
    }
    return HA_OK;
}

int
log_walk(const char *path,
         const uint8_t *bytes,
         size_t len,
         struct log_marks *marks,
         struct log_walk *found,
         struct err *err)
{
    struct log_file_header header;

    *marks = (struct log_marks){0};
    *found = (struct log_walk){.end = LOG_FILE_HEADER_BYTES,
                               .last_run = LOG_FILE_HEADER_BYTES,
                               .entries_end = LOG_FILE_HEADER_BYTES};
    if (!file_header_decode(&header, bytes, len)) {
        return err_set(err, HA_ECORRUPT, "%s: damaged at offset 0: not the header of a log", path);
    }
    marks->first_index = header.first_index;
    marks->term_before = header.term_before;
    return walk_records(path, bytes, len, marks, found, err);
}
