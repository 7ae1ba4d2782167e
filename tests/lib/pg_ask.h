/*
 * pg_ask.h - libpq with deadlines, for the clients of the tests; and what those share.
 *
 * Clock:  CLOCK_BOOTTIME, in ns; the same on every node of a lab.
 * Errors: NULL, and the session is of no more use.
 * The end: every wait ends within 100 ms of pg_ask_is_over.
 */
#ifndef HA_TESTS_LIB_PG_ASK_H
#define HA_TESTS_LIB_PG_ASK_H

#include <libpq-fe.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

extern atomic_bool pg_ask_is_over;

uint64_t pg_ask_now_ns(void);
void pg_ask_pause_us(unsigned us);

struct pg_ask_server {
    const char *host;
    const char *port;
    const char *user;
    const char *db;
};

/* A session within so long, or NULL. The password comes from PGPASSFILE. */
PGconn *pg_ask_connect(const struct pg_ask_server *server, unsigned ms);

/* One statement's first result; NULL when there was no whole answer within so long. */
PGresult *pg_ask(PGconn *conn, const char *sql, unsigned ms);

/* True for an answer of exactly one row. */
bool pg_ask_is_row(const PGresult *r);

/* Asks every `every_us` whether the server is out of recovery, until the end; one that is
 * silent for `answer_ms` is not. */
void pg_ask_watch(const struct pg_ask_server *server,
                  unsigned answer_ms,
                  unsigned every_us,
                  atomic_bool *is_writable);

/* Cuts "A,B,C" into words, which point into `text`; how many there are, at most `max`. */
unsigned pg_ask_split(char *text, const char **words, unsigned max);

/* SIGTERM and SIGINT end the run, SIGPIPE does not. */
void pg_ask_end_on_signals(void);

/* Until so many seconds have passed or a signal came; then the run is over. */
void pg_ask_until(long seconds);

#endif
