/*
 * Goal:   whatever a crash, a failing or a full disk hits, what was acknowledged is there after a
 *         restart, nothing else is half there, and the log goes on.
 * Method: the scripted workload, hit in every operation (for a full disk: at every byte), with
 *         every way in which unsynced writes can be lost; then the rest of the script.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/fs_mem.h"
#include "tests/lib/log_script.h"

#define SEEDS 12

/* Operations of the whole script, the opening included. */
static uint64_t
count_operations(void)
{
    struct fs_mem *const disk = fs_mem_new(1);
    struct log_model model;
    struct log *log = NULL;
    uint64_t n;

    log_model_init(&model);
    assert_int_equal(log_open(fs_mem_fs(disk), LOG_SCRIPT_DIR, &log, NULL), HA_OK);
    assert_int_equal(log_script_run(log, 0, &model, NULL), log_script_len);
    n = fs_mem_operations(disk);
    log_close(log);
    fs_mem_free(disk);
    return n;
}

static struct log *
must_open(struct fs_mem *disk, const char *when, uint64_t k)
{
    struct log *log = NULL;
    struct err err = {0};

    if (log_open(fs_mem_fs(disk), LOG_SCRIPT_DIR, &log, &err) != HA_OK) {
        fail_msg("%s, operation %u: %s", when, (unsigned)k, err.text);
    }
    return log;
}

static void
must_check(struct log *log, struct log_model *model, size_t step, const char *when, uint64_t k)
{
    const struct log_step *const failed = step < log_script_len ? &log_script[step] : NULL;

    if (!log_script_check(log, model, failed)) {
        fail_msg("%s, operation %u, step %u: the log is in no state that it may be in",
                 when,
                 (unsigned)k,
                 (unsigned)step);
    }
}

/* How many steps are done, given that the step that failed may be done after all. */
static size_t
next_step(const struct log_model *model, const struct log_model *before, size_t failed)
{
    struct log_model after = *before;

    log_model_step(&after, &log_script[failed]);
    return memcmp(&after, model, sizeof after) == 0 ? failed + 1 : failed;
}

/* Brings the log to where the script can go on: what is left of an append is taken back. */
static size_t
resume(struct log *log, struct log_model *model, const struct log_model *before, size_t failed)
{
    const size_t step = next_step(model, before, failed);

    if (step == failed && model->n > before->n) {
        assert_int_equal(log_truncate(log, before->first_index + before->n, NULL), HA_OK);
        *model = *before;
    }
    return step;
}

/* After the restart: the state is a possible one, it lasts, and the script goes on to its end. */
static void
check_restart(struct fs_mem *disk, struct log_model *model, size_t failed, uint64_t k)
{
    const struct log_model before = *model;
    struct log *log = must_open(disk, "restart", k);

    must_check(log, model, failed, "restart", k);
    log_close(log);
    /* What was read once must not be lost later. */
    fs_mem_restart(disk, FS_MEM_LOSE_ALL);
    log = must_open(disk, "second restart", k);
    must_check(log, model, log_script_len, "second restart", k);
    if (failed < log_script_len) {
        const size_t from = resume(log, model, &before, failed);

        assert_int_equal(log_script_run(log, from, model, NULL), log_script_len);
    }
    log_close(log);
    fs_mem_restart(disk, FS_MEM_LOSE_ALL);
    log = must_open(disk, "third restart", k);
    must_check(log, model, log_script_len, "third restart", k);
    log_close(log);
    assert_int_equal(fs_mem_open_files(disk), 0);
}

static void
crash_once(uint64_t k, enum fs_mem_loss loss, uint64_t seed)
{
    struct fs_mem *const disk = fs_mem_new(seed);
    struct log_model model;
    struct log *log = NULL;
    size_t failed = 0;

    log_model_init(&model);
    fs_mem_power_off_at(disk, k);
    if (log_open(fs_mem_fs(disk), LOG_SCRIPT_DIR, &log, NULL) == HA_OK) {
        failed = log_script_run(log, 0, &model, NULL);
        log_close(log);
    }
    assert_true(fs_mem_is_off(disk));
    fs_mem_restart(disk, loss);
    check_restart(disk, &model, failed, k);
    fs_mem_free(disk);
}

