/*
 * Goal:   data are replaced only when the log allows it and the holder is seen serving, one member
 *         at a time, and a synchronous standby takes a copy of nobody but the holder.
 * Method: a core of three whose words are given by hand; the effect is looked at.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/three_members.h"

enum { SELF, HOLDER, REPLICA, N };

static struct core core;
static struct effect_list fx;

static const char *
ip_of(unsigned i)
{
    return core.state.members[i].address;
}

static void
speak(unsigned i)
{
    struct peer_view *p = core_peer_at(&core, ip_of(i));
    struct status *st = &p->status;

    p->is_heard = true;
    p->heard_at = core.now;
    st->id = core.state.members[i].id;
    st->reign = 3;
    st->raft_applied = 50;
    st->lease_left_ms = i == HOLDER ? 1000 : 0;
    st->pg = (struct pg_facts){.run = PG_RUN_UP, .sysid = 7, .timeline = 2, .lineage = 72};
    st->pg.is_in_recovery = st->pg.is_streaming = i != HOLDER;
}

static int
set_up(void **unused)
{
    struct state *s = &core.state;

    (void)unused;
    three_members(&core, 3);
    fx.n = 0;
    s->holder = HOLDER + 1;
    core.state_index = 50;
    core.durable.id = SELF + 1;
    core.now = mono_ms(1000000);
    core.pg = (struct pg_facts){.run = PG_RUN_STOPPED, .data = PG_DATA_STANDBY, .sysid = 7};
    speak(HOLDER);
    speak(REPLICA);
    return 0;
}

static void
on_record(uint8_t rung)
{
    core.state.members[SELF].rebuild = 3;
    core.state.members[SELF].rebuild_rung = rung;
}

static const struct effect *
find(uint8_t type)
{
    for (uint32_t i = 0; i < fx.n; i++) {
        if (fx.at[i].type == type) {
            return &fx.at[i];
        }
    }
    return NULL;
}

/* The address that it begins to copy from, or "". */
static const char *
copies_from(void)
{
    const struct effect *e;

    rebuild_step(&core, &fx, REBUILD_COPY, ip_of(HOLDER), "test");
    e = find(EFFECT_PG);
    return e == NULL || e->pg.op != PG_OP_CLONE ? "" : e->pg.from;
}

static void
want_a_replica(void)
{
    (void)snprintf(core.config.clone_from, sizeof core.config.clone_from, "replica");
}

static void
the_log_has_it_first(void **unused)
{
    const struct effect *e;

    (void)unused;
    assert_string_equal(copies_from(), "");
    e = find(EFFECT_PROPOSE);
    assert_true(e != NULL && e->propose.type == COMMAND_REBUILD);
    assert_int_equal(core.proposal.rebuild.member, SELF + 1);
    assert_int_equal(core.proposal.rebuild.reign, 3);
    assert_int_equal(core.proposal.rebuild.sysid, 7);
    on_record(REBUILD_COPY);
    assert_string_equal(copies_from(), ip_of(HOLDER));
}

/* What a person hears who wants the data replaced. */
static int
wish(void)
{
    const struct effect *e;

    fx.n = 0;
    rebuild_on_request(&core, &fx, 9);
    e = find(EFFECT_REPLY);
    return e == NULL || e->reply.token != 9 ? 1 : e->reply.rc;
}

static void
a_persons_wish_makes_a_copy_due_and_never_of_the_holders_data(void **unused)
{
    (void)unused;
    assert_int_equal(wish(), HA_OK);
    assert_true(rebuild_is_due(&core));
    assert_int_equal(wish(), HA_EREFUSED); /* it is due already */
    core.is_clone_due = false;
    core.state.holder = SELF + 1;
    assert_int_equal(wish(), HA_EREFUSED);
    core.state.holder = HOLDER + 1;
    core_peer_at(&core, ip_of(HOLDER))->status.lease_left_ms = 0;
    assert_int_equal(wish(), HA_EREFUSED);
    speak(HOLDER);
    core.state.handover = SELF + 1;
    assert_int_equal(wish(), HA_EREFUSED);
    core.state.handover = 0;
    core.pg_op = PG_OP_FOLLOW;
    assert_int_equal(wish(), HA_EREFUSED);
    assert_false(core.is_clone_due);
}

static void
of_another_rung_or_reign_it_is_no_leave(void **unused)
{
    (void)unused;
    on_record(REBUILD_REWIND);
    assert_string_equal(copies_from(), "");
    on_record(REBUILD_COPY);
    core.state.members[SELF].rebuild = 2;
    assert_string_equal(copies_from(), "");
}

static void
a_history_that_was_cut_off_is_copied_not_rewound(void **unused)
{
    (void)unused;
    assert_int_equal(rebuild_rung_next(&core), REBUILD_REWIND);
    core.durable.must_copy = true; /* an operator went on without it */
    assert_int_equal(rebuild_rung_next(&core), REBUILD_COPY);
}

