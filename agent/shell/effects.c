/*
 * The effect table: one function per effect, in the order of effect.h.
 */
#include <stdio.h>
#include <string.h>

#include "agent/shell/agent.h"
#include "agent/shell/log.h"

static void
run_send(struct agent *agent, const struct effect *e)
{
    uint8_t bytes[MESSAGE_BYTES_MAX];
    const size_t len = agent_message_encode(&e->send.message, bytes, sizeof bytes);

    REQUIRE(len > 0, "every message fits MESSAGE_BYTES_MAX");
    if (e->send.to[0] != 0) {
        (void)peer_send(agent->link, e->send.to, e->send.message.type, bytes, len);
        return;
    }
    for (size_t i = 0; i < agent->n_members; i++) {
        (void)peer_send(agent->link, agent->members[i], e->send.message.type, bytes, len);
    }
}

static void
run_persist(struct agent *agent, const struct effect *e)
{
    agent_persist(agent, &e->persist);
}

static void
proposal_done(void *data, int rc)
{
    struct agent *agent = data;
    struct event e = {.type = EVENT_PROPOSED};

    e.proposed.counter = agent->core.proposal.counter; /* there is one at a time */
    e.proposed.rc = rc;
    agent_event(agent, &e);
}

static void
run_propose(struct agent *agent, const struct effect *e)
{
    int rc = HA_ENOTLEADER;

    log_write(LOG_LEVEL_DEBUG, "propose", "%s", command_type_text(e->propose.type));
    if (agent->consensus != NULL) {
        rc = consensus_propose(agent->consensus, &e->propose, proposal_done, agent);
    }
    if (rc != HA_OK) {
        proposal_done(agent, rc);
    }
}

void
agent_revoke_lease(struct agent *agent)
{
    if (agent->page_reign != 0) {
        lease_page_revoke(&agent->page);
    }
}

/* One page serves one reign; it begins revoked. */
static void
run_lease(struct agent *agent, const struct effect *e)
{
    struct err err = {0};

    if (e->lease.deadline.ms == 0) {
        agent_revoke_lease(agent);
        return;
    }
    if (agent->page_reign != e->lease.reign) {
        lease_page_close(&agent->page);
        agent->page_reign = 0;
        if (lease_page_create(&agent->page, agent->lease_path, e->lease.reign, &err) != HA_OK) {
            log_write(LOG_LEVEL_ERROR, "lease_page", "%s", err.text);
            agent_end(agent, 1);
            return;
        }
        agent->page_reign = e->lease.reign;
    }
    lease_page_set(&agent->page, e->lease.deadline, e->lease.sent_at);
}

static void
run_pg(struct agent *agent, const struct effect *e)
{
    int rc = HA_EREFUSED;

    if (agent->postgres != NULL && e->pg.op == PG_OP_PROMOTE) {
        rc = postgres_promote(agent->postgres, e->pg.timeline, e->pg.next);
    } else if (agent->postgres != NULL) {
        rc = postgres_begin(agent->postgres, (enum postgres_op)e->pg.op, e->pg.from);
    }
    if (rc != HA_OK) {
        struct event done = {.type = EVENT_PG_DONE};

        done.pg_done.op = e->pg.op;
        done.pg_done.rc = rc;
        done.pg_done.text = "it could not begin";
        agent_event(agent, &done);
    }
}

static void
run_pg_kill(struct agent *agent, const struct effect *e)
{
    agent_revoke_lease(agent);
    if (agent->postgres != NULL) {
        postgres_kill(agent->postgres, e->pg_kill.why);
    }
}

static void
run_pg_watch(struct agent *agent, const struct effect *e)
{
    if (agent->postgres != NULL) {
        postgres_watch(agent->postgres, e->pg_watch.is_on);
    }
}

static void
run_pg_sync(struct agent *agent, const struct effect *e)
{
    if (agent->postgres != NULL) {
        postgres_set_sync(agent->postgres, &e->pg_sync);
    }
}

static void
run_pg_gate(struct agent *agent, const struct effect *e)
{
    if (agent->postgres != NULL) {
        postgres_set_gate(agent->postgres, e->pg_gate.is_open);
    }
}

static void
run_pg_slots(struct agent *agent, const struct effect *e)
{
    if (agent->postgres != NULL) {
        postgres_set_slots(agent->postgres, &e->pg_slots);
    }
}

