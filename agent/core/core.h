/*
 * core.h - what should happen next: the whole policy of a member, without doing any of it.
 *
 * decide_step() takes one event and answers with effects. The same events give
 * the same effects, bit for bit. See docs/protocol.md.
 *
 * Clock:  event.now only.
 * Memory: struct core is the caller's, plain data of fixed size; no allocation.
 * Errors: none; every event is legal at every time.
 */
#ifndef HA_CORE_CORE_H
#define HA_CORE_CORE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/core/effect.h"
#include "agent/core/event.h"
#include "agent/core/gateway_view.h"
#include "agent/core/health.h"
#include "agent/core/lease.h"
#include "agent/core/promise.h"

/* How the database server's end on a live holder is answered (HA_ON_CRASH). */
enum on_crash {
    ON_CRASH_DEFAULT = 0, /* failover under auto, restart under declared */
    ON_CRASH_FAILOVER,
    ON_CRASH_RESTART,
    ON_CRASH_COUNT,
};

enum on_stop {
    ON_STOP_HANDOVER = 0,
    ON_STOP_STOP,
    ON_STOP_COUNT,
};

struct core_config {
    char address[HA_ADDRESS_MAX];   /* own, as the environment lists it */
    char name[HA_NAME_MAX];         /* own host name */
    uint8_t kind;                   /* enum member_kind */
    struct declaration declaration; /* of the environment, sorted and without fault */
    uint8_t on_crash;               /* enum on_crash */
    uint8_t on_stop;                /* enum on_stop */
    uint32_t boot_grace_ms;         /* HA_BOOT_GRACE */
    uint32_t sick_ms;               /* HA_SICK_MS: a silence this long is an illness; 0 = none is */
    uint64_t disk_reserve;          /* HA_DISK_RESERVE: bytes; 0 = not watched */
    bool is_nofailover;
    bool is_nosync;        /* HA_NOSYNC: no commit waits for this member */
    bool is_noloadbalance; /* HA_NOLOADBALANCE: no gateway sends reads here */
    uint16_t priority;     /* HA_PRIORITY: of two with the same WAL the higher takes over */
    uint32_t slot_ttl_ms;  /* HA_SLOT_TTL: who is away for longer has no slot; 0 = no bound */
    bool is_rewind_off;    /* HA_REWIND=off: always a copy */
    char clone_from[HA_ADDRESS_MAX]; /* HA_CLONE_FROM: "" = the primary, "replica" = any */
    uint64_t random;                 /* for the id of a cluster that this member founds; never 0 */
};

/* What was last heard of another member. */
struct peer_view {
    char address[HA_ADDRESS_MAX]; /* "" = free entry */
    bool is_heard;
    struct mono heard_at;
    struct status status;
    bool has_answered; /* a probe */
    struct mono answered_at;
    struct probe_answer answer;
    bool has_probed; /* it has an empty state directory and asks */
    struct mono probed_at;
    struct probe probe;
};

#define CORE_PEERS_MAX (2 * HA_MEMBERS_MAX)

/* The planned switchover, seen from the holder. */
enum handover_step {
    HANDOVER_NONE = 0,
    HANDOVER_CHECKPOINT, /* clients are still served */
    HANDOVER_STOP,       /* fast stop; the lease is kept, or the last WAL would not leave */
    HANDOVER_CONFIRM,    /* stopped; the successor must show that it has all of it */
    HANDOVER_CANCEL,     /* called off: serve again, and tell the log */
};

/* A restart that a person asked for. */
enum restart_step {
    RESTART_NONE = 0,
    RESTART_CHECKPOINT,
    RESTART_STOP,
    RESTART_START, /* the rules of every day start it */
};

struct core {
    struct core_config config;
    struct mono started_at;
    struct mono now;
    uint64_t wall_ms;       /* of the newest event, for people only */
    struct mono tilt_until; /* after a stall: watch, stop things, start nothing */

    struct state state; /* as applied; before the first leader speaks, as remembered */
    uint64_t state_index;
    bool was_holder_live;       /* under this reign, since the start: seen with a lease */
    struct mono vacant_seen_at; /* when it was first seen here that the newest reign is vacant */
    struct mono reign_seen_at;  /* when the newest reign was first seen here */
    struct raft_facts raft;
    bool is_raft_started;
    bool is_raft_alone;     /* it was started with this member as its only server, by force */
    bool is_forgetting;     /* has no id any more, and begins anew when its disk says so */
    uint64_t recover_token; /* of the operator who waits */
    struct mono led_at;     /* when a Raft leader was last known here */
    struct mono asked_at;   /* when one that is out of touch last asked around */
    struct pg_facts pg;

    struct durable durable;       /* as it should be on disk */
    struct durable durable_saved; /* as it is */
    bool is_persisting;
    struct durable persisting;
    struct mono persist_retry_at;

    struct promise promise;
    struct lease lease;
    uint64_t seq; /* last used, as seq and as proposal counter */

    struct peer_view peers[CORE_PEERS_MAX];

    /* One proposal at a time. */
    bool is_proposing;
    struct command proposal;
    struct mono proposed_at;
    struct mono propose_after; /* a short pause after one that failed */
    uint64_t proposal_token;   /* of the request behind it, 0 = none */
    struct {
        bool is_set;
        uint64_t token;
        struct command command;
    } request;

