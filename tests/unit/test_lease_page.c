/*
 * Goal:   a reader of the lease page never takes a lease for live that is not.
 * Method: the real pen and the real reader on a temporary file, with a clock of
 *         our own (the linker wraps clock_gettime), that can move, and can
 *         renew the page, in the middle of a check.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "fence/lease_layout.h"
#include "fence/lease_page.h"
#include "fence/lease_view.h"

#define NS_PER_MS INT64_C(1000000)
#define RAW_AHEAD_NS INT64_C(-777000000) /* RAW minus BOOTTIME */

static int64_t boot_now_ns;
static int64_t step_ns; /* the clocks move by this at every read */
static struct lease_layout *renew_in_check;
static char dir[] = "/tmp/lease-XXXXXX";
static char path[64];

int __wrap_clock_gettime(clockid_t clock, struct timespec *ts);

int
__wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
    int64_t now = boot_now_ns;

    if (clock == CLOCK_MONOTONIC_RAW) {
        now += RAW_AHEAD_NS;
    } else {
        assert_int_equal(clock, CLOCK_BOOTTIME);
    }
    ts->tv_sec = (time_t)(now / 1000000000);
    ts->tv_nsec = (long)(now % 1000000000);
    boot_now_ns += step_ns;
    if (renew_in_check != NULL) {
        renew_in_check->valid_until_boot_ns = UINT64_MAX;
        renew_in_check->valid_until_raw_ns = UINT64_MAX;
    }
    return 0;
}

static struct lease_page
page_new(uint64_t reign)
{
    struct lease_page page;
    struct err err = {0};

    boot_now_ns = 5000 * NS_PER_MS;
    step_ns = 0;
    renew_in_check = NULL;
    assert_int_equal(lease_page_create(&page, path, reign, &err), 0);
    return page;
}

static enum lease_fault
look(uint64_t reign)
{
    struct lease_view view;
    enum lease_fault fault = lease_view_open(&view, path);

    if (fault == LEASE_LIVE) {
        fault = lease_view_check(&view, reign);
        lease_view_close(&view);
    }
    return fault;
}

static void
a_new_page_is_revoked_and_a_set_one_lives_to_its_deadline(void **state)
{
    struct lease_page page = page_new(7);

    (void)state;
    assert_int_equal(look(0), LEASE_REVOKED);
    lease_page_set(&page, mono_ms(6000), mono_ms(4990));
    assert_int_equal(look(0), LEASE_LIVE);
    assert_int_equal(look(7), LEASE_LIVE);
    assert_int_equal(look(8), LEASE_OTHER_REIGN);
    boot_now_ns = 6000 * NS_PER_MS - 1;
    assert_int_equal(look(0), LEASE_LIVE);
    boot_now_ns = 6000 * NS_PER_MS;
    assert_int_equal(look(0), LEASE_EXPIRED);
    boot_now_ns = 5500 * NS_PER_MS;
    lease_page_revoke(&page);
    assert_int_equal(look(0), LEASE_REVOKED);
    lease_page_set(&page, mono_ms(6000), mono_ms(5490));
    assert_int_equal(look(0), LEASE_LIVE);
    lease_page_close(&page);
    assert_int_equal(look(0), LEASE_REVOKED);
}

static void
a_deadline_that_has_passed_revokes(void **state)
{
    struct lease_page page = page_new(7);

    (void)state;
    lease_page_set(&page, mono_ms(9000), mono_ms(4990));
    lease_page_set(&page, mono_ms(5000), mono_ms(4990));
    assert_int_equal(look(0), LEASE_REVOKED);
    lease_page_close(&page);
}

static void
each_of_the_two_deadlines_is_enough_to_end_it(void **state)
{
    struct lease_page page = page_new(7);
    const uint64_t raw_rest = 1000 * (uint64_t)NS_PER_MS;

    (void)state;
    lease_page_set(&page, mono_ms(6000), mono_ms(4990));
    assert_true(page.at->valid_until_raw_ns == (uint64_t)(boot_now_ns + RAW_AHEAD_NS) + raw_rest);
    page.at->valid_until_raw_ns = (uint64_t)(boot_now_ns + RAW_AHEAD_NS);
    assert_int_equal(look(0), LEASE_EXPIRED);
    page.at->valid_until_raw_ns = 0;
    assert_int_equal(look(0), LEASE_REVOKED);
    page.at->valid_until_raw_ns = UINT64_MAX;
    assert_int_equal(look(0), LEASE_LIVE);
    page.at->valid_until_boot_ns = (uint64_t)boot_now_ns;
    assert_int_equal(look(0), LEASE_EXPIRED);
    lease_page_close(&page);
}

static void
time_that_passes_while_the_deadline_is_set_shortens_the_lease(void **state)
{
    struct lease_page page = page_new(7);

    (void)state;
    step_ns = 300 * NS_PER_MS;
    lease_page_set(&page, mono_ms(6000), mono_ms(4990));
    step_ns = 0;
    /* In step with BOOTTIME the twin would be 6000 ms + RAW_AHEAD_NS. */
    assert_true(page.at->valid_until_raw_ns <= (uint64_t)(6000 * NS_PER_MS + RAW_AHEAD_NS));
    lease_page_close(&page);
}

