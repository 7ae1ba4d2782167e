#include "agent/core/core_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/require.h"

#define HANDOVER_PAUSE_MS 10000
#define TILT_GAP_MS 1000 /* a step this late has slept: what it heard may be old */

void
core_init(struct core *core,
          const struct core_config *config,
          const struct durable *durable,
          const struct state *remembered,
          uint64_t remembered_index,
          struct mono now)
{
    REQUIRE(durable->nonce != 0 && durable->boots != 0, "the shell has made and counted these");
    REQUIRE(config->random != 0, "a founder needs an id for its cluster");
    memset(core, 0, sizeof *core);
    core->config = *config;
    core->started_at = now;
    core->now = now;
    core->durable = *durable;
    core->durable_saved = *durable;
    core->seq = durable->boots << 32;
    state_init(&core->state);
    if (remembered != NULL) {
        core->state = *remembered;
        core->state_index = remembered_index;
    }
    core->reign_seen_at = now;
    core->sync.asked_epoch = UINT64_MAX; /* what an earlier life asked for may still come */
    core->led_at = now;
    if (durable->must_copy) {
        core->is_clone_due = true;
        (void)snprintf(core->clone_why,
                       sizeof core->clone_why,
                       "it lived on in a history that an operator cut off");
    }
    promise_init(&core->promise, durable, now);
    lease_reset(&core->lease, 0);
}

const struct member *
core_self(const struct core *core)
{
    return state_member(&core->state, core->durable.id);
}

struct peer_view *
core_peer_at(struct core *core, const char *address)
{
    struct peer_view *spare = NULL;

    for (size_t i = 0; i < CORE_PEERS_MAX; i++) {
        struct peer_view *p = &core->peers[i];

        if (strcmp(p->address, address) == 0) {
            return p;
        }
        if (spare == NULL && p->address[0] == 0) {
            spare = p;
        }
    }
    if (spare != NULL) {
        (void)snprintf(spare->address, sizeof spare->address, "%s", address);
    }
    return spare;
}

const struct peer_view *
core_peer(const struct core *core, uint64_t id)
{
    const struct member *m = state_member(&core->state, id);

    for (size_t i = 0; m != NULL && i < CORE_PEERS_MAX; i++) {
        if (strcmp(core->peers[i].address, m->address) == 0) {
            return &core->peers[i];
        }
    }
    return NULL;
}

uint64_t
core_founder_nonce(const struct core *core, const char *address)
{
    for (uint32_t i = 0; i < core->durable.n_founders; i++) {
        if (strcmp(core->durable.founders[i].address, address) == 0) {
            return core->durable.founders[i].nonce;
        }
    }
    return 0;
}

bool
peer_is_fresh(const struct core *core, const struct peer_view *peer)
{
    return peer != NULL && peer->is_heard && mono_sub(core->now, peer->heard_at) <= STATUS_FRESH_MS;
}

bool
core_is_holder(const struct core *core)
{
    const struct state *s = &core->state;

    return core->durable.id != 0 && s->reign != 0 && s->holder == core->durable.id &&
           !s->is_vacant && core->durable.released_reign < s->reign;
}

bool
core_has_lease(const struct core *core)
{
    return core_is_holder(core) && core->lease.reign == core->state.reign &&
           core->durable_saved.opened_reign == core->state.reign &&
           mono_before(core->now, core->lease.deadline);
}

/* ---- events ---- */

static void
on_state(struct core *core, struct effect_list *fx, const struct state *state, uint64_t index)
{
    const uint64_t reign = core->state.reign;
    const uint64_t generation = core->state.generation;

    if (index < core->state_index) {
        return; /* Raft replays what this member remembers already */
    }
    if (state->reign == reign && core->state.handover != 0 && state->handover == 0) {
        core->handover_after = mono_add(core->now, HANDOVER_PAUSE_MS);
    }
    if (state->is_vacant && !(core->state.is_vacant && core->state.reign == state->reign)) {
        core->vacant_seen_at = core->now;
        effect_log(fx,
                   LOG_LEVEL_INFO,
                   0,
                   "vacant",
                   "reign %llu is vacant; its last record: %X/%X",
                   (unsigned long long)state->reign,
                   (unsigned)(state->final_lsn >> 32),
                   (unsigned)state->final_lsn);
    }
    core->state = *state;
    core->state_index = index;
    if (state->reign != reign && state->n_history > 0) {
        core->reign_seen_at = core->now;
        core->was_primary_up = false;
        core->was_holder_live = false;
        core->is_sick_leaving = false;
        core->start_failures = 0;
        core->handover = HANDOVER_NONE;
        core->vacate.reign = 0;
        effect_log(fx,
                   LOG_LEVEL_INFO,
                   0,
                   "reign",
                   "reign %llu is held by %s: %s",
                   (unsigned long long)state->reign,
                   state->history[state->n_history - 1].holder_address,
                   state->history[state->n_history - 1].why);
    }
    if (state->generation != generation) {
        effect_log(fx,
                   LOG_LEVEL_INFO,
                   0,
                   "declaration",
                   "declaration %llu by %s: primary %s, failover %s, lease %u ms, %u members",
                   (unsigned long long)state->generation,
                   state->declared_by[0] != 0 ? state->declared_by : "the founders",
                   state->declaration.primary,
                   state->declaration.failover == FAILOVER_AUTO ? "auto" : "declared",
                   state->declaration.lease_ms,
                   state->declaration.n_members);
    }
    if (core->durable.cluster_id == 0 && state->cluster_id != 0) {
        core->durable.cluster_id = state->cluster_id;
    }
}

