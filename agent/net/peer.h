/*
 * peer.h - the one TLS port between agents: framed, authenticated, bounded messages.
 *
 * Every agent dials every other one and sends on the connection that it dialled;
 * what it accepted it only reads. TLS 1.3 with an external PSK per ordered pair of
 * members, derived from the cluster secret, so that nothing is parsed before both
 * ends have shown that they know the secret and who they are.
 *
 * Delivery: in order per pair while a connection lasts, else lost. Nobody is told:
 *           every protocol above repeats itself.
 * Threads:  the loop's only. Callbacks never run inside peer_send().
 * Memory:   the caller's buffers are borrowed for the call.
 */
#ifndef HA_NET_PEER_H
#define HA_NET_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"
#include "store/state.h"

#define PEER_MESSAGE_MAX (1024 * 1024) /* bytes of one message's body */

/* First byte range of the types says who reads them; see agent/core/message.h and raft/. */
enum peer_type {
    PEER_STATUS = 1, /* agent/core/message.h */
    PEER_PROBE,
    PEER_PROBE_ANSWER,
    PEER_LEASE_REQUEST,
    PEER_LEASE_GRANT,
    PEER_RELEASE,
    PEER_RAFT = 32, /* raft/: one libraft message */
    PEER_PROPOSE,   /* raft/: a command for the leader, */
    PEER_PROPOSED,  /* and what became of it */
    PEER_TYPE_COUNT,
};

struct peer_link;

struct peer_callbacks {
    void *data;
    /* A message from the authenticated member at `from`. `body` is borrowed for the call. */
    void (*on_message)(void *data, const char *from, uint8_t type, const void *body, size_t len);
    /* The outgoing connection to `to` is up (true) or went down (false). */
    void (*on_connected)(void *data, const char *to, bool is_connected);
    /* One line for the log, already limited: a stranger is told of once a minute at most.
     * level: 0 error, 1 warn, 2 info, 3 debug. `event` is a stable snake_case word. */
    void (*on_log)(void *data, int level, const char *event, const char *text);
};

struct peer_config {
    uv_loop_t *loop;
    const char *self;        /* own member address, as the others list it */
    const char *listen_host; /* address to bind, e.g. own address or "0.0.0.0" */
    uint16_t port;           /* HA_PEER_PORT; the same on every member */
    const uint8_t *secret;   /* cluster secret; copied, wiped on close */
    size_t secret_len;
    struct peer_callbacks callbacks;
};

/* Binds and listens. HA_EBUSY when the port is in use (text names address and port). */
int
peer_open(const struct peer_config *config, struct peer_link **out, struct err *err) HA_MUST_CHECK;

/* Closes every connection; `closed` runs when all handles are gone and the memory is freed. */
void peer_close(struct peer_link *link, void (*closed)(void *data), void *data);

/*
 * The addresses that may connect and are dialled (own address is left aside). Connections of
 * members that are no longer listed are closed. n <= 2 * HA_MEMBERS_MAX.
 */
void peer_set_members(struct peer_link *link, const char *const addresses[], size_t n);

/* False when nothing was queued: unknown address, not connected, or the queue is full. */
bool peer_send(struct peer_link *link, const char *to, uint8_t type, const void *body, size_t len);

bool peer_is_connected(const struct peer_link *link, const char *to);

#endif
