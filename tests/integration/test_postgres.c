/*
 * Goal:   agent/postgres does with a real server what its contract says.
 * Method: two nodes on 127.0.0.11 and 127.0.0.12, one loop; each test goes on from where the one
 *         before it left the nodes, as a cluster's life does.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/integration/pg_fixture.h"

static uv_loop_t loop;
static struct node a;
static struct node b;

static struct node other; /* of another cluster */
static char scripts[320];

static void
write_script(const char *name, const char *text, mode_t mode)
{
    char path[512];
    FILE *f;

    (void)snprintf(path, sizeof path, "%s/%s", scripts, name);
    f = fopen(path, "w");
    assert_non_null(f);
    (void)fputs(text, f);
    (void)fclose(f);
    assert_int_equal(chmod(path, mode), 0);
}

static int
set_up(void **state)
{
    (void)state;
    (void)uv_loop_init(&loop);
    node_init(&a, &loop, "127.0.0.11");
    node_init(&b, &loop, "127.0.0.12");
    node_init(&other, &loop, "127.0.0.13");
    (void)snprintf(scripts, sizeof scripts, "%s/initdb.d", a.root);
    return mkdir(scripts, 0755);
}

static int
tear_down(void **state)
{
    struct node *const nodes[] = {&a, &b, &other};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        if (nodes[i]->pg != NULL) {
            node_close(nodes[i]);
        }
        node_remove(nodes[i]);
    }
    return uv_loop_close(&loop);
}

static void
initdb_makes_a_primary_with_odd_passwords_args_and_scripts(void **state)
{
    (void)state;
    write_script("10.sql", "CREATE TABLE steps(n int, who text);", 0644);
    write_script("20-run.sh",
                 "#!/bin/sh\nset -e\n"
                 "psql -v ON_ERROR_STOP=1 --username \"$POSTGRES_USER\" --dbname \"$POSTGRES_DB\""
                 " -c \"INSERT INTO steps VALUES (20, '$FIXTURE_PLAIN:$FIXTURE_PASSWORD')\"\n",
                 0755);
    write_script("30-sourced.sh", "psql -c \"INSERT INTO steps VALUES (30, 'sourced')\"\n", 0644);
    write_script("40.txt", "not a script", 0644);
    (void)setenv("FIXTURE_PLAIN", "plain", 1);
    (void)setenv("FIXTURE_PASSWORD", "hidden", 1);
    a.config.init_scripts = scripts;
    a.config.initdb_args = "--wal-segsize=4 '--locale=C.UTF-8'";
    node_open(&a);
    assert_int_equal(a.facts.data, PG_DATA_EMPTY);
    node_run_ok(&a, POSTGRES_INITDB, NULL);
    assert_int_equal(a.facts.data, PG_DATA_PRIMARY);
    assert_int_equal(a.facts.run, PG_RUN_STOPPED);
    assert_true(a.facts.is_shut_down);
    assert_int_equal(a.facts.control_timeline, 1);
    assert_true(a.facts.sysid != 0);
    assert_true(node_log_has(&a, "ignoring"));
    (void)unsetenv("FIXTURE_PASSWORD");
}

static void
start_primary_ends_when_sql_is_answered(void **state)
{
    char out[256];

    (void)state;
    node_run_ok(&a, POSTGRES_START_PRIMARY, NULL);
    assert_int_equal(a.facts.run, PG_RUN_UP);
    assert_false(a.facts.is_in_recovery);
    assert_int_equal(a.facts.timeline, 1);
    assert_int_equal(a.facts.timeline_before, 0);
    assert_true(a.facts.lsn > 0);
    node_sql(&a,
             "SELECT concat_ws(' ', current_setting('data_checksums'), "
             "current_setting('wal_log_hints'), current_setting('wal_segment_size'), "
             "current_setting('max_connections'), current_setting('restart_after_crash'))",
             out,
             sizeof out);
    assert_string_equal(out, "on on 4MB 30 off");
    node_sql(&a, "SELECT string_agg(n || who, ',' ORDER BY n) FROM steps", out, sizeof out);
    assert_string_equal(out, "20plain:,30sourced");
}

static void
passwords_open_the_door_and_nothing_else_does(void **state)
{
    (void)state;
    assert_int_equal(node_login(&a, "admin", FIXTURE_PASSWORD, "SELECT 1"), 0);
    assert_int_equal(node_login(&a, "rep\\user", FIXTURE_REPL_PASSWORD, "SELECT 1"), 0);
    assert_int_not_equal(node_login(&a, "admin", "wrong", "SELECT 1"), 0);
    assert_int_not_equal(node_login(&a, "admin", "", "SELECT 1"), 0);
}

