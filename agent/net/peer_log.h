/*
 * peer_log.h - what the peer link tells, at a rate that no stranger can raise.
 *
 * Each kind of line has a budget per minute; what exceeds it is counted, and
 * the count is told when the minute is over.
 *
 * Clock:  passed in.
 * Memory: plain data, the caller's.
 */
#ifndef HA_NET_PEER_LOG_H
#define HA_NET_PEER_LOG_H

#include <stdint.h>

#include "base/require.h"

#define PEER_LOG_WINDOW_MS 60000

enum peer_event {
    /* Of members. */
    PEER_EVENT_UP,
    PEER_EVENT_DOWN,
    PEER_EVENT_DIAL_FAILED,
    PEER_EVENT_QUEUE_FULL,
    PEER_EVENT_BAD_FRAME,
    PEER_EVENT_REPLACED,
    /* Of whoever knocks. */
    PEER_EVENT_NOT_PEER,     /* not our protocol at all */
    PEER_EVENT_VERSION,      /* ours, of another version */
    PEER_EVENT_UNLISTED,     /* a name that is not in the list, or a call for somebody else */
    PEER_EVENT_WRONG_KEY,    /* a good name, without the secret */
    PEER_EVENT_SLOW,         /* no handshake in time */
    PEER_EVENT_CLOSED_EARLY, /* gone before the handshake was over */
    PEER_EVENT_CROWDED,      /* too many at the door: the one that waited longest was sent away */
    PEER_EVENT_ACCEPT_FAILED,
    PEER_EVENT_COUNT,
};

struct peer_log {
    void *data;
    void (*write)(void *data, int level, const char *event, const char *text);
    struct {
        uint64_t since_ms;
        unsigned said;
        unsigned held;
    } kinds[PEER_EVENT_COUNT];
};

/* Tells, or counts when the budget of this minute is spent. */
void peer_log_say(struct peer_log *log, uint64_t now_ms, enum peer_event kind, const char *fmt, ...)
    HA_PRINTF(4, 5);

/* Ends the minutes that are over and tells what was held back. To be called now and then. */
void peer_log_sweep(struct peer_log *log, uint64_t now_ms);

#endif
