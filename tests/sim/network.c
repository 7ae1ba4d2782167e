/* Messages of the agents, and the world below Raft: a link in order, a disk, ticks. */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

/* Of the agents' own messages these may be doubled and overtake each other. */
static bool
is_of_lease(uint8_t kind, uint8_t type)
{
    return kind == SIM_MESSAGE && (type == MESSAGE_LEASE_REQUEST || type == MESSAGE_LEASE_GRANT ||
                                   type == MESSAGE_RELEASE);
}

static void
deliver(struct sim_node *from,
        struct sim_node *to,
        struct sim_event e,
        const void *body,
        bool is_ordered)
{
    struct sim *sim = from->sim;

    e.at = sim->now + sim_between(sim, 200, sim->delay_max);
    if (is_ordered) {
        e.at = e.at <= from->link_at[to->self] ? from->link_at[to->self] + 1 : e.at;
        from->link_at[to->self] = e.at;
    }
    e.body = malloc(e.len);
    REQUIRE(e.body != NULL, "there is memory for a test");
    memcpy(e.body, body, e.len);
    sim_push(sim, e);
}

void
network_send(
    struct sim_node *from, const char *to, uint8_t kind, uint8_t type, const void *body, size_t len)
{
    struct sim *sim = from->sim;
    struct sim_node *peer = sim_node_at(sim, to);
    struct sim_event e = {.kind = kind, .type = type, .from = from->self, .len = len};
    const bool is_lease = is_of_lease(kind, type);

    if (peer == NULL || peer == from || !peer->is_on || sim->cut[from->self][peer->self] != 0 ||
        sim_below(sim, 100) < sim->lose_percent) {
        return;
    }
    e.node = peer->self;
    e.life = peer->life;
    deliver(from, peer, e, body, !is_lease);
    if (is_lease && sim_below(sim, 100) < sim->double_percent) {
        deliver(from, peer, e, body, false);
    }
}

static bool
env_send(struct raft_env *env, const char *to, uint8_t type, const void *body, size_t len)
{
    struct sim_node *n = env->impl;
    const struct sim_node *peer = sim_node_at(n->sim, to);

    if (peer == NULL || !peer->is_on || n->sim->cut[n->self][peer->self] != 0) {
        return sim_below(n->sim, 2) == 0; /* a cut is noticed now and then */
    }
    network_send(n, to, SIM_RAFT_MESSAGE, type, body, len);
    return true;
}

static int64_t
disk_us(struct sim_node *n)
{
    struct sim *sim = n->sim;

    return sim->now < n->slow_disk_until ? sim_between(sim, 50 * SIM_MS, 1500 * SIM_MS)
                                         : sim_between(sim, 300, 4 * SIM_MS);
}

static void
env_disk_submit(struct raft_env *env, struct raft_disk_job *job)
{
    struct sim_node *n = env->impl;

    REQUIRE(n->job == NULL, "one disk job at a time");
    n->job = job;
    agent_push(n, SIM_RAFT_DISK, disk_us(n), 0);
}

static void
tick_later(struct sim_node *n)
{
    const int64_t at = sim_true_at(n, sim_local_ms(n) + n->tick_ms);

    agent_push(n, SIM_RAFT_TICK, at - n->sim->now, 0);
}

static void
env_tick_start(struct raft_env *env, unsigned ms)
{
    struct sim_node *n = env->impl;

    n->tick_ms = ms;
    if (!n->is_ticking) {
        n->is_ticking = true;
        tick_later(n);
    }
}

static void
env_tick_stop(struct raft_env *env)
{
    struct sim_node *n = env->impl;

    n->is_ticking = false;
}

static void
env_wake(struct raft_env *env)
{
    struct sim_node *n = env->impl;

    if (!n->is_turn_due) {
        n->is_turn_due = true;
        agent_push(n, SIM_RAFT_TURN, 0, 0);
    }
}

static int64_t
env_now_ms(struct raft_env *env)
{
    const struct sim_node *n = env->impl;

    return sim_local_ms(n);
}

static uint32_t
env_random(struct raft_env *env)
{
    struct sim_node *n = env->impl;

    return (uint32_t)sim_random(n->sim);
}

void
network_init(struct sim_node *n)
{
    n->env = (struct raft_env){.impl = n,
                               .send = env_send,
                               .disk_submit = env_disk_submit,
                               .tick_start = env_tick_start,
                               .tick_stop = env_tick_stop,
                               .wake = env_wake,
                               .now_ms = env_now_ms,
                               .random = env_random};
}

/* ---- what Raft tells ---- */

static void
on_state(void *data, const struct state *state, uint64_t index)
{
    struct sim_node *n = data;
    struct event e = {.type = EVENT_STATE};

    oracle_on_state(n, state);
    e.state.state = state;
    e.state.index = index;
    agent_give(n, &e);
    n->cache = *state;
    n->cache_index = index;
    if (!n->is_cache_due) {
        n->is_cache_due = true;
        agent_push(n, SIM_CACHE, disk_us(n), 0);
    }
}

