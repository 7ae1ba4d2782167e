/*
 * Goal:   only what was signed with the cluster's secret, just now and not before, passes.
 * Method: a good request, then each part of it changed, each digit of the header changed, clocks
 *         apart, repeats, and a full memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/net/http_auth.h"

#define SECRET ((const uint8_t *)"the secret of this cluster")
#define SECRET_LEN 26
#define NOW 1800000000

static struct http_auth auth;
static const struct http_auth_request REQUEST = {
    "POST", "/switchover?dry=1", "{\"to\":\"10.0.0.2\"}", 17};

static int
set_up(void **state)
{
    (void)state;
    return http_auth_init(&auth, SECRET, SECRET_LEN, NOW);
}

static void
sign(const struct http_auth_request *request, int64_t at_s, uint8_t n, char *out)
{
    uint8_t nonce[HTTP_AUTH_NONCE_BYTES] = {n};
    struct http_auth signer;

    assert_int_equal(http_auth_init(&signer, SECRET, SECRET_LEN, 0), HA_OK);
    assert_int_equal(http_auth_sign(&signer, request, at_s, nonce, out), HA_OK);
    http_auth_fini(&signer);
}

static int
check(const struct http_auth_request *request, const char *header, int64_t now_s)
{
    struct err err = {0};
    const int rc = http_auth_check(&auth, request, header, now_s, &err);

    assert_true(rc == HA_OK || err.text[0] != '\0');
    return rc;
}

static void
what_was_signed_with_the_secret_passes(void **state)
{
    const struct http_auth_request bare = {"DELETE", "/switchover", NULL, 0};
    char header[HTTP_AUTH_HEADER_MAX];

    (void)state;
    sign(&REQUEST, NOW, 1, header);
    assert_int_equal(check(&REQUEST, header, NOW), HA_OK);
    sign(&bare, NOW, 2, header);
    assert_int_equal(check(&bare, header, NOW), HA_OK);
}

/* Computed with Python: hkdf as in test_peer_tls, then hmac over the five lines. */
static void
the_signature_is_what_the_documentation_says(void **state)
{
    static const char expected[] =
        "Hawser t=1800000000,n=07000000000000000000000000000000,"
        "h=addf532375b7ef9f9ffa945231f4ddf9b79f569e309a39feb4139d616e569a6d";
    char header[HTTP_AUTH_HEADER_MAX];

    (void)state;
    sign(&REQUEST, NOW, 7, header);
    assert_string_equal(header, expected);
}

static void
another_secret_is_refused(void **state)
{
    const uint8_t nonce[HTTP_AUTH_NONCE_BYTES] = {3};
    struct http_auth other;
    char header[HTTP_AUTH_HEADER_MAX];

    (void)state;
    assert_int_equal(http_auth_init(&other, SECRET, SECRET_LEN - 1, 0), HA_OK);
    assert_int_equal(http_auth_sign(&other, &REQUEST, NOW, nonce, header), HA_OK);
    assert_int_equal(check(&REQUEST, header, NOW), HA_EAUTH);
}

static void
a_signature_covers_every_part_of_the_request(void **state)
{
    const struct http_auth_request changed[] = {
        {"PUT", REQUEST.target, REQUEST.body, REQUEST.body_len},
        {"POST", "/switchover?dry=0", REQUEST.body, REQUEST.body_len},
        {"POST", "/switchover", REQUEST.body, REQUEST.body_len},
        {"POST", REQUEST.target, "{\"to\":\"10.0.0.3\"}", REQUEST.body_len},
        {"POST", REQUEST.target, REQUEST.body, REQUEST.body_len - 1},
        {"POST", REQUEST.target, "", 0},
    };
    char header[HTTP_AUTH_HEADER_MAX];

    (void)state;
    sign(&REQUEST, NOW, 4, header);
    for (size_t i = 0; i < HA_COUNT_OF(changed); i++) {
        assert_int_equal(check(&changed[i], header, NOW), HA_EAUTH);
    }
    assert_int_equal(check(&REQUEST, header, NOW), HA_OK);
}

