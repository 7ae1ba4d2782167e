#include "store/state.h"

#include <string.h>

#include "base/codec.h"
#include "base/require.h"
#include "store/declaration_codec.h"

/* FNV-1a, then the finalizer of splitmix64, so that near addresses give far ids. */
static uint64_t
hash_bytes(const void *data, size_t len)
{
    const uint8_t *at = data;
    uint64_t h = 0xcbf29ce484222325ULL;

    for (size_t i = 0; i < len; i++) {
        h = (h ^ at[i]) * 0x100000001b3ULL;
    }
    h ^= h >> 30;
    h *= 0xbf58476d1ce4e5b9ULL;
    h ^= h >> 27;
    h *= 0x94d049bb133111ebULL;
    h ^= h >> 31;
    return h == 0 ? 1 : h;
}

void
state_init(struct state *state)
{
    memset(state, 0, sizeof *state);
    state->declaration.lease_ms = HA_LEASE_MS_DEFAULT;
}

uint64_t
member_id(const char *address, uint64_t joined)
{
    uint8_t bytes[HA_ADDRESS_MAX + 16];
    struct codec_writer w;

    codec_writer_init(&w, bytes, sizeof bytes);
    codec_put_text(&w, address);
    codec_put_u64(&w, joined);
    REQUIRE(!w.failed, "an address fits HA_ADDRESS_MAX");
    return hash_bytes(bytes, w.len);
}

const struct member *
state_member(const struct state *state, uint64_t id)
{
    for (size_t i = 0; id != 0 && i < HA_MEMBER_SLOTS; i++) {
        if (state->members[i].id == id) {
            return &state->members[i];
        }
    }
    return NULL;
}

const struct member *
state_member_at(const struct state *state, const char *address)
{
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        const struct member *m = &state->members[i];

        if (member_is_current(m) && strcmp(m->address, address) == 0) {
            return m;
        }
    }
    return NULL;
}

bool
member_is_current(const struct member *member)
{
    return member->id != 0 && member->left == 0;
}

bool
member_was_settled(const struct state *state, const struct member *member)
{
    return member->id != 0 && member->joined <= state->settled_generation;
}

const struct reign_row *
state_reign(const struct state *state, uint64_t reign)
{
    for (uint32_t i = 0; i < state->n_history; i++) {
        if (state->history[i].reign == reign) {
            return &state->history[i];
        }
    }
    return NULL;
}

uint32_t
state_next_timeline(const struct state *state)
{
    return state->opened_reign == 0
               ? 0
               : state->timeline + (uint32_t)(state->reign - state->opened_reign);
}

const struct reign_row *
state_timeline(const struct state *state, uint32_t timeline)
{
    for (uint32_t i = 0; timeline != 0 && i < state->n_history; i++) {
        if (state->history[i].timeline == timeline) {
            return &state->history[i];
        }
    }
    return NULL;
}

uint64_t
lineage_extend(uint64_t parent, uint32_t parent_timeline, uint64_t fork_lsn)
{
    const uint64_t words[] = {parent_timeline, fork_lsn};
    uint64_t h = parent;

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        for (unsigned shift = 0; shift < 64; shift += 8) {
            h = (h ^ (words[i] >> shift & 0xff)) * 0x100000001b3ULL;
        }
    }
    return h == 0 ? 1 : h;
}

bool
state_may_rebuild(const struct state *state, uint64_t id)
{
    const struct member *self = state_member(state, id);
    size_t n_copies = 0;
    size_t n_replaced = 1; /* with that member */

    if (self != NULL && self->rebuild != 0 && self->rebuild_rung != REBUILD_CLEAR) {
        return true; /* its data count for nothing since then: nobody is the poorer */
    }
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        const struct member *m = &state->members[i];

        if (member_is_current(m) && m->kind == MEMBER_DATABASE) {
            n_copies++;
            n_replaced += m->id != id && m->rebuild != 0 && m->rebuild_rung != REBUILD_CLEAR;
        }
    }
    return n_replaced == 1 || n_copies - n_replaced >= n_copies / 2 + 1;
}

