/*
 * Goal:   damage is never read as data: the log refuses with file and offset, or nothing is lost.
 *         What cannot be told from a torn tail is noted as one and costs the last append at most.
 * Method: the files of the scripted workload with every single bit flipped, cut off at every byte,
 *         and removed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "store/log_record.h"
#include "tests/lib/fs_mem.h"
#include "tests/lib/log_script.h"

#define LOG_PATH LOG_SCRIPT_DIR "/log"
#define VOTE_PATH LOG_SCRIPT_DIR "/vote"
#define SNAPSHOT_PATH LOG_SCRIPT_DIR "/snapshot"

/* A disk behind some steps of the script, cleanly closed. */
static struct fs_mem *
make_disk(size_t steps, struct log_model *model)
{
    struct fs_mem *const disk = fs_mem_new(1);
    struct log *log = NULL;

    log_model_init(model);
    assert_int_equal(log_open(fs_mem_fs(disk), LOG_SCRIPT_DIR, &log, NULL), HA_OK);
    for (size_t i = 0; i < steps; i++) {
        assert_int_equal(log_script_step(log, &log_script[i], NULL), HA_OK);
        log_model_step(model, &log_script[i]);
    }
    log_close(log);
    return disk;
}

static size_t
file_len(const struct fs_mem *disk, const char *path)
{
    size_t len = 0;

    assert_non_null(fs_mem_bytes(disk, path, &len));
    return len;
}

enum outcome { REFUSED, WHOLE, NOTED_WHOLE };

/* Opens what is on the disk: refused, or exactly what was stored. */
static enum outcome
open_damaged(struct fs_mem *disk, const char *path, const struct log_model *model)
{
    struct log_loaded loaded;
    struct log *log = NULL;
    struct err err = {0};
    enum outcome outcome = REFUSED;

    if (log_open(fs_mem_fs(disk), LOG_SCRIPT_DIR, &log, &err) != HA_OK) {
        assert_int_equal(err.code, HA_ECORRUPT);
        if (strstr(err.text, path) == NULL || strstr(err.text, "offset ") == NULL) {
            fail_msg("does not name %s and an offset: %s", path, err.text);
        }
        assert_int_equal(fs_mem_open_files(disk), 0);
        return REFUSED;
    }
    assert_int_equal(log_load(log, &loaded, NULL), HA_OK);
    if (log_model_matches(model, &loaded)) {
        outcome = loaded.note[0] != '\0' ? NOTED_WHOLE : WHOLE;
    } else {
        fail_msg("damaged data were read as data (%s)", loaded.note);
    }
    log_loaded_free(&loaded);
    log_close(log);
    return outcome;
}

static enum outcome
flip_and_open(const struct fs_mem *good,
              const char *path,
              uint64_t bit,
              const struct log_model *model)
{
    struct fs_mem *const disk = fs_mem_copy(good, 1);
    enum outcome outcome;

    fs_mem_flip(disk, path, bit);
    outcome = open_damaged(disk, path, model);
    fs_mem_free(disk);
    return outcome;
}

static void
every_flipped_bit_of_the_log_is_refused_or_costs_nothing(void **state)
{
    struct log_model model;
    /* Up to 10 steps the log has entries before and behind the snapshot, in several appends. */
    struct fs_mem *const good = make_disk(10, &model);
    const size_t len = file_len(good, LOG_PATH);
    const size_t last_seal = len - LOG_RECORD_HEADER_BYTES;

    (void)state;
    for (uint64_t bit = 0; bit < len * 8; bit++) {
        const enum outcome outcome = flip_and_open(good, LOG_PATH, bit, &model);

        assert_int_equal(outcome, bit / 8 < last_seal ? REFUSED : NOTED_WHOLE);
    }
    fs_mem_free(good);
}

static void
without_its_seal_a_flip_costs_the_last_append_at_most(void **state)
{
    struct log_model model;
    struct log_model less;
    struct fs_mem *const good = make_disk(10, &model);
    struct fs_mem *const shorter = make_disk(9, &less);
    const size_t end = file_len(good, LOG_PATH) - LOG_RECORD_HEADER_BYTES;
    const size_t seal_before = file_len(shorter, LOG_PATH) - LOG_RECORD_HEADER_BYTES;
    struct log_model part[4];
    uint64_t n_less = 0;

    (void)state;
    /* The last append has four entries: damage to the i-th leaves those before it. */
    for (size_t i = 0; i < 4; i++) {
        part[i] = less;
        log_model_step(&part[i], &(struct log_step){STEP_APPEND, i, 2, 0});
    }
    fs_mem_cut(good, LOG_PATH, end);
    for (uint64_t bit = 0; bit < end * 8; bit++) {
        struct fs_mem *const disk = fs_mem_copy(good, 1);
        struct log *log = NULL;
        struct log_loaded loaded;
        bool is_part = false;

        fs_mem_flip(disk, LOG_PATH, bit);
        if (bit / 8 < seal_before) {
            assert_int_equal(open_damaged(disk, LOG_PATH, &model), REFUSED);
            fs_mem_free(disk);
            continue;
        }
        assert_int_equal(log_open(fs_mem_fs(disk), LOG_SCRIPT_DIR, &log, NULL), HA_OK);
        assert_int_equal(log_load(log, &loaded, NULL), HA_OK);
        for (size_t i = 0; i < 4; i++) {
            is_part = is_part || log_model_matches(&part[i], &loaded);
        }
        assert_true(is_part);
        assert_non_null(strstr(loaded.note, "torn tail at offset"));
        n_less++;
        log_loaded_free(&loaded);
        log_close(log);
        fs_mem_free(disk);
    }
    assert_true(n_less > 0);
    fs_mem_free(good);
    fs_mem_free(shorter);
}

