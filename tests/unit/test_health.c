/*
 * Goal:   a sick server is called so within its limit, a slow one never; a border is crossed once.
 * Method: observations at chosen moments; the judgement at each millisecond around a limit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/core/health.h"

#define LIMIT 10000
#define RESERVE (64U << 20)

static struct health h;

static void
begin(void)
{
    health_reset(&h);
}

static void
answer(int64_t at, bool is_done, bool is_new_session, bool is_answered)
{
    const struct pg_probe p = {.kind = PG_PROBE_SERVER,
                               .is_new_session = is_new_session,
                               .is_answered = is_answered,
                               .is_done = is_done,
                               .took_us = 700};

    health_note(&h, &p, RESERVE, mono_ms(at));
}

static struct pg_probe
host(uint64_t free_bytes)
{
    return (struct pg_probe){
        .kind = PG_PROBE_HOST, .free_bytes = free_bytes, .total_bytes = 10ULL << 30};
}

static void
look(int64_t at, const struct pg_probe *p)
{
    health_note(&h, p, RESERVE, mono_ms(at));
}

static enum health_verdict
judge(int64_t at)
{
    return health_judge(&h, LIMIT, mono_ms(at));
}

static void
nothing_is_judged_before_the_first_answer(void **state)
{
    (void)state;
    begin();
    assert_int_equal(judge(1000000), HEALTH_UNKNOWN);
    answer(1000, false, true, false);
    assert_int_equal(judge(1000000), HEALTH_UNKNOWN);
    answer(1000000, true, true, true);
    assert_int_equal(judge(1000000), HEALTH_WELL);
}

static void
silence_of_the_whole_limit_is_an_illness_and_not_a_moment_less(void **state)
{
    (void)state;
    begin();
    answer(5000, true, true, true);
    for (int64_t at = 5000; at <= 5000 + LIMIT; at++) {
        assert_int_equal(judge(at), HEALTH_WELL);
    }
    assert_int_equal(judge(5000 + LIMIT + 1), HEALTH_HUNG);
    answer(20000, true, false, true);
    assert_int_equal(judge(20000), HEALTH_WELL);
    assert_int_equal(health_judge(&h, 0, mono_ms(900000)), HEALTH_WELL); /* switched off */
}

static void
a_slow_server_is_never_sick(void **state)
{
    (void)state;
    begin();
    answer(1000, true, true, true);
    for (int64_t at = 1000; at < 600000; at += LIMIT - 1) { /* ten minutes of a busy machine */
        answer(at, true, at % 2 == 0, true);
        for (int64_t t = at; t < at + LIMIT; t += 7) {
            assert_int_equal(judge(t), HEALTH_WELL);
        }
    }
}

static void
one_stuck_session_is_no_illness_while_a_new_one_commits(void **state)
{
    (void)state;
    begin();
    answer(1, true, true, true);
    for (int64_t at = 1000; at < 60000; at += 4000) {
        answer(at, false, false, false);    /* the old session is silent, and dropped */
        answer(at + 500, true, true, true); /* the next one is well */
        assert_int_equal(judge(at + 3999), HEALTH_WELL);
    }
}

static void
no_new_session_is_an_illness_though_old_ones_commit(void **state)
{
    (void)state;
    begin();
    answer(1000, true, true, true);
    for (int64_t at = 2000; at < 40000; at += 1000) { /* none was tried: nothing can be said */
        answer(at, true, false, true);
        assert_int_equal(judge(at), HEALTH_WELL);
    }
    answer(40000, false, true, false);
    answer(40001, true, false, true);
    assert_int_equal(judge(40002), HEALTH_HUNG);
    answer(40003, true, true, true);
    assert_int_equal(judge(40004), HEALTH_WELL);
}

static void
errors_in_place_of_commits_are_an_illness(void **state)
{
    (void)state;
    begin();
    answer(1000, true, true, true);
    for (int64_t at = 2000; at <= 1000 + LIMIT; at += 1000) {
        answer(at, false, true, true);
        assert_int_equal(judge(at), HEALTH_WELL);
    }
    assert_int_equal(judge(1001 + LIMIT), HEALTH_HUNG);
}

static void
a_postmaster_stopped_for_the_limit_is_hung(void **state)
{
    struct pg_probe p = host(1ULL << 30);

    (void)state;
    begin();
    answer(900, true, true, true);
    look(1000, &p);
    p.is_postmaster_stopped = true;
    for (int64_t at = 2000; at <= 1000 + LIMIT; at += 1000) {
        look(at, &p);
        answer(at, true, false, true);
        assert_int_equal(judge(at), HEALTH_WELL);
    }
    assert_int_equal(judge(1001 + LIMIT), HEALTH_HUNG);
    p.is_postmaster_stopped = false;
    look(1002 + LIMIT, &p);
    assert_int_equal(judge(1003 + LIMIT), HEALTH_WELL);
}

