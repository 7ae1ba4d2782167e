/*
 * Connections of the HTTP server. An exchange is one connection with the request that it is busy
 * with: READING -> HANDLING -> (DEFERRED ->) WRITING -> READING again, or LINGERING -> CLOSING.
 */
#include "agent/net/http.h"

#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/net/http_head.h"
#include "agent/net/http_parser.h"
#include "agent/net/listen.h"

#define SWEEP_MS 100
#define LINGER_MS 1000 /* for a client to read the answer while it still sends */
#define LOG_EVERY_MS 60000
#define LEVEL_ERROR 0

static const struct http_limits LIMITS_DEFAULT = {5000, 10000, 60000, 10000};

enum exchange_state {
    EXCHANGE_READING = 0,
    EXCHANGE_HANDLING, /* inside on_request */
    EXCHANGE_DEFERRED,
    EXCHANGE_WRITING,
    EXCHANGE_LINGERING, /* answered and shut down; what still comes is thrown away */
    EXCHANGE_CLOSING,
};

struct http_exchange {
    uv_tcp_t tcp;
    uv_shutdown_t shutdown;
    struct http_server *server;
    struct http_exchange *next; /* newest first */
    struct http_exchange *previous;
    enum exchange_state state;
    uint64_t since_ms; /* in this state */
    uint64_t ticket;   /* while DEFERRED */
    bool is_keep_alive;
    struct http_parser parser;
    char *rest; /* bytes of the next request that came along with this one */
    size_t rest_len;
    char remote[48];
};

struct http_server {
    struct http_config config;
    struct http_limits limits;
    uv_tcp_t listening;
    uv_timer_t timer;
    uint16_t port;
    struct http_exchange *exchanges; /* none of them closing */
    size_t n_exchanges;
    size_t n_handles; /* not yet closed */
    uint64_t n_tickets;
    uint64_t logged_ms;
    bool is_closing;
    void (*closed)(void *data);
    void *closed_data;
    char bytes[65536]; /* as read; used up before the read callback ends */
};

struct write_request {
    uv_write_t write;
    struct http_exchange *exchange;
    char data[];
};

static uint64_t
server_now(const struct http_server *server)
{
    return uv_now(server->config.loop);
}

static void
move(struct http_exchange *exchange, enum exchange_state state)
{
    exchange->state = state;
    exchange->since_ms = server_now(exchange->server);
}

static void
release_handle(struct http_server *server)
{
    ENSURE(server->n_handles > 0, "every handle is counted");
    server->n_handles--;
    if (server->n_handles > 0) {
        return;
    }
    void (*closed)(void *data) = server->closed;
    void *data = server->closed_data;
    free(server);
    if (closed != NULL) {
        closed(data);
    }
}

static void
after_close(uv_handle_t *handle)
{
    struct http_exchange *exchange = handle->data;
    struct http_server *server = exchange->server;

    http_parser_fini(&exchange->parser);
    free(exchange->rest);
    free(exchange);
    release_handle(server);
}

static void
close_exchange(struct http_exchange *exchange)
{
    struct http_server *server = exchange->server;

    if (exchange->state == EXCHANGE_CLOSING) {
        return;
    }
    move(exchange, EXCHANGE_CLOSING);
    if (exchange->previous != NULL) {
        exchange->previous->next = exchange->next;
    } else {
        server->exchanges = exchange->next;
    }
    if (exchange->next != NULL) {
        exchange->next->previous = exchange->previous;
    }
    server->n_exchanges--;
    uv_close((uv_handle_t *)&exchange->tcp, after_close);
}

static void consume(struct http_exchange *exchange, const char *data, size_t len);
static void start_reading(struct http_exchange *exchange);

static void
after_shutdown(uv_shutdown_t *request, int status)
{
    struct http_exchange *exchange = request->data;

    if (status < 0) {
        close_exchange(exchange);
    }
}

