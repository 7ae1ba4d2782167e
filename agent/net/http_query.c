#include <string.h>
#include <strings.h>

#include "agent/net/http.h"

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Decodes up to `end`. False: it does not fit, or is not an encoding of a text. */
static bool
decode(const char *at, const char *end, char *out, size_t size)
{
    size_t n = 0;

    while (at < end) {
        char c = *at++;
        if (c == '+') {
            c = ' ';
        } else if (c == '%') {
            const int high = at < end ? hex_digit(at[0]) : -1;
            const int low = high >= 0 && at + 1 < end ? hex_digit(at[1]) : -1;
            if (low < 0 || (high == 0 && low == 0)) {
                return false;
            }
            c = (char)(high * 16 + low);
            at += 2;
        }
        if (n + 1 >= size) {
            return false;
        }
        out[n++] = c;
    }
    out[n] = '\0';
    return true;
}

bool
http_query_get(const char *query, const char *key, char *out, size_t size)
{
    const size_t key_len = strlen(key);
    const char *at = query;

    REQUIRE(size > 0, "room for the NUL");
    while (*at != '\0') {
        const char *end = at + strcspn(at, "&");
        const size_t name_len = strcspn(at, "=&");
        if (name_len == key_len && memcmp(at, key, key_len) == 0) {
            const char *value = at + name_len + (at[name_len] == '=' ? 1 : 0);
            if (decode(value, end, out, size)) {
                return true;
            }
            break;
        }
        at = *end == '&' ? end + 1 : end;
    }
    out[0] = '\0';
    return false;
}

const char *
http_request_header(const struct http_request *request, const char *name)
{
    for (size_t i = 0; i < request->n_headers; i++) {
        if (strcasecmp(request->headers[i].name, name) == 0) {
            return request->headers[i].value;
        }
    }
    return NULL;
}
