/*
 * Goal:   the members change one at a time, through a joint set that nobody leaves early.
 * Method: add, remove and replace against every precondition; after each step the set in force
 *         and the set before it are compared with what they must be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/unit/cluster_state.h"

/* Addresses of the set in force ("now") and of the settled one ("old"), each with its last
 * figure, in the order of the entries: "123" for A, B, C. */
static void
assert_sets(const struct state *s, const char *now, const char *old)
{
    char is_now[HA_MEMBER_SLOTS + 1] = "";
    char is_old[HA_MEMBER_SLOTS + 1] = "";
    size_t n_now = 0;
    size_t n_old = 0;

    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        const struct member *m = &s->members[i];
        const char last = m->id == 0 ? 0 : m->address[strlen(m->address) - 1];

        if (member_is_current(m)) {
            is_now[n_now++] = last;
        }
        if (member_was_settled(s, m)) {
            is_old[n_old++] = last;
        }
    }
    assert_string_equal(is_now, now);
    assert_string_equal(is_old, old);
}

static struct command
add(uint64_t generation, const char *address)
{
    return members_change(COMMAND_MEMBER_ADD, generation, address);
}

static struct command
drop(uint64_t generation, const char *address)
{
    return members_change(COMMAND_MEMBER_REMOVE, generation, address);
}

static void
a_member_is_added_through_a_joint_set(void **unused)
{
    struct state s;
    struct command bad = add(1, "10.0.0.4");

    (void)unused;
    cluster_reigned(&s);
    REFUSED(&s, add(0, "10.0.0.4"));
    REFUSED(&s, add(2, "10.0.0.4"));
    REFUSED(&s, add(1, IP_B));
    REFUSED(&s, add(1, ""));
    bad.members.spec.kind = MEMBER_KIND_COUNT;
    REFUSED(&s, bad);
    SAID(&s, add(1, "10.0.0.4"));
    assert_int_equal(s.members_generation, 2);
    assert_int_equal(s.settled_generation, 1);
    assert_int_equal(id_of(&s, "10.0.0.4"), member_id("10.0.0.4", 2));
    assert_sets(&s, "1234", "123");
    SAID(&s, settle(2, s.holder));
    assert_sets(&s, "1234", "1234");
}

static void
a_member_is_removed_through_a_joint_set(void **unused)
{
    struct state s;
    uint64_t c;

    (void)unused;
    cluster_reigned(&s);
    c = id_of(&s, IP_C);
    REFUSED(&s, drop(0, IP_C));
    REFUSED(&s, drop(2, IP_C));
    REFUSED(&s, drop(1, "10.0.0.4"));
    SAID(&s, drop(1, IP_C));
    assert_sets(&s, "12", "123");
    assert_non_null(state_member(&s, c)); /* still found while on its way out */
    assert_null(state_member_at(&s, IP_C));
    SAID(&s, settle(2, s.holder));
    assert_sets(&s, "12", "12");
    assert_null(state_member(&s, c));
}

static void
a_lost_disk_gives_a_new_member_at_the_same_address(void **unused)
{
    struct state s;
    uint64_t old;
    struct member m;

    (void)unused;
    cluster_reigned(&s);
    old = id_of(&s, IP_C);
    REFUSED(&s, member_replace(0, IP_C, 0xcc));
    REFUSED(&s, member_replace(2, IP_C, 0xcc));
    REFUSED(&s, member_replace(1, IP_C, 0));
    REFUSED(&s, member_replace(1, IP_C, 0xc)); /* the nonce that is on record: nothing was lost */
    REFUSED(&s, member_replace(1, "10.0.0.4", 0xcc));
    SAID(&s, member_replace(1, IP_C, 0xcc));
    assert_sets(&s, "123", "123");
    m = *state_member_at(&s, IP_C);
    assert_int_equal(m.id, member_id(IP_C, 2));
    assert_int_not_equal(m.id, old);
    assert_int_equal(m.nonce, 0xcc);
    assert_string_equal(m.name, "node");
    assert_int_equal(m.declared, state_member(&s, old)->declared);
    assert_int_equal(m.last_counter, 0);
    assert_int_equal(state_member(&s, old)->left, 2);
    REFUSED(&s, member_register(IP_C, 0xc)); /* the old incarnation has no voice any more */
    CHANGES_NOTHING(&s, member_register(IP_C, 0xcc));
    SAID(&s, settle(2, s.holder));
    assert_null(state_member(&s, old));
    assert_sets(&s, "123", "123");
}

