/*
 * The governor: the duty of a ready Raft leader to found, to keep the members
 * what the declaration says, and to appoint. docs/protocol.md, section 4.
 *
 * It never makes anything safe: that is the promises' work. It only must not
 * take a reign from a holder that may still live.
 */
#include "agent/core/core_internal.h"

#include <stdio.h>
#include <string.h>

#include "agent/core/governor_members.h"

#define FREEZE_PATIENCE_MS 5000 /* for one that is here but cannot let go of its upstream */
#define PROOF_PATIENCE_MS 1000  /* for the word of who has the last record of a planned stop */
#define TRANSFER_EVERY_MS 5000

static unsigned
majority(const struct core *core)
{
    unsigned n = 0;

    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        n += member_is_current(&core->state.members[i]);
    }
    return n / 2 + 1;
}

/* A majority says that its promise to the holder has run out: then it holds no lease. */
static bool
is_lapsed(const struct core *core, const struct candidate *list, size_t n)
{
    unsigned n_lapsed = 0;

    for (size_t i = 0; i < n; i++) {
        n_lapsed += list[i].is_fresh && list[i].status->lapsed_reign == core->state.reign;
    }
    return n_lapsed >= majority(core);
}

static const struct candidate *
find(const struct candidate *list, size_t n, uint64_t id)
{
    for (size_t i = 0; i < n; i++) {
        if (list[i].member->id == id) {
            return &list[i];
        }
    }
    return NULL;
}

static const struct candidate *
find_declared(const struct core *core, const struct candidate *list, size_t n)
{
    const struct member *m = state_member_at(&core->state, core->state.declaration.primary);

    return m == NULL ? NULL : find(list, n, m->id);
}

static void
thaw(struct core *core)
{
    core->freeze_reign = 0;
    core->fetch_member = 0;
    core->fetch_from = 0;
    core->fetch_lsn = 0;
}

static void
appoint(struct core *core, struct effect_list *fx, const struct candidate *c, const char *why)
{
    struct command cmd = {.type = COMMAND_APPOINT};

    cmd.appoint.reign = core->state.reign + 1;
    cmd.appoint.holder = c->member->id;
    cmd.appoint.epoch = core->state.sync_epoch;
    cmd.appoint.wall_ms = core->wall_ms;
    (void)snprintf(cmd.appoint.why, sizeof cmd.appoint.why, "%s", why);
    if (effect_propose(core, fx, &cmd)) {
        governor_explain(core, fx, 250, "appointing %s: %s", c->member->address, why);
    }
}

/* ---- the first reign ---- */

/* Of a first reign that was given back unopened: what its holder has is not known. */
static bool
is_holder_away(const struct core *core, const struct candidate *list, size_t n)
{
    const struct candidate *holder = find(list, n, core->state.holder);

    return core->state.reign != 0 && holder != NULL && !holder->is_fresh;
}

static void
appoint_first(struct core *core, struct effect_list *fx, const struct candidate *list, size_t n)
{
    const struct candidate *d = find_declared(core, list, n);

    if (d == NULL || !d->is_fresh || d->status->pg.run != PG_RUN_STOPPED) {
        governor_explain(core,
                         fx,
                         201,
                         "waiting for the declared primary %s to found the data",
                         core->state.declaration.primary);
        return;
    }
    if (d->status->pg.data == PG_DATA_DAMAGED || d->status->pg.data == PG_DATA_UNKNOWN) {
        governor_explain(core, fx, 202, "%s cannot read its data directory", d->member->address);
        return;
    }
    if (d->status->pg.data == PG_DATA_EMPTY && is_holder_away(core, list, n)) {
        governor_explain(core, fx, 203, "the first holder may have data, and is not here");
        return;
    }
    for (size_t i = 0; i < n && d->status->pg.data == PG_DATA_EMPTY; i++) {
        if (list[i].is_fresh && list[i].member->kind == MEMBER_DATABASE &&
            list[i].status->pg.data != PG_DATA_EMPTY &&
            list[i].status->pg.data != PG_DATA_UNKNOWN) {
            governor_explain(
                core,
                fx,
                203,
                "%s has data, the declared primary %s has none: declare %s, or empty it",
                list[i].member->address,
                d->member->address,
                list[i].member->address);
            return;
        }
    }
    appoint(core, fx, d, "the first reign: the declared primary");
}

