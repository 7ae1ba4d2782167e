/*
 * Goal:   what libraft 0.15 leaves out of Raft does not happen: see raft/guard.h, G1 to G4, and
 *         the rollback of configurations; and a node speaks only of what its disk holds.
 * Method: one node; the test is the other two members and the disk (tests/lib/raft_alone.h). The
 *         first configuration is entry 1 of term 1.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "agent/net/peer.h"
#include "raft/guard.h"
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
guard_arithmetic(void **unused)
{
    struct raft_guard g = {0};

    (void)unused;
    assert_false(guard_may_count(&g, 100));
    guard_set_term(&g, 5);
    g.own_first = 10;
    assert_false(guard_may_count(&g, 9));
    assert_true(guard_may_count(&g, 10));
    guard_set_verified(&g, 5, 7);
    guard_set_verified(&g, 5, 6);
    guard_set_verified(&g, 4, 9);
    assert_int_equal(guard_report(&g, 9), 7);
    assert_int_equal(guard_report(&g, 3), 3);
    guard_set_term(&g, 6);
    assert_int_equal(guard_report(&g, 9), 0);
    assert_false(guard_may_count(&g, 100));
    assert_int_equal(guard_commit(5, 2, 6), 6);
    assert_int_equal(guard_commit(5, 2, 9), 7);
    assert_int_equal(guard_skip(5, 4, 5), 0);
    assert_int_equal(guard_skip(5, 4, 7), 2);
    assert_int_equal(guard_skip(0, 4, 70), 4);
}

/* Figure 8 of the Raft paper: entry 2 of term 2 is on two of three disks, yet not committed. */
static void
entry_of_an_older_term_is_not_committed_by_counting(void **unused)
{
    struct alone *a = alone_new(0);
    struct raft_message m;

    (void)unused;
    alone_hear_entries(
        a,
        3,
        (struct raft_append_entries){
            .term = 2, .prev_log_index = 1, .prev_log_term = 1, .leader_commit = 1, .n_entries = 1},
        NULL);
    assert_int_equal(view_of(a).last_index, 2);

    /* Member 3 dies, this one is elected by member 2. Its own first entry is not on disk yet. */
    a->is_disk_slow = true;
    const uint64_t term = alone_win(a);
    assert_int_equal(view_of(a).last_index, 3);
    alone_hear_success(a, 2, term, 2);
    assert_int_equal(view_of(a).commit_index, 1);
    assert_int_equal(a->n_applied, 0);
    assert_false(view_of(a).is_ready);

    /* Now it is: the result that waited lets the entry go out, and counts nothing by itself. */
    alone_forget_sent(a);
    alone_disk(a);
    assert_int_equal(view_of(a).commit_index, 1);
    assert_true(alone_last_sent(a, 2, RAFT_IO_APPEND_ENTRIES, &m));
    assert_int_equal(m.append_entries.prev_log_index, 2);
    assert_int_equal(m.append_entries.n_entries, 1);

    alone_hear_success(a, 2, term, 3);
    assert_int_equal(view_of(a).commit_index, 3);
    assert_int_equal(a->applied, 2);
    assert_true(view_of(a).is_ready);
    assert_false(a->has_failed);
    alone_free(a);
}

static void
leader_decides_nothing_before_its_first_entry_is_committed(void **unused)
{
    struct alone *a = alone_new(0);
    const struct command command = {.type = COMMAND_PAUSE};
    struct raft_message m;

    (void)unused;
    const uint64_t term = alone_win(a);
    assert_int_equal(view_of(a).role, RAFT_ROLE_LEADER);
    assert_false(view_of(a).is_ready);
    assert_int_equal(raft_node_propose(a->node, &command, NULL, NULL), HA_OK);
    assert_int_equal(raft_node_server_add(a->node, 9, "10.0.0.9"), HA_ENOTLEADER);
    alone_settle(a);
    assert_int_equal(view_of(a).last_index, 2);

    alone_hear_success(a, 2, term, 2);
    assert_true(view_of(a).is_ready);
    assert_int_equal(view_of(a).last_index, 3);
    assert_true(alone_last_sent(a, 2, RAFT_IO_APPEND_ENTRIES, &m));
    alone_free(a);
}

/* G2: two entries of a dead leader lie on our disk; the new leader knows nothing of them. */
static void
success_does_not_speak_of_leftovers(void **unused)
{
    struct alone *a = alone_new(0);
    struct raft_message m;

    (void)unused;
    alone_hear_entries(
        a,
        2,
        (struct raft_append_entries){
            .term = 2, .prev_log_index = 1, .prev_log_term = 1, .leader_commit = 1, .n_entries = 2},
        NULL);
    assert_true(alone_last_sent(a, 2, RAFT_IO_APPEND_ENTRIES_RESULT, &m));
    assert_int_equal(m.append_entries_result.last_log_index, 3);

    alone_hear_entries(a,
                       3,
                       (struct raft_append_entries){
                           .term = 3, .prev_log_index = 1, .prev_log_term = 1, .leader_commit = 1},
                       NULL);
    assert_true(alone_last_sent(a, 3, RAFT_IO_APPEND_ENTRIES_RESULT, &m));
    assert_int_equal(m.append_entries_result.rejected, 0);
    assert_int_equal(m.append_entries_result.last_log_index, 1);
    alone_free(a);
}

