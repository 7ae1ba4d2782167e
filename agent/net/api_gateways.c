/*
 * The gateways in /hawser/status: what each sees, beside what is wanted of it.
 *
 * Only the agent that leads Raft asks them; the others know their addresses alone.
 */
#include "agent/net/api_picture.h"

static const char *
state_text(uint8_t state)
{
    return state == GATEWAY_NODE_UP ? "up" : state == GATEWAY_NODE_DOWN ? "down" : "unused";
}

const char *
picture_want_text(uint8_t want)
{
    static const char *const texts[] = {"as it is", "away", "standby", "primary"};

    return want < HA_COUNT_OF(texts) ? texts[want] : "as it is";
}

static json_t *
node_json(const struct gateways_view *all, const struct gateway_node *node, uint32_t number)
{
    const uint8_t want = gateways_want(all, node->host);
    json_t *o = json_object();

    put_int(o, "node", number);
    put_text(o, "address", node->host);
    put_int(o, "port", node->port);
    put_text(o, "state", state_text(node->state));
    put_text(o, "role", node->is_primary ? "primary" : "standby");
    put_text(o, "want", picture_want_text(want));
    put_bool(o, "is_right", gateway_node_is_right(node, want));
    return o;
}

static json_t *
gateway_json(const struct picture *p, const struct gateway_view *g)
{
    const struct gateways_view *all = &p->view->core->gateways;
    json_t *o = json_object();
    json_t *nodes = json_array();

    put_text(o, "address", g->address);
    if (!p->view->core->raft.is_ready) {
        json_decref(nodes);
        return o;
    }
    put_bool(o, "is_right", gateway_is_right(g));
    put_bool(o, "is_reached", g->has_view);
    put_bool(o, "is_password_refused", g->rc == HA_EAUTH);
    put_int(o, "rule", g->rule);
    put_text(o, "why", g->why);
    if (g->has_view) {
        put_int(o, "age_ms", mono_sub(p->view->now, g->seen_at));
        for (uint32_t i = 0; i < g->view.n_nodes && i < GATEWAY_NODES_MAX; i++) {
            (void)json_array_append_new(nodes, node_json(all, &g->view.nodes[i], i));
        }
    }
    (void)json_object_set_new(o, "nodes", nodes);
    return o;
}

json_t *
api_gateways_json(const struct picture *p)
{
    const struct gateways_view *all = &p->view->core->gateways;
    json_t *list = json_array();

    for (uint32_t i = 0; i < all->n && i < GATEWAYS_MAX; i++) {
        (void)json_array_append_new(list, gateway_json(p, &all->at[i]));
    }
    return list;
}