static void
on_view(void *data, const struct raft_view *view)
{
    struct sim_node *n = data;
    struct event e = {.type = EVENT_RAFT};

    oracle_on_view(n, view);
    e.raft.role = (uint8_t)view->role;
    e.raft.is_ready = view->is_ready;
    e.raft.is_changing = view->is_changing;
    e.raft.is_uncommitted = view->is_uncommitted;
    e.raft.term = view->term;
    e.raft.leader = view->leader;
    e.raft.n_servers = view->n_servers;
    for (uint32_t i = 0; i < view->n_servers; i++) {
        e.raft.servers[i].id = view->servers[i].id;
        e.raft.servers[i].is_voter = view->servers[i].is_voter;
        memcpy(e.raft.servers[i].address, view->servers[i].address, HA_ADDRESS_MAX);
    }
    agent_give(n, &e);
}

static void
on_fatal(void *data, const char *why)
{
    struct sim_node *n = data;

    sim_trace(n->sim, n, "Raft cannot go on: %s", why);
    if (!n->is_disk_hurt) {
        sim_violation(n->sim, n, "Raft ends without a reason: %s", why);
    }
    if (!n->is_ending) {
        n->is_ending = true;
        agent_push(n, SIM_EXIT, 0, 1);
    }
}

static void
on_log(void *data, int level, const char *event, const char *text)
{
    const struct sim_node *n = data;

    if (level <= LOG_LEVEL_INFO) {
        sim_trace(n->sim, n, "raft %s: %s", event, text);
    }
}

static void
on_apply(void *data, uint64_t index, const void *bytes, size_t len, int rc)
{
    struct sim_node *n = data;
    struct command c;

    oracle_on_apply(n, index, bytes, len);
    if (n->sim->is_trace && command_decode(&c, bytes, len) == HA_OK) {
        sim_trace(n->sim,
                  n,
                  "applies %llu: %s: %s",
                  (unsigned long long)index,
                  command_type_text(c.type),
                  rc == HA_OK ? "done" : err_code_text(rc));
    }
}

static int
open_and_start(struct sim_node *n, const struct effect *e, struct err *err)
{
    struct raft_server_view servers[HA_MEMBERS_MAX];
    const unsigned lease = n->config.declaration.lease_ms;
    const unsigned election = lease / 2 < 300 ? 300 : lease / 2 > 1000 ? 1000 : lease / 2;
    const struct raft_node_config config = {
        .env = &n->env,
        .fs = fs_mem_fs(n->disk),
        .dir = SIM_DIR,
        .id = e->raft_start.id,
        .era = e->raft_start.era,
        .address = n->address,
        .election_ms = election,
        .heartbeat_ms = 50,
        .snapshot_threshold = 24,
        .snapshot_trailing = 8,
        .callbacks = {.data = n,
                      .on_state = on_state,
                      .on_view = on_view,
                      .on_fatal = on_fatal,
                      .on_log = on_log},
        .on_apply = on_apply,
    };
    int rc = raft_node_open(&config, &n->raft, err);

    if (rc != HA_OK) {
        n->raft = NULL;
        return rc;
    }
    for (uint32_t i = 0; i < e->raft_start.n_servers; i++) {
        servers[i].id = member_id(e->raft_start.servers[i].address, 1);
        servers[i].is_voter = true;
        memcpy(servers[i].address, e->raft_start.servers[i].address, HA_ADDRESS_MAX);
    }
    if (e->raft_start.is_bootstrap) {
        rc = raft_node_bootstrap(n->raft, servers, e->raft_start.n_servers, err);
        if (rc != HA_OK && rc != HA_EEXIST) {
            return rc;
        }
    }
    return raft_node_start(n->raft, err);
}

bool
network_raft_start(struct sim_node *n, const struct effect *e)
{
    struct err err = {0};

    if (open_and_start(n, e, &err) == HA_OK) {
        return true;
    }
    sim_trace(n->sim, n, "Raft does not start: %s", err.text);
    if (!n->is_disk_hurt) {
        sim_violation(n->sim, n, "Raft does not start: %s", err.text);
    }
    return false;
}

void
network_raft_end(struct sim_node *n, bool with_power)
{
    struct raft_disk_job *job = n->job;

    n->job = NULL;
    if (n->raft != NULL) {
        if (job != NULL) { /* it got some way, or none */
            job->was_canceled = !with_power;
            if (with_power) {
                job->run(job);
            }
            raft_node_close(n->raft, NULL, NULL);
            job->done(job);
        } else {
            raft_node_close(n->raft, NULL, NULL);
        }
        raft_node_turn(n->raft);
        n->raft = NULL;
    }
    n->is_ticking = false;
    n->is_turn_due = false;
}

void
network_on_event(struct sim_node *n, const struct sim_event *e)
{
    struct raft_disk_job *job = n->job;

    if (e->kind == SIM_RAFT_TURN) {
        n->is_turn_due = false;
    }
    if (n->raft == NULL) {
        return;
    }
    if (e->kind == SIM_RAFT_MESSAGE) {
        raft_node_receive(n->raft, n->sim->nodes[e->from].address, e->type, e->body, e->len);
    } else if (e->kind == SIM_RAFT_TICK) {
        if (n->is_ticking) {
            tick_later(n);
            raft_node_tick(n->raft);
        }
    } else if (e->kind == SIM_RAFT_TURN) {
        raft_node_turn(n->raft);
    } else if (e->kind == SIM_RAFT_DISK && job != NULL) {
        n->job = NULL;
        job->run(job);
        job->done(job);
    } else if (e->kind == SIM_RAFT_VIEW) {
        struct raft_view view;

        raft_node_get_view(n->raft, &view);
        on_view(n, &view);
    }
}