static void
on_status(struct core *core, struct effect_list *fx, const char *from, const struct status *status)
{
    struct peer_view *p = core_peer_at(core, from);

    if (status->cluster_id != 0 && status->cluster_id == core->durable.cluster_id &&
        status->era != core->durable.era) {
        if (status->era > core->durable.era) {
            recover_outlived(core, fx, from);
        }
        return; /* it will hear of the newer one, and begin anew */
    }
    if (p == NULL || (status->cluster_id != 0 && core->durable.cluster_id != 0 &&
                      status->cluster_id != core->durable.cluster_id)) {
        return;
    }
    p->is_heard = true;
    p->heard_at = core->now;
    p->status = *status;
    if (status->id == core->state.holder && status->reign == core->state.reign &&
        status->lease_left_ms > 0) {
        core->was_holder_live = true;
    }
}

static void
on_message(struct core *core, struct effect_list *fx, const char *from, const struct message *m)
{
    struct peer_view *p;

    switch ((enum message_type)m->type) {
    case MESSAGE_STATUS:
        on_status(core, fx, from, &m->status);
        break;
    case MESSAGE_PROBE:
        found_on_probe(core, fx, from, &m->probe);
        break;
    case MESSAGE_PROBE_ANSWER:
        p = core_peer_at(core, from);
        if (p != NULL) {
            p->has_answered = true;
            p->answered_at = core->now;
            p->answer = m->probe_answer;
        }
        break;
    case MESSAGE_LEASE_REQUEST:
        lease_on_request(core, fx, from, &m->lease_request);
        break;
    case MESSAGE_LEASE_GRANT:
        lease_on_grant(core, from, &m->lease_grant);
        break;
    case MESSAGE_RELEASE:
        lease_on_release(core, from, &m->release);
        break;
    case MESSAGE_TYPE_COUNT:
    default:
        break;
    }
}

static void
on_proposed(struct core *core, struct effect_list *fx, uint64_t counter, int rc)
{
    if (!core->is_proposing || counter != core->proposal.counter) {
        return;
    }
    core->is_proposing = false;
    /* A follower's own log may be a moment behind the answer; a failure deserves a longer pause. */
    core->propose_after = mono_add(core->now, rc == HA_OK ? 20 : 100);
    if (core->proposal_token != 0) {
        struct effect *e;

        if (rc == HA_EUNKNOWN || rc == HA_ENOTLEADER) {
            core->request.is_set = true; /* its words can be said twice */
            core->request.token = core->proposal_token;
            core->request.command = core->proposal;
            core->proposal_token = 0;
            return;
        }
        e = effect_push(fx, EFFECT_REPLY);
        e->reply.token = core->proposal_token;
        e->reply.rc = rc;
        (void)snprintf(e->reply.text, sizeof e->reply.text, "%s", err_code_text(rc));
        core->proposal_token = 0;
    }
}

static void
on_request(struct core *core, struct effect_list *fx, const struct event *event)
{
    struct command *c = &core->request.command;

    if (event->request.type == REQUEST_RESTART || event->request.type == REQUEST_RELOAD) {
        restart_on_request(core, fx, event->request.token, event->request.type == REQUEST_RELOAD);
        return;
    }
    if (event->request.type == REQUEST_REINIT) {
        rebuild_on_request(core, fx, event->request.token);
        return;
    }
    if (event->request.type == REQUEST_RECOVER) {
        recover_on_request(core, fx, event);
        return;
    }
    if (core->request.is_set || core->proposal_token != 0 || core_self(core) == NULL) {
        struct effect *e = effect_push(fx, EFFECT_REPLY);

        e->reply.token = event->request.token;
        e->reply.rc = core_self(core) == NULL ? HA_EREFUSED : HA_EBUSY;
        (void)snprintf(e->reply.text,
                       sizeof e->reply.text,
                       "%s",
                       core_self(core) == NULL ? "this agent belongs to no cluster yet"
                                               : "another request is under way");
        return;
    }
    memset(c, 0, sizeof *c);
    switch ((enum request_type)event->request.type) {
    case REQUEST_DECLARE:
        c->type = COMMAND_DECLARE;
        c->declare.declaration.number = event->request.number;
        c->declare.is_anew = event->request.is_anew;
        memcpy(c->declare.declaration.primary, event->request.primary, HA_ADDRESS_MAX);
        break;
    case REQUEST_PAUSE:
        c->type = COMMAND_PAUSE;
        break;
    case REQUEST_RESUME:
    case REQUEST_RESTART:
    case REQUEST_RELOAD:
    case REQUEST_REINIT:
    case REQUEST_RECOVER:
    case REQUEST_TYPE_COUNT:
    default:
        c->type = COMMAND_RESUME;
        break;
    }
    core->request.is_set = true;
    core->request.token = event->request.token;
}

