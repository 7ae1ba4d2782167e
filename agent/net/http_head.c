#include "agent/net/http_head.h"

#include <stdio.h>

const char *
http_reason(int status)
{
    static const struct {
        int status;
        const char *text;
    } reasons[] = {
        {200, "OK"},
        {202, "Accepted"},
        {204, "No Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < HA_COUNT_OF(reasons); i++) {
        if (reasons[i].status == status) {
            return reasons[i].text;
        }
    }
    return "Unknown";
}

size_t
http_format_head(const struct http_answer *answer,
                 enum http_method method,
                 bool is_keep_alive,
                 char *out,
                 size_t size)
{
    const bool is_options = method == HTTP_METHOD_OPTIONS;
    const bool has_type = answer->content_type != NULL && !is_options;
    const int n = snprintf(out,
                           size,
                           "HTTP/1.1 %d %s\r\n"
                           "%s%s%s"
                           "Content-Length: %zu\r\n"
                           "Cache-Control: no-store\r\n"
                           "X-Content-Type-Options: nosniff\r\n"
                           "Connection: %s\r\n"
                           "%s\r\n",
                           answer->status,
                           http_reason(answer->status),
                           has_type ? "Content-Type: " : "",
                           has_type ? answer->content_type : "",
                           has_type ? "\r\n" : "",
                           is_options ? 0 : answer->body_len,
                           is_keep_alive ? "keep-alive" : "close",
                           answer->headers == NULL ? "" : answer->headers);

    ENSURE(n > 0, "a head can be formatted");
    return (size_t)n;
}
