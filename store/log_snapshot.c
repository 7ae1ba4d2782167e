/* The snapshot's file. A whole one is renamed over the one before. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/codec.h"
#include "base/crc32c.h"
#include "store/log_internal.h"

/*
 * magic, u64 index, u64 term, u64 configuration index, u32 configuration length, u32 data length,
 * u32 CRC of the configuration with its padding to 8, u32 CRC of the data, u32 0, u32 CRC of all
 * this. Then the configuration, its padding, and the data to the end of the file.
 */
#define SNAPSHOT_MAGIC "hwsnap01"
#define HEADER_BYTES 56

static size_t
file_bytes(size_t configuration_len, size_t len)
{
    return HEADER_BYTES + (size_t)log_padded(configuration_len) + len;
}

static void
snapshot_encode_file(const struct log_snapshot *snapshot, uint8_t *out)
{
    const size_t configuration_len = (size_t)log_padded(snapshot->configuration_len);
    uint8_t *const configuration = out + HEADER_BYTES;
    uint8_t *const data = configuration + configuration_len;
    struct codec_writer w;

    memset(out, 0, HEADER_BYTES + configuration_len);
    if (snapshot->configuration_len > 0) {
        memcpy(configuration, snapshot->configuration, snapshot->configuration_len);
    }
    if (snapshot->len > 0) {
        memcpy(data, snapshot->data, snapshot->len);
    }
    codec_writer_init(&w, out, HEADER_BYTES);
    codec_put_bytes(&w, SNAPSHOT_MAGIC, 8);
    codec_put_u64(&w, snapshot->index);
    codec_put_u64(&w, snapshot->term);
    codec_put_u64(&w, snapshot->configuration_index);
    codec_put_u32(&w, (uint32_t)snapshot->configuration_len);
    codec_put_u32(&w, (uint32_t)snapshot->len);
    codec_put_u32(&w, crc32c(0, configuration, configuration_len));
    codec_put_u32(&w, crc32c(0, data, snapshot->len));
    codec_put_u32(&w, 0);
    codec_put_u32(&w, crc32c(0, out, w.len));
    ENSURE(!w.failed && w.len == HEADER_BYTES, "the header has a fixed size");
}

static uint32_t
header_crc(const uint8_t *file)
{
    struct codec_reader r;

    codec_reader_init(&r, file + HEADER_BYTES - 4, 4);
    return codec_get_u32(&r);
}

static int
damaged(const struct log *log, size_t offset, const char *what, struct err *err)
{
    return err_set(
        err, HA_ECORRUPT, "%s: damaged at offset %zu: %s", log->snapshot_path, offset, what);
}

static int
snapshot_decode_file(const struct log *log,
                     const uint8_t *file,
                     size_t file_len,
                     struct log_snapshot *out,
                     struct err *err)
{
    struct codec_reader r;
    char magic[8];
    uint32_t zero;
    uint32_t configuration_crc;
    uint32_t data_crc;
    size_t data_at;

    if (file_len < HEADER_BYTES || header_crc(file) != crc32c(0, file, HEADER_BYTES - 4)) {
        return damaged(log, 0, "not the header of a snapshot", err);
    }
    codec_reader_init(&r, file, HEADER_BYTES);
    codec_get_bytes(&r, magic, sizeof magic);
    out->index = codec_get_u64(&r);
    out->term = codec_get_u64(&r);
    out->configuration_index = codec_get_u64(&r);
    out->configuration_len = codec_get_u32(&r);
    out->len = codec_get_u32(&r);
    configuration_crc = codec_get_u32(&r);
    data_crc = codec_get_u32(&r);
    zero = codec_get_u32(&r);
    if (memcmp(magic, SNAPSHOT_MAGIC, 8) != 0 || zero != 0 || out->index == 0) {
        return damaged(log, 0, "not the header of a snapshot", err);
    }
    data_at = file_bytes(out->configuration_len, 0);
    if (file_len != data_at + out->len) {
        return damaged(log, file_len, "the file's length is not the header's", err);
    }
    out->configuration = file + HEADER_BYTES;
    out->data = file + data_at;
    if (crc32c(0, out->configuration, data_at - HEADER_BYTES) != configuration_crc) {
        return damaged(log, HEADER_BYTES, "the configuration fails its checksum", err);
    }
    if (crc32c(0, out->data, out->len) != data_crc) {
        return damaged(log, data_at, "the data fail their checksum", err);
    }
    return HA_OK;
}

