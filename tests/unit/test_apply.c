/*
 * Goal:   every command about reigns does what docs/protocol.md section 2 says, and nothing when
 *         its precondition does not hold.
 * Method: tables of commands against a cluster of three with a holder, a vacant reign, a paused
 *         cluster; each refusal is compared with the state before, byte by byte. The declaration
 *         and the members have files of their own: test_declare.c, test_members.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/cluster_state.h"

static void
an_empty_state_takes_nothing_but_its_founding(void **unused)
{
    struct state s;
    struct command c;

    (void)unused;
    for (int type = COMMAND_REGISTER; type < COMMAND_TYPE_COUNT; type++) {
        state_init(&s);
        c = command_of((enum command_type)type);
        REFUSED(&s, c);
    }
    c = member_register(IP_A, 1);
    REFUSED(&s, c);
    REFUSED(&s, declare(IP_A, wish(IP_A)));
    REFUSED(&s, declare_by_job(IP_A, 0));
    REFUSED(&s, members_change(COMMAND_MEMBER_ADD, 0, IP_A));
    REFUSED(&s, settings(1000, 0, FAILOVER_POLICY_COUNT));
    REFUSED(&s, appoint(1, member_id(IP_A, 1)));
}

static void
founding_makes_the_declared_members_and_happens_once(void **unused)
{
    struct state s;
    struct command c = found(wish(IP_B));

    (void)unused;
    state_init(&s);
    c.found.cluster_id = 0;
    REFUSED(&s, c);
    c.found.cluster_id = CLUSTER_ID;
    c.found.declaration.n_members = 0;
    REFUSED(&s, c);

    SAID(&s, found(wish(IP_B)));
    assert_int_equal(s.cluster_id, CLUSTER_ID);
    assert_int_equal(s.generation, 1);
    assert_int_equal(s.members_generation, 1);
    assert_int_equal(s.settled_generation, 1);
    assert_int_equal(s.reign, 0);
    assert_string_equal(s.declaration.primary, IP_B);
    for (size_t i = 0; i < 3; i++) {
        assert_true(member_is_current(&s.members[i]));
        assert_true(member_was_settled(&s, &s.members[i]));
        assert_int_equal(s.members[i].id, member_id(s.members[i].address, 1));
        assert_int_equal(s.members[i].nonce, 0);
    }
    assert_int_equal(s.members[3].id, 0);
    c = found(wish(IP_A));
    c.found.cluster_id = CLUSTER_ID + 1;
    REFUSED(&s, c);
}

static void
the_first_registration_fixes_the_incarnation(void **unused)
{
    struct state s;
    struct command c = member_register(IP_A, 0xa);

    (void)unused;
    cluster_founded(&s);
    assert_int_equal(state_member_at(&s, IP_A)->nonce, 0xa);
    CHANGES_NOTHING(&s, member_register(IP_A, 0xa));
    SET_TEXT(c.member_register.name, "renamed");
    SAID(&s, c);
    assert_string_equal(state_member_at(&s, IP_A)->name, "renamed");
    REFUSED(&s, member_register(IP_A, 0xbad));
    REFUSED(&s, member_register(IP_A, 0));
    REFUSED(&s, member_register("10.0.0.77", 1));
}

static void
reigns_are_numbered_without_a_gap_and_never_reused(void **unused)
{
    struct state s;

    (void)unused;
    cluster_founded(&s);
    REFUSED(&s, appoint(0, id_of(&s, IP_A)));
    REFUSED(&s, appoint(2, id_of(&s, IP_A)));
    SAID(&s, appoint(1, id_of(&s, IP_A)));
    assert_int_equal(s.reign, 1);
    assert_int_equal(s.holder, id_of(&s, IP_A));
    assert_false(s.is_vacant);
    assert_false(s.is_opened);
    REFUSED(&s, appoint(1, id_of(&s, IP_A)));
    REFUSED(&s, appoint(1, id_of(&s, IP_B)));
    REFUSED(&s, appoint(3, id_of(&s, IP_B)));
    SAID(&s, vacate(1, id_of(&s, IP_A)));
    REFUSED(&s, appoint(1, id_of(&s, IP_A)));
    SAID(&s, appoint(2, id_of(&s, IP_A)));
    assert_int_equal(s.n_history, 2);
}

static void
only_a_current_database_member_is_appointed(void **unused)
{
    struct declaration d = wish(IP_A);
    struct state s;

    (void)unused;
    state_init(&s);
    declaration_add(&d, IP_W, MEMBER_WITNESS);
    SAID(&s, found(d));
    REFUSED(&s, appoint(1, id_of(&s, IP_W)));
    REFUSED(&s, appoint(1, 0));
    REFUSED(&s, appoint(1, 0xdead));
    SAID(&s, members_change(COMMAND_MEMBER_REMOVE, 1, IP_C));
    REFUSED(&s, appoint(1, member_id(IP_C, 1))); /* on its way out */
    SAID(&s, appoint(1, id_of(&s, IP_B)));
}

