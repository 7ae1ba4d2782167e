/*
 * Goal:   a session exists only between two listed members that know the secret, in the direction
 *         that the identity says.
 * Method: both ends in memory, bytes carried by hand; every way of being somebody else is tried,
 *         a server with a certificate instead of the key among them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "agent/net/key.h"
#include "agent/net/peer_tls.h"

#define A "10.0.0.1"
#define B "fd00::2"
#define SECRET "a secret of the cluster"

static bool
lists_a_and_b(void *data, const char *address)
{
    (void)data;
    return strcmp(address, A) == 0 || strcmp(address, B) == 0;
}

static struct peer_tls_context *
context_of(const char *self, const char *secret)
{
    const struct peer_tls_config config = {
        .secret = (const uint8_t *)secret,
        .secret_len = strlen(secret),
        .self = self,
        .is_listed = lists_a_and_b,
    };
    struct peer_tls_context *context = NULL;

    assert_int_equal(peer_tls_context_new(&config, &context, NULL), HA_OK);
    return context;
}

static size_t
carry(struct peer_tls *from, struct peer_tls *to)
{
    const uint8_t *data = NULL;
    const size_t len = peer_tls_pending(from, &data);

    if (len > 0) {
        assert_int_equal(peer_tls_feed(to, data, len), HA_OK);
        peer_tls_sent(from);
    }
    return len;
}

/* Runs a handshake to its end; the results of the two ends. */
static void
shake(struct peer_tls *client, struct peer_tls *server, int *client_rc, int *server_rc)
{
    *client_rc = 0;
    *server_rc = 0;
    for (int round = 0; round < 6; round++) {
        if (*client_rc == 0) {
            *client_rc = peer_tls_handshake(client);
        }
        (void)carry(client, server);
        if (*server_rc == 0) {
            *server_rc = peer_tls_handshake(server);
        }
        (void)carry(server, client);
    }
}

struct pair {
    struct peer_tls_context *client_context;
    struct peer_tls_context *server_context;
    struct peer_tls *client;
    struct peer_tls *server;
    int client_rc;
    int server_rc;
};

/* CALLER, who knows `secret`, dials CALLED, which in truth is B and knows SECRET. */
static struct pair
call(const char *caller, const char *secret, const char *called)
{
    struct pair p = {.client_context = context_of(caller, secret),
                     .server_context = context_of(B, SECRET)};

    assert_int_equal(peer_tls_new(p.client_context, called, &p.client), HA_OK);
    assert_int_equal(peer_tls_new(p.server_context, NULL, &p.server), HA_OK);
    shake(p.client, p.server, &p.client_rc, &p.server_rc);
    return p;
}

static void
hang_up(struct pair *p)
{
    peer_tls_free(p->client);
    peer_tls_free(p->server);
    peer_tls_context_free(p->client_context);
    peer_tls_context_free(p->server_context);
}

static void
two_members_with_the_secret_agree_and_know_each_other(void **state)
{
    struct pair p = call(A, SECRET, B);
    char plain[64];

    (void)state;
    assert_int_equal(p.client_rc, 1);
    assert_int_equal(p.server_rc, 1);
    assert_string_equal(peer_tls_from(p.server), A);
    assert_int_equal(peer_tls_write(p.client, "hello", 5), HA_OK);
    (void)carry(p.client, p.server);
    assert_int_equal(peer_tls_read(p.server, plain, sizeof plain), 5);
    assert_memory_equal(plain, "hello", 5);
    assert_int_equal(peer_tls_read(p.server, plain, sizeof plain), 0);
    hang_up(&p);
}

static void
assert_refused(struct pair *p, enum peer_tls_refusal refusal)
{
    assert_int_equal(p->client_rc, HA_EAUTH);
    assert_int_equal(p->server_rc, HA_EAUTH);
    assert_int_equal(peer_tls_refusal(p->server), refusal);
    assert_true(peer_tls_why(p->server)[0] != '\0');
    assert_true(peer_tls_why(p->client)[0] != '\0');
    hang_up(p);
}