/* The answer is out: on with the next request, or to the end. */
static void
after_write(uv_write_t *write, int status)
{
    struct write_request *request = write->data;
    struct http_exchange *exchange = request->exchange;

    free(request);
    if (exchange->state == EXCHANGE_CLOSING) {
        return;
    }
    if (status < 0) {
        close_exchange(exchange);
        return;
    }
    if (!exchange->is_keep_alive) {
        /* A plain close with unread bytes would be a reset, which can overtake the answer. */
        move(exchange, EXCHANGE_LINGERING);
        exchange->shutdown.data = exchange;
        if (uv_shutdown(&exchange->shutdown, (uv_stream_t *)&exchange->tcp, after_shutdown) != 0) {
            close_exchange(exchange);
            return;
        }
        start_reading(exchange);
        return;
    }
    move(exchange, EXCHANGE_READING);
    char *rest = exchange->rest;
    exchange->rest = NULL;
    if (rest != NULL) {
        consume(exchange, rest, exchange->rest_len);
        free(rest);
    }
    if (exchange->state == EXCHANGE_READING) {
        start_reading(exchange);
    }
}

/* Sends an answer; there is one write at a time on a connection. */
static void
write_answer(struct http_exchange *exchange, const struct http_answer *answer)
{
    const enum http_method method = exchange->parser.request.method;
    const bool is_bare = method == HTTP_METHOD_HEAD || method == HTTP_METHOD_OPTIONS;
    const bool is_keep_alive = exchange->is_keep_alive;
    const size_t head_len = http_format_head(answer, method, is_keep_alive, NULL, 0);
    const size_t body_len = is_bare ? 0 : answer->body_len;

    REQUIRE(answer->body_len <= HTTP_ANSWER_MAX, "an answer is bounded");
    struct write_request *request = malloc(sizeof *request + head_len + 1 + body_len);
    if (request == NULL) {
        close_exchange(exchange);
        return;
    }
    (void)http_format_head(answer, method, is_keep_alive, request->data, head_len + 1);
    if (body_len > 0) {
        memcpy(request->data + head_len, answer->body, body_len);
    }
    move(exchange, EXCHANGE_WRITING);
    request->exchange = exchange;
    request->write.data = request;
    uv_buf_t buf = uv_buf_init(request->data, (unsigned)(head_len + body_len));
    if (uv_write(&request->write, (uv_stream_t *)&exchange->tcp, &buf, 1, after_write) != 0) {
        free(request);
        close_exchange(exchange);
    }
}

/* An answer of the server itself. */
static void
answer_plainly(struct http_exchange *exchange, int status)
{
    char text[64];
    const int n = snprintf(text, sizeof text, "%d %s\n", status, http_reason(status));
    const struct http_answer answer = {
        .status = status,
        .content_type = "text/plain; charset=utf-8",
        .body = text,
        .body_len = (size_t)n,
    };

    write_answer(exchange, &answer);
}

void
http_answer(struct http_exchange *exchange, const struct http_answer *answer)
{
    if (exchange->state == EXCHANGE_CLOSING) {
        return; /* the server was closed meanwhile */
    }
    REQUIRE(exchange->state == EXCHANGE_HANDLING, "a request is answered once");
    write_answer(exchange, answer);
}

struct http_ticket
http_defer(struct http_exchange *exchange)
{
    struct http_ticket ticket = {++exchange->server->n_tickets};

    if (exchange->state != EXCHANGE_CLOSING) {
        REQUIRE(exchange->state == EXCHANGE_HANDLING, "a request is answered once");
        exchange->ticket = ticket.number;
        move(exchange, EXCHANGE_DEFERRED);
    }
    return ticket;
}

bool
http_finish(struct http_server *server, struct http_ticket ticket, const struct http_answer *answer)
{
    for (struct http_exchange *e = server->exchanges; e != NULL; e = e->next) {
        if (e->state == EXCHANGE_DEFERRED && e->ticket == ticket.number) {
            write_answer(e, answer);
            return true;
        }
    }
    return false;
}

/* A request is complete: nothing more is read until it is answered. */
static void
handle(struct http_exchange *exchange, const char *rest, size_t rest_len)
{
    struct http_server *server = exchange->server;
    struct http_request *request = &exchange->parser.request;

    exchange->is_keep_alive = request->is_keep_alive;
    if (exchange->is_keep_alive && rest_len > 0) {
        exchange->rest = malloc(rest_len);
        if (exchange->rest == NULL) {
            close_exchange(exchange);
            return;
        }
        memcpy(exchange->rest, rest, rest_len);
        exchange->rest_len = rest_len;
    }
    memcpy(request->remote, exchange->remote, sizeof request->remote);
    move(exchange, EXCHANGE_HANDLING);
    server->config.on_request(server->config.data, request, exchange);
    if (exchange->state == EXCHANGE_HANDLING) {
        answer_plainly(exchange, 500);
    }
}

