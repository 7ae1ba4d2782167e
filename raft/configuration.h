/*
 * configuration.h - libraft's encoding of a configuration, read with bounds.
 *
 * libraft 0.15 reads past the end of a malformed one, so every configuration that
 * comes from a disk or a peer is decoded here before libraft sees it.
 *
 * The history remembers which configuration held at which index: the core keeps the newest only,
 * cannot roll back one that a restart or a compaction put out of its sight (it dereferences NULL),
 * and would put an uncommitted one into a snapshot.
 *
 * Memory: raft_malloc, as libraft frees it.
 */
#ifndef HA_RAFT_CONFIGURATION_H
#define HA_RAFT_CONFIGURATION_H

#include <raft.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define CONFIGURATION_BYTES_MAX 2048
#define CONFIGURATION_HISTORY_MAX 16

/* HA_ECORRUPT: empty, too many servers, an id or address twice, no voter, bytes left over that are
 * not padding (fewer than 8). *out is then empty. */
int
configuration_decode(struct raft_configuration *out, const void *bytes, size_t len) HA_MUST_CHECK;

/* True when `id` is the only voter. */
bool configuration_is_sole_voter(const struct raft_configuration *c, uint64_t id);
/* The same of an encoded one. */
bool configuration_is_single(const void *bytes, size_t len, uint64_t id);

struct configuration_row {
    uint64_t index;
    size_t len;
    uint8_t bytes[CONFIGURATION_BYTES_MAX];
};

struct configuration_history {
    uint32_t n; /* oldest first, indexes grow */
    struct configuration_row rows[CONFIGURATION_HISTORY_MAX];
};

/* The configuration in force from `index` on. Rows at or above it go; the oldest goes when full. */
void configuration_history_add(struct configuration_history *h,
                               uint64_t index,
                               const void *bytes,
                               size_t len);

/* Entries from `index` on are gone. True when the newest configuration went with them. */
bool configuration_history_truncate(struct configuration_history *h, uint64_t index);

/* The one in force at `index`, or NULL when none is remembered. */
const struct configuration_row *configuration_history_at(const struct configuration_history *h,
                                                         uint64_t index);

#endif
