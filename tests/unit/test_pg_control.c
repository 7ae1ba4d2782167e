/*
 * Goal:   what pg_controldata prints is read exactly; a missing line is an error, never a zero.
 * Method: the output of a real server, then the same with one thing changed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/postgres/pg_control.h"

static const char OUTPUT[] = "pg_control version number:            1300\n"
                             "Catalog version number:               202209061\n"
                             "Database system identifier:           7575912345678901234\n"
                             "Database cluster state:               shut down in recovery\n"
                             "pg_control last modified:             Sun Nov 22 21:40:14 2026\n"
                             "Latest checkpoint location:           0/3120E00\n"
                             "Latest checkpoint's REDO location:    0/3120DC8\n"
                             "Latest checkpoint's REDO WAL file:    000000020000000000000003\n"
                             "Latest checkpoint's TimeLineID:       2\n"
                             "Latest checkpoint's PrevTimeLineID:   2\n"
                             "Minimum recovery ending location:     0/3120E78\n"
                             "Min recovery ending loc's timeline:   3\n"
                             "Backup start location:                0/0\n";

static void
a_real_output_is_read(void **state)
{
    struct pg_control c;
    struct err err = {0};

    (void)state;
    assert_int_equal(pg_control_parse(OUTPUT, &c, &err), HA_OK);
    assert_true(c.sysid == 7575912345678901234ULL);
    assert_true(c.is_shut_down);
    assert_int_equal(c.timeline, 3);
    assert_int_equal(c.checkpoint_lsn, 0x3120E00);
    assert_int_equal(c.min_recovery_lsn, 0x3120E78);
}

/* OUTPUT with the first `from` replaced. Free it. */
static char *
changed(const char *from, const char *to)
{
    const char *at = strstr(OUTPUT, from);
    char *text = malloc(sizeof OUTPUT + strlen(to));

    assert_non_null(at);
    assert_non_null(text);
    (void)snprintf(text,
                   sizeof OUTPUT + strlen(to),
                   "%.*s%s%s",
                   (int)(at - OUTPUT),
                   OUTPUT,
                   to,
                   at + strlen(from));
    return text;
}

static void
only_the_two_shut_down_states_count_as_such(void **state)
{
    static const struct {
        const char *text;
        bool is_shut_down;
        bool was_primary;
    } ROWS[] = {
        {"shut down", true, true},
        {"shut down in recovery", true, false},
        {"shutting down", false, true},
        {"in production", false, true},
        {"in archive recovery", false, false},
        {"in crash recovery", false, true},
        {"shut down in recovery?", false, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        char *text = changed("shut down in recovery", ROWS[i].text);
        struct pg_control c;

        assert_int_equal(pg_control_parse(text, &c, NULL), HA_OK);
        assert_int_equal(c.is_shut_down, ROWS[i].is_shut_down);
        assert_int_equal(c.was_primary, ROWS[i].was_primary);
        free(text);
    }
}

static void
a_missing_or_malformed_line_is_an_error(void **state)
{
    static const char *const ROWS[][2] = {
        {"Database system identifier", "Databank"},
        {"Database cluster state", "State"},
        {"Latest checkpoint location", "Latest"},
        {"Latest checkpoint's TimeLineID", "Timeline"},
        {"Minimum recovery ending location", "Minimum"},
        {"Min recovery ending loc's timeline", "Min"},
        {"7575912345678901234", "99999999999999999999999"},
        {"7575912345678901234", "-5"},
        {"0/3120E00", "0/3120E00x"},
        {"TimeLineID:       2", "TimeLineID:       4294967296"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        char *text = changed(ROWS[i][0], ROWS[i][1]);
        struct pg_control c;
        struct err err = {0};

        assert_int_equal(pg_control_parse(text, &c, &err), HA_ECORRUPT);
        assert_non_null(strstr(err.text, "pg_controldata"));
        free(text);
    }
}

static void
every_cut_of_the_output_is_an_error_or_the_truth(void **state)
{
    char text[sizeof OUTPUT];

    (void)state;
    memcpy(text, OUTPUT, sizeof OUTPUT);
    for (size_t len = sizeof OUTPUT; len-- > 0;) {
        struct pg_control c;

        text[len] = '\0';
        if (pg_control_parse(text, &c, NULL) == HA_OK) {
            assert_int_equal(c.timeline, 3);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_real_output_is_read),
        cmocka_unit_test(only_the_two_shut_down_states_count_as_such),
        cmocka_unit_test(a_missing_or_malformed_line_is_an_error),
        cmocka_unit_test(every_cut_of_the_output_is_an_error_or_the_truth),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
