/*
 * governor_scenes.h - one condition of the governor each, as a change to the healthy picture.
 *
 * n2 leads Raft, n1 reigns and is declared, n3 streams, w is a witness (core_scenes.h).
 */
#ifndef HA_TESTS_UNIT_GOVERNOR_SCENES_H
#define HA_TESTS_UNIT_GOVERNOR_SCENES_H

#include "agent/core/core_internal.h"
#include "tests/unit/core_scenes.h"

enum { N1 = 0, N2, N3, W };

static inline struct status *
status_of(struct core *core, unsigned i)
{
    return i == N2 ? &core->status : &scene_peer(core, i)->status;
}

static inline void
silence(struct core *core, unsigned i)
{
    scene_peer(core, i)->heard_at = mono_ms(core->now.ms - STATUS_FRESH_MS - 1);
}

static inline void
declare(struct core *core, unsigned i)
{
    SCENE_TEXT(core->state.declaration.primary, SCENE_IPS[i]);
    core->state.generation++; /* newer than what was acted upon */
}

static inline void
policy(struct core *core, uint8_t failover)
{
    core->state.declaration.failover = failover;
}

/* ---- nothing to decide ---- */

static inline void
all_is_well(struct core *core)
{
    (void)core;
}

static inline void
not_the_leader(struct core *core)
{
    core->raft.is_ready = false;
}

static inline void
just_woken(struct core *core)
{
    core->tilt_until = mono_ms(core->now.ms + 1);
}

static inline void
no_cluster_yet(struct core *core)
{
    state_init(&core->state);
    core->config.random = 7;
}

/* ---- the first reign ---- */

static inline void
first(struct core *core)
{
    struct state *s = &core->state;

    s->reign = s->holder = s->sysid = s->opened_reign = 0;
    s->is_opened = false;
    s->timeline = 0;
    s->n_history = 0;
    for (unsigned i = N1; i <= N3; i++) {
        status_of(core, i)->pg =
            (struct pg_facts){.run = PG_RUN_STOPPED, .data = PG_DATA_EMPTY, .version = 15};
    }
}

static inline void
first_declared_is_away(struct core *core)
{
    first(core);
    silence(core, N1);
}

static inline void
first_declared_has_not_looked_yet(struct core *core)
{
    first(core);
    status_of(core, N1)->pg.run = PG_RUN_UNKNOWN;
}

static inline void
first_declared_is_damaged(struct core *core)
{
    first(core);
    status_of(core, N1)->pg.data = PG_DATA_DAMAGED;
}

static inline void
first_declared_data_are_unknown(struct core *core)
{
    first(core);
    status_of(core, N1)->pg.data = PG_DATA_UNKNOWN;
}

static inline void
first_another_has_data(struct core *core)
{
    first(core);
    status_of(core, N3)->pg.data = PG_DATA_PRIMARY;
}

static inline void
first_another_has_data_that_nobody_can_read(struct core *core)
{
    first(core);
    status_of(core, N3)->pg.data = PG_DATA_DAMAGED;
}

static inline void
first_declared_has_the_data(struct core *core)
{
    first_another_has_data(core);
    status_of(core, N1)->pg.data = PG_DATA_PRIMARY;
}

/* Reign 1 was n3's and was given back unopened: what n3 has nobody knows. */
static inline void
first_given_back(struct core *core)
{
    first(core);
    core->state.reign = 1;
    core->state.holder = core->state.members[N3].id;
    core->state.is_vacant = true;
}

static inline void
first_given_back_by_one_that_is_away(struct core *core)
{
    first_given_back(core);
    silence(core, N3);
}

/* ---- the holder lives ---- */

static inline void
another_by_failover(struct core *core)
{
    declare(core, N3);
    core->state.acted_generation = core->state.generation;
}

static inline void
declared_is_no_member(struct core *core)
{
    SCENE_TEXT(core->state.declaration.primary, "10.0.0.77");
}

static inline void
holder_is_no_member(struct core *core)
{
    core->state.holder = 4711;
    core->status.lapsed_reign = 0;
}

static inline void
n3_is_declared(struct core *core)
{
    declare(core, N3);
}

static inline void
n3_is_declared_under_declared(struct core *core)
{
    another_by_failover(core);
    policy(core, FAILOVER_DECLARED);
}

static inline void
n3_is_declared_and_paused(struct core *core)
{
    declare(core, N3);
    core->state.is_paused = true;
}

static inline void
n3_is_declared_reign_not_open(struct core *core)
{
    declare(core, N3);
    core->state.is_opened = false;
}

static inline void
n3_is_declared_and_away(struct core *core)
{
    declare(core, N3);
    silence(core, N3);
}

