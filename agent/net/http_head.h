/*
 * http_head.h - the head of an answer as bytes.
 *
 * Memory: the caller's.
 */
#ifndef HA_NET_HTTP_HEAD_H
#define HA_NET_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>

#include "agent/net/http.h"

/* The reason phrase of a status, "Unknown" for one that is not used here. */
const char *http_reason(int status);

/*
 * Status line and headers, with a NUL, as snprintf() would: the length is returned also when
 * `size` is too small. The length of the body is told for HEAD as for GET, and is 0 for OPTIONS.
 */
size_t http_format_head(const struct http_answer *answer,
                        enum http_method method,
                        bool is_keep_alive,
                        char *out,
                        size_t size);

#endif
