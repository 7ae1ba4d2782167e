/*
 * raft_io over store/log.h: one queue of disk work, done in the order asked.
 *
 * libraft changes its memory first and asks for the disk afterwards; it relies
 * on appends, truncations and snapshots reaching the disk in that order, and on
 * an append's callback meaning "synced". A failure is never reported to it as a
 * result: the node stops, and the next start finds what the disk really holds.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/require.h"
#include "raft/compat.h"
#include "raft/node_internal.h"

/* On the worker. */
static void
disk_run(struct raft_disk_job *job)
{
    struct disk_op *op = (struct disk_op *)job;

    switch (op->kind) {
    case DISK_APPEND:
        op->rc = log_append(op->log, op->index, op->entries, op->n, &op->err);
        break;
    case DISK_TRUNCATE:
        op->rc = log_truncate(op->log, op->index, &op->err);
        break;
    case DISK_SNAPSHOT_PUT:
        op->rc = log_snapshot_put(op->log, &op->snapshot, op->trailing, &op->err);
        break;
    case DISK_SNAPSHOT_GET:
        op->rc = log_snapshot_get(op->log, &op->snapshot, &op->memory, &op->err);
        break;
    case DISK_WORK:
        op->rc = ((struct raft_io_async_work *)op->req)->work(op->req);
        break;
    }
}

static const char *
disk_what(enum disk_kind kind)
{
    switch (kind) {
    case DISK_APPEND:
        return "append to the log";
    case DISK_TRUNCATE:
        return "truncate the log";
    case DISK_SNAPSHOT_PUT:
        return "write a snapshot";
    case DISK_SNAPSHOT_GET:
        return "read the snapshot";
    case DISK_WORK:
        break;
    }
    return "work in the background";
}

static void
disk_free(struct disk_op *op)
{
    free(op->memory);
    free(op->entries);
    free(op->configuration);
    free(op);
}

/* What log_snapshot_get() found, in libraft's shape. NULL: damaged, or out of memory. */
struct raft_snapshot *
io_snapshot_to_raft(const struct log_snapshot *from)
{
    struct raft_snapshot *s = raft_calloc(1, sizeof *s);

    if (s == NULL) {
        return NULL;
    }
    if (configuration_decode(&s->configuration, from->configuration, from->configuration_len) !=
        HA_OK) {
        raft_free(s);
        return NULL;
    }
    s->index = from->index;
    s->term = from->term;
    s->configuration_index = from->configuration_index;
    s->bufs = raft_calloc(1, sizeof *s->bufs);
    if (s->bufs != NULL) {
        s->n_bufs = 1;
        s->bufs[0].len = from->len;
        s->bufs[0].base = raft_malloc(from->len);
    }
    if (s->bufs == NULL || s->bufs[0].base == NULL) {
        raft_free(s->bufs);
        raft_configuration_close(&s->configuration);
        raft_free(s);
        return NULL;
    }
    memcpy(s->bufs[0].base, from->data, from->len);
    return s;
}

void
io_snapshot_free(struct raft_snapshot *s)
{
    if (s != NULL) {
        raft_configuration_close(&s->configuration);
        raft_free(s->bufs[0].base);
        raft_free(s->bufs);
        raft_free(s);
    }
}

/* A node that is closing or has failed sends nothing: it gets a snapshot of nothing where libraft
 * does not bear to hear of a failure. */
static void
answer_get(struct raft_node *node, struct disk_op *op, int status)
{
    struct raft_snapshot *snapshot = status == 0 ? io_snapshot_to_raft(&op->snapshot) : NULL;

    if (snapshot == NULL && status == 0) {
        node_fail(node, "decode the snapshot", NULL);
        status = RAFT_CORRUPT;
    }
    if (status != 0) {
        snapshot = compat_empty_snapshot();
    }
    node->snapshot_read.index = op->snapshot.index;
    node->snapshot_read.term = op->snapshot.term;
    op->cb.get(op->req, snapshot, snapshot != NULL ? 0 : status);
}

/* Tells libraft; status is 0, or RAFT_CANCELED while closing. */
static void
disk_answer(struct raft_node *node, struct disk_op *op, int status)
{
    switch (op->kind) {
    case DISK_APPEND:
        /* G2: what an older term's leader asked for does not answer the present one. */
        node->is_mute = op->term != node->guard.term;
        op->cb.append(op->req, status);
        node->is_mute = false;
        break;
    case DISK_TRUNCATE:
        break;
    case DISK_SNAPSHOT_PUT:
        node->is_snapshotting = false;
        node->is_installing = false;
        op->cb.put(op->req, status);
        if (op->is_install && status != 0) {
            compat_free_install(op->bufs);
        }
        break;
    case DISK_SNAPSHOT_GET:
        answer_get(node, op, status);
        break;
    case DISK_WORK:
        op->cb.work(op->req, status == 0 ? op->rc : status);
        break;
    }
}

