/*
 * The status message: at least each 100 ms, and at once when something changed
 * that somebody else waits for.
 */
#include "agent/core/core_internal.h"

#include <stdio.h>
#include <string.h>

static int32_t
lease_left_ms(const struct core *core)
{
    return core_has_lease(core) ? (int32_t)mono_sub(core->lease.deadline, core->now) : 0;
}

#define VACATE_PATIENCE_MS 1000

/* A new holder gets the length of one promise before anybody calls its reign lapsed. One that
 * released gets a while for its word in the log, which says more: where its last record is. */
static bool
has_lapsed(const struct core *core)
{
    const struct state *s = &core->state;
    const struct mono patient_until =
        mono_add(core->reign_seen_at, promise_length_ms(s->declaration.lease_ms));

    if (core->promise.reign == s->reign && core->promise.released_at.ms != 0 &&
        mono_sub(core->now, core->promise.released_at) < VACATE_PATIENCE_MS) {
        return false;
    }
    return s->reign != 0 && mono_reached(core->now, patient_until) &&
           promise_has_lapsed(&core->promise, s->reign, s->holder, core->now);
}

/* HA_ON_STOP=stop keeps its reign: nobody is asked to take it. */
static bool
is_leaving(const struct core *core)
{
    if (core->is_sick_leaving) {
        return true;
    }
    return core->is_stopping && (!core_is_holder(core) || core->config.on_stop == ON_STOP_HANDOVER);
}

static void
fill(const struct core *core, struct status *st)
{
    const struct state *s = &core->state;

    memset(st, 0, sizeof *st);
    st->cluster_id = core->durable.cluster_id;
    st->era = core->durable.era;
    st->id = core->durable.id;
    st->nonce = core->durable.nonce;
    st->uptime_ms = (uint64_t)mono_sub(core->now, core->started_at);
    (void)snprintf(st->name, sizeof st->name, "%s", core->config.name);
    st->generation = s->generation;
    st->members_generation = s->members_generation;
    st->reign = s->reign;
    st->holder = s->holder;
    st->lapsed_reign = has_lapsed(core) ? s->reign : 0;
    st->lease_left_ms = lease_left_ms(core);
    st->frozen_reign = core->frozen_reign;
    st->frozen_epoch = core->durable_saved.frozen_epoch;
    st->raft_term = core->raft.term;
    st->raft_leader = core->raft.leader;
    st->raft_applied = core->state_index;
    st->raft_role = core->raft.role;
    st->freeze_reign = core->freeze_reign;
    st->fetch_member = core->fetch_member;
    st->fetch_from = core->fetch_from;
    st->fetch_lsn = core->fetch_lsn;
    st->declared = declaration_digest(&core->config.declaration);
    st->is_nofailover = core->config.is_nofailover;
    st->is_nosync = core->config.is_nosync;
    st->is_noloadbalance = core->config.is_noloadbalance;
    st->priority = core->config.priority;
    st->sync = core->sync.phase;
    st->n_sync = core->sync.n_streaming;
    st->is_closed = core->sync.is_closed;
    st->is_leaving = is_leaving(core);
    st->health = core->verdict;
    st->n_stuck = core->health.host.n_stuck;
    st->commit_us = core->health.server.took_us;
    st->disk_free = core->health.host.free_bytes;
    st->rule = core->rule;
    (void)snprintf(st->why, sizeof st->why, "%s", core->why);
    st->pg = core->pg;
}

/* True when somebody may be waiting for the difference. */
static bool
is_news(const struct core *core, const struct status *old, const struct status *st)
{
    return old->reign != st->reign || old->is_leaving != st->is_leaving ||
           old->health != st->health || old->lapsed_reign != st->lapsed_reign ||
           old->frozen_reign != st->frozen_reign || old->frozen_epoch != st->frozen_epoch ||
           old->raft_role != st->raft_role || old->freeze_reign != st->freeze_reign ||
           old->fetch_member != st->fetch_member || old->fetch_from != st->fetch_from ||
           old->fetch_lsn != st->fetch_lsn ||
           (old->lease_left_ms == 0) != (st->lease_left_ms == 0) || old->pg.run != st->pg.run ||
           old->pg.data != st->pg.data || old->pg.is_in_recovery != st->pg.is_in_recovery ||
           old->pg.is_streaming != st->pg.is_streaming || old->pg.timeline != st->pg.timeline ||
           strcmp(old->pg.upstream, st->pg.upstream) != 0 ||
           (core->is_watched &&
            (old->pg.lsn != st->pg.lsn || old->pg.replay_lsn != st->pg.replay_lsn));
}

void
rules_status(struct core *core, struct effect_list *fx)
{
    struct message m = {.type = MESSAGE_STATUS};

    fill(core, &m.status);
    if (core->status_at.ms != 0 && mono_sub(core->now, core->status_at) < STATUS_EVERY_MS &&
        !is_news(core, &core->status, &m.status)) {
        return;
    }
    core->status = m.status;
    core->status_at = core->now;
    effect_send(fx, "", &m);
}
