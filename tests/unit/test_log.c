/*
 * Goal:   a reader that stalls costs the caller nothing: lines are lost and counted, the loop runs
 *         on; and one event is always one line, whatever its text holds.
 * Method: a small pipe that nobody reads; every call is timed; then the pipe is emptied and the
 *         lines are counted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <unistd.h>

#include "agent/core/effect.h"
#include "agent/shell/config_env.h"
#include "agent/shell/log.h"

#define LINES 2000
#define CALL_MS_MAX 200 /* a busy machine may take a processor away; a stalled reader takes 1000 */

static int ends[2];

static int64_t
now_ms(void)
{
    struct timespec t;

    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &t), 0);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int
open_pipe(void **state)
{
    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    return pipe2(ends, O_CLOEXEC) != 0 || fcntl(ends[1], F_SETPIPE_SZ, 4096) < 0 ? -1 : 0;
}

static int
close_pipe(void **state)
{
    (void)state;
    (void)close(ends[0]);
    return close(ends[1]);
}

/* Reads until the text has come or the writer is gone; the bytes are NUL-terminated. */
static void
read_until(char *out, size_t size, const char *text)
{
    size_t len = 0;
    ssize_t n = 1;

    out[0] = 0;
    while (n > 0 && len + 1 < size && strstr(out, text) == NULL) {
        n = read(ends[0], out + len, size - len - 1);
        len += n > 0 ? (size_t)n : 0;
        out[len] = 0;
    }
}

static void
a_stalled_reader_does_not_stall_the_caller_and_losses_are_told(void **state)
{
    static char text[512 * 1024];
    struct log_figures figures;
    unsigned long long n_told = 0;
    unsigned n_read = 0;
    const char *told;

    (void)state;
    log_start_on(ends[1], LOG_LEVEL_INFO, LOG_FORMAT_PLAIN, "n1");
    for (unsigned i = 0; i < LINES; i++) {
        const int64_t before = now_ms();

        log_write(LOG_LEVEL_INFO, "test", "line %u of a log that nobody reads", i);
        assert_true(now_ms() - before < CALL_MS_MAX);
    }
    log_get_figures(&figures);
    assert_true(figures.n_lost > 0);
    assert_true(figures.n_queued <= LOG_SLOTS);
    read_until(text, sizeof text, "too slow\n");
    for (const char *at = text; (at = strstr(at, " ev=test ")) != NULL; at++) {
        n_read++;
    }
    told = strstr(text, "warn ev=log_lost ");
    assert_non_null(told);
    n_told = strtoull(told + strlen("warn ev=log_lost "), NULL, 10);
    assert_int_equal(n_told, figures.n_lost);
    assert_int_equal(n_told + n_read, LINES);
    log_stop();
}

static void
the_end_waits_a_second_at_most_for_a_reader_that_stalls(void **state)
{
    int64_t before;

    (void)state;
    log_start_on(ends[1], LOG_LEVEL_INFO, LOG_FORMAT_PLAIN, "n1");
    for (unsigned i = 0; i < LINES; i++) {
        log_write(LOG_LEVEL_INFO, "test", "line %u of a log that nobody reads", i);
    }
    before = now_ms();
    log_stop();
    assert_true(now_ms() - before >= LOG_FLUSH_MS - 50);
    assert_true(now_ms() - before < 3 * LOG_FLUSH_MS);
}

static void
the_end_writes_what_is_queued(void **state)
{
    static char text[64 * 1024];

    (void)state;
    log_start_on(ends[1], LOG_LEVEL_WARN, LOG_FORMAT_PLAIN, "n1");
    log_write(LOG_LEVEL_INFO, "too_low", "this level is not wanted");
    log_write_rule(LOG_LEVEL_WARN, 250, "reign", "last words");
    log_stop();
    read_until(text, sizeof text, "last words\n");
    assert_null(strstr(text, "too_low"));
    assert_non_null(strstr(text, "Z warn ev=reign rule=250 last words\n"));
}

static struct log_line
line_of(const char *text, uint16_t rule)
{
    struct log_line line = {.at = {1795381200, 123456789}, .level = LOG_LEVEL_INFO, .rule = rule};

    (void)snprintf(line.event, sizeof line.event, "reign");
    (void)snprintf(line.text, sizeof line.text, "%s", text);
    return line;
}

static void
a_plain_line_has_its_fields_in_front(void **state)
{
    const struct log_line line = line_of("a\nb \x1b[1m caf\xc3\xa9 \xff", 250);
    char out[LOG_LINE_MAX];
    const size_t len = log_format_line(&line, LOG_FORMAT_PLAIN, "n1", out, sizeof out);

    (void)state;
    out[len] = 0;
    assert_string_equal(out,
                        "2026-11-22T21:00:00.123Z info ev=reign rule=250 "
                        "a\\nb \\x1b[1m caf\xc3\xa9 ?\n");
}

static void
a_json_line_is_json_whatever_the_text_holds(void **state)
{
    char all[256 + 16];
    char out[LOG_LINE_MAX];
    struct log_line line;
    json_t *json;

    (void)state;
    for (unsigned i = 0; i < 255; i++) {
        all[i] = (char)(i + 1);
    }
    memcpy(all + 255, "\xc3\xa9\xed\xa0\x80", 6);
    line = line_of(all, 0);
    const size_t len = log_format_line(&line, LOG_FORMAT_JSON, "n\"1", out, sizeof out);
    assert_int_equal(out[len - 1], '\n');
    assert_ptr_equal(memchr(out, '\n', len), out + len - 1);
    json = json_loadb(out, len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "ts")), "2026-11-22T21:00:00.123Z");
    assert_string_equal(json_string_value(json_object_get(json, "node")), "n\"1");
    assert_string_equal(json_string_value(json_object_get(json, "event")), "reign");
    assert_null(json_object_get(json, "rule"));
    json_decref(json);
}

static void
a_line_of_the_worst_text_still_fits(void **state)
{
    struct log_line line = line_of("", 65535);
    char out[LOG_LINE_MAX];
    json_t *json;
    size_t len;

    (void)state;
    memset(line.text, 1, sizeof line.text - 1);
    len = log_format_line(&line, LOG_FORMAT_JSON, "n1", out, sizeof out);
    json = json_loadb(out, len, 0, NULL);
    assert_non_null(json);
    assert_int_equal(strlen(json_string_value(json_object_get(json, "msg"))), sizeof line.text - 1);
    json_decref(json);
    len = log_format_line(&line, LOG_FORMAT_JSON, "n1", out, 200); /* cut, and still JSON */
    assert_true(len <= 200);
    json = json_loadb(out, len, 0, NULL);
    assert_non_null(json);
    json_decref(json);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            a_stalled_reader_does_not_stall_the_caller_and_losses_are_told, open_pipe, close_pipe),
        cmocka_unit_test_setup_teardown(
            the_end_waits_a_second_at_most_for_a_reader_that_stalls, open_pipe, close_pipe),
        cmocka_unit_test_setup_teardown(the_end_writes_what_is_queued, open_pipe, close_pipe),
        cmocka_unit_test(a_plain_line_has_its_fields_in_front),
        cmocka_unit_test(a_json_line_is_json_whatever_the_text_holds),
        cmocka_unit_test(a_line_of_the_worst_text_still_fits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
