#include "raft/message.h"

#include <string.h>

#include "agent/net/peer.h"
#include "base/codec.h"
#include "base/require.h"
#include "raft/compat.h"
#include "raft/configuration.h"
#include "store/log.h"

#define FORMAT 1
#define ENTRY_HEADER_BYTES 16
/* Beyond any honest term or index; keeps every sum below from wrapping. */
#define COUNT_MAX ((uint64_t)1 << 48)

_Static_assert(MESSAGE_BYTES_MAX <= PEER_MESSAGE_MAX, "the link carries every message");
_Static_assert(MESSAGE_ENTRIES_BYTES_MAX >= LOG_ENTRY_BYTES_MAX + ENTRY_HEADER_BYTES,
               "the biggest entry fits");

/* How many of the entries go into one message: at least one, else a follower never gets on. */
static unsigned
entries_that_fit(const struct raft_append_entries *args)
{
    size_t bytes = 0;
    unsigned n = 0;

    while (n < args->n_entries && n < MESSAGE_ENTRIES_MAX) {
        bytes += ENTRY_HEADER_BYTES + args->entries[n].buf.len;
        if (bytes > MESSAGE_ENTRIES_BYTES_MAX) {
            break;
        }
        n++;
    }
    ENSURE(n > 0 || args->n_entries == 0, "every entry was bounded when it was proposed");
    return n;
}

static void
put_append_entries(struct codec_writer *w, const struct raft_append_entries *args, unsigned n)
{
    const uint64_t last = args->prev_log_index + n;

    codec_put_u64(w, args->term);
    codec_put_u64(w, args->prev_log_index);
    codec_put_u64(w, args->prev_log_term);
    codec_put_u64(w, args->leader_commit < last ? args->leader_commit : last);
    codec_put_u32(w, n);
    codec_put_u32(w, 0);
    for (unsigned i = 0; i < n; i++) {
        codec_put_u64(w, args->entries[i].term);
        codec_put_u16(w, (uint16_t)args->entries[i].type);
        codec_put_u16(w, 0);
        codec_put_u32(w, (uint32_t)args->entries[i].buf.len);
    }
    for (unsigned i = 0; i < n; i++) {
        codec_put_bytes(w, args->entries[i].buf.base, args->entries[i].buf.len);
    }
}

static void
put_install_snapshot(struct codec_writer *w, const struct raft_install_snapshot *args)
{
    struct raft_buffer conf;

    if (raft_configuration_encode(&args->conf, &conf) != 0) {
        w->failed = true;
        return;
    }
    codec_put_u64(w, args->term);
    codec_put_u64(w, args->last_index);
    codec_put_u64(w, args->last_term);
    codec_put_u64(w, args->conf_index);
    codec_put_u32(w, (uint32_t)conf.len);
    codec_put_u32(w, (uint32_t)args->data.len);
    codec_put_bytes(w, conf.base, conf.len);
    codec_put_bytes(w, args->data.base, args->data.len);
    raft_free(conf.base);
}

static void
put_vote(struct codec_writer *w, const struct raft_message *m)
{
    if (m->type == RAFT_IO_REQUEST_VOTE) {
        codec_put_u64(w, m->request_vote.term);
        codec_put_u64(w, m->request_vote.candidate_id);
        codec_put_u64(w, m->request_vote.last_log_index);
        codec_put_u64(w, m->request_vote.last_log_term);
        codec_put_bool(w, m->request_vote.disrupt_leader);
        codec_put_bool(w, m->request_vote.pre_vote);
        return;
    }
    codec_put_u64(w, m->request_vote_result.term);
    codec_put_bool(w, m->request_vote_result.vote_granted);
    codec_put_u8(w, compat_pre_vote(&m->request_vote_result));
}

size_t
message_encode(const struct raft_message *m,
               uint64_t from,
               uint64_t to,
               void *out,
               size_t size,
               unsigned *n_entries)
{
    struct codec_writer w;

    *n_entries = 0;
    codec_writer_init(&w, out, size);
    codec_put_u8(&w, FORMAT);
    codec_put_u8(&w, (uint8_t)m->type);
    codec_put_padding(&w, 8);
    codec_put_u64(&w, from);
    codec_put_u64(&w, to);
    switch (m->type) {
    case RAFT_IO_APPEND_ENTRIES:
        *n_entries = entries_that_fit(&m->append_entries);
        put_append_entries(&w, &m->append_entries, *n_entries);
        break;
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        codec_put_u64(&w, m->append_entries_result.term);
        codec_put_u64(&w, m->append_entries_result.rejected);
        codec_put_u64(&w, m->append_entries_result.last_log_index);
        break;
    case RAFT_IO_REQUEST_VOTE:
    case RAFT_IO_REQUEST_VOTE_RESULT:
        put_vote(&w, m);
        break;
    case RAFT_IO_INSTALL_SNAPSHOT:
        put_install_snapshot(&w, &m->install_snapshot);
        break;
    case RAFT_IO_TIMEOUT_NOW:
        codec_put_u64(&w, m->timeout_now.term);
        codec_put_u64(&w, m->timeout_now.last_log_index);
        codec_put_u64(&w, m->timeout_now.last_log_term);
        break;
    default:
        return 0;
    }
    return w.failed ? 0 : w.len;
}