static void
a_wrong_secret_is_refused(void **state)
{
    struct pair p = call(A, "another secret", B);

    (void)state;
    assert_refused(&p, PEER_TLS_WRONG_KEY);
    p = call(A, "a secret of the cluste", B);
    assert_refused(&p, PEER_TLS_WRONG_KEY);
}

static void
who_is_not_listed_is_refused_in_spite_of_the_secret(void **state)
{
    struct pair p = call("10.0.0.3", SECRET, B);

    (void)state;
    assert_refused(&p, PEER_TLS_UNLISTED);
}

static void
a_call_for_somebody_else_is_refused(void **state)
{
    struct pair p = call(A, SECRET, "10.0.0.9");

    (void)state;
    assert_refused(&p, PEER_TLS_UNLISTED);
}

static void
each_direction_and_purpose_has_its_own_key(void **state)
{
    const uint8_t *secret = (const uint8_t *)SECRET;
    uint8_t keys[4][KEY_BYTES];

    (void)state;
    assert_int_equal(key_derive(secret, 7, KEY_LABEL_PEER, A " " B, keys[0]), HA_OK);
    assert_int_equal(key_derive(secret, 7, KEY_LABEL_PEER, B " " A, keys[1]), HA_OK);
    assert_int_equal(key_derive(secret, 7, KEY_LABEL_HTTP, A " " B, keys[2]), HA_OK);
    assert_int_equal(key_derive(secret, 8, KEY_LABEL_PEER, A " " B, keys[3]), HA_OK);
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < i; j++) {
            assert_memory_not_equal(keys[i], keys[j], KEY_BYTES);
        }
    }
    assert_int_equal(key_derive(secret, 0, KEY_LABEL_PEER, "", keys[0]), HA_EINVAL);
}

/* The expected bytes were computed with Python's hmac module. */
static void
the_derivation_is_hkdf_sha256(void **state)
{
    static const uint8_t expected[KEY_BYTES] = {0xb7, 0xd7, 0x9c, 0xf3, 0x06, 0x0a, 0xfd, 0x5d,
                                                0x44, 0x3f, 0x92, 0xa2, 0xfe, 0x70, 0x63, 0xb6,
                                                0x49, 0x56, 0xce, 0x63, 0x49, 0x77, 0xfe, 0x39,
                                                0xf0, 0x42, 0xe3, 0x54, 0x4f, 0x5d, 0x96, 0x3c};
    uint8_t key[KEY_BYTES];

    (void)state;
    assert_int_equal(key_derive((const uint8_t *)"secret", 6, KEY_LABEL_HTTP, "", key), HA_OK);
    assert_memory_equal(key, expected, KEY_BYTES);
}

static void
rubbish_is_refused(void **state)
{
    static const char *const rubbish[] = {"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                                          "\x16\x03\x01\x00\x05\x01\x00\x00\x01\xff",
                                          "SSH-2.0-OpenSSH_9.2\r\n"};
    struct peer_tls_context *context = context_of(B, SECRET);

    (void)state;
    for (size_t i = 0; i < HA_COUNT_OF(rubbish); i++) {
        struct peer_tls *server = NULL;
        assert_int_equal(peer_tls_new(context, NULL, &server), HA_OK);
        assert_int_equal(peer_tls_feed(server, rubbish[i], i == 1 ? 10 : strlen(rubbish[i])),
                         HA_OK);
        assert_int_equal(peer_tls_handshake(server), HA_EAUTH);
        assert_int_equal(peer_tls_refusal(server), PEER_TLS_NOT_PEER);
        peer_tls_free(server);
    }
    peer_tls_context_free(context);
}

/* An identity and a key of the test's choice, for a client that is not ours. */
static const char *foreign_identity;
static uint8_t foreign_key[KEY_BYTES];

