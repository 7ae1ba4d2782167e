#include "tests/lib/raft_sim.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/raft_sim_event.h"

#define ELECTION_MS 300
#define HEARTBEAT_MS 50

_Noreturn void
sim_die(const struct sim *sim, const char *fmt, ...)
{
    va_list args;

    (void)fprintf(stderr, "seed %" PRIu64 " at %" PRId64 " ms: ", sim->seed, sim->now);
    va_start(args, fmt);
    (void)vfprintf(stderr, fmt, args);
    va_end(args);
    (void)fprintf(stderr, "\n");
    abort();
}

void
sim_print(const struct sim *sim)
{
    for (int i = 0; i < sim->n; i++) {
        const struct sim_node *n = &sim->nodes[i];
        struct raft_view v = {0};

        if (n->node != NULL) {
            raft_node_get_view(n->node, &v);
        }
        (void)fprintf(stderr,
                      "%s id %" PRIu64 " role %d ready %d changing %d term %" PRIu64
                      " leader %s commit %" PRIu64 " applied %" PRIu64 " last %" PRIu64
                      " proposing %d servers",
                      n->address,
                      n->id,
                      (int)v.role,
                      v.is_ready,
                      v.is_changing,
                      v.term,
                      v.leader_address,
                      v.commit_index,
                      v.applied_index,
                      v.last_index,
                      n->has_command);
        for (uint32_t j = 0; j < v.n_servers; j++) {
            (void)fprintf(
                stderr, " %s%s", v.servers[j].address, v.servers[j].is_voter ? "" : "(spare)");
        }
        (void)fprintf(stderr, "\n");
    }
}

uint64_t
sim_random(struct sim *sim)
{
    /* splitmix64 */
    uint64_t z = sim->chance += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

unsigned
sim_below(struct sim *sim, unsigned n)
{
    return n == 0 ? 0 : (unsigned)(sim_random(sim) % n);
}

static struct sim_node *
node_at(struct sim *sim, const char *address)
{
    for (int i = 0; i < sim->n; i++) {
        if (strcmp(sim->nodes[i].address, address) == 0) {
            return &sim->nodes[i];
        }
    }
    return NULL;
}

static void
deliver_later(struct sim *sim,
              const struct sim_node *from,
              const struct sim_node *to,
              uint8_t type,
              const void *body,
              size_t len)
{
    struct sim_event e = {.at = sim->now + 1 + sim_below(sim, sim->delay_ms_max),
                          .kind = EVENT_MESSAGE,
                          .node = to->self,
                          .life = to->life,
                          .from = from->self,
                          .type = type,
                          .len = len};
    e.body = malloc(len);
    if (e.body == NULL) {
        sim_die(sim, "out of memory");
    }
    memcpy(e.body, body, len);
    sim_event_push(sim, e);
}

static bool
env_send(struct raft_env *env, const char *to, uint8_t type, const void *body, size_t len)
{
    struct sim_node *from = env->impl;
    struct sim *sim = from->sim;
    struct sim_node *peer = node_at(sim, to);

    if (peer == NULL || peer->node == NULL || sim->is_cut[from->self][peer->self]) {
        /* A cut is noticed now and then. */
        return peer != NULL && sim_below(sim, 2) == 0;
    }
    if (sim_below(sim, 100) >= sim->lose_percent) {
        deliver_later(sim, from, peer, type, body, len);
        if (sim_below(sim, 100) < sim->double_percent) {
            deliver_later(sim, from, peer, type, body, len);
        }
    }
    return true;
}

static void
env_disk_submit(struct raft_env *env, struct raft_disk_job *job)
{
    struct sim_node *n = env->impl;
    struct sim *sim = n->sim;

    if (n->job != NULL) {
        sim_die(sim, "two disk jobs at once");
    }
    n->job = job;
    sim_event_push(sim,
                   (struct sim_event){.at = sim->now + sim_below(sim, sim->disk_ms_max + 1),
                                      .kind = EVENT_DISK,
                                      .node = n->self,
                                      .life = n->life});
}

static void
tick_later(struct sim_node *n)
{
    sim_event_push(
        n->sim,
        (struct sim_event){
            .at = n->sim->now + n->tick_ms, .kind = EVENT_TICK, .node = n->self, .life = n->life});
}

static void
env_tick_start(struct raft_env *env, unsigned ms)
{
    struct sim_node *n = env->impl;

    n->tick_ms = ms;
    n->is_ticking = true;
    tick_later(n);
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
        sim_event_push(
            n->sim,
            (struct sim_event){
                .at = n->sim->now, .kind = EVENT_TURN, .node = n->self, .life = n->life});
    }
}

static int64_t
env_now_ms(struct raft_env *env)
{
    const struct sim_node *n = env->impl;

    return n->sim->now;
}

static uint32_t
env_random(struct raft_env *env)
{
    struct sim_node *n = env->impl;

    return (uint32_t)sim_random(n->sim);
}

