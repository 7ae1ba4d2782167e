/*
 * raft_io without the disk: messages out and in, term and vote, clock and chance.
 *
 * Out: libraft calls send() in the middle of its work and uses its request
 * afterwards, so a request is completed from node_poll(), never inside.
 * In:  io_receive() decodes, checks who speaks to whom, applies the guards and
 * enters libraft.
 */
#include <string.h>

#include "agent/net/peer.h"
#include "base/require.h"
#include "raft/compat.h"
#include "raft/node_internal.h"

/*
 * A write that failed is not reported: libraft's way back from a failed candidacy frees what it
 * must not. The node has stopped instead: from here on nothing is sent, written or told to anybody,
 * so what libraft goes on to do with the term in its memory stays there.
 */
static int
write_vote(struct raft_node *node, uint64_t term, uint64_t voted_for, const char *what)
{
    struct err err = {0};

    if (!node->is_failed && log_vote_set(node->log, term, voted_for, &err) != HA_OK) {
        node_fail(node, what, &err);
    }
    return 0;
}

static int
io_set_term(struct raft_io *io, raft_term term)
{
    struct raft_node *node = io->impl;

    /* A term that is on record keeps its vote: to forget that, if only until the vote is written
     * again, would be a second one for whoever asks after a crash in between. */
    if (term == node->guard.term) {
        return 0;
    }
    guard_set_term(&node->guard, term);
    node->vote = 0;
    return write_vote(node, term, 0, "write the term");
}

static int
io_set_vote(struct raft_io *io, raft_id server_id)
{
    struct raft_node *node = io->impl;

    if (server_id == node->vote) {
        return 0;
    }
    node->vote = server_id;
    return write_vote(node, node->guard.term, server_id, "write the vote");
}

void
io_begin_own_term(struct raft_node *node)
{
    struct raft *r = &node->raft;

    if (r->state != RAFT_FOLLOWER || r->voted_for == r->id ||
        !configuration_is_sole_voter(&r->configuration, r->id)) {
        return;
    }
    guard_set_term(&node->guard, r->current_term + 1);
    node->vote = r->id;
    (void)write_vote(node, r->current_term + 1, r->id, "write the term");
    r->current_term++;
    r->voted_for = r->id;
}

static raft_time
io_time(struct raft_io *io)
{
    struct raft_node *node = io->impl;

    return (raft_time)node->env->now_ms(node->env);
}

static int
io_random(struct raft_io *io, int min, int max)
{
    struct raft_node *node = io->impl;

    if (max <= min) {
        return min;
    }
    return min + (int)(node->env->random(node->env) % (uint32_t)(max - min));
}

/* libraft will hear `status` from the next poll. */
static int
sent_push(struct raft_node *node, struct raft_io_send *req, raft_io_send_cb cb, int status)
{
    if (cb == NULL) {
        return 0;
    }
    struct sent *sent = raft_malloc(sizeof *sent);
    if (sent == NULL) {
        return RAFT_NOMEM;
    }
    *sent = (struct sent){.req = req, .cb = cb, .status = status};
    if (node->sent_tail != NULL) {
        node->sent_tail->next = sent;
    } else {
        node->sent_head = sent;
    }
    node->sent_tail = sent;
    return 0;
}

void
io_finish_sends(struct raft_node *node, bool is_canceled)
{
    while (node->sent_head != NULL) {
        struct sent *sent = node->sent_head;
        node->sent_head = sent->next;
        if (node->sent_head == NULL) {
            node->sent_tail = NULL;
        }
        sent->cb(sent->req, is_canceled ? RAFT_CANCELED : sent->status);
        raft_free(sent);
    }
}

/* The entry of a server in the marks, or a free one; a stranger's place when all are taken. */
static struct sent_mark *
mark_of(struct raft_node *node, uint64_t id)
{
    struct sent_mark *spare = &node->marks[0];

    for (size_t i = 0; i < RAFT_SERVERS_MAX; i++) {
        if (node->marks[i].id == id) {
            return &node->marks[i];
        }
        if (node->marks[i].id == 0 && spare->id != 0) {
            spare = &node->marks[i];
        }
    }
    return spare;
}

