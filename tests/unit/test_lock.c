/*
 * Goal:   one process holds the lock, the next waits and says for whom; a holder that is killed
 *         leaves it free at once, but not while a child still has the descriptor.
 * Method: children that take the lock and report through a pipe; SIGKILL.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/lock.h"

#define GENEROUS_MS 20000
#define LIFE_S 60

static char dir[64];
static char path[96];

static int64_t
now_ms(void)
{
    struct timespec ts;

    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &ts), 0);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int
next_free_descriptor(void)
{
    const int fd = dup(STDERR_FILENO);

    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    return fd;
}

struct holder {
    pid_t pid;
    pid_t grandchild; /* inherits the descriptor; 0 = none */
};

/* In the child: takes the lock, says so and stays. */
_Noreturn static void
hold(int report, bool with_grandchild)
{
    pid_t grandchild = 0;
    int fd = -1;

    if (lock_take(path, 0, &fd, NULL) != HA_OK) {
        _exit(1);
    }
    if (with_grandchild) {
        grandchild = fork();
    }
    (void)alarm(LIFE_S); /* should the test fail, nobody stays behind */
    if (with_grandchild && grandchild == 0) {
        (void)close(report);
        for (;;) {
            (void)pause();
        }
    }
    if (write(report, &grandchild, sizeof grandchild) != (ssize_t)sizeof grandchild) {
        _exit(1);
    }
    for (;;) {
        (void)pause();
    }
}

static struct holder
start_holder(bool with_grandchild)
{
    struct holder holder = {0};
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    holder.pid = fork();
    assert_true(holder.pid >= 0);
    if (holder.pid == 0) {
        (void)close(ends[0]);
        hold(ends[1], with_grandchild);
    }
    (void)close(ends[1]);
    assert_int_equal(read(ends[0], &holder.grandchild, sizeof holder.grandchild),
                     sizeof holder.grandchild);
    (void)close(ends[0]);
    return holder;
}

static void
kill_and_wait(pid_t pid)
{
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void
the_second_waits_and_says_who_holds_it(void **state)
{
    const struct holder holder = start_holder(false);
    struct err err = {0};
    char number[32];
    int64_t begun;
    int free_before;
    int fd = -1;

    (void)state;
    assert_int_equal(lock_take(path, 0, &fd, &err), HA_EBUSY);
    free_before = next_free_descriptor();
    begun = now_ms();
    assert_int_equal(lock_take(path, 150, &fd, &err), HA_EBUSY);
    assert_true(now_ms() - begun >= 150);
    assert_int_equal(fd, -1);
    assert_int_equal(next_free_descriptor(), free_before);
    (void)snprintf(number, sizeof number, "process %ld ", (long)holder.pid);
    assert_non_null(strstr(err.text, path));
    assert_non_null(strstr(err.text, number));
    kill_and_wait(holder.pid);
}

static void
a_killed_holder_leaves_it_free_at_once(void **state)
{
    const struct holder holder = start_holder(false);
    int fd = -1;

    (void)state;
    kill_and_wait(holder.pid);
    assert_int_equal(lock_take(path, 0, &fd, NULL), HA_OK);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0); /* a postmaster inherits it */
    assert_int_equal(close(fd), 0);
}

static void
who_waits_gets_it_when_the_holder_dies(void **state)
{
    const struct holder holder = start_holder(false);
    pid_t killer;
    int fd = -1;

    (void)state;
    killer = fork();
    assert_true(killer >= 0);
    if (killer == 0) {
        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){.tv_nsec = 100000000}, NULL);
        _exit(kill(holder.pid, SIGKILL) == 0 ? 0 : 1);
    }
    assert_int_equal(lock_take(path, GENEROUS_MS, &fd, NULL), HA_OK);
    assert_int_equal(close(fd), 0);
    assert_int_equal(waitpid(killer, NULL, 0), killer);
    assert_int_equal(waitpid(holder.pid, NULL, 0), holder.pid);
}

static void
it_stays_taken_while_a_child_of_the_holder_lives(void **state)
{
    const struct holder holder = start_holder(true);
    int fd = -1;

    (void)state;
    kill_and_wait(holder.pid);
    assert_int_equal(lock_take(path, 50, &fd, NULL), HA_EBUSY);
    assert_int_equal(kill(holder.grandchild, SIGKILL), 0);
    assert_int_equal(lock_take(path, GENEROUS_MS, &fd, NULL), HA_OK);
    assert_int_equal(close(fd), 0);
}

static void
a_directory_that_is_missing_is_an_error(void **state)
{
    struct err err = {0};
    int fd = -1;

    (void)state;
    assert_int_equal(lock_take("/nonexistent/hawser/lock", 0, &fd, &err), HA_EIO);
    assert_non_null(strstr(err.text, "/nonexistent/hawser/lock: open"));
}

static int
make_dir(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/hawser-test-lock-XXXXXX");
    if (mkdtemp(dir) == NULL) {
        return -1;
    }
    (void)snprintf(path, sizeof path, "%s/lock", dir);
    return 0;
}

static int
remove_dir(void **state)
{
    (void)state;
    (void)unlink(path);
    return rmdir(dir);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_second_waits_and_says_who_holds_it),
        cmocka_unit_test(a_killed_holder_leaves_it_free_at_once),
        cmocka_unit_test(who_waits_gets_it_when_the_holder_dies),
        cmocka_unit_test(it_stays_taken_while_a_child_of_the_holder_lives),
        cmocka_unit_test(a_directory_that_is_missing_is_an_error),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
