/*
 * Goal:   a request is read in one way only, or refused; no input is beyond the bounds.
 * Method: good requests cut at every place, and one row per refusal with its status.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/net/http_parser.h"

static struct http_parser parser;

static int
set_up(void **state)
{
    (void)state;
    http_parser_init(&parser);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    http_parser_fini(&parser);
    return 0;
}

static int
feed(const char *data, size_t len)
{
    int rc = 0;

    while (len > 0 && rc == 0) {
        rc = http_parser_feed(&parser, &data, &len);
    }
    return rc;
}

/* The parser's answer to a text that comes in one piece. */
static int
answer_to(const char *text)
{
    http_parser_fini(&parser);
    http_parser_init(&parser);
    return feed(text, strlen(text));
}

static const char POST[] = "POST /switchover?to=b&x=%41+c HTTP/1.1\r\n"
                           "Host: 10.0.0.1:8008\r\n"
                           "authorization:  Hawser t=1 \t\r\n"
                           "X-Empty:\r\n"
                           "Content-Length: 5\r\n"
                           "\r\n"
                           "hello";

static void
assert_post(void)
{
    const struct http_request *request = &parser.request;

    assert_int_equal(request->method, HTTP_METHOD_POST);
    assert_string_equal(request->method_text, "POST");
    assert_string_equal(request->target, "/switchover?to=b&x=%41+c");
    assert_string_equal(request->path, "/switchover");
    assert_string_equal(request->query, "to=b&x=%41+c");
    assert_string_equal(http_request_header(request, "Authorization"), "Hawser t=1");
    assert_string_equal(http_request_header(request, "x-empty"), "");
    assert_null(http_request_header(request, "x-other"));
    assert_true(request->has_length);
    assert_int_equal(request->body_len, 5);
    assert_string_equal(request->body, "hello");
    assert_false(request->is_keep_alive);
}

static void
a_request_cut_anywhere_is_the_same_request(void **state)
{
    const size_t len = sizeof POST - 1;

    (void)state;
    for (size_t cut = 1; cut < len; cut++) {
        http_parser_fini(&parser);
        http_parser_init(&parser);
        assert_int_equal(feed(POST, cut), 0);
        assert_true(http_parser_is_inside(&parser));
        assert_int_equal(feed(POST + cut, len - cut), 1);
        assert_false(http_parser_is_inside(&parser));
        assert_post();
    }
    http_parser_fini(&parser);
    http_parser_init(&parser);
    for (size_t i = 0; i < len; i++) {
        assert_int_equal(feed(POST + i, 1), i + 1 < len ? 0 : 1);
    }
    assert_post();
}

static void
requests_one_after_the_other_are_parted(void **state)
{
    static const char two[] = "GET /a HTTP/1.1\r\nHost: x\r\nConnection: Keep-Alive\r\n\r\n"
                              "POST /b HTTP/1.0\r\nContent-Length: 2\r\n\r\nok"
                              "GET /c HTTP/1.1\r\nHost: x\r\n\r\n";
    const char *data = two;
    size_t len = sizeof two - 1;

    (void)state;
    assert_int_equal(http_parser_feed(&parser, &data, &len), 1);
    assert_string_equal(parser.request.path, "/a");
    assert_true(parser.request.is_keep_alive);
    assert_false(parser.request.has_length);
    assert_string_equal(parser.request.body, "");
    assert_int_equal(http_parser_feed(&parser, &data, &len), 1);
    assert_string_equal(parser.request.path, "/b");
    assert_string_equal(parser.request.body, "ok");
    assert_string_equal(parser.request.query, "");
    assert_int_equal(http_parser_feed(&parser, &data, &len), 1);
    assert_string_equal(parser.request.path, "/c");
    assert_int_equal(len, 0);
    assert_int_equal(http_parser_feed(&parser, &data, &len), 0);
    assert_false(http_parser_is_inside(&parser));
}

