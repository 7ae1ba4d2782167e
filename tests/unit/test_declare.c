/*
 * Goal:   a redeploy wins, repeated words are no change, and an environment of last week that comes
 *         back with its node changes nothing.
 * Method: rolling redeploys played out, one restart after the other, in every order of restarts;
 *         the deploy job; HA_DECLARATION numbers; each fault of a declaration.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/cluster_state.h"

static struct declaration
numbered(struct declaration d, uint64_t number)
{
    d.number = number;
    return d;
}

#define IS_DECLARED(s, address, at_generation)                                                     \
    do {                                                                                           \
        assert_string_equal((s)->declaration.primary, address);                                    \
        assert_int_equal((s)->generation, at_generation);                                          \
    } while (0)

static void
a_restart_with_the_same_environment_is_no_news(void **unused)
{
    struct state s;

    (void)unused;
    cluster_reigned(&s);
    CHANGES_NOTHING(&s, declare(IP_A, wish(IP_A)));
    CHANGES_NOTHING(&s, declare(IP_B, wish(IP_A)));
    IS_DECLARED(&s, IP_A, 1);
}

static void
a_rolling_redeploy_wins_at_its_first_restart_and_counts_once(void **unused)
{
    static const char *const ORDERS[][3] = {
        {IP_A, IP_B, IP_C},
        {IP_A, IP_C, IP_B},
        {IP_B, IP_A, IP_C},
        {IP_B, IP_C, IP_A},
        {IP_C, IP_A, IP_B},
        {IP_C, IP_B, IP_A},
    };
    struct state s;

    (void)unused;
    for (size_t i = 0; i < HA_COUNT_OF(ORDERS); i++) {
        cluster_reigned(&s);
        for (size_t k = 0; k < 3; k++) {
            SAID(&s, declare(ORDERS[i][k], wish(IP_B)));
            IS_DECLARED(&s, IP_B, 2);
            assert_string_equal(s.declared_by, ORDERS[i][0]);
            /* A member of the old environment dies and comes back in the middle of it. */
            for (size_t old = k + 1; old < 3; old++) {
                CHANGES_NOTHING(&s, declare(ORDERS[i][old], wish(IP_A)));
            }
        }
        SAID(&s, declare(IP_C, wish(IP_A))); /* and back again: the next redeploy */
        IS_DECLARED(&s, IP_A, 3);
    }
}

static void
the_newer_of_two_redeploys_wins_although_the_older_is_still_rolling(void **unused)
{
    struct state s;

    (void)unused;
    cluster_reigned(&s);
    SAID(&s, declare(IP_A, wish(IP_B)));
    SAID(&s, declare(IP_B, wish(IP_C))); /* skipped the one before */
    IS_DECLARED(&s, IP_C, 3);
    CHANGES_NOTHING(&s, declare(IP_A, wish(IP_B)));
    SAID(&s, declare(IP_A, wish(IP_C)));
    IS_DECLARED(&s, IP_C, 3);
    CHANGES_NOTHING(&s, declare(IP_C, wish(IP_A))); /* slept through both */
    SAID(&s, declare(IP_C, wish(IP_C)));
    IS_DECLARED(&s, IP_C, 3);
}

static void
a_node_of_last_week_changes_nothing_also_when_it_lost_its_disk_or_its_seat(void **unused)
{
    struct declaration two = wish(IP_B);
    struct declaration three = wish(IP_B);
    struct state s;

    (void)unused;
    two.n_members = 2;
    memset(&two.members[2], 0, sizeof two.members[2]);
    cluster_reigned(&s);
    SAID(&s, declare(IP_A, two)); /* without C, which is away */
    IS_DECLARED(&s, IP_B, 2);
    CHANGES_NOTHING(&s, declare(IP_C, wish(IP_A)));
    SAID(&s, member_replace(1, IP_C, 0xcc));
    CHANGES_NOTHING(&s, declare(IP_C, wish(IP_A)));
    SAID(&s, settle(2, s.holder));

    SAID(&s, members_change(COMMAND_MEMBER_REMOVE, 2, IP_C));
    REFUSED(&s, declare(IP_C, wish(IP_A))); /* no member any more */
    SAID(&s, settle(3, s.holder));
    REFUSED(&s, declare(IP_C, wish(IP_A)));

    SAID(&s, declare(IP_A, three));
    SAID(&s, members_change(COMMAND_MEMBER_ADD, 3, IP_C));
    IS_DECLARED(&s, IP_B, 3);
    SAID(&s, declare(IP_C, wish(IP_A))); /* its first words since: noted, no news */
    IS_DECLARED(&s, IP_B, 3);
    CHANGES_NOTHING(&s, declare(IP_C, wish(IP_A)));
    SAID(&s, declare(IP_C, wish(IP_C))); /* now it carries a change */
    IS_DECLARED(&s, IP_C, 4);
}

