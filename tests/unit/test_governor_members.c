/*
 * Goal:   who belongs to the cluster is what is declared, one change at a time, and Raft's servers
 *         follow; what a member itself says is said once; who was removed finds that out.
 * Method: one row a condition over the healthy picture (n2 leads Raft, n1 reigns), one step.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/core/governor_members.h"
#include "store/sync.h"
#include "tests/unit/governor_scenes.h"

#define IP_NEW "10.0.0.4"

static struct core core;
static struct effect_list fx;

/* n2 leads; every member is registered and a voter. */
static void
begin(unsigned self)
{
    scene_healthy(&core, self);
    for (unsigned i = 0; i < 4; i++) {
        struct member *m = &core.state.members[i];

        m->nonce = 100 + i;
        core.raft.servers[i].id = m->id;
        core.raft.servers[i].is_voter = true;
        SCENE_TEXT(core.raft.servers[i].address, m->address);
    }
    core.raft.n_servers = 4;
    core.durable.nonce = 100 + self;
    core.durable.cluster_id = core.state.cluster_id;
    core.durable_saved = core.durable;
    core.state.members[self].declared = declaration_digest(&core.config.declaration);
    core.is_raft_started = true;
    core.led_at = core.now;
    fx.n = 0;
}

static void
declare_new(void)
{
    struct declaration *d = &core.state.declaration;

    SCENE_TEXT(d->members[d->n_members].address, IP_NEW);
    d->members[d->n_members++].kind = MEMBER_DATABASE;
    declaration_sort(d);
}

static void
undeclare(unsigned i)
{
    struct declaration *d = &core.state.declaration;
    uint8_t n = 0;

    for (uint8_t k = 0; k < d->n_members; k++) {
        if (strcmp(d->members[k].address, SCENE_IPS[i]) != 0) {
            d->members[n++] = d->members[k];
        }
    }
    d->n_members = n;
}

/* It has no id, and asks to be let in. */
static struct peer_view *
ask_in(const char *address, uint64_t nonce)
{
    struct peer_view *p = core_peer_at(&core, address);

    p->has_probed = true;
    p->probed_at = core.now;
    memset(&p->probe, 0, sizeof p->probe);
    p->probe.nonce = nonce;
    SCENE_TEXT(p->probe.name, "n4");
    return p;
}

static const struct effect *
effect_of(uint8_t type)
{
    const struct effect *found = NULL;

    for (uint32_t i = 0; i < fx.n; i++) {
        if (fx.at[i].type == type) {
            assert_null(found);
            found = &fx.at[i];
        }
    }
    return found;
}

/* The one that must be there. */
static const struct effect *
the(uint8_t type)
{
    const struct effect *e = effect_of(type);

    if (e == NULL) {
        fail();
        abort();
    }
    return e;
}

static void
assert_proposes(uint8_t type, const char *address)
{
    const struct effect *e;

    if (type == 0) {
        assert_null(effect_of(EFFECT_PROPOSE));
        return;
    }
    e = the(EFFECT_PROPOSE);
    assert_int_equal(e->propose.type, type);
    if (type == COMMAND_REGISTER) {
        assert_string_equal(e->propose.member_register.address, address);
    } else if (type != COMMAND_SETTLE && type != COMMAND_DECLARE) {
        assert_string_equal(e->propose.members.spec.address, address);
        assert_int_equal(e->propose.members.generation, core.state.members_generation);
    }
}

/* ---- members follow the declaration ---- */

static void
a_declared_member_is_added_when_it_asks_and_not_before(void **state)
{
    struct peer_view *p;

    (void)state;
    begin(N2);
    declare_new();
    governor_members(&core, &fx);
    assert_proposes(0, NULL);
    p = ask_in(IP_NEW, 77);
    governor_members(&core, &fx);
    assert_proposes(COMMAND_MEMBER_ADD, IP_NEW);
    begin(N2); /* a question of a while ago */
    declare_new();
    ask_in(IP_NEW, 77)->probed_at = mono_ms(core.now.ms - 1001);
    governor_members(&core, &fx);
    assert_proposes(0, NULL);
    begin(N2); /* one that has an id asks about itself, not to be let in */
    declare_new();
    p = ask_in(IP_NEW, 77);
    p->probe.id = 4711;
    governor_members(&core, &fx);
    assert_proposes(0, NULL);
    begin(N2); /* one that nobody declared */
    (void)ask_in(IP_NEW, 77);
    governor_members(&core, &fx);
    assert_proposes(0, NULL);
    begin(N2); /* one after the other: w has been let in, and has no voice yet */
    declare_new();
    (void)ask_in(IP_NEW, 77);
    core.raft.servers[3].is_voter = false;
    governor_members(&core, &fx);
    assert_proposes(0, NULL);
    silence(&core, W); /* asks on, for it has not heard of its id */
    core.raft.is_changing = true;
    (void)ask_in(SCENE_IPS[W], 103);
    governor_members(&core, &fx);
    assert_proposes(0, NULL);
    scene_peer(&core, W)->has_probed = false; /* gone: nobody waits for it */
    governor_members(&core, &fx);
    assert_proposes(COMMAND_MEMBER_ADD, IP_NEW);
}

