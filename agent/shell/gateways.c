/*
 * The gateways' place in the agent: their names and facts become events, the core's words
 * become sessions.
 */
#include "agent/shell/agent.h"
#include "agent/shell/log.h"

static void
on_list(void *data, const struct gateway_list *list)
{
    struct event e = {.type = EVENT_GATEWAYS};

    e.gateways = *list;
    agent_event(data, &e);
}

static void
on_facts(void *data, const struct gateway_facts *facts)
{
    struct event e = {.type = EVENT_GATEWAY};

    e.gateway = *facts;
    agent_event(data, &e);
}

static void
on_log(void *data, int level, const char *event, const char *text)
{
    (void)data;
    log_write((uint8_t)level, event, "%s", text);
}

int
agent_gateways_open(struct agent *agent, struct err *err)
{
    const struct config *c = &agent->config;
    const struct gateways_config config = {.loop = &agent->loop,
                                           .hosts = c->gateway_hosts,
                                           .pcp_port = c->port_pcp,
                                           .user = c->pcp_user,
                                           .password = c->pcp_password.bytes,
                                           .data = agent,
                                           .on_list = on_list,
                                           .on_facts = on_facts,
                                           .on_log = on_log};

    return c->gateway_hosts[0] == 0 ? HA_OK : gateways_open(&config, &agent->gateways, err);
}

void
agent_gateway_run(struct agent *agent, const struct effect *e)
{
    REQUIRE(agent->gateways != NULL, "the core knows gateways by their list alone");
    gateways_run(agent->gateways, e->gateway.address, e->gateway.ops, e->gateway.n_ops);
}
