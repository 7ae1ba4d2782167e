/*
 * state.h - what the cluster agreed on: the replicated state machine's state.
 *
 * Every member holds the same bytes after the same log entry. Only apply.c
 * changes a state; everybody else reads. See docs/protocol.md, section 2.
 *
 * Clock:  none; times in here are data that a proposer sent along.
 * Memory: plain data of fixed size; copying the struct copies the state.
 */
#ifndef HA_STORE_STATE_H
#define HA_STORE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HA_MEMBERS_MAX 9                     /* members of one cluster, witnesses included */
#define HA_MEMBER_SLOTS (HA_MEMBERS_MAX + 1) /* one more while a member is replaced */
#define HA_ADDRESS_MAX 48                    /* an IP address in text form, with its NUL */
#define HA_NAME_MAX 64                       /* a host name, with its NUL */
#define HA_WHY_MAX 80                        /* why a reign began, with its NUL */
#define HA_HISTORY_MAX 64                    /* reigns that are remembered */
#define HA_LEASE_MS_MIN 500
#define HA_LEASE_MS_MAX 60000
#define HA_LEASE_MS_DEFAULT 2000

enum member_kind {
    MEMBER_DATABASE = 0, /* an agent with a PostgreSQL */
    MEMBER_WITNESS = 1,  /* an agent that only votes */
    MEMBER_KIND_COUNT,
};

enum failover_policy {
    FAILOVER_DECLARED = 0, /* only the declared primary is ever appointed */
    FAILOVER_AUTO = 1,     /* the best candidate takes over */
    FAILOVER_POLICY_COUNT,
};

/* When a commit is acknowledged (HA_SYNC); docs/decisions has the page. */
enum sync_mode {
    SYNC_OFF = 0, /* when it is on the primary's disk */
    SYNC_ON,      /* also on standbys', for as long as there is one */
    SYNC_QUORUM,  /* on so many of all members that any majority knows of it */
    SYNC_STRICT,  /* as ON, but never on fewer than the count */
    SYNC_MODE_COUNT,
};

/* How a member's data are replaced. */
enum rebuild_rung {
    REBUILD_NONE = 0,
    REBUILD_REWIND, /* taken back to where they left the cluster's history */
    REBUILD_COPY,   /* a whole copy of another member's */
    REBUILD_CLEAR,  /* done, they stream; what they replaced may go */
    REBUILD_RUNG_COUNT,
};

/* A member as an environment lists it. */
struct member_spec {
    char address[HA_ADDRESS_MAX];
    uint8_t kind; /* enum member_kind */
};

/* What the environment wishes. `number` is HA_DECLARATION, 0 when it is not used. */
struct declaration {
    uint64_t number;
    char primary[HA_ADDRESS_MAX];
    uint32_t lease_ms;
    uint64_t max_lag;   /* bytes; HA_MAX_LAG */
    uint8_t failover;   /* enum failover_policy */
    uint8_t sync;       /* enum sync_mode */
    uint8_t sync_count; /* HA_SYNC_COUNT: standbys that a commit waits for; 0 = see sync.h */
    uint8_t n_members;
    struct member_spec members[HA_MEMBERS_MAX]; /* sorted by address, see declaration_sort() */
};

/*
 * A member of the cluster. The set of members in force is all with left == 0.
 * While settled_generation < members_generation a change of members is under
 * way: entries with joined == members_generation are new, entries with
 * left == members_generation are on their way out, and a reign is opened only
 * with the grants of a quorum of the old set AND of the new one.
 */
struct member {
    uint64_t id;           /* member_id(address, joined); also its Raft id; 0 = free entry */
    uint64_t nonce;        /* of its state directory, 0 until it registered */
    uint64_t joined;       /* members_generation at which it came */
    uint64_t left;         /* members_generation at which it was removed, or 0 */
    uint64_t declared;     /* digest of the last declaration that it spoke */
    uint64_t last_counter; /* idempotency: the counter of its last proposal that was applied */
    int32_t last_result;   /* and what apply answered */
    uint64_t rebuild;      /* the reign under which its data are replaced, or 0 */
    uint8_t rebuild_rung;  /* enum rebuild_rung */
    uint8_t kind;          /* enum member_kind */
    char address[HA_ADDRESS_MAX];
    char name[HA_NAME_MAX]; /* host name, "" until it registered */
};

/* One reign, as history keeps it. */
struct reign_row {
    uint64_t reign;
    uint64_t holder;                     /* member id */
    char holder_address[HA_ADDRESS_MAX]; /* stays readable when the member is gone */
    uint64_t wall_ms;  /* the proposer's wall clock at appointment, for people only */
    uint64_t fork_lsn; /* where its timeline left the one before; 0 until opened */
    uint64_t lineage;  /* of that timeline, see lineage_extend(); 0 until opened */
    uint32_t timeline; /* 0 until opened */
    char why[HA_WHY_MAX];
};