/* G2: the disk finishes what the old leader asked for when a new one leads already. */
static void
late_append_does_not_answer_the_next_leader(void **unused)
{
    struct alone *a = alone_new(0);
    struct raft_message m;

    (void)unused;
    a->is_disk_slow = true;
    alone_hear_entries(
        a,
        2,
        (struct raft_append_entries){
            .term = 2, .prev_log_index = 1, .prev_log_term = 1, .leader_commit = 1, .n_entries = 1},
        NULL);
    assert_false(alone_last_sent(a, 2, RAFT_IO_APPEND_ENTRIES_RESULT, &m));
    alone_hear_entries(a,
                       3,
                       (struct raft_append_entries){
                           .term = 3, .prev_log_index = 1, .prev_log_term = 1, .leader_commit = 1},
                       NULL);
    alone_forget_sent(a);
    alone_disk(a);
    assert_false(alone_last_sent(a, 3, RAFT_IO_APPEND_ENTRIES_RESULT, &m));
    assert_false(alone_last_sent(a, 2, RAFT_IO_APPEND_ENTRIES_RESULT, &m));
    alone_free(a);
}

static void
success_is_sent_after_the_sync(void **unused)
{
    struct alone *a = alone_new(0);
    struct raft_message m;

    (void)unused;
    a->is_disk_slow = true;
    alone_hear_entries(
        a,
        2,
        (struct raft_append_entries){
            .term = 2, .prev_log_index = 1, .prev_log_term = 1, .leader_commit = 1, .n_entries = 1},
        NULL);
    /* A heartbeat in between must not acknowledge it either. */
    alone_hear_entries(a,
                       2,
                       (struct raft_append_entries){
                           .term = 2, .prev_log_index = 2, .prev_log_term = 2, .leader_commit = 1},
                       NULL);
    if (alone_last_sent(a, 2, RAFT_IO_APPEND_ENTRIES_RESULT, &m)) {
        assert_int_equal(m.append_entries_result.last_log_index, 1);
    }
    alone_disk(a);
    assert_true(alone_last_sent(a, 2, RAFT_IO_APPEND_ENTRIES_RESULT, &m));
    assert_int_equal(m.append_entries_result.last_log_index, 2);
    /* What it said is still true after a loss of power. */
    alone_restart(a);
    assert_int_equal(view_of(a).last_index, 2);
    alone_free(a);
}

/* G4: entries 1.. come again when they were compacted away long ago. */
static void
compacted_entries_are_not_appended_again(void **unused)
{
    struct alone *a = alone_new(4);
    struct raft_configuration conf;
    struct raft_message m;

    (void)unused;
    alone_hear_entries(
        a,
        2,
        (struct raft_append_entries){
            .term = 2, .prev_log_index = 1, .prev_log_term = 1, .leader_commit = 9, .n_entries = 8},
        NULL);
    assert_int_equal(view_of(a).applied_index, 9);
    raft_configuration_init(&conf);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(
            raft_configuration_add(&conf,
                                   ALONE_ID + (raft_id)i,
                                   (const char *[]){"10.0.0.1", "10.0.0.2", "10.0.0.3"}[i],
                                   RAFT_VOTER),
            0);
    }
    alone_forget_sent(a);
    alone_hear_entries(a, 2, (struct raft_append_entries){.term = 2, .n_entries = 5}, &conf);
    assert_int_equal(view_of(a).last_index, 9);
    assert_true(alone_last_sent(a, 2, RAFT_IO_APPEND_ENTRIES_RESULT, &m));
    assert_int_equal(m.append_entries_result.rejected, 0);
    assert_int_equal(m.append_entries_result.last_log_index, 9);
    raft_configuration_close(&conf);
    alone_free(a);
}

