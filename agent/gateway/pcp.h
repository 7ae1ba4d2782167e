/*
 * pcp.h - one short session with Pgpool over PCP, on the event loop.
 *
 * Connects, authenticates, sends the operations, says "bye", closes. Own timers:
 * a port that accepts and stays silent costs at most PCP_CONNECT_MS + PCP_REPLY_MS.
 *
 * Threads: the loop's.
 * Memory:  a session frees itself after `done`, which is called exactly once unless
 *          pcp_cancel() comes before; the result is borrowed for the call.
 * Errors:  HA_EUNREACHABLE, HA_ETIMEOUT, HA_EAUTH, HA_EREFUSED (Pgpool said no to an operation),
 *          HA_ECORRUPT; a text for people in result->err.
 */
#ifndef HA_GATEWAY_PCP_H
#define HA_GATEWAY_PCP_H

#include <uv.h>

#include "agent/gateway/pcp_wire.h"

#define PCP_CONNECT_MS 1000
#define PCP_REPLY_MS 2000

struct pcp;

typedef void (*pcp_done)(void *data, int rc, const struct pcp_session *result);

struct pcp_config {
    uv_loop_t *loop;
    const char *address; /* an IP address */
    uint16_t port;
    const char *user;
    const char *password;
    pcp_done done;
    void *data;
};

/* Begins a session, or says why it cannot; `done` is not called then. */
int pcp_begin(const struct pcp_config *config,
              const struct pcp_op *ops,
              size_t n_ops,
              struct pcp **out,
              struct err *err) HA_MUST_CHECK;

/* Ends it without a word to anybody. Its handles are closed when the loop has run on. */
void pcp_cancel(struct pcp *pcp);

#endif
