/*
 * A member that was removed while it was away finds that out from the others, forgets who it was,
 * and asks to be let in as an empty one does: docs/protocol.md, section 6.
 *
 * Ids are never used again, so the word of one peer is enough that has applied a newer set of
 * members than the one in which this member got its id, and whose Raft does not count on this
 * member's vote any more: a group of two that lost it could not even take it out. What it promised,
 * opened and released stays on its disk; its PostgreSQL data are judged by the ledger like any
 * other's.
 */
#include "agent/core/core_internal.h"

#include <string.h>

#define OUT_OF_TOUCH_MS 2000
#define ASK_EVERY_MS 1000

/* Who is led is told of its members by the log. */
static void
ask_around(struct core *core, struct effect_list *fx)
{
    if (core->raft.leader != 0 || mono_sub(core->now, core->led_at) < OUT_OF_TOUCH_MS ||
        mono_sub(core->now, core->asked_at) < ASK_EVERY_MS) {
        return;
    }
    core->asked_at = core->now;
    found_ask_everybody(core, fx);
}

static bool
says_removed(const struct core *core, const struct peer_view *p)
{
    return found_has_answered(core, p) && p->answer.cluster_id != 0 &&
           p->answer.cluster_id == core->durable.cluster_id && p->answer.era == core->durable.era &&
           p->answer.members_generation > core->durable.joined &&
           p->answer.your_id != core->durable.id && !p->answer.is_server;
}

void
removed_forget(struct core *core)
{
    struct durable *d = &core->durable;

    core->is_forgetting = true;
    d->nonce = d->nonce == core->config.random ? ~core->config.random : core->config.random;
    d->id = 0;
    d->joined = 0;
    d->is_bootstrapped = false;
    d->founded = 0;
    d->n_founders = 0;
    memset(d->founders, 0, sizeof d->founders);
}

void
rules_removed(struct core *core, struct effect_list *fx)
{
    if (core->is_forgetting) {
        if (core->durable_saved.id == 0) {
            effect_exit(core, fx, 0, "beginning anew, without an identity");
            fx->at[fx->n - 1].exit.is_again = true;
        }
        return;
    }
    if (!core->is_raft_started) {
        return;
    }
    ask_around(core, fx);
    for (size_t i = 0; i < CORE_PEERS_MAX; i++) {
        const struct peer_view *p = &core->peers[i];

        if (says_removed(core, p)) {
            core_explain(core, fx, 141, "removed, says %s: asks to be let in anew", p->address);
            removed_forget(core);
            return;
        }
    }
}
