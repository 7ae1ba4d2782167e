/*
 * Goal:   a failover where commits were synchronous chooses only when it is known who has them all.
 * Method: a state and three candidates' words by hand; tests/sim shows the whole.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/core/core_internal.h"

enum { A, B, C, N };

static struct core core;
static struct effect_list fx;
static struct status words[N];
static struct candidate list[N];

/* Reign 1 was A's, and open. Commits wait for one of B and C. */
static void
begin(void)
{
    struct state *s = &core.state;

    memset(&core, 0, sizeof core);
    memset(words, 0, sizeof words);
    fx.n = 0;
    for (unsigned i = 0; i < N; i++) {
        s->members[i].id = i + 1;
        s->members[i].kind = MEMBER_DATABASE;
    }
    s->sysid = 7;
    s->timeline = 1;
    s->reign = s->opened_reign = 1;
    s->holder = A + 1;
    s->is_opened = true;
    s->n_history = 1;
    s->history[0] = (struct reign_row){.reign = 1, .holder = A + 1, .timeline = 1};
    s->sync_set = 1U << B | 1U << C;
    s->sync_count = 1;
    s->sync_epoch = 3;
}

static void
appoint_unopened(unsigned holder)
{
    struct state *s = &core.state;

    s->reign = 2;
    s->holder = holder + 1;
    s->is_opened = false;
    s->sync_epoch++;
    s->history[s->n_history++] = (struct reign_row){.reign = 2, .holder = holder + 1};
}

/* Those members let go of the holder and say what they have. */
static bool
is_sure(unsigned heard)
{
    const struct candidate *most;
    bool is_sure;

    for (unsigned i = 0; i < N; i++) {
        words[i] = (struct status){.id = i + 1,
                                   .frozen_reign = core.state.reign,
                                   .frozen_epoch = core.state.sync_epoch,
                                   .pg = {.run = PG_RUN_UP,
                                          .is_in_recovery = true,
                                          .sysid = 7,
                                          .timeline = 1,
                                          .lsn = 100 + i}};
        list[i] = (struct candidate){.member = &core.state.members[i],
                                     .status = &words[i],
                                     .is_fresh = (heard >> i & 1) != 0};
    }
    is_sure = governor_is_sure(&core, &fx, list, N, &most);
    assert_int_equal(most != NULL, heard != 0);
    return is_sure;
}

static void
all_but_one_less_than_the_count_of_the_set_is_enough(void **state)
{
    (void)state;
    begin();
    assert_false(is_sure(0));
    assert_false(is_sure(1U << B));
    assert_false(is_sure(1U << C));
    assert_true(is_sure(1U << B | 1U << C));
}

static void
the_last_primary_has_all_that_it_acknowledged(void **state)
{
    (void)state;
    begin();
    assert_true(is_sure(1U << A));
}

/* C may have served and acknowledged by itself: it is of the set, and its opening is only not on
 * record yet. The primary before it knows nothing of that. */
static void
a_reign_that_is_not_open_on_record_may_have_been_served(void **state)
{
    (void)state;
    begin();
    appoint_unopened(C);
    assert_false(is_sure(1U << A | 1U << B));
    assert_true(is_sure(1U << C));
    assert_true(is_sure(1U << B | 1U << C));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_but_one_less_than_the_count_of_the_set_is_enough),
        cmocka_unit_test(the_last_primary_has_all_that_it_acknowledged),
        cmocka_unit_test(a_reign_that_is_not_open_on_record_may_have_been_served),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
