#include "agent/core/message.h"

#include <string.h>

#include "base/codec.h"

static void
put_facts(struct codec_writer *w, const struct pg_facts *f)
{
    codec_put_u8(w, f->run);
    codec_put_u8(w, f->data);
    codec_put_u64(w, f->sysid);
    codec_put_bool(w, f->is_in_recovery);
    codec_put_bool(w, f->is_streaming);
    codec_put_bool(w, f->has_receiver);
    codec_put_text(w, f->upstream);
    codec_put_u32(w, f->timeline);
    codec_put_u64(w, f->lsn);
    codec_put_u64(w, f->replay_lsn);
    codec_put_u32(w, f->timeline_before);
    codec_put_u64(w, f->fork_lsn);
    codec_put_u64(w, f->lineage);
    codec_put_bool(w, f->is_shut_down);
    codec_put_u32(w, f->control_timeline);
    codec_put_u64(w, f->checkpoint_lsn);
    codec_put_u64(w, f->min_recovery_lsn);
    codec_put_bool(w, f->was_primary);
    codec_put_i64(w, f->exit_status);
    codec_put_u32(w, f->version);
    codec_put_bool(w, f->is_fresh_copy);
    codec_put_bool(w, f->has_old);
    codec_put_bool(w, f->misses_wal);
    codec_put_u64(w, f->clone_done_bytes);
    codec_put_u64(w, f->clone_total_bytes);
    codec_put_u64(w, f->clone_rate);
}

static void
get_facts(struct codec_reader *r, struct pg_facts *f)
{
    f->run = codec_get_u8(r);
    f->data = codec_get_u8(r);
    f->sysid = codec_get_u64(r);
    f->is_in_recovery = codec_get_bool(r);
    f->is_streaming = codec_get_bool(r);
    f->has_receiver = codec_get_bool(r);
    codec_get_text(r, f->upstream, sizeof f->upstream);
    f->timeline = codec_get_u32(r);
    f->lsn = codec_get_u64(r);
    f->replay_lsn = codec_get_u64(r);
    f->timeline_before = codec_get_u32(r);
    f->fork_lsn = codec_get_u64(r);
    f->lineage = codec_get_u64(r);
    f->is_shut_down = codec_get_bool(r);
    f->control_timeline = codec_get_u32(r);
    f->checkpoint_lsn = codec_get_u64(r);
    f->min_recovery_lsn = codec_get_u64(r);
    f->was_primary = codec_get_bool(r);
    f->exit_status = (int32_t)codec_get_i64(r);
    f->version = codec_get_u32(r);
    f->is_fresh_copy = codec_get_bool(r);
    f->has_old = codec_get_bool(r);
    f->misses_wal = codec_get_bool(r);
    f->clone_done_bytes = codec_get_u64(r);
    f->clone_total_bytes = codec_get_u64(r);
    f->clone_rate = codec_get_u64(r);
    if (f->run >= PG_RUN_COUNT || f->data >= PG_DATA_COUNT) {
        r->failed = true;
    }
}

