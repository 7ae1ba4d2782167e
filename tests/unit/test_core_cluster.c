/*
 * Goal:   several cores together do what the product promises: found once, fail
 *         over, hand over, fence, come back - and S1 holds at every millisecond.
 * Method: real cores on virtual time (tests/lib/corelab.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/lib/corelab.h"

static struct lab lab;

static void
begin(unsigned n, unsigned n_witnesses, uint8_t failover)
{
    lab_init(&lab, n, n_witnesses, failover);
    lab.is_trace = getenv("LAB_TRACE") != NULL;
    for (unsigned i = 0; i < n; i++) {
        lab_power_on(&lab, i);
    }
    assert_true(lab_run_until_healthy(&lab, 0, 20000));
}

static void
end(void)
{
    assert_int_equal(lab.violations, 0);
}

static void
one_two_and_three_members_found_a_cluster(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 3; n++) {
        begin(n, 0, FAILOVER_DECLARED);
        assert_int_equal(lab.nodes[0].core.state.reign, 1);
        end();
    }
}

static void
one_of_three_alone_founds_nothing(void **state)
{
    (void)state;
    lab_init(&lab, 3, 0, FAILOVER_AUTO);
    lab_power_on(&lab, 0);
    lab_run(&lab, 20000);
    assert_int_equal(lab.nodes[0].core.durable.id, 0);
    assert_int_equal(lab.nodes[0].pg.facts.data, PG_DATA_EMPTY);
    lab_power_on(&lab, 1);
    assert_true(lab_run_until_healthy(&lab, 0, 20000));
    lab_power_on(&lab, 2);
    assert_true(lab_run_until_healthy(&lab, 0, 20000));
    end();
}

static void
a_new_declaration_is_a_switchover(void **state)
{
    (void)state;
    begin(3, 0, FAILOVER_DECLARED);
    for (unsigned i = 1; i < 7; i++) {
        lab_request_declare(&lab, i % 2, i % 3);
        assert_true(lab_run_until_healthy(&lab, (int)(i % 3), 5000));
        assert_int_equal(lab.nodes[0].core.state.reign, i + 1);
        assert_string_equal(lab.nodes[0].core.state.history[i].why, "handover");
    }
    end();
}

static void
auto_fails_over_when_the_node_is_lost(void **state)
{
    (void)state;
    begin(3, 0, FAILOVER_AUTO);
    lab_power_off(&lab, 0); /* no grace: the holder was seen alive since the start of all */
    for (int64_t at = lab.now_ms; lab_primary(&lab) < 0;) {
        lab_run(&lab, 1);
        assert_true(lab.now_ms - at < 3500);
    }
    lab_power_on(&lab, 0);
    assert_true(lab_run_until_healthy(&lab, -1, 20000));
    assert_int_not_equal(lab_primary(&lab), 0);
    end();
}

static void
auto_fails_over_fast_when_postgres_ends(void **state)
{
    (void)state;
    begin(3, 0, FAILOVER_AUTO);
    lab_run(&lab, 2000);
    lab_crash_postgres(&lab, 0);
    for (int64_t at = lab.now_ms; lab_primary(&lab) < 0;) {
        lab_run(&lab, 1);
        assert_true(lab.now_ms - at < 600);
    }
    assert_true(lab_run_until_healthy(&lab, -1, 20000));
    end();
}

static void
a_cut_primary_stops_before_another_begins(void **state)
{
    (void)state;
    begin(3, 0, FAILOVER_AUTO);
    lab_run(&lab, 20000);
    lab_cut(&lab, 0, true);
    lab_run(&lab, 2000);
    assert_int_not_equal(lab_primary(&lab), 0);
    lab_run(&lab, 4000);
    assert_true(lab_primary(&lab) > 0);
    lab_cut(&lab, 0, false);
    assert_true(lab_run_until_healthy(&lab, -1, 30000));
    assert_true(lab_primary(&lab) > 0);
    end();
}

static void
a_frozen_agent_loses_its_reign_and_comes_back(void **state)
{
    (void)state;
    begin(3, 0, FAILOVER_AUTO);
    lab_run(&lab, 20000);
    lab.nodes[0].is_frozen = true;
    lab_run(&lab, 6000);
    assert_true(lab_primary(&lab) > 0);
    lab.nodes[0].is_frozen = false;
    assert_true(lab_run_until_healthy(&lab, -1, 30000));
    end();
}

