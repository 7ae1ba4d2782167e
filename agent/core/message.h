/*
 * message.h - what agents say to each other beside Raft, and its bytes.
 *
 * The link has authenticated the sender's address before any of this is read.
 * Decoders are bounded and refuse what no encoder makes.
 *
 * Memory: plain data.
 */
#ifndef HA_CORE_MESSAGE_H
#define HA_CORE_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/core/health.h"
#include "agent/core/pg_facts.h"
#include "base/err.h"
#include "store/state.h"

#define MESSAGE_BYTES_MAX 2048

/* Numbers on the wire: they equal enum peer_type's of the same name. */
enum message_type {
    MESSAGE_STATUS = 1,
    MESSAGE_PROBE,
    MESSAGE_PROBE_ANSWER,
    MESSAGE_LEASE_REQUEST,
    MESSAGE_LEASE_GRANT,
    MESSAGE_RELEASE,
    MESSAGE_TYPE_COUNT,
};

/* How the holder's commits stand. */
enum sync_phase {
    SYNC_PHASE_NONE = 0, /* HA_SYNC=off, or it holds no reign */
    SYNC_PHASE_HELD,     /* as many standbys as are wanted have each commit */
    SYNC_PHASE_LESS,     /* fewer, but at least one */
    SYNC_PHASE_CHANGING, /* what is in force is not on record yet */
    SYNC_PHASE_WAITING,  /* commits wait: too few standbys stream */
    SYNC_PHASE_ALONE,    /* HA_SYNC=on, and no standby is left: asynchronous */
    SYNC_PHASE_COUNT,
};

/*
 * Sent to every member each 100 ms and at once when something changed: what this
 * member sees, promises and has. A Raft leader's status also carries its
 * directive for a failover (docs/protocol.md, section 4, "freeze").
 */
struct status {
    uint64_t cluster_id; /* 0 = in no cluster yet */
    uint64_t era;        /* of the history that it belongs to */
    uint64_t id;         /* member id, 0 = none */
    uint64_t nonce;
    uint64_t uptime_ms;
    char name[HA_NAME_MAX];

    uint64_t generation; /* of the declaration that it applied */
    uint64_t members_generation;
    uint64_t reign; /* newest that it knows, and who holds it */
    uint64_t holder;
    uint64_t lapsed_reign; /* = reign when its promise to that holder has run out, else 0 */
    int32_t lease_left_ms; /* of the holder itself: until its deadline; 0 = no lease */
    uint64_t frozen_reign; /* = reign when its PostgreSQL let go of every upstream for the choice */
    uint64_t frozen_epoch; /* on its disk: it follows no holder before a later sync_epoch */

    uint64_t raft_term;
    uint64_t raft_leader;
    uint64_t raft_applied;
    uint8_t raft_role; /* enum raft_role's numbers: 0 none, 1 follower, 2 candidate, 3 leader */

    /* Directive of a ready Raft leader; 0 = none. */
    uint64_t freeze_reign;
    uint64_t fetch_member; /* who shall fetch the difference, */
    uint64_t fetch_from;   /* from whom, */
    uint64_t fetch_lsn;    /* up to where */

    uint64_t declared; /* digest of its own environment's declaration */
    bool is_nofailover;
    bool is_nosync;
    bool is_noloadbalance;
    uint16_t priority;
    uint8_t sync;       /* of the holder: enum sync_phase */
    uint8_t n_sync;     /* standbys that stream and that its commits wait for */
    bool is_closed;     /* of the holder: no clients are let in yet */
    bool is_leaving;    /* wants no reign, and hands over the one it holds: it is told to end */
    uint8_t health;     /* enum health_verdict of its PostgreSQL */
    uint16_t n_stuck;   /* processes of its PostgreSQL that do not run on */
    uint32_t commit_us; /* its last canary commit */
    uint64_t disk_free; /* bytes where it writes WAL; 0 = not known */
    uint16_t rule;      /* what it is doing, for people */
    char why[HA_WHY_MAX];
    struct pg_facts pg;
};

/* "I belong to no cluster, or am out of touch with mine. What do you know of one, and of me?" */
struct probe {
    uint64_t id; /* 0 = none: it asks to be let in */
    uint64_t nonce;
    uint64_t digest; /* of the prober's declaration */
    char name[HA_NAME_MAX];
};

struct probe_answer {
    uint64_t cluster_id;
    uint64_t nonce;  /* the answerer's own */
    uint64_t digest; /* of the answerer's declaration */
    bool is_empty;   /* "I am empty too" */
    bool is_bootstrapped;
    uint64_t founded; /* and it was with the members of this members_digest() */
    /* The prober as the answerer's cluster has it, as of these members: */
    uint64_t era;
    uint64_t members_generation;
    uint64_t your_id;    /* 0 = no member */
    uint64_t your_nonce; /* registered, or seen at the founding; 0 = neither */
    bool is_server;      /* not known to be outside of the committed configuration of Raft */
};

struct lease_request {
    uint64_t reign;
    uint64_t holder;
    uint64_t seq;
    uint64_t members_generation;
    uint32_t lease_ms;
};

struct lease_grant {
    uint64_t reign;
    uint64_t holder; /* whom it is granted to */
    uint64_t grantor;
    uint64_t seq;
};

struct release {
    uint64_t reign;
    uint64_t holder;
    uint64_t seq; /* covers grants up to this one */
};

struct message {
    uint8_t type; /* enum message_type */
    union {
        struct status status;
        struct probe probe;
        struct probe_answer probe_answer;
        struct lease_request lease_request;
        struct lease_grant lease_grant;
        struct release release;
    };
};

/* Bytes written, or 0 when `size` is too small (MESSAGE_BYTES_MAX never is). */
size_t agent_message_encode(const struct message *message, void *out, size_t size);

/* HA_ECORRUPT for bytes that no agent_message_encode() made. */
int agent_message_decode(struct message *message, uint8_t type, const void *bytes, size_t len)
    HA_MUST_CHECK;

#endif