static bool
is_count(uint64_t v)
{
    return v < COUNT_MAX;
}

static bool
is_term(uint64_t v)
{
    return v > 0 && v < COUNT_MAX;
}

/* Reads the headers of the entries into *entries; *bytes = their data. */
static int
get_entry_headers(struct codec_reader *r,
                  const struct raft_append_entries *args,
                  struct raft_entry *entries,
                  size_t *bytes)
{
    uint64_t term_before = args->prev_log_term;

    *bytes = 0;
    for (unsigned i = 0; i < args->n_entries; i++) {
        struct raft_entry *e = &entries[i];
        e->term = codec_get_u64(r);
        e->type = codec_get_u16(r);
        const uint16_t zero = codec_get_u16(r);
        e->buf.len = codec_get_u32(r);
        if (r->failed || zero != 0 || !is_term(e->term) || e->term < term_before ||
            e->term > args->term || e->type < RAFT_COMMAND || e->type > RAFT_CHANGE ||
            e->buf.len == 0 || e->buf.len % 8 != 0 || e->buf.len > LOG_ENTRY_BYTES_MAX) {
            return HA_ECORRUPT;
        }
        term_before = e->term;
        *bytes += e->buf.len;
    }
    return *bytes == r->left ? HA_OK : HA_ECORRUPT;
}

/* Places the data of all entries into one batch. */
static int
get_entry_data(struct codec_reader *r, struct raft_append_entries *args, uint8_t *batch)
{
    for (unsigned i = 0; i < args->n_entries; i++) {
        struct raft_entry *e = &args->entries[i];
        struct raft_configuration conf;

        e->batch = batch;
        e->buf.base = i == 0 ? batch : (uint8_t *)e[-1].buf.base + e[-1].buf.len;
        codec_get_bytes(r, e->buf.base, e->buf.len);
        if (e->type != RAFT_CHANGE) {
            continue;
        }
        if (configuration_decode(&conf, e->buf.base, e->buf.len) != HA_OK) {
            return HA_ECORRUPT;
        }
        raft_configuration_close(&conf);
    }
    return HA_OK;
}

static int
get_entries(struct codec_reader *r, struct raft_append_entries *args)
{
    size_t bytes = 0;
    uint8_t *batch = NULL;

    if (args->n_entries == 0) {
        return r->left == 0 ? HA_OK : HA_ECORRUPT;
    }
    args->entries = raft_calloc(args->n_entries, sizeof *args->entries);
    if (args->entries == NULL) {
        return HA_ENOMEM;
    }
    int rc = get_entry_headers(r, args, args->entries, &bytes);
    if (rc != HA_OK) {
        goto out;
    }
    batch = raft_malloc(bytes);
    rc = batch == NULL ? HA_ENOMEM : get_entry_data(r, args, batch);
out:
    if (rc != HA_OK) {
        raft_free(batch);
        raft_free(args->entries);
        args->entries = NULL;
        args->n_entries = 0;
    }
    return rc;
}

static int
get_append_entries(struct codec_reader *r, struct raft_append_entries *args)
{
    args->term = codec_get_u64(r);
    args->prev_log_index = codec_get_u64(r);
    args->prev_log_term = codec_get_u64(r);
    args->leader_commit = codec_get_u64(r);
    const uint32_t n = codec_get_u32(r);
    const uint32_t zero = codec_get_u32(r);
    if (r->failed || zero != 0 || !is_term(args->term) || !is_count(args->prev_log_index) ||
        !is_count(args->leader_commit) || args->prev_log_term > args->term ||
        (args->prev_log_index == 0) != (args->prev_log_term == 0) || n > MESSAGE_ENTRIES_MAX ||
        r->left / ENTRY_HEADER_BYTES < n) {
        return HA_ECORRUPT;
    }
    args->n_entries = n;
    return get_entries(r, args);
}

