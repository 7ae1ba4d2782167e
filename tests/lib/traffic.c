/*
 * traffic - clients of a gateway: writers and readers that know one address, and what they saw.
 *
 * A writer keeps its session until it fails and then tries again each 20 ms; a reader opens a
 * session for each question, as Pgpool chooses the server of reads when a session begins.
 * A prober for each server of --watch asks it directly each few milliseconds whether it is out
 * of recovery: that is the moment a promotion is done.
 *
 * Lines of --out, times in ns of CLOCK_BOOTTIME:
 *   W SENT RECEIVED SERVER TIMELINE WRITER SEQ   an acknowledged row of hawser_ledger
 *   w SENT RECEIVED SQLSTATE                     a write that was refused or unanswered ("-"),
 *                                              but for those in flight when this ends
 *   R SENT RECEIVED SERVER t|f                   a read, and whether that server is in recovery
 *   r SENT RECEIVED SQLSTATE
 *   O AT SERVER                                  it is seen to be out of recovery
 *   C AT SERVER                                  it is no longer
 *
 * usage: traffic --host H --port P [--user U] [--db D] [--writers N] [--readers N] [--first N]
 *                [--watch IP,IP --watch-port P --watch-user U] --seconds S --out FILE
 * --first numbers the writers. The password comes from PGPASSFILE. Ends after S seconds or on
 * SIGTERM.
 */
#include <getopt.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/pg_ask.h"

/* Pgpool sends what calls a volatile function, as pg_is_in_recovery() is, to the primary. */
#define READ                                                                                       \
    "SELECT host(inet_server_addr()), left(current_setting('transaction_read_only'), 2) = 'on'"
#define THREADS_MAX 64
#define THROUGH_MS 5000 /* a login is one at the gateway, and one at each server behind it */
#define DIRECT_MS 1000
#define ANSWER_MS 3000 /* a server that is silent this long is taken for gone */
#define RETRY_US 20000
#define PACE_US 20000
#define PROBE_US 5000

static struct pg_ask_server gateway = {NULL, "9999", "postgres", "postgres"};
static const char *watch_user = "postgres";
static const char *watch_port = "5432";
static unsigned first_number;
static FILE *out;
static pthread_mutex_t out_lock = PTHREAD_MUTEX_INITIALIZER;

static void __attribute__((format(printf, 1, 2))) note(const char *fmt, ...)
{
    va_list args;

    (void)pthread_mutex_lock(&out_lock);
    va_start(args, fmt);
    (void)vfprintf(out, fmt, args);
    va_end(args);
    (void)fputc('\n', out);
    (void)fflush(out);
    (void)pthread_mutex_unlock(&out_lock);
}

static void
note_failure(char kind, uint64_t sent, const PGresult *r)
{
    const char *state = r == NULL ? NULL : PQresultErrorField(r, PG_DIAG_SQLSTATE);

    note("%c %llu %llu %s",
         kind,
         (unsigned long long)sent,
         (unsigned long long)pg_ask_now_ns(),
         state == NULL ? "-" : state);
}

/* What was in flight when the run ended tells nothing of the server. */
static bool
is_cut_by_the_end(const PGresult *r)
{
    return r == NULL && pg_ask_is_over;
}

/* False when the session is of no more use. */
static bool
write_row(PGconn *conn, unsigned number, unsigned long long seq)
{
    const uint64_t sent = pg_ask_now_ns();
    char sql[256];
    PGresult *r;
    bool is_good;

    (void)snprintf(sql,
                   sizeof sql,
                   "INSERT INTO hawser_ledger VALUES (%u, %llu) RETURNING "
                   "left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), "
                   "host(inet_server_addr())",
                   number,
                   seq);
    r = pg_ask(conn, sql, ANSWER_MS);
    is_good = pg_ask_is_row(r);
    if (is_good) {
        note("W %llu %llu %s %s %u %llu",
             (unsigned long long)sent,
             (unsigned long long)pg_ask_now_ns(),
             PQgetvalue(r, 0, 1),
             PQgetvalue(r, 0, 0),
             number,
             seq);
    } else if (!is_cut_by_the_end(r)) {
        note_failure('w', sent, r);
    }
    PQclear(r);
    return is_good;
}

static void *
write_rows(void *data)
{
    const unsigned number = first_number + (unsigned)(uintptr_t)data;
    unsigned long long seq = 0;
    PGconn *conn = NULL;

    while (!pg_ask_is_over) {
        if (conn == NULL) {
            conn = pg_ask_connect(&gateway, THROUGH_MS);
        }
        if (conn == NULL || !write_row(conn, number, ++seq)) {
            PQfinish(conn);
            conn = NULL;
            pg_ask_pause_us(RETRY_US);
            continue;
        }
        pg_ask_pause_us(PACE_US);
    }
    PQfinish(conn);
    return NULL;
}