/* The first holder gave its reign back before its data were on record: nobody streams them,
 * so no other rule finds a candidate. */
static bool
is_nothing_opened(const struct core *core)
{
    return core->state.sysid == 0 && core->state.is_vacant && !core->state.is_paused;
}

/* ---- planned switchover ---- */

static void
hand_over(struct core *core, struct effect_list *fx, uint64_t to, const char *address)
{
    struct command c = {.type = COMMAND_HANDOVER};

    c.handover.reign = core->state.reign;
    c.handover.to = to;
    if (effect_propose(core, fx, &c)) {
        governor_explain(core,
                         fx,
                         to != 0 ? 221 : 222,
                         "%s %s",
                         to != 0 ? "handing over to" : "the handover is called off; declared is",
                         address);
    }
}

static bool
is_close(const struct core *core, const struct candidate *holder, const struct candidate *c)
{
    const uint64_t max_lag =
        core->state.declaration.max_lag != 0 ? core->state.declaration.max_lag : 16U << 20;

    return c->status->pg.is_streaming && c->status->health <= HEALTH_WELL && holder->is_fresh &&
           holder->status->pg.lsn <= c->status->pg.lsn + max_lag;
}

/* Either gets all of it before it takes over: the priority counts more than a moment's lag. */
static bool
goes_first(const struct candidate *a, const struct candidate *b)
{
    if (a->status->priority != b->status->priority) {
        return a->status->priority > b->status->priority;
    }
    return candidate_has_more(&a->status->pg, &b->status->pg);
}

/* Who takes over from a holder that leaves: the declared primary, else the highest priority, else
 * who has the most WAL. */
static const struct candidate *
successor_of(const struct core *core,
             const struct candidate *list,
             size_t n,
             const struct candidate *holder)
{
    const struct candidate *best = find_declared(core, list, n);

    if (best != NULL && best->unfit == NULL && is_close(core, holder, best)) {
        return best;
    }
    best = NULL;
    for (size_t i = 0; i < n; i++) {
        if (list[i].unfit == NULL && is_close(core, holder, &list[i]) &&
            (best == NULL || goes_first(&list[i], best))) {
            best = &list[i];
        }
    }
    return best;
}

/* The holder asks to be relieved, told to end or sick: nothing is lost by it, so `declared` allows
 * it too. */
static void
relieve(struct core *core,
        struct effect_list *fx,
        const struct candidate *list,
        size_t n,
        const struct candidate *holder)
{
    const struct candidate *to = successor_of(core, list, n, holder);

    if (core->state.handover != 0 || !mono_reached(core->now, core->handover_after)) {
        return;
    }
    if (to == NULL || core->state.is_paused || !core->state.is_opened) {
        governor_explain(core,
                         fx,
                         225,
                         "%s leaves, and nobody can take over: %s",
                         holder->member->address,
                         core->state.is_paused ? "the cluster is paused"
                                               : "no standby is fit and close");
        return;
    }
    hand_over(core, fx, to->member->id, to->member->address);
}

