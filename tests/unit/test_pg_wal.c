/*
 * Goal:   log positions and history files are read exactly, and rubbish is refused.
 * Method: tables of texts, the good ones taken from real servers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/postgres/pg_wal.h"

static void
positions_are_read_and_written_as_postgresql_does(void **state)
{
    static const struct {
        const char *text;
        uint64_t lsn;
    } ROWS[] = {
        {"0/0", 0},
        {"0/3000060", 0x3000060},
        {"16/B374D848", 0x16B374D848},
        {"FFFFFFFF/FFFFFFFF", UINT64_MAX},
    };
    char text[PG_LSN_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        uint64_t lsn = 1;

        assert_true(pg_lsn_parse(ROWS[i].text, &lsn));
        assert_int_equal(lsn, ROWS[i].lsn);
        pg_lsn_format(lsn, text);
        assert_string_equal(text, ROWS[i].text);
    }
}

static void
a_text_that_is_no_position_changes_nothing(void **state)
{
    static const char *const ROWS[] = {
        "",
        "/",
        "0/",
        "/0",
        "0",
        "0/0 ",
        " 0/0",
        "0/G",
        "0x1/2",
        "-1/0",
        "100000000/0",
        "0/100000000",
    };

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        uint64_t lsn = 42;

        assert_false(pg_lsn_parse(ROWS[i], &lsn));
        assert_int_equal(lsn, 42);
    }
}

static void
a_history_names_its_youngest_parent(void **state)
{
    static const char TEXT[] = "1\t0/3000158\tno recovery target specified\n\n"
                               "2\t0/5000F28\tno recovery target specified\n";
    uint32_t parent;
    uint64_t fork_lsn;

    (void)state;
    assert_int_equal(pg_history_parse(TEXT, &parent, &fork_lsn, NULL), HA_OK);
    assert_int_equal(parent, 2);
    assert_int_equal(fork_lsn, 0x5000F28);
    assert_int_equal(pg_history_parse("# old\n7 A/B\n", &parent, &fork_lsn, NULL), HA_OK);
    assert_int_equal(parent, 7);
    assert_int_equal(fork_lsn, 0xA0000000B);
}

static void
a_damaged_history_is_refused(void **state)
{
    static const char *const ROWS[] = {
        "",
        "\n# nothing\n",
        "1\n",
        "1 \n",
        "x\t0/1\n",
        "1\t0-1\n",
        "0\t0/1\n",
        "1\t0/1junk\n",
        "2\t0/1\n1\t0/2\n",
        "1\t0/1\n1\t0/2\n",
        "4294967296\t0/1\n",
        "99999999999999999999\t0/1\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        uint32_t parent = 0;
        uint64_t fork_lsn = 0;

        assert_int_equal(pg_history_parse(ROWS[i], &parent, &fork_lsn, NULL), HA_ECORRUPT);
    }
}

static void
history_files_are_named_in_capital_hexadecimal(void **state)
{
    char name[PG_HISTORY_NAME_MAX];

    (void)state;
    pg_history_name(0xAB, name);
    assert_string_equal(name, "000000AB.history");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(positions_are_read_and_written_as_postgresql_does),
        cmocka_unit_test(a_text_that_is_no_position_changes_nothing),
        cmocka_unit_test(a_history_names_its_youngest_parent),
        cmocka_unit_test(a_damaged_history_is_refused),
        cmocka_unit_test(history_files_are_named_in_capital_hexadecimal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