static void
who_never_registered_has_no_disk_to_lose(void **unused)
{
    struct state s;

    (void)unused;
    state_init(&s);
    SAID(&s, found(wish(IP_A)));
    REFUSED(&s, member_replace(1, IP_B, 0xbb));
}

static void
one_change_at_a_time(void **unused)
{
    struct state s;

    (void)unused;
    cluster_reigned(&s);
    SAID(&s, add(1, "10.0.0.4"));
    REFUSED(&s, add(2, "10.0.0.5"));
    REFUSED(&s, drop(2, IP_C));
    REFUSED(&s, member_replace(2, IP_C, 0xcc));
    SAID(&s, settle(2, s.holder));
    SAID(&s, drop(2, IP_C));
    REFUSED(&s, add(3, "10.0.0.5"));
    REFUSED(&s, add(3, IP_C)); /* nor the one that just left */
    SAID(&s, settle(3, s.holder));
    SAID(&s, add(3, IP_C));
    assert_int_equal(id_of(&s, IP_C), member_id(IP_C, 4));
}

static void
only_the_holder_or_a_vacant_reign_that_was_opened_settles(void **unused)
{
    struct state s;

    (void)unused;
    cluster_founded(&s);
    SAID(&s, add(1, "10.0.0.4"));
    REFUSED(&s, settle(1, 0));
    REFUSED(&s, settle(3, 0));
    REFUSED(&s, settle(2, id_of(&s, IP_A)));
    SAID(&s, settle(2, 0)); /* nobody ever reigned */
    CHANGES_NOTHING(&s, settle(2, 0));

    SAID(&s, appoint(1, id_of(&s, IP_A)));
    SAID(&s, add(2, "10.0.0.5"));
    REFUSED(&s, settle(3, 0));
    REFUSED(&s, settle(3, id_of(&s, IP_B)));
    REFUSED(&s, settle(2, s.holder));
    SAID(&s, settle(3, s.holder));

    SAID(&s, add(3, "10.0.0.6"));
    SAID(&s, vacate(1, s.holder));
    REFUSED(&s, settle(4, s.holder)); /* it gave its lease back: its word is void */
    REFUSED(&s, settle(4, 0)); /* never opened: the holder before it may renew, and not know */
    SAID(&s, appoint(2, id_of(&s, IP_B)));
    SAID(&s, opened(2, s.holder, 1));
    REFUSED(&s, settle(4, 0));
    SAID(&s, vacate(2, s.holder));
    REFUSED(&s, settle(4, s.holder));
    SAID(&s, settle(4, 0));
    assert_sets(&s, "123456", "123456");
}

static void
the_holder_is_not_removed_before_it_vacated(void **unused)
{
    struct state s;

    (void)unused;
    cluster_reigned(&s);
    REFUSED(&s, drop(1, IP_A));
    SAID(&s, vacate(1, s.holder));
    SAID(&s, drop(1, IP_A));
    SAID(&s, settle(2, 0));
    assert_sets(&s, "23", "23");
    assert_string_equal(state_reign(&s, 1)->holder_address, IP_A);
}

