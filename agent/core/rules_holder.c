/*
 * The holder: from appointment to open, and to its end. docs/protocol.md, section 5.
 */
#include "agent/core/core_internal.h"

#include <stdio.h>
#include <string.h>

#define START_FAILURES_MAX 3

/* A database member that is heard, well, and may reign. */
static bool
is_eligible(const struct core *core, const struct peer_view *p)
{
    const struct member *m = state_member(&core->state, p->status.id);

    return p->address[0] != 0 && peer_is_fresh(core, p) && m != NULL &&
           m->kind == MEMBER_DATABASE && !p->status.is_nofailover && !p->status.is_leaving &&
           p->status.health <= HEALTH_WELL;
}

bool
core_may_get_successor(const struct core *core)
{
    for (size_t i = 0; i < CORE_PEERS_MAX; i++) {
        if (is_eligible(core, &core->peers[i])) {
            return true;
        }
    }
    return false;
}

bool
core_has_successor(const struct core *core)
{
    for (size_t i = 0; i < CORE_PEERS_MAX; i++) {
        const struct peer_view *p = &core->peers[i];
        const struct pg_facts *pg = &p->status.pg;

        if (is_eligible(core, p) && pg->run == PG_RUN_UP && pg->is_in_recovery &&
            pg->timeline == core->state.timeline &&
            rejoin_is_of_ledger(&core->state, pg->timeline, pg->lineage)) {
            return true;
        }
    }
    return false;
}

bool
core_fails_over_on_crash(const struct core *core)
{
    if (core->config.on_crash == ON_CRASH_DEFAULT) {
        return core->state.declaration.failover == FAILOVER_AUTO;
    }
    return core->config.on_crash == ON_CRASH_FAILOVER;
}

/* Why stopped data that look like a primary's are not this reign's, or NULL. */
static const char *
foreign_to_reign(const struct core *core)
{
    const struct state *s = &core->state;
    const struct pg_facts *pg = &core->pg;

    if (s->sysid != 0 && pg->sysid != s->sysid) {
        return "the data directory belongs to another cluster";
    }
    if (s->is_opened && pg->control_timeline != s->timeline) {
        return "the data directory is not on the reign's timeline";
    }
    if (s->is_opened && pg->lineage != s->lineage) {
        return "the data directory's history is not the cluster's";
    }
    if (!s->is_opened && s->opened_reign != 0 && pg->control_timeline < state_next_timeline(s)) {
        return "the data directory was never promoted under this reign";
    }
    if (!s->is_opened && s->opened_reign != 0 &&
        pg->lineage != lineage_extend(s->lineage, s->timeline, pg->fork_lsn)) {
        return "the data directory did not leave the newest timeline";
    }
    return NULL;
}

static void
start_as_primary(struct core *core, struct effect_list *fx)
{
    const char *foreign;

    if (!sync_is_ready(core, fx)) {
        core_explain(core, fx, 319, "not known yet for certain whom commits wait for");
        return;
    }
    foreign = foreign_to_reign(core);
    if (foreign != NULL) {
        vacate_begin(core, fx, 0, foreign);
        return;
    }
    sick_release_ballast(core, fx);
    core_explain(core,
                 fx,
                 core->was_primary_up ? 322 : 321,
                 core->was_primary_up ? "PostgreSQL ended; starting it again in place"
                                      : "starting PostgreSQL as the primary of its own reign");
    if (core->state.is_opened && core->pg_op == PG_OP_NONE && !core->is_killing) {
        sync_close(core, fx);
    }
    (void)effect_pg(core, fx, PG_OP_START_PRIMARY, NULL);
}

/* What is promoted continues the cluster's history, or begins it. A server that was started again
 * shows an older timeline until it has replayed what it has; what it then left is seen after. */
static bool
may_promote(const struct core *core, uint32_t timeline)
{
    const struct state *s = &core->state;

    return s->opened_reign == 0 ||
           (timeline <= s->timeline && rejoin_is_of_ledger(s, timeline, core->pg.lineage));
}

/* Under the first reigns each server goes on from its own timeline, whichever that is. */
static void
promote(struct core *core, struct effect_list *fx)
{
    const struct state *s = &core->state;
    const bool is_first = s->opened_reign == 0;
    const uint32_t newest = is_first ? core->pg.timeline : s->timeline;

    core_explain(core, fx, 320, "promoting PostgreSQL");
    core->was_promoting = true;
    if (effect_pg(core, fx, PG_OP_PROMOTE, NULL)) {
        struct effect *e = &fx->at[fx->n - 1];

        e->pg.timeline = newest;
        e->pg.next = is_first ? newest + (uint32_t)s->reign : state_next_timeline(s);
    }
}

