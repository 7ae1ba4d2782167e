/*
 * node_internal.h - the parts of a node, for the files of this folder alone.
 *
 *   node.c     life, the poll after every call into libraft, the turn with its callbacks
 *   io.c       raft_io: messages, clock, term and vote
 *   io_disk.c  raft_io: the queue of disk work
 *   io_load.c  raft_io: load, bootstrap, recover
 *   propose.c  proposals: own, forwarded, and those of followers
 *   change.c   membership and leadership transfer
 *
 * The rule behind all of it: libraft is entered from the top of the loop only, never from one of
 * its own callbacks; its callbacks write down what happened and node_poll() acts on it.
 */
#ifndef HA_RAFT_NODE_INTERNAL_H
#define HA_RAFT_NODE_INTERNAL_H

#include "base/err.h"
#include "raft/compat.h"
#include "raft/configuration.h"
#include "raft/fsm.h"
#include "raft/guard.h"
#include "raft/message.h"
#include "raft/node.h"
#include "store/log.h"

#define SNAPSHOT_THRESHOLD 512 /* entries between two snapshots; the state is small */
#define SNAPSHOT_TRAILING 1024 /* entries kept behind one: a snapshot is rarely sent */
#define INSTALL_TIMEOUT_MS 2000
#define CATCH_UP_ROUNDS 100
#define CATCH_UP_ROUND_MS 10000
#define PROPOSALS_MAX RAFT_SERVERS_MAX

enum disk_kind {
    DISK_APPEND,
    DISK_TRUNCATE,
    DISK_SNAPSHOT_PUT,
    DISK_SNAPSHOT_GET,
    DISK_WORK, /* raft_io.async_work */
};

/* One piece of disk work. The worker sees the fields up to `err`, the loop all of them. */
struct disk_op {
    struct raft_disk_job job;
    enum disk_kind kind;
    struct log *log;
    uint64_t index;            /* APPEND: of the first entry; TRUNCATE: of the first that goes */
    struct log_entry *entries; /* APPEND; the data belong to libraft until its callback */
    size_t n;
    struct log_snapshot snapshot; /* PUT, GET */
    uint64_t trailing;
    void *configuration; /* PUT: behind snapshot.configuration */
    struct raft_buffer *bufs;
    void *memory; /* GET: behind snapshot */
    int rc;
    struct err err;

    struct raft_node *node;
    struct disk_op *next;
    uint64_t term;   /* of the node when libraft asked */
    bool is_install; /* PUT: of a leader's snapshot */
    void *req;       /* libraft's request, by kind */
    union {
        raft_io_append_cb append;
        raft_io_snapshot_put_cb put;
        raft_io_snapshot_get_cb get;
        raft_io_async_work_cb work;
    } cb;
};

/* A send that libraft waits to hear of. */
struct sent {
    struct sent *next;
    struct raft_io_send *req;
    raft_io_send_cb cb;
    int status;
};

/* A server as the leader knows it: a notice of a commit goes out behind what was sent last. */
struct sent_mark {
    uint64_t id;
    uint64_t index; /* last entry sent */
    uint64_t term;  /* and its term */
    uint64_t acked; /* it has stored up to here */
    uint64_t told;  /* the commit index that it was told when it could use it */
};

/* A success that guard G1 holds back. */
struct held_result {
    uint64_t id;
    char address[HA_ADDRESS_MAX];
    struct raft_append_entries_result result;
};

/* A command on its way into the leader's log. */
struct proposal {
    bool is_local;
    uint64_t from_id;
    char from[HA_ADDRESS_MAX];
    uint64_t request;
    int64_t deadline_ms;
    size_t len;
    uint8_t bytes[COMMAND_BYTES_MAX];
};

struct proposals {
    struct proposal queue[PROPOSALS_MAX]; /* [0] is the one in the log, if is_submitted */
    uint32_t n;
    bool is_submitted;
    bool is_answered; /* libraft's callback came; rc and index hold */
    int rc;
    uint64_t index;
    struct raft_apply req;
};

enum local_phase {
    LOCAL_FREE,
    LOCAL_NEW,
    LOCAL_QUEUED,    /* in our own queue: we lead */
    LOCAL_FORWARDED, /* at the leader */
    LOCAL_APPLYING,  /* answered; our own state follows at once */
};

/* The one proposal of this member. */
struct local {
    enum local_phase phase;
    uint64_t request;
    uint64_t leader;
    uint64_t term;
    uint64_t index;
    int rc;
    int64_t deadline_ms;
    void (*done)(void *data, int rc);
    void *data;
    size_t len;
    uint8_t bytes[COMMAND_BYTES_MAX];
};

