#include "agent/core/governor_members.h"

#include <stdio.h>
#include <string.h>

#include "agent/core/core_internal.h"
#include "store/sync.h"

#define PROBE_FRESH_MS 1000

/* A member with an empty directory asks to be let in: registered when it is the first that comes
 * under that address, replaced when another directory was registered before. */
static void
let_in(struct core *core, struct effect_list *fx, const struct peer_view *p)
{
    const struct member *m = state_member_at(&core->state, p->address);
    struct command c = {.type = COMMAND_REGISTER};
    uint64_t founder;

    if (m == NULL || m->nonce == p->probe.nonce) {
        return;
    }
    if (m->nonce != 0) {
        c.type = COMMAND_MEMBER_REPLACE;
        c.members.generation = core->state.members_generation;
        memcpy(c.members.spec.address, p->address, sizeof c.members.spec.address);
        c.members.spec.kind = m->kind;
        c.members.nonce = p->probe.nonce;
        if (core->state.settled_generation == core->state.members_generation &&
            effect_propose(core, fx, &c)) {
            effect_log(fx, LOG_LEVEL_WARN, 261, "replace", "%s lost its disk", p->address);
        }
        return;
    }
    /* One that took part in the founding and lost its disk before it registered must not be taken
     * for the one that voted. A member that came later is another one. */
    founder = m->id == member_id(m->address, 1) ? core_founder_nonce(core, p->address) : 0;
    memcpy(c.member_register.address, p->address, sizeof c.member_register.address);
    memcpy(c.member_register.name, p->probe.name, sizeof c.member_register.name);
    c.member_register.nonce = founder != 0 ? founder : p->probe.nonce;
    (void)effect_propose(core, fx, &c);
}

/* It has no id, and asked to be let in a moment ago. */
static bool
asks(const struct core *core, const struct peer_view *p)
{
    return p->address[0] != 0 && p->has_probed && p->probe.id == 0 &&
           mono_sub(core->now, p->probed_at) <= PROBE_FRESH_MS;
}

static bool
asks_at(const struct core *core, const char *address)
{
    for (size_t i = 0; i < CORE_PEERS_MAX; i++) {
        if (strcmp(core->peers[i].address, address) == 0) {
            return asks(core, &core->peers[i]);
        }
    }
    return false;
}

static bool
is_here(const struct core *core, uint64_t id)
{
    const struct peer_view *p = core_peer(core, id);

    return id == core->durable.id || (peer_is_fresh(core, p) && p->status.id == id);
}

/* It has some of the log: who has none of it knows no configuration, and Raft has it vote for
 * nobody. */
static bool
has_voice(const struct core *core, uint64_t id)
{
    const struct peer_view *p = core_peer(core, id);

    return id == core->durable.id || (is_here(core, id) && p->status.raft_applied != 0);
}

/* Of those that stay when `id` goes; else they could decide nothing, and take nobody in. */
static bool
is_majority_here_without(const struct core *core, uint64_t id)
{
    unsigned n = 0;
    unsigned n_here = 0;

    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        const struct member *m = &core->state.members[i];

        if (member_is_current(m) && m->id != id) {
            n++;
            n_here += has_voice(core, m->id);
        }
    }
    return n_here > n / 2;
}

/* One of Raft's, which may be no member any more. */
static bool
has_server_voice(const struct core *core, uint32_t server)
{
    const uint64_t id = core->raft.servers[server].id;

    for (size_t i = 0; i < CORE_PEERS_MAX; i++) {
        const struct peer_view *p = &core->peers[i];

        if (strcmp(p->address, core->raft.servers[server].address) == 0 && peer_is_fresh(core, p) &&
            p->status.id == id && p->status.raft_applied != 0) {
            return true;
        }
    }
    return id == core->durable.id;
}

/* The same of Raft's voters. */
static bool
is_raft_here_without(const struct core *core, uint64_t id)
{
    unsigned n = 0;
    unsigned n_here = 0;

    for (uint32_t i = 0; i < core->raft.n_servers; i++) {
        if (core->raft.servers[i].is_voter && core->raft.servers[i].id != id) {
            n++;
            n_here += has_server_voice(core, i);
        }
    }
    return n_here > n / 2;
}

/* The holder serves: it is heard, under its lease. */
static bool
is_served(const struct core *core)
{
    const struct state *s = &core->state;
    const struct peer_view *p = core_peer(core, s->holder);

    if (s->is_vacant || !s->is_opened) {
        return false;
    }
    if (s->holder == core->durable.id) {
        return core_has_lease(core);
    }
    return peer_is_fresh(core, p) && p->status.id == s->holder && p->status.lease_left_ms > 0;
}

/* What was acknowledged does not go with it. While nobody serves, it may be the one that has the
 * most; and where commits were synchronous, an election needs the word of those on record: the
 * holder takes it from the record first (INV-9). */
static bool
is_dispensable(const struct core *core, const struct member *m)
{
    const struct state *s = &core->state;

    if (m->kind != MEMBER_DATABASE || s->sysid == 0) {
        return true;
    }
    return is_served(core) && (s->sync_count == 0 || (sync_bit(s, m->id) & s->sync_set) == 0);
}

/* One that came in as a spare and was not made a voter before the leader changed is added again. */
static bool
is_voter(const struct core *core, uint64_t id)
{
    for (uint32_t i = 0; i < core->raft.n_servers; i++) {
        if (core->raft.servers[i].id == id) {
            return core->raft.servers[i].is_voter;
        }
    }
    return false;
}

