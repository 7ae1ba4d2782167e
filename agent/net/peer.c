/*
 * The link: who is dialled, who may call, and one sweep that keeps every time-out.
 */
#include "agent/net/peer.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/net/key.h"
#include "agent/net/listen.h"
#include "agent/net/peer_conn.h"
#include "agent/net/peer_log.h"
#include "agent/net/peer_tls.h"

#define PEERS_MAX (2 * HA_MEMBERS_MAX)
#define PENDING_MAX 32 /* accepted and not yet known; with one per member, all that is ever open */
#define SWEEP_MS 50
#define IDLE_MS 10000 /* an accepted connection that was silent for so long is closed */
#define ALIVE_MS 3000 /* a dialled one says that it is there when nothing else was said */
#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 1000
#define STEADY_MS 2000 /* up for so long: the next retry is quick again */

/* A member that we dial. */
struct peer {
    char address[HA_ADDRESS_MAX];
    struct peer_conn *conn; /* NULL between two attempts */
    uint64_t retry_at_ms;
    uint64_t retry_ms;
    bool is_failure_told; /* since it was up the last time */
};

struct peer_link {
    struct peer_conn_env env;
    struct peer_callbacks callbacks;
    struct peer_log log;
    char self[HA_ADDRESS_MAX];
    uint16_t port;
    uint8_t *secret;
    size_t secret_len;
    struct peer_tls_context *tls;
    uv_tcp_t listening;
    uv_timer_t timer;
    size_t n_handles; /* not yet closed */
    bool is_closing;
    void (*closed)(void *data);
    void *closed_data;
    struct peer peers[PEERS_MAX];
    size_t n_peers;
    struct peer_conn *accepted; /* list, newest first, none of them closing */
    size_t n_pending;           /* of them in handshake */
    uint64_t swept_ms;
    char full_to[HA_ADDRESS_MAX]; /* a message to it was dropped; told by the sweep */
    unsigned n_full;
};

static uint64_t
link_now(const struct peer_link *link)
{
    return uv_now(link->env.loop);
}

static struct peer *
find_peer(struct peer_link *link, const char *address)
{
    for (size_t i = 0; i < link->n_peers; i++) {
        if (strcmp(link->peers[i].address, address) == 0) {
            return &link->peers[i];
        }
    }
    return NULL;
}

static bool
is_listed(void *data, const char *address)
{
    return find_peer(data, address) != NULL;
}

static void
write_log(void *data, int level, const char *event, const char *text)
{
    struct peer_link *link = data;

    link->callbacks.on_log(link->callbacks.data, level, event, text);
}

/* Frees the link when libuv has let go of the last handle. */
static void
release_handle(struct peer_link *link)
{
    ENSURE(link->n_handles > 0, "every handle is counted");
    link->n_handles--;
    if (link->n_handles > 0) {
        return;
    }
    ENSURE(link->is_closing, "the timer lives as long as the link");
    void (*closed)(void *data) = link->closed;
    void *data = link->closed_data;
    peer_tls_context_free(link->tls);
    key_wipe(link->secret, link->secret_len);
    free(link->secret);
    free(link);
    if (closed != NULL) {
        closed(data);
    }
}

static void
list_add(struct peer_link *link, struct peer_conn *conn)
{
    conn->previous = NULL;
    conn->next = link->accepted;
    if (conn->next != NULL) {
        conn->next->previous = conn;
    }
    link->accepted = conn;
    link->n_pending++;
}

static void
list_remove(struct peer_link *link, struct peer_conn *conn)
{
    if (conn->previous != NULL) {
        conn->previous->next = conn->next;
    } else {
        link->accepted = conn->next;
    }
    if (conn->next != NULL) {
        conn->next->previous = conn->previous;
    }
    if (!conn->was_up) {
        link->n_pending--;
    }
}

