/*
 * message.h - libraft's messages as bytes between agents.
 *
 * A message carries the Raft ids of sender and receiver beside what libraft says: ids outlive a
 * lost disk differently than addresses do, and what was meant for the incarnation before must not
 * be answered by the one that took its address.
 *
 * Bytes:  little-endian, versioned. Decoding is safe for any bytes and refuses whatever libraft
 *         does not check itself: entry types, lengths that are not a multiple of 8, terms that go
 *         back, malformed configurations.
 * Memory: decoding allocates with raft_malloc(), in the shape that libraft takes over: one block
 *         for the data of all entries, named as the batch of each.
 */
#ifndef HA_RAFT_MESSAGE_H
#define HA_RAFT_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "raft/compat.h"

/* Bytes of entries that one message carries; the rest follows in the next ones. Room for the
 * biggest entry, and well below PEER_MESSAGE_MAX. */
#define MESSAGE_ENTRIES_BYTES_MAX (512 * 1024)
#define MESSAGE_ENTRIES_MAX 4096
#define MESSAGE_BYTES_MAX (1024 * 1024)

/*
 * Bytes of a message, or 0 when it does not fit `size` or is of an unknown type. Entries that do
 * not fit are left for later (*n_entries says how many went), with the commit index cut to match.
 */
size_t message_encode(const struct raft_message *m,
                      uint64_t from,
                      uint64_t to,
                      void *out,
                      size_t size,
                      unsigned *n_entries);

/*
 * HA_ECORRUPT or HA_EVERSION: nothing was allocated. m->server_id is the sender's id as it says;
 * the caller sets server_address and checks both against what the link knows.
 */
int
message_decode(struct raft_message *m, uint64_t *to, const void *bytes, size_t len) HA_MUST_CHECK;

/* Frees a decoded message that is not handed to libraft. */
void message_free(struct raft_message *m);

#endif
