/*
 * raft_sim.h - a Raft group on virtual time, a bad network and forgetful disks.
 *
 * The nodes are those of raft/node.h, over a raft_env whose every event (message, tick, turn, disk
 * job) waits in one queue ordered by virtual time. Messages are lost, delayed, doubled and
 * overtaken; links are cut; power goes in the middle of a disk operation. One seed, one run.
 *
 * Checked at every step, by abort() with the seed in the text: all nodes apply the same command at
 * the same index; a term has one leader.
 */
#ifndef HA_TESTS_LIB_RAFT_SIM_H
#define HA_TESTS_LIB_RAFT_SIM_H

#include "raft/node.h"
#include "tests/lib/fs_mem.h"

#define SIM_NODES_MAX 6
#define SIM_INDEX_MAX 65536
#define SIM_TERM_MAX 65536

struct sim;

struct sim_node {
    struct raft_env env;
    struct sim *sim;
    int self; /* its place in sim->nodes */
    struct fs_mem *disk;
    struct raft_node *node; /* NULL = down */
    uint64_t id;
    uint64_t incarnation;
    bool is_stranger; /* the state knows no such member: it proposes nothing */
    char address[HA_ADDRESS_MAX];
    unsigned life; /* events of an earlier one are void */
    struct raft_disk_job *job;
    unsigned tick_ms;
    bool is_turn_due;
    bool is_ticking;
    bool has_failed; /* on_fatal was called */
    uint64_t applied;
    struct raft_view view;
    /* The proposal under way, repeated until its fate is known. */
    struct command command;
    bool has_command;
    bool is_in_flight;
    uint64_t counter;
};

struct sim {
    uint64_t seed;
    uint64_t chance;
    int64_t now;
    uint64_t n_events_made;
    struct sim_event *events; /* binary heap */
    size_t n_events;
    size_t events_size;
    int n;
    struct sim_node nodes[SIM_NODES_MAX];

    /* The weather; set freely between steps. */
    unsigned lose_percent;
    unsigned double_percent;
    unsigned delay_ms_max;
    unsigned disk_ms_max;
    bool is_cut[SIM_NODES_MAX][SIM_NODES_MAX]; /* from, to */
    unsigned snapshot_threshold;
    unsigned snapshot_trailing;

    /* What is known to be true for ever. */
    uint64_t entry_at[SIM_INDEX_MAX]; /* hash of the command applied there, 0 = none */
    uint64_t last_entry;
    uint64_t leader_of[SIM_TERM_MAX];
    uint64_t n_acknowledged;
    uint64_t n_refused;
    uint64_t n_unknown;
    uint64_t n_crashes;
    bool is_quiet; /* no new proposals */
};

/* n nodes, the first configuration on all their disks, not started. */
struct sim *sim_new(uint64_t seed, int n);
void sim_free(struct sim *sim);

uint64_t sim_random(struct sim *sim);
/* 0 .. n - 1. */
unsigned sim_below(struct sim *sim, unsigned n);

void sim_start(struct sim *sim, int i);
/* The process dies now; `with_power`: the machine too, possibly inside a disk operation. */
void sim_crash(struct sim *sim, int i, bool with_power);
/* A node that is not part of the group yet. */
int sim_add_node(struct sim *sim);

/* It lost its disk: the same address comes back empty, under a new id, not part of the group. */
void sim_replace_disk(struct sim *sim, int i);
bool sim_is_voter(const struct raft_view *view, uint64_t id);

/* Runs until virtual time `until` or until the predicate holds; true when it held. */
bool sim_run(struct sim *sim, int64_t until, bool (*is_done)(struct sim *sim));

/* A running node that leads and is ready, or -1. */
int sim_leader(const struct sim *sim);
/* All running voters follow one ready leader and have applied all that it has. */
bool sim_is_settled(struct sim *sim);

/* The first command: without it no member has an idempotency key. Waits for it. */
void sim_found(struct sim *sim);
/* A command of this node, with a new key, repeated until it is known to be applied. */
void sim_propose(struct sim *sim, int i);

/* One line a node, for people. */
void sim_print(const struct sim *sim);

/* Ends the program with the seed and a reason. */
_Noreturn void sim_die(const struct sim *sim, const char *fmt, ...) HA_PRINTF(2, 3);

#endif