static void *
read_rows(void *data)
{
    (void)data;
    while (!pg_ask_is_over) {
        const uint64_t sent = pg_ask_now_ns();
        PGconn *conn = pg_ask_connect(&gateway, THROUGH_MS);
        PGresult *r = conn == NULL ? NULL : pg_ask(conn, READ, ANSWER_MS);

        if (pg_ask_is_row(r)) {
            note("R %llu %llu %s %s",
                 (unsigned long long)sent,
                 (unsigned long long)pg_ask_now_ns(),
                 PQgetvalue(r, 0, 0),
                 PQgetvalue(r, 0, 1));
        } else if (!is_cut_by_the_end(r)) {
            note_failure('r', sent, r);
        }
        PQclear(r);
        PQfinish(conn);
        pg_ask_pause_us(RETRY_US);
    }
    return NULL;
}

static void *
watch(void *data)
{
    const char *server = data;
    const struct pg_ask_server at = {server, watch_port, watch_user, gateway.db};
    PGconn *conn = NULL;
    bool was_open = false;

    while (!pg_ask_is_over) {
        PGresult *r;
        bool is_open;

        if (conn == NULL) {
            conn = pg_ask_connect(&at, DIRECT_MS);
        }
        r = conn == NULL ? NULL : pg_ask(conn, "SELECT pg_is_in_recovery()", ANSWER_MS);
        is_open = pg_ask_is_row(r) && strcmp(PQgetvalue(r, 0, 0), "f") == 0;
        if (is_open != was_open) {
            note("%c %llu %s", is_open ? 'O' : 'C', (unsigned long long)pg_ask_now_ns(), server);
            was_open = is_open;
        }
        if (conn != NULL && (r == NULL || PQstatus(conn) != CONNECTION_OK)) {
            PQfinish(conn);
            conn = NULL;
        }
        PQclear(r);
        pg_ask_pause_us(PROBE_US);
    }
    PQfinish(conn);
    return NULL;
}

static unsigned
start_watch(char *servers, pthread_t *threads, unsigned n)
{
    const char *words[THREADS_MAX];
    const unsigned n_words = pg_ask_split(servers, words, THREADS_MAX - n);

    for (unsigned i = 0; i < n_words; i++) {
        (void)pthread_create(&threads[n++], NULL, watch, (void *)(uintptr_t)words[i]);
    }
    return n;
}

static int
run(unsigned n_writers, unsigned n_readers, char *servers, long seconds)
{
    static pthread_t threads[THREADS_MAX];
    unsigned n = 0;

    for (uintptr_t i = 0; i < n_writers && n < THREADS_MAX; i++) {
        (void)pthread_create(&threads[n++], NULL, write_rows, (void *)i);
    }
    for (uintptr_t i = 0; i < n_readers && n < THREADS_MAX; i++) {
        (void)pthread_create(&threads[n++], NULL, read_rows, NULL);
    }
    if (servers != NULL) {
        n = start_watch(servers, threads, n);
    }
    pg_ask_until(seconds);
    for (unsigned i = 0; i < n; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    return fclose(out) == 0 ? 0 : 1;
}

int
main(int argc, char **argv)
{
    static const struct option OPTIONS[] = {{"host", required_argument, NULL, 'h'},
                                            {"port", required_argument, NULL, 'p'},
                                            {"user", required_argument, NULL, 'u'},
                                            {"db", required_argument, NULL, 'd'},
                                            {"writers", required_argument, NULL, 'w'},
                                            {"readers", required_argument, NULL, 'r'},
                                            {"first", required_argument, NULL, 'f'},
                                            {"watch", required_argument, NULL, 'a'},
                                            {"watch-port", required_argument, NULL, 'b'},
                                            {"watch-user", required_argument, NULL, 'c'},
                                            {"seconds", required_argument, NULL, 's'},
                                            {"out", required_argument, NULL, 'o'},
                                            {NULL, 0, NULL, 0}};
    const char *given[128] = {NULL};
    int c;

    while ((c = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
        if (c == '?') {
            return 2;
        }
        given[c] = optarg;
    }
    gateway.host = given['h'];
    gateway.port = given['p'] != NULL ? given['p'] : gateway.port;
    gateway.user = given['u'] != NULL ? given['u'] : gateway.user;
    gateway.db = given['d'] != NULL ? given['d'] : gateway.db;
    watch_port = given['b'] != NULL ? given['b'] : watch_port;
    watch_user = given['c'] != NULL ? given['c'] : watch_user;
    first_number = given['f'] != NULL ? (unsigned)strtoul(given['f'], NULL, 10) : 0;
    out = given['o'] != NULL ? fopen(given['o'], "w") : NULL;
    if (gateway.host == NULL || out == NULL || given['s'] == NULL) {
        fprintf(stderr, "traffic: --host, --seconds and --out are needed\n");
        return 2;
    }
    pg_ask_end_on_signals();
    return run(given['w'] != NULL ? (unsigned)strtoul(given['w'], NULL, 10) : 1,
               given['r'] != NULL ? (unsigned)strtoul(given['r'], NULL, 10) : 0,
               given['a'] == NULL ? NULL : strdup(given['a']),
               strtol(given['s'], NULL, 10));
}
