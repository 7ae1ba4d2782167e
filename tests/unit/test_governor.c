/*
 * Goal:   each rule of the governor (2xx of docs/rules.md) fires when its condition holds, says
 *         why, and proposes what it should; and does not when that one condition does not hold.
 * Method: one row a condition, over one picture: n2 leads Raft, n1 reigns and is declared, n3
 *         streams, w is a witness. A row changes the picture and takes one step. Rows of one rule
 *         stand beside the row in which it no longer fires. The last test compares the numbers that
 *         fired with those that docs/rules.md lists.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/governor_scenes.h"

struct row {
    const char *name;
    void (*set)(struct core *core);
    uint16_t rule;     /* of governor_rule, or of a line in the log; 0 = none */
    uint8_t command;   /* enum command_type that is proposed; 0 = nothing is */
    unsigned who;      /* APPOINT, HANDOVER: whom it names */
    const char *words; /* part of the reason */
};

#define NOBODY 9 /* HANDOVER: to = 0 */

static bool has_fired[1000];

static const struct row ROWS[] = {
    /* clang-format off */
    {"all is well", all_is_well, 200, 0, 0, "10.0.0.1, the declared primary, reigns"},
    {"who does not lead decides nothing", not_the_leader, 0, 0, 0, ""},
    {"who slept decides nothing for a while", just_woken, 0, 0, 0, ""},
    {"no cluster yet: it is founded", no_cluster_yet, 0, COMMAND_FOUND, 0, ""},

    {"first: all are empty", first, 250, COMMAND_APPOINT, N1, "the first reign"},
    {"first: the declared is away", first_declared_is_away, 201, 0, 0, "waiting for the declared primary 10.0.0.1"},
    {"first: the declared has not looked yet", first_declared_has_not_looked_yet, 201, 0, 0, "10.0.0.1"},
    {"first: the declared is damaged", first_declared_is_damaged, 202, 0, 0, "10.0.0.1 cannot read"},
    {"first: the declared's data are unknown", first_declared_data_are_unknown, 202, 0, 0, "cannot read"},
    {"first: another has data", first_another_has_data, 203, 0, 0, "10.0.0.3 has data"},
    {"first: another has unreadable data", first_another_has_data_that_nobody_can_read, 203, 0, 0, "10.0.0.3 has data"},
    {"first: the declared has the data", first_declared_has_the_data, 250, COMMAND_APPOINT, N1, "first reign"},
    {"first: given back, all here", first_given_back, 250, COMMAND_APPOINT, N1, "first reign"},
    {"first: given back by one that is away", first_given_back_by_one_that_is_away, 203, 0, 0, "may have data, and is not here"},

    {"auto: another reigns after a failover", another_by_failover, 205, 0, 0, "10.0.0.1 reigns; a new declaration"},
    {"auto: a new declaration moves it", n3_is_declared, 221, COMMAND_HANDOVER, N3, "10.0.0.3"},
    {"declared: another than the declared never stays", n3_is_declared_under_declared, 221, COMMAND_HANDOVER, N3, "10.0.0.3"},
    {"the declared is no member", declared_is_no_member, 209, 0, 0, "no member"},
    {"the holder is no member", holder_is_no_member, 209, 0, 0, "no member"},
    {"declared, but paused", n3_is_declared_and_paused, 220, 0, 0, "paused"},
    {"declared, but the reign is not open", n3_is_declared_reign_not_open, 220, 0, 0, "not open yet"},
    {"declared, but away", n3_is_declared_and_away, 220, 0, 0, "nothing was heard"},
    {"declared, but not streaming", n3_is_declared_and_not_streaming, 220, 0, 0, "does not stream"},
    {"declared, but too far behind", n3_is_declared_and_lags, 220, 0, 0, "lags"},
    {"declared, and as far behind as is allowed", n3_is_declared_and_lags_just_enough, 221, COMMAND_HANDOVER, N3, ""},
    {"declared, but sick", n3_is_declared_and_sick, 220, 0, 0, "sick"},
    {"declared, but one was called off just now", n3_is_declared_after_one_called_off, 0, 0, 0, ""},
    {"a handover that is wanted goes on", handover_to_n3_goes_on, 0, 0, 0, ""},
    {"a handover that is unwanted is called off", handover_to_n3_is_unwanted, 222, COMMAND_HANDOVER, NOBODY, "10.0.0.1"},

    {"the holder leaves: the best takes over", holder_leaves, 221, COMMAND_HANDOVER, N2, "10.0.0.2"},
    {"the holder leaves: the declared takes over", holder_leaves_and_n3_is_declared, 221, COMMAND_HANDOVER, N3, "10.0.0.3"},
    {"the holder leaves, paused", holder_leaves_and_is_paused, 225, 0, 0, "paused"},
    {"the holder leaves, nobody is close", holder_leaves_and_nobody_streams, 225, 0, 0, "no standby is fit"},
    {"the holder leaves an unopened reign", holder_leaves_before_its_reign_is_open, 225, 0, 0, ""},
    {"an old word that it leaves is none", holder_left_long_ago, 200, 0, 0, ""},

    {"lost: the best takes over", lost, 250, COMMAND_APPOINT, N2, "the most WAL"},
    {"lost by the word of half: nobody", lost_to_half, 200, 0, 0, ""},
    {"lost by an old word: nobody", lost_by_the_word_of_one_that_is_away, 200, 0, 0, ""},
    {"out of sight is not lost", out_of_sight, 200, 0, 0, ""},
    {"lost, paused", lost_and_paused, 210, 0, 0, "paused"},
    {"lost under declared: writes wait", lost_under_declared, 230, 0, 0, "writes wait for 10.0.0.1"},
    {"lost, the declared is away", lost_and_n3_is_declared_and_away, 231, 0, 0, "10.0.0.3: nothing was heard"},
    {"lost, the declared is no member", lost_and_nobody_is_a_member_by_that_name, 231, 0, 0, "it is no member"},
    {"lost, the declared has less", lost_and_n3_is_declared, 232, 0, 0, "10.0.0.3 fetches the newest WAL from 10.0.0.2"},
    {"lost, the declared fetches", lost_and_n3_is_fetching, 232, 0, 0, "10.0.0.3 fetches"},
    {"lost, the declared has as much", lost_and_n3_has_as_much, 250, COMMAND_APPOINT, N3, "this one is declared"},
    {"lost, nobody is fit", lost_and_no_standby_is_fit, 233, 0, 0, "no standby is fit"},
    {"lost, one has not let go", lost_and_one_holds_on, 234, 0, 0, "let go"},
    {"lost, one cannot let go", lost_and_one_held_on_too_long, 250, COMMAND_APPOINT, N2, ""},
    {"lost at the start of all", lost_at_the_start_of_all, 240, 0, 0, "a while to come back"},
    {"lost, the grace is over", lost_after_the_grace, 250, COMMAND_APPOINT, N2, ""},
    {"lost again after the start of all", lost_again_after_the_start_of_all, 250, COMMAND_APPOINT, N2, ""},
    {"lost, the best lags too much", lost_and_best_lags, 241, 0, 0, "lags 16777217 bytes"},
    {"lost, the best lags just enough", lost_and_best_lags_just_enough, 250, COMMAND_APPOINT, N2, ""},
    {"lost, any lag is allowed", lost_and_any_lag_is_allowed, 250, COMMAND_APPOINT, N2, ""},

    {"synchronous: who has every write is here", lost_and_both_of_the_set_are_here, 250, COMMAND_APPOINT, N2, "every acknowledged write"},
    {"synchronous: one who may have more is away", lost_and_one_of_the_set_is_away, 235, 0, 0, ""},

    {"most WAL wins", n3_has_more, 250, COMMAND_APPOINT, N3, "most WAL"},
    {"a tie goes by address", a_tie, 250, COMMAND_APPOINT, N2, ""},
    {"a tie goes to the declared", a_tie_with_the_declared, 250, COMMAND_APPOINT, N3, ""},
    {"one tagged nofailover is not chosen", best_is_tagged, 250, COMMAND_APPOINT, N3, ""},
    {"one that leaves is not chosen", best_is_leaving, 250, COMMAND_APPOINT, N3, ""},
    {"one that hangs is not chosen", best_is_hung, 250, COMMAND_APPOINT, N3, ""},
    {"one that is no standby is not chosen", best_is_no_standby, 250, COMMAND_APPOINT, N3, ""},
    {"one of another system is not chosen", best_is_anothers, 250, COMMAND_APPOINT, N3, ""},
    {"one that was not seen: no majority either", best_is_away, 200, 0, 0, ""},
    {"one under another id is not chosen", best_speaks_under_an_old_id, 200, 0, 0, ""},

    {"planned: the successor has it all", stopped_and_n3_has_it_all, 250, COMMAND_APPOINT, N3, "handover"},
    {"planned: the successor lacks the last record", stopped_and_n3_lacks_the_last_record, 223, 0, 0, "10.0.0.3"},
    {"planned: the successor is away", stopped_and_n3_is_away, 223, 0, 0, "nothing was heard"},
    {"planned: nobody has shown it yet", stopped_by_plan, 223, 0, 0, "waiting to see the last record"},
    {"planned: the declared has it all", stopped_and_the_declared_has_it_all, 250, COMMAND_APPOINT, N3, "stopped by plan"},
    {"planned: somebody has it all, auto", stopped_and_somebody_has_it_all, 250, COMMAND_APPOINT, N3, "stopped by plan"},
    {"planned: somebody has it all, declared", stopped_and_somebody_has_it_all_under_declared, 223, 0, 0, ""},
    {"planned: an unopened reign proves nothing", stopped_before_it_was_open, 223, 0, 0, ""},
    {"planned: patience ends", stopped_and_nobody_has_shown_it, 250, COMMAND_APPOINT, N2, "most WAL"},

    {"a lost disk is replaced", n3_comes_empty, 261, COMMAND_MEMBER_REPLACE, N3, "10.0.0.3 lost its disk"},
    {"not while members change", n3_comes_empty_during_a_change, 200, 0, 0, ""},
    {"not by a question of a while ago", n3_came_empty_a_while_ago, 200, 0, 0, ""},
    {"its own directory is no lost disk", n3_asks_with_its_own_directory, 200, 0, 0, ""},

    {"a declared one that asks joins", n4_is_declared_and_asks, 263, COMMAND_MEMBER_ADD, 0, "10.0.0.4 joins"},
    {"a declared one that is away does not", n4_is_declared_and_away, 200, 0, 0, ""},
    {"one that is not declared is removed", w_is_no_longer_declared, 264, COMMAND_MEMBER_REMOVE, W, "10.0.0.9 is removed"},
    {"a rebuild goes on while its member is heard", n3_rebuilds, 200, 0, 0, ""},
    {"a rebuild of a silent member is over", n3_rebuilds_and_is_silent, 265, COMMAND_REBUILD, N3, "10.0.0.3 was not heard"},
    {"a moment's silence ends no rebuild", n3_rebuilds_and_is_silent_for_a_moment, 200, 0, 0, ""},
    {"a new leader has not listened long enough", n3_rebuilds_and_the_leader_is_new, 200, 0, 0, ""},
    {"a removed leader decides nothing", the_leader_was_removed, 262, 0, 0, "no member"},
    /* clang-format on */
};