    /* PostgreSQL. */
    uint8_t pg_op; /* enum pg_op in flight */
    struct mono pg_op_at;
    bool is_killing;
    bool is_watched;
    bool was_primary_up; /* under the current reign */
    bool was_promoting;
    uint32_t start_failures;
    struct mono pg_retry_at;
    struct mono unstreamed_since; /* 0 = streams, or has no upstream */
    struct mono streamed_since;   /* 0 = it does not */
    uint64_t frozen_reign;
    bool is_clone_due;
    bool is_copied; /* by this agent, since one was due: the record is not asked again */
    bool is_slots_said;
    struct pg_slots slots; /* as said last */
    struct mono slots_at;
    bool is_rewind_over; /* it failed under this reign: a copy comes next */
    struct mono discard_after;
    struct mono rebuild_after; /* a pause after a copy that failed, for others to have one */
    char clone_why[HA_WHY_MAX];
    uint8_t restart; /* enum restart_step */
    struct mono restart_at;
    uint64_t restart_token;
    uint64_t reload_token;
    struct health health;
    uint8_t verdict;      /* enum health_verdict, of this step */
    bool is_sick_leaving; /* a holder that asks to be relieved */
    bool is_sick_killed;  /* until it is gone, no lease is asked for */
    bool was_disk_low;    /* when PostgreSQL ended */
    uint8_t handover;     /* enum handover_step */
    struct mono handover_at;
    /* Synchronous replication (INV-9). */
    struct {
        struct sync_names told;   /* what PostgreSQL was told last, */
        struct sync_names before; /* and what parts of it may still use */
        struct pg_sync seen;
        struct mono streamed_at[HA_MEMBER_SLOTS]; /* of each member: when it was last seen so */
        uint64_t streamed_id[HA_MEMBER_SLOTS];
        struct mono since;    /* nobody counts as away before it had time to come */
        uint32_t n_applied;   /* looks at a server that uses what it was told */
        uint64_t asked_epoch; /* of the newest proposal; its fate is known when the log has more */
        uint64_t barrier; /* what lies before it was acknowledged under an older rule; 0 = none */
        bool is_closed;   /* no client is let in before standbys have all that was recovered */
        uint64_t closed_lsn; /* up to here; 0 = not known yet */
        uint8_t phase;       /* enum sync_phase */
        uint8_t n_streaming;
    } sync;
    /* A reign that is being given back: PostgreSQL stopped; the release goes to disk, then out. */
    struct {
        uint64_t reign; /* 0 = none */
        uint64_t final_lsn;
        bool is_sent;
        char why[HA_WHY_MAX];
    } vacate;

    /* Governor. */
    struct mono leader_since;
    uint64_t freeze_reign;
    struct mono freeze_at;
    uint64_t fetch_member;
    uint64_t fetch_from;
    uint64_t fetch_lsn;
    struct mono transfer_at;
    struct mono handover_after; /* a pause after one that was called off */

    struct gateways_view gateways;

    bool is_stopping;
    struct mono stop_at;
    bool is_stop_plain;    /* no handover comes before this stop any more */
    uint64_t stop_vacated; /* the reign that was given back on the way out, and when */
    struct mono stop_vacated_at;
    bool is_exiting;

    struct status status; /* the own one, as last sent */
    struct mono status_at;
    uint16_t rule; /* what this member is doing, and why */
    char why[HA_WHY_MAX];
    uint16_t governor_rule; /* what it would decide for the cluster, while it leads Raft */
    char governor_why[HA_WHY_MAX];
};

/*
 * Begins the life of a member. `durable` is what its disk remembers, with `boots` counted up
 * already and on disk; `remembered` the last applied state, or NULL.
 */
void core_init(struct core *core,
               const struct core_config *config,
               const struct durable *durable,
               const struct state *remembered,
               uint64_t remembered_index,
               struct mono now);

/* One event in, effects out (the list is emptied first). */
void decide_step(struct core *core, const struct event *event, struct effect_list *effects);

/* The next moment at which something is due without any event: a tick must come by then. Always
 * later than the last step, so that a loop which only waits for it does not spin. */
struct mono core_wakeup_at(const struct core *core);

/* ---- for the core's own files, tests and whoever shows the picture ---- */

/* The own entry among the members, or NULL while this member belongs to no cluster. */
const struct member *core_self(const struct core *core);

/* The peer with that member id / address, or NULL. */
const struct peer_view *core_peer(const struct core *core, uint64_t id);
struct peer_view *core_peer_at(struct core *core, const char *address);

/* The directory that stood behind that address when this member founded; 0 = none was seen. */
uint64_t core_founder_nonce(const struct core *core, const char *address);

/* What was heard of it is at most 600 ms old. */
bool peer_is_fresh(const struct core *core, const struct peer_view *peer);

/* This member is the holder of the newest reign and has not given it back. */
bool core_is_holder(const struct core *core);

/* Why that member could not take the reign over now, as far as this one knows; NULL = it could. */
const char *core_why_unfit(const struct core *core, uint64_t id);

/* This member may let its PostgreSQL acknowledge writes at core->now. */
bool core_has_lease(const struct core *core);

#endif
