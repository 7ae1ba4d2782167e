/*
 * A node's life, and the two places where things come together:
 *
 *   node_poll()       after every call into libraft: finished sends, the barrier of a new
 *                     leader, readiness, the commit notice, the watch over what libraft did
 *   raft_node_turn()  from the top of the loop: proposals, changes, and all callbacks
 */
#include "raft/node.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/net/peer.h"
#include "base/require.h"
#include "raft/node_internal.h"

void
node_log(const struct raft_node *node, int level, const char *event, const char *fmt, ...)
{
    char text[HA_ERR_TEXT_MAX];
    va_list args;

    if (node->callbacks.on_log == NULL) {
        return;
    }
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    node->callbacks.on_log(node->callbacks.data, level, event, text);
}

void
node_fail(struct raft_node *node, const char *what, const struct err *err)
{
    if (node->is_failed) {
        return;
    }
    node->is_failed = true;
    if (err == NULL) {
        (void)err_set(&node->err, HA_EFAILED, "Raft cannot go on: %s", what);
    } else {
        if (err != &node->err) {
            node->err = *err;
        }
        (void)err_prefix(&node->err, "Raft cannot go on: %s", what);
    }
    node->env->wake(node->env);
}

bool
node_is_leader(const struct raft_node *node)
{
    return node->is_started && !node->is_failed && !node->is_closing &&
           node->raft.state == RAFT_LEADER;
}

static void
on_apply(void *data, const void *bytes, size_t len, int rc)
{
    struct raft_node *node = data;

    if (node->on_apply != NULL) {
        node->on_apply(node->callbacks.data, node->raft.last_applied + 1, bytes, len, rc);
    }
}

static void
set_up_raft(struct raft_node *node, const struct raft_node_config *config)
{
    struct raft *r = &node->raft;

    raft_set_election_timeout(r, config->election_ms);
    raft_set_heartbeat_timeout(r, config->heartbeat_ms);
    raft_set_snapshot_threshold(
        r, config->snapshot_threshold != 0 ? config->snapshot_threshold : SNAPSHOT_THRESHOLD);
    /* A trailing of 0 is how libraft asks to install a leader's snapshot. */
    raft_set_snapshot_trailing(
        r, config->snapshot_trailing != 0 ? config->snapshot_trailing : SNAPSHOT_TRAILING);
    raft_set_install_snapshot_timeout(r, INSTALL_TIMEOUT_MS);
    raft_set_max_catch_up_rounds(r, CATCH_UP_ROUNDS);
    raft_set_max_catch_up_round_duration(r, CATCH_UP_ROUND_MS);
    raft_set_pre_vote(r, true);
    compat_set_up(r);
}

int
raft_node_open(const struct raft_node_config *config, struct raft_node **out, struct err *err)
{
    struct raft_node *node = calloc(1, sizeof *node);
    int rc = HA_ENOMEM;

    REQUIRE(config->id != 0 && config->heartbeat_ms > 0 &&
                config->heartbeat_ms < config->election_ms,
            "a member has an id, and a heartbeat comes before an election");
    *out = NULL;
    if (node == NULL) {
        return err_set(err, rc, "no memory for a Raft node");
    }
    node->env = config->env;
    node->id = config->id;
    node->era = config->era;
    node->callbacks = config->callbacks;
    node->on_apply = config->on_apply;
    node->out = malloc(MESSAGE_BYTES_MAX);
    if (node->out == NULL) {
        rc = err_set(err, rc, "no memory for a Raft node");
        goto out;
    }
    rc = log_open(config->fs, config->dir, &node->log, err);
    if (rc != HA_OK) {
        goto out;
    }
    fsm_init(&node->fsm);
    node->fsm.data = node;
    node->fsm.on_apply = on_apply;
    io_init(node);
    if (raft_init(&node->raft, &node->io, &node->fsm.raft, config->id, config->address) != 0) {
        rc = err_set(err, HA_EFAILED, "raft_init: %s", raft_errmsg(&node->raft));
        goto out;
    }
    set_up_raft(node, config);
    *out = node;
    return HA_OK;
out:
    if (node->log != NULL) {
        log_close(node->log);
    }
    free(node->out);
    free(node);
    return rc;
}

