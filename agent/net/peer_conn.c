#include "agent/net/peer_conn.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/net/listen.h"

#define KEEPALIVE_S 2
#define USER_TIMEOUT_MS 2500 /* unacknowledged for so long: the way is gone */

struct write_request {
    uv_write_t write;
    struct peer_conn *conn;
    uint8_t data[];
};

struct peer_conn *
peer_conn_new(struct peer_conn_env *env, const char *to)
{
    struct peer_conn *conn = calloc(1, sizeof *conn);

    REQUIRE(conn != NULL, "memory for a connection");
    conn->env = env;
    conn->is_outgoing = to != NULL;
    conn->state = to != NULL ? PEER_CONN_CONNECTING : PEER_CONN_HANDSHAKE;
    if (to != NULL) {
        (void)snprintf(conn->address, sizeof conn->address, "%s", to);
    }
    peer_frame_init(&conn->frame);
    const int rc = uv_tcp_init(env->loop, &conn->tcp);
    ENSURE(rc == 0, "a handle without a socket cannot fail");
    conn->tcp.data = conn;
    conn->opened_ms = uv_now(env->loop);
    conn->received_ms = conn->opened_ms;
    conn->sent_ms = conn->opened_ms;
    return conn;
}

static void
after_close(uv_handle_t *handle)
{
    struct peer_conn *conn = handle->data;

    conn->env->on_closed(conn->env->data, conn);
    peer_tls_free(conn->tls);
    peer_frame_fini(&conn->frame);
    free(conn);
}

void
peer_conn_close(struct peer_conn *conn, enum peer_event why, const char *fmt, ...)
{
    va_list args;

    if (conn->state == PEER_CONN_CLOSING) {
        return;
    }
    conn->state = PEER_CONN_CLOSING;
    conn->why = why;
    va_start(args, fmt);
    (void)vsnprintf(conn->text, sizeof conn->text, fmt, args);
    va_end(args);
    conn->env->on_closing(conn->env->data, conn);
    uv_close((uv_handle_t *)&conn->tcp, after_close);
}

static void
set_options(struct peer_conn *conn)
{
    const unsigned timeout_ms = USER_TIMEOUT_MS;
    uv_os_fd_t fd = -1;

    (void)uv_tcp_nodelay(&conn->tcp, 1);
    (void)uv_tcp_keepalive(&conn->tcp, 1, KEEPALIVE_S);
    if (uv_fileno((const uv_handle_t *)&conn->tcp, &fd) == 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
    }
}

/* The word for the end of a connection that the network or the other side brought about. */
static enum peer_event
lost_event(const struct peer_conn *conn)
{
    if (conn->was_up) {
        return PEER_EVENT_DOWN;
    }
    return conn->is_outgoing ? PEER_EVENT_DIAL_FAILED : PEER_EVENT_CLOSED_EARLY;
}

static void
after_write(uv_write_t *write, int status)
{
    struct write_request *request = (struct write_request *)write->data;
    struct peer_conn *conn = request->conn;

    free(request);
    if (status < 0 && status != UV_ECANCELED) {
        peer_conn_close(conn, lost_event(conn), "%s", uv_strerror(status));
    }
}

/* Hands what TLS wants to send to the network. False: the connection is lost. */
static bool
flush(struct peer_conn *conn)
{
    const uint8_t *data = NULL;
    const size_t len = peer_tls_pending(conn->tls, &data);

    if (len == 0) {
        return true;
    }
    struct write_request *request = malloc(sizeof *request + len);
    if (request == NULL) {
        return false;
    }
    memcpy(request->data, data, len);
    peer_tls_sent(conn->tls);
    request->conn = conn;
    request->write.data = request;
    uv_buf_t buf = uv_buf_init((char *)request->data, (unsigned)len);
    const int rc = uv_write(&request->write, (uv_stream_t *)&conn->tcp, &buf, 1, after_write);
    if (rc != 0) {
        free(request);
        return false;
    }
    conn->sent_ms = uv_now(conn->env->loop);
    return true;
}