static void
on_closing(void *data, struct peer_conn *conn)
{
    struct peer_link *link = data;

    if (!conn->is_outgoing) {
        list_remove(link, conn);
        return;
    }
    struct peer *peer = find_peer(link, conn->address);
    if (peer == NULL || peer->conn != conn) {
        return; /* no longer listed */
    }
    peer->conn = NULL;
    if (conn->was_up && link_now(link) - conn->opened_ms >= STEADY_MS) {
        peer->retry_ms = RETRY_MIN_MS;
    }
    peer->retry_at_ms = link_now(link) + peer->retry_ms;
    peer->retry_ms = 2 * peer->retry_ms < RETRY_MAX_MS ? 2 * peer->retry_ms : RETRY_MAX_MS;
}

/* Tells about the end of a dialled connection: its loss, or the first of a row of failures. */
static void
tell_outgoing(struct peer_link *link, struct peer_conn *conn)
{
    struct peer *peer = find_peer(link, conn->address);

    if (conn->was_up) {
        peer_log_say(
            &link->log, link_now(link), conn->why, "lost %s: %s", conn->address, conn->text);
        if (link->callbacks.on_connected != NULL) {
            link->callbacks.on_connected(link->callbacks.data, conn->address, false);
        }
    } else if (peer != NULL && !peer->is_failure_told) {
        peer->is_failure_told = true;
        peer_log_say(&link->log,
                     link_now(link),
                     conn->why,
                     "cannot connect to %s: %s; trying on",
                     conn->address,
                     conn->text);
    }
}

static void
on_closed(void *data, struct peer_conn *conn)
{
    struct peer_link *link = data;

    if (!link->is_closing) {
        if (conn->is_outgoing) {
            tell_outgoing(link, conn);
        } else if (conn->was_up) {
            peer_log_say(&link->log,
                         link_now(link),
                         conn->why,
                         "call from %s ended: %s",
                         conn->address,
                         conn->text);
        } else {
            peer_log_say(
                &link->log, link_now(link), conn->why, "from %s: %s", conn->source, conn->text);
        }
    }
    release_handle(link);
}

/* A member has proved itself on an accepted connection; an older one of it is a leftover. */
static void
admit(struct peer_link *link, struct peer_conn *conn)
{
    struct peer_conn *next = NULL;

    link->n_pending--;
    for (struct peer_conn *other = link->accepted; other != NULL; other = next) {
        next = other->next;
        if (other != conn && other->was_up && strcmp(other->address, conn->address) == 0) {
            peer_conn_close(other, PEER_EVENT_REPLACED, "a newer one took its place");
        }
    }
}

static void
on_up(void *data, struct peer_conn *conn)
{
    struct peer_link *link = data;

    if (!conn->is_outgoing) {
        admit(link, conn);
        return;
    }
    struct peer *peer = find_peer(link, conn->address);
    ENSURE(peer != NULL && peer->conn == conn, "who is not listed is not connected");
    peer->is_failure_told = false;
    peer_log_say(&link->log, link_now(link), PEER_EVENT_UP, "connected to %s", conn->address);
    if (link->callbacks.on_connected != NULL) {
        link->callbacks.on_connected(link->callbacks.data, conn->address, true);
    }
}

static void
on_message(void *data, struct peer_conn *conn, const struct peer_frame_message *message)
{
    struct peer_link *link = data;

    link->callbacks.on_message(
        link->callbacks.data, conn->address, message->type, message->body, message->len);
}

/*
 * Somebody knocks and all places are taken: the one that waited longest leaves. A member needs a
 * place for a few milliseconds only, so it gets through where a fixed limit would keep it out;
 * and while there is another choice, it is not somebody at a member's address that has to go.
 */
