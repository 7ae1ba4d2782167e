/*
 * Goal:   every request gets its one answer, late ones too, and no client can take the server away
 *         from the others.
 * Method: a server on 127.0.0.1 with short time limits, clients on plain sockets beside it in the
 *         same loop. Waits are conditions with a generous deadline.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "agent/net/http.h"

#define DEADLINE_MS 20000
#define BIG_LEN HTTP_ANSWER_MAX

static const struct http_limits LIMITS = {400, 800, 600, 800};

static uv_loop_t loop;
static struct http_server *server;
static bool is_closed;
static size_t n_requests;
static struct http_ticket ticket;
static char last_remote[48];
static char *big;

static void
on_request(void *data, const struct http_request *request, struct http_exchange *exchange)
{
    struct http_answer answer = {.status = 200, .content_type = "text/plain", .headers = NULL};

    (void)data;
    n_requests++;
    memcpy(last_remote, request->remote, sizeof last_remote);
    if (strcmp(request->path, "/later") == 0) {
        ticket = http_defer(exchange);
        return;
    }
    if (strcmp(request->path, "/forgotten") == 0) {
        return;
    }
    answer.body = request->path;
    answer.body_len = strlen(request->path);
    if (strcmp(request->path, "/big") == 0) {
        answer.body = big;
        answer.body_len = BIG_LEN;
    } else if (strcmp(request->path, "/replica") == 0) {
        answer.status = 503;
        answer.headers = "X-Why: not a replica\r\n";
    } else if (request->body_len > 0) {
        answer.body = request->body;
        answer.body_len = request->body_len;
    }
    http_answer(exchange, &answer);
}

static uint64_t
now_ms(void)
{
    return uv_hrtime() / 1000000U;
}

/* Runs the loop until the condition holds; fails the test when it does not in time. */
#define RUN_UNTIL(cond)                                                                            \
    do {                                                                                           \
        const uint64_t limit_ms = now_ms() + DEADLINE_MS;                                          \
        while (!(cond)) {                                                                          \
            if (now_ms() >= limit_ms) {                                                            \
                fail_msg("not in time: %s", #cond);                                                \
            }                                                                                      \
            (void)uv_run(&loop, UV_RUN_NOWAIT);                                                    \
            (void)usleep(500);                                                                     \
        }                                                                                          \
    } while (0)

/* One client: what it got so far. */
struct client {
    int fd;
    bool is_over;  /* the server closed */
    bool is_reset; /* and threw away what was under way */
    size_t len;
    char text[65536];
};

static void
client_open(struct client *client)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(http_port(server))};

    memset(client, 0, sizeof *client);
    (void)inet_pton(AF_INET, "127.0.0.1", &at.sin_addr);
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(client->fd >= 0);
    assert_int_equal(connect(client->fd, (const struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(fcntl(client->fd, F_SETFL, O_NONBLOCK), 0);
}

static void
client_close(struct client *client)
{
    (void)close(client->fd);
}

static void
client_send(struct client *client, const char *text)
{
    size_t left = strlen(text);

    while (left > 0) {
        const ssize_t n = send(client->fd, text, left, MSG_NOSIGNAL);
        assert_true(n > 0 || errno == EAGAIN || errno == EPIPE || errno == ECONNRESET);
        if (n < 0 && errno != EAGAIN) {
            client->is_reset = true;
            return;
        }
        text += n > 0 ? n : 0;
        left -= n > 0 ? (size_t)n : 0;
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    }
}

/* Takes what is there; true when the server closed the connection. */
static bool
client_poll(struct client *client)
{
    while (!client->is_over) {
        const size_t room = sizeof client->text - 1 - client->len;
        const ssize_t n = recv(client->fd, client->text + client->len, room, 0);
        if (n < 0 && errno == EAGAIN) {
            return false;
        }
        if (n <= 0) {
            client->is_over = true;
            client->is_reset = client->is_reset || n < 0;
        } else {
            client->len += (size_t)n;
            client->text[client->len] = '\0';
        }
    }
    return true;
}

/* How often `what` is in what came so far. */
static size_t
client_count(struct client *client, const char *what)
{
    size_t n = 0;

    (void)client_poll(client);
    for (const char *at = client->text; (at = strstr(at, what)) != NULL; at++) {
        n++;
    }
    return n;
}

/* Sends a request and waits until the server has answered and closed. */
static void
ask(struct client *client, const char *text)
{
    client_open(client);
    client_send(client, text);
    RUN_UNTIL(client_poll(client));
    client_close(client);
}

static bool
begins_with(const struct client *client, const char *text)
{
    return strncmp(client->text, text, strlen(text)) == 0;
}

static void
a_request_is_answered_and_the_connection_closed(void **state)
{
    struct client c;

    (void)state;
    ask(&c, "GET /health?x=1 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(begins_with(&c, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(c.text, "Content-Type: text/plain\r\n"));
    assert_non_null(strstr(c.text, "Content-Length: 7\r\n"));
    assert_non_null(strstr(c.text, "Connection: close\r\n"));
    assert_non_null(strstr(c.text, "\r\n\r\n/health"));
    assert_string_equal(last_remote, "127.0.0.1");
    ask(&c, "GET /replica HTTP/1.0\r\n\r\n");
    assert_true(begins_with(&c, "HTTP/1.1 503 Service Unavailable\r\n"));
    assert_non_null(strstr(c.text, "X-Why: not a replica\r\n"));
    ask(&c, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello and more than was said");
    assert_non_null(strstr(c.text, "\r\n\r\nhello"));
    assert_int_equal(client_count(&c, "HTTP/1.1"), 1);
}

static void
head_and_options_get_no_body(void **state)
{
    struct client c;

    (void)state;
    ask(&c, "HEAD /replica HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(begins_with(&c, "HTTP/1.1 503 "));
    assert_non_null(strstr(c.text, "Content-Length: 8\r\n"));
    assert_string_equal(c.text + c.len - 4, "\r\n\r\n");
    ask(&c, "OPTIONS / HTTP/1.0\r\n\r\n");
    assert_true(begins_with(&c, "HTTP/1.1 200 "));
    assert_non_null(strstr(c.text, "Content-Length: 0\r\n"));
    assert_null(strstr(c.text, "\r\nContent-Type:"));
    assert_string_equal(c.text + c.len - 4, "\r\n\r\n");
}

static void
a_handler_that_says_nothing_is_500(void **state)
{
    struct client c;

    (void)state;
    ask(&c, "GET /forgotten HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(begins_with(&c, "HTTP/1.1 500 "));
}

static void
a_bad_request_is_told_and_reaches_no_handler(void **state)
{
    static const char long_post[] = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 199000\r\n\r\n";
    static const char long_head[] = "GET / HTTP/1.1\r\nHost: x\r\nX: ";
    static char many[200000];
    struct client c;
    const size_t before = n_requests;

    (void)state;
    ask(&c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab");
    assert_true(begins_with(&c, "HTTP/1.1 400 "));
    ask(&c,
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: "
        "chunked\r\n\r\n0\r\n");
    assert_true(begins_with(&c, "HTTP/1.1 400 "));
    ask(&c, "\x16\x03\x01");
    assert_true(begins_with(&c, "HTTP/1.1 400 "));
    /* Much is still under way when the answer is given: it gets there all the same. */
    memset(many, 'x', sizeof many - 1);
    memcpy(many, long_post, sizeof long_post - 1);
    ask(&c, many);
    assert_true(begins_with(&c, "HTTP/1.1 413 "));
    assert_false(c.is_reset);
    memset(many, 'x', sizeof many - 1);
    memcpy(many, long_head, sizeof long_head - 1);
    ask(&c, many);
    assert_true(begins_with(&c, "HTTP/1.1 431 "));
    assert_false(c.is_reset);
    assert_int_equal(n_requests, before);
}

static void
requests_in_a_row_are_answered_in_order(void **state)
{
    struct client c;
    const uint64_t ticket_before = ticket.number;

    (void)state;
    client_open(&c);
    client_send(&c,
                "GET /one HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"
                "GET /later HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"
                "GET /three HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\nGET /fo");
    RUN_UNTIL(ticket.number != ticket_before);
    RUN_UNTIL(client_count(&c, "HTTP/1.1 200") == 1);
    const struct http_answer answer = {.status = 200, .body = "/two", .body_len = 4};
    assert_true(http_finish(server, ticket, &answer));
    RUN_UNTIL(client_count(&c, "HTTP/1.1 200") == 3);
    client_send(&c, "ur HTTP/1.1\r\nHost: x\r\n\r\nGET /five HTTP/1.1\r\nHost: x\r\n\r\n");
    RUN_UNTIL(client_poll(&c));
    client_close(&c);
    assert_int_equal(client_count(&c, "HTTP/1.1 200"), 4);
    const char *one = strstr(c.text, "\r\n\r\n/one");
    const char *two = strstr(c.text, "\r\n\r\n/two");
    const char *three = strstr(c.text, "\r\n\r\n/three");
    const char *four = strstr(c.text, "\r\n\r\n/four");
    assert_true(one != NULL && two > one && three > two && four > three);
    assert_null(strstr(c.text, "/five"));
}

static void
a_late_answer_is_given_once_and_to_nobody_else(void **state)
{
    const struct http_answer answer = {.status = 202, .body = "done", .body_len = 4};
    struct client c;
    struct client other;
    const uint64_t ticket_before = ticket.number;

    (void)state;
    client_open(&c);
    client_send(&c, "POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    RUN_UNTIL(ticket.number != ticket_before);
    ask(&other, "GET /meanwhile HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(begins_with(&other, "HTTP/1.1 200 "));
    assert_true(http_finish(server, ticket, &answer));
    assert_false(http_finish(server, ticket, &answer));
    RUN_UNTIL(client_poll(&c));
    client_close(&c);
    assert_true(begins_with(&c, "HTTP/1.1 202 "));
    assert_non_null(strstr(c.text, "\r\n\r\ndone"));
    assert_false(http_finish(server, ticket, &answer));
}

static void
a_client_that_left_is_no_harm_to_its_late_answer(void **state)
{
    const struct http_answer answer = {.status = 200, .body = big, .body_len = BIG_LEN};
    struct client c;
    const uint64_t ticket_before = ticket.number;

    (void)state;
    client_open(&c);
    client_send(&c, "POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    RUN_UNTIL(ticket.number != ticket_before);
    client_close(&c);
    (void)http_finish(server, ticket, &answer);
    ask(&c, "GET /still HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(begins_with(&c, "HTTP/1.1 200 "));
    assert_false(http_finish(server, ticket, &answer));
}

static void
an_answer_that_never_comes_is_504(void **state)
{
    const struct http_answer answer = {.status = 200};
    struct client c;

    (void)state;
    ask(&c, "POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert_true(begins_with(&c, "HTTP/1.1 504 "));
    assert_false(http_finish(server, ticket, &answer));
}

static void
slow_clients_are_sent_away_in_time(void **state)
{
    static struct client idle;
    static struct client head;
    static struct client body;
    static struct client reader;
    const uint64_t begin_ms = now_ms();

    (void)state;
    client_open(&idle);
    client_open(&head);
    client_open(&body);
    client_open(&reader);
    client_send(&body, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
    client_send(&reader, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    client_send(&head, "GET / HTTP/1.1\r\nX: ");
    /* Bytes that trickle in do not buy time. */
    while (!client_poll(&head) || !client_poll(&body)) {
        assert_true(now_ms() < begin_ms + DEADLINE_MS);
        (void)send(head.fd, "x", 1, MSG_NOSIGNAL);
        (void)send(body.fd, "x", 1, MSG_NOSIGNAL);
        const uint64_t next_ms = now_ms() + 50;
        RUN_UNTIL(now_ms() >= next_ms);
    }
    assert_true(begins_with(&head, "HTTP/1.1 408 "));
    assert_true(begins_with(&body, "HTTP/1.1 408 "));
    assert_true(client_poll(&idle));
    assert_int_equal(idle.len, 0);
    /* The one that never read its answer got less than all of it. */
    RUN_UNTIL(now_ms() >= begin_ms + LIMITS.write_ms + 500);
    size_t len = 0;
    ssize_t n;
    while ((n = recv(reader.fd, reader.text, sizeof reader.text, 0)) > 0) {
        len += (size_t)n;
    }
    assert_true(n == 0 || errno == ECONNRESET);
    assert_true(len < BIG_LEN);
    client_close(&idle);
    client_close(&head);
    client_close(&body);
    client_close(&reader);
}

static void
a_crowd_of_idle_clients_keeps_nobody_out(void **state)
{
    static struct client crowd[3 * HTTP_CONNECTIONS_MAX];
    static struct client late[HTTP_CONNECTIONS_MAX];
    struct client c;

    (void)state;
    for (size_t i = 0; i < HA_COUNT_OF(crowd); i++) {
        client_open(&crowd[i]);
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    }
    ask(&c, "GET /primary HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(begins_with(&c, "HTTP/1.1 200 "));
    RUN_UNTIL(client_poll(&crowd[0]));

    /* When all places are at work the newcomer is the one that goes; then it is all right again. */
    const size_t before = n_requests;
    for (size_t i = 0; i < HA_COUNT_OF(late); i++) {
        client_open(&late[i]);
        client_send(&late[i], "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
        RUN_UNTIL(n_requests == before + i + 1);
    }
    ask(&c, "GET /primary HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(c.len, 0);
    for (size_t i = 0; i < HA_COUNT_OF(late); i++) {
        RUN_UNTIL(client_poll(&late[i]));
        assert_true(begins_with(&late[i], "HTTP/1.1 504 "));
        client_close(&late[i]);
    }
    ask(&c, "GET /primary HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(begins_with(&c, "HTTP/1.1 200 "));
    for (size_t i = 0; i < HA_COUNT_OF(crowd); i++) {
        client_close(&crowd[i]);
    }
}

static void
a_big_answer_arrives_whole(void **state)
{
    struct client c;
    size_t len = 0;
    ssize_t n = 0;

    (void)state;
    client_open(&c);
    client_send(&c, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    do {
        (void)uv_run(&loop, UV_RUN_NOWAIT);
        n = recv(c.fd, c.text, sizeof c.text, 0);
        len += n > 0 ? (size_t)n : 0;
    } while (n > 0 || (n < 0 && errno == EAGAIN));
    assert_int_equal(n, 0);
    assert_true(len > BIG_LEN && len < BIG_LEN + 500);
    client_close(&c);
}

static void
a_port_in_use_is_told(void **state)
{
    const struct http_config config = {
        .loop = &loop, .host = "127.0.0.1", .port = http_port(server), .on_request = on_request};
    const struct http_config nowhere = {
        .loop = &loop, .host = "somewhere", .port = 1, .on_request = on_request};
    struct http_server *other = NULL;
    struct err err = {0};

    (void)state;
    assert_int_equal(http_open(&config, &other, &err), HA_EBUSY);
    assert_non_null(strstr(err.text, "127.0.0.1"));
    assert_int_equal(http_open(&nowhere, &other, &err), HA_EINVAL);
}

static void
closing_drops_everybody(void **state)
{
    /* The group's tear-down closes the server while these are open. */
    static struct client c[3];
    const uint64_t ticket_before = ticket.number;

    (void)state;
    for (int i = 0; i < 3; i++) {
        client_open(&c[i]);
    }
    client_send(&c[1], "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
    client_send(&c[2], "GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    RUN_UNTIL(ticket.number != ticket_before);
}

static void
on_closed(void *data)
{
    (void)data;
    is_closed = true;
}

static int
set_up(void **state)
{
    struct err err = {0};
    const struct http_config config = {
        .loop = &loop, .host = "127.0.0.1", .limits = &LIMITS, .on_request = on_request};

    (void)state;
    big = calloc(1, BIG_LEN);
    return big == NULL || uv_loop_init(&loop) != 0 || http_open(&config, &server, &err) != HA_OK;
}

static int
tear_down(void **state)
{
    (void)state;
    http_close(server, on_closed, NULL);
    while (!is_closed) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
    (void)uv_run(&loop, UV_RUN_NOWAIT);
    free(big);
    return uv_loop_close(&loop); /* fails while a handle is left */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_answered_and_the_connection_closed),
        cmocka_unit_test(head_and_options_get_no_body),
        cmocka_unit_test(a_handler_that_says_nothing_is_500),
        cmocka_unit_test(a_bad_request_is_told_and_reaches_no_handler),
        cmocka_unit_test(requests_in_a_row_are_answered_in_order),
        cmocka_unit_test(a_late_answer_is_given_once_and_to_nobody_else),
        cmocka_unit_test(a_client_that_left_is_no_harm_to_its_late_answer),
        cmocka_unit_test(an_answer_that_never_comes_is_504),
        cmocka_unit_test(slow_clients_are_sent_away_in_time),
        cmocka_unit_test(a_crowd_of_idle_clients_keeps_nobody_out),
        cmocka_unit_test(a_big_answer_arrives_whole),
        cmocka_unit_test(a_port_in_use_is_told),
        cmocka_unit_test(closing_drops_everybody),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