static const struct command *
proposal(const struct effect_list *fx)
{
    const struct command *found = NULL;

    for (uint32_t i = 0; i < fx->n; i++) {
        if (fx->at[i].type == EFFECT_PROPOSE) {
            assert_null(found); /* one at a time */
            found = &fx->at[i].propose;
        }
    }
    return found;
}

static void
check_command(const struct row *row, const struct core *core, const struct command *c)
{
    const struct member *who = row->who == NOBODY ? NULL : &core->state.members[row->who];

    assert_int_equal(c == NULL ? 0 : c->type, row->command);
    switch (row->command) {
    case COMMAND_APPOINT:
        assert_int_equal(c->appoint.reign, core->state.reign + 1);
        assert_int_equal(c->appoint.holder, who->id);
        break;
    case COMMAND_HANDOVER:
        assert_int_equal(c->handover.reign, core->state.reign);
        assert_int_equal(c->handover.to, who == NULL ? 0 : who->id);
        break;
    case COMMAND_MEMBER_REMOVE:
        assert_string_equal(c->members.spec.address, who->address);
        break;
    case COMMAND_MEMBER_REPLACE:
        assert_string_equal(c->members.spec.address, who->address);
        assert_int_equal(c->members.generation, core->state.members_generation);
        assert_int_equal(c->members.nonce, 999);
        break;
    case COMMAND_REBUILD:
        assert_int_equal(c->rebuild.member, who->id);
        assert_int_equal(c->rebuild.reign, 0); /* taken back */
        break;
    default:
        break;
    }
}

