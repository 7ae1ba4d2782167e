/*
 * Proposals: one of this member at a time, and on the leader those of everybody.
 *
 * A follower's goes to the leader as PEER_PROPOSE and is answered by PEER_PROPOSED. One entry is
 * in libraft at a time: it reports several badly. Nothing is retransmitted; whoever hears
 * HA_EUNKNOWN repeats the command with its idempotency key.
 */
#include <string.h>

#include "agent/net/peer.h"
#include "base/codec.h"
#include "base/require.h"
#include "raft/node_internal.h"

#define FORMAT 1
#define PROPOSE_BYTES_MAX (48 + COMMAND_BYTES_MAX)
#define PROPOSED_BYTES 48

/* Long enough for one election, short enough to be repeated within two. */
static int64_t
deadline(const struct raft_node *node)
{
    return node->env->now_ms(node->env) + 2 * (int64_t)node->raft.election_timeout;
}

static void
put_header(struct codec_writer *w, const struct raft_node *node, uint64_t to, uint64_t request)
{
    codec_put_u8(w, FORMAT);
    codec_put_padding(w, 8);
    codec_put_u64(w, node->raft.id);
    codec_put_u64(w, to ^ node->era);
    codec_put_u64(w, request);
}

static bool
send_propose(struct raft_node *node, uint64_t to, const char *address)
{
    uint8_t out[PROPOSE_BYTES_MAX];
    struct codec_writer w;

    codec_writer_init(&w, out, sizeof out);
    put_header(&w, node, to, node->local.request);
    codec_put_u32(&w, (uint32_t)node->local.len);
    codec_put_bytes(&w, node->local.bytes, node->local.len);
    ENSURE(!w.failed, "a command is bounded");
    return node->env->send(node->env, address, (uint8_t)PEER_PROPOSE, out, w.len);
}

static void
send_proposed(struct raft_node *node, const struct proposal *p, int rc, uint64_t index)
{
    uint8_t out[PROPOSED_BYTES];
    struct codec_writer w;

    codec_writer_init(&w, out, sizeof out);
    put_header(&w, node, p->from_id, p->request);
    codec_put_i64(&w, rc);
    codec_put_u64(&w, index);
    ENSURE(!w.failed && w.len == PROPOSED_BYTES, "an answer has a fixed size");
    (void)node->env->send(node->env, p->from, (uint8_t)PEER_PROPOSED, out, w.len);
}

/* The last step of the own proposal. The slot is free before `done` runs: it may propose again. */
static void
local_finish(struct raft_node *node, int rc)
{
    void (*done)(void *data, int rc) = node->local.done;
    void *data = node->local.data;

    node->local.phase = LOCAL_FREE;
    if (done != NULL) {
        done(data, rc);
    }
}

/* An answer; the caller hears it when the own state shows it. */
static void
local_answer(struct raft_node *node, int rc, uint64_t index)
{
    node->local.rc = rc;
    node->local.index = index;
    node->local.phase = LOCAL_APPLYING;
    if (rc != HA_OK && rc != HA_EREFUSED) {
        node->local.index = 0;
    }
    node->env->wake(node->env);
}

int
raft_node_propose(struct raft_node *node,
                  const struct command *command,
                  void (*done)(void *data, int rc),
                  void *data)
{
    struct local *local = &node->local;

    if (local->phase != LOCAL_FREE) {
        return HA_EBUSY;
    }
    if (!node->is_started || node->is_failed || node->is_closing) {
        return HA_EFAILED;
    }
    local->len = command_encode(command, local->bytes, sizeof local->bytes);
    if (local->len == 0) {
        return HA_EINVAL;
    }
    ENSURE(local->len % 8 == 0, "libraft 0.15 corrupts its log on any other length");
    local->phase = LOCAL_NEW;
    local->request = (uint64_t)node->env->random(node->env) << 32 | (uint32_t)(local->request + 1);
    local->done = done;
    local->data = data;
    local->deadline_ms = deadline(node);
    node->env->wake(node->env);
    return HA_OK;
}