static void
an_appointment_starts_from_a_clean_slate(void **unused)
{
    struct state s;

    (void)unused;
    cluster_reigned(&s);
    SAID(&s, handover(1, id_of(&s, IP_B)));
    SAID(&s, vacate(1, id_of(&s, IP_A)));
    assert_int_equal(s.final_lsn, 0x5000);
    assert_int_equal(s.handover, id_of(&s, IP_B));
    SAID(&s, appoint(2, id_of(&s, IP_B)));
    assert_int_equal(s.final_lsn, 0);
    assert_int_equal(s.handover, 0);
    assert_false(s.is_vacant);
    assert_false(s.is_opened);
    /* What the data are on is still what reign 1 opened. */
    assert_int_equal(s.opened_reign, 1);
    assert_int_equal(s.timeline, 1);
}

static void
a_handover_names_another_database_member_in_the_current_reign(void **unused)
{
    struct declaration d = wish(IP_A);
    struct state s;

    (void)unused;
    state_init(&s);
    declaration_add(&d, IP_W, MEMBER_WITNESS);
    SAID(&s, found(d));
    REFUSED(&s, handover(0, id_of(&s, IP_B)));
    REFUSED(&s, handover(0, 0));
    SAID(&s, appoint(1, id_of(&s, IP_A)));
    REFUSED(&s, handover(0, id_of(&s, IP_B)));
    REFUSED(&s, handover(2, id_of(&s, IP_B)));
    REFUSED(&s, handover(1, id_of(&s, IP_A)));
    REFUSED(&s, handover(1, id_of(&s, IP_W)));
    REFUSED(&s, handover(1, 0xdead));
    SAID(&s, handover(1, id_of(&s, IP_B)));
    assert_int_equal(s.handover, id_of(&s, IP_B));
    CHANGES_NOTHING(&s, handover(1, id_of(&s, IP_B)));
    SAID(&s, handover(1, id_of(&s, IP_C)));
    SAID(&s, handover(1, 0));
    assert_int_equal(s.handover, 0);
    SAID(&s, members_change(COMMAND_MEMBER_REMOVE, 1, IP_C));
    REFUSED(&s, handover(1, member_id(IP_C, 1)));
    SAID(&s, vacate(1, id_of(&s, IP_A)));
    REFUSED(&s, handover(1, id_of(&s, IP_B)));
}

static void
only_the_holder_vacates_and_only_its_own_reign(void **unused)
{
    struct state s;
    struct command again;

    (void)unused;
    cluster_founded(&s);
    REFUSED(&s, vacate(0, 0));
    REFUSED(&s, vacate(0, id_of(&s, IP_A)));
    SAID(&s, appoint(1, id_of(&s, IP_A)));
    REFUSED(&s, vacate(1, id_of(&s, IP_B)));
    REFUSED(&s, vacate(1, 0));
    REFUSED(&s, vacate(0, id_of(&s, IP_A)));
    REFUSED(&s, vacate(2, id_of(&s, IP_A)));
    SAID(&s, vacate(1, id_of(&s, IP_A)));
    assert_true(s.is_vacant);
    assert_int_equal(s.final_lsn, 0x5000);
    again = vacate(1, id_of(&s, IP_A));
    again.vacate.final_lsn = 0x6000; /* the first word counts */
    CHANGES_NOTHING(&s, again);
    SAID(&s, appoint(2, id_of(&s, IP_B)));
    REFUSED(&s, vacate(1, id_of(&s, IP_A))); /* a late one of an older reign */
    REFUSED(&s, vacate(2, id_of(&s, IP_A)));
}