static uint64_t
hash(const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < len; i++) {
        h = (h ^ at[i]) * 0x100000001b3u;
    }
    return h | 1;
}

/* All nodes apply the same command at the same index, in this life and in every other. */
static void
on_apply(void *data, uint64_t index, const void *bytes, size_t len, int rc)
{
    struct sim_node *n = data;
    struct sim *sim = n->sim;
    const uint64_t h = hash(bytes, len);

    (void)rc;
    if (index >= SIM_INDEX_MAX) {
        sim_die(sim, "the run is too long for the table");
    }
    if (sim->entry_at[index] != 0 && sim->entry_at[index] != h) {
        sim_die(sim,
                "%s applies another command at %" PRIu64 " than was applied before",
                n->address,
                index);
    }
    if (index <= n->applied) {
        sim_die(sim, "%s applies %" PRIu64 " after %" PRIu64, n->address, index, n->applied);
    }
    n->applied = index;
    sim->entry_at[index] = h;
    if (index > sim->last_entry) {
        sim->last_entry = index;
    }
}

static void
on_view(void *data, const struct raft_view *view)
{
    struct sim_node *n = data;
    struct sim *sim = n->sim;

    n->view = *view;
    if (view->role != RAFT_ROLE_LEADER) {
        return;
    }
    if (view->term >= SIM_TERM_MAX) {
        sim_die(sim, "term %" PRIu64 " is beyond the table", view->term);
    }
    if (sim->leader_of[view->term] != 0 && sim->leader_of[view->term] != n->id) {
        sim_print(sim);
        sim_die(sim, "term %" PRIu64 " has two leaders, now %s", view->term, n->address);
    }
    sim->leader_of[view->term] = n->id;
}

static void
on_fatal(void *data, const char *why)
{
    struct sim_node *n = data;

    if (!fs_mem_is_off(n->disk)) {
        sim_die(n->sim, "%s fails without a reason: %s", n->address, why);
    }
    n->has_failed = true;
}

static void
on_log(void *data, int level, const char *event, const char *text)
{
    struct sim_node *n = data;

    if (getenv("SIM_LOG") != NULL) {
        (void)fprintf(
            stderr, "%" PRId64 " %s %d %s: %s\n", n->sim->now, n->address, level, event, text);
    }
}

static void
init_node(struct sim *sim, int i)
{
    struct sim_node *n = &sim->nodes[i];

    n->sim = sim;
    n->self = i;
    n->disk = fs_mem_new(sim_random(sim));
    (void)snprintf(n->address, sizeof n->address, "10.0.0.%d", i + 1);
    n->incarnation = 1;
    n->id = member_id(n->address, n->incarnation);
    n->env = (struct raft_env){.impl = n,
                               .send = env_send,
                               .disk_submit = env_disk_submit,
                               .tick_start = env_tick_start,
                               .tick_stop = env_tick_stop,
                               .wake = env_wake,
                               .now_ms = env_now_ms,
                               .random = env_random};
}

static void
open_node(struct sim *sim, int i)
{
    struct sim_node *n = &sim->nodes[i];
    struct err err = {0};
    const struct raft_node_config config = {
        .env = &n->env,
        .fs = fs_mem_fs(n->disk),
        .dir = "/raft",
        .id = n->id,
        .address = n->address,
        .election_ms = ELECTION_MS,
        .heartbeat_ms = HEARTBEAT_MS,
        .snapshot_threshold = sim->snapshot_threshold,
        .snapshot_trailing = sim->snapshot_trailing,
        .callbacks = {.data = n, .on_view = on_view, .on_fatal = on_fatal, .on_log = on_log},
        .on_apply = on_apply,
    };

    if (raft_node_open(&config, &n->node, &err) != HA_OK) {
        sim_die(sim, "%s does not open: %s", n->address, err.text);
    }
}

struct sim *
sim_new(uint64_t seed, int n)
{
    struct sim *sim = calloc(1, sizeof *sim);
    struct raft_server_view servers[SIM_NODES_MAX];
    struct err err = {0};

    if (sim == NULL) {
        abort();
    }
    sim->seed = seed;
    sim->chance = seed;
    sim->n = n;
    sim->delay_ms_max = 5;
    sim->disk_ms_max = 3;
    for (int i = 0; i < n; i++) {
        init_node(sim, i);
        servers[i] = (struct raft_server_view){.id = sim->nodes[i].id, .is_voter = true};
        memcpy(servers[i].address, sim->nodes[i].address, HA_ADDRESS_MAX);
    }
    for (int i = 0; i < n; i++) {
        open_node(sim, i);
        if (raft_node_bootstrap(sim->nodes[i].node, servers, (size_t)n, &err) != HA_OK) {
            sim_die(sim, "bootstrap: %s", err.text);
        }
        sim_crash(sim, i, false);
    }
    sim->n_crashes = 0;
    return sim;
}

void
sim_free(struct sim *sim)
{
    for (int i = 0; i < sim->n; i++) {
        sim_crash(sim, i, false);
        fs_mem_free(sim->nodes[i].disk);
    }
    while (sim->n_events > 0) {
        free(sim_event_pop(sim).body);
    }
    free(sim->events);
    free(sim);
}

