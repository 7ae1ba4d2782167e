/*
 * http.h - a small HTTP/1.1 server on the loop: for people, gateways, hactl.
 *
 * Requests are bounded in size and time, connections in number. Who holds a
 * connection without a request gives way when a new one comes and there is no
 * place, so that nobody can keep a health check out by being slow. An answer
 * is given at once from what is known, or later through a ticket.
 *
 * Threads: the loop's only. on_request never runs inside a call of this header.
 * Memory:  a request is borrowed for the call; answers are copied.
 */
#ifndef HA_NET_HTTP_H
#define HA_NET_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"

#define HTTP_HEAD_MAX 16384
#define HTTP_TARGET_MAX 2048
#define HTTP_HEADERS_MAX 64
#define HTTP_BODY_MAX 65536
#define HTTP_ANSWER_MAX (4 * 1024 * 1024)
#define HTTP_CONNECTIONS_MAX 64

enum http_method {
    HTTP_METHOD_GET = 0,
    HTTP_METHOD_HEAD,
    HTTP_METHOD_OPTIONS,
    HTTP_METHOD_POST,
    HTTP_METHOD_PUT,
    HTTP_METHOD_PATCH,
    HTTP_METHOD_DELETE,
    HTTP_METHOD_COUNT,
};

struct http_request {
    enum http_method method;
    const char *method_text;
    const char *target; /* path and query as sent: what a signature covers */
    const char *path;   /* begins with '/', nothing in it is decoded; or "*" */
    const char *query;  /* after the '?', or "" */
    bool has_length;    /* a Content-Length was sent */
    bool is_keep_alive; /* the client wants to go on, and may */
    const char *body;   /* followed by a NUL that does not count */
    size_t body_len;
    char remote[48]; /* address of the client */
    size_t n_headers;
    struct {
        const char *name;
        const char *value;
    } headers[HTTP_HEADERS_MAX];
};

struct http_answer {
    int status;
    const char *content_type; /* NULL without a body */
    const void *body;
    size_t body_len;     /* <= HTTP_ANSWER_MAX */
    const char *headers; /* more header lines, each with its CRLF; or NULL */
};

struct http_server;
struct http_exchange;

/* Names one deferred answer; never dangles, and is never used again. */
struct http_ticket {
    uint64_t number;
};

/* How long a client may take, in milliseconds. */
struct http_limits {
    unsigned head_ms;     /* for a head, and between two requests of a connection */
    unsigned body_ms;     /* for head and body */
    unsigned deferred_ms; /* a deferred answer that is not there by then is 504 */
    unsigned write_ms;    /* to take an answer */
};

struct http_config {
    uv_loop_t *loop;
    const char *host;                 /* address to bind, IPv4 or IPv6 literal */
    uint16_t port;                    /* 0: any, see http_port() */
    const struct http_limits *limits; /* copied; NULL: 5, 10, 60, 10 seconds */
    void *data;
    /* Answers with http_answer() or http_defer() before it returns; else the client is told 500. */
    void (*on_request)(void *data,
                       const struct http_request *request,
                       struct http_exchange *exchange);
    /* As in agent/net/peer.h; may be NULL. */
    void (*on_log)(void *data, int level, const char *event, const char *text);
};

/* HA_EBUSY when the port is in use; the text names address and port. */
int http_open(const struct http_config *config,
              struct http_server **out,
              struct err *err) HA_MUST_CHECK;

/* Drops every connection; `closed` runs when the memory is freed. Tickets die with it. */
void http_close(struct http_server *server, void (*closed)(void *data), void *data);

/* The port that it listens on. */
uint16_t http_port(const struct http_server *server);

/* Answers, once. HEAD and OPTIONS get the status and the headers, never a body. */
void http_answer(struct http_exchange *exchange, const struct http_answer *answer);

/* The answer comes later, through http_finish(). */
struct http_ticket http_defer(struct http_exchange *exchange);

/* False when the client is gone, was told 504, or has its answer already. */
bool http_finish(struct http_server *server,
                 struct http_ticket ticket,
                 const struct http_answer *answer);

/* The value of a header, its name in any case; NULL when it was not sent. */
const char *http_request_header(const struct http_request *request, const char *name);

/*
 * The value of `key` in a query, percent-decoded. False when it is not there, does not fit or is
 * badly encoded; `out` is "" then.
 */
bool http_query_get(const char *query, const char *key, char *out, size_t size);

#endif
