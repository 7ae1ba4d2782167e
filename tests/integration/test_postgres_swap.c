/*
 * Goal:   no crash in the middle of a copy, of a swap or of initdb costs a good data directory.
 * Method: a forked agent is killed while it copies and right before each step of the swap; what
 *         such crashes leave is also laid out by hand. All of it beside PGDATA and, in a mount
 *         namespace of the test's own, with PGDATA as a mount point.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
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
    (void)umount2(b.pgdata, MNT_DETACH);
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

static void
a_standby_of_the_cluster_is_made(void **state)
{
    (void)state;
    b.config.guardian = getenv("HAGUARD");
    need_primary();
    node_sql(&a,
             "CREATE TABLE IF NOT EXISTS big AS SELECT g, repeat('x', 900) FROM generate_series(1, "
             "120000) g",
             NULL,
             0);
    node_open(&b);
    node_run_ok(&b, POSTGRES_CLONE, "127.0.0.11");
    node_run_ok(&b, POSTGRES_START_STANDBY, "127.0.0.11");
    node_run_ok(&b, POSTGRES_STOP_FAST, NULL);
}

/* The agent dies in the middle of a copy: what was there before still is. */
static void
crash_in_clone(void)
{
    const uint64_t checkpoint = b.facts.checkpoint_lsn;
    const uint64_t sysid = b.facts.sysid;
    pid_t agent;

    file_touch(b.pgdata, "proof-of-the-old");
    node_close(&b);
    agent = agent_fork(&b, POSTGRES_CLONE, "127.0.0.11", false);
    assert_int_equal(kill(agent, SIGKILL), 0);
    (void)waitpid(agent, NULL, 0);
    agent_wait_lock(&b);
    assert_true(file_is_there(b.pgdata, "proof-of-the-old"));
    b.loop = b.config.loop = &loop;
    node_open(&b);
    assert_int_equal(b.facts.data, PG_DATA_STANDBY);
    assert_true(b.facts.sysid == sysid);
    assert_int_equal(b.facts.checkpoint_lsn, checkpoint);
    assert_true(file_is_there(b.pgdata, "proof-of-the-old"));
    assert_false(file_is_there(b.root, "v/data.new") || file_is_there(b.pgdata, ".hawser.new"));
}

static void
a_crash_in_the_middle_of_a_copy_leaves_the_old_data(void **state)
{
    (void)state;
    crash_in_clone();
    assert_false(node_log_has(&b, "1 swap"));
}

static bool
has_no_old(struct node *node)
{
    return !node->facts.has_old;
}

/* What the data replaced goes when it is asked for, and not before. */
static void
discard_old(void)
{
    postgres_discard(b.pg);
    node_wait(&b, has_no_old, "what was replaced to be removed");
    assert_false(file_is_there(b.root, "v/data.old") || file_is_there(b.pgdata, ".hawser.old"));
}

static void
a_whole_copy_replaces_the_old_data(void **state)
{
    (void)state;
    assert_true(file_is_there(b.pgdata, "proof-of-the-old"));
    node_run_ok(&b, POSTGRES_CLONE, "127.0.0.11");
    assert_false(file_is_there(b.pgdata, "proof-of-the-old"));
    assert_false(file_is_there(b.root, "v/data.new") || file_is_there(b.pgdata, ".hawser.new"));
    assert_int_equal(b.facts.data, PG_DATA_STANDBY);
    assert_true(b.facts.has_old && b.facts.is_fresh_copy);
    node_run_ok(&b, POSTGRES_START_STANDBY, "127.0.0.11");
    node_wait(&b, node_is_streaming, "streaming");
    assert_true(b.facts.has_old && !b.facts.is_fresh_copy);
    discard_old();
    node_run_ok(&b, POSTGRES_STOP_FAST, NULL);
}

/*
 * The agent dies right before each step of the swap, as its log announces them; the last is the
 * removal, with all in place. No death may cost the copy, which is the only one by then.
 */
static void
deaths_in_swap(void)
{
    static const char *const STEPS[] = {"moving what is in", "new/data to ", "removing "};

    for (size_t i = 0; i < 3; i++) {
        pid_t agent;
        int status;

        file_touch(b.pgdata, "proof-of-the-old");
        node_close(&b);
        b.die_at = STEPS[i];
        agent = agent_fork_dying(&b, POSTGRES_CLONE, "127.0.0.11");
        b.die_at = NULL;
        (void)waitpid(agent, &status, 0);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        agent_wait_lock(&b);
        node_open(&b);
        if (b.facts.data != PG_DATA_STANDBY || file_is_there(b.pgdata, "proof-of-the-old")) {
            fail_msg("died at \"%s\": data %d\n%s", STEPS[i], b.facts.data, b.log);
        }
        node_run_ok(&b, POSTGRES_START_STANDBY, "127.0.0.11");
        node_run_ok(&b, POSTGRES_STOP_FAST, NULL);
    }
}

