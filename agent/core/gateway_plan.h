/*
 * gateway_plan.h - what to tell one gateway, so that it sees what is.
 *
 * The order is measured (docs/gateway.md). "promote" makes no search: it works whatever
 * state the other nodes are in, and takes them all as down; so it comes first, then the
 * standbys one by one. "attach" and "detach of the primary" search through all attached
 * nodes, and Pgpool 4.3 hangs there on one whose packets are dropped: so whatever is suspect is
 * detached first, the primary last.
 *
 * Clock:  core->now.
 * Memory: plain data.
 * Errors: none.
 */
#ifndef HA_CORE_GATEWAY_PLAN_H
#define HA_CORE_GATEWAY_PLAN_H

#include "agent/core/core_internal.h"

struct gateway_plan {
    uint32_t n;
    struct gateway_op ops[GATEWAY_OPS_MAX];
    uint16_t rule;
    char why[GATEWAY_TEXT_MAX];
};

/* The difference between `gateway`'s newest view and what is wanted; none: rule 400. Counts the
 * attaches and promotions that it plans, so that one that does not help comes less often. */
void
gateway_make_plan(const struct core *core, struct gateway_view *gateway, struct gateway_plan *plan);

/* What was told last helped so far; whether for long is not known yet. */
bool gateway_is_on_probation(const struct gateway_view *gateway);

#endif
