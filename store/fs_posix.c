#include "store/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MODE 0600

/* The code of an errno, and a text that names the operation and the file (NULL: an open one). */
static int
fail(struct err *err, int number, const char *what, const char *path)
{
    char buf[128];
    const char *const text = strerror_r(number, buf, sizeof buf);
    int code = HA_EIO;

    if (number == ENOSPC || number == EDQUOT) {
        code = HA_ENOSPC;
    } else if (number == ENOENT) {
        code = HA_ENOTFOUND;
    } else if (number == EEXIST) {
        code = HA_EEXIST;
    }
    if (path == NULL) {
        return err_set(err, code, "%s: %s", what, text);
    }
    return err_set(err, code, "%s: %s: %s", path, what, text);
}

static int
open_retry(const char *path, int flags)
{
    int fd;

    do {
        fd = open(path, flags, FILE_MODE);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

/* Reads to the end of the file; a file that grows meanwhile is read as far as it got. */
static int
read_to_end(int fd, const char *path, void **data, size_t *len, struct err *err)
{
    struct stat st;
    size_t size;
    size_t got = 0;
    char *buf;

    if (fstat(fd, &st) != 0) {
        return fail(err, errno, "stat", path);
    }
    size = (size_t)st.st_size;
    buf = malloc(size + 1); /* one more, so that an empty file is no special case */
    if (buf == NULL) {
        return err_set(err, HA_ENOMEM, "%s: no memory for %zu bytes", path, size);
    }
    while (got < size) {
        const ssize_t n = read(fd, buf + got, size - got);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            const int number = errno;

            free(buf);
            return fail(err, number, "read", path);
        }
        if (n == 0) {
            break;
        }
        got += (size_t)n;
    }
    *data = buf;
    *len = got;
    return HA_OK;
}

static int
posix_read_all(struct fs *fs, const char *path, void **data, size_t *len, struct err *err)
{
    const int fd = open_retry(path, O_RDONLY | O_CLOEXEC);
    int rc;

    (void)fs;
    if (fd < 0) {
        return fail(err, errno, "open", path);
    }
    rc = read_to_end(fd, path, data, len, err);
    (void)close(fd);
    return rc;
}

static int
posix_open(struct fs *fs, const char *path, bool create, int *file, struct err *err)
{
    const int fd = open_retry(path, O_WRONLY | O_CLOEXEC | (create ? O_CREAT : 0));

    (void)fs;
    if (fd < 0) {
        return fail(err, errno, "open", path);
    }
    *file = fd;
    return HA_OK;
}

static int
posix_write_at(
    struct fs *fs, int file, uint64_t offset, const void *data, size_t len, struct err *err)
{
    const char *const from = data;
    size_t done = 0;

    (void)fs;
    while (done < len) {
        const ssize_t n = pwrite(file, from + done, len - done, (off_t)(offset + done));

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return fail(err, errno, "write", NULL);
        }
        if (n == 0) {
            return fail(err, EIO, "write", NULL);
        }
        done += (size_t)n;
    }
    return HA_OK;
}

/* Never called twice for one failure: the kernel reports it once and then forgets the data. */
static int
posix_sync(struct fs *fs, int file, struct err *err)
{
    (void)fs;
    return fdatasync(file) == 0 ? HA_OK : fail(err, errno, "sync", NULL);
}

static int
posix_truncate(struct fs *fs, int file, uint64_t len, struct err *err)
{
    int rc;

    (void)fs;
    do {
        rc = ftruncate(file, (off_t)len);
    } while (rc != 0 && errno == EINTR);
    return rc == 0 ? HA_OK : fail(err, errno, "truncate", NULL);
}

static int
posix_close(struct fs *fs, int file)
{
    (void)fs;
    return close(file) == 0 ? HA_OK : HA_EIO;
}

static int
posix_rename(struct fs *fs, const char *from, const char *to, struct err *err)
{
    (void)fs;
    return rename(from, to) == 0 ? HA_OK : fail(err, errno, "rename", from);
}

static int
posix_unlink(struct fs *fs, const char *path, struct err *err)
{
    (void)fs;
    return unlink(path) == 0 ? HA_OK : fail(err, errno, "unlink", path);
}

static int
posix_sync_dir(struct fs *fs, const char *path, struct err *err)
{
    const int fd = open_retry(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = HA_OK;

    (void)fs;
    if (fd < 0) {
        return fail(err, errno, "open", path);
    }
    if (fsync(fd) != 0) {
        rc = fail(err, errno, "sync", path);
    }
    (void)close(fd);
    return rc;
}

struct fs *
fs_posix(void)
{
    static struct fs table = {
        .read_all = posix_read_all,
        .open = posix_open,
        .write_at = posix_write_at,
        .sync = posix_sync,
        .truncate = posix_truncate,
        .close = posix_close,
        .rename = posix_rename,
        .unlink = posix_unlink,
        .sync_dir = posix_sync_dir,
    };

    return &table;
}
