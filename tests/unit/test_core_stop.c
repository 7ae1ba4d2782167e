/*
 * Goal:   an agent that is told to end hands its reign over while clients are served, under
 *         either policy; nothing is stuck when nobody can take it; the declared primary gets
 *         it back.
 *         A restart of PostgreSQL that a person asks for moves nobody.
 * Method: real cores on virtual time (tests/lib/corelab.h), SIGTERM as an event.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/corelab.h"

#define OUTAGE_MS 1000

static struct lab lab;

static void
begin(uint8_t failover)
{
    lab_init(&lab, 3, 0, failover);
    lab.is_trace = getenv("LAB_TRACE") != NULL;
    for (unsigned i = 0; i < 3; i++) {
        lab_power_on(&lab, i);
    }
    assert_true(lab_run_until_healthy(&lab, 0, 20000));
    lab_run(&lab, 10000);
}

static void
end(void)
{
    assert_int_equal(lab.violations, 0);
}

/* Tells it to end; returns the longest time without a primary until the agent is gone. */
static int64_t
stop_and_measure(unsigned i, int64_t limit_ms)
{
    int64_t longest = 0;
    int64_t since = -1;
    const int64_t begun = lab.now_ms;

    lab_stop(&lab, i);
    while (lab.nodes[i].is_on || lab_primary(&lab) < 0) {
        lab_run(&lab, 1);
        if (lab_primary(&lab) >= 0) {
            since = -1;
        } else if (since < 0) {
            since = lab.now_ms;
        } else if (lab.now_ms - since > longest) {
            longest = lab.now_ms - since;
        }
        assert_true(lab.now_ms - begun < limit_ms);
    }
    assert_int_equal(lab.nodes[i].exit_status, 0);
    return longest;
}

static void
a_rolling_restart_costs_less_than_a_second_each(void **state)
{
    (void)state;
    for (unsigned auto_mode = 0; auto_mode < 2; auto_mode++) {
        begin(auto_mode ? FAILOVER_AUTO : FAILOVER_DECLARED);
        for (unsigned i = 0; i < 3; i++) {
            assert_true(stop_and_measure(i, 10000) < OUTAGE_MS);
            lab_run(&lab, 500);
            lab_power_on(&lab, i);
            /* Under `declared` the first one gets its reign back before the second one stops. */
            assert_true(lab_run_until_healthy(&lab, auto_mode ? -1 : 0, 20000));
        }
        end();
    }
}

static void
every_record_is_handed_over(void **state)
{
    uint64_t lsn;

    (void)state;
    begin(FAILOVER_DECLARED);
    (void)stop_and_measure(0, 10000);
    lsn = lab.nodes[0].pg.facts.lsn; /* the shutdown record's end */
    assert_true(lab.nodes[1].core.state.history[1].fork_lsn >= lsn);
    assert_string_equal(lab.nodes[1].core.state.history[1].why, "handover");
    end();
}

static void
on_stop_stop_keeps_the_reign(void **state)
{
    (void)state;
    lab_init(&lab, 3, 0, FAILOVER_DECLARED);
    for (unsigned i = 0; i < 3; i++) {
        lab.configs[i].on_stop = ON_STOP_STOP;
        lab_power_on(&lab, i);
    }
    assert_true(lab_run_until_healthy(&lab, 0, 20000));
    lab_stop(&lab, 0);
    lab_run(&lab, 10000);
    assert_false(lab.nodes[0].is_on);
    assert_int_equal(lab_primary(&lab), -1);
    assert_int_equal(lab.nodes[1].core.state.reign, 1);
    lab_power_on(&lab, 0);
    assert_true(lab_run_until_healthy(&lab, 0, 20000));
    assert_int_equal(lab.nodes[1].core.state.reign, 1);
    end();
}

static void
all_told_to_end_at_once_end_and_come_back(void **state)
{
    (void)state;
    for (unsigned auto_mode = 0; auto_mode < 2; auto_mode++) {
        begin(auto_mode ? FAILOVER_AUTO : FAILOVER_DECLARED);
        for (unsigned i = 0; i < 3; i++) {
            lab_stop(&lab, i);
        }
        lab_run(&lab, 10000);
        for (unsigned i = 0; i < 3; i++) {
            assert_false(lab.nodes[i].is_on);
        }
        for (unsigned i = 0; i < 3; i++) {
            lab_power_on(&lab, i);
        }
        assert_true(lab_run_until_healthy(&lab, auto_mode ? -1 : 0, 30000));
        end();
    }
}

