/*
 * Goal:   data that lie there stopped are followed, copied anew, waited for or left alone exactly
 *         as the ledger of reigns says; of the fit candidates the one with the most WAL is first.
 * Method: one ledger of three reigns, a table of control files; pairs of candidates.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/core/core_internal.h"

#define ME "10.0.0.1"
#define OTHER "10.0.0.2"
#define SYSID 77

/* Of timeline t of that ledger. */
static uint64_t
lineage_of(uint32_t t)
{
    static const uint64_t FORKS[] = {0x1000, 0x2000, 0x3000};
    uint64_t lineage = LINEAGE_FIRST;

    for (uint32_t i = 1; i < t; i++) {
        lineage = lineage_extend(lineage, i, FORKS[i - 1]);
    }
    return lineage;
}

/* Timeline 1 by ME; 2 by OTHER, left timeline 1 at 0x1000; 3 by ME, left timeline 2 at 0x2000. */
static struct state
ledger(void)
{
    static const char *const HOLDERS[] = {ME, OTHER, ME};
    static const uint64_t FORKS[] = {0, 0x1000, 0x2000};
    struct state s;

    state_init(&s);
    s.cluster_id = 1;
    s.sysid = SYSID;
    s.reign = 3;
    s.is_opened = true;
    s.opened_reign = 3;
    s.timeline = 3;
    s.fork_lsn = 0x2000;
    s.lineage = lineage_of(3);
    s.n_history = 3;
    for (uint32_t i = 0; i < 3; i++) {
        s.history[i].reign = i + 1;
        s.history[i].timeline = i + 1;
        s.history[i].fork_lsn = FORKS[i];
        s.history[i].lineage = lineage_of(i + 1);
        (void)snprintf(s.history[i].holder_address, HA_ADDRESS_MAX, "%s", HOLDERS[i]);
    }
    return s;
}

static const struct {
    const char *what;
    enum pg_data data;
    uint64_t sysid;
    uint32_t timeline;
    bool is_shut_down;
    uint64_t checkpoint;
    uint64_t min_recovery;
    enum rejoin_verdict verdict;
} ROWS[] = {
    /* clang-format off */
    {"standby of the newest timeline", PG_DATA_STANDBY, SYSID, 3, true, 0x2100, 0x2200, REJOIN_STREAM},
    {"the same, killed", PG_DATA_STANDBY, SYSID, 3, false, 0x2100, 0x2200, REJOIN_STREAM},
    {"primary of the newest timeline, its own", PG_DATA_PRIMARY, SYSID, 3, false, 0x2100, 0, REJOIN_STREAM},
    {"standby that stopped before the fork", PG_DATA_STANDBY, SYSID, 2, true, 0x1800, 0x2000, REJOIN_STREAM},
    {"standby that went beyond the fork", PG_DATA_STANDBY, SYSID, 2, true, 0x1800, 0x2001, REJOIN_REWIND},
    {"standby, checkpoint beyond the fork", PG_DATA_STANDBY, SYSID, 2, false, 0x2001, 0, REJOIN_CLONE},
    {"own primary, clean, before the fork", PG_DATA_PRIMARY, SYSID, 1, true, 0x0fff, 0, REJOIN_STREAM},
    {"own primary, clean, at the fork", PG_DATA_PRIMARY, SYSID, 1, true, 0x1000, 0, REJOIN_REWIND},
    {"own primary, not stopped cleanly", PG_DATA_PRIMARY, SYSID, 1, false, 0x0800, 0, REJOIN_REWIND},
    {"primary on a timeline of another member", PG_DATA_PRIMARY, SYSID, 2, true, 0x1800, 0, REJOIN_CLONE},
    {"a timeline that nobody recorded", PG_DATA_PRIMARY, SYSID, 4, true, 0x2100, 0, REJOIN_REWIND},
    {"another cluster's", PG_DATA_PRIMARY, 78, 3, true, 0x2100, 0, REJOIN_FOREIGN},
    {"another cluster's standby", PG_DATA_STANDBY, 78, 1, true, 0x0100, 0, REJOIN_FOREIGN},
    {"half rewound", PG_DATA_TORN, SYSID, 3, true, 0x2100, 0, REJOIN_CLONE},
    {"half rewound, of another cluster", PG_DATA_TORN, 78, 0, false, 0, 0, REJOIN_FOREIGN},
    {"unreadable", PG_DATA_DAMAGED, SYSID, 3, true, 0x2100, 0, REJOIN_DAMAGED},
    {"not looked at yet", PG_DATA_STANDBY, 0, 0, false, 0, 0, REJOIN_WAIT},
    /* clang-format on */
};

