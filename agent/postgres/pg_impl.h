/*
 * pg_impl.h - what the files of agent/postgres share: the struct behind postgres.h.
 *
 * An operation is a chain of steps in one of pg_server.c, pg_initdb.c, pg_clone.c.
 * Each chain ends in postgres_finish(), the only way out. Nobody outside the
 * folder includes this.
 */
#ifndef HA_POSTGRES_PG_IMPL_H
#define HA_POSTGRES_PG_IMPL_H

#include <limits.h>

#include "agent/postgres/pg_child.h"
#include "agent/postgres/pg_conf.h"
#include "agent/postgres/pg_query.h"
#include "agent/postgres/postgres.h"

#define PG_PATH_MAX 1024
#define PG_SOCKET_PATH_MAX 90 /* of the directory: the whole must fit sockaddr_un */
#define PG_TAIL_LINES 20
#define PG_TAIL_LINE_MAX 256
#define PG_TEXT_MAX 2048

enum pg_log_level { PG_LOG_ERROR = 0, PG_LOG_WARN, PG_LOG_INFO, PG_LOG_DEBUG };

/* The last lines that a child wrote, for error texts. */
struct pg_tail {
    char lines[PG_TAIL_LINES][PG_TAIL_LINE_MAX];
    size_t n; /* ever written */
};

/* Forwarding of PostgreSQL's own log, so many lines a second at most. */
struct pg_log_budget {
    uint64_t second;
    unsigned used;
    unsigned dropped;
};

/* What an answered look brings beside the facts. */
struct pg_look {
    uint64_t asked;    /* number of the newest look that was asked; counts on for ever */
    uint64_t answered; /* number of the newest that was answered */
    uint64_t n;        /* answered since the postmaster started */
    pid_t receiver_pid;
    uint64_t received_lsn;      /* 0 = no WAL receiver since the server started */
    bool is_local_wal_replayed; /* nothing in pg_wal is left to replay */
    uint64_t streams_since_ms;  /* its WAL receiver, with no look that says otherwise; 0 = not */
    bool is_refused;            /* it answered that it has no lease */
    char lease_file[PG_PATH_MAX];
};

/* Of a copy or a rewind. */
struct pg_progress {
    uint64_t since_ms;
    uint64_t since_bytes;
    uint64_t logged_ms;
};

struct pg_initdb;          /* pg_initdb.c */
struct pg_clone;           /* pg_clone.c */
struct pg_rewind;          /* pg_rewind.c */
struct pg_watch;           /* pg_watch.c */
struct pg_canary;          /* pg_canary.c */
struct pg_roles;           /* pg_roles.c */
struct pg_slots_control;   /* pg_slots.c */
struct pg_sync_control;    /* pg_sync.c */
struct pg_logical_control; /* pg_logical.c */

struct postgres {
    struct postgres_config config; /* texts are in `memory` */
    char *memory;
    size_t memory_len;
    struct pg_conf extra;
    char bin_dir[PG_PATH_MAX];
    char os_user[64]; /* name of config.uid */
    char settings_path[PG_PATH_MAX];
    char hba_path[PG_PATH_MAX];
    char ident_path[PG_PATH_MAX];
    char follow_passfile[PG_PATH_MAX];
    char clone_passfile[PG_PATH_MAX];

    struct pg_facts facts;
    struct pg_facts facts_told; /* as handed over last */
    bool is_facts_changed;
    bool is_watched;
    size_t n_members;
    char members[HA_MEMBERS_MAX * 2][HA_ADDRESS_MAX];
    unsigned slot_keep_mb;       /* default of max_slot_wal_keep_size; 0 = not looked */
    char follow[HA_ADDRESS_MAX]; /* whom the settings file names; "" = nobody */

    uv_timer_t deliver; /* hands facts and the end of an operation over, outside any call */
    uv_timer_t step;    /* the pause between two steps of an operation */
    void (*step_next)(struct postgres *pg);
    bool is_looking; /* pg_controldata runs: never cut short, its answer counts */
    void (*look_done)(struct postgres *pg);
    enum postgres_op op; /* 0 = none */
    char from[HA_ADDRESS_MAX];
    uint32_t promote_after; /* postgres_promote(): timelines between these two are skipped */
    uint32_t promote_to;
    bool is_finished; /* the operation ended and waits for delivery */
    bool is_canceled; /* postgres_kill() came in the middle of it */
    int op_rc;
    char op_text[PG_TEXT_MAX];
    char fail_text[PG_TEXT_MAX]; /* why it fails, while its server is on its way out */
    uint64_t op_began_ms;

