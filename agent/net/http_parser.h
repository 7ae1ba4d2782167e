/*
 * http_parser.h - one HTTP/1 request at a time out of bytes, strictly.
 *
 * The head is collected whole, checked line by line (no bare CR or LF, no
 * folding, no control bytes), and only then read by llhttp. Bodies come with a
 * Content-Length or not at all. What two parsers could read in two ways is
 * refused: a Content-Length twice or beside a Transfer-Encoding, two Hosts.
 *
 * Clock:  none.
 * Memory: the head lies in the struct, the body on the heap; http_parser_fini() frees it.
 */
#ifndef HA_NET_HTTP_PARSER_H
#define HA_NET_HTTP_PARSER_H

#include <stddef.h>
#include <stdint.h>

#include "agent/net/http.h"

struct http_parser {
    char head[HTTP_HEAD_MAX + 1];
    size_t n_head; /* bytes of it that are there */
    bool has_head;
    char path[HTTP_TARGET_MAX + 1];
    struct http_request request;
    char *body;
    size_t n_body;
    bool is_done;
    int failed; /* status that every later call answers, or 0 */
};

void http_parser_init(struct http_parser *parser);
void http_parser_fini(struct http_parser *parser);

/*
 * Takes bytes from *data, moving *data and *len along. 0: more are needed. 1: parser->request is
 * complete and valid until the next call, which begins the next request. Else it is the status
 * (>= 400) of the answer, after which the connection has no meaning any more.
 */
int http_parser_feed(struct http_parser *parser, const char **data, size_t *len);

/* True when a request has begun and is not complete. */
bool http_parser_is_inside(const struct http_parser *parser);

#endif
