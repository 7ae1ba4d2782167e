/*
 * peer_frame.h - messages out of a stream of bytes, and into one.
 *
 * A frame is a u32 length of the body, little-endian, a u8 type, the body.
 * The reader never holds more than one body and never more than
 * PEER_MESSAGE_MAX bytes of it, whatever the other side says.
 *
 * Clock:  none. Type 0 with an empty body is the link's own sign of life.
 * Memory: the reader owns one buffer; peer_frame_fini() frees it.
 */
#ifndef HA_NET_PEER_FRAME_H
#define HA_NET_PEER_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define PEER_FRAME_HEADER 5
#define PEER_FRAME_ALIVE 0 /* the type that the link keeps to itself */

struct peer_frame {
    uint8_t header[PEER_FRAME_HEADER];
    size_t n_header; /* bytes of it that are there */
    uint8_t *body;
    size_t size;   /* of the buffer */
    size_t len;    /* that the header announced */
    size_t n_body; /* bytes of it that are there */
    int failed;    /* HA_OK, or what every later call answers */
};

struct peer_frame_message {
    uint8_t type;
    size_t len;
    const uint8_t *body; /* never NULL; valid until the next call */
};

void peer_frame_init(struct peer_frame *frame);
void peer_frame_fini(struct peer_frame *frame);

/*
 * Takes bytes from *data, moving *data and *len along, until a message is complete (1) or all
 * are taken (0). HA_ETOOBIG: a body is announced that no sender may send; HA_EINVAL: a sign of
 * life with a body. After an error the stream has no meaning any more: every call fails.
 */
int peer_frame_read(struct peer_frame *frame,
                    const uint8_t **data,
                    size_t *len,
                    struct peer_frame_message *message) HA_MUST_CHECK;

/* The header of a message. */
void peer_frame_header(uint8_t out[PEER_FRAME_HEADER], uint8_t type, size_t len);

#endif