static void
a_crash_in_any_operation_loses_nothing_acknowledged(void **state)
{
    const uint64_t n = count_operations();

    (void)state;
    for (uint64_t k = 1; k <= n; k++) {
        for (int loss = 0; loss < FS_MEM_LOSS_COUNT; loss++) {
            const bool is_random = loss == FS_MEM_KEEP_PREFIX || loss == FS_MEM_KEEP_SECTORS;

            for (uint64_t seed = 0; seed < (is_random ? SEEDS : 1); seed++) {
                crash_once(k, (enum fs_mem_loss)loss, seed * 1000 + k);
            }
        }
    }
}

/* Up to three operations in a row fail; then the log is opened anew. */
static void
fail_once(uint64_t k, uint64_t n_failures, int code, enum fs_mem_loss loss)
{
    struct fs_mem *const disk = fs_mem_new(k);
    struct log_model model;
    struct log *log = NULL;
    struct err err = {0};
    size_t failed = 0;
    bool is_undone = false;

    log_model_init(&model);
    fs_mem_fail_at(disk, k, n_failures, code);
    if (log_open(fs_mem_fs(disk), LOG_SCRIPT_DIR, &log, &err) == HA_OK) {
        failed = log_script_run(log, 0, &model, &err);
        /* An append that says so left nothing. */
        is_undone = failed < log_script_len && log_script[failed].kind == STEP_APPEND &&
                    err.code != HA_ECORRUPT;
        log_close(log);
    }
    if (failed < log_script_len) {
        assert_true(err.code == code || err.code == HA_ECORRUPT);
    }
    fs_mem_restart(disk, loss);
    if (is_undone) {
        log = must_open(disk, "after a failed append", k);
        must_check(log, &model, log_script_len, "after a failed append", k);
        log_close(log);
    }
    check_restart(disk, &model, failed, k);
    fs_mem_free(disk);
}

static void
an_operation_that_fails_leaves_nothing_half_done(void **state)
{
    const uint64_t n = count_operations();

    (void)state;
    for (uint64_t k = 1; k <= n; k++) {
        for (int loss = 0; loss < FS_MEM_LOSS_COUNT; loss++) {
            for (uint64_t n_failures = 1; n_failures <= 3; n_failures++) {
                fail_once(k, n_failures, HA_EIO, (enum fs_mem_loss)loss);
                fail_once(k, n_failures, HA_ENOSPC, (enum fs_mem_loss)loss);
            }
        }
    }
}

/* Tries the failed step again in the same process. Returns the step to go on with. */
static size_t
go_on(struct log *log, struct log_model *model, size_t failed, struct err *err)
{
    const size_t again = log_script_run(log, failed, model, err);

    if (again < log_script_len) {
        assert_int_equal(err->code, HA_ECORRUPT);
        assert_int_equal(again, failed);
        /* Unusable for all, not for one. */
        assert_int_equal(log_append(log, log_last_index(log) + 1, NULL, 0, NULL), HA_ECORRUPT);
        assert_int_equal(log_truncate(log, log_last_index(log), NULL), HA_ECORRUPT);
    }
    return again;
}

