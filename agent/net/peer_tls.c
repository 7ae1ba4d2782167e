#include "agent/net/peer_tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/net/key.h"
#include "store/state.h"

#define SUITE "TLS_AES_128_GCM_SHA256"
#define IDENTITY_VERSION "hawser/1"
#define IDENTITY_MAX (16 + 2 * HA_ADDRESS_MAX)
#define RECORD_BYTES 16384 /* plain bytes of one TLS record */

struct peer_tls_context {
    SSL_CTX *ssl;
    struct peer_tls_config config;
};

struct peer_tls {
    struct peer_tls_context *context;
    SSL *ssl;
    BIO *in; /* owned by ssl, as is out */
    BIO *out;
    bool is_server;
    size_t records; /* written under the present key */
    enum peer_tls_refusal refusal;
    char from[HA_ADDRESS_MAX];
    char to[HA_ADDRESS_MAX];
    char identity[IDENTITY_MAX];
    char why[128];
};

static void
keep_why(struct peer_tls *tls)
{
    const unsigned long code = ERR_peek_error();
    const char *text = code == 0 ? NULL : ERR_reason_error_string(code);

    if (tls->why[0] == '\0') {
        (void)snprintf(tls->why, sizeof tls->why, "%s", text == NULL ? "connection lost" : text);
    }
    ERR_clear_error();
}

/* The session that stands for the key of an ordered pair, or NULL. */
static SSL_SESSION *
pair_session(SSL *ssl, const struct peer_tls_config *config, const char *from, const char *to)
{
    static const unsigned char suite_id[2] = {0x13, 0x01};
    char pair[2 * HA_ADDRESS_MAX + 1];
    uint8_t key[KEY_BYTES];
    const SSL_CIPHER *suite = SSL_CIPHER_find(ssl, suite_id);
    SSL_SESSION *session = SSL_SESSION_new();

    (void)snprintf(pair, sizeof pair, "%s %s", from, to);
    if (session == NULL || suite == NULL ||
        key_derive(config->secret, config->secret_len, KEY_LABEL_PEER, pair, key) != HA_OK ||
        SSL_SESSION_set1_master_key(session, key, sizeof key) != 1 ||
        SSL_SESSION_set_cipher(session, suite) != 1 ||
        SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) != 1) {
        SSL_SESSION_free(session);
        session = NULL;
    }
    key_wipe(key, sizeof key);
    return session;
}

/* OpenSSL asks the dialling end for its identity and key. */
static int
use_session(
    SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *id_len, SSL_SESSION **session)
{
    struct peer_tls *tls = SSL_get_app_data(ssl);

    (void)md; /* there is one suite, hence one digest */
    *session = pair_session(ssl, &tls->context->config, tls->from, tls->to);
    *id = (const unsigned char *)tls->identity;
    *id_len = strlen(tls->identity);
    return *session != NULL;
}

/* Copies one address out of an identity; the characters are those of literals and nothing else. */
static bool
take_address(const char **at, const char *end, char out[HA_ADDRESS_MAX])
{
    size_t n = 0;

    while (*at < end && **at != ' ') {
        const char c = **at;
        const bool is_fine = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') ||
                             (c >= 'A' && c <= 'F') || c == '.' || c == ':';
        if (!is_fine || n + 1 >= HA_ADDRESS_MAX) {
            return false;
        }
        out[n++] = c;
        (*at)++;
    }
    out[n] = '\0';
    return n > 0;
}

/* Fills in from and to, or says why the identity is not one of ours. */
static bool
parse_identity(struct peer_tls *tls, const char *id, size_t len)
{
    static const char family[] = "hawser/";
    static const char version[] = IDENTITY_VERSION " ";
    const char *at = id + sizeof version - 1;
    const char *end = id + len;

    if (len < sizeof version - 1 || memcmp(id, version, sizeof version - 1) != 0) {
        if (len >= sizeof family - 1 && memcmp(id, family, sizeof family - 1) == 0) {
            tls->refusal = PEER_TLS_VERSION;
        }
        return false;
    }
    if (!take_address(&at, end, tls->from) || at == end) {
        tls->from[0] = '\0';
        return false;
    }
    at++; /* the blank */
    if (!take_address(&at, end, tls->to) || at != end) {
        tls->from[0] = '\0';
        return false;
    }
    return true;
}

/* OpenSSL asks the accepting end for the key of an identity. No key: the handshake fails. */
static int
find_session(SSL *ssl, const unsigned char *id, size_t id_len, SSL_SESSION **session)
{
    struct peer_tls *tls = SSL_get_app_data(ssl);
    const struct peer_tls_config *config = &tls->context->config;

    *session = NULL;
    if (!tls->is_server || !parse_identity(tls, (const char *)id, id_len)) {
        return 1;
    }
    if (strcmp(tls->to, config->self) != 0 || !config->is_listed(config->data, tls->from)) {
        tls->refusal = PEER_TLS_UNLISTED;
        return 1;
    }
    tls->refusal = PEER_TLS_WRONG_KEY; /* until the handshake shows otherwise */
    *session = pair_session(ssl, config, tls->from, tls->to);
    return 1;
}

int
peer_tls_context_new(const struct peer_tls_config *config,
                     struct peer_tls_context **out,
                     struct err *err)
{
    char groups[] = "X25519";
    struct peer_tls_context *context = calloc(1, sizeof *context);
    SSL_CTX *ssl = SSL_CTX_new(TLS_method());

