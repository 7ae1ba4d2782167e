/*
 * Goal:   a holder that was started again starts its PostgreSQL as a primary only when it knows the
 *         newest record of whom commits wait for, whatever it remembers of the log.
 * Method: n1 of a healthy cluster with a lease and a stopped server, one step.
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

static struct core core;
static struct effect_list fx;

static void
begin(void)
{
    scene_healthy(&core, N1);
    core.lease.reign = core.state.reign;
    core.lease.deadline = mono_ms(core.now.ms + 1700);
    core.durable.opened_reign = core.durable_saved.opened_reign = core.state.reign;
    core.durable.boots = core.durable_saved.boots = 5;
    core.state.members[N1].nonce = 100;
    core.state.members[N1].last_counter = 4ULL << 32 | 9; /* before this start */
    core.pg.run = PG_RUN_STOPPED;
    core.pg.data = PG_DATA_PRIMARY;
    core.pg.control_timeline = core.state.timeline;
    core.pg.lineage = core.state.lineage;
}

static bool
starts(void)
{
    fx.n = 0;
    holder_step(&core, &fx);
    for (uint32_t i = 0; i < fx.n; i++) {
        if (fx.at[i].type == EFFECT_PG && fx.at[i].pg.op == PG_OP_START_PRIMARY) {
            return true;
        }
    }
    return false;
}

/* Its memory, and its environment, may be of a time when commits waited for nobody. */
static void
it_starts_when_the_log_has_answered_it(void **state)
{
    (void)state;
    begin();
    assert_false(starts());
    assert_true(core.is_proposing && core.proposal.type == COMMAND_REGISTER);
    assert_int_equal(core.rule, 319);
    core.is_proposing = false;
    core.state.members[N1].last_counter = 5ULL << 32 | 1;
    assert_true(starts());
    assert_int_equal(core.rule, 321);
}

/* A memory of the moment before the first opening names no system and no record. */
static void
a_memory_of_before_the_opening_is_no_leave(void **state)
{
    (void)state;
    begin();
    core.state.sysid = 0;
    core.state.is_opened = false;
    core.state.opened_reign = 0;
    assert_false(starts());
    assert_int_equal(core.rule, 319);
    core.is_proposing = false;
    core.state.members[N1].last_counter = 5ULL << 32 | 1;
    assert_true(starts());
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_starts_when_the_log_has_answered_it),
        cmocka_unit_test(a_memory_of_before_the_opening_is_no_leave),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