static void
the_holder_puts_its_timeline_on_record_once(void **unused)
{
    struct state s;
    struct command c;

    (void)unused;
    cluster_founded(&s);
    REFUSED(&s, opened(0, id_of(&s, IP_A), 1));
    SAID(&s, appoint(1, id_of(&s, IP_A)));
    REFUSED(&s, opened(1, id_of(&s, IP_B), 1));
    REFUSED(&s, opened(2, id_of(&s, IP_A), 1));
    REFUSED(&s, opened(0, id_of(&s, IP_A), 1));
    REFUSED(&s, opened(1, id_of(&s, IP_A), 0));
    c = opened(1, id_of(&s, IP_A), 1);
    c.opened.sysid = 0;
    REFUSED(&s, c);
    SAID(&s, opened(1, id_of(&s, IP_A), 1));
    assert_true(s.is_opened);
    assert_int_equal(s.sysid, 77);
    assert_int_equal(s.opened_reign, 1);
    assert_int_equal(s.timeline, 1);
    assert_int_equal(s.fork_lsn, 0x4000);
    assert_int_equal(state_reign(&s, 1)->timeline, 1);
    assert_int_equal(state_reign(&s, 1)->fork_lsn, 0x4000);
    CHANGES_NOTHING(&s, opened(1, id_of(&s, IP_A), 1));
    REFUSED(&s, opened(1, id_of(&s, IP_A), 2));
    SAID(&s, vacate(1, id_of(&s, IP_A)));
    REFUSED(&s, opened(1, id_of(&s, IP_A), 1));
    SAID(&s, appoint(2, id_of(&s, IP_B)));
    c = opened(2, id_of(&s, IP_B), 2);
    c.opened.sysid = 78; /* another database altogether */
    REFUSED(&s, c);
    SAID(&s, opened(2, id_of(&s, IP_B), 2));
    assert_int_equal(s.opened_reign, 2);
    assert_int_equal(state_reign(&s, 1)->timeline, 1);
    assert_int_equal(state_reign(&s, 2)->timeline, 2);
}

static void
a_paused_cluster_appoints_nobody_and_hands_over_to_nobody(void **unused)
{
    struct state s;

    (void)unused;
    cluster_reigned(&s);
    SAID(&s, handover(1, id_of(&s, IP_B)));
    SAID(&s, command_of(COMMAND_PAUSE));
    assert_true(s.is_paused);
    CHANGES_NOTHING(&s, command_of(COMMAND_PAUSE));
    REFUSED(&s, handover(1, id_of(&s, IP_C)));
    SAID(&s, handover(1, 0)); /* calling it off is always possible */
    SAID(&s, vacate(1, id_of(&s, IP_A)));
    REFUSED(&s, appoint(2, id_of(&s, IP_B)));
    SAID(&s, command_of(COMMAND_RESUME));
    assert_false(s.is_paused);
    CHANGES_NOTHING(&s, command_of(COMMAND_RESUME));
    SAID(&s, appoint(2, id_of(&s, IP_B)));
}

static void
settings_change_what_they_name_and_count_as_a_generation(void **unused)
{
    struct state s;

    (void)unused;
    cluster_founded(&s);
    SAID(&s, settings(1000, 0, FAILOVER_POLICY_COUNT));
    assert_int_equal(s.declaration.lease_ms, 1000);
    assert_int_equal(s.declaration.max_lag, 0);
    assert_int_equal(s.declaration.failover, FAILOVER_DECLARED);
    assert_int_equal(s.generation, 2);
    CHANGES_NOTHING(&s, settings(1000, 0, FAILOVER_POLICY_COUNT));
    SAID(&s, settings(0, 4096, FAILOVER_AUTO));
    assert_int_equal(s.declaration.lease_ms, 1000);
    assert_int_equal(s.declaration.max_lag, 4096);
    assert_int_equal(s.declaration.failover, FAILOVER_AUTO);
    assert_int_equal(s.generation, 3);
    assert_string_equal(s.declaration.primary, IP_A);
    REFUSED(&s, settings(HA_LEASE_MS_MIN - 1, 0, FAILOVER_POLICY_COUNT));
    REFUSED(&s, settings(HA_LEASE_MS_MAX + 1, 0, FAILOVER_POLICY_COUNT));
    REFUSED(&s, settings(0, 0, FAILOVER_POLICY_COUNT + 1));
    /* Nobody moves back to the declared primary because somebody changed a figure. */
    SAID(&s, appoint(1, id_of(&s, IP_B)));
    assert_int_equal(s.acted_generation, s.generation);
    SAID(&s, settings(0, 8192, FAILOVER_POLICY_COUNT));
    assert_int_equal(s.acted_generation, s.generation);
    SAID(&s, declare(IP_B, wish(IP_C)));
    SAID(&s, settings(0, 4096, FAILOVER_POLICY_COUNT));
    assert_int_equal(s.acted_generation, s.generation - 2);
    SAID(&s, appoint(2, id_of(&s, IP_C)));
    assert_int_equal(s.acted_generation, s.generation);
    SAID(&s, settings(HA_LEASE_MS_MIN, 0, FAILOVER_POLICY_COUNT));
    SAID(&s, settings(HA_LEASE_MS_MAX, 0, FAILOVER_POLICY_COUNT));
}

