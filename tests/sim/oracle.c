/*
 * What must hold, looked at with true time: S1, reigns, the log, the disk before the word, the
 * wipe interlock, and in the end one primary that all follow.
 */
#include <stdio.h>
#include <string.h>

#include "tests/sim/sim.h"

/* ---- Raft ---- */

static uint64_t
hash(const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < len; i++) {
        h = (h ^ at[i]) * 0x100000001b3u;
    }
    return h | 1;
}

void
oracle_on_apply(struct sim_node *n, uint64_t index, const void *bytes, size_t len)
{
    struct sim *sim = n->sim;
    const uint64_t h = hash(bytes, len);

    REQUIRE(index < SIM_INDEX_MAX, "the table of entries is large enough");
    if (sim->entry_at[index] != 0 && sim->entry_at[index] != h) {
        sim_violation(sim,
                      n,
                      "applies another command at %llu than was applied there before",
                      (unsigned long long)index);
    }
    sim->entry_at[index] = h;
}

void
oracle_on_view(struct sim_node *n, const struct raft_view *view)
{
    struct sim *sim = n->sim;
    const uint64_t id = n->core.durable.id;

    if (view->role != RAFT_ROLE_LEADER) {
        return;
    }
    REQUIRE(view->term < SIM_TERMS_MAX, "the table of terms is large enough");
    if (sim->leader_of[view->term] != 0 && sim->leader_of[view->term] != id) {
        sim_violation(sim, n, "term %llu has two leaders", (unsigned long long)view->term);
    }
    if (sim->leader_of[view->term] == 0) {
        sim_trace(sim, n, "leads Raft in term %llu", (unsigned long long)view->term);
    }
    sim->leader_of[view->term] = id;
}

void
oracle_on_state(struct sim_node *n, const struct state *state)
{
    struct sim *sim = n->sim;

    REQUIRE(state->reign < SIM_REIGNS_MAX, "the table of reigns is large enough");
    if (state->reign < n->max_reign) {
        sim_violation(sim,
                      n,
                      "reign %llu after reign %llu",
                      (unsigned long long)state->reign,
                      (unsigned long long)n->max_reign);
    }
    n->max_reign = state->reign;
    if (state->reign == 0) {
        return;
    }
    if (sim->holder_of[state->reign] != 0 && sim->holder_of[state->reign] != state->holder) {
        sim_violation(sim, n, "reign %llu has two holders", (unsigned long long)state->reign);
    }
    if (sim->holder_of[state->reign] == 0) {
        sim->sync_count_of[state->reign] = state->sync_count;
    }
    sim->holder_of[state->reign] = state->holder;
    oracle_on_record(n, state);
}

/* ---- the disk before the word ---- */

void
oracle_on_load(struct sim_node *n, const struct durable *d)
{
    const struct durable *s = &n->saved;
    const bool has_forgotten = d->id == 0 && d->cluster_id != 0; /* it was removed */

    if (n->has_saved &&
        (d->promised_reign < s->promised_reign || d->promised_ms < s->promised_ms ||
         d->opened_reign < s->opened_reign || (d->nonce != s->nonce && !has_forgotten) ||
         d->released_reign < s->released_reign || d->boots < s->boots)) {
        sim_violation(n->sim, n, "the disk forgot what durable_save() said was safe");
    }
}

static void
check_send(struct sim_node *n, const struct message *m)
{
    const struct durable *disk = &n->saved;

    if (m->type == MESSAGE_LEASE_GRANT && (disk->promised_reign != m->lease_grant.reign ||
                                           disk->promised_holder != m->lease_grant.holder)) {
        sim_violation(n->sim,
                      n,
                      "grants reign %llu before its disk names it",
                      (unsigned long long)m->lease_grant.reign);
    }
    if (m->type != MESSAGE_RELEASE) {
        return;
    }
    if (disk->released_reign < m->release.reign) {
        sim_violation(n->sim, n, "releases a reign before its disk says so");
    }
    if (n->pg.run != PG_RUN_STOPPED && n->pg.data == PG_DATA_PRIMARY) {
        sim_violation(n->sim, n, "INV-5: releases while PostgreSQL runs");
    }
}

/* The wipe interlock: another's reign was seen open, and its primary has served. */
static void
check_clone(struct sim_node *n, const char *from)
{
    struct sim *sim = n->sim;
    const struct state *s = &n->core.state;
    const struct member *holder = state_member(s, s->holder);

    if (n->pg.data == PG_DATA_EMPTY) {
        return;
    }
    if (!s->is_opened || s->is_vacant || holder == NULL || strcmp(holder->address, from) != 0 ||
        s->holder == n->core.durable.id || s->reign >= SIM_REIGNS_MAX ||
        !sim->has_served[s->reign] || n->pg.run != PG_RUN_STOPPED || n->pg.sysid != s->sysid) {
        sim_violation(sim, n, "data are copied over without the conditions of the interlock");
    }
}

