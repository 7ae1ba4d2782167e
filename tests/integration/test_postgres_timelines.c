/*
 * Goal:   a promotion takes the number that it is told, above what it would take by itself; who
 *         comes from before the gap follows over it; a copy has the history files that others
 *         will ask it for, and no skipped number is taken for a timeline.
 * Method: three servers whose roles go around; files are removed where a crash could take them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/postgres/pg_history.h"
#include "tests/integration/pg_fixture.h"

#define A "127.0.0.11"
#define B "127.0.0.12"
#define C "127.0.0.13"

static uv_loop_t loop;
static struct node a;
static struct node b;
static struct node c;
static uint32_t newest;

/* For both others, moved by nobody. */
static void
keep_slots(struct node *node, const char *const addresses[3])
{
    struct pg_slots wish = {0};

    for (size_t i = 0; i < 3; i++) {
        if (strcmp(addresses[i], node->address) != 0) {
            (void)snprintf(
                wish.at[wish.n].address, sizeof wish.at[wish.n].address, "%s", addresses[i]);
            wish.n++;
        }
    }
    postgres_set_slots(node->pg, &wish);
}

static int
set_up(void **state)
{
    struct node *const all[] = {&a, &b, &c};
    static const char *const ADDRESSES[] = {A, B, C};

    (void)state;
    (void)uv_loop_init(&loop);
    for (size_t i = 0; i < 3; i++) {
        node_init(all[i], &loop, ADDRESSES[i]);
        all[i]->config.guardian = getenv("HAGUARD");
        node_open(all[i]);
        postgres_set_members(all[i]->pg, ADDRESSES, 3);
        keep_slots(all[i], ADDRESSES);
    }
    return 0;
}

static int
tear_down(void **state)
{
    struct node *const all[] = {&a, &b, &c};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        node_close(all[i]);
    }
    for (size_t i = 0; i < 3; i++) {
        node_remove(all[i]);
    }
    return uv_loop_close(&loop);
}

static bool
streams_newest(struct node *node)
{
    return node->facts.is_streaming && node->facts.timeline == newest;
}

static void
joins(struct node *node, struct node *primary)
{
    newest = primary->facts.timeline;
    node_run_ok(node, POSTGRES_START_STANDBY, primary->address);
    node_wait(node, streams_newest, "streaming the newest timeline");
    assert_true(node->facts.lineage == primary->facts.lineage);
}

static void
promote(struct node *node, uint32_t timeline, uint32_t next)
{
    node->is_done = false;
    assert_int_equal(postgres_promote(node->pg, timeline, next), HA_OK);
    node_wait(node, node_is_done, "the end of the promotion");
    assert_int_equal(node->rc, HA_OK);
    assert_int_equal(node->facts.timeline, next);
    assert_int_equal(node->facts.timeline_before, timeline);
}

/* Both ends: the standby has all, and then nobody to get more from. */
static void
takes_over(struct node *node, struct node *primary, uint32_t timeline, uint32_t next)
{
    node_run_ok(primary, POSTGRES_STOP_FAST, NULL);
    node_run_ok(node, POSTGRES_FOLLOW, "");
    promote(node, timeline, next);
}

static void
history_path(const struct node *node, uint32_t timeline, char *path, size_t size)
{
    (void)snprintf(path, size, "%s/pg_wal/%08X.history", node->pgdata, (unsigned)timeline);
}

static bool
has_history(const struct node *node, uint32_t timeline)
{
    char path[512];

    history_path(node, timeline, path, sizeof path);
    return access(path, F_OK) == 0;
}

static void
history_remove(const struct node *node, uint32_t timeline)
{
    char path[512];

    history_path(node, timeline, path, sizeof path);
    assert_int_equal(unlink(path), 0);
}

static void
three_members(void **state)
{
    (void)state;
    node_run_ok(&a, POSTGRES_INITDB, NULL);
    node_run_ok(&a, POSTGRES_START_PRIMARY, NULL);
    node_sql(&a, "CREATE TABLE rows AS SELECT 1 AS i", NULL, 0);
    node_run_ok(&b, POSTGRES_CLONE, A);
    joins(&b, &a);
    node_run_ok(&c, POSTGRES_CLONE, A);
    joins(&c, &a);
}