static void
a_member_that_is_no_longer_declared_is_removed(void **state)
{
    (void)state;
    begin(N2);
    undeclare(N3);
    governor_members(&core, &fx);
    assert_proposes(COMMAND_MEMBER_REMOVE, SCENE_IPS[N3]);
    begin(N2); /* dead or alive */
    undeclare(N3);
    silence(&core, N3);
    governor_members(&core, &fx);
    assert_proposes(COMMAND_MEMBER_REMOVE, SCENE_IPS[N3]);
    begin(N2);
    undeclare(W);
    governor_members(&core, &fx);
    assert_proposes(COMMAND_MEMBER_REMOVE, SCENE_IPS[W]);
}

/* Else the rest could decide nothing any more: with n1 and n3 away, n2 alone is left of three. */
static void
nobody_is_removed_while_no_majority_of_the_rest_is_here(void **state)
{
    (void)state;
    begin(N2);
    undeclare(W);
    silence(&core, N1);
    silence(&core, N3);
    governor_members(&core, &fx);
    assert_proposes(0, NULL);
    scene_peer(&core, N3)->heard_at = core.now;
    scene_peer(&core, N3)->status.id++; /* it lost its disk, and is not the member any more */
    governor_members(&core, &fx);
    assert_proposes(0, NULL);
    scene_peer(&core, N3)->status.id--;
    scene_peer(&core, N3)->status.raft_applied =
        0; /* it has none of the log: Raft has it not vote */
    governor_members(&core, &fx);
    assert_proposes(0, NULL);
    scene_peer(&core, N3)->status.raft_applied = 1;
    governor_members(&core, &fx);
    assert_proposes(COMMAND_MEMBER_REMOVE, SCENE_IPS[W]);
    begin(N2); /* Raft's servers go by the same rule */
    core.state.members_generation = core.state.settled_generation = 2;
    memset(&core.state.members[N3], 0, sizeof core.state.members[N3]);
    silence(&core, N1);
    silence(&core, W);
    governor_members(&core, &fx);
    assert_null(effect_of(EFFECT_RAFT_REMOVE));
    scene_peer(&core, N1)->heard_at = core.now;
    scene_peer(&core, N1)->status.raft_applied = 0;
    governor_members(&core, &fx);
    assert_null(effect_of(EFFECT_RAFT_REMOVE));
    scene_peer(&core, N1)->status.raft_applied = 42;
    silence(&core, N1);
    begin(N2); /* two at once are none any more: each is a voice for the other's removal */
    core.state.members_generation = core.state.settled_generation = 2;
    memset(&core.state.members[N3], 0, sizeof core.state.members[N3]);
    memset(&core.state.members[W], 0, sizeof core.state.members[W]);
    silence(&core, N1);
    governor_members(&core, &fx);
    assert_string_equal(the(EFFECT_RAFT_REMOVE)->raft_server.address, SCENE_IPS[N3]);
    begin(N2);
    core.state.members_generation = core.state.settled_generation = 2;
    memset(&core.state.members[N3], 0, sizeof core.state.members[N3]);
    silence(&core, N1);
    silence(&core, W);
    governor_members(&core, &fx);
    assert_null(effect_of(EFFECT_RAFT_REMOVE));
    core.state.members[4] =
        core.state.members[N1]; /* back under a new id: its place is taken yet */
    SCENE_TEXT(core.state.members[4].address, SCENE_IPS[N3]);
    core.state.members[4].id = member_id(SCENE_IPS[N3], 2);
    governor_members(&core, &fx);
    assert_null(effect_of(EFFECT_RAFT_ADD));
    memset(&core.state.members[4], 0, sizeof core.state.members[4]);
    scene_peer(&core, W)->heard_at = core.now;
    governor_members(&core, &fx);
    assert_string_equal(the(EFFECT_RAFT_REMOVE)->raft_server.address, SCENE_IPS[N3]);
}

