/*
 * Synchronous replication: how the rule by which this holder's PostgreSQL acknowledges, and the set
 * on record by which a successor is chosen, follow the policy. docs/invariants.md, INV-9.
 *
 * At no moment may a write be acknowledged that an election could miss. So the record grows before
 * the server may count on somebody new, and shrinks after the server counts on
 * nobody else any more and those that stay have all that was acknowledged before. Each step is an
 * entry of the log under the holder's reign: who has lost it changes nothing.
 */
#include "agent/core/core_internal.h"

#include <string.h>

#include "base/require.h"
#include "store/sync.h"

#define LOOKS_APPLIED 2 /* the second look began when the rule was in force everywhere */

void
sync_on_facts(struct core *core, const struct pg_sync *seen)
{
    core->sync.seen = *seen;
    if (sync_is_applied(core) && seen->lsn != 0 && core->sync.n_applied < LOOKS_APPLIED) {
        core->sync.n_applied++;
    }
    if (core->sync.is_closed && core->sync.closed_lsn == 0 && core->pg.run == PG_RUN_UP &&
        !core->pg.is_in_recovery) {
        core->sync.closed_lsn = seen->lsn;
    }
    for (uint32_t i = 0; i < seen->n; i++) {
        const struct member *m = state_member_at(&core->state, seen->standbys[i].address);

        if (m != NULL) {
            const size_t at = (size_t)(m - core->state.members);

            core->sync.streamed_id[at] = m->id;
            core->sync.streamed_at[at] = core->now;
        }
    }
}

static bool
is_same(const struct sync_rule *a, const struct sync_rule *b)
{
    return a->set == b->set && a->count == b->count && a->n_strangers == b->n_strangers;
}

static void
tell(struct core *core, struct effect_list *fx, const struct sync_rule *rule)
{
    struct sync_names *told = &core->sync.told;

    core->sync.before = *told;
    core->sync.barrier = 0;
    core->sync.n_applied = 0;
    *told = (struct sync_names){.version = core->sync.before.version + 1, .count = rule->count};
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        if ((rule->set >> i & 1) != 0) {
            memcpy(told->address[told->n++], core->state.members[i].address, HA_ADDRESS_MAX);
        }
    }
    effect_push(fx, EFFECT_PG_SYNC)->pg_sync = *told;
    effect_log(fx,
               LOG_LEVEL_INFO,
               0,
               "sync_rule",
               "as a primary PostgreSQL waits for %u of %u members",
               told->count,
               told->n);
}

/* As long as it is no primary, the rule of its first moment as one is kept up to date. */
static void
keep_first(struct core *core, struct effect_list *fx)
{
    const bool is_standby = core->pg.run == PG_RUN_UP && core->pg.is_in_recovery;
    const struct sync_rule first = sync_first(core);
    const struct sync_rule told = sync_told(core, &core->sync.told);

    if (core->pg_op != PG_OP_NONE || (core->pg.run != PG_RUN_STOPPED && !is_standby)) {
        return;
    }
    if (core->sync.told.version == 0 || !is_same(&first, &told)) {
        tell(core, fx, &first);
        core->sync.before = core->sync.told; /* nothing is acknowledged by the older one */
    }
}

/* ---- the gate ---- */

void
sync_close(struct core *core, struct effect_list *fx)
{
    if (core->state.declaration.sync == SYNC_OFF && core->state.sync_count == 0) {
        return;
    }
    core->sync.is_closed = true;
    core->sync.closed_lsn = 0;
    effect_push(fx, EFFECT_PG_GATE)->pg_gate.is_open = false;
}

static void
open_gate(struct core *core, struct effect_list *fx)
{
    core->sync.is_closed = false;
    effect_push(fx, EFFECT_PG_GATE)->pg_gate.is_open = true;
}

/* Standbys among those that are waited for that have everything up to there. */
static uint32_t
n_beyond(const struct core *core, uint64_t lsn)
{
    const struct sync_rule told = sync_told(core, &core->sync.told);
    const struct pg_sync *seen = &core->sync.seen;
    uint32_t n = 0;

    for (uint32_t i = 0; i < seen->n; i++) {
        const struct member *m = state_member_at(&core->state, seen->standbys[i].address);

        n += m != NULL && (sync_bit(&core->state, m->id) & told.set) != 0 &&
             seen->standbys[i].flush_lsn >= lsn;
    }
    return n;
}

/* A commit that waited when PostgreSQL ended may be on no other member: what was recovered is shown
 * to nobody before it could have been acknowledged. */
static void
guard_gate(struct core *core, struct effect_list *fx)
{
    const uint32_t count = core->sync.told.count;

    if (!core->sync.is_closed || !sync_is_applied(core)) {
        return;
    }
    if (count == 0 ||
        (core->sync.closed_lsn != 0 && n_beyond(core, core->sync.closed_lsn) >= count)) {
        open_gate(core, fx);
        effect_log(fx, LOG_LEVEL_INFO, 332, "gate", "clients are let in");
    }
}

