#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int64_t
sim_local_ms(const struct sim_node *n)
{
    const int64_t us = n->sim->now - n->clock_zero;

    return n->clock_base + (us + us * n->ppm / 1000000) / SIM_MS;
}

int64_t
sim_true_at(const struct sim_node *n, int64_t local_ms)
{
    const int64_t wait = (local_ms - sim_local_ms(n)) * SIM_MS;

    return n->sim->now + (wait <= 0 ? 1 : wait - wait * n->ppm / 1000000);
}

/* Both are there and the way is open; a frozen machine's kernel holds what comes. */
bool
sim_is_linked(const struct sim *sim, unsigned from, unsigned to)
{
    return sim->cut[from][to] == 0;
}

struct sim_node *
sim_node_at(struct sim *sim, const char *address)
{
    for (unsigned i = 0; i < sim->n; i++) {
        if (strcmp(sim->nodes[i].address, address) == 0) {
            return &sim->nodes[i];
        }
    }
    return NULL;
}

static void say(const struct sim *sim, const struct sim_node *n, const char *fmt, va_list args)
    HA_PRINTF(3, 0);

static void
say(const struct sim *sim, const struct sim_node *n, const char *fmt, va_list args)
{
    if (n != NULL) {
        (void)printf("%10.3f node%u ", (double)sim->now / 1e6, n->self + 1U);
    } else {
        (void)printf("%10.3f       ", (double)sim->now / 1e6);
    }
    (void)vprintf(fmt, args);
    (void)printf("\n");
}

void
sim_trace(const struct sim *sim, const struct sim_node *n, const char *fmt, ...)
{
    va_list args;

    if (sim->is_trace) {
        va_start(args, fmt);
        say(sim, n, fmt, args);
        va_end(args);
    }
}

void
sim_violation(struct sim *sim, const struct sim_node *n, const char *fmt, ...)
{
    va_list args;
    char text[300];

    if (sim->is_broken) {
        return;
    }
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    sim->is_broken = true;
    (void)snprintf(sim->broken,
                   sizeof sim->broken,
                   "at %.3f s, node%d: %s",
                   (double)sim->now / 1e6,
                   n == NULL ? 0 : n->self + 1,
                   text);
    sim_trace(sim, n, "VIOLATION: %s", text);
}

/* ---- a new world ---- */

/* Half of the worlds replicate asynchronously. */
static uint8_t
draw_sync(struct sim *sim, unsigned n_witnesses)
{
    static const uint8_t MODES[] = {
        SYNC_OFF, SYNC_OFF, SYNC_OFF, SYNC_ON, SYNC_ON, SYNC_QUORUM, SYNC_QUORUM, SYNC_STRICT};
    const uint8_t mode = MODES[sim_below(sim, HA_COUNT_OF(MODES))];

    sim->has_hidden_pauses = mode >= SYNC_QUORUM && sim_below(sim, 3) == 0;
    return sim->n - n_witnesses < 2 ? (uint8_t)SYNC_OFF : mode;
}

static void
make_declaration(struct sim *sim, unsigned n_witnesses)
{
    struct declaration *d = &sim->declaration;
    static const uint32_t LEASES[] = {1000, 2000, 2000, 3000, 5000};

    memset(d, 0, sizeof *d);
    d->lease_ms = LEASES[sim_below(sim, HA_COUNT_OF(LEASES))];
    d->failover = sim_below(sim, 100) < 65 ? FAILOVER_AUTO : FAILOVER_DECLARED;
    d->sync = draw_sync(sim, n_witnesses);
    for (unsigned i = 0; i < sim->n; i++) {
        if (sim->is_member[i]) {
            struct member_spec *m = &d->members[d->n_members++];

            memcpy(m->address, sim->nodes[i].address, HA_ADDRESS_MAX);
            m->kind = i >= sim->n - n_witnesses ? MEMBER_WITNESS : MEMBER_DATABASE;
        }
    }
    memcpy(d->primary, sim->nodes[0].address, HA_ADDRESS_MAX);
    declaration_sort(d);
    REQUIRE(declaration_fault(d) == NULL, "the declaration is without fault");
}

