#include "agent/net/http_parser.h"

#include <llhttp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct {
    llhttp_method_t code;
    const char *text;
} METHODS[HTTP_METHOD_COUNT] = {
    [HTTP_METHOD_GET] = {HTTP_GET, "GET"},
    [HTTP_METHOD_HEAD] = {HTTP_HEAD, "HEAD"},
    [HTTP_METHOD_OPTIONS] = {HTTP_OPTIONS, "OPTIONS"},
    [HTTP_METHOD_POST] = {HTTP_POST, "POST"},
    [HTTP_METHOD_PUT] = {HTTP_PUT, "PUT"},
    [HTTP_METHOD_PATCH] = {HTTP_PATCH, "PATCH"},
    [HTTP_METHOD_DELETE] = {HTTP_DELETE, "DELETE"},
};

/* A piece of the head. */
struct span {
    size_t at;
    size_t len;
};

/* What llhttp finds in one head. */
struct found {
    llhttp_t state;
    const char *head;
    struct span target;
    struct {
        struct span name;
        struct span value;
    } headers[HTTP_HEADERS_MAX];
    size_t n_headers;
    bool was_name; /* the last piece belonged to a header's name */
    bool is_complete;
    bool is_crowded; /* more headers than there is room for */
};

void
http_parser_init(struct http_parser *parser)
{
    memset(parser, 0, sizeof *parser);
}

void
http_parser_fini(struct http_parser *parser)
{
    free(parser->body);
    parser->body = NULL;
}

bool
http_parser_is_inside(const struct http_parser *parser)
{
    return parser->n_head > 0 && !parser->is_done;
}

/* Pieces of one thing follow each other: the head is given to llhttp in one go. */
static void
extend(struct found *found, struct span *span, const char *at, size_t len)
{
    if (span->len == 0) {
        span->at = (size_t)(at - found->head);
    }
    span->len = (size_t)(at - found->head) + len - span->at;
}

static int
on_url(llhttp_t *state, const char *at, size_t len)
{
    struct found *found = state->data;

    extend(found, &found->target, at, len);
    return 0;
}

static int
on_header_field(llhttp_t *state, const char *at, size_t len)
{
    struct found *found = state->data;

    if (!found->was_name) {
        if (found->n_headers == HTTP_HEADERS_MAX) {
            found->is_crowded = true;
            return -1;
        }
        found->n_headers++;
    }
    found->was_name = true;
    extend(found, &found->headers[found->n_headers - 1].name, at, len);
    return 0;
}

static int
on_header_value(llhttp_t *state, const char *at, size_t len)
{
    struct found *found = state->data;

    if (found->n_headers == 0) {
        return -1;
    }
    found->was_name = false;
    extend(found, &found->headers[found->n_headers - 1].value, at, len);
    return 0;
}

static int
on_headers_complete(llhttp_t *state)
{
    struct found *found = state->data;

    found->is_complete = true;
    return HPE_PAUSED; /* the body is ours */
}

static const llhttp_settings_t SETTINGS = {
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
};

/* Lines end with CRLF, none is folded, and no other control byte is in them. */
static bool
is_plain(const char *head, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const unsigned char c = (unsigned char)head[i];
        const bool is_line_start = i >= 1 && head[i - 1] == '\n';
        if (c == '\r') {
            if (i + 1 >= len || head[i + 1] != '\n') {
                return false;
            }
        } else if (c == '\n') {
            if (i == 0 || head[i - 1] != '\r') {
                return false;
            }
        } else if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        } else if (is_line_start && (c == ' ' || c == '\t')) {
            return false;
        }
    }
    return true;
}

/* Ends a span with a NUL in the head itself, blanks around it taken off. */
static const char *
cut(struct http_parser *parser, struct span span)
{
    char *at = parser->head + span.at;
    size_t len = span.len;

    while (len > 0 && (at[len - 1] == ' ' || at[len - 1] == '\t')) {
        len--;
    }
    if (span.len == 0) {
        return "";
    }
    at[len] = '\0';
    return at;
}

/* A second one could be taken for the first by somebody else. */
static bool
is_sent_twice(const struct http_request *request, const char *name)
{
    size_t n = 0;

    for (size_t i = 0; i < request->n_headers; i++) {
        if (strcasecmp(request->headers[i].name, name) == 0) {
            n++;
        }
    }
    return n > 1;
}

/* Splits the target into path and query. 0, or a status. */
static int
take_target(struct http_parser *parser, struct span span)
{
    struct http_request *request = &parser->request;

    if (span.len > HTTP_TARGET_MAX) {
        return 414;
    }
    request->target = cut(parser, span);
    if (request->target[0] != '/' && strcmp(request->target, "*") != 0) {
        return 400;
    }
    const size_t len = strlen(request->target);
    const size_t path_len = strcspn(request->target, "?");
    memcpy(parser->path, request->target, path_len);
    parser->path[path_len] = '\0';
    request->path = parser->path;
    request->query = request->target + (path_len < len ? path_len + 1 : len);
    return 0;
}