static void
an_agent_that_dies_at_any_step_of_the_swap_loses_nothing(void **state)
{
    (void)state;
    deaths_in_swap();
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

    discard_old();
    for (int step = 0; step < 5; step++) {
        const char *const word = step < 3 ? "whole" : "moving";

        if (!is_mount && (step == 2 || step == 3)) {
            continue; /* a rename is never half done */
        }
        node_close(&b);
        shell_run(
            "set -e; p=%s; f=%s; o=%s; rm -rf /tmp/hawser-keep-$$; mkdir -p $f $o/data; chown "
            "postgres $f $o $o/data;"
            " chmod 700 $o/data; echo %s >$f/hawser-side-directory; echo making "
            ">$o/hawser-side-directory;"
            " touch $o/data/of-the-old $o/data/of-the-old-2",
            b.pgdata,
            fresh,
            old,
            word);
        if (is_mount) {
            shell_run("set -e; p=%s; f=%s; o=%s; mkdir $f/data; chown postgres $f/data; mv $p/* "
                      "$f/data/;",
                      b.pgdata,
                      fresh,
                      old);
            if (step == 0 || step == 2) {
                shell_run("set -e; p=%s; o=%s; mv $o/data/of-the-old $p/; %s",
                          b.pgdata,
                          old,
                          step == 0 ? "mv $o/data/of-the-old-2 $p/; rm -r $o" : "true");
            } else if (step == 3) {
                shell_run("set -e; p=%s; f=%s; mv $f/data/PG_VERSION $f/data/standby.signal "
                          "$f/data/global $p/",
                          b.pgdata,
                          fresh);
            } else if (step == 4) {
                shell_run("set -e; p=%s; f=%s; mv $f/data/* $p/", b.pgdata, fresh);
            }
        } else if (step != 4) {
            shell_run("set -e; p=%s; f=%s; o=%s; mv $p $f/data; %s",
                      b.pgdata,
                      fresh,
                      old,
                      step == 0 ? "mv $o/data $p; rm -r $o" : "true");
        }
        node_open(&b);
        if (b.facts.data != PG_DATA_STANDBY || !b.facts.is_shut_down) {
            fail_msg("%s: %s", STEPS[step], b.log);
        }
        assert_false(file_is_there(b.pgdata, "of-the-old") ||
                     file_is_there(b.pgdata, "of-the-old-2"));
        assert_true(access(fresh, F_OK) != 0 && b.facts.has_old);
        shell_run("test -e %s/data/of-the-old", old);
        discard_old();
        assert_true(access(old, F_OK) != 0);
    }
    node_run_ok(&b, POSTGRES_START_STANDBY, "127.0.0.11");
    node_run_ok(&b, POSTGRES_STOP_FAST, NULL);
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
    shell_run(
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
    deaths_in_swap();
    (void)snprintf(fresh, sizeof fresh, "%s/.hawser.new", b.pgdata);
    (void)snprintf(old, sizeof old, "%s/.hawser.old", b.pgdata);
    crash_points(fresh, old, true);
}

static void
what_lies_in_the_way_and_is_not_ours_is_left_alone(void **state)
{
    (void)state;
    node_close(&a);
    shell_run("mkdir %s.new && touch %s.new/precious", a.pgdata, a.pgdata);
    node_open(&a);
    assert_true(node_log_has(&a, "is in the way"));
    shell_run("test -e %s.new/precious && rm -r %s.new", a.pgdata, a.pgdata);
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
    return file_is_there(node->root, "v/waiting");
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
    shell_run("chmod 777 %s/v", b.root);
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
    shell_run("rm -r %s/initdb.d", b.root);
    node_run_ok(&b, POSTGRES_INITDB, NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_standby_of_the_cluster_is_made),
        cmocka_unit_test(a_crash_in_the_middle_of_a_copy_leaves_the_old_data),
        cmocka_unit_test(a_whole_copy_replaces_the_old_data),
        cmocka_unit_test(an_agent_that_dies_at_any_step_of_the_swap_loses_nothing),
        cmocka_unit_test(a_swap_cut_at_any_step_is_finished_by_the_next_start),
        cmocka_unit_test(all_of_that_holds_where_pgdata_is_a_mount_point),
        cmocka_unit_test(what_lies_in_the_way_and_is_not_ours_is_left_alone),
        cmocka_unit_test(an_init_script_that_fails_leaves_pgdata_empty),
        cmocka_unit_test(a_kill_in_the_middle_of_initdb_leaves_pgdata_empty_and_no_process),
    };

    fixture_isolate();
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
