#include "tests/lib/pg_ask.h"

#include <poll.h>
#include <stdbool.h>
#include <time.h>

#define ANSWER_MS 3000 /* a server that is silent this long is taken for gone */

uint64_t
pg_ask_now_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

void
pg_ask_pause_us(unsigned us)
{
    const struct timespec ts = {us / 1000000, (long)(us % 1000000) * 1000};

    (void)nanosleep(&ts, NULL);
}

/* Waits for the socket, at most until the deadline; false when that passed. */
static bool
wait_for(PGconn *conn, short events, uint64_t deadline)
{
    struct pollfd fd = {PQsocket(conn), events, 0};
    const uint64_t now = pg_ask_now_ns();

    return now < deadline && poll(&fd, 1, (int)((deadline - now) / 1000000) + 1) > 0;
}

PGconn *
pg_ask_connect(const struct pg_ask_server *server, unsigned ms)
{
    const char *const keys[] = {"host", "port", "user", "dbname", "application_name", NULL};
    const char *const values[] = {
        server->host, server->port, server->user, server->db, "writer", NULL};
    PGconn *conn = PQconnectStartParams(keys, values, 0);
    const uint64_t deadline = pg_ask_now_ns() + ms * 1000000ULL;
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;

    while (conn != NULL && status != PGRES_POLLING_OK && status != PGRES_POLLING_FAILED) {
        if (!wait_for(conn, status == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline)) {
            break;
        }
        status = PQconnectPoll(conn);
    }
    if (conn != NULL && status != PGRES_POLLING_OK) {
        PQfinish(conn);
        return NULL;
    }
    return conn;
}

PGresult *
pg_ask(PGconn *conn, const char *sql)
{
    const uint64_t deadline = pg_ask_now_ns() + ANSWER_MS * 1000000ULL;
    PGresult *first = NULL;
    PGresult *r;

    if (PQsendQuery(conn, sql) != 1) {
        return NULL;
    }
    for (;;) {
        while (PQisBusy(conn)) {
            if (!wait_for(conn, POLLIN, deadline) || PQconsumeInput(conn) != 1) {
                PQclear(first);
                return NULL;
            }
        }
        r = PQgetResult(conn);
        if (r == NULL) {
            return first;
        }
        if (first == NULL) {
            first = r;
        } else {
            PQclear(r);
        }
    }
}