/* The holder lives. Is it the one that is wanted? */
static void
keep_or_hand_over(struct core *core, struct effect_list *fx, const struct candidate *list, size_t n)
{
    const struct state *s = &core->state;
    const struct candidate *d = find_declared(core, list, n);
    const struct candidate *holder = find(list, n, s->holder);

    if (d == NULL || holder == NULL) {
        governor_explain(core, fx, 209, "the declared primary or the holder is no member");
        return;
    }
    if (holder->is_fresh && holder->status->is_leaving) {
        relieve(core, fx, list, n, holder);
        return;
    }
    if (s->handover != 0) {
        if (s->handover != d->member->id) {
            hand_over(core, fx, 0, d->member->address);
        }
        return;
    }
    if (d == holder) {
        governor_explain(core, fx, 200, "%s, the declared primary, reigns", d->member->address);
        return;
    }
    if (s->declaration.failover == FAILOVER_AUTO && s->generation == s->acted_generation) {
        governor_explain(
            core, fx, 205, "%s reigns; a new declaration moves it", holder->member->address);
        return;
    }
    if (!mono_reached(core->now, core->handover_after)) {
        return; /* one was called off a moment ago */
    }
    if (!s->is_opened || s->is_paused || d->unfit != NULL || !is_close(core, holder, d)) {
        governor_explain(core,
                         fx,
                         220,
                         "%s is declared, but waits: %s",
                         d->member->address,
                         s->is_paused    ? "the cluster is paused"
                         : !s->is_opened ? "the reign is not open yet"
                         : d->unfit      ? d->unfit
                                         : "it does not stream, lags, or is sick");
        return;
    }
    hand_over(core, fx, d->member->id, d->member->address);
}

/* ---- failover ---- */

/* True when every member that is here and could be chosen has let go of its upstream. */
static bool
is_frozen(const struct core *core, const struct candidate *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (list[i].unfit == NULL && !candidate_is_frozen(core, &list[i])) {
            return false;
        }
    }
    return true;
}

static bool
is_boot_grace(const struct core *core, const struct candidate *list, size_t n)
{
    unsigned n_young = 0;

    if (core->was_holder_live) {
        return false; /* it came back already, and is lost again */
    }
    for (size_t i = 0; i < n; i++) {
        n_young += list[i].is_fresh && list[i].status->uptime_ms < core->config.boot_grace_ms;
    }
    return n_young >= majority(core);
}

/* After a planned stop it is known what the successor must have: no need to freeze anybody. */
static const struct candidate *
proven_successor(const struct core *core, const struct candidate *list, size_t n)
{
    const struct state *s = &core->state;
    const struct candidate *d = find_declared(core, list, n);
    const struct candidate *to = find(list, n, s->handover);

    /* Of a reign whose timeline is not on record nobody can have the writes: a position on the
     * timeline before proves nothing. */
    if (!s->is_vacant || s->final_lsn == 0 || !s->is_opened) {
        return NULL;
    }
    if (to != NULL && to->unfit == NULL && to->status->pg.replay_lsn > s->final_lsn) {
        return to;
    }
    if (d != NULL && d->unfit == NULL && d->status->pg.replay_lsn > s->final_lsn) {
        return d;
    }
    for (size_t i = 0; s->declaration.failover == FAILOVER_AUTO && i < n; i++) {
        if (list[i].unfit == NULL && list[i].member->id != s->holder &&
            list[i].status->pg.replay_lsn > s->final_lsn) {
            return &list[i];
        }
    }
    return NULL;
}

static void
choose_declared(struct core *core,
                struct effect_list *fx,
                const struct candidate *best,
                const struct candidate *d)
{
    if (d == NULL || d->unfit != NULL) {
        governor_explain(core,
                         fx,
                         231,
                         "writes wait for the declared primary %s: %s",
                         core->state.declaration.primary,
                         d == NULL ? "it is no member" : d->unfit);
        return;
    }
    if (best != d && candidate_has_more(&best->status->pg, &d->status->pg)) {
        core->fetch_member = d->member->id;
        core->fetch_from = best->member->id;
        core->fetch_lsn = best->status->pg.lsn;
        governor_explain(core,
                         fx,
                         232,
                         "%s fetches the newest WAL from %s first",
                         d->member->address,
                         best->member->address);
        return;
    }
    appoint(core, fx, d, "the primary is gone; this one is declared");
}

