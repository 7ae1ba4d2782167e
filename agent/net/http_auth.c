#include "agent/net/http_auth.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdio.h>
#include <string.h>

#define HMAC_BYTES 32
#define TIME_DIGITS_MAX 12

/* A header's value, taken apart. */
struct parts {
    int64_t time_s;
    uint8_t nonce[HTTP_AUTH_NONCE_BYTES];
    uint8_t hmac[HMAC_BYTES];
};

static void
put_hex(char *out, const uint8_t *from, size_t n)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[from[i] >> 4];
        out[2 * i + 1] = digits[from[i] & 15];
    }
    out[2 * n] = '\0';
}

static int
hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Reads exactly n bytes as lower-case hex; moves *at along. */
static bool
take_hex(const char **at, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const int high = hex_value((*at)[0]);
        const int low = high < 0 ? -1 : hex_value((*at)[1]);
        if (low < 0) {
            return false;
        }
        out[i] = (uint8_t)(high * 16 + low);
        *at += 2;
    }
    return true;
}

static bool
take_text(const char **at, const char *text)
{
    const size_t n = strlen(text);

    if (strncmp(*at, text, n) != 0) {
        return false;
    }
    *at += n;
    return true;
}

static bool
take_time(const char **at, int64_t *out)
{
    size_t n = 0;

    *out = 0;
    while (n < TIME_DIGITS_MAX && **at >= '0' && **at <= '9') {
        *out = *out * 10 + (**at - '0');
        (*at)++;
        n++;
    }
    return n > 0;
}

static bool
parse_header(const char *header, struct parts *out)
{
    const char *at = header;

    return take_text(&at, "Hawser t=") && take_time(&at, &out->time_s) && take_text(&at, ",n=") &&
           take_hex(&at, out->nonce, sizeof out->nonce) && take_text(&at, ",h=") &&
           take_hex(&at, out->hmac, sizeof out->hmac) && *at == '\0';
}

static bool
add(EVP_MAC_CTX *ctx, const void *data, size_t len)
{
    return len == 0 || EVP_MAC_update(ctx, data, len) == 1;
}

/* The HMAC over what is signed. */
static int
compute(const struct http_auth *auth,
        const struct http_auth_request *request,
        int64_t time_s,
        const uint8_t *nonce,
        uint8_t out[HMAC_BYTES])
{
    char digest[] = "SHA256";
    char hex[2 * HTTP_AUTH_NONCE_BYTES + 1];
    char tail[64];
    size_t len = 0;
    int rc = HA_EFAILED;
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };

    put_hex(hex, nonce, HTTP_AUTH_NONCE_BYTES);
    (void)snprintf(tail, sizeof tail, "\n%lld\n%s\n", (long long)time_s, hex);
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *ctx = mac == NULL ? NULL : EVP_MAC_CTX_new(mac);
    if (ctx != NULL && EVP_MAC_init(ctx, auth->key, sizeof auth->key, params) == 1 &&
        add(ctx, request->method, strlen(request->method)) && add(ctx, "\n", 1) &&
        add(ctx, request->target, strlen(request->target)) && add(ctx, tail, strlen(tail)) &&
        add(ctx, request->body, request->body_len) &&
        EVP_MAC_final(ctx, out, &len, HMAC_BYTES) == 1 && len == HMAC_BYTES) {
        rc = HA_OK;
    }
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);
    return rc;
}

int
http_auth_init(struct http_auth *auth, const uint8_t *secret, size_t secret_len, int64_t now_s)
{
    memset(auth, 0, sizeof *auth);
    auth->started_s = now_s;
    return key_derive(secret, secret_len, KEY_LABEL_HTTP, "", auth->key);
}

void
http_auth_fini(struct http_auth *auth)
{
    key_wipe(auth, sizeof *auth);
}

int
http_auth_sign(const struct http_auth *auth,
               const struct http_auth_request *request,
               int64_t now_s,
               const uint8_t nonce[HTTP_AUTH_NONCE_BYTES],
               char out[HTTP_AUTH_HEADER_MAX])
{
    uint8_t hmac[HMAC_BYTES];
    char nonce_hex[2 * HTTP_AUTH_NONCE_BYTES + 1];
    char hmac_hex[2 * HMAC_BYTES + 1];
    const int rc = compute(auth, request, now_s, nonce, hmac);

    put_hex(nonce_hex, nonce, HTTP_AUTH_NONCE_BYTES);
    put_hex(hmac_hex, hmac, rc == HA_OK ? HMAC_BYTES : 0);
    (void)snprintf(out,
                   HTTP_AUTH_HEADER_MAX,
                   "Hawser t=%lld,n=%s,h=%s",
                   (long long)now_s,
                   nonce_hex,
                   hmac_hex);
    return rc;
}

/* A nonce can be forgotten when the time window refuses its request anyway. */
static bool
is_forgettable(const struct http_auth *auth, size_t i, int64_t now_s)
{
    return !auth->nonces[i].is_used || now_s - auth->nonces[i].time_s > HTTP_AUTH_WINDOW_S;
}

/* Remembers a nonce. HA_EAUTH: it is known already; HA_EBUSY: there is no room. */
static int
remember(struct http_auth *auth, const struct parts *parts, int64_t now_s)
{
    size_t room = HTTP_AUTH_NONCES;

    for (size_t i = 0; i < HTTP_AUTH_NONCES; i++) {
        if (is_forgettable(auth, i, now_s)) {
            room = i;
        } else if (memcmp(auth->nonces[i].nonce, parts->nonce, sizeof parts->nonce) == 0) {
            return HA_EAUTH;
        }
    }
    if (room == HTTP_AUTH_NONCES) {
        return HA_EBUSY;
    }
    auth->nonces[room].is_used = true;
    auth->nonces[room].time_s = parts->time_s;
    memcpy(auth->nonces[room].nonce, parts->nonce, sizeof parts->nonce);
    return HA_OK;
}

int
http_auth_check(struct http_auth *auth,
                const struct http_auth_request *request,
                const char *header,
                int64_t now_s,
                struct err *err)
{
    struct parts parts;
    uint8_t expected[HMAC_BYTES];

    if (header == NULL || header[0] == '\0') {
        return err_set(err, HA_EAUTH, "this request has to be signed");
    }
    if (!parse_header(header, &parts)) {
        return err_set(err, HA_EAUTH, "the Authorization header is not one of ours");
    }
    /* The signature first: an outsider learns nothing about clocks and nonces. */
    if (compute(auth, request, parts.time_s, parts.nonce, expected) != HA_OK ||
        CRYPTO_memcmp(expected, parts.hmac, sizeof expected) != 0) {
        return err_set(err, HA_EAUTH, "the signature is not made with this cluster's secret");
    }
    const int64_t age_s = now_s - parts.time_s;
    if (age_s > HTTP_AUTH_WINDOW_S || age_s < -HTTP_AUTH_WINDOW_S) {
        return err_set(err,
                       HA_EAUTH,
                       "signed %lld s %s by this agent's clock, %d are accepted",
                       (long long)(age_s < 0 ? -age_s : age_s),
                       age_s < 0 ? "in the future" : "ago",
                       HTTP_AUTH_WINDOW_S);
    }
    if (parts.time_s < auth->started_s) {
        return err_set(err, HA_EAUTH, "signed before this agent started; sign it again");
    }
    const int rc = remember(auth, &parts, now_s);
    if (rc == HA_EBUSY) {
        return err_set(err, rc, "too many signed requests within a minute");
    }
    return rc == HA_OK ? rc : err_set(err, rc, "this request was received before");
}