static void
the_deploy_job_speaks_for_itself_and_of_the_primary_alone(void **unused)
{
    struct state s;
    struct command c;
    uint64_t lease_ms;

    (void)unused;
    cluster_reigned(&s);
    SAID(&s, settings(1000, 0, FAILOVER_AUTO));
    lease_ms = s.declaration.lease_ms;
    SAID(&s, declare_by_job(IP_A, 0));
    IS_DECLARED(&s, IP_A, 2);
    SAID(&s, declare_by_job(IP_B, 0));
    IS_DECLARED(&s, IP_B, 3);
    assert_string_equal(s.declared_by, "hactl declare");
    assert_int_equal(s.declaration.lease_ms, lease_ms);
    assert_int_equal(s.declaration.failover, FAILOVER_AUTO);
    assert_int_equal(s.declaration.n_members, 3);

    /* The same job again: repeated words, whatever its other fields hold. */
    c = declare_by_job(IP_B, 0);
    c.declare.declaration.lease_ms = 5000;
    c.declare.declaration.n_members = 1;
    CHANGES_NOTHING(&s, c);
    SAID(&s, declare(IP_C, wish(IP_C)));
    IS_DECLARED(&s, IP_C, 4);
    assert_string_equal(s.declared_by, IP_C);
    CHANGES_NOTHING(&s, declare_by_job(IP_B, 0)); /* Swarm ran the old job once more */
    c = declare_by_job(IP_B, 0);
    c.declare.is_anew = true; /* but a person who says so means it, and says so again */
    SAID(&s, c);
    IS_DECLARED(&s, IP_B, 5);
    SAID(&s, c);
    IS_DECLARED(&s, IP_B, 6);
    SAID(&s, declare(IP_C, wish(IP_A)));
    SAID(&s, declare(IP_C, wish(IP_C)));
    IS_DECLARED(&s, IP_C, 8);
    /* A member whose environment never changed restarts: the job's words stand. */
    CHANGES_NOTHING(&s, declare(IP_A, wish(IP_A)));
    SAID(&s, declare_by_job(IP_A, 0));
    IS_DECLARED(&s, IP_A, 9);
    REFUSED(&s, declare_by_job("10.0.0.77", 0));
    REFUSED(&s, declare_by_job("", 0));
}

static void
what_a_person_says_is_no_word_of_the_job(void **unused)
{
    struct state s;
    struct command person;

    (void)unused;
    cluster_reigned(&s);
    SAID(&s, declare_by_job(IP_B, 0));
    person = declare_by_job(IP_C, 0);
    person.declare.is_anew = true;
    SAID(&s, person);
    IS_DECLARED(&s, IP_C, 3);
    /* The job's task on a node that was off all the while, or one that is tried once more. */
    CHANGES_NOTHING(&s, declare_by_job(IP_B, 0));
    IS_DECLARED(&s, IP_C, 3);
    SAID(&s, declare_by_job(IP_A, 0)); /* the next deployment */
    IS_DECLARED(&s, IP_A, 4);
}

static void
a_lower_number_never_wins(void **unused)
{
    struct state s;

    (void)unused;
    cluster_reigned(&s);
    SAID(&s, declare(IP_A, numbered(wish(IP_B), 5)));
    IS_DECLARED(&s, IP_B, 2);
    assert_int_equal(s.declaration.number, 5);
    SAID(&s, declare(IP_B, numbered(wish(IP_C), 4))); /* news from B, and still old */
    IS_DECLARED(&s, IP_B, 2);
    CHANGES_NOTHING(&s, declare(IP_B, numbered(wish(IP_C), 4)));
    SAID(&s, declare(IP_B, numbered(wish(IP_B), 6))); /* same words: the number alone moves on */
    IS_DECLARED(&s, IP_B, 2);
    assert_int_equal(s.declaration.number, 6);
    SAID(&s, declare(IP_A, numbered(wish(IP_A), 5)));
    IS_DECLARED(&s, IP_B, 2);
    SAID(&s, declare(IP_C, numbered(wish(IP_C), 6))); /* equal: the later word wins */
    IS_DECLARED(&s, IP_C, 3);
    SAID(&s, declare_by_job(IP_A, 5));
    IS_DECLARED(&s, IP_C, 3);
    SAID(&s, declare_by_job(IP_A, 7));
    IS_DECLARED(&s, IP_A, 4);
    assert_int_equal(s.declaration.number, 7);
}

