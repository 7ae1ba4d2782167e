/*
 * Data that left the cluster's history, or cannot stream, are replaced: taken back where they left
 * it (pg_rewind), else copied anew. docs/protocol.md, section 6.
 *
 * Nothing is replaced on a guess: the log first says whose data, of which system, under which newer
 * reign, which this member itself has seen writable; and never those of too many at once.
 */
#include "agent/core/core_internal.h"

#include <stdio.h>
#include <string.h>

#include "store/sync.h"

#define PAUSE_MS 5000    /* after a copy that failed: others may have one meanwhile */
#define SILENCE_MS 30000 /* who is not heard of for so long is replacing nothing */
#define SOURCE_MS 5000   /* after a start: for the first word of one that HA_CLONE_FROM means */

static bool
is_on_record(const struct core *core, uint8_t rung)
{
    const struct member *m = core_self(core);

    return m != NULL && m->rebuild_rung == rung && m->rebuild == core->state.reign;
}

static bool
put_on_record(struct core *core, struct effect_list *fx, uint8_t rung)
{
    struct command c = {.type = COMMAND_REBUILD};

    c.rebuild.member = core->durable.id;
    c.rebuild.reign = rung == REBUILD_NONE ? 0 : core->state.reign;
    c.rebuild.sysid = core->pg.sysid;
    c.rebuild.rung = rung;
    return effect_propose(core, fx, &c);
}

/* The holder as it says it is: writable under this reign. */
bool
rebuild_sees_primary(const struct core *core)
{
    const struct peer_view *p = core_peer(core, core->state.holder);

    return core->state.is_opened && !core->state.is_vacant && peer_is_fresh(core, p) &&
           p->status.id == core->state.holder && p->status.reign == core->state.reign &&
           p->status.lease_left_ms > 0 && p->status.pg.run == PG_RUN_UP &&
           !p->status.pg.is_in_recovery && p->status.pg.sysid == core->state.sysid;
}

bool
rebuild_is_due(const struct core *core)
{
    const struct member *m = core_self(core);

    /* What was on record before this agent was started again goes on, unless it was done. */
    return core->is_clone_due || (m != NULL && m->rebuild_rung == REBUILD_COPY &&
                                  !core->is_copied && !core->pg.has_old && !core->pg.is_fresh_copy);
}

/* Why nobody's wish replaces these data, or NULL. */
static const char *
refusal(const struct core *core)
{
    if (core->config.kind != MEMBER_DATABASE) {
        return "a witness has no data";
    }
    if (core_self(core) == NULL) {
        return "this agent belongs to no cluster yet";
    }
    if (core_is_holder(core)) {
        return "it holds the reign: declare another primary first";
    }
    if (!rebuild_sees_primary(core)) {
        return "no primary is seen to serve: there is nothing to copy from";
    }
    if (core->state.handover != 0) {
        return "a switchover is under way";
    }
    if (core->pg_op != PG_OP_NONE || core->restart != RESTART_NONE || core->is_clone_due) {
        return "an operation on its PostgreSQL is under way";
    }
    return NULL;
}

void
rebuild_on_request(struct core *core, struct effect_list *fx, uint64_t token)
{
    const char *why = refusal(core);
    struct effect *e = effect_push(fx, EFFECT_REPLY);

    e->reply.token = token;
    e->reply.rc = why == NULL ? HA_OK : HA_EREFUSED;
    (void)snprintf(e->reply.text, sizeof e->reply.text, "%s", why == NULL ? "done" : why);
    if (why == NULL) {
        core->is_clone_due = true;
        (void)snprintf(core->clone_why, sizeof core->clone_why, "an operator asked for it");
    }
}

uint8_t
rebuild_rung_next(const struct core *core)
{
    const struct member *m = core_self(core);
    /* A history that an operator cut off may bear the numbers of the one that went on: pg_rewind
     * would take it for a prefix. */
    const bool is_over = core->config.is_rewind_off || core->is_rewind_over ||
                         core->durable.must_copy || (m != NULL && m->rebuild_rung == REBUILD_COPY);

    return is_over ? REBUILD_COPY : REBUILD_REWIND;
}