int
log_snapshot_read(const struct log *log, struct log_snapshot *out, void **memory, struct err *err)
{
    size_t len = 0;
    int rc;

    *memory = NULL;
    rc = log->fs->read_all(log->fs, log->snapshot_path, memory, &len, err);
    if (rc != HA_OK) {
        return rc;
    }
    rc = snapshot_decode_file(log, *memory, len, out, err);
    if (rc != HA_OK) {
        free(*memory);
        *memory = NULL;
    }
    return rc;
}

int
log_snapshot_get(struct log *log, struct log_snapshot *out, void **memory, struct err *err)
{
    int rc = log_check_usable(log, err);

    if (rc != HA_OK) {
        return rc;
    }
    rc = log_snapshot_read(log, out, memory, err);
    if (rc == HA_ENOTFOUND && log->has_snapshot) {
        return damaged(log, 0, "the file is gone", err);
    }
    return rc;
}

static int
snapshot_check(const struct log *log, const struct log_snapshot *snapshot, struct err *err)
{
    if (snapshot->len > LOG_SNAPSHOT_BYTES_MAX ||
        snapshot->configuration_len > LOG_SNAPSHOT_BYTES_MAX) {
        return err_set(err,
                       HA_ETOOBIG,
                       "a snapshot of %zu and %zu bytes",
                       snapshot->len,
                       snapshot->configuration_len);
    }
    if (snapshot->index == 0 || snapshot->index < log->snapshot_index ||
        snapshot->term < log->snapshot_term ||
        (snapshot->index == log->snapshot_index && snapshot->term != log->snapshot_term) ||
        snapshot->term > atomic_load(&log->vote_term)) {
        return err_set(err,
                       HA_EINVAL,
                       "a snapshot at entry %" PRIu64 " of term %" PRIu64 " behind one at %" PRIu64
                       " of term %" PRIu64 ", or of a term not yet stored",
                       snapshot->index,
                       snapshot->term,
                       log->snapshot_index,
                       log->snapshot_term);
    }
    return HA_OK;
}

/* Writes the file. From HA_OK on, entries up to snapshot->index are no longer needed. */
static int
snapshot_write(struct log *log, const struct log_snapshot *snapshot, struct err *err)
{
    const size_t len = file_bytes(snapshot->configuration_len, snapshot->len);
    bool is_uncertain = false;
    uint8_t *const file = malloc(len);
    int rc;

    if (file == NULL) {
        return err_set(err, HA_ENOMEM, "no memory for a snapshot of %zu bytes", len);
    }
    snapshot_encode_file(snapshot, file);
    rc = fs_replace(
        log->fs, log->dir, &(struct fs_content){LOG_SNAPSHOT_NAME, file, len}, &is_uncertain, err);
    free(file);
    if (rc != HA_OK && is_uncertain) {
        return log_break(log, rc, err);
    }
    if (rc == HA_OK) {
        log->has_snapshot = true;
        log->snapshot_index = snapshot->index;
        log->snapshot_term = snapshot->term;
    }
    return rc;
}

int
log_snapshot_put(struct log *log,
                 const struct log_snapshot *snapshot,
                 uint64_t trailing,
                 struct err *err)
{
    int rc = log_check_usable(log, err);

    if (rc == HA_OK) {
        rc = snapshot_check(log, snapshot, err);
    }
    if (rc == HA_OK) {
        rc = snapshot_write(log, snapshot, err);
    }
    if (rc != HA_OK) {
        return rc;
    }
    if (log_is_superseded(log)) {
        rc = log_supersede(log, err);
        return rc == HA_OK ? HA_OK : log_break(log, rc, err);
    }
    if (trailing < snapshot->index && snapshot->index - trailing >= log_first_index(log)) {
        const uint64_t dropped = snapshot->index - trailing;
        const struct log_file_range kept = {.first_index = dropped + 1,
                                            .term_before = log_term_of(log, dropped)};

        rc = log_file_rewrite(log, &kept, err);
    }
    return rc;
}
