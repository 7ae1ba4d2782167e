/*
 * raft_sim_event.h - the queue of what is going to happen in a simulation.
 */
#ifndef HA_TESTS_LIB_RAFT_SIM_EVENT_H
#define HA_TESTS_LIB_RAFT_SIM_EVENT_H

#include "tests/lib/raft_sim.h"

enum event_kind { EVENT_MESSAGE, EVENT_TICK, EVENT_TURN, EVENT_DISK };

struct sim_event {
    int64_t at;
    uint64_t order; /* of two at one moment the older is first */
    enum event_kind kind;
    int node;
    unsigned life;
    int from;
    uint8_t type;
    uint8_t *body;
    size_t len;
};

/* Takes the event over, its body too. */
void sim_event_push(struct sim *sim, struct sim_event event);
/* The next one; its body is the caller's. */
struct sim_event sim_event_pop(struct sim *sim);

#endif