/* libraft's code as ours; what happened below raft_io is more precise. */
static int
start_error(struct raft_node *node, int rv, const char *what, struct err *err)
{
    if (node->err.code != HA_OK) {
        return err_set(err, node->err.code, "%s: %.400s", what, node->err.text);
    }
    return err_set(err,
                   rv == RAFT_CORRUPT || rv == RAFT_MALFORMED ? HA_ECORRUPT : HA_EFAILED,
                   "%s: %s",
                   what,
                   raft_errmsg(&node->raft));
}

/* Hands a first or a forced configuration to libraft, which hands it to io_load.c. */
static int
write_configuration(struct raft_node *node,
                    const struct raft_server_view *servers,
                    size_t n,
                    int (*write)(struct raft *r, const struct raft_configuration *conf))
{
    struct raft_configuration conf;
    int rv = 0;

    REQUIRE(!node->is_started && n > 0 && n <= RAFT_SERVERS_MAX, "before the start, with servers");
    node->err = (struct err){0};
    raft_configuration_init(&conf);
    for (size_t i = 0; i < n && rv == 0; i++) {
        rv = raft_configuration_add(&conf,
                                    servers[i].id,
                                    servers[i].address,
                                    servers[i].is_voter ? RAFT_VOTER : RAFT_SPARE);
    }
    if (rv == 0) {
        rv = write(&node->raft, &conf);
    }
    raft_configuration_close(&conf);
    return rv;
}

int
raft_node_bootstrap(struct raft_node *node,
                    const struct raft_server_view *servers,
                    size_t n,
                    struct err *err)
{
    const int rv = write_configuration(node, servers, n, raft_bootstrap);

    return rv == 0 ? HA_OK : start_error(node, rv, "bootstrap", err);
}

int
raft_node_recover(struct raft_node *node,
                  const struct raft_server_view *servers,
                  size_t n,
                  struct err *err)
{
    const int rv = write_configuration(node, servers, n, raft_recover);

    return rv == 0 ? HA_OK : start_error(node, rv, "recover", err);
}

int
raft_node_start(struct raft_node *node, struct err *err)
{
    REQUIRE(!node->is_started && !node->is_closing, "started once");
    node->err = (struct err){0};
    const int rv = raft_start(&node->raft);
    if (rv != 0) {
        const int rc = start_error(node, rv, "start", err);
        node->is_failed = true;
        node->is_fatal_told = true;
        return rc;
    }
    node->is_started = true;
    node_poll(node);
    return HA_OK;
}

static void
barrier_cb(struct raft_barrier *req, int status)
{
    (void)req;
    (void)status;
}

/* The first entry of the own term, or where it would be. */
static uint64_t
own_first(struct raft *r)
{
    uint64_t index = raft_last_index(r) + 1;

    while (index > 1 && compat_term_at(r, index - 1) == r->current_term) {
        index--;
    }
    return index;
}

/* A new leader's first entry, at once; libraft may have made it. Everything that is decided waits
 * for its commit. */
static void
propose_barrier(struct raft_node *node)
{
    struct raft *r = &node->raft;
    const uint64_t index = own_first(r);

    node->barrier_term = r->current_term;
    node->guard.own_first = index;
    memset(node->marks, 0, sizeof node->marks);
    if (index <= raft_last_index(r)) {
        return;
    }
    const int rv = raft_barrier(r, &node->barrier, barrier_cb);
    if (rv != 0) {
        /* Tried again at the next poll; until then nothing counts. */
        node->guard.own_first = 0;
        node->barrier_term = 0;
        node_log(node, 1, "raft_barrier_failed", "%s", raft_strerror(rv));
    }
}