static void
mark_sent(struct raft_node *node, uint64_t id, const struct raft_append_entries *args, unsigned n)
{
    struct sent_mark *mark = mark_of(node, id);

    if (mark->id != id) {
        *mark = (struct sent_mark){.id = id};
    }
    mark->index = args->prev_log_index + n;
    mark->term = n > 0 ? args->entries[n - 1].term : args->prev_log_term;
}

/* G2: what a success may say. False: nothing. */
static bool
guard_success(struct raft_node *node, struct raft_append_entries_result *result)
{
    if (node->is_mute) {
        return false;
    }
    if (node->matching.is_set) {
        guard_set_verified(&node->guard, node->matching.term, node->matching.index);
    }
    result->last_log_index = guard_report(&node->guard, result->last_log_index);
    return true;
}

/* False: the message must not leave. */
static bool
guard_outgoing(struct raft_node *node, struct raft_message *m)
{
    struct raft_request_vote_result *vote = &m->request_vote_result;

    if (m->type == RAFT_IO_APPEND_ENTRIES_RESULT && m->append_entries_result.rejected == 0) {
        return guard_success(node, &m->append_entries_result);
    }
    if (m->type == RAFT_IO_REQUEST_VOTE_RESULT && !vote->vote_granted) {
        vote->term = guard_vote_term(&node->guard, vote->term);
    }
    return true;
}

/* The snapshot was read since libraft wrote the message: see raft/compat.h. */
static void
check_snapshot(const struct raft_node *node, struct raft_message *m)
{
    const struct raft_configuration *conf = &node->raft.configuration;

    m->server_address = NULL;
    for (unsigned i = 0; i < conf->n; i++) {
        if (conf->servers[i].id == m->server_id) {
            m->server_address = conf->servers[i].address;
        }
    }
    if (m->install_snapshot.last_index == node->snapshot_read.index) {
        m->install_snapshot.last_term = node->snapshot_read.term;
    }
}

static int
io_send(struct raft_io *io,
        struct raft_io_send *req,
        const struct raft_message *message,
        raft_io_send_cb cb)
{
    struct raft_node *node = io->impl;
    struct raft_message m = *message;
    bool is_sent = false;
    unsigned n = 0;

    if (m.type == RAFT_IO_INSTALL_SNAPSHOT) {
        check_snapshot(node, &m);
    }
    if (!node->is_failed && !node->is_closing && m.server_id != 0 && m.server_address != NULL &&
        guard_outgoing(node, &m)) {
        const size_t len = message_encode(
            &m, node->raft.id, m.server_id ^ node->era, node->out, MESSAGE_BYTES_MAX, &n);
        ENSURE(len > 0, "every message of libraft fits");
        is_sent = node->env->send(node->env, m.server_address, (uint8_t)PEER_RAFT, node->out, len);
    }
    if (is_sent && m.type == RAFT_IO_APPEND_ENTRIES) {
        mark_sent(node, m.server_id, &m.append_entries, n);
    }
    return sent_push(node, req, cb, is_sent ? 0 : RAFT_NOCONNECTION);
}

void
io_send_commit(struct raft_node *node)
{
    const struct raft *r = &node->raft;

    for (unsigned i = 0; i < r->configuration.n; i++) {
        const struct raft_server *server = &r->configuration.servers[i];
        struct sent_mark *mark = mark_of(node, server->id);
        unsigned n = 0;

        if (server->id == r->id || mark->id != server->id || mark->acked < r->commit_index ||
            mark->told >= r->commit_index || mark->index == 0) {
            continue;
        }
        /* A heartbeat right behind what was sent last; a follower that lacks that says so. */
        struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES};
        m.append_entries.term = r->current_term;
        m.append_entries.prev_log_index = mark->index;
        m.append_entries.prev_log_term = mark->term;
        m.append_entries.leader_commit = r->commit_index;
        const size_t len =
            message_encode(&m, r->id, server->id ^ node->era, node->out, MESSAGE_BYTES_MAX, &n);
        if (node->env->send(node->env, server->address, (uint8_t)PEER_RAFT, node->out, len)) {
            mark->told = r->commit_index;
        }
    }
}