bool
rebuild_ask(struct core *core, struct effect_list *fx, uint8_t rung, const char *why)
{
    if (is_on_record(core, rung)) {
        return true;
    }
    if (!mono_reached(core->now, core->rebuild_after)) {
        core_explain(core, fx, 372, "a copy failed; it is tried again soon (%s)", why);
        return false;
    }
    if (!state_may_rebuild(&core->state, core->durable.id)) {
        core_explain(core, fx, 376, "waits for another member's rebuild to end (%s)", why);
        return false;
    }
    core_explain(core, fx, 372, "its rebuild goes on record (%s)", why);
    (void)put_on_record(core, fx, rung);
    return false;
}

static bool
may_copy_from(const struct core *core, const struct candidate *c)
{
    const struct pg_facts *pg = c->is_fresh ? &c->status->pg : NULL;

    return pg != NULL && c->member->id != core->durable.id && pg->run == PG_RUN_UP &&
           pg->is_in_recovery && pg->is_streaming && pg->sysid == core->state.sysid &&
           pg->timeline == core->state.timeline && c->status->health <= HEALTH_WELL &&
           rejoin_is_of_ledger(&core->state, pg->timeline, pg->lineage);
}

/* A member of the recorded synchronous set is believed to have what was acknowledged because of it;
 * a replica need not have that, the holder has (INV-9). */
static bool
wants_a_replica(const struct core *core)
{
    return core->config.clone_from[0] != 0 &&
           (core->state.sync_set & sync_bit(&core->state, core->durable.id)) == 0;
}

/* What the holder has applied counts: this member may not know yet that it came into the set. */
static bool
is_up_to_date(const struct core *core)
{
    return core->state_index >= core_peer(core, core->state.holder)->status.raft_applied;
}

/* Of HA_CLONE_FROM, if that one is fit to be copied; else the primary. */
static const char *
source(const struct core *core, const char *primary)
{
    const char *wanted = core->config.clone_from;
    const bool is_any = strcmp(wanted, "replica") == 0;
    struct candidate list[HA_MEMBER_SLOTS];
    const size_t n = wants_a_replica(core) && is_up_to_date(core) ? candidates_list(core, list) : 0;

    for (size_t i = 0; i < n; i++) {
        if (may_copy_from(core, &list[i]) &&
            (is_any || strcmp(list[i].member->address, wanted) == 0)) {
            return list[i].member->address;
        }
    }
    return primary;
}

/* Who has just been started knows the primary before it knows the newest of the log, and who else
 * could be copied. */
static bool
waits_for_source(const struct core *core, const char *primary)
{
    const char *wanted = core->config.clone_from;
    const bool is_any = strcmp(wanted, "replica") == 0;

    if (!wants_a_replica(core) || mono_sub(core->now, core->started_at) >= SOURCE_MS) {
        return false;
    }
    if (!is_up_to_date(core)) {
        return true;
    }
    if (source(core, primary) != primary) {
        return false;
    }
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        const struct member *m = &core->state.members[i];
        const struct peer_view *p = core_peer(core, m->id);

        if (m->id != 0 && m->kind == MEMBER_DATABASE && m->id != core->durable.id &&
            m->id != core->state.holder && (is_any || strcmp(m->address, wanted) == 0) &&
            (p == NULL || !p->is_heard)) {
            return true;
        }
    }
    return false;
}

static void
begin(struct core *core, struct effect_list *fx, uint8_t rung, const char *primary, const char *why)
{
    const bool is_rewind = rung == REBUILD_REWIND;
    const char *from = is_rewind ? primary : source(core, primary);

    core_explain(core,
                 fx,
                 is_rewind ? 374 : 371,
                 "%s %s: %s",
                 is_rewind ? "rewinding to" : "copying from",
                 from,
                 why);
    if (effect_pg(core, fx, is_rewind ? PG_OP_REWIND : PG_OP_CLONE, from)) {
        effect_log(fx,
                   LOG_LEVEL_WARN,
                   is_rewind ? 374 : 371,
                   is_rewind ? "rewind" : "clone",
                   "%s of system %llu %s reign %llu from %s: %s",
                   core->config.address,
                   (unsigned long long)core->pg.sysid,
                   is_rewind ? "is taken back to" : "gets a copy of",
                   (unsigned long long)core->state.reign,
                   from,
                   why);
    }
}

