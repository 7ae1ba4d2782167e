/*
 * Goal:   whatever network, disks and power do, all members apply one sequence of commands, no
 *         acknowledged command is lost, a term has one leader; and when they behave again the
 *         group agrees and goes on.
 * Method: seeded runs of 1, 2, 3 and 5 nodes on virtual time (tests/lib/raft_sim.h checks at every
 *         step). `SIM_SEED=n` runs one seed; `SIM_SEEDS=n` runs that many.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/snapshot.h"
#include "tests/lib/raft_sim.h"

static const int SIZES[] = {3, 3, 5, 3, 2, 1};

static void
set_weather(struct sim *sim)
{
    sim->lose_percent = sim_below(sim, 3) == 0 ? sim_below(sim, 30) : 0;
    sim->double_percent = sim_below(sim, 20);
    sim->delay_ms_max = 1 + sim_below(sim, sim_below(sim, 4) == 0 ? 200 : 10);
    sim->disk_ms_max = sim_below(sim, sim_below(sim, 4) == 0 ? 100 : 5);
    for (int i = 0; i < sim->n; i++) {
        for (int j = 0; j < sim->n; j++) {
            sim->is_cut[i][j] = sim_below(sim, 10) == 0;
        }
    }
    if (sim_below(sim, 4) == 0) {
        /* A clean partition. */
        const unsigned side = sim_below(sim, 1u << sim->n);
        for (int i = 0; i < sim->n; i++) {
            for (int j = 0; j < sim->n; j++) {
                sim->is_cut[i][j] = (side >> i & 1) != (side >> j & 1);
            }
        }
    }
}

static void
set_fair_weather(struct sim *sim)
{
    sim->lose_percent = 0;
    sim->double_percent = 0;
    sim->delay_ms_max = 3;
    sim->disk_ms_max = 2;
    memset(sim->is_cut, 0, sizeof sim->is_cut);
}

/* One server more or one less; what is under way is refused by the node itself. */
static void
change_members(struct sim *sim)
{
    const int leader = sim_leader(sim);
    struct raft_view view;

    if (leader < 0) {
        return;
    }
    raft_node_get_view(sim->nodes[leader].node, &view);
    if (sim_below(sim, 2) == 0) {
        const int i = sim->n < SIM_NODES_MAX && sim_below(sim, 2) == 0
                          ? sim_add_node(sim)
                          : (int)sim_below(sim, (unsigned)sim->n);
        (void)raft_node_server_add(
            sim->nodes[leader].node, sim->nodes[i].id, sim->nodes[i].address);
        return;
    }
    const struct raft_server_view *victim = &view.servers[sim_below(sim, view.n_servers)];
    if (view.n_servers > 3) {
        (void)raft_node_server_remove(sim->nodes[leader].node, victim->id);
    }
}

static void
disturb(struct sim *sim)
{
    const int i = (int)sim_below(sim, (unsigned)sim->n);
    struct sim_node *n = &sim->nodes[i];

    if (n->node == NULL) {
        if (sim_below(sim, 2) == 0) {
            sim_start(sim, i);
        }
        return;
    }
    switch (sim_below(sim, 12)) {
    case 0:
        sim_crash(sim, i, true);
        break;
    case 1:
        sim_crash(sim, i, false);
        break;
    case 2: {
        /* The power goes a little later, in some disk operation. */
        fs_mem_power_off_at(n->disk, 1 + sim_below(sim, 8));
        break;
    }
    case 3: {
        const int leader = sim_leader(sim);
        if (leader >= 0) {
            (void)raft_node_transfer(sim->nodes[leader].node, 0);
        }
        break;
    }
    case 4:
        set_weather(sim);
        break;
    case 5:
        if (sim->seed % 3 == 0) {
            change_members(sim);
        }
        break;
    default:
        break;
    }
}

/* A node whose disk went away said so; its process ends. */
static void
bury(struct sim *sim)
{
    for (int i = 0; i < sim->n; i++) {
        if (sim->nodes[i].node != NULL && sim->nodes[i].has_failed) {
            sim_crash(sim, i, true);
        }
    }
}

static void
storm(struct sim *sim, int64_t length_ms)
{
    const int64_t end = sim->now + length_ms;

    while (sim->now < end) {
        (void)sim_run(sim, sim->now + 1 + sim_below(sim, 60), NULL);
        bury(sim);
        for (int i = 0; i < sim->n; i++) {
            sim_propose(sim, i);
        }
        disturb(sim);
    }
}

