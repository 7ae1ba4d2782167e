/*
 * self.h - which member this agent is, where no interface tells.
 *
 * In a container the members' addresses are those of the nodes, and none of the
 * container's own. What is published on a node's address leads back into the
 * container, though: whoever says a secret word to every listed address and hears
 * one of them on its own HTTP port knows which it is.
 *
 * Clock:   CLOCK_BOOTTIME; blocks. Only before the event loop runs.
 * Errors:  the text says what was tried, and what the reason may be.
 */
#ifndef HA_SHELL_SELF_H
#define HA_SHELL_SELF_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct self_question {
    const char *listen;           /* address to listen on: HA_LISTEN, or all */
    uint16_t port;                /* what is asked about, here and there */
    uint16_t port_http;           /* where others ask for this agent; may be the same */
    const char *const *addresses; /* the members' */
    size_t n;
    const char *why; /* what others are told meanwhile; without quotes and backslashes */
};

/*
 * Asks once, for two seconds at most. The index of the own address in *index, or HA_ENOTFOUND.
 * HA_EBUSY: a port is in use here. While it asks, others that come to `port_http` are told `why`
 * with 503, and 200 on /liveness.
 */
int self_ask(const struct self_question *question, size_t *index, struct err *err) HA_MUST_CHECK;

/* `haagent --health`: 0 when an agent answers 200 to /liveness on this port of this host. */
int self_health(const char *host, uint16_t port, struct err *err) HA_MUST_CHECK;

#endif
