/*
 * pcp_wire.h - Pgpool's control protocol (PCP) without a socket: bytes in, bytes out.
 *
 * One session: the salt is asked for, the user authenticates, the operations are
 * sent one after the other, then "bye". Pgpool 4.3 and 4.4 freeze every later
 * failover while a session stays open, so a session never idles. An answer says
 * that Pgpool queued the request, not that it took effect: read back.
 *
 * Both known shapes of a node are read (12 texts up to 4.3, 13 from 4.4), by
 * counting, never by position in a struct.
 *
 * Clock:  none; the transport has the deadlines.
 * Memory: plain data of fixed size. It holds the password until pcp_session_wipe().
 * Errors: what the other side sends can be anything; HA_ECORRUPT is the worst outcome.
 */
#ifndef HA_GATEWAY_PCP_WIRE_H
#define HA_GATEWAY_PCP_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define PCP_NODES_MAX 32
#define PCP_OPS_MAX 20
#define PCP_MESSAGE_MAX 4096
#define PCP_OUT_MAX 512
#define PCP_HOST_MAX 64
#define PCP_USER_MAX 64
#define PCP_PASSWORD_MAX 1024

enum pcp_verb {
    PCP_NODE_COUNT = 1,
    PCP_NODE_INFO, /* of all nodes */
    PCP_DETACH,
    PCP_ATTACH,
    PCP_PROMOTE, /* Pgpool takes it as the primary and every other node as down; no search */
    PCP_RELOAD,  /* the configuration file */
    PCP_VERB_COUNT,
};

/* pcp_node.status and .role, as Pgpool numbers them. */
#define PCP_STATUS_UNUSED 0
#define PCP_STATUS_WAITING 1 /* attached, no client has used it yet */
#define PCP_STATUS_UP 2
#define PCP_STATUS_DOWN 3
#define PCP_ROLE_PRIMARY 2
#define PCP_ROLE_STANDBY 3

struct pcp_op {
    uint8_t verb; /* enum pcp_verb */
    int32_t node; /* of DETACH, ATTACH, PROMOTE */
};

/* Its index is Pgpool's number of the node. */
struct pcp_node {
    char host[PCP_HOST_MAX];
    uint16_t port;
    uint8_t status;
    uint8_t role;
    uint64_t delay; /* of a standby, in bytes (or microseconds, as Pgpool is told) */
};

enum pcp_step {
    PCP_STEP_SALT = 0,
    PCP_STEP_AUTH,
    PCP_STEP_OPS,
    PCP_STEP_DONE,
};

struct pcp_session {
    uint8_t step; /* enum pcp_step */
    char user[PCP_USER_MAX];
    char password[PCP_PASSWORD_MAX];
    struct pcp_op ops[PCP_OPS_MAX];
    size_t n_ops;
    size_t at; /* the operation that an answer is awaited for */

    /* To be sent; the transport empties it. */
    uint8_t out[PCP_OUT_MAX];
    size_t out_len;

    /* A message that is not complete yet. */
    uint8_t in[PCP_MESSAGE_MAX];
    size_t in_len;
    unsigned n_messages;

    /* What was learned. */
    bool has_nodes; /* a NODE_INFO was answered to its end */
    uint32_t n_nodes;
    struct pcp_node nodes[PCP_NODES_MAX];
    int32_t node_count;
    struct err err; /* the first refusal; the operations behind it are sent all the same */
};

/* Begins: `out` holds the first bytes to send. REQUIREs that user, password and operations fit. */
void pcp_session_init(struct pcp_session *session,
                      const char *user,
                      const char *password,
                      const struct pcp_op *ops,
                      size_t n_ops);

/* Takes bytes. HA_OK (look at `step` and `out`), or the end: HA_EAUTH, HA_ECORRUPT, HA_ETOOBIG. */
int pcp_session_feed(struct pcp_session *session, const uint8_t *data, size_t len) HA_MUST_CHECK;

/* The other side closed: HA_OK when all was answered, else what is known of why not. */
int pcp_session_close(struct pcp_session *session) HA_MUST_CHECK;

/* Overwrites the password. */
void pcp_session_wipe(struct pcp_session *session);

#endif
