/*
 * postgres.h - the local PostgreSQL: files, process, questions, operations.
 *
 * One operation at a time, each asynchronous, each ending in exactly one
 * callback; postgres_kill() alone may come at any time and cuts whatever runs.
 * Facts are collected steadily while the server is up and handed over when they
 * change. Nothing here decides: the core says what is to be done.
 *
 * Threads: the loop's. SQL is asynchronous libpq with timers of our own; files of
 *          some kilobytes are read and written directly.
 * Memory:  the config's texts are copied. Secrets are never logged, never in argv.
 */
#ifndef HA_POSTGRES_POSTGRES_H
#define HA_POSTGRES_POSTGRES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "agent/core/pg_facts.h"
#include "agent/core/pg_probe.h"
#include "agent/core/pg_slots.h"
#include "agent/core/pg_sync.h"
#include "base/err.h"

struct postgres;

enum postgres_op {
    POSTGRES_INITDB = 1,    /* an empty PGDATA becomes the first data directory of the cluster */
    POSTGRES_CLONE,         /* pg_basebackup from `from` to a side directory, then swapped in */
    POSTGRES_START_PRIMARY, /* read-write: only ever asked for with a lease in hand */
    POSTGRES_START_STANDBY, /* standby.signal is put there first; follows `from` ("" = nobody) */
    POSTGRES_FOLLOW,        /* a running standby: another upstream, or "" = disconnect and report */
    POSTGRES_PROMOTE,
    POSTGRES_CHECKPOINT,
    POSTGRES_STOP_FAST, /* sessions are ended, a shutdown checkpoint is written and shipped */
    POSTGRES_RELOAD,    /* it reads its settings and access files again */
    POSTGRES_REWIND, /* pg_rewind to `from`, in a side directory; its failure may cost the data */
    POSTGRES_OP_COUNT,
};

struct postgres_callbacks {
    void *data;
    /* Facts changed; its positions count, so it may come with every look. */
    void (*on_facts)(void *data, const struct pg_facts *facts);
    /* The operation ended; `text` says why it failed (or ""). */
    void (*on_done)(void *data, enum postgres_op op, int rc, const char *text);
    void (*on_log)(void *data, int level, const char *event, const char *text);
    /* An observation of how the server fares, about one of each kind a second. May be NULL. */
    void (*on_probe)(void *data, const struct pg_probe *probe);
    /* Whom the running server waits for, and who streams from it; many a second. May be NULL. */
    void (*on_sync)(void *data, const struct pg_sync *seen);
};

struct postgres_config {
    uv_loop_t *loop;
    const char *bin_dir; /* "" = found: that of PGDATA's major, else the newest */
    const char *pgdata;
    const char *run_dir;   /* the agent's own sockets and the lease page; made if missing */
    const char *state_dir; /* hba, ident, passfile, owned settings: 0600, PostgreSQL's user */
    const char *self;      /* own member address */
    const char *listen;    /* listen_addresses */
    uint16_t port;
    uid_t uid; /* to run PostgreSQL as; never 0 */
    gid_t gid;
    const char *superuser, *superuser_password;
    const char *database;
    const char *replication_user, *replication_password;
    const char *initdb_args;     /* POSTGRES_INITDB_ARGS */
    const char *extra_conf;      /* POSTGRESQL_CONF: name=value|name=value */
    const char *init_scripts;    /* /docker-entrypoint-initdb.d, or "" */
    const char *client_networks; /* CIDRs of clients, comma between; "" = all (scram) */
    const char *fence_library;   /* path of ha_fence.so, "" = none */
    const char *lease_path;
    const char *guardian;  /* path of haguard */
    unsigned sick_ms;      /* the canary's questions wait a third of it; 0 = no canary */
    uint64_t disk_reserve; /* size of the ballast; 0 = none */
    unsigned keep_old;     /* so many of the data that were replaced are kept */
    uint64_t clone_rate;   /* bytes a second that pg_basebackup may take; 0 = any */
    int inherit_fds[4];    /* locks that the postmaster is to inherit */
    unsigned n_inherit_fds;
    struct postgres_callbacks callbacks;
};

/*
 * Checks binaries, version (13 to 18), PGDATA's owner and mode, and POSTGRESQL_CONF; looks at
 * PGDATA. Starts nothing and changes nothing. The text of an error tells what to do.
 */
int postgres_open(const struct postgres_config *config,
                  struct postgres **out,
                  struct err *err) HA_MUST_CHECK;

/* Kills what runs, frees all; `closed` runs at the end. */
void postgres_close(struct postgres *pg, void (*closed)(void *data), void *data);

/*
 * Begins an operation. `from` is a member address where the operation wants one, else NULL.
 * HA_EBUSY while another runs, but for a stop that overtakes a checkpoint: that one is not waited
 * for any more and has no callback.
 */
int postgres_begin(struct postgres *pg, enum postgres_op op, const char *from);

/*
 * The same for POSTGRES_PROMOTE, which ends recovery on a timeline of a number that no earlier
 * promotion took: the numbers above `timeline`, the newest on record, and below `next` are skipped.
 * With 0 and 0, or from postgres_begin(), PostgreSQL takes the next that it knows nothing of.
 */
int postgres_promote(struct postgres *pg, uint32_t timeline, uint32_t next);

/* Immediate end of server and operation: SIGQUIT, then the guardian's escalation. The facts tell
 * when all processes are gone (PG_RUN_STOPPED); a running operation ends with HA_ECANCELED. */
void postgres_kill(struct postgres *pg, const char *why);

/* Members and their addresses, for pg_hba.conf and the physical slots of a primary. */
void postgres_set_members(struct postgres *pg, const char *const addresses[], size_t n);

/* Whom commits wait for as long as this is a primary: in the settings from the next start on, and
 * at once in a running server, where on_sync tells when all of it uses them. */
void postgres_set_sync(struct postgres *pg, const struct sync_names *names);

/* Closed: clients are refused, standbys and the agent are not. Open is what a new one is. */
void postgres_set_gate(struct postgres *pg, bool is_open);

/* Faster looks (every 5 ms instead of 100) while something waits for an LSN. */
void postgres_watch(struct postgres *pg, bool is_watched);

/* Which members' replication slots are kept; before the first call none is made or dropped. */
void postgres_set_slots(struct postgres *pg, const struct pg_slots *wish);

/* The data stream: what they replaced is not needed any more. */
void postgres_discard(struct postgres *pg);

/* Removes the file that keeps room on its disk; it is made anew when there is plenty of it. */
void postgres_release_ballast(struct postgres *pg);

void postgres_get_facts(const struct postgres *pg, struct pg_facts *facts);

#endif
