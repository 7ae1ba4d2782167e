/*
 * writer - clients that write, and remember every answer.
 *
 * For each host one prober asks each few milliseconds whether it takes writes; for
 * each host T threads write one row at a time while it does. Every acknowledged
 * row becomes a line: send and receive time (CLOCK_BOOTTIME, ns), host, timeline,
 * writer, number. Afterwards a checker can say which rows must be there, and
 * whether two servers ever acknowledged at the same time.
 *
 * usage: writer --hosts A,B,C [--port P] [--user U] [--db D] [--threads T]
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
#include <unistd.h>

#include "tests/lib/pg_ask.h"

#define HOSTS_MAX 9
#define PROBE_EVERY_US 4000
#define CONNECT_MS 1000
#define ANSWER_MS 3000 /* a server that is silent this long is taken for gone */

struct host {
    const char *address;
    atomic_bool is_writable;
};

struct worker {
    pthread_t thread;
    struct host *host;
    unsigned number; /* of the writer, unique */
};

static struct host hosts[HOSTS_MAX];
static unsigned n_hosts;
static const char *port = "5432";
static const char *user = "postgres";
static const char *db = "postgres";
static unsigned pause_us = 2000;
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

    pg_ask_watch(&server, ANSWER_MS, PROBE_EVERY_US, &host->is_writable);
    return NULL;
}

static void
note(const struct worker *w, uint64_t sent, uint64_t received, const char *timeline, uint64_t seq)
{
    (void)pthread_mutex_lock(&out_lock);
    fprintf(out,
            "%llu %llu %s %s %u %llu\n",
            (unsigned long long)sent,
            (unsigned long long)received,
            w->host->address,
            timeline,
            w->number,
            (unsigned long long)seq);
    fflush(out);
    (void)pthread_mutex_unlock(&out_lock);
}

/* False when the session is of no more use. */
static bool
write_row(const struct worker *w, PGconn *conn, uint64_t seq)
{
    char sql[256];
    const uint64_t sent = pg_ask_now_ns();
    PGresult *r;
    bool is_good;

    (void)snprintf(sql,
                   sizeof sql,
                   "INSERT INTO hawser_ledger VALUES (%u, %llu) RETURNING "
                   "left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)",
                   w->number,
                   (unsigned long long)seq);
    r = pg_ask(conn, sql, ANSWER_MS);
    is_good = pg_ask_is_row(r);
    if (is_good) {
        note(w, sent, pg_ask_now_ns(), PQgetvalue(r, 0, 0), seq);
    }
    PQclear(r);
    return is_good;
}

static void *
write_rows(void *data)
{
    const struct worker *w = data;
    PGconn *conn = NULL;
    uint64_t seq = 0;

    while (!pg_ask_is_over) {
        if (!w->host->is_writable) {
            PQfinish(conn);
            conn = NULL;
            pg_ask_pause_us(1000);
            continue;
        }
        if (conn == NULL) {
            conn = connect_to(w->host);
        }
        if (conn != NULL && !write_row(w, conn, ++seq)) {
            PQfinish(conn);
            conn = NULL;
        }
        pg_ask_pause_us(pause_us);
    }
    PQfinish(conn);
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
run(unsigned n_threads, long seconds)
{
    static pthread_t probers[HOSTS_MAX];
    struct worker *workers = calloc(n_hosts * n_threads, sizeof *workers);

    if (workers == NULL) {
        abort();
    }
    for (unsigned h = 0; h < n_hosts; h++) {
        (void)pthread_create(&probers[h], NULL, probe, &hosts[h]);
        for (unsigned t = 0; t < n_threads; t++) {
            struct worker *w = &workers[h * n_threads + t];

            w->host = &hosts[h];
            w->number = (unsigned)(getpid() % 100000) * 100 + h * n_threads + t;
            (void)pthread_create(&w->thread, NULL, write_rows, w);
        }
    }
    pg_ask_until(seconds);
    for (unsigned i = 0; i < n_hosts * n_threads; i++) {
        (void)pthread_join(workers[i].thread, NULL);
    }
    for (unsigned h = 0; h < n_hosts; h++) {
        (void)pthread_join(probers[h], NULL);
    }
    free(workers);
}

int
main(int argc, char **argv)
{
    static const struct option OPTIONS[] = {{"hosts", required_argument, NULL, 'h'},
                                            {"port", required_argument, NULL, 'p'},
                                            {"user", required_argument, NULL, 'u'},
                                            {"db", required_argument, NULL, 'd'},
                                            {"threads", required_argument, NULL, 't'},
                                            {"pause-us", required_argument, NULL, 'w'},
                                            {"seconds", required_argument, NULL, 's'},
                                            {"out", required_argument, NULL, 'o'},
                                            {NULL, 0, NULL, 0}};
    unsigned n_threads = 8;
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
        case 't':
            n_threads = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'w':
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
    if (n_hosts == 0 || n_threads == 0 || seconds <= 0 || out == NULL) {
        fprintf(stderr, "writer: --hosts, --seconds and --out are needed\n");
        return 2;
    }
    pg_ask_end_on_signals();
    run(n_threads, seconds);
    return fclose(out) == 0 ? 0 : 1;
}