/* True when the rule was said: as the governor's present one, or in a line of the log. */
static bool
says(const struct core *core, const struct effect_list *fx, const struct row *row)
{
    for (uint32_t i = 0; i < fx->n; i++) {
        if (fx->at[i].type == EFFECT_LOG && fx->at[i].log.rule == row->rule &&
            strstr(fx->at[i].log.text, row->words) != NULL) {
            return true;
        }
    }
    return core->governor_rule == row->rule && strstr(core->governor_why, row->words) != NULL;
}

static void
each_row_says_and_proposes_what_it_should(void **state)
{
    static struct core core;
    static struct effect_list fx;

    (void)state;
    for (size_t i = 0; i < HA_COUNT_OF(ROWS); i++) {
        const struct row *row = &ROWS[i];

        scene_healthy(&core, N2);
        core.governor_rule = 0;
        core.governor_why[0] = 0;
        fx.n = 0;
        row->set(&core);
        governor_step(&core, &fx);
        if (!says(&core, &fx, row)) {
            print_error(
                "row \"%s\": rule %u \"%s\"\n", row->name, core.governor_rule, core.governor_why);
        }
        assert_true(says(&core, &fx, row));
        check_command(row, &core, proposal(&fx));
        has_fired[row->rule] = true;
    }
}

