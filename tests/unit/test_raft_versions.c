/*
 * Goal:   what differs between the versions of libraft (raft/compat.h) does not show: a vote is
 *         given once, a result counts for what it answers, a configuration in the middle of a
 *         message becomes committed, a snapshot goes out with its own term, and a close at any
 *         moment is clean.
 * Method: one node; the test is the other two members and the disk (tests/lib/raft_alone.h). The
 *         same must hold with every version.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "raft/compat.h"
#include "raft/message.h"
#include "tests/lib/raft_alone.h"

static struct raft_view
view_of(struct alone *a)
{
    struct raft_view view;

    raft_node_get_view(a->node, &view);
    return view;
}

static void
ask_for_vote(struct alone *a, int from, uint64_t term)
{
    struct raft_message m = {.type = RAFT_IO_REQUEST_VOTE};

    m.request_vote.term = term;
    m.request_vote.candidate_id = ALONE_ID + (raft_id)from - 1;
    m.request_vote.last_log_index = 5;
    m.request_vote.last_log_term = 5;
    m.request_vote.disrupt_leader = true;
    alone_forget_sent(a);
    alone_hear(a, from, &m);
}

static bool
granted(struct alone *a, int to)
{
    struct raft_message m;

    return alone_last_sent(a, to, RAFT_IO_REQUEST_VOTE_RESULT, &m) &&
           m.request_vote_result.vote_granted;
}

/* The answer is lost and the candidate asks again: nothing is written, so nothing is forgotten
 * however a crash falls. */
static void
vote_that_is_given_again_is_not_written_again(void **unused)
{
    struct alone *a = alone_new(0);

    (void)unused;
    ask_for_vote(a, 2, 9);
    assert_true(granted(a, 2));
    fs_mem_fail_at(a->disk, 1, 1000, HA_ENOSPC);
    ask_for_vote(a, 2, 9);
    assert_true(granted(a, 2));
    assert_false(a->has_failed);
    fs_mem_fail_at(a->disk, 0, 0, 0);

    alone_restart(a);
    ask_for_vote(a, 3, 9);
    assert_false(granted(a, 3));
    ask_for_vote(a, 2, 9);
    assert_true(granted(a, 2));
    alone_free(a);
}

/* A leader began to hand over to member 3, and was away: members 2 and 3 both ask it in one term
 * when it is back. */
static void
target_of_a_transfer_gets_no_second_vote(void **unused)
{
    struct alone *a = alone_new(0);

    (void)unused;
    (void)alone_win(a);
    assert_int_equal(raft_node_transfer(a->node, ALONE_ID + 2), HA_OK);
    alone_settle(a);
    ask_for_vote(a, 2, 9);
    assert_true(granted(a, 2));
    ask_for_vote(a, 3, 9);
    assert_false(granted(a, 3));
    assert_false(a->has_failed);
    ask_for_vote(a, 3, 10);
    assert_true(granted(a, 3));
    alone_free(a);
}

static void
hear_vote(struct alone *a, int from, uint64_t term, uint8_t pre_vote)
{
    struct raft_message m = {.type = RAFT_IO_REQUEST_VOTE_RESULT};

    m.request_vote_result.term = term;
    m.request_vote_result.vote_granted = true;
    compat_set_pre_vote(&m.request_vote_result, pre_vote);
    alone_hear(a, from, &m);
}

static struct raft_request_vote
wait_for_request(struct alone *a)
{
    struct raft_message m;

    for (int i = 0; i < 100 && !alone_last_sent(a, 2, RAFT_IO_REQUEST_VOTE, &m); i++) {
        alone_wait(a, 50);
    }
    assert_true(alone_last_sent(a, 2, RAFT_IO_REQUEST_VOTE, &m));
    return m.request_vote;
}

/* Whoever would vote has not voted. */
static void
answer_to_a_pre_vote_is_no_vote(void **unused)
{
    struct alone *a = alone_new(0);

    (void)unused;
    struct raft_request_vote asked = wait_for_request(a);
    assert_true(asked.pre_vote);
    alone_forget_sent(a);
    hear_vote(a, 2, view_of(a).term, PRE_VOTE_YES);
    asked = wait_for_request(a);
    assert_false(asked.pre_vote);
    assert_int_equal(asked.term, view_of(a).term);

    hear_vote(a, 2, asked.term, PRE_VOTE_YES);
    hear_vote(a, 3, asked.term, PRE_VOTE_YES);
    assert_int_equal(view_of(a).role, RAFT_ROLE_CANDIDATE);
    hear_vote(a, 3, asked.term, PRE_VOTE_NO);
    assert_int_equal(view_of(a).role, RAFT_ROLE_LEADER);
    alone_free(a);
}

