/* raft_io: what a start finds on the disk, and the first configuration. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/require.h"
#include "raft/node_internal.h"

/* The entries in libraft's shape: one block of data, named as the batch of each. */
static int
load_entries(struct raft_node *node, const struct log_loaded *loaded, struct raft_entry **out)
{
    size_t bytes = 0;

    *out = NULL;
    for (size_t i = 0; i < loaded->n_entries; i++) {
        bytes += loaded->entries[i].len;
    }
    if (loaded->n_entries == 0) {
        return 0;
    }
    struct raft_entry *entries = raft_calloc(loaded->n_entries, sizeof *entries);
    uint8_t *batch = raft_malloc(bytes + 8);
    if (entries == NULL || batch == NULL) {
        raft_free(entries);
        raft_free(batch);
        return RAFT_NOMEM;
    }
    uint8_t *at = batch;
    for (size_t i = 0; i < loaded->n_entries; i++) {
        const struct log_entry *from = &loaded->entries[i];
        entries[i].term = from->term;
        entries[i].type = from->type;
        entries[i].buf.base = at;
        entries[i].buf.len = from->len;
        entries[i].batch = batch;
        memcpy(at, from->data, from->len);
        at += from->len;
        /* Trailing entries lie before the snapshot, whose configuration is known already. */
        if (from->type == RAFT_CHANGE &&
            (!loaded->has_snapshot ||
             loaded->first_index + i > loaded->snapshot.configuration_index)) {
            configuration_history_add(
                &node->history, loaded->first_index + i, from->data, from->len);
        }
    }
    *out = entries;
    return 0;
}

static void
entries_free(struct raft_entry *entries)
{
    if (entries != NULL) {
        raft_free(entries[0].batch);
        raft_free(entries);
    }
}

static bool
is_readable_entry(const struct log_entry *e)
{
    struct raft_configuration conf;

    if (e->type < RAFT_COMMAND || e->type > RAFT_CHANGE || e->len == 0 || e->len % 8 != 0) {
        return false;
    }
    if (e->type == RAFT_CHANGE) {
        if (configuration_decode(&conf, e->data, e->len) != HA_OK) {
            return false;
        }
        raft_configuration_close(&conf);
    }
    return true;
}

/* The log is whole as a file; is it one that this node wrote? */
static int
check_loaded(struct raft_node *node, const struct log_loaded *l)
{
    const uint64_t before = l->has_snapshot ? l->snapshot.index : 0;

    for (size_t i = 0; i < l->n_entries; i++) {
        if (!is_readable_entry(&l->entries[i])) {
            return err_set(&node->err,
                           HA_ECORRUPT,
                           "entry %" PRIu64 " of the log is unreadable",
                           l->first_index + i);
        }
    }
    if (l->n_entries > 0 && l->first_index > before + 1) {
        return err_set(&node->err,
                       HA_ECORRUPT,
                       "the log begins at entry %" PRIu64 ", the snapshot ends at %" PRIu64,
                       l->first_index,
                       before);
    }
    if (l->n_entries > 0 && before == 0 && l->entries[0].type != RAFT_CHANGE) {
        return err_set(&node->err, HA_ECORRUPT, "the log does not begin with a configuration");
    }
    if (l->n_entries > 0 && l->first_index + l->n_entries - 1 < before) {
        return err_set(&node->err,
                       HA_ECORRUPT,
                       "the log ends at entry %" PRIu64 ", before the snapshot at %" PRIu64,
                       l->first_index + l->n_entries - 1,
                       before);
    }
    return HA_OK;
}

static int
load_snapshot(struct raft_node *node, const struct log_loaded *l, struct raft_snapshot **out)
{
    *out = NULL;
    if (!l->has_snapshot) {
        return 0;
    }
    *out = io_snapshot_to_raft(&l->snapshot);
    if (*out == NULL) {
        (void)err_set(&node->err, HA_ECORRUPT, "the snapshot's configuration is unreadable");
        return RAFT_CORRUPT;
    }
    configuration_history_add(&node->history,
                              l->snapshot.configuration_index,
                              l->snapshot.configuration,
                              l->snapshot.configuration_len);
    return 0;
}

/*
 * G6: a single voter elects itself without an election, in the term that it finds. What it sent
 * in that term before it died may differ from what it writes now, at the same index.
 */
static int
begin_own_term(struct raft_node *node, struct log_loaded *l)
{
    const struct configuration_row *row = configuration_history_at(&node->history, UINT64_MAX);

    if (row == NULL || !configuration_is_single(row->bytes, row->len, node->id)) {
        return HA_OK;
    }
    l->term++;
    l->voted_for = node->id;
    return log_vote_set(node->log, l->term, l->voted_for, &node->err);
}

