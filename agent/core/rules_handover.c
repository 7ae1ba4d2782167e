/*
 * The planned switchover, as its old primary lives it: checkpoint while clients
 * are served, fast stop under a kept lease (else the last WAL would not leave),
 * the successor's word that it has everything, release. Whenever a step cannot
 * be done, the old primary serves again: nothing is lost.
 */
#include "agent/core/core_internal.h"

#include <string.h>

#include "base/err.h"

#define CHECKPOINT_MS 120000 /* a large one takes its time; clients are served */
#define FAST_STOP_MS 10000
#define CONFIRM_MS 10000
#define CHECKPOINT_LEAVING_MS                                                                      \
    5000 /* who is told to end has no such time: the stop writes the rest */
#define CONFIRM_LEAVING_MS 3000

static const struct peer_view *
successor(const struct core *core)
{
    const struct peer_view *p = core_peer(core, core->state.handover);

    return peer_is_fresh(core, p) && p->status.id == core->state.handover ? p : NULL;
}

static void
call_off(struct core *core, struct effect_list *fx, const char *why)
{
    core_explain(core, fx, 355, "the handover is called off: %s", why);
    core->handover = HANDOVER_CANCEL;
    core->was_primary_up = false; /* a stop by plan is no crash */
    if (core->is_stopping) {
        core->handover = HANDOVER_NONE; /* the way out goes on without */
        core->is_stop_plain = true;
    }
}

void
handover_begin(struct core *core, struct effect_list *fx)
{
    sick_release_ballast(core, fx);
    core->handover = HANDOVER_CHECKPOINT;
    core->handover_at = core->now;
    (void)effect_pg(core, fx, PG_OP_CHECKPOINT, NULL);
    core_explain(core, fx, 350, "handing over: checkpoint first");
}

/* Clients lose their sessions from here on. */
static void
stop_serving(struct core *core, struct effect_list *fx)
{
    const struct peer_view *to = successor(core);

    if (to == NULL || to->status.pg.run != PG_RUN_UP || !to->status.pg.is_streaming) {
        call_off(core, fx, "the successor does not stream");
    } else if (effect_pg(core, fx, PG_OP_STOP_FAST, NULL)) {
        core->handover = HANDOVER_STOP;
        core->handover_at = core->now;
        core_explain(core, fx, 351, "handing over to %s: stopping cleanly", to->address);
    }
}

void
handover_on_done(struct core *core, struct effect_list *fx, uint8_t op, int rc)
{
    if (core->handover == HANDOVER_CHECKPOINT && op == PG_OP_CHECKPOINT) {
        if (rc != HA_OK) {
            call_off(core, fx, "the checkpoint failed");
        } else {
            stop_serving(core, fx);
        }
        return;
    }
    if (core->handover == HANDOVER_STOP && op == PG_OP_STOP_FAST && rc != HA_OK) {
        call_off(core, fx, "PostgreSQL did not stop cleanly");
    }
}

/* Stopped: does the successor have the shutdown checkpoint, the very last record? */
static void
confirm(struct core *core, struct effect_list *fx)
{
    const struct peer_view *to = successor(core);

    if (to != NULL && to->status.pg.timeline == core->state.timeline &&
        to->status.pg.replay_lsn > core->pg.checkpoint_lsn) {
        core_explain(core, fx, 353, "%s has every record: handing over", to->address);
        vacate_begin(core, fx, core->pg.checkpoint_lsn, "handover");
        core->handover = HANDOVER_NONE;
        return;
    }
    if (core->state.handover == 0) { /* another was declared meanwhile: nobody will answer */
        call_off(core, fx, "withdrawn");
        return;
    }
    if (mono_sub(core->now, core->handover_at) >
        (core->is_stopping ? CONFIRM_LEAVING_MS : CONFIRM_MS)) {
        call_off(core, fx, "the successor did not confirm the last record");
        return;
    }
    core_explain(core, fx, 352, "stopped cleanly; waiting for the successor's word");
}

/* Serve again first, tell the log second. */
static void
cancel(struct core *core, struct effect_list *fx)
{
    struct command c = {.type = COMMAND_HANDOVER};

    if (core->pg.run == PG_RUN_STOPPED && core_has_lease(core)) {
        if (!sync_is_ready(core, fx)) {
            return;
        }
        sync_close(core, fx);
        (void)effect_pg(core, fx, PG_OP_START_PRIMARY, NULL);
        return;
    }
    if (core->state.handover != 0) {
        c.handover.reign = core->state.reign;
        (void)effect_propose(core, fx, &c);
        return;
    }
    if (core->pg.run == PG_RUN_UP) {
        core->handover = HANDOVER_NONE;
    }
}

void
handover_step(struct core *core, struct effect_list *fx)
{
    const int64_t for_ms = mono_sub(core->now, core->handover_at);
    const bool is_stopped = core->pg.run == PG_RUN_STOPPED && core->pg_op == PG_OP_NONE;

    switch ((enum handover_step)core->handover) {
    case HANDOVER_CHECKPOINT:
        if (core->state.handover == 0 || is_stopped || for_ms > CHECKPOINT_MS) {
            call_off(core, fx, is_stopped ? "PostgreSQL ended" : "withdrawn, or too slow");
        } else if (core->status.is_leaving && for_ms > CHECKPOINT_LEAVING_MS) {
            stop_serving(core, fx);
        }
        break;
    case HANDOVER_STOP:
        if (is_stopped && core->pg.is_shut_down) {
            core->handover = HANDOVER_CONFIRM;
            core->handover_at = core->now;
            confirm(core, fx);
        } else if (is_stopped) {
            call_off(core, fx, "PostgreSQL did not stop cleanly");
        } else if (for_ms > FAST_STOP_MS) {
            effect_pg_kill(core, fx, "the fast stop takes too long");
        }
        break;
    case HANDOVER_CONFIRM:
        confirm(core, fx);
        break;
    case HANDOVER_CANCEL:
        if (core->pg_op == PG_OP_NONE && !core->is_killing &&
            mono_reached(core->now, core->pg_retry_at)) {
            cancel(core, fx);
        }
        break;
    case HANDOVER_NONE:
    default:
        break;
    }
}