static void
check_pg(struct sim_node *n, const struct effect *e)
{
    const int64_t now = sim_local_ms(n);

    if (e->pg.op == PG_OP_CLONE) {
        check_clone(n, e->pg.from);
    }
    if (e->pg.op == PG_OP_FOLLOW || e->pg.op == PG_OP_START_STANDBY) {
        oracle_check_follow(n, e->pg.from);
    }
    if ((e->pg.op == PG_OP_START_PRIMARY || e->pg.op == PG_OP_PROMOTE) &&
        (n->pg.page_deadline_ms <= now || n->pg.page_reign != n->core.state.reign)) {
        sim_violation(n->sim, n, "INV-1: a primary is made without a lease in hand");
    }
    if (e->pg.op == PG_OP_INITDB && n->core.state.sysid != 0) {
        sim_violation(n->sim, n, "initdb in a cluster that has data");
    }
}

void
oracle_on_effect(struct sim_node *n, const struct effect *e)
{
    if (e->type == EFFECT_SEND) {
        check_send(n, &e->send.message);
    } else if (e->type == EFFECT_LEASE && e->lease.deadline.ms != 0) {
        if (n->saved.opened_reign != e->lease.reign) {
            sim_violation(n->sim, n, "a lease counts before its opening is on disk");
        }
    } else if (e->type == EFFECT_PG) {
        check_pg(n, e);
    } else if (e->type == EFFECT_EXIT && e->exit.status != 0 && !n->is_disk_hurt) {
        sim_violation(n->sim, n, "ends itself: %s", e->exit.why);
    }
}

/* ---- S1 ---- */

/* In true time acknowledgements only ever move on to a newer reign, and a reign has one node. */
static bool
is_ack_out_of_turn(const struct sim *sim, const struct sim_node *n, uint64_t reign)
{
    if (reign == sim->acked_reign) {
        return sim->acked_node != n->self;
    }
    /* A pause that no clock shows is survived by what was synchronous before. */
    return reign < sim->acked_reign &&
           (!sim->has_hidden_pauses || sim->sync_count_of[sim->acked_reign] != 0);
}

void
oracle_on_ack(struct sim_node *n, uint64_t lsn)
{
    struct sim *sim = n->sim;
    const uint64_t reign = n->pg.page_reign;

    sim->n_acks++;
    if (is_ack_out_of_turn(sim, n, reign)) {
        sim_violation(sim,
                      n,
                      "S1: a write is acknowledged under reign %llu after node%u did under %llu",
                      (unsigned long long)reign,
                      sim->acked_node + 1U,
                      (unsigned long long)sim->acked_reign);
    }
    REQUIRE(reign < SIM_REIGNS_MAX, "the table of reigns is large enough");
    sim->acked_reign = reign;
    sim->acked_node = n->self;
    sim->last_ack[reign].branch = n->pg.branch;
    sim->last_ack[reign].lsn = lsn;
    if (sim->record.sync_count != 0) {
        sim->sync_ack.branch = n->pg.branch;
        sim->sync_ack.lsn = lsn;
        sim->n_sync_acks++;
        oracle_check_known(n);
    }
}

/* INV-9: who is chosen where commits were synchronous has every one that was acknowledged. A node
 * that was frozen in the middle of its promotion ends it under a reign that is over; that it
 * acknowledges nothing then, S1 watches. */
static void
check_synchronous(struct sim_node *n, const struct state *s)
{
    const struct sim *sim = n->sim;

    if (sim->acked_reign <= s->reign && sim->sync_count_of[s->reign] != 0 &&
        sim->sync_ack.lsn != 0 &&
        !postgres_is_prefix(
            sim, n->pg.branch, n->pg.lsn, sim->sync_ack.branch, sim->sync_ack.lsn)) {
        sim_violation(n->sim, n, "INV-9: is promoted without a write that was acknowledged");
    }
}

/* A successor by plan has every write that was acknowledged before. */
void
oracle_on_promoted(struct sim_node *n)
{
    struct sim *sim = n->sim;
    const struct state *s = &n->core.state;
    const struct reign_row *row = state_reign(s, s->reign);
    const uint64_t before = s->reign - 1;

    if (!n->is_on || row == NULL || s->reign == 0 || s->holder != n->core.durable.id) {
        return;
    }
    sim_trace(sim, n, "is promoted to timeline %u", sim->branches[n->pg.branch].timeline);
    check_synchronous(n, s);
    if ((strcmp(row->why, "handover") == 0 ||
         strcmp(row->why, "the primary stopped by plan") == 0) &&
        sim->last_ack[before].lsn != 0 &&
        !postgres_is_prefix(sim,
                            n->pg.branch,
                            n->pg.lsn,
                            sim->last_ack[before].branch,
                            sim->last_ack[before].lsn)) {
        sim_violation(sim, n, "a planned switchover lost acknowledged writes");
    }
}

