/*
 * client - writers and readers that remember every attempt, answered or not.
 *
 * For each host one prober asks whether it takes writes; while it does, W threads
 * write one row at a time there and R threads read how far a writer has come. Every
 * attempt becomes a line (times are CLOCK_BOOTTIME, ns):
 *
 *   W sent received outcome host reign timeline lsn writer seq sqlstate
 *   R sent received host reign timeline writer seq
 *
 * outcome: ok; no (refused by an error, so it must not be there); open (no answer, or a
 * session that broke: it may be there or not). What was not told is a dash. An attempt is
 * waited for long after its host has stopped taking writes: an answer that comes too
 * late is what the checker looks for.
 *
 * usage: client --hosts A,B,C [--port P] [--user U] [--db D] [--writers W] [--readers R]
 *               [--pause-us N] --seconds S --out FILE
 * The password comes from PGPASSFILE. Ends after S seconds or on SIGTERM.
 */
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/pg_ask.h"

#define HOSTS_MAX 9
#define WORKERS_MAX 200
#define PROBE_EVERY_US 20000
#define PROBE_MS 1000   /* a server that is silent this long takes no writes */
#define ANSWER_MS 30000 /* so long an attempt is waited for */
#define CONNECT_MS 1500

/* What every answer says of the server that gives it. */
#define SAYS                                                                                       \
    "coalesce(substring(current_setting('ha_fence.status', true) from 'reign ([0-9]+)'), '-'), "   \
    "left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), pg_current_wal_insert_lsn()"

struct host {
    const char *address;
    atomic_bool is_writable;
};

struct worker {
    pthread_t thread;
    struct host *host;
    unsigned number; /* of a writer: unique; of a reader: where it begins */
};

static struct host hosts[HOSTS_MAX];
static unsigned n_hosts;
static unsigned n_writers = 8;
static unsigned n_readers = 2;
static const char *port = "5432";
static const char *user = "postgres";
static const char *db = "postgres";
static unsigned pause_us = 25000;
static FILE *out;
static pthread_mutex_t out_lock = PTHREAD_MUTEX_INITIALIZER;

static PGconn *
connect_to(const struct host *host)
{
    const struct pg_ask_server server = {host->address, port, user, db};

    return pg_ask_connect(&server, CONNECT_MS);
}

static void *
probe(void *data)
{
    struct host *host = data;
    const struct pg_ask_server server = {host->address, port, user, db};

    pg_ask_watch(&server, PROBE_MS, PROBE_EVERY_US, &host->is_writable);
    return NULL;
}

static const char *
column(const PGresult *r, int n)
{
    return pg_ask_is_row(r) && n < PQnfields(r) && !PQgetisnull(r, 0, n) ? PQgetvalue(r, 0, n)
                                                                         : "-";
}

/* An error is a refusal only on a session that goes on: one that breaks may have committed. */
static const char *
outcome_of(const PGconn *conn, const PGresult *r)
{
    if (pg_ask_is_row(r)) {
        return "ok";
    }
    if (r != NULL && PQresultStatus(r) == PGRES_FATAL_ERROR && PQstatus(conn) == CONNECTION_OK &&
        PQtransactionStatus(conn) == PQTRANS_IDLE) {
        return "no";
    }
    return "open";
}

static const char *
state_of(const PGresult *r)
{
    const char *state = r == NULL ? NULL : PQresultErrorField(r, PG_DIAG_SQLSTATE);

    return state == NULL ? "-" : state;
}

/* False when the session is of no more use. */
static bool
write_row(const struct worker *w, PGconn *conn, uint64_t seq)
{
    char sql[512];
    uint64_t sent;
    uint64_t received;
    const char *outcome;
    PGresult *r;

    (void)snprintf(sql,
                   sizeof sql,
                   "INSERT INTO hawser_chaos VALUES (%u, %llu, '%s') RETURNING " SAYS,
                   w->number,
                   (unsigned long long)seq,
                   w->host->address);
    sent = pg_ask_now_ns();
    r = pg_ask(conn, sql, ANSWER_MS);
    received = pg_ask_now_ns();
    outcome = outcome_of(conn, r);
    (void)pthread_mutex_lock(&out_lock);
    fprintf(out,
            "W %llu %llu %s %s %s %s %s %u %llu %s\n",
            (unsigned long long)sent,
            (unsigned long long)received,
            outcome,
            w->host->address,
            column(r, 0),
            column(r, 1),
            column(r, 2),
            w->number,
            (unsigned long long)seq,
            state_of(r));
    fflush(out);
    (void)pthread_mutex_unlock(&out_lock);
    PQclear(r);
    return strcmp(outcome, "ok") == 0;
}