static struct command
sync_of(uint64_t reign, uint64_t generation, uint64_t set)
{
    struct command c = command_of(COMMAND_SYNC);

    c.sync.reign = reign;
    c.sync.generation = generation;
    c.sync.set = set;
    c.sync.count = set != 0;
    return c;
}

static void
the_synchronous_set_belongs_to_a_reign_and_to_the_members_it_was_made_for(void **unused)
{
    struct declaration d = wish(IP_A);
    struct state s;

    (void)unused;
    state_init(&s);
    declaration_add(&d, IP_W, MEMBER_WITNESS);
    SAID(&s, found(d));
    REFUSED(&s, sync_of(0, 1, 1));
    SAID(&s, appoint(1, id_of(&s, IP_A)));
    REFUSED(&s, sync_of(1, 1, 6)); /* not open yet */
    SAID(&s, opened(1, id_of(&s, IP_A), 1));
    REFUSED(&s, sync_of(0, 1, 6));
    REFUSED(&s, sync_of(2, 1, 6));
    REFUSED(&s, sync_of(1, 0, 6));
    REFUSED(&s, sync_of(1, 2, 6));
    REFUSED(&s, sync_of(1, 1, 1U << 3)); /* the witness */
    REFUSED(&s, sync_of(1, 1, 1U << 4)); /* nobody */
    REFUSED(&s, sync_of(1, 1, 1ULL << 63));
    SAID(&s, sync_of(1, 1, 6));
    assert_int_equal(s.sync_set, 6);
    assert_int_equal(s.sync_count, 1);
    SAID(&s, members_change(COMMAND_MEMBER_REMOVE, 1, IP_C));
    REFUSED(&s, sync_of(1, 2, 1U << 2)); /* on its way out */
    SAID(&s, settle(2, s.holder));
    assert_int_equal(s.sync_set, 2);
    assert_int_equal(s.sync_lost, 1); /* what it had, nobody else need have */
    SAID(&s, sync_of(1, 2, 0));
    SAID(&s, vacate(1, s.holder));
    REFUSED(&s, sync_of(1, 2, 2));
}

static struct command
rebuild_of(uint64_t member, uint64_t reign, uint8_t rung)
{
    struct command c = command_of(COMMAND_REBUILD);

    c.rebuild.member = member;
    c.rebuild.reign = reign;
    c.rebuild.sysid = 77;
    c.rebuild.rung = rung;
    return c;
}

