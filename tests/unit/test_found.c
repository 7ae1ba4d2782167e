/*
 * Goal:   all founders of a cluster write the same first configuration of Raft, whatever becomes of
 *         the list of members while they look for each other.
 * Method: n3 with an empty directory hears n1, who founded and counted it, and n2, who is empty.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "tests/unit/governor_scenes.h"

static struct core core;
static struct effect_list fx;

static struct probe_answer *
answer_of(unsigned i)
{
    struct peer_view *p = scene_peer(&core, i);

    p->has_answered = true;
    p->answered_at = core.now;
    return &p->answer;
}

static void
begin(void)
{
    scene_healthy(&core, N3);
    memset(&core.durable, 0, sizeof core.durable);
    core.durable.nonce = 102;
    core.durable_saved = core.durable;
    *answer_of(N1) = (struct probe_answer){.nonce = 100,
                                           .digest = declaration_digest(&core.config.declaration),
                                           .is_bootstrapped = true,
                                           .founded = members_digest(&core.config.declaration),
                                           .your_nonce = 102};
    *answer_of(N2) = (struct probe_answer){
        .nonce = 101, .digest = declaration_digest(&core.config.declaration), .is_empty = true};
    fx.n = 0;
}

static bool
founds(void)
{
    rules_found(&core, &fx);
    return core.durable.is_bootstrapped;
}

static void
who_was_counted_founds_as_well(void **state)
{
    (void)state;
    begin();
    assert_true(founds());
    assert_int_equal(core.durable.founded, members_digest(&core.config.declaration));
    begin(); /* another primary is no other list */
    SCENE_TEXT(core.config.declaration.primary, SCENE_IPS[N2]);
    answer_of(N1)->digest = answer_of(N2)->digest = declaration_digest(&core.config.declaration);
    assert_true(founds());
}

/* n1 was started again with the new environment, as this one was: they declare the same. */
static void
who_was_counted_under_another_list_waits_and_says_so(void **state)
{
    (void)state;
    begin();
    answer_of(N1)->founded++;
    assert_false(founds());
    assert_int_equal(core.durable.id, 0);
    assert_int_equal(core.rule, 114);
}

/* It is a fellow when another of them counted this one; not if that one's list differs. */
static void
a_founder_with_another_list_is_no_fellow(void **state)
{
    (void)state;
    begin();
    answer_of(N1)->your_nonce = 0;
    *answer_of(N2) = *answer_of(N1);
    answer_of(N2)->your_nonce = 102;
    assert_true(founds());
    begin();
    answer_of(N1)->your_nonce = 0;
    answer_of(N1)->founded++;
    answer_of(N2)->is_empty = false;
    answer_of(N2)->is_bootstrapped = true;
    answer_of(N2)->founded = members_digest(&core.config.declaration);
    answer_of(N2)->your_nonce = 102;
    assert_false(founds());
}

/* The first configuration may not have reached the disk when the list changed. */
static void
after_a_restart_with_another_list_it_writes_no_first_configuration(void **state)
{
    (void)state;
    begin();
    assert_true(founds());
    core.durable_saved = core.durable;
    core.is_raft_started = false;
    fx.n = 0;
    found_start_raft(&core, &fx);
    assert_true(fx.at[0].raft_start.is_bootstrap);
    core.config.declaration.n_members--;
    fx.n = 0;
    found_start_raft(&core, &fx);
    assert_false(fx.at[0].raft_start.is_bootstrap);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_was_counted_founds_as_well),
        cmocka_unit_test(who_was_counted_under_another_list_waits_and_says_so),
        cmocka_unit_test(a_founder_with_another_list_is_no_fellow),
        cmocka_unit_test(after_a_restart_with_another_list_it_writes_no_first_configuration),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