static void
make_room(struct peer_link *link)
{
    struct peer_conn *oldest = NULL;
    struct peer_conn *oldest_stranger = NULL;

    for (struct peer_conn *conn = link->accepted; conn != NULL; conn = conn->next) {
        if (conn->state != PEER_CONN_HANDSHAKE) {
            continue;
        }
        oldest = conn; /* the list is newest first */
        if (find_peer(link, conn->source) == NULL) {
            oldest_stranger = conn;
        }
    }
    ENSURE(oldest != NULL, "all places are taken");
    peer_conn_close(oldest_stranger != NULL ? oldest_stranger : oldest,
                    PEER_EVENT_CROWDED,
                    "more than %d connections without a handshake",
                    PENDING_MAX);
}

static void
after_knock(uv_stream_t *stream, int status)
{
    struct peer_link *link = stream->data;

    if (link->is_closing) {
        return;
    }
    if (status < 0) {
        peer_log_say(&link->log,
                     link_now(link),
                     PEER_EVENT_ACCEPT_FAILED,
                     "cannot accept: %s",
                     uv_strerror(status));
        return;
    }
    struct peer_conn *conn = peer_conn_new(&link->env, NULL);
    link->n_handles++;
    list_add(link, conn);
    peer_conn_accept(conn, stream);
    if (link->n_pending > PENDING_MAX) {
        make_room(link);
    }
}

static void
dial(struct peer_link *link, struct peer *peer)
{
    peer->conn = peer_conn_new(&link->env, peer->address);
    link->n_handles++;
    peer_conn_dial(peer->conn, link->self, link->port);
}

static void
sweep_outgoing(struct peer_link *link, uint64_t now)
{
    for (size_t i = 0; i < link->n_peers; i++) {
        struct peer *peer = &link->peers[i];
        struct peer_conn *conn = peer->conn;
        if (conn == NULL) {
            if (now >= peer->retry_at_ms) {
                dial(link, peer);
            }
        } else if (conn->state == PEER_CONN_UP) {
            if (now - conn->sent_ms >= ALIVE_MS) {
                (void)peer_conn_send(conn, PEER_FRAME_ALIVE, NULL, 0);
            }
        } else if (now - conn->opened_ms >= PEER_HANDSHAKE_MS) {
            peer_conn_close(conn, PEER_EVENT_DIAL_FAILED, "no handshake in time");
        }
    }
}

static void
sweep_accepted(struct peer_link *link, uint64_t now)
{
    struct peer_conn *next = NULL;

    for (struct peer_conn *conn = link->accepted; conn != NULL; conn = next) {
        next = conn->next;
        if (conn->state == PEER_CONN_UP) {
            if (now - conn->received_ms >= IDLE_MS) {
                peer_conn_close(conn, PEER_EVENT_DOWN, "silent for %d ms", IDLE_MS);
            }
        } else if (now - conn->opened_ms >= PEER_HANDSHAKE_MS) {
            peer_conn_close(conn, PEER_EVENT_SLOW, "no handshake in %d ms", PEER_HANDSHAKE_MS);
        }
    }
}

static uint64_t
later(uint64_t at_ms, uint64_t gap_ms, uint64_t now)
{
    return at_ms + gap_ms < now ? at_ms + gap_ms : now;
}

/* This process stood still: what came in meanwhile is still to be read, so nobody was silent. */
static void
forgive(struct peer_link *link, uint64_t gap_ms, uint64_t now)
{
    for (struct peer_conn *conn = link->accepted; conn != NULL; conn = conn->next) {
        conn->received_ms = later(conn->received_ms, gap_ms, now);
        conn->opened_ms = later(conn->opened_ms, gap_ms, now);
    }
    for (size_t i = 0; i < link->n_peers; i++) {
        struct peer_conn *conn = link->peers[i].conn;
        if (conn != NULL) {
            conn->opened_ms = later(conn->opened_ms, gap_ms, now);
        }
    }
}

