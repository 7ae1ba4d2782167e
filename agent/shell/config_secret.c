/*
 * Secrets: from NAME or the file in NAME_FILE, else derived from one another.
 *
 * A text about a secret names the variable and the file, never what is in it.
 */
#include "agent/shell/config_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/net/secret_derive.h"

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
check_text(const char *name, const char *path, struct config_secret *secret, struct err *err)
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
read_file(const char *name, const char *path, struct config_secret *out, struct err *err)
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
                       CONFIG_SECRET_MAX);
    }
    out->len = (size_t)len;
    return check_text(name, path, out, err);
}

/* len stays 0 when neither variable is set. */
static int
read_secret(const char *name, struct config_secret *out, struct err *err)
{
    const char *value = config_env(name);
    const char *path = config_env_file(name);

    out->len = 0;
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
            err, HA_EINVAL, "%s: too long; allowed: less than %d bytes", name, CONFIG_SECRET_MAX);
    }
    memcpy(out->bytes, value, out->len + 1);
    return check_text(name, NULL, out, err);
}

static int
derive_missing(struct config *out, struct err *err)
{
    struct config_secret *cluster = &out->cluster_secret;
    struct config_secret *replication = &out->replication_password;
    struct {
        uint8_t key[KEY_BYTES];
        char text[SECRET_TEXT_BYTES];
    } derived;
    int rc = HA_OK;

    if (cluster->len == 0) {
        rc = secret_derive_cluster(
            out->superuser_password.bytes, out->superuser_password.len, derived.key);
        memcpy(cluster->bytes, derived.key, KEY_BYTES);
        cluster->bytes[KEY_BYTES] = 0;
        cluster->len = KEY_BYTES;
    }
    if (rc == HA_OK && replication->len == 0) {
        rc = secret_derive_replication((const uint8_t *)cluster->bytes, cluster->len, derived.text);
        memcpy(replication->bytes, derived.text, SECRET_TEXT_BYTES);
        replication->len = SECRET_TEXT_BYTES - 1;
    }
    key_wipe(&derived, sizeof derived);
    return rc == HA_OK ? HA_OK : err_set(err, rc, "cannot derive keys: OpenSSL has no HKDF");
}

int
config_read_secrets(struct config *out, struct err *err)
{
    const bool is_database = out->core.kind == MEMBER_DATABASE;
    int rc;

    if ((rc = read_secret("POSTGRES_PASSWORD", &out->superuser_password, err)) != HA_OK ||
        (rc = read_secret("HA_CLUSTER_SECRET", &out->cluster_secret, err)) != HA_OK ||
        (rc = read_secret("REPLICATION_PASSWORD", &out->replication_password, err)) != HA_OK) {
        return rc;
    }
    if (out->superuser_password.len == 0 && (is_database || out->cluster_secret.len == 0)) {
        return err_set(err,
                       HA_EINVAL,
                       "POSTGRES_PASSWORD_FILE is not set; allowed: the path of a file with the "
                       "superuser's password, the same on every member%s",
                       is_database ? "" : " (or HA_CLUSTER_SECRET_FILE, on a witness)");
    }
    if ((rc = read_secret("PCP_PASSWORD", &out->pcp_password, err)) != HA_OK) {
        return rc;
    }
    if (out->pcp_password.len == 0) {
        out->pcp_password = out->superuser_password;
    }
    if (out->gateway_hosts[0] != 0 && out->pcp_password.len == 0) {
        return err_set(err,
                       HA_EINVAL,
                       "PCP_PASSWORD_FILE is not set, but PGPOOL_HOSTS is; allowed: the path of a "
                       "file with the password of PCP_USER");
    }
    return derive_missing(out, err);
}
