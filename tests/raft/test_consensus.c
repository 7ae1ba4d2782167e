/*
 * Goal:   groups of 1, 2, 3 and 5 real processes agree over real links and files: through
 *         followers, elections, transfers, kill -9, full disks, changes of members.
 * Method: each member is a child process on an address of its own (tests/lib/raft_process.h); the
 *         parent kills and asks. Waits are for conditions, with generous deadlines. Figures are
 *         printed as comments.
 */
#include <ftw.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "store/state.h"
#include "tests/lib/raft_process.h"

#define MEMBERS_MAX 6
#define WAIT_MS 20000

static char root[64];
static uint16_t port;
static int n_members;
static struct raft_process members[MEMBERS_MAX];
static uint64_t counters[MEMBERS_MAX];     /* last key used */
static uint64_t acknowledged[MEMBERS_MAX]; /* last one known to be applied */
static uint32_t chance = 1;

static int64_t
now_us(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void
pause_ms(unsigned ms)
{
    const struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    (void)nanosleep(&ts, NULL);
}

static unsigned
below(unsigned n)
{
    chance = chance * 1664525u + 1013904223u;
    return (chance >> 8) % n;
}

static void
prepare(int n, unsigned election_ms, unsigned heartbeat_ms)
{
    static int group = 0;

    group++;
    n_members = n;
    for (int i = 0; i < MEMBERS_MAX; i++) {
        members[i] = (struct raft_process){.n = i + 1,
                                           .incarnation = 1,
                                           .port = port,
                                           .election_ms = election_ms,
                                           .heartbeat_ms = heartbeat_ms,
                                           .n_founders = i < n ? n : 0};
        (void)snprintf(members[i].dir, sizeof members[i].dir, "%s/%d-%d", root, group, i + 1);
        counters[i] = 0;
        acknowledged[i] = 0;
    }
}

static void
start_all(void)
{
    for (int i = 0; i < n_members; i++) {
        if (members[i].pid == 0) {
            raft_process_start(&members[i]);
        }
    }
}

static void
kill_all(void)
{
    for (int i = 0; i < MEMBERS_MAX; i++) {
        raft_process_kill(&members[i]);
    }
}

/* The member that leads and is ready, or -1. */
static int
find_leader(void)
{
    struct raft_process_view v;

    for (int i = 0; i < MEMBERS_MAX; i++) {
        if (members[i].pid != 0 && raft_process_view(&members[i], &v) && v.is_ready) {
            return i;
        }
    }
    return -1;
}

static int
wait_for_leader(void)
{
    for (const int64_t end = now_us() + WAIT_MS * 1000; now_us() < end;) {
        const int leader = find_leader();
        if (leader >= 0) {
            return leader;
        }
        pause_ms(1);
    }
    fail_msg("nobody leads");
    return -1;
}

/* All running members show the leader's index and state. */
static bool
is_level(int n_voters)
{
    struct raft_process_view lead;
    const int leader = find_leader();

    if (leader < 0 || !raft_process_view(&members[leader], &lead) || lead.n_voters != n_voters) {
        return false;
    }
    for (int i = 0; i < MEMBERS_MAX; i++) {
        struct raft_process_view v;
        if (members[i].pid == 0) {
            continue;
        }
        if (!raft_process_view(&members[i], &v) || v.applied != lead.last || v.hash != lead.hash ||
            v.n_voters != n_voters) {
            return false;
        }
    }
    return true;
}

static void
wait_level(int n_voters)
{
    for (const int64_t end = now_us() + WAIT_MS * 1000; now_us() < end;) {
        if (is_level(n_voters)) {
            return;
        }
        pause_ms(5);
    }
    fail_msg("the members do not come to one state");
}

static void
found(void)
{
    char line[64];
    int rc = HA_EUNKNOWN;

    for (int tries = 0; tries < 100 && rc != HA_OK; tries++) {
        const int leader = wait_for_leader();
        if (!raft_process_ask(
                &members[leader], line, sizeof line, WAIT_MS, "found %d", n_members) ||
            sscanf(line, "done %d", &rc) != 1) {
            rc = HA_EUNKNOWN;
        }
    }
    assert_int_equal(rc, HA_OK);
}

/* One command of member i under a new key, repeated until its fate is known. */
static void
propose(int i)
{
    counters[i]++;
    for (const int64_t end = now_us() + WAIT_MS * 1000; now_us() < end;) {
        const int rc = raft_process_propose(&members[i], counters[i]);
        if (rc == HA_OK) {
            acknowledged[i] = counters[i];
            return;
        }
        assert_true(rc == HA_ENOTLEADER || rc == HA_EUNKNOWN);
        pause_ms(5);
    }
    fail_msg("member %d gets nothing through", i + 1);
}

static void
check_nothing_is_lost(void)
{
    for (int i = 0; i < MEMBERS_MAX; i++) {
        for (int j = 0; j < n_members; j++) {
            char line[64];
            uint64_t counter = 0;
            if (members[i].pid == 0 || acknowledged[j] == 0) {
                continue;
            }
            assert_true(raft_process_ask(&members[i],
                                         line,
                                         sizeof line,
                                         WAIT_MS,
                                         "counter %" PRIu64,
                                         raft_process_id(j + 1, 1)));
            assert_int_equal(sscanf(line, "counter %" SCNu64, &counter), 1);
            assert_true(counter >= acknowledged[j]);
        }
    }
}

static int
tell(int i, const char *what, int n, unsigned incarnation)
{
    char line[64];
    int rc = HA_EFAILED;

    if (!raft_process_ask(
            &members[i], line, sizeof line, WAIT_MS, "%s %d %u", what, n, incarnation) ||
        sscanf(line, "rc %d", &rc) != 1) {
        return HA_EFAILED;
    }
    return rc;
}

static void
bench(int i, int n, const char *what)
{
    char line[64];
    unsigned p50 = 0;
    unsigned p99 = 0;
    unsigned max = 0;

    assert_true(raft_process_ask(&members[i], line, sizeof line, 60000, "bench %d", n));
    assert_int_equal(sscanf(line, "bench %u %u %u", &p50, &p99, &max), 3);
    counters[i] = 2000000; /* beyond the keys that it used */
    print_message("# commit latency, %s: p50 %u us, p99 %u us, max %u us\n", what, p50, p99, max);
}

static void
group_agrees(int n)
{
    char what[64];

    prepare(n, 1000, 100);
    start_all();
    found();
    const int leader = wait_for_leader();
    for (int i = 0; i < n; i++) {
        propose(i);
    }
    (void)snprintf(what, sizeof what, "%d members, at the leader", n);
    bench(leader, 300, what);
    if (n > 1) {
        (void)snprintf(what, sizeof what, "%d members, through a follower", n);
        bench((leader + 1) % n, 300, what);
    }
    wait_level(n);
    check_nothing_is_lost();
    /* All at once, and again. */
    kill_all();
    start_all();
    (void)wait_for_leader();
    propose(0);
    wait_level(n);
    check_nothing_is_lost();
    kill_all();
}

static void
one_member_agrees_with_itself(void **unused)
{
    (void)unused;
    group_agrees(1);
}

static void
two_members_agree(void **unused)
{
    (void)unused;
    group_agrees(2);
}

static void
three_members_agree(void **unused)
{
    (void)unused;
    group_agrees(3);
}

static void
five_members_agree(void **unused)
{
    (void)unused;
    group_agrees(5);
}

/* Kills the leader and measures how long until another one is ready. */
static int
fail_over(int64_t *took_us)
{
    const int leader = wait_for_leader();
    const int64_t began = now_us();

    raft_process_kill(&members[leader]);
    (void)wait_for_leader();
    *took_us = now_us() - began;
    return leader;
}

static void
leader_is_replaced_when_it_dies(void **unused)
{
    enum { ROUNDS = 5 };
    int64_t sum = 0;
    int64_t max = 0;

    (void)unused;
    prepare(3, 300, 50);
    start_all();
    found();
    for (int round = 0; round < ROUNDS; round++) {
        int64_t took = 0;
        const int dead = fail_over(&took);
        propose((dead + 1) % 3);
        raft_process_start(&members[dead]);
        wait_level(3);
        sum += took;
        max = took > max ? took : max;
    }
    print_message("# kill -9 of the leader to a ready one (300/50 ms): mean %" PRId64
                  " ms, max %" PRId64 " ms\n",
                  sum / ROUNDS / 1000,
                  max / 1000);
    check_nothing_is_lost();
    kill_all();
}

static void
leader_hands_over(void **unused)
{
    int64_t sum = 0;
    int64_t max = 0;

    (void)unused;
    prepare(3, 1000, 100);
    start_all();
    found();
    for (int round = 0; round < 6; round++) {
        const int leader = wait_for_leader();
        const int to = (leader + 1 + round % 2) % 3;
        wait_level(3);
        const int64_t began = now_us();
        assert_int_equal(tell(leader, "transfer", to + 1, 1), HA_OK);
        struct raft_process_view v = {0};
        while (!v.is_ready && now_us() - began < WAIT_MS * 1000) {
            assert_true(raft_process_view(&members[to], &v));
        }
        assert_true(v.is_ready);
        const int64_t took = now_us() - began;
        sum += took;
        max = took > max ? took : max;
        propose(leader);
    }
    assert_int_equal(tell((wait_for_leader() + 1) % 3, "transfer", 0, 1), HA_ENOTLEADER);
    print_message(
        "# transfer to a ready leader: mean %" PRId64 " us, max %" PRId64 " us\n", sum / 6, max);
    kill_all();
}

static void
repeated_proposal_is_applied_once(void **unused)
{
    struct raft_process_view before;
    struct raft_process_view after;

    (void)unused;
    prepare(3, 1000, 100);
    start_all();
    found();
    const int leader = wait_for_leader();
    const int follower = (leader + 1) % 3;
    propose(follower);
    wait_level(3);
    assert_true(raft_process_view(&members[leader], &before));
    /* As after an answer that got lost: the same words, twice, also at another leader. */
    assert_int_equal(raft_process_propose(&members[follower], counters[follower]), HA_OK);
    raft_process_kill(&members[leader]);
    (void)wait_for_leader();
    acknowledged[follower] = counters[follower];
    assert_int_equal(raft_process_propose(&members[follower], counters[follower]), HA_OK);
    raft_process_start(&members[leader]);
    wait_level(3);
    assert_true(raft_process_view(&members[leader], &after));
    assert_int_equal(after.hash, before.hash);
    kill_all();
}

/* Asks the leader, whoever it is, until the group has that many voters. */
static void
change(const char *what, int n, unsigned incarnation, int n_voters)
{
    for (const int64_t end = now_us() + WAIT_MS * 1000; now_us() < end;) {
        struct raft_process_view v;
        const int leader = find_leader();
        if (leader >= 0 && raft_process_view(&members[leader], &v)) {
            if (v.n_voters == n_voters && v.n_servers == n_voters && !v.is_changing) {
                return;
            }
            (void)tell(leader, what, n, incarnation);
        }
        pause_ms(5);
    }
    fail_msg("%s %d does not come about", what, n);
}

static void
members_come_and_go_one_at_a_time(void **unused)
{
    (void)unused;
    prepare(1, 1000, 100);
    start_all();
    found();
    propose(0);
    for (int n = 2; n <= 5; n++) {
        raft_process_start(&members[n - 1]);
        const int64_t began = now_us();
        change("add", n, 1, n);
        print_message("# member %d added in %" PRId64 " ms\n", n, (now_us() - began) / 1000);
        wait_level(n);
    }
    /* Also the one that leads. */
    const int leader = wait_for_leader();
    change("remove", leader + 1, 1, 4);
    raft_process_kill(&members[leader]);
    const int next = wait_for_leader();
    change("remove", next == 1 ? 3 : 2, 1, 3);
    raft_process_kill(&members[next == 1 ? 2 : 1]);
    wait_level(3);
    kill_all();
}

static void
member_that_lost_its_disk_comes_back_under_a_new_id(void **unused)
{
    (void)unused;
    prepare(3, 1000, 100);
    start_all();
    found();
    propose(0);
    const int leader = wait_for_leader();
    const int lost = (leader + 1) % 3;
    raft_process_kill(&members[lost]);
    (void)snprintf(members[lost].dir, sizeof members[lost].dir, "%s/new-disk", root);
    members[lost].incarnation = 2;
    members[lost].n_founders = 0;
    raft_process_start(&members[lost]);
    change("remove", lost + 1, 1, 2);
    change("add", lost + 1, 2, 3);
    wait_level(3);
    check_nothing_is_lost();
    /* It counts: with another one dead the group goes on. */
    const int other = 3 - leader - lost;
    raft_process_kill(&members[other]);
    propose(leader);
    kill_all();
}

static void
full_disk_stops_the_member_and_a_restart_recovers(void **unused)
{
    char line[64];

    (void)unused;
    prepare(3, 300, 50);
    start_all();
    found();
    propose(0);
    for (int round = 0; round < 2; round++) {
        /* First a follower's disk, then the leader's. */
        const int leader = wait_for_leader();
        const int victim = round == 0 ? (leader + 1) % 3 : leader;
        assert_true(raft_process_ask(&members[victim], line, sizeof line, WAIT_MS, "full 1"));
        counters[(victim + 1) % 3]++;
        (void)raft_process_propose(&members[(victim + 1) % 3], counters[(victim + 1) % 3]);
        assert_int_equal(raft_process_wait(&members[victim]), RAFT_PROCESS_FATAL);
        /* The two others go on. */
        propose((victim + 1) % 3);
        raft_process_start(&members[victim]);
        wait_level(3);
        check_nothing_is_lost();
    }
    kill_all();
}

static void
nothing_is_lost_in_a_storm_of_kills(void **unused)
{
    int kills = 0;
    int n_acknowledged = 0;
    int64_t next_us = 0;
    const int64_t end = now_us() + 10 * 1000000;

    (void)unused;
    prepare(3, 300, 50);
    start_all();
    found();
    while (now_us() < end) {
        if (now_us() > next_us) {
            /* Any set of them goes, all three too; each comes back in its time. */
            next_us = now_us() + 1000 * (int64_t)(300 + below(1200));
            for (int j = 0; j < 3; j++) {
                if (members[j].pid == 0) {
                    raft_process_start(&members[j]);
                } else if (below(3) == 0) {
                    raft_process_kill(&members[j]);
                    kills++;
                }
            }
        }
        const int from = (int)below(3);
        if (members[from].pid == 0) {
            pause_ms(1);
        } else {
            if (counters[from] == acknowledged[from]) {
                counters[from]++;
            }
            if (raft_process_propose(&members[from], counters[from]) == HA_OK) {
                acknowledged[from] = counters[from];
                n_acknowledged++;
            }
        }
    }
    start_all();
    (void)wait_for_leader();
    wait_level(3);
    check_nothing_is_lost();
    print_message("# storm: %d kills, %d commands acknowledged\n", kills, n_acknowledged);
    assert_true(kills > 0 && n_acknowledged > 0);
    kill_all();
}

static void
member_quits_cleanly(void **unused)
{
    static const char quit[] = "quit\n";

    (void)unused;
    prepare(3, 300, 50);
    start_all();
    found();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(write(members[i].fd, quit, sizeof quit - 1), sizeof quit - 1);
        assert_int_equal(raft_process_wait(&members[i]), 0);
    }
}

