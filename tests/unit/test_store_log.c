/*
 * Goal:   the log does what log.h says, on a disk that works and on the real file system.
 * Method: the scripted workload, and each refusal by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/fs_mem.h"
#include "tests/lib/log_script.h"

static struct log *
must_open(struct fs *fs, const char *dir)
{
    struct log *log = NULL;
    struct err err = {0};

    if (log_open(fs, dir, &log, &err) != HA_OK) {
        fail_msg("log_open: %s", err.text);
    }
    return log;
}

/* Runs the script on `fs` and reads it back, before and after a restart. */
static void
run_and_reopen(struct fs *fs, const char *dir)
{
    struct log *log = must_open(fs, dir);
    struct log_model model;
    struct err err = {0};

    log_model_init(&model);
    assert_true(log_is_pristine(log));
    for (size_t i = 0; i < log_script_len; i++) {
        assert_int_equal(log_script_step(log, &log_script[i], &err), HA_OK);
        log_model_step(&model, &log_script[i]);
        assert_true(log_script_check(log, &model, NULL));
        assert_false(log_is_pristine(log));
        log_close(log);
        log = must_open(fs, dir);
        assert_true(log_script_check(log, &model, NULL));
        assert_int_equal(log_first_index(log), model.first_index);
        assert_int_equal(log_last_index(log), model.first_index + model.n - 1);
    }
    log_close(log);
}

static void
what_is_stored_is_read_before_and_after_a_restart(void **state)
{
    struct fs_mem *const disk = fs_mem_new(1);

    (void)state;
    run_and_reopen(fs_mem_fs(disk), LOG_SCRIPT_DIR);
    assert_int_equal(fs_mem_open_files(disk), 0);
    fs_mem_free(disk);
}

static void
remove_in(const char *dir, const char *name)
{
    char path[256];

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    (void)unlink(path);
}

static void
the_real_file_system_does_the_same(void **state)
{
    char dir[] = "/tmp/hawser-test-log-XXXXXX";

    (void)state;
    assert_non_null(mkdtemp(dir));
    run_and_reopen(fs_posix(), dir);
    remove_in(dir, "log");
    remove_in(dir, "vote");
    remove_in(dir, "snapshot");
    assert_int_equal(rmdir(dir), 0); /* nothing else was left there */
}

static void
a_directory_that_is_missing_is_an_error(void **state)
{
    struct log *log = NULL;
    struct err err = {0};

    (void)state;
    assert_int_equal(log_open(fs_posix(), "/nonexistent/hawser", &log, &err), HA_ENOTFOUND);
    assert_non_null(strstr(err.text, "/nonexistent/hawser"));
}

static int
append_one(struct log *log, uint64_t index, uint64_t term, size_t len)
{
    static const uint8_t data[LOG_ENTRY_BYTES_MAX + 8];
    const struct log_entry entry = {.term = term, .type = 1, .data = data, .len = len};

    return log_append(log, index, &entry, 1, NULL);
}

static void
what_breaks_the_contract_is_refused_and_changes_nothing(void **state)
{
    struct fs_mem *const disk = fs_mem_new(1);
    struct log *const log = must_open(fs_mem_fs(disk), LOG_SCRIPT_DIR);
    struct log_snapshot snapshot = {.index = 2, .term = 5};

    (void)state;
    assert_int_equal(append_one(log, 1, 1, 8), HA_EINVAL); /* a term not stored yet */
    assert_int_equal(log_vote_set(log, 5, 3, NULL), HA_OK);
    assert_int_equal(log_vote_set(log, 5, 3, NULL), HA_OK);
    assert_int_equal(log_vote_set(log, 5, 4, NULL), HA_EINVAL); /* a second vote */
    assert_int_equal(log_vote_set(log, 5, 0, NULL), HA_EINVAL); /* a vote taken back */
    assert_int_equal(log_vote_set(log, 4, 0, NULL), HA_EINVAL);
    assert_int_equal(append_one(log, 0, 5, 8), HA_EINVAL);
    assert_int_equal(append_one(log, 2, 5, 8), HA_EINVAL);
    assert_int_equal(append_one(log, 1, 0, 8), HA_EINVAL);
    assert_int_equal(append_one(log, 1, 5, LOG_ENTRY_BYTES_MAX + 1), HA_ETOOBIG);
    assert_int_equal(log_append(log, 1, NULL, 0, NULL), HA_OK);
    for (uint64_t i = 1; i <= 3; i++) {
        assert_int_equal(append_one(log, i, 5, LOG_ENTRY_BYTES_MAX), HA_OK);
    }
    assert_int_equal(append_one(log, 4, 4, 8), HA_EINVAL);
    assert_int_equal(log_snapshot_put(log, &snapshot, 0, NULL), HA_OK);
    assert_int_equal(log_truncate(log, 2, NULL), HA_EINVAL); /* the snapshot stands for it */
    assert_int_equal(log_truncate(log, 9, NULL), HA_OK);
    snapshot.index = 1;
    assert_int_equal(log_snapshot_put(log, &snapshot, 0, NULL), HA_EINVAL);
    snapshot.index = 3;
    snapshot.term = 6;
    assert_int_equal(log_snapshot_put(log, &snapshot, 0, NULL), HA_EINVAL);
    assert_int_equal(log_first_index(log), 3);
    assert_int_equal(log_last_index(log), 3);
    log_close(log);
    fs_mem_free(disk);
}

static void
what_an_earlier_failure_left_beside_a_file_does_not_matter(void **state)
{
    static const uint8_t rubbish[100000] = {1, 2, 3};
    struct fs_mem *const disk = fs_mem_new(1);
    struct fs *const fs = fs_mem_fs(disk);
    struct log *log = must_open(fs, LOG_SCRIPT_DIR);
    struct log_model model;
    int file = -1;

    (void)state;
    log_model_init(&model);
    assert_int_equal(fs->open(fs, LOG_SCRIPT_DIR "/snapshot.new", true, &file, NULL), HA_OK);
    assert_int_equal(fs->write_at(fs, file, 0, rubbish, sizeof rubbish, NULL), HA_OK);
    assert_int_equal(fs->close(fs, file), HA_OK);
    for (size_t i = 0; model.snapshot_index == 0; i++) {
        assert_int_equal(log_script_step(log, &log_script[i], NULL), HA_OK);
        log_model_step(&model, &log_script[i]);
    }
    log_close(log);
    log = must_open(fs, LOG_SCRIPT_DIR);
    assert_true(log_script_check(log, &model, NULL));
    log_close(log);
    fs_mem_free(disk);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_stored_is_read_before_and_after_a_restart),
        cmocka_unit_test(the_real_file_system_does_the_same),
        cmocka_unit_test(a_directory_that_is_missing_is_an_error),
        cmocka_unit_test(what_an_earlier_failure_left_beside_a_file_does_not_matter),
        cmocka_unit_test(what_breaks_the_contract_is_refused_and_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
