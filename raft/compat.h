/*
 * compat.h - where versions of libraft differ for us; nowhere else.
 *
 * Both of Debian's are tested: 0.15 (bookworm) and 0.22 (trixie). The core of 0.22 decides over a
 * trail of terms and hands what it decided to raft_io in one go. What follows from that for us:
 *
 *   names       of messages; the disk is asked for no work of its own.
 *   requests    that are done wait in a queue until raft_io has their callbacks called:
 *               compat_fire_requests(), from node_poll().
 *   barrier     A new leader adds one itself if its log goes beyond what is committed; node.c
 *               adds one where there is none yet.
 *   term, vote  are asked to be written again with what they are: a term that is on record leaves
 *               its vote alone (raft/io.c).
 *   append      is preceded by a truncation, also where nothing is to go (raft/io_disk.c).
 *   capacity    The leader refuses entries when a disk has no room reserved; ours says so by
 *               failing, so there is no threshold.
 *   pre-vote    A result says whether it answers one, as yes or no, and counts only if it also
 *               says that it knows (version 2). On the wire it stays 0.15's: 0 it does not say,
 *               1 yes, 2 no; members of both kinds make one group while hosts are upgraded.
 *   snapshot    A request to read one may not fail (it frees what it never set), what is read may
 *               be newer than what was asked for and keeps the term of that, and the address is
 *               where the configuration had it when it was asked for (raft/io.c, io_disk.c).
 *   change      A configuration in the middle of a message is noted under the index of the first
 *               new entry and then counts as uncommitted for ever: raft/io.c cuts before it.
 *   rollback    of a configuration is done by the core, which holds the committed one.
 *   close       leaves the state as it was; an append that never came back is canceled.
 */
#ifndef HA_RAFT_COMPAT_H
#define HA_RAFT_COMPAT_H

#include <raft.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Versions before 0.17 do not say which they are. */
#ifndef RAFT_VERSION_NUMBER
#define RAFT_VERSION_NUMBER 1500
#endif

#if RAFT_VERSION_NUMBER >= 1700
#define RAFT_IO_APPEND_ENTRIES RAFT_APPEND_ENTRIES
#define RAFT_IO_APPEND_ENTRIES_RESULT RAFT_APPEND_ENTRIES_RESULT
#define RAFT_IO_REQUEST_VOTE RAFT_REQUEST_VOTE
#define RAFT_IO_REQUEST_VOTE_RESULT RAFT_REQUEST_VOTE_RESULT
#define RAFT_IO_INSTALL_SNAPSHOT RAFT_INSTALL_SNAPSHOT
#define RAFT_IO_TIMEOUT_NOW RAFT_TIMEOUT_NOW

struct raft_io_async_work;
typedef void (*raft_io_async_work_cb)(struct raft_io_async_work *req, int status);
struct raft_io_async_work {
    void *data;
    int (*work)(struct raft_io_async_work *req);
    raft_io_async_work_cb cb;
};
#endif

/* What a vote's result says of a pre-vote, as on the wire. */
enum { PRE_VOTE_UNKNOWN, PRE_VOTE_YES, PRE_VOTE_NO };

static inline uint8_t
compat_pre_vote(const struct raft_request_vote_result *result)
{
#if RAFT_VERSION_NUMBER < 1700
    return (uint8_t)result->pre_vote;
#else
    return result->pre_vote ? PRE_VOTE_YES : PRE_VOTE_NO;
#endif
}

static inline void
compat_set_pre_vote(struct raft_request_vote_result *result, uint8_t pre_vote)
{
#if RAFT_VERSION_NUMBER < 1700
    result->pre_vote = (raft_tribool)pre_vote;
#else
    result->version = pre_vote == PRE_VOTE_UNKNOWN ? 1 : 2;
    result->pre_vote = pre_vote == PRE_VOTE_YES;
#endif
}

static inline void
compat_set_up(struct raft *r)
{
#if RAFT_VERSION_NUMBER < 1700
    (void)r;
#else
    raft_set_capacity_threshold(r, 0);
#endif
}