static int
foreign_session(
    SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *len, SSL_SESSION **out)
{
    static const unsigned char suite[2] = {0x13, 0x01};

    (void)md;
    *out = SSL_SESSION_new();
    (void)SSL_SESSION_set1_master_key(*out, foreign_key, sizeof foreign_key);
    (void)SSL_SESSION_set_cipher(*out, SSL_CIPHER_find(ssl, suite));
    (void)SSL_SESSION_set_protocol_version(*out, TLS1_3_VERSION);
    *id = (const unsigned char *)foreign_identity;
    *len = strlen(foreign_identity);
    return 1;
}

/* What B answers to a hello with that identity and foreign_key. */
static int
answer_to(const char *identity, enum peer_tls_refusal *refusal)
{
    struct peer_tls_context *context = context_of(B, SECRET);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    BIO *in = BIO_new(BIO_s_mem());
    BIO *out = BIO_new(BIO_s_mem());
    struct peer_tls *server = NULL;
    char groups[] = "X25519";
    char *hello = NULL;

    foreign_identity = identity;
    SSL_set_psk_use_session_callback(ssl, foreign_session);
    SSL_set_bio(ssl, in, out);
    assert_int_equal(SSL_set1_groups_list(ssl, groups), 1);
    assert_int_equal(SSL_connect(ssl), -1);
    const long len = BIO_get_mem_data(out, &hello);
    assert_int_equal(peer_tls_new(context, NULL, &server), HA_OK);
    assert_int_equal(peer_tls_feed(server, hello, (size_t)len), HA_OK);
    const int rc = peer_tls_handshake(server);
    *refusal = peer_tls_refusal(server);
    peer_tls_free(server);
    peer_tls_context_free(context);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    return rc;
}

static enum peer_tls_refusal
refusal_of(const char *identity)
{
    enum peer_tls_refusal refusal = PEER_TLS_NOT_PEER;

    memset(foreign_key, 1, sizeof foreign_key);
    assert_int_equal(answer_to(identity, &refusal), HA_EAUTH);
    return refusal;
}

/* The answer to A's name with the key that a pair of words gives. */
static int
answer_with_key_of(const char *pair)
{
    enum peer_tls_refusal refusal = PEER_TLS_NOT_PEER;

    assert_int_equal(
        key_derive((const uint8_t *)SECRET, strlen(SECRET), KEY_LABEL_PEER, pair, foreign_key),
        HA_OK);
    return answer_to("hawser/1 " A " " B, &refusal);
}

static void
the_key_is_that_of_the_ordered_pair(void **state)
{
    (void)state;
    assert_int_equal(answer_with_key_of(A " " B), 0); /* goes on: it waits for the client's end */
    assert_int_equal(answer_with_key_of(B " " A), HA_EAUTH);
    assert_int_equal(answer_with_key_of(A " " A), HA_EAUTH);
    assert_int_equal(answer_with_key_of(""), HA_EAUTH);
}

static void
an_identity_is_ours_or_refused(void **state)
{
    (void)state;
    assert_int_equal(refusal_of("hawser/1 " A " " B), PEER_TLS_WRONG_KEY);
    assert_int_equal(refusal_of("hawser/2 " A " " B), PEER_TLS_VERSION);
    assert_int_equal(refusal_of("hawser/1 " A " " A), PEER_TLS_UNLISTED);
    assert_int_equal(refusal_of("hawser/1 10.0.0.3 " B), PEER_TLS_UNLISTED);
    static const char *const foreign[] = {"x",
                                          "hawser/1 ",
                                          "hawser/1 " A,
                                          "hawser/1 " A " ",
                                          "hawser/1 " A " " B " ",
                                          "hawser/1 " A "  " B,
                                          "hawser/1 " A "\n" B,
                                          "hawser/1 %s%n " B,
                                          "hawser/1 "
                                          "111111111111111111111111111111111111111111111111 " B,
                                          "Client_identity"};
    for (size_t i = 0; i < HA_COUNT_OF(foreign); i++) {
        assert_int_equal(refusal_of(foreign[i]), PEER_TLS_NOT_PEER);
    }
}

