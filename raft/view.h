/*
 * view.h - what the consensus layer shows of itself, and the calls it makes.
 *
 * Plain data, shared by consensus.h (over libuv) and node.h (over any raft_env).
 */
#ifndef HA_RAFT_VIEW_H
#define HA_RAFT_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/state.h"

#define RAFT_SERVERS_MAX (2 * HA_MEMBERS_MAX)

enum raft_role {
    RAFT_ROLE_NONE = 0, /* not started, or failed */
    RAFT_ROLE_FOLLOWER,
    RAFT_ROLE_CANDIDATE,
    RAFT_ROLE_LEADER,
};

struct raft_server_view {
    uint64_t id;
    bool is_voter;
    char address[HA_ADDRESS_MAX];
};

struct raft_view {
    enum raft_role role;
    bool is_ready;       /* leader, and the barrier of its own term is committed: it may decide */
    bool is_changing;    /* a configuration change or a transfer is under way */
    bool is_uncommitted; /* the configuration below is not known to be committed */
    uint64_t term;
    uint64_t leader; /* member id of the known leader, 0 = none */
    char leader_address[HA_ADDRESS_MAX];
    uint64_t commit_index;
    uint64_t applied_index;
    uint64_t last_index;
    uint32_t n_servers;
    struct raft_server_view servers[RAFT_SERVERS_MAX]; /* the newest configuration it holds */
};

struct consensus_callbacks {
    void *data;
    /* The replicated state changed (commands applied, snapshot restored). Borrowed for the call.
     * Several commands that were applied together are told of once. */
    void (*on_state)(void *data, const struct state *state, uint64_t index);
    /* Role, term, leader, readiness or configuration changed. */
    void (*on_view)(void *data, const struct raft_view *view);
    /* It cannot go on (disk error, libraft unavailable): the agent must stop. Once. */
    void (*on_fatal)(void *data, const char *why);
    /* One line for the log; the only callback that may run inside a call of consensus.h. */
    void (*on_log)(void *data, int level, const char *event, const char *text);
};

#endif
