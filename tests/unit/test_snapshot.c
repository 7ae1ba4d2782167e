/*
 * Goal:   a snapshot is the whole state, and a damaged one is never taken for a state.
 * Method: a state whose every byte is in use goes out and comes back; each truncation and each
 *         flipped bit must be refused and leave the receiver's state alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/codec.h"
#include "base/crc32c.h"
#include "tests/unit/cluster_state.h"

static uint8_t bytes_out[SNAPSHOT_BYTES_MAX];

static void
fill(char *text, size_t size, size_t with)
{
    memset(text, (int)('a' + with % 26), size - 1);
    text[size - 1] = 0;
}

/* Every field holds a value of its own, every array is full. */
static void
full_state(struct state *s)
{
    uint64_t v = 0xf000000000000001ULL;

    state_init(s);
    s->cluster_id = v++;
    s->sysid = v++;
    s->declaration.number = v++;
    fill(s->declaration.primary, HA_ADDRESS_MAX, 1);
    s->declaration.lease_ms = 4000000000U;
    s->declaration.max_lag = v++;
    s->declaration.failover = 201;
    s->declaration.sync = 202;
    s->declaration.sync_count = 203;
    s->declaration.n_members = HA_MEMBERS_MAX;
    for (size_t i = 0; i < HA_MEMBERS_MAX; i++) {
        fill(s->declaration.members[i].address, HA_ADDRESS_MAX, i);
        s->declaration.members[i].kind = (uint8_t)(100 + i);
    }
    s->generation = v++;
    fill(s->declared_by, HA_ADDRESS_MAX, 2);
    s->job_declared = v++;
    s->members_generation = v++;
    s->settled_generation = v++;
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        struct member *m = &s->members[i];

        m->id = v++;
        m->nonce = v++;
        m->joined = v++;
        m->left = v++;
        m->declared = v++;
        m->last_counter = v++;
        m->last_result = -(int32_t)i - 2000000000;
        m->kind = (uint8_t)(50 + i);
        fill(m->address, sizeof m->address, i + 3);
        fill(m->name, sizeof m->name, i + 4);
    }
    s->reign = v++;
    s->holder = v++;
    s->is_vacant = true;
    s->is_opened = false;
    s->handover = v++;
    s->final_lsn = v++;
    s->is_paused = true;
    s->sync_set = v++;
    s->sync_count = 204;
    s->sync_lost = 205;
    s->sync_epoch = v++;
    s->acted_generation = v++;
    s->opened_reign = v++;
    s->timeline = 4000000001U;
    s->fork_lsn = v++;
    s->lineage = v++;
    s->n_history = HA_HISTORY_MAX;
    for (size_t i = 0; i < HA_HISTORY_MAX; i++) {
        struct reign_row *row = &s->history[i];

        row->reign = v++;
        row->holder = v++;
        fill(row->holder_address, sizeof row->holder_address, i);
        row->wall_ms = v++;
        row->fork_lsn = v++;
        row->lineage = v++;
        row->timeline = (uint32_t)(3000000000U + i);
        fill(row->why, sizeof row->why, i + 1);
    }
}

static void
the_fullest_state_survives_and_fits(void **unused)
{
    struct state s;
    struct state back;

    (void)unused;
    full_state(&s);
    assert_survives_snapshot(&s, &back);
    s.is_vacant = s.is_paused = false;
    s.is_opened = true;
    assert_survives_snapshot(&s, &back);
    state_init(&s);
    assert_survives_snapshot(&s, &back);
    assert_int_equal(snapshot_encode(&s, bytes_out, sizeof bytes_out) % 8, 0);
}

static void
a_buffer_too_small_gives_no_snapshot(void **unused)
{
    struct state s;
    size_t len;

    (void)unused;
    cluster_reigned(&s);
    len = snapshot_encode(&s, bytes_out, sizeof bytes_out);
    for (size_t size = 0; size < len; size++) {
        assert_int_equal(snapshot_encode(&s, bytes_out, size), 0);
    }
    assert_int_equal(snapshot_encode(&s, bytes_out, len), len);
}

static void
assert_refused(const uint8_t *bytes, size_t len, int rc)
{
    struct state s;
    struct state before;

    memset(&s, 0x5a, sizeof s);
    memcpy(&before, &s, sizeof s);
    assert_int_equal(snapshot_decode(&s, bytes, len), rc);
    assert_memory_equal(&s, &before, sizeof s);
}

static void
every_flipped_bit_is_noticed(void **unused)
{
    struct state s;
    size_t len;

    (void)unused;
    cluster_reigned(&s);
    len = snapshot_encode(&s, bytes_out, sizeof bytes_out);
    for (size_t bit = 0; bit < 8 * len; bit++) {
        bytes_out[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        assert_refused(bytes_out, len, HA_ECORRUPT);
        bytes_out[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
    assert_int_equal(snapshot_decode(&s, bytes_out, len), HA_OK);
}

static void
every_truncation_is_noticed(void **unused)
{
    struct state s;
    size_t len;

    (void)unused;
    cluster_reigned(&s);
    len = snapshot_encode(&s, bytes_out, sizeof bytes_out);
    for (size_t n = 0; n < len; n++) {
        uint8_t *part = malloc(n > 0 ? n : 1);

        assert_non_null(part);
        memcpy(part, bytes_out, n);
        assert_refused(part, n, HA_ECORRUPT);
        free(part);
    }
    memset(bytes_out + len, 0, 8);
    assert_refused(bytes_out, len + 8, HA_ECORRUPT);
}

/* Puts a right CRC under whatever is there. */
static void
reseal(uint8_t *bytes, size_t len)
{
    struct codec_writer w;

    codec_writer_init(&w, bytes + len - 4, 4);
    codec_put_u32(&w, crc32c(0, bytes, len - 4));
}

/* Damage that keeps its checksum (a foreign program, another version) must not crash or half-apply:
 * decode what comes, and what is taken must be what encodes to the same bytes. */
static void
sealed_nonsense_is_refused_or_a_state_of_its_own(void **unused)
{
    static uint8_t again[SNAPSHOT_BYTES_MAX];
    struct state s;
    size_t len;

    (void)unused;
    cluster_reigned(&s);
    len = snapshot_encode(&s, bytes_out, sizeof bytes_out);
    for (size_t bit = 0; bit < 8 * (len - 4); bit++) {
        struct state back;

        memset(&back, 0, sizeof back);
        bytes_out[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        reseal(bytes_out, len);
        if (snapshot_decode(&back, bytes_out, len) == HA_OK) {
            assert_int_equal(snapshot_encode(&back, again, sizeof again), len);
            assert_memory_equal(again, bytes_out, len);
        }
        bytes_out[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
}

static void
another_format_is_told_apart_from_damage(void **unused)
{
    struct state s;
    size_t len;

    (void)unused;
    cluster_reigned(&s);
    len = snapshot_encode(&s, bytes_out, sizeof bytes_out);
    bytes_out[8] = 2;
    reseal(bytes_out, len);
    assert_refused(bytes_out, len, HA_EVERSION);
    bytes_out[8] = 1;
    bytes_out[0] ^= 1;
    reseal(bytes_out, len);
    assert_refused(bytes_out, len, HA_ECORRUPT);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fullest_state_survives_and_fits),
        cmocka_unit_test(a_buffer_too_small_gives_no_snapshot),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(every_truncation_is_noticed),
        cmocka_unit_test(sealed_nonsense_is_refused_or_a_state_of_its_own),
        cmocka_unit_test(another_format_is_told_apart_from_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
