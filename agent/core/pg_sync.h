/*
 * pg_sync.h - whom the local PostgreSQL waits for before it acknowledges, and whether it does.
 *
 * The core says what it wants with EFFECT_PG_SYNC and gives it a version; agent/postgres
 * puts it into force and reports with EVENT_PG_SYNC what the running server shows.
 *
 * Memory: plain data.
 */
#ifndef HA_CORE_PG_SYNC_H
#define HA_CORE_PG_SYNC_H

#include <stdbool.h>
#include <stdint.h>

#include "store/state.h"

/* ANY `count` of these members; count 0 = nobody is waited for. */
struct sync_names {
    uint64_t version;
    uint32_t count;
    uint32_t n;
    char address[HA_MEMBERS_MAX][HA_ADDRESS_MAX];
};

struct pg_sync {
    uint64_t version; /* the newest that the whole server uses; no process uses an older one */
    uint64_t lsn;     /* of a primary: flushed; looked at before the standbys */
    uint32_t n;
    struct {
        char address[HA_ADDRESS_MAX];
        uint64_t flush_lsn;     /* what it says is on its disk */
    } standbys[HA_MEMBERS_MAX]; /* that stream from here */
};

#endif
