/*
 * effect.h - everything that the core asks of the world, as data.
 *
 * The shell carries them out in order. What has an outcome comes back as an
 * event: PERSIST, PROPOSE, PG, GATEWAY.
 *
 * Memory: an effect list is the caller's; nothing is allocated.
 */
#ifndef HA_CORE_EFFECT_H
#define HA_CORE_EFFECT_H

#include "agent/core/gateway_facts.h"
#include "agent/core/message.h"
#include "agent/core/pg_slots.h"
#include "agent/core/pg_sync.h"
#include "base/mono.h"
#include "store/command.h"
#include "store/durable_record.h"

#define EFFECTS_MAX 48

enum effect_type {
    EFFECT_SEND = 1,   /* a message to a member, or to all others */
    EFFECT_PERSIST,    /* write and sync the durable record */
    EFFECT_PROPOSE,    /* a command for the log */
    EFFECT_LEASE,      /* the lease page: PostgreSQL may acknowledge until `deadline` */
    EFFECT_PG,         /* begin an operation on PostgreSQL */
    EFFECT_PG_KILL,    /* immediate end of PostgreSQL, whatever it does */
    EFFECT_PG_WATCH,   /* look at it often, or at leisure */
    EFFECT_PG_SYNC,    /* whom PostgreSQL waits for before it acknowledges */
    EFFECT_PG_GATE,    /* clients may enter, or only members */
    EFFECT_PG_SLOTS,   /* whose replication slots it keeps */
    EFFECT_PG_DISCARD, /* remove what the data replaced, or keep so many of it */
    EFFECT_PG_BALLAST, /* remove the file that keeps room on its disk */
    EFFECT_RAFT_START, /* start Raft as this member, founding first or not */
    EFFECT_RAFT_TRANSFER,
    EFFECT_RAFT_ADD,
    EFFECT_RAFT_REMOVE,
    EFFECT_REPLY,   /* the answer to a person's request */
    EFFECT_GATEWAY, /* one session with one gateway */
    EFFECT_LOG,
    EFFECT_EXIT, /* end the agent */
    EFFECT_TYPE_COUNT,
};

/* The same numbers as agent/postgres' enum postgres_op. */
enum pg_op {
    PG_OP_NONE = 0,
    PG_OP_INITDB,
    PG_OP_CLONE,
    PG_OP_START_PRIMARY,
    PG_OP_START_STANDBY,
    PG_OP_FOLLOW,
    PG_OP_PROMOTE,
    PG_OP_CHECKPOINT,
    PG_OP_STOP_FAST,
    PG_OP_RELOAD,
    PG_OP_REWIND, /* may tear the data: see PG_DATA_TORN */
    PG_OP_COUNT,
};

enum log_level {
    LOG_LEVEL_ERROR = 0, /* someone must act */
    LOG_LEVEL_WARN,      /* degraded */
    LOG_LEVEL_INFO,      /* every change of role, every effect, once */
    LOG_LEVEL_DEBUG,
};

struct effect {
    uint8_t type; /* enum effect_type */
    union {
        struct {
            char to[HA_ADDRESS_MAX]; /* "" = every other member */
            struct message message;
        } send;
        struct durable persist;
        struct command propose;
        struct {
            struct mono deadline; /* 0 = revoked */
            struct mono sent_at;  /* of the question behind it, for people */
            uint64_t reign;
        } lease;
        struct {
            uint8_t op; /* enum pg_op */
            char from[HA_ADDRESS_MAX];
            uint32_t timeline; /* PROMOTE: the newest that is on record, */
            uint32_t next;     /* and the number that this promotion's takes */
        } pg;
        struct {
            char why[HA_WHY_MAX];
        } pg_kill;
        struct {
            bool is_on;
        } pg_watch;
        struct sync_names pg_sync;
        struct pg_slots pg_slots;
        struct {
            bool is_open;
        } pg_gate;
        struct {
            uint64_t id;
            uint64_t era;
            bool is_bootstrap;
            bool is_recovery; /* alone from now on; Raft is closed first if it runs */
            uint32_t n_servers;
            struct member_spec servers[HA_MEMBERS_MAX]; /* with ids member_id(address, 1) */
        } raft_start;
        struct {
            uint64_t id;
            char address[HA_ADDRESS_MAX];
        } raft_server; /* RAFT_TRANSFER, RAFT_ADD, RAFT_REMOVE */
        struct {
            uint64_t token;
            int rc;
            char text[160];
        } reply;
        struct {
            char address[HA_ADDRESS_MAX];
            uint32_t n_ops;
            struct gateway_op ops[GATEWAY_OPS_MAX];
        } gateway;
        struct {
            uint8_t level;     /* enum log_level */
            uint16_t rule;     /* 0 = none */
            const char *event; /* a constant snake_case word */
            char text[240];
        } log;
        struct {
            int status;
            bool is_again; /* begin anew at once, in the same process: see durable.c */
            char why[240];
        } exit;
    };
};

struct effect_list {
    uint32_t n;
    struct effect at[EFFECTS_MAX];
};

#endif