static void
a_renewal_between_word_and_clock_does_not_revive_this_check(void **state)
{
    struct lease_page page = page_new(7);

    (void)state;
    lease_page_set(&page, mono_ms(5100), mono_ms(4990));
    boot_now_ns = 5200 * NS_PER_MS;
    renew_in_check = page.at;
    assert_int_equal(look(0), LEASE_EXPIRED);
    renew_in_check = NULL;
    lease_page_close(&page);
}

static void
a_freeze_in_the_check_makes_it_expired(void **state)
{
    struct lease_page page = page_new(7);

    (void)state;
    lease_page_set(&page, mono_ms(6000), mono_ms(4990));
    step_ns = 2000 * NS_PER_MS; /* frozen between the two clocks */
    assert_int_equal(look(0), LEASE_EXPIRED);
    step_ns = 0;
    lease_page_close(&page);
}

static void
a_new_page_replaces_the_old_one_without_touching_it(void **state)
{
    struct lease_page old = page_new(7);
    struct lease_page fresh;
    struct lease_view view;
    struct err err = {0};

    (void)state;
    lease_page_set(&old, mono_ms(6000), mono_ms(4990));
    assert_int_equal(lease_view_open(&view, path), LEASE_LIVE);
    assert_false(lease_view_is_stale(&view, path));
    assert_int_equal(lease_page_create(&fresh, path, 8, &err), 0);
    assert_int_equal(lease_view_check(&view, 7), LEASE_LIVE);
    assert_true(lease_view_is_stale(&view, path));
    assert_int_equal(look(0), LEASE_REVOKED);
    lease_view_close(&view);
    lease_page_close(&old);
    lease_page_close(&fresh);
}

/* Makes a live page, spoils `len` bytes at `offset`, and looks. */
static enum lease_fault
look_spoiled(off_t offset, const void *bytes, size_t len)
{
    struct lease_page page = page_new(7);
    enum lease_fault fault;
    int fd;

    lease_page_set(&page, mono_ms(6000), mono_ms(4990));
    assert_int_equal(look(0), LEASE_LIVE);
    fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, len, offset), len);
    assert_int_equal(close(fd), 0);
    fault = look(0);
    lease_page_close(&page);
    return fault;
}

static void
a_spoiled_header_is_no_lease(void **state)
{
    const uint64_t zero = 0;

    (void)state;
    assert_int_equal(look_spoiled(0, "x", 1), LEASE_BAD_MAGIC);
    assert_int_equal(look_spoiled(8, "\2", 1), LEASE_BAD_VERSION);
    assert_int_equal(look_spoiled(12, "\0", 1), LEASE_BAD_SIZE);
    assert_int_equal(look_spoiled(16, "zz", 2), LEASE_OTHER_BOOT);
    assert_int_equal(look_spoiled(56, "\1\2\3", 3), LEASE_OTHER_TIME_NS);
    assert_int_equal(look_spoiled(64, &zero, sizeof zero), LEASE_BAD_REIGN);
    assert_int_equal(look_spoiled(LEASE_PAGE_SIZE, "x", 1), LEASE_BAD_SIZE);
}

static void
a_file_that_others_could_forge_is_no_lease(void **state)
{
    struct lease_page page = page_new(7);
    char target[80];

    (void)state;
    lease_page_set(&page, mono_ms(6000), mono_ms(4990));
    assert_int_equal(chmod(path, 0664), 0);
    assert_int_equal(look(0), LEASE_FORGEABLE);
    assert_int_equal(chmod(path, 0646), 0);
    assert_int_equal(look(0), LEASE_FORGEABLE);
    assert_int_equal(chmod(path, 0644), 0);
    (void)snprintf(target, sizeof target, "%s.real", path);
    assert_int_equal(rename(path, target), 0);
    assert_int_equal(look(0), LEASE_NO_FILE);
    assert_int_equal(symlink(target, path), 0);
    assert_int_equal(look(0), LEASE_NOT_REGULAR);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(look(0), LEASE_NOT_REGULAR);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(unlink(target), 0);
    lease_page_close(&page);
}

static void
a_path_that_cannot_be_written_is_an_error_with_its_name(void **state)
{
    struct lease_page page;
    struct err err = {0};

    (void)state;
    assert_int_equal(lease_page_create(&page, "/nowhere/at/all/lease", 1, &err), HA_EIO);
    assert_non_null(strstr(err.text, "/nowhere/at/all/lease"));
    lease_page_close(&page);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_page_is_revoked_and_a_set_one_lives_to_its_deadline),
        cmocka_unit_test(a_deadline_that_has_passed_revokes),
        cmocka_unit_test(each_of_the_two_deadlines_is_enough_to_end_it),
        cmocka_unit_test(time_that_passes_while_the_deadline_is_set_shortens_the_lease),
        cmocka_unit_test(a_renewal_between_word_and_clock_does_not_revive_this_check),
        cmocka_unit_test(a_freeze_in_the_check_makes_it_expired),
        cmocka_unit_test(a_new_page_replaces_the_old_one_without_touching_it),
        cmocka_unit_test(a_spoiled_header_is_no_lease),
        cmocka_unit_test(a_file_that_others_could_forge_is_no_lease),
        cmocka_unit_test(a_path_that_cannot_be_written_is_an_error_with_its_name),
    };
    int failed;

    if (mkdtemp(dir) == NULL) {
        return 1;
    }
    (void)snprintf(path, sizeof path, "%s/lease", dir);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)unlink(path);
    (void)rmdir(dir);
    return failed;
}
