/*
 * Goal:   whatever dies, and whenever: the facts say so only when no process is left over.
 * Method: a real server per test; processes are killed or stopped, an agent is a forked child
 *         that gets SIGKILL; each with the guardian between and without.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/postgres/pg_impl.h"
#include "fence/lease_page.h"
#include "tests/integration/pg_fixture.h"

static uv_loop_t loop;
static struct node a;
static struct node b;
static char lease_path[400];

static int
set_up(void **state)
{
    (void)state;
    (void)uv_loop_init(&loop);
    node_init(&a, &loop, "127.0.0.11");
    node_init(&b, &loop, "127.0.0.12");
    (void)snprintf(lease_path, sizeof lease_path, "%s/lease", a.root);
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

/* One cluster for the tests that need a server: made once, by the first of them. */
static void
need_primary(void)
{
    if (a.pg == NULL) {
        node_open(&a);
    }
    if (a.facts.data == PG_DATA_EMPTY) {
        node_run_ok(&a, POSTGRES_INITDB, NULL);
    }
    if (a.facts.run == PG_RUN_STOPPED) {
        node_run_ok(&a, POSTGRES_START_PRIMARY, NULL);
    }
}

/* Processes of the server, the postmaster first. */
static size_t
server_pids(struct node *node, pid_t pids[], size_t max)
{
    char out[512];
    char *at = out;
    size_t n = 0;

    pids[n++] = node_postmaster(node);
    node_sql(node,
             "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity"
             " WHERE backend_type <> 'client backend'",
             out,
             sizeof out);
    while (*at != '\0' && n < max) {
        pids[n++] = (pid_t)strtol(at, &at, 10);
    }
    return n;
}

static void
kill_postmaster(bool is_guarded)
{
    pid_t pids[32];
    size_t n;

    node_reopen_guarded(&a, is_guarded);
    need_primary();
    n = server_pids(&a, pids, 32);
    assert_true(n > 4);
    assert_int_equal(kill(pids[0], SIGKILL), 0);
    node_wait(&a, node_is_stopped, "stopped");
    assert_int_equal(a.facts.exit_status, -SIGKILL);
    assert_int_equal(a.facts.data, PG_DATA_PRIMARY);
    assert_false(a.facts.is_shut_down);
    for (size_t i = 0; i < n; i++) {
        assert_true(process_is_gone(pids[i]));
    }
}

static void
a_killed_postmaster_is_seen_when_all_its_processes_are_gone(void **state)
{
    (void)state;
    kill_postmaster(false);
}

static void
the_same_below_the_guardian(void **state)
{
    (void)state;
    if (getenv("HAGUARD") == NULL) {
        skip();
    }
    kill_postmaster(true);
}

/* A program that the server started and that outlives its postmaster by will. */
static void
stop_with_straggler(bool is_guarded)
{
    char sql[600];
    char path[400];
    char text[32] = "";
    FILE *f;

    node_reopen_guarded(&a, is_guarded);
    need_primary();
    (void)snprintf(path, sizeof path, "%s/straggler", a.pgdata);
    (void)snprintf(sql,
                   sizeof sql,
                   "COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; "
                   "setsid sleep 1000 >/dev/null 2>&1 & echo $! >%s'",
                   path);
    node_sql(&a, sql, NULL, 0);
    f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(text, sizeof text, f));
    (void)fclose(f);
    assert_false(process_is_gone((pid_t)strtol(text, NULL, 10)));
    node_run_ok(&a, POSTGRES_STOP_FAST, NULL);
    assert_int_equal(a.facts.run, PG_RUN_STOPPED);
    assert_true(process_is_gone((pid_t)strtol(text, NULL, 10)));
}

static void
stopped_means_that_no_program_of_the_server_is_left(void **state)
{
    (void)state;
    stop_with_straggler(false);
}

static void
guarded_or_not(void **state)
{
    (void)state;
    if (getenv("HAGUARD") == NULL) {
        skip();
    }
    stop_with_straggler(true);
}