static void
each_control_file_gets_its_verdict(void **state)
{
    const struct state s = ledger();

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        const struct pg_facts pg = {.run = PG_RUN_STOPPED,
                                    .data = (uint8_t)ROWS[i].data,
                                    .sysid = ROWS[i].sysid,
                                    .control_timeline = ROWS[i].timeline,
                                    .lineage = lineage_of(ROWS[i].timeline),
                                    .is_shut_down = ROWS[i].is_shut_down,
                                    .checkpoint_lsn = ROWS[i].checkpoint,
                                    .min_recovery_lsn = ROWS[i].min_recovery};
        const char *why = NULL;
        const enum rejoin_verdict verdict = rejoin_judge(&s, &pg, ME, &why);

        if (verdict != ROWS[i].verdict) {
            print_error("%s: verdict %d, not %d\n", ROWS[i].what, verdict, ROWS[i].verdict);
        }
        assert_int_equal(verdict, ROWS[i].verdict);
        assert_non_null(why);
    }
}

static void
data_started_by_hand_as_a_primary_are_copied_anew(void **state)
{
    struct state s = ledger();
    const struct pg_facts pg = {
        .data = PG_DATA_PRIMARY, .sysid = SYSID, .control_timeline = 3, .lineage = lineage_of(3)};
    const char *why;

    (void)state;
    assert_int_equal(rejoin_judge(&s, &pg, OTHER, &why), REJOIN_CLONE);
    s.sysid = 0;
    assert_int_equal(rejoin_judge(&s, &pg, OTHER, &why), REJOIN_WAIT);
}

/* What the control file alone cannot show: the number is right, the fork is another. */
static void
data_whose_forks_are_not_on_record_are_no_part_of_the_cluster(void **state)
{
    const struct state s = ledger();
    struct pg_facts pg = {.data = PG_DATA_STANDBY, .sysid = SYSID, .control_timeline = 3};
    const char *why;

    (void)state;
    pg.lineage = lineage_extend(lineage_of(2), 2, 0x2001);
    assert_false(rejoin_is_of_ledger(&s, 3, pg.lineage));
    assert_int_equal(rejoin_judge(&s, &pg, OTHER, &why), REJOIN_CLONE);
    pg.lineage = lineage_extend(lineage_extend(LINEAGE_FIRST, 1, 0x1001), 2, 0x2000);
    assert_int_equal(rejoin_judge(&s, &pg, OTHER, &why), REJOIN_CLONE);
    pg.control_timeline = 2;
    pg.lineage = lineage_extend(LINEAGE_FIRST, 1, 0x0fff);
    assert_int_equal(rejoin_judge(&s, &pg, OTHER, &why), REJOIN_CLONE);
    pg.lineage = 0; /* its history file cannot be read */
    assert_int_equal(rejoin_judge(&s, &pg, OTHER, &why), REJOIN_CLONE);
    pg.is_shut_down = true;
    assert_int_equal(rejoin_judge(&s, &pg, OTHER, &why), REJOIN_REWIND);
    pg.lineage = lineage_of(2);
    assert_int_equal(rejoin_judge(&s, &pg, OTHER, &why), REJOIN_STREAM);
}

/* standby.signal was removed by hand, it was started, and the file was put back. */
static void
a_standby_that_ran_as_a_primary_is_no_standby(void **state)
{
    const struct state s = ledger();
    struct pg_facts pg = {.data = PG_DATA_STANDBY,
                          .sysid = SYSID,
                          .control_timeline = 3,
                          .lineage = lineage_of(3),
                          .was_primary = true};
    const char *why;

    (void)state;
    assert_int_equal(rejoin_judge(&s, &pg, OTHER, &why), REJOIN_CLONE);
    assert_int_equal(rejoin_judge(&s, &pg, ME, &why), REJOIN_STREAM); /* its own timeline */
    pg.was_primary = false;
    assert_int_equal(rejoin_judge(&s, &pg, OTHER, &why), REJOIN_STREAM);
}

/* Of a timeline whose row is gone it is not known any more where it was left. */
static void
a_timeline_that_is_forgotten_does_not_stream_on(void **state)
{
    struct state s = ledger();
    const struct pg_facts pg = {.data = PG_DATA_STANDBY,
                                .sysid = SYSID,
                                .control_timeline = 1,
                                .is_shut_down = true,
                                .min_recovery_lsn = 0x1800, /* beyond 2's fork, before 3's */
                                .lineage = LINEAGE_FIRST};
    const char *why;

    (void)state;
    memmove(&s.history[0], &s.history[2], sizeof s.history[0]);
    s.n_history = 1;
    assert_int_not_equal(rejoin_judge(&s, &pg, ME, &why), REJOIN_STREAM);
}