/* Entries 2 and 3 come in one message; 3 is a configuration. */
static void
configuration_in_the_middle_of_a_message_becomes_committed(void **unused)
{
    struct alone *a = alone_new(0);
    struct raft_configuration conf;
    struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES};
    struct raft_entry entries[2] = {{.term = 2, .type = RAFT_COMMAND},
                                    {.term = 2, .type = RAFT_CHANGE}};
    uint64_t nothing = 0;

    (void)unused;
    raft_configuration_init(&conf);
    assert_int_equal(raft_configuration_add(&conf, ALONE_ID, "10.0.0.1", RAFT_VOTER), 0);
    assert_int_equal(raft_configuration_add(&conf, ALONE_ID + 1, "10.0.0.2", RAFT_VOTER), 0);
    entries[0].buf = (struct raft_buffer){.base = &nothing, .len = sizeof nothing};
    assert_int_equal(raft_configuration_encode(&conf, &entries[1].buf), 0);
    raft_configuration_close(&conf);

    /* The leader sends what the member does not say that it has, as often as it takes. */
    for (uint64_t last = 1; last < 3;) {
        m.append_entries.term = 2;
        m.append_entries.prev_log_index = last;
        m.append_entries.prev_log_term = last == 1 ? 1 : 2;
        m.append_entries.entries = &entries[last - 1];
        m.append_entries.n_entries = (unsigned)(3 - last);
        m.append_entries.leader_commit = 3;
        alone_hear(a, 2, &m);
        struct raft_message answer;
        assert_true(alone_last_sent(a, 2, RAFT_IO_APPEND_ENTRIES_RESULT, &answer));
        assert_int_equal(answer.append_entries_result.rejected, 0);
        assert_true(answer.append_entries_result.last_log_index > last);
        last = answer.append_entries_result.last_log_index;
    }
    assert_int_equal(view_of(a).commit_index, 3);
    assert_int_equal(view_of(a).n_servers, 2);
    assert_false(view_of(a).is_uncommitted);
    raft_free(entries[1].buf.base);
    alone_free(a);
}

static void
propose_and_store(struct alone *a)
{
    const struct command command = {.type = COMMAND_PAUSE};

    assert_int_equal(raft_node_propose(a->node, &command, NULL, NULL), HA_OK);
    alone_settle(a);
}

/* Member 3 needs the snapshot of entry 9, term 2; before the disk reads it, the one of entry 13 in
 * the leader's own term is there. */
static struct alone *
leader_whose_disk_reads_a_newer_snapshot(uint64_t *term)
{
    struct alone *a = alone_new(4);
    struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES_RESULT};

    alone_hear_entries(
        a,
        2,
        (struct raft_append_entries){
            .term = 2, .prev_log_index = 1, .prev_log_term = 1, .leader_commit = 9, .n_entries = 8},
        NULL);
    *term = alone_win(a);
    for (uint64_t index = 10; index < 13; index++) {
        alone_hear_success(a, 2, *term, index);
        propose_and_store(a);
    }
    assert_int_equal(view_of(a).last_index, 13);
    a->is_disk_slow = true;
    alone_hear_success(a, 2, *term, 13);
    assert_int_equal(view_of(a).applied_index, 13);

    alone_forget_sent(a);
    m.append_entries_result.term = *term;
    m.append_entries_result.rejected = 9;
    alone_hear(a, 3, &m);
    assert_non_null(a->job);
    return a;
}

static void
snapshot_goes_out_with_its_own_term(void **unused)
{
    uint64_t term = 0;
    struct alone *a = leader_whose_disk_reads_a_newer_snapshot(&term);
    struct raft_message m;

    (void)unused;
    a->is_disk_slow = false;
    alone_settle(a);
    /* One that asked for nothing while it made a snapshot does so with its next heartbeat. */
    if (!alone_last_sent(a, 3, RAFT_IO_INSTALL_SNAPSHOT, &m)) {
        alone_wait(a, 50);
    }
    assert_true(alone_last_sent(a, 3, RAFT_IO_INSTALL_SNAPSHOT, &m));
    assert_int_equal(m.install_snapshot.last_index, 13);
    assert_int_equal(m.install_snapshot.last_term, term);
    alone_free(a);
}

static void
close_with_snapshots_under_way_is_clean(void **unused)
{
    uint64_t term = 0;
    struct alone *a = leader_whose_disk_reads_a_newer_snapshot(&term);

    (void)unused;
    alone_free(a);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vote_that_is_given_again_is_not_written_again),
        cmocka_unit_test(target_of_a_transfer_gets_no_second_vote),
        cmocka_unit_test(answer_to_a_pre_vote_is_no_vote),
        cmocka_unit_test(configuration_in_the_middle_of_a_message_becomes_committed),
        cmocka_unit_test(snapshot_goes_out_with_its_own_term),
        cmocka_unit_test(close_with_snapshots_under_way_is_clean),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
