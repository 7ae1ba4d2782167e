/*
 * What PostgreSQL shall be doing here: the holder's rules, the standby's, and the
 * way out when the agent is told to stop.
 */
#include "agent/core/core_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"

void
postgres_on_facts(struct core *core, struct effect_list *fx, const struct pg_facts *facts)
{
    const uint8_t run = core->pg.run;

    core->pg = *facts;
    if (facts->run == PG_RUN_STOPPED) {
        core->is_killing = false;
        core->is_sick_killed = false;
        core->frozen_reign = 0;
    }
    if (run == PG_RUN_UP && facts->run != PG_RUN_UP && core->verdict == HEALTH_DISK_LOW) {
        core->was_disk_low = true;
    }
    if (run != facts->run && facts->run == PG_RUN_STOPPED && run != PG_RUN_UNKNOWN) {
        effect_log(fx,
                   LOG_LEVEL_INFO,
                   0,
                   "postgres_stopped",
                   "PostgreSQL has stopped (status %d, %s)",
                   facts->exit_status,
                   facts->is_shut_down ? "cleanly" : "not cleanly");
    }
}

void
postgres_on_done(struct core *core, struct effect_list *fx, uint8_t op, int rc, const char *text)
{
    if (op != core->pg_op) {
        return;
    }
    core->pg_op = PG_OP_NONE;
    if (core->pg.run == PG_RUN_STOPPED) {
        core->is_killing = false; /* the kill met an operation that had no process yet */
    }
    if (rc != HA_OK && rc != HA_ECANCELED) {
        core->pg_retry_at = mono_add(core->now, 1000);
        effect_log(fx,
                   LOG_LEVEL_ERROR,
                   0,
                   "postgres_failed",
                   "operation %u on PostgreSQL failed: %s: %s",
                   op,
                   err_code_text(rc),
                   text == NULL ? "" : text);
    }
    switch ((enum pg_op)op) {
    case PG_OP_START_PRIMARY:
    case PG_OP_START_STANDBY:
        core->start_failures = rc == HA_OK ? 0 : core->start_failures + 1;
        break;
    case PG_OP_PROMOTE:
        if (rc != HA_OK && core_is_holder(core)) {
            effect_pg_kill(core, fx, "the promotion failed");
        }
        break;
    case PG_OP_CLONE:
    case PG_OP_REWIND:
        rebuild_on_done(core, op, rc);
        break;
    case PG_OP_CHECKPOINT:
    case PG_OP_STOP_FAST:
        handover_on_done(core, fx, op, rc);
        restart_on_done(core, fx, op, rc);
        break;
    case PG_OP_RELOAD:
        restart_on_done(core, fx, op, rc);
        break;
    case PG_OP_FOLLOW:
        break;
    case PG_OP_NONE:
    case PG_OP_INITDB:
    case PG_OP_COUNT:
    default:
        break;
    }
}

/* True while something runs that must end first. */
static bool
is_busy(const struct core *core)
{
    return core->pg_op != PG_OP_NONE || core->is_killing || core->pg.run == PG_RUN_UNKNOWN ||
           core->pg.run == PG_RUN_STOPPING || !mono_reached(core->now, core->pg_retry_at);
}

static void
watch(struct core *core, struct effect_list *fx)
{
    bool is_on = core->freeze_reign != 0 || core->handover != HANDOVER_NONE;

    for (size_t i = 0; !is_on && i < CORE_PEERS_MAX; i++) {
        const struct peer_view *p = &core->peers[i];

        is_on = peer_is_fresh(core, p) && p->status.freeze_reign == core->state.reign &&
                core->state.reign != 0;
    }
    is_on = is_on || (core->state.handover != 0 && core->state.handover == core->durable.id);
    if (is_on != core->is_watched) {
        core->is_watched = is_on;
        effect_push(fx, EFFECT_PG_WATCH)->pg_watch.is_on = is_on;
    }
}

void
rules_postgres(struct core *core, struct effect_list *fx)
{
    if (core->config.kind == MEMBER_DATABASE) {
        watch(core, fx);
        slots_step(core, fx);
    }
    restart_step(core, fx);
    if (core->is_stopping) {
        stop_step(core, fx);
        return;
    }
    if (core->config.kind == MEMBER_WITNESS && core_self(core) == NULL) {
        return;
    }
    if (core->config.kind == MEMBER_WITNESS) {
        core_explain(core, fx, 300, "a witness: it votes and has no database");
        return;
    }
    if (core_self(core) == NULL) {
        if (core->durable.id != 0) {
            core_explain(core, fx, 140, "waiting to hear of the cluster's members");
        }
        return;
    }
    if (core_is_holder(core)) {
        if (core->handover != HANDOVER_NONE || !is_busy(core)) {
            holder_step(core, fx);
        }
        return;
    }
    core->handover = HANDOVER_NONE;
    rebuild_yield(core, fx);
    if (!is_busy(core)) {
        standby_step(core, fx);
    }
}
