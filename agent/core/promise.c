#include "agent/core/promise.h"

#include "base/require.h"

/* W >= (1 + rho) * ((L - m) / (1 - rho) + x), rounded up: L * (1 + 2 rho) + x and one percent of x
 * are more than that for every L. */
int64_t
promise_length_ms(uint32_t lease_ms)
{
    const int64_t lease = lease_ms;

    return lease + (lease * 2 * LEASE_RHO_PERCENT + 99) / 100 + LEASE_KILL_MS +
           (LEASE_KILL_MS * LEASE_RHO_PERCENT + 99) / 100;
}

void
promise_init(struct promise *p, const struct durable *durable, struct mono now)
{
    *p = (struct promise){0};
    p->quiet_until = mono_add(now, durable->promised_ms);
}

static const char *
reign_refusal(const struct state *state,
              const struct durable *durable,
              const struct lease_request *rq)
{
    if (rq->reign == 0 || rq->reign < state->reign || rq->reign < durable->promised_reign) {
        return "a newer reign is known";
    }
    if (rq->reign == state->reign && (rq->holder != state->holder || state->is_vacant)) {
        return "the reign is vacant or another's";
    }
    if (rq->reign == durable->promised_reign && rq->holder != durable->promised_holder) {
        return "the reign was promised to another member";
    }
    if (rq->reign > state->reign && rq->reign != durable->promised_reign) {
        return "the reign is not known here";
    }
    return NULL;
}

const char *
promise_refusal(const struct promise *p,
                const struct state *state,
                const struct durable *durable,
                const struct lease_request *rq,
                struct mono now)
{
    const char *why = reign_refusal(state, durable, rq);
    const bool is_highest =
        rq->reign == durable->promised_reign && rq->holder == durable->promised_holder;

    if (why != NULL) {
        return why;
    }
    if (rq->lease_ms < HA_LEASE_MS_MIN || rq->lease_ms > HA_LEASE_MS_MAX) {
        return "the lease is out of bounds";
    }
    if (rq->members_generation != state->members_generation) {
        return "other members are in force here";
    }
    if (!is_highest && !mono_reached(now, p->quiet_until)) {
        return "quiet after a start";
    }
    if (p->reign != 0 && !(p->reign == rq->reign && p->holder == rq->holder) &&
        !mono_reached(now, p->until)) {
        return "promised to another";
    }
    return NULL;
}

bool
promise_is_recorded(const struct durable *saved, const struct lease_request *rq)
{
    return saved->promised_reign == rq->reign && saved->promised_holder == rq->holder &&
           saved->promised_ms >= promise_length_ms(rq->lease_ms);
}

void
promise_record(struct durable *durable, const struct lease_request *rq)
{
    const int64_t length = promise_length_ms(rq->lease_ms);

    REQUIRE(rq->reign >= durable->promised_reign, "INV-3: promised reigns only grow");
    REQUIRE(rq->reign > durable->promised_reign || rq->holder == durable->promised_holder,
            "INV-2: a reign has one holder");
    durable->promised_reign = rq->reign;
    durable->promised_holder = rq->holder;
    if (length > durable->promised_ms) {
        durable->promised_ms = (uint32_t)length;
    }
}

void
promise_grant(struct promise *p, const struct lease_request *rq, struct mono now)
{
    const struct mono until = mono_add(now, promise_length_ms(rq->lease_ms));

    REQUIRE(rq->reign >= p->reign, "INV-3: promised reigns only grow");
    if (p->reign != rq->reign || p->holder != rq->holder) {
        REQUIRE(p->reign == 0 || mono_reached(now, p->until), "INV-1: a promise is kept");
        p->until = until;
        p->seq = rq->seq;
    }
    p->reign = rq->reign;
    p->holder = rq->holder;
    p->released_at = (struct mono){0};
    if (rq->seq > p->seq) {
        p->seq = rq->seq;
    }
    if (mono_before(p->until, until)) {
        p->until = until;
    }
}

void
promise_release(struct promise *p, const struct release *release, struct mono now)
{
    if (p->reign == release->reign && p->holder == release->holder && p->seq <= release->seq &&
        mono_before(now, p->until)) {
        p->until = now;
        p->released_at = now;
    }
}

bool
promise_has_lapsed(const struct promise *p, uint64_t reign, uint64_t holder, struct mono now)
{
    if (!mono_reached(now, p->quiet_until)) {
        return false;
    }
    return !(p->reign == reign && p->holder == holder) || mono_reached(now, p->until);
}
