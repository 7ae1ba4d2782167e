/*
 * pg_probe.h - one observation of how the local PostgreSQL fares, as plain data.
 *
 * Made by agent/postgres, judged by health.h.
 */
#ifndef HA_CORE_PG_PROBE_H
#define HA_CORE_PG_PROBE_H

#include <stdbool.h>
#include <stdint.h>

enum pg_probe_kind {
    PG_PROBE_SERVER = 1, /* the canary has an outcome */
    PG_PROBE_HOST,       /* file system and processes were looked at */
};

struct pg_probe {
    uint8_t kind; /* enum pg_probe_kind */

    /* PG_PROBE_SERVER */
    bool is_new_session; /* it was asked over a new connection */
    bool is_answered;    /* the server said something */
    bool is_done;     /* it committed; a standby: it answered; or it refused for want of a lease */
    uint32_t took_us; /* of a commit: begin to answer, its WAL on disk */

    /* PG_PROBE_HOST */
    bool is_data_gone;
    bool is_read_only;
    bool is_postmaster_stopped; /* by a signal, or in a debugger */
    uint16_t n_stuck;    /* processes of the server that do not run on: stopped, or in one and the
                            same wait for the disk */
    uint64_t free_bytes; /* where WAL is written, for PostgreSQL's user */
    uint64_t total_bytes;
};

#endif