static void
not_without_a_primary_that_is_seen_to_serve(void **unused)
{
    (void)unused;
    on_record(REBUILD_COPY);
    core_peer_at(&core, ip_of(HOLDER))->status.lease_left_ms = 0;
    assert_string_equal(copies_from(), "");
    speak(HOLDER);
    core_peer_at(&core, ip_of(HOLDER))->status.pg.is_in_recovery = true;
    assert_string_equal(copies_from(), "");
    speak(HOLDER);
    core_peer_at(&core, ip_of(HOLDER))->heard_at = mono_ms(1);
    assert_string_equal(copies_from(), "");
    speak(HOLDER);
    assert_string_equal(copies_from(), ip_of(HOLDER));
}

static void
an_empty_directory_has_nothing_to_lose(void **unused)
{
    (void)unused;
    core.pg = (struct pg_facts){.run = PG_RUN_STOPPED, .data = PG_DATA_EMPTY};
    assert_string_equal(copies_from(), ip_of(HOLDER));
}

static void
one_at_a_time(void **unused)
{
    (void)unused;
    core.state.members[REPLICA].rebuild = 3;
    core.state.members[REPLICA].rebuild_rung = REBUILD_COPY;
    assert_string_equal(copies_from(), "");
    assert_null(find(EFFECT_PROPOSE));
    core.state.members[REPLICA].rebuild_rung = REBUILD_CLEAR; /* it streams again */
    (void)copies_from();
    assert_non_null(find(EFFECT_PROPOSE));
}

static void
a_replica_is_copied_where_that_is_wished(void **unused)
{
    (void)unused;
    on_record(REBUILD_COPY);
    want_a_replica();
    assert_string_equal(copies_from(), ip_of(REPLICA));
}

static void
one_that_does_not_stream_is_not_copied(void **unused)
{
    (void)unused;
    on_record(REBUILD_COPY);
    want_a_replica();
    core_peer_at(&core, ip_of(REPLICA))->status.pg.is_streaming = false;
    assert_string_equal(copies_from(), ip_of(HOLDER));
}

/* Right after the start the primary is often the first to be heard of. */
static void
one_that_is_not_heard_of_yet_is_waited_for_a_while(void **unused)
{
    (void)unused;
    on_record(REBUILD_COPY);
    want_a_replica();
    core_peer_at(&core, ip_of(REPLICA))->is_heard = false;
    core.started_at = mono_add(core.now, -4999);
    assert_string_equal(copies_from(), "");
    core.started_at = mono_add(core.now, -5000);
    assert_string_equal(copies_from(), ip_of(HOLDER));
}

static void
one_that_is_heard_of_and_unfit_is_not_waited_for(void **unused)
{
    (void)unused;
    on_record(REBUILD_COPY);
    want_a_replica();
    core_peer_at(&core, ip_of(REPLICA))->status.pg.is_streaming = false;
    core.started_at = core.now;
    assert_string_equal(copies_from(), ip_of(HOLDER));
}

/* INV-9: elections believe that it has what was acknowledged because of it. */
static void
a_synchronous_standby_copies_the_holder_only(void **unused)
{
    (void)unused;
    on_record(REBUILD_COPY);
    want_a_replica();
    core.state.sync_set = 1U << SELF | 1U << REPLICA;
    core.state.sync_count = 1;
    assert_string_equal(copies_from(), ip_of(HOLDER));
}

/* It may have come into the set and not know it yet. */
static void
one_whose_log_is_behind_copies_the_holder(void **unused)
{
    (void)unused;
    core.pg = (struct pg_facts){.run = PG_RUN_STOPPED, .data = PG_DATA_EMPTY};
    want_a_replica();
    core.state_index = 49;
    core.started_at = mono_add(core.now, -4999);
    assert_string_equal(copies_from(), ""); /* just after the start it soon is not */
    core.started_at = mono_add(core.now, -5000);
    assert_string_equal(copies_from(), ip_of(HOLDER));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_log_has_it_first, set_up),
        cmocka_unit_test_setup(a_persons_wish_makes_a_copy_due_and_never_of_the_holders_data,
                               set_up),
        cmocka_unit_test_setup(of_another_rung_or_reign_it_is_no_leave, set_up),
        cmocka_unit_test_setup(a_history_that_was_cut_off_is_copied_not_rewound, set_up),
        cmocka_unit_test_setup(not_without_a_primary_that_is_seen_to_serve, set_up),
        cmocka_unit_test_setup(an_empty_directory_has_nothing_to_lose, set_up),
        cmocka_unit_test_setup(one_at_a_time, set_up),
        cmocka_unit_test_setup(a_replica_is_copied_where_that_is_wished, set_up),
        cmocka_unit_test_setup(one_that_does_not_stream_is_not_copied, set_up),
        cmocka_unit_test_setup(one_that_is_not_heard_of_yet_is_waited_for_a_while, set_up),
        cmocka_unit_test_setup(one_that_is_heard_of_and_unfit_is_not_waited_for, set_up),
        cmocka_unit_test_setup(a_synchronous_standby_copies_the_holder_only, set_up),
        cmocka_unit_test_setup(one_whose_log_is_behind_copies_the_holder, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
