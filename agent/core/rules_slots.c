/*
 * The slots that a member keeps for the others: for each that has a database, unless it is away for
 * longer than HA_SLOT_TTL. On a standby a slot follows what its owner has, so that whoever is
 * promoted still has the WAL that each of the others lacks.
 */
#include "agent/core/core_internal.h"

#include <stdio.h>
#include <string.h>

#define SLOTS_MS 3000 /* between two words about positions */

static bool
is_away_for_good(const struct core *core, const struct peer_view *p)
{
    const struct mono seen = p != NULL && p->is_heard ? p->heard_at : core->started_at;

    return core->config.slot_ttl_ms != 0 &&
           mono_sub(core->now, seen) > (int64_t)core->config.slot_ttl_ms;
}

/* How far that member has the cluster's WAL. */
static uint64_t
position(const struct core *core, const struct member *m, const struct peer_view *p)
{
    const struct pg_facts *pg = &p->status.pg;

    if (!peer_is_fresh(core, p) || p->status.id != m->id || pg->run != PG_RUN_UP ||
        pg->sysid != core->state.sysid || pg->timeline != core->state.timeline ||
        !rejoin_is_of_ledger(&core->state, pg->timeline, pg->lineage)) {
        return 0;
    }
    return pg->lsn;
}

void
slots_step(struct core *core, struct effect_list *fx)
{
    struct pg_slots wish = {0};
    bool is_same;

    if (core_self(core) == NULL || core->pg.run != PG_RUN_UP) {
        core->is_slots_said = false;
        return;
    }
    for (size_t i = 0; i < HA_MEMBER_SLOTS && wish.n < HA_MEMBERS_MAX; i++) {
        const struct member *m = &core->state.members[i];
        const struct peer_view *p = core_peer(core, m->id);

        if (!member_is_current(m) || m->kind != MEMBER_DATABASE || m->id == core->durable.id ||
            is_away_for_good(core, p)) {
            continue;
        }
        (void)snprintf(wish.at[wish.n].address, sizeof wish.at[wish.n].address, "%s", m->address);
        wish.at[wish.n].lsn = p == NULL ? 0 : position(core, m, p);
        wish.n++;
    }
    is_same = core->is_slots_said && wish.n == core->slots.n;
    for (uint32_t i = 0; is_same && i < wish.n; i++) {
        is_same = strcmp(wish.at[i].address, core->slots.at[i].address) == 0;
    }
    if (is_same && !mono_reached(core->now, core->slots_at)) {
        return;
    }
    core->is_slots_said = true;
    core->slots_at = mono_add(core->now, SLOTS_MS);
    core->slots = wish;
    effect_push(fx, EFFECT_PG_SLOTS)->pg_slots = wish;
}