/* A follower that stored an entry after its commit has not heard of that yet. */
static void
note_ack(struct raft_node *node, uint64_t id, uint64_t index)
{
    struct sent_mark *mark = mark_of(node, id);

    if (mark->id == id && index > mark->acked) {
        mark->acked = index;
    }
}

/*
 * The link vouches for the address. The id that the message names must not be another address's:
 * an id belongs to one address for ever. A pair that our configuration does not know yet is let
 * in, for a joining or a lagging member learns the configuration from such a sender.
 */
static bool
is_plausible_sender(const struct raft_node *node, uint64_t id, const char *from)
{
    const struct raft_configuration *conf = &node->raft.configuration;

    if (id == node->raft.id) {
        return false;
    }
    for (unsigned i = 0; i < conf->n; i++) {
        if (conf->servers[i].id == id) {
            return strcmp(conf->servers[i].address, from) == 0;
        }
    }
    return true;
}

/* G1: keeps the furthest success of a server until the first own entry is on disk. */
static void
hold_result(struct raft_node *node, const struct raft_message *m)
{
    struct held_result *held = NULL;

    for (uint32_t i = 0; i < node->n_held; i++) {
        if (node->held[i].id == m->server_id) {
            held = &node->held[i];
        }
    }
    if (held == NULL) {
        if (node->n_held == RAFT_SERVERS_MAX) {
            return;
        }
        held = &node->held[node->n_held++];
        *held = (struct held_result){.id = m->server_id};
        (void)strncpy(held->address, m->server_address, sizeof held->address - 1);
    }
    if (m->append_entries_result.last_log_index >= held->result.last_log_index) {
        held->result = m->append_entries_result;
    }
}

/* G4: the message begins at our commit index, with our term there. */
static void
skip_committed(const struct raft *r, struct raft_append_entries *args)
{
    const uint64_t skip = guard_skip(args->prev_log_index, args->n_entries, r->commit_index);
    uint64_t term = compat_term_at(r, r->commit_index);
    void *batch;

    if (term == 0 && args->prev_log_index + skip == r->commit_index && skip > 0) {
        term = args->entries[skip - 1].term;
    }
    if (args->prev_log_index >= r->commit_index || term == 0 || args->term < r->current_term) {
        return;
    }
    args->prev_log_index = r->commit_index;
    args->prev_log_term = term;
    if (skip == 0) {
        return;
    }
    batch = args->entries[0].batch;
    args->n_entries -= (unsigned)skip;
    memmove(args->entries, args->entries + skip, args->n_entries * sizeof args->entries[0]);
    if (args->n_entries == 0) {
        raft_free(batch);
        raft_free(args->entries);
        args->entries = NULL;
    }
}

/* A configuration that is new to us is the first new entry of its message; see raft/compat.h. */
static void
cut_before_change(const struct raft *r, struct raft_append_entries *args)
{
    for (unsigned i = 1; i < args->n_entries; i++) {
        if (args->entries[i].type == RAFT_CHANGE &&
            compat_term_at(r, args->prev_log_index + i) != args->entries[i - 1].term) {
            args->n_entries = i;
            return;
        }
    }
}

