#include "agent/shell/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/effect.h"

/* One writer and its ring. Whoever leaves last frees it: a writer can be stuck for ever. */
struct ring {
    pthread_mutex_t mutex;
    pthread_cond_t is_news; /* a line came, or the end */
    pthread_cond_t is_over; /* the writer has ended */
    int fd;
    uint8_t format;
    char name[LOG_NAME_MAX];
    bool is_stopping;
    bool is_ended;
    bool is_abandoned;
    size_t first; /* oldest line */
    size_t n;
    uint64_t n_lost;
    uint64_t n_lost_told;
    struct log_line lines[LOG_SLOTS];
};

static struct ring *ring;
static uint8_t level_max = LOG_LEVEL_INFO;

/* ---- the writer ---- */

/* False when nobody reads any more. */
static bool
write_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        const ssize_t n = write(fd, bytes, len);

        if (n > 0) {
            bytes += n;
            len -= (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            struct pollfd p = {.fd = fd, .events = POLLOUT};

            (void)poll(&p, 1, 1000);
        } else if (n == 0 || errno != EINTR) {
            return false;
        }
    }
    return true;
}

static void
write_line(struct ring *r, const struct log_line *line)
{
    char bytes[LOG_LINE_MAX];
    const size_t len = log_format_line(line, r->format, r->name, bytes, sizeof bytes);

    (void)write_all(r->fd, bytes, len);
}

static void
fill(struct log_line *line, uint8_t level, uint16_t rule, const char *event)
{
    (void)clock_gettime(CLOCK_REALTIME, &line->at);
    line->level = level;
    line->rule = rule;
    (void)snprintf(line->event, sizeof line->event, "%s", event);
}

/* The next thing to write; false when all is written and the end has come. Waits. */
static bool
take(struct ring *r, struct log_line *line)
{
    bool is_some = true;

    (void)pthread_mutex_lock(&r->mutex);
    while (r->n == 0 && r->n_lost == r->n_lost_told && !r->is_stopping) {
        (void)pthread_cond_wait(&r->is_news, &r->mutex);
    }
    if (r->n > 0) {
        *line = r->lines[r->first];
        r->first = (r->first + 1) % LOG_SLOTS;
        r->n--;
    } else if (r->n_lost != r->n_lost_told) {
        fill(line, LOG_LEVEL_WARN, 0, "log_lost");
        (void)snprintf(line->text,
                       sizeof line->text,
                       "%llu lines were lost here: whoever reads the log is too slow",
                       (unsigned long long)(r->n_lost - r->n_lost_told));
        r->n_lost_told = r->n_lost;
    } else {
        is_some = false;
    }
    (void)pthread_mutex_unlock(&r->mutex);
    return is_some;
}

static void
ring_free(struct ring *r)
{
    (void)pthread_mutex_destroy(&r->mutex);
    (void)pthread_cond_destroy(&r->is_news);
    (void)pthread_cond_destroy(&r->is_over);
    free(r);
}

static void *
writer_main(void *data)
{
    struct ring *r = data;
    struct log_line line;
    bool is_abandoned;

    while (take(r, &line)) {
        write_line(r, &line);
    }
    (void)pthread_mutex_lock(&r->mutex);
    r->is_ended = true;
    is_abandoned = r->is_abandoned;
    (void)pthread_cond_signal(&r->is_over);
    (void)pthread_mutex_unlock(&r->mutex);
    if (is_abandoned) {
        ring_free(r);
    }
    return NULL;
}

/* ---- everybody else ---- */

/* Signals belong to the loop's thread. */
static int
spawn(struct ring *r)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all;
    sigset_t before;
    int rc;

    if (pthread_attr_init(&attr) != 0) {
        return -1;
    }
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&thread, &attr, writer_main, r);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attr);
    return rc;
}

void
log_start_on(int fd, uint8_t level, uint8_t format, const char *name)
{
    struct ring *r = calloc(1, sizeof *r);
    pthread_condattr_t attr;

    REQUIRE(ring == NULL, "the log is started once");
    level_max = level;
    if (r == NULL) {
        return; /* lines go to standard error */
    }
    r->fd = fd;
    r->format = format;
    (void)snprintf(r->name, sizeof r->name, "%s", name);
    (void)pthread_mutex_init(&r->mutex, NULL);
    (void)pthread_cond_init(&r->is_news, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&r->is_over, &attr);
    (void)pthread_condattr_destroy(&attr);
    if (spawn(r) != 0) {
        ring_free(r);
        return;
    }
    ring = r;
}

void
log_start(uint8_t level, uint8_t format, const char *name)
{
    log_start_on(STDOUT_FILENO, level, format, name);
}

static void
push(const struct log_line *line)
{
    struct ring *r = ring;

    (void)pthread_mutex_lock(&r->mutex);
    if (r->n == LOG_SLOTS) {
        r->n_lost++;
    } else {
        r->lines[(r->first + r->n) % LOG_SLOTS] = *line;
        r->n++;
        (void)pthread_cond_signal(&r->is_news);
    }
    (void)pthread_mutex_unlock(&r->mutex);
}

static void
write_directly(const struct log_line *line)
{
    char bytes[LOG_LINE_MAX];

    (void)write_all(STDERR_FILENO, bytes, log_format_line(line, 0, "", bytes, sizeof bytes));
}

static void HA_PRINTF(4, 0)
    write_args(uint8_t level, uint16_t rule, const char *event, const char *fmt, va_list args)
{
    struct log_line line;

    if (level > level_max) {
        return;
    }
    fill(&line, level, rule, event);
    (void)vsnprintf(line.text, sizeof line.text, fmt, args);
    if (ring != NULL) {
        push(&line);
    } else {
        write_directly(&line);
    }
}

void
log_write(uint8_t level, const char *event, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    write_args(level, 0, event, fmt, args);
    va_end(args);
}

void
log_write_rule(uint8_t level, uint16_t rule, const char *event, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    write_args(level, rule, event, fmt, args);
    va_end(args);
}

void
log_get_figures(struct log_figures *out)
{
    *out = (struct log_figures){0, 0};
    if (ring != NULL) {
        (void)pthread_mutex_lock(&ring->mutex);
        out->n_queued = ring->n;
        out->n_lost = ring->n_lost;
        (void)pthread_mutex_unlock(&ring->mutex);
    }
}

void
log_stop(void)
{
    struct ring *r = ring;
    struct timespec until;
    bool is_ended;
    int rc = 0;

    if (r == NULL) {
        return;
    }
    ring = NULL;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += LOG_FLUSH_MS / 1000;
    (void)pthread_mutex_lock(&r->mutex);
    r->is_stopping = true;
    (void)pthread_cond_signal(&r->is_news);
    while (!r->is_ended && rc == 0) {
        rc = pthread_cond_timedwait(&r->is_over, &r->mutex, &until);
    }
    is_ended = r->is_ended;
    r->is_abandoned = !is_ended;
    (void)pthread_mutex_unlock(&r->mutex);
    if (is_ended) {
        ring_free(r);
    }
}