static void
every_flipped_bit_of_the_snapshot_is_refused(void **state)
{
    struct log_model model;
    struct fs_mem *const good = make_disk(10, &model);
    const size_t len = file_len(good, SNAPSHOT_PATH);

    (void)state;
    for (uint64_t bit = 0; bit < len * 8; bit++) {
        assert_int_equal(flip_and_open(good, SNAPSHOT_PATH, bit, &model), REFUSED);
    }
    fs_mem_free(good);
}

static void
every_flipped_bit_of_the_vote_costs_nothing(void **state)
{
    struct log_model model;
    struct fs_mem *const good = make_disk(10, &model);
    const size_t len = file_len(good, VOTE_PATH);

    (void)state;
    for (uint64_t bit = 0; bit < len * 8; bit++) {
        assert_int_equal(flip_and_open(good, VOTE_PATH, bit, &model), WHOLE);
        if (bit % 4096 == 511) {
            bit += 4096 * 7 - 512; /* zeros that nothing reads */
        }
    }
    fs_mem_free(good);
}

static void
a_vote_damaged_in_both_slots_is_refused(void **state)
{
    struct log_model model;
    struct fs_mem *const disk = make_disk(10, &model);

    (void)state;
    fs_mem_flip(disk, VOTE_PATH, 64);
    fs_mem_flip(disk, VOTE_PATH, 4096 * 8 + 64);
    assert_int_equal(open_damaged(disk, VOTE_PATH, &model), REFUSED);
    fs_mem_free(disk);
}

static void
a_file_that_is_gone_is_refused(void **state)
{
    static const char *const paths[] = {LOG_PATH, VOTE_PATH, SNAPSHOT_PATH};

    (void)state;
    for (size_t i = 0; i < HA_COUNT_OF(paths); i++) {
        struct log_model model;
        struct fs_mem *const disk = make_disk(10, &model);

        fs_mem_remove(disk, paths[i]);
        assert_int_equal(open_damaged(disk, paths[i], &model), REFUSED);
        fs_mem_free(disk);
    }
}

static void
a_vote_that_is_gone_from_an_empty_log_is_refused(void **state)
{
    struct log_model model;
    struct fs_mem *const disk = make_disk(1, &model);

    (void)state;
    assert_int_equal(model.n, 0);
    fs_mem_remove(disk, VOTE_PATH);
    assert_int_equal(open_damaged(disk, VOTE_PATH, &model), REFUSED);
    fs_mem_free(disk);
}

static void
a_vote_older_than_the_log_is_refused(void **state)
{
    struct log_model model;
    struct fs_mem *const old = make_disk(4, &model);
    struct fs_mem *const disk = make_disk(6, &model);
    size_t len = 0;
    const uint8_t *const vote = fs_mem_bytes(old, VOTE_PATH, &len);

    (void)state;
    fs_mem_put(disk, VOTE_PATH, vote, len);
    assert_int_equal(open_damaged(disk, VOTE_PATH, &model), REFUSED);
    fs_mem_free(old);
    fs_mem_free(disk);
}

static void
a_start_seals_what_it_found(void **state)
{
    struct log_model model;
    struct fs_mem *const disk = make_disk(10, &model);
    const size_t end = file_len(disk, LOG_PATH) - LOG_RECORD_HEADER_BYTES;

    (void)state;
    fs_mem_cut(disk, LOG_PATH, end);
    assert_int_equal(open_damaged(disk, LOG_PATH, &model), WHOLE);
    for (uint64_t bit = (end - 200) * 8; bit < end * 8; bit++) {
        assert_int_equal(flip_and_open(disk, LOG_PATH, bit, &model), REFUSED);
    }
    fs_mem_free(disk);
}