static int
take_method(struct http_request *request, uint8_t code)
{
    for (int i = 0; i < HTTP_METHOD_COUNT; i++) {
        if (METHODS[i].code == code) {
            request->method = (enum http_method)i;
            request->method_text = METHODS[i].text;
            return 0;
        }
    }
    return 501;
}

/* Room for the body that the head announces. 0, or a status. */
static int
prepare_body(struct http_parser *parser, const llhttp_t *state)
{
    struct http_request *request = &parser->request;

    request->has_length = (state->flags & F_CONTENT_LENGTH) != 0;
    if ((state->flags & (F_CHUNKED | F_TRANSFER_ENCODING)) != 0) {
        return 411;
    }
    const uint64_t len = request->has_length ? state->content_length : 0;
    if (len > HTTP_BODY_MAX) {
        return 413;
    }
    request->body_len = (size_t)len;
    parser->n_body = 0;
    parser->body = calloc(1, request->body_len + 1);
    if (parser->body == NULL) {
        return 503;
    }
    request->body = parser->body;
    return 0;
}

/* What llhttp found becomes the request, or a status. */
static int
take_found(struct http_parser *parser, const struct found *found)
{
    struct http_request *request = &parser->request;
    const llhttp_t *state = &found->state;

    if (state->http_major != 1 || state->http_minor > 1) {
        return 505;
    }
    int status = take_method(request, state->method);
    if (status == 0) {
        status = take_target(parser, found->target);
    }
    if (status != 0) {
        return status;
    }
    request->n_headers = found->n_headers;
    for (size_t i = 0; i < found->n_headers; i++) {
        request->headers[i].name = cut(parser, found->headers[i].name);
        request->headers[i].value = cut(parser, found->headers[i].value);
    }
    if (is_sent_twice(request, "Host") || is_sent_twice(request, "Authorization") ||
        is_sent_twice(request, "Content-Length") ||
        (state->http_minor == 1 && http_request_header(request, "Host") == NULL)) {
        return 400;
    }
    const char *connection = http_request_header(request, "Connection");
    request->is_keep_alive = request->method == HTTP_METHOD_GET && connection != NULL &&
                             strcasecmp(connection, "keep-alive") == 0;
    return prepare_body(parser, state);
}

/* The head is complete: 0, or a status. */
static int
read_head(struct http_parser *parser)
{
    struct found found;

    if (!is_plain(parser->head, parser->n_head)) {
        return 400;
    }
    memset(&found, 0, sizeof found);
    found.head = parser->head;
    llhttp_init(&found.state, HTTP_REQUEST, &SETTINGS);
    found.state.data = &found;
    const llhttp_errno_t rc = llhttp_execute(&found.state, parser->head, parser->n_head);
    if (found.is_crowded) {
        return 431;
    }
    if (rc == HPE_INVALID_METHOD) {
        return 501;
    }
    if (rc == HPE_INVALID_VERSION) {
        return 505;
    }
    if (rc != HPE_PAUSED || !found.is_complete) {
        return 400;
    }
    parser->has_head = true;
    return take_found(parser, &found);
}

/* Collects bytes until the empty line. 0 with has_head or without, or a status. */
static int
feed_head(struct http_parser *parser, const char **data, size_t *len)
{
    const size_t before = parser->n_head;
    const size_t room = HTTP_HEAD_MAX - before;
    const size_t n = *len < room ? *len : room;
    const size_t from = before < 3 ? 0 : before - 3;

    memcpy(parser->head + before, *data, n);
    /* A TLS hello or another protocol never gets to an empty line: it need not wait for one. */
    if (before == 0 && (parser->head[0] < 'A' || parser->head[0] > 'Z')) {
        return 400;
    }
    const char *end = memmem(parser->head + from, before + n - from, "\r\n\r\n", 4);
    parser->n_head = end == NULL ? before + n : (size_t)(end - parser->head) + 4;
    *data += parser->n_head - before;
    *len -= parser->n_head - before;
    if (end != NULL) {
        return read_head(parser);
    }
    return parser->n_head == HTTP_HEAD_MAX ? 431 : 0;
}

static int
feed(struct http_parser *parser, const char **data, size_t *len)
{
    if (!parser->has_head) {
        const int status = *len == 0 ? 0 : feed_head(parser, data, len);
        if (status != 0 || !parser->has_head) {
            return status;
        }
    }
    const size_t missing = parser->request.body_len - parser->n_body;
    const size_t n = *len < missing ? *len : missing;
    if (n > 0) {
        memcpy(parser->body + parser->n_body, *data, n);
        parser->n_body += n;
        *data += n;
        *len -= n;
    }
    parser->is_done = parser->n_body == parser->request.body_len;
    return parser->is_done ? 1 : 0;
}

int
http_parser_feed(struct http_parser *parser, const char **data, size_t *len)
{
    if (parser->failed != 0) {
        return parser->failed;
    }
    if (parser->is_done) {
        http_parser_fini(parser);
        parser->n_head = 0;
        parser->has_head = false;
        parser->is_done = false;
        parser->n_body = 0;
        memset(&parser->request, 0, sizeof parser->request);
    }
    const int rc = feed(parser, data, len);
    if (rc >= 400) {
        parser->failed = rc;
    }
    return rc;
}