static void
poll_role(struct raft_node *node)
{
    struct raft *r = &node->raft;

    if (r->state != RAFT_LEADER) {
        node->guard.own_first = 0;
        node->barrier_term = 0;
    } else if (node->barrier_term != r->current_term) {
        propose_barrier(node);
    }
    node->is_ready = node->guard.own_first != 0 && r->last_applied >= node->guard.own_first;
}

static unsigned
count_voters(const struct raft *r)
{
    unsigned n = 0;

    for (unsigned i = 0; i < r->configuration.n; i++) {
        n += r->configuration.servers[i].role == RAFT_VOTER ? 1 : 0;
    }
    return n;
}

/* The watch: what guard G1 makes impossible must not have happened. No callback has told anybody
 * of it yet, so stopping here undoes it. A single voter's disk alone decides: not watched. */
static void
poll_commit(struct raft_node *node)
{
    struct raft *r = &node->raft;

    if (r->commit_index <= node->commit_seen) {
        return;
    }
    if (r->state == RAFT_LEADER && count_voters(r) > 1 &&
        (node->guard.own_first == 0 || r->commit_index < node->guard.own_first)) {
        node_fail(node, "an entry of an older term was counted as committed", NULL);
        return;
    }
    node->commit_seen = r->commit_index;
}

static void
poll_faults(struct raft_node *node)
{
    if (node->fsm.is_broken) {
        node_fail(node, "the leader's snapshot is unreadable", NULL);
    } else if (node->raft.state == RAFT_UNAVAILABLE) {
        node_fail(node, raft_errmsg(&node->raft), NULL);
    }
    if (node->fsm.n_unread != node->unread_seen) {
        node->unread_seen = node->fsm.n_unread;
        node_log(node,
                 0,
                 "raft_command_unread",
                 "a committed command could not be decoded and has no effect (%" PRIu64 " so far)",
                 node->fsm.n_unread);
    }
}

void
node_poll(struct raft_node *node)
{
    if (!node->is_started || node->is_failed || node->is_closing || node->is_polling) {
        return;
    }
    node->is_polling = true;
    io_finish_sends(node, false);
    poll_role(node);
    io_release_held(node);
    io_finish_sends(node, false);
    poll_role(node);
    compat_fire_requests(&node->raft);
    poll_commit(node);
    poll_faults(node);
    if (node->raft.state == RAFT_LEADER && !node->is_failed) {
        io_send_commit(node);
    }
    node->is_polling = false;
    /* Proposals, changes and callbacks follow from the top of the loop. */
    node->env->wake(node->env);
}

void
raft_node_receive(
    struct raft_node *node, const char *from, uint8_t type, const void *body, size_t len)
{
    if (!node->is_started || node->is_failed || node->is_closing) {
        return;
    }
    if (type == PEER_RAFT) {
        io_receive(node, from, body, len);
    } else {
        propose_receive(node, from, type, body, len);
    }
}

void
raft_node_tick(struct raft_node *node)
{
    if (!node->is_started || node->is_failed || node->is_closing || node->tick_cb == NULL) {
        return;
    }
    if (!node->is_installing) {
        io_begin_own_term(node);
        node->tick_cb(&node->io);
    }
    node_poll(node);
}

const struct state *
raft_node_state(const struct raft_node *node)
{
    return &node->fsm.state;
}

static enum raft_role
view_role(const struct raft_node *node)
{
    if (!node->is_started || node->is_failed || node->is_closing) {
        return RAFT_ROLE_NONE;
    }
    switch (node->raft.state) {
    case RAFT_FOLLOWER:
        return RAFT_ROLE_FOLLOWER;
    case RAFT_CANDIDATE:
        return RAFT_ROLE_CANDIDATE;
    case RAFT_LEADER:
        return RAFT_ROLE_LEADER;
    default:
        return RAFT_ROLE_NONE;
    }
}

