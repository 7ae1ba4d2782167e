/*
 * Goal:   a holder whose PostgreSQL is sick gives its reign up where policy allows and somebody can
 *         take over, never before its server is dead; else it only says so.
 * Method: real cores on virtual time (tests/lib/corelab.h); observations of PostgreSQL as events.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/corelab.h"

#define SICK_MS 3000

static struct lab lab;
static bool is_silent[LAB_MAX];
static bool is_low[LAB_MAX];

/* Runs with a canary that commits each second, but where a server is silent. */
static void
run(int64_t ms)
{
    for (int64_t end = lab.now_ms + ms; lab.now_ms < end;) {
        for (unsigned i = 0; i < 3; i++) {
            const struct pg_probe server = {.kind = PG_PROBE_SERVER,
                                            .is_new_session = true,
                                            .is_answered = !is_silent[i],
                                            .is_done = !is_silent[i]};
            const struct pg_probe host = {.kind = PG_PROBE_HOST,
                                          .free_bytes = is_low[i] ? 1 << 20 : 1 << 30,
                                          .total_bytes = 4ULL << 30};

            if (lab.nodes[i].is_on) {
                lab_probe(&lab, i, &server);
                lab_probe(&lab, i, &host);
            }
        }
        for (unsigned k = 0; k < 10 && lab.now_ms < end; k++) {
            lab_run(&lab, 100);
        }
    }
}

static void
begin(uint8_t failover)
{
    memset(is_silent, 0, sizeof is_silent);
    memset(is_low, 0, sizeof is_low);
    lab_init(&lab, 3, 0, failover);
    lab.is_trace = getenv("LAB_TRACE") != NULL;
    for (unsigned i = 0; i < 3; i++) {
        lab.configs[i].sick_ms = SICK_MS;
        lab.configs[i].disk_reserve = 64 << 20;
        lab_power_on(&lab, i);
    }
    assert_true(lab_run_until_healthy(&lab, 0, 20000));
    run(20000);
    assert_int_equal(lab_primary(&lab), 0);
}

static void
end(void)
{
    assert_int_equal(lab.violations, 0);
}

static void
a_hung_server_is_killed_and_another_takes_over(void **state)
{
    (void)state;
    begin(FAILOVER_AUTO);
    is_silent[0] = true;
    run(SICK_MS - 1000);
    assert_int_equal(lab_primary(&lab), 0);
    run(4000);
    assert_true(lab_primary(&lab) > 0);
    assert_int_equal(lab.nodes[1].core.state.reign, 2);
    is_silent[0] = false;
    assert_true(lab_run_until_healthy(&lab, -1, 30000));
    assert_true(lab_primary(&lab) > 0);
    end();
}

static void
under_declared_it_is_an_alarm_and_nothing_more(void **state)
{
    (void)state;
    begin(FAILOVER_DECLARED);
    is_silent[0] = true;
    run(20000);
    assert_int_equal(lab_primary(&lab), 0);
    assert_int_equal(lab.nodes[0].core.state.reign, 1);
    assert_int_equal(lab.nodes[0].core.rule, 340);
    assert_int_equal(core_peer_at(&lab.nodes[1].core, lab_address(0))->status.health, HEALTH_HUNG);
    is_silent[0] = false;
    run(2000);
    assert_int_equal(lab.nodes[0].core.rule, 331);
    end();
}

/* HA_ON_CRASH=failover is about an end, and `declared` appoints nobody by itself: an alarm. */
static void
under_declared_no_other_setting_changes_that(void **state)
{
    (void)state;
    begin(FAILOVER_DECLARED);
    lab.nodes[0].core.config.on_crash = ON_CRASH_FAILOVER;
    is_silent[0] = true;
    is_low[0] = true;
    run(20000);
    assert_int_equal(lab_primary(&lab), 0);
    assert_int_equal(lab.nodes[0].core.state.reign, 1);
    end();
}