    if (context == NULL || ssl == NULL || SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(ssl, SUITE) != 1 || SSL_CTX_set1_groups_list(ssl, groups) != 1 ||
        SSL_CTX_set_num_tickets(ssl, 0) != 1) {
        ERR_clear_error();
        SSL_CTX_free(ssl);
        free(context);
        return err_set(err, HA_EFAILED, "OpenSSL cannot do TLS 1.3 with " SUITE);
    }
    (void)SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
    (void)SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_psk_use_session_callback(ssl, use_session);
    SSL_CTX_set_psk_find_session_callback(ssl, find_session);
    context->ssl = ssl;
    context->config = *config;
    *out = context;
    return HA_OK;
}

void
peer_tls_context_free(struct peer_tls_context *context)
{
    if (context != NULL) {
        SSL_CTX_free(context->ssl);
        free(context);
    }
}

static void
init_role(struct peer_tls *tls, const char *to)
{
    if (to == NULL) {
        tls->is_server = true;
        SSL_set_accept_state(tls->ssl);
        return;
    }
    (void)snprintf(tls->from, sizeof tls->from, "%s", tls->context->config.self);
    (void)snprintf(tls->to, sizeof tls->to, "%s", to);
    (void)snprintf(
        tls->identity, sizeof tls->identity, IDENTITY_VERSION " %s %s", tls->from, tls->to);
    /* No certificate is trusted, so that one cannot stand in for the key. */
    SSL_set_verify(tls->ssl, SSL_VERIFY_PEER, NULL);
    SSL_set_connect_state(tls->ssl);
}

int
peer_tls_new(struct peer_tls_context *context, const char *to, struct peer_tls **out)
{
    struct peer_tls *tls = calloc(1, sizeof *tls);

    if (tls == NULL) {
        return HA_ENOMEM;
    }
    tls->context = context;
    tls->ssl = SSL_new(context->ssl);
    tls->in = BIO_new(BIO_s_mem());
    tls->out = BIO_new(BIO_s_mem());
    if (tls->ssl == NULL || tls->in == NULL || tls->out == NULL) {
        BIO_free(tls->in);
        BIO_free(tls->out);
        SSL_free(tls->ssl);
        free(tls);
        return HA_ENOMEM;
    }
    SSL_set_bio(tls->ssl, tls->in, tls->out);
    SSL_set_app_data(tls->ssl, tls);
    init_role(tls, to);
    *out = tls;
    return HA_OK;
}

void
peer_tls_free(struct peer_tls *tls)
{
    if (tls != NULL) {
        SSL_free(tls->ssl);
        ERR_clear_error();
        free(tls);
    }
}

int
peer_tls_feed(struct peer_tls *tls, const void *data, size_t len)
{
    REQUIRE(len <= INT32_MAX, "bytes of one read");
    return BIO_write(tls->in, data, (int)len) == (int)len ? HA_OK : HA_ENOMEM;
}

int
peer_tls_handshake(struct peer_tls *tls)
{
    ERR_clear_error();
    const int rc = SSL_do_handshake(tls->ssl);
    if (rc != 1) {
        if (SSL_get_error(tls->ssl, rc) == SSL_ERROR_WANT_READ) {
            return 0;
        }
        keep_why(tls);
        return HA_EAUTH;
    }
    /* A handshake that used no PSK of ours proves nothing, however it came about. */
    if (SSL_session_reused(tls->ssl) != 1 || SSL_version(tls->ssl) != TLS1_3_VERSION) {
        (void)snprintf(tls->why, sizeof tls->why, "handshake without our key");
        return HA_EAUTH;
    }
    return 1;
}

int
peer_tls_read(struct peer_tls *tls, void *out, size_t size)
{
    REQUIRE(size > 0 && size <= INT32_MAX, "room for a record");
    ERR_clear_error();
    const int n = SSL_read(tls->ssl, out, (int)size);
    if (n > 0) {
        return n;
    }
    switch (SSL_get_error(tls->ssl, n)) {
    case SSL_ERROR_WANT_READ:
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        return HA_ECANCELED;
    default:
        keep_why(tls);
        return HA_EIO;
    }
}

int
peer_tls_write(struct peer_tls *tls, const void *data, size_t len)
{
    REQUIRE(len > 0 && len <= INT32_MAX, "a message is bounded");
    ERR_clear_error();
    tls->records += len / RECORD_BYTES + 1;
    if (tls->records >= PEER_TLS_REKEY_RECORDS) {
        tls->records = 0;
        if (SSL_key_update(tls->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1) {
            keep_why(tls);
            return HA_EIO;
        }
    }
    if (SSL_write(tls->ssl, data, (int)len) != (int)len) {
        keep_why(tls);
        return HA_EIO;
    }
    return HA_OK;
}

size_t
peer_tls_pending(struct peer_tls *tls, const uint8_t **data)
{
    char *at = NULL;
    const long n = BIO_get_mem_data(tls->out, &at);

    *data = (const uint8_t *)at;
    return n > 0 ? (size_t)n : 0;
}

void
peer_tls_sent(struct peer_tls *tls)
{
    (void)BIO_reset(tls->out);
}

const char *
peer_tls_from(const struct peer_tls *tls)
{
    return tls->from;
}

enum peer_tls_refusal
peer_tls_refusal(const struct peer_tls *tls)
{
    return tls->refusal;
}

const char *
peer_tls_why(const struct peer_tls *tls)
{
    return tls->why;
}
