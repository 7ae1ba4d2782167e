/*
 * lease.h - the holder's side: the right, until a deadline, to acknowledge writes.
 *
 * A deadline is counted from the moment a request was SENT, and only when enough
 * members granted that very request: the echo of a fresh question. Measuring from
 * the receipt of the grants is the classical bug.
 *
 * Clock:  passed in.
 * Memory: plain data.
 */
#ifndef HA_CORE_LEASE_H
#define HA_CORE_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/core/message.h"
#include "base/mono.h"
#include "store/durable_record.h"
#include "store/state.h"

#define LEASE_QUESTIONS_MAX 16

struct lease_question {
    uint64_t seq; /* 0 = free */
    uint64_t members_generation;
    uint32_t lease_ms;
    struct mono sent_at;
    uint32_t n_granted;
    uint64_t granted[HA_MEMBER_SLOTS]; /* member ids */
};

struct lease {
    uint64_t reign; /* that the questions are about */
    struct mono asked_at;
    struct mono deadline; /* {0} = none */
    unsigned next;        /* the question that is overwritten next */
    struct lease_question questions[LEASE_QUESTIONS_MAX];
};

/* A: grants to open a reign; R: to renew within it. A + R > n. */
unsigned lease_open_quorum(unsigned n);
unsigned lease_renew_quorum(unsigned n);

/* Forgets everything: a new reign, or the lease was given back. */
void lease_reset(struct lease *lease, uint64_t reign);

/* Notes a question that is being sent now. */
void lease_ask(struct lease *lease, const struct lease_request *request, struct mono now);

/* Notes a grant. False when it answers no question of ours. */
bool lease_note_grant(struct lease *lease, const struct lease_grant *grant);

/*
 * The newest question that was granted by enough of the members: to open (old and new set alike)
 * or to renew (the set in force). NULL when there is none.
 */
const struct lease_question *
lease_answered(const struct lease *lease, const struct state *state, bool is_opening);

/* The deadline that an answered question gives. */
struct mono lease_deadline(const struct lease_question *question);

#endif
