/*
 * Goal:   POSTGRESQL_CONF means what its author wrote, or an error names the entry.
 * Method: tables of texts; then every prefix and every one-byte change of a text, for crashes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/postgres/pg_conf.h"

static void
check_value(const char *text, const char *name, const char *value)
{
    struct pg_conf conf;
    struct err err = {0};
    const char *got;

    if (pg_conf_split(text, &conf, &err) != HA_OK) {
        fail_msg("%s: %s", text, err.text);
    }
    got = pg_conf_get(&conf, name);
    assert_non_null(got);
    assert_string_equal(got, value);
    pg_conf_free(&conf);
}

static void
only_the_first_equals_sign_splits(void **state)
{
    (void)state;
    check_value("work_mem=32MB", "work_mem", "32MB");
    check_value("a=b=c=d", "a", "b=c=d");
    check_value("archive_command=cp %p /x=%f", "archive_command", "cp %p /x=%f");
    check_value("a==", "a", "=");
    check_value("a=", "a", "");
}

static void
blanks_quotes_and_case_are_taken_as_postgresql_takes_them(void **state)
{
    (void)state;
    check_value(" work_mem = 32MB | x = 1 ", "work_mem", "32MB");
    check_value("|a=1||b=2|", "b", "2");
    check_value("Work_Mem=1", "work_mem", "1");
    check_value("log_line_prefix='%m [%p] '", "log_line_prefix", "%m [%p] ");
    check_value("a='it''s'", "a", "it's");
    check_value("a=it's", "a", "it's");
    check_value("pg_stat_statements.max=10", "pg_stat_statements.max", "10");
    check_value("wal_level=LOGICAL", "wal_level", "LOGICAL");
    check_value("max_wal_senders=10", "max_wal_senders", "10");
}

static void
an_empty_text_holds_no_settings(void **state)
{
    struct pg_conf conf;

    (void)state;
    assert_int_equal(pg_conf_split("", &conf, NULL), HA_OK);
    assert_int_equal(conf.n, 0);
    pg_conf_free(&conf);
}

static void
what_cannot_stand_is_refused_with_its_entry(void **state)
{
    static const struct {
        const char *text;
        const char *in_error;
    } ROWS[] = {
        {"work_mem", "entry 1, \"work_mem\": there is no '='"},
        {"a=1|=2", "entry 2"},
        {"a b=1", "\"a b\""},
        {"1a=1", "\"1a\""},
        {"a.=1", "\"a.\""},
        {"a=1|b=2|A=3", "entry 3, \"a\": the setting is named twice"},
        {"a='x", "quotes"},
        {"a='x'y", "quotes"},
        {"a=x\ny", "control character"},
        {"primary_conninfo=host=evil", "the agent owns"},
        {"PORT=1", "the agent owns"},
        {"ha_fence.lease_file=/x", "the agent owns"},
        {"recovery_target_lsn=0/1", "the agent owns"},
        {"include=/etc/passwd", "the agent owns"},
        {"wal_level=minimal", "only replica and logical"},
        {"max_wal_senders=9", "at least 10"},
        {"max_replication_slots=none", "at least 10"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        struct pg_conf conf;
        struct err err = {0};

        assert_int_equal(pg_conf_split(ROWS[i].text, &conf, &err), HA_EINVAL);
        if (strstr(err.text, ROWS[i].in_error) == NULL) {
            fail_msg("%s: %s", ROWS[i].text, err.text);
        }
        assert_int_equal(conf.n, 0);
    }
}

static void
too_many_settings_are_refused(void **state)
{
    char text[PG_CONF_SETTINGS_MAX * 16] = "";
    struct pg_conf conf;
    size_t len = 0;

    (void)state;
    for (int i = 0; i <= PG_CONF_SETTINGS_MAX; i++) {
        text[len++] = 's';
        text[len++] = (char)('a' + i / 26);
        text[len++] = (char)('a' + i % 26);
        text[len++] = '=';
        text[len++] = '|';
    }
    text[len] = '\0';
    assert_int_equal(pg_conf_split(text, &conf, NULL), HA_EINVAL);
}

static void
no_text_makes_it_stumble(void **state)
{
    static const char SEED[] =
        "work_mem=32MB|a='it''s'|b.c = 'x=y' |shared_preload_libraries='p,q'";
    char text[sizeof SEED];

    (void)state;
    for (size_t at = 0; at < sizeof SEED - 1; at++) {
        for (int c = 0; c < 256; c++) {
            struct pg_conf conf;

            memcpy(text, SEED, sizeof SEED);
            text[at] = (char)c;
            if (pg_conf_split(text, &conf, NULL) == HA_OK) {
                pg_conf_free(&conf);
            }
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_first_equals_sign_splits),
        cmocka_unit_test(blanks_quotes_and_case_are_taken_as_postgresql_takes_them),
        cmocka_unit_test(an_empty_text_holds_no_settings),
        cmocka_unit_test(what_cannot_stand_is_refused_with_its_entry),
        cmocka_unit_test(too_many_settings_are_refused),
        cmocka_unit_test(no_text_makes_it_stumble),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