/* Its own stall is no silence of PostgreSQL's. */
static void
an_agent_that_did_not_run_blames_nobody(void **state)
{
    (void)state;
    begin(FAILOVER_AUTO);
    is_silent[0] = true;
    run(1000);
    lab_run(&lab, SICK_MS - 2500);
    lab.nodes[0].is_frozen = true;
    lab_run(&lab, 1200);
    lab.nodes[0].is_frozen = false;
    lab_run(&lab, 400); /* more than the limit after the last answer */
    assert_int_equal(lab.nodes[0].core.verdict, HEALTH_WELL);
    assert_int_equal(lab_primary(&lab), 0);
    is_silent[0] = false;
    run(3000);
    assert_int_equal(lab_primary(&lab), 0);
    end();
}

static void
without_a_healthy_standby_it_is_an_alarm_and_nothing_more(void **state)
{
    (void)state;
    begin(FAILOVER_AUTO);
    is_silent[1] = is_silent[2] = true;
    run(5000);
    is_silent[0] = true;
    run(20000);
    assert_int_equal(lab_primary(&lab), 0);
    assert_int_equal(lab.nodes[0].core.state.reign, 1);
    assert_int_equal(lab.nodes[0].core.rule, 340);
    is_silent[2] = false; /* one is well again: it takes over */
    run(4000);
    assert_int_equal(lab_primary(&lab), 2);
    end();
}

static void
a_low_disk_hands_over_cleanly(void **state)
{
    (void)state;
    begin(FAILOVER_AUTO);
    is_low[0] = true;
    run(4000);
    assert_true(lab_primary(&lab) > 0);
    assert_string_equal(lab.nodes[1].core.state.history[1].why, "handover");
    is_low[1] = is_low[2] = true; /* everybody's: it stays where it is */
    {
        const int primary = lab_primary(&lab);

        run(20000);
        assert_int_equal(lab_primary(&lab), primary);
        assert_int_equal(lab.nodes[1].core.state.reign, 2);
    }
    end();
}

static void
the_reign_does_not_come_back_to_a_sick_member(void **state)
{
    (void)state;
    begin(FAILOVER_AUTO);
    is_low[0] = true;
    run(4000);
    assert_true(lab_primary(&lab) > 0);
    lab_request_declare(&lab, 1, (unsigned)lab_primary(&lab)); /* else the next words are no news */
    run(1000);
    lab_request_declare(&lab, 1, 0); /* a wish; it waits until the member is well */
    run(10000);
    assert_true(lab_primary(&lab) > 0);
    is_low[0] = false;
    run(5000);
    assert_int_equal(lab_primary(&lab), 0);
    end();
}

static void
a_server_that_cannot_be_killed_lets_the_lease_run_out(void **state)
{
    (void)state;
    begin(FAILOVER_AUTO);
    is_silent[0] = true;
    lab.is_kill_stuck[0] = true;
    run(4000);
    assert_true(lab.nodes[0].core.is_killing);
    run(6000); /* one promise and an appointment */
    assert_true(lab_primary(&lab) > 0);
    assert_true(lab.nodes[0].core.is_killing);
    assert_int_equal(lab.nodes[0].core.durable.released_reign, 0); /* never while it may live */
    lab.is_kill_stuck[0] = false;
    is_silent[0] = false;
    assert_true(lab_run_until_healthy(&lab, -1, 30000));
    assert_true(lab_primary(&lab) > 0);
    end();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hung_server_is_killed_and_another_takes_over),
        cmocka_unit_test(under_declared_it_is_an_alarm_and_nothing_more),
        cmocka_unit_test(under_declared_no_other_setting_changes_that),
        cmocka_unit_test(an_agent_that_did_not_run_blames_nobody),
        cmocka_unit_test(without_a_healthy_standby_it_is_an_alarm_and_nothing_more),
        cmocka_unit_test(a_low_disk_hands_over_cleanly),
        cmocka_unit_test(the_reign_does_not_come_back_to_a_sick_member),
        cmocka_unit_test(a_server_that_cannot_be_killed_lets_the_lease_run_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
