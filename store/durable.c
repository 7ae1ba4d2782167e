#include "store/durable.h"

#include <string.h>

#include "base/codec.h"
#include "store/fs_replace.h"
#include "store/log_internal.h"
#include "store/slots.h"

#define DURABLE_MAGIC "hwdura02"

static struct slots
durable_slots(struct fs *fs, const char *dir)
{
    return (struct slots){.fs = fs, .dir = dir, .name = "durable", .magic = DURABLE_MAGIC};
}

static size_t
durable_encode(const struct durable *d, uint8_t *out, size_t size)
{
    struct codec_writer w;

    codec_writer_init(&w, out, size);
    codec_put_u64(&w, d->nonce);
    codec_put_u64(&w, d->id);
    codec_put_u64(&w, d->joined);
    codec_put_u64(&w, d->cluster_id);
    codec_put_bool(&w, d->is_bootstrapped);
    codec_put_u64(&w, d->founded);
    codec_put_u32(&w, d->n_founders);
    for (uint32_t i = 0; i < d->n_founders; i++) {
        codec_put_text(&w, d->founders[i].address);
        codec_put_u64(&w, d->founders[i].nonce);
    }
    codec_put_u64(&w, d->promised_reign);
    codec_put_u64(&w, d->promised_holder);
    codec_put_u32(&w, d->promised_ms);
    codec_put_u64(&w, d->opened_reign);
    codec_put_u64(&w, d->opened_generation);
    codec_put_u64(&w, d->released_reign);
    codec_put_u64(&w, d->frozen_epoch);
    codec_put_u64(&w, d->era);
    codec_put_bool(&w, d->must_copy);
    codec_put_bool(&w, d->is_recovering);
    codec_put_bool(&w, d->is_failover);
    codec_put_u32(&w, d->n_dead);
    for (uint32_t i = 0; i < d->n_dead; i++) {
        codec_put_text(&w, d->dead[i]);
    }
    codec_put_u64(&w, d->boots);
    ENSURE(!w.failed, "the largest record fits its slot");
    return w.len;
}

static bool
durable_decode(struct durable *d, const uint8_t *bytes, size_t len)
{
    struct codec_reader r;

    memset(d, 0, sizeof *d);
    codec_reader_init(&r, bytes, len);
    d->nonce = codec_get_u64(&r);
    d->id = codec_get_u64(&r);
    d->joined = codec_get_u64(&r);
    d->cluster_id = codec_get_u64(&r);
    d->is_bootstrapped = codec_get_bool(&r);
    d->founded = codec_get_u64(&r);
    d->n_founders = codec_get_u32(&r);
    if (d->n_founders > HA_MEMBERS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < d->n_founders; i++) {
        codec_get_text(&r, d->founders[i].address, sizeof d->founders[i].address);
        d->founders[i].nonce = codec_get_u64(&r);
    }
    d->promised_reign = codec_get_u64(&r);
    d->promised_holder = codec_get_u64(&r);
    d->promised_ms = codec_get_u32(&r);
    d->opened_reign = codec_get_u64(&r);
    d->opened_generation = codec_get_u64(&r);
    d->released_reign = codec_get_u64(&r);
    d->frozen_epoch = codec_get_u64(&r);
    d->era = codec_get_u64(&r);
    d->must_copy = codec_get_bool(&r);
    d->is_recovering = codec_get_bool(&r);
    d->is_failover = codec_get_bool(&r);
    d->n_dead = codec_get_u32(&r);
    if (d->n_dead > HA_MEMBERS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < d->n_dead; i++) {
        codec_get_text(&r, d->dead[i], sizeof d->dead[i]);
    }
    d->boots = codec_get_u64(&r);
    return codec_reader_is_done(&r);
}

int
durable_load(struct fs *fs, const char *dir, struct durable *out, struct err *err)
{
    struct slots slots = durable_slots(fs, dir);
    struct durable found;
    const int rc = slots_load(&slots, err);

    if (rc != HA_OK) {
        return rc;
    }
    if (!durable_decode(&found, slots.bytes, slots.len) || found.nonce == 0) {
        return err_set(err,
                       HA_ECORRUPT,
                       "%s/durable: damaged at offset %d: no such record",
                       dir,
                       (int)(slots.sequence % 2) * SLOTS_SLOT_BYTES);
    }
    *out = found;
    return HA_OK;
}

int
durable_discard_rest(struct fs *fs, const char *dir, const struct durable *record, struct err *err)
{
    static const char *const NAMES[] = {LOG_FILE_NAME, LOG_SNAPSHOT_NAME, LOG_VOTE_NAME, "state"};
    char path[FS_PATH_MAX];
    int rc = HA_OK;

    if (record->id != 0 || record->cluster_id == 0) {
        return HA_OK;
    }
    for (size_t i = 0; rc == HA_OK && i < HA_COUNT_OF(NAMES); i++) {
        rc = fs_path(path, dir, NAMES[i], err);
        if (rc == HA_OK) {
            rc = fs->unlink(fs, path, err);
            rc = rc == HA_ENOTFOUND ? HA_OK : rc;
        }
    }
    return rc == HA_OK ? fs->sync_dir(fs, dir, err) : rc;
}

int
durable_save(struct fs *fs, const char *dir, const struct durable *record, struct err *err)
{
    struct slots slots = durable_slots(fs, dir);
    uint8_t bytes[SLOTS_RECORD_BYTES_MAX];

    REQUIRE(record->nonce != 0, "a state directory has a nonce");
    REQUIRE(record->n_founders <= HA_MEMBERS_MAX && record->n_dead <= HA_MEMBERS_MAX,
            "a cluster has a largest size");
    return slots_save(&slots, bytes, durable_encode(record, bytes, sizeof bytes), err);
}
