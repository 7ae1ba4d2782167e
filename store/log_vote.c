/* Term and vote: one record in two slots. */
#include <inttypes.h>

#include "base/codec.h"
#include "store/log_internal.h"

#define VOTE_MAGIC "hwvote01"
#define VOTE_BYTES 16

static void
vote_encode(uint64_t term, uint64_t voted_for, uint8_t *out)
{
    struct codec_writer w;

    codec_writer_init(&w, out, VOTE_BYTES);
    codec_put_u64(&w, term);
    codec_put_u64(&w, voted_for);
    ENSURE(!w.failed && w.len == VOTE_BYTES, "a vote has a fixed size");
}

static void
vote_slots_init(struct log *log)
{
    log->vote_slots =
        (struct slots){.fs = log->fs, .dir = log->dir, .name = LOG_VOTE_NAME, .magic = VOTE_MAGIC};
}

int
log_vote_open(struct log *log, struct err *err)
{
    struct codec_reader r;
    int rc;

    vote_slots_init(log);
    rc = slots_load(&log->vote_slots, err);
    if (rc != HA_OK) {
        return rc;
    }
    codec_reader_init(&r, log->vote_slots.bytes, log->vote_slots.len);
    atomic_store(&log->vote_term, codec_get_u64(&r));
    log->voted_for = codec_get_u64(&r);
    if (!codec_reader_is_done(&r)) {
        return err_set(
            err, HA_ECORRUPT, "%s/" LOG_VOTE_NAME ": damaged at offset 0: wrong length", log->dir);
    }
    return HA_OK;
}

int
log_vote_create(struct log *log, struct err *err)
{
    uint8_t bytes[VOTE_BYTES];

    vote_slots_init(log);
    vote_encode(0, 0, bytes);
    return slots_save(&log->vote_slots, bytes, sizeof bytes, err);
}

int
log_vote_set(struct log *log, uint64_t term, uint64_t voted_for, struct err *err)
{
    const uint64_t old_term = atomic_load(&log->vote_term);
    uint8_t bytes[VOTE_BYTES];
    int rc;

    if (term < old_term) {
        return err_set(
            err, HA_EINVAL, "the term would go back from %" PRIu64 " to %" PRIu64, old_term, term);
    }
    if (term == old_term && voted_for == log->voted_for) {
        return HA_OK;
    }
    if (term == old_term && log->voted_for != 0) {
        return err_set(err, HA_EINVAL, "a second vote in term %" PRIu64, term);
    }
    vote_encode(term, voted_for, bytes);
    rc = slots_save(&log->vote_slots, bytes, sizeof bytes, err);
    if (rc == HA_OK) {
        atomic_store(&log->vote_term, term);
        log->voted_for = voted_for;
    }
    return rc;
}
