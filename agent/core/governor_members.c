#include "agent/core/governor_members.h"

#include <stdio.h>
#include <string.h>

#include "agent/core/core_internal.h"

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
     * for the one that voted. */
    founder = core_founder_nonce(core, p->address);
    memcpy(c.member_register.address, p->address, sizeof c.member_register.address);
    memcpy(c.member_register.name, p->probe.name, sizeof c.member_register.name);
    c.member_register.nonce = founder != 0 ? founder : p->probe.nonce;
    (void)effect_propose(core, fx, &c);
}

/* True when a change was due (also one that could not be proposed yet). */
static bool
follow_declaration(struct core *core, struct effect_list *fx)
{
    const struct state *s = &core->state;
    struct command c = {.type = COMMAND_MEMBER_ADD};

    c.members.generation = s->members_generation;
    for (size_t i = 0; i < s->declaration.n_members; i++) {
        if (state_member_at(s, s->declaration.members[i].address) == NULL) {
            c.members.spec = s->declaration.members[i];
            (void)effect_propose(core, fx, &c);
            return true;
        }
    }
    c.type = COMMAND_MEMBER_REMOVE;
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        const struct member *m = &s->members[i];

        if (member_is_current(m) && !declaration_lists(&s->declaration, m->address) &&
            (m->id != s->holder || s->is_vacant)) {
            memcpy(c.members.spec.address, m->address, sizeof c.members.spec.address);
            (void)effect_propose(core, fx, &c);
            return true;
        }
    }
    return false;
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

/* Removals first: Raft takes no second server under one address. */
static void
follow_members(struct core *core, struct effect_list *fx)
{
    struct effect *e;

    if (core->raft.is_changing || core->raft.n_servers == 0) {
        return;
    }
    for (uint32_t i = 0; i < core->raft.n_servers; i++) {
        const struct member *m = state_member(&core->state, core->raft.servers[i].id);

        if ((m == NULL || !member_is_current(m)) && core->raft.servers[i].id != core->durable.id) {
            e = effect_push(fx, EFFECT_RAFT_REMOVE);
            e->raft_server.id = core->raft.servers[i].id;
            memcpy(e->raft_server.address, core->raft.servers[i].address, HA_ADDRESS_MAX);
            core->raft.is_changing = true; /* until Raft says otherwise */
            return;
        }
    }
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        const struct member *m = &core->state.members[i];

        if (member_is_current(m) && m->nonce != 0 && !is_voter(core, m->id)) {
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
        const struct peer_view *p = &core->peers[i];

        if (p->address[0] != 0 && p->has_probed &&
            mono_sub(core->now, p->probed_at) <= PROBE_FRESH_MS) {
            let_in(core, fx, p);
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
    /* Raft need not wait for the settling: no lease rests on its servers. And it must not: when it
     * is the holder that lost its disk, only its new self can become the next holder. */
    follow_members(core, fx);
}