/* An uncommitted configuration is overwritten when the one before exists in a snapshot only. */
static void
configuration_is_rolled_back(void **state)
{
    const bool with_restart = *(bool *)*state;
    struct alone *a = alone_new(4);
    struct raft_configuration conf;

    alone_hear_entries(
        a,
        2,
        (struct raft_append_entries){
            .term = 2, .prev_log_index = 1, .prev_log_term = 1, .leader_commit = 9, .n_entries = 8},
        NULL);
    raft_configuration_init(&conf);
    assert_int_equal(raft_configuration_add(&conf, ALONE_ID, "10.0.0.1", RAFT_VOTER), 0);
    assert_int_equal(raft_configuration_add(&conf, 77, "10.0.0.7", RAFT_VOTER), 0);
    alone_hear_entries(
        a,
        2,
        (struct raft_append_entries){
            .term = 2, .prev_log_index = 9, .prev_log_term = 2, .leader_commit = 9, .n_entries = 1},
        &conf);
    raft_configuration_close(&conf);
    assert_int_equal(view_of(a).n_servers, 2);
    if (with_restart) {
        alone_restart(a);
        assert_int_equal(view_of(a).n_servers, 2);
    }
    alone_hear_entries(
        a,
        3,
        (struct raft_append_entries){
            .term = 3, .prev_log_index = 9, .prev_log_term = 2, .leader_commit = 9, .n_entries = 1},
        NULL);
    assert_int_equal(view_of(a).n_servers, 3);
    assert_int_equal(view_of(a).last_index, 10);
    assert_false(a->has_failed);
    alone_free(a);
}

/* G6: the others are removed by a leader of term 2, which this member heard of. */
static void
single_voter_leads_in_a_term_of_its_own(void **state)
{
    const bool with_restart = *(bool *)*state;
    struct alone *a = alone_new(0);
    struct raft_configuration conf;

    raft_configuration_init(&conf);
    assert_int_equal(raft_configuration_add(&conf, ALONE_ID, "10.0.0.1", RAFT_VOTER), 0);
    alone_hear_entries(
        a,
        2,
        (struct raft_append_entries){
            .term = 2, .prev_log_index = 1, .prev_log_term = 1, .leader_commit = 1, .n_entries = 1},
        &conf);
    raft_configuration_close(&conf);
    assert_int_equal(view_of(a).n_servers, 1);
    assert_int_equal(view_of(a).term, 2);
    if (with_restart) {
        alone_restart(a);
    } else {
        alone_wait(a, 1000);
    }
    assert_int_equal(view_of(a).role, RAFT_ROLE_LEADER);
    assert_true(view_of(a).is_ready);
    assert_int_equal(view_of(a).term, 3);
    /* Each life its own. */
    alone_restart(a);
    assert_int_equal(view_of(a).term, 4);
    alone_free(a);
}

/* The majority is gone: what the log holds counts, and this member goes on alone. */
static void
forced_configuration_brings_a_lone_member_back(void **unused)
{
    struct alone *a = alone_new(0);

    (void)unused;
    alone_hear_entries(
        a,
        2,
        (struct raft_append_entries){
            .term = 2, .prev_log_index = 1, .prev_log_term = 1, .leader_commit = 1, .n_entries = 2},
        NULL);
    alone_restart(a);
    assert_int_equal(view_of(a).role, RAFT_ROLE_FOLLOWER);
    alone_recover(a);
    assert_int_equal(view_of(a).role, RAFT_ROLE_LEADER);
    assert_true(view_of(a).is_ready);
    assert_int_equal(view_of(a).n_servers, 1);
    assert_true(view_of(a).term > 2);
    assert_int_equal(a->n_applied, 2);
    alone_free(a);
}

/* G5: what a refused pre-vote says, lets the better log win. */
static void
refused_pre_vote_tells_the_term(void **unused)
{
    struct alone *a = alone_new(0);
    struct raft_message m = {.type = RAFT_IO_REQUEST_VOTE};

    (void)unused;
    alone_hear_entries(a,
                       2,
                       (struct raft_append_entries){
                           .term = 7, .prev_log_index = 1, .prev_log_term = 1, .leader_commit = 1},
                       NULL);
    m.request_vote.term = 4;
    m.request_vote.candidate_id = ALONE_ID + 2;
    m.request_vote.last_log_index = 9;
    m.request_vote.last_log_term = 3;
    m.request_vote.pre_vote = true;
    alone_hear(a, 3, &m);
    assert_true(alone_last_sent(a, 3, RAFT_IO_REQUEST_VOTE_RESULT, &m));
    assert_false(m.request_vote_result.vote_granted);
    assert_int_equal(m.request_vote_result.term, 7);
    alone_free(a);
}

/* What is not written is not said: the vote stays at home and the node stops. */
static void
vote_that_cannot_be_written_is_not_sent(void **unused)
{
    struct alone *a = alone_new(0);
    struct raft_message m = {.type = RAFT_IO_REQUEST_VOTE};

    (void)unused;
    fs_mem_fail_at(a->disk, 1, 1000, HA_ENOSPC);
    m.request_vote.term = 9;
    m.request_vote.candidate_id = ALONE_ID + 1;
    m.request_vote.last_log_index = 5;
    m.request_vote.last_log_term = 5;
    m.request_vote.disrupt_leader = true;
    alone_hear(a, 2, &m);
    assert_false(alone_last_sent(a, 2, RAFT_IO_REQUEST_VOTE_RESULT, &m));
    assert_true(a->has_failed);
    assert_int_equal(view_of(a).role, RAFT_ROLE_NONE);
    alone_free(a);
}

