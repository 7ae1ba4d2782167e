/*
 * corelab.h - several cores in one process, on virtual time, for unit tests.
 *
 * The core is the real one. Around it: a network that delivers after a few
 * milliseconds unless a link is cut, a log that a connected majority agrees on
 * at once (Raft itself is tested elsewhere), a disk that remembers durable
 * records, and a PostgreSQL made of facts. After every step the lab checks S1:
 * at most one PostgreSQL that could acknowledge a write.
 */
#ifndef HA_TESTS_CORELAB_H
#define HA_TESTS_CORELAB_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/core/core.h"

#define LAB_MAX 5
#define LAB_LOG_MAX 4096
#define LAB_NET_MAX 8192

struct lab_pg {
    struct pg_facts facts;
    uint64_t lease_until_ms; /* the lease page */
    uint8_t op;
    int64_t op_done_ms;
    char op_from[HA_ADDRESS_MAX];
    uint32_t promote_to; /* the number of the timeline that a promotion begins */
    int64_t killed_ms;   /* 0 = no kill under way */
    uint64_t wal_timeline_start;
};

struct lab_node {
    bool is_on;
    bool is_frozen;
    struct core core;
    struct durable disk;
    struct state cache;
    uint64_t cache_index;
    uint64_t applied; /* index into the log */
    struct state state;
    struct lab_pg pg;
    int64_t persist_done_ms;
    int persist_pending;
    struct durable persist_record;
    struct command proposal;
    int64_t propose_done_ms;
    bool raft_started;
    int exit_status; /* -1 = runs */
    uint64_t replies;
    uint64_t sync_version;
    int last_reply_rc;
};

struct lab_packet {
    bool is_used;
    int64_t at_ms;
    unsigned from;
    unsigned to;
    struct message message;
};

struct lab {
    int64_t now_ms;
    unsigned n;
    struct core_config configs[LAB_MAX];
    struct lab_node nodes[LAB_MAX];
    bool is_cut[LAB_MAX][LAB_MAX]; /* [from][to] */
    bool is_kill_stuck[LAB_MAX];   /* its PostgreSQL does not die, as in a wait for a dead disk */
    struct command log[LAB_LOG_MAX];
    uint64_t n_log;
    unsigned leader; /* index + 1, 0 = none */
    uint64_t term;
    struct lab_packet net[LAB_NET_MAX];
    uint64_t wal; /* the next LSN that a primary reaches */
    bool is_trace;
    uint64_t violations;
    struct effect_list effects;
};

/* n members, the first n_witnesses from the end being witnesses; the first is declared. */
void lab_init(struct lab *lab, unsigned n, unsigned n_witnesses, uint8_t failover);
void lab_power_on(struct lab *lab, unsigned i);
void lab_power_off(struct lab *lab, unsigned i);
/* Its disk is lost: state directory and/or data. */
void lab_lose_disk(struct lab *lab, unsigned i, bool state, bool data);
void lab_cut(struct lab *lab, unsigned i, bool is_cut);
void lab_crash_postgres(struct lab *lab, unsigned i);
/* A person's request about its PostgreSQL (REQUEST_RESTART, REQUEST_RELOAD). */
void lab_request(struct lab *lab, unsigned at, uint8_t type);
/* What was observed of its PostgreSQL. */
void lab_probe(struct lab *lab, unsigned i, const struct pg_probe *probe);
/* SIGTERM to its agent. */
void lab_stop(struct lab *lab, unsigned i);
void lab_request_declare(struct lab *lab, unsigned at, unsigned primary);
/* Runs for so many virtual milliseconds. */
void lab_run(struct lab *lab, int64_t ms);
/* Runs until primary i serves and all others that are on stream from it; false at the limit. */
bool lab_run_until_healthy(struct lab *lab, int primary, int64_t limit_ms);
/* Index of the node whose PostgreSQL could acknowledge a write, -1 for none. */
int lab_primary(const struct lab *lab);
const char *lab_address(unsigned i);

#endif