static void
kill_stopped_server(bool is_guarded)
{
    pid_t pids[32];
    double began;
    size_t n;

    node_reopen_guarded(&a, is_guarded);
    need_primary();
    n = server_pids(&a, pids, 32);
    for (size_t i = 0; i < n; i += 2) {
        assert_int_equal(kill(pids[i], SIGSTOP), 0);
    }
    began = now_ms();
    postgres_kill(a.pg, "test");
    node_wait(&a, node_is_stopped, "stopped");
    print_message(
        "# kill of a stopped server%s: %.0f ms\n", is_guarded ? ", guarded" : "", now_ms() - began);
    assert_true(now_ms() - began < 5000);
    for (size_t i = 0; i < n; i++) {
        assert_true(process_is_gone(pids[i]));
    }
}

static void
a_stopped_postmaster_does_not_outlive_a_kill(void **state)
{
    (void)state;
    kill_stopped_server(false);
}

static void
nor_does_it_below_the_guardian(void **state)
{
    (void)state;
    if (getenv("HAGUARD") == NULL) {
        skip();
    }
    kill_stopped_server(true);
}

static void
agent_death(bool is_guarded)
{
    pid_t postmaster;
    pid_t agent;
    double began;

    node_reopen_guarded(&a, is_guarded);
    if (a.facts.data == PG_DATA_EMPTY) {
        node_run_ok(&a, POSTGRES_INITDB, NULL);
    }
    node_close(&a);
    agent = agent_fork(&a, POSTGRES_START_PRIMARY, NULL, true);
    postmaster = node_postmaster(&a);
    assert_false(process_is_gone(postmaster));
    began = now_ms();
    assert_int_equal(kill(agent, SIGKILL), 0);
    assert_true(process_wait_gone(postmaster));
    print_message("# server gone %.0f ms after the agent%s\n",
                  now_ms() - began,
                  is_guarded ? ", guarded" : "");
    (void)waitpid(agent, NULL, 0);
}

static void
a_killed_agent_takes_its_server_along(void **state)
{
    (void)state;
    agent_death(false);
}

static void
so_it_does_with_the_guardian_between(void **state)
{
    (void)state;
    if (getenv("HAGUARD") == NULL) {
        skip();
    }
    agent_death(true);
}

static void
b_begins_anew(void)
{
    if (b.pg != NULL) {
        node_close(&b);
    }
    node_remove(&b);
    node_init(&b, &loop, "127.0.0.12");
}

static void
a_server_that_does_not_start_says_why(void **state)
{
    (void)state;
    node_open(&b);
    node_run_ok(&b, POSTGRES_INITDB, NULL);
    node_close(&b);
    b.config.extra_conf = "work_mem=banana";
    node_open(&b);
    assert_int_equal(node_run(&b, POSTGRES_START_PRIMARY, NULL), HA_EFAILED);
    if (strstr(b.text, "work_mem") == NULL) {
        fail_msg("%s", b.text);
    }
    assert_int_equal(b.facts.run, PG_RUN_STOPPED);
    node_close(&b);
    b.config.extra_conf = "fsync=off";
    node_open(&b);
}

static void
a_stale_pid_file_that_names_a_stranger_does_not_hold_a_start_up(void **state)
{
    int lock[2];

    (void)state;
    node_close(&b);
    /* Another process of PostgreSQL's user has the number by now. */
    shell_run("setpriv --reuid postgres --clear-groups sleep 100 >/dev/null 2>&1 & echo $! "
              ">%s/postmaster.pid",
              b.pgdata);
    assert_int_equal(pipe(lock), 0);
    b.config.inherit_fds[0] = lock[0];
    b.config.n_inherit_fds = 1;
    node_open(&b);
    node_run_ok(&b, POSTGRES_START_PRIMARY, NULL);
    postgres_kill(b.pg, "test");
    node_wait(&b, node_is_stopped, "stopped");
    (void)close(lock[0]);
    (void)close(lock[1]);
    b.config.n_inherit_fds = 0;
}

static void
expect_open_error(int rc, const char *text)
{
    struct err err = {0};

    assert_int_equal(node_try_open(&b, &err), rc);
    if (strstr(err.text, text) == NULL) {
        fail_msg("%s", err.text);
    }
}