static void
choose_best(struct core *core,
            struct effect_list *fx,
            const struct candidate *list,
            size_t n,
            const struct candidate *best)
{
    const struct candidate *old = find(list, n, core->state.holder);
    const uint64_t max_lag = core->state.declaration.max_lag;
    const uint64_t lag = old != NULL && old->status != NULL && old->status->pg.run == PG_RUN_UP &&
                                 old->status->pg.lsn > best->status->pg.lsn
                             ? old->status->pg.lsn - best->status->pg.lsn
                             : 0;

    if (max_lag != 0 && lag > max_lag && old->status->pg.timeline == best->status->pg.timeline) {
        governor_explain(core,
                         fx,
                         241,
                         "%s lags %llu bytes, more than HA_MAX_LAG: not appointed",
                         best->member->address,
                         (unsigned long long)lag);
        return;
    }
    appoint(core, fx, best, "the primary is gone; this one has the most WAL");
}

/* Commits were synchronous: nobody is chosen who might lack an acknowledged write. */
static void
choose_synchronous(struct core *core,
                   struct effect_list *fx,
                   const struct candidate *list,
                   size_t n,
                   const struct candidate *d)
{
    const bool is_auto = core->state.declaration.failover == FAILOVER_AUTO;
    const struct candidate *to = is_auto ? candidate_best(core, list, n) : d;
    const struct candidate *most;

    if (!governor_is_sure(core, fx, list, n, &most)) {
        return;
    }
    if (to == NULL || to->unfit != NULL) {
        governor_explain(core,
                         fx,
                         231,
                         "writes wait for %s: %s",
                         to == NULL ? "a standby" : to->member->address,
                         to == NULL ? "none is fit" : to->unfit);
        return;
    }
    if (candidate_has_more(&most->status->pg, &to->status->pg)) {
        core->fetch_member = to->member->id;
        core->fetch_from = most->member->id;
        core->fetch_lsn = most->status->pg.lsn;
        governor_explain(core,
                         fx,
                         232,
                         "%s fetches the newest WAL from %s first",
                         to->member->address,
                         most->member->address);
        return;
    }
    core->fetch_member = 0;
    if (!candidate_is_frozen(core, to)) {
        governor_explain(core, fx, 234, "the standbys let go of the old primary");
        return;
    }
    appoint(core, fx, to, "the primary is gone; this one has every acknowledged write");
}

static void
fail_over(struct core *core, struct effect_list *fx, const struct candidate *list, size_t n)
{
    const struct state *s = &core->state;
    const struct candidate *d = find_declared(core, list, n);
    const struct candidate *proven = proven_successor(core, list, n);
    const struct candidate *to = find(list, n, s->handover);
    const struct candidate *best;

    if (proven != NULL) {
        appoint(core, fx, proven, s->handover != 0 ? "handover" : "the primary stopped by plan");
        return;
    }
    if (s->is_vacant && s->final_lsn != 0 &&
        mono_sub(core->now, core->vacant_seen_at) < PROOF_PATIENCE_MS) {
        governor_explain(core,
                         fx,
                         223,
                         "waiting to see the last record on a successor%s%s",
                         to == NULL ? "" : ": ",
                         to == NULL          ? ""
                         : to->unfit != NULL ? to->unfit
                                             : to->member->address);
        return;
    }
    if (s->declaration.failover == FAILOVER_DECLARED && !s->is_vacant && d != NULL &&
        d->member->id == s->holder) {
        thaw(core);
        governor_explain(
            core, fx, 230, "writes wait for %s, or for another declaration", d->member->address);
        return;
    }
    if (s->declaration.failover == FAILOVER_AUTO && !s->is_vacant && is_boot_grace(core, list, n)) {
        governor_explain(core, fx, 240, "the last primary gets a while to come back");
        return;
    }
    if (core->freeze_reign != s->reign) {
        core->freeze_reign = s->reign;
        core->freeze_at = core->now;
    }
    best = candidate_best(core, list, n);
    if (best == NULL) {
        governor_explain(core, fx, 233, "nobody can take over: no standby is fit");
        return;
    }
    if (!is_frozen(core, list, n) && mono_sub(core->now, core->freeze_at) < FREEZE_PATIENCE_MS &&
        core->fetch_member == 0) {
        governor_explain(core, fx, 234, "the standbys let go of the old primary");
        return;
    }
    if (s->sync_count != 0) {
        choose_synchronous(core, fx, list, n, d);
    } else if (s->declaration.failover == FAILOVER_DECLARED) {
        choose_declared(core, fx, best, d);
    } else {
        choose_best(core, fx, list, n, best);
    }
}

