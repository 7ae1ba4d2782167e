/*
 * sync.h - who has what was acknowledged: the arithmetic of synchronous replication.
 *
 * INV-9: every acknowledged write is on at least sync_count - lost members of the recorded set (the
 * holder counts when it is one), where `lost` are members of the set that are gone. Whoever
 * hears all of the set but count - 1 therefore hears of every acknowledged write.
 * docs/invariants.md has the proof.
 *
 * Pure: no clock, no memory.
 * Errors: none; every input is a valid input.
 */
#ifndef HA_STORE_SYNC_H
#define HA_STORE_SYNC_H

#include <stdbool.h>
#include <stdint.h>

#include "store/state.h"

/* What a PostgreSQL may wait for: `count` of the members in `set` (bits as in struct state). */
struct sync_rule {
    uint64_t set;
    uint32_t count;
    uint32_t n_strangers; /* more that it waits for, who are no members any more */
};

/* How many members are in a set. */
uint32_t sync_size(uint64_t set);

/* The bit of a member, or 0. */
uint64_t sync_bit(const struct state *state, uint64_t id);

/* The recorded set without members on their way out, and how many it has lost altogether. */
uint64_t sync_alive(const struct state *state);
uint32_t sync_lost(const struct state *state);

/* Of sync_alive(), how many must be heard so that one of them has any acknowledged write; more
 * than there are when that can never be told. Only where sync_count > 0. */
uint32_t sync_heard_needed(const struct state *state);

/*
 * INV-9 for a holder whose server acknowledges by `rule`, at the worst moment: who answers may be
 * all those that are not on record. True where nothing is on record.
 */
bool sync_is_covered(const struct state *state, uint64_t holder, const struct sync_rule *rule);

/* Standbys that a commit must wait for so that any majority of the members knows of it: 1 of 3
 * members, 2 of 5. At least 1. Witnesses are members. */
uint32_t sync_count_safe(const struct state *state);

/* What the declaration asks for: its count, or sync_count_safe(), the least that `quorum` takes. */
uint32_t sync_count_wanted(const struct state *state);

/* "off", "on", "quorum", "strict". */
const char *sync_mode_text(uint8_t mode);

#endif