static void
calm(struct sim *sim)
{
    set_fair_weather(sim);
    sim->is_quiet = true;
    for (int i = 0; i < sim->n; i++) {
        if (sim->nodes[i].node != NULL && fs_mem_is_off(sim->nodes[i].disk)) {
            sim_crash(sim, i, true);
        }
        fs_mem_power_off_at(sim->nodes[i].disk, 0);
        if (sim->nodes[i].node == NULL) {
            sim_start(sim, i);
        }
    }
    for (int tries = 0; tries < 200; tries++) {
        bury(sim);
        for (int i = 0; i < sim->n; i++) {
            sim_propose(sim, i);
        }
        if (sim_run(sim, sim->now + 100, sim_is_settled)) {
            return;
        }
    }
    sim_print(sim);
    sim_die(sim, "the group does not settle in fair weather");
}

static void
check_states_equal(struct sim *sim)
{
    static uint8_t first[SNAPSHOT_BYTES_MAX];
    static uint8_t other[SNAPSHOT_BYTES_MAX];
    const int leader = sim_leader(sim);
    const struct state *state = raft_node_state(sim->nodes[leader].node);
    const size_t len = snapshot_encode(state, first, sizeof first);
    struct raft_view view;

    raft_node_get_view(sim->nodes[leader].node, &view);
    for (int i = 0; i < sim->n; i++) {
        const struct sim_node *n = &sim->nodes[i];
        if (!sim_is_voter(&view, n->id)) {
            continue;
        }
        const size_t size = snapshot_encode(raft_node_state(n->node), other, sizeof other);
        if (size != len || memcmp(first, other, size) != 0) {
            sim_die(sim, "the states differ");
        }
        if (!n->is_stranger && state_member(state, n->id)->last_counter != n->counter) {
            sim_die(sim, "a command of %s is lost", n->address);
        }
    }
}

static bool is_replaced(struct sim *sim);

/* One member loses its disk and comes back under a new id. */
static void
replace(struct sim *sim)
{
    const int i = (int)sim_below(sim, (unsigned)sim->n);
    const uint64_t old = sim->nodes[i].id;

    sim_replace_disk(sim, i);
    for (int tries = 0; tries < 300; tries++) {
        const int leader = sim_leader(sim);
        if (leader >= 0 && leader != i) {
            struct sim_node *n = &sim->nodes[leader];
            if (raft_node_server_remove(n->node, old) == HA_ENOTFOUND) {
                (void)raft_node_server_add(n->node, sim->nodes[i].id, sim->nodes[i].address);
            }
        }
        if (sim_run(sim, sim->now + 100, is_replaced)) {
            return;
        }
    }
    sim_die(sim, "%s is not taken in again", sim->nodes[i].address);
}

/* Every node that runs is a voter, and up to date. */
static bool
is_replaced(struct sim *sim)
{
    const int leader = sim_leader(sim);
    struct raft_view view;

    if (leader < 0) {
        return false;
    }
    raft_node_get_view(sim->nodes[leader].node, &view);
    for (int i = 0; i < sim->n; i++) {
        if (!sim_is_voter(&view, sim->nodes[i].id)) {
            return false;
        }
    }
    return sim_is_settled(sim);
}

struct totals {
    uint64_t acknowledged;
    uint64_t unknown;
    uint64_t crashes;
    uint64_t entries;
    uint64_t events;
};

static void
run_seed(uint64_t seed, struct totals *totals)
{
    struct sim *sim = sim_new(seed, SIZES[seed % HA_COUNT_OF(SIZES)]);

    if (seed % 2 == 0) {
        sim->snapshot_threshold = 10 + sim_below(sim, 30);
        sim->snapshot_trailing = 1 + sim_below(sim, 30);
    }
    for (int i = 0; i < sim->n; i++) {
        sim_start(sim, i);
    }
    sim_found(sim);
    for (int round = 0; round < 3; round++) {
        sim->is_quiet = false;
        storm(sim, 4000);
        calm(sim);
        check_states_equal(sim);
        if (round == 1 && seed % 3 != 0 && sim->n >= 3) {
            replace(sim);
        }
    }
    totals->acknowledged += sim->n_acknowledged;
    totals->unknown += sim->n_unknown;
    totals->crashes += sim->n_crashes;
    totals->entries += sim->last_entry;
    totals->events += sim->n_events_made;
    sim_free(sim);
}

static void
members_agree_whatever_network_and_disks_do(void **unused)
{
    struct totals totals = {0};
    const char *one = getenv("SIM_SEED");
    const char *many = getenv("SIM_SEEDS");
    const uint64_t n = many != NULL ? strtoull(many, NULL, 10) : 300;

    (void)unused;
    if (one != NULL) {
        run_seed(strtoull(one, NULL, 10), &totals);
    } else {
        for (uint64_t seed = 1; seed <= n; seed++) {
            run_seed(seed, &totals);
        }
    }
    print_message("# acknowledged %" PRIu64 ", unknown %" PRIu64 ", crashes %" PRIu64
                  ", entries %" PRIu64 ", events %" PRIu64 "\n",
                  totals.acknowledged,
                  totals.unknown,
                  totals.crashes,
                  totals.entries,
                  totals.events);
    assert_true(totals.acknowledged > 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_agree_whatever_network_and_disks_do),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
