/*
 * Membership, one server at a time, and leadership transfer.
 *
 * An addition is two entries: the server comes in as a spare, which counts for nothing and gets
 * nothing, and becomes a voter once it has caught up. When the second step fails (the server never
 * answered) the spare stays; adding it again goes on from there, removing it takes it back.
 */
#include <string.h>

#include "raft/node_internal.h"

bool
change_is_pending(const struct raft_node *node)
{
    return node->change.kind != CHANGE_NONE || node->change.wants_transfer ||
           node->raft.transfer != NULL;
}

static const struct raft_server *
server_of(const struct raft_node *node, uint64_t id)
{
    for (unsigned i = 0; i < node->raft.configuration.n; i++) {
        if (node->raft.configuration.servers[i].id == id) {
            return &node->raft.configuration.servers[i];
        }
    }
    return NULL;
}

static bool
is_address_taken(const struct raft_node *node, uint64_t id, const char *address)
{
    for (unsigned i = 0; i < node->raft.configuration.n; i++) {
        const struct raft_server *s = &node->raft.configuration.servers[i];
        if (s->id != id && strcmp(s->address, address) == 0) {
            return true;
        }
    }
    return false;
}

/* May a change begin now? */
static int
check(const struct raft_node *node)
{
    if (!node_is_leader(node) || !node->is_ready) {
        return HA_ENOTLEADER;
    }
    return change_is_pending(node) || node->raft.configuration_uncommitted_index != 0 ? HA_EBUSY
                                                                                      : HA_OK;
}

static void
begin(struct raft_node *node, enum change_kind kind, uint64_t id, const char *address)
{
    struct change *c = &node->change;

    c->kind = kind;
    c->is_submitted = false;
    c->is_answered = false;
    c->id = id;
    memset(c->address, 0, sizeof c->address);
    (void)strncpy(c->address, address, sizeof c->address - 1);
    node->env->wake(node->env);
}

int
raft_node_server_add(struct raft_node *node, uint64_t id, const char *address)
{
    const int rc = check(node);

    if (rc != HA_OK) {
        return rc;
    }
    if (id == 0 || address[0] == '\0' || strlen(address) >= HA_ADDRESS_MAX) {
        return HA_EINVAL;
    }
    const struct raft_server *known = server_of(node, id);
    if (is_address_taken(node, id, address) || (known != NULL && known->role == RAFT_VOTER)) {
        return HA_EEXIST;
    }
    if (known == NULL && node->raft.configuration.n >= RAFT_SERVERS_MAX) {
        return HA_ETOOBIG;
    }
    begin(node, known == NULL ? CHANGE_ADD : CHANGE_PROMOTE, id, address);
    return HA_OK;
}

int
raft_node_server_remove(struct raft_node *node, uint64_t id)
{
    const int rc = check(node);

    if (rc != HA_OK) {
        return rc;
    }
    const struct raft_server *known = server_of(node, id);
    if (known == NULL) {
        return HA_ENOTFOUND;
    }
    begin(node, CHANGE_REMOVE, id, known->address);
    return HA_OK;
}

int
raft_node_transfer(struct raft_node *node, uint64_t to)
{
    if (!node_is_leader(node)) {
        return HA_ENOTLEADER;
    }
    if (change_is_pending(node)) {
        return HA_EBUSY;
    }
    if (to != 0) {
        const struct raft_server *known = server_of(node, to);
        if (known == NULL || known->role != RAFT_VOTER || to == node->raft.id) {
            return HA_EINVAL;
        }
    }
    node->change.wants_transfer = true;
    node->change.transfer_to = to;
    node->env->wake(node->env);
    return HA_OK;
}

/* Inside libraft: write down, nothing more. */
static void
change_cb(struct raft_change *req, int status)
{
    struct change *c = &((struct raft_node *)req->data)->change;

    c->is_answered = true;
    c->status = status;
}

static void
transfer_cb(struct raft_transfer *req)
{
    struct raft_node *node = req->data;

    node->env->wake(node->env);
}

static void
submit(struct raft_node *node)
{
    struct change *c = &node->change;
    int rv = 0;

    c->req.data = node;
    c->is_submitted = true;
    switch (c->kind) {
    case CHANGE_ADD:
        rv = raft_add(&node->raft, &c->req, c->id, c->address, change_cb);
        break;
    case CHANGE_PROMOTE:
        rv = raft_assign(&node->raft, &c->req, c->id, RAFT_VOTER, change_cb);
        break;
    case CHANGE_REMOVE:
        rv = raft_remove(&node->raft, &c->req, c->id, change_cb);
        break;
    case CHANGE_NONE:
        break;
    }
    if (rv != 0) {
        c->is_answered = true;
        c->status = rv;
    }
    node_poll(node);
}

static void
submit_transfer(struct raft_node *node)
{
    struct change *c = &node->change;

    c->wants_transfer = false;
    c->transfer.data = node;
    const int rv = raft_transfer(&node->raft, &c->transfer, c->transfer_to, transfer_cb);
    if (rv != 0) {
        node_log(node, 1, "raft_transfer_failed", "%s", raft_strerror(rv));
    }
    node_poll(node);
}

static void
finish(struct raft_node *node)
{
    struct change *c = &node->change;
    const enum change_kind kind = c->kind;

    c->kind = CHANGE_NONE;
    if (c->status != 0) {
        node_log(node, 1, "raft_change_failed", "%s: %s", c->address, raft_strerror(c->status));
    } else if (kind == CHANGE_ADD && node_is_leader(node)) {
        c->kind = CHANGE_PROMOTE;
        c->is_submitted = false;
        c->is_answered = false;
        node->env->wake(node->env);
    }
}

void
change_step(struct raft_node *node)
{
    struct change *c = &node->change;

    if (c->wants_transfer && !node_is_leader(node)) {
        c->wants_transfer = false;
    }
    /* A transfer waits for the entry that is on its way: it is made when all is quiet. */
    if (c->wants_transfer && !node->proposals.is_submitted) {
        submit_transfer(node);
    }
    if (c->kind == CHANGE_NONE) {
        return;
    }
    if (!c->is_submitted) {
        if (!node_is_leader(node)) {
            c->kind = CHANGE_NONE;
            return;
        }
        submit(node);
    }
    if (c->is_answered) {
        finish(node);
    }
}
