/*
 * Goal:   rule 36x: a standby that cannot stream although the primary serves gets a copy, also one
 *         that shows "streaming" for a moment at each of its tries; one that streams never does.
 * Method: a core of two members whose words are given by hand, stepped through virtual time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/three_members.h"

enum { SELF, HOLDER, N };

#define STEP_MS 100

static struct core core;
static struct effect_list fx;

static int
set_up(void **unused)
{
    struct state *s = &core.state;

    (void)unused;
    three_members(&core, 3);
    s->holder = HOLDER + 1;
    core.durable.id = SELF + 1;
    core.now = mono_ms(1000000);
    core.pg = (struct pg_facts){
        .run = PG_RUN_UP, .data = PG_DATA_STANDBY, .sysid = 7, .timeline = 2, .lineage = 72};
    core.pg.is_in_recovery = true;
    (void)snprintf(core.pg.upstream, sizeof core.pg.upstream, "%s", s->members[HOLDER].address);
    return 0;
}

static void
holder_serves(bool does)
{
    struct peer_view *p = core_peer_at(&core, core.state.members[HOLDER].address);

    p->is_heard = true;
    p->heard_at = core.now;
    p->status.id = HOLDER + 1;
    p->status.reign = 3;
    p->status.lease_left_ms = does ? 1000 : 0;
    p->status.pg = (struct pg_facts){.run = PG_RUN_UP, .sysid = 7, .timeline = 2, .lineage = 72};
}

/* So long; of each `every` ms it streams for `streams` ms. True when a copy became due. */
static bool
run(int64_t ms, int64_t every, int64_t streams)
{
    for (int64_t t = 0; t < ms && !core.is_clone_due; t += STEP_MS) {
        core.now = mono_add(core.now, STEP_MS);
        core.pg.is_streaming = t % every < streams;
        holder_serves(true);
        fx.n = 0;
        standby_step(&core, &fx);
    }
    return core.is_clone_due;
}

static void
one_that_streams_gets_no_copy(void **unused)
{
    (void)unused;
    assert_false(run(120000, 1000, 1000));
}

static void
one_that_does_not_gets_a_copy_after_30_s(void **unused)
{
    (void)unused;
    assert_false(run(30000, 1000, 0));
    assert_true(run(1000, 1000, 0));
    assert_string_equal(core.clone_why, "it could not stream for 30 s");
}

static void
a_moment_of_streaming_at_each_try_is_none(void **unused)
{
    (void)unused;
    assert_true(run(40000, 5000, 200)); /* what a server does whose WAL the primary has removed */
}

static void
one_that_streams_again_is_left_alone(void **unused)
{
    (void)unused;
    assert_false(run(25000, 1000, 0));
    assert_false(run(2500, 1000, 1000)); /* steadily: counted from zero again */
    assert_false(run(25000, 1000, 0));
}

static void
without_a_primary_nobody_gets_a_copy(void **unused)
{
    (void)unused;
    for (unsigned i = 0; i < 600; i++) {
        core.now = mono_add(core.now, STEP_MS);
        holder_serves(false);
        fx.n = 0;
        standby_step(&core, &fx);
    }
    assert_false(core.is_clone_due);
}

/* Whom PostgreSQL is told to follow in one step; "" = it is told nothing. */
static const char *
follows(void)
{
    fx.n = 0;
    standby_step(&core, &fx);
    for (uint32_t i = 0; i < fx.n; i++) {
        if (fx.at[i].type == EFFECT_PG && fx.at[i].pg.op == PG_OP_FOLLOW) {
            return fx.at[i].pg.from[0] == 0 ? "nobody" : fx.at[i].pg.from;
        }
    }
    return "";
}

/* One timeline, two histories: the holder promoted what this one had from somebody else's try. */
static void
what_has_diverged_streams_from_nobody(void **unused)
{
    (void)unused;
    core.pg.lineage = 99;
    holder_serves(false); /* opened a moment ago, and not seen yet */
    assert_string_equal(follows(), "nobody");
    core.pg_op = PG_OP_NONE;
    core.pg.upstream[0] = 0;
    assert_string_equal(follows(), "");
    assert_int_equal(core.rule, 370);
}

static void
who_streams_lets_go_of_a_holder_whose_new_reign_is_not_open(void **unused)
{
    (void)unused;
    core.state.reign = 4;
    core.state.is_opened = false;
    holder_serves(false);
    assert_string_equal(follows(), "nobody");
    core.pg_op = PG_OP_NONE;
    core.pg.upstream[0] = 0;
    assert_string_equal(follows(), "");
    core.state.opened_reign = 4;
    core.state.is_opened = true;
    assert_string_equal(follows(), core.state.members[HOLDER].address);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(one_that_streams_gets_no_copy, set_up),
        cmocka_unit_test_setup(one_that_does_not_gets_a_copy_after_30_s, set_up),
        cmocka_unit_test_setup(a_moment_of_streaming_at_each_try_is_none, set_up),
        cmocka_unit_test_setup(what_has_diverged_streams_from_nobody, set_up),
        cmocka_unit_test_setup(who_streams_lets_go_of_a_holder_whose_new_reign_is_not_open, set_up),
        cmocka_unit_test_setup(one_that_streams_again_is_left_alone, set_up),
        cmocka_unit_test_setup(without_a_primary_nobody_gets_a_copy, set_up),
    };

    return cmocka_run_group_tests_name("standby", tests, NULL, NULL);
}