static void
any_changed_or_missing_character_is_refused(void **state)
{
    char header[HTTP_AUTH_HEADER_MAX];
    char bad[HTTP_AUTH_HEADER_MAX + 1];

    (void)state;
    sign(&REQUEST, NOW, 5, header);
    const size_t len = strlen(header);
    for (size_t i = 0; i < len; i++) {
        memcpy(bad, header, len + 1);
        bad[i] = bad[i] == '0' ? '1' : '0';
        assert_int_equal(check(&REQUEST, bad, NOW), HA_EAUTH);
        memcpy(bad, header, len + 1);
        bad[i] = '\0';
        assert_int_equal(check(&REQUEST, bad, NOW), HA_EAUTH);
    }
    memcpy(bad, header, len);
    bad[len] = '0';
    bad[len + 1] = '\0';
    assert_int_equal(check(&REQUEST, bad, NOW), HA_EAUTH);
    assert_int_equal(check(&REQUEST, NULL, NOW), HA_EAUTH);
    assert_int_equal(check(&REQUEST, "", NOW), HA_EAUTH);
    assert_int_equal(check(&REQUEST, "Basic cG9zdGdyZXM6", NOW), HA_EAUTH);
    assert_int_equal(check(&REQUEST, "Hawser t=,n=,h=", NOW), HA_EAUTH);
    assert_int_equal(check(&REQUEST, "Hawser t=-1,n=", NOW), HA_EAUTH);
    assert_int_equal(check(&REQUEST, header, NOW), HA_OK);
}

static void
a_request_is_good_for_a_minute_either_way(void **state)
{
    char header[HTTP_AUTH_HEADER_MAX];

    (void)state;
    sign(&REQUEST, NOW + 100, 6, header);
    assert_int_equal(check(&REQUEST, header, NOW + 39), HA_EAUTH);
    assert_int_equal(check(&REQUEST, header, NOW + 161), HA_EAUTH);
    assert_int_equal(check(&REQUEST, header, NOW + 160), HA_OK);
    sign(&REQUEST, NOW + 100, 7, header);
    assert_int_equal(check(&REQUEST, header, NOW + 40), HA_OK);
}

static void
a_request_passes_once(void **state)
{
    char header[HTTP_AUTH_HEADER_MAX];

    (void)state;
    /* Signed by a clock that is ahead, so that it stays good for two minutes. */
    sign(&REQUEST, NOW + 60, 8, header);
    for (int64_t now_s = NOW; now_s <= NOW + 121; now_s++) {
        assert_int_equal(check(&REQUEST, header, now_s), now_s == NOW ? HA_OK : HA_EAUTH);
    }
}

static void
what_was_signed_before_the_start_is_refused(void **state)
{
    char header[HTTP_AUTH_HEADER_MAX];

    (void)state;
    sign(&REQUEST, NOW - 1, 9, header);
    assert_int_equal(check(&REQUEST, header, NOW), HA_EAUTH);
    sign(&REQUEST, NOW, 9, header);
    assert_int_equal(check(&REQUEST, header, NOW), HA_OK);
}

static void
a_full_memory_refuses_rather_than_forgets(void **state)
{
    struct http_auth signer;
    char first[HTTP_AUTH_HEADER_MAX];
    char header[HTTP_AUTH_HEADER_MAX];

    (void)state;
    assert_int_equal(http_auth_init(&signer, SECRET, SECRET_LEN, 0), HA_OK);
    for (int i = 0; i <= HTTP_AUTH_NONCES; i++) {
        const uint8_t nonce[HTTP_AUTH_NONCE_BYTES] = {(uint8_t)i, (uint8_t)(i >> 8)};
        assert_int_equal(http_auth_sign(&signer, &REQUEST, NOW + i / 100, nonce, header), HA_OK);
        if (i == 0) {
            memcpy(first, header, sizeof first);
        }
        assert_int_equal(check(&REQUEST, header, NOW + 10),
                         i < HTTP_AUTH_NONCES ? HA_OK : HA_EBUSY);
    }
    assert_int_equal(check(&REQUEST, first, NOW + 10), HA_EAUTH);
    /* When the first ones are too old to pass anyway, there is room again. */
    assert_int_equal(check(&REQUEST, header, NOW + 61), HA_OK);
    assert_int_equal(check(&REQUEST, first, NOW + 61), HA_EAUTH);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_was_signed_with_the_secret_passes, set_up),
        cmocka_unit_test_setup(the_signature_is_what_the_documentation_says, set_up),
        cmocka_unit_test_setup(another_secret_is_refused, set_up),
        cmocka_unit_test_setup(a_signature_covers_every_part_of_the_request, set_up),
        cmocka_unit_test_setup(any_changed_or_missing_character_is_refused, set_up),
        cmocka_unit_test_setup(a_request_is_good_for_a_minute_either_way, set_up),
        cmocka_unit_test_setup(a_request_passes_once, set_up),
        cmocka_unit_test_setup(what_was_signed_before_the_start_is_refused, set_up),
        cmocka_unit_test_setup(a_full_memory_refuses_rather_than_forgets, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