static int
io_load(struct raft_io *io,
        raft_term *term,
        raft_id *voted_for,
        struct raft_snapshot **snapshot,
        raft_index *start_index,
        struct raft_entry *entries[],
        size_t *n_entries)
{
    struct raft_node *node = io->impl;
    struct log_loaded loaded = {0};
    int rc = RAFT_CORRUPT;

    *snapshot = NULL;
    *entries = NULL;
    if (log_load(node->log, &loaded, &node->err) != HA_OK) {
        return RAFT_IOERR;
    }
    if (loaded.note[0] != '\0') {
        node_log(node, 1, "raft_log_repaired", "%s", loaded.note);
    }
    if (check_loaded(node, &loaded) != HA_OK) {
        goto out;
    }
    rc = load_snapshot(node, &loaded, snapshot);
    if (rc == 0) {
        rc = load_entries(node, &loaded, entries);
    }
    if (rc != 0) {
        io_snapshot_free(*snapshot);
        *snapshot = NULL;
        goto out;
    }
    if (begin_own_term(node, &loaded) != HA_OK) {
        entries_free(*entries);
        io_snapshot_free(*snapshot);
        *entries = NULL;
        *snapshot = NULL;
        rc = RAFT_IOERR;
        goto out;
    }
    *term = loaded.term;
    *voted_for = loaded.voted_for;
    *n_entries = loaded.n_entries;
    *start_index = loaded.n_entries > 0  ? loaded.first_index
                   : loaded.has_snapshot ? loaded.snapshot.index + 1
                                         : 1;
    node->last_index = *start_index + loaded.n_entries - 1;
    guard_set_term(&node->guard, loaded.term);
    node->vote = loaded.voted_for;
out:
    log_loaded_free(&loaded);
    return rc;
}

/* Term 1, nothing voted, nothing stored: also what a bootstrap that was cut short leaves. */
static bool
is_pristine(struct raft_node *node)
{
    struct log_loaded l = {0};

    if (log_is_pristine(node->log)) {
        return true;
    }
    if (log_load(node->log, &l, &node->err) != HA_OK) {
        return false;
    }
    const bool is = l.term <= 1 && l.voted_for == 0 && !l.has_snapshot && l.n_entries == 0;
    log_loaded_free(&l);
    return is;
}

static int
append_configuration(struct raft_node *node,
                     uint64_t index,
                     uint64_t term,
                     const struct raft_configuration *conf)
{
    struct raft_buffer buf;
    struct err *err = &node->err;

    if (raft_configuration_encode(conf, &buf) != 0) {
        return err_set(err, HA_ENOMEM, "no memory for a configuration");
    }
    const struct log_entry entry = {
        .term = term, .type = RAFT_CHANGE, .data = buf.base, .len = buf.len};
    const int rc = log_append(node->log, index, &entry, 1, err);
    raft_free(buf.base);
    return rc;
}

static int
io_bootstrap(struct raft_io *io, const struct raft_configuration *conf)
{
    struct raft_node *node = io->impl;

    if (!is_pristine(node)) {
        (void)err_set(&node->err, HA_EEXIST, "the Raft log is in use already");
        return RAFT_CANTBOOTSTRAP;
    }
    if (log_vote_set(node->log, 1, 0, &node->err) != HA_OK ||
        append_configuration(node, 1, 1, conf) != HA_OK) {
        return RAFT_IOERR;
    }
    return 0;
}

/* Offline, with the majority gone: a forced configuration behind everything that is there. */
static int
io_recover(struct raft_io *io, const struct raft_configuration *conf)
{
    struct raft_node *node = io->impl;
    struct log_loaded loaded = {0};

    if (log_load(node->log, &loaded, &node->err) != HA_OK) {
        return RAFT_IOERR;
    }
    const uint64_t term = loaded.term + 1;
    const uint64_t index = log_last_index(node->log) + 1;
    const bool is_empty = loaded.n_entries == 0 && !loaded.has_snapshot;
    log_loaded_free(&loaded);
    if (is_empty) {
        (void)err_set(&node->err, HA_ENOTFOUND, "the Raft log is empty");
        return RAFT_NOTFOUND;
    }
    if (log_vote_set(node->log, term, 0, &node->err) != HA_OK ||
        append_configuration(node, index, term, conf) != HA_OK) {
        return RAFT_IOERR;
    }
    return 0;
}

void
io_load_init(struct raft_node *node)
{
    node->io.load = io_load;
    node->io.bootstrap = io_bootstrap;
    node->io.recover = io_recover;
}
