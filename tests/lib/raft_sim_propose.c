/* The members' side of a simulation: commands, repeated until their fate is known. */
#include <string.h>

#include "tests/lib/raft_sim.h"

/* An acknowledged command is in the state of whoever was told so, for ever. */
static void
on_proposed(void *data, int rc)
{
    struct sim_node *n = data;
    struct sim *sim = n->sim;

    n->is_in_flight = false;
    if (n->node == NULL) {
        return;
    }
    if (rc == HA_OK || rc == HA_EREFUSED) {
        const struct member *m = state_member(raft_node_state(n->node), n->id);
        if (n->command.origin != 0 && (m == NULL || m->last_counter < n->command.counter)) {
            sim_die(sim, "%s heard of its command before it was applied", n->address);
        }
        n->has_command = false;
        sim->n_acknowledged += rc == HA_OK ? 1 : 0;
        sim->n_refused += rc == HA_OK ? 0 : 1;
        return;
    }
    sim->n_unknown += rc == HA_EUNKNOWN ? 1 : 0;
}

static void
propose_again(struct sim_node *n)
{
    if (n->node == NULL || !n->has_command || n->is_in_flight) {
        return;
    }
    n->is_in_flight = true;
    if (raft_node_propose(n->node, &n->command, on_proposed, n) != HA_OK) {
        n->is_in_flight = false;
    }
}

void
sim_propose(struct sim *sim, int i)
{
    struct sim_node *n = &sim->nodes[i];

    if (n->is_stranger) {
        return;
    }
    if (!n->has_command && !sim->is_quiet) {
        n->has_command = true;
        n->command =
            (struct command){.type = COMMAND_SETTINGS, .origin = n->id, .counter = ++n->counter};
        n->command.settings.max_lag = 1 + sim_random(sim) % 1000000;
        n->command.settings.failover = FAILOVER_POLICY_COUNT;
    }
    propose_again(n);
}

static bool
is_founded(struct sim *sim)
{
    const int leader = sim_leader(sim);

    if (leader >= 0 && raft_node_state(sim->nodes[leader].node)->cluster_id == 0) {
        propose_again(&sim->nodes[leader]);
        return false;
    }
    return leader >= 0 && sim_is_settled(sim);
}

void
sim_found(struct sim *sim)
{
    struct command c = {.type = COMMAND_FOUND};

    c.found.cluster_id = 1;
    c.found.declaration.lease_ms = HA_LEASE_MS_DEFAULT;
    c.found.declaration.n_members = (uint8_t)sim->n;
    for (int i = 0; i < sim->n; i++) {
        memcpy(c.found.declaration.members[i].address, sim->nodes[i].address, HA_ADDRESS_MAX);
    }
    memcpy(c.found.declaration.primary, sim->nodes[0].address, HA_ADDRESS_MAX);
    for (int i = 0; i < sim->n; i++) {
        sim->nodes[i].command = c;
        sim->nodes[i].has_command = true;
    }
    for (int tries = 0; tries < 100; tries++) {
        for (int i = 0; i < sim->n; i++) {
            propose_again(&sim->nodes[i]);
        }
        if (sim_run(sim, sim->now + 300, is_founded)) {
            return;
        }
    }
    sim_die(sim, "no cluster is founded");
}