static void
put_status(struct codec_writer *w, const struct status *s)
{
    codec_put_u64(w, s->cluster_id);
    codec_put_u64(w, s->era);
    codec_put_u64(w, s->id);
    codec_put_u64(w, s->nonce);
    codec_put_u64(w, s->uptime_ms);
    codec_put_text(w, s->name);
    codec_put_u64(w, s->generation);
    codec_put_u64(w, s->members_generation);
    codec_put_u64(w, s->reign);
    codec_put_u64(w, s->holder);
    codec_put_u64(w, s->lapsed_reign);
    codec_put_i64(w, s->lease_left_ms);
    codec_put_u64(w, s->frozen_reign);
    codec_put_u64(w, s->frozen_epoch);
    codec_put_u64(w, s->raft_term);
    codec_put_u64(w, s->raft_leader);
    codec_put_u64(w, s->raft_applied);
    codec_put_u8(w, s->raft_role);
    codec_put_u64(w, s->freeze_reign);
    codec_put_u64(w, s->fetch_member);
    codec_put_u64(w, s->fetch_from);
    codec_put_u64(w, s->fetch_lsn);
    codec_put_u64(w, s->declared);
    codec_put_bool(w, s->is_nofailover);
    codec_put_bool(w, s->is_nosync);
    codec_put_bool(w, s->is_noloadbalance);
    codec_put_u16(w, s->priority);
    codec_put_u8(w, s->sync);
    codec_put_u8(w, s->n_sync);
    codec_put_bool(w, s->is_closed);
    codec_put_bool(w, s->is_leaving);
    codec_put_u8(w, s->health);
    codec_put_u16(w, s->n_stuck);
    codec_put_u32(w, s->commit_us);
    codec_put_u64(w, s->disk_free);
    codec_put_u16(w, s->rule);
    codec_put_text(w, s->why);
    put_facts(w, &s->pg);
}

static void
get_status(struct codec_reader *r, struct status *s)
{
    s->cluster_id = codec_get_u64(r);
    s->era = codec_get_u64(r);
    s->id = codec_get_u64(r);
    s->nonce = codec_get_u64(r);
    s->uptime_ms = codec_get_u64(r);
    codec_get_text(r, s->name, sizeof s->name);
    s->generation = codec_get_u64(r);
    s->members_generation = codec_get_u64(r);
    s->reign = codec_get_u64(r);
    s->holder = codec_get_u64(r);
    s->lapsed_reign = codec_get_u64(r);
    s->lease_left_ms = (int32_t)codec_get_i64(r);
    s->frozen_reign = codec_get_u64(r);
    s->frozen_epoch = codec_get_u64(r);
    s->raft_term = codec_get_u64(r);
    s->raft_leader = codec_get_u64(r);
    s->raft_applied = codec_get_u64(r);
    s->raft_role = codec_get_u8(r);
    s->freeze_reign = codec_get_u64(r);
    s->fetch_member = codec_get_u64(r);
    s->fetch_from = codec_get_u64(r);
    s->fetch_lsn = codec_get_u64(r);
    s->declared = codec_get_u64(r);
    s->is_nofailover = codec_get_bool(r);
    s->is_nosync = codec_get_bool(r);
    s->is_noloadbalance = codec_get_bool(r);
    s->priority = codec_get_u16(r);
    s->sync = codec_get_u8(r);
    s->n_sync = codec_get_u8(r);
    s->is_closed = codec_get_bool(r);
    s->is_leaving = codec_get_bool(r);
    s->health = codec_get_u8(r);
    s->n_stuck = codec_get_u16(r);
    s->commit_us = codec_get_u32(r);
    s->disk_free = codec_get_u64(r);
    if (s->health >= HEALTH_COUNT) {
        r->failed = true;
    }
    s->rule = codec_get_u16(r);
    codec_get_text(r, s->why, sizeof s->why);
    get_facts(r, &s->pg);
}