/* The wipe interlock: whose data, of which system, under which newer reign that is open. */
static void
data_are_replaced_only_under_an_open_reign_of_another(void **unused)
{
    struct state s;
    struct command c;
    uint64_t b;

    (void)unused;
    cluster_founded(&s);
    b = id_of(&s, IP_B);
    REFUSED(&s, rebuild_of(b, 0, REBUILD_COPY));
    SAID(&s, appoint(1, id_of(&s, IP_A)));
    REFUSED(&s, rebuild_of(b, 1, REBUILD_COPY)); /* not open yet */
    SAID(&s, opened(1, id_of(&s, IP_A), 1));
    REFUSED(&s, rebuild_of(id_of(&s, IP_A), 1, REBUILD_COPY)); /* the holder's own */
    REFUSED(&s, rebuild_of(b, 2, REBUILD_COPY));
    REFUSED(&s, rebuild_of(999, 1, REBUILD_COPY));
    REFUSED(&s, rebuild_of(b, 1, REBUILD_RUNG_COUNT));
    c = rebuild_of(b, 1, REBUILD_REWIND);
    c.rebuild.sysid = 78;
    REFUSED(&s, c);
    SAID(&s, rebuild_of(b, 1, REBUILD_REWIND));
    assert_int_equal(state_member(&s, b)->rebuild, 1);
    SAID(&s, rebuild_of(b, 1, REBUILD_COPY)); /* the next rung */
    assert_int_equal(state_member(&s, b)->rebuild_rung, REBUILD_COPY);
    SAID(&s, vacate(1, id_of(&s, IP_A)));
    REFUSED(&s, rebuild_of(b, 1, REBUILD_CLEAR));
    SAID(&s, rebuild_of(b, 0, REBUILD_NONE));
    assert_int_equal(state_member(&s, b)->rebuild, 0);
    assert_int_equal(state_member(&s, b)->rebuild_rung, REBUILD_NONE);
}

static void
a_majority_of_the_copies_is_left_alone(void **unused)
{
    struct state s;
    uint64_t b;
    uint64_t c;

    (void)unused;
    cluster_founded(&s);
    b = id_of(&s, IP_B);
    c = id_of(&s, IP_C);
    SAID(&s, appoint(1, id_of(&s, IP_A)));
    SAID(&s, opened(1, id_of(&s, IP_A), 1));
    SAID(&s, rebuild_of(b, 1, REBUILD_COPY));
    REFUSED(&s, rebuild_of(c, 1, REBUILD_REWIND));
    SAID(&s, rebuild_of(b, 1, REBUILD_CLEAR)); /* it streams: a copy again */
    SAID(&s, rebuild_of(c, 1, REBUILD_REWIND));
    REFUSED(&s, rebuild_of(b, 1, REBUILD_COPY));
    /* Two on record, of before a member left: each goes on, or they would wait for each other. */
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        if (s.members[i].id == b) {
            s.members[i].rebuild = 1;
            s.members[i].rebuild_rung = REBUILD_REWIND;
        }
    }
    SAID(&s, rebuild_of(b, 1, REBUILD_COPY));
    SAID(&s, rebuild_of(c, 1, REBUILD_COPY));
    SAID(&s, rebuild_of(b, 0, REBUILD_NONE));
    SAID(&s, rebuild_of(c, 0, REBUILD_NONE));
    SAID(&s, rebuild_of(b, 1, REBUILD_COPY));
}

/* The ledger is a chain: each promotion leaves the newest timeline, behind where that one began. */
static void
a_timeline_that_does_not_continue_the_ledger_is_refused(void **unused)
{
    struct state s;
    struct command c;

    (void)unused;
    cluster_founded(&s);
    SAID(&s, appoint(1, id_of(&s, IP_A)));
    c = opened(1, id_of(&s, IP_A), 1);
    c.opened.lineage = 0;
    REFUSED(&s, c);
    SAID(&s, opened(1, id_of(&s, IP_A), 1));
    SAID(&s, vacate(1, id_of(&s, IP_A)));
    SAID(&s, appoint(2, id_of(&s, IP_B)));
    REFUSED(&s, opened(2, id_of(&s, IP_B), 1)); /* no promotion at all */
    c = opened(2, id_of(&s, IP_B), 2);
    c.opened.fork_lsn = 0x4001; /* not where its history says */
    REFUSED(&s, c);
    c = opened(2, id_of(&s, IP_B), 2);
    c.opened.fork_lsn = 0x3fff; /* before timeline 1 is on record */
    c.opened.lineage = lineage_extend(LINEAGE_FIRST, 1, 0x3fff);
    REFUSED(&s, c);
    c = opened(2, id_of(&s, IP_B), 3);
    c.opened.lineage = lineage_extend(LINEAGE_FIRST, 2, 0x4000); /* it left another timeline */
    REFUSED(&s, c);
    SAID(&s, opened(2, id_of(&s, IP_B), 2));
    assert_true(state_reign(&s, 2)->lineage == lineage_of(2));
    assert_ptr_equal(state_timeline(&s, 2), state_reign(&s, 2));
    assert_null(state_timeline(&s, 3));
    c = opened(2, id_of(&s, IP_B), 2);
    c.opened.lineage++;
    REFUSED(&s, c);
}