static void
without_a_successor_it_stops_at_once_and_serves_again(void **state)
{
    int64_t begun;

    (void)state;
    begin(FAILOVER_DECLARED);
    lab_power_off(&lab, 1);
    lab_power_off(&lab, 2);
    lab_run(&lab, 1000);
    begun = lab.now_ms;
    lab_stop(&lab, 0);
    while (lab.nodes[0].is_on) {
        lab_run(&lab, 10);
        assert_true(lab.now_ms - begun < 5000);
    }
    for (unsigned i = 0; i < 3; i++) {
        lab_power_on(&lab, i);
    }
    assert_true(lab_run_until_healthy(&lab, 0, 20000));
    end();
}

/* The update before came back a moment ago, and does not stream yet. */
static void
a_successor_that_is_on_its_way_is_waited_for(void **state)
{
    (void)state;
    for (unsigned auto_mode = 0; auto_mode < 2; auto_mode++) {
        for (int64_t after = 0; after < 1500; after += 100) {
            lab_init(&lab, 3, 0, auto_mode ? FAILOVER_AUTO : FAILOVER_DECLARED);
            lab.configs[2].is_nofailover = true;
            for (unsigned i = 0; i < 3; i++) {
                lab_power_on(&lab, i);
            }
            assert_true(lab_run_until_healthy(&lab, 0, 20000));
            lab_run(&lab, 10000);
            lab_stop(&lab, 1);
            while (lab.nodes[1].is_on) {
                lab_run(&lab, 10);
            }
            lab_run(&lab, 1000);
            lab_power_on(&lab, 1);
            lab_run(&lab, 300 + after); /* it is heard of again */
            assert_true(stop_and_measure(0, 12000) < OUTAGE_MS);
            assert_int_equal(lab_primary(&lab), 1);
            end();
        }
    }
}

static void
a_successor_that_dies_meanwhile_holds_nobody_up(void **state)
{
    (void)state;
    /* Every moment of the handover is met. */
    for (int64_t after = 0; after < 600; after += 40) {
        begin(FAILOVER_DECLARED);
        lab_stop(&lab, 0);
        lab_run(&lab, after);
        lab_power_off(&lab, 1);
        lab_power_off(&lab, 2);
        lab_run(&lab, 25000);
        assert_false(lab.nodes[0].is_on);
        for (unsigned i = 0; i < 3; i++) {
            lab_power_on(&lab, i);
        }
        assert_true(lab_run_until_healthy(&lab, 0, 40000));
        end();
    }
}

static void
a_restart_in_place_moves_nobody(void **state)
{
    (void)state;
    for (unsigned auto_mode = 0; auto_mode < 2; auto_mode++) {
        begin(auto_mode ? FAILOVER_AUTO : FAILOVER_DECLARED);
        for (unsigned i = 0; i < 2; i++) { /* the primary, and a standby */
            const uint64_t replies = lab.nodes[i].replies;
            bool was_down = false;

            lab_request(&lab, i, REQUEST_RESTART);
            for (int64_t begun = lab.now_ms; lab.nodes[i].replies == replies;) {
                lab_run(&lab, 1);
                was_down = was_down || lab.nodes[i].pg.facts.run != PG_RUN_UP;
                assert_true(lab.now_ms - begun < 5000);
            }
            assert_true(was_down);
            assert_int_equal(lab.nodes[i].last_reply_rc, 0);
            assert_int_equal(lab.nodes[i].pg.facts.run, PG_RUN_UP);
            assert_true(lab_run_until_healthy(&lab, 0, 5000));
            assert_int_equal(lab.nodes[0].core.state.reign, 1);
        }
        end();
    }
}

static void
a_restart_is_refused_while_a_switchover_runs(void **state)
{
    (void)state;
    begin(FAILOVER_DECLARED);
    lab_request_declare(&lab, 1, 1);
    for (unsigned k = 0; lab.nodes[0].core.handover == HANDOVER_NONE; k++) {
        assert_true(k < 5000);
        lab_run(&lab, 1);
    }
    lab_request(&lab, 0, REQUEST_RESTART);
    lab_run(&lab, 1);
    assert_int_not_equal(lab.nodes[0].last_reply_rc, 0);
    assert_true(lab_run_until_healthy(&lab, 1, 10000));
    end();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rolling_restart_costs_less_than_a_second_each),
        cmocka_unit_test(every_record_is_handed_over),
        cmocka_unit_test(on_stop_stop_keeps_the_reign),
        cmocka_unit_test(all_told_to_end_at_once_end_and_come_back),
        cmocka_unit_test(without_a_successor_it_stops_at_once_and_serves_again),
        cmocka_unit_test(a_restart_in_place_moves_nobody),
        cmocka_unit_test(a_restart_is_refused_while_a_switchover_runs),
        cmocka_unit_test(a_successor_that_is_on_its_way_is_waited_for),
        cmocka_unit_test(a_successor_that_dies_meanwhile_holds_nobody_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
