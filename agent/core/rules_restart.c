/*
 * A restart of PostgreSQL in place, because a person asked for it (hactl restart): checkpoint while
 * clients are served, clean stop under a kept lease, start. It is no crash: nobody takes over.
 */
#include "agent/core/core_internal.h"

#include <stdio.h>

#include "base/err.h"

#define RESTART_MS 120000

static void
answer(struct core *core, struct effect_list *fx, uint64_t token, int rc, const char *text)
{
    struct effect *e = effect_push(fx, EFFECT_REPLY);

    (void)core;
    e->reply.token = token;
    e->reply.rc = rc;
    (void)snprintf(e->reply.text, sizeof e->reply.text, "%s", text);
}

static void
finish(struct core *core, struct effect_list *fx, int rc, const char *text)
{
    core->restart = RESTART_NONE;
    effect_log(fx, LOG_LEVEL_INFO, 0, "restart", "%s", rc == HA_OK ? "PostgreSQL is back" : text);
    answer(core, fx, core->restart_token, rc, text);
}

/* Why PostgreSQL cannot be touched now, or NULL. */
static const char *
refusal(const struct core *core)
{
    if (core->config.kind != MEMBER_DATABASE) {
        return "a witness has no PostgreSQL";
    }
    if (core_self(core) == NULL || core->pg.run != PG_RUN_UP) {
        return "its PostgreSQL does not run";
    }
    if (core->is_stopping || core->is_killing || core->restart != RESTART_NONE) {
        return "it is stopping or starting already";
    }
    if (core->handover != HANDOVER_NONE || core->state.handover != 0) {
        return "a switchover is under way";
    }
    if (core->pg_op != PG_OP_NONE) {
        return "another operation on it is under way";
    }
    return NULL;
}

static void
stop(struct core *core, struct effect_list *fx)
{
    if (effect_pg(core, fx, PG_OP_STOP_FAST, NULL)) {
        core->restart = RESTART_STOP;
        core->was_primary_up = false; /* a stop by plan is no crash */
        core_explain(core, fx, 345, "restarting PostgreSQL: stopping it cleanly");
    }
}

void
restart_on_request(struct core *core, struct effect_list *fx, uint64_t token, bool is_reload)
{
    const char *why = refusal(core);

    if (why != NULL) {
        answer(core, fx, token, HA_EREFUSED, why);
        return;
    }
    if (is_reload) {
        core->reload_token = token;
        (void)effect_pg(core, fx, PG_OP_RELOAD, NULL);
        return;
    }
    core->restart_token = token;
    core->restart_at = core->now;
    if (core->pg.is_in_recovery) {
        stop(core, fx);
        return;
    }
    core->restart = RESTART_CHECKPOINT;
    core_explain(core, fx, 344, "restarting PostgreSQL: checkpoint first");
    (void)effect_pg(core, fx, PG_OP_CHECKPOINT, NULL);
}

void
restart_on_done(struct core *core, struct effect_list *fx, uint8_t op, int rc)
{
    if (op == PG_OP_RELOAD && core->reload_token != 0) {
        answer(core, fx, core->reload_token, rc, err_code_text(rc));
        core->reload_token = 0;
    } else if (op == PG_OP_CHECKPOINT && core->restart == RESTART_CHECKPOINT) {
        if (rc == HA_OK) {
            stop(core, fx);
        } else {
            finish(core, fx, rc, "the checkpoint failed; nothing was stopped");
        }
    } else if (op == PG_OP_STOP_FAST && core->restart == RESTART_STOP) {
        core->restart = RESTART_START;
    }
}

void
restart_step(struct core *core, struct effect_list *fx)
{
    if (core->restart == RESTART_NONE) {
        return;
    }
    if (core->restart == RESTART_START && core->pg.run == PG_RUN_UP && core->pg_op == PG_OP_NONE) {
        finish(core, fx, HA_OK, "");
    } else if (core->is_stopping || mono_sub(core->now, core->restart_at) > RESTART_MS) {
        finish(core, fx, HA_ETIMEOUT, "PostgreSQL did not come back in time; see its log");
    }
}