static void
consume(struct http_exchange *exchange, const char *data, size_t len)
{
    const int rc = http_parser_feed(&exchange->parser, &data, &len);

    if (rc == 0) {
        return;
    }
    (void)uv_read_stop((uv_stream_t *)&exchange->tcp);
    if (rc == 1) {
        handle(exchange, data, len);
        return;
    }
    exchange->is_keep_alive = false;
    answer_plainly(exchange, rc);
}

static void
give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct http_exchange *exchange = handle->data;

    (void)suggested;
    *buf = uv_buf_init(exchange->server->bytes, sizeof exchange->server->bytes);
}

static void
after_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct http_exchange *exchange = stream->data;

    if (n < 0) {
        close_exchange(exchange);
    } else if (n > 0 && exchange->state == EXCHANGE_READING) {
        consume(exchange, buf->base, (size_t)n);
    }
}

static void
start_reading(struct http_exchange *exchange)
{
    if (uv_read_start((uv_stream_t *)&exchange->tcp, give_buffer, after_read) != 0) {
        close_exchange(exchange);
    }
}

/* The connection without a request that waited longest; NULL when all are at work. */
static struct http_exchange *
find_idle(struct http_server *server)
{
    struct http_exchange *idle = NULL;

    for (struct http_exchange *e = server->exchanges; e != NULL; e = e->next) {
        if ((e->state == EXCHANGE_READING || e->state == EXCHANGE_LINGERING) &&
            (idle == NULL || e->since_ms <= idle->since_ms)) {
            idle = e;
        }
    }
    return idle;
}

static void
log_failure(struct http_server *server, int status)
{
    const uint64_t now = server_now(server);

    if (server->config.on_log == NULL ||
        (server->logged_ms != 0 && now - server->logged_ms < LOG_EVERY_MS)) {
        return;
    }
    server->logged_ms = now == 0 ? 1 : now;
    server->config.on_log(
        server->config.data, LEVEL_ERROR, "http_accept_failed", uv_strerror(status));
}

static void
add_exchange(struct http_server *server, struct http_exchange *exchange)
{
    exchange->server = server;
    exchange->tcp.data = exchange;
    http_parser_init(&exchange->parser);
    exchange->next = server->exchanges;
    if (exchange->next != NULL) {
        exchange->next->previous = exchange;
    }
    server->exchanges = exchange;
    server->n_exchanges++;
    server->n_handles++;
    move(exchange, EXCHANGE_READING);
}

static void
after_knock(uv_stream_t *stream, int status)
{
    struct http_server *server = stream->data;

    if (server->is_closing) {
        return;
    }
    if (status < 0) {
        log_failure(server, status);
        return;
    }
    struct http_exchange *idle =
        server->n_exchanges < HTTP_CONNECTIONS_MAX ? NULL : find_idle(server);
    const bool is_full = server->n_exchanges >= HTTP_CONNECTIONS_MAX && idle == NULL;
    struct http_exchange *exchange = calloc(1, sizeof *exchange);
    REQUIRE(exchange != NULL, "memory for a connection");
    int rc = uv_tcp_init(server->config.loop, &exchange->tcp);
    ENSURE(rc == 0, "a handle without a socket cannot fail");
    add_exchange(server, exchange);
    rc = uv_accept(stream, (uv_stream_t *)&exchange->tcp);
    if (rc != 0 || is_full) {
        close_exchange(exchange);
        return;
    }
    if (idle != NULL) {
        close_exchange(idle);
    }
    (void)uv_tcp_nodelay(&exchange->tcp, 1);
    listen_remote(&exchange->tcp, exchange->remote, sizeof exchange->remote);
    start_reading(exchange);
}

