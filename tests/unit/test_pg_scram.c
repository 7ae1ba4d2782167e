/*
 * Goal:   a stored verifier is known to be that of a password, and of no other.
 * Method: verifiers as libpq makes them, one from the RFC's own example, and damaged ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/postgres/pg_query.h"
#include "agent/postgres/pg_scram.h"

static void
libpqs_verifier_matches_its_password_only(void **state)
{
    static const char *const PASSWORDS[] = {"x", "it's a \"$ecret\" p\u00e4ss", " blanks  ", "\\"};
    struct err err = {0};

    (void)state;
    for (size_t i = 0; i < sizeof PASSWORDS / sizeof PASSWORDS[0]; i++) {
        char *verifier = pg_scram_verifier("someone", PASSWORDS[i], &err);

        assert_non_null(verifier);
        for (size_t j = 0; j < sizeof PASSWORDS / sizeof PASSWORDS[0]; j++) {
            assert_int_equal(pg_scram_matches(verifier, PASSWORDS[j]), i == j);
        }
        assert_false(pg_scram_matches(verifier, ""));
        free(verifier);
    }
}

/* RFC 7677, section 3: salt and iterations of its example, keys worked out from them. */
static void
the_rfcs_example_matches(void **state)
{
    (void)state;
    assert_true(pg_scram_matches("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
                                 "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
                                 "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
                                 "pencil"));
}

static void
what_is_no_verifier_matches_nothing(void **state)
{
    static const char *const TEXTS[] = {
        "",
        "md5b0e7a9a6a0a0b3cf4e9ab0a0f7a1c6c2",
        "SCRAM-SHA-256",
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$",
        "SCRAM-SHA-256$0:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:x",
        ("SCRAM-SHA-256$999999999:W22ZaJ0SNY7soEsUEjb6gQ==$"
         "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:x"),
        "SCRAM-SHA-256$4096:W22$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:x",
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d:x",
        "SCRAM-SHA-256$4096:====$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:x",
    };

    (void)state;
    for (size_t i = 0; i < sizeof TEXTS / sizeof TEXTS[0]; i++) {
        assert_false(pg_scram_matches(TEXTS[i], "pencil"));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(libpqs_verifier_matches_its_password_only),
        cmocka_unit_test(the_rfcs_example_matches),
        cmocka_unit_test(what_is_no_verifier_matches_nothing),
    };

    return cmocka_run_group_tests_name("pg_scram", tests, NULL, NULL);
}