void
sim_start(struct sim *sim, int i)
{
    struct sim_node *n = &sim->nodes[i];
    struct err err = {0};

    open_node(sim, i);
    n->applied = 0;
    n->has_failed = false;
    memset(&n->view, 0, sizeof n->view);
    if (raft_node_start(n->node, &err) != HA_OK) {
        sim_die(sim, "%s does not start: %s", n->address, err.text);
    }
    /* Entries before the snapshot are not applied again. */
    raft_node_get_view(n->node, &n->view);
    n->applied = n->view.applied_index;
}

void
sim_crash(struct sim *sim, int i, bool with_power)
{
    struct sim_node *n = &sim->nodes[i];

    if (n->node == NULL) {
        return;
    }
    sim->n_crashes++;
    if (with_power && !fs_mem_is_off(n->disk)) {
        fs_mem_power_off_at(n->disk, 1 + sim_below(sim, 3));
    }
    if (n->job != NULL) {
        struct raft_disk_job *job = n->job;
        n->job = NULL;
        /* The job that was under way got some way, or none. */
        job->was_canceled = !with_power;
        if (with_power) {
            job->run(job);
        }
        raft_node_close(n->node, NULL, NULL);
        job->done(job);
    } else {
        raft_node_close(n->node, NULL, NULL);
    }
    n->is_in_flight = false;
    raft_node_turn(n->node);
    n->node = NULL;
    n->life++;
    n->is_turn_due = false;
    fs_mem_restart(n->disk,
                   with_power ? (enum fs_mem_loss)sim_below(sim, FS_MEM_LOSS_COUNT)
                              : FS_MEM_ALL_STAY);
}

int
sim_add_node(struct sim *sim)
{
    const int i = sim->n++;

    if (i >= SIM_NODES_MAX) {
        sim_die(sim, "too many nodes");
    }
    init_node(sim, i);
    sim->nodes[i].is_stranger = true;
    sim_start(sim, i);
    return i;
}

static void
event_run(struct sim *sim, const struct sim_event *e)
{
    struct sim_node *n = &sim->nodes[e->node];

    if (n->node == NULL || e->life != n->life) {
        return;
    }
    switch (e->kind) {
    case EVENT_MESSAGE:
        if (!sim->is_cut[e->from][e->node]) {
            raft_node_receive(n->node, sim->nodes[e->from].address, e->type, e->body, e->len);
        }
        break;
    case EVENT_TICK:
        if (n->is_ticking) {
            tick_later(n);
            raft_node_tick(n->node);
        }
        break;
    case EVENT_TURN:
        n->is_turn_due = false;
        raft_node_turn(n->node);
        break;
    case EVENT_DISK: {
        struct raft_disk_job *job = n->job;
        n->job = NULL;
        job->run(job);
        job->done(job);
        break;
    }
    }
}

bool
sim_run(struct sim *sim, int64_t until, bool (*is_done)(struct sim *sim))
{
    while (sim->n_events > 0 && sim->events[0].at <= until) {
        struct sim_event e = sim_event_pop(sim);
        sim->now = e.at;
        event_run(sim, &e);
        free(e.body);
        if (is_done != NULL && is_done(sim)) {
            return true;
        }
    }
    sim->now = until;
    return is_done != NULL && is_done(sim);
}

int
sim_leader(const struct sim *sim)
{
    for (int i = 0; i < sim->n; i++) {
        if (sim->nodes[i].node != NULL && sim->nodes[i].view.is_ready) {
            return i;
        }
    }
    return -1;
}

bool
sim_is_voter(const struct raft_view *view, uint64_t id)
{
    for (uint32_t i = 0; i < view->n_servers; i++) {
        if (view->servers[i].id == id) {
            return view->servers[i].is_voter;
        }
    }
    return false;
}

bool
sim_is_settled(struct sim *sim)
{
    struct raft_view lead;
    const int leader = sim_leader(sim);

    if (leader < 0) {
        return false;
    }
    raft_node_get_view(sim->nodes[leader].node, &lead);
    for (int i = 0; i < sim->n; i++) {
        struct raft_view view;
        if (sim->nodes[i].node == NULL || !sim_is_voter(&lead, sim->nodes[i].id)) {
            continue;
        }
        raft_node_get_view(sim->nodes[i].node, &view);
        if (view.leader != lead.leader || view.applied_index != lead.last_index ||
            sim->nodes[i].has_command) {
            return false;
        }
    }
    return true;
}

void
sim_replace_disk(struct sim *sim, int i)
{
    struct sim_node *n = &sim->nodes[i];

    sim_crash(sim, i, false);
    fs_mem_free(n->disk);
    n->disk = fs_mem_new(sim_random(sim));
    n->id = member_id(n->address, ++n->incarnation);
    n->is_stranger = true;
    n->has_command = false;
    sim_start(sim, i);
}
