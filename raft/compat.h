/*
 * compat.h - where versions of libraft differ for us; nowhere else.
 *
 * 0.15 is what Debian 12 ships and what is tested. From 0.17 on the log is a trail of terms, the
 * committed configuration has another name, and the core rolls back by itself; messages have other
 * names, and the disk is asked for no work of its own. With 0.22 the tree compiles, but no leader
 * is elected yet (tests/raft).
 */
#ifndef HA_RAFT_COMPAT_H
#define HA_RAFT_COMPAT_H

#include <raft.h>
#include <stdbool.h>
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
#define TO_RAFT_TRIBOOL(b) (b)
#define raft_tribool_false false
#define raft_tribool_true true
typedef bool raft_tribool;

struct raft_io_async_work;
typedef void (*raft_io_async_work_cb)(struct raft_io_async_work *req, int status);
struct raft_io_async_work {
    void *data;
    int (*work)(struct raft_io_async_work *req);
    raft_io_async_work_cb cb;
};
#endif

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