enum change_kind { CHANGE_NONE, CHANGE_ADD, CHANGE_PROMOTE, CHANGE_REMOVE };

/* Requests are part of the node: libraft may look at one after its callback. */
struct change {
    enum change_kind kind;
    bool is_submitted;
    bool is_answered;
    int status;
    uint64_t id;
    char address[HA_ADDRESS_MAX];
    struct raft_change req;
    bool wants_transfer;
    uint64_t transfer_to;
    struct raft_transfer transfer;
};

struct raft_node {
    struct raft raft;
    struct raft_io io;
    struct fsm fsm;
    struct raft_env *env;
    uint64_t id;
    /* What is written to a member of another era is addressed to nobody: the id on the envelope
     * is the member's, turned by this. */
    uint64_t era;
    struct consensus_callbacks callbacks;
    void (*on_apply)(void *data, uint64_t index, const void *bytes, size_t len, int rc);
    struct err err; /* of the last failure below raft_io */

    bool is_started;
    bool is_failed;
    bool is_fatal_told;
    bool is_polling;
    bool is_closing;
    bool is_closed; /* libraft let go of its memory */
    void (*closed)(void *data);
    void *closed_data;
    raft_io_close_cb io_closed;

    /* Disk. */
    struct log *log;
    uint64_t vote;       /* on record, in the guard's term; 0 = nobody */
    uint64_t last_index; /* of the log once all queued work is done */
    struct disk_op *disk_head;
    struct disk_op *disk_tail;
    bool is_disk_busy;    /* disk_head is with the env */
    bool is_installing;   /* a leader's snapshot is being written */
    bool is_snapshotting; /* any snapshot is */
    struct configuration_history history;

    /* Network. */
    raft_io_tick_cb tick_cb;
    raft_io_recv_cb recv_cb;
    struct sent *sent_head;
    struct sent *sent_tail;
    struct sent_mark marks[RAFT_SERVERS_MAX];
    struct held_result held[RAFT_SERVERS_MAX];
    uint32_t n_held;
    struct {
        bool is_set;
        uint64_t term;
        uint64_t index; /* the log equals the leader's up to here if libraft accepts it */
    } matching;         /* the append or snapshot that libraft is looking at */
    struct {
        uint64_t index;
        uint64_t term;
    } snapshot_read; /* the snapshot that libraft is being handed, to send it */
    bool is_mute;    /* successes are not sent: they would answer an older term's leader */
    uint8_t *out;    /* MESSAGE_BYTES_MAX */

    /* Role. */
    struct raft_guard guard;
    struct raft_barrier barrier;
    uint64_t barrier_term; /* of the leadership whose first entry is in the log; 0 = none */
    bool is_ready;
    uint64_t commit_seen;
    uint64_t unread_seen;
    struct raft_view view; /* as last told */

    struct proposals proposals;
    struct local local;
    struct change change;
};

/* node.c */
/* It cannot go on; on_fatal follows from the next turn. */
void node_fail(struct raft_node *node, const char *what, const struct err *err);
void node_log(const struct raft_node *node, int level, const char *event, const char *fmt, ...)
    HA_PRINTF(4, 5);
/* After every call into libraft from the top of the loop. */
void node_poll(struct raft_node *node);
bool node_is_leader(const struct raft_node *node);

/* io.c */
void io_init(struct raft_node *node);
void io_receive(struct raft_node *node, const char *from, const void *body, size_t len);
/* Tells libraft of its finished sends. */
void io_finish_sends(struct raft_node *node, bool is_canceled);
/* G6: before a tick, which may make a single voter the leader. */
void io_begin_own_term(struct raft_node *node);
/* G1: what was held back, once it may count. */
void io_release_held(struct raft_node *node);
/* The commit index to all followers that have the entry, without waiting for a heartbeat. */
void io_send_commit(struct raft_node *node);

/* io_disk.c */
void io_disk_init(struct raft_node *node);
/* Closing: everything that waits is canceled. Nothing is with the env any more. */
void io_disk_cancel(struct raft_node *node);
/* In libraft's shape and memory. NULL: damaged, or out of memory. */
struct raft_snapshot *io_snapshot_to_raft(const struct log_snapshot *from);
void io_snapshot_free(struct raft_snapshot *snapshot);

/* io_load.c */
void io_load_init(struct raft_node *node);

/* propose.c */
void propose_receive(
    struct raft_node *node, const char *from, uint8_t type, const void *body, size_t len);
void propose_step(struct raft_node *node);

/* change.c */
void change_step(struct raft_node *node);
bool change_is_pending(const struct raft_node *node);

#endif
