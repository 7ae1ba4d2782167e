/*
 * Everybody who does not hold the reign: follow the holder, let go when a
 * successor is being chosen, come back from whatever happened.
 */
#include "agent/core/core_internal.h"

#include <stdio.h>
#include <string.h>

#define STEADY_MS 2000
#define UNSTREAMED_MS 30000 /* the primary serves, this one cannot stream: copy anew */

/* The address to follow: of a holder whose reign is open. NULL while there is none. */
static const char *
upstream(const struct core *core)
{
    const struct state *s = &core->state;
    const struct member *m = state_member(s, s->holder);

    if (m == NULL || s->is_vacant || !s->is_opened || sync_is_frozen(core) ||
        strcmp(m->address, core->config.address) == 0) {
        return NULL;
    }
    return m->address;
}

/* The holder as it says it is: writable under this reign. */
static bool
is_primary_up(const struct core *core)
{
    const struct peer_view *p = core_peer(core, core->state.holder);

    return peer_is_fresh(core, p) && p->status.id == core->state.holder &&
           p->status.reign == core->state.reign && p->status.lease_left_ms > 0 &&
           p->status.pg.run == PG_RUN_UP && !p->status.pg.is_in_recovery &&
           p->status.pg.sysid == core->state.sysid;
}

/* The wipe interlock: another member's newer reign has been seen open and serving. */
static void
clone_when_safe(struct core *core, struct effect_list *fx, const char *why)
{
    const char *from = upstream(core);

    if (from == NULL || !is_primary_up(core)) {
        core_explain(core, fx, 370, "needs a copy (%s); no primary to copy from yet", why);
        return;
    }
    core_explain(core, fx, 371, "copying from %s: %s", from, why);
    if (effect_pg(core, fx, PG_OP_CLONE, from)) {
        effect_log(fx,
                   LOG_LEVEL_WARN,
                   371,
                   "clone",
                   "%s of system %llu gets a copy of reign %llu from %s: %s",
                   core->config.address,
                   (unsigned long long)core->pg.sysid,
                   (unsigned long long)core->state.reign,
                   from,
                   why);
    }
}

static void
standby_stopped(struct core *core, struct effect_list *fx)
{
    const char *from = upstream(core);
    const char *why = "";

    if (core->pg.data == PG_DATA_EMPTY) {
        clone_when_safe(core, fx, "the data directory is empty");
        return;
    }
    switch (rejoin_judge(&core->state, &core->pg, core->config.address, &why)) {
    case REJOIN_STREAM:
        if (core->is_clone_due) {
            clone_when_safe(core, fx, core->clone_why);
            break;
        }
        core_explain(core, fx, 361, "starting as a standby: %s", why);
        (void)effect_pg(core, fx, PG_OP_START_STANDBY, from == NULL ? "" : from);
        break;
    case REJOIN_CLONE:
        clone_when_safe(core, fx, why);
        break;
    case REJOIN_FOREIGN:
        effect_exit(core,
                    fx,
                    1,
                    "PGDATA belongs to system %llu, the cluster is system %llu: nothing was "
                    "touched; move PGDATA away, or correct the member list",
                    (unsigned long long)core->pg.sysid,
                    (unsigned long long)core->state.sysid);
        break;
    case REJOIN_DAMAGED:
        core_explain(core, fx, 373, "%s", why);
        break;
    case REJOIN_WAIT:
    default:
        core_explain(core, fx, 360, "waiting: %s", why);
        break;
    }
}

/* The word of the Raft leader while a successor is chosen, or NULL. */
static const struct status *
directive(const struct core *core)
{
    const struct peer_view *p;

    if (core->freeze_reign != 0) {
        return &core->status; /* this member leads itself */
    }
    p = core_peer(core, core->raft.leader);
    if (core->raft.leader == 0 || !peer_is_fresh(core, p) || p->status.freeze_reign == 0 ||
        p->status.freeze_reign != core->state.reign) {
        return NULL;
    }
    return &p->status;
}

