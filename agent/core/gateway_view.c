#include "agent/core/gateway_view.h"

#include <string.h>

uint8_t
gateways_want(const struct gateways_view *all, const char *address)
{
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        const struct gateway_target *t = &all->targets[i];

        if (t->address[0] != 0 && strcmp(t->address, address) == 0) {
            return t->want;
        }
    }
    return GATEWAY_WANT_AWAY; /* no member of this cluster */
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
