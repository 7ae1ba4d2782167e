#include "raft/configuration.h"

#include <string.h>

#include "base/codec.h"
#include "base/require.h"
#include "raft/view.h"

#define FORMAT 1 /* of raft_configuration_encode() */

/* A NUL-terminated text of at most size - 1 bytes. */
static int
get_address(struct codec_reader *r, char *out, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        out[i] = (char)codec_get_u8(r);
        if (r->failed) {
            return HA_ECORRUPT;
        }
        if (out[i] == '\0') {
            return i > 0 ? HA_OK : HA_ECORRUPT;
        }
    }
    return HA_ECORRUPT;
}

static int
get_server(struct codec_reader *r, struct raft_configuration *out)
{
    char address[HA_ADDRESS_MAX];
    const uint64_t id = codec_get_u64(r);

    if (get_address(r, address, sizeof address) != HA_OK) {
        return HA_ECORRUPT;
    }
    const uint8_t role = codec_get_u8(r);
    if (r->failed || id == 0 || role > RAFT_SPARE) {
        return HA_ECORRUPT;
    }
    return raft_configuration_add(out, id, address, role) == 0 ? HA_OK : HA_ECORRUPT;
}

static bool
has_voter(const struct raft_configuration *c)
{
    for (unsigned i = 0; i < c->n; i++) {
        if (c->servers[i].role == RAFT_VOTER) {
            return true;
        }
    }
    return false;
}

int
configuration_decode(struct raft_configuration *out, const void *bytes, size_t len)
{
    struct codec_reader r;
    int rc = HA_ECORRUPT;

    raft_configuration_init(out);
    codec_reader_init(&r, bytes, len);
    const uint8_t format = codec_get_u8(&r);
    const uint64_t n = codec_get_u64(&r);
    if (r.failed || len > CONFIGURATION_BYTES_MAX || format != FORMAT || n == 0 ||
        n > RAFT_SERVERS_MAX) {
        return rc;
    }
    for (uint64_t i = 0; i < n; i++) {
        rc = get_server(&r, out);
        if (rc != HA_OK) {
            goto out;
        }
    }
    /* What follows pads to a multiple of 8; libraft leaves it as the heap had it. */
    rc = r.left < 8 && has_voter(out) ? HA_OK : HA_ECORRUPT;
out:
    if (rc != HA_OK) {
        raft_configuration_close(out);
        raft_configuration_init(out);
    }
    return rc;
}

bool
configuration_is_sole_voter(const struct raft_configuration *c, uint64_t id)
{
    bool is_voter = false;

    for (unsigned i = 0; i < c->n; i++) {
        if (c->servers[i].role == RAFT_VOTER && c->servers[i].id != id) {
            return false;
        }
        is_voter = is_voter || c->servers[i].role == RAFT_VOTER;
    }
    return is_voter;
}

bool
configuration_is_single(const void *bytes, size_t len, uint64_t id)
{
    struct raft_configuration c;

    if (configuration_decode(&c, bytes, len) != HA_OK) {
        return false;
    }
    const bool is = configuration_is_sole_voter(&c, id);
    raft_configuration_close(&c);
    return is;
}

void
configuration_history_add(struct configuration_history *h,
                          uint64_t index,
                          const void *bytes,
                          size_t len)
{
    REQUIRE(len <= CONFIGURATION_BYTES_MAX, "decoded or encoded by us, so bounded");
    (void)configuration_history_truncate(h, index);
    if (h->n == CONFIGURATION_HISTORY_MAX) {
        memmove(&h->rows[0], &h->rows[1], (h->n - 1) * sizeof h->rows[0]);
        h->n--;
    }
    struct configuration_row *row = &h->rows[h->n++];
    row->index = index;
    row->len = len;
    memcpy(row->bytes, bytes, len);
}

bool
configuration_history_truncate(struct configuration_history *h, uint64_t index)
{
    const uint32_t before = h->n;

    while (h->n > 0 && h->rows[h->n - 1].index >= index) {
        h->n--;
    }
    return h->n != before;
}

const struct configuration_row *
configuration_history_at(const struct configuration_history *h, uint64_t index)
{
    for (uint32_t i = h->n; i > 0; i--) {
        if (h->rows[i - 1].index <= index) {
            return &h->rows[i - 1];
        }
    }
    return NULL;
}
