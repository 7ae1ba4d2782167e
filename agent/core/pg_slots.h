/*
 * pg_slots.h - for which members the local PostgreSQL keeps a physical replication slot.
 *
 * The core says it with EFFECT_PG_SLOTS; agent/postgres makes what is missing, moves them up on a
 * standby, and drops the agent's other ones.
 *
 * Memory: plain data.
 */
#ifndef HA_CORE_PG_SLOTS_H
#define HA_CORE_PG_SLOTS_H

#include <stdint.h>

#include "store/state.h"

struct pg_slots {
    uint32_t n;
    struct {
        char address[HA_ADDRESS_MAX];
        uint64_t lsn; /* it has the cluster's WAL up to here; 0 = not known to be up and heard of */
    } at[HA_MEMBERS_MAX];
};

#endif
