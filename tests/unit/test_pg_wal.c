/*
 * Goal:   log positions and history files are read exactly, and rubbish is refused.
 * Method: tables of texts, the good ones taken from real servers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/postgres/pg_wal.h"
#include "store/state.h"

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
    struct pg_history h;
    uint64_t lineage;

    (void)state;
    assert_int_equal(pg_history_parse(TEXT, &h, NULL), HA_OK);
    assert_int_equal(h.parent, 2);
    assert_int_equal(h.fork_lsn, 0x5000F28);
    lineage = lineage_extend(lineage_extend(LINEAGE_FIRST, 1, 0x3000158), 2, 0x5000F28);
    assert_true(h.lineage == lineage);
    assert_int_equal(pg_history_parse("# old\n7 A/B\n", &h, NULL), HA_OK);
    assert_int_equal(h.parent, 7);
    assert_int_equal(h.fork_lsn, 0xA0000000B);
}

static void
histories_with_another_fork_anywhere_differ(void **state)
{
    static const char *const ROWS[] = {
        "1\t0/3000158\ta\n2\t0/5000F28\tb\n",
        "1\t0/3000159\ta\n2\t0/5000F28\tb\n", /* an older one */
        "1\t0/3000158\ta\n2\t0/5000F29\tb\n",
        "1\t0/3000158\ta\n3\t0/5000F28\tb\n",
        "2\t0/5000F28\tb\n",
    };
    struct pg_history h[sizeof ROWS / sizeof ROWS[0]];

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        assert_int_equal(pg_history_parse(ROWS[i], &h[i], NULL), HA_OK);
        for (size_t k = 0; k < i; k++) {
            assert_true(h[i].lineage != h[k].lineage);
        }
    }
    assert_int_equal(pg_history_parse("1 0/3000158 x\n2 0/5000F28 y\n", &h[1], NULL), HA_OK);
    assert_true(h[1].lineage == h[0].lineage); /* the reason is no part of it */
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
        struct pg_history h;

        assert_int_equal(pg_history_parse(ROWS[i], &h, NULL), HA_ECORRUPT);
    }
}

/* As PostgreSQL writes it: the parent's file, an empty line, and one more. */
static void
a_history_holds_its_ancestors_histories(void **state)
{
    static const char TEXT[] = "1\t0/3000158\tno recovery target specified\n\n"
                               "4\t0/5000F28\tno recovery target specified\n";
    static const uint32_t NONE[] = {0, 2, 3, 5};
    struct pg_history h;
    char text[sizeof TEXT];
    size_t len = 0;

    (void)state;
    assert_true(pg_history_before(TEXT, 4, &len));
    memcpy(text, TEXT, len);
    text[len] = '\0';
    assert_int_equal(pg_history_parse(text, &h, NULL), HA_OK);
    assert_int_equal(h.parent, 1);
    assert_true(h.lineage == lineage_extend(LINEAGE_FIRST, 1, 0x3000158));
    assert_true(pg_history_before(TEXT, 1, &len));
    assert_int_equal(len, 0); /* timeline 1 has none */
    for (size_t i = 0; i < sizeof NONE / sizeof NONE[0]; i++) {
        assert_false(pg_history_before(TEXT, NONE[i], &len));
    }
    assert_false(pg_history_before("junk\n4\t0/1\n", 4, &len));
    assert_false(pg_history_before("", 4, &len));
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
        cmocka_unit_test(histories_with_another_fork_anywhere_differ),
        cmocka_unit_test(a_damaged_history_is_refused),
        cmocka_unit_test(a_history_holds_its_ancestors_histories),
        cmocka_unit_test(history_files_are_named_in_capital_hexadecimal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
