/*
 * compat.h - where versions of libraft differ for us; nowhere else.
 *
 * 0.15 is what Debian 12 ships and what is tested. From 0.17 on the log is hidden, the committed
 * configuration has another name, and the core rolls back by itself.
 */
#ifndef HA_RAFT_COMPAT_H
#define HA_RAFT_COMPAT_H

#include <raft.h>
#include <stdint.h>

/* Versions before 0.17 do not say which they are. */
#ifndef RAFT_VERSION_NUMBER
#define RAFT_VERSION_NUMBER 1500
#endif

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
    (void)r;
    (void)index;
    return 0;
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
