/*
 * Goal:   what durable_save() acknowledged is what durable_load() says, whatever happens between;
 *         the cached state is the one that was saved, or none.
 * Method: saves hit by a crash or by failures in every operation, with every way to lose unsynced
 *         writes; every single bit flipped; a full disk.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/durable.h"
#include "tests/lib/fs_mem.h"

#define DIR "/state"
#define DURABLE_PATH DIR "/durable"
#define CACHE_PATH DIR "/state"
#define SAVES 6
#define SEEDS 40
#define SLOT_BYTES 4096

/* The n-th record: every field is set, and different from that of another. */
static struct durable
record_of(uint64_t n)
{
    struct durable d;

    memset(&d, 0, sizeof d);
    d.nonce = 0x1111111111111111ULL;
    d.id = n * 3 + 1;
    d.cluster_id = n * 5 + 2;
    d.is_bootstrapped = n % 2 == 1;
    d.founded = n * 7;
    d.n_founders = (uint32_t)(n % (HA_MEMBERS_MAX + 1));
    for (uint32_t i = 0; i < d.n_founders; i++) {
        (void)snprintf(d.founders[i].address, HA_ADDRESS_MAX, "10.%u.0.%u", (unsigned)n, i);
        d.founders[i].nonce = n * 100 + i;
    }
    d.promised_reign = n + 7;
    d.promised_holder = n + 8;
    d.promised_ms = (uint32_t)n + 9;
    d.opened_reign = n + 10;
    d.opened_generation = n + 11;
    d.released_reign = n + 12;
    d.frozen_epoch = n + 13;
    d.boots = n;
    return d;
}

/* Number of the record that is there; 0 when there is none. Anything else fails the test. */
static uint64_t
load_number(struct fs_mem *disk)
{
    struct durable found;
    struct durable expected;
    struct err err = {0};
    const int rc = durable_load(fs_mem_fs(disk), DIR, &found, &err);

    if (rc == HA_ENOTFOUND) {
        return 0;
    }
    if (rc != HA_OK) {
        fail_msg("durable_load: %s", err.text);
    }
    expected = record_of(found.boots);
    assert_memory_equal(&found, &expected, sizeof found);
    return found.boots;
}

static int
save_number(struct fs_mem *disk, uint64_t n, struct err *err)
{
    const struct durable d = record_of(n);

    return durable_save(fs_mem_fs(disk), DIR, &d, err);
}

static void
every_field_is_read_as_it_was_saved(void **state)
{
    struct fs_mem *const disk = fs_mem_new(1);

    (void)state;
    assert_int_equal(load_number(disk), 0);
    for (uint64_t n = 1; n < 20; n++) {
        assert_int_equal(save_number(disk, n, NULL), HA_OK);
        assert_int_equal(load_number(disk), n);
    }
    assert_int_equal(fs_mem_open_files(disk), 0);
    fs_mem_free(disk);
}

/* Saves 1, 2, ... until one fails; returns the last that did not. */
static uint64_t
save_all(struct fs_mem *disk)
{
    for (uint64_t n = 1; n <= SAVES; n++) {
        if (save_number(disk, n, NULL) != HA_OK) {
            return n - 1;
        }
    }
    return SAVES;
}

static uint64_t
count_operations(void)
{
    struct fs_mem *const disk = fs_mem_new(1);
    uint64_t n;

    assert_int_equal(save_all(disk), SAVES);
    n = fs_mem_operations(disk);
    fs_mem_free(disk);
    return n;
}

/* After a restart: the acknowledged record or the one behind it; it lasts; the next is saved. */
static void
check_restart(struct fs_mem *disk, uint64_t acked)
{
    const uint64_t found = load_number(disk);

    assert_true(found == acked || found == acked + 1);
    fs_mem_restart(disk, FS_MEM_LOSE_ALL);
    assert_int_equal(load_number(disk), found);
    assert_int_equal(save_number(disk, found + 1, NULL), HA_OK);
    fs_mem_restart(disk, FS_MEM_LOSE_ALL);
    assert_int_equal(load_number(disk), found + 1);
}

static void
a_crash_leaves_the_old_record_or_the_new_one(void **state)
{
    const uint64_t n = count_operations();

    (void)state;
    for (uint64_t k = 1; k <= n; k++) {
        for (int loss = 0; loss < FS_MEM_LOSS_COUNT; loss++) {
            for (uint64_t seed = 0; seed < SEEDS; seed++) {
                struct fs_mem *const disk = fs_mem_new(seed * 1000 + k);
                uint64_t acked;

                fs_mem_power_off_at(disk, k);
                acked = save_all(disk);
                fs_mem_restart(disk, (enum fs_mem_loss)loss);
                check_restart(disk, acked);
                fs_mem_free(disk);
            }
        }
    }
}

