#include "store/slots.h"

#include <stdlib.h>
#include <string.h>

#include "base/codec.h"
#include "base/crc32c.h"
#include "store/fs_replace.h"

#define MAGIC_BYTES 8
#define HEADER_BYTES 24 /* magic, u64 sequence, u32 length, u32 CRC of all of it and the record */
#define CRC_OFFSET 20

struct slot {
    bool is_whole;
    bool is_other_kind;
    uint64_t sequence;
    size_t len;
    const uint8_t *bytes;
};

static uint32_t
slot_crc(const uint8_t *base, size_t len)
{
    return crc32c(crc32c(0, base, CRC_OFFSET), base + HEADER_BYTES, len);
}

static void
slot_encode(
    const struct slots *slots, uint64_t sequence, const void *bytes, size_t len, uint8_t *out)
{
    struct codec_writer w;

    memset(out, 0, SLOTS_SLOT_BYTES);
    memcpy(out + HEADER_BYTES, bytes, len);
    codec_writer_init(&w, out, HEADER_BYTES);
    codec_put_bytes(&w, slots->magic, MAGIC_BYTES);
    codec_put_u64(&w, sequence);
    codec_put_u32(&w, (uint32_t)len);
    codec_put_u32(&w, slot_crc(out, len));
    ENSURE(!w.failed, "a slot's header has a fixed size");
}

static struct slot
slot_decode(const struct slots *slots, const uint8_t *file, size_t file_len, int number)
{
    const size_t at = (size_t)number * SLOTS_SLOT_BYTES;
    const uint8_t *const base = file + at;
    struct slot slot = {0};
    struct codec_reader r;
    char magic[MAGIC_BYTES];
    uint32_t crc;

    if (file_len < at + SLOTS_SLOT_BYTES) {
        return slot;
    }
    codec_reader_init(&r, base, HEADER_BYTES);
    codec_get_bytes(&r, magic, sizeof magic);
    slot.sequence = codec_get_u64(&r);
    slot.len = codec_get_u32(&r);
    crc = codec_get_u32(&r);
    if (slot.len > SLOTS_RECORD_BYTES_MAX || crc != slot_crc(base, slot.len)) {
        return slot;
    }
    slot.bytes = base + HEADER_BYTES;
    slot.is_other_kind = memcmp(magic, slots->magic, MAGIC_BYTES) != 0;
    slot.is_whole = !slot.is_other_kind;
    return slot;
}

static void
slots_take(struct slots *slots, uint64_t sequence, const void *bytes, size_t len)
{
    slots->is_known = true;
    slots->sequence = sequence;
    slots->len = len;
    memcpy(slots->bytes, bytes, len);
}

static int
slots_parse(struct slots *slots, const char *path, const uint8_t *file, size_t len, struct err *err)
{
    const struct slot slot[2] = {slot_decode(slots, file, len, 0),
                                 slot_decode(slots, file, len, 1)};
    const struct slot *newest = NULL;

    for (int i = 0; i < 2; i++) {
        if (slot[i].is_other_kind) {
            return err_set(err,
                           HA_EVERSION,
                           "%s: offset %d: not a record of kind %s",
                           path,
                           i * SLOTS_SLOT_BYTES,
                           slots->magic);
        }
        if (slot[i].is_whole && (newest == NULL || slot[i].sequence > newest->sequence)) {
            newest = &slot[i];
        }
    }
    if (newest == NULL) {
        return err_set(err,
                       HA_ECORRUPT,
                       "%s: damaged at offset 0 and at offset %d: neither slot is whole",
                       path,
                       SLOTS_SLOT_BYTES);
    }
    slots_take(slots, newest->sequence, newest->bytes, newest->len);
    return HA_OK;
}

static int
slot_write(
    const struct slots *slots, int file, uint64_t number, const uint8_t *slot, struct err *err)
{
    return slots->fs->write_at(
        slots->fs, file, (number % 2) * SLOTS_SLOT_BYTES, slot, SLOTS_SLOT_BYTES, err);
}

/*
 * Makes sure that the record in its own slot is durable, and the file's name: a process may have
 * written it and died before its sync, or its sync failed; or the slot is damaged and the copy
 * answered.
 */
