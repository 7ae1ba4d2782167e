/*
 * Goal:   whoever hears sync_heard_needed() members hears of every acknowledged write (INV-9).
 * Method: every set, count, loss, holder and rule of a server over five members, and for each
 *         every way to acknowledge and every way to elect.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sync.h"

#define N 5
#define HOLDER 100

static unsigned n_covered;
static unsigned n_bad;

static struct state
members_of(unsigned n)
{
    struct state s;

    state_init(&s);
    for (unsigned i = 0; i < n; i++) {
        s.members[i].id = 100 + i;
    }
    return s;
}

/* Who is heard of none that has it. */
static bool
is_missed_with(const struct state *s, uint64_t have)
{
    const uint64_t alive = sync_alive(s);

    for (uint64_t heard = 0; heard < 1U << N; heard++) {
        if ((heard & ~alive) == 0 && sync_size(heard) >= sync_heard_needed(s) &&
            (heard & have) == 0) {
            return true;
        }
    }
    return false;
}

/* Some way to elect knows nothing of a write that was acknowledged by `rule`. */
static bool
is_missed(const struct state *s, const struct sync_rule *rule)
{
    const uint64_t own = sync_bit(s, HOLDER);

    for (uint64_t acks = 0; acks < 1U << N; acks++) {
        if ((acks & ~rule->set) == 0 && sync_size(acks) == rule->count &&
            is_missed_with(s, acks | own)) {
            return true;
        }
    }
    return false;
}

/* Every rule of a server against what is on record. */
static void
try_rules(const struct state *s, bool is_exact)
{
    for (uint64_t set = 0; set < 1U << N; set += 2) { /* without the holder, the first */
        for (uint32_t count = 0; count <= sync_size(set); count++) {
            const struct sync_rule rule = {.set = set, .count = count};
            const bool is_covered = sync_is_covered(s, HOLDER, &rule);
            const bool is_bad = is_missed(s, &rule);

            assert_false(is_covered && is_bad);
            assert_false(is_exact && !is_covered && !is_bad); /* nothing is forbidden needlessly */
            n_covered += is_covered;
            n_bad += is_bad;
        }
    }
}

static void
what_covers_is_what_no_election_can_miss(void **unused)
{
    struct state s = members_of(N);

    (void)unused;
    for (s.sync_set = 1; s.sync_set < 1U << N; s.sync_set++) {
        for (s.sync_count = 1; s.sync_count <= sync_size(s.sync_set); s.sync_count++) {
            try_rules(&s, true);
        }
    }
    assert_true(n_covered > 1000);
    assert_true(n_bad > 1000);
}

static void
a_lost_member_is_one_that_is_never_heard(void **unused)
{
    struct state s = members_of(N);

    (void)unused;
    for (s.sync_set = 1; s.sync_set < 1U << N; s.sync_set++) {
        for (s.sync_lost = 0; s.sync_lost < 3; s.sync_lost++) {
            s.sync_count = 1;
            s.members[1].left = s.sync_lost == 2; /* and one that is on its way out */
            while (s.sync_count <= sync_size(s.sync_set) + s.sync_lost) {
                try_rules(&s, false);
                s.sync_count++;
            }
        }
    }
}

static void
any_majority_is_enough_for_the_count_of_quorum(void **unused)
{
    (void)unused;
    for (unsigned n = 1; n <= HA_MEMBERS_MAX; n++) {
        struct state s = members_of(n);
        const unsigned majority = n / 2 + 1;
        const uint32_t count = sync_count_safe(&s);

        /* The holder and `count` others have it: all others together are no majority. */
        if (count < n) {
            assert_true(n - 1 - count < majority);
        }
        assert_true(count >= 1);
    }
    struct state three = members_of(3);
    struct state five = members_of(5);
    assert_int_equal(sync_count_safe(&three), 1);
    assert_int_equal(sync_count_safe(&five), 2);
    five.declaration.sync = SYNC_QUORUM;
    five.declaration.sync_count = 1;
    assert_int_equal(sync_count_wanted(&five), 2);
    five.declaration.sync = SYNC_STRICT;
    assert_int_equal(sync_count_wanted(&five), 1);
    five.declaration.sync_count = 3;
    assert_int_equal(sync_count_wanted(&five), 3);
    five.declaration.sync = SYNC_OFF;
    assert_int_equal(sync_count_wanted(&five), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_covers_is_what_no_election_can_miss),
        cmocka_unit_test(a_lost_member_is_one_that_is_never_heard),
        cmocka_unit_test(any_majority_is_enough_for_the_count_of_quorum),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