struct state {
    uint64_t cluster_id; /* 0 until the cluster is founded */
    uint64_t sysid;      /* PostgreSQL's system identifier, 0 until the first reign opened */
    uint64_t era;        /* grows when an operator's force cuts the history off; 0 = never */

    struct declaration declaration; /* the wish in force */
    uint64_t generation;            /* of the declaration, grows by one with every change */
    char declared_by[HA_ADDRESS_MAX];
    uint64_t acted_generation; /* of the declaration when the newest reign was appointed */
    uint64_t job_declared;     /* digest of the last word of `hactl declare` */

    uint64_t members_generation;
    uint64_t settled_generation;
    struct member members[HA_MEMBER_SLOTS];

    uint64_t reign;     /* of the newest reign, 0 before the first */
    uint64_t holder;    /* member id of its holder */
    bool is_vacant;     /* its holder gave it up, its PostgreSQL stopped */
    bool is_opened;     /* its timeline is on record */
    uint64_t handover;  /* member id of the successor while a switchover is under way, or 0 */
    uint64_t final_lsn; /* of a vacated reign: no acknowledged write lies beyond; 0 = unknown */
    bool is_paused;

    /*
     * Who has what was acknowledged (INV-9, store/sync.h): of the members in the set and of
     * sync_lost more that are gone, at least sync_count have every acknowledged write, or its
     * holder has. 0 = asynchronous: nothing is known of the others.
     */
    uint64_t sync_set; /* bit i = members[i] */
    uint8_t sync_count;
    uint8_t sync_lost;
    uint64_t sync_epoch; /* grows with every change of them and with every reign */

    /* The newest opened reign: which timeline the cluster's data are on. */
    uint64_t opened_reign;
    uint32_t timeline;
    uint64_t fork_lsn;
    uint64_t lineage;

    uint32_t n_history;
    struct reign_row history[HA_HISTORY_MAX]; /* oldest first */
};

/* An empty state: no cluster is founded. */
void state_init(struct state *state);

/* The id of a member: a hash of its address and the generation at which it joined; never 0. */
uint64_t member_id(const char *address, uint64_t joined);

/* Entry of a member, or NULL. Entries on their way out are found too. */
const struct member *state_member(const struct state *state, uint64_t id);

/* The member in force with that address, or NULL. */
const struct member *state_member_at(const struct state *state, const char *address);

/* True when the entry belongs to the set in force / to the set before the change under way. */
bool member_is_current(const struct member *member);
bool member_was_settled(const struct state *state, const struct member *member);

#define LINEAGE_FIRST 0xcbf29ce484222325ULL /* of a timeline that has no parent */

/*
 * Digest of all forks that lead to a timeline, from that of its parent and where it left it. Two
 * timelines of one number that began at different places have different ones. Never 0.
 */
uint64_t lineage_extend(uint64_t parent, uint32_t parent_timeline, uint64_t fork_lsn);

/*
 * The number of the timeline that a promotion under the newest reign begins: no reign begins one of
 * the number of another's, open or not (docs/decisions/0010). 0 before a timeline is on record.
 */
uint32_t state_next_timeline(const struct state *state);

/* The row of the reign that began that timeline, or NULL. */
const struct reign_row *state_timeline(const struct state *state, uint32_t timeline);

/* The history row of a reign, or NULL when it is no longer remembered. */
const struct reign_row *state_reign(const struct state *state, uint64_t reign);

/*
 * True when that member's data may be replaced now: a majority of the copies must be left alone, or
 * no other is being replaced. Whose data are on record as replaced already goes on.
 */
bool state_may_rebuild(const struct state *state, uint64_t id);

/* Puts the members in the one order that digests are made over. */
void declaration_sort(struct declaration *d);

/* Digest over every field; the same words give the same digest on every member. Never 0. */
uint64_t declaration_digest(const struct declaration *d);

/* The same over the list of members alone: who makes up the first Raft configuration. */
uint64_t members_digest(const struct declaration *d);

/* True when the address is one of its members'. */
bool declaration_lists(const struct declaration *d, const char *address);

/* True when both say the same, `number` left aside. */
bool declaration_equals(const struct declaration *a, const struct declaration *b);

/*
 * Why a declaration cannot be accepted, or NULL when it can: no members, an address
 * twice, a primary that is not a database member, figures out of bounds.
 */
const char *declaration_fault(const struct declaration *d);

#endif