static void
disk_next(struct raft_node *node)
{
    if (node->disk_head != NULL && !node->is_disk_busy && !node->is_failed && !node->is_closing) {
        node->is_disk_busy = true;
        node->env->disk_submit(node->env, &node->disk_head->job);
    }
}

static struct disk_op *
disk_pop(struct raft_node *node)
{
    struct disk_op *op = node->disk_head;

    node->disk_head = op->next;
    if (node->disk_head == NULL) {
        node->disk_tail = NULL;
    }
    return op;
}

/* On the loop, after the worker. */
static void
disk_done(struct raft_disk_job *job)
{
    struct disk_op *op = (struct disk_op *)job;
    struct raft_node *node = op->node;

    ENSURE(node->disk_head == op && node->is_disk_busy, "one at a time, in order");
    node->is_disk_busy = false;
    if (node->is_closing || node->is_failed) {
        /* It stays at the head and is canceled with the others. */
        node->env->wake(node->env);
        return;
    }
    ENSURE(!job->was_canceled, "work is canceled only while closing");
    if (op->rc != HA_OK && op->kind != DISK_WORK) {
        node_fail(node, disk_what(op->kind), &op->err);
        return;
    }
    (void)disk_pop(node);
    disk_answer(node, op, 0);
    disk_free(op);
    disk_next(node);
    node_poll(node);
}

/* libraft is closed by now and does nothing with an answer but let go of its memory. */
void
io_disk_cancel(struct raft_node *node)
{
    ENSURE(!node->is_disk_busy, "the worker has let go");
    ENSURE(compat_is_closed(&node->raft), "nobody acts on what follows");
    while (node->disk_head != NULL) {
        struct disk_op *op = disk_pop(node);
        disk_answer(node, op, compat_canceled(op->kind == DISK_APPEND));
        disk_free(op);
    }
}

static struct disk_op *
disk_new(struct raft_node *node, enum disk_kind kind)
{
    struct disk_op *op = calloc(1, sizeof *op);

    if (op != NULL) {
        op->job.run = disk_run;
        op->job.done = disk_done;
        op->kind = kind;
        op->log = node->log;
        op->node = node;
        op->term = node->guard.term;
    }
    return op;
}

static void
disk_push(struct raft_node *node, struct disk_op *op)
{
    if (node->disk_tail != NULL) {
        node->disk_tail->next = op;
    } else {
        node->disk_head = op;
    }
    node->disk_tail = op;
    disk_next(node);
}

static int
io_append(struct raft_io *io,
          struct raft_io_append *req,
          const struct raft_entry entries[],
          unsigned n,
          raft_io_append_cb cb)
{
    struct raft_node *node = io->impl;
    struct disk_op *op = disk_new(node, DISK_APPEND);

    if (op == NULL) {
        return RAFT_NOMEM;
    }
    op->entries = calloc(n, sizeof *op->entries);
    if (op->entries == NULL) {
        free(op);
        return RAFT_NOMEM;
    }
    op->n = n;
    op->index = node->last_index + 1;
    op->req = req;
    op->cb.append = cb;
    for (unsigned i = 0; i < n; i++) {
        ENSURE(entries[i].buf.len % 8 == 0, "libraft 0.15 corrupts any other length");
        op->entries[i] = (struct log_entry){.term = entries[i].term,
                                            .type = (uint16_t)entries[i].type,
                                            .data = entries[i].buf.base,
                                            .len = entries[i].buf.len};
        if (entries[i].type == RAFT_CHANGE) {
            configuration_history_add(
                &node->history, op->index + i, entries[i].buf.base, entries[i].buf.len);
        }
    }
    if (node->matching.is_set) {
        guard_set_verified(&node->guard, node->matching.term, node->matching.index);
    }
    node->last_index += n;
    disk_push(node, op);
    return 0;
}

/* Puts the configuration before the truncated one in force. */
static int
restore_configuration(struct raft_node *node)
{
    const struct configuration_row *row = configuration_history_at(&node->history, UINT64_MAX);
    struct raft_configuration conf;

    raft_configuration_init(&conf);
    if (row != NULL && configuration_decode(&conf, row->bytes, row->len) != HA_OK) {
        return RAFT_CORRUPT;
    }
    compat_roll_back(&node->raft, &conf, row != NULL ? row->index : 0);
    return 0;
}

