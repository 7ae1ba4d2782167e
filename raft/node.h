/*
 * node.h - one member of the Raft group, over a raft_env.
 *
 * consensus.h is the same over libuv and the peer link, and explains the calls.
 *
 * Threads:   the loop's; the env drives it by raft_node_tick(), raft_node_turn(),
 *            raft_node_receive() and the done() of disk jobs.
 * Callbacks: run inside raft_node_turn() alone (on_log aside), so a caller may call any
 *            function here from a callback but raft_node_tick() and raft_node_turn().
 */
#ifndef HA_RAFT_NODE_H
#define HA_RAFT_NODE_H

#include "base/err.h"
#include "raft/env.h"
#include "raft/view.h"
#include "store/command.h"
#include "store/fs.h"

struct raft_node;

struct raft_node_config {
    struct raft_env *env;
    struct fs *fs;
    const char *dir;
    uint64_t id;
    uint64_t era; /* messages of another one are dropped */
    const char *address;
    unsigned election_ms;  /* >= 300 */
    unsigned heartbeat_ms; /* >= 50 */
    /* Entries between two snapshots, and kept behind one. 0 = the defaults; tests want few. */
    unsigned snapshot_threshold;
    unsigned snapshot_trailing;
    struct consensus_callbacks callbacks;
    /* May be NULL. Every entry of type command as it is applied, with apply's answer: for tests
     * and the simulator. Runs inside libraft: it must not call back. */
    void (*on_apply)(void *data, uint64_t index, const void *bytes, size_t len, int rc);
};

int raft_node_open(const struct raft_node_config *config,
                   struct raft_node **out,
                   struct err *err) HA_MUST_CHECK;
int raft_node_bootstrap(struct raft_node *node,
                        const struct raft_server_view *servers,
                        size_t n,
                        struct err *err) HA_MUST_CHECK;
int raft_node_recover(struct raft_node *node,
                      const struct raft_server_view *servers,
                      size_t n,
                      struct err *err) HA_MUST_CHECK;
int raft_node_start(struct raft_node *node, struct err *err) HA_MUST_CHECK;

/* Asks for the end; `closed` runs from a later raft_node_turn(), when the memory is freed. */
void raft_node_close(struct raft_node *node, void (*closed)(void *data), void *data);

void raft_node_receive(
    struct raft_node *node, const char *from, uint8_t type, const void *body, size_t len);
int raft_node_propose(struct raft_node *node,
                      const struct command *command,
                      void (*done)(void *data, int rc),
                      void *data);
int raft_node_transfer(struct raft_node *node, uint64_t to);
int raft_node_server_add(struct raft_node *node, uint64_t id, const char *address);
int raft_node_server_remove(struct raft_node *node, uint64_t id);
void raft_node_get_view(const struct raft_node *node, struct raft_view *view);
const struct state *raft_node_state(const struct raft_node *node);

/* For the env. After raft_node_turn() the node may be gone (it was closing). */
void raft_node_tick(struct raft_node *node);
void raft_node_turn(struct raft_node *node);

#endif