static void
the_holder_that_lost_its_disk_is_replaced_and_settles_nothing_itself(void **unused)
{
    struct state s;
    uint64_t old;

    (void)unused;
    cluster_reigned(&s);
    old = s.holder;
    SAID(&s, member_replace(1, IP_A, 0xaa));
    assert_int_equal(s.holder, old); /* the reign is still the old incarnation's */
    REFUSED(&s, settle(2, id_of(&s, IP_A)));
    SAID(&s, appoint(2, id_of(&s, IP_B)));
    SAID(&s, settle(2, s.holder));
    assert_null(state_member(&s, old));
}

static void
a_handover_to_a_member_that_goes_is_called_off(void **unused)
{
    struct state s;

    (void)unused;
    cluster_reigned(&s);
    SAID(&s, handover(1, id_of(&s, IP_B)));
    SAID(&s, drop(1, IP_C)); /* another one: it goes on */
    assert_int_equal(s.handover, id_of(&s, IP_B));
    SAID(&s, settle(2, s.holder));
    SAID(&s, member_replace(2, IP_B, 0xbb));
    assert_int_equal(s.handover, 0);
    SAID(&s, settle(3, s.holder));
    SAID(&s, handover(1, id_of(&s, IP_B)));
    SAID(&s, drop(3, IP_B));
    assert_int_equal(s.handover, 0);
}

static void
the_last_member_is_never_removed(void **unused)
{
    struct declaration d = wish(IP_A);
    struct state s;

    (void)unused;
    d.n_members = 1;
    memset(&d.members[1], 0, 2 * sizeof d.members[1]);
    state_init(&s);
    SAID(&s, found(d));
    REFUSED(&s, drop(1, IP_A)); /* any set is a quorum of no members at all */
    SAID(&s, add(1, IP_B));
    SAID(&s, settle(2, 0));
    SAID(&s, drop(2, IP_A));
    REFUSED(&s, drop(3, IP_B));
    SAID(&s, settle(3, 0));
    REFUSED(&s, drop(3, IP_B));
}

static void
nine_members_and_a_replacement_fit(void **unused)
{
    struct declaration d = wish(IP_A);
    struct state s;
    char address[HA_ADDRESS_MAX];

    (void)unused;
    for (int i = 4; i <= HA_MEMBERS_MAX; i++) {
        (void)snprintf(address, sizeof address, "10.0.0.%d", i);
        declaration_add(&d, address, MEMBER_WITNESS);
    }
    state_init(&s);
    SAID(&s, found(d));
    REFUSED(&s, add(1, "10.0.1.1"));
    SAID(&s, member_register(IP_C, 0xc));
    SAID(&s, member_register("10.0.0.8", 0x8));
    SAID(&s, member_replace(1, IP_C, 0xcc));
    assert_sets(&s, "124567893", "123456789");
    SAID(&s, settle(2, 0));
    SAID(&s, member_replace(2, "10.0.0.8", 0x88));
    assert_int_equal(state_member_at(&s, "10.0.0.8")->kind, MEMBER_WITNESS);
    SAID(&s, settle(3, 0));
    REFUSED(&s, add(3, "10.0.1.1"));
    SAID(&s, drop(3, "10.0.0.8"));
    REFUSED(&s, add(4, "10.0.1.1"));
    SAID(&s, settle(4, 0));
    SAID(&s, add(4, "10.0.1.1"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_member_is_added_through_a_joint_set),
        cmocka_unit_test(a_member_is_removed_through_a_joint_set),
        cmocka_unit_test(a_lost_disk_gives_a_new_member_at_the_same_address),
        cmocka_unit_test(who_never_registered_has_no_disk_to_lose),
        cmocka_unit_test(one_change_at_a_time),
        cmocka_unit_test(only_the_holder_or_a_vacant_reign_that_was_opened_settles),
        cmocka_unit_test(the_holder_is_not_removed_before_it_vacated),
        cmocka_unit_test(the_holder_that_lost_its_disk_is_replaced_and_settles_nothing_itself),
        cmocka_unit_test(a_handover_to_a_member_that_goes_is_called_off),
        cmocka_unit_test(the_last_member_is_never_removed),
        cmocka_unit_test(nine_members_and_a_replacement_fit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