static int
io_truncate(struct raft_io *io, raft_index index)
{
    struct raft_node *node = io->impl;

    if (index == node->last_index + 1) {
        return 0;
    }
    struct disk_op *op = disk_new(node, DISK_TRUNCATE);
    if (op == NULL) {
        return RAFT_NOMEM;
    }
    op->index = index;
    node->last_index = index - 1;
    if (configuration_history_truncate(&node->history, index)) {
        const int rc = restore_configuration(node);
        if (rc != 0) {
            free(op);
            return rc;
        }
    }
    disk_push(node, op);
    return 0;
}

/* Fills the configuration of a snapshot: of a leader's as it came, of our own from the history,
 * for the core's present one may be uncommitted. */
static int
snapshot_configuration(struct raft_node *node, const struct raft_snapshot *from, struct disk_op *op)
{
    struct log_snapshot *to = &op->snapshot;
    struct raft_buffer encoded = {0};
    const void *bytes = NULL;

    to->configuration_index = from->configuration_index;
    if (op->is_install) {
        if (raft_configuration_encode(&from->configuration, &encoded) != 0) {
            return RAFT_NOMEM;
        }
        bytes = encoded.base;
        to->configuration_len = encoded.len;
        (void)configuration_history_truncate(&node->history, 0);
        configuration_history_add(&node->history, from->configuration_index, bytes, encoded.len);
    } else {
        const struct configuration_row *row = configuration_history_at(&node->history, from->index);
        ENSURE(row != NULL, "an applied entry has a configuration in force");
        bytes = row->bytes;
        to->configuration_len = row->len;
        to->configuration_index = row->index;
    }
    op->configuration = malloc(to->configuration_len);
    if (op->configuration != NULL) {
        memcpy(op->configuration, bytes, to->configuration_len);
    }
    to->configuration = op->configuration;
    raft_free(encoded.base);
    return op->configuration != NULL ? 0 : RAFT_NOMEM;
}

static int
io_snapshot_put(struct raft_io *io,
                unsigned trailing,
                struct raft_io_snapshot_put *req,
                const struct raft_snapshot *snapshot,
                raft_io_snapshot_put_cb cb)
{
    struct raft_node *node = io->impl;
    struct disk_op *op = disk_new(node, DISK_SNAPSHOT_PUT);

    if (op == NULL) {
        return RAFT_NOMEM;
    }
    ENSURE(snapshot->n_bufs == 1, "fsm.c and message.c make one");
    op->is_install = trailing == 0;
    op->trailing = trailing;
    op->req = req;
    op->cb.put = cb;
    op->snapshot.index = snapshot->index;
    op->snapshot.term = snapshot->term;
    op->snapshot.data = snapshot->bufs[0].base;
    op->snapshot.len = snapshot->bufs[0].len;
    op->bufs = snapshot->bufs;
    const int rc = snapshot_configuration(node, snapshot, op);
    if (rc != 0) {
        free(op);
        return rc;
    }
    node->is_snapshotting = true;
    if (op->is_install) {
        node->is_installing = true;
        node->last_index = snapshot->index;
        if (node->matching.is_set) {
            guard_set_verified(&node->guard, node->matching.term, node->matching.index);
        }
    }
    disk_push(node, op);
    return 0;
}

static int
io_snapshot_get(struct raft_io *io, struct raft_io_snapshot_get *req, raft_io_snapshot_get_cb cb)
{
    struct raft_node *node = io->impl;
    struct disk_op *op = disk_new(node, DISK_SNAPSHOT_GET);

    if (op == NULL) {
        return RAFT_NOMEM;
    }
    op->req = req;
    op->cb.get = cb;
    disk_push(node, op);
    return 0;
}

static int
io_async_work(struct raft_io *io, struct raft_io_async_work *req, raft_io_async_work_cb cb)
{
    struct raft_node *node = io->impl;
    struct disk_op *op = disk_new(node, DISK_WORK);

    if (op == NULL) {
        return RAFT_NOMEM;
    }
    op->req = req;
    op->cb.work = cb;
    disk_push(node, op);
    return 0;
}

void
io_disk_init(struct raft_node *node)
{
    node->io.append = io_append;
    node->io.truncate = io_truncate;
    node->io.snapshot_put = io_snapshot_put;
    node->io.snapshot_get = io_snapshot_get;
    compat_set_async_work(&node->io, io_async_work);
    io_load_init(node);
}