/* The directive that a refusal leaves behind is what the standbys act upon. */
static void
a_choice_under_way_is_told_to_all_and_taken_back_when_it_is_over(void **state)
{
    static struct core core;
    static struct effect_list fx;

    (void)state;
    scene_healthy(&core, N2);
    fx.n = 0;
    lost_and_n3_is_declared(&core);
    governor_step(&core, &fx);
    assert_int_equal(core.freeze_reign, core.state.reign);
    assert_int_equal(core.fetch_member, core.state.members[N3].id);
    assert_int_equal(core.fetch_from, core.state.members[N2].id);
    assert_int_equal(core.fetch_lsn, core.status.pg.lsn);
    scene_peer(&core, N1)->heard_at = core.now; /* the holder is back and renews */
    for (unsigned i = N2; i <= W; i++) {
        status_of(&core, i)->lapsed_reign = 0;
    }
    declare(&core, N1);
    fx.n = 0;
    governor_step(&core, &fx);
    assert_int_equal(core.governor_rule, 200);
    assert_int_equal(core.freeze_reign, 0);
    assert_int_equal(core.fetch_member, 0);
}

/* While a proposal is in flight, or one failed a moment ago, nothing else is proposed. */
static void
one_proposal_at_a_time(void **state)
{
    static struct core core;
    static struct effect_list fx;

    (void)state;
    scene_healthy(&core, N2);
    fx.n = 0;
    lost(&core);
    core.is_proposing = true;
    governor_step(&core, &fx);
    assert_null(proposal(&fx));
    core.is_proposing = false;
    core.propose_after = mono_ms(core.now.ms + 1);
    governor_step(&core, &fx);
    assert_null(proposal(&fx));
    core.now = core.propose_after;
    governor_step(&core, &fx);
    assert_non_null(proposal(&fx));
}

/* The numbers of a table row's first cell: "221, 222" or "365 to 367". */
static void
note_numbers(const char *cell, bool listed[1000])
{
    char *end;
    long last = 0;

    while (*cell != 0 && *cell != '|') {
        const long n = strtol(cell, &end, 10);

        if (end == cell) {
            cell++;
            continue;
        }
        assert_in_range(n, 100, 999);
        if (last != 0 && strstr(cell - 4, "to ") == cell - 3) {
            for (long k = last; k < n; k++) {
                listed[k] = true;
            }
        }
        listed[n] = true;
        last = n;
        cell = end;
    }
}

static void
every_rule_of_the_document_has_a_row_and_every_row_a_rule(void **state)
{
    FILE *file = fopen(DOCS_DIR "/rules.md", "re");
    bool listed[1000] = {false};
    char line[512];

    (void)state;
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        if (line[0] == '|' && line[2] == '2') {
            note_numbers(line + 2, listed);
        }
    }
    assert_int_equal(fclose(file), 0);
    for (unsigned i = 200; i < 300; i++) {
        if (listed[i] != has_fired[i]) {
            print_error("rule %u: %s\n", i, listed[i] ? "no row" : "not in docs/rules.md");
        }
        assert_int_equal(listed[i], has_fired[i]);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_row_says_and_proposes_what_it_should),
        cmocka_unit_test(a_choice_under_way_is_told_to_all_and_taken_back_when_it_is_over),
        cmocka_unit_test(one_proposal_at_a_time),
        cmocka_unit_test(every_rule_of_the_document_has_a_row_and_every_row_a_rule),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