    int common_socket_lock;  /* -1 = not opened */
    struct pg_child *server; /* the postmaster */
    struct pg_child *tool;   /* initdb, pg_basebackup, an init script, pg_controldata, ... */
    struct pg_session *work; /* of the operation under way */
    struct pg_tail tail;
    struct pg_log_budget budget;
    char *tool_output; /* what a tool wrote, when somebody wants it */
    size_t tool_output_len;
    bool is_tool_output_kept;
    void (*tool_line)(struct postgres *pg, const char *line); /* takes the lines of this run */
    void (*tool_done)(struct postgres *pg, int status);
    bool is_tidying; /* the thread pool removes a side directory */
    void (*server_gone)(struct postgres *pg, int status); /* NULL = pg_server.c's own */

    struct pg_watch *watch;
    struct pg_canary *canary;
    struct pg_roles *roles;
    struct pg_slots_control *slots;
    struct pg_sync_control *sync;
    struct pg_logical_control *logical;
    struct pg_look look;
    uint64_t op_look; /* the operation counts looks from this number on only */
    struct pg_initdb *initdb;
    struct pg_clone *clone;
    struct pg_rewind *rewind;
    struct pg_progress progress;
    struct {
        uint64_t bytes;
        void (*done)(struct postgres *pg);
    } room; /* pg_swap_make_room() */

    bool is_closing;
    int n_open_handles;
    void (*closed)(void *data);
    void *closed_data;
};

/* --- postgres.c --- */

/* Ends the operation; a second call is ignored. `fmt` says why it failed ("" = it did not). */
void postgres_finish(struct postgres *pg, int rc, const char *fmt, ...) HA_PRINTF(3, 4);
/* The same with the text of a struct err. */
void postgres_finish_err(struct postgres *pg, const struct err *err);
/* Something in pg->facts changed that matters: it is handed over at the next turn of the loop. */
void postgres_tell(struct postgres *pg);
void postgres_set_run(struct postgres *pg, enum pg_run run);
void postgres_log(struct postgres *pg, int level, const char *event, const char *fmt, ...)
    HA_PRINTF(4, 5);
/* Runs `next` after a pause, unless the operation is canceled before. One at a time. */
void postgres_step_after(struct postgres *pg, unsigned ms, void (*next)(struct postgres *pg));
/* Facts of a stopped server, then PG_RUN_STOPPED, then `done`. Uses the tool. */
void postgres_look(struct postgres *pg, void (*done)(struct postgres *pg));

/*
 * True when postgres_kill() came in the middle of the operation. The chain of steps must not go on
 * then; the operation ends once nothing of it runs any more.
 */
bool postgres_check_canceled(struct postgres *pg);
/* Goes on with postgres_close() when all that ran is gone. */
void postgres_close_step(struct postgres *pg);
/* A handle of ours is closed; the last one ends postgres_close(). */
void postgres_handle_closed(struct postgres *pg);

/* --- pg_tool.c --- */

/* A line of a child of ours: kept for error texts, forwarded to the log. */
void pg_tail_add(struct pg_tail *tail, const char *line);
/* The lines that tell most, newest last, as one text. */
void pg_tail_text(const struct pg_tail *tail, char *out, size_t size);
void pg_forward_line(struct postgres *pg, const char *line);

/* A command line with haguard before it, if there is one: see fence/guardian.c. */
#define PG_ARGV_MAX 320
struct pg_guarded {
    char parent[16];
    char uid[16];
    char gid[16];
    const char *argv[PG_ARGV_MAX];
};

/* Fills `out`, which borrows the texts of `argv`; returns out->argv. */
const char *const *pg_guarded_argv(const struct postgres *pg,
                                   const char *const argv[],
                                   bool has_lease,
                                   struct pg_guarded *out);

/*
 * Runs a program to its end, then `done`. `extra_env` may be NULL. A program that cannot be
 * started ends with status 127, its reason in the tail.
 */
int pg_tool_run(struct postgres *pg,
                const char *const argv[],
                const char *const extra_env[],
                void (*done)(struct postgres *pg, int status),
                struct err *err) HA_MUST_CHECK;
/* The same; what it writes is kept in pg->tool_output (until the next tool) and not logged. */
int pg_tool_capture(struct postgres *pg,
                    const char *const argv[],
                    void (*done)(struct postgres *pg, int status),
                    struct err *err) HA_MUST_CHECK;
/* With the environment of an init script. */
int pg_tool_script(struct postgres *pg,
                   const char *const argv[],
                   const char *const extra_env[],
                   void (*done)(struct postgres *pg, int status),
                   struct err *err) HA_MUST_CHECK;

/* --- pg_find.c --- */

/* Binaries, version, PGDATA's owner, names, paths: everything postgres_open() checks. */
int pg_find_all(struct postgres *pg, struct err *err) HA_MUST_CHECK;
/* True when the uid may do `mode` (R_OK, W_OK, X_OK or'ed) by the file's owner, group and bits. */
bool pg_may_access(const struct postgres *pg, const char *path, int mode);