static void
the_last_holder_is_removed_when_another_serves(void **state)
{
    (void)state;
    begin(N2);
    undeclare(N1);
    governor_members(&core, &fx);
    assert_proposes(0, NULL);
    core.state.is_vacant = true;
    governor_members(&core, &fx);
    assert_proposes(0, NULL);
    core.state.is_vacant = false;
    core.state.holder = core.state.members[N3].id;
    status_of(&core, N3)->lease_left_ms = 1000;
    governor_members(&core, &fx);
    assert_proposes(COMMAND_MEMBER_REMOVE, SCENE_IPS[N1]);
    begin(N2); /* of a cluster without data nothing can go */
    undeclare(N1);
    core.state.is_vacant = true;
    core.state.is_opened = false;
    core.state.sysid = 0;
    governor_members(&core, &fx);
    assert_proposes(COMMAND_MEMBER_REMOVE, SCENE_IPS[N1]);
}

/* It may have the most WAL of all, and is not asked any more once it is no member. */
static void
nobody_with_data_is_removed_while_nobody_serves(void **state)
{
    (void)state;
    begin(N2);
    undeclare(N3);
    core.state.is_vacant = true;
    governor_members(&core, &fx);
    assert_proposes(0, NULL);
    core.state.is_vacant = false;
    core.state.is_opened = false;
    governor_members(&core, &fx);
    assert_proposes(0, NULL);
    core.state.is_opened = true;
    status_of(&core, N1)->lease_left_ms = 0;
    governor_members(&core, &fx);
    assert_proposes(0, NULL);
    status_of(&core, N1)->lease_left_ms = 1;
    silence(&core, N1);
    governor_members(&core, &fx);
    assert_proposes(0, NULL);
    undeclare(W); /* it has none */
    governor_members(&core, &fx);
    assert_proposes(COMMAND_MEMBER_REMOVE, SCENE_IPS[W]);
}

/* An election that misses its word could tell of no write any more that it is safe. */
static void
one_that_commits_count_on_is_taken_from_the_record_first(void **state)
{
    (void)state;
    begin(N2);
    undeclare(N3);
    core.state.sync_count = 1;
    core.state.sync_set = 1U << N2 | 1U << N3;
    governor_members(&core, &fx);
    assert_proposes(0, NULL);
    core.state.sync_set = 1U << N2;
    governor_members(&core, &fx);
    assert_proposes(COMMAND_MEMBER_REMOVE, SCENE_IPS[N3]);
    begin(N1); /* the holder wishes for declared ones alone */
    core.state.declaration.sync = SYNC_QUORUM;
    assert_int_equal(sync_wish(&core).set, 1U << N2 | 1U << N3);
    undeclare(N3);
    assert_int_equal(sync_wish(&core).set, 1U << N2);
}

static void
members_stay_while_paused_or_unsettled(void **state)
{
    (void)state;
    begin(N2);
    undeclare(N3);
    core.state.is_paused = true;
    governor_members(&core, &fx);
    assert_proposes(0, NULL);
    begin(N2);
    undeclare(N3);
    core.state.members_generation++;
    governor_members(&core, &fx);
    assert_proposes(0, NULL);
}

static void
the_governor_settles_where_nobody_reigns_and_the_holder_elsewhere(void **state)
{
    (void)state;
    begin(N2);
    core.state.members_generation++;
    governor_members(&core, &fx); /* n1 reigns: it settles itself */
    assert_proposes(0, NULL);
    core.state.is_vacant = true;
    governor_members(&core, &fx);
    assert_proposes(COMMAND_SETTLE, NULL);
    assert_int_equal(the(EFFECT_PROPOSE)->propose.settle.holder, 0);
    begin(N2); /* the reign before may live in the old set, unseen */
    core.state.members_generation++;
    core.state.is_vacant = true;
    core.state.is_opened = false;
    governor_members(&core, &fx);
    assert_proposes(0, NULL);
    begin(N2);
    core.state.members_generation++;
    core.state.reign = 0;
    governor_members(&core, &fx);
    assert_proposes(COMMAND_SETTLE, NULL);
}

