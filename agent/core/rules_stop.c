/*
 * The way out when the agent is told to end (SIGTERM). A holder hands its reign over first,
 * while clients are served; where that cannot be, it stops PostgreSQL cleanly under a kept
 * lease and gives the reign back where somebody may take it. docs/decisions/0005.
 */
#include "agent/core/core_internal.h"

#define ASK_MS 5000            /* for a successor to be fit and named; clients are served */
#define STOP_PATIENCE_MS 20000 /* for a fast stop */
#define VACATE_MS 3000         /* for the log to hear of it */
#define OPEN_MS 2000           /* for the successor to open: this member's grant may be needed */

/* True while the handover goes on, or may still begin. */
static bool
hand_over_first(struct core *core, struct effect_list *fx)
{
    const bool is_open = core->pg.run == PG_RUN_UP && !core->pg.is_in_recovery &&
                         core->state.is_opened && core_has_lease(core) && !core->is_killing;

    if (core->config.on_stop != ON_STOP_HANDOVER || core->is_stop_plain) {
        return false;
    }
    if (core->handover != HANDOVER_NONE && core_is_holder(core)) {
        handover_step(core, fx);
        return core->handover != HANDOVER_NONE;
    }
    if (!core_is_holder(core) || !is_open) {
        return false;
    }
    if (core->state.handover != 0) {
        handover_begin(core, fx);
        return true;
    }
    /* In a rolling update the task before this one was started again a moment ago: its server may
     * not stream yet, and a stop without a successor costs writers the whole restart. */
    if (mono_sub(core->now, core->stop_at) >= ASK_MS || !core_may_get_successor(core) ||
        core->state.is_paused) {
        core->is_stop_plain = true;
        return false;
    }
    core_explain(core, fx, 502, "told to stop: asking for a successor first");
    return true;
}

/* True until the log has the vacancy and, where somebody can take over, until that one is open. */
static bool
is_waiting_for_successor(struct core *core, struct effect_list *fx)
{
    const struct state *s = &core->state;

    if (core->vacate.reign != 0 && core->vacate.reign == s->reign && core->stop_vacated == 0) {
        core->stop_vacated = s->reign;
        core->stop_vacated_at = core->now;
    }
    if (core->stop_vacated == 0) {
        return false;
    }
    if (s->reign == core->stop_vacated && !s->is_vacant) {
        core_explain(core, fx, 501, "telling the others that the reign is vacant");
        return mono_sub(core->now, core->stop_vacated_at) < VACATE_MS;
    }
    if ((s->reign > core->stop_vacated && s->is_opened) || !core_has_successor(core)) {
        return false;
    }
    core_explain(core, fx, 503, "waiting for the successor to open");
    return mono_sub(core->now, core->vacant_seen_at) < OPEN_MS;
}

void
stop_step(struct core *core, struct effect_list *fx)
{
    const int64_t for_ms = mono_sub(core->now, core->stop_at);

    if (core->config.kind == MEMBER_DATABASE && hand_over_first(core, fx)) {
        return;
    }
    if (core->pg.run != PG_RUN_STOPPED && core->config.kind == MEMBER_DATABASE) {
        core_explain(core, fx, 500, "stopping PostgreSQL");
        if (core->pg.run == PG_RUN_UP && for_ms < STOP_PATIENCE_MS) {
            (void)effect_pg(core, fx, PG_OP_STOP_FAST, NULL);
        } else if (core->pg_op != PG_OP_STOP_FAST || for_ms >= STOP_PATIENCE_MS) {
            effect_pg_kill(core, fx, "the agent is stopping");
        }
        return;
    }
    if (core_is_holder(core) && core->config.on_stop == ON_STOP_HANDOVER &&
        core->state.declaration.failover == FAILOVER_AUTO && core->pg.is_shut_down &&
        core->state.is_opened) { /* else its timeline is on no record: only it can go on with it */
        vacate_begin(core, fx, core->pg.checkpoint_lsn, "the agent is stopping");
    }
    if (is_waiting_for_successor(core, fx)) {
        return;
    }
    effect_exit(core, fx, 0, "told to stop");
}
