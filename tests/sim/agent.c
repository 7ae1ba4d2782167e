/* An agent's life: it starts, steps, has its effects carried out, and dies. agent/shell does the
 * same in the world. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/durable.h"
#include "tests/sim/sim.h"

void
agent_push(struct sim_node *n, uint8_t kind, int64_t after, int rc)
{
    sim_push(
        n->sim,
        (struct sim_event){
            .at = n->sim->now + after, .kind = kind, .node = n->self, .life = n->life, .rc = rc});
}

static int64_t
disk_us(struct sim_node *n)
{
    struct sim *sim = n->sim;

    return sim->now < n->slow_disk_until ? sim_between(sim, 100 * SIM_MS, 3000 * SIM_MS)
                                         : sim_between(sim, 500, 5 * SIM_MS);
}

static void
end_soon(struct sim_node *n, int status)
{
    if (!n->is_ending) {
        n->is_ending = true;
        agent_push(n, SIM_EXIT, 0, status);
    }
}

/* ---- effects ---- */

static void
run_send(struct sim_node *n, const struct effect *e)
{
    uint8_t bytes[MESSAGE_BYTES_MAX];
    const size_t len = agent_message_encode(&e->send.message, bytes, sizeof bytes);

    REQUIRE(len > 0, "every message fits");
    for (unsigned k = 0; k < n->sim->n; k++) {
        const char *to = n->sim->nodes[k].address;

        if (e->send.to[0] == 0 || strcmp(e->send.to, to) == 0) {
            network_send(n, to, SIM_MESSAGE, e->send.message.type, bytes, len);
        }
    }
}

static void
proposed(void *data, int rc)
{
    struct sim_node *n = data;

    if (n->is_on) {
        agent_push(n, SIM_PROPOSED, 0, rc);
    }
}

static void
run_propose(struct sim_node *n, const struct effect *e)
{
    const int rc =
        n->raft == NULL ? HA_ENOTLEADER : raft_node_propose(n->raft, &e->propose, proposed, n);

    if (rc != HA_OK) {
        proposed(n, rc);
    }
}

static void
run_persist(struct sim_node *n, const struct effect *e)
{
    n->persist = e->persist;
    n->is_persisting = true;
    agent_push(n, SIM_PERSIST, disk_us(n), 0);
}

static void
run_raft_change(struct sim_node *n, const struct effect *e)
{
    int rc = HA_ENOTLEADER;

    if (n->raft == NULL) {
        return;
    }
    if (e->type == EFFECT_RAFT_TRANSFER) {
        rc = raft_node_transfer(n->raft, e->raft_server.id);
    } else if (e->type == EFFECT_RAFT_ADD) {
        rc = raft_node_server_add(n->raft, e->raft_server.id, e->raft_server.address);
    } else {
        rc = raft_node_server_remove(n->raft, e->raft_server.id);
    }
    sim_trace(n->sim,
              n,
              "raft %s %s: %s",
              e->type == EFFECT_RAFT_TRANSFER ? "transfer to"
              : e->type == EFFECT_RAFT_ADD    ? "add"
                                              : "remove",
              e->raft_server.address,
              rc == HA_OK ? "begun" : err_code_text(rc));
    if (rc != HA_OK) {
        agent_push(n, SIM_RAFT_VIEW, 0, 0);
    }
}

