/*
 * command.h - the entries of the replicated log, and their bytes.
 *
 * Each command is a compare-and-set: apply.c rejects it, with the same answer
 * on every member, when its precondition no longer holds. See docs/protocol.md,
 * section 2.
 *
 * Bytes: little-endian, versioned, padded to a multiple of 8 (libraft 0.15
 *        corrupts its log on any other length).
 * Memory: plain data.
 */
#ifndef HA_STORE_COMMAND_H
#define HA_STORE_COMMAND_H

#include "base/err.h"
#include "store/state.h"

#define COMMAND_BYTES_MAX 1024

enum command_type {
    COMMAND_FOUND = 1,      /* the first entry of a cluster: its id and its first declaration */
    COMMAND_REGISTER,       /* a member's nonce and name */
    COMMAND_DECLARE,        /* a declaration, by a member or by the deploy job */
    COMMAND_MEMBER_ADD,     /* the governor makes the members what the declaration says, */
    COMMAND_MEMBER_REMOVE,  /* one at a time */
    COMMAND_MEMBER_REPLACE, /* a member lost its disk: same address, new id */
    COMMAND_SETTLE,         /* the holder renewed under the newest members, or there is no holder */
    COMMAND_APPOINT,        /* a new reign */
    COMMAND_HANDOVER,       /* a planned switchover begins, or is called off (to = 0) */
    COMMAND_VACATE,         /* the holder's PostgreSQL stopped and its lease is given back */
    COMMAND_OPENED,         /* the holder's timeline is on record */
    COMMAND_SYNC,
    COMMAND_SETTINGS,
    COMMAND_PAUSE,
    COMMAND_RESUME,
    COMMAND_RECOVER, /* an operator's force: one member goes on without all the others */
    COMMAND_REBUILD, /* a member's data are to be replaced, or are (rung = 0) */
    COMMAND_TYPE_COUNT,
};

struct command {
    uint8_t type;     /* enum command_type */
    uint64_t origin;  /* member id of the proposer: half of the idempotency key; 0 = none */
    uint64_t counter; /* the other half: grows with every proposal of that member */
    union {
        struct {
            uint64_t cluster_id;
            struct declaration declaration;
        } found;
        struct {
            char address[HA_ADDRESS_MAX];
            char name[HA_NAME_MAX];
            uint64_t nonce;
        } member_register;
        struct {
            /* Address of the member that speaks, or "" for the deploy job, which declares the
             * primary alone: everything but declaration.primary and .number is then ignored. */
            char declarer[HA_ADDRESS_MAX];
            struct declaration declaration;
            bool is_anew; /* of the job alone: a person means it, said before or not */
        } declare;
        struct {
            uint64_t generation; /* = members_generation, and settled */
            struct member_spec spec;
            uint64_t nonce; /* MEMBER_REPLACE: of the new incarnation */
        } members;
        struct {
            uint64_t generation; /* = members_generation */
            uint64_t holder;     /* the current holder that renewed under it; 0 = reign is vacant */
        } settle;
        struct {
            uint64_t reign; /* = current + 1 */
            uint64_t holder;
            uint64_t epoch; /* = sync_epoch: what the choice of this holder rests on */
            uint64_t wall_ms;
            char why[HA_WHY_MAX];
        } appoint;
        struct {
            uint64_t reign;
            uint64_t to; /* member id; 0 calls it off */
        } handover;
        struct {
            uint64_t reign;
            uint64_t holder; /* who says so: must be the holder */
            uint64_t final_lsn;
            char why[HA_WHY_MAX];
        } vacate;
        struct {
            uint64_t reign;
            uint64_t holder;
            uint64_t sysid;
            uint64_t fork_lsn;
            uint64_t lineage; /* see lineage_extend() */
            uint32_t timeline;
        } opened;
        struct {
            uint64_t reign;
            uint64_t generation; /* = members_generation: what the bits of `set` count */
            uint64_t epoch;      /* = sync_epoch: what the change rests on */
            uint64_t set;        /* as in struct state, these three */
            uint8_t count;
            uint8_t lost;
        } sync;
        struct {
            uint64_t era;      /* newer than the one in force */
            uint64_t survivor; /* member id */
            uint64_t wall_ms;
            bool is_failover; /* the survivor is also the declared primary from now on */
            uint32_t n_dead;  /* as the operator named them */
            char dead[HA_MEMBERS_MAX][HA_ADDRESS_MAX];
        } recover;
        struct {
            uint64_t member;
            uint64_t reign; /* the newest, which that member saw writable; 0 when it is over */
            uint64_t sysid; /* of the data that are to be replaced */
            uint8_t rung;   /* enum rebuild_rung; 0 = it is over */
        } rebuild;
        struct {
            uint32_t lease_ms; /* 0 = as it is */
            uint64_t max_lag;  /* 0 = as it is */
            uint8_t failover;  /* FAILOVER_POLICY_COUNT = as it is */
        } settings;
    };
};

/* Bytes of a command, or 0 when it does not fit `size` or is of no known type. A multiple of 8. */
size_t command_encode(const struct command *command, void *out, size_t size);

/* HA_OK, or HA_ECORRUPT for bytes that no command_encode() made, HA_EVERSION for a newer format. */
int command_decode(struct command *command, const void *bytes, size_t len) HA_MUST_CHECK;

/* "appoint", "vacate", ... for logs; "unknown" for anything else. */
const char *command_type_text(uint8_t type);

#endif
