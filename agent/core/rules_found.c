/*
 * Founding a cluster, or joining one: docs/protocol.md, section 6.
 *
 * An empty member asks everybody that its environment lists. It founds only when
 * a majority of them is empty too and says the same; as soon as anybody knows a
 * cluster, it waits to be registered there.
 */
#include "agent/core/core_internal.h"

#include <stdio.h>
#include <string.h>

#define ANSWER_FRESH_MS 1000

/* The member at that address, or one on its way out: it has a voice until that is settled. */
static const struct member *
known_at(const struct state *s, const char *address)
{
    const struct member *m = state_member_at(s, address);

    for (size_t i = 0; m == NULL && i < HA_MEMBER_SLOTS; i++) {
        if (s->members[i].id != 0 && strcmp(s->members[i].address, address) == 0) {
            m = &s->members[i];
        }
    }
    return m;
}

/* While Raft counts on its vote, it must not forget that it has one. */
static bool
may_be_server(const struct core *core, uint64_t id)
{
    for (uint32_t i = 0; i < core->raft.n_servers; i++) {
        if (core->raft.servers[i].id == id) {
            return true;
        }
    }
    return core->raft.n_servers == 0 || core->raft.is_uncommitted;
}

void
found_on_probe(struct core *core,
               struct effect_list *fx,
               const char *from,
               const struct probe *probe)
{
    struct message m = {.type = MESSAGE_PROBE_ANSWER};
    const struct member *known = known_at(&core->state, from);
    struct peer_view *p = core_peer_at(core, from);

    if (p != NULL) {
        p->has_probed = true;
        p->probed_at = core->now;
        p->probe = *probe;
    }
    m.probe_answer.cluster_id = core->state.cluster_id;
    m.probe_answer.nonce = core->durable.nonce;
    m.probe_answer.digest = declaration_digest(&core->config.declaration);
    m.probe_answer.is_empty = core->durable.id == 0 && core->durable.cluster_id == 0;
    m.probe_answer.is_bootstrapped = core->durable.is_bootstrapped;
    m.probe_answer.founded = core->durable.founded;
    m.probe_answer.your_nonce = core_founder_nonce(core, from);
    m.probe_answer.era = core->durable.era;
    m.probe_answer.members_generation = core->state.members_generation;
    m.probe_answer.is_server = may_be_server(core, probe->id);
    /* Who is on its way out keeps its id; nobody begins to be it. */
    if (known != NULL && (probe->id != 0 || member_is_current(known))) {
        m.probe_answer.your_id = known->id;
        m.probe_answer.your_nonce = known->nonce;
    }
    effect_send(fx, from, &m);
}

void
found_ask_everybody(struct core *core, struct effect_list *fx)
{
    struct message m = {.type = MESSAGE_PROBE};

    m.probe.id = core->durable.id;
    m.probe.nonce = core->durable.nonce;
    m.probe.digest = declaration_digest(&core->config.declaration);
    (void)snprintf(m.probe.name, sizeof m.probe.name, "%s", core->config.name);
    effect_send(fx, "", &m);
}

bool
found_has_answered(const struct core *core, const struct peer_view *p)
{
    return p->address[0] != 0 && p->has_answered &&
           mono_sub(core->now, p->answered_at) <= ANSWER_FRESH_MS;
}

/* Joins the cluster in which somebody has this very directory registered. */
static bool
join_if_registered(struct core *core, struct effect_list *fx)
{
    for (size_t i = 0; i < CORE_PEERS_MAX; i++) {
        const struct peer_view *p = &core->peers[i];

        if (found_has_answered(core, p) && p->answer.cluster_id != 0 &&
            (core->durable.cluster_id == 0 || core->durable.cluster_id == p->answer.cluster_id) &&
            p->answer.era >= core->durable.era && p->answer.your_nonce == core->durable.nonce) {
            core->durable.id = p->answer.your_id;
            core->durable.joined = p->answer.members_generation;
            core->durable.era = p->answer.era;
            core->durable.cluster_id = p->answer.cluster_id;
            effect_log(fx, LOG_LEVEL_INFO, 120, "join", "joining the cluster of %s", p->address);
            return true;
        }
    }
    return false;
}

/* It founded a moment ago and counted this very directory among the empty ones. */
static bool
has_counted(const struct core *core, const struct peer_view *p)
{
    return p->answer.is_bootstrapped && p->answer.cluster_id == 0 &&
           p->answer.your_nonce == core->durable.nonce;
}

/* Of the members that this one's environment names. All founders write the same first
 * configuration of Raft: of two that differ, each could have a majority of its own. */