static void
a_member_registers_under_the_directory_that_it_asks_with(void **state)
{
    (void)state;
    begin(N2);
    core.state.members[N3].nonce = 0;
    (void)ask_in(SCENE_IPS[N3], 77);
    governor_members(&core, &fx);
    assert_proposes(COMMAND_REGISTER, SCENE_IPS[N3]);
    assert_int_equal(the(EFFECT_PROPOSE)->propose.member_register.nonce, 77);
    begin(N2); /* one that was counted at the founding: that directory first */
    core.state.members[N3].nonce = 0;
    core.durable.n_founders = 1;
    SCENE_TEXT(core.durable.founders[0].address, SCENE_IPS[N3]);
    core.durable.founders[0].nonce = 66;
    (void)ask_in(SCENE_IPS[N3], 77);
    governor_members(&core, &fx);
    assert_int_equal(the(EFFECT_PROPOSE)->propose.member_register.nonce, 66);
    fx.n = 0; /* it was removed and let in again: another member, that never voted */
    core.is_proposing = false;
    core.state.members[N3].id = member_id(SCENE_IPS[N3], 5);
    governor_members(&core, &fx);
    assert_int_equal(the(EFFECT_PROPOSE)->propose.member_register.nonce, 77);
}

/* ---- Raft's servers follow the members ---- */

static void
raft_takes_in_who_registered_and_lets_go_of_who_left(void **state)
{
    (void)state;
    begin(N2);
    core.raft.n_servers = 3; /* w is no server yet */
    core.state.members[W].nonce = 0;
    governor_members(&core, &fx);
    assert_null(effect_of(EFFECT_RAFT_ADD));
    core.state.members[W].nonce = 103;
    scene_peer(&core, W)->status.id++; /* it is not here, but somebody else in its place */
    governor_members(&core, &fx);
    assert_null(effect_of(EFFECT_RAFT_ADD));
    scene_peer(&core, W)->status.id--;
    silence(&core, W); /* registered, and then it went */
    governor_members(&core, &fx);
    assert_null(effect_of(EFFECT_RAFT_ADD));
    scene_peer(&core, W)->heard_at = core.now;
    governor_members(&core, &fx);
    assert_int_equal(the(EFFECT_RAFT_ADD)->raft_server.id, core.state.members[W].id);
    assert_true(core.raft.is_changing);
    begin(N2); /* a spare that an earlier leader left */
    core.raft.servers[3].is_voter = false;
    governor_members(&core, &fx);
    assert_int_equal(the(EFFECT_RAFT_ADD)->raft_server.id, core.state.members[W].id);
    begin(N2); /* a replaced one: out before in, for both have one address */
    core.state.members[W].left = core.state.members_generation = 2;
    core.state.members[4] = core.state.members[W];
    core.state.members[4].left = 0;
    core.state.members[4].id = member_id(SCENE_IPS[W], 2);
    governor_members(&core, &fx);
    assert_int_equal(the(EFFECT_RAFT_REMOVE)->raft_server.id, core.state.members[W].id);
    assert_null(effect_of(EFFECT_RAFT_ADD));
    begin(N2); /* one change at a time */
    core.raft.n_servers = 3;
    core.raft.is_changing = true;
    governor_members(&core, &fx);
    assert_null(effect_of(EFFECT_RAFT_ADD));
}

/* Until it is settled a reign is opened with its word, so it must hear of that reign. */
static void
one_on_its_way_out_keeps_its_place_in_raft_and_its_id(void **state)
{
    (void)state;
    begin(N2);
    core.state.members[N3].left = core.state.members_generation = 2;
    governor_members(&core, &fx);
    assert_null(effect_of(EFFECT_RAFT_REMOVE));
    found_on_probe(&core, &fx, SCENE_IPS[N3], &(struct probe){.id = 1, .nonce = 102});
    assert_int_equal(the(EFFECT_SEND)->send.message.probe_answer.your_id,
                     core.state.members[N3].id);
    fx.n = 0;
    memset(&core.state.members[N3], 0, sizeof core.state.members[N3]);
    core.state.settled_generation = 2;
    governor_members(&core, &fx);
    assert_string_equal(the(EFFECT_RAFT_REMOVE)->raft_server.address, SCENE_IPS[N3]);
    found_on_probe(&core, &fx, SCENE_IPS[N3], &(struct probe){.id = 1, .nonce = 102});
    assert_int_equal(the(EFFECT_SEND)->send.message.probe_answer.your_id, 0);
    begin(N2); /* nor does an empty one become it: nothing newer would tell it that it is none */
    core.state.members[N3].left = core.state.members_generation = 2;
    found_on_probe(&core, &fx, SCENE_IPS[N3], &(struct probe){.nonce = 102});
    assert_int_equal(the(EFFECT_SEND)->send.message.probe_answer.your_id, 0);
    assert_int_not_equal(the(EFFECT_SEND)->send.message.probe_answer.your_nonce, 102);
}