static inline void
n3_is_declared_and_not_streaming(struct core *core)
{
    declare(core, N3);
    status_of(core, N3)->pg.is_streaming = false;
}

static inline void
n3_is_declared_and_lags(struct core *core)
{
    declare(core, N3);
    status_of(core, N3)->pg.lsn = status_of(core, N1)->pg.lsn - core->state.declaration.max_lag - 1;
}

static inline void
n3_is_declared_and_lags_just_enough(struct core *core)
{
    n3_is_declared_and_lags(core);
    status_of(core, N3)->pg.lsn++;
}

static inline void
n3_is_declared_and_sick(struct core *core)
{
    declare(core, N3);
    status_of(core, N3)->health = HEALTH_DISK_LOW;
}

static inline void
n3_is_declared_after_one_called_off(struct core *core)
{
    declare(core, N3);
    core->handover_after = mono_ms(core->now.ms + 1);
}

static inline void
handover_to_n3_goes_on(struct core *core)
{
    declare(core, N3);
    core->state.handover = core->state.members[N3].id;
}

static inline void
handover_to_n3_is_unwanted(struct core *core)
{
    core->state.handover = core->state.members[N3].id;
}

static inline void
holder_leaves(struct core *core)
{
    status_of(core, N1)->is_leaving = true;
}

static inline void
holder_leaves_and_n3_is_declared(struct core *core)
{
    declare(core, N3);
    holder_leaves(core);
}

static inline void
holder_leaves_and_is_paused(struct core *core)
{
    holder_leaves(core);
    core->state.is_paused = true;
}

static inline void
holder_leaves_and_nobody_streams(struct core *core)
{
    holder_leaves(core);
    status_of(core, N2)->pg.is_streaming = status_of(core, N3)->pg.is_streaming = false;
}

static inline void
holder_leaves_before_its_reign_is_open(struct core *core)
{
    holder_leaves(core);
    core->state.is_opened = false;
}

/* A word of long ago that it leaves is none. */
static inline void
holder_left_long_ago(struct core *core)
{
    holder_leaves(core);
    silence(core, N1);
}

/* ---- the holder is gone ---- */

static inline void
lost(struct core *core)
{
    silence(core, N1);
    for (unsigned i = N2; i <= W; i++) {
        status_of(core, i)->lapsed_reign = core->state.reign;
    }
    for (unsigned i = N2; i <= N3; i++) {
        status_of(core, i)->frozen_reign = core->state.reign;
        status_of(core, i)->pg.is_streaming = false;
        status_of(core, i)->pg.upstream[0] = 0;
    }
}

/* Two of four members say so: no majority. */
static inline void
lost_to_half(struct core *core)
{
    lost(core);
    status_of(core, W)->lapsed_reign = 0;
}

static inline void
lost_by_the_word_of_one_that_is_away(struct core *core)
{
    lost(core);
    silence(core, W);
}

/* Out of the leader's sight, while nobody says that its promise is over. */
static inline void
out_of_sight(struct core *core)
{
    silence(core, N1);
}

static inline void
lost_and_paused(struct core *core)
{
    lost(core);
    core->state.is_paused = true;
}

static inline void
lost_under_declared(struct core *core)
{
    lost(core);
    policy(core, FAILOVER_DECLARED);
}

static inline void
lost_and_n3_is_declared(struct core *core)
{
    lost_under_declared(core);
    declare(core, N3);
}

static inline void
lost_and_n3_is_declared_and_away(struct core *core)
{
    lost_and_n3_is_declared(core);
    silence(core, N3);
    status_of(core, N1)->lapsed_reign = core->state.reign; /* n1's agent lives, its server not */
    scene_peer(core, N1)->heard_at = core->now;
    status_of(core, N1)->pg.run = PG_RUN_STOPPED;
}

static inline void
lost_and_nobody_is_a_member_by_that_name(struct core *core)
{
    lost_under_declared(core);
    declared_is_no_member(core);
}

static inline void
lost_and_n3_has_as_much(struct core *core)
{
    lost_and_n3_is_declared(core);
    status_of(core, N3)->pg.lsn = status_of(core, N2)->pg.lsn;
}

/* While it fetches it follows again, hence is not frozen; nobody waits for that. */
static inline void
lost_and_n3_is_fetching(struct core *core)
{
    lost_and_n3_is_declared(core);
    status_of(core, N3)->frozen_reign = 0;
    core->freeze_reign = core->state.reign;
    core->freeze_at = core->now;
    core->fetch_member = core->state.members[N3].id;
    core->fetch_from = core->state.members[N2].id;
    core->fetch_lsn = status_of(core, N2)->pg.lsn;
}

