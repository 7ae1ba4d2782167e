/*
 * guard.h - what libraft 0.15 must not be told, or must not say.
 *
 * Seven rules of Raft that its core leaves out. The arithmetic is here; raft/io.c asks
 * at the one place where the message passes.
 *
 * G1 (leader)   An entry of an older term counts as committed only below one of the own term
 *               (Raft, figure 8). The core counts copies of its last stored entry, whatever its
 *               term. So until the first entry of the own term is on the own disk no success
 *               result is let through; then the last stored entry is always one of the own term.
 *               Results wait meanwhile, they are not lost: dropping one costs a heartbeat.
 * G2 (follower) A success speaks of what was compared with this leader's log, not of what
 *               happens to lie on the disk: the core reports its last stored index, and leftovers
 *               of an older term would be counted as copies of the leader's entries. Nor does an
 *               append that an older term's leader asked for answer the present one.
 * G3 (follower) The commit index of a message counts up to its last entry, no further.
 * G4 (follower) Entries at or below the own commit index are the leader's (Leader Completeness),
 *               so a message that reaches back further is cut to begin there. The core takes
 *               entries that it has compacted away for new ones, and appends them at its end.
 * G5 (voter)    A refusal tells the own term. The core echoes a pre-vote's term, so a candidate
 *               with the better log and the older term never learns why nobody votes for it, and
 *               the one with the newer term cannot win: no leader, for ever.
 * G6 (voter)    A single voter begins a term before it leads. The core lets it lead in the term
 *               it finds, where it (or another one) may have sent different entries before. See
 *               io_begin_own_term() and raft/io_load.c.
 *
 * G7 (voter)    One vote a term. The core gives the target of a leadership transfer a second one,
 *               as it never forgets a transfer that was under way when it lost the lead; the log
 *               refuses to write it, which would end the node. It does not hear the question.
 *
 * The other guard of docs/architecture.md, decision 1 - propose a barrier when elected and decide
 * nothing before it commits - is raft/node.c, node_poll().
 */
#ifndef HA_RAFT_GUARD_H
#define HA_RAFT_GUARD_H

#include <stdbool.h>
#include <stdint.h>

struct raft_guard {
    uint64_t term;
    uint64_t own_first; /* leader: index of the first entry of its term; 0 = not leader, or none */
    uint64_t verified;  /* follower: log equals this term's leader's up to here */
};

/* A new term: nothing is known of its leader's log, and nothing of it is ours. */
void guard_set_term(struct raft_guard *g, uint64_t term);

/* G1: may a leader that has stored up to `stored` hear that an append succeeded? */
bool guard_may_count(const struct raft_guard *g, uint64_t stored);

/* G2: the leader of `term` was found to agree with the log up to `index`. */
void guard_set_verified(struct raft_guard *g, uint64_t term, uint64_t index);

/* G2: what a success result may report instead of `last_index`. */
uint64_t guard_report(const struct raft_guard *g, uint64_t last_index);

/* G3: what a message with n entries after `previous` may say of the commit index. */
uint64_t guard_commit(uint64_t previous, uint64_t n, uint64_t commit);

/* G5: the term that a refused vote reports, instead of `term`. */
uint64_t guard_vote_term(const struct raft_guard *g, uint64_t term);

/* G7: may who voted for `voted_for` in this term, 0 = nobody, be asked by that candidate? */
bool guard_may_ask(uint64_t voted_for, uint64_t candidate);

/* G4: of n entries after `previous`, how many a follower that committed up to `commit` skips. */
uint64_t guard_skip(uint64_t previous, uint64_t n, uint64_t commit);

#endif
