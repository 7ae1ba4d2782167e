/*
 * pg_probe_host.h - a look at what PostgreSQL stands on: its directory, its disk, its processes.
 *
 * Threads: pg_probe_host_run() blocks (a dead file system blocks it for ever), so it runs in the
 *          thread pool, on a job that nobody else touches meanwhile.
 * Memory:  plain data.
 */
#ifndef HA_POSTGRES_PG_PROBE_HOST_H
#define HA_POSTGRES_PG_PROBE_HOST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/core/pg_probe.h"

#define PG_PROBE_SUSPECTS_MAX 32

/* A process that was seen in a state that it should leave soon. */
struct pg_suspect {
    pid_t pid; /* 0 = free */
    char state;
    bool is_seen; /* in this look */
    uint64_t switches;
    uint64_t since_ms;
};

struct pg_probe_job {
    /* In. */
    char pgdata[1024];
    pid_t root;      /* the postmaster, or the guardian above it; 0 = not known */
    bool is_guarded; /* root is the guardian */
    uint64_t now_ms; /* of the loop */
    uint64_t stuck_ms;
    uint64_t ballast_bytes; /* 0 = none is kept */

    /* Kept from look to look; all 0 when the server starts. */
    dev_t dev;
    ino_t ino;
    struct pg_suspect suspects[PG_PROBE_SUSPECTS_MAX];

    /* Out. */
    struct pg_probe probe;
    pid_t stuck_pid; /* one of those that do not run on */
    char stuck_state;
};

void pg_probe_host_run(struct pg_probe_job *job);

/* Removes the ballast of a data directory. True when there was one. */
bool pg_probe_host_release(const char *pgdata);

#endif
