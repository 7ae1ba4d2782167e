/*
 * sim.h - the whole cluster on virtual time: one seed, one history, bit for bit.
 *
 * Real: agent/core, raft/node.h with the store's log, store/durable.h and the messages' bytes.
 * Virtual: the network, the clocks (each node has its own rate), the disks (tests/lib/fs_mem.h)
 * and PostgreSQL, of which each data directory is a position in a tree of histories. Time goes from
 * event to event. Oracle (oracle.c) looks after each of them and knows true time.
 *
 * Memory: one struct sim for the life of a run.
 * Errors: sim_violation() notes what broke; the run ends at the next event.
 */
#ifndef HA_TESTS_SIM_SIM_H
#define HA_TESTS_SIM_SIM_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/core/core.h"
#include "raft/node.h"
#include "tests/lib/fs_mem.h"

#define SIM_NODES_MAX 5
#define SIM_DIR "/state"
#define SIM_BRANCHES_MAX 4096
#define SIM_REIGNS_MAX 4096
#define SIM_TERMS_MAX 65536
#define SIM_INDEX_MAX 65536
#define SIM_PLAN_MAX 48
#define SIM_MS 1000 /* virtual time is in microseconds */

enum sim_event_kind {
    /* of the agent: wait while it is frozen, void when it died */
    SIM_MESSAGE = 0,
    SIM_RAFT_MESSAGE,
    SIM_TIMER,
    SIM_RAFT_TICK,
    SIM_RAFT_TURN,
    SIM_RAFT_DISK,
    SIM_RAFT_VIEW,
    SIM_PROPOSED,
    SIM_PERSIST,
    SIM_CACHE,
    SIM_FACTS,
    SIM_LOOK,
    SIM_PG_DONE,
    SIM_STOP,
    SIM_EXIT,
    SIM_OF_AGENT, /* ---- */
    /* of PostgreSQL: wait while the whole node is frozen */
    SIM_PG_OP,
    SIM_PG_KILL,
    SIM_PG_GUARD,
    SIM_PG_WRITE,
    SIM_PG_PULL,
    SIM_PG_RELOAD,
    SIM_OF_NODE, /* ---- */
    /* of the world */
    SIM_BOOT,
    SIM_FAULT,
    SIM_FAULT_END,
    SIM_REDEPLOY,
};

struct sim_event {
    int64_t at;
    uint64_t order; /* of two at one moment the older is first */
    uint8_t kind;
    uint8_t node;
    uint8_t from;
    uint8_t type; /* message type, operation, or the number of a fault */
    int32_t rc;
    uint64_t life; /* of whom it is for; an event for an earlier life is void */
    uint8_t *body;
    size_t len;
};

/* A history of writes that left another one at `fork`. Data are a branch and a position. */
struct sim_branch {
    uint32_t timeline;
    int parent;
    uint64_t fork;
    uint64_t end;
};

/* A walsender, by what it read last. */
struct sim_sender {
    bool is_on;
    bool is_named;
    uint32_t count;
    uint64_t serial;
    uint64_t flush;
};

struct sim_sync {
    struct sync_names told;
    uint64_t serial; /* of what is in the file */
    uint64_t checkpointer_serial;
    bool is_waiting_on; /* commits wait */
    uint64_t applied_version;
    struct sim_sender senders[SIM_NODES_MAX];
    uint64_t first_waiting_lsn;
    uint64_t waiting_lsn; /* the newest commit that waits, 0 = none */
    bool is_closed;
};

struct sim_pg {
    uint8_t run;  /* enum pg_run */
    uint8_t data; /* enum pg_data: EMPTY, PRIMARY, STANDBY, TORN */
    uint64_t sysid;
    int branch;
    uint64_t lsn;
    uint64_t checkpoint_lsn;
    bool is_shut_down;
    bool is_in_recovery;
    bool is_streaming;
    char upstream[HA_ADDRESS_MAX];
    uint32_t timeline_before;
    uint64_t fork_lsn;
    bool is_fresh_copy;
    bool has_old;
    int32_t exit_status;
    uint8_t op;
    char op_from[HA_ADDRESS_MAX];
    uint32_t promote_to; /* the number of the timeline that a promotion begins */
    uint64_t op_life;
    int64_t kill_at; /* 0 = no kill under way */
    /* The lease page. */
    int64_t page_deadline_ms; /* on the node's clock, 0 = revoked */
    uint64_t page_reign;
    struct sim_sync sync;
    bool is_pulling; /* the two wheels turn */
    bool is_writing;
};