/* ---- the record ---- */

static void
propose(struct core *core, struct effect_list *fx, const struct sync_rule *rule, uint32_t n_lost)
{
    struct command c = {.type = COMMAND_SYNC};

    c.sync.reign = core->state.reign;
    c.sync.generation = core->state.members_generation;
    c.sync.epoch = core->state.sync_epoch;
    c.sync.set = rule->count == 0 ? 0 : rule->set;
    c.sync.count = (uint8_t)rule->count;
    c.sync.lost = rule->count == 0 ? 0 : (uint8_t)n_lost;
    if (effect_propose(core, fx, &c)) {
        core->sync.asked_epoch = c.sync.epoch;
    }
}

static bool
is_on_record(const struct core *core, const struct sync_rule *rule)
{
    const struct state *s = &core->state;

    return s->sync_count == rule->count && s->sync_lost == 0 &&
           s->sync_set == (rule->count == 0 ? 0 : rule->set);
}

/* Another epoch for what is on record. */
static void
propose_same(struct core *core, struct effect_list *fx)
{
    const struct state *s = &core->state;
    const struct sync_rule same = {.set = sync_alive(s), .count = s->sync_count};

    propose(core, fx, &same, sync_lost(s));
}

/* No proposal that this member ever made can still change the record: one that is under way, or
 * that an agent before this one sent, is void once the epoch went on. */
static bool
is_settled(const struct core *core)
{
    return core->state.sync_epoch > core->sync.asked_epoch;
}

/* The log has answered something that this agent said since it started: what was in it before has
 * been applied here. */
static bool
has_spoken(const struct core *core)
{
    const struct member *self = core_self(core);

    return self != NULL && self->last_counter >> 32 == core->durable.boots;
}

static void
speak(struct core *core, struct effect_list *fx)
{
    const struct member *self = core_self(core);
    struct command c = {.type = COMMAND_REGISTER};

    memcpy(c.member_register.address, self->address, sizeof c.member_register.address);
    memcpy(c.member_register.name, self->name, sizeof c.member_register.name);
    c.member_register.nonce = self->nonce;
    if (self->nonce != 0 && core->raft.leader != 0) {
        (void)effect_propose(core, fx, &c);
    }
}

static bool
is_synchronous(const struct core *core)
{
    return core->state.sync_count != 0 || core->state.declaration.sync != SYNC_OFF ||
           core->config.declaration.sync != SYNC_OFF;
}

/* The last of two members: its lease needs nobody, and while it is alone there is no log to ask. */
static bool
leases_alone(const struct core *core)
{
    unsigned n = 0;

    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        n += member_is_current(&core->state.members[i]);
    }
    return lease_renew_quorum(n) <= 1;
}

/* What this member remembers of the log from before its start may be older than the record that it
 * has itself made, and may not even know that commits are to wait. */
bool
sync_is_ready(struct core *core, struct effect_list *fx)
{
    if (!has_spoken(core) && (is_synchronous(core) || !leases_alone(core))) {
        speak(core, fx);
        return false;
    }
    if (!is_synchronous(core)) {
        return true;
    }
    if (core->state.is_opened && !is_settled(core)) {
        propose_same(core, fx);
        return false;
    }
    return core->pg.run == PG_RUN_STOPPED || sync_is_applied(core);
}

/* The server counts on nobody but these: when enough of them have all that was acknowledged before
 * that, the record can say so. */
static void
shrink_record(struct core *core, struct effect_list *fx, const struct sync_rule *rule)
{
    if (is_on_record(core, rule)) {
        return;
    }
    if (rule->count == 0) {
        propose(core, fx, rule, 0);
        return;
    }
    if (rule->set == 0 || core->sync.n_applied < LOOKS_APPLIED) {
        return;
    }
    if (core->sync.barrier == 0) {
        core->sync.barrier = core->sync.seen.lsn;
    }
    if (n_beyond(core, core->sync.barrier) >= rule->count) {
        propose(core, fx, rule, 0);
    }
}

/* Towards another rule: first the record must allow for both. */
static void
change_rule(struct core *core, struct effect_list *fx, const struct sync_rule *want)
{
    const struct state *s = &core->state;
    const struct sync_rule told = sync_told(core, &core->sync.told);
    struct sync_rule both = {.set = told.set | want->set, .n_strangers = told.n_strangers};
    struct sync_rule grown = {.set = both.set | sync_alive(s)};

    both.count = told.count < want->count ? told.count : want->count;
    grown.count = s->sync_count < want->count ? s->sync_count : want->count;
    if (s->sync_count != 0 && (grown.set != s->sync_set || grown.count != s->sync_count)) {
        propose(core, fx, &grown, sync_lost(s));
    } else if (!is_settled(core)) {
        propose_same(core, fx);
    } else if (sync_is_covered(s, core->durable.id, &both)) {
        tell(core, fx, want);
    }
}

