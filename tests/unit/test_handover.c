/*
 * Goal:   a primary that hands over gives its reign back on its successor's word alone, and serves
 *         again where any step fails: by plan nothing is lost.
 * Method: one row a condition over the moment after the clean stop (n1 reigned, n2 is to follow),
 *         one step.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "tests/unit/governor_scenes.h"

#define LAST_LSN 0x5000200 /* of the shutdown checkpoint */

static struct core core;
static struct effect_list fx;

static void
begin(void)
{
    struct status *to;

    scene_healthy(&core, N1);
    core.state.handover = core.state.members[N2].id;
    core.lease.reign = core.state.reign;
    core.lease.deadline = mono_ms(core.now.ms + 1700);
    core.pg.run = PG_RUN_STOPPED;
    core.pg.is_shut_down = true;
    core.pg.checkpoint_lsn = LAST_LSN;
    core.handover = HANDOVER_STOP;
    core.handover_at = core.now;
    to = &scene_peer(&core, N2)->status;
    to->pg.timeline = core.state.timeline;
    to->pg.replay_lsn = LAST_LSN + 1;
    fx.n = 0;
}

static bool
is_given_back(void)
{
    handover_step(&core, &fx);
    return core.vacate.reign == core.state.reign &&
           core.durable.released_reign == core.state.reign && core.vacate.final_lsn == LAST_LSN;
}

static void
the_word_of_the_successor_is_waited_for(void **state)
{
    struct status *to = NULL;

    (void)state;
    begin();
    assert_true(is_given_back());
    begin(); /* the last record itself is not replayed yet */
    to = &scene_peer(&core, N2)->status;
    to->pg.replay_lsn = LAST_LSN;
    assert_false(is_given_back());
    assert_int_equal(core.rule, 352);
    to->pg.replay_lsn = LAST_LSN + 1; /* and now it is */
    assert_true(is_given_back());
    begin(); /* received is not replayed */
    to->pg.replay_lsn = 0;
    to->pg.lsn = LAST_LSN + 1;
    assert_false(is_given_back());
    begin(); /* a position of another timeline proves nothing */
    to->pg.timeline++;
    assert_false(is_given_back());
}

static void
nobody_elses_word_counts(void **state)
{
    (void)state;
    begin(); /* n3 has it, n2 has not */
    scene_peer(&core, N2)->status.pg.replay_lsn = LAST_LSN;
    scene_peer(&core, N3)->status.pg.timeline = core.state.timeline;
    scene_peer(&core, N3)->status.pg.replay_lsn = LAST_LSN + 1;
    assert_false(is_given_back());
    begin(); /* a word of a while ago */
    silence(&core, N2);
    assert_false(is_given_back());
    begin(); /* another member at that address */
    scene_peer(&core, N2)->status.id++;
    assert_false(is_given_back());
}

static void
a_stop_that_was_not_clean_gives_nothing_back(void **state)
{
    (void)state;
    begin();
    core.pg.is_shut_down = false;
    assert_false(is_given_back());
    assert_int_equal(core.handover, HANDOVER_CANCEL);
    begin(); /* still writing its last records */
    core.pg.run = PG_RUN_UP;
    assert_false(is_given_back());
    assert_int_equal(core.handover, HANDOVER_STOP);
}

static void
without_the_word_it_serves_again(void **state)
{
    (void)state;
    begin();
    scene_peer(&core, N2)->status.pg.replay_lsn = LAST_LSN;
    assert_false(is_given_back());
    core.now = mono_ms(core.now.ms + 10000);
    scene_peer(&core, N2)->heard_at = core.now;
    assert_false(is_given_back());
    assert_int_equal(core.handover, HANDOVER_CONFIRM);
    core.now = mono_ms(core.now.ms + 1);
    assert_false(is_given_back());
    assert_int_equal(core.handover, HANDOVER_CANCEL);
    assert_int_equal(core.durable.released_reign, 0);
}

/* Another is declared while the server is stopped: nobody will give the word that is waited for. */
static void
withdrawn_it_serves_again_at_once(void **state)
{
    (void)state;
    begin();
    core.state.handover = 0;
    assert_false(is_given_back());
    assert_int_equal(core.handover, HANDOVER_CANCEL);
    begin(); /* the same a moment later */
    scene_peer(&core, N2)->status.pg.replay_lsn = LAST_LSN;
    assert_false(is_given_back());
    assert_int_equal(core.handover, HANDOVER_CONFIRM);
    core.state.handover = 0;
    assert_false(is_given_back());
    assert_int_equal(core.handover, HANDOVER_CANCEL);
    assert_int_equal(core.durable.released_reign, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_word_of_the_successor_is_waited_for),
        cmocka_unit_test(nobody_elses_word_counts),
        cmocka_unit_test(a_stop_that_was_not_clean_gives_nothing_back),
        cmocka_unit_test(without_the_word_it_serves_again),
        cmocka_unit_test(withdrawn_it_serves_again_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
