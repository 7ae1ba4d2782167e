/*
 * Goal:   the codec never leaves its buffer, and the CRC is the one RFC 3720 means.
 * Method: round trips, every truncation of a good message, known answers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/codec.h"
#include "base/crc32c.h"

static size_t
put_sample(uint8_t *buf, size_t size)
{
    struct codec_writer w;

    codec_writer_init(&w, buf, size);
    codec_put_u8(&w, 7);
    codec_put_u16(&w, 0x1234);
    codec_put_u32(&w, 0x89abcdefU);
    codec_put_u64(&w, 0x0123456789abcdefULL);
    codec_put_i64(&w, -5);
    codec_put_bool(&w, true);
    codec_put_text(&w, "10.0.0.1");
    codec_put_padding(&w, 8);
    return w.failed ? 0 : w.len;
}

static void
what_is_written_is_read(void **state)
{
    uint8_t buf[64];
    const size_t len = put_sample(buf, sizeof buf);
    struct codec_reader r;
    char text[16];

    (void)state;
    assert_int_equal(len % 8, 0);
    codec_reader_init(&r, buf, len);
    assert_int_equal(codec_get_u8(&r), 7);
    assert_int_equal(codec_get_u16(&r), 0x1234);
    assert_int_equal(codec_get_u32(&r), 0x89abcdefU);
    assert_true(codec_get_u64(&r) == 0x0123456789abcdefULL);
    assert_true(codec_get_i64(&r) == -5);
    assert_true(codec_get_bool(&r));
    codec_get_text(&r, text, sizeof text);
    assert_string_equal(text, "10.0.0.1");
    assert_false(r.failed);
    assert_int_equal(buf[1], 0x34);
}

static void
every_truncation_fails_and_yields_zero(void **state)
{
    uint8_t buf[64];
    char text[16];

    (void)state;
    (void)put_sample(buf, sizeof buf);
    for (size_t len = 0; len < 34; len++) {
        struct codec_reader r;

        codec_reader_init(&r, buf, len);
        (void)codec_get_u8(&r);
        (void)codec_get_u16(&r);
        (void)codec_get_u32(&r);
        (void)codec_get_u64(&r);
        (void)codec_get_i64(&r);
        (void)codec_get_bool(&r);
        codec_get_text(&r, text, sizeof text);
        assert_true(r.failed);
        assert_int_equal(codec_get_u64(&r), 0);
        assert_string_equal(text, "");
    }
}

static void
a_writer_stops_at_the_end(void **state)
{
    uint8_t buf[64];

    (void)state;
    for (size_t size = 0; size < 40; size++) {
        memset(buf, 0xee, sizeof buf);
        assert_int_equal(put_sample(buf, size), 0);
        assert_int_equal(buf[size], 0xee);
    }
}

static void
a_text_that_does_not_fit_or_holds_nul_fails(void **state)
{
    static const uint8_t with_nul[] = {3, 0, 'a', 0, 'b'};
    static const uint8_t exact[] = {3, 0, 'a', 'b', 'c'};
    struct codec_reader r;
    char small[3];
    char big[8];

    (void)state;
    codec_reader_init(&r, exact, sizeof exact);
    codec_get_text(&r, small, sizeof small);
    assert_true(r.failed);
    codec_reader_init(&r, with_nul, sizeof with_nul);
    codec_get_text(&r, big, sizeof big);
    assert_true(r.failed);
    codec_reader_init(&r, exact, sizeof exact);
    codec_get_text(&r, big, sizeof big);
    assert_true(codec_reader_is_done(&r));
}

static void
crc_gives_the_known_answers(void **state)
{
    uint8_t zeros[32] = {0};
    uint8_t ones[32];

    (void)state;
    memset(ones, 0xff, sizeof ones);
    assert_int_equal(crc32c(0, zeros, sizeof zeros), 0x8a9136aaU);
    assert_int_equal(crc32c(0, ones, sizeof ones), 0x62a8ab43U);
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283U);
    assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283U);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(every_truncation_fails_and_yields_zero),
        cmocka_unit_test(a_writer_stops_at_the_end),
        cmocka_unit_test(a_text_that_does_not_fit_or_holds_nul_fails),
        cmocka_unit_test(crc_gives_the_known_answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
