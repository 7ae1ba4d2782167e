/*
 * Goal:   a stranger cannot fill the log, and nothing that was held back is forgotten.
 * Method: many lines of one kind on a clock of the test's own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/net/peer_log.h"

static unsigned n_lines;
static char last[128];

static void
on_line(void *data, int level, const char *event, const char *text)
{
    (void)data;
    (void)level;
    n_lines++;
    (void)snprintf(last, sizeof last, "%s: %s", event, text);
}

static void
a_minute_has_one_line_and_then_a_count(void **state)
{
    struct peer_log log = {.write = on_line};

    (void)state;
    n_lines = 0;
    for (uint64_t now = 5; now < 5 + PEER_LOG_WINDOW_MS; now += 60) {
        peer_log_say(&log, now, PEER_EVENT_NOT_PEER, "from %s", "somewhere");
        peer_log_sweep(&log, now);
    }
    assert_int_equal(n_lines, 1);
    assert_string_equal(last, "peer_stranger: from somewhere");
    peer_log_sweep(&log, 5 + PEER_LOG_WINDOW_MS);
    assert_int_equal(n_lines, 2);
    assert_string_equal(last, "peer_stranger: 999 more like this in the last minute");
    peer_log_sweep(&log, 5 + 3 * PEER_LOG_WINDOW_MS);
    assert_int_equal(n_lines, 2);
}

static void
after_the_minute_the_next_one_is_told_at_once(void **state)
{
    struct peer_log log = {.write = on_line};

    (void)state;
    n_lines = 0;
    peer_log_say(&log, 7, PEER_EVENT_UNLISTED, "one");
    peer_log_say(&log, 8, PEER_EVENT_UNLISTED, "two");
    peer_log_say(&log, 7 + PEER_LOG_WINDOW_MS, PEER_EVENT_UNLISTED, "three");
    assert_int_equal(n_lines, 3); /* one, the count, three */
    assert_string_equal(last, "peer_unlisted: three");
}

static void
kinds_do_not_share_a_budget(void **state)
{
    struct peer_log log = {.write = on_line};

    (void)state;
    n_lines = 0;
    for (int kind = 0; kind < PEER_EVENT_COUNT; kind++) {
        peer_log_say(&log, 9, (enum peer_event)kind, "x");
        assert_int_equal(n_lines, kind + 1);
    }
    /* A whole cluster that restarts is told of, member by member. */
    for (int i = 1; i < 16; i++) {
        peer_log_say(&log, 9, PEER_EVENT_UP, "x");
    }
    assert_int_equal(n_lines, PEER_EVENT_COUNT + 15);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_minute_has_one_line_and_then_a_count),
        cmocka_unit_test(after_the_minute_the_next_one_is_told_at_once),
        cmocka_unit_test(kinds_do_not_share_a_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