/* Lets go of every upstream, after it fetched what it was told to fetch. */
static void
freeze(struct core *core, struct effect_list *fx, const struct status *d)
{
    const struct member *source = state_member(&core->state, d->fetch_from);

    if (d->fetch_member == core->durable.id && source != NULL && core->pg.lsn < d->fetch_lsn) {
        core->frozen_reign = 0;
        core_explain(core, fx, 366, "fetching the newest WAL from %s", source->address);
        if (strcmp(core->pg.upstream, source->address) != 0) {
            (void)effect_pg(core, fx, PG_OP_FOLLOW, source->address);
        }
        return;
    }
    if (core->pg.upstream[0] != 0 || core->pg.has_receiver) {
        core_explain(core, fx, 365, "letting go of the old primary");
        (void)effect_pg(core, fx, PG_OP_FOLLOW, "");
        return;
    }
    /* Where writes were acknowledged because of it, its disk must keep it from taking more of them
     * after a restart: the choice of a successor rests on its word. */
    if (core->state.sync_count != 0 && core->durable_saved.frozen_epoch < core->state.sync_epoch) {
        core->durable.frozen_epoch = core->state.sync_epoch;
        return;
    }
    core->frozen_reign = core->state.reign;
    core_explain(core, fx, 367, "let go of the old primary; waiting for a successor");
}

/* The primary serves, this one does not stream: something is in the way for good. A server that
 * asks for WAL which is gone shows "streaming" for a moment at each try: only steady streaming
 * counts. */
static void
note_unstreamed(struct core *core)
{
    if (!core->pg.is_streaming) {
        core->streamed_since = (struct mono){0};
    } else if (core->streamed_since.ms == 0) {
        core->streamed_since = core->now;
    }
    if (!is_primary_up(core) ||
        (core->streamed_since.ms != 0 && mono_sub(core->now, core->streamed_since) >= STEADY_MS)) {
        core->unstreamed_since = (struct mono){0};
    } else if (core->unstreamed_since.ms == 0) {
        core->unstreamed_since = core->now;
    } else if (!core->pg.is_streaming &&
               mono_sub(core->now, core->unstreamed_since) > UNSTREAMED_MS) {
        core->is_clone_due = true;
        (void)snprintf(core->clone_why, sizeof core->clone_why, "it could not stream for 30 s");
        core->unstreamed_since = (struct mono){0};
    }
}

static void
follow(struct core *core, struct effect_list *fx)
{
    const char *from = upstream(core);

    core->frozen_reign = 0;
    if (from == NULL) {
        core_explain(core, fx, 362, "a standby; no primary to follow yet");
        return;
    }
    if (strcmp(core->pg.upstream, from) != 0) {
        core_explain(core, fx, 363, "following %s", from);
        (void)effect_pg(core, fx, PG_OP_FOLLOW, from);
        return;
    }
    note_unstreamed(core);
    core_explain(core,
                 fx,
                 core->pg.is_streaming ? 364 : 368,
                 core->pg.is_streaming ? "a standby, streaming" : "a standby, not streaming yet");
}

static void
standby_up(struct core *core, struct effect_list *fx)
{
    const struct status *d = directive(core);

    if (core->state.sysid != 0 && core->pg.sysid != core->state.sysid) {
        effect_pg_kill(core, fx, "the data belong to another cluster");
        return;
    }
    if (!core->is_clone_due && rejoin_has_diverged(&core->state, &core->pg)) {
        core->is_clone_due = true;
        (void)snprintf(core->clone_why,
                       sizeof core->clone_why,
                       "it has WAL beyond the point where the new timeline began");
    }
    if (core->is_clone_due && is_primary_up(core) && upstream(core) != NULL) {
        core_explain(core, fx, 369, "stopping for a copy: %s", core->clone_why);
        (void)effect_pg(core, fx, PG_OP_STOP_FAST, NULL);
        return;
    }
    if (d != NULL) {
        freeze(core, fx, d);
        return;
    }
    follow(core, fx);
}

void
standby_step(struct core *core, struct effect_list *fx)
{
    if (core->pg.run == PG_RUN_STOPPED) {
        standby_stopped(core, fx);
    } else if (core->pg.run == PG_RUN_UP && core->pg.is_in_recovery) {
        standby_up(core, fx);
    }
}
