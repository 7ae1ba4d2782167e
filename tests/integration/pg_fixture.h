/*
 * pg_fixture.h - real PostgreSQL servers in temporary directories, driven over agent/postgres.
 *
 * Every node has a directory of its own and a loopback address of its own; all share one loop.
 * Waits are conditions with a generous deadline; a wait that fails prints what the node logged.
 */
#ifndef HA_TESTS_PG_FIXTURE_H
#define HA_TESTS_PG_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "agent/postgres/postgres.h"

#define FIXTURE_PORT 55432
#define FIXTURE_PASSWORD "it's a \"$HOME\" pa\\ss: \xc3\xa9\xe2\x82\xac"
#define FIXTURE_REPL_PASSWORD "r:e\\p'l $(id) \xc3\xbc"

struct node {
    struct postgres *pg;
    uv_loop_t *loop;
    char address[HA_ADDRESS_MAX];
    char root[256]; /* everything of this node */
    char pgdata[320];
    char run_dir[320];
    char state_dir[320];
    struct postgres_config config;
    struct pg_facts facts;
    bool is_done;
    bool is_closed;
    enum postgres_op op;
    int rc;
    char text[4096];
    const char *die_at;  /* this process dies when a log line holds it; NULL = never */
    char log[64 * 1024]; /* the newest part */
    size_t log_len;
};

/* Call first in main(): as root, a network (loopback only) and mounts of the test's own, so that
 * other runs on this host do not meet ours, and PGDATA may be a mount point. */
void fixture_isolate(void);

/* Makes the directories and fills in the config; nothing is opened. */
void node_init(struct node *node, uv_loop_t *loop, const char *address);
void node_open(struct node *node);
/* Keeps a slot for that member alone, which on a standby may move up to `lsn`. */
void node_set_slot(struct node *node, const char *address, uint64_t lsn);
/* Opens and returns the code, for what must fail. */
int node_try_open(struct node *node, struct err *err);
void node_close(struct node *node);
void node_remove(struct node *node);

/* Runs an operation to its end; returns its code. */
int node_run(struct node *node, enum postgres_op op, const char *from);
/* Begins only. */
void node_begin(struct node *node, enum postgres_op op, const char *from);
/* Turns the loop until the condition holds; fails the test after the deadline. */
void node_wait(struct node *node, bool (*is_true)(struct node *node), const char *what);

bool node_is_done(struct node *node);
bool node_is_stopped(struct node *node);
bool node_is_up(struct node *node);
bool node_is_streaming(struct node *node);

/* psql as PostgreSQL's user over the node's own socket; fails the test when psql fails. The first
 * line of its output goes to `out`. In POSTGRES_DB, or where the agent itself works: "postgres". */
void node_sql(struct node *node, const char *sql, char *out, size_t size);
void node_sql_in(struct node *node, const char *database, const char *sql, char *out, size_t size);
/* The same over TCP with a password; returns psql's exit status. */
int node_login(const struct node *node, const char *user, const char *password, const char *sql);
/* Process id of the postmaster, from postmaster.pid. */
pid_t node_postmaster(const struct node *node);
bool node_log_has(const struct node *node, const char *text);
/* True when the process is gone or a zombie. */
bool process_is_gone(pid_t pid);
double now_ms(void);
/* Turns the loop for a while. */
void node_turn(struct node *node, unsigned ms);

/* Runs an operation that must succeed. */
void node_run_ok(struct node *node, enum postgres_op op, const char *from);
/* Closes the node if it is open and opens it with or without the guardian of $HAGUARD. */
void node_reopen_guarded(struct node *node, bool is_guarded);

/*
 * The agent as a process of its own, with the volume's lock: opens the node, runs an operation to
 * its end (or, with is_awaited false, to the first bytes of a copy), says so, and goes on.
 */
pid_t agent_fork(struct node *node, enum postgres_op op, const char *from, bool is_awaited);
/* One that ends by its own die_at. */
pid_t agent_fork_dying(struct node *node, enum postgres_op op, const char *from);
/* Waits until nobody holds the volume's lock, as the next agent would. */
void agent_wait_lock(const struct node *node);

bool process_wait_gone(pid_t pid);
void file_touch(const char *dir, const char *name);
bool file_is_there(const char *dir, const char *name);
void shell_run(const char *fmt, ...) HA_PRINTF(1, 2);

#endif