/* Every byte of it whole, but not in the order in which they were written. */
static void
an_entry_dropped_or_doubled_is_refused(void **state)
{
    struct log_model model;
    struct fs_mem *const good = make_disk(10, &model);
    uint8_t bytes[16384];
    uint8_t spliced[2 * sizeof bytes];
    size_t len = 0;
    struct log_marks marks;
    struct log_walk found;

    (void)state;
    assert_true(file_len(good, LOG_PATH) <= sizeof bytes);
    memcpy(bytes, fs_mem_bytes(good, LOG_PATH, &len), file_len(good, LOG_PATH));
    assert_int_equal(log_walk(LOG_PATH, bytes, len, &marks, &found, NULL), HA_OK);
    assert_int_equal(marks.n, model.n);
    for (size_t i = 0; i < marks.n; i++) {
        const size_t from = (size_t)marks.at[i].offset;
        const size_t to = (size_t)(i + 1 < marks.n ? marks.at[i + 1].offset : found.entries_end);
        struct fs_mem *disk = fs_mem_copy(good, 1);

        memcpy(spliced, bytes, from);
        memcpy(spliced + from, bytes + to, len - to);
        fs_mem_put(disk, LOG_PATH, spliced, len - (to - from));
        assert_int_equal(open_damaged(disk, LOG_PATH, &model), REFUSED);
        fs_mem_free(disk);

        disk = fs_mem_copy(good, 1);
        memcpy(spliced, bytes, to);
        memcpy(spliced + to, bytes + from, len - from);
        fs_mem_put(disk, LOG_PATH, spliced, len + (to - from));
        assert_int_equal(open_damaged(disk, LOG_PATH, &model), REFUSED);
        fs_mem_free(disk);
    }
    log_marks_fini(&marks);
    fs_mem_free(good);
}

/* Of a log cut off at its end, whole entries are left, in order, or it is refused. */
static void
a_log_cut_off_at_any_byte_has_whole_entries(void **state)
{
    struct log_model model;
    struct fs_mem *const good = make_disk(8, &model); /* no snapshot yet */
    const size_t len = file_len(good, LOG_PATH);

    (void)state;
    for (size_t cut = 0; cut < len; cut++) {
        struct fs_mem *const disk = fs_mem_copy(good, 1);
        struct log_model left = model;
        struct log_loaded loaded;
        struct log *log = NULL;

        fs_mem_cut(disk, LOG_PATH, cut);
        if (cut < LOG_FILE_HEADER_BYTES) {
            assert_int_equal(open_damaged(disk, LOG_PATH, &model), REFUSED);
            fs_mem_free(disk);
            continue;
        }
        assert_int_equal(log_open(fs_mem_fs(disk), LOG_SCRIPT_DIR, &log, NULL), HA_OK);
        assert_int_equal(log_load(log, &loaded, NULL), HA_OK);
        left.n = loaded.n_entries;
        assert_true(left.n <= model.n && log_model_matches(&left, &loaded));
        log_loaded_free(&loaded);
        log_close(log);
        fs_mem_free(disk);
    }
    fs_mem_free(good);
}

static void
damage_while_in_use_is_not_copied_by_a_compaction(void **state)
{
    struct fs_mem *const disk = fs_mem_new(1);
    struct log_model model;
    struct log *log = NULL;
    struct err err = {0};

    (void)state;
    log_model_init(&model);
    assert_int_equal(log_open(fs_mem_fs(disk), LOG_SCRIPT_DIR, &log, NULL), HA_OK);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(log_script_step(log, &log_script[i], NULL), HA_OK);
    }
    fs_mem_flip(disk, LOG_PATH, (file_len(disk, LOG_PATH) - 60) * 8);
    assert_int_equal(log_script[8].kind, STEP_SNAPSHOT);
    assert_int_equal(log_script_step(log, &log_script[8], &err), HA_ECORRUPT);
    assert_non_null(strstr(err.text, LOG_PATH ": damaged at offset "));
    assert_int_equal(log_script_step(log, &log_script[9], &err), HA_ECORRUPT);
    log_close(log);
    fs_mem_free(disk);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_flipped_bit_of_the_log_is_refused_or_costs_nothing),
        cmocka_unit_test(without_its_seal_a_flip_costs_the_last_append_at_most),
        cmocka_unit_test(every_flipped_bit_of_the_snapshot_is_refused),
        cmocka_unit_test(every_flipped_bit_of_the_vote_costs_nothing),
        cmocka_unit_test(a_vote_damaged_in_both_slots_is_refused),
        cmocka_unit_test(a_file_that_is_gone_is_refused),
        cmocka_unit_test(a_vote_that_is_gone_from_an_empty_log_is_refused),
        cmocka_unit_test(a_vote_older_than_the_log_is_refused),
        cmocka_unit_test(a_start_seals_what_it_found),
        cmocka_unit_test(an_entry_dropped_or_doubled_is_refused),
        cmocka_unit_test(a_log_cut_off_at_any_byte_has_whole_entries),
        cmocka_unit_test(damage_while_in_use_is_not_copied_by_a_compaction),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
