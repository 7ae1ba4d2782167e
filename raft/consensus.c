#include "raft/consensus.h"

#include <stdlib.h>

#include "base/require.h"
#include "raft/env_uv.h"
#include "raft/node.h"

struct consensus {
    struct env_uv env;
    struct raft_node *node;
    void (*closed)(void *data);
    void *closed_data;
};

int
consensus_open(const struct consensus_config *config, struct consensus **out, struct err *err)
{
    struct consensus *c = calloc(1, sizeof *c);

    *out = NULL;
    if (c == NULL) {
        return err_set(err, HA_ENOMEM, "no memory for the consensus layer");
    }
    env_uv_init(&c->env, config->loop, config->link);
    const struct raft_node_config node = {
        .env = &c->env.env,
        .fs = config->fs,
        .dir = config->dir,
        .id = config->id,
        .era = config->era,
        .address = config->address,
        .election_ms = config->election_ms,
        .heartbeat_ms = config->heartbeat_ms,
        .callbacks = config->callbacks,
    };
    const int rc = raft_node_open(&node, &c->node, err);
    if (rc != HA_OK) {
        free(c);
        return rc;
    }
    env_uv_open(&c->env, c->node);
    *out = c;
    return HA_OK;
}

int
consensus_bootstrap(struct consensus *c,
                    const struct raft_server_view *servers,
                    size_t n,
                    struct err *err)
{
    return raft_node_bootstrap(c->node, servers, n, err);
}

int
consensus_recover(struct consensus *c,
                  const struct raft_server_view *servers,
                  size_t n,
                  struct err *err)
{
    return raft_node_recover(c->node, servers, n, err);
}

int
consensus_start(struct consensus *c, struct err *err)
{
    return raft_node_start(c->node, err);
}

static void
on_env_closed(void *data)
{
    struct consensus *c = data;
    void (*closed)(void *data) = c->closed;
    void *closed_data = c->closed_data;

    free(c);
    if (closed != NULL) {
        closed(closed_data);
    }
}

static void
on_node_closed(void *data)
{
    struct consensus *c = data;

    env_uv_close(&c->env, on_env_closed, c);
}

void
consensus_close(struct consensus *c, void (*closed)(void *data), void *data)
{
    c->closed = closed;
    c->closed_data = data;
    raft_node_close(c->node, on_node_closed, c);
}

void
consensus_receive(struct consensus *c, const char *from, uint8_t type, const void *body, size_t len)
{
    raft_node_receive(c->node, from, type, body, len);
}

int
consensus_propose(struct consensus *c,
                  const struct command *command,
                  void (*done)(void *data, int rc),
                  void *data)
{
    return raft_node_propose(c->node, command, done, data);
}

int
consensus_transfer(struct consensus *c, uint64_t to)
{
    return raft_node_transfer(c->node, to);
}

int
consensus_server_add(struct consensus *c, uint64_t id, const char *address)
{
    return raft_node_server_add(c->node, id, address);
}

int
consensus_server_remove(struct consensus *c, uint64_t id)
{
    return raft_node_server_remove(c->node, id);
}

void
consensus_get_view(const struct consensus *c, struct raft_view *view)
{
    raft_node_get_view(c->node, view);
}