static void
sweep(uv_timer_t *timer)
{
    struct peer_link *link = timer->data;
    const uint64_t now = link_now(link);
    const uint64_t gap_ms = now - link->swept_ms;

    link->swept_ms = now;
    if (gap_ms > PEER_HANDSHAKE_MS / 2) {
        forgive(link, gap_ms, now);
    }
    if (link->n_full > 0) {
        peer_log_say(&link->log,
                     now,
                     PEER_EVENT_QUEUE_FULL,
                     "%u messages dropped, the last one to %s: its queue is full",
                     link->n_full,
                     link->full_to);
        link->n_full = 0;
    }
    sweep_accepted(link, now);
    sweep_outgoing(link, now);
    peer_log_sweep(&link->log, now);
}

static void
ignore_log(void *data, int level, const char *event, const char *text)
{
    (void)data;
    (void)level;
    (void)event;
    (void)text;
}

/* What may fail and needs no loop to be undone. */
static int
prepare(struct peer_link *link, const struct peer_config *config, int *fd, struct err *err)
{
    struct sockaddr_storage self;

    if (!listen_parse(config->self, 0, &self) || strlen(config->self) >= sizeof link->self) {
        return err_set(err, HA_EINVAL, "\"%s\" is not an IP address of a member", config->self);
    }
    if (config->secret_len == 0) {
        return err_set(err, HA_EINVAL, "the cluster secret is empty");
    }
    link->secret = malloc(config->secret_len);
    if (link->secret == NULL) {
        return err_set(err, HA_ENOMEM, "no memory for the peer link");
    }
    memcpy(link->secret, config->secret, config->secret_len);
    link->secret_len = config->secret_len;
    (void)snprintf(link->self, sizeof link->self, "%s", config->self);
    const struct peer_tls_config tls = {
        .secret = link->secret,
        .secret_len = link->secret_len,
        .self = link->self,
        .data = link,
        .is_listed = is_listed,
    };
    const int rc = peer_tls_context_new(&tls, &link->tls, err);
    return rc != HA_OK ? rc : listen_tcp(config->listen_host, config->port, fd, err);
}

static void
start_handles(struct peer_link *link, uv_loop_t *loop, int fd)
{
    int rc = uv_tcp_init(loop, &link->listening);

    ENSURE(rc == 0, "a handle without a socket cannot fail");
    link->listening.data = link;
    rc = uv_tcp_open(&link->listening, fd);
    ENSURE(rc == 0, "the socket is ours and listens");
    rc = uv_listen((uv_stream_t *)&link->listening, 128, after_knock);
    ENSURE(rc == 0, "the socket is ours and listens");
    rc = uv_timer_init(loop, &link->timer);
    ENSURE(rc == 0, "a timer cannot fail");
    link->timer.data = link;
    link->swept_ms = uv_now(loop);
    rc = uv_timer_start(&link->timer, sweep, 0, SWEEP_MS);
    ENSURE(rc == 0, "a timer that is not closing starts");
    link->n_handles = 2;
}

int
peer_open(const struct peer_config *config, struct peer_link **out, struct err *err)
{
    struct peer_link *link = calloc(1, sizeof *link);
    int fd = -1;

    REQUIRE(config->callbacks.on_message != NULL, "somebody reads");
    if (link == NULL) {
        return err_set(err, HA_ENOMEM, "no memory for the peer link");
    }
    const int rc = prepare(link, config, &fd, err);
    if (rc != HA_OK) {
        peer_tls_context_free(link->tls);
        if (link->secret != NULL) {
            key_wipe(link->secret, link->secret_len);
        }
        free(link->secret);
        free(link);
        return rc;
    }
    /* A write to a connection that the other side closed must be an error, not the end. */
    (void)signal(SIGPIPE, SIG_IGN);
    link->callbacks = config->callbacks;
    if (link->callbacks.on_log == NULL) {
        link->callbacks.on_log = ignore_log;
    }
    link->log.data = link;
    link->log.write = write_log;
    link->port = config->port;
    link->env.loop = config->loop;
    link->env.tls = link->tls;
    link->env.data = link;
    link->env.on_up = on_up;
    link->env.on_message = on_message;
    link->env.on_closing = on_closing;
    link->env.on_closed = on_closed;
    start_handles(link, config->loop, fd);
    *out = link;
    return HA_OK;
}

