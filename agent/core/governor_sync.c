/*
 * A failover where commits were synchronous: who must be heard before it is known that the
 * successor has every acknowledged write. docs/protocol.md, section 4; INV-9.
 */
#include "agent/core/core_internal.h"

#include <stddef.h>

#include "store/sync.h"

bool
candidate_is_frozen(const struct core *core, const struct candidate *c)
{
    const struct state *s = &core->state;

    if (!c->is_fresh || (s->sync_count != 0 && c->status->frozen_epoch < s->sync_epoch)) {
        return false;
    }
    return c->status->frozen_reign == s->reign;
}

/* Its word counts: it takes no WAL of the holder any more, and what it has is a part of the
 * cluster's history. Who fetches from another such member is one of them. */
static bool
is_heard(const struct core *core, const struct candidate *c)
{
    const struct state *s = &core->state;

    if (!c->is_fresh || c->member->kind != MEMBER_DATABASE || c->status->pg.run != PG_RUN_UP ||
        !c->status->pg.is_in_recovery || c->status->pg.sysid != s->sysid ||
        c->status->pg.timeline > s->timeline) {
        return false;
    }
    return candidate_is_frozen(core, c) ||
           (core->fetch_member == c->member->id && c->status->frozen_epoch >= s->sync_epoch);
}

/* The last holder that could acknowledge: it has all that it did, and was chosen because it had all
 * that was acknowledged before. A reign whose opening is not on record may have been served. */
static uint64_t
owner(const struct state *s)
{
    const struct reign_row *row = state_reign(s, s->reign);

    return row == NULL ? 0 : row->holder;
}

bool
governor_is_sure(struct core *core,
                 struct effect_list *fx,
                 const struct candidate *list,
                 size_t n,
                 const struct candidate **most)
{
    const struct state *s = &core->state;
    const uint32_t needed = sync_heard_needed(s);
    bool is_owner_heard = false;
    uint64_t heard = 0;

    *most = NULL;
    for (size_t i = 0; i < n; i++) {
        const struct candidate *c = &list[i];

        if (!is_heard(core, c)) {
            continue;
        }
        heard |= sync_bit(s, c->member->id) & sync_alive(s);
        is_owner_heard = is_owner_heard || c->member->id == owner(s);
        if (*most == NULL || candidate_has_more(&c->status->pg, &(*most)->status->pg)) {
            *most = c;
        }
    }
    if (*most != NULL && (is_owner_heard || sync_size(heard) >= needed)) {
        return true;
    }
    governor_explain(core,
                     fx,
                     235,
                     "%u of %u synchronous standbys let go; %u must, or the last primary",
                     sync_size(heard),
                     sync_size(s->sync_set) + s->sync_lost,
                     needed);
    return false;
}
