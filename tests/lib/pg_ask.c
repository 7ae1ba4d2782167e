#include "tests/lib/pg_ask.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SLICE_MS 100 /* so soon the end is noticed */
#define CONNECT_MS 1500

atomic_bool pg_ask_is_over;

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

/* Waits for the socket; false when the deadline passed or the run is over. */
static bool
wait_for(PGconn *conn, short events, uint64_t deadline)
{
    struct pollfd fd = {PQsocket(conn), events, 0};

    for (;;) {
        const uint64_t now = pg_ask_now_ns();
        const uint64_t left_ms = now < deadline ? (deadline - now) / 1000000 + 1 : 0;

        if (left_ms == 0 || pg_ask_is_over) {
            return false;
        }
        if (poll(&fd, 1, left_ms < SLICE_MS ? (int)left_ms : SLICE_MS) > 0) {
            return true;
        }
    }
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
pg_ask(PGconn *conn, const char *sql, unsigned ms)
{
    const uint64_t deadline = pg_ask_now_ns() + ms * 1000000ULL;
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

bool
pg_ask_is_row(const PGresult *r)
{
    return r != NULL && PQresultStatus(r) == PGRES_TUPLES_OK && PQntuples(r) == 1;
}

void
pg_ask_watch(const struct pg_ask_server *server,
             unsigned answer_ms,
             unsigned every_us,
             atomic_bool *is_writable)
{
    PGconn *conn = NULL;

    while (!pg_ask_is_over) {
        PGresult *r = NULL;

        if (conn == NULL) {
            conn = pg_ask_connect(server, CONNECT_MS);
        }
        if (conn != NULL) {
            r = pg_ask(conn, "SELECT pg_is_in_recovery()", answer_ms);
        }
        *is_writable = pg_ask_is_row(r) && strcmp(PQgetvalue(r, 0, 0), "f") == 0;
        if (conn != NULL && (r == NULL || PQstatus(conn) != CONNECTION_OK)) {
            PQfinish(conn);
            conn = NULL;
        }
        PQclear(r);
        pg_ask_pause_us(every_us);
    }
    PQfinish(conn);
}

unsigned
pg_ask_split(char *text, const char **words, unsigned max)
{
    char *rest = NULL;
    unsigned n = 0;

    for (char *at = strtok_r(text, ",", &rest); at != NULL && n < max;
         at = strtok_r(NULL, ",", &rest)) {
        words[n++] = at;
    }
    return n;
}

static void
on_term(int signal)
{
    (void)signal;
    pg_ask_is_over = true;
}

void
pg_ask_end_on_signals(void)
{
    (void)signal(SIGTERM, on_term);
    (void)signal(SIGINT, on_term);
    (void)signal(SIGPIPE, SIG_IGN);
}

void
pg_ask_until(long seconds)
{
    const uint64_t end = pg_ask_now_ns() + (uint64_t)seconds * 1000000000U;

    while (!pg_ask_is_over && pg_ask_now_ns() < end) {
        pg_ask_pause_us(20000);
    }
    pg_ask_is_over = true;
}
