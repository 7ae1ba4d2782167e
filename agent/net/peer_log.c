#include "agent/net/peer_log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { LEVEL_ERROR = 0, LEVEL_WARN, LEVEL_INFO, LEVEL_DEBUG };

static const struct {
    int level;
    unsigned budget; /* lines per minute */
    const char *event;
} KINDS[PEER_EVENT_COUNT] = {
    [PEER_EVENT_UP] = {LEVEL_INFO, 20, "peer_up"},
    [PEER_EVENT_DOWN] = {LEVEL_WARN, 20, "peer_down"},
    [PEER_EVENT_DIAL_FAILED] = {LEVEL_WARN, 20, "peer_dial_failed"},
    [PEER_EVENT_QUEUE_FULL] = {LEVEL_WARN, 1, "peer_queue_full"},
    [PEER_EVENT_BAD_FRAME] = {LEVEL_WARN, 1, "peer_bad_frame"},
    [PEER_EVENT_REPLACED] = {LEVEL_INFO, 5, "peer_replaced"},
    [PEER_EVENT_NOT_PEER] = {LEVEL_WARN, 1, "peer_stranger"},
    [PEER_EVENT_VERSION] = {LEVEL_WARN, 1, "peer_version"},
    [PEER_EVENT_UNLISTED] = {LEVEL_WARN, 1, "peer_unlisted"},
    [PEER_EVENT_WRONG_KEY] = {LEVEL_WARN, 1, "peer_wrong_key"},
    [PEER_EVENT_SLOW] = {LEVEL_WARN, 1, "peer_slow_handshake"},
    [PEER_EVENT_CLOSED_EARLY] = {LEVEL_INFO, 1, "peer_closed_early"},
    [PEER_EVENT_CROWDED] = {LEVEL_WARN, 1, "peer_crowded"},
    [PEER_EVENT_ACCEPT_FAILED] = {LEVEL_ERROR, 1, "peer_accept_failed"},
};

static void
end_window(struct peer_log *log, enum peer_event kind, uint64_t now_ms)
{
    char text[64];
    const unsigned held = log->kinds[kind].held;

    log->kinds[kind].since_ms = now_ms;
    log->kinds[kind].said = 0;
    log->kinds[kind].held = 0;
    if (held > 0) {
        (void)snprintf(text, sizeof text, "%u more like this in the last minute", held);
        log->write(log->data, KINDS[kind].level, KINDS[kind].event, text);
    }
}

static bool
is_window_over(const struct peer_log *log, enum peer_event kind, uint64_t now_ms)
{
    return now_ms - log->kinds[kind].since_ms >= PEER_LOG_WINDOW_MS;
}

void
peer_log_say(struct peer_log *log, uint64_t now_ms, enum peer_event kind, const char *fmt, ...)
{
    char text[256];
    va_list args;

    if (is_window_over(log, kind, now_ms) || log->kinds[kind].said == 0) {
        end_window(log, kind, now_ms);
    }
    if (log->kinds[kind].said >= KINDS[kind].budget) {
        log->kinds[kind].held++;
        return;
    }
    log->kinds[kind].said++;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    log->write(log->data, KINDS[kind].level, KINDS[kind].event, text);
}

void
peer_log_sweep(struct peer_log *log, uint64_t now_ms)
{
    for (int kind = 0; kind < PEER_EVENT_COUNT; kind++) {
        if (log->kinds[kind].said > 0 && is_window_over(log, (enum peer_event)kind, now_ms)) {
            end_window(log, (enum peer_event)kind, now_ms);
        }
    }
}