static int
set_up(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof root, "/tmp/hawser-raft-XXXXXX");
    port = (uint16_t)(20000 + getpid() % 20000);
    chance = (uint32_t)getpid();
    return mkdtemp(root) == NULL ? -1 : 0;
}

static int
remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int
tear_down(void **state)
{
    (void)state;
    return nftw(root, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* Also after a failure: no member outlives its test. */
static int
stop_all(void **state)
{
    (void)state;
    kill_all();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(one_member_agrees_with_itself, stop_all),
        cmocka_unit_test_teardown(two_members_agree, stop_all),
        cmocka_unit_test_teardown(three_members_agree, stop_all),
        cmocka_unit_test_teardown(five_members_agree, stop_all),
        cmocka_unit_test_teardown(leader_is_replaced_when_it_dies, stop_all),
        cmocka_unit_test_teardown(leader_hands_over, stop_all),
        cmocka_unit_test_teardown(repeated_proposal_is_applied_once, stop_all),
        cmocka_unit_test_teardown(members_come_and_go_one_at_a_time, stop_all),
        cmocka_unit_test_teardown(member_that_lost_its_disk_comes_back_under_a_new_id, stop_all),
        cmocka_unit_test_teardown(full_disk_stops_the_member_and_a_restart_recovers, stop_all),
        cmocka_unit_test_teardown(nothing_is_lost_in_a_storm_of_kills, stop_all),
        cmocka_unit_test_teardown(member_quits_cleanly, stop_all),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
