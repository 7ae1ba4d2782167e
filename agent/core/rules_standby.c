/*
 * Everybody who does not hold the reign: follow the holder, let go when a
 * successor is being chosen, come back from whatever happened.
 */
#include "agent/core/core_internal.h"

#include <stdio.h>
#include <string.h>

#define DIVERGED "it has WAL that the cluster's history has not"
#define MISSING_MS 3000 /* it was told that the WAL is gone, and nothing changed that */
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

static const char *
due_why(const struct core *core)
{
    return core->is_clone_due ? core->clone_why : "its rebuild was begun before";
}

static void
standby_stopped(struct core *core, struct effect_list *fx)
{
    const char *from = upstream(core);
    const char *why = "";

    if (core->pg.data == PG_DATA_EMPTY) {
        rebuild_step(core, fx, REBUILD_COPY, from, "the data directory is empty");
        return;
    }
    switch (rejoin_judge(&core->state, &core->pg, core->config.address, &why)) {
    case REJOIN_STREAM:
        if (rebuild_is_due(core)) {
            rebuild_step(core, fx, REBUILD_COPY, from, due_why(core));
            break;
        }
        core_explain(core, fx, 361, "starting as a standby: %s", why);
        (void)effect_pg(core, fx, PG_OP_START_STANDBY, from == NULL ? "" : from);
        break;
    case REJOIN_REWIND:
        rebuild_step(core, fx, rebuild_rung_next(core), from, why);
        break;
    case REJOIN_CLONE:
        rebuild_step(core, fx, REBUILD_COPY, from, why);
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

static void
clone_is_due(struct core *core, const char *why)
{
    core->is_clone_due = true;
    core->is_copied = false;
    (void)snprintf(core->clone_why, sizeof core->clone_why, "%s", why);
    core->unstreamed_since = (struct mono){0};
}

/* A server that asks for WAL which is gone shows "streaming" for a moment at each try. */
static bool
streams_steadily(const struct core *core)
{
    return core->streamed_since.ms != 0 && mono_sub(core->now, core->streamed_since) >= STEADY_MS;
}

/* The primary serves, this one does not stream: something is in the way for good. */
static void
note_unstreamed(struct core *core)
{
    int64_t ms;

    if (!core->pg.is_streaming) {
        core->streamed_since = (struct mono){0};
    } else if (core->streamed_since.ms == 0) {
        core->streamed_since = core->now;
    }
    if (streams_steadily(core) || !rebuild_sees_primary(core)) {
        core->unstreamed_since = (struct mono){0};
        return;
    }
    if (core->unstreamed_since.ms == 0) {
        core->unstreamed_since = core->now;
    }
    ms = mono_sub(core->now, core->unstreamed_since);
    if (core->pg.misses_wal && ms > MISSING_MS) {
        clone_is_due(core, "the primary has removed the WAL that it needs");
    } else if (!core->pg.is_streaming && ms > UNSTREAMED_MS) {
        clone_is_due(core, "it could not stream for 30 s");
    }
}

/* It streams from one that is being promoted: of a timeline that may never be on record, and then
 * it would have to be taken back. */
static bool
is_on_unopened(const struct core *core)
{
    const struct state *s = &core->state;
    const struct member *m = state_member(s, s->holder);

    return m != NULL && !s->is_vacant && !s->is_opened &&
           strcmp(core->pg.upstream, m->address) == 0;
}

static void
follow(struct core *core, struct effect_list *fx)
{
    const char *from = upstream(core);

    core->frozen_reign = 0;
    if (rejoin_has_diverged(&core->state, &core->pg)) {
        core_explain(core, fx, 370, "needs a copy (%s); no primary to copy from yet", DIVERGED);
        return;
    }
    if (is_on_unopened(core)) {
        core_explain(core, fx, 365, "letting go of %s: its reign is not open", core->pg.upstream);
        (void)effect_pg(core, fx, PG_OP_FOLLOW, "");
        return;
    }
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
    if (streams_steadily(core)) {
        rebuild_end(core, fx);
    }
    core_explain(core,
                 fx,
                 core->pg.is_streaming ? 364 : 368,
                 core->pg.is_streaming ? "a standby, streaming" : "a standby, not streaming yet");
}

/* Its data must be replaced: it goes on reading until the log allows that. */
static bool
must_stop(struct core *core, struct effect_list *fx)
{
    const bool has_diverged = rejoin_has_diverged(&core->state, &core->pg);
    const char *why = has_diverged ? DIVERGED : due_why(core);

    /* What is only remembered to be due is not, once it streams. */
    if (!has_diverged && !core->is_clone_due && (core->pg.is_streaming || !rebuild_is_due(core))) {
        return false;
    }
    if (rebuild_ask(core, fx, has_diverged ? rebuild_rung_next(core) : REBUILD_COPY, why)) {
        core_explain(core, fx, 369, "stopping for its rebuild: %s", why);
        (void)effect_pg(core, fx, PG_OP_STOP_FAST, NULL);
    }
    return true;
}

static void
standby_up(struct core *core, struct effect_list *fx)
{
    const struct status *d = directive(core);

    if (core->state.sysid != 0 && core->pg.sysid != core->state.sysid) {
        effect_pg_kill(core, fx, "the data belong to another cluster");
        return;
    }
    /* Forks may lie on one timeline, where neither end of a stream can tell: it would say that it
     * has what it has not, and commits would be acknowledged because of it. */
    if (core->pg.upstream[0] != 0 && rejoin_has_diverged(&core->state, &core->pg)) {
        core_explain(core, fx, 365, "letting go of %s: %s", core->pg.upstream, DIVERGED);
        (void)effect_pg(core, fx, PG_OP_FOLLOW, "");
        return;
    }
    if (upstream(core) != NULL && rebuild_sees_primary(core) && must_stop(core, fx)) {
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