static void
make_node(struct sim *sim, unsigned i)
{
    struct sim_node *n = &sim->nodes[i];

    n->sim = sim;
    n->self = (uint8_t)i;
    (void)snprintf(n->address, sizeof n->address, "10.0.0.%u", i + 1);
    n->clock_base = sim_between(sim, 5000, 1000000);
    n->ppm = sim_between(sim, -4950, 4951); /* two of them differ by less than rho */
    n->disk = fs_mem_new(sim_random(sim));
    n->is_wanted = true;
    n->life = 1;
    network_init(n);
    postgres_lose_data(n);
    memcpy(n->config.address, n->address, HA_ADDRESS_MAX);
    (void)snprintf(n->config.name, sizeof n->config.name, "node%u", i + 1);
    n->config.boot_grace_ms = 15000;
    sim->is_member[i] = true;
}

struct sim *
sim_new(uint64_t seed, int64_t faults_ms)
{
    struct sim *sim = calloc(1, sizeof *sim);
    static const struct {
        uint8_t n;
        uint8_t n_witnesses;
        uint8_t n_spares; /* declared later, if at all */
    } SHAPES[] = {{3, 0, 0},
                  {3, 0, 0},
                  {3, 0, 0},
                  {3, 1, 0},
                  {3, 1, 0},
                  {2, 0, 0},
                  {5, 0, 0},
                  {4, 0, 0},
                  {5, 2, 0},
                  {2, 0, 0},
                  {4, 0, 1},
                  {3, 0, 1}};
    unsigned shape;

    REQUIRE(sim != NULL, "there is memory for a test");
    sim->seed = seed;
    sim->chance = seed * 0x2545f4914f6cdd1du + 1;
    sim->live_node = -1;
    shape = sim_below(sim, HA_COUNT_OF(SHAPES));
    sim->n = SHAPES[shape].n;
    sim->delay_max = sim_between(sim, 400, 4 * SIM_MS);
    sim->has_guardian = sim_below(sim, 3) != 0;
    for (unsigned i = 0; i < sim->n; i++) {
        make_node(sim, i);
    }
    for (unsigned i = sim->n - SHAPES[shape].n_spares; i < sim->n; i++) {
        sim->is_member[i] = sim->nodes[i].is_wanted = false;
    }
    make_declaration(sim, SHAPES[shape].n_witnesses);
    for (unsigned i = 0; i < sim->n; i++) {
        struct sim_node *n = &sim->nodes[i];

        n->config.kind =
            i >= sim->n - (unsigned)SHAPES[shape].n_witnesses ? MEMBER_WITNESS : MEMBER_DATABASE;
        sim_push(sim,
                 (struct sim_event){.at = sim_between(sim, 0, 1500 * SIM_MS),
                                    .kind = SIM_BOOT,
                                    .node = n->self,
                                    .life = n->life});
    }
    const int64_t from = sim_below(sim, 4) == 0 ? 500 * SIM_MS : 8000 * SIM_MS;
    faults_plan(sim, from, from + faults_ms * SIM_MS);
    return sim;
}

/* ---- time ---- */

static void
run_event(struct sim *sim, const struct sim_event *e)
{
    struct sim_node *n = &sim->nodes[e->node];

    if (e->kind < SIM_OF_AGENT) {
        if (n->is_on && e->life == n->life && (!n->is_ending || e->kind == SIM_EXIT)) {
            agent_on_event(n, e);
        }
    } else if (e->kind < SIM_OF_NODE) {
        postgres_on_event(n, e);
    } else if (e->kind == SIM_BOOT) {
        if (e->life == n->life) {
            agent_boot(n);
        }
    } else {
        faults_on_event(sim, e);
    }
}

/* Until when the event must wait: its process or its machine is frozen. */
static int64_t
frozen_until(const struct sim *sim, const struct sim_event *e)
{
    const struct sim_node *n = &sim->nodes[e->node];

    if (e->kind >= SIM_OF_NODE) {
        return 0;
    }
    if (e->kind < SIM_OF_AGENT && n->agent_frozen_until > n->node_frozen_until) {
        return n->agent_frozen_until;
    }
    return n->node_frozen_until;
}

bool
sim_run(struct sim *sim, int64_t until)
{
    while (sim->n_events > 0 && sim->events[0].at <= until && !sim->is_broken) {
        struct sim_event e = sim_pop(sim);
        const int64_t thaw = frozen_until(sim, &e);

        if (thaw > e.at) {
            e.at = thaw;
            sim_push_again(sim, e);
            continue;
        }
        sim->now = e.at;
        run_event(sim, &e);
        free(e.body);
        oracle_after_event(sim);
    }
    if (!sim->is_broken && sim->now < until) {
        sim->now = until;
    }
    return !sim->is_broken;
}
