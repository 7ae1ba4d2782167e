/*
 * A sick PostgreSQL: what health.c judges, said aloud; and what a holder does about it.
 *
 * Under `auto`, with a standby that can take over: who can still stop cleanly hands over,
 * who cannot is killed, and the reign is given back once nothing of it lives (INV-5). In
 * every other case it is an alarm and nothing more.
 */
#include "agent/core/core_internal.h"

#include <stdio.h>

static bool
is_sick(uint8_t verdict)
{
    return verdict > HEALTH_WELL;
}

/* A silent file system alone is no reason to act: what needs it will not commit. */
static bool
is_reason_to_leave(uint8_t verdict)
{
    return is_sick(verdict) && verdict != HEALTH_DISK_SILENT;
}

void
rules_health(struct core *core, struct effect_list *fx)
{
    const uint8_t before = core->verdict;
    char why[HA_WHY_MAX];

    if (core->pg.run != PG_RUN_UP) {
        health_reset(&core->health);
    }
    core->verdict = (uint8_t)health_judge(&core->health, core->config.sick_ms, core->now);
    if (core->verdict == before || (!is_sick(before) && !is_sick(core->verdict))) {
        return;
    }
    health_why(&core->health, core->verdict, core->now, why, sizeof why);
    if (is_sick(core->verdict)) {
        effect_log(fx, LOG_LEVEL_ERROR, 340, "sick", "PostgreSQL is sick: %s", why);
    } else if (core->verdict == HEALTH_WELL) {
        effect_log(fx, LOG_LEVEL_INFO, 340, "recovered", "PostgreSQL is well again");
    }
}

/* Why the holder stays in spite of it, or NULL. */
static const char *
reason_to_stay(const struct core *core)
{
    if (core->verdict == HEALTH_DISK_SILENT) {
        return "it still commits";
    }
    if (core->state.declaration.failover != FAILOVER_AUTO) {
        return "HA_FAILOVER=declared moves nothing by itself";
    }
    if (core->state.is_paused) {
        return "the cluster is paused";
    }
    if (!core_fails_over_on_crash(core)) {
        return "HA_ON_CRASH=restart moves nothing";
    }
    return core_has_successor(core) ? NULL : "nobody can take over";
}

bool
sick_holder_step(struct core *core, struct effect_list *fx)
{
    const char *stays = reason_to_stay(core);
    char why[HA_WHY_MAX];

    core->is_sick_leaving = false;
    if (!is_sick(core->verdict)) {
        return false;
    }
    health_why(&core->health, core->verdict, core->now, why, sizeof why);
    if (stays != NULL || !is_reason_to_leave(core->verdict)) {
        core_explain(core, fx, 340, "SICK: %s; %s", why, stays == NULL ? "it stays" : stays);
        return true;
    }
    if (core->verdict == HEALTH_DISK_LOW) {
        core->is_sick_leaving = true;
        core_explain(core, fx, 341, "sick, asks to be relieved: %s", why);
        return true;
    }
    core_explain(core, fx, 342, "sick, ended so that another takes over: %s", why);
    effect_pg_kill(core, fx, core->why);
    core->is_sick_killed = true;
    return true;
}

/* The ballast's room is for a clean end, or for the recovery after an unclean one. */
void
sick_release_ballast(struct core *core, struct effect_list *fx)
{
    if (core->verdict == HEALTH_DISK_LOW || core->was_disk_low || core->start_failures > 0) {
        core->was_disk_low = false;
        effect_log(fx, LOG_LEVEL_WARN, 343, "ballast", "the ballast gives its room");
        (void)effect_push(fx, EFFECT_PG_BALLAST);
    }
}
