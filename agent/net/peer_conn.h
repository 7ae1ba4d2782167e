/*
 * peer_conn.h - one connection of the peer link: dialled (we send) or accepted (we read).
 *
 * States: CONNECTING (dialled only) -> HANDSHAKE -> UP -> CLOSING; every state may go to
 * CLOSING, and nothing leaves it. Its time-outs are kept by whoever sweeps, see peer.c.
 *
 * Threads: the loop's only.
 * Memory:  heap; freed after on_closed, when libuv has let go of the handle.
 */
#ifndef HA_NET_PEER_CONN_H
#define HA_NET_PEER_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "agent/net/peer_frame.h"
#include "agent/net/peer_log.h"
#include "agent/net/peer_tls.h"
#include "store/state.h"

#define PEER_HANDSHAKE_MS 2000
#define PEER_QUEUE_MAX (4 * 1024 * 1024) /* bytes that may wait for the network */
#define PEER_HANDSHAKE_BYTES_MAX 16384   /* that somebody may send before being known */

enum peer_conn_state {
    PEER_CONN_CONNECTING = 0,
    PEER_CONN_HANDSHAKE,
    PEER_CONN_UP,
    PEER_CONN_CLOSING,
};

struct peer_conn;

/* What all connections of one link share. */
struct peer_conn_env {
    uv_loop_t *loop;
    struct peer_tls_context *tls;
    void *data;
    /* The handshake is done. */
    void (*on_up)(void *data, struct peer_conn *conn);
    void (*on_message)(void *data,
                       struct peer_conn *conn,
                       const struct peer_frame_message *message);
    /* Runs inside the call that closes; conn->why and conn->text are set. */
    void (*on_closing)(void *data, struct peer_conn *conn);
    /* The handle is gone; the connection is freed on return. */
    void (*on_closed)(void *data, struct peer_conn *conn);
    char bytes[65536];     /* as read; used up before the read callback ends */
    uint8_t plain[16384];  /* as decrypted; the same */
    uint8_t record[16384]; /* a small message on its way out */
};

struct peer_conn {
    uv_tcp_t tcp;
    uv_connect_t connecting;
    struct peer_conn_env *env;
    struct peer_conn *next; /* the owner's list, as is previous */
    struct peer_conn *previous;
    enum peer_conn_state state;
    bool is_outgoing;
    bool was_up;
    struct peer_tls *tls; /* an accepted one gets it with its first byte */
    struct peer_frame frame;
    size_t handshake_bytes;
    uint64_t opened_ms; /* times are uv_now() */
    uint64_t received_ms;
    uint64_t sent_ms;
    char address[HA_ADDRESS_MAX]; /* the member: dialled, or known since the handshake */
    char source[HA_ADDRESS_MAX];  /* where an accepted one comes from */
    enum peer_event why;          /* of closing */
    char text[192];
};

/* A connection that is not started yet. `to` is NULL for one that will be accepted. */
struct peer_conn *peer_conn_new(struct peer_conn_env *env, const char *to);

/* Dials, from the address `from` where that is one of this host's. It may be closing on return. */
void peer_conn_dial(struct peer_conn *conn, const char *from, uint16_t port);

/* Takes the next connection of a listening socket. It may be closing on return. */
void peer_conn_accept(struct peer_conn *conn, uv_stream_t *listening);

/* False when the queue is full, or the connection is not up. Never closes at once. */
bool peer_conn_send(struct peer_conn *conn, uint8_t type, const void *body, size_t len);

/* Closes for a reason; a connection that is closing already stays as it is. */
void peer_conn_close(struct peer_conn *conn, enum peer_event why, const char *fmt, ...)
    HA_PRINTF(3, 4);

#endif
