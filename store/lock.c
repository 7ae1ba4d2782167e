#include "store/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define RETRY_MS 20
#define FILE_MODE 0600
#define HOLDER_TEXT_MAX 32

static int
fail(struct err *err, const char *path, const char *what)
{
    char buf[128];
    const int number = errno;

    return err_set(err,
                   number == ENOSPC || number == EDQUOT ? HA_ENOSPC : HA_EIO,
                   "%s: %s: %s",
                   path,
                   what,
                   strerror_r(number, buf, sizeof buf));
}

/* Only the lock waits by itself here, before the event loop runs; hence a clock of its own. */
static int64_t
now_ms(void)
{
    struct timespec ts = {0};
    const int rc = clock_gettime(CLOCK_BOOTTIME, &ts);

    ENSURE(rc == 0, "every Linux has CLOCK_BOOTTIME");
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* The digits that the holder left in the file, or "unknown". Only for people. */
static void
read_holder(int fd, char *out, size_t size)
{
    const ssize_t n = pread(fd, out, size - 1, 0);
    size_t digits = 0;

    while (n > 0 && digits < (size_t)n && out[digits] >= '0' && out[digits] <= '9') {
        digits++;
    }
    out[digits] = '\0';
    if (digits == 0) {
        (void)snprintf(out, size, "unknown");
    }
}

/* Best effort: on a full disk the lock counts without it. */
static void
write_holder(int fd)
{
    char text[HOLDER_TEXT_MAX];
    const int len = snprintf(text, sizeof text, "%ld\n", (long)getpid());

    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)len, 0) != len) {
        return;
    }
}

static int
wait_for_lock(int fd, const char *path, int64_t wait_ms, struct err *err)
{
    const int64_t until = now_ms() + wait_ms;
    char holder[HOLDER_TEXT_MAX];

    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EINTR) {
            continue;
        }
        if (errno != EWOULDBLOCK) {
            return fail(err, path, "flock");
        }
        if (now_ms() >= until) {
            read_holder(fd, holder, sizeof holder);
            return err_set(err,
                           HA_EBUSY,
                           "%s: still locked after %" PRId64
                           " ms, by process %s (as its own container numbers it)",
                           path,
                           wait_ms,
                           holder);
        }
        (void)clock_nanosleep(
            CLOCK_MONOTONIC, 0, &(struct timespec){.tv_nsec = RETRY_MS * 1000000L}, NULL);
    }
    return HA_OK;
}

int
lock_take(const char *path, int64_t wait_ms, int *fd, struct err *err)
{
    int file;
    int rc;

    do {
        /* Without O_CLOEXEC, so that the postmaster inherits it: see lock.h. */
        file = open(path, O_RDWR | O_CREAT | O_NOFOLLOW, FILE_MODE); /* NOLINT */
    } while (file < 0 && errno == EINTR);
    if (file < 0) {
        return fail(err, path, "open");
    }
    rc = wait_for_lock(file, path, wait_ms, err);
    if (rc != HA_OK) {
        (void)close(file);
        return rc;
    }
    write_holder(file);
    *fd = file;
    return HA_OK;
}