static void
who_gives_no_number_leaves_the_one_on_record(void **unused)
{
    struct state s;

    (void)unused;
    cluster_reigned(&s);
    SAID(&s, declare(IP_A, numbered(wish(IP_B), 5)));
    SAID(&s, declare(IP_B, wish(IP_C)));
    IS_DECLARED(&s, IP_C, 3);
    assert_int_equal(s.declaration.number, 5);
    SAID(&s, declare(IP_C, numbered(wish(IP_A), 4)));
    IS_DECLARED(&s, IP_C, 3);
}

static void
a_new_member_with_a_higher_number_is_heard_at_once(void **unused)
{
    struct state s;

    (void)unused;
    cluster_reigned(&s);
    SAID(&s, members_change(COMMAND_MEMBER_ADD, 1, "10.0.0.4"));
    SAID(&s, declare("10.0.0.4", numbered(wish(IP_B), 1)));
    IS_DECLARED(&s, IP_B, 2);
}

static void
every_setting_is_part_of_the_words(void **unused)
{
    struct declaration d;
    struct state s;

    (void)unused;
    cluster_reigned(&s);
    d = wish(IP_A);
    d.lease_ms = 3000;
    SAID(&s, declare(IP_A, d));
    assert_int_equal(s.generation, 2);
    d.max_lag = 1;
    SAID(&s, declare(IP_A, d));
    assert_int_equal(s.generation, 3);
    d.failover = FAILOVER_AUTO;
    SAID(&s, declare(IP_A, d));
    assert_int_equal(s.generation, 4);
    d.sync = SYNC_STRICT;
    SAID(&s, declare(IP_A, d));
    d.sync_count = 2;
    SAID(&s, declare(IP_A, d));
    assert_int_equal(s.generation, 6);
    declaration_add(&d, IP_W, MEMBER_WITNESS);
    SAID(&s, declare(IP_A, d));
    assert_int_equal(s.generation, 7);
    d.members[3].kind = MEMBER_DATABASE;
    SAID(&s, declare(IP_A, d));
    assert_int_equal(s.generation, 8);
    assert_int_equal(s.declaration.n_members, 4);
    assert_int_equal(s.members_generation, 1); /* members follow by the governor's hand */
}

enum fault {
    NO_MEMBERS,
    LEASE_SHORT,
    LEASE_LONG,
    POLICY,
    NO_ADDRESS,
    KIND,
    TWICE,
    UNSORTED,
    NO_DATABASE,
    PRIMARY_WITNESS,
    PRIMARY_STRANGER,
    SYNC_MODE,
    SYNC_COUNT,
    SYNC_COUNT_OFF,
    SYNC_ALONE,
    FAULT_COUNT,
};

static void
spoil(struct declaration *d, enum fault fault)
{
    switch (fault) {
    case NO_MEMBERS:
        d->n_members = 0;
        break;
    case LEASE_SHORT:
        d->lease_ms = HA_LEASE_MS_MIN - 1;
        break;
    case LEASE_LONG:
        d->lease_ms = HA_LEASE_MS_MAX + 1;
        break;
    case POLICY:
        d->failover = FAILOVER_POLICY_COUNT;
        break;
    case NO_ADDRESS:
        SET_TEXT(d->members[0].address, "");
        break;
    case KIND:
        d->members[2].kind = MEMBER_KIND_COUNT;
        break;
    case TWICE:
        d->members[2] = d->members[1];
        break;
    case UNSORTED:
        SET_TEXT(d->members[0].address, "10.0.0.4");
        break;
    case NO_DATABASE:
        for (size_t i = 0; i < d->n_members; i++) {
            d->members[i].kind = MEMBER_WITNESS;
        }
        break;
    case PRIMARY_WITNESS:
        d->members[1].kind = MEMBER_WITNESS;
        break;
    case PRIMARY_STRANGER:
        SET_TEXT(d->primary, "10.0.0.77");
        break;
    case SYNC_MODE:
        d->sync = SYNC_MODE_COUNT;
        break;
    case SYNC_COUNT:
        d->sync = SYNC_ON;
        d->sync_count = 3; /* of two others */
        break;
    case SYNC_COUNT_OFF:
        d->sync_count = 1;
        break;
    case SYNC_ALONE:
        d->sync = SYNC_QUORUM;
        d->members[0].kind = d->members[2].kind = MEMBER_WITNESS;
        break;
    case FAULT_COUNT:
    default:
        fail();
    }
}