struct sim_node {
    struct sim *sim;
    uint8_t self;
    char address[HA_ADDRESS_MAX];
    bool is_wanted; /* someone starts it again when it ends */
    bool is_on;     /* the agent lives */
    bool is_ending;
    bool is_restarting; /* stops by plan, comes back with another environment */
    uint64_t life;
    int64_t agent_frozen_until;
    int64_t node_frozen_until;
    /* clock: local ms = clock_base + (now - clock_zero) * (1 + ppm) */
    int64_t clock_base;
    int64_t clock_zero;
    int64_t ppm;

    struct core_config config;
    struct core core;
    int64_t timer_at; /* 0 = none */
    uint64_t max_reign;
    bool is_facts_due;
    bool is_watched;

    struct fs_mem *disk;
    bool is_disk_hurt;   /* a fault was injected: it may end for that */
    unsigned n_disk_bad; /* faults of it that go on */
    int64_t slow_disk_until;
    bool is_persisting;
    struct durable persist;
    struct durable saved; /* as durable_save() said */
    bool has_saved;
    struct state cache;
    uint64_t cache_index;
    bool is_cache_due;

    struct raft_env env;
    struct raft_node *raft;
    struct raft_disk_job *job;
    unsigned tick_ms;
    bool is_ticking;
    bool is_turn_due;

    struct sim_pg pg;
    int64_t bare_since; /* its primary runs without a lease, and the agent could end it; 0 = no */
    int64_t link_at[SIM_NODES_MAX]; /* when the newest ordered message to each arrives */
};

enum sim_fault_kind {
    FAULT_ISOLATE = 0,
    FAULT_ONE_WAY_OUT,
    FAULT_ONE_WAY_IN,
    FAULT_PAIR,
    FAULT_LOSS,
    FAULT_DELAY,
    FAULT_DOUBLE,
    FAULT_AGENT_KILL,
    FAULT_POWER,
    FAULT_POWER_ALL,
    FAULT_FREEZE_AGENT,
    FAULT_FREEZE_NODE,
    FAULT_HIDDEN_PAUSE,
    FAULT_DISK_SLOW,
    FAULT_DISK_FULL,
    FAULT_DISK_ERROR,
    FAULT_DISK_LOST,
    FAULT_PG_CRASH,
    FAULT_DECLARE,
    FAULT_PAUSE,
    FAULT_REDEPLOY,
    FAULT_RESTART,
    FAULT_PG_RESTART,
    FAULT_MEMBERS,
    FAULT_KIND_COUNT,
};

struct sim_fault {
    int64_t at;
    int64_t length;
    uint8_t kind; /* enum sim_fault_kind */
    uint8_t node;
    uint8_t other;
    uint32_t number;
    bool is_left_out;
};

struct sim {
    uint64_t seed;
    uint64_t chance;
    bool is_trace;
    int64_t now;
    uint64_t n_made;
    uint64_t n_steps;
    struct sim_event *events;
    size_t n_events;
    size_t events_size;

    uint8_t n;
    struct sim_node nodes[SIM_NODES_MAX];
    struct declaration declaration; /* that the next start of each agent finds */
    bool is_member[SIM_NODES_MAX];
    bool has_guardian;
    bool has_hidden_pauses; /* of which no clock tells: only synchronous commits are safe then */
    bool is_calm;           /* the faults are over */

    unsigned lose_percent;
    unsigned double_percent;
    int64_t delay_max;                          /* us */
    unsigned cut[SIM_NODES_MAX][SIM_NODES_MAX]; /* how many faults cut from -> to */

    struct sim_fault plan[SIM_PLAN_MAX];
    unsigned n_plan;
    int64_t faults_end;
    unsigned n_disks_lost;
    bool is_redeploying;

    int n_branches;
    struct sim_branch branches[SIM_BRANCHES_MAX];
    uint64_t sysids;

    struct effect_list effects;

    /* What the oracle knows. */
    bool is_broken;
    char broken[400];
    uint64_t entry_at[SIM_INDEX_MAX];
    uint64_t leader_of[SIM_TERMS_MAX];
    uint64_t holder_of[SIM_REIGNS_MAX];
    bool has_served[SIM_REIGNS_MAX];
    struct {
        int branch;
        uint64_t lsn;
    } last_ack[SIM_REIGNS_MAX];
    uint8_t sync_count_of[SIM_REIGNS_MAX]; /* on record when that reign was appointed */
    struct state record; /* the newest that anybody applied of who has what is acknowledged */
    struct {
        int branch;
        uint64_t lsn;
    } sync_ack; /* the newest write that was acknowledged while a count was on record */
    uint64_t n_sync_acks;
    uint64_t acked_reign;
    uint8_t acked_node;
    uint64_t n_acks;
    uint64_t n_refused;
    int live_node; /* whose PostgreSQL could acknowledge after the last event, -1 = none */
};

/* ---- queue.c: chance and what is going to happen ---- */