void
rebuild_step(
    struct core *core, struct effect_list *fx, uint8_t rung, const char *primary, const char *why)
{
    const bool is_empty = core->pg.data == PG_DATA_EMPTY; /* there is nothing to lose */

    if (primary == NULL || !rebuild_sees_primary(core)) {
        core_explain(core, fx, 370, "needs a copy (%s); no primary to copy from yet", why);
    } else if (rung == REBUILD_COPY && waits_for_source(core, primary)) {
        core_explain(core, fx, 370, "needs a copy (%s); HA_CLONE_FROM is not heard of yet", why);
    } else if (is_empty || rebuild_ask(core, fx, rung, why)) {
        begin(core, fx, rung, primary, why);
    }
}

void
rebuild_on_done(struct core *core, uint8_t op, int rc)
{
    if (op == PG_OP_REWIND) {
        core->is_rewind_over = rc != HA_OK;
    } else if (rc == HA_OK) {
        core->is_clone_due = false;
        core->durable.must_copy = false;
        core->is_copied = true;
    } else {
        core->rebuild_after = mono_add(core->now, PAUSE_MS);
    }
}

/* What the data replaced goes when they stream, and not a moment before. */
void
rebuild_end(struct core *core, struct effect_list *fx)
{
    const struct member *m = core_self(core);

    core->is_rewind_over = false;
    if (m->rebuild_rung == REBUILD_NONE && !core->pg.has_old) {
        core->is_copied = false;
        return;
    }
    if (!core->pg.has_old) {
        (void)put_on_record(core, fx, REBUILD_NONE);
    } else if (!rebuild_sees_primary(core)) {
        return;
    } else if (!is_on_record(core, REBUILD_CLEAR)) {
        (void)put_on_record(core, fx, REBUILD_CLEAR);
    } else if (mono_reached(core->now, core->discard_after)) {
        core->discard_after = mono_add(core->now, PAUSE_MS);
        effect_log(fx,
                   LOG_LEVEL_WARN,
                   375,
                   "discard",
                   "%s streams reign %llu of system %llu: what its data replaced may go",
                   core->config.address,
                   (unsigned long long)core->state.reign,
                   (unsigned long long)core->pg.sysid);
        (void)effect_push(fx, EFFECT_PG_DISCARD);
    }
}

/* Between two tries of a copy others may have theirs. */
void
rebuild_yield(struct core *core, struct effect_list *fx)
{
    const struct member *m = core_self(core);

    if (m != NULL && m->rebuild_rung == REBUILD_COPY && core->pg_op == PG_OP_NONE &&
        core->pg.run == PG_RUN_STOPPED && !core->pg.is_fresh_copy &&
        !mono_reached(core->now, core->rebuild_after)) {
        (void)put_on_record(core, fx, REBUILD_NONE);
    }
}

void
rebuild_expire(struct core *core, struct effect_list *fx)
{
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        const struct member *m = &core->state.members[i];
        const struct peer_view *p = core_peer(core, m->id);
        struct command c = {.type = COMMAND_REBUILD};

        if (m->id == 0 || m->id == core->durable.id || m->rebuild == 0 ||
            mono_sub(core->now, core->leader_since) < SILENCE_MS ||
            (p != NULL && p->is_heard && mono_sub(core->now, p->heard_at) < SILENCE_MS)) {
            continue;
        }
        c.rebuild.member = m->id;
        if (effect_propose(core, fx, &c)) {
            effect_log(fx,
                       LOG_LEVEL_INFO,
                       265,
                       "rebuild_over",
                       "%s was not heard of for %d s: its rebuild is over",
                       m->address,
                       SILENCE_MS / 1000);
        }
        return;
    }
}