static void
fail_once(uint64_t k, uint64_t n_failures, uint64_t seed)
{
    struct fs_mem *const disk = fs_mem_new(seed * 1000 + k);
    uint64_t acked;

    fs_mem_fail_at(disk, k, n_failures, HA_EIO);
    acked = save_all(disk);
    fs_mem_fail_at(disk, 0, 0, HA_OK);
    if (acked == SAVES) {
        /* It hit a copy, or nothing. */
        fs_mem_restart(disk, FS_MEM_LOSE_ALL);
        assert_int_equal(load_number(disk), SAVES);
    } else if (n_failures == 1 && acked > 0) {
        assert_int_equal(load_number(disk), acked);
    }
    fs_mem_restart(disk, FS_MEM_ALL_STAY);
    check_restart(disk, acked);
    fs_mem_free(disk);
}

static void
a_save_that_fails_leaves_the_record_before(void **state)
{
    const uint64_t n = count_operations();

    (void)state;
    for (uint64_t k = 1; k <= n; k++) {
        for (uint64_t n_failures = 1; n_failures <= 3; n_failures++) {
            for (uint64_t seed = 0; seed < SEEDS; seed++) {
                fail_once(k, n_failures, seed);
            }
        }
    }
}

/* The next save, and a crash in it, find a slot that the kernel shows and never stored. */
static void
a_crash_behind_a_failed_sync_leaves_a_whole_record(void **state)
{
    const uint64_t n = count_operations();

    (void)state;
    for (uint64_t k = 1; k <= n; k++) {
        for (uint64_t later = 1; later <= 8; later++) {
            for (uint64_t seed = 0; seed < SEEDS; seed++) {
                struct fs_mem *const disk = fs_mem_new(seed * 1000 + k * 10 + later);
                uint64_t acked;

                fs_mem_fail_at(disk, k, 1 + seed % 2, HA_EIO);
                fs_mem_power_off_at(disk, k + later);
                acked = save_all(disk);
                if (acked < SAVES && save_number(disk, acked + 1, NULL) == HA_OK) {
                    acked++;
                }
                fs_mem_restart(disk, FS_MEM_KEEP_PREFIX);
                check_restart(disk, acked);
                fs_mem_free(disk);
            }
        }
    }
}

static void
every_flipped_bit_costs_nothing(void **state)
{
    struct fs_mem *const good = fs_mem_new(1);

    (void)state;
    assert_int_equal(save_all(good), SAVES);
    for (uint64_t bit = 0; bit < 2ULL * SLOT_BYTES * 8; bit++) {
        struct fs_mem *const disk = fs_mem_copy(good, 1);

        fs_mem_flip(disk, DURABLE_PATH, bit);
        assert_int_equal(load_number(disk), SAVES);
        fs_mem_flip(disk, DURABLE_PATH, bit);
        assert_int_equal(save_number(disk, SAVES + 1, NULL), HA_OK);
        assert_int_equal(load_number(disk), SAVES + 1);
        fs_mem_free(disk);
        if (bit % ((uint64_t)SLOT_BYTES * 8) == 1024ULL * 8) {
            bit += (SLOT_BYTES - 1025) * 8ULL; /* zeros that nothing reads */
        }
    }
    fs_mem_free(good);
}

static void
damage_to_both_slots_is_refused_with_file_and_offset(void **state)
{
    struct fs_mem *const disk = fs_mem_new(1);
    struct durable d;
    struct err err = {0};

    (void)state;
    assert_int_equal(save_all(disk), SAVES);
    fs_mem_flip(disk, DURABLE_PATH, 300);
    fs_mem_flip(disk, DURABLE_PATH, SLOT_BYTES * 8 + 300);
    assert_int_equal(durable_load(fs_mem_fs(disk), DIR, &d, &err), HA_ECORRUPT);
    assert_non_null(strstr(err.text, DURABLE_PATH ": damaged at offset 0"));
    assert_int_equal(save_number(disk, 9, &err), HA_ECORRUPT); /* and never written over */
    fs_mem_cut(disk, DURABLE_PATH, 0);
    assert_int_equal(durable_load(fs_mem_fs(disk), DIR, &d, &err), HA_ECORRUPT);
    fs_mem_free(disk);
}

static void
a_full_disk_stops_the_first_save_only(void **state)
{
    (void)state;
    for (uint64_t capacity = 0; capacity < 2 * SLOT_BYTES; capacity += 61) {
        struct fs_mem *const disk = fs_mem_new(capacity);
        struct err err = {0};

        fs_mem_set_capacity(disk, capacity);
        assert_int_equal(save_number(disk, 1, &err), HA_ENOSPC);
        assert_int_equal(load_number(disk), 0);
        fs_mem_set_capacity(disk, 2 * SLOT_BYTES);
        assert_int_equal(save_all(disk), SAVES); /* what failed left nothing that takes space */
        fs_mem_set_capacity(disk, 0);
        assert_int_equal(save_number(disk, SAVES + 1, &err), HA_OK);
        fs_mem_restart(disk, FS_MEM_LOSE_ALL);
        assert_int_equal(load_number(disk), SAVES + 1);
        fs_mem_free(disk);
    }
}

static void
cached_state(struct state *s, uint64_t n)
{
    state_init(s);
    s->cluster_id = 77;
    s->reign = n;
}

