/*
 * consensus.h - agreement on the order of commands: libraft's core behind one door.
 *
 * No other folder includes <raft.h>. Below is our own raft_io: store/log.h for
 * the disk, agent/net/peer.h for the network. See docs/architecture.md, decision 1,
 * for the two guards of libraft 0.15 that live here.
 *
 * Threads: the loop's. Disk writes of entries run in the thread pool.
 * Callbacks (raft/view.h) never run inside a call of this header; on_log alone may.
 */
#ifndef HA_RAFT_CONSENSUS_H
#define HA_RAFT_CONSENSUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "agent/net/peer.h"
#include "base/err.h"
#include "raft/view.h"
#include "store/command.h"
#include "store/fs.h"
#include "store/state.h"

struct consensus;

struct consensus_config {
    uv_loop_t *loop;
    struct peer_link *link;
    struct fs *fs;
    const char *dir; /* directory of the log */
    uint64_t id;     /* member id */
    uint64_t era;    /* messages of another one are dropped; grows with every recovery */
    const char *address;
    unsigned election_ms;  /* >= 300 */
    unsigned heartbeat_ms; /* >= 50 */
    struct consensus_callbacks callbacks;
};

/* Opens and loads the log. HA_ECORRUPT: refusal, the text names file and offset. */
int consensus_open(const struct consensus_config *config,
                   struct consensus **out,
                   struct err *err) HA_MUST_CHECK;

/* Writes the first configuration into a pristine log. HA_EEXIST when it is not pristine. */
int consensus_bootstrap(struct consensus *c,
                        const struct raft_server_view *servers,
                        size_t n,
                        struct err *err) HA_MUST_CHECK;

/*
 * An operator's force, before the start, when the majority is gone for good: adds a configuration
 * that no quorum agreed to, in a new term. On one member only, the one with the longest log; the
 * others come back empty. HA_ENOTFOUND when the log is empty: there is nothing to recover.
 */
int consensus_recover(struct consensus *c,
                      const struct raft_server_view *servers,
                      size_t n,
                      struct err *err) HA_MUST_CHECK;

int consensus_start(struct consensus *c, struct err *err) HA_MUST_CHECK;
void consensus_close(struct consensus *c, void (*closed)(void *data), void *data);

/* Message of type PEER_RAFT, PEER_PROPOSE or PEER_PROPOSED, as the link delivered it. Bounded
 * decoding; rubbish is dropped and logged. */
void consensus_receive(
    struct consensus *c, const char *from, uint8_t type, const void *body, size_t len);

/*
 * Proposes a command; a follower forwards it to the leader. `done` runs exactly once:
 * HA_OK applied (or said before), HA_EREFUSED rejected by apply, HA_ENOTLEADER no leader is known
 * or it lost its role before anything was written, HA_EUNKNOWN it may or may not come to be
 * (leadership lost, time-out). One at a time: HA_EBUSY while one is in flight.
 * command->origin and ->counter are the idempotency key; a repeated proposal keeps them.
 */
int consensus_propose(struct consensus *c,
                      const struct command *command,
                      void (*done)(void *data, int rc),
                      void *data);

/* Asks the leader role to move to a voter (0 = any other). Leader only: HA_ENOTLEADER. */
int consensus_transfer(struct consensus *c, uint64_t to);

/*
 * Adds a server as voter (spare first, then promoted when it has caught up) or removes one.
 * Leader only, one change at a time (HA_EBUSY). The outcome shows in the view's servers.
 */
int consensus_server_add(struct consensus *c, uint64_t id, const char *address);
int consensus_server_remove(struct consensus *c, uint64_t id);

void consensus_get_view(const struct consensus *c, struct raft_view *view);

#endif
