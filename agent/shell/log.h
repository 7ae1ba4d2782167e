/*
 * log.h - what the agent says, without ever waiting for whoever reads it.
 *
 * A stalled reader of standard output froze a loop that wrote by itself for as long as it
 * stalled, and a freeze costs the lease. So lines go into a ring of LOG_SLOTS, and a thread of
 * its own writes them. A full ring loses the newest line, counts it, and says so later.
 *
 * One line each, whatever the text holds: control characters are escaped.
 *
 * Clock:   the wall clock, for people.
 * Threads: any may write. Secrets are the callers' affair: none is ever handed in.
 */
#ifndef HA_SHELL_LOG_H
#define HA_SHELL_LOG_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/require.h"

#define LOG_SLOTS 256
#define LOG_EVENT_MAX 32
#define LOG_NAME_MAX 64
#define LOG_LINE_TEXT_MAX 512
#define LOG_LINE_MAX 4096 /* of a line in its worst escaping */
#define LOG_FLUSH_MS 1000

struct log_line {
    struct timespec at; /* wall clock */
    uint8_t level;      /* enum log_level of agent/core/effect.h */
    uint16_t rule;      /* 0 = none */
    char event[LOG_EVENT_MAX];
    char text[LOG_LINE_TEXT_MAX];
};

struct log_figures {
    uint64_t n_queued; /* lines that wait in the ring now */
    uint64_t n_lost;   /* since the start */
};

/*
 * Starts the writer on standard output. `format` is enum log_format of config_env.h, `name` the
 * node's. Before it, and after log_stop(), lines go straight to standard error.
 */
void log_start(uint8_t level, uint8_t format, const char *name);

/* The same on another descriptor, which stays the caller's. */
void log_start_on(int fd, uint8_t level, uint8_t format, const char *name);

/* One line. `event` is a constant snake_case word. Never blocks. */
void log_write(uint8_t level, const char *event, const char *fmt, ...) HA_PRINTF(3, 4);

/* The same for a decision of the core, with the number of its rule. */
void log_write_rule(uint8_t level, uint16_t rule, const char *event, const char *fmt, ...)
    HA_PRINTF(4, 5);

void log_get_figures(struct log_figures *out);

/* Writes what is queued, for LOG_FLUSH_MS at most, and ends the writer. */
void log_stop(void);

/* A line as it is written, with its '\n'; returns its length. Pure. */
size_t log_format_line(
    const struct log_line *line, uint8_t format, const char *name, char *out, size_t size);

#endif