/* Its number was another's, who was promoted too and never came on record. */
static void
no_reign_opens_with_the_number_of_one_before_it(void **unused)
{
    struct state s;
    struct command c;

    (void)unused;
    cluster_reigned(&s);
    assert_int_equal(state_next_timeline(&s), 1);
    SAID(&s, vacate(1, id_of(&s, IP_A)));
    SAID(&s, appoint(2, id_of(&s, IP_B)));
    assert_int_equal(state_next_timeline(&s), 2);
    SAID(&s, appoint(3, id_of(&s, IP_C)));
    SAID(&s, appoint(4, id_of(&s, IP_A)));
    assert_int_equal(state_next_timeline(&s), 4);
    c = opened(4, id_of(&s, IP_A), 2);
    for (c.opened.timeline = 0; c.opened.timeline < 4; c.opened.timeline++) {
        REFUSED(&s, c);
    }
    SAID(&s, c);
    assert_int_equal(s.timeline, 4);
    SAID(&s, appoint(5, id_of(&s, IP_B)));
    assert_int_equal(state_next_timeline(&s), 5);
    c = opened(5, id_of(&s, IP_B), 7); /* files of others' making were in the way */
    c.opened.lineage = lineage_extend(s.lineage, 4, c.opened.fork_lsn);
    SAID(&s, c);
    SAID(&s, appoint(6, id_of(&s, IP_C)));
    assert_int_equal(state_next_timeline(&s), 8);
}

static void
a_choice_and_a_set_rest_on_the_newest_epoch(void **unused)
{
    struct command c;
    struct state s;

    (void)unused;
    cluster_reigned(&s);
    assert_int_equal(s.sync_epoch, 1);
    c = sync_of(1, 1, 6);
    c.sync.epoch = 9;
    REFUSED(&s, c);
    c.sync.epoch = 1;
    c.sync.count = 3; /* of two */
    REFUSED(&s, c);
    c.sync.lost = 1;
    SAID(&s, c);
    assert_int_equal(s.sync_epoch, 2);
    c = appoint(2, id_of(&s, IP_B));
    c.appoint.epoch = 1; /* chosen before the set changed */
    REFUSED(&s, c);
    c.appoint.epoch = 2;
    SAID(&s, c);
    assert_int_equal(s.sync_epoch, 3);
    assert_int_equal(s.sync_set, 6); /* of the reign before, until the new one is open */
    c = sync_of(2, 1, 0);
    REFUSED(&s, c);
    SAID(&s, opened(2, id_of(&s, IP_B), 2));
    SAID(&s, c);
    assert_int_equal(s.sync_count, 0);
    c = sync_of(2, 1, 0);
    c.sync.lost = 1;
    REFUSED(&s, c); /* nothing is on record of asynchronous writes */
}

static void
history_remembers_the_newest_reigns_oldest_first(void **unused)
{
    struct state s;
    const uint64_t n = HA_HISTORY_MAX + 5;

    (void)unused;
    cluster_founded(&s);
    for (uint64_t reign = 1; reign <= n; reign++) {
        const uint64_t who = id_of(&s, reign % 2 == 0 ? IP_A : IP_B);

        SAID(&s, appoint(reign, who));
        assert_int_equal(state_reign(&s, reign)->timeline, 0);
        assert_int_equal(state_reign(&s, reign)->fork_lsn, 0);
        SAID(&s, opened(reign, who, (uint32_t)reign));
        SAID(&s, vacate(reign, who));
    }
    assert_int_equal(s.n_history, HA_HISTORY_MAX);
    assert_null(state_reign(&s, 5));
    for (uint32_t i = 0; i < HA_HISTORY_MAX; i++) {
        const struct reign_row *row = &s.history[i];

        assert_int_equal(row->reign, i + 6);
        assert_int_equal(row->timeline, i + 6);
        assert_int_equal(row->wall_ms, 1000 + i + 6);
        assert_string_equal(row->holder_address, row->reign % 2 == 0 ? IP_A : IP_B);
        assert_string_equal(row->why, "because");
        assert_ptr_equal(state_reign(&s, row->reign), row);
    }
}