static void
run_effect(struct sim_node *n, const struct effect *e)
{
    oracle_on_effect(n, e);
    switch ((enum effect_type)e->type) {
    case EFFECT_SEND:
        run_send(n, e);
        break;
    case EFFECT_PERSIST:
        run_persist(n, e);
        break;
    case EFFECT_PROPOSE:
        run_propose(n, e);
        break;
    case EFFECT_LEASE:
        postgres_set_page(n, e->lease.deadline.ms, e->lease.reign);
        break;
    case EFFECT_PG:
        n->pg.promote_to = e->pg.next;
        postgres_begin_op(n, e->pg.op, e->pg.from);
        break;
    case EFFECT_PG_KILL:
        postgres_set_page(n, 0, 0);
        postgres_kill_in(n, sim_between(n->sim, 2 * SIM_MS, 60 * SIM_MS));
        break;
    case EFFECT_PG_WATCH:
        n->is_watched = e->pg_watch.is_on;
        break;
    case EFFECT_PG_SYNC:
        sync_tell(n, &e->pg_sync);
        break;
    case EFFECT_PG_GATE:
        n->pg.sync.is_closed = !e->pg_gate.is_open;
        break;
    case EFFECT_PG_SLOTS:
        break;
    case EFFECT_PG_DISCARD:
        postgres_discard(n);
        break;
    case EFFECT_PG_BALLAST:
        break;
    case EFFECT_RAFT_START:
        if (!network_raft_start(n, e)) {
            end_soon(n, 1);
        }
        break;
    case EFFECT_RAFT_TRANSFER:
    case EFFECT_RAFT_ADD:
    case EFFECT_RAFT_REMOVE:
        run_raft_change(n, e);
        break;
    case EFFECT_LOG:
        sim_trace(n->sim, n, "%s %u %s", e->log.event, e->log.rule, e->log.text);
        break;
    case EFFECT_EXIT:
        sim_trace(n->sim, n, "exit %d: %s", e->exit.status, e->exit.why);
        end_soon(n, e->exit.status);
        break;
    case EFFECT_REPLY:
    case EFFECT_GATEWAY:
    case EFFECT_TYPE_COUNT:
    default:
        break;
    }
}

/* ---- steps ---- */

static void
arm_timer(struct sim_node *n)
{
    const int64_t at = sim_true_at(n, core_wakeup_at(&n->core).ms);

    if (n->timer_at == 0 || at < n->timer_at) {
        n->timer_at = at;
        agent_push(n, SIM_TIMER, at - n->sim->now, 0);
    }
}

void
agent_give(struct sim_node *n, struct event *event)
{
    struct sim *sim = n->sim;

    if (!n->is_on || n->is_ending) {
        return;
    }
    event->now = mono_ms(sim_local_ms(n));
    event->wall_ms = (uint64_t)(sim->now / SIM_MS) + 1000;
    decide_step(&n->core, event, &sim->effects);
    ENSURE(mono_before(event->now, core_wakeup_at(&n->core)), "what is due was done");
    sim->n_steps++;
    for (uint32_t i = 0; i < sim->effects.n; i++) {
        run_effect(n, &sim->effects.at[i]);
    }
    arm_timer(n);
}

static void
give_facts(struct sim_node *n)
{
    struct event e = {.type = EVENT_PG_FACTS};

    postgres_facts(n, &e.pg);
    agent_give(n, &e);
}

static void
give_message(struct sim_node *n, const struct sim_event *e)
{
    struct message m;
    struct event event = {.type = EVENT_MESSAGE};

    REQUIRE(agent_message_decode(&m, e->type, e->body, e->len) == HA_OK,
            "what was encoded can be read");
    event.message.from = n->sim->nodes[e->from].address;
    event.message.message = &m;
    agent_give(n, &event);
}

static void
finish_persist(struct sim_node *n)
{
    struct event e = {.type = EVENT_PERSISTED};
    struct err err = {0};

    n->is_persisting = false;
    e.persisted.rc = durable_save(fs_mem_fs(n->disk), SIM_DIR, &n->persist, &err);
    if (e.persisted.rc == HA_OK) {
        n->saved = n->persist;
        n->has_saved = true;
    } else if (!n->is_disk_hurt) {
        sim_violation(n->sim, n, "the durable record is refused without a reason: %s", err.text);
    }
    agent_give(n, &e);
}

static void
on_timer(struct sim_node *n, const struct sim_event *e)
{
    struct event tick = {.type = EVENT_TICK};

    if (e->at != n->timer_at && n->timer_at > n->sim->now) {
        return; /* a sooner one has been armed and fired */
    }
    n->timer_at = 0;
    if (mono_reached(mono_ms(sim_local_ms(n)), core_wakeup_at(&n->core))) {
        agent_give(n, &tick);
    } else {
        arm_timer(n);
    }
}

