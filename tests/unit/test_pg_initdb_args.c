/*
 * Goal:   POSTGRES_INITDB_ARGS reaches initdb as a shell would cut it, less what the agent gives.
 * Method: tables of texts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/postgres/pg_initdb_args.h"

static void
words_are_cut_as_a_shell_cuts_them(void **state)
{
    static const struct {
        const char *text;
        const char *joined;
    } ROWS[] = {
        {"", ""},
        {"   ", ""},
        {"--locale=C  -k", "[--locale=C][-k]"},
        {"'--locale=a b' \"-c\" d\\ e", "[--locale=a b][-c][d e]"},
        {"--x='it'\"'\"'s'", "[--x=it's]"},
        {"-E 'UTF8'\n\t--lc-collate=\"C\"", "[-E][UTF8][--lc-collate=C]"},
        {"'a\\b' \"a\\\"b\"", "[a\\b][a\"b]"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        char text[256];
        char joined[256] = "";
        const char *words[8];
        size_t len = 0;
        int n;

        (void)snprintf(text, sizeof text, "%s", ROWS[i].text);
        n = pg_initdb_words(text, words, 8, NULL);
        assert_true(n >= 0);
        for (int w = 0; w < n; w++) {
            len += (size_t)snprintf(joined + len, sizeof joined - len, "[%s]", words[w]);
        }
        assert_string_equal(joined, ROWS[i].joined);
    }
}

static void
what_is_the_agents_and_what_is_malformed_is_refused(void **state)
{
    static const char *const ROWS[] = {
        "-D /x",
        "-D/x",
        "--pgdata=/x",
        "-U bob",
        "--username bob",
        "--pwfile=/x",
        "-W",
        "-X /wal",
        "--waldir=/w",
        "--no-sync",
        "--auth=trust",
        "--auth-host=trust",
        "-A trust",
        "'unclosed",
        "\"unclosed",
        "a b c d e f g h i",
    };

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        char text[256];
        const char *words[8];

        (void)snprintf(text, sizeof text, "%s", ROWS[i]);
        if (pg_initdb_words(text, words, 8, NULL) != HA_EINVAL) {
            fail_msg("accepted: %s", ROWS[i]);
        }
    }
}

static void
utf8_is_asked_for_only_where_nobody_chose(void **state)
{
    char none[] = "PATH=/bin";
    char posix[] = "LANG=POSIX";
    char utf8[] = "LANG=en_US.utf8";
    char *const plain[] = {none, NULL};
    char *const c_locale[] = {none, posix, NULL};
    char *const english[] = {none, utf8, NULL};

    (void)state;
    assert_true(pg_initdb_needs_encoding("", plain));
    assert_true(pg_initdb_needs_encoding("-k", c_locale));
    assert_false(pg_initdb_needs_encoding("", english));
    assert_false(pg_initdb_needs_encoding("--encoding=LATIN1", plain));
    assert_false(pg_initdb_needs_encoding("--locale=de_DE", plain));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_cut_as_a_shell_cuts_them),
        cmocka_unit_test(what_is_the_agents_and_what_is_malformed_is_refused),
        cmocka_unit_test(utf8_is_asked_for_only_where_nobody_chose),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
