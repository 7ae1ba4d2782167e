/*
 * pg_query.h - one SQL session on the loop: connects when asked, asks, forgets what is broken.
 *
 * The only door to libpq. A session is a promise to try, not a connection: a
 * question connects first when need be, and whatever goes wrong with the
 * connection ends the question, drops it, and leaves the session ready for the
 * next one. Every connect and every question has a deadline of its own, because
 * libpq's asynchronous calls have none.
 *
 * Threads: the loop's. No name is looked up: hosts are directories or numeric addresses.
 * Memory:  texts of the config are copied; an answer is valid inside its callback only.
 */
#ifndef HA_POSTGRES_PG_QUERY_H
#define HA_POSTGRES_PG_QUERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"

struct pg_session;

struct pg_session_config {
    uv_loop_t *loop;
    const char *host; /* directory of a unix socket, or a numeric address */
    uint16_t port;
    const char *user;
    const char *database;
    const char *passfile; /* "" = none */
    bool is_replication;  /* a walsender that takes replication commands */
    unsigned connect_ms;
};

struct pg_answer {
    /* HA_OK; HA_EREFUSED: the server said no; HA_EUNREACHABLE: no connection, or it broke;
     * HA_ETIMEOUT. */
    int rc;
    char sqlstate[6];
    const char *text; /* what the server or libpq said, one line; "" when all is well */
    int n_rows;
    int version; /* PG_VERSION_NUM of the server, 0 when it was not reached */
    const void *result;
};

typedef void (*pg_answer_fn)(void *data, const struct pg_answer *answer);

int pg_session_open(const struct pg_session_config *config,
                    struct pg_session **out,
                    struct err *err) HA_MUST_CHECK;

/* Drops the connection and frees the session; a question under way is never answered. */
void pg_session_close(struct pg_session *session);

/*
 * Asks. HA_EBUSY while a question is under way, else `done` runs exactly once, never inside this
 * call. It may ask again or close the session. timeout_ms counts from when the connection stands.
 */
int pg_session_ask(struct pg_session *session,
                   const char *sql,
                   unsigned timeout_ms,
                   pg_answer_fn done,
                   void *data);

bool pg_session_is_busy(const struct pg_session *session);
/* It has a connection that waits for a question. */
bool pg_session_is_open(const struct pg_session *session);

/* Drops the connection (if no question is under way), so that the next question makes a new one. */
void pg_session_reset(struct pg_session *session);

/* Text of a field, "" for NULL and for fields that are not there. */
const char *pg_answer_get(const struct pg_answer *answer, int row, int column);

/* The SCRAM-SHA-256 verifier of a password, malloc'ed: no server ever sees the password itself. */
char *pg_scram_verifier(const char *user, const char *password, struct err *err) HA_MUST_CHECK;

#endif