uint64_t sim_random(struct sim *sim);
unsigned sim_below(struct sim *sim, unsigned n); /* 0 .. n - 1 */
int64_t sim_between(struct sim *sim, int64_t from, int64_t to);
void sim_push(struct sim *sim, struct sim_event event);       /* takes the body over */
void sim_push_again(struct sim *sim, struct sim_event event); /* keeps its order */
struct sim_event sim_pop(struct sim *sim);

/* ---- sim.c ---- */

/* The world of that seed: nodes, clocks, policy and the plan of its faults. */
struct sim *sim_new(uint64_t seed, int64_t faults_ms);
/* Runs events until that moment. False when something broke. */
bool sim_run(struct sim *sim, int64_t until);
int64_t sim_local_ms(const struct sim_node *n);
/* When that node's clock shows it; at least one microsecond from now. */
int64_t sim_true_at(const struct sim_node *n, int64_t local_ms);
bool sim_is_linked(const struct sim *sim, unsigned from, unsigned to);
struct sim_node *sim_node_at(struct sim *sim, const char *address);
void sim_trace(const struct sim *sim, const struct sim_node *n, const char *fmt, ...)
    HA_PRINTF(3, 4);
void sim_violation(struct sim *sim, const struct sim_node *n, const char *fmt, ...) HA_PRINTF(3, 4);

/* ---- agent.c: an agent's life ---- */

void agent_boot(struct sim_node *n);
/* The process dies; with its machine when the power goes. */
void agent_die(struct sim_node *n, bool with_power);
void agent_give(struct sim_node *n, struct event *event);
void agent_on_event(struct sim_node *n, const struct sim_event *e);
void agent_push(struct sim_node *n, uint8_t kind, int64_t after, int rc);

/* ---- network.c: the messages of the agents and the world below Raft ---- */

void network_send(struct sim_node *from,
                  const char *to,
                  uint8_t kind,
                  uint8_t type,
                  const void *body,
                  size_t len);
void network_init(struct sim_node *n);
/* Opens Raft on its disk and starts it; false when it cannot. */
bool network_raft_start(struct sim_node *n, const struct effect *e);
void network_raft_end(struct sim_node *n, bool with_power);
void network_on_event(struct sim_node *n, const struct sim_event *e);

/* ---- postgres.c ---- */

void postgres_lose_data(struct sim_node *n);
void postgres_begin_op(struct sim_node *n, uint8_t op, const char *from);
void postgres_discard(struct sim_node *n);
void postgres_kill_in(struct sim_node *n, int64_t after);
void postgres_stop_dirty(struct sim_node *n, int exit_status, bool is_told);
void postgres_set_page(struct sim_node *n, int64_t deadline_ms, uint64_t reign);
void postgres_on_event(struct sim_node *n, const struct sim_event *e);
void postgres_facts(const struct sim_node *n, struct pg_facts *facts);
bool postgres_is_live(const struct sim_node *n);
/* True when position (b, l) lies in the history that ends at (of, end). */
bool postgres_is_prefix(const struct sim *sim, int of, uint64_t end, int b, uint64_t l);

/* ---- sync.c ---- */

void sync_tell(struct sim_node *n, const struct sync_names *names);
void sync_on_start(struct sim_node *n);
void sync_on_stop(struct sim_node *n);
void sync_on_reload(struct sim_node *n, unsigned part);
void sync_on_flush(struct sim_node *n, unsigned standby, uint64_t lsn);
void sync_on_leave(struct sim_node *standby);
bool sync_waits(struct sim_node *n);
void sync_facts(struct sim_node *n, struct pg_sync *out);

/* ---- faults.c ---- */

void faults_plan(struct sim *sim, int64_t from, int64_t to);
void faults_on_event(struct sim *sim, const struct sim_event *e);
void faults_end(struct sim *sim);
/* The person who looks after the cluster when the faults are over. */
void faults_operator(struct sim *sim);
const char *faults_text(uint8_t kind);

/* ---- oracle.c ---- */

void oracle_on_apply(struct sim_node *n, uint64_t index, const void *bytes, size_t len);
void oracle_on_view(struct sim_node *n, const struct raft_view *view);
void oracle_on_state(struct sim_node *n, const struct state *state);
void oracle_on_effect(struct sim_node *n, const struct effect *e);
void oracle_on_load(struct sim_node *n, const struct durable *loaded);
void oracle_on_ack(struct sim_node *n, uint64_t lsn);
void oracle_on_promoted(struct sim_node *n);
void oracle_after_event(struct sim *sim);
/* oracle_sync.c: INV-9 */
void oracle_on_record(struct sim_node *n, const struct state *s);
void oracle_check_known(struct sim_node *n);
void oracle_check_follow(struct sim_node *n, const char *from);
/* Index of the one primary that all members follow, or -1; `why` says what is missing. */
int oracle_healthy(struct sim *sim, char why[160]);

#endif
