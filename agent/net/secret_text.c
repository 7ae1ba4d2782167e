#include "agent/net/secret_text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Reads until the end or until `size` is full; the bytes, or -1 with errno. */
static ssize_t
read_all(const char *path, char *out, size_t size)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t n = fd < 0 ? -1 : 1;

    while (n > 0 && len < size) {
        n = read(fd, out + len, size - len);
        if (n < 0 && errno == EINTR) {
            n = 1;
        } else if (n > 0) {
            len += (size_t)n;
        }
    }
    if (fd >= 0) {
        const int reason = errno;

        (void)close(fd);
        errno = reason;
    }
    return n < 0 ? -1 : (ssize_t)len;
}

/* Without line ends behind it; what is left must be one line of text. */
static int
check_text(const char *name, const char *path, struct secret_text *secret, struct err *err)
{
    const char *of = path == NULL ? "" : "_FILE=";
    const char *file = path == NULL ? "" : path;

    while (secret->len > 0 &&
           (secret->bytes[secret->len - 1] == '\n' || secret->bytes[secret->len - 1] == '\r')) {
        secret->len--;
    }
    secret->bytes[secret->len] = 0;
    if (secret->len == 0) {
        return err_set(err, HA_EINVAL, "%s%s%s: empty; allowed: one line of text", name, of, file);
    }
    if (strlen(secret->bytes) != secret->len || strpbrk(secret->bytes, "\r\n") != NULL) {
        return err_set(err,
                       HA_EINVAL,
                       "%s%s%s: more than one line, or a NUL byte; allowed: one line of text",
                       name,
                       of,
                       file);
    }
    return HA_OK;
}

static int
read_file(const char *name, const char *path, struct secret_text *out, struct err *err)
{
    /* One byte more than is allowed, so that a longer file shows. */
    const ssize_t len = read_all(path, out->bytes, sizeof out->bytes);

    if (len < 0) {
        return err_set(err,
                       HA_EINVAL,
                       "%s_FILE=%s: cannot be read: %s; allowed: a readable file",
                       name,
                       path,
                       strerror(errno));
    }
    if ((size_t)len >= sizeof out->bytes) {
        return err_set(err,
                       HA_EINVAL,
                       "%s_FILE=%s: too long; allowed: less than %d bytes",
                       name,
                       path,
                       SECRET_TEXT_MAX);
    }
    out->len = (size_t)len;
    return check_text(name, path, out, err);
}

int
secret_text_read(
    const char *name, const char *value, const char *path, struct secret_text *out, struct err *err)
{
    out->len = 0;
    out->bytes[0] = 0;
    if (value != NULL && path != NULL) {
        return err_set(err,
                       HA_EINVAL,
                       "%s and %s_FILE=%s are both set; allowed: one of them",
                       name,
                       name,
                       path);
    }
    if (path != NULL) {
        return read_file(name, path, out, err);
    }
    if (value == NULL) {
        return HA_OK;
    }
    out->len = strlen(value);
    if (out->len >= sizeof out->bytes) {
        out->len = 0;
        return err_set(
            err, HA_EINVAL, "%s: too long; allowed: less than %d bytes", name, SECRET_TEXT_MAX);
    }
    memcpy(out->bytes, value, out->len + 1);
    return check_text(name, NULL, out, err);
}