/* What n2 answers n3 about its place in Raft. */
static bool
is_called_server(uint64_t id)
{
    fx.n = 0;
    found_on_probe(&core, &fx, SCENE_IPS[N3], &(struct probe){.id = id, .nonce = 102});
    return the(EFFECT_SEND)->send.message.probe_answer.is_server;
}

static void
only_a_committed_configuration_says_who_is_no_server(void **state)
{
    uint64_t gone;

    (void)state;
    begin(N2);
    gone = core.state.members[N3].id;
    core.raft.n_servers = 3;
    for (unsigned i = 0; i < 3; i++) {
        core.raft.servers[i].id = core.state.members[i].id;
    }
    memset(&core.state.members[N3], 0, sizeof core.state.members[N3]);
    assert_true(is_called_server(gone)); /* Raft follows the members, later */
    core.raft.n_servers = 2;
    core.raft.is_uncommitted = true;
    assert_true(is_called_server(gone)); /* a crash can still bring it back */
    core.raft.is_uncommitted = false;
    assert_false(is_called_server(gone));
    core.raft.n_servers = 0;
    assert_true(is_called_server(gone));
}

static void
a_leader_that_was_removed_hands_raft_to_a_member(void **state)
{
    const struct effect *e;

    (void)state;
    begin(N2);
    core.leader_since = mono_ms(core.now.ms - 1000);
    core.state.members[N2].left = core.state.members_generation = 2;
    governor_step(&core, &fx);
    e = the(EFFECT_RAFT_TRANSFER);
    assert_int_not_equal(e->raft_server.id, core.durable.id);
    assert_int_equal(core.governor_rule, 262);
    assert_null(effect_of(EFFECT_RAFT_REMOVE)); /* it must not decide for a cluster that it left */
    assert_null(effect_of(EFFECT_PROPOSE));
    begin(N2); /* of two, the last: a majority of the rest is one */
    core.leader_since = mono_ms(core.now.ms - 1000);
    core.state.members_generation = 2;
    for (unsigned i = N2; i <= W; i++) {
        core.state.members[i].left = 2;
    }
    governor_step(&core, &fx);
    assert_int_equal(the(EFFECT_RAFT_TRANSFER)->raft_server.id, core.state.members[N1].id);
    begin(N2); /* never to one that was removed as well, or speaks under an older id */
    core.leader_since = mono_ms(core.now.ms - 1000);
    core.state.members_generation = 2;
    core.state.members[N2].left = core.state.members[N3].left = core.state.members[W].left = 2;
    scene_peer(&core, N1)->status.id++;
    governor_step(&core, &fx);
    assert_null(effect_of(EFFECT_RAFT_TRANSFER));
}

/* ---- what a member says itself ---- */

static void
a_member_declares_what_differs_from_its_last_words_once(void **state)
{
    (void)state;
    begin(N3);
    rules_declare(&core, &fx);
    assert_proposes(0, NULL);
    core.config.declaration.lease_ms = 3000;
    rules_declare(&core, &fx);
    assert_proposes(COMMAND_DECLARE, NULL);
    assert_string_equal(the(EFFECT_PROPOSE)->propose.declare.declarer, SCENE_IPS[N3]);
    assert_int_equal(the(EFFECT_PROPOSE)->propose.declare.declaration.lease_ms, 3000);
    fx.n = 0;
    core.is_proposing = false; /* it is on record now */
    core.state.members[N3].declared = declaration_digest(&core.config.declaration);
    rules_declare(&core, &fx);
    assert_proposes(0, NULL);
}

static void
nothing_is_said_without_a_leader_a_membership_or_on_the_way_out(void **state)
{
    (void)state;
    begin(N3);
    core.config.declaration.lease_ms = 3000;
    core.raft.leader = 0;
    rules_declare(&core, &fx);
    core.raft.leader = 1;
    core.is_stopping = true;
    rules_declare(&core, &fx);
    core.is_stopping = false;
    core.durable.id++;
    rules_declare(&core, &fx);
    assert_proposes(0, NULL);
    core.durable.id--;
    rules_declare(&core, &fx);
    assert_proposes(COMMAND_DECLARE, NULL);
}

