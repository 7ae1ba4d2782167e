#include "tests/lib/raft_sim_event.h"

#include <stdlib.h>

static bool
is_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

void
sim_event_push(struct sim *sim, struct sim_event event)
{
    if (sim->n_events == sim->events_size) {
        sim->events_size = sim->events_size == 0 ? 256 : sim->events_size * 2;
        sim->events = realloc(sim->events, sim->events_size * sizeof *sim->events);
        if (sim->events == NULL) {
            sim_die(sim, "out of memory");
        }
    }
    event.order = sim->n_events_made++;
    size_t i = sim->n_events++;
    while (i > 0 && is_before(&event, &sim->events[(i - 1) / 2])) {
        sim->events[i] = sim->events[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    sim->events[i] = event;
}

struct sim_event
sim_event_pop(struct sim *sim)
{
    const struct sim_event first = sim->events[0];
    const struct sim_event last = sim->events[--sim->n_events];
    size_t i = 0;

    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= sim->n_events) {
            break;
        }
        if (child + 1 < sim->n_events && is_before(&sim->events[child + 1], &sim->events[child])) {
            child++;
        }
        if (is_before(&last, &sim->events[child])) {
            break;
        }
        sim->events[i] = sim->events[child];
        i = child;
    }
    sim->events[i] = last;
    return first;
}
