/*
 * Goal:   a stream of bytes becomes the messages that were sent, or an error, whatever arrives.
 * Method: every cut of a good stream in two, every truncation, bytes one by one, and lengths
 *         beyond the bound.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/net/peer.h"
#include "agent/net/peer_frame.h"
#include "base/require.h"

static const struct {
    uint8_t type;
    const char *body;
} SENT[] = {{1, "status"}, {PEER_FRAME_ALIVE, ""}, {32, ""}, {33, "a longer message than that"}};

static size_t
put_stream(uint8_t *out)
{
    size_t len = 0;

    for (size_t i = 0; i < HA_COUNT_OF(SENT); i++) {
        const size_t n = strlen(SENT[i].body);
        peer_frame_header(out + len, SENT[i].type, n);
        memcpy(out + len + PEER_FRAME_HEADER, SENT[i].body, n);
        len += PEER_FRAME_HEADER + n;
    }
    return len;
}

/* Feeds bytes and checks each message against the one that is due; returns how many came. */
static size_t
feed(struct peer_frame *frame, const uint8_t *data, size_t len, size_t due)
{
    struct peer_frame_message message;
    int rc;

    while ((rc = peer_frame_read(frame, &data, &len, &message)) == 1) {
        assert_true(due < HA_COUNT_OF(SENT));
        assert_int_equal(message.type, SENT[due].type);
        assert_int_equal(message.len, strlen(SENT[due].body));
        assert_memory_equal(message.body, SENT[due].body, message.len);
        due++;
    }
    assert_int_equal(rc, 0);
    assert_int_equal(len, 0);
    return due;
}

static void
any_cut_of_the_stream_gives_the_same_messages(void **state)
{
    uint8_t stream[256];
    const size_t len = put_stream(stream);

    (void)state;
    for (size_t cut = 0; cut <= len; cut++) {
        struct peer_frame frame;
        peer_frame_init(&frame);
        size_t due = feed(&frame, stream, cut, 0);
        due = feed(&frame, stream + cut, len - cut, due);
        assert_int_equal(due, HA_COUNT_OF(SENT));
        peer_frame_fini(&frame);
    }
}

static void
bytes_one_by_one_give_the_same_messages(void **state)
{
    uint8_t stream[256];
    const size_t len = put_stream(stream);
    struct peer_frame frame;
    size_t due = 0;

    (void)state;
    peer_frame_init(&frame);
    for (size_t i = 0; i < len; i++) {
        due = feed(&frame, stream + i, 1, due);
    }
    assert_int_equal(due, HA_COUNT_OF(SENT));
    peer_frame_fini(&frame);
}

static void
a_truncated_message_is_never_handed_out(void **state)
{
    uint8_t stream[64];
    struct peer_frame_message message;

    (void)state;
    peer_frame_header(stream, 7, 20);
    memset(stream + PEER_FRAME_HEADER, 'x', 20);
    for (size_t n = 0; n < PEER_FRAME_HEADER + 20; n++) {
        struct peer_frame frame;
        const uint8_t *data = stream;
        size_t len = n;
        peer_frame_init(&frame);
        assert_int_equal(peer_frame_read(&frame, &data, &len, &message), 0);
        peer_frame_fini(&frame);
    }
}

static int
read_header(uint32_t announced, uint8_t type)
{
    const uint8_t header[PEER_FRAME_HEADER] = {(uint8_t)announced,
                                               (uint8_t)(announced >> 8),
                                               (uint8_t)(announced >> 16),
                                               (uint8_t)(announced >> 24),
                                               type};
    struct peer_frame_message message;
    struct peer_frame frame;
    const uint8_t *data = header;
    size_t len = sizeof header;

    peer_frame_init(&frame);
    const int rc = peer_frame_read(&frame, &data, &len, &message);
    /* What failed once stays failed. */
    data = header;
    len = sizeof header;
    if (rc < 0) {
        assert_int_equal(peer_frame_read(&frame, &data, &len, &message), rc);
    }
    peer_frame_fini(&frame);
    return rc;
}

static void
a_length_beyond_the_bound_is_refused_at_the_header(void **state)
{
    (void)state;
    assert_int_equal(read_header(PEER_MESSAGE_MAX, 1), 0);
    assert_int_equal(read_header(PEER_MESSAGE_MAX + 1, 1), HA_ETOOBIG);
    assert_int_equal(read_header(0x80000000U, 1), HA_ETOOBIG);
    assert_int_equal(read_header(0xffffffffU, 1), HA_ETOOBIG);
    assert_int_equal(read_header(0x20544547U, '/'), HA_ETOOBIG); /* "GET /" */
}

static void
a_sign_of_life_has_no_body(void **state)
{
    (void)state;
    assert_int_equal(read_header(0, PEER_FRAME_ALIVE), 1);
    assert_int_equal(read_header(1, PEER_FRAME_ALIVE), HA_EINVAL);
}

static void
the_largest_message_passes_and_its_buffer_goes(void **state)
{
    uint8_t *stream = malloc(PEER_FRAME_HEADER + PEER_MESSAGE_MAX);
    struct peer_frame_message message;
    struct peer_frame frame;
    const uint8_t *data = stream;
    size_t len = PEER_FRAME_HEADER + PEER_MESSAGE_MAX;

    (void)state;
    assert_non_null(stream);
    peer_frame_header(stream, 9, PEER_MESSAGE_MAX);
    memset(stream + PEER_FRAME_HEADER, 'y', PEER_MESSAGE_MAX);
    peer_frame_init(&frame);
    assert_int_equal(peer_frame_read(&frame, &data, &len, &message), 1);
    assert_int_equal(message.len, PEER_MESSAGE_MAX);
    assert_memory_equal(message.body, stream + PEER_FRAME_HEADER, PEER_MESSAGE_MAX);
    assert_int_equal(peer_frame_read(&frame, &data, &len, &message), 0);
    assert_int_equal(frame.size, 0);
    peer_frame_fini(&frame);
    free(stream);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_cut_of_the_stream_gives_the_same_messages),
        cmocka_unit_test(bytes_one_by_one_give_the_same_messages),
        cmocka_unit_test(a_truncated_message_is_never_handed_out),
        cmocka_unit_test(a_length_beyond_the_bound_is_refused_at_the_header),
        cmocka_unit_test(a_sign_of_life_has_no_body),
        cmocka_unit_test(the_largest_message_passes_and_its_buffer_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
