/*
 * Goal:   whatever dies, and whenever: no process is left over, no good data directory is lost.
 * Method: a real server per test; processes are killed or stopped, crashes in the middle of a
 *         swap are laid out by hand, an agent is a forked child that gets SIGKILL. Runs in a mount
 *         namespace of its own, so that PGDATA can be a mount point.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

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
    (void)umount2(b.pgdata, MNT_DETACH);
    node_remove(&a);
    node_remove(&b);
    return uv_loop_close(&loop);
}

static void
run_ok(struct node *node, enum postgres_op op, const char *from)
{
    if (node_run(node, op, from) != HA_OK) {
        fail_msg("%s: operation %d: %s\n%s", node->address, (int)op, node->text, node->log);
    }
}

/* One cluster for the tests that need a server: made once, by the first of them. */
static void
need_primary(void)
{
    if (a.pg == NULL) {
        node_open(&a);
    }
    if (a.facts.data == PG_DATA_EMPTY) {
        run_ok(&a, POSTGRES_INITDB, NULL);
    }
    if (a.facts.run == PG_RUN_STOPPED) {
        run_ok(&a, POSTGRES_START_PRIMARY, NULL);
    }
}

static void
reopen_guarded(struct node *node, bool is_guarded)
{
    if (node->pg != NULL) {
        node_close(node);
    }
    node->config.guardian = is_guarded ? getenv("HAGUARD") : "";
    node_open(node);
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

    reopen_guarded(&a, is_guarded);
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

static void
kill_stopped_server(bool is_guarded)
{
    pid_t pids[32];
    double began;
    size_t n;

    reopen_guarded(&a, is_guarded);
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

/* The agent as a process of its own: opens the node, runs an operation, says so, goes on. */
static pid_t
fork_agent(struct node *node, enum postgres_op op, const char *from, bool is_awaited)
{
    int said[2];
    char byte;
    pid_t pid;

    assert_int_equal(pipe2(said, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        uv_loop_t own;

        (void)uv_loop_init(&own);
        node->loop = node->config.loop = &own;
        node_open(node);
        node_begin(node, op, from);
        while (is_awaited ? !node->is_done : node->facts.clone_done_bytes == 0) {
            (void)uv_run(&own, UV_RUN_ONCE);
        }
        if (node->is_done && node->rc != HA_OK) {
            (void)fprintf(stderr, "%s\n%s", node->text, node->log);
            _exit(1);
        }
        (void)!write(said[1], "x", 1);
        (void)uv_run(&own, UV_RUN_DEFAULT);
        _exit(0);
    }
    (void)close(said[1]);
    if (read(said[0], &byte, 1) != 1) {
        fail_msg("the agent ended early");
    }
    (void)close(said[0]);
    return pid;
}

static bool
wait_gone(pid_t pid)
{
    const double deadline = now_ms() + 20000;

    while (!process_is_gone(pid) && now_ms() < deadline) {
        (void)usleep(5000);
    }
    return process_is_gone(pid);
}

static void
agent_death(bool is_guarded)
{
    pid_t postmaster;
    pid_t agent;
    double began;

    reopen_guarded(&a, is_guarded);
    if (a.facts.data == PG_DATA_EMPTY) {
        run_ok(&a, POSTGRES_INITDB, NULL);
    }
    node_close(&a);
    agent = fork_agent(&a, POSTGRES_START_PRIMARY, NULL, true);
    postmaster = node_postmaster(&a);
    assert_false(process_is_gone(postmaster));
    began = now_ms();
    assert_int_equal(kill(agent, SIGKILL), 0);
    assert_true(wait_gone(postmaster));
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
a_standby_of_the_cluster_is_made(void **state)
{
    (void)state;
    reopen_guarded(&a, false);
    need_primary();
    node_sql(&a,
             "CREATE TABLE IF NOT EXISTS big AS SELECT g, repeat('x', 900) FROM generate_series(1, "
             "120000) g",
             NULL,
             0);
    node_open(&b);
    run_ok(&b, POSTGRES_CLONE, "127.0.0.11");
    run_ok(&b, POSTGRES_START_STANDBY, "127.0.0.11");
    run_ok(&b, POSTGRES_STOP_FAST, NULL);
}

static void
touch(const char *dir, const char *name)
{
    char path[700];
    FILE *f;

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    f = fopen(path, "w");
    assert_non_null(f);
    (void)fclose(f);
}

static bool
has(const char *dir, const char *name)
{
    char path[700];

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

/* The agent dies in the middle of a copy: what was there before still is. */
static void
crash_in_clone(void)
{
    const uint64_t checkpoint = b.facts.checkpoint_lsn;
    const uint64_t sysid = b.facts.sysid;
    pid_t agent;

    touch(b.pgdata, "proof-of-the-old");
    node_close(&b);
    agent = fork_agent(&b, POSTGRES_CLONE, "127.0.0.11", false);
    assert_int_equal(kill(agent, SIGKILL), 0);
    (void)waitpid(agent, NULL, 0);
    assert_true(has(b.pgdata, "proof-of-the-old"));
    b.loop = b.config.loop = &loop;
    node_open(&b);
    assert_int_equal(b.facts.data, PG_DATA_STANDBY);
    assert_true(b.facts.sysid == sysid);
    assert_int_equal(b.facts.checkpoint_lsn, checkpoint);
    assert_true(has(b.pgdata, "proof-of-the-old"));
    assert_false(has(b.root, "v/data.new") || has(b.pgdata, ".hawser.new"));
}

static void
a_crash_in_the_middle_of_a_copy_leaves_the_old_data(void **state)
{
    (void)state;
    crash_in_clone();
    assert_false(node_log_has(&b, "1 swap"));
}

static void
a_whole_copy_replaces_the_old_data(void **state)
{
    (void)state;
    assert_true(has(b.pgdata, "proof-of-the-old"));
    run_ok(&b, POSTGRES_CLONE, "127.0.0.11");
    assert_false(has(b.pgdata, "proof-of-the-old"));
    assert_false(has(b.root, "v/data.new") || has(b.root, "v/data.old"));
    assert_false(has(b.pgdata, ".hawser.new") || has(b.pgdata, ".hawser.old"));
    assert_int_equal(b.facts.data, PG_DATA_STANDBY);
    run_ok(&b, POSTGRES_START_STANDBY, "127.0.0.11");
    node_wait(&b, node_is_streaming, "streaming");
    run_ok(&b, POSTGRES_STOP_FAST, NULL);
}

static void
shell(const char *fmt, ...)
{
    char line[2048];
    va_list args;
    FILE *f;

    va_start(args, fmt);
    (void)vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    f = popen(line, "r");
    assert_non_null(f);
    if (pclose(f) != 0) {
        fail_msg("failed: %s", line);
    }
}

/* What is there after a crash right after each step of the swap; each must end in the same. */
static void
crash_points(const char *fresh, const char *old, bool is_mount)
{
    static const char *const STEPS[] = {"whole, nothing moved",
                                        "whole, old moved out",
                                        "whole, half of the old moved out",
                                        "moving, new half moved in",
                                        "moving, all moved in"};

    for (int step = 0; step < 5; step++) {
        const char *const word = step < 3 ? "whole" : "moving";

        if (!is_mount && (step == 2 || step == 3)) {
            continue; /* a rename is never half done */
        }
        node_close(&b);
        shell("set -e; p=%s; f=%s; o=%s; rm -rf /tmp/hawser-keep-$$; mkdir -p $f $o/data; chown "
              "postgres $f $o $o/data;"
              " chmod 700 $o/data; echo %s >$f/hawser-side-directory; echo making "
              ">$o/hawser-side-directory;"
              " touch $o/data/of-the-old $o/data/of-the-old-2",
              b.pgdata,
              fresh,
              old,
              word);
        if (is_mount) {
            shell("set -e; p=%s; f=%s; o=%s; mkdir $f/data; chown postgres $f/data; mv $p/* "
                  "$f/data/;",
                  b.pgdata,
                  fresh,
                  old);
            if (step == 0 || step == 2) {
                shell("set -e; p=%s; o=%s; mv $o/data/of-the-old $p/; %s",
                      b.pgdata,
                      old,
                      step == 0 ? "mv $o/data/of-the-old-2 $p/; rm -r $o" : "true");
            } else if (step == 3) {
                shell("set -e; p=%s; f=%s; mv $f/data/PG_VERSION $f/data/standby.signal "
                      "$f/data/global $p/",
                      b.pgdata,
                      fresh);
            } else if (step == 4) {
                shell("set -e; p=%s; f=%s; mv $f/data/* $p/", b.pgdata, fresh);
            }
        } else if (step != 4) {
            shell("set -e; p=%s; f=%s; o=%s; mv $p $f/data; %s",
                  b.pgdata,
                  fresh,
                  old,
                  step == 0 ? "mv $o/data $p; rm -r $o" : "true");
        }
        node_open(&b);
        if (b.facts.data != PG_DATA_STANDBY || !b.facts.is_shut_down) {
            fail_msg("%s: %s", STEPS[step], b.log);
        }
        assert_false(has(b.pgdata, "of-the-old") || has(b.pgdata, "of-the-old-2"));
        assert_true(access(fresh, F_OK) != 0 && access(old, F_OK) != 0);
    }
    run_ok(&b, POSTGRES_START_STANDBY, "127.0.0.11");
    run_ok(&b, POSTGRES_STOP_FAST, NULL);
}

static void
a_swap_cut_at_any_step_is_finished_by_the_next_start(void **state)
{
    char fresh[400];
    char old[400];

    (void)state;
    (void)snprintf(fresh, sizeof fresh, "%s.new", b.pgdata);
    (void)snprintf(old, sizeof old, "%s.old", b.pgdata);
    crash_points(fresh, old, false);
}

static void
all_of_that_holds_where_pgdata_is_a_mount_point(void **state)
{
    char fresh[400];
    char old[400];

    (void)state;
    node_close(&b);
    shell(
        "mkdir %s/volume && mv %s/* %s/volume/ && chown postgres %s/volume && chmod 700 %s/volume",
        b.root,
        b.pgdata,
        b.root,
        b.root,
        b.root);
    (void)snprintf(fresh, sizeof fresh, "%s/volume", b.root);
    if (mount(fresh, b.pgdata, NULL, MS_BIND, NULL) != 0) {
        skip();
    }
    node_open(&b);
    assert_int_equal(b.facts.data, PG_DATA_STANDBY);
    crash_in_clone();
    a_whole_copy_replaces_the_old_data(NULL);
    (void)snprintf(fresh, sizeof fresh, "%s/.hawser.new", b.pgdata);
    (void)snprintf(old, sizeof old, "%s/.hawser.old", b.pgdata);
    crash_points(fresh, old, true);
}

static void
what_lies_in_the_way_and_is_not_ours_is_left_alone(void **state)
{
    (void)state;
    node_close(&a);
    shell("mkdir %s.new && touch %s.new/precious", a.pgdata, a.pgdata);
    node_open(&a);
    assert_true(node_log_has(&a, "is in the way"));
    shell("test -e %s.new/precious && rm -r %s.new", a.pgdata, a.pgdata);
}

static void
put_script(const char *text, char dir[400])
{
    char path[500];
    FILE *f;

    (void)snprintf(dir, 400, "%s/initdb.d", b.root);
    (void)mkdir(dir, 0755);
    (void)snprintf(path, sizeof path, "%s/script.sh", dir);
    f = fopen(path, "w");
    assert_non_null(f);
    (void)fputs(text, f);
    (void)fclose(f);
}

static void
b_begins_anew(void)
{
    if (b.pg != NULL) {
        node_close(&b);
    }
    (void)umount2(b.pgdata, MNT_DETACH);
    node_remove(&b);
    node_init(&b, &loop, "127.0.0.12");
}

static void
an_init_script_that_fails_leaves_pgdata_empty(void **state)
{
    char dir[400];

    (void)state;
    b_begins_anew();
    put_script("psql -v ON_ERROR_STOP=1 -c 'SELECT no_such_column'\n", dir);
    b.config.init_scripts = dir;
    node_open(&b);
    assert_int_equal(node_run(&b, POSTGRES_INITDB, NULL), HA_EFAILED);
    assert_non_null(strstr(b.text, "script.sh ended with 1"));
    assert_non_null(strstr(b.text, "no_such_column"));
    assert_int_equal(b.facts.data, PG_DATA_EMPTY);
    node_close(&b);
    node_open(&b);
    assert_int_equal(b.facts.data, PG_DATA_EMPTY);
}

static bool
script_is_waiting(struct node *node)
{
    return has(node->root, "v/waiting");
}

static void
a_kill_in_the_middle_of_initdb_leaves_pgdata_empty_and_no_process(void **state)
{
    char dir[400];
    char script[600];
    char pid_text[32] = "";
    char path[400];
    FILE *f;

    (void)state;
    (void)snprintf(script,
                   sizeof script,
                   "sleep 1000 & echo $! >%s/v/pid; touch %s/v/waiting; sleep 1000\n",
                   b.root,
                   b.root);
    put_script(script, dir);
    shell("chmod 777 %s/v", b.root);
    node_begin(&b, POSTGRES_INITDB, NULL);
    node_wait(&b, script_is_waiting, "the script");
    (void)snprintf(path, sizeof path, "%s/v/pid", b.root);
    f = fopen(path, "r");
    assert_non_null(f);
    (void)!fgets(pid_text, sizeof pid_text, f);
    (void)fclose(f);
    postgres_kill(b.pg, "test");
    node_wait(&b, node_is_done, "the end of initdb");
    assert_int_equal(b.rc, HA_ECANCELED);
    assert_int_equal(b.facts.data, PG_DATA_EMPTY);
    assert_int_equal(b.facts.run, PG_RUN_STOPPED);
    assert_true(process_is_gone((pid_t)strtol(pid_text, NULL, 10)));
    shell("rm -r %s/initdb.d", b.root);
    run_ok(&b, POSTGRES_INITDB, NULL);
}

static void
a_server_that_does_not_start_says_why(void **state)
{
    (void)state;
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
    shell("setpriv --reuid postgres --clear-groups sleep 100 >/dev/null 2>&1 & echo $! "
          ">%s/postmaster.pid",
          b.pgdata);
    assert_int_equal(pipe(lock), 0);
    b.config.inherit_fds[0] = lock[0];
    b.config.n_inherit_fds = 1;
    node_open(&b);
    run_ok(&b, POSTGRES_START_PRIMARY, NULL);
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
    (void)state;
    node_close(&b);
    b.pg = NULL;
    shell("echo 12 >%s/PG_VERSION", b.pgdata);
    expect_open_error(HA_EVERSION, "13 to 18");
    shell("echo 17 >%s/PG_VERSION", b.pgdata);
    b.config.bin_dir = "/nowhere";
    expect_open_error(HA_ENOTFOUND, "install postgresql-17");
    b.config.bin_dir = "/usr/lib/postgresql/15/bin";
    expect_open_error(HA_EVERSION, "install postgresql-17");
    b.config.bin_dir = "";
    shell("echo 15 >%s/PG_VERSION; chown root %s", b.pgdata, b.pgdata);
    expect_open_error(HA_EREFUSED, "chown");
    shell("chown postgres %s", b.pgdata);
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
    reopen_guarded(&a, false);
    need_primary();
    b.config.guardian = getenv("HAGUARD");
    node_open(&b);
    run_ok(&b, POSTGRES_CLONE, "127.0.0.11");
    run_ok(&b, POSTGRES_START_STANDBY, "127.0.0.11");
    node_wait(&b, node_is_streaming, "streaming");
    assert_int_equal(lease_page_create(&page, lease_path, 1, &err), HA_OK);
    lease_for(&page, 60000);
    began = now_ms();
    run_ok(&b, POSTGRES_PROMOTE, NULL);
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
        cmocka_unit_test(a_stopped_postmaster_does_not_outlive_a_kill),
        cmocka_unit_test(nor_does_it_below_the_guardian),
        cmocka_unit_test(a_killed_agent_takes_its_server_along),
        cmocka_unit_test(so_it_does_with_the_guardian_between),
        cmocka_unit_test(a_standby_of_the_cluster_is_made),
        cmocka_unit_test(a_crash_in_the_middle_of_a_copy_leaves_the_old_data),
        cmocka_unit_test(a_whole_copy_replaces_the_old_data),
        cmocka_unit_test(a_swap_cut_at_any_step_is_finished_by_the_next_start),
        cmocka_unit_test(all_of_that_holds_where_pgdata_is_a_mount_point),
        cmocka_unit_test(what_lies_in_the_way_and_is_not_ours_is_left_alone),
        cmocka_unit_test(an_init_script_that_fails_leaves_pgdata_empty),
        cmocka_unit_test(a_kill_in_the_middle_of_initdb_leaves_pgdata_empty_and_no_process),
        cmocka_unit_test(a_server_that_does_not_start_says_why),
        cmocka_unit_test(a_stale_pid_file_that_names_a_stranger_does_not_hold_a_start_up),
        cmocka_unit_test(what_cannot_work_is_said_at_once_with_what_to_do),
        cmocka_unit_test(a_promotion_below_the_fence_and_its_end_with_the_lease),
    };

    if (unshare(CLONE_NEWNS) == 0) {
        (void)mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
    }
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