static void
after_a_failure_the_log_goes_on_or_says_that_it_cannot(void **state)
{
    const uint64_t n = count_operations();
    unsigned n_went_on = 0;

    (void)state;
    for (uint64_t k = 1; k <= n; k++) {
        struct fs_mem *const disk = fs_mem_new(k);
        struct log_model model;
        struct log *log = NULL;
        struct err err = {0};
        size_t failed = log_script_len;

        log_model_init(&model);
        fs_mem_fail_at(disk, k, 1, HA_EIO);
        if (log_open(fs_mem_fs(disk), LOG_SCRIPT_DIR, &log, &err) != HA_OK) {
            fs_mem_free(disk);
            continue;
        }
        failed = log_script_run(log, 0, &model, &err);
        if (failed < log_script_len) {
            failed = go_on(log, &model, failed, &err);
            n_went_on += failed == log_script_len;
        }
        log_close(log);
        fs_mem_restart(disk, FS_MEM_LOSE_ALL);
        check_restart(disk, &model, failed, k);
        fs_mem_free(disk);
    }
    assert_true(n_went_on > n / 3);
}

/* A second blow while the first is being repaired. */
static void
a_crash_behind_a_failure_loses_nothing_acknowledged(void **state)
{
    const uint64_t n = count_operations();

    (void)state;
    for (uint64_t k = 1; k <= n; k++) {
        for (uint64_t later = 1; later <= 6; later++) {
            struct fs_mem *const disk = fs_mem_new(k * 100 + later);
            struct log_model model;
            struct log *log = NULL;
            size_t failed = 0;

            log_model_init(&model);
            fs_mem_fail_at(disk, k, 1, HA_EIO);
            fs_mem_power_off_at(disk, k + later);
            if (log_open(fs_mem_fs(disk), LOG_SCRIPT_DIR, &log, NULL) == HA_OK) {
                failed = log_script_run(log, 0, &model, NULL);
                if (failed < log_script_len) {
                    failed = log_script_run(log, failed, &model, NULL);
                }
                log_close(log);
            }
            fs_mem_restart(disk, FS_MEM_KEEP_PREFIX);
            check_restart(disk, &model, failed, k);
            fs_mem_free(disk);
        }
    }
}

/* Runs the script on a disk of that size. False when all of it fits. */
static bool
fill_once(uint64_t capacity, enum fs_mem_loss loss)
{
    struct fs_mem *const disk = fs_mem_new(capacity);
    struct log_model model;
    struct log *log = NULL;
    struct err err = {0};
    size_t failed = 0;
    int rc;

    log_model_init(&model);
    fs_mem_set_capacity(disk, capacity);
    rc = log_open(fs_mem_fs(disk), LOG_SCRIPT_DIR, &log, &err);
    if (rc == HA_OK) {
        failed = log_script_run(log, 0, &model, &err);
        log_close(log);
    }
    if (failed < log_script_len) {
        assert_int_equal(err.code, HA_ENOSPC);
    }
    fs_mem_restart(disk, loss);
    if (rc == HA_OK && failed < log_script_len && log_script[failed].kind == STEP_APPEND) {
        /* It starts on the full disk, too, and nothing of the append is there. */
        log = must_open(disk, "full disk", capacity);
        must_check(log, &model, log_script_len, "full disk", capacity);
        log_close(log);
    }
    fs_mem_set_capacity(disk, UINT64_MAX);
    check_restart(disk, &model, failed, capacity);
    fs_mem_free(disk);
    return failed < log_script_len;
}

static void
a_disk_full_at_any_byte_leaves_nothing_half_written(void **state)
{
    uint64_t capacity = 0;

    (void)state;
    while (fill_once(capacity, FS_MEM_LOSE_ALL)) {
        assert_true(fill_once(capacity, FS_MEM_ALL_STAY));
        /* The vote's file is all zeros for a long while. */
        capacity += capacity > 100 && capacity < 8000 ? 97 : 1;
    }
    assert_true(capacity > 8192);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crash_in_any_operation_loses_nothing_acknowledged),
        cmocka_unit_test(an_operation_that_fails_leaves_nothing_half_done),
        cmocka_unit_test(after_a_failure_the_log_goes_on_or_says_that_it_cannot),
        cmocka_unit_test(a_crash_behind_a_failure_loses_nothing_acknowledged),
        cmocka_unit_test(a_disk_full_at_any_byte_leaves_nothing_half_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