static void
what_could_be_read_in_two_ways_is_refused(void **state)
{
    static const struct {
        int status;
        const char *text;
    } rows[] = {
        {400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"},
        {400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"},
        {400,
         "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0"},
        {400,
         "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0"},
        {411, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\nhello"},
        {400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\nhello"},
        {400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\nhello"},
        {400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nX: y\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n"},
        {400, "GET / HTTP/1.1\nHost: x\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\r\nX: a\x01z\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost x\r\n\r\n"},
        {400, "GET http://elsewhere/ HTTP/1.1\r\nHost: x\r\n\r\n"},
        {400, "\r\n\r\n"},
        {400, "\x16\x03\x01"},
        {400, "get / HTTP/1.1\r\nHost: x\r\n\r\n"},
        {413, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n"},
        {501, "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n"},
        {501, "TRACE / HTTP/1.1\r\nHost: x\r\n\r\n"},
        {501, "BREW / HTTP/1.1\r\nHost: x\r\n\r\n"},
        {505, "GET / HTTP/2.0\r\nHost: x\r\n\r\n"},
        {505, "GET / HTTP/0.9\r\nHost: x\r\n\r\n"},
    };

    (void)state;
    for (size_t i = 0; i < HA_COUNT_OF(rows); i++) {
        const int rc = answer_to(rows[i].text);
        if (rc != rows[i].status) {
            fail_msg("%d instead of %d for: %s", rc, rows[i].status, rows[i].text);
        }
        /* What failed once stays failed. */
        assert_int_equal(feed("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27), rows[i].status);
    }
}

static void
a_nul_in_the_head_is_refused(void **state)
{
    static const char text[] = "GET / HTTP/1.1\r\nHost: x\0y\r\n\r\n";

    (void)state;
    assert_int_equal(feed(text, sizeof text - 1), 400);
}

static void
heads_and_bodies_are_bounded(void **state)
{
    static char text[HTTP_HEAD_MAX + HTTP_BODY_MAX + 1];
    int n;

    (void)state;
    /* A header that never ends. */
    n = snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: x\r\nX: ");
    memset(text + n, 'a', HTTP_HEAD_MAX - (size_t)n - 1);
    assert_int_equal(feed(text, HTTP_HEAD_MAX - 1), 0);
    assert_int_equal(feed("a", 1), 431);

    /* A head of exactly the bound. */
    memcpy(text + HTTP_HEAD_MAX - 4, "\r\n\r\n", 5);
    assert_int_equal(answer_to(text), 1);

    /* A target beyond its bound, and one at it. */
    n = snprintf(text, sizeof text, "GET /");
    memset(text + n, 'p', HTTP_TARGET_MAX);
    (void)snprintf(text + 5 + HTTP_TARGET_MAX, 64, " HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(answer_to(text), 414);
    (void)snprintf(text + 4 + HTTP_TARGET_MAX, 64, " HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(answer_to(text), 1);
    assert_int_equal(strlen(parser.request.path), HTTP_TARGET_MAX);

    /* More headers than there is room for, and as many. */
    for (int extra = 0; extra < 2; extra++) {
        n = snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: x\r\n");
        for (int i = 1; i < HTTP_HEADERS_MAX + extra; i++) {
            n += snprintf(text + n, sizeof text - (size_t)n, "X-%d: y\r\n", i);
        }
        (void)snprintf(text + n, sizeof text - (size_t)n, "\r\n");
        assert_int_equal(answer_to(text), extra == 0 ? 1 : 431);
    }

    /* The largest body. */
    n = snprintf(text,
                 sizeof text,
                 "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n",
                 HTTP_BODY_MAX);
    memset(text + n, 'b', HTTP_BODY_MAX);
    text[n + HTTP_BODY_MAX] = '\0';
    assert_int_equal(answer_to(text), 1);
    assert_int_equal(parser.request.body_len, HTTP_BODY_MAX);
}

static void
an_offer_to_upgrade_is_passed_over(void **state)
{
    (void)state;
    assert_int_equal(
        answer_to("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
                  "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAA\r\n\r\n"),
        1);
    assert_false(parser.request.is_keep_alive);
    assert_int_equal(answer_to("OPTIONS * HTTP/1.0\r\n\r\n"), 1);
    assert_string_equal(parser.request.path, "*");
}

static void
only_a_get_is_kept_alive_and_only_when_asked(void **state)
{
    (void)state;
    assert_int_equal(answer_to("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), 1);
    assert_false(parser.request.is_keep_alive);
    assert_int_equal(answer_to("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), 1);
    assert_false(parser.request.is_keep_alive);
    assert_int_equal(answer_to("POST / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"), 1);
    assert_false(parser.request.is_keep_alive);
    assert_int_equal(answer_to("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), 1);
    assert_true(parser.request.is_keep_alive);
}

static void
a_query_is_decoded_or_refused(void **state)
{
    static const struct {
        const char *query;
        const char *value; /* NULL: there is none */
    } rows[] = {
        {"lag=10MB", "10MB"},
        {"a=b&lag=1", "1"},
        {"lag", ""},
        {"lag=", ""},
        {"lag=%31%4d+b", "1M b"},
        {"lag=a=b", "a=b"},
        {"lagx=1&xlag=2", NULL},
        {"", NULL},
        {"&&&", NULL},
        {"lag=%", NULL},
        {"lag=%4", NULL},
        {"lag=%4g", NULL},
        {"lag=%00", NULL},
        {"lag=12345678", NULL},
        {"lag=1234567", "1234567"},
    };
    char out[8];

    (void)state;
    for (size_t i = 0; i < HA_COUNT_OF(rows); i++) {
        memset(out, 'x', sizeof out);
        assert_int_equal(http_query_get(rows[i].query, "lag", out, sizeof out),
                         rows[i].value != NULL);
        assert_string_equal(out, rows[i].value == NULL ? "" : rows[i].value);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            a_request_cut_anywhere_is_the_same_request, set_up, tear_down),
        cmocka_unit_test_setup_teardown(requests_one_after_the_other_are_parted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            what_could_be_read_in_two_ways_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_nul_in_the_head_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(heads_and_bodies_are_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_offer_to_upgrade_is_passed_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            only_a_get_is_kept_alive_and_only_when_asked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_query_is_decoded_or_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
