/* Chance, and the queue of what is going to happen. */
#include <stdlib.h>

#include "tests/sim/sim.h"

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

int64_t
sim_between(struct sim *sim, int64_t from, int64_t to)
{
    return to <= from ? from : from + (int64_t)(sim_random(sim) % (uint64_t)(to - from));
}

static bool
is_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

void
sim_push_again(struct sim *sim, struct sim_event event)
{
    size_t i = sim->n_events++;

    if (sim->n_events > sim->events_size) {
        sim->events_size = sim->events_size == 0 ? 1024 : sim->events_size * 2;
        sim->events = realloc(sim->events, sim->events_size * sizeof *sim->events);
        REQUIRE(sim->events != NULL, "there is memory for a test");
    }
    while (i > 0 && is_before(&event, &sim->events[(i - 1) / 2])) {
        sim->events[i] = sim->events[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    sim->events[i] = event;
}

void
sim_push(struct sim *sim, struct sim_event event)
{
    event.order = sim->n_made++;
    sim_push_again(sim, event);
}

struct sim_event
sim_pop(struct sim *sim)
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