static void
a_member_registers_its_name_and_never_over_another_directory(void **state)
{
    (void)state;
    begin(N3);
    SCENE_TEXT(core.config.name, "renamed");
    rules_declare(&core, &fx);
    assert_proposes(COMMAND_REGISTER, SCENE_IPS[N3]);
    begin(N3);
    core.durable.nonce = 999; /* its disk was lost: the governor replaces it */
    rules_declare(&core, &fx);
    assert_proposes(0, NULL);
}

static void
a_person_is_heard_before_the_environment(void **state)
{
    (void)state;
    begin(N3);
    core.config.declaration.lease_ms = 3000;
    core.request.is_set = true;
    core.request.token = 5;
    core.request.command = (struct command){.type = COMMAND_PAUSE};
    rules_declare(&core, &fx);
    assert_int_equal(the(EFFECT_PROPOSE)->propose.type, COMMAND_PAUSE);
    assert_int_equal(core.proposal_token, 5);
    assert_false(core.request.is_set);
}

/* ---- who was removed ---- */

/* n3 has no leader for a while; n1 answers as told. */
static struct probe_answer *
out_of_touch(void)
{
    struct peer_view *p;

    begin(N3);
    core.raft.leader = 0;
    core.led_at = mono_ms(core.now.ms - 2000);
    core.durable.joined = core.durable_saved.joined = 4;
    p = scene_peer(&core, N1);
    p->has_answered = true;
    p->answered_at = core.now;
    p->answer = (struct probe_answer){
        .cluster_id = core.durable.cluster_id, .members_generation = 5, .your_id = 0};
    return &p->answer;
}

static void
one_that_is_out_of_touch_asks_around(void **state)
{
    (void)state;
    out_of_touch()->your_id = core.durable.id;
    rules_removed(&core, &fx);
    assert_int_equal(the(EFFECT_SEND)->send.message.type, MESSAGE_PROBE);
    assert_int_equal(the(EFFECT_SEND)->send.message.probe.id, core.durable.id);
    fx.n = 0;
    rules_removed(&core, &fx); /* once a second */
    assert_null(effect_of(EFFECT_SEND));
    assert_int_not_equal(core.durable.id, 0);
    out_of_touch()->your_id = core.durable.id;
    core.led_at = mono_ms(core.now.ms - 1999);
    rules_removed(&core, &fx);
    assert_null(effect_of(EFFECT_SEND));
}

static void
one_that_was_removed_forgets_who_it_was_and_not_what_it_promised(void **state)
{
    const uint64_t nonce = 102;

    (void)state;
    (void)out_of_touch();
    core.config.random = 31;
    core.durable.promised_reign = 2;
    core.durable.promised_holder = core.state.holder;
    core.durable.promised_ms = 2200;
    core.durable.released_reign = 1;
    core.durable.is_bootstrapped = true;
    core.durable_saved = core.durable;
    rules_removed(&core, &fx);
    assert_int_equal(core.rule, 141);
    assert_int_equal(core.durable.id, 0);
    assert_int_not_equal(core.durable.nonce, nonce);
    assert_false(core.durable.is_bootstrapped);
    assert_int_equal(core.durable.promised_reign, 2);
    assert_int_equal(core.durable.promised_holder, core.state.holder);
    assert_int_equal(core.durable.promised_ms, 2200);
    assert_int_equal(core.durable.released_reign, 1);
    assert_int_equal(core.durable.cluster_id, core.state.cluster_id);
    assert_null(effect_of(EFFECT_EXIT)); /* not before it is on disk */
    core.durable_saved = core.durable;
    rules_removed(&core, &fx);
    assert_true(the(EFFECT_EXIT)->exit.is_again);
}

