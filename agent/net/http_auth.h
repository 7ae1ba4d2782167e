/*
 * http_auth.h - a signature for requests that change something.
 *
 *   Authorization: Hawser t=<unix seconds>,n=<32 hex digits>,h=<64 hex digits>
 *
 * h is HMAC-SHA256 over "method\ntarget\nt\nn\n" and the body, with a key that
 * is derived from the cluster secret; target is path and query as sent. A
 * request is good for a minute, once: nonces are remembered for that long, and
 * what was signed before this agent started is refused, as a nonce of then is
 * forgotten. It does not name the agent it is meant for: within that minute
 * whoever sees one request may send the same to another agent of the cluster,
 * and commands are idempotent because of that.
 *
 * Needs OpenSSL only: hactl signs with the same file.
 * Clock:  wall clock, passed in.
 * Memory: plain data, the caller's; http_auth_fini() wipes the key.
 */
#ifndef HA_NET_HTTP_AUTH_H
#define HA_NET_HTTP_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/net/key.h"
#include "base/err.h"

#define HTTP_AUTH_WINDOW_S 60
#define HTTP_AUTH_NONCES 1024
#define HTTP_AUTH_NONCE_BYTES 16
#define HTTP_AUTH_HEADER_MAX 160 /* of the header's value, with its NUL */

struct http_auth {
    uint8_t key[KEY_BYTES];
    int64_t started_s;
    struct {
        int64_t time_s; /* that the request said */
        bool is_used;
        uint8_t nonce[HTTP_AUTH_NONCE_BYTES];
    } nonces[HTTP_AUTH_NONCES];
};

/* What is signed. */
struct http_auth_request {
    const char *method;
    const char *target; /* path and query, as in the request line */
    const void *body;
    size_t body_len;
};

/* `now_s`: requests signed before it are refused; 0 for who only signs. */
int http_auth_init(struct http_auth *auth, const uint8_t *secret, size_t secret_len, int64_t now_s)
    HA_MUST_CHECK;
void http_auth_fini(struct http_auth *auth);

/* Writes the header's value. The nonce is the caller's, fresh from a random source. */
int http_auth_sign(const struct http_auth *auth,
                   const struct http_auth_request *request,
                   int64_t now_s,
                   const uint8_t nonce[HTTP_AUTH_NONCE_BYTES],
                   char out[HTTP_AUTH_HEADER_MAX]) HA_MUST_CHECK;

/*
 * HA_OK: signed with the secret, in time, for the first time. HA_EAUTH: not so, and the text says
 * which (it is fit to be sent). HA_EBUSY: more signed requests in a minute than are remembered.
 * `header` may be NULL.
 */
int http_auth_check(struct http_auth *auth,
                    const struct http_auth_request *request,
                    const char *header,
                    int64_t now_s,
                    struct err *err) HA_MUST_CHECK;

#endif