static void
a_faulty_declaration_is_refused_and_not_even_noted(void **unused)
{
    struct state s;

    (void)unused;
    for (int fault = 0; fault < FAULT_COUNT; fault++) {
        struct declaration d = wish(IP_B);

        assert_null(declaration_fault(&d));
        spoil(&d, (enum fault)fault);
        assert_non_null(declaration_fault(&d));
        cluster_reigned(&s);
        REFUSED(&s, declare(IP_A, d));
        state_init(&s);
        REFUSED(&s, found(d));
    }
    cluster_reigned(&s);
    REFUSED(&s, declare("10.0.0.77", wish(IP_B)));
}

static void
the_bounds_themselves_are_allowed(void **unused)
{
    struct declaration d = wish(IP_A);

    (void)unused;
    d.lease_ms = HA_LEASE_MS_MIN;
    assert_null(declaration_fault(&d));
    d.lease_ms = HA_LEASE_MS_MAX;
    assert_null(declaration_fault(&d));
    for (int i = 4; i <= HA_MEMBERS_MAX; i++) {
        char address[] = "10.0.0.x";

        address[7] = (char)('0' + i);
        declaration_add(&d, address, MEMBER_WITNESS);
    }
    assert_int_equal(d.n_members, HA_MEMBERS_MAX);
    assert_null(declaration_fault(&d));
    d.n_members++;
    assert_non_null(declaration_fault(&d));
}

static void
a_digest_does_not_depend_on_the_order_of_words_or_on_bytes_behind_a_text(void **unused)
{
    struct declaration a = wish(IP_A);
    struct declaration b;

    (void)unused;
    memset(&b, 0xee, sizeof b);
    b.number = 0;
    memcpy(b.primary, IP_A, sizeof IP_A);
    b.lease_ms = HA_LEASE_MS_DEFAULT;
    b.max_lag = 0;
    b.failover = FAILOVER_DECLARED;
    b.sync = SYNC_OFF;
    b.sync_count = 0;
    b.n_members = 3;
    memcpy(b.members[0].address, IP_C, sizeof IP_C);
    memcpy(b.members[1].address, IP_A, sizeof IP_A);
    memcpy(b.members[2].address, IP_B, sizeof IP_B);
    b.members[0].kind = b.members[1].kind = b.members[2].kind = MEMBER_DATABASE;
    declaration_sort(&b);
    assert_true(declaration_digest(&a) == declaration_digest(&b));
    assert_true(declaration_equals(&a, &b));
    a.number = 3;
    assert_true(declaration_equals(&a, &b));
    assert_false(declaration_digest(&a) == declaration_digest(&b));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_restart_with_the_same_environment_is_no_news),
        cmocka_unit_test(a_rolling_redeploy_wins_at_its_first_restart_and_counts_once),
        cmocka_unit_test(the_newer_of_two_redeploys_wins_although_the_older_is_still_rolling),
        cmocka_unit_test(
            a_node_of_last_week_changes_nothing_also_when_it_lost_its_disk_or_its_seat),
        cmocka_unit_test(the_deploy_job_speaks_for_itself_and_of_the_primary_alone),
        cmocka_unit_test(what_a_person_says_is_no_word_of_the_job),
        cmocka_unit_test(a_lower_number_never_wins),
        cmocka_unit_test(who_gives_no_number_leaves_the_one_on_record),
        cmocka_unit_test(a_new_member_with_a_higher_number_is_heard_at_once),
        cmocka_unit_test(every_setting_is_part_of_the_words),
        cmocka_unit_test(a_faulty_declaration_is_refused_and_not_even_noted),
        cmocka_unit_test(the_bounds_themselves_are_allowed),
        cmocka_unit_test(a_digest_does_not_depend_on_the_order_of_words_or_on_bytes_behind_a_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
