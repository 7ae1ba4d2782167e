#include "agent/gateway/pcp.h"

#include <stdlib.h>
#include <string.h>

#define READ_BYTES 2048

struct pcp {
    uv_tcp_t tcp;
    uv_timer_t timer;
    uv_connect_t connect;
    uv_write_t write;
    uint8_t sending[PCP_OUT_MAX];
    bool is_sending;
    char buffer[READ_BYTES];
    struct pcp_session session;
    pcp_done done;
    void *data;
    bool is_ending;
    unsigned n_open; /* handles that are not closed yet */
};

static void
on_closed(uv_handle_t *handle)
{
    struct pcp *p = handle->data;

    if (--p->n_open == 0) {
        pcp_session_wipe(&p->session);
        free(p);
    }
}

static void
end(struct pcp *p, int rc)
{
    const pcp_done done = p->done;

    if (p->is_ending) {
        return;
    }
    p->is_ending = true;
    uv_close((uv_handle_t *)&p->timer, on_closed);
    uv_close((uv_handle_t *)&p->tcp, on_closed);
    if (done != NULL) {
        done(p->data, rc, &p->session);
    }
}

static void flush(struct pcp *p);

static void
on_written(uv_write_t *write, int status)
{
    struct pcp *p = write->data;

    p->is_sending = false;
    if (p->is_ending) {
        return;
    }
    if (status < 0) {
        end(p, err_set(&p->session.err, HA_EUNREACHABLE, "%s", uv_strerror(status)));
        return;
    }
    flush(p);
}

/* Sends what waits; the session is over when its "bye" is out. */
static void
flush(struct pcp *p)
{
    struct pcp_session *s = &p->session;
    uv_buf_t buf;

    if (p->is_sending) {
        return;
    }
    if (s->out_len == 0) {
        if (s->step == PCP_STEP_DONE) {
            end(p, s->err.code);
        }
        return;
    }
    memcpy(p->sending, s->out, s->out_len);
    buf = uv_buf_init((char *)p->sending, (unsigned)s->out_len);
    s->out_len = 0;
    p->is_sending = true;
    if (uv_write(&p->write, (uv_stream_t *)&p->tcp, &buf, 1, on_written) != 0) {
        p->is_sending = false;
        end(p, err_set(&s->err, HA_EUNREACHABLE, "the connection is gone"));
    }
}

static void
on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct pcp *p = handle->data;

    (void)suggested;
    *buf = uv_buf_init(p->buffer, sizeof p->buffer);
}

static void
on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct pcp *p = stream->data;
    int rc;

    if (n < 0) {
        end(p, pcp_session_close(&p->session));
        return;
    }
    rc = pcp_session_feed(&p->session, (const uint8_t *)buf->base, (size_t)n);
    if (rc != HA_OK) {
        end(p, rc);
        return;
    }
    flush(p);
}

static void
on_timeout(uv_timer_t *timer)
{
    struct pcp *p = timer->data;

    end(p,
        err_set(&p->session.err,
                HA_ETIMEOUT,
                "%s",
                p->session.step == PCP_STEP_SALT ? "its PCP port does not answer"
                                                 : "it stopped answering"));
}

static void
on_connect(uv_connect_t *connect, int status)
{
    struct pcp *p = connect->data;

    if (p->is_ending) {
        return;
    }
    if (status < 0) {
        end(p, err_set(&p->session.err, HA_EUNREACHABLE, "%s", uv_strerror(status)));
        return;
    }
    (void)uv_tcp_nodelay(&p->tcp, 1);
    (void)uv_timer_start(&p->timer, on_timeout, PCP_REPLY_MS, 0);
    (void)uv_read_start((uv_stream_t *)&p->tcp, on_alloc, on_read);
    flush(p);
}

static int
parse_address(const char *address, uint16_t port, struct sockaddr_storage *out)
{
    if (uv_ip4_addr(address, port, (struct sockaddr_in *)(void *)out) == 0 ||
        uv_ip6_addr(address, port, (struct sockaddr_in6 *)(void *)out) == 0) {
        return HA_OK;
    }
    return HA_EINVAL;
}

int
pcp_begin(const struct pcp_config *config,
          const struct pcp_op *ops,
          size_t n_ops,
          struct pcp **out,
          struct err *err)
{
    struct sockaddr_storage address;
    struct pcp *p;

    if (parse_address(config->address, config->port, &address) != HA_OK) {
        return err_set(err, HA_EINVAL, "%s: not an IP address", config->address);
    }
    p = calloc(1, sizeof *p);
    if (p == NULL) {
        return err_set(err, HA_ENOMEM, "no memory for a PCP session");
    }
    pcp_session_init(&p->session, config->user, config->password, ops, n_ops);
    p->done = config->done;
    p->data = config->data;
    p->tcp.data = p->timer.data = p->connect.data = p->write.data = p;
    REQUIRE(uv_timer_init(config->loop, &p->timer) == 0, "a timer can be made");
    REQUIRE(uv_tcp_init(config->loop, &p->tcp) == 0, "a socket's handle can be made");
    p->n_open = 2;
    if (uv_timer_start(&p->timer, on_timeout, PCP_CONNECT_MS, 0) != 0 ||
        uv_tcp_connect(&p->connect, &p->tcp, (const struct sockaddr *)&address, on_connect) != 0) {
        pcp_cancel(p);
        return err_set(err, HA_EUNREACHABLE, "%s: no connection can be begun", config->address);
    }
    *out = p;
    return HA_OK;
}

void
pcp_cancel(struct pcp *pcp)
{
    pcp->done = NULL;
    end(pcp, HA_ECANCELED);
}
