/*
 * event.h - everything that can happen to the core.
 *
 * The shell (or the simulator) turns the world into these. `now` is the only
 * clock the core ever sees.
 *
 * Memory: borrowed for the call.
 */
#ifndef HA_CORE_EVENT_H
#define HA_CORE_EVENT_H

#include "agent/core/gateway_facts.h"
#include "agent/core/health.h"
#include "agent/core/message.h"
#include "agent/core/pg_sync.h"
#include "agent/core/raft_facts.h"
#include "base/mono.h"
#include "store/durable_record.h"
#include "store/state.h"

enum event_type {
    EVENT_TICK = 1,  /* time passed */
    EVENT_STATE,     /* the replicated state changed */
    EVENT_RAFT,      /* Raft's role, term or servers changed */
    EVENT_MESSAGE,   /* from an authenticated peer */
    EVENT_PG_FACTS,  /* the local PostgreSQL changed */
    EVENT_PG_DONE,   /* an operation on it ended */
    EVENT_PROPOSED,  /* what became of a proposal */
    EVENT_PERSISTED, /* the durable record was written, or could not be */
    EVENT_REQUEST,   /* a person asks for something (hactl) */
    EVENT_STOP,      /* the agent is told to end (SIGTERM) */
    EVENT_GATEWAYS,  /* the addresses of the gateways changed */
    EVENT_GATEWAY,   /* a session with one ended */
    EVENT_PG_SYNC,   /* whom PostgreSQL waits for, and who streams from it */
    EVENT_PG_PROBE,  /* the canary has an outcome, or the server's host was looked at */
    EVENT_TYPE_COUNT,
};

enum request_type {
    REQUEST_DECLARE = 1, /* by the deploy job or a person: the declared primary */
    REQUEST_PAUSE,
    REQUEST_RESUME,
    REQUEST_RESTART, /* of this member's PostgreSQL */
    REQUEST_RELOAD,
    REQUEST_REINIT,  /* this standby's data are to be replaced by a copy */
    REQUEST_RECOVER, /* an operator's force */
    REQUEST_TYPE_COUNT,
};

struct event {
    uint8_t type; /* enum event_type */
    struct mono now;
    uint64_t wall_ms; /* Unix time; for people only, nothing is decided by it */
    union {
        struct {
            const struct state *state;
            uint64_t index;
        } state;
        struct raft_facts raft;
        struct {
            const char *from; /* address */
            const struct message *message;
        } message;
        struct pg_facts pg;
        struct {
            uint8_t op; /* enum pg_op */
            int rc;
            const char *text;
        } pg_done;
        struct {
            uint64_t counter;
            int rc;
        } proposed;
        struct {
            int rc;
        } persisted;
        struct {
            uint64_t token; /* comes back in EFFECT_REPLY */
            uint8_t type;   /* enum request_type */
            uint64_t number;
            bool is_anew; /* REQUEST_DECLARE: by a person, who means it though it was said before */
            char primary[HA_ADDRESS_MAX];
            bool is_failover; /* RECOVER: the one that is asked shall be the primary */
            uint32_t n_dead;  /* RECOVER: whom the operator names */
            char dead[HA_MEMBERS_MAX][HA_ADDRESS_MAX];
        } request;
        struct gateway_list gateways;
        struct gateway_facts gateway;
        struct pg_probe pg_probe;
        struct pg_sync pg_sync;
    };
};

#endif