static bool
slot_is_there(struct node *node)
{
    char out[64];

    node_sql(node,
             "SELECT string_agg(slot_name, ',' ORDER BY slot_name) FROM pg_replication_slots"
             " WHERE restart_lsn IS NOT NULL",
             out,
             sizeof out);
    return strcmp(out, "hawser_127_0_0_12") == 0;
}

static void
a_primary_keeps_a_slot_for_every_other_member(void **state)
{
    (void)state;
    node_wait(&a, slot_is_there, "the slot of the other member");
}

static bool
slot_is_another(struct node *node)
{
    char out[64];

    node_sql(node,
             "SELECT string_agg(slot_name, ',' ORDER BY slot_name) FROM pg_replication_slots",
             out,
             sizeof out);
    return strcmp(out, "hawser_10_9_8_7,of_a_person") == 0;
}

/* What people made stays. */
static void
a_slot_of_who_is_no_member_is_dropped(void **state)
{
    (void)state;
    node_sql(&a, "SELECT pg_create_physical_replication_slot('of_a_person')", NULL, 0);
    node_set_slot(&a, "10.9.8.7", 0);
    node_wait(&a, slot_is_another, "the slot of another member");
    node_sql(&a, "SELECT pg_drop_replication_slot('of_a_person')", NULL, 0);
    node_set_slot(&a, "127.0.0.12", 0);
    node_wait(&a, slot_is_there, "the slot of the other member");
}

/* True when a process but this one has the text in its command line or environment. */
static bool
proc_shows(const char *what, const char *secret)
{
    char command[512];

    /* The secret goes in through a pipe: grep's own command line must not hold it. */
    (void)snprintf(command,
                   sizeof command,
                   "grep -qaF -f - $(ls -d /proc/[0-9]*/%s 2>/dev/null | grep -v /%d/) 2>/dev/null",
                   what,
                   (int)getpid());
    FILE *f = popen(command, "w");

    assert_non_null(f);
    (void)fputs(secret, f);
    return pclose(f) == 0;
}

static void
clone_copies_with_progress_and_shows_no_secret(void **state)
{
    uint64_t seen = 0;
    bool is_total_seen = false;
    int looks = 0;

    (void)state;
    node_sql(&a,
             "CREATE TABLE big AS SELECT g, repeat('x', 500) FROM generate_series(1, 60000) g",
             NULL,
             0);
    node_open(&b);
    assert_int_equal(b.facts.data, PG_DATA_EMPTY);
    node_begin(&b, POSTGRES_CLONE, "127.0.0.11");
    while (!b.is_done) {
        (void)uv_run(&loop, UV_RUN_ONCE);
        seen = b.facts.clone_done_bytes > seen ? b.facts.clone_done_bytes : seen;
        is_total_seen |= b.facts.clone_total_bytes > 0;
        if (looks++ % 8 == 0) {
            assert_false(proc_shows("cmdline", "$HOME"));
            assert_false(proc_shows("cmdline", "$(id)"));
            assert_false(proc_shows("environ", "$(id)"));
            assert_false(proc_shows("environ", "pa\\ss"));
        }
    }
    if (b.rc != HA_OK) {
        fail_msg("%s\n%s", b.text, b.log);
    }
    assert_true(seen > 1000000 && is_total_seen);
    assert_true(node_log_has(&b, "its slot for this member keeps the WAL"));
    assert_int_equal(b.facts.data, PG_DATA_STANDBY);
    assert_true(b.facts.sysid == a.facts.sysid);
    assert_int_equal(b.facts.clone_total_bytes, 0);
}

static void
start_primary_refuses_a_standby(void **state)
{
    (void)state;
    assert_int_equal(node_run(&b, POSTGRES_START_PRIMARY, NULL), HA_EREFUSED);
    assert_int_equal(b.facts.run, PG_RUN_STOPPED);
}

static void
a_standby_streams(void **state)
{
    (void)state;
    node_run_ok(&b, POSTGRES_START_STANDBY, "127.0.0.11");
    assert_string_equal(b.facts.upstream, "127.0.0.11");
    node_wait(&b, node_is_streaming, "streaming");
    assert_true(b.facts.is_in_recovery);
    assert_int_equal(b.facts.timeline, 1);
}

static bool
has_caught_up(struct node *node)
{
    return node->facts.lsn >= a.facts.lsn;
}