static int
slots_settle(const struct slots *slots, const char *path, struct err *err)
{
    struct fs *const fs = slots->fs;
    uint8_t slot[SLOTS_SLOT_BYTES];
    int file = -1;
    int rc = fs->open(fs, path, false, &file, err);

    if (rc != HA_OK) {
        return rc;
    }
    slot_encode(slots, slots->sequence, slots->bytes, slots->len, slot);
    rc = slot_write(slots, file, slots->sequence, slot, err);
    if (rc == HA_OK) {
        rc = fs->sync(fs, file, err);
    }
    if (rc != HA_OK) {
        (void)err_prefix(err, "%s", path);
    }
    (void)fs->close(fs, file);
    return rc == HA_OK ? fs->sync_dir(fs, slots->dir, err) : rc;
}

int
slots_load(struct slots *slots, struct err *err)
{
    char path[FS_PATH_MAX];
    void *file = NULL;
    size_t len = 0;
    int rc = fs_path(path, slots->dir, slots->name, err);

    slots->is_known = false;
    if (rc == HA_OK) {
        rc = slots->fs->read_all(slots->fs, path, &file, &len, err);
    }
    if (rc != HA_OK) {
        return rc;
    }
    rc = slots_parse(slots, path, file, len, err);
    free(file);
    if (rc == HA_OK) {
        rc = slots_settle(slots, path, err);
    }
    slots->is_known = rc == HA_OK;
    return rc;
}

static int
slots_create(struct slots *slots, const void *bytes, size_t len, struct err *err)
{
    uint8_t file[2 * SLOTS_SLOT_BYTES];
    const struct fs_content content = {slots->name, file, sizeof file};
    int rc;

    slot_encode(slots, 1, bytes, len, file);
    memcpy(file + SLOTS_SLOT_BYTES, file, SLOTS_SLOT_BYTES);
    rc = fs_replace(slots->fs, slots->dir, &content, NULL, err);
    if (rc == HA_OK) {
        slots_take(slots, 1, bytes, len);
    }
    return rc;
}

static int
slots_update(struct slots *slots, int file, const void *bytes, size_t len, struct err *err)
{
    struct fs *const fs = slots->fs;
    const uint64_t next = slots->sequence + 1;
    uint8_t old_slot[SLOTS_SLOT_BYTES];
    uint8_t new_slot[SLOTS_SLOT_BYTES];
    int rc;

    slot_encode(slots, slots->sequence, slots->bytes, slots->len, old_slot);
    slot_encode(slots, next, bytes, len, new_slot);
    rc = slot_write(slots, file, next, new_slot, err);
    if (rc == HA_OK) {
        rc = fs->sync(fs, file, err);
    }
    if (rc != HA_OK) {
        /*
         * The kernel may show the new record and never have stored it. Undone, so that nobody who
         * reads the file takes it for durable and then writes over the record before.
         */
        (void)slot_write(slots, file, next, old_slot, NULL);
        return rc;
    }
    slots_take(slots, next, bytes, len);
    (void)slot_write(slots, file, next + 1, new_slot, NULL); /* the copy; the record is safe */
    return HA_OK;
}

int
slots_save(struct slots *slots, const void *bytes, size_t len, struct err *err)
{
    char path[FS_PATH_MAX];
    int file = -1;
    int rc = fs_path(path, slots->dir, slots->name, err);

    REQUIRE(len <= SLOTS_RECORD_BYTES_MAX, "a record fits its slot");
    if (rc == HA_OK && !slots->is_known) {
        rc = slots_load(slots, err);
        if (rc == HA_ENOTFOUND) {
            return slots_create(slots, bytes, len, err);
        }
    }
    if (rc == HA_OK) {
        rc = slots->fs->open(slots->fs, path, false, &file, err);
    }
    if (rc != HA_OK) {
        return rc;
    }
    rc = slots_update(slots, file, bytes, len, err);
    if (rc != HA_OK) {
        (void)err_prefix(err, "%s", path);
    }
    (void)slots->fs->close(slots->fs, file);
    return rc;
}
