/*
 * Goal:   an operator's force is refused while anything says that it is wrong; where it is not, one
 *         member goes on alone, its disk first; and whoever was left behind stops at once.
 * Method: n3 of the healthy picture, with n1 (the holder), n2 and w gone; one step a time. The
 *         command itself against a state.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/apply.h"
#include "tests/unit/governor_scenes.h"

static struct core core;
static struct effect_list fx;
static struct event force;

static void
name_dead(unsigned i)
{
    SCENE_TEXT(force.request.dead[force.request.n_dead], SCENE_IPS[i]);
    force.request.n_dead++;
}

static void
begin(void)
{
    scene_healthy(&core, N3);
    core.raft.leader = 0;
    core.is_raft_started = true;
    core.durable.nonce = 7;
    core.durable.boots = 1;
    core.durable.cluster_id = core.state.cluster_id;
    core.durable_saved = core.durable;
    core.config.random = 0x1234567;
    for (unsigned i = 0; i < 4; i++) {
        if (i != N3) {
            scene_peer(&core, i)->heard_at = mono_ms(core.now.ms - 5000);
        }
    }
    memset(&force, 0, sizeof force);
    force.type = EVENT_REQUEST;
    force.request.type = REQUEST_RECOVER;
    force.request.token = 3;
    force.request.is_failover = true;
    name_dead(N1);
    name_dead(N2);
    name_dead(W);
    fx.n = 0;
}

static const struct effect *
effect_of(uint8_t type)
{
    for (uint32_t i = 0; i < fx.n; i++) {
        if (fx.at[i].type == type) {
            return &fx.at[i];
        }
    }
    return NULL;
}

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
assert_refused(const char *words)
{
    fx.n = 0;
    recover_on_request(&core, &fx, &force);
    assert_int_equal(the(EFFECT_REPLY)->reply.rc, HA_EREFUSED);
    if (strstr(the(EFFECT_REPLY)->reply.text, words) == NULL) {
        print_error("%s\n", the(EFFECT_REPLY)->reply.text);
    }
    assert_non_null(strstr(the(EFFECT_REPLY)->reply.text, words));
    assert_false(core.durable.is_recovering);
    assert_int_equal(core.durable.era, 0);
}

static void
it_is_refused_while_anything_says_that_it_is_wrong(void **state)
{
    (void)state;
    begin();
    core.raft.leader = core.state.members[N2].id;
    assert_refused("a majority is here");
    begin();
    scene_peer(&core, N1)->heard_at = mono_ms(core.now.ms - 4999);
    assert_refused("10.0.0.1 is named dead, and lives");
    begin();
    force.request.n_dead = 2; /* nobody said anything of w */
    assert_refused("10.0.0.9 is neither here nor named dead");
    begin();
    force.request.n_dead = 2;
    scene_peer(&core, W)->heard_at = core.now;
    scene_peer(&core, W)->status.raft_applied = core.state_index + 1;
    assert_refused("10.0.0.9 knows more");
    begin();
    name_dead(N3);
    assert_refused("10.0.0.3 is named dead, and is the one");
    begin();
    SCENE_TEXT(force.request.dead[3], "10.0.0.77");
    force.request.n_dead = 4;
    assert_refused("10.0.0.77 is no member");
    begin();
    core.started_at = mono_ms(core.now.ms - 4999);
    assert_refused("just begun to listen");
    begin();
    core.config.kind = MEMBER_WITNESS;
    assert_refused("a witness");
    begin();
    core.durable.id = 0;
    assert_refused("no cluster");
}

/* Its agent lives, and is another member than the one that is dead. */
static void
one_that_lost_its_directory_is_dead_although_its_agent_speaks(void **state)
{
    (void)state;
    begin();
    scene_peer(&core, N1)->heard_at = core.now;
    scene_peer(&core, N1)->status.id = 0;
    recover_on_request(&core, &fx, &force);
    assert_null(effect_of(EFFECT_REPLY));
    assert_true(core.durable.is_recovering);
}