/* INV-1: an agent that runs ends a primary whose lease ran out. */
static void
check_bare(struct sim *sim, struct sim_node *n)
{
    const bool is_bare = n->pg.run == PG_RUN_UP && !n->pg.is_in_recovery && n->is_on &&
                         n->agent_frozen_until <= sim->now && n->node_frozen_until <= sim->now &&
                         !postgres_is_live(n);

    if (!is_bare) {
        n->bare_since = 0;
    } else if (n->bare_since == 0) {
        n->bare_since = sim->now;
    } else if (sim->now - n->bare_since > 1000 * SIM_MS) {
        sim_violation(sim, n, "INV-1: a primary without a lease goes on for a second");
    }
}

void
oracle_after_event(struct sim *sim)
{
    int live = -1;

    for (unsigned i = 0; i < sim->n; i++) {
        check_bare(sim, &sim->nodes[i]);
        if (!postgres_is_live(&sim->nodes[i])) {
            continue;
        }
        if (live >= 0 && !sim->has_hidden_pauses) {
            sim_violation(sim,
                          &sim->nodes[i],
                          "S1: node%d (reign %llu) and node%u (reign %llu) could both acknowledge",
                          live + 1,
                          (unsigned long long)sim->nodes[live].pg.page_reign,
                          i + 1,
                          (unsigned long long)sim->nodes[i].pg.page_reign);
        }
        live = (int)i;
        REQUIRE(sim->nodes[i].pg.page_reign < SIM_REIGNS_MAX,
                "the table of reigns is large enough");
        sim->has_served[sim->nodes[i].pg.page_reign] = true;
    }
    if (live != sim->live_node) {
        if (live < 0) {
            sim_trace(sim, &sim->nodes[sim->live_node], "NOBODY CAN WRITE");
        } else {
            sim_trace(sim,
                      &sim->nodes[live],
                      "IS THE PRIMARY of reign %llu",
                      (unsigned long long)sim->nodes[live].pg.page_reign);
        }
        sim->live_node = live;
    }
}

/* ---- the end ---- */

/* Its commits wait for as many as the policy says, the record says the same, clients are in. */
static bool
is_synchronous_again(const struct sim_node *primary, char why[160])
{
    const struct core *core = &primary->core;
    const bool is_off = core->state.declaration.sync == SYNC_OFF;

    if (primary->pg.sync.is_closed || core->sync.is_closed ||
        core->sync.phase != (is_off ? SYNC_PHASE_NONE : SYNC_PHASE_HELD)) {
        (void)snprintf(why,
                       160,
                       "node%u's commits: phase %u, %u of %u stream, record %u of %llx",
                       primary->self + 1,
                       core->sync.phase,
                       core->sync.n_streaming,
                       core->sync.told.count,
                       core->state.sync_count,
                       (unsigned long long)core->state.sync_set);
        return false;
    }
    return true;
}

/* And nothing of a change is left. */
static bool
are_members_declared(const struct state *s)
{
    unsigned n = 0;

    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        if (member_is_current(&s->members[i])) {
            n += declaration_lists(&s->declaration, s->members[i].address);
        }
    }
    return n == s->declaration.n_members && s->settled_generation == s->members_generation;
}

int
oracle_healthy(struct sim *sim, char why[160])
{
    const int p = sim->live_node;

    if (p < 0 || !sim->nodes[p].is_on || !sim->nodes[p].core.state.is_opened ||
        sim->nodes[p].core.state.handover != 0) {
        (void)snprintf(why, 160, "there is no primary with an open reign");
        return -1;
    }
    if (!is_synchronous_again(&sim->nodes[p], why)) {
        return -1;
    }
    for (unsigned i = 0; i < sim->n; i++) {
        const struct sim_node *n = &sim->nodes[i];

        if (!sim->is_member[i]) {
            continue;
        }
        if (!n->is_on || core_self(&n->core) == NULL || n->core.raft.leader == 0 ||
            n->core.state.reign != sim->nodes[p].core.state.reign) {
            (void)snprintf(why, 160, "node%u is not one of them again", i + 1);
            return -1;
        }
        if (!are_members_declared(&n->core.state)) {
            (void)snprintf(why, 160, "node%u sees other members than the declared ones", i + 1);
            return -1;
        }
        if ((int)i != p && n->config.kind == MEMBER_DATABASE &&
            (!n->pg.is_streaming || strcmp(n->pg.upstream, sim->nodes[p].address) != 0 ||
             n->pg.run != PG_RUN_UP)) {
            (void)snprintf(why,
                           160,
                           "node%u does not follow node%d: %u %s",
                           i + 1,
                           p + 1,
                           n->core.rule,
                           n->core.why);
            return -1;
        }
    }
    return p;
}