static int
get_install_snapshot(struct codec_reader *r, struct raft_install_snapshot *args)
{
    args->term = codec_get_u64(r);
    args->last_index = codec_get_u64(r);
    args->last_term = codec_get_u64(r);
    args->conf_index = codec_get_u64(r);
    const uint32_t conf_len = codec_get_u32(r);
    const uint32_t data_len = codec_get_u32(r);
    if (r->failed || !is_term(args->term) || !is_term(args->last_term) ||
        args->last_term > args->term || args->last_index == 0 || !is_count(args->last_index) ||
        args->conf_index == 0 || args->conf_index > args->last_index || data_len == 0 ||
        data_len > LOG_SNAPSHOT_BYTES_MAX || conf_len > CONFIGURATION_BYTES_MAX ||
        r->left != (size_t)conf_len + data_len) {
        return HA_ECORRUPT;
    }
    if (configuration_decode(&args->conf, r->at, conf_len) != HA_OK) {
        return HA_ECORRUPT;
    }
    args->data.len = data_len;
    args->data.base = raft_malloc(data_len);
    if (args->data.base == NULL) {
        raft_configuration_close(&args->conf);
        return HA_ENOMEM;
    }
    memcpy(args->data.base, r->at + conf_len, data_len);
    return HA_OK;
}

static int
get_request_vote(struct codec_reader *r, struct raft_message *m)
{
    struct raft_request_vote *args = &m->request_vote;

    args->term = codec_get_u64(r);
    args->candidate_id = codec_get_u64(r);
    args->last_log_index = codec_get_u64(r);
    args->last_log_term = codec_get_u64(r);
    args->disrupt_leader = codec_get_bool(r);
    args->pre_vote = codec_get_bool(r);
    /* The candidate speaks for itself; a term of 0 never asks. */
    return codec_reader_is_done(r) && is_term(args->term) && args->candidate_id == m->server_id &&
                   is_count(args->last_log_index) && args->last_log_term <= args->term
               ? HA_OK
               : HA_ECORRUPT;
}

static int
get_request_vote_result(struct codec_reader *r, struct raft_request_vote_result *args)
{
    args->term = codec_get_u64(r);
    args->vote_granted = codec_get_bool(r);
    const uint8_t pre_vote = codec_get_u8(r);
    compat_set_pre_vote(args, pre_vote);
    return codec_reader_is_done(r) && is_count(args->term) && pre_vote <= PRE_VOTE_NO ? HA_OK
                                                                                      : HA_ECORRUPT;
}

static int
get_small(struct codec_reader *r, struct raft_message *m)
{
    const uint64_t term = codec_get_u64(r);
    const uint64_t first = codec_get_u64(r);
    const uint64_t second = codec_get_u64(r);

    if (!codec_reader_is_done(r) || !is_count(term) || !is_count(first) || !is_count(second)) {
        return HA_ECORRUPT;
    }
    if (m->type == RAFT_IO_TIMEOUT_NOW) {
        m->timeout_now.term = term;
        m->timeout_now.last_log_index = first;
        m->timeout_now.last_log_term = second;
    } else {
        m->append_entries_result.term = term;
        m->append_entries_result.rejected = first;
        m->append_entries_result.last_log_index = second;
    }
    return HA_OK;
}

int
message_decode(struct raft_message *m, uint64_t *to, const void *bytes, size_t len)
{
    struct codec_reader r;

    *m = (struct raft_message){0};
    codec_reader_init(&r, bytes, len);
    const uint8_t format = codec_get_u8(&r);
    m->type = codec_get_u8(&r);
    uint8_t padding[6];
    codec_get_bytes(&r, padding, sizeof padding);
    m->server_id = codec_get_u64(&r);
    *to = codec_get_u64(&r);
    if (r.failed || m->server_id == 0 || *to == 0) {
        return HA_ECORRUPT;
    }
    if (format != FORMAT) {
        return HA_EVERSION;
    }
    switch (m->type) {
    case RAFT_IO_APPEND_ENTRIES:
        return get_append_entries(&r, &m->append_entries);
    case RAFT_IO_REQUEST_VOTE:
        return get_request_vote(&r, m);
    case RAFT_IO_REQUEST_VOTE_RESULT:
        return get_request_vote_result(&r, &m->request_vote_result);
    case RAFT_IO_INSTALL_SNAPSHOT:
        return get_install_snapshot(&r, &m->install_snapshot);
    case RAFT_IO_APPEND_ENTRIES_RESULT:
    case RAFT_IO_TIMEOUT_NOW:
        return get_small(&r, m);
    default:
        return HA_ECORRUPT;
    }
}

void
message_free(struct raft_message *m)
{
    if (m->type == RAFT_IO_APPEND_ENTRIES && m->append_entries.n_entries > 0) {
        raft_free(m->append_entries.entries[0].batch);
        raft_free(m->append_entries.entries);
    } else if (m->type == RAFT_IO_INSTALL_SNAPSHOT) {
        raft_configuration_close(&m->install_snapshot.conf);
        raft_free(m->install_snapshot.data.base);
    }
    *m = (struct raft_message){0};
}