void
declaration_sort(struct declaration *d)
{
    for (size_t i = 1; i < d->n_members && i < HA_MEMBERS_MAX; i++) {
        for (size_t k = i; k > 0; k--) {
            struct member_spec *a = &d->members[k - 1];
            struct member_spec *b = &d->members[k];

            if (strcmp(a->address, b->address) <= 0) {
                break;
            }
            const struct member_spec swap = *a;
            *a = *b;
            *b = swap;
        }
    }
}

uint64_t
declaration_digest(const struct declaration *d)
{
    uint8_t bytes[HA_MEMBERS_MAX * (HA_ADDRESS_MAX + 4) + HA_ADDRESS_MAX + 64];
    struct codec_writer w;

    codec_writer_init(&w, bytes, sizeof bytes);
    declaration_put(&w, d);
    REQUIRE(!w.failed, "a declaration fits its digest's buffer");
    return hash_bytes(bytes, w.len);
}

uint64_t
members_digest(const struct declaration *d)
{
    struct declaration members;

    memset(&members, 0, sizeof members);
    members.n_members = d->n_members;
    memcpy(members.members, d->members, sizeof members.members);
    return declaration_digest(&members);
}

bool
declaration_lists(const struct declaration *d, const char *address)
{
    for (size_t i = 0; i < d->n_members && i < HA_MEMBERS_MAX; i++) {
        if (strcmp(d->members[i].address, address) == 0) {
            return true;
        }
    }
    return false;
}

bool
declaration_equals(const struct declaration *a, const struct declaration *b)
{
    struct declaration x = *a;
    struct declaration y = *b;

    x.number = 0;
    y.number = 0;
    return declaration_digest(&x) == declaration_digest(&y);
}

static const char *
sync_fault(const struct declaration *d)
{
    size_t n_databases = 0;

    for (size_t i = 0; i < d->n_members; i++) {
        n_databases += d->members[i].kind == MEMBER_DATABASE;
    }
    if (d->sync >= SYNC_MODE_COUNT) {
        return "HA_SYNC must be off, on, quorum or strict";
    }
    if (d->sync_count != 0 && (d->sync == SYNC_OFF || d->sync_count >= n_databases)) {
        return "HA_SYNC_COUNT must be less than the number of database members";
    }
    return d->sync >= SYNC_QUORUM && n_databases < 2
               ? "HA_SYNC=quorum and strict need a second database member"
               : NULL;
}

static const char *
members_fault(const struct declaration *d)
{
    size_t n_databases = 0;

    for (size_t i = 0; i < d->n_members; i++) {
        const struct member_spec *m = &d->members[i];

        if (m->address[0] == 0) {
            return "a member has no address";
        }
        if (m->kind >= MEMBER_KIND_COUNT) {
            return "a member is neither database nor witness";
        }
        if (i > 0 && strcmp(d->members[i - 1].address, m->address) == 0) {
            return "an address is listed twice";
        }
        if (i > 0 && strcmp(d->members[i - 1].address, m->address) > 0) {
            return "the members are not sorted";
        }
        n_databases += m->kind == MEMBER_DATABASE;
    }
    return n_databases == 0 ? "no database member is listed" : NULL;
}

const char *
declaration_fault(const struct declaration *d)
{
    const char *fault;

    if (d->n_members == 0 || d->n_members > HA_MEMBERS_MAX) {
        return "there must be 1 to 9 members";
    }
    if (d->lease_ms < HA_LEASE_MS_MIN || d->lease_ms > HA_LEASE_MS_MAX) {
        return "the lease must be 500 to 60000 ms";
    }
    if (d->failover >= FAILOVER_POLICY_COUNT) {
        return "the failover policy must be declared or auto";
    }
    fault = members_fault(d);
    if (fault == NULL) {
        fault = sync_fault(d);
    }
    if (fault != NULL) {
        return fault;
    }
    for (size_t i = 0; i < d->n_members; i++) {
        if (strcmp(d->members[i].address, d->primary) == 0) {
            return d->members[i].kind == MEMBER_DATABASE ? NULL : "the primary is a witness";
        }
    }
    return "the primary is not one of the members";
}
