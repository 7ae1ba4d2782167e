#include "agent/core/gateway_plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define ATTACH_PAUSE_MS 5000 /* each attach disturbs busy sessions */
#define ATTACH_PAUSE_MAX_MS 60000
#define ATTACH_FORGET_MS 180000

static uint8_t
want_of(const struct core *core, const struct gateway_node *node)
{
    return gateways_want(&core->gateways, node->host);
}

static void
add(struct gateway_plan *plan, uint8_t verb, uint32_t node)
{
    if (plan->n < GATEWAY_OPS_MAX) {
        plan->ops[plan->n++] = (struct gateway_op){.verb = verb, .node = (uint8_t)node};
    }
}

static void __attribute__((format(printf, 3, 4)))
explain(struct gateway_plan *plan, uint16_t rule, const char *fmt, ...)
{
    va_list args;

    if (plan->rule == 0) { /* the first reason is the weightiest */
        plan->rule = rule;
        va_start(args, fmt);
        (void)vsnprintf(plan->why, sizeof plan->why, fmt, args);
        va_end(args);
    }
}

/* Clients can do nothing there, if only since a moment. */
static bool
is_suspect(const struct core *core, const struct gateway_node *node)
{
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        const struct gateway_target *t = &core->gateways.targets[i];

        if (t->address[0] != 0 && strcmp(t->address, node->host) == 0) {
            return t->bad_since.ms != 0;
        }
    }
    return true;
}

/* Pgpool searches for a primary: it must not come upon a black hole. */
static bool
makes_a_search(const struct core *core, const struct gateway_facts *view, bool is_attaching)
{
    for (uint32_t i = 0; i < view->n_nodes && !is_attaching; i++) {
        const struct gateway_node *node = &view->nodes[i];

        is_attaching = node->state == GATEWAY_NODE_UP && node->is_primary &&
                       want_of(core, node) == GATEWAY_WANT_AWAY;
    }
    return is_attaching;
}

/*
 * Detaches all that shall be away, the one that Pgpool takes as primary last, and before a search
 * all that may be a black hole by now. At least one node stays attached: without any, Pgpool
 * serves nobody and finds nobody. While a primary is about to open nothing is detached: Pgpool
 * would be busy with that when it is to be told of the primary, which ends with them anyway.
 */
static void
add_detaches(const struct core *core,
             const struct gateway_facts *view,
             bool is_attaching,
             struct gateway_plan *plan)
{
    const bool is_searching = makes_a_search(core, view, is_attaching);
    uint32_t n_up = 0;

    if (core->gateways.is_expecting) {
        return;
    }

    for (uint32_t i = 0; i < view->n_nodes; i++) {
        n_up += view->nodes[i].state == GATEWAY_NODE_UP;
    }
    for (unsigned primaries = 0; primaries < 2; primaries++) {
        for (uint32_t i = 0; i < view->n_nodes; i++) {
            const struct gateway_node *node = &view->nodes[i];

            const bool is_away = want_of(core, node) == GATEWAY_WANT_AWAY ||
                                 (is_searching && is_suspect(core, node));

            if (node->state == GATEWAY_NODE_UP && node->is_primary == (primaries == 1) && is_away &&
                n_up > 1) {
                n_up--;
                add(plan, GATEWAY_DETACH, i);
                explain(plan, 412, "detaching %s", node->host);
            }
        }
    }
}

/* Each attach and each promotion cuts sessions: when one does not help, the next waits longer. */
static bool
take_turn(const struct core *core, struct gateway_attach *a)
{
    const int64_t since = mono_sub(core->now, a->tried_at);

    if (a->pause_ms != 0 && since < a->pause_ms) {
        return false;
    }
    if (a->pause_ms == 0 || since > ATTACH_FORGET_MS) {
        a->pause_ms = ATTACH_PAUSE_MS;
    } else {
        a->pause_ms = a->pause_ms * 2 < ATTACH_PAUSE_MAX_MS ? a->pause_ms * 2 : ATTACH_PAUSE_MAX_MS;
    }
    a->tried_at = core->now;
    return true;
}

static void
forget(const struct core *core, struct gateway_attach *a)
{
    if (mono_sub(core->now, a->tried_at) >= ATTACH_PAUSE_MS) {
        a->pause_ms = 0;
    }
}

/* The primary was told, a server attached, and it stayed so: that helped, and what comes is another
 * matter. */