/* The leader's queue: takes a proposal in. False when it is full. */
static bool
queue_push(struct raft_node *node, const struct proposal *p)
{
    struct proposals *q = &node->proposals;

    /* A member has one at a time: a newer one means that it gave the older one up. */
    for (uint32_t i = q->is_submitted ? 1 : 0; i < q->n; i++) {
        if (q->queue[i].from_id == p->from_id && q->queue[i].is_local == p->is_local) {
            q->queue[i] = *p;
            return true;
        }
    }
    if (q->n == PROPOSALS_MAX) {
        return false;
    }
    q->queue[q->n++] = *p;
    node->env->wake(node->env);
    return true;
}

static void
queue_remove(struct raft_node *node, uint32_t i)
{
    struct proposals *q = &node->proposals;

    memmove(&q->queue[i], &q->queue[i + 1], (q->n - i - 1) * sizeof q->queue[0]);
    q->n--;
}

/* Answers the proposal at `i` and takes it out. */
static void
queue_finish(struct raft_node *node, uint32_t i, int rc, uint64_t index)
{
    const struct proposal p = node->proposals.queue[i];

    queue_remove(node, i);
    if (!p.is_local) {
        send_proposed(node, &p, rc, index);
    } else if (node->local.phase == LOCAL_QUEUED && node->local.request == p.request) {
        local_answer(node, rc, index);
    }
}

/* Inside libraft: write down, nothing more. */
static void
apply_cb(struct raft_apply *req, int status, void *result)
{
    struct raft_node *node = req->data;

    node->proposals.is_answered = true;
    node->proposals.index = req->index;
    node->proposals.rc = status == 0 ? *(const int *)result : HA_EUNKNOWN;
    /* An entry without effect: whoever proposed bytes that nobody reads is refused. */
    if (status == 0 && node->proposals.rc != HA_OK) {
        node->proposals.rc = HA_EREFUSED;
    }
}

/* Hands the first of the queue to libraft. */
static void
queue_submit(struct raft_node *node)
{
    struct proposals *q = &node->proposals;
    struct raft_buffer buf = {.len = q->queue[0].len};

    buf.base = raft_malloc(buf.len);
    if (buf.base == NULL) {
        queue_finish(node, 0, HA_ENOTLEADER, 0);
        return;
    }
    memcpy(buf.base, q->queue[0].bytes, buf.len);
    q->req.data = node;
    q->is_submitted = true;
    q->is_answered = false;
    const int rv = raft_apply(&node->raft, &q->req, &buf, 1, apply_cb);
    if (rv != 0) {
        q->is_submitted = false;
        raft_free(buf.base);
        queue_finish(node, 0, HA_ENOTLEADER, 0);
    }
    node_poll(node);
}

static void
queue_step(struct raft_node *node)
{
    struct proposals *q = &node->proposals;
    const int64_t now = node->env->now_ms(node->env);

    if (q->is_submitted && q->is_answered) {
        q->is_submitted = false;
        queue_finish(node, 0, q->rc, q->index);
    }
    for (uint32_t i = q->is_submitted ? 1 : 0; i < q->n;) {
        if (!node_is_leader(node) || now >= q->queue[i].deadline_ms) {
            queue_finish(node, i, HA_ENOTLEADER, 0);
        } else {
            i++;
        }
    }
    if (!q->is_submitted && q->n > 0 && node->is_ready && node->raft.transfer == NULL &&
        !node->change.wants_transfer) {
        queue_submit(node);
    }
}

/* The own proposal finds its way. */
static void
local_start(struct raft_node *node, const struct raft_view *view)
{
    struct local *local = &node->local;

    if (view->role == RAFT_ROLE_LEADER) {
        struct proposal p = {.is_local = true,
                             .from_id = node->raft.id,
                             .request = local->request,
                             .deadline_ms = local->deadline_ms,
                             .len = local->len};
        memcpy(p.bytes, local->bytes, local->len);
        local->phase = LOCAL_QUEUED;
        if (!queue_push(node, &p)) {
            local_answer(node, HA_ENOTLEADER, 0);
        }
        return;
    }
    local->leader = view->leader;
    local->term = view->term;
    local->phase = LOCAL_FORWARDED;
    if (view->leader == 0 || view->leader == node->raft.id ||
        !send_propose(node, view->leader, view->leader_address)) {
        local_answer(node, HA_ENOTLEADER, 0);
    }
}