/* The handshake failed: whose fault it was decides what is said. */
static void
refuse(struct peer_conn *conn)
{
    static const enum peer_event events[] = {
        [PEER_TLS_NOT_PEER] = PEER_EVENT_NOT_PEER,
        [PEER_TLS_VERSION] = PEER_EVENT_VERSION,
        [PEER_TLS_UNLISTED] = PEER_EVENT_UNLISTED,
        [PEER_TLS_WRONG_KEY] = PEER_EVENT_WRONG_KEY,
    };
    const char *from = peer_tls_from(conn->tls);

    (void)flush(conn); /* the alert */
    if (conn->is_outgoing) {
        peer_conn_close(conn,
                        PEER_EVENT_DIAL_FAILED,
                        "handshake: %s; is HA_CLUSTER_SECRET the same on both?",
                        peer_tls_why(conn->tls));
        return;
    }
    peer_conn_close(conn,
                    events[peer_tls_refusal(conn->tls)],
                    "%s%s%s",
                    peer_tls_why(conn->tls),
                    from[0] == '\0' ? "" : ", calling itself ",
                    from);
}

static void
deliver(struct peer_conn *conn, const uint8_t *data, size_t len)
{
    struct peer_frame_message message;

    if (conn->is_outgoing) {
        peer_conn_close(conn, PEER_EVENT_BAD_FRAME, "it sent on a connection that it only reads");
        return;
    }
    while (conn->state == PEER_CONN_UP) {
        const int rc = peer_frame_read(&conn->frame, &data, &len, &message);
        if (rc == 0) {
            return;
        }
        if (rc < 0) {
            peer_conn_close(conn, PEER_EVENT_BAD_FRAME, "bad frame: %s", err_code_text(rc));
            return;
        }
        if (message.type != PEER_FRAME_ALIVE) {
            conn->env->on_message(conn->env->data, conn, &message);
        }
    }
}

/* Reads what TLS has decrypted until it wants more bytes. */
static void
drain(struct peer_conn *conn)
{
    while (conn->state == PEER_CONN_UP) {
        const int n = peer_tls_read(conn->tls, conn->env->plain, sizeof conn->env->plain);
        if (n == 0) {
            break;
        }
        if (n < 0) {
            peer_conn_close(conn,
                            PEER_EVENT_DOWN,
                            "%s",
                            n == HA_ECANCELED ? "closed by the other side"
                                              : peer_tls_why(conn->tls));
            return;
        }
        deliver(conn, conn->env->plain, (size_t)n);
    }
    /* Only answers to key updates; who asks for them and reads none is not one of ours. */
    if (conn->state == PEER_CONN_UP &&
        (!flush(conn) ||
         uv_stream_get_write_queue_size((uv_stream_t *)&conn->tcp) > PEER_QUEUE_MAX)) {
        peer_conn_close(conn, PEER_EVENT_DOWN, "its answers pile up");
    }
}

/* Goes as far as the bytes that are there allow. */
static void
advance(struct peer_conn *conn)
{
    if (conn->state == PEER_CONN_HANDSHAKE) {
        const int rc = peer_tls_handshake(conn->tls);
        if (rc < 0) {
            refuse(conn);
            return;
        }
        if (!flush(conn)) {
            peer_conn_close(conn, lost_event(conn), "cannot write");
            return;
        }
        if (rc == 0) {
            if (conn->handshake_bytes > PEER_HANDSHAKE_BYTES_MAX) {
                peer_conn_close(conn, PEER_EVENT_NOT_PEER, "too many bytes before the handshake");
            }
            return;
        }
        conn->state = PEER_CONN_UP;
        conn->was_up = true;
        if (!conn->is_outgoing) {
            (void)snprintf(conn->address, sizeof conn->address, "%s", peer_tls_from(conn->tls));
        }
        conn->env->on_up(conn->env->data, conn);
    }
    drain(conn);
}

static void
give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct peer_conn *conn = handle->data;

    (void)suggested;
    *buf = uv_buf_init(conn->env->bytes, sizeof conn->env->bytes);
}

