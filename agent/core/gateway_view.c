#include "agent/core/gateway_view.h"

#include <string.h>

static const struct gateway_target *
find_target(const struct gateways_view *all, const char *address)
{
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        if (all->targets[i].address[0] != 0 && strcmp(all->targets[i].address, address) == 0) {
            return &all->targets[i];
        }
    }
    return NULL;
}

uint8_t
gateways_want(const struct gateways_view *all, const char *address)
{
    const struct gateway_target *t = find_target(all, address);

    return t == NULL ? GATEWAY_WANT_AWAY : t->want; /* no member of this cluster */
}

uint8_t
gateways_want_now(const struct gateways_view *all, const char *address)
{
    const struct gateway_target *t = find_target(all, address);
    const bool is_held = t != NULL && t->want == GATEWAY_WANT_AWAY && all->is_expecting;

    return t == NULL || is_held ? GATEWAY_WANT_KEEP : t->want;
}

bool
gateway_node_is_right(const struct gateway_node *node, uint8_t want)
{
    const bool is_up = node->state == GATEWAY_NODE_UP;

    switch ((enum gateway_want)want) {
    case GATEWAY_WANT_PRIMARY:
        return is_up && node->is_primary;
    case GATEWAY_WANT_STANDBY:
        return is_up && !node->is_primary;
    case GATEWAY_WANT_AWAY:
        return !is_up;
    case GATEWAY_WANT_KEEP:
    default:
        return true;
    }
}

bool
gateway_is_right(const struct gateway_view *gateway)
{
    return gateway->has_view && gateway->rule == 400;
}