static void
a_running_standby_diverged_only_beyond_the_fork_it_missed(void **state)
{
    const struct state s = ledger();
    struct pg_facts pg = {.run = PG_RUN_UP,
                          .is_in_recovery = true,
                          .timeline = 2,
                          .lineage = lineage_of(2),
                          .lsn = 0x2000};

    (void)state;
    assert_false(rejoin_has_diverged(&s, &pg));
    pg.lsn = 0x2001;
    assert_true(rejoin_has_diverged(&s, &pg));
    pg.timeline = 3;
    pg.lineage = lineage_of(3); /* it follows the newest: no position is beyond */
    assert_false(rejoin_has_diverged(&s, &pg));
    pg.lineage = lineage_extend(lineage_of(2), 2, 0x1fff); /* of the newest number, another fork */
    assert_true(rejoin_has_diverged(&s, &pg));
    pg.timeline = 4; /* the log may be behind */
    assert_false(rejoin_has_diverged(&s, &pg));
    pg.timeline = 0; /* not known yet */
    assert_false(rejoin_has_diverged(&s, &pg));
}

static void
more_wal_is_timeline_first_then_position(void **state)
{
    const struct pg_facts a = {.timeline = 2, .lsn = 0x100};
    const struct pg_facts b = {.timeline = 1, .lsn = 0x900};
    const struct pg_facts c = {.timeline = 2, .lsn = 0x101};

    (void)state;
    assert_true(candidate_has_more(&a, &b));
    assert_false(candidate_has_more(&b, &a));
    assert_true(candidate_has_more(&c, &a));
    assert_false(candidate_has_more(&a, &a));
}

/* A fit candidate: three of them, alike but for what a case changes. */
static size_t
three_candidates(struct core *core, struct candidate list[3], struct status statuses[3])
{
    static const char *const ADDRESSES[] = {"10.0.0.1", "10.0.0.2", "10.0.0.3"};

    memset(core, 0, sizeof *core);
    core->state = ledger();
    memset(statuses, 0, 3 * sizeof statuses[0]);
    for (size_t i = 0; i < 3; i++) {
        struct member *m = &core->state.members[i];

        m->id = i + 1;
        (void)snprintf(m->address, sizeof m->address, "%s", ADDRESSES[i]);
        statuses[i].pg.timeline = 3;
        statuses[i].pg.lineage = lineage_of(3);
        statuses[i].pg.lsn = 0x2100;
        list[i] = (struct candidate){.member = m, .status = &statuses[i], .is_fresh = true};
    }
    (void)snprintf(core->state.declaration.primary, HA_ADDRESS_MAX, "10.0.0.2");
    return 3;
}

static void
the_ladder_is_wal_then_declared_then_address(void **state)
{
    static struct core core;
    struct candidate list[3];
    struct status statuses[3];
    const size_t n = three_candidates(&core, list, statuses);

    (void)state;
    assert_ptr_equal(candidate_best(&core, list, n), &list[1]); /* a tie: the declared one */
    statuses[2].pg.lsn = 0x2101;
    assert_ptr_equal(candidate_best(&core, list, n), &list[2]); /* the most WAL wins */
    list[2].unfit = "it is tagged nofailover";
    assert_ptr_equal(candidate_best(&core, list, n), &list[1]);
    list[1].unfit = "nothing was heard of it lately";
    assert_ptr_equal(candidate_best(&core, list, n), &list[0]);
    list[0].unfit = "its PostgreSQL does not run";
    assert_null(candidate_best(&core, list, n));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_control_file_gets_its_verdict),
        cmocka_unit_test(data_started_by_hand_as_a_primary_are_copied_anew),
        cmocka_unit_test(data_whose_forks_are_not_on_record_are_no_part_of_the_cluster),
        cmocka_unit_test(a_standby_that_ran_as_a_primary_is_no_standby),
        cmocka_unit_test(a_timeline_that_is_forgotten_does_not_stream_on),
        cmocka_unit_test(a_running_standby_diverged_only_beyond_the_fork_it_missed),
        cmocka_unit_test(more_wal_is_timeline_first_then_position),
        cmocka_unit_test(the_ladder_is_wal_then_declared_then_address),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