/* A lag is made of two of them, and gateways go by it. */
static void
positions_are_told_though_nothing_else_happens(void **state)
{
    uint64_t lsn;
    char out[64];

    (void)state;
    postgres_watch(a.pg, false);
    postgres_watch(b.pg, false);
    node_sql(&a, "INSERT INTO steps VALUES (35, 'unwatched')", NULL, 0);
    node_sql(&a, "SELECT pg_current_wal_flush_lsn() - '0/0'", out, sizeof out);
    lsn = strtoull(out, NULL, 10);
    assert_true(a.facts.lsn < lsn);
    for (int i = 0; i < 1000 && (a.facts.lsn < lsn || b.facts.lsn < lsn); i++) {
        node_turn(&a, 10);
    }
    assert_true(a.facts.lsn >= lsn && b.facts.lsn >= lsn);
}

static uint64_t frozen_at;

static bool
is_beyond_the_freeze(struct node *node)
{
    return node->facts.lsn > frozen_at;
}

static void
freeze_disconnects_and_knows_the_last_position(void **state)
{
    char passfile[400];
    uint64_t frozen;
    double began;

    (void)state;
    (void)snprintf(passfile, sizeof passfile, "%s/follow.pass", b.state_dir);
    for (int i = 0; i < 3; i++) {
        node_sql(&a, "INSERT INTO steps VALUES (40, 'before')", NULL, 0);
        node_turn(&a, 50);
        node_wait(&b, has_caught_up, "the standby has all");
        began = now_ms();
        node_run_ok(&b, POSTGRES_FOLLOW, "");
        print_message("# freeze %.0f ms\n", now_ms() - began);
        assert_false(b.facts.has_receiver);
        assert_false(b.facts.is_streaming);
        assert_string_equal(b.facts.upstream, "");
        /* A receiver that starts late, with the old conninfo, finds no password. */
        assert_int_not_equal(access(passfile, F_OK), 0);
        frozen = b.facts.lsn;
        assert_true(frozen >= a.facts.lsn - 1024);
        node_sql(&a, "INSERT INTO steps VALUES (50, 'after')", NULL, 0);
        frozen_at = frozen;
        node_wait(&a, is_beyond_the_freeze, "the primary has written on");
        node_turn(&b, 700);
        assert_int_equal(b.facts.lsn, frozen);
        node_run_ok(&b, POSTGRES_FOLLOW, "127.0.0.11");
        node_wait(&b, node_is_streaming, "streaming again");
        node_wait(&b, has_caught_up, "the standby has all");
    }
}

static void
a_standby_that_starts_frozen_knows_its_position(void **state)
{
    const uint64_t before = b.facts.lsn;
    double began;

    (void)state;
    postgres_kill(b.pg, "test"); /* all that it received is still to be replayed */
    node_wait(&b, node_is_stopped, "stopped");
    began = now_ms();
    node_run_ok(&b, POSTGRES_START_STANDBY, "");
    print_message("# frozen start %.0f ms\n", now_ms() - began);
    assert_true(b.facts.lsn >= before);
    assert_false(b.facts.has_receiver);
}

static bool
has_receiver(struct node *node)
{
    return node->facts.has_receiver;
}

static void
freeze_does_not_wait_for_an_upstream_that_is_mute(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(FIXTURE_PORT)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    double began;

    (void)state;
    assert_int_equal(inet_pton(AF_INET, "127.0.0.14", &address.sin_addr), 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 5), 0);
    node_run_ok(&b, POSTGRES_FOLLOW, "127.0.0.14");
    node_wait(&b, has_receiver, "a receiver that waits for an answer");
    assert_false(b.facts.is_streaming);
    began = now_ms();
    node_run_ok(&b, POSTGRES_FOLLOW, "");
    print_message("# freeze with a mute upstream %.0f ms\n", now_ms() - began);
    assert_true(now_ms() - began < 2000);
    (void)close(fd);
    node_run_ok(&b, POSTGRES_FOLLOW, "127.0.0.11");
    node_wait(&b, node_is_streaming, "streaming");
}

static void
a_clone_of_another_cluster_is_refused(void **state)
{
    (void)state;
    other.config.listen = b.address; /* where another server listens already */
    node_open(&other);
    node_run_ok(&other, POSTGRES_INITDB, NULL);
    assert_int_equal(node_run(&other, POSTGRES_CLONE, "127.0.0.12"), HA_EREFUSED);
    assert_non_null(strstr(other.text, "another cluster"));
    assert_int_equal(other.facts.data, PG_DATA_PRIMARY);
    assert_int_equal(other.facts.run, PG_RUN_STOPPED);
}

static void
a_port_in_use_ends_a_start_with_postgresqls_words(void **state)
{
    (void)state;
    assert_int_equal(node_run(&other, POSTGRES_START_PRIMARY, NULL), HA_EFAILED);
    if (strstr(other.text, "Address already in use") == NULL &&
        strstr(other.text, "could not create any TCP/IP sockets") == NULL) {
        fail_msg("%s", other.text);
    }
    node_wait(&other, node_is_stopped, "stopped");
    node_close(&other);
}