static void
run_pg_discard(struct agent *agent, const struct effect *e)
{
    (void)e;
    if (agent->postgres != NULL) {
        postgres_discard(agent->postgres);
    }
}

static void
run_pg_ballast(struct agent *agent, const struct effect *e)
{
    (void)e;
    if (agent->postgres != NULL) {
        postgres_release_ballast(agent->postgres);
    }
}

static int
open_raft(struct agent *agent, const struct effect *e, struct err *err)
{
    struct raft_server_view servers[HA_MEMBERS_MAX];
    const unsigned lease = agent->config.core.declaration.lease_ms;
    const unsigned election = lease / 2 < 300 ? 300 : lease / 2 > 1000 ? 1000 : lease / 2;
    const struct consensus_config config = {.loop = &agent->loop,
                                            .link = agent->link,
                                            .fs = fs_posix(),
                                            .dir = agent->config.state_dir,
                                            .id = e->raft_start.id,
                                            .era = e->raft_start.era,
                                            .address = agent->config.core.address,
                                            .election_ms = election,
                                            .heartbeat_ms = 50,
                                            .callbacks = agent_consensus_callbacks(agent)};
    int rc = consensus_open(&config, &agent->consensus, err);

    if (rc != HA_OK) {
        return rc;
    }
    for (uint32_t i = 0; i < e->raft_start.n_servers; i++) {
        servers[i].id = member_id(e->raft_start.servers[i].address, 1);
        servers[i].is_voter = true;
        memcpy(servers[i].address, e->raft_start.servers[i].address, HA_ADDRESS_MAX);
    }
    if (e->raft_start.is_recovery) {
        servers[0] = (struct raft_server_view){.id = e->raft_start.id, .is_voter = true};
        memcpy(servers[0].address, agent->config.core.address, HA_ADDRESS_MAX);
        rc = consensus_recover(agent->consensus, servers, 1, err);
        return rc == HA_OK ? consensus_start(agent->consensus, err) : rc;
    }
    if (e->raft_start.is_bootstrap) {
        rc = consensus_bootstrap(agent->consensus, servers, e->raft_start.n_servers, err);
        if (rc != HA_OK && rc != HA_EEXIST) {
            return rc;
        }
    }
    return consensus_start(agent->consensus, err);
}

static void
raft_closed(void *data)
{
    struct agent *agent = data;

    if (!agent->is_ending) {
        agent_run_raft_start(agent, &agent->raft_again);
    }
}

/* By force it is started again while the agent, and the PostgreSQL beside it, run on. */
void
agent_run_raft_start(struct agent *agent, const struct effect *e)
{
    struct err err = {0};

    if (agent->consensus != NULL) {
        struct consensus *before = agent->consensus;

        agent->consensus = NULL;
        agent->raft_again = *e;
        consensus_close(before, raft_closed, agent);
        return;
    }
    if (open_raft(agent, e, &err) != HA_OK) {
        log_write(LOG_LEVEL_ERROR, "raft_start", "%s", err.text);
        agent_end(agent, 1);
    }
}

static void
run_raft_change(struct agent *agent, const struct effect *e)
{
    const uint64_t id = e->raft_server.id;
    int rc = HA_ENOTLEADER;
    struct raft_view view;

    if (agent->consensus == NULL) {
        return;
    }
    if (e->type == EFFECT_RAFT_TRANSFER) {
        rc = consensus_transfer(agent->consensus, id);
    } else if (e->type == EFFECT_RAFT_ADD) {
        rc = consensus_server_add(agent->consensus, id, e->raft_server.address);
    } else {
        rc = consensus_server_remove(agent->consensus, id);
    }
    log_write(rc == HA_OK ? LOG_LEVEL_INFO : LOG_LEVEL_WARN,
              e->type == EFFECT_RAFT_TRANSFER ? "raft_transfer"
              : e->type == EFFECT_RAFT_ADD    ? "raft_add"
                                              : "raft_remove",
              "%s: %s",
              e->raft_server.address,
              err_code_text(rc));
    if (rc != HA_OK) { /* the core must not wait for a change that never began */
        consensus_get_view(agent->consensus, &view);
        agent_consensus_callbacks(agent).on_view(agent, &view);
    }
}

static void
run_reply(struct agent *agent, const struct effect *e)
{
    agent_web_reply(agent, e->reply.token, e->reply.rc, e->reply.text);
}