static void
after_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct peer_conn *conn = stream->data;

    if (conn->state == PEER_CONN_CLOSING || n == 0) {
        return;
    }
    if (n < 0) {
        const char *why = n == UV_EOF ? "closed by the other side" : uv_strerror((int)n);
        peer_conn_close(conn, lost_event(conn), "%s", why);
        return;
    }
    conn->received_ms = uv_now(conn->env->loop);
    if (conn->tls == NULL && peer_tls_new(conn->env->tls, NULL, &conn->tls) != HA_OK) {
        peer_conn_close(conn, PEER_EVENT_ACCEPT_FAILED, "out of memory");
        return;
    }
    if (conn->state == PEER_CONN_HANDSHAKE) {
        conn->handshake_bytes += (size_t)n;
    }
    if (peer_tls_feed(conn->tls, buf->base, (size_t)n) != HA_OK) {
        peer_conn_close(conn, lost_event(conn), "out of memory");
        return;
    }
    advance(conn);
}

static void
start_reading(struct peer_conn *conn)
{
    set_options(conn);
    const int rc = uv_read_start((uv_stream_t *)&conn->tcp, give_buffer, after_read);
    if (rc != 0) {
        peer_conn_close(conn, lost_event(conn), "%s", uv_strerror(rc));
    }
}

static void
after_connect(uv_connect_t *request, int status)
{
    struct peer_conn *conn = request->data;

    if (conn->state == PEER_CONN_CLOSING) {
        return;
    }
    if (status < 0) {
        peer_conn_close(conn, PEER_EVENT_DIAL_FAILED, "%s", uv_strerror(status));
        return;
    }
    if (peer_tls_new(conn->env->tls, conn->address, &conn->tls) != HA_OK) {
        peer_conn_close(conn, PEER_EVENT_DIAL_FAILED, "out of memory");
        return;
    }
    conn->state = PEER_CONN_HANDSHAKE;
    start_reading(conn);
    if (conn->state == PEER_CONN_HANDSHAKE) {
        advance(conn);
    }
}

void
peer_conn_dial(struct peer_conn *conn, const char *from, uint16_t port)
{
    struct sockaddr_storage to;
    struct sockaddr_storage own;

    if (!listen_parse(conn->address, port, &to)) {
        peer_conn_close(conn, PEER_EVENT_DIAL_FAILED, "not an IP address");
        return;
    }
    /* Others then see where we claim to be. Behind a published port the address is not ours: then
     * the kernel chooses. */
    if (listen_parse(from, 0, &own) && own.ss_family == to.ss_family) {
        (void)uv_tcp_bind(&conn->tcp, (const struct sockaddr *)&own, 0);
    }
    conn->connecting.data = conn;
    const int rc =
        uv_tcp_connect(&conn->connecting, &conn->tcp, (const struct sockaddr *)&to, after_connect);
    if (rc != 0) {
        peer_conn_close(conn, PEER_EVENT_DIAL_FAILED, "%s", uv_strerror(rc));
    }
}

void
peer_conn_accept(struct peer_conn *conn, uv_stream_t *listening)
{
    const int rc = uv_accept(listening, (uv_stream_t *)&conn->tcp);

    if (rc != 0) {
        peer_conn_close(conn, PEER_EVENT_ACCEPT_FAILED, "%s", uv_strerror(rc));
        return;
    }
    listen_remote(&conn->tcp, conn->source, sizeof conn->source);
    start_reading(conn);
}

/* Small messages leave as one record; larger ones as a header and a body. */
static int
encrypt(struct peer_conn *conn, uint8_t type, const void *body, size_t len)
{
    uint8_t *record = conn->env->record;

    peer_frame_header(record, type, len);
    if (len <= sizeof conn->env->record - PEER_FRAME_HEADER) {
        if (len > 0) {
            memcpy(record + PEER_FRAME_HEADER, body, len);
        }
        return peer_tls_write(conn->tls, record, PEER_FRAME_HEADER + len);
    }
    const int rc = peer_tls_write(conn->tls, record, PEER_FRAME_HEADER);
    return rc != HA_OK ? rc : peer_tls_write(conn->tls, body, len);
}

bool
peer_conn_send(struct peer_conn *conn, uint8_t type, const void *body, size_t len)
{
    if (conn->state != PEER_CONN_UP ||
        uv_stream_get_write_queue_size((uv_stream_t *)&conn->tcp) + len > PEER_QUEUE_MAX) {
        return false;
    }
    if (encrypt(conn, type, body, len) != HA_OK || !flush(conn)) {
        peer_conn_close(conn, PEER_EVENT_DOWN, "cannot write: %s", peer_tls_why(conn->tls));
        return false;
    }
    return true;
}