static void
no_old_word_no_word_of_another_cluster_and_none_about_itself_removes_anybody(void **state)
{
    struct probe_answer *a;

    (void)state;
    a = out_of_touch();
    a->members_generation = 4; /* as old as its own membership: it may not know of it yet */
    rules_removed(&core, &fx);
    assert_int_not_equal(core.durable.id, 0);
    a = out_of_touch();
    a->cluster_id++;
    rules_removed(&core, &fx);
    assert_int_not_equal(core.durable.id, 0);
    a = out_of_touch();
    a->your_id = core.durable.id;
    rules_removed(&core, &fx);
    assert_int_not_equal(core.durable.id, 0);
    (void)out_of_touch();
    scene_peer(&core, N1)->answered_at = mono_ms(core.now.ms - 1001);
    rules_removed(&core, &fx);
    assert_int_not_equal(core.durable.id, 0);
    a = out_of_touch();
    a->is_server = true; /* Raft counts on its vote: without it, two could not even take it out */
    rules_removed(&core, &fx);
    assert_int_not_equal(core.durable.id, 0);
    (void)out_of_touch();
    core.is_raft_started = false; /* it has just joined */
    rules_removed(&core, &fx);
    assert_int_not_equal(core.durable.id, 0);
}

/* Two that were removed are a majority of what they declare, and found nothing: their data are a
 * cluster's that lives. */
static void
one_that_was_removed_founds_nothing(void **state)
{
    (void)state;
    (void)out_of_touch();
    core.config.random = 31;
    rules_removed(&core, &fx);
    core.durable_saved = core.durable;
    core.is_raft_started = core.is_forgetting = false; /* it begins anew */
    state_init(&core.state);
    for (unsigned i = 0; i < 4; i++) {
        if (i != N3) {
            struct peer_view *p = scene_peer(&core, i);

            p->has_answered = true;
            p->answered_at = core.now;
            p->answer =
                (struct probe_answer){.is_empty = true,
                                      .nonce = 500 + i,
                                      .digest = declaration_digest(&core.config.declaration)};
        }
    }
    rules_found(&core, &fx);
    assert_int_equal(core.durable.id, 0);
    assert_int_equal(core.rule, 113);
    fx.n = 0;
    found_on_probe(&core, &fx, SCENE_IPS[N1], &(struct probe){.nonce = 500});
    assert_false(the(EFFECT_SEND)->send.message.probe_answer.is_empty);
    scene_peer(&core, N1)->answer = (struct probe_answer){
        .cluster_id = core.durable.cluster_id + 1, .your_id = 9, .your_nonce = core.durable.nonce};
    rules_found(&core, &fx); /* and joins no other */
    assert_int_equal(core.durable.id, 0);
    scene_peer(&core, N1)->answer.cluster_id = core.durable.cluster_id;
    scene_peer(&core, N1)->answer.members_generation = 6;
    rules_found(&core, &fx);
    assert_int_equal(core.durable.id, 9);
    assert_int_equal(core.durable.joined, 6);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_declared_member_is_added_when_it_asks_and_not_before),
        cmocka_unit_test(a_member_that_is_no_longer_declared_is_removed),
        cmocka_unit_test(nobody_is_removed_while_no_majority_of_the_rest_is_here),
        cmocka_unit_test(the_last_holder_is_removed_when_another_serves),
        cmocka_unit_test(nobody_with_data_is_removed_while_nobody_serves),
        cmocka_unit_test(one_that_commits_count_on_is_taken_from_the_record_first),
        cmocka_unit_test(members_stay_while_paused_or_unsettled),
        cmocka_unit_test(the_governor_settles_where_nobody_reigns_and_the_holder_elsewhere),
        cmocka_unit_test(a_member_registers_under_the_directory_that_it_asks_with),
        cmocka_unit_test(raft_takes_in_who_registered_and_lets_go_of_who_left),
        cmocka_unit_test(one_on_its_way_out_keeps_its_place_in_raft_and_its_id),
        cmocka_unit_test(only_a_committed_configuration_says_who_is_no_server),
        cmocka_unit_test(a_leader_that_was_removed_hands_raft_to_a_member),
        cmocka_unit_test(a_member_declares_what_differs_from_its_last_words_once),
        cmocka_unit_test(nothing_is_said_without_a_leader_a_membership_or_on_the_way_out),
        cmocka_unit_test(a_member_registers_its_name_and_never_over_another_directory),
        cmocka_unit_test(a_person_is_heard_before_the_environment),
        cmocka_unit_test(one_that_is_out_of_touch_asks_around),
        cmocka_unit_test(one_that_was_removed_forgets_who_it_was_and_not_what_it_promised),
        cmocka_unit_test(
            no_old_word_no_word_of_another_cluster_and_none_about_itself_removes_anybody),
        cmocka_unit_test(one_that_was_removed_founds_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
