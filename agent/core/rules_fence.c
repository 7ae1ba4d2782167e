/*
 * The rule above all rules (INV-1): a PostgreSQL that could acknowledge a write
 * runs only under a lease in hand. It runs first and last in every step.
 */
#include "agent/core/core_internal.h"

/* Anything but "in recovery" counts as able to write, also a server that is only starting. */
static bool
may_take_writes(const struct core *core)
{
    const struct pg_facts *pg = &core->pg;

    switch ((enum pg_run)pg->run) {
    case PG_RUN_UP:
        return !pg->is_in_recovery;
    case PG_RUN_STARTING:
    case PG_RUN_STOPPING:
        return pg->data == PG_DATA_PRIMARY;
    case PG_RUN_STOPPED:
        return core->pg_op == PG_OP_START_PRIMARY;
    case PG_RUN_UNKNOWN:
    case PG_RUN_COUNT:
    default:
        return false;
    }
}

void
rules_fence(struct core *core, struct effect_list *fx)
{
    const bool is_promoting = core->pg_op == PG_OP_PROMOTE;

    if (core->is_killing || core_has_lease(core)) {
        return;
    }
    if (may_take_writes(core) || is_promoting) {
        effect_pg_kill(core,
                       fx,
                       core_is_holder(core) ? "the lease ran out"
                                            : "a primary without a reign of its own");
    }
}
