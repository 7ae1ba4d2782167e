/*
 * env_uv.h - the real raft_env: libuv's loop, timer and thread pool, and the peer link.
 *
 * Threads: the loop's. Memory: the owner's; it may go when `closed` has run.
 */
#ifndef HA_RAFT_ENV_UV_H
#define HA_RAFT_ENV_UV_H

#include <uv.h>

#include "agent/net/peer.h"
#include "raft/env.h"
#include "raft/node.h"

struct env_uv {
    struct raft_env env;
    uv_loop_t *loop;
    struct peer_link *link;
    struct raft_node *node; /* the owner sets it after raft_node_open() */
    uv_timer_t tick;
    uv_idle_t idle;   /* active while a turn is due: the loop does not sleep */
    uv_check_t check; /* runs the turn after the loop has read its sockets */
    uv_work_t work;
    struct raft_disk_job *job;
    unsigned n_open; /* handles */
    void (*closed)(void *data);
    void *closed_data;
};

/* Fills the table; no handle exists yet. */
void env_uv_init(struct env_uv *e, uv_loop_t *loop, struct peer_link *link);

/* Creates the handles. Before the node is used. */
void env_uv_open(struct env_uv *e, struct raft_node *node);

/* The node is gone. */
void env_uv_close(struct env_uv *e, void (*closed)(void *data), void *data);

#endif
