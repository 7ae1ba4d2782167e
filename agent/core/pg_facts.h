/*
 * pg_facts.h - what is known of the local PostgreSQL, as plain data.
 *
 * Filled by agent/postgres, read by the rules and sent to the peers inside a
 * status. LSNs are byte positions (the number behind PostgreSQL's "0/3000060").
 */
#ifndef HA_CORE_PG_FACTS_H
#define HA_CORE_PG_FACTS_H

#include <stdbool.h>
#include <stdint.h>

#include "store/state.h"

enum pg_run {
    PG_RUN_UNKNOWN = 0, /* not looked yet */
    PG_RUN_STOPPED,     /* no process of ours; the volume's lock is ours, so none of anybody's */
    PG_RUN_STARTING,    /* postmaster lives, does not accept SQL yet */
    PG_RUN_UP,          /* answered SQL */
    PG_RUN_STOPPING,
    PG_RUN_COUNT,
};

enum pg_data {
    PG_DATA_UNKNOWN = 0,
    PG_DATA_EMPTY,   /* no PGDATA, or an empty directory */
    PG_DATA_PRIMARY, /* a data directory without standby.signal */
    PG_DATA_STANDBY, /* a data directory with standby.signal */
    PG_DATA_TORN,    /* pg_rewind began to change it and did not end: never started */
    PG_DATA_DAMAGED, /* something is there, but no control file that can be read */
    PG_DATA_COUNT,
};

struct pg_facts {
    uint8_t run;    /* enum pg_run */
    uint8_t data;   /* enum pg_data; looked at while stopped, derived while up */
    uint64_t sysid; /* 0 = unknown */

    /* While up (kept from the last answer): */
    bool is_in_recovery;
    bool is_streaming;             /* its WAL receiver is in state streaming */
    bool has_receiver;             /* a WAL receiver process exists */
    char upstream[HA_ADDRESS_MAX]; /* whom it is told to follow; "" = nobody (frozen) */
    uint32_t
        timeline; /* primary: of the WAL it writes; standby: the newest it received or replayed */
    uint64_t lsn; /* primary: flushed; standby: max(received and flushed, replayed) */
    uint64_t replay_lsn;      /* standby */
    uint32_t timeline_before; /* the parent, from its own history file; 0 on timeline 1 */
    uint64_t fork_lsn;        /* where its timeline began, from the same */
    uint64_t lineage; /* of `timeline`, of control_timeline while stopped; 0 = no history file */

    /* While stopped, from the control file: */
    bool is_shut_down;         /* "shut down" or "shut down in recovery" */
    uint32_t control_timeline; /* of the latest checkpoint, or min. recovery end's if greater */
    uint64_t checkpoint_lsn;   /* latest checkpoint location */
    uint64_t min_recovery_lsn; /* 0 for a primary */
    bool was_primary;          /* it last ran as a primary, whatever lies there now */

    int32_t exit_status; /* of the postmaster's last end: exit code, or -signal; 0 = clean */
    uint32_t version;    /* PG_VERSION_NUM / 10000, of the binaries */

    bool is_fresh_copy; /* the data are a copy, or rewound, and were not started yet */
    bool has_old;       /* what they replaced is kept aside until they stream */
    bool misses_wal;    /* its upstream has removed the WAL that it needs */

    /* While a copy is made, or data are rewound: */
    uint64_t clone_done_bytes;
    uint64_t clone_total_bytes;
    uint64_t clone_rate; /* bytes a second, lately */
};

#endif
