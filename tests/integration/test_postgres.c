/*
 * Goal:   agent/postgres does with a real server what its contract says.
 * Method: two nodes on 127.0.0.11 and 127.0.0.12, one loop; each test goes on from where the one
 *         before it left the nodes, as a cluster's life does.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/integration/pg_fixture.h"

static uv_loop_t loop;
static struct node a;
static struct node b;

static int
set_up(void **state)
{
    (void)state;
    (void)uv_loop_init(&loop);
    node_init(&a, &loop, "127.0.0.11");
    node_init(&b, &loop, "127.0.0.12");
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    if (a.pg != NULL) {
        node_close(&a);
    }
    if (b.pg != NULL) {
        node_close(&b);
    }
    node_remove(&a);
    node_remove(&b);
    return uv_loop_close(&loop);
}

static void
initdb_makes_a_primary_with_odd_passwords(void **state)
{
    (void)state;
    node_open(&a);
    assert_int_equal(a.facts.data, PG_DATA_EMPTY);
    if (node_run(&a, POSTGRES_INITDB, NULL) != HA_OK) {
        fail_msg("%s\n%s", a.text, a.log);
    }
    assert_int_equal(a.facts.data, PG_DATA_PRIMARY);
    assert_int_equal(a.facts.run, PG_RUN_STOPPED);
    assert_true(a.facts.is_shut_down);
    assert_int_equal(a.facts.control_timeline, 1);
    assert_true(a.facts.sysid != 0);
}

static void
start_primary_ends_when_sql_is_answered(void **state)
{
    char out[64];

    (void)state;
    if (node_run(&a, POSTGRES_START_PRIMARY, NULL) != HA_OK) {
        fail_msg("%s\n%s", a.text, a.log);
    }
    assert_int_equal(a.facts.run, PG_RUN_UP);
    assert_false(a.facts.is_in_recovery);
    assert_int_equal(a.facts.timeline, 1);
    assert_true(a.facts.lsn > 0);
    node_sql(&a,
             "SELECT current_setting('data_checksums') || current_setting('wal_log_hints')",
             out,
             sizeof out);
    assert_string_equal(out, "onon");
}

static void
stop_fast_leaves_the_facts_of_the_control_file(void **state)
{
    const double began = now_ms();

    (void)state;
    assert_int_equal(node_run(&a, POSTGRES_STOP_FAST, NULL), HA_OK);
    print_message("# fast stop %.0f ms\n", now_ms() - began);
    assert_int_equal(a.facts.run, PG_RUN_STOPPED);
    assert_true(a.facts.is_shut_down);
    assert_true(a.facts.checkpoint_lsn > 0);
    assert_int_equal(a.facts.exit_status, 0);
}

static void
kill_ends_a_running_server_at_once(void **state)
{
    double began;

    (void)state;
    assert_int_equal(node_run(&a, POSTGRES_START_PRIMARY, NULL), HA_OK);
    began = now_ms();
    postgres_kill(a.pg, "test");
    node_wait(&a, node_is_stopped, "stopped");
    print_message("# kill %.0f ms\n", now_ms() - began);
    assert_false(a.facts.is_shut_down);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(initdb_makes_a_primary_with_odd_passwords),
        cmocka_unit_test(start_primary_ends_when_sql_is_answered),
        cmocka_unit_test(stop_fast_leaves_the_facts_of_the_control_file),
        cmocka_unit_test(kill_ends_a_running_server_at_once),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