static inline void
lost_and_no_standby_is_fit(struct core *core)
{
    lost(core);
    status_of(core, N2)->pg.run = PG_RUN_STOPPED;
    status_of(core, N3)->pg.timeline = 1;
}

static inline void
lost_and_one_holds_on(struct core *core)
{
    lost(core);
    status_of(core, N3)->frozen_reign = 0;
}

static inline void
lost_and_one_held_on_too_long(struct core *core)
{
    lost_and_one_holds_on(core);
    core->freeze_reign = core->state.reign;
    core->freeze_at = mono_ms(core->now.ms - 5000);
}

static inline void
lost_at_the_start_of_all(struct core *core)
{
    lost(core);
    core->config.boot_grace_ms = 15000;
    for (unsigned i = N2; i <= W; i++) {
        status_of(core, i)->uptime_ms = 14999;
    }
}

static inline void
lost_after_the_grace(struct core *core)
{
    lost_at_the_start_of_all(core);
    for (unsigned i = N2; i <= W; i++) {
        status_of(core, i)->uptime_ms = 15000;
    }
}

static inline void
lost_again_after_the_start_of_all(struct core *core)
{
    lost_at_the_start_of_all(core);
    core->was_holder_live = true;
}

static inline void
lost_and_best_lags(struct core *core)
{
    lost(core);
    status_of(core, N1)->pg.lsn = status_of(core, N2)->pg.lsn + core->state.declaration.max_lag + 1;
}

static inline void
lost_and_best_lags_just_enough(struct core *core)
{
    lost_and_best_lags(core);
    status_of(core, N1)->pg.lsn--;
}

static inline void
lost_and_any_lag_is_allowed(struct core *core)
{
    lost_and_best_lags(core);
    core->state.declaration.max_lag = 0;
}

/* ---- who is chosen ---- */

static inline void
n3_has_more(struct core *core)
{
    lost(core);
    status_of(core, N3)->pg.lsn = status_of(core, N2)->pg.lsn + 1;
}

static inline void
a_tie(struct core *core)
{
    lost(core);
    status_of(core, N3)->pg.lsn = status_of(core, N2)->pg.lsn;
}

static inline void
a_tie_with_the_declared(struct core *core)
{
    a_tie(core);
    declare(core, N3);
}

static inline void
best_is_tagged(struct core *core)
{
    lost(core);
    status_of(core, N2)->is_nofailover = true;
}

static inline void
best_is_leaving(struct core *core)
{
    lost(core);
    status_of(core, N2)->is_leaving = true;
}

static inline void
best_is_hung(struct core *core)
{
    lost(core);
    status_of(core, N2)->health = HEALTH_HUNG;
}

static inline void
best_is_no_standby(struct core *core)
{
    lost(core);
    status_of(core, N2)->pg.is_in_recovery = false;
}

static inline void
best_is_anothers(struct core *core)
{
    lost(core);
    status_of(core, N2)->pg.sysid++;
}

static inline void
best_is_away(struct core *core)
{
    lost(core);
    core->status_at = mono_ms(0); /* n2 has not even looked at itself */
}

/* A late word of the member that was there before this directory. */
static inline void
best_speaks_under_an_old_id(struct core *core)
{
    n3_has_more(core);
    status_of(core, N3)->id++;
}

/* ---- after a planned stop ---- */

static inline void
stopped_by_plan(struct core *core)
{
    struct state *s = &core->state;

    s->is_vacant = true;
    s->final_lsn = 0x5000100;
    core->vacant_seen_at = core->now;
    status_of(core, N1)->pg.run = PG_RUN_STOPPED;
}

static inline void
stopped_and_n3_was_to_follow(struct core *core)
{
    stopped_by_plan(core);
    core->state.handover = core->state.members[N3].id;
    status_of(core, N2)->pg.replay_lsn = 0x5000200; /* it too, but nobody asked for it */
}

static inline void
stopped_and_n3_has_it_all(struct core *core)
{
    stopped_and_n3_was_to_follow(core);
    status_of(core, N3)->pg.replay_lsn = 0x5000101;
}

/* The shutdown record begins at final_lsn: who is there does not have it yet. */
static inline void
stopped_and_n3_lacks_the_last_record(struct core *core)
{
    stopped_and_n3_was_to_follow(core);
    policy(core, FAILOVER_DECLARED);
    status_of(core, N3)->pg.replay_lsn = 0x5000100;
}

static inline void
stopped_and_n3_is_away(struct core *core)
{
    stopped_and_n3_lacks_the_last_record(core);
    silence(core, N3);
}