static void
a_low_disk_is_told_before_it_is_full_and_once(void **state)
{
    struct pg_probe p = host(10 * (uint64_t)RESERVE);

    (void)state;
    begin();
    answer(1, true, true, true);
    look(2, &p);
    p = host(RESERVE);
    look(100002, &p);                             /* slowly filled: no forecast */
    assert_int_equal(judge(100001), HEALTH_HUNG); /* for want of answers; they come: */
    answer(100001, true, true, true);
    assert_int_equal(judge(100001), HEALTH_DISK_LOW); /* the pace of filling counts, too */
    look(101001, &p);
    assert_int_equal(judge(101001), HEALTH_DISK_LOW); /* until thrice the room is there */
    p = host(3 * (uint64_t)RESERVE - 1);
    look(101002, &p);
    assert_int_equal(judge(101002), HEALTH_DISK_LOW);
    p = host(3 * (uint64_t)RESERVE);
    look(101003, &p);
    assert_int_equal(judge(101003), HEALTH_WELL);
    p = host(RESERVE);
    look(201003, &p);
    look(202003, &p);
    answer(202003, true, true, true);
    assert_int_equal(judge(202003), HEALTH_DISK_LOW);
    health_note(&h, &p, 0, mono_ms(203003)); /* not watched */
    assert_int_equal(judge(203003), HEALTH_WELL);
}

static void
a_disk_that_fills_fast_is_low_seconds_before(void **state)
{
    struct pg_probe p = host(1000ULL << 20);

    (void)state;
    begin();
    answer(1, true, true, true);
    look(1, &p);
    p = host(700ULL << 20); /* 300 MB/s: three seconds are 900 MB */
    look(1001, &p);
    answer(1001, true, true, true);
    assert_int_equal(judge(1001), HEALTH_DISK_LOW);
    begin();
    answer(1, true, true, true);
    p = host(9000ULL << 20);
    look(1, &p);
    p = host(8700ULL << 20); /* as fast, with room for half a minute */
    look(1001, &p);
    assert_int_equal(judge(1001), HEALTH_WELL);
}

static void
gone_data_and_a_read_only_disk_need_two_looks(void **state)
{
    struct pg_probe p = host(1ULL << 30);

    (void)state;
    begin();
    answer(1, true, true, true);
    p.is_data_gone = true;
    look(1000, &p);
    assert_int_equal(judge(1000), HEALTH_WELL);
    look(2000, &p);
    assert_int_equal(judge(2000), HEALTH_DATA_GONE);
    p = host(1ULL << 30);
    look(3000, &p);
    assert_int_equal(judge(3000), HEALTH_WELL);
    p.is_read_only = true;
    look(4000, &p);
    assert_int_equal(judge(4000), HEALTH_WELL);
    look(5000, &p);
    assert_int_equal(judge(5000), HEALTH_READ_ONLY);
}

static void
who_did_not_listen_blames_nobody(void **state)
{
    (void)state;
    begin();
    answer(1000, true, true, true);
    health_excuse(&h, mono_ms(60000));
    assert_int_equal(judge(60000), HEALTH_WELL);
    assert_int_equal(judge(60001 + LIMIT), HEALTH_HUNG);
    begin();
    health_excuse(&h, mono_ms(60000));
    assert_int_equal(judge(60000), HEALTH_UNKNOWN);
}

static void
a_silent_file_system_is_the_least_of_all(void **state)
{
    const struct pg_probe p = host(1ULL << 30);

    (void)state;
    begin();
    answer(1, true, true, true);
    look(1, &p);
    answer(LIMIT, true, true, true);
    assert_int_equal(judge(LIMIT + 2), HEALTH_DISK_SILENT);
    assert_int_equal(judge(2 * LIMIT + 1), HEALTH_HUNG);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_judged_before_the_first_answer),
        cmocka_unit_test(silence_of_the_whole_limit_is_an_illness_and_not_a_moment_less),
        cmocka_unit_test(a_slow_server_is_never_sick),
        cmocka_unit_test(one_stuck_session_is_no_illness_while_a_new_one_commits),
        cmocka_unit_test(no_new_session_is_an_illness_though_old_ones_commit),
        cmocka_unit_test(errors_in_place_of_commits_are_an_illness),
        cmocka_unit_test(a_postmaster_stopped_for_the_limit_is_hung),
        cmocka_unit_test(a_low_disk_is_told_before_it_is_full_and_once),
        cmocka_unit_test(a_disk_that_fills_fast_is_low_seconds_before),
        cmocka_unit_test(gone_data_and_a_read_only_disk_need_two_looks),
        cmocka_unit_test(who_did_not_listen_blames_nobody),
        cmocka_unit_test(a_silent_file_system_is_the_least_of_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
