/*
 * raft_facts.h - what the core needs to know of Raft, as plain data.
 */
#ifndef HA_CORE_RAFT_FACTS_H
#define HA_CORE_RAFT_FACTS_H

#include <stdbool.h>
#include <stdint.h>

#include "store/state.h"

struct raft_facts {
    uint8_t role;        /* 0 none, 1 follower, 2 candidate, 3 leader */
    bool is_ready;       /* leader whose barrier is committed: it may decide */
    bool is_changing;    /* a configuration change or a transfer is under way */
    bool is_uncommitted; /* the configuration below is not known to be committed */
    uint64_t term;
    uint64_t leader; /* member id, 0 = none known */
    uint32_t n_servers;
    struct {
        uint64_t id;
        bool is_voter;
        char address[HA_ADDRESS_MAX];
    } servers[2 * HA_MEMBERS_MAX];
};

#endif