static void
a_proposal_said_twice_is_applied_once_and_answered_alike(void **unused)
{
    struct state s;
    uint64_t a;

    (void)unused;
    cluster_reigned(&s);
    a = id_of(&s, IP_A);
    SAID(&s, from(a, 7, handover(1, id_of(&s, IP_B))));
    SAID(&s, handover(1, 0)); /* somebody else calls it off in between */
    CHANGES_NOTHING(&s, from(a, 7, handover(1, id_of(&s, IP_B))));
    assert_int_equal(s.handover, 0);

    /* A refusal is an answer too, and stays one although the command would be in order now. */
    assert_int_equal(say(&s, from(a, 8, appoint(3, a))), HA_EREFUSED);
    SAID(&s, vacate(1, a));
    SAID(&s, appoint(2, id_of(&s, IP_B)));
    REFUSED(&s, from(a, 8, appoint(3, a)));
    assert_int_equal(s.reign, 2);

    /* An older one that a network kept back changes nothing, whatever it was. */
    REFUSED(&s, from(a, 7, handover(2, id_of(&s, IP_C))));
    /* Keys are per member, and a key of nobody or a counter of 0 is none. */
    SAID(&s, from(id_of(&s, IP_B), 7, handover(2, id_of(&s, IP_C))));
    SAID(&s, from(a, 0, handover(2, 0)));
    SAID(&s, from(0, 7, handover(2, a)));
    SAID(&s, from(0xdead, 7, handover(2, 0)));
    SAID(&s, from(a, 9, handover(2, a)));
    assert_int_equal(s.handover, a);
}

static void
a_refused_proposal_leaves_no_trace_but_its_key(void **unused)
{
    struct state s;
    struct state before;

    (void)unused;
    cluster_reigned(&s);
    memcpy(&before, &s, sizeof s);
    assert_int_equal(say(&s, from(s.members[1].id, 5, appoint(9, s.holder))), HA_EREFUSED);
    assert_int_equal(s.members[1].last_counter, 5);
    assert_int_equal(s.members[1].last_result, HA_EREFUSED);
    s.members[1].last_counter = before.members[1].last_counter;
    s.members[1].last_result = before.members[1].last_result;
    assert_memory_equal(&s, &before, sizeof s);
}

static void
a_founder_may_repeat_the_founding_with_its_key(void **unused)
{
    struct state s;
    const struct command c = from(member_id(IP_A, 1), 1, found(wish(IP_A)));

    (void)unused;
    state_init(&s);
    SAID(&s, c);
    CHANGES_NOTHING(&s, c);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_state_takes_nothing_but_its_founding),
        cmocka_unit_test(founding_makes_the_declared_members_and_happens_once),
        cmocka_unit_test(the_first_registration_fixes_the_incarnation),
        cmocka_unit_test(reigns_are_numbered_without_a_gap_and_never_reused),
        cmocka_unit_test(only_a_current_database_member_is_appointed),
        cmocka_unit_test(an_appointment_starts_from_a_clean_slate),
        cmocka_unit_test(a_handover_names_another_database_member_in_the_current_reign),
        cmocka_unit_test(only_the_holder_vacates_and_only_its_own_reign),
        cmocka_unit_test(the_holder_puts_its_timeline_on_record_once),
        cmocka_unit_test(a_paused_cluster_appoints_nobody_and_hands_over_to_nobody),
        cmocka_unit_test(settings_change_what_they_name_and_count_as_a_generation),
        cmocka_unit_test(the_synchronous_set_belongs_to_a_reign_and_to_the_members_it_was_made_for),
        cmocka_unit_test(no_reign_opens_with_the_number_of_one_before_it),
        cmocka_unit_test(a_choice_and_a_set_rest_on_the_newest_epoch),
        cmocka_unit_test(data_are_replaced_only_under_an_open_reign_of_another),
        cmocka_unit_test(a_majority_of_the_copies_is_left_alone),
        cmocka_unit_test(a_timeline_that_does_not_continue_the_ledger_is_refused),
        cmocka_unit_test(history_remembers_the_newest_reigns_oldest_first),
        cmocka_unit_test(a_proposal_said_twice_is_applied_once_and_answered_alike),
        cmocka_unit_test(a_refused_proposal_leaves_no_trace_but_its_key),
        cmocka_unit_test(a_founder_may_repeat_the_founding_with_its_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