static void
on_persisted(struct core *core, struct effect_list *fx, int rc)
{
    core->is_persisting = false;
    if (rc != HA_OK) {
        core->persist_retry_at = mono_add(core->now, 1000);
        effect_log(fx,
                   LOG_LEVEL_ERROR,
                   0,
                   "persist_failed",
                   "cannot write the durable record (%s): this member grants no new reign",
                   err_code_text(rc));
        return;
    }
    core->durable_saved = core->persisting;
    lease_on_persisted(core, fx);
}

static void
take_event(struct core *core, const struct event *event, struct effect_list *fx)
{
    switch ((enum event_type)event->type) {
    case EVENT_STATE:
        on_state(core, fx, event->state.state, event->state.index);
        break;
    case EVENT_RAFT:
        if (event->raft.is_ready && !core->raft.is_ready) {
            core->leader_since = core->now;
        }
        core->raft = event->raft;
        break;
    case EVENT_MESSAGE:
        on_message(core, fx, event->message.from, event->message.message);
        break;
    case EVENT_PG_FACTS:
        postgres_on_facts(core, fx, &event->pg);
        break;
    case EVENT_PG_DONE:
        postgres_on_done(core, fx, event->pg_done.op, event->pg_done.rc, event->pg_done.text);
        break;
    case EVENT_PROPOSED:
        on_proposed(core, fx, event->proposed.counter, event->proposed.rc);
        break;
    case EVENT_PERSISTED:
        on_persisted(core, fx, event->persisted.rc);
        break;
    case EVENT_REQUEST:
        on_request(core, fx, event);
        break;
    case EVENT_STOP:
        if (!core->is_stopping) {
            core->is_stopping = true;
            core->stop_at = core->now;
        }
        break;
    case EVENT_GATEWAYS:
        gateway_on_list(core, fx, &event->gateways);
        break;
    case EVENT_GATEWAY:
        gateway_on_facts(core, fx, &event->gateway);
        break;
    case EVENT_PG_SYNC:
        sync_on_facts(core, &event->pg_sync);
        break;
    case EVENT_PG_PROBE:
        if (core->pg.run == PG_RUN_UP) {
            health_note(&core->health, &event->pg_probe, core->config.disk_reserve, core->now);
        }
        break;
    case EVENT_TICK:
    case EVENT_TYPE_COUNT:
    default:
        break;
    }
}

/* Writes the durable record when it differs from the disk's, one write at a time. */
static void
persist(struct core *core, struct effect_list *fx)
{
    if (core->is_persisting || !mono_reached(core->now, core->persist_retry_at) ||
        memcmp(&core->durable, &core->durable_saved, sizeof core->durable) == 0) {
        return;
    }
    core->is_persisting = true;
    core->persisting = core->durable;
    effect_push(fx, EFFECT_PERSIST)->persist = core->durable;
}

void
decide_step(struct core *core, const struct event *event, struct effect_list *fx)
{
    REQUIRE(!mono_before(event->now, core->now), "time does not run backwards");
    fx->n = 0;
    if (mono_sub(event->now, core->now) > TILT_GAP_MS) {
        core->tilt_until = mono_add(event->now, core->state.declaration.lease_ms);
        health_excuse(&core->health, event->now);
        effect_log(fx,
                   LOG_LEVEL_WARN,
                   0,
                   "stall",
                   "nothing ran here for %lld ms; deciding nothing for one lease",
                   (long long)mono_sub(event->now, core->now));
    }
    if (core->raft.leader != 0) {
        core->led_at = event->now;
    }
    core->now = event->now;
    core->wall_ms = event->wall_ms;
    take_event(core, event, fx);
    rules_health(core, fx);
    rules_fence(core, fx);
    rules_lease(core, fx);
    if (!core->is_exiting) {
        rules_removed(core, fx);
        rules_found(core, fx);
        rules_recover(core, fx);
        rules_vacate(core, fx);
        rules_declare(core, fx);
        governor_step(core, fx);
        rules_sync(core, fx);
        rules_postgres(core, fx);
    }
    rules_fence(core, fx);
    rules_status(core, fx);
    rules_gateway(core, fx); /* behind the own status, which it looks at as at the others' */
    persist(core, fx);
}

struct mono
core_wakeup_at(const struct core *core)
{
    struct mono at = mono_add(core->status_at, STATUS_EVERY_MS);
    struct mono ask;

    if (core_is_holder(core)) {
        at = lease_asks_at(core, &ask) && mono_before(ask, at) ? ask : at;
        if (mono_before(core->now, core->lease.deadline) && mono_before(core->lease.deadline, at)) {
            at = core->lease.deadline;
        }
    }
    if (core->is_watched && mono_sub(at, core->now) > 10) {
        at = mono_add(core->now, 10);
    }
    return at;
}