static void
a_promotion_takes_the_number_that_it_is_told(void **state)
{
    struct pg_facts f;

    (void)state;
    node_run_ok(&c, POSTGRES_STOP_FAST, NULL); /* it is away */
    takes_over(&b, &a, 1, 4);
    assert_true(node_log_has(&b, "timeline_skipped"));
    assert_true(has_history(&b, 2) && has_history(&b, 3) && has_history(&b, 4));
    pg_history_read(b.pgdata, 2, &f);
    assert_true(f.lineage == 0 && f.timeline_before == 0); /* of no timeline */
    node_sql(&b, "INSERT INTO rows VALUES (4)", NULL, 0);
    joins(&a, &b);
}

/* As after a crash that took what was not synced. */
static void
who_was_away_follows_over_the_gap(void **state)
{
    char sum[32];

    (void)state;
    node_run_ok(&b, POSTGRES_STOP_FAST, NULL);
    history_remove(&b, 2);
    history_remove(&b, 3);
    node_run_ok(&b, POSTGRES_START_PRIMARY, NULL);
    assert_true(has_history(&b, 2) && has_history(&b, 3));
    joins(&c, &b);
    node_sql(&c, "SELECT sum(i) FROM rows", sum, sizeof sum);
    assert_string_equal(sum, "5");
    assert_false(node_log_has(&c, "new target timeline is 2"));
    assert_false(node_log_has(&c, "new target timeline is 3"));
}

static void
the_next_number_leaves_no_gap(void **state)
{
    (void)state;
    newest = 4;
    node_wait(&a, streams_newest, "streaming");
    a.log[0] = '\0';
    a.log_len = 0;
    takes_over(&a, &b, 4, 5);
    assert_false(node_log_has(&a, "timeline_skipped"));
    joins(&b, &a);
}

/* pg_basebackup brings the history file of the newest timeline alone. */
static void
a_copy_has_what_others_ask_it_for(void **state)
{
    struct pg_facts there;
    struct pg_facts here;

    (void)state;
    node_run_ok(&b, POSTGRES_STOP_FAST, NULL);
    node_run_ok(&b, POSTGRES_CLONE, A);
    for (uint32_t t = 2; t < 5; t++) {
        assert_false(has_history(&b, t));
    }
    joins(&b, &a);
    for (uint32_t t = 2; t < 5; t++) {
        assert_true(has_history(&b, t));
    }
    pg_history_read(a.pgdata, 4, &there);
    pg_history_read(b.pgdata, 4, &here);
    assert_true(here.lineage == there.lineage && here.fork_lsn == there.fork_lsn);
    assert_int_equal(here.timeline_before, 1);
    takes_over(&b, &a, 5, 6);
    joins(&a, &b);
}

/* Somebody made a history file: PostgreSQL's own choice lies above, and that is told. */
static void
a_file_in_the_way_leads_to_a_higher_number(void **state)
{
    char path[512];

    (void)state;
    history_path(&a, 7, path, sizeof path);
    shell_run("echo '# by hand' > '%s'; chown postgres '%s'", path, path);
    node_run_ok(&b, POSTGRES_STOP_FAST, NULL);
    node_run_ok(&a, POSTGRES_FOLLOW, "");
    a.is_done = false;
    assert_int_equal(postgres_promote(a.pg, 6, 7), HA_OK);
    node_wait(&a, node_is_done, "the end of the promotion");
    assert_int_equal(a.rc, HA_OK);
    assert_int_equal(a.facts.timeline, 8);
    assert_int_equal(a.facts.timeline_before, 6);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_members),
        cmocka_unit_test(a_promotion_takes_the_number_that_it_is_told),
        cmocka_unit_test(who_was_away_follows_over_the_gap),
        cmocka_unit_test(the_next_number_leaves_no_gap),
        cmocka_unit_test(a_copy_has_what_others_ask_it_for),
        cmocka_unit_test(a_file_in_the_way_leads_to_a_higher_number),
    };

    fixture_isolate();
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
