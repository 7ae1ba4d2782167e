/*
 * peer_tls.h - TLS 1.3 between two members, without sockets.
 *
 * Bytes in, bytes out: the caller moves them. The key of a session is derived
 * from the cluster secret and the ordered pair (from, to); the PSK identity is
 * the text "hawser/1 FROM TO". There are no certificates and no tickets: who
 * does not know the secret gets nothing but an alert, on either side.
 *
 * Clock:  none.
 * Memory: sessions borrow the context, which borrows the configuration's pointers.
 * Errors: HA_EAUTH for a handshake that failed; peer_tls_why() says it in words.
 */
#ifndef HA_NET_PEER_TLS_H
#define HA_NET_PEER_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* After so many records the sender changes keys, far below the limit of AES-GCM (2^24.5). */
#define PEER_TLS_REKEY_RECORDS 16384

/* Why a server refused. */
enum peer_tls_refusal {
    PEER_TLS_NOT_PEER = 0, /* no TLS, or no identity of ours */
    PEER_TLS_VERSION,      /* an identity of another version */
    PEER_TLS_UNLISTED,     /* from somebody who is not listed, or to somebody else */
    PEER_TLS_WRONG_KEY,    /* a good identity, the wrong secret */
};

struct peer_tls_config {
    const uint8_t *secret;
    size_t secret_len;
    const char *self;
    void *data;
    bool (*is_listed)(void *data, const char *address);
};

struct peer_tls_context;
struct peer_tls;

int peer_tls_context_new(const struct peer_tls_config *config,
                         struct peer_tls_context **out,
                         struct err *err) HA_MUST_CHECK;
void peer_tls_context_free(struct peer_tls_context *context);

/* One end of a session; `to` is the member that is dialled, NULL at the end that accepts. */
int
peer_tls_new(struct peer_tls_context *context, const char *to, struct peer_tls **out) HA_MUST_CHECK;
void peer_tls_free(struct peer_tls *tls);

/* Bytes that came from the network. */
int peer_tls_feed(struct peer_tls *tls, const void *data, size_t len) HA_MUST_CHECK;

/* 1: both ends have shown who they are. 0: more bytes are needed. HA_EAUTH: it failed. */
int peer_tls_handshake(struct peer_tls *tls) HA_MUST_CHECK;

/* Plain bytes, > 0; 0: more are needed; HA_ECANCELED: the other end said goodbye; HA_EIO. */
int peer_tls_read(struct peer_tls *tls, void *out, size_t size) HA_MUST_CHECK;

/* Encrypts all of it, after the handshake. HA_EIO: the session is lost. */
int peer_tls_write(struct peer_tls *tls, const void *data, size_t len) HA_MUST_CHECK;

/* Bytes that wait to go to the network; valid until the next call. peer_tls_sent() drops them. */
size_t peer_tls_pending(struct peer_tls *tls, const uint8_t **data);
void peer_tls_sent(struct peer_tls *tls);

/* The member that dialled, "" while no good identity was seen; true after the handshake only. */
const char *peer_tls_from(const struct peer_tls *tls);

enum peer_tls_refusal peer_tls_refusal(const struct peer_tls *tls);

/* The reason of the last error, without a word that a stranger chose. */
const char *peer_tls_why(const struct peer_tls *tls);

#endif