void
raft_node_get_view(const struct raft_node *node, struct raft_view *view)
{
    /* libraft's getters take a mutable pointer and change nothing. */
    struct raft *r = (struct raft *)(uintptr_t)&node->raft;
    const char *address = NULL;
    raft_id leader = 0;

    memset(view, 0, sizeof *view);
    view->role = view_role(node);
    if (view->role == RAFT_ROLE_NONE) {
        return;
    }
    view->is_ready = node->is_ready;
    view->is_changing = change_is_pending(node);
    view->is_uncommitted = r->configuration_uncommitted_index != 0;
    view->term = r->current_term;
    raft_leader(r, &leader, &address);
    if (leader != 0 && address != NULL) {
        view->leader = leader;
        (void)strncpy(view->leader_address, address, sizeof view->leader_address - 1);
    }
    view->commit_index = r->commit_index;
    view->applied_index = r->last_applied;
    view->last_index = raft_last_index(r);
    for (unsigned i = 0; i < r->configuration.n && i < RAFT_SERVERS_MAX; i++) {
        struct raft_server_view *s = &view->servers[view->n_servers++];
        s->id = r->configuration.servers[i].id;
        s->is_voter = r->configuration.servers[i].role == RAFT_VOTER;
        (void)strncpy(s->address, r->configuration.servers[i].address, sizeof s->address - 1);
    }
}

/* Everything but the indexes, which change with every entry. */
static bool
is_view_changed(const struct raft_view *a, const struct raft_view *b)
{
    if (a->role != b->role || a->is_ready != b->is_ready || a->is_changing != b->is_changing ||
        a->is_uncommitted != b->is_uncommitted || a->term != b->term || a->leader != b->leader ||
        a->n_servers != b->n_servers || strcmp(a->leader_address, b->leader_address) != 0) {
        return true;
    }
    for (uint32_t i = 0; i < a->n_servers; i++) {
        if (a->servers[i].id != b->servers[i].id ||
            a->servers[i].is_voter != b->servers[i].is_voter ||
            strcmp(a->servers[i].address, b->servers[i].address) != 0) {
            return true;
        }
    }
    return false;
}

static void
tell(struct raft_node *node)
{
    struct raft_view view;

    raft_node_get_view(node, &view);
    if (node->fsm.is_changed && !node->is_failed) {
        node->fsm.is_changed = false;
        if (node->callbacks.on_state != NULL) {
            node->callbacks.on_state(
                node->callbacks.data, &node->fsm.state, node->raft.last_applied);
        }
    }
    if (is_view_changed(&view, &node->view)) {
        node->view = view;
        if (node->callbacks.on_view != NULL) {
            node->callbacks.on_view(node->callbacks.data, &view);
        }
    }
    if (node->is_failed && !node->is_fatal_told) {
        node->is_fatal_told = true;
        if (node->callbacks.on_fatal != NULL) {
            node->callbacks.on_fatal(node->callbacks.data, node->err.text);
        }
    }
}

static void
raft_closed(struct raft *r)
{
    struct raft_node *node = (struct raft_node *)r;

    node->is_closed = true;
}

void
raft_node_close(struct raft_node *node, void (*closed)(void *data), void *data)
{
    REQUIRE(!node->is_closing, "closed once");
    node->is_closing = true;
    node->closed = closed;
    node->closed_data = data;
    raft_close(&node->raft, raft_closed);
    node->env->wake(node->env);
}

/* True when the node is gone. */
static bool
close_step(struct raft_node *node)
{
    void (*closed)(void *data) = node->closed;
    void *data = node->closed_data;

    if (node->is_disk_busy) {
        return false;
    }
    io_disk_cancel(node);
    io_finish_sends(node, true);
    node->io_closed(&node->io);
    ENSURE(node->is_closed, "libraft let go");
    propose_step(node);
    log_close(node->log);
    free(node->out);
    free(node);
    if (closed != NULL) {
        closed(data);
    }
    return true;
}

void
raft_node_turn(struct raft_node *node)
{
    if (node->is_closing) {
        (void)close_step(node);
        return;
    }
    propose_step(node);
    change_step(node);
    tell(node);
}