/* Who let go for an election that chose nobody follows again once the log has a later epoch, which
 * makes every choice that rested on its word void. */
static bool
thaw_standbys(struct core *core, struct effect_list *fx)
{
    const struct state *s = &core->state;

    for (size_t i = 0; i < CORE_PEERS_MAX; i++) {
        const struct peer_view *p = &core->peers[i];
        const struct member *m = state_member(s, p->status.id);

        if (p->address[0] != 0 && peer_is_fresh(core, p) && m != NULL && member_is_current(m) &&
            p->status.frozen_epoch >= s->sync_epoch) {
            propose_same(core, fx);
            return true;
        }
    }
    return false;
}

bool
sync_is_frozen(const struct core *core)
{
    return core->durable.frozen_epoch != 0 && core->durable.frozen_epoch >= core->state.sync_epoch;
}

/* ---- what people are told ---- */

static uint8_t
phase_of(const struct core *core)
{
    const struct sync_rule told = sync_told(core, &core->sync.told);
    const uint32_t wanted = sync_count_wanted(&core->state);

    if (wanted == 0 && told.count == 0 && core->state.sync_count == 0) {
        return SYNC_PHASE_NONE;
    }
    if (told.count == 0) {
        return wanted == 0 ? SYNC_PHASE_CHANGING : SYNC_PHASE_ALONE;
    }
    if (core->sync.n_streaming < told.count) {
        return SYNC_PHASE_WAITING;
    }
    if (!sync_is_applied(core) || !is_on_record(core, &told)) {
        return SYNC_PHASE_CHANGING;
    }
    return told.count < wanted ? SYNC_PHASE_LESS : SYNC_PHASE_HELD;
}

static void
say_phase(struct core *core, struct effect_list *fx)
{
    static const struct {
        uint8_t level;
        const char *text;
    } SAY[SYNC_PHASE_COUNT] = {
        [SYNC_PHASE_NONE] = {LOG_LEVEL_INFO, "commits wait for nobody"},
        [SYNC_PHASE_HELD] = {LOG_LEVEL_INFO, "each commit is on as many standbys as are wanted"},
        [SYNC_PHASE_LESS] = {LOG_LEVEL_WARN,
                             "fewer standbys than wanted are here; commits wait for those"},
        [SYNC_PHASE_CHANGING] = {LOG_LEVEL_INFO, "the standbys that commits wait for change"},
        [SYNC_PHASE_WAITING] = {LOG_LEVEL_WARN, "too few standbys stream: commits wait"},
        [SYNC_PHASE_ALONE] = {LOG_LEVEL_ERROR,
                              "no standby is left: commits are ASYNCHRONOUS, a failover would lose "
                              "them (HA_SYNC=on)"},
    };
    uint8_t phase;

    core->sync.n_streaming = (uint8_t)n_beyond(core, 0);
    phase = phase_of(core);
    if (phase != core->sync.phase) {
        core->sync.phase = phase;
        effect_log(fx, SAY[phase].level, 0, "sync", "%s", SAY[phase].text);
    }
}

void
rules_sync(struct core *core, struct effect_list *fx)
{
    const bool is_serving = core_is_holder(core) && core->state.is_opened &&
                            core->pg.run == PG_RUN_UP && !core->pg.is_in_recovery;
    struct sync_rule rule;

    if (core->config.kind != MEMBER_DATABASE || core_self(core) == NULL) {
        return;
    }
    if (!is_serving) {
        core->sync.since = core->now;
        core->sync.phase = SYNC_PHASE_NONE;
        core->sync.n_streaming = 0;
        core->sync.seen.n = 0; /* what was seen of it in another role, or before its end, is old */
        core->sync.seen.lsn = 0;
        core->sync.n_applied = 0;
        core->sync.barrier = 0;
        if (core->sync.is_closed && !core_is_holder(core) && core->pg.run == PG_RUN_STOPPED) {
            open_gate(core, fx);
        }
        keep_first(core, fx);
        if (!has_spoken(core)) {
            speak(core, fx); /* so that nothing has to be asked for when it is this one's turn */
        }
        return;
    }
    rule = sync_weakest(core);
    ENSURE(sync_is_covered(&core->state, core->durable.id, &rule),
           "INV-9: no election can miss what this server acknowledges");
    guard_gate(core, fx);
    say_phase(core, fx);
    if (!core_has_lease(core) || core->is_killing || !sync_is_applied(core) || core->is_proposing) {
        return;
    }
    if (thaw_standbys(core, fx)) {
        return;
    }
    rule = sync_wish(core);
    const struct sync_rule told = sync_told(core, &core->sync.told);
    if (is_same(&rule, &told)) {
        shrink_record(core, fx, &rule);
    } else {
        change_rule(core, fx, &rule);
    }
}