static void
local_step(struct raft_node *node)
{
    struct local *local = &node->local;
    struct raft_view view;

    if (local->phase == LOCAL_FREE) {
        return;
    }
    raft_node_get_view(node, &view);
    const bool is_late = node->env->now_ms(node->env) >= local->deadline_ms;
    switch (local->phase) {
    case LOCAL_NEW:
        local_start(node, &view);
        break;
    case LOCAL_FORWARDED:
        if (is_late || view.term != local->term || view.leader != local->leader) {
            local_answer(node, HA_EUNKNOWN, 0);
        }
        break;
    case LOCAL_APPLYING:
        if (view.applied_index >= local->index || local->index == 0) {
            local_finish(node, local->rc);
        } else if (is_late) {
            local_finish(node, HA_EUNKNOWN);
        }
        break;
    case LOCAL_FREE:
    case LOCAL_QUEUED:
        break;
    }
}

void
propose_step(struct raft_node *node)
{
    if (node->is_failed || node->is_closing) {
        if (node->local.phase != LOCAL_FREE) {
            const bool is_new = node->local.phase == LOCAL_NEW;
            local_finish(node, is_new ? HA_ENOTLEADER : HA_EUNKNOWN);
        }
        return;
    }
    queue_step(node);
    local_step(node);
}

static void
receive_propose(struct raft_node *node,
                const char *from,
                uint64_t from_id,
                uint64_t request,
                struct codec_reader *r)
{
    struct proposal p = {.from_id = from_id, .request = request, .deadline_ms = deadline(node)};
    struct command command;

    p.len = codec_get_u32(r);
    if (p.len == 0 || p.len > sizeof p.bytes || p.len % 8 != 0 || p.len != r->left) {
        node_log(node, 1, "raft_rubbish", "%s sent a proposal that cannot be read", from);
        return;
    }
    codec_get_bytes(r, p.bytes, p.len);
    (void)strncpy(p.from, from, sizeof p.from - 1);
    if (command_decode(&command, p.bytes, p.len) != HA_OK) {
        node_log(node, 1, "raft_rubbish", "%s proposed a command that cannot be decoded", from);
        send_proposed(node, &p, HA_EREFUSED, 0);
    } else if (!node_is_leader(node) || !queue_push(node, &p)) {
        send_proposed(node, &p, HA_ENOTLEADER, 0);
    }
}

static void
receive_proposed(struct raft_node *node, uint64_t from_id, uint64_t request, struct codec_reader *r)
{
    const int64_t rc = codec_get_i64(r);
    const uint64_t index = codec_get_u64(r);

    if (!codec_reader_is_done(r) || node->local.phase != LOCAL_FORWARDED ||
        node->local.request != request || node->local.leader != from_id) {
        return;
    }
    if (rc != HA_OK && rc != HA_EREFUSED && rc != HA_ENOTLEADER) {
        local_answer(node, HA_EUNKNOWN, 0);
        return;
    }
    local_answer(node, (int)rc, index);
}

void
propose_receive(
    struct raft_node *node, const char *from, uint8_t type, const void *body, size_t len)
{
    struct codec_reader r;
    uint8_t header[8];

    codec_reader_init(&r, body, len);
    codec_get_bytes(&r, header, sizeof header);
    const uint64_t from_id = codec_get_u64(&r);
    const uint64_t to = codec_get_u64(&r);
    const uint64_t request = codec_get_u64(&r);
    if (r.failed || header[0] != FORMAT || from_id == 0) {
        node_log(node, 1, "raft_rubbish", "%s sent a proposal that cannot be read", from);
        return;
    }
    if (to != (node->raft.id ^ node->era)) {
        return;
    }
    if (type == PEER_PROPOSE) {
        receive_propose(node, from, from_id, request, &r);
    } else if (type == PEER_PROPOSED) {
        receive_proposed(node, from_id, request, &r);
    }
}