size_t
agent_message_encode(const struct message *m, void *out, size_t size)
{
    struct codec_writer w;

    codec_writer_init(&w, out, size);
    switch ((enum message_type)m->type) {
    case MESSAGE_STATUS:
        put_status(&w, &m->status);
        break;
    case MESSAGE_PROBE:
        codec_put_u64(&w, m->probe.id);
        codec_put_u64(&w, m->probe.nonce);
        codec_put_u64(&w, m->probe.digest);
        codec_put_text(&w, m->probe.name);
        break;
    case MESSAGE_PROBE_ANSWER:
        codec_put_u64(&w, m->probe_answer.cluster_id);
        codec_put_u64(&w, m->probe_answer.nonce);
        codec_put_u64(&w, m->probe_answer.digest);
        codec_put_bool(&w, m->probe_answer.is_empty);
        codec_put_bool(&w, m->probe_answer.is_bootstrapped);
        codec_put_u64(&w, m->probe_answer.founded);
        codec_put_u64(&w, m->probe_answer.era);
        codec_put_u64(&w, m->probe_answer.members_generation);
        codec_put_u64(&w, m->probe_answer.your_id);
        codec_put_u64(&w, m->probe_answer.your_nonce);
        codec_put_bool(&w, m->probe_answer.is_server);
        break;
    case MESSAGE_LEASE_REQUEST:
        codec_put_u64(&w, m->lease_request.reign);
        codec_put_u64(&w, m->lease_request.holder);
        codec_put_u64(&w, m->lease_request.seq);
        codec_put_u64(&w, m->lease_request.members_generation);
        codec_put_u32(&w, m->lease_request.lease_ms);
        break;
    case MESSAGE_LEASE_GRANT:
        codec_put_u64(&w, m->lease_grant.reign);
        codec_put_u64(&w, m->lease_grant.holder);
        codec_put_u64(&w, m->lease_grant.grantor);
        codec_put_u64(&w, m->lease_grant.seq);
        break;
    case MESSAGE_RELEASE:
        codec_put_u64(&w, m->release.reign);
        codec_put_u64(&w, m->release.holder);
        codec_put_u64(&w, m->release.seq);
        break;
    case MESSAGE_TYPE_COUNT:
    default:
        return 0;
    }
    return w.failed ? 0 : w.len;
}

int
agent_message_decode(struct message *m, uint8_t type, const void *bytes, size_t len)
{
    struct codec_reader r;

    memset(m, 0, sizeof *m);
    m->type = type;
    codec_reader_init(&r, bytes, len);
    switch ((enum message_type)type) {
    case MESSAGE_STATUS:
        get_status(&r, &m->status);
        break;
    case MESSAGE_PROBE:
        m->probe.id = codec_get_u64(&r);
        m->probe.nonce = codec_get_u64(&r);
        m->probe.digest = codec_get_u64(&r);
        codec_get_text(&r, m->probe.name, sizeof m->probe.name);
        break;
    case MESSAGE_PROBE_ANSWER:
        m->probe_answer.cluster_id = codec_get_u64(&r);
        m->probe_answer.nonce = codec_get_u64(&r);
        m->probe_answer.digest = codec_get_u64(&r);
        m->probe_answer.is_empty = codec_get_bool(&r);
        m->probe_answer.is_bootstrapped = codec_get_bool(&r);
        m->probe_answer.founded = codec_get_u64(&r);
        m->probe_answer.era = codec_get_u64(&r);
        m->probe_answer.members_generation = codec_get_u64(&r);
        m->probe_answer.your_id = codec_get_u64(&r);
        m->probe_answer.your_nonce = codec_get_u64(&r);
        m->probe_answer.is_server = codec_get_bool(&r);
        break;
    case MESSAGE_LEASE_REQUEST:
        m->lease_request.reign = codec_get_u64(&r);
        m->lease_request.holder = codec_get_u64(&r);
        m->lease_request.seq = codec_get_u64(&r);
        m->lease_request.members_generation = codec_get_u64(&r);
        m->lease_request.lease_ms = codec_get_u32(&r);
        break;
    case MESSAGE_LEASE_GRANT:
        m->lease_grant.reign = codec_get_u64(&r);
        m->lease_grant.holder = codec_get_u64(&r);
        m->lease_grant.grantor = codec_get_u64(&r);
        m->lease_grant.seq = codec_get_u64(&r);
        break;
    case MESSAGE_RELEASE:
        m->release.reign = codec_get_u64(&r);
        m->release.holder = codec_get_u64(&r);
        m->release.seq = codec_get_u64(&r);
        break;
    case MESSAGE_TYPE_COUNT:
    default:
        return HA_ECORRUPT;
    }
    return codec_reader_is_done(&r) ? HA_OK : HA_ECORRUPT;
}