/* A request that is not complete in time: told, where there is one. */
static void
sweep_reading(struct http_exchange *exchange, uint64_t age_ms)
{
    const struct http_limits *limits = &exchange->server->limits;

    if (age_ms < (exchange->parser.has_head ? limits->body_ms : limits->head_ms)) {
        return;
    }
    if (!http_parser_is_inside(&exchange->parser)) {
        close_exchange(exchange);
        return;
    }
    (void)uv_read_stop((uv_stream_t *)&exchange->tcp);
    exchange->is_keep_alive = false;
    answer_plainly(exchange, 408);
}

static void
sweep_exchange(struct http_exchange *exchange, uint64_t age_ms)
{
    const struct http_limits *limits = &exchange->server->limits;

    switch (exchange->state) {
    case EXCHANGE_READING:
        sweep_reading(exchange, age_ms);
        break;
    case EXCHANGE_DEFERRED:
        if (age_ms >= limits->deferred_ms) {
            answer_plainly(exchange, 504);
        }
        break;
    case EXCHANGE_WRITING:
        if (age_ms >= limits->write_ms) {
            close_exchange(exchange);
        }
        break;
    case EXCHANGE_LINGERING:
        if (age_ms >= LINGER_MS) {
            close_exchange(exchange);
        }
        break;
    case EXCHANGE_HANDLING:
    case EXCHANGE_CLOSING:
    default:
        break;
    }
}

static void
sweep(uv_timer_t *timer)
{
    struct http_server *server = timer->data;
    const uint64_t now = server_now(server);
    struct http_exchange *next = NULL;

    for (struct http_exchange *e = server->exchanges; e != NULL; e = next) {
        next = e->next;
        sweep_exchange(e, now - e->since_ms);
    }
}

int
http_open(const struct http_config *config, struct http_server **out, struct err *err)
{
    struct sockaddr_storage at;
    int len = (int)sizeof at;
    int fd = -1;
    int rc = listen_tcp(config->host, config->port, &fd, err);

    REQUIRE(config->on_request != NULL, "somebody answers");
    if (rc != HA_OK) {
        return rc;
    }
    struct http_server *server = calloc(1, sizeof *server);
    REQUIRE(server != NULL, "memory for the server");
    /* A write to a connection that the client closed must be an error, not the end. */
    (void)signal(SIGPIPE, SIG_IGN);
    server->config = *config;
    server->limits = config->limits != NULL ? *config->limits : LIMITS_DEFAULT;
    server->listening.data = server;
    server->timer.data = server;
    server->n_handles = 2;
    rc = uv_tcp_init(config->loop, &server->listening);
    ENSURE(rc == 0, "a handle without a socket cannot fail");
    rc = uv_tcp_open(&server->listening, fd);
    ENSURE(rc == 0, "the socket is ours and listens");
    rc = uv_listen((uv_stream_t *)&server->listening, 128, after_knock);
    ENSURE(rc == 0, "the socket is ours and listens");
    rc = uv_tcp_getsockname(&server->listening, (struct sockaddr *)&at, &len);
    ENSURE(rc == 0, "a bound socket has a name");
    /* The port is at the same place in both families. */
    struct sockaddr_in v4;
    memcpy(&v4, &at, sizeof v4);
    server->port = ntohs(v4.sin_port);
    rc = uv_timer_init(config->loop, &server->timer);
    ENSURE(rc == 0, "a timer cannot fail");
    rc = uv_timer_start(&server->timer, sweep, SWEEP_MS, SWEEP_MS);
    ENSURE(rc == 0, "a timer that is not closing starts");
    *out = server;
    return HA_OK;
}

static void
after_server_close(uv_handle_t *handle)
{
    release_handle(handle->data);
}

void
http_close(struct http_server *server, void (*closed)(void *data), void *data)
{
    REQUIRE(!server->is_closing, "a server is closed once");
    server->is_closing = true;
    server->closed = closed;
    server->closed_data = data;
    while (server->exchanges != NULL) {
        close_exchange(server->exchanges);
    }
    uv_close((uv_handle_t *)&server->listening, after_server_close);
    uv_close((uv_handle_t *)&server->timer, after_server_close);
}

uint16_t
http_port(const struct http_server *server)
{
    return server->port;
}
