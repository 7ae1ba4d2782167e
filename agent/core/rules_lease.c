/*
 * Promises and lease: docs/protocol.md, section 3. The arithmetic is in promise.c
 * and lease.c; here it meets messages, disk and the clock.
 */
#include "agent/core/core_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/require.h"

/* The member that speaks from that address under that id; both must be so. */
static bool
is_member_at(const struct core *core, uint64_t id, const char *address)
{
    const struct member *m = state_member(&core->state, id);

    return m != NULL && strcmp(m->address, address) == 0;
}

/* ---- grantor ---- */

static void
answer_request(struct core *core, struct effect_list *fx, const struct lease_request *rq)
{
    struct message m = {.type = MESSAGE_LEASE_GRANT};
    const struct member *holder = state_member(&core->state, rq->holder);

    core->promise.is_waiting = false;
    if (core_self(core) == NULL || holder == NULL ||
        promise_refusal(&core->promise, &core->state, &core->durable, rq, core->now) != NULL) {
        return;
    }
    if (!promise_is_recorded(&core->durable_saved, rq)) {
        promise_record(&core->durable, rq);
        core->promise.waiting = *rq;
        core->promise.is_waiting = true;
        return;
    }
    promise_grant(&core->promise, rq, core->now);
    m.lease_grant.reign = rq->reign;
    m.lease_grant.holder = rq->holder;
    m.lease_grant.grantor = core->durable.id;
    m.lease_grant.seq = rq->seq;
    if (rq->holder == core->durable.id) {
        (void)lease_note_grant(&core->lease, &m.lease_grant);
    } else {
        effect_send(fx, holder->address, &m);
    }
}

void
lease_on_request(struct core *core,
                 struct effect_list *fx,
                 const char *from,
                 const struct lease_request *request)
{
    if (is_member_at(core, request->holder, from)) {
        answer_request(core, fx, request);
    }
}

void
lease_on_persisted(struct core *core, struct effect_list *fx)
{
    if (core->promise.is_waiting) {
        const struct lease_request rq = core->promise.waiting;

        answer_request(core, fx, &rq);
    }
}

void
lease_on_release(struct core *core, const char *from, const struct release *release)
{
    if (is_member_at(core, release->holder, from)) {
        promise_release(&core->promise, release, core->now);
    }
}

/* ---- holder ---- */

void
lease_on_grant(struct core *core, const char *from, const struct lease_grant *grant)
{
    if (grant->holder == core->durable.id && is_member_at(core, grant->grantor, from)) {
        (void)lease_note_grant(&core->lease, grant);
    }
}

/* A quarter of the lease between renewals; faster while there is none to renew, and fastest right
 * after the appointment, when the others may hear of it a moment later. */
static int64_t
ask_every_ms(const struct core *core)
{
    const int64_t lease = core->state.declaration.lease_ms;

    if (core_has_lease(core)) {
        return lease / 4;
    }
    return mono_sub(core->now, core->reign_seen_at) < lease / 4 ? lease / 100 : lease / 20;
}

static bool
asks(const struct core *core)
{
    /* Who cannot kill its server lets the lease run out: another may take over then. */
    if (core->is_exiting || (core->is_killing && core->is_sick_killed)) {
        return false;
    }
    /* Never again under members older than those it leased under before. */
    return core_is_holder(core) &&
           core->state.members_generation >= core->durable.opened_generation;
}

bool
lease_asks_at(const struct core *core, struct mono *at)
{
    *at = mono_add(core->lease.asked_at, ask_every_ms(core));
    return asks(core);
}

static void
ask(struct core *core, struct effect_list *fx)
{
    struct message m = {.type = MESSAGE_LEASE_REQUEST};
    struct mono at;

    if (!lease_asks_at(core, &at) || (core->lease.asked_at.ms != 0 && mono_before(core->now, at))) {
        return;
    }
    m.lease_request.reign = core->state.reign;
    m.lease_request.holder = core->durable.id;
    m.lease_request.seq = ++core->seq;
    m.lease_request.members_generation = core->state.members_generation;
    m.lease_request.lease_ms = core->state.declaration.lease_ms;
    lease_ask(&core->lease, &m.lease_request, core->now);
    effect_send(fx, "", &m);
    answer_request(core, fx, &m.lease_request);
}