/* Somebody is being let in: it is here, and has no voice yet. */
static bool
is_somebody_joining(const struct core *core)
{
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        const struct member *m = &core->state.members[i];

        if (!member_is_current(m) || is_voter(core, m->id)) {
            continue;
        }
        for (size_t k = 0; k < CORE_PEERS_MAX; k++) {
            if (strcmp(core->peers[k].address, m->address) == 0 &&
                (asks(core, &core->peers[k]) || peer_is_fresh(core, &core->peers[k]))) {
                return true;
            }
        }
    }
    return false;
}

/* A declared one becomes a member when it is here and asks: until then it would only be a voice
 * that is missing from every quorum. So is one that Raft has not taken in yet: it knows of no reign
 * that it could grant, and with two such the holder would lose its lease. True when a change was
 * due (also one that could not be proposed yet). */
static bool
follow_declaration(struct core *core, struct effect_list *fx)
{
    const struct state *s = &core->state;
    struct command c = {.type = COMMAND_MEMBER_ADD};

    c.members.generation = s->members_generation;
    for (size_t i = 0; i < s->declaration.n_members; i++) {
        if (state_member_at(s, s->declaration.members[i].address) == NULL &&
            asks_at(core, s->declaration.members[i].address) && !is_somebody_joining(core)) {
            c.members.spec = s->declaration.members[i];
            if (effect_propose(core, fx, &c)) {
                effect_log(fx, LOG_LEVEL_INFO, 263, "add", "%s joins", c.members.spec.address);
            }
            return true;
        }
    }
    c.type = COMMAND_MEMBER_REMOVE;
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        const struct member *m = &s->members[i];

        if (member_is_current(m) && !declaration_lists(&s->declaration, m->address) &&
            (m->id != s->holder || s->is_vacant)) {
            if (!is_majority_here_without(core, m->id) || !is_dispensable(core, m)) {
                continue;
            }
            memcpy(c.members.spec.address, m->address, sizeof c.members.spec.address);
            if (effect_propose(core, fx, &c)) {
                effect_log(fx, LOG_LEVEL_INFO, 264, "remove", "%s is removed", m->address);
            }
            return true;
        }
    }
    return false;
}

/* One that is on its way out must still hear of a reign that is opened with its word. Not one that
 * lost its disk: it has no word any more, and its new self needs its place. */
static bool
has_left_raft(const struct core *core, const struct member *m)
{
    return m == NULL ||
           (!member_is_current(m) && state_member_at(&core->state, m->address) != NULL);
}

static bool
has_server_at(const struct core *core, const char *address, uint64_t id)
{
    for (uint32_t i = 0; i < core->raft.n_servers; i++) {
        if (core->raft.servers[i].id != id && strcmp(core->raft.servers[i].address, address) == 0) {
            return true;
        }
    }
    return false;
}

/* Removals first: Raft takes no second server under one address. Only who is here is added: it
 * takes a while before Raft gives up on one that is not, and nobody else can be added meanwhile. */
static void
follow_members(struct core *core, struct effect_list *fx)
{
    struct effect *e;

    if (core->raft.is_changing || core->raft.n_servers == 0) {
        return;
    }
    for (uint32_t i = 0; i < core->raft.n_servers; i++) {
        const struct member *m = state_member(&core->state, core->raft.servers[i].id);

        if (has_left_raft(core, m) && core->raft.servers[i].id != core->durable.id &&
            is_raft_here_without(core, core->raft.servers[i].id)) {
            e = effect_push(fx, EFFECT_RAFT_REMOVE);
            e->raft_server.id = core->raft.servers[i].id;
            memcpy(e->raft_server.address, core->raft.servers[i].address, HA_ADDRESS_MAX);
            core->raft.is_changing = true; /* until Raft says otherwise */
            return;
        }
    }
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        const struct member *m = &core->state.members[i];

        if (member_is_current(m) && m->nonce != 0 && !is_voter(core, m->id) &&
            is_here(core, m->id) && !has_server_at(core, m->address, m->id)) {
            e = effect_push(fx, EFFECT_RAFT_ADD);
            e->raft_server.id = m->id;
            memcpy(e->raft_server.address, m->address, HA_ADDRESS_MAX);
            core->raft.is_changing = true;
            return;
        }
    }
}

void
governor_members(struct core *core, struct effect_list *fx)
{
    struct state *s = &core->state;

    for (size_t i = 0; i < CORE_PEERS_MAX; i++) {
        if (asks(core, &core->peers[i])) {
            let_in(core, fx, &core->peers[i]);
        }
    }
    if (s->settled_generation != s->members_generation) {
        if (s->reign == 0 || (s->is_vacant && s->is_opened)) {
            struct command c = {.type = COMMAND_SETTLE};

            c.settle.generation = s->members_generation;
            (void)effect_propose(core, fx, &c);
        }
        /* Else the holder settles it, when it has leased under the new members; a reign that was
         * given back unopened must be followed by one that opens. */
    } else if (!s->is_paused && follow_declaration(core, fx)) {
        return;
    }
    /* Raft must not wait for the settling where a disk was lost: if it was the holder's, only its
     * new self can become the next holder. */
    follow_members(core, fx);
}