static void
forget_what_helped(const struct core *core, struct gateway_view *g)
{
    forget(core, &g->promote);
    for (uint32_t i = 0; i < g->view.n_nodes; i++) {
        if (g->view.nodes[i].state == GATEWAY_NODE_UP) {
            forget(core, &g->attach[i]);
        }
    }
}

bool
gateway_is_on_probation(const struct gateway_view *g)
{
    bool is_it = g->promote.pause_ms != 0;

    for (uint32_t i = 0; i < g->view.n_nodes; i++) {
        is_it |= g->view.nodes[i].state == GATEWAY_NODE_UP && g->attach[i].pause_ms != 0;
    }
    return is_it;
}

static void
add_attaches(const struct core *core,
             struct gateway_view *g,
             bool all_are_down,
             struct gateway_plan *plan)
{
    const struct gateway_node *waiting = NULL;

    for (uint32_t i = 0; i < g->view.n_nodes; i++) {
        const struct gateway_node *node = &g->view.nodes[i];

        if (want_of(core, node) != GATEWAY_WANT_STANDBY ||
            (node->state == GATEWAY_NODE_UP && !all_are_down)) {
            continue;
        }
        if (take_turn(core, &g->attach[i])) {
            add(plan, GATEWAY_ATTACH, i);
            explain(plan, 411, "attaching %s, which streams from the primary", node->host);
        } else {
            waiting = node;
        }
    }
    if (waiting != NULL) { /* of what is done, the deeds are said first */
        explain(plan, 413, "an attach of %s did not last; the next one waits", waiting->host);
    }
}

static int
find_primary(const struct core *core, const struct gateway_facts *view)
{
    for (uint32_t i = 0; i < view->n_nodes; i++) {
        if (want_of(core, &view->nodes[i]) == GATEWAY_WANT_PRIMARY) {
            return (int)i;
        }
    }
    return -1;
}

static bool
wants_primary(const struct core *core)
{
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        if (core->gateways.targets[i].want == GATEWAY_WANT_PRIMARY) {
            return true;
        }
    }
    return false;
}

/* The gateway takes this node, and no other that clients can reach, as the primary. */
static bool
is_primary_alone(const struct gateway_facts *view, uint32_t primary)
{
    for (uint32_t i = 0; i < view->n_nodes; i++) {
        const struct gateway_node *node = &view->nodes[i];

        if (i != primary && node->state == GATEWAY_NODE_UP && node->is_primary) {
            return false;
        }
    }
    return view->nodes[primary].is_primary;
}

static bool
knows_a_member(const struct core *core, const struct gateway_facts *view)
{
    for (uint32_t i = 0; i < view->n_nodes; i++) {
        if (state_member_at(&core->state, view->nodes[i].host) != NULL) {
            return true;
        }
    }
    return false;
}

void
gateway_make_plan(const struct core *core, struct gateway_view *g, struct gateway_plan *plan)
{
    const struct gateway_facts *view = &g->view;
    const int primary = find_primary(core, view);

    memset(plan, 0, sizeof *plan);
    if (!knows_a_member(core, view)) {
        explain(plan, 430, "none of its nodes has the address of a member");
        return;
    }
    if (primary < 0) {
        add_detaches(core, view, false, plan);
        if (wants_primary(core)) {
            explain(plan, 431, "it has no node with the primary's address");
        }
    } else if (view->nodes[primary].state != GATEWAY_NODE_UP) {
        add_detaches(core, view, true, plan);
        plan->rule = 0;
        explain(plan, 410, "attaching %s, the primary", view->nodes[primary].host);
        add(plan, GATEWAY_ATTACH, (uint32_t)primary);
    } else if (!is_primary_alone(view, (uint32_t)primary)) {
        if (take_turn(core, &g->promote)) {
            explain(plan, 410, "telling it that %s is the primary", view->nodes[primary].host);
            memset(g->attach, 0, sizeof g->attach);
            add(plan, GATEWAY_PROMOTE, (uint32_t)primary);
            add_attaches(core, g, true, plan);
        } else {
            explain(plan,
                    413,
                    "it was told of the primary %s in vain; the next time waits",
                    view->nodes[primary].host);
        }
    } else {
        forget_what_helped(core, g);
        add_detaches(core, view, false, plan);
        add_attaches(core, g, false, plan);
    }
    explain(plan,
            400,
            core->gateways.is_expecting ? "a primary is about to open"
            : primary < 0               ? "no primary to be told of"
                                        : "it sees what is");
}
