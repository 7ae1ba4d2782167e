/*
 * agent.h - one running agent: the core in the middle, the world around it.
 *
 * world -> events (events.c) -> core -> effects (effects.c) -> world. The shell
 * never branches on cluster policy.
 *
 * Threads: the loop's; the durable record is written in the thread pool.
 * Memory:  one struct agent for the life of the process.
 */
#ifndef HA_SHELL_AGENT_H
#define HA_SHELL_AGENT_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "agent/core/core.h"
#include "agent/gateway/gateway.h"
#include "agent/net/http.h"
#include "agent/net/http_auth.h"
#include "agent/net/peer.h"
#include "agent/postgres/postgres.h"
#include "agent/shell/config_env.h"
#include "fence/lease_page.h"
#include "raft/consensus.h"

#define AGENT_REPLIES_MAX 16

struct queued_event; /* events.c */

/* Somebody who waits for an answer. */
struct agent_reply {
    bool is_used;
    struct http_ticket ticket;
};

struct agent {
    uv_loop_t loop;
    struct config config;
    struct core core;
    struct effect_list effects;

    struct peer_link *link;
    struct consensus *consensus;
    struct effect raft_again; /* how it is started when the one before is closed */
    struct postgres *postgres;
    struct gateways *gateways; /* NULL without PGPOOL_HOSTS */
    struct http_server *http;
    struct http_auth auth;

    struct lease_page page;
    uint64_t page_reign;
    char lease_path[CONFIG_PATH_MAX + 16];
    int lock_fds[2];
    unsigned n_locks;

    uv_timer_t timer;
    uv_signal_t signals[3];
    uv_work_t persist_work;
    struct durable persist_record;
    int persist_rc;
    uv_work_t cache_work;
    struct state cache_state;
    uint64_t cache_index;
    struct state persist_cache; /* the copy that the pool works on */
    uint64_t persist_cache_index;
    bool is_cache_busy;
    bool is_cache_due;

    bool is_stepping; /* an event that comes meanwhile is queued */
    struct queued_event *first;
    struct queued_event *last;

    /* People that wait for an answer: token i + 1. */
    struct agent_reply replies[AGENT_REPLIES_MAX];

    char members[2 * HA_MEMBERS_MAX][HA_ADDRESS_MAX]; /* whom the link and PostgreSQL know */
    size_t n_members;

    bool is_ending;
    bool is_again; /* when all is closed, the process begins anew */
    int exit_status;
    unsigned n_closing;
};

/* ---- events.c ---- */

/* Gives an event to the core and carries its effects out, or queues it while that goes on. */
void agent_event(struct agent *agent, const struct event *event);
void agent_tick(struct agent *agent);

/* Wires the callbacks of link, consensus and PostgreSQL to events. */
struct peer_callbacks agent_peer_callbacks(struct agent *agent);
struct consensus_callbacks agent_consensus_callbacks(struct agent *agent);
struct postgres_callbacks agent_postgres_callbacks(struct agent *agent);

/* ---- effects.c ---- */

void agent_run_raft_start(struct agent *agent, const struct effect *e);
void agent_run_effects(struct agent *agent, const struct effect_list *effects);

/* No lease from now on; harmless where there is no page yet. */
void agent_revoke_lease(struct agent *agent);

/* Link and PostgreSQL learn whom the environment and the cluster list. */
void agent_follow_members(struct agent *agent);

/* ---- memory.c: what the disk keeps for the core ---- */

void agent_persist(struct agent *agent, const struct durable *record);
void agent_remember_state(struct agent *agent, const struct state *state, uint64_t index);

/* ---- web.c ---- */

int agent_web_open(struct agent *agent, struct err *err) HA_MUST_CHECK;
void agent_web_reply(struct agent *agent, uint64_t token, int rc, const char *text);

/* ---- gateways.c ---- */

int agent_gateways_open(struct agent *agent, struct err *err) HA_MUST_CHECK;
void agent_gateway_run(struct agent *agent, const struct effect *e);

/* ---- main.c ---- */

/* Begins the end: everything is closed, then the loop runs out. */
void agent_end(struct agent *agent, int status);

#endif
