#include "agent/net/peer_frame.h"

#include <stdlib.h>
#include <string.h>

#include "agent/net/peer.h"
#include "base/codec.h"

/* A larger buffer is given back after its message: big ones are rare, members are many. */
#define BUFFER_KEPT 65536

void
peer_frame_init(struct peer_frame *frame)
{
    memset(frame, 0, sizeof *frame);
}

void
peer_frame_fini(struct peer_frame *frame)
{
    free(frame->body);
    memset(frame, 0, sizeof *frame);
}

static size_t
take(uint8_t *to, size_t wanted, const uint8_t **data, size_t *len)
{
    const size_t n = wanted < *len ? wanted : *len;

    if (n > 0) {
        memcpy(to, *data, n);
        *data += n;
        *len -= n;
    }
    return n;
}

/* The header is complete: is it one that a member would send, and is there room? */
static int
begin_body(struct peer_frame *frame)
{
    struct codec_reader r;

    codec_reader_init(&r, frame->header, sizeof frame->header);
    frame->len = codec_get_u32(&r);
    frame->n_body = 0;
    if (frame->len > PEER_MESSAGE_MAX) {
        return HA_ETOOBIG;
    }
    if (codec_get_u8(&r) == PEER_FRAME_ALIVE && frame->len != 0) {
        return HA_EINVAL;
    }
    if (frame->len > frame->size) {
        free(frame->body);
        frame->body = malloc(frame->len);
        frame->size = frame->body == NULL ? 0 : frame->len;
        if (frame->body == NULL) {
            return HA_ENOMEM;
        }
    }
    return HA_OK;
}

/* The message handed out by the call before is over. */
static void
forget_message(struct peer_frame *frame)
{
    frame->n_header = 0;
    if (frame->size > BUFFER_KEPT) {
        free(frame->body);
        frame->body = NULL;
        frame->size = 0;
    }
}

int
peer_frame_read(struct peer_frame *frame,
                const uint8_t **data,
                size_t *len,
                struct peer_frame_message *message)
{
    if (frame->failed != HA_OK) {
        return frame->failed;
    }
    if (frame->n_header == PEER_FRAME_HEADER && frame->n_body == frame->len) {
        forget_message(frame);
    }
    if (frame->n_header < PEER_FRAME_HEADER) {
        frame->n_header +=
            take(frame->header + frame->n_header, PEER_FRAME_HEADER - frame->n_header, data, len);
        if (frame->n_header < PEER_FRAME_HEADER) {
            return 0;
        }
        frame->failed = begin_body(frame);
        if (frame->failed != HA_OK) {
            return frame->failed;
        }
    }
    if (frame->n_body < frame->len) {
        frame->n_body += take(frame->body + frame->n_body, frame->len - frame->n_body, data, len);
        if (frame->n_body < frame->len) {
            return 0;
        }
    }
    message->type = frame->header[4];
    message->len = frame->len;
    message->body = frame->len > 0 ? frame->body : frame->header;
    return 1;
}

void
peer_frame_header(uint8_t out[PEER_FRAME_HEADER], uint8_t type, size_t len)
{
    struct codec_writer w;

    REQUIRE(len <= PEER_MESSAGE_MAX, "a message is bounded");
    codec_writer_init(&w, out, PEER_FRAME_HEADER);
    codec_put_u32(&w, (uint32_t)len);
    codec_put_u8(&w, type);
    ENSURE(!w.failed && w.len == PEER_FRAME_HEADER, "the header has one size");
}
