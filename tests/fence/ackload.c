/*
 * ackload.c - writers that note when each of their commits was acknowledged.
 *
 *   ackload CONNINFO SECONDS
 *
 * Eight threads, each with a connection of its own, insert (thread, n) into the table `acks` and
 * stamp CLOCK_BOOTTIME when the answer is there. A lost connection or an error is followed by a
 * new connection and the next n. Ends at SECONDS or at the end of standard input.
 *
 * Prints one line for every acknowledged commit, "ack THREAD N NANOSECONDS", and at the end for
 * each kind of failure "error SQLSTATE COUNT" (SQLSTATE "lost" for a connection that was cut).
 */
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WRITERS 8
#define ACKS_MAX 200000
#define CODES_MAX 16

struct writer {
    pthread_t thread;
    int number;
    const char *conninfo;
    struct {
        long n;
        long long at_ns;
    } * acks;
    long n_acks;
    struct {
        char code[8];
        long count;
    } codes[CODES_MAX];
};

static atomic_bool is_over;

static long long
now_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_BOOTTIME, &ts);
    return (long long)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void
count_error(struct writer *w, const char *code)
{
    if (code == NULL) {
        code = "lost";
    }
    for (int i = 0; i < CODES_MAX; i++) {
        if (w->codes[i].count == 0) {
            (void)snprintf(w->codes[i].code, sizeof w->codes[i].code, "%s", code);
        }
        if (strcmp(w->codes[i].code, code) == 0) {
            w->codes[i].count++;
            return;
        }
    }
}

static void
ignore_notice(void *data, const PGresult *res)
{
    (void)data;
    (void)res;
}

static PGconn *
reconnect(struct writer *w, PGconn *conn)
{
    if (conn != NULL) {
        const struct timespec pause = {0, 5000000};

        PQfinish(conn);
        (void)nanosleep(&pause, NULL);
    }
    conn = PQconnectdb(w->conninfo);
    if (PQstatus(conn) != CONNECTION_OK) {
        count_error(w, "refused");
    }
    (void)PQsetNoticeReceiver(conn, ignore_notice, NULL);
    return conn;
}

static void *
write_on(void *data)
{
    struct writer *w = data;
    PGconn *conn = reconnect(w, NULL);
    char sql[80];

    for (long n = 1; !atomic_load(&is_over) && w->n_acks < ACKS_MAX; n++) {
        PGresult *res;

        if (PQstatus(conn) != CONNECTION_OK) {
            conn = reconnect(w, conn);
            continue;
        }
        (void)snprintf(sql, sizeof sql, "INSERT INTO acks VALUES (%d, %ld)", w->number, n);
        res = PQexec(conn, sql);
        if (PQresultStatus(res) == PGRES_COMMAND_OK) {
            w->acks[w->n_acks].n = n;
            w->acks[w->n_acks].at_ns = now_ns();
            w->n_acks++;
        } else {
            count_error(w, PQresultErrorField(res, PG_DIAG_SQLSTATE));
        }
        PQclear(res);
    }
    PQfinish(conn);
    return NULL;
}

static void
report(const struct writer *w)
{
    for (long i = 0; i < w->n_acks; i++) {
        printf("ack %d %ld %lld\n", w->number, w->acks[i].n, w->acks[i].at_ns);
    }
    for (int i = 0; i < CODES_MAX && w->codes[i].count > 0; i++) {
        printf("error %s %ld\n", w->codes[i].code, w->codes[i].count);
    }
}

int
main(int argc, char **argv)
{
    static struct writer writers[WRITERS];
    struct pollfd in = {.fd = 0, .events = POLLIN};

    if (argc != 3) {
        fprintf(stderr, "usage: ackload CONNINFO SECONDS\n");
        return 2;
    }
    for (int i = 0; i < WRITERS; i++) {
        writers[i].number = i;
        writers[i].conninfo = argv[1];
        writers[i].acks = calloc(ACKS_MAX, sizeof *writers[i].acks);
        if (writers[i].acks == NULL ||
            pthread_create(&writers[i].thread, NULL, write_on, &writers[i]) != 0) {
            return 1;
        }
    }
    (void)poll(&in, 1, (int)(strtol(argv[2], NULL, 10) * 1000));
    atomic_store(&is_over, true);
    for (int i = 0; i < WRITERS; i++) {
        (void)pthread_join(writers[i].thread, NULL);
        report(&writers[i]);
        free(writers[i].acks);
    }
    return 0;
}