static bool
has_same_list(const struct core *core, const struct probe_answer *a)
{
    return !a->is_bootstrapped || a->founded == members_digest(&core->config.declaration);
}

/* The agreement that it acted on is this member's too. (Were each to wait for the other now, there
 * were no quorum.) */
static bool
has_agreed(const struct core *core, const struct peer_view *p)
{
    return has_counted(core, p) && has_same_list(core, &p->answer);
}

/* It founded, but without this directory: that alone says nothing, for this one may be another's
 * than the one that took part. It is one of the same founders when another of them counted it. */
static bool
has_founded_apart(const struct probe_answer *a)
{
    return a->is_bootstrapped && a->cluster_id == 0 && a->your_nonce == 0;
}

static void
explain_apart(struct core *core, struct effect_list *fx, const struct peer_view *apart)
{
    if (has_counted(core, apart)) {
        core_explain(core,
                     fx,
                     114,
                     "%s founds with this one and another list of members: deploy that list again "
                     "until there is a cluster",
                     apart->address);
    } else {
        core_explain(core, fx, 110, "%s knows a cluster; waiting to be registered", apart->address);
    }
}

/* Founds when a majority of the declared members is empty and declares the same. */
static void
found_if_majority(struct core *core, struct effect_list *fx)
{
    const struct declaration *d = &core->config.declaration;
    const uint64_t digest = declaration_digest(d);
    struct durable founded = core->durable;
    unsigned n_empty = 1; /* itself */
    unsigned n_other = 0;
    const struct peer_view *apart = NULL;
    bool is_counted = false;

    if (core->durable.cluster_id != 0) { /* its data are a cluster's that lives elsewhere */
        core_explain(core, fx, 113, "removed from its cluster; waiting to be let in again");
        return;
    }
    founded.n_founders = 0;
    for (size_t i = 0; i < CORE_PEERS_MAX; i++) {
        const struct peer_view *p = &core->peers[i];

        if (!found_has_answered(core, p) || !declaration_lists(d, p->address)) {
            continue;
        }
        if (!p->answer.is_empty && !has_agreed(core, p)) {
            apart = p;
            if (!has_founded_apart(&p->answer)) {
                is_counted = false;
                break;
            }
        }
        if (p->answer.digest != digest || !has_same_list(core, &p->answer)) {
            n_other++;
            continue;
        }
        is_counted = is_counted || has_agreed(core, p);
        n_empty++;
        memcpy(founded.founders[founded.n_founders].address, p->address, sizeof p->address);
        founded.founders[founded.n_founders++].nonce = p->answer.nonce;
    }
    if (apart != NULL && !is_counted) {
        explain_apart(core, fx, apart);
        return;
    }
    if (n_empty < d->n_members / 2U + 1) {
        core_explain(core,
                     fx,
                     n_other > 0 ? 112 : 111,
                     "%u of %u members are here and empty%s",
                     n_empty,
                     d->n_members,
                     n_other > 0 ? "; others declare something else" : "");
        return;
    }
    founded.is_bootstrapped = true;
    founded.founded = members_digest(d);
    founded.id = member_id(core->config.address, 1);
    core->durable = founded;
    effect_log(fx,
               LOG_LEVEL_INFO,
               115,
               "found",
               "%u of %u members are empty and agree: founding a cluster",
               n_empty,
               d->n_members);
}

void
found_start_raft(struct core *core, struct effect_list *fx)
{
    struct effect *e = effect_push(fx, EFFECT_RAFT_START);

    core->is_raft_started = true;
    core->is_raft_alone = core->durable.is_recovering;
    e->raft_start.id = core->durable.id;
    e->raft_start.era = core->durable.era;
    e->raft_start.is_recovery = core->durable.is_recovering;
    e->raft_start.is_bootstrap = core->durable.is_bootstrapped &&
                                 core->durable.founded == members_digest(&core->config.declaration);
    e->raft_start.n_servers = core->config.declaration.n_members;
    memcpy(e->raft_start.servers,
           core->config.declaration.members,
           sizeof core->config.declaration.members);
}

void
rules_found(struct core *core, struct effect_list *fx)
{
    if (core->durable.id == 0 && !core->is_forgetting) {
        if (mono_sub(core->now, core->status_at) >= STATUS_EVERY_MS || core->status_at.ms == 0) {
            found_ask_everybody(core, fx);
        }
        if (!join_if_registered(core, fx)) {
            found_if_majority(core, fx);
        }
    }
    if (core->durable.id != 0 && !core->is_raft_started &&
        core->durable_saved.id == core->durable.id) {
        found_start_raft(core, fx);
    }
}
