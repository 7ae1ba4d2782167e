/*
 * Goal:   a slot is kept for who may come back, never for who will not, and moves up only to where
 *         its owner is known to be in the cluster's own history.
 * Method: a core with two others, whose words and silence are given by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/three_members.h"

#define TTL_MS 60000

static struct core core;
static struct effect_list fx;

static void
speak(unsigned i, uint64_t lsn, uint32_t timeline)
{
    struct peer_view *p = core_peer_at(&core, core.state.members[i].address);

    p->is_heard = true;
    p->heard_at = core.now;
    p->status.id = core.state.members[i].id;
    p->status.pg = (struct pg_facts){
        .run = PG_RUN_UP, .sysid = 7, .timeline = timeline, .lineage = 70 + timeline, .lsn = lsn};
}

static int
set_up(void **unused)
{
    struct state *s = &core.state;

    (void)unused;
    three_members(&core, 2);
    s->holder = 2;
    s->n_history = 1;
    s->history[0] = (struct reign_row){.reign = 1, .timeline = 1, .lineage = 71};
    core.durable.id = 1;
    core.config.slot_ttl_ms = TTL_MS;
    core.now = core.started_at = mono_ms(1000000);
    core.pg.run = PG_RUN_UP;
    core.pg.is_in_recovery = true;
    return 0;
}

static bool
is_silent(int64_t after_ms)
{
    core.now = mono_add(core.now, after_ms);
    fx.n = 0;
    slots_step(&core, &fx);
    return fx.n == 0;
}

static const struct pg_slots *
said(int64_t after_ms)
{
    assert_false(is_silent(after_ms));
    return &fx.at[0].pg_slots;
}

static void
each_other_member_has_one_at_once(void **unused)
{
    const struct pg_slots *wish = said(0);

    (void)unused;
    assert_int_equal(wish->n, 2);
    assert_string_equal(wish->at[0].address, "10.0.0.2");
    assert_string_equal(wish->at[1].address, "10.0.0.3");
    assert_int_equal(wish->at[0].lsn, 0);
    assert_true(is_silent(10));
    core.state.members[3] = core.state.members[2];
    core.state.members[3].id = 4;
    core.state.members[3].kind = MEMBER_WITNESS;
    assert_true(is_silent(10)); /* it has no PostgreSQL */
}

static void
it_moves_up_to_where_its_owner_is(void **unused)
{
    (void)unused;
    (void)said(0);
    speak(1, 0x5000, 2);
    speak(2, 0x4000, 2);
    assert_true(is_silent(10)); /* positions can wait */
    core.slots_at = core.now;
    assert_int_equal(said(0)->at[0].lsn, 0x5000);
    assert_int_equal(fx.at[0].pg_slots.at[1].lsn, 0x4000);
    speak(2, 0x9000, 1); /* beyond the fork of a timeline that it has not reached */
    core.slots_at = core.now;
    assert_int_equal(said(0)->at[1].lsn, 0);
    speak(2, 0x9000, 2);
    core_peer_at(&core, "10.0.0.3")->status.pg.lineage = 5; /* promoted by hand */
    core.slots_at = core.now;
    assert_int_equal(said(0)->at[1].lsn, 0);
}

static void
who_is_away_for_too_long_has_none(void **unused)
{
    (void)unused;
    (void)said(0);
    speak(1, 0x5000, 2);
    assert_int_equal(said(TTL_MS - 1)->n, 2); /* never heard: it counts from this agent's start */
    speak(1, 0x5000, 2);
    assert_int_equal(said(2)->n, 1);
    assert_string_equal(fx.at[0].pg_slots.at[0].address, "10.0.0.2");
    speak(2, 0x5000, 2); /* it is back */
    assert_int_equal(said(1)->n, 2);
    core.config.slot_ttl_ms = 0;
    assert_int_equal(said(100LL * TTL_MS)->n, 2);
}

static void
who_was_removed_has_none(void **unused)
{
    (void)unused;
    (void)said(0);
    memset(&core.state.members[2], 0, sizeof core.state.members[2]);
    assert_int_equal(said(1)->n, 1);
    core.state.members[0].id = 0; /* itself: it knows nothing any more */
    assert_true(is_silent(100000));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(each_other_member_has_one_at_once, set_up),
        cmocka_unit_test_setup(it_moves_up_to_where_its_owner_is, set_up),
        cmocka_unit_test_setup(who_is_away_for_too_long_has_none, set_up),
        cmocka_unit_test_setup(who_was_removed_has_none, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