static void
what_cannot_work_is_said_at_once_with_what_to_do(void **state)
{
    const unsigned major = b.facts.version;
    const unsigned other = major == 17 ? 16 : 17; /* of which nothing is installed */
    char bin_dir[64];
    char text[64];

    (void)state;
    (void)snprintf(bin_dir, sizeof bin_dir, "/usr/lib/postgresql/%u/bin", major);
    (void)snprintf(text, sizeof text, "install postgresql-%u", other);
    node_close(&b);
    b.pg = NULL;
    shell_run("echo 12 >%s/PG_VERSION", b.pgdata);
    expect_open_error(HA_EVERSION, "13 to 18");
    shell_run("echo %u >%s/PG_VERSION", other, b.pgdata);
    b.config.bin_dir = "/nowhere";
    expect_open_error(HA_ENOTFOUND, text);
    b.config.bin_dir = bin_dir;
    expect_open_error(HA_EVERSION, text);
    b.config.bin_dir = "";
    shell_run("echo %u >%s/PG_VERSION; chown root %s", major, b.pgdata, b.pgdata);
    expect_open_error(HA_EREFUSED, "chown");
    shell_run("chown postgres %s", b.pgdata);
    b.config.extra_conf = "port=1";
    expect_open_error(HA_EINVAL, "the agent owns");
    b.config.extra_conf = "";
    b.config.replication_password = "two\nlines";
    expect_open_error(HA_EINVAL, "line end");
    b.config.replication_password = FIXTURE_REPL_PASSWORD;
    b.config.uid = 0;
    expect_open_error(HA_EINVAL, "root");
    b.config.uid = 65000;
    expect_open_error(HA_EINVAL, "no name");
}

static void
lease_for(struct lease_page *page, int64_t ms)
{
    struct timespec ts;
    struct mono now;

    (void)clock_gettime(CLOCK_BOOTTIME, &ts);
    now = mono_ms(ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
    lease_page_set(page, mono_add(now, ms), now);
}

static void
a_promotion_below_the_fence_and_its_end_with_the_lease(void **state)
{
    struct lease_page page = {0};
    struct err err = {0};
    double began;

    (void)state;
    if (getenv("HA_FENCE") == NULL || getenv("HAGUARD") == NULL) {
        skip();
    }
    b_begins_anew();
    b.config.fence_library = getenv("HA_FENCE");
    b.config.lease_path = lease_path;
    node_reopen_guarded(&a, false);
    need_primary();
    b.config.guardian = getenv("HAGUARD");
    node_open(&b);
    node_run_ok(&b, POSTGRES_CLONE, "127.0.0.11");
    node_run_ok(&b, POSTGRES_START_STANDBY, "127.0.0.11");
    node_wait(&b, node_is_streaming, "streaming");
    assert_int_equal(lease_page_create(&page, lease_path, 1, &err), HA_OK);
    lease_for(&page, 60000);
    /* Not while it looks at another page than the agent's. */
    b.pg->config.lease_path = "/nowhere/lease";
    assert_int_equal(node_run(&b, POSTGRES_PROMOTE, NULL), HA_EREFUSED);
    assert_non_null(strstr(b.text, "its ha_fence looks at"));
    b.pg->config.lease_path = lease_path;
    began = now_ms();
    node_run_ok(&b, POSTGRES_PROMOTE, NULL);
    print_message("# promote with fence and guardian %.0f ms\n", now_ms() - began);
    node_sql(&b, "CREATE TABLE fenced(n int)", NULL, 0);
    lease_page_revoke(&page);
    began = now_ms();
    node_wait(&b, node_is_stopped, "stopped");
    print_message("# server gone %.0f ms after the lease\n", now_ms() - began);
    assert_int_equal(b.facts.data, PG_DATA_PRIMARY);
    lease_page_close(&page);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_postmaster_is_seen_when_all_its_processes_are_gone),
        cmocka_unit_test(the_same_below_the_guardian),
        cmocka_unit_test(stopped_means_that_no_program_of_the_server_is_left),
        cmocka_unit_test(guarded_or_not),
        cmocka_unit_test(a_stopped_postmaster_does_not_outlive_a_kill),
        cmocka_unit_test(nor_does_it_below_the_guardian),
        cmocka_unit_test(a_killed_agent_takes_its_server_along),
        cmocka_unit_test(so_it_does_with_the_guardian_between),
        cmocka_unit_test(a_server_that_does_not_start_says_why),
        cmocka_unit_test(a_stale_pid_file_that_names_a_stranger_does_not_hold_a_start_up),
        cmocka_unit_test(what_cannot_work_is_said_at_once_with_what_to_do),
        cmocka_unit_test(a_promotion_below_the_fence_and_its_end_with_the_lease),
    };

    fixture_isolate();
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