/* Applies the guards to what came in. False: it was taken care of, libraft does not see it. */
static bool
guard_incoming(struct raft_node *node, struct raft_message *m)
{
    struct raft *r = &node->raft;

    switch ((unsigned)m->type) {
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        if (r->state != RAFT_LEADER || m->append_entries_result.term != r->current_term ||
            m->append_entries_result.rejected != 0) {
            return true;
        }
        note_ack(node, m->server_id, m->append_entries_result.last_log_index);
        if (!guard_may_count(&node->guard, r->last_stored)) {
            hold_result(node, m);
            return false;
        }
        return true;
    case RAFT_IO_APPEND_ENTRIES: {
        struct raft_append_entries *args = &m->append_entries;
        skip_committed(r, args);
        cut_before_change(r, args);
        args->leader_commit =
            guard_commit(args->prev_log_index, args->n_entries, args->leader_commit);
        node->matching.is_set = true;
        node->matching.term = args->term;
        node->matching.index = args->prev_log_index + args->n_entries;
        if (r->state != RAFT_LEADER || args->term > r->current_term) {
            compat_forget_uncommitted(r);
        }
        return true;
    }
    case RAFT_IO_REQUEST_VOTE: {
        const struct raft_request_vote *args = &m->request_vote;
        return args->pre_vote || args->term != r->current_term || r->transfer == NULL ||
               guard_may_ask(node->vote, args->candidate_id);
    }
    case RAFT_IO_INSTALL_SNAPSHOT:
        node->matching.is_set = true;
        node->matching.term = m->install_snapshot.term;
        node->matching.index = m->install_snapshot.last_index;
        /* One at a time; the leader tries again. */
        return !node->is_snapshotting;
    default:
        return true;
    }
}

void
io_receive(struct raft_node *node, const char *from, const void *body, size_t len)
{
    struct raft_message m;
    uint64_t to = 0;
    const int rc = message_decode(&m, &to, body, len);

    if (rc != HA_OK) {
        node_log(node,
                 1,
                 "raft_rubbish",
                 "%s sent a message that cannot be read: %s",
                 from,
                 err_code_text(rc));
        return;
    }
    m.server_address = from;
    /* While a leader's snapshot is written libraft's memory is ahead of the disk in a way that it
     * does not handle; what is lost now is sent again. */
    if (node->recv_cb == NULL || node->is_installing || to != (node->raft.id ^ node->era) ||
        !is_plausible_sender(node, m.server_id, from) || !guard_incoming(node, &m)) {
        message_free(&m);
    } else {
        node->recv_cb(&node->io, &m);
    }
    node->matching.is_set = false;
    node_poll(node);
}

void
io_release_held(struct raft_node *node)
{
    const uint64_t term = node->raft.current_term;

    if (node->n_held == 0) {
        return;
    }
    if (node->raft.state != RAFT_LEADER || node->held[0].result.term != term) {
        node->n_held = 0;
        return;
    }
    if (!guard_may_count(&node->guard, node->raft.last_stored)) {
        return;
    }
    const uint32_t n = node->n_held;
    node->n_held = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES_RESULT,
                                 .server_id = node->held[i].id,
                                 .server_address = node->held[i].address};
        m.append_entries_result = node->held[i].result;
        node->recv_cb(&node->io, &m);
    }
}

static int
io_start(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv)
{
    struct raft_node *node = io->impl;

    node->tick_cb = tick;
    node->recv_cb = recv;
    node->env->tick_start(node->env, msecs);
    return 0;
}

static int
io_open(struct raft_io *io, raft_id id, const char *address)
{
    (void)io;
    (void)id;
    (void)address;
    return 0;
}

static void
io_close(struct raft_io *io, raft_io_close_cb cb)
{
    struct raft_node *node = io->impl;

    node->env->tick_stop(node->env);
    node->tick_cb = NULL;
    node->recv_cb = NULL;
    node->io_closed = cb; /* called from the turn that finds the disk quiet */
}

void
io_init(struct raft_node *node)
{
    node->io.version = 1;
    node->io.impl = node;
    node->io.init = io_open;
    node->io.close = io_close;
    node->io.start = io_start;
    node->io.set_term = io_set_term;
    node->io.set_vote = io_set_vote;
    node->io.send = io_send;
    node->io.time = io_time;
    node->io.random = io_random;
    io_disk_init(node);
}
