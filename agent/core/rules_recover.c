/*
 * An operator's force: the majority is gone for good, and one member goes on without it.
 * docs/protocol.md, section 7, says what that guarantees and what it does not.
 *
 * The operator's word replaces the grants of those that are named dead, and nothing else: this
 * member's own promise still runs out first, the reign still needs a lease, and whoever turns out
 * to live finds a newer era and stops at once.
 */
#include "agent/core/core_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"

#define SILENT_MS 5000 /* who spoke since then is not dead; nor was it listened to for less */
#define ERA_SHIFT 48

static bool
is_named(const struct event *event, const char *address)
{
    for (uint32_t i = 0; i < event->request.n_dead; i++) {
        if (strcmp(event->request.dead[i], address) == 0) {
            return true;
        }
    }
    return false;
}

static const char *
why_member_hinders(const struct core *core, const struct event *event, const struct member *m)
{
    const struct peer_view *p = core_peer(core, m->id);
    const bool is_it = p != NULL && p->is_heard && p->status.id == m->id;

    if (m->id == core->durable.id) {
        return is_named(event, m->address) ? "is named dead, and is the one that is asked" : NULL;
    }
    if (is_named(event, m->address)) {
        return is_it && mono_sub(core->now, p->heard_at) < SILENT_MS ? "is named dead, and lives"
                                                                     : NULL;
    }
    if (!is_it || !peer_is_fresh(core, p)) {
        return "is neither here nor named dead";
    }
    return p->status.raft_applied > core->state_index ? "knows more: force that one" : NULL;
}

static bool
is_refused(const struct core *core, const struct event *event, char text[160])
{
    const struct state *s = &core->state;
    const bool is_failover = event->request.is_failover;
    const char *why = NULL;

    text[0] = 0;
    if (core_self(core) == NULL || core->durable.id == 0) {
        why = "this agent belongs to no cluster";
    } else if (core->durable.is_recovering || core->is_stopping) {
        why = "it is being forced, or stopped, already";
    } else if (core->raft.leader != 0) {
        why = "a majority is here: declare what is wanted instead";
    } else if (mono_sub(core->now, core->started_at) < SILENT_MS) {
        why = "this agent has just begun to listen: ask again in some seconds";
    } else if (is_failover && core->config.kind != MEMBER_DATABASE) {
        why = "a witness cannot be the primary";
    } else if (is_failover && !declaration_lists(&s->declaration, core->config.address)) {
        why = "this member is not declared";
    }
    if (why != NULL) {
        (void)snprintf(text, 160, "%s", why);
        return true;
    }
    for (size_t i = 0; i < HA_MEMBER_SLOTS && text[0] == 0; i++) {
        const struct member *m = &s->members[i];

        why = member_is_current(m) ? why_member_hinders(core, event, m) : NULL;
        if (why != NULL) {
            (void)snprintf(text, 160, "%s %s", m->address, why);
        }
    }
    for (uint32_t i = 0; i < event->request.n_dead && text[0] == 0; i++) {
        if (state_member_at(s, event->request.dead[i]) == NULL) {
            (void)snprintf(text, 160, "%s is no member", event->request.dead[i]);
        }
    }
    return text[0] != 0;
}

static void
reply(struct core *core, struct effect_list *fx, int rc, const char *text)
{
    struct effect *e;

    if (core->recover_token == 0) {
        return;
    }
    e = effect_push(fx, EFFECT_REPLY);
    e->reply.token = core->recover_token;
    e->reply.rc = rc;
    (void)snprintf(e->reply.text, sizeof e->reply.text, "%s", text);
    core->recover_token = 0;
}

/* Newer than every one of before; two that are forced apart are ordered by chance. */
static uint64_t
next_era(const struct core *core)
{
    const uint64_t count = (core->durable.era >> ERA_SHIFT) + 1;
    const uint64_t chance = core->config.random ^ (core->seq * 0x9e3779b97f4a7c15ULL);

    return count << ERA_SHIFT | (chance & ((1ULL << ERA_SHIFT) - 1));
}

void
recover_on_request(struct core *core, struct effect_list *fx, const struct event *event)
{
    struct durable *d = &core->durable;
    char text[160];

    if (is_refused(core, event, text)) {
        struct effect *e = effect_push(fx, EFFECT_REPLY);

        e->reply.token = event->request.token;
        e->reply.rc = HA_EREFUSED;
        (void)snprintf(e->reply.text, sizeof e->reply.text, "%s", text);
        return;
    }
    core->recover_token = event->request.token;
    d->era = next_era(core);
    d->is_recovering = true;
    d->is_failover = event->request.is_failover;
    d->n_dead = event->request.n_dead;
    memcpy(d->dead, event->request.dead, sizeof d->dead);
    effect_log(fx,
               LOG_LEVEL_WARN,
               145,
               "recover",
               "an operator's force: goes on alone, %u named dead",
               d->n_dead);
}

static void
finish(struct core *core, struct effect_list *fx, int rc, const char *text)
{
    struct durable *d = &core->durable;

    d->is_recovering = false;
    d->is_failover = false;
    d->n_dead = 0;
    memset(d->dead, 0, sizeof d->dead);
    reply(core, fx, rc, text);
}

static void
propose(struct core *core, struct effect_list *fx)
{
    struct command c = {.type = COMMAND_RECOVER};

    c.recover.era = core->durable.era;
    c.recover.survivor = core->durable.id;
    c.recover.wall_ms = core->wall_ms;
    c.recover.is_failover = core->durable.is_failover;
    c.recover.n_dead = core->durable.n_dead;
    memcpy(c.recover.dead, core->durable.dead, sizeof c.recover.dead);
    (void)effect_propose(core, fx, &c);
}

void
rules_recover(struct core *core, struct effect_list *fx)
{
    if (!core->durable.is_recovering || core->durable_saved.era != core->durable.era) {
        return;
    }
    if (core->state.era == core->durable.era) {
        finish(core, fx, HA_OK, "done");
        return;
    }
    if (core->is_raft_started && !core->is_raft_alone) { /* the one before ends, with its words */
        core->is_proposing = false;
        memset(&core->raft, 0, sizeof core->raft);
        found_start_raft(core, fx);
    } else if (core->raft.is_ready) {
        propose(core, fx);
    }
}

void
recover_outlived(struct core *core, struct effect_list *fx, const char *by)
{
    if (core->durable.id == 0) {
        return;
    }
    core_explain(core, fx, 142, "an operator went on without it, says %s: begins anew", by);
    finish(core, fx, HA_EREFUSED, "another member was forced before");
    removed_forget(core);
    core->durable.must_copy = true;
}
