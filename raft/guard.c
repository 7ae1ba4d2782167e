#include "raft/guard.h"

#include "base/require.h"

void
guard_set_term(struct raft_guard *g, uint64_t term)
{
    REQUIRE(term >= g->term, "the term never goes back");
    if (term > g->term) {
        *g = (struct raft_guard){.term = term};
    }
}

bool
guard_may_count(const struct raft_guard *g, uint64_t stored)
{
    return g->own_first != 0 && stored >= g->own_first;
}

void
guard_set_verified(struct raft_guard *g, uint64_t term, uint64_t index)
{
    if (term == g->term && index > g->verified) {
        g->verified = index;
    }
}

uint64_t
guard_report(const struct raft_guard *g, uint64_t last_index)
{
    return last_index < g->verified ? last_index : g->verified;
}

uint64_t
guard_commit(uint64_t previous, uint64_t n, uint64_t commit)
{
    return commit < previous + n ? commit : previous + n;
}

uint64_t
guard_skip(uint64_t previous, uint64_t n, uint64_t commit)
{
    if (previous >= commit) {
        return 0;
    }
    return commit - previous < n ? commit - previous : n;
}

uint64_t
guard_vote_term(const struct raft_guard *g, uint64_t term)
{
    return term > g->term ? term : g->term;
}

bool
guard_may_ask(uint64_t voted_for, uint64_t candidate)
{
    return voted_for == 0 || voted_for == candidate;
}
