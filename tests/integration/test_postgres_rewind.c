/*
 * Goal:   data that left the history are taken back by pg_rewind; what it cannot do leaves them
 *         whole; what is cut short in the middle is never started, and a copy takes its place.
 * Method: two servers whose roles go around; the agent of the one that rewinds is killed right
 *         before pg_rewind changes the first file, and right before the data come back.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/integration/pg_fixture.h"

#define A "127.0.0.11"
#define B "127.0.0.12"

static uv_loop_t loop;
static struct node a;
static struct node b;

static int
set_up(void **state)
{
    (void)state;
    (void)uv_loop_init(&loop);
    node_init(&a, &loop, A);
    node_init(&b, &loop, B);
    a.config.guardian = b.config.guardian = getenv("HAGUARD");
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    node_close(&a);
    node_close(&b);
    node_remove(&a);
    node_remove(&b);
    return uv_loop_close(&loop);
}

static void
set_members(struct node *node)
{
    static const char *const BOTH[] = {A, B};

    postgres_set_members(node->pg, BOTH, 2);
}

static bool
streams_newest(struct node *node)
{
    const struct node *primary = node == &a ? &b : &a;

    return node->facts.is_streaming && node->facts.timeline == primary->facts.timeline;
}

static void
a_primary_and_its_standby(void **state)
{
    (void)state;
    node_open(&a);
    node_run_ok(&a, POSTGRES_INITDB, NULL);
    set_members(&a);
    node_run_ok(&a, POSTGRES_START_PRIMARY, NULL);
    node_sql(&a, "CREATE TABLE rows AS SELECT 1 AS i", NULL, 0);
    node_open(&b);
    set_members(&b);
    node_run_ok(&b, POSTGRES_CLONE, A);
    node_run_ok(&b, POSTGRES_START_STANDBY, A);
    node_wait(&b, streams_newest, "streaming");
    assert_true(a.facts.lineage == LINEAGE_FIRST && b.facts.lineage == LINEAGE_FIRST);
}

/* The primary writes what the standby never gets, and dies; the standby is promoted. */
static void
part(struct node *primary, struct node *standby)
{
    char have[32] = "";

    for (int i = 0; i < 100 && !standby->facts.is_streaming; i++) {
        node_turn(standby, 100);
    }
    for (int i = 0; i < 300 && strcmp(have, "1") != 0; i++) {
        node_turn(standby, 100);
        node_sql(standby, "SELECT sum(i) FROM rows", have, sizeof have);
    }
    assert_string_equal(have, "1");
    node_run_ok(standby, POSTGRES_FOLLOW, "");
    node_sql(primary, "INSERT INTO rows VALUES (1000)", NULL, 0);
    postgres_kill(primary->pg, "test");
    node_wait(primary, node_is_stopped, "stopped");
    assert_false(primary->facts.is_shut_down);
    assert_true(primary->facts.was_primary);
    node_run_ok(standby, POSTGRES_PROMOTE, NULL);
}

static void
joins(struct node *node, struct node *primary)
{
    char sum[32];

    node_run_ok(node, POSTGRES_START_STANDBY, primary->address);
    node_wait(node, streams_newest, "streaming the newest timeline");
    assert_true(node->facts.lineage == primary->facts.lineage);
    node_sql(node, "SELECT sum(i) FROM rows", sum, sizeof sum);
    assert_string_equal(sum, "1");
}

static void
a_diverged_primary_is_taken_back(void **state)
{
    (void)state;
    part(&a, &b);
    node_run_ok(&a, POSTGRES_REWIND, B);
    assert_int_equal(a.facts.data, PG_DATA_STANDBY);
    assert_true(a.facts.is_fresh_copy && !a.facts.has_old && !a.facts.was_primary);
    assert_false(file_is_there(a.root, "v/data.old"));
    joins(&a, &b);
}

static void
without_the_rights_its_data_stay_what_they_were(void **state)
{
    (void)state;
    a.log[0] = '\0'; /* what it said of its first time as a primary */
    a.log_len = 0;
    part(&b, &a);
    for (int i = 0; i < 100 && !node_log_has(&a, "upkeep pg_rewind may"); i++) {
        node_turn(&a, 100);
    }
    node_sql_in(
        &a,
        "postgres",
        "REVOKE EXECUTE ON FUNCTION pg_read_binary_file(text, bigint, bigint, boolean) FROM "
        "\"rep\\user\"",
        NULL,
        0);
    assert_int_equal(node_run(&b, POSTGRES_REWIND, A), HA_EFAILED);
    if (strstr(b.text, "permission denied") == NULL) {
        fail_msg("%s", b.text);
    }
    assert_int_equal(b.facts.data, PG_DATA_PRIMARY);
    assert_true(file_is_there(b.pgdata, "PG_VERSION"));
    node_sql_in(&a,
                "postgres",
                "GRANT EXECUTE ON FUNCTION pg_read_binary_file(text, bigint, bigint, boolean) TO "
                "\"rep\\user\"",
                NULL,
                0);
    node_run_ok(&b, POSTGRES_REWIND, A);
    joins(&b, &a);
}

/* The agent of a node dies when its log says that; opens it again. */
static void
dies_at(struct node *node, const char *words, const char *from)
{
    pid_t agent;
    int status;

    node_close(node);
    node->die_at = words;
    agent = agent_fork_dying(node, POSTGRES_REWIND, from);
    node->die_at = NULL;
    (void)waitpid(agent, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    agent_wait_lock(node);
    node->loop = node->config.loop = &loop;
    node_open(node);
    set_members(node);
}

static void
half_rewound_data_are_never_started(void **state)
{
    const uint64_t sysid = a.facts.sysid;

    (void)state;
    part(&a, &b);
    dies_at(&a, "creating backup label", B);
    assert_int_equal(a.facts.data, PG_DATA_TORN);
    assert_true(a.facts.sysid == sysid);
    assert_false(file_is_there(a.pgdata, "PG_VERSION"));
    assert_int_equal(node_run(&a, POSTGRES_START_STANDBY, B), HA_EREFUSED);
    assert_int_equal(node_run(&a, POSTGRES_START_PRIMARY, NULL), HA_EREFUSED);
    assert_int_equal(node_run(&a, POSTGRES_REWIND, B), HA_EREFUSED);
    assert_int_equal(a.facts.data, PG_DATA_TORN);
    node_run_ok(&a, POSTGRES_CLONE, B);
    assert_true(a.facts.has_old);
    joins(&a, &b);
}

static void
rewound_data_come_back_after_a_crash(void **state)
{
    (void)state;
    part(&b, &a);
    dies_at(&b, ".old/data to ", A);
    assert_int_equal(b.facts.data, PG_DATA_STANDBY);
    assert_true(b.facts.is_fresh_copy);
    assert_false(file_is_there(b.root, "v/data.old"));
    joins(&b, &a);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_primary_and_its_standby),
        cmocka_unit_test(a_diverged_primary_is_taken_back),
        cmocka_unit_test(without_the_rights_its_data_stay_what_they_were),
        cmocka_unit_test(half_rewound_data_are_never_started),
        cmocka_unit_test(rewound_data_come_back_after_a_crash),
    };

    fixture_isolate();
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