/* The look that comes by itself; facts that changed come at once besides. */
static void
on_look(struct sim_node *n)
{
    struct event e = {.type = EVENT_PG_SYNC};

    give_facts(n);
    if (n->pg.run == PG_RUN_UP) {
        sync_facts(n, &e.pg_sync);
        agent_give(n, &e);
    }
    agent_push(n, SIM_LOOK, (n->is_watched ? 5 : 100) * SIM_MS, 0);
}

static void
on_done(struct sim_node *n, const struct sim_event *e)
{
    struct event done = {.type = EVENT_PG_DONE};

    give_facts(n);
    done.pg_done.op = e->type;
    done.pg_done.rc = e->rc;
    done.pg_done.text = "";
    agent_give(n, &done);
}

void
agent_on_event(struct sim_node *n, const struct sim_event *e)
{
    struct event event = {0};

    switch ((enum sim_event_kind)e->kind) {
    case SIM_MESSAGE:
        give_message(n, e);
        break;
    case SIM_TIMER:
        on_timer(n, e);
        break;
    case SIM_PROPOSED:
        event.type = EVENT_PROPOSED;
        event.proposed.counter = n->core.proposal.counter;
        event.proposed.rc = e->rc;
        agent_give(n, &event);
        break;
    case SIM_PERSIST:
        finish_persist(n);
        break;
    case SIM_CACHE:
        n->is_cache_due = false;
        (void)state_cache_save(fs_mem_fs(n->disk), SIM_DIR, &n->cache, n->cache_index);
        break;
    case SIM_FACTS:
        n->is_facts_due = false;
        give_facts(n);
        break;
    case SIM_LOOK:
        on_look(n);
        break;
    case SIM_PG_DONE:
        on_done(n, e);
        break;
    case SIM_STOP:
        event.type = EVENT_STOP;
        agent_give(n, &event);
        break;
    case SIM_EXIT:
        agent_die(n, false);
        break;
    case SIM_RAFT_MESSAGE:
    case SIM_RAFT_TICK:
    case SIM_RAFT_TURN:
    case SIM_RAFT_DISK:
    case SIM_RAFT_VIEW:
    case SIM_OF_AGENT:
    case SIM_PG_OP:
    case SIM_PG_KILL:
    case SIM_PG_GUARD:
    case SIM_PG_WRITE:
    case SIM_PG_PULL:
    case SIM_PG_RELOAD:
    case SIM_OF_NODE:
    case SIM_BOOT:
    case SIM_FAULT:
    case SIM_FAULT_END:
    case SIM_REDEPLOY:
    default:
        network_on_event(n, e);
        break;
    }
}

/* ---- birth and death ---- */

void
agent_die(struct sim_node *n, bool with_power)
{
    struct sim *sim = n->sim;
    int64_t pause = sim_between(sim, 300 * SIM_MS, 3000 * SIM_MS);

    if (!n->is_on) {
        return;
    }
    sim_trace(sim, n, with_power ? "the power goes" : "the agent ends");
    if (with_power && !fs_mem_is_off(n->disk)) {
        fs_mem_power_off_at(n->disk, 1 + sim_below(sim, 12));
    }
    if (n->is_persisting && sim_below(sim, 2) == 0) {
        const int rc = durable_save(fs_mem_fs(n->disk), SIM_DIR, &n->persist, NULL);

        (void)rc; /* nobody hears of it */
    }
    n->is_on = false;
    network_raft_end(n, with_power);
    n->is_ending = false;
    n->is_persisting = false;
    n->is_cache_due = false;
    n->is_facts_due = false;
    n->is_watched = false;
    n->timer_at = 0;
    n->life++;
    fs_mem_restart(n->disk,
                   with_power ? (enum fs_mem_loss)(1 + sim_below(sim, FS_MEM_LOSS_COUNT - 1))
                              : FS_MEM_ALL_STAY);
    if (with_power) {
        postgres_stop_dirty(n, 0, false);
        postgres_set_page(n, 0, 0);
        n->agent_frozen_until = 0;
        n->node_frozen_until = 0;
        n->clock_zero = sim->now;
        n->clock_base = sim_between(sim, 5000, 100000);
        pause = sim_between(sim, 1000 * SIM_MS, 8000 * SIM_MS);
    } else {
        postgres_kill_in(n, sim_between(sim, 1 * SIM_MS, 60 * SIM_MS));
    }
    if (n->is_wanted) {
        sim_push(sim,
                 (struct sim_event){
                     .at = sim->now + pause, .kind = SIM_BOOT, .node = n->self, .life = n->life});
    }
}