/* ---- Raft's own leader ---- */

static bool
is_member(const struct core *core, uint64_t id)
{
    const struct member *m = state_member(&core->state, id);

    return m != NULL && member_is_current(m);
}

/* Losing the primary should cost no election, nor should the end of an agent. One that was removed
 * cannot take itself out of Raft: another must lead for that. */
static void
move_leadership(struct core *core, struct effect_list *fx)
{
    const bool is_removed = !is_member(core, core->durable.id);
    const bool is_due = core_is_holder(core) || core->is_stopping;
    struct effect *e;

    if (!(is_removed || (is_due && majority(core) >= 2)) || core->raft.is_changing ||
        mono_sub(core->now, core->transfer_at) < TRANSFER_EVERY_MS ||
        mono_sub(core->now, core->leader_since) < STATUS_FRESH_MS) {
        return;
    }
    for (uint32_t i = 0; i < core->raft.n_servers; i++) {
        const uint64_t id = core->raft.servers[i].id;
        const struct peer_view *p = core_peer(core, id);

        if (id != core->durable.id && core->raft.servers[i].is_voter && is_member(core, id) &&
            peer_is_fresh(core, p) && p->status.id == id &&
            p->status.raft_applied >= core->state_index) {
            core->transfer_at = core->now;
            e = effect_push(fx, EFFECT_RAFT_TRANSFER);
            e->raft_server.id = id;
            (void)snprintf(e->raft_server.address, HA_ADDRESS_MAX, "%s", p->address);
            return;
        }
    }
}

static void
found_cluster(struct core *core, struct effect_list *fx)
{
    struct command c = {.type = COMMAND_FOUND};

    c.found.cluster_id = core->config.random;
    c.found.declaration = core->config.declaration;
    (void)effect_propose(core, fx, &c);
}

void
governor_step(struct core *core, struct effect_list *fx)
{
    struct candidate list[HA_MEMBER_SLOTS];
    size_t n;

    if (!core->raft.is_ready || !mono_reached(core->now, core->tilt_until) ||
        core->durable.is_recovering) {
        thaw(core);
        core->governor_rule = 0;
        return;
    }
    if (core->state.cluster_id == 0) {
        found_cluster(core, fx);
        return;
    }
    move_leadership(core, fx);
    if (!is_member(core, core->durable.id)) {
        thaw(core);
        governor_explain(core, fx, 262, "leads Raft and is no member any more: another must lead");
        return;
    }
    governor_members(core, fx);
    rebuild_expire(core, fx);
    n = candidates_list(core, list);
    if (core->state.reign == 0 || is_nothing_opened(core)) {
        appoint_first(core, fx, list, n);
        return;
    }
    if (!core->state.is_vacant && !is_lapsed(core, list, n)) {
        thaw(core);
        keep_or_hand_over(core, fx, list, n);
        return;
    }
    if (core->state.is_paused) {
        thaw(core);
        governor_explain(core, fx, 210, "the cluster is paused: nobody is appointed");
        return;
    }
    fail_over(core, fx, list, n);
}
