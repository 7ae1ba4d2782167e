/*
 * durable_record.h - what a member must not forget over a restart, beside the Raft log.
 *
 * docs/protocol.md, section 3: the highest reign promised and to whom, the
 * longest promise, the reign that this member opened, the reign it released;
 * and who it is. Plain data; store/durable.h keeps it on disk.
 */
#ifndef HA_STORE_DURABLE_RECORD_H
#define HA_STORE_DURABLE_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "store/state.h"

struct durable {
    /* Identity. */
    uint64_t nonce;       /* of this state directory, random, made once; never 0 */
    uint64_t id;          /* member id, 0 until this member belongs to a cluster */
    uint64_t joined;      /* members generation at which it learnt its id; 0 = founded with it */
    uint64_t cluster_id;  /* 0 until known; kept by a member that was removed: it founds nothing */
    bool is_bootstrapped; /* this member founded: it wrote the first Raft configuration */
    uint64_t founded;     /* members_digest() of the list that it was made of */
    /* What it saw of its peers at the founding: a peer with another nonce lost its disk. */
    uint32_t n_founders;
    struct {
        char address[HA_ADDRESS_MAX];
        uint64_t nonce;
    } founders[HA_MEMBERS_MAX];

    /* Promises (as a grantor). */
    uint64_t promised_reign; /* highest_i */
    uint64_t promised_holder;
    uint32_t promised_ms; /* W: the longest promise ever given */

    /* Reigns (as a holder). */
    uint64_t opened_reign;      /* A members granted it */
    uint64_t opened_generation; /* newest members generation that it leased under */
    uint64_t released_reign;    /* never leased again */

    /* As a standby: let go of the primary for an election at this sync_epoch or an earlier one, and
     * takes no WAL of a holder until the log has a later one. */
    uint64_t frozen_epoch;

    /* An operator's force (docs/protocol.md, section 7). */
    uint64_t era;       /* of the history that it belongs to; 0 = the first */
    bool must_copy;     /* its data lived on in a history that was cut off: no prefix of any */
    bool is_recovering; /* alone, until the log says what follows: */
    bool is_failover;   /* and it shall be the primary */
    uint32_t n_dead;    /* whom the operator named */
    char dead[HA_MEMBERS_MAX][HA_ADDRESS_MAX];

    uint64_t boots; /* starts of this agent: the upper half of every seq and proposal counter */
};

#endif
