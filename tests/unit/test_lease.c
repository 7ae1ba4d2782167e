/*
 * Goal:   a lease counts only as the echo of a fresh question, granted by enough members of the
 *         right sets, and from the moment the question was SENT.
 * Method: grants in every number and order, for 1 to 5 members and for a change of members.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "agent/core/lease.h"
#include "agent/core/promise.h"

static struct state state;
static struct lease lease;

static void
begin(unsigned n)
{
    state_init(&state);
    state.members_generation = 1;
    state.settled_generation = 1;
    for (unsigned i = 0; i < n; i++) {
        state.members[i].id = i + 1;
        state.members[i].joined = 1;
    }
    lease_reset(&lease, 4);
}

static void
ask(uint64_t seq, int64_t now)
{
    const struct lease_request rq = {4, 1, seq, state.members_generation, 2000};

    lease_ask(&lease, &rq, mono_ms(now));
}

static bool
grant(uint64_t seq, uint64_t grantor)
{
    return lease_note_grant(&lease, &(const struct lease_grant){4, 1, grantor, seq});
}

static void
a_plus_r_is_more_than_n(void **s)
{
    (void)s;
    for (unsigned n = 1; n <= 9; n++) {
        assert_true(lease_open_quorum(n) + lease_renew_quorum(n) > n);
        assert_true(2 * lease_open_quorum(n) > n); /* two openers share a member */
    }
    assert_int_equal(lease_open_quorum(2), 2);
    assert_int_equal(lease_renew_quorum(2), 1);
}

static void
opening_and_renewing_need_their_quorums(void **s)
{
    static const unsigned OPEN[] = {0, 1, 2, 2, 3, 3};
    static const unsigned RENEW[] = {0, 1, 1, 2, 3, 3};

    (void)s;
    for (unsigned n = 1; n <= 5; n++) {
        begin(n);
        ask(9, 100);
        for (unsigned k = 1; k <= n; k++) {
            assert_true(grant(9, k));
            assert_true(grant(9, k)); /* a repeated grant counts once */
            assert_int_equal(lease_answered(&lease, &state, true) != NULL, k >= OPEN[n]);
            assert_int_equal(lease_answered(&lease, &state, false) != NULL, k >= RENEW[n]);
        }
    }
}

static void
the_deadline_counts_from_the_sending(void **s)
{
    const struct lease_question *q;

    (void)s;
    begin(3);
    ask(1, 1000);
    ask(2, 1500);
    (void)grant(1, 1);
    (void)grant(1, 2);
    q = lease_answered(&lease, &state, false);
    assert_non_null(q);
    assert_int_equal(lease_deadline(q).ms, 1000 + 2000 - LEASE_MARGIN_MS);
    (void)grant(2, 2);
    (void)grant(2, 3);
    assert_int_equal(lease_deadline(lease_answered(&lease, &state, false)).ms,
                     1500 + 2000 - LEASE_MARGIN_MS);
}

static void
grants_of_different_questions_do_not_add_up(void **s)
{
    (void)s;
    begin(3);
    ask(1, 1000);
    ask(2, 1500);
    (void)grant(1, 1);
    (void)grant(2, 2);
    assert_null(lease_answered(&lease, &state, false));
}

static void
a_grant_that_answers_no_question_is_nothing(void **s)
{
    (void)s;
    begin(1);
    assert_false(grant(1, 1)); /* never asked */
    ask(5, 1000);
    assert_false(grant(4, 1));
    assert_false(lease_note_grant(&lease, &(const struct lease_grant){3, 1, 1, 5}));
    assert_null(lease_answered(&lease, &state, false));
    for (uint64_t seq = 6; seq < 6 + LEASE_QUESTIONS_MAX; seq++) {
        ask(seq, 2000);
    }
    assert_false(grant(5, 1)); /* too old: its place is taken */
}

static void
strangers_and_members_of_another_generation_do_not_count(void **s)
{
    (void)s;
    begin(3);
    ask(1, 1000);
    (void)grant(1, 77);
    (void)grant(1, 78);
    (void)grant(1, 1);
    assert_null(lease_answered(&lease, &state, false));
    (void)grant(1, 2);
    assert_non_null(lease_answered(&lease, &state, false));
    state.members_generation = 2; /* the question was asked under the members of before */
    assert_null(lease_answered(&lease, &state, false));
}

/* {1, 2} becomes {1, 2, 3}: the holder of before may still renew with its own grant alone. */
static void
while_members_change_both_sets_open(void **s)
{
    (void)s;
    begin(3);
    state.members_generation = 2;
    state.members[2].joined = 2;
    ask(1, 1000);
    (void)grant(1, 2);
    (void)grant(1, 3);
    assert_null(lease_answered(&lease, &state, true)); /* of the old set only one granted */
    (void)grant(1, 1);
    assert_non_null(lease_answered(&lease, &state, true));
    begin(3);
    state.settled_generation = 2;
    state.members_generation = 2;
    ask(1, 1000);
    (void)grant(1, 2);
    (void)grant(1, 3);
    assert_non_null(lease_answered(&lease, &state, true)); /* settled: the new set alone */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plus_r_is_more_than_n),
        cmocka_unit_test(opening_and_renewing_need_their_quorums),
        cmocka_unit_test(the_deadline_counts_from_the_sending),
        cmocka_unit_test(grants_of_different_questions_do_not_add_up),
        cmocka_unit_test(a_grant_that_answers_no_question_is_nothing),
        cmocka_unit_test(strangers_and_members_of_another_generation_do_not_count),
        cmocka_unit_test(while_members_change_both_sets_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