static void
failed_append_stops_the_node_and_a_restart_recovers(void **unused)
{
    struct alone *a = alone_new(0);
    struct raft_message m;
    const struct raft_append_entries entry = {
        .term = 2, .prev_log_index = 1, .prev_log_term = 1, .leader_commit = 2, .n_entries = 1};

    (void)unused;
    alone_hear_entries(a,
                       2,
                       (struct raft_append_entries){
                           .term = 2, .prev_log_index = 1, .prev_log_term = 1, .leader_commit = 1},
                       NULL);
    alone_forget_sent(a);
    fs_mem_fail_at(a->disk, 1, 1000, HA_ENOSPC);
    alone_hear_entries(a, 2, entry, NULL);
    assert_true(a->has_failed);
    assert_false(alone_last_sent(a, 2, RAFT_IO_APPEND_ENTRIES_RESULT, &m));
    fs_mem_fail_at(a->disk, 0, 0, 0);
    alone_restart(a);
    assert_int_equal(view_of(a).last_index, 1);
    alone_hear_entries(a, 2, entry, NULL);
    assert_int_equal(view_of(a).applied_index, 2);
    alone_free(a);
}

/* Ids and addresses: what was meant for another incarnation, and who says that he is another. */
static void
message_of_a_wrong_identity_is_dropped(void **unused)
{
    struct alone *a = alone_new(0);
    struct raft_message m = {.type = RAFT_IO_REQUEST_VOTE};
    uint8_t body[256];
    unsigned n = 0;

    (void)unused;
    m.request_vote.term = 9;
    m.request_vote.last_log_index = 5;
    m.request_vote.last_log_term = 5;
    m.request_vote.disrupt_leader = true;

    /* To the incarnation before. */
    m.request_vote.candidate_id = 1002;
    size_t len = message_encode(&m, 1002, 999, body, sizeof body, &n);
    raft_node_receive(a->node, "10.0.0.2", (uint8_t)PEER_RAFT, body, len);
    assert_int_equal(view_of(a).term, 1);
    /* Member 3's id from member 2's address. */
    m.request_vote.candidate_id = 1003;
    len = message_encode(&m, 1003, ALONE_ID, body, sizeof body, &n);
    raft_node_receive(a->node, "10.0.0.2", (uint8_t)PEER_RAFT, body, len);
    assert_int_equal(view_of(a).term, 1);
    /* Our own id. */
    m.request_vote.candidate_id = ALONE_ID;
    len = message_encode(&m, ALONE_ID, ALONE_ID, body, sizeof body, &n);
    raft_node_receive(a->node, "10.0.0.2", (uint8_t)PEER_RAFT, body, len);
    assert_int_equal(view_of(a).term, 1);
    /* The same from where it belongs. */
    m.request_vote.candidate_id = 1003;
    len = message_encode(&m, 1003, ALONE_ID, body, sizeof body, &n);
    raft_node_receive(a->node, "10.0.0.3", (uint8_t)PEER_RAFT, body, len);
    assert_int_equal(view_of(a).term, 9);
    alone_settle(a);
    alone_free(a);
}

int
main(void)
{
    static bool no = false;
    static bool yes = true;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guard_arithmetic),
        cmocka_unit_test(entry_of_an_older_term_is_not_committed_by_counting),
        cmocka_unit_test(leader_decides_nothing_before_its_first_entry_is_committed),
        cmocka_unit_test(success_does_not_speak_of_leftovers),
        cmocka_unit_test(late_append_does_not_answer_the_next_leader),
        cmocka_unit_test(success_is_sent_after_the_sync),
        cmocka_unit_test(compacted_entries_are_not_appended_again),
        {"configuration_is_rolled_back", configuration_is_rolled_back, NULL, NULL, &no},
        {"configuration_is_rolled_back_after_a_restart",
         configuration_is_rolled_back,
         NULL,
         NULL,
         &yes},
        {"single_voter_leads_in_a_term_of_its_own",
         single_voter_leads_in_a_term_of_its_own,
         NULL,
         NULL,
         &no},
        {"single_voter_leads_in_a_term_of_its_own_after_a_restart",
         single_voter_leads_in_a_term_of_its_own,
         NULL,
         NULL,
         &yes},
        cmocka_unit_test(forced_configuration_brings_a_lone_member_back),
        cmocka_unit_test(refused_pre_vote_tells_the_term),
        cmocka_unit_test(vote_that_cannot_be_written_is_not_sent),
        cmocka_unit_test(failed_append_stops_the_node_and_a_restart_recovers),
        cmocka_unit_test(message_of_a_wrong_identity_is_dropped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
