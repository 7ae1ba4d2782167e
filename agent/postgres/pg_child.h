/*
 * pg_child.h - one process of PostgreSQL's family: start, listen to, end, know when all is gone.
 *
 * Every child runs as PostgreSQL's user with a small environment, in a session of
 * its own, and gets its death signal when this thread ends. It inherits the write
 * end of a "life" pipe; so do all that descend from it, reparented or not. End of
 * file on that pipe is the proof that the whole tree is gone, and whoever still
 * holds it is found by it in /proc.
 *
 * Threads: start only from the loop's thread: the death signal follows the thread.
 * Memory:  a child frees itself after on_gone. Texts of the spec are borrowed.
 */
#ifndef HA_POSTGRES_PG_CHILD_H
#define HA_POSTGRES_PG_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <uv.h>

#include "base/err.h"

#define PG_LINE_MAX 2048 /* longer lines are cut */

struct pg_child;

struct pg_child_spec {
    uv_loop_t *loop;
    const char *const *argv; /* argv[0] is the program's path */
    char *const *env;        /* from pg_child_env() */
    uid_t uid;               /* taken on when this process is root */
    gid_t gid;
    bool is_guardian; /* stays who we are, and ends its tree by itself when it gets time */
    int quit_signal;  /* the first step of pg_child_kill(), and the death signal */
    int keep_fds[4];
    size_t n_keep_fds;
    void *data;
    /* A line of its standard output or error, without the line's end. */
    void (*on_line)(void *data, const char *line);
    /* It ended: exit code, or -signal. Descendants may be alive still. May be NULL. */
    void (*on_exit)(void *data, int status);
    /* It and all its descendants are gone and all output was handed over. */
    void (*on_gone)(void *data, int status);
};

/*
 * The environment of a child: PATH, LANG, LC_*, TZ and the like of our own, and `extra`
 * ("NAME=value", NULL at the end, may be NULL). One block; free() it. With `is_script` all of our
 * own environment but secrets and libpq's variables is passed on.
 */
char **pg_child_env(const char *const *extra, bool is_script, struct err *err) HA_MUST_CHECK;

int pg_child_start(const struct pg_child_spec *spec,
                   struct pg_child **out,
                   struct err *err) HA_MUST_CHECK;

pid_t pg_child_pid(const struct pg_child *child);

/* Sends one signal to the child itself. */
void pg_child_signal(struct pg_child *child, int signal);

/*
 * Ends the whole tree: its quit signal now, and what is still there after 200 ms (400 below the
 * guardian, which does the same before) is stopped and killed, descendants first. May be called
 * again.
 */
void pg_child_kill(struct pg_child *child);

#endif