/* --- pg_server.c --- */

int pg_server_begin(struct postgres *pg, struct err *err) HA_MUST_CHECK;
/* Starts a postmaster, or with is_guarded the guardian that starts it. */
int pg_server_spawn(struct postgres *pg, const char *const argv[], bool is_guarded, struct err *err)
    HA_MUST_CHECK;
/* The volume's lock is ours, so what a postmaster.pid says is history. */
void pg_server_remove_stale_pid_file(struct postgres *pg);
/* Makes the postmaster read its files again. */
void pg_server_reload(struct postgres *pg);
/* SQL session on the own socket as superuser. */
int pg_server_session(struct postgres *pg,
                      const char *socket_dir,
                      const char *database,
                      struct pg_session **out,
                      struct err *err) HA_MUST_CHECK;

/* --- pg_watch.c --- */

int pg_watch_open(struct postgres *pg, struct err *err) HA_MUST_CHECK;
void pg_watch_close(struct postgres *pg);
/* The postmaster was started, or is gone: begins and ends the steady look. */
void pg_watch_start(struct postgres *pg);
void pg_watch_stop(struct postgres *pg);
/* Looks come every 2 ms for as long as an operation is in a hurry. */
void pg_watch_hurry(struct postgres *pg, bool is_hurried);
void pg_watch_look_now(struct postgres *pg);
/* After each answered look pg_server.c's turn. */
void pg_server_on_look(struct postgres *pg);

/* --- pg_canary.c --- */

int pg_canary_open(struct postgres *pg, struct err *err) HA_MUST_CHECK;
void pg_canary_close(struct postgres *pg);
/* With the steady look. */
void pg_canary_start(struct postgres *pg);
void pg_canary_stop(struct postgres *pg);

/* --- pg_slots.c --- */

int pg_slots_open(struct postgres *pg, struct err *err) HA_MUST_CHECK;
void pg_slots_close(struct postgres *pg);
/* After a look at the running server. */
void pg_slots_care(struct postgres *pg);
/* The server ends. */
void pg_slots_stop(struct postgres *pg);
void pg_slots_set(struct postgres *pg, const struct pg_slots *wish);
/* The member of that slot is heard of, and up in the history that the cluster follows. */
bool pg_slots_is_heard(const struct postgres *pg, const char *name);

/* --- pg_logical.c --- */

struct pg_text;
int pg_logical_open(struct postgres *pg, struct err *err) HA_MUST_CHECK;
void pg_logical_close(struct postgres *pg);
void pg_logical_free(struct postgres *pg);
/* PostgreSQL keeps failover slots here: its version can, and wal_level is logical. */
bool pg_logical_is_on(const struct postgres *pg);
/* Lines of the settings file, before and behind those of POSTGRESQL_CONF. */
void pg_logical_add_defaults(const struct postgres *pg, struct pg_text *text);
void pg_logical_add_owned(const struct postgres *pg, struct pg_text *text);
/* With each answered look. */
void pg_logical_care(struct postgres *pg);
/* A stop is about to follow: logical decoding waits for nobody. */
void pg_logical_release(struct postgres *pg);
/* The server ends. */
void pg_logical_stop(struct postgres *pg);

/* --- pg_roles.c --- */

int pg_roles_open(struct postgres *pg, struct err *err) HA_MUST_CHECK;
void pg_roles_close(struct postgres *pg);
/* With each answered look. */
void pg_roles_care(struct postgres *pg);
/* The postmaster is gone. */
void pg_roles_stop(struct postgres *pg);

/* --- pg_sync.c --- */

int pg_sync_open(struct postgres *pg, struct err *err) HA_MUST_CHECK;
void pg_sync_stop(struct postgres *pg);
void pg_sync_close(struct postgres *pg);
void pg_sync_free(struct postgres *pg);
/* The value of synchronous_standby_names. */
void pg_sync_text(const struct postgres *pg, char *out, size_t size);
/* No client is let in: only the agent itself and standbys. */
bool pg_sync_is_closed(const struct postgres *pg);
void pg_sync_on_start(struct postgres *pg);
void pg_sync_on_promoted(struct postgres *pg);
void pg_sync_on_look(struct postgres *pg);

/* --- pg_initdb.c, pg_clone.c --- */

int pg_initdb_begin(struct postgres *pg, struct err *err) HA_MUST_CHECK;
void pg_initdb_free(struct postgres *pg);
int pg_clone_begin(struct postgres *pg, struct err *err) HA_MUST_CHECK;
void pg_clone_free(struct postgres *pg);
int pg_rewind_begin(struct postgres *pg, struct err *err) HA_MUST_CHECK;
void pg_rewind_free(struct postgres *pg);

#endif