static bool
read_row(const struct worker *w, PGconn *conn, unsigned writer)
{
    char sql[640];
    uint64_t sent;
    PGresult *r;
    bool is_good;

    /* A standby's answer is of no interest, and it cannot name its WAL file. */
    (void)snprintf(sql,
                   sizeof sql,
                   "SELECT " SAYS ", coalesce((SELECT max(seq) FROM hawser_chaos WHERE writer = "
                   "%u), 0) WHERE NOT pg_is_in_recovery()",
                   writer);
    sent = pg_ask_now_ns();
    r = pg_ask(conn, sql, ANSWER_MS);
    is_good = pg_ask_is_row(r);
    if (is_good) {
        (void)pthread_mutex_lock(&out_lock);
        fprintf(out,
                "R %llu %llu %s %s %s %u %s\n",
                (unsigned long long)sent,
                (unsigned long long)pg_ask_now_ns(),
                w->host->address,
                column(r, 0),
                column(r, 1),
                writer,
                column(r, 3));
        fflush(out);
        (void)pthread_mutex_unlock(&out_lock);
    }
    PQclear(r);
    return is_good;
}

/* A writer writes its next row; a reader reads of the next writer. */
static void
work(const struct worker *w, bool is_reader)
{
    PGconn *conn = NULL;
    uint64_t n = 0;

    while (!pg_ask_is_over) {
        if (!w->host->is_writable) {
            PQfinish(conn);
            conn = NULL;
            pg_ask_pause_us(5000);
            continue;
        }
        if (conn == NULL) {
            conn = connect_to(w->host);
        }
        if (conn != NULL) {
            n++;
            if (!(is_reader ? read_row(w, conn, (unsigned)((w->number + n) % (n_hosts * n_writers)))
                            : write_row(w, conn, n))) {
                PQfinish(conn);
                conn = NULL;
            }
        }
        pg_ask_pause_us(pause_us);
    }
    PQfinish(conn);
}

static void *
write_rows(void *data)
{
    work(data, false);
    return NULL;
}

static void *
read_rows(void *data)
{
    work(data, true);
    return NULL;
}

static void
split_hosts(char *text)
{
    const char *words[HOSTS_MAX];

    n_hosts = pg_ask_split(text, words, HOSTS_MAX);
    for (unsigned h = 0; h < n_hosts; h++) {
        hosts[h].address = words[h];
    }
}

static void
start(struct worker *w, unsigned host, unsigned number, void *(*function)(void *))
{
    w->host = &hosts[host];
    w->number = number;
    if (pthread_create(&w->thread, NULL, function, w) != 0) {
        abort();
    }
}

static void
run(long seconds)
{
    static pthread_t probers[HOSTS_MAX];
    static struct worker workers[WORKERS_MAX];
    unsigned n = 0;

    for (unsigned h = 0; h < n_hosts; h++) {
        if (pthread_create(&probers[h], NULL, probe, &hosts[h]) != 0) {
            abort();
        }
        for (unsigned t = 0; t < n_writers; t++) {
            start(&workers[n++], h, h * n_writers + t, write_rows);
        }
        for (unsigned t = 0; t < n_readers; t++) {
            start(&workers[n++], h, h * n_readers + t, read_rows);
        }
    }
    pg_ask_until(seconds);
    for (unsigned i = 0; i < n; i++) {
        (void)pthread_join(workers[i].thread, NULL);
    }
    for (unsigned h = 0; h < n_hosts; h++) {
        (void)pthread_join(probers[h], NULL);
    }
}

int
main(int argc, char **argv)
{
    static const struct option OPTIONS[] = {{"hosts", required_argument, NULL, 'h'},
                                            {"port", required_argument, NULL, 'p'},
                                            {"user", required_argument, NULL, 'u'},
                                            {"db", required_argument, NULL, 'd'},
                                            {"writers", required_argument, NULL, 'w'},
                                            {"readers", required_argument, NULL, 'r'},
                                            {"pause-us", required_argument, NULL, 'z'},
                                            {"seconds", required_argument, NULL, 's'},
                                            {"out", required_argument, NULL, 'o'},
                                            {NULL, 0, NULL, 0}};
    long seconds = 0;
    int c;

    while ((c = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
        switch (c) {
        case 'h':
            split_hosts(optarg);
            break;
        case 'p':
            port = optarg;
            break;
        case 'u':
            user = optarg;
            break;
        case 'd':
            db = optarg;
            break;
        case 'w':
            n_writers = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'r':
            n_readers = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'z':
            pause_us = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 's':
            seconds = strtol(optarg, NULL, 10);
            break;
        case 'o':
            out = fopen(optarg, "w");
            break;
        default:
            return 2;
        }
    }
    if (n_hosts == 0 || n_writers == 0 || n_hosts * (n_writers + n_readers) > WORKERS_MAX ||
        seconds <= 0 || out == NULL) {
        fprintf(stderr, "client: --hosts, --seconds and --out are needed\n");
        return 2;
    }
    pg_ask_end_on_signals();
    run(seconds);
    return fclose(out) == 0 ? 0 : 1;
}