/* The index that the cache says, 0 without one. The state is the one of that index. */
static uint64_t
cache_load_index(struct fs_mem *disk)
{
    struct state *const s = calloc(2, sizeof *s);
    uint64_t index = 0;
    int rc;

    assert_non_null(s);
    rc = state_cache_load(fs_mem_fs(disk), DIR, &s[0], &index);
    if (rc == HA_OK) {
        cached_state(&s[1], index);
        assert_memory_equal(&s[0], &s[1], sizeof s[0]);
    } else {
        assert_int_equal(rc, HA_ENOTFOUND);
        assert_int_equal(index, 0);
    }
    free(s);
    return index;
}

static int
cache_save_index(struct fs_mem *disk, uint64_t index)
{
    struct state *const s = malloc(sizeof *s);
    int rc;

    assert_non_null(s);
    cached_state(s, index);
    rc = state_cache_save(fs_mem_fs(disk), DIR, s, index);
    free(s);
    return rc;
}

static void
a_cached_state_is_the_one_saved_or_none(void **state)
{
    (void)state;
    for (uint64_t k = 1; k <= 20; k++) {
        for (int loss = 0; loss < FS_MEM_LOSS_COUNT; loss++) {
            for (uint64_t seed = 0; seed < SEEDS; seed++) {
                struct fs_mem *const disk = fs_mem_new(seed * 1000 + k);
                uint64_t index;

                assert_int_equal(cache_load_index(disk), 0);
                fs_mem_power_off_at(disk, k);
                for (uint64_t n = 1; n <= 3; n++) {
                    (void)cache_save_index(disk, n);
                }
                fs_mem_restart(disk, (enum fs_mem_loss)loss);
                index = cache_load_index(disk);
                assert_true(index <= 3);
                assert_int_equal(cache_save_index(disk, 4), HA_OK);
                assert_int_equal(cache_load_index(disk), 4);
                assert_int_equal(fs_mem_open_files(disk), 0);
                fs_mem_free(disk);
            }
        }
    }
}

static void
leave_long_file(struct fs_mem *disk, const char *path)
{
    static const uint8_t rubbish[100000] = {1, 2, 3};
    struct fs *const fs = fs_mem_fs(disk);
    int file = -1;

    assert_int_equal(fs->open(fs, path, true, &file, NULL), HA_OK);
    assert_int_equal(fs->write_at(fs, file, 0, rubbish, sizeof rubbish, NULL), HA_OK);
    assert_int_equal(fs->close(fs, file), HA_OK);
}

static void
what_a_crash_left_beside_the_cache_does_not_matter(void **state)
{
    struct fs_mem *const disk = fs_mem_new(1);

    (void)state;
    leave_long_file(disk, CACHE_PATH ".new");
    assert_int_equal(cache_save_index(disk, 3), HA_OK);
    assert_int_equal(cache_load_index(disk), 3);
    fs_mem_free(disk);
}

static void
a_damaged_cache_is_none(void **state)
{
    struct fs_mem *const good = fs_mem_new(1);
    size_t len = 0;

    (void)state;
    assert_int_equal(cache_save_index(good, 3), HA_OK);
    assert_non_null(fs_mem_bytes(good, CACHE_PATH, &len));
    for (uint64_t bit = 0; bit < len * 8; bit++) {
        struct fs_mem *const disk = fs_mem_copy(good, 1);

        fs_mem_flip(disk, CACHE_PATH, bit);
        assert_int_equal(cache_load_index(disk), 0);
        fs_mem_free(disk);
    }
    fs_mem_free(good);
}

static void
a_full_disk_leaves_the_cache_before(void **state)
{
    struct fs_mem *const disk = fs_mem_new(1);
    size_t len = 0;

    (void)state;
    assert_int_equal(cache_save_index(disk, 1), HA_OK);
    assert_non_null(fs_mem_bytes(disk, CACHE_PATH, &len));
    for (uint64_t capacity = len; capacity < 2 * len; capacity++) {
        fs_mem_set_capacity(disk, capacity);
        assert_int_equal(cache_save_index(disk, 2), HA_ENOSPC);
        assert_int_equal(cache_load_index(disk), 1);
    }
    fs_mem_set_capacity(disk, 2 * len);
    assert_int_equal(cache_save_index(disk, 2), HA_OK);
    assert_int_equal(cache_load_index(disk), 2);
    fs_mem_free(disk);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_is_read_as_it_was_saved),
        cmocka_unit_test(a_crash_leaves_the_old_record_or_the_new_one),
        cmocka_unit_test(a_save_that_fails_leaves_the_record_before),
        cmocka_unit_test(a_crash_behind_a_failed_sync_leaves_a_whole_record),
        cmocka_unit_test(every_flipped_bit_costs_nothing),
        cmocka_unit_test(damage_to_both_slots_is_refused_with_file_and_offset),
        cmocka_unit_test(a_full_disk_stops_the_first_save_only),
        cmocka_unit_test(a_cached_state_is_the_one_saved_or_none),
        cmocka_unit_test(what_a_crash_left_beside_the_cache_does_not_matter),
        cmocka_unit_test(a_damaged_cache_is_none),
        cmocka_unit_test(a_full_disk_leaves_the_cache_before),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