static void
after_close(uv_handle_t *handle)
{
    release_handle(handle->data);
}

void
peer_close(struct peer_link *link, void (*closed)(void *data), void *data)
{
    REQUIRE(!link->is_closing, "a link is closed once");
    link->is_closing = true;
    link->closed = closed;
    link->closed_data = data;
    while (link->accepted != NULL) {
        peer_conn_close(link->accepted, PEER_EVENT_DOWN, "closing");
    }
    for (size_t i = 0; i < link->n_peers; i++) {
        if (link->peers[i].conn != NULL) {
            peer_conn_close(link->peers[i].conn, PEER_EVENT_DOWN, "closing");
        }
    }
    uv_close((uv_handle_t *)&link->listening, after_close);
    uv_close((uv_handle_t *)&link->timer, after_close);
}

static bool
is_among(const char *address, const char *const addresses[], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(address, addresses[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Peers that are no longer listed go, with what is connected to them or from them. */
static void
drop_unlisted(struct peer_link *link, const char *const addresses[], size_t n)
{
    struct peer_conn *next = NULL;

    for (size_t i = link->n_peers; i-- > 0;) {
        struct peer_conn *conn = link->peers[i].conn;
        if (is_among(link->peers[i].address, addresses, n)) {
            continue;
        }
        link->peers[i] = link->peers[--link->n_peers];
        if (conn != NULL) {
            peer_conn_close(conn, PEER_EVENT_DOWN, "no longer a member");
        }
    }
    for (struct peer_conn *conn = link->accepted; conn != NULL; conn = next) {
        next = conn->next;
        if (conn->was_up && !is_among(conn->address, addresses, n)) {
            peer_conn_close(conn, PEER_EVENT_DOWN, "no longer a member");
        }
    }
}

void
peer_set_members(struct peer_link *link, const char *const addresses[], size_t n)
{
    REQUIRE(n <= PEERS_MAX, "members are bounded");
    REQUIRE(!link->is_closing, "a closed link is not used");
    drop_unlisted(link, addresses, n);
    for (size_t i = 0; i < n; i++) {
        const char *address = addresses[i];
        REQUIRE(strlen(address) < HA_ADDRESS_MAX, "an address is bounded");
        if (strcmp(address, link->self) == 0 || find_peer(link, address) != NULL) {
            continue;
        }
        struct peer *peer = &link->peers[link->n_peers++];
        memset(peer, 0, sizeof *peer);
        (void)snprintf(peer->address, sizeof peer->address, "%s", address);
        peer->retry_ms = RETRY_MIN_MS;
    }
}

bool
peer_send(struct peer_link *link, const char *to, uint8_t type, const void *body, size_t len)
{
    const struct peer *peer = find_peer(link, to);

    REQUIRE(type != PEER_FRAME_ALIVE && len <= PEER_MESSAGE_MAX, "a message that can be sent");
    if (peer == NULL || peer->conn == NULL || peer->conn->state != PEER_CONN_UP) {
        return false;
    }
    if (!peer_conn_send(peer->conn, type, body, len)) {
        /* Told by the sweep, as no callback runs in here; a lost connection tells for itself. */
        (void)snprintf(link->full_to, sizeof link->full_to, "%s", to);
        link->n_full++;
        return false;
    }
    return true;
}

bool
peer_is_connected(const struct peer_link *link, const char *to)
{
    for (size_t i = 0; i < link->n_peers; i++) {
        const struct peer *peer = &link->peers[i];
        if (strcmp(peer->address, to) == 0) {
            return peer->conn != NULL && peer->conn->state == PEER_CONN_UP;
        }
    }
    return false;
}
