/*
 * promise.h - the grantor's side of a lease: "until T, I grant nobody of a later reign".
 *
 * docs/protocol.md, section 3, rules 1 to 3. The record that must be on disk
 * before the first grant of a reign is the core's struct durable.
 *
 * Clock:  passed in.
 * Memory: plain data.
 */
#ifndef HA_CORE_PROMISE_H
#define HA_CORE_PROMISE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/core/message.h"
#include "base/mono.h"
#include "store/durable_record.h"
#include "store/state.h"

#define LEASE_MARGIN_MS 20 /* m: what a client may see late */
#define LEASE_KILL_MS 100  /* x: the longest way from a passed check to a dead server */
#define LEASE_RHO_PERCENT 1

struct promise {
    uint64_t reign; /* 0 = none given since the start */
    uint64_t holder;
    uint64_t seq;
    struct mono until;
    struct mono released_at; /* {0} = it was not */
    struct mono quiet_until; /* after a start: may have forgotten a promise */

    /* A request that waits until the durable record names its reign. */
    bool is_waiting;
    struct lease_request waiting;
};

/* W: how long a promise lasts for a lease of that length. */
int64_t promise_length_ms(uint32_t lease_ms);

/* After a start: `durable` is what the disk remembers. */
void promise_init(struct promise *p, const struct durable *durable, struct mono now);

/*
 * Why the request cannot be granted now, or NULL when it can - as far as this member remembers;
 * the caller still has to see to it that the disk names the reign (promise_is_recorded()).
 */
const char *promise_refusal(const struct promise *p,
                            const struct state *state,
                            const struct durable *durable,
                            const struct lease_request *request,
                            struct mono now);

/* True when the disk names this reign, its holder and a promise at least as long. */
bool promise_is_recorded(const struct durable *saved, const struct lease_request *request);

/* Puts what the disk must name into the record. */
void promise_record(struct durable *durable, const struct lease_request *request);

/* Gives the promise. REQUIREs what the two functions above check. */
void promise_grant(struct promise *p, const struct lease_request *request, struct mono now);

/* The holder's PostgreSQL is dead: frees a promise given up to that seq. */
void promise_release(struct promise *p, const struct release *release, struct mono now);

/* True when no promise to that holder of that reign runs, nor may have been forgotten. */
bool promise_has_lapsed(const struct promise *p, uint64_t reign, uint64_t holder, struct mono now);

#endif