static void
the_disk_knows_first_then_raft_begins_alone_then_the_log_says_it(void **state)
{
    (void)state;
    begin();
    core.is_proposing = true; /* to the Raft of before, which will not answer */
    recover_on_request(&core, &fx, &force);
    assert_int_equal(core.durable.era >> 48, 1);
    rules_recover(&core, &fx);
    assert_null(effect_of(EFFECT_RAFT_START));
    core.durable_saved = core.durable;
    rules_recover(&core, &fx);
    assert_true(the(EFFECT_RAFT_START)->raft_start.is_recovery);
    assert_int_equal(the(EFFECT_RAFT_START)->raft_start.era, core.durable.era);
    assert_int_equal(core.raft.leader, 0);
    fx.n = 0;
    rules_recover(&core, &fx);
    assert_int_equal(fx.n, 0); /* once */
    core.raft.is_ready = true;
    governor_step(&core, &fx); /* nothing is decided before the log has it */
    assert_null(effect_of(EFFECT_PROPOSE));
    rules_recover(&core, &fx);
    assert_int_equal(the(EFFECT_PROPOSE)->propose.type, COMMAND_RECOVER);
    assert_int_equal(the(EFFECT_PROPOSE)->propose.recover.n_dead, 3);
    assert_true(the(EFFECT_PROPOSE)->propose.recover.is_failover);
    assert_int_equal(apply_command(&core.state, &the(EFFECT_PROPOSE)->propose), HA_OK);
    fx.n = 0;
    rules_recover(&core, &fx);
    assert_int_equal(the(EFFECT_REPLY)->reply.token, 3);
    assert_int_equal(the(EFFECT_REPLY)->reply.rc, HA_OK);
    assert_false(core.durable.is_recovering);
    assert_int_equal(core.durable.n_dead, 0);
}

/* Its promise to the holder that is said to be dead still runs out first. */
static void
the_operators_word_frees_no_promise(void **state)
{
    struct lease_request rq = {.lease_ms = 2000, .seq = 5};
    struct command c = {.type = COMMAND_RECOVER};

    (void)state;
    begin();
    core.promise.reign = core.state.reign;
    core.promise.holder = core.state.holder;
    core.promise.until = mono_ms(core.now.ms + 1500);
    c.recover.era = 1;
    c.recover.survivor = core.durable.id;
    assert_int_equal(apply_command(&core.state, &c), HA_OK);
    core.state.reign++;
    core.state.holder = core.durable.id;
    core.state.is_vacant = false;
    rq.reign = core.state.reign;
    rq.holder = core.durable.id;
    rq.members_generation = core.state.members_generation;
    assert_non_null(
        promise_refusal(&core.promise, &core.state, &core.durable, &rq, core.promise.quiet_until));
    assert_null(promise_refusal(
        &core.promise, &core.state, &core.durable, &rq, mono_ms(core.now.ms + 1500)));
}

/* n1 was named dead and lives: with the first word of the newer era its lease is over. */
static void
whoever_was_left_behind_stops_at_once_and_copies_anew(void **state)
{
    struct message m = {.type = MESSAGE_STATUS};
    struct event e = {.type = EVENT_MESSAGE, .now = {SCENE_NOW_MS}};

    (void)state;
    scene_healthy(&core, N1);
    core.is_raft_started = true;
    core.durable.nonce = 7;
    core.config.random = 9;
    core.durable.cluster_id = core.state.cluster_id;
    core.durable_saved = core.durable;
    assert_true(core_has_lease(&core));
    m.status = scene_status(&core, N3);
    m.status.era = 0; /* of the same: nothing is wrong */
    e.message.from = SCENE_IPS[N3];
    e.message.message = &m;
    decide_step(&core, &e, &fx);
    assert_true(core_has_lease(&core));
    assert_null(effect_of(EFFECT_PG_KILL));
    m.status.era = 1ULL << 48;
    decide_step(&core, &e, &fx);
    assert_false(core_has_lease(&core));
    assert_non_null(effect_of(EFFECT_PG_KILL));
    assert_int_equal(the(EFFECT_LEASE)->lease.deadline.ms, 0);
    assert_int_equal(core.rule, 142);
    assert_int_equal(core.durable.id, 0);
    assert_true(core.durable.must_copy);
    m.status.era = 1; /* an older one is not even heard */
    core.durable.era = 1ULL << 48;
    scene_peer(&core, N3)->heard_at = mono_ms(0);
    decide_step(&core, &e, &fx);
    assert_int_equal(scene_peer(&core, N3)->heard_at.ms, 0);
}