/* Takes an answered question into the deadline, once the disk knows what it must. */
static void
take_answer(struct core *core, struct effect_list *fx)
{
    const bool is_opening = core->durable_saved.opened_reign != core->state.reign;
    const struct lease_question *q = lease_answered(&core->lease, &core->state, is_opening);
    struct mono deadline;

    if (q == NULL) {
        return;
    }
    if (core->durable.opened_reign != core->state.reign ||
        core->durable.opened_generation < q->members_generation) {
        core->durable.opened_reign = core->state.reign;
        core->durable.opened_generation = q->members_generation;
    }
    if (core->durable_saved.opened_reign != core->state.reign ||
        core->durable_saved.opened_generation < q->members_generation) {
        return;
    }
    deadline = lease_deadline(q);
    if (mono_before(core->lease.deadline, deadline) && mono_before(core->now, deadline)) {
        struct effect *e = effect_push(fx, EFFECT_LEASE);

        core->lease.deadline = deadline;
        e->lease.deadline = deadline;
        e->lease.sent_at = q->sent_at;
        e->lease.reign = core->state.reign;
    }
}

static void
revoke(struct core *core, struct effect_list *fx)
{
    if (core->lease.reign != 0) {
        lease_reset(&core->lease, 0);
        effect_push(fx, EFFECT_LEASE); /* deadline 0: revoked */
    }
}

void
rules_lease(struct core *core, struct effect_list *fx)
{
    if (!core_is_holder(core)) {
        revoke(core, fx);
        return;
    }
    if (core->lease.reign != core->state.reign) {
        lease_reset(&core->lease, core->state.reign);
    }
    ask(core, fx);
    take_answer(core, fx);
}

/* ---- giving a reign back ---- */

void
vacate_begin(struct core *core, struct effect_list *fx, uint64_t final_lsn, const char *why)
{
    REQUIRE(core->pg.run == PG_RUN_STOPPED, "INV-5: a lease is released after PostgreSQL stopped");
    if (core->vacate.reign == core->state.reign) {
        return;
    }
    effect_log(fx, LOG_LEVEL_WARN, 0, "vacate", "giving the reign back: %s", why);
    core->vacate.reign = core->state.reign;
    core->vacate.final_lsn = final_lsn;
    core->vacate.is_sent = false;
    (void)snprintf(core->vacate.why, sizeof core->vacate.why, "%s", why);
    core->durable.released_reign = core->state.reign;
    revoke(core, fx);
}

/* The release leaves when the disk knows of it; the vacancy is proposed until the log has it. */
void
rules_vacate(struct core *core, struct effect_list *fx)
{
    const struct state *s = &core->state;
    struct command c = {.type = COMMAND_VACATE};

    if (core->durable.id == 0 || s->reign == 0 || s->holder != core->durable.id || s->is_vacant ||
        core->durable_saved.released_reign < s->reign) {
        return;
    }
    if (core->vacate.reign != s->reign) { /* released before a restart of this agent */
        core->vacate.reign = s->reign;
        core->vacate.final_lsn = 0;
        core->vacate.is_sent = false;
        (void)snprintf(core->vacate.why, sizeof core->vacate.why, "released before a restart");
    }
    if (!core->vacate.is_sent) {
        struct message m = {.type = MESSAGE_RELEASE};

        m.release.reign = s->reign;
        m.release.holder = core->durable.id;
        m.release.seq = core->seq;
        effect_send(fx, "", &m);
        promise_release(&core->promise, &m.release, core->now);
        core->vacate.is_sent = true;
    }
    c.vacate.reign = s->reign;
    c.vacate.holder = core->durable.id;
    c.vacate.final_lsn = core->vacate.final_lsn;
    (void)snprintf(c.vacate.why, sizeof c.vacate.why, "%s", core->vacate.why);
    (void)effect_propose(core, fx, &c);
}