static SSL_CTX *
context_with_certificate(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *key = EVP_RSA_gen(2048);
    X509 *cert = X509_new();

    (void)X509_gmtime_adj(X509_getm_notBefore(cert), 0);
    (void)X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    (void)X509_set_pubkey(cert, key);
    (void)X509_sign(cert, key, EVP_sha256());
    assert_int_equal(SSL_CTX_use_certificate(ctx, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
    X509_free(cert);
    EVP_PKEY_free(key);
    return ctx;
}

static void
a_server_with_a_certificate_instead_of_the_key_is_refused(void **state)
{
    struct peer_tls_context *context = context_of(A, SECRET);
    SSL_CTX *ctx = context_with_certificate();
    SSL *server = SSL_new(ctx);
    BIO *in = BIO_new(BIO_s_mem());
    BIO *out = BIO_new(BIO_s_mem());
    struct peer_tls *client = NULL;
    const uint8_t *data = NULL;
    char *answer = NULL;

    (void)state;
    SSL_set_bio(server, in, out);
    assert_int_equal(peer_tls_new(context, B, &client), HA_OK);
    assert_int_equal(peer_tls_handshake(client), 0);
    const size_t len = peer_tls_pending(client, &data);
    assert_int_equal(BIO_write(in, data, (int)len), (int)len);
    assert_int_equal(SSL_accept(server), -1);
    const long n = BIO_get_mem_data(out, &answer);
    assert_true(n > 500); /* it does offer its certificate */
    assert_int_equal(peer_tls_feed(client, answer, (size_t)n), HA_OK);
    assert_int_equal(peer_tls_handshake(client), HA_EAUTH);
    peer_tls_free(client);
    peer_tls_context_free(context);
    SSL_free(server);
    SSL_CTX_free(ctx);
}

/*
 * Forty changes of keys. A message counts as the records that it takes, so large ones get there
 * quickly.
 */
static void
a_long_session_changes_its_keys_and_goes_on(void **state)
{
    static char body[16 * 16384];
    static char plain[16384];
    struct pair p = call(A, SECRET, B);
    size_t sent = 0;
    size_t got = 0;
    int n = 0;

    (void)state;
    assert_int_equal(p.client_rc, 1);
    for (int i = 0; i < 40 * (PEER_TLS_REKEY_RECORDS / 1024); i++) {
        for (int j = 0; j < 1024; j++) {
            const size_t len = j == 0 ? sizeof body : 8;
            assert_int_equal(peer_tls_write(p.client, body, len), HA_OK);
            sent += len;
        }
        (void)carry(p.client, p.server);
        while ((n = peer_tls_read(p.server, plain, sizeof plain)) > 0) {
            got += (size_t)n;
        }
        assert_int_equal(n, 0);
        (void)carry(p.server, p.client);
    }
    assert_int_equal(got, sent);
    hang_up(&p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_members_with_the_secret_agree_and_know_each_other),
        cmocka_unit_test(a_wrong_secret_is_refused),
        cmocka_unit_test(who_is_not_listed_is_refused_in_spite_of_the_secret),
        cmocka_unit_test(a_call_for_somebody_else_is_refused),
        cmocka_unit_test(each_direction_and_purpose_has_its_own_key),
        cmocka_unit_test(the_derivation_is_hkdf_sha256),
        cmocka_unit_test(rubbish_is_refused),
        cmocka_unit_test(an_identity_is_ours_or_refused),
        cmocka_unit_test(the_key_is_that_of_the_ordered_pair),
        cmocka_unit_test(a_server_with_a_certificate_instead_of_the_key_is_refused),
        cmocka_unit_test(a_long_session_changes_its_keys_and_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
