/*
 * pg_ask.h - libpq with deadlines, for the clients of the tests.
 *
 * Clock:  CLOCK_BOOTTIME, in ns; the same on every node of a lab.
 * Errors: NULL, and the session is of no more use.
 */
#ifndef HA_TESTS_LIB_PG_ASK_H
#define HA_TESTS_LIB_PG_ASK_H

#include <libpq-fe.h>
#include <stdint.h>

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

/* One statement's first result; NULL when there was no whole answer within 3 s. */
PGresult *pg_ask(PGconn *conn, const char *sql);

#endif