/* Has the callbacks called of requests that are done. From the top of the loop. */
static inline void
compat_fire_requests(struct raft *r)
{
#if RAFT_VERSION_NUMBER < 1700
    (void)r;
#else
    void **queue = r->legacy.requests; /* a ring of next and previous */

    while (queue[0] != queue) {
        void **head = queue[0];
        /* All requests begin alike. */
        struct raft_apply *req = (void *)((char *)head - offsetof(struct raft_apply, queue));
        ((void **)head[1])[0] = head[0];
        ((void **)head[0])[1] = head[1];
        switch (req->type) {
        case RAFT_COMMAND:
            req->cb(req, req->status, req->result);
            break;
        case RAFT_BARRIER:
            ((struct raft_barrier *)(void *)req)->cb((void *)req, req->status);
            break;
        case RAFT_CHANGE:
            ((struct raft_change *)(void *)req)->cb((void *)req, req->status);
            break;
        default:
            ((struct raft_transfer *)(void *)req)->cb((void *)req);
            break;
        }
    }
#endif
}

/* Nobody acts on what follows. */
static inline bool
compat_is_closed(const struct raft *r)
{
#if RAFT_VERSION_NUMBER < 1700
    return r->state == RAFT_UNAVAILABLE;
#else
    return r->legacy.closing;
#endif
}

/* How work that never came back is answered while closing. Before 0.17 an append's failure makes
 * the core cut its log, once for each, also where a former one has cut already (it crashes). */
static inline int
compat_canceled(bool is_append)
{
#if RAFT_VERSION_NUMBER < 1700
    return is_append ? 0 : RAFT_CANCELED;
#else
    (void)is_append;
    return RAFT_CANCELED;
#endif
}

/* What is handed over when a snapshot cannot be read and nothing will be sent: NULL where the core
 * hears of a failure, or when there is no memory. */
static inline struct raft_snapshot *
compat_empty_snapshot(void)
{
#if RAFT_VERSION_NUMBER < 1700
    return NULL;
#else
    struct raft_snapshot *snapshot = raft_calloc(1, sizeof *snapshot);

    if (snapshot == NULL) {
        return NULL;
    }
    snapshot->n_bufs = 1;
    snapshot->bufs = raft_calloc(1, sizeof *snapshot->bufs);
    if (snapshot->bufs == NULL) {
        raft_free(snapshot);
        return NULL;
    }
    return snapshot;
#endif
}

/* Gives the core a way to have work done on the disk, where it asks for one. */
static inline void
compat_set_async_work(struct raft_io *io,
                      int (*work)(struct raft_io *io,
                                  struct raft_io_async_work *req,
                                  raft_io_async_work_cb cb))
{
#if RAFT_VERSION_NUMBER < 1700
    io->async_work = work;
#else
    (void)io;
    (void)work;
#endif
}

/* The term of an entry that the core holds, or of its snapshot's last one. 0: it does not say. */
static inline uint64_t
compat_term_at(const struct raft *r, uint64_t index)
{
#if RAFT_VERSION_NUMBER < 1700
    const struct raft_log *log = &r->log;
    const size_t n =
        log->front <= log->back ? log->back - log->front : log->size - log->front + log->back;

    if (index > log->offset && index <= log->offset + n) {
        return log->entries[(log->front + (size_t)(index - log->offset - 1)) % log->size].term;
    }
    return index == log->snapshot.last_index ? log->snapshot.last_term : 0;
#else
    const struct raft_trail *t = &r->trail;

    for (unsigned i = t->front; t->size > 0 && i != t->back; i = (i + 1) % t->size) {
        if (index > t->offset && index <= t->records[i].index) {
            return t->records[i].term;
        }
    }
    return index == t->snapshot.index ? t->snapshot.term : 0;
#endif
}

/* A follower's core shall not roll back by itself: its way dereferences NULL when the
 * configuration before was compacted. */
static inline void
compat_forget_uncommitted(struct raft *r)
{
#if RAFT_VERSION_NUMBER < 1700
    r->configuration_uncommitted_index = 0;
#else
    (void)r;
#endif
}

/* Takes `take_conf` over: the configuration of entry `index` is in force again. */
static inline void
compat_roll_back(struct raft *r, struct raft_configuration *take_conf, uint64_t index)
{
#if RAFT_VERSION_NUMBER < 1700
    raft_configuration_close(&r->configuration);
    r->configuration = *take_conf;
    r->configuration_index = index;
    r->configuration_uncommitted_index = 0;
#else
    (void)r;
    (void)index;
    raft_configuration_close(take_conf);
#endif
}

/* The buffers of a snapshot whose installation was canceled: the core forgets them. */
static inline void
compat_free_install(struct raft_buffer *bufs)
{
#if RAFT_VERSION_NUMBER < 1700
    raft_free(bufs);
#else
    (void)bufs;
#endif
}

#endif