static void
declared_waits_for_a_declaration(void **state)
{
    (void)state;
    begin(3, 0, FAILOVER_DECLARED);
    lab_power_off(&lab, 0);
    lab_run(&lab, 20000);
    assert_int_equal(lab_primary(&lab), -1);
    lab_request_declare(&lab, 1, 2);
    assert_true(lab_run_until_healthy(&lab, 2, 5000));
    lab_power_on(&lab, 0);
    assert_true(lab_run_until_healthy(&lab, 2, 20000));
    end();
}

static void
declared_serves_again_when_the_primary_returns(void **state)
{
    (void)state;
    begin(3, 0, FAILOVER_DECLARED);
    lab_power_off(&lab, 0);
    lab_run(&lab, 10000);
    lab_power_on(&lab, 0);
    assert_true(lab_run_until_healthy(&lab, 0, 10000));
    assert_int_equal(lab.nodes[0].core.state.reign, 1);
    lab_crash_postgres(&lab, 0);
    assert_true(lab_run_until_healthy(&lab, 0, 10000));
    assert_int_equal(lab.nodes[0].core.state.reign, 1);
    end();
}

static void
two_members_survive_the_replica_but_not_the_primary(void **state)
{
    (void)state;
    begin(2, 0, FAILOVER_AUTO);
    lab_run(&lab, 20000);
    lab_power_off(&lab, 1);
    lab_run(&lab, 10000);
    assert_int_equal(lab_primary(&lab), 0);
    lab_power_off(&lab, 0);
    lab_power_on(&lab, 0);
    lab_run(&lab, 10000);
    assert_int_equal(lab_primary(&lab), 0);
    lab_power_on(&lab, 1);
    assert_true(lab_run_until_healthy(&lab, 0, 10000));
    lab_power_off(&lab, 0);
    lab_run(&lab, 30000);
    assert_int_equal(lab_primary(&lab), -1);
    lab_power_on(&lab, 0);
    assert_true(lab_run_until_healthy(&lab, 0, 20000));
    end();
}

static void
a_witness_makes_two_databases_fail_over(void **state)
{
    (void)state;
    begin(3, 1, FAILOVER_AUTO);
    lab_run(&lab, 20000);
    lab_power_off(&lab, 0);
    lab_run(&lab, 5000);
    assert_int_equal(lab_primary(&lab), 1);
    end();
}

static void
everybody_restarts_and_the_same_primary_serves(void **state)
{
    (void)state;
    for (unsigned auto_mode = 0; auto_mode < 2; auto_mode++) {
        begin(3, 0, auto_mode ? FAILOVER_AUTO : FAILOVER_DECLARED);
        for (unsigned i = 0; i < 3; i++) {
            lab_power_off(&lab, i);
        }
        for (unsigned i = 3; i > 0; i--) {
            lab_power_on(&lab, i - 1);
            lab_run(&lab, 1500);
        }
        assert_true(lab_run_until_healthy(&lab, 0, 20000));
        assert_int_equal(lab.nodes[0].core.state.reign, 1);
        end();
    }
}

static void
a_lost_disk_is_replaced(void **state)
{
    (void)state;
    for (unsigned with_data = 0; with_data < 2; with_data++) {
        begin(3, 0, FAILOVER_DECLARED);
        lab_power_off(&lab, 2);
        lab_lose_disk(&lab, 2, true, with_data != 0);
        lab_power_on(&lab, 2);
        assert_true(lab_run_until_healthy(&lab, 0, 20000));
        assert_int_equal(lab.nodes[0].core.state.settled_generation, 2);
        lab_power_off(&lab, 0);
        lab_lose_disk(&lab, 0, true, false);
        lab_power_on(&lab, 0);
        assert_true(lab_run_until_healthy(&lab, 0, 30000));
        end();
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_two_and_three_members_found_a_cluster),
        cmocka_unit_test(one_of_three_alone_founds_nothing),
        cmocka_unit_test(a_new_declaration_is_a_switchover),
        cmocka_unit_test(auto_fails_over_when_the_node_is_lost),
        cmocka_unit_test(auto_fails_over_fast_when_postgres_ends),
        cmocka_unit_test(a_cut_primary_stops_before_another_begins),
        cmocka_unit_test(a_frozen_agent_loses_its_reign_and_comes_back),
        cmocka_unit_test(declared_waits_for_a_declaration),
        cmocka_unit_test(declared_serves_again_when_the_primary_returns),
        cmocka_unit_test(two_members_survive_the_replica_but_not_the_primary),
        cmocka_unit_test(a_witness_makes_two_databases_fail_over),
        cmocka_unit_test(everybody_restarts_and_the_same_primary_serves),
        cmocka_unit_test(a_lost_disk_is_replaced),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
