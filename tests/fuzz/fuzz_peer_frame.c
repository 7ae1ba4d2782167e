/*
 * Goal:   no stream of bytes gets beyond the bounds of a message, and where it is cut by the
 *         network changes nothing.
 * Method: the same stream in one piece and in pieces gives the same messages and the same end.
 */
#include <string.h>

#include "agent/net/peer.h"
#include "agent/net/peer_frame.h"
#include "base/crc32c.h"
#include "tests/fuzz/fuzz.h"

struct outcome {
    int rc;
    size_t n;
    uint32_t crc; /* over all messages */
};

static void
feed(struct peer_frame *frame, const uint8_t *data, size_t len, struct outcome *out)
{
    struct peer_frame_message message;

    while ((out->rc = peer_frame_read(frame, &data, &len, &message)) == 1) {
        REQUIRE(message.len <= PEER_MESSAGE_MAX, "a message is bounded");
        out->n++;
        out->crc = crc32c(out->crc, &message.type, 1);
        out->crc = crc32c(out->crc, message.body, message.len);
    }
    REQUIRE(out->rc < 0 || len == 0, "all bytes are taken");
}

static struct outcome
run(const uint8_t *data, size_t len, size_t piece)
{
    struct peer_frame frame;
    struct outcome out = {0};

    peer_frame_init(&frame);
    for (size_t at = 0; at < len && out.rc >= 0; at += piece) {
        feed(&frame, data + at, len - at < piece ? len - at : piece, &out);
        REQUIRE(frame.size <= PEER_MESSAGE_MAX, "the buffer is bounded");
    }
    peer_frame_fini(&frame);
    return out;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const struct outcome whole = run(data, len, len + 1);
    const struct outcome pieces = run(data, len, len > 0 ? 1 + data[0] % 7U : 1);

    REQUIRE(whole.rc == pieces.rc && whole.n == pieces.n && whole.crc == pieces.crc,
            "where it is cut changes nothing");
    return 0;
}
