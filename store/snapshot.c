#include "store/snapshot.h"

#include <string.h>

#include "base/codec.h"
#include "base/crc32c.h"
#include "store/declaration_codec.h"

#define SNAPSHOT_MAGIC 0x3150414e53574148ULL /* "HAWSNAP1" */
#define SNAPSHOT_FORMAT 1

static void
put_member(struct codec_writer *w, const struct member *m)
{
    codec_put_u64(w, m->id);
    codec_put_u64(w, m->nonce);
    codec_put_u64(w, m->joined);
    codec_put_u64(w, m->left);
    codec_put_u64(w, m->declared);
    codec_put_u64(w, m->last_counter);
    codec_put_i64(w, m->last_result);
    codec_put_u64(w, m->rebuild);
    codec_put_u8(w, m->rebuild_rung);
    codec_put_u8(w, m->kind);
    codec_put_text(w, m->address);
    codec_put_text(w, m->name);
}

static void
get_member(struct codec_reader *r, struct member *m)
{
    int64_t result;

    m->id = codec_get_u64(r);
    m->nonce = codec_get_u64(r);
    m->joined = codec_get_u64(r);
    m->left = codec_get_u64(r);
    m->declared = codec_get_u64(r);
    m->last_counter = codec_get_u64(r);
    result = codec_get_i64(r);
    if (result < INT32_MIN || result > INT32_MAX) {
        r->failed = true;
        result = 0;
    }
    m->last_result = (int32_t)result;
    m->rebuild = codec_get_u64(r);
    m->rebuild_rung = codec_get_u8(r);
    m->kind = codec_get_u8(r);
    codec_get_text(r, m->address, sizeof m->address);
    codec_get_text(r, m->name, sizeof m->name);
}

static void
put_row(struct codec_writer *w, const struct reign_row *row)
{
    codec_put_u64(w, row->reign);
    codec_put_u64(w, row->holder);
    codec_put_text(w, row->holder_address);
    codec_put_u64(w, row->wall_ms);
    codec_put_u64(w, row->fork_lsn);
    codec_put_u64(w, row->lineage);
    codec_put_u32(w, row->timeline);
    codec_put_text(w, row->why);
}

static void
get_row(struct codec_reader *r, struct reign_row *row)
{
    row->reign = codec_get_u64(r);
    row->holder = codec_get_u64(r);
    codec_get_text(r, row->holder_address, sizeof row->holder_address);
    row->wall_ms = codec_get_u64(r);
    row->fork_lsn = codec_get_u64(r);
    row->lineage = codec_get_u64(r);
    row->timeline = codec_get_u32(r);
    codec_get_text(r, row->why, sizeof row->why);
}

static void
put_scalars(struct codec_writer *w, const struct state *s)
{
    codec_put_u64(w, s->cluster_id);
    codec_put_u64(w, s->sysid);
    codec_put_u64(w, s->era);
    declaration_put(w, &s->declaration);
    codec_put_u64(w, s->generation);
    codec_put_text(w, s->declared_by);
    codec_put_u64(w, s->acted_generation);
    codec_put_u64(w, s->job_declared);
    codec_put_u64(w, s->members_generation);
    codec_put_u64(w, s->settled_generation);
    codec_put_u64(w, s->reign);
    codec_put_u64(w, s->holder);
    codec_put_bool(w, s->is_vacant);
    codec_put_bool(w, s->is_opened);
    codec_put_u64(w, s->handover);
    codec_put_u64(w, s->final_lsn);
    codec_put_bool(w, s->is_paused);
    codec_put_u64(w, s->sync_set);
    codec_put_u8(w, s->sync_count);
    codec_put_u8(w, s->sync_lost);
    codec_put_u64(w, s->sync_epoch);
    codec_put_u64(w, s->opened_reign);
    codec_put_u32(w, s->timeline);
    codec_put_u64(w, s->fork_lsn);
    codec_put_u64(w, s->lineage);
}

static void
get_scalars(struct codec_reader *r, struct state *s)
{
    s->cluster_id = codec_get_u64(r);
    s->sysid = codec_get_u64(r);
    s->era = codec_get_u64(r);
    declaration_get(r, &s->declaration);
    s->generation = codec_get_u64(r);
    codec_get_text(r, s->declared_by, sizeof s->declared_by);
    s->acted_generation = codec_get_u64(r);
    s->job_declared = codec_get_u64(r);
    s->members_generation = codec_get_u64(r);
    s->settled_generation = codec_get_u64(r);
    s->reign = codec_get_u64(r);
    s->holder = codec_get_u64(r);
    s->is_vacant = codec_get_bool(r);
    s->is_opened = codec_get_bool(r);
    s->handover = codec_get_u64(r);
    s->final_lsn = codec_get_u64(r);
    s->is_paused = codec_get_bool(r);
    s->sync_set = codec_get_u64(r);
    s->sync_count = codec_get_u8(r);
    s->sync_lost = codec_get_u8(r);
    s->sync_epoch = codec_get_u64(r);
    s->opened_reign = codec_get_u64(r);
    s->timeline = codec_get_u32(r);
    s->fork_lsn = codec_get_u64(r);
    s->lineage = codec_get_u64(r);
}

size_t
snapshot_encode(const struct state *state, void *out, size_t size)
{
    struct codec_writer w;

    codec_writer_init(&w, out, size);
    codec_put_u64(&w, SNAPSHOT_MAGIC);
    codec_put_u32(&w, SNAPSHOT_FORMAT);
    put_scalars(&w, state);
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        put_member(&w, &state->members[i]);
    }
    codec_put_u32(&w, state->n_history);
    for (size_t i = 0; i < state->n_history; i++) {
        put_row(&w, &state->history[i]);
    }
    while (!w.failed && w.len % 8 != 4) { /* so that with its CRC it is a multiple of 8 */
        codec_put_u8(&w, 0);
    }
    if (!w.failed) {
        codec_put_u32(&w, crc32c(0, out, w.len));
    }
    return w.failed ? 0 : w.len;
}

static bool
crc_is_good(const uint8_t *bytes, size_t len)
{
    struct codec_reader r;

    if (len < 16 || len % 8 != 0) {
        return false;
    }
    codec_reader_init(&r, bytes + len - 4, 4);
    return codec_get_u32(&r) == crc32c(0, bytes, len - 4);
}

int
snapshot_decode(struct state *state, const void *bytes, size_t len)
{
    struct state s;
    struct codec_reader r;

    if (!crc_is_good(bytes, len)) {
        return HA_ECORRUPT;
    }
    state_init(&s);
    codec_reader_init(&r, bytes, len - 4);
    if (codec_get_u64(&r) != SNAPSHOT_MAGIC) {
        return HA_ECORRUPT;
    }
    if (codec_get_u32(&r) != SNAPSHOT_FORMAT) {
        return HA_EVERSION;
    }
    get_scalars(&r, &s);
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        get_member(&r, &s.members[i]);
    }
    s.n_history = codec_get_u32(&r);
    if (s.n_history > HA_HISTORY_MAX) {
        return HA_ECORRUPT;
    }
    for (size_t i = 0; i < s.n_history; i++) {
        get_row(&r, &s.history[i]);
    }
    if (r.left >= 8) {
        return HA_ECORRUPT;
    }
    while (!r.failed && r.left > 0) { /* what is left may only be padding */
        r.failed = codec_get_u8(&r) != 0;
    }
    if (r.failed) {
        return HA_ECORRUPT;
    }
    *state = s;
    return HA_OK;
}