static void
a_copy_is_due_until_it_was_made(void **state)
{
    struct durable d = {.nonce = 1, .boots = 1, .must_copy = true, .cluster_id = 5};

    (void)state;
    begin();
    core_init(&core, &core.config, &d, NULL, 0, mono_ms(1000));
    assert_true(core.is_clone_due);
    core.pg_op = PG_OP_CLONE;
    postgres_on_done(&core, &fx, PG_OP_CLONE, HA_EIO, "");
    assert_true(core.durable.must_copy);
    core.pg_op = PG_OP_CLONE;
    postgres_on_done(&core, &fx, PG_OP_CLONE, HA_OK, "");
    assert_false(core.durable.must_copy);
    assert_false(core.is_clone_due);
}

/* ---- the command ---- */

static void
the_command_leaves_one_member_and_ends_the_reign_of_another(void **state)
{
    struct state s;
    struct command c = {.type = COMMAND_RECOVER};
    const struct reign_row *row;

    (void)state;
    begin();
    s = core.state;
    c.recover.era = 1ULL << 48;
    c.recover.survivor = s.members[N3].id;
    c.recover.is_failover = true;
    c.recover.n_dead = 2;
    SCENE_TEXT(c.recover.dead[0], SCENE_IPS[N1]);
    SCENE_TEXT(c.recover.dead[1], SCENE_IPS[N2]);
    s.is_paused = true;
    assert_int_equal(apply_command(&s, &c), HA_OK);
    assert_int_equal(s.era, 1ULL << 48);
    assert_int_equal(s.members_generation, 2);
    assert_int_equal(s.settled_generation, 2);
    for (unsigned i = 0; i < HA_MEMBER_SLOTS; i++) {
        assert_int_equal(s.members[i].id != 0, i == N3);
    }
    assert_true(s.is_vacant);
    assert_int_equal(s.holder, 0);
    assert_true(s.reign > 2 + 100); /* what was appointed meanwhile keeps its numbers */
    assert_string_equal(s.declaration.primary, SCENE_IPS[N3]);
    assert_string_equal(s.declared_by, "hactl failover");
    assert_int_equal(s.generation, 4);
    assert_false(s.is_paused);
    row = &s.history[s.n_history - 1];
    assert_string_equal(row->why, "forced, named dead: 10.0.0.1 10.0.0.2");
    assert_int_equal(apply_command(&s, &c), HA_EREFUSED); /* the same era again */
    c.recover.era++;
    c.recover.survivor = 4711;
    assert_int_equal(apply_command(&s, &c), HA_EREFUSED);
}

static void
the_command_leaves_a_holder_that_survives_its_reign(void **state)
{
    struct state s;
    struct command c = {.type = COMMAND_RECOVER};

    (void)state;
    begin();
    s = core.state;
    c.recover.era = 1;
    c.recover.survivor = s.holder;
    assert_int_equal(apply_command(&s, &c), HA_OK);
    assert_int_equal(s.reign, 2);
    assert_int_equal(s.holder, s.members[N1].id);
    assert_false(s.is_vacant);
    assert_string_equal(s.declaration.primary, SCENE_IPS[N1]);
    assert_int_equal(s.generation, 3);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_refused_while_anything_says_that_it_is_wrong),
        cmocka_unit_test(one_that_lost_its_directory_is_dead_although_its_agent_speaks),
        cmocka_unit_test(the_disk_knows_first_then_raft_begins_alone_then_the_log_says_it),
        cmocka_unit_test(the_operators_word_frees_no_promise),
        cmocka_unit_test(whoever_was_left_behind_stops_at_once_and_copies_anew),
        cmocka_unit_test(a_copy_is_due_until_it_was_made),
        cmocka_unit_test(the_command_leaves_one_member_and_ends_the_reign_of_another),
        cmocka_unit_test(the_command_leaves_a_holder_that_survives_its_reign),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