static void
run_log(struct agent *agent, const struct effect *e)
{
    (void)agent;
    log_write_rule(e->log.level, e->log.rule, e->log.event, "%s", e->log.text);
}

static void
run_exit(struct agent *agent, const struct effect *e)
{
    log_write(e->exit.status == 0 ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR, "exit", "%s", e->exit.why);
    agent->is_again = e->exit.is_again;
    agent_end(agent, e->exit.status);
}

static void (*const TABLE[EFFECT_TYPE_COUNT])(struct agent *, const struct effect *) = {
    [EFFECT_SEND] = run_send,
    [EFFECT_PERSIST] = run_persist,
    [EFFECT_PROPOSE] = run_propose,
    [EFFECT_LEASE] = run_lease,
    [EFFECT_PG] = run_pg,
    [EFFECT_PG_KILL] = run_pg_kill,
    [EFFECT_PG_WATCH] = run_pg_watch,
    [EFFECT_PG_SYNC] = run_pg_sync,
    [EFFECT_PG_GATE] = run_pg_gate,
    [EFFECT_PG_SLOTS] = run_pg_slots,
    [EFFECT_PG_DISCARD] = run_pg_discard,
    [EFFECT_PG_BALLAST] = run_pg_ballast,
    [EFFECT_RAFT_START] = agent_run_raft_start,
    [EFFECT_RAFT_TRANSFER] = run_raft_change,
    [EFFECT_RAFT_ADD] = run_raft_change,
    [EFFECT_RAFT_REMOVE] = run_raft_change,
    [EFFECT_REPLY] = run_reply,
    [EFFECT_GATEWAY] = agent_gateway_run,
    [EFFECT_LOG] = run_log,
    [EFFECT_EXIT] = run_exit,
};

void
agent_run_effects(struct agent *agent, const struct effect_list *effects)
{
    for (uint32_t i = 0; i < effects->n; i++) {
        const struct effect *e = &effects->at[i];

        REQUIRE(e->type < EFFECT_TYPE_COUNT && TABLE[e->type] != NULL, "every effect has a row");
        TABLE[e->type](agent, e);
    }
}

/* ---- members ---- */

static void
add_member(struct agent *agent, const char *address)
{
    if (address[0] == 0 || strcmp(address, agent->config.core.address) == 0 ||
        agent->n_members == HA_COUNT_OF(agent->members)) {
        return;
    }
    for (size_t i = 0; i < agent->n_members; i++) {
        if (strcmp(agent->members[i], address) == 0) {
            return;
        }
    }
    (void)snprintf(agent->members[agent->n_members++], HA_ADDRESS_MAX, "%s", address);
}

/* It has no PostgreSQL: a slot for it would hold back WAL for ever. */
static bool
is_witness(const struct agent *agent, const char *address)
{
    const struct declaration *d = &agent->config.core.declaration;
    const struct member *m = state_member_at(&agent->core.state, address);

    for (size_t i = 0; m == NULL && i < d->n_members; i++) {
        if (strcmp(d->members[i].address, address) == 0) {
            return d->members[i].kind == MEMBER_WITNESS;
        }
    }
    return m != NULL && m->kind == MEMBER_WITNESS;
}

void
agent_follow_members(struct agent *agent)
{
    const struct declaration *d = &agent->config.core.declaration;
    const char *addresses[HA_COUNT_OF(agent->members)];
    size_t n_databases = 0;

    agent->n_members = 0;
    /* Those that are on their way out too: until that is settled a reign is opened with their word
     * as well. And those that are declared: they ask before they are members. */
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        add_member(agent, agent->core.state.members[i].address);
    }
    for (size_t i = 0; i < agent->core.state.declaration.n_members; i++) {
        add_member(agent, agent->core.state.declaration.members[i].address);
    }
    for (size_t i = 0; i < d->n_members; i++) {
        add_member(agent, d->members[i].address);
    }
    for (size_t i = 0; i < agent->n_members; i++) {
        addresses[i] = agent->members[i];
    }
    peer_set_members(agent->link, addresses, agent->n_members);
    for (size_t i = 0; i < agent->n_members; i++) {
        if (!is_witness(agent, agent->members[i])) {
            addresses[n_databases++] = agent->members[i];
        }
    }
    if (agent->postgres != NULL) {
        postgres_set_members(agent->postgres, addresses, n_databases);
    }
}
