#include "agent/core/lease.h"

#include "agent/core/promise.h"
#include "base/require.h"

unsigned
lease_open_quorum(unsigned n)
{
    return n / 2 + 1;
}

unsigned
lease_renew_quorum(unsigned n)
{
    return n <= 2 ? 1 : n / 2 + 1;
}

void
lease_reset(struct lease *lease, uint64_t reign)
{
    *lease = (struct lease){.reign = reign};
}

void
lease_ask(struct lease *lease, const struct lease_request *request, struct mono now)
{
    struct lease_question *q = &lease->questions[lease->next];

    REQUIRE(request->reign == lease->reign, "a question is about the lease's reign");
    *q = (struct lease_question){.seq = request->seq,
                                 .members_generation = request->members_generation,
                                 .lease_ms = request->lease_ms,
                                 .sent_at = now};
    lease->next = (lease->next + 1) % LEASE_QUESTIONS_MAX;
    lease->asked_at = now;
}

bool
lease_note_grant(struct lease *lease, const struct lease_grant *grant)
{
    if (grant->reign != lease->reign || grant->seq == 0) {
        return false;
    }
    for (unsigned i = 0; i < LEASE_QUESTIONS_MAX; i++) {
        struct lease_question *q = &lease->questions[i];

        if (q->seq != grant->seq) {
            continue;
        }
        for (uint32_t k = 0; k < q->n_granted; k++) {
            if (q->granted[k] == grant->grantor) {
                return true;
            }
        }
        if (q->n_granted < HA_MEMBER_SLOTS) {
            q->granted[q->n_granted++] = grant->grantor;
        }
        return true;
    }
    return false;
}

static bool
has_granted(const struct lease_question *q, uint64_t id)
{
    for (uint32_t k = 0; k < q->n_granted; k++) {
        if (q->granted[k] == id) {
            return true;
        }
    }
    return false;
}

/* Counts one set of members: that in force, or the one before a change under way. */
static void
count_set(const struct lease_question *q,
          const struct state *state,
          bool is_old,
          unsigned *n,
          unsigned *n_granted)
{
    *n = 0;
    *n_granted = 0;
    for (unsigned i = 0; i < HA_MEMBER_SLOTS; i++) {
        const struct member *m = &state->members[i];

        if (is_old ? member_was_settled(state, m) : member_is_current(m)) {
            (*n)++;
            *n_granted += has_granted(q, m->id);
        }
    }
}

static bool
is_enough(const struct lease_question *q, const struct state *state, bool is_opening)
{
    unsigned n;
    unsigned n_granted;

    if (q->members_generation != state->members_generation) {
        return false;
    }
    count_set(q, state, false, &n, &n_granted);
    if (n == 0 || n_granted < (is_opening ? lease_open_quorum(n) : lease_renew_quorum(n))) {
        return false;
    }
    if (is_opening && state->settled_generation != state->members_generation) {
        count_set(q, state, true, &n, &n_granted);
        return n_granted >= lease_open_quorum(n);
    }
    return true;
}

const struct lease_question *
lease_answered(const struct lease *lease, const struct state *state, bool is_opening)
{
    const struct lease_question *best = NULL;

    for (unsigned i = 0; i < LEASE_QUESTIONS_MAX; i++) {
        const struct lease_question *q = &lease->questions[i];

        if (q->seq != 0 && is_enough(q, state, is_opening) &&
            (best == NULL || q->seq > best->seq)) {
            best = q;
        }
    }
    return best;
}

struct mono
lease_deadline(const struct lease_question *question)
{
    return mono_add(question->sent_at, (int64_t)question->lease_ms - LEASE_MARGIN_MS);
}
