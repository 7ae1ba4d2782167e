/*
 * Who could take the reign, and who should: the candidate ladder of
 * docs/protocol.md, section 4.
 */
#include "agent/core/core_internal.h"

#include <string.h>

static const char *
unfit(const struct core *core, const struct candidate *c)
{
    const struct state *s = &core->state;

    if (c->member->kind != MEMBER_DATABASE) {
        return "a witness has no database";
    }
    if (!c->is_fresh) {
        return "nothing was heard of it lately";
    }
    if (c->status->is_nofailover) {
        return "it is tagged nofailover";
    }
    if (c->status->is_leaving) {
        return "it is being stopped";
    }
    if (c->status->pg.run != PG_RUN_UP) {
        return "its PostgreSQL does not run";
    }
    if (c->status->health == HEALTH_HUNG || c->status->health == HEALTH_DATA_GONE ||
        c->status->health == HEALTH_READ_ONLY) {
        return "its PostgreSQL is sick";
    }
    if (!c->status->pg.is_in_recovery) {
        return "its PostgreSQL is not in recovery";
    }
    if (s->sysid != 0 && c->status->pg.sysid != s->sysid) {
        return "its data belong to another cluster";
    }
    if (c->status->pg.timeline != s->timeline) {
        return "it has not reached the newest timeline";
    }
    if (s->opened_reign != 0 &&
        !rejoin_is_of_ledger(s, c->status->pg.timeline, c->status->pg.lineage)) {
        return "its history is not the cluster's";
    }
    return NULL;
}

size_t
candidates_list(const struct core *core, struct candidate out[HA_MEMBER_SLOTS])
{
    size_t n = 0;

    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        const struct member *m = &core->state.members[i];
        struct candidate *c = &out[n];
        const struct peer_view *p;

        if (!member_is_current(m)) {
            continue;
        }
        c->member = m;
        if (m->id == core->durable.id) {
            c->status = &core->status;
            c->is_fresh = core->status_at.ms != 0;
        } else {
            p = core_peer(core, m->id);
            c->status = p == NULL ? NULL : &p->status;
            c->is_fresh = peer_is_fresh(core, p) && p->status.id == m->id;
        }
        c->unfit = unfit(core, c);
        n++;
    }
    return n;
}

const char *
core_why_unfit(const struct core *core, uint64_t id)
{
    struct candidate list[HA_MEMBER_SLOTS];
    const size_t n = candidates_list(core, list);

    for (size_t i = 0; i < n; i++) {
        if (list[i].member->id == id) {
            return list[i].unfit;
        }
    }
    return "it is no member";
}

bool
candidate_has_more(const struct pg_facts *a, const struct pg_facts *b)
{
    return a->timeline != b->timeline ? a->timeline > b->timeline : a->lsn > b->lsn;
}

/* True when `a` goes before `b`. Each line decides only when the lines above tie. */
static bool
goes_before(const struct core *core, const struct candidate *a, const struct candidate *b)
{
    const char *declared = core->state.declaration.primary;
    const bool a_declared = strcmp(a->member->address, declared) == 0;
    const bool b_declared = strcmp(b->member->address, declared) == 0;

    /* 1 */
    if (candidate_has_more(&a->status->pg, &b->status->pg)) {
        return true;
    }
    if (candidate_has_more(&b->status->pg, &a->status->pg)) {
        return false;
    }
    /* 2 */
    if (a_declared != b_declared) {
        return a_declared;
    }
    /* 3 */
    if (a->status->priority != b->status->priority) {
        return a->status->priority > b->status->priority;
    }
    /* 4 */
    return strcmp(a->member->address, b->member->address) < 0;
}

const struct candidate *
candidate_best(const struct core *core, const struct candidate *list, size_t n)
{
    const struct candidate *best = NULL;

    for (size_t i = 0; i < n; i++) {
        if (list[i].unfit == NULL && (best == NULL || goes_before(core, &list[i], best))) {
            best = &list[i];
        }
    }
    return best;
}
