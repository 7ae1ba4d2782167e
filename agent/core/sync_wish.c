/*
 * Whom the commits of this member wait for: what the policy wishes, what PostgreSQL was told.
 * The order in which one becomes the other is in rules_sync.c.
 */
#include "agent/core/core_internal.h"

#include <string.h>

#include "store/sync.h"

#define AWAY_MS 3000               /* one that streams no more is waited for so long */
#define JOIN_LAG_BYTES (16U << 20) /* who is further behind would hold up every commit */

static uint64_t
bit_at(const struct state *s, const char *address)
{
    const struct member *m = state_member_at(s, address);

    return m == NULL ? 0 : sync_bit(s, m->id);
}

static bool
is_named(const struct sync_names *names, const char *address)
{
    for (uint32_t i = 0; i < names->n; i++) {
        if (strcmp(names->address[i], address) == 0) {
            return true;
        }
    }
    return false;
}

struct sync_rule
sync_told(const struct core *core, const struct sync_names *names)
{
    struct sync_rule rule = {.count = names->count};

    for (uint32_t i = 0; i < names->n; i++) {
        const uint64_t bit = bit_at(&core->state, names->address[i]);

        rule.set |= bit;
        rule.n_strangers += bit == 0;
    }
    return rule;
}

bool
sync_is_applied(const struct core *core)
{
    return core->sync.seen.version == core->sync.told.version;
}

/* While parts of the server use the rule before, who answers may be in either, and any part may
 * take the lower count. */
struct sync_rule
sync_weakest(const struct core *core)
{
    const struct sync_names *before = &core->sync.before;
    struct sync_rule rule = sync_told(core, &core->sync.told);

    if (sync_is_applied(core)) {
        return rule;
    }
    rule.set |= sync_told(core, before).set;
    rule.count = before->count < rule.count ? before->count : rule.count;
    for (uint32_t i = 0; i < before->n; i++) {
        rule.n_strangers += bit_at(&core->state, before->address[i]) == 0 &&
                            !is_named(&core->sync.told, before->address[i]);
    }
    return rule;
}

/* One that is no longer declared is removed once no commit counts on it. */
static bool
is_eligible(const struct core *core, const struct member *m)
{
    const struct peer_view *p = core_peer(core, m->id);

    return member_is_current(m) && m->kind == MEMBER_DATABASE && m->id != core->durable.id &&
           declaration_lists(&core->state.declaration, m->address) &&
           !(p != NULL && p->is_heard && p->status.id == m->id && p->status.is_nosync);
}

static uint64_t
eligible(const struct core *core)
{
    uint64_t set = 0;

    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        set |= (uint64_t)is_eligible(core, &core->state.members[i]) << i;
    }
    return set;
}

/* It streams, and has nearly everything. */
static bool
is_close(const struct core *core, const char *address)
{
    const struct pg_sync *seen = &core->sync.seen;

    for (uint32_t i = 0; i < seen->n; i++) {
        if (strcmp(seen->standbys[i].address, address) == 0) {
            return seen->standbys[i].flush_lsn + JOIN_LAG_BYTES >= seen->lsn;
        }
    }
    return false;
}

static bool
was_streaming_lately(const struct core *core, size_t i)
{
    const bool is_same = core->sync.streamed_id[i] == core->state.members[i].id;
    const struct mono since = core->sync.since;
    const struct mono seen = core->sync.streamed_at[i];

    return mono_sub(core->now, since) <= AWAY_MS ||
           (is_same && mono_sub(core->now, seen) <= AWAY_MS);
}

/* Those that a commit can count on now. */
static uint64_t
present(const struct core *core, uint64_t told)
{
    uint64_t set = 0;

    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        const struct member *m = &core->state.members[i];
        const bool is_told = (told >> i & 1) != 0;

        if (is_eligible(core, m) &&
            (is_told ? was_streaming_lately(core, i) : is_close(core, m->address))) {
            set |= 1ULL << i;
        }
    }
    return set;
}

/* Up to `count` members, those of `more` that are in `first` before the others. */
static uint64_t
fill_up(uint64_t set, uint64_t first, uint64_t more, uint32_t count)
{
    for (uint64_t from = first & more;; from = more) {
        for (size_t i = 0; i < HA_MEMBER_SLOTS && sync_size(set) < count; i++) {
            set |= from & 1ULL << i;
        }
        if (from == more) {
            return set;
        }
    }
}

static uint32_t
least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

struct sync_rule
sync_wish(const struct core *core)
{
    const uint8_t mode = core->state.declaration.sync;
    const uint32_t wanted = sync_count_wanted(&core->state);
    const uint64_t told = sync_told(core, &core->sync.told).set;
    const uint64_t all = eligible(core);
    struct sync_rule rule = {0};

    if (mode == SYNC_OFF) {
        return rule;
    }
    rule.set = mode == SYNC_QUORUM ? all : present(core, told);
    if (mode == SYNC_STRICT) {
        rule.set = fill_up(rule.set, told, all, wanted);
    }
    rule.count = least(wanted, sync_size(rule.set));
    if (rule.count == 0 && mode != SYNC_ON) {
        rule.count = 1; /* of nobody: every commit waits */
    }
    return rule;
}

struct sync_rule
sync_first(const struct core *core)
{
    const struct state *s = &core->state;
    const uint64_t own = sync_bit(s, core->durable.id);
    const uint64_t alive = sync_alive(s);
    struct sync_rule rule = {0};
    uint32_t n_sure;

    if (s->declaration.sync != SYNC_OFF) {
        rule.set = eligible(core);
        rule.count = least(sync_count_wanted(s), sync_size(rule.set));
        if (rule.count == 0 && s->declaration.sync != SYNC_ON) {
            rule.count = 1;
        }
    }
    if (sync_is_covered(s, core->durable.id, &rule)) {
        return rule;
    }
    /* The wish would count on members of whom nothing is known; those on record do until it is
     * their turn. Not covered means that there are enough of them. */
    n_sure = ((alive & own) != 0) + sync_lost(s);
    return (struct sync_rule){.set = alive & ~own, .count = s->sync_count - n_sure};
}