static inline void
stopped_and_the_declared_has_it_all(struct core *core)
{
    stopped_by_plan(core);
    declare(core, N3);
    policy(core, FAILOVER_DECLARED);
    status_of(core, N3)->pg.replay_lsn = 0x5000101;
}

static inline void
stopped_and_somebody_has_it_all(struct core *core)
{
    stopped_by_plan(core);
    status_of(core, N3)->pg.replay_lsn = 0x5000101;
}

static inline void
stopped_and_somebody_has_it_all_under_declared(struct core *core)
{
    stopped_and_somebody_has_it_all(core);
    policy(core, FAILOVER_DECLARED);
}

/* What a vacated reign that nobody opened says proves nothing about who has which writes. */
static inline void
stopped_before_it_was_open(struct core *core)
{
    stopped_and_n3_has_it_all(core);
    core->state.is_opened = false;
}

static inline void
stopped_and_nobody_has_shown_it(struct core *core)
{
    stopped_by_plan(core);
    core->vacant_seen_at = mono_ms(core->now.ms - 1000);
    lost(core);
}

/* ---- a lost disk ---- */

static inline void
n3_comes_empty(struct core *core)
{
    struct peer_view *p = scene_peer(core, N3);

    for (unsigned i = 0; i < 4; i++) {
        core->state.members[i].nonce = 100 + i;
    }
    p->has_probed = true;
    p->probed_at = core->now;
    p->probe.nonce = 999;
}

static inline void
n3_comes_empty_during_a_change(struct core *core)
{
    n3_comes_empty(core);
    core->state.members_generation++;
}

static inline void
n3_came_empty_a_while_ago(struct core *core)
{
    n3_comes_empty(core);
    scene_peer(core, N3)->probed_at = mono_ms(core->now.ms - 1001);
}

static inline void
n3_asks_with_its_own_directory(struct core *core)
{
    n3_comes_empty(core);
    scene_peer(core, N3)->probe.nonce = core->state.members[N3].nonce;
}

static inline void
n3_rebuilds(struct core *core)
{
    core->state.members[N3].rebuild = core->state.reign;
    core->state.members[N3].rebuild_rung = REBUILD_COPY;
    core->leader_since = mono_ms(core->now.ms - 60000);
}

static inline void
n3_rebuilds_and_is_silent(struct core *core)
{
    n3_rebuilds(core);
    scene_peer(core, N3)->heard_at = mono_ms(core->now.ms - 30000);
}

static inline void
n3_rebuilds_and_is_silent_for_a_moment(struct core *core)
{
    n3_rebuilds(core);
    scene_peer(core, N3)->heard_at = mono_ms(core->now.ms - 29999);
}

static inline void
n3_rebuilds_and_the_leader_is_new(struct core *core)
{
    n3_rebuilds_and_is_silent(core);
    core->leader_since = mono_ms(core->now.ms - 29999);
}

/* ---- synchronous commits: one of n2 and n3 has each acknowledged write ---- */

static inline void
lost_and_both_of_the_set_are_here(struct core *core)
{
    lost(core);
    core->state.sync_set = 1U << N2 | 1U << N3;
    core->state.sync_count = 1;
}

static inline void
lost_and_one_of_the_set_is_away(struct core *core)
{
    lost_and_both_of_the_set_are_here(core);
    silence(core, N3);
    status_of(core, N1)->lapsed_reign = core->state.reign; /* n1's agent lives, its server not */
    scene_peer(core, N1)->heard_at = core->now;
    status_of(core, N1)->pg.run = PG_RUN_STOPPED;
}

/* ---- members ---- */

/* All the others have a voice in Raft. */
static inline void
n4_is_declared_and_asks(struct core *core)
{
    struct declaration *d = &core->state.declaration;
    struct peer_view *p = core_peer_at(core, "10.0.0.4");

    for (core->raft.n_servers = 0; core->raft.n_servers < 4; core->raft.n_servers++) {
        core->raft.servers[core->raft.n_servers].id = core->state.members[core->raft.n_servers].id;
        core->raft.servers[core->raft.n_servers].is_voter = true;
    }
    SCENE_TEXT(d->members[d->n_members++].address, "10.0.0.4");
    p->has_probed = true;
    p->probed_at = core->now;
}

static inline void
n4_is_declared_and_away(struct core *core)
{
    n4_is_declared_and_asks(core);
    core_peer_at(core, "10.0.0.4")->has_probed = false;
}

static inline void
w_is_no_longer_declared(struct core *core)
{
    core->state.declaration.n_members--; /* the last one */
}

static inline void
the_leader_was_removed(struct core *core)
{
    core->state.members[N2].left = core->state.members_generation = 2;
}

#endif