static void
holder_stopped(struct core *core, struct effect_list *fx)
{
    const bool may_fail_over = core_fails_over_on_crash(core) && core_has_successor(core);

    switch ((enum pg_data)core->pg.data) {
    case PG_DATA_EMPTY:
        if (core->state.sysid == 0) {
            core_explain(core, fx, 311, "founding the data: initdb");
            (void)effect_pg(core, fx, PG_OP_INITDB, NULL);
        } else {
            vacate_begin(core, fx, 0, "the data directory is empty");
        }
        break;
    case PG_DATA_PRIMARY:
        if (core->was_primary_up && core->state.is_opened && may_fail_over) {
            vacate_begin(core, fx, 0, "PostgreSQL ended on the primary");
        } else if (core->start_failures >= START_FAILURES_MAX && may_fail_over) {
            vacate_begin(core, fx, 0, "PostgreSQL does not start");
        } else {
            start_as_primary(core, fx);
        }
        break;
    case PG_DATA_STANDBY:
        if (core->state.sysid != 0 && core->pg.sysid != core->state.sysid) {
            vacate_begin(core, fx, 0, "the data directory belongs to another cluster");
        } else if (core->state.is_opened) {
            /* Promoted, it would begin a second timeline that no record names. */
            vacate_begin(core, fx, 0, "the data became a standby's under this reign");
        } else if (!may_promote(core, core->pg.control_timeline)) {
            vacate_begin(core, fx, 0, "its history is not the cluster's");
        } else if (core->start_failures >= START_FAILURES_MAX && may_fail_over) {
            vacate_begin(core, fx, 0, "PostgreSQL does not start");
        } else {
            core_explain(core, fx, 323, "starting PostgreSQL as a standby, to be promoted");
            (void)effect_pg(core, fx, PG_OP_START_STANDBY, "");
        }
        break;
    case PG_DATA_TORN:
        vacate_begin(core, fx, 0, "a rewind of its data was cut short");
        break;
    case PG_DATA_DAMAGED:
        core_explain(core, fx, 324, "the data directory cannot be read; nothing is touched");
        if (may_fail_over) {
            vacate_begin(core, fx, 0, "the data directory cannot be read");
        }
        break;
    case PG_DATA_UNKNOWN:
    case PG_DATA_COUNT:
    default:
        break;
    }
}

static void
propose_opened(struct core *core, struct effect_list *fx)
{
    struct command c = {.type = COMMAND_OPENED};

    c.opened.reign = core->state.reign;
    c.opened.holder = core->durable.id;
    c.opened.sysid = core->pg.sysid;
    c.opened.timeline = core->pg.timeline;
    c.opened.fork_lsn = core->pg.fork_lsn;
    c.opened.lineage = core->pg.lineage;
    if (core->pg.timeline != 0 && core->pg.sysid != 0 && core->pg.lineage != 0) {
        (void)effect_propose(core, fx, &c);
    }
}

static void
explain_serving(struct core *core, struct effect_list *fx)
{
    if (core->sync.is_closed) {
        core_explain(core, fx, 332, "no clients before standbys have what was recovered");
    } else if (core->sync.phase == SYNC_PHASE_ALONE) {
        core_explain(core, fx, 333, "the primary; ASYNCHRONOUS: no standby is left");
    } else if (core->sync.phase == SYNC_PHASE_WAITING) {
        core_explain(core, fx, 334, "the primary; commits wait for standbys");
    } else {
        core_explain(core, fx, 331, "the primary");
    }
}

/* PostgreSQL runs as the primary, under a lease. */
static void
serve(struct core *core, struct effect_list *fx)
{
    const struct state *s = &core->state;

    core->was_primary_up = true;
    if (s->is_opened && core->pg.timeline != 0 &&
        (core->pg.timeline != s->timeline || core->pg.lineage != s->lineage)) {
        effect_pg_kill(core, fx, "PostgreSQL is not on the reign's timeline");
        return;
    }
    if (!s->is_opened && s->opened_reign != 0 && core->pg.lineage != 0 &&
        core->pg.lineage != lineage_extend(s->lineage, s->timeline, core->pg.fork_lsn)) {
        effect_pg_kill(core, fx, "PostgreSQL did not leave the newest timeline on record");
        return;
    }
    if (!s->is_opened) {
        core_explain(core, fx, 330, "writable; putting the timeline on record");
        propose_opened(core, fx);
        return;
    }
    if (s->settled_generation != s->members_generation &&
        core->durable_saved.opened_generation == s->members_generation) {
        struct command c = {.type = COMMAND_SETTLE};

        c.settle.generation = s->members_generation;
        c.settle.holder = core->durable.id;
        (void)effect_propose(core, fx, &c);
    }
    if (!sick_holder_step(core, fx)) {
        explain_serving(core, fx);
    }
}

void
holder_step(struct core *core, struct effect_list *fx)
{
    if (core->handover != HANDOVER_NONE) {
        handover_step(core, fx);
        return;
    }
    /* A promotion that failed was followed by a kill: give the reign to another. */
    if (core->pg.run == PG_RUN_STOPPED && core->was_promoting) {
        core->was_promoting = false;
        if (core->pg.data == PG_DATA_STANDBY) {
            vacate_begin(core, fx, 0, "the promotion failed");
            return;
        }
    }
    if (!core_has_lease(core)) {
        core_explain(core, fx, 310, "appointed, but without a lease: asking for one");
        return;
    }
    if (core->pg.run == PG_RUN_STOPPED) {
        holder_stopped(core, fx);
        return;
    }
    if (core->pg.run != PG_RUN_UP) {
        return;
    }
    if (core->pg.is_in_recovery && core->state.is_opened) {
        effect_pg_kill(core, fx, "a standby under the own opened reign");
        return;
    }
    if (core->pg.is_in_recovery && !may_promote(core, core->pg.timeline)) {
        core_explain(core, fx, 325, "not promoted: its history is not the cluster's");
        effect_pg_kill(core, fx, "its history is not the cluster's");
        return;
    }
    if (core->pg.is_in_recovery) {
        if (!sync_is_ready(core, fx)) {
            core_explain(core, fx, 319, "not known yet for certain whom commits wait for");
            return;
        }
        promote(core, fx);
        return;
    }
    core->was_promoting = false;
    serve(core, fx);
    if (core->state.handover != 0 && core->state.is_opened && !core->is_killing) {
        handover_begin(core, fx);
    }
}