/* What the disk remembers; each start is counted there before anything is said. */
static bool
load_memory(struct sim_node *n, struct durable *durable)
{
    struct err err = {0};
    int rc = durable_load(fs_mem_fs(n->disk), SIM_DIR, durable, &err);

    if (rc == HA_ENOTFOUND) {
        memset(durable, 0, sizeof *durable);
        durable->nonce = sim_random(n->sim) | 1;
        rc = HA_OK;
    }
    if (rc == HA_OK) {
        rc = durable_discard_rest(fs_mem_fs(n->disk), SIM_DIR, durable, &err);
    }
    if (rc == HA_OK) {
        oracle_on_load(n, durable);
        durable->boots++;
        rc = durable_save(fs_mem_fs(n->disk), SIM_DIR, durable, &err);
    }
    if (rc == HA_OK) {
        n->saved = *durable;
        n->has_saved = true;
        return true;
    }
    sim_trace(n->sim, n, "does not start: %s", err.text);
    if (!n->is_disk_hurt) {
        sim_violation(n->sim, n, "the agent does not start: %s", err.text);
    }
    return false;
}

static void
boot_later(struct sim_node *n, int64_t after)
{
    sim_push(n->sim,
             (struct sim_event){
                 .at = n->sim->now + after, .kind = SIM_BOOT, .node = n->self, .life = n->life});
}

void
agent_boot(struct sim_node *n)
{
    struct durable durable;
    struct state *remembered = calloc(1, sizeof *remembered);
    uint64_t index = 0;
    bool has_memory;

    REQUIRE(remembered != NULL, "there is memory for a test");
    if (n->sim->is_member[n->self]) { /* the others keep the environment that they had */
        n->config.declaration = n->sim->declaration;
    }
    if (n->is_on || !n->is_wanted || n->config.declaration.n_members == 0) {
        free(remembered);
        return;
    }
    if (n->pg.kill_at != 0 || n->node_frozen_until > n->sim->now) { /* the volume is locked */
        free(remembered);
        boot_later(n, 50 * SIM_MS);
        return;
    }
    if (n->n_disk_bad == 0) {
        n->is_disk_hurt = false;
    }
    if (!load_memory(n, &durable)) {
        free(remembered);
        boot_later(n, 1000 * SIM_MS);
        return;
    }
    has_memory = state_cache_load(fs_mem_fs(n->disk), SIM_DIR, remembered, &index) == HA_OK;
    n->is_on = true;
    n->is_restarting = false;
    n->agent_frozen_until = 0;
    n->max_reign = 0;
    n->pg.sync.is_closed = false;
    n->config.random = sim_random(n->sim) | 1;
    postgres_set_page(n, 0, 0);
    core_init(&n->core,
              &n->config,
              &durable,
              has_memory ? remembered : NULL,
              index,
              mono_ms(sim_local_ms(n)));
    free(remembered);
    sim_trace(n->sim,
              n,
              "starts for the %lluth time, reign %llu, primary declared: %s",
              (unsigned long long)durable.boots,
              (unsigned long long)n->core.state.reign,
              n->config.declaration.primary);
    on_look(n);
}