static void
stop_fast_ships_everything_and_leaves_the_control_files_facts(void **state)
{
    double began;

    (void)state;
    began = now_ms();
    node_run_ok(&a, POSTGRES_STOP_FAST, NULL);
    print_message("# fast stop %.0f ms\n", now_ms() - began);
    assert_int_equal(a.facts.run, PG_RUN_STOPPED);
    assert_true(a.facts.is_shut_down);
    assert_int_equal(a.facts.exit_status, 0);
    assert_int_equal(a.facts.control_timeline, 1);
    node_turn(&b, 200);
    assert_true(b.facts.lsn > a.facts.checkpoint_lsn);
}

static void
promote_opens_a_new_timeline_and_tells_the_fork(void **state)
{
    const uint64_t before = b.facts.lsn;
    double began;

    (void)state;
    node_run_ok(&b, POSTGRES_FOLLOW, "");
    began = now_ms();
    node_run_ok(&b, POSTGRES_PROMOTE, NULL);
    print_message("# promote %.0f ms\n", now_ms() - began);
    assert_false(b.facts.is_in_recovery);
    assert_int_equal(b.facts.data, PG_DATA_PRIMARY);
    assert_string_equal(b.facts.upstream, "");
    assert_int_equal(b.facts.timeline, 2);
    assert_int_equal(b.facts.timeline_before, 1);
    assert_int_equal(b.facts.fork_lsn, before);
    assert_int_equal(access(b.pgdata, F_OK), 0);
}

static bool
streams_timeline_2(struct node *node)
{
    return node->facts.is_streaming && node->facts.timeline == 2;
}

static void
the_old_primary_follows_the_new_one(void **state)
{
    (void)state;
    node_run_ok(&a, POSTGRES_START_STANDBY, "127.0.0.12");
    node_wait(&a, streams_timeline_2, "streaming the new timeline");
    node_run_ok(&b, POSTGRES_CHECKPOINT, NULL);
    node_sql(&b, "INSERT INTO steps VALUES (60, 'new')", NULL, 0);
}

static void
members_get_in_and_strangers_do_not(void **state)
{
    static const char *const ONE[] = {"127.0.0.12"};
    static const char *const THREE[] = {"127.0.0.11", "127.0.0.12", "10.9.8.7"};
    char out[64];

    (void)state;
    postgres_set_members(b.pg, THREE, 3);
    node_turn(&b, 300);
    node_sql(&b,
             "SELECT count(*) FROM pg_hba_file_rules WHERE 'replication' = ANY(database)"
             " AND address = '10.9.8.7'",
             out,
             sizeof out);
    assert_string_equal(out, "1");
    node_sql(
        &b,
        "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = 'trust' OR error IS NOT NULL",
        out,
        sizeof out);
    assert_string_equal(out, "0");
    postgres_set_members(b.pg, ONE, 1);
    node_turn(&b, 300);
    node_sql(
        &b, "SELECT count(*) FROM pg_hba_file_rules WHERE address = '10.9.8.7'", out, sizeof out);
    assert_string_equal(out, "0");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(initdb_makes_a_primary_with_odd_passwords_args_and_scripts),
        cmocka_unit_test(start_primary_ends_when_sql_is_answered),
        cmocka_unit_test(passwords_open_the_door_and_nothing_else_does),
        cmocka_unit_test(a_primary_keeps_a_slot_for_every_other_member),
        cmocka_unit_test(a_slot_of_who_is_no_member_is_dropped),
        cmocka_unit_test(clone_copies_with_progress_and_shows_no_secret),
        cmocka_unit_test(start_primary_refuses_a_standby),
        cmocka_unit_test(a_standby_streams),
        cmocka_unit_test(positions_are_told_though_nothing_else_happens),
        cmocka_unit_test(freeze_disconnects_and_knows_the_last_position),
        cmocka_unit_test(a_standby_that_starts_frozen_knows_its_position),
        cmocka_unit_test(freeze_does_not_wait_for_an_upstream_that_is_mute),
        cmocka_unit_test(stop_fast_ships_everything_and_leaves_the_control_files_facts),
        cmocka_unit_test(promote_opens_a_new_timeline_and_tells_the_fork),
        cmocka_unit_test(a_clone_of_another_cluster_is_refused),
        cmocka_unit_test(a_port_in_use_ends_a_start_with_postgresqls_words),
        cmocka_unit_test(the_old_primary_follows_the_new_one),
        cmocka_unit_test(members_get_in_and_strangers_do_not),
    };

    fixture_isolate();
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
