/*
 * Goal:   no bytes from a client break the parser, and where they are cut changes nothing.
 * Method: the same bytes in one piece and in pieces give the same requests and the same status.
 */
#include <string.h>

#include "agent/net/http_parser.h"
#include "base/crc32c.h"
#include "tests/fuzz/fuzz.h"

struct outcome {
    int rc;
    size_t n;
    uint32_t crc; /* over all requests */
};

static uint32_t
digest_text(uint32_t crc, const char *text)
{
    return crc32c(crc, text, strlen(text) + 1);
}

static uint32_t
digest(uint32_t crc, const struct http_request *request)
{
    char value[16];

    REQUIRE(request->path[0] == '/' || strcmp(request->path, "*") == 0, "a path is one of ours");
    REQUIRE(request->body_len <= HTTP_BODY_MAX && request->body[request->body_len] == '\0',
            "a body is bounded and ends");
    REQUIRE(request->n_headers <= HTTP_HEADERS_MAX, "headers are bounded");
    (void)http_query_get(request->query, "lag", value, sizeof value);
    crc = digest_text(crc, request->method_text);
    crc = digest_text(crc, request->target);
    crc = digest_text(crc, request->path);
    crc = digest_text(crc, request->query);
    crc = digest_text(crc, value);
    crc = crc32c(crc, request->body, request->body_len);
    for (size_t i = 0; i < request->n_headers; i++) {
        crc = digest_text(crc, request->headers[i].name);
        crc = digest_text(crc, request->headers[i].value);
    }
    return crc;
}

static void
feed(struct http_parser *parser, const char *data, size_t len, struct outcome *out)
{
    while (len > 0) {
        out->rc = http_parser_feed(parser, &data, &len);
        if (out->rc >= 400) {
            return;
        }
        if (out->rc == 1) {
            out->n++;
            out->crc = digest(out->crc, &parser->request);
        } else {
            REQUIRE(out->rc == 0 && len == 0, "all bytes are taken");
        }
    }
}

static struct outcome
run(const uint8_t *data, size_t len, size_t piece)
{
    static struct http_parser parser;
    struct outcome out = {0};

    http_parser_init(&parser);
    for (size_t at = 0; at < len && out.rc < 400; at += piece) {
        feed(&parser, (const char *)data + at, len - at < piece ? len - at : piece, &out);
    }
    http_parser_fini(&parser);
    return out;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const struct outcome whole = run(data, len, len + 1);
    const struct outcome pieces = run(data, len, len > 0 ? 1 + data[len - 1] % 7U : 1);

    REQUIRE(whole.rc == pieces.rc && whole.n == pieces.n && whole.crc == pieces.crc,
            "where it is cut changes nothing");
    return 0;
}
