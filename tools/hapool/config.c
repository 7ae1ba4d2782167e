/*
 * The environment of the gateway container.
 */
#include "tools/hapool/hapool.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *
get(const char *name)
{
    const char *value = getenv(name);

    return value == NULL || value[0] == 0 ? NULL : value;
}

static int
read_text(const char *name, const char *fallback, char *out, size_t size, struct err *err)
{
    const char *value = get(name) == NULL ? fallback : get(name);

    if (strlen(value) >= size || strpbrk(value, "\r\n") != NULL) {
        return err_set(err,
                       HA_EINVAL,
                       "%s: too long, or more than one line; allowed: less than %zu characters",
                       name,
                       size);
    }
    memcpy(out, value, strlen(value) + 1);
    return HA_OK;
}

/* Names stand in files whose fields a colon divides. */
static int
read_name(const char *name, const char *fallback, char *out, struct err *err)
{
    const int rc = read_text(name, fallback, out, HAPOOL_NAME_MAX, err);

    if (rc == HA_OK && (out[0] == 0 || strpbrk(out, ":\\ \t'") != NULL)) {
        return err_set(err, HA_EINVAL, "%s=%s: allowed: a name without blanks : \\ '", name, out);
    }
    return rc;
}

static int
read_number(const char *name, unsigned fallback, unsigned max, unsigned *out, struct err *err)
{
    const char *value = get(name);
    char *end = NULL;

    *out = fallback;
    if (value != NULL) {
        const unsigned long n = strtoul(value, &end, 10);

        if (value[0] < '0' || value[0] > '9' || *end != 0 || n == 0 || n > max) {
            return err_set(err, HA_EINVAL, "%s=%s: allowed: 1 to %u", name, value, max);
        }
        *out = (unsigned)n;
    }
    return HA_OK;
}

static int
read_port(const char *name, unsigned fallback, uint16_t *out, struct err *err)
{
    unsigned n;
    const int rc = read_number(name, fallback, 65535, &n, err);

    *out = (uint16_t)n;
    return rc;
}

static int
check_secret(const char *name, char *out, size_t len, struct err *err)
{
    while (len > 0 && (out[len - 1] == '\n' || out[len - 1] == '\r')) {
        len--;
    }
    out[len] = 0;
    if (len == 0 || strlen(out) != len || strpbrk(out, "\r\n") != NULL) {
        return err_set(err, HA_EINVAL, "%s_FILE: allowed: a file with one line of text", name);
    }
    return HA_OK;
}

/* NAME_FILE or NAME; "" when neither is set. */
static int
read_secret(const char *name, char out[HAPOOL_SECRET_MAX], struct err *err)
{
    char file[HAPOOL_NAME_MAX];
    char *value = getenv(name);
    const char *path;
    FILE *f;
    size_t len;

    (void)snprintf(file, sizeof file, "%s_FILE", name);
    path = get(file);
    out[0] = 0;
    if (value != NULL && value[0] != 0 && path != NULL) {
        return err_set(err, HA_EINVAL, "%s and %s are both set; allowed: one of them", name, file);
    }
    if (value != NULL && value[0] != 0) {
        const int rc = read_text(name, "", out, HAPOOL_SECRET_MAX, err);

        OPENSSL_cleanse(value, strlen(value)); /* /proc/PID/environ shows this very memory */
        (void)unsetenv(name);
        return rc;
    }
    if (path == NULL) {
        return HA_OK;
    }
    f = fopen(path, "re");
    if (f == NULL) {
        return err_set(
            err, HA_EINVAL, "%s=%s: %s; allowed: a readable file", file, path, strerror(errno));
    }
    len = fread(out, 1, HAPOOL_SECRET_MAX - 1, f);
    (void)fclose(f);
    return check_secret(name, out, len, err);
}

static int
compare_nodes(const void *a, const void *b)
{
    return strcmp(a, b);
}

static int
read_nodes(const char *name, struct hapool_config *out, struct err *err)
{
    const char *at = get(name) == NULL ? "" : get(name);

    while (at[strspn(at, ", \t")] != 0) {
        char *node = out->nodes[out->n_nodes];
        uint8_t address[16];
        size_t len;

        at += strspn(at, ", \t");
        len = strcspn(at, ", \t");
        if (out->n_nodes == HAPOOL_NODES_MAX || len >= HAPOOL_ADDRESS_MAX) {
            return err_set(err, HA_EINVAL, "%s: allowed: at most %d", name, HAPOOL_NODES_MAX);
        }
        memset(node, 0, HAPOOL_ADDRESS_MAX);
        memcpy(node, at, len);
        if (inet_pton(AF_INET, node, address) != 1 && inet_pton(AF_INET6, node, address) != 1) {
            return err_set(err, HA_EINVAL, "%s: %s; allowed: IP addresses", name, node);
        }
        for (unsigned i = 0; i < out->n_nodes; i++) {
            if (strcmp(out->nodes[i], node) == 0) {
                return err_set(err, HA_EINVAL, "%s: %s is listed twice", name, node);
            }
        }
        out->n_nodes++;
        at += len;
    }
    return HA_OK;
}

/* Lines of user:password; what stands behind the first colon is the password. */
static int
read_users_file(struct hapool_config *out, struct err *err)
{
    const char *path = get("PGPOOL_USERS_FILE");
    char line[HAPOOL_NAME_MAX + HAPOOL_SECRET_MAX];
    int rc = HA_OK;
    FILE *f;

    if (path == NULL) {
        return HA_OK;
    }
    f = fopen(path, "re");
    if (f == NULL) {
        return err_set(err, HA_EINVAL, "PGPOOL_USERS_FILE=%s: %s", path, strerror(errno));
    }
    while (rc == HA_OK && fgets(line, sizeof line, f) != NULL) {
        struct hapool_user *u = &out->users[out->n_users];
        char *colon = strchr(line, ':');

        line[strcspn(line, "\r\n")] = 0;
        if (line[0] == 0 || line[0] == '#') {
            continue;
        }
        if (colon == NULL || colon == line || colon - line >= HAPOOL_NAME_MAX || colon[1] == 0 ||
            strlen(colon + 1) >= HAPOOL_SECRET_MAX || out->n_users == HAPOOL_USERS_MAX) {
            rc = err_set(err,
                         HA_EINVAL,
                         "PGPOOL_USERS_FILE=%s: allowed: at most %d lines of user:password",
                         path,
                         HAPOOL_USERS_MAX - 1);
            break;
        }
        *colon = 0;
        memcpy(u->name, line, strlen(line) + 1);
        memcpy(u->password, colon + 1, strlen(colon + 1) + 1);
        out->n_users++;
    }
    OPENSSL_cleanse(line, sizeof line);
    (void)fclose(f);
    return rc;
}

static int
read_all(struct hapool_config *out, struct err *err)
{
    struct hapool_user *super = &out->users[0];

    if (read_nodes("PRIMARY_IP", out, err) != HA_OK) {
        return HA_EINVAL;
    }
    if (out->n_nodes != 1) {
        return err_set(err, HA_EINVAL, "PRIMARY_IP: allowed: the address of the primary");
    }
    out->n_users = 1;
    if (read_nodes("REPLICAS_IP", out, err) != HA_OK ||
        read_port("PORT_DATABASE", 5432, &out->port_database, err) != HA_OK ||
        read_port("HA_HTTP_PORT", 8008, &out->port_http, err) != HA_OK ||
        read_port("PGPOOL_PORT", 9999, &out->port, err) != HA_OK ||
        read_port("PGPOOL_PCP_PORT", 9898, &out->port_pcp, err) != HA_OK ||
        read_number("PGPOOL_NUM_INIT_CHILDREN", 32, 10000, &out->n_children, err) != HA_OK ||
        read_number("PGPOOL_MAX_POOL", 4, 1000, &out->max_pool, err) != HA_OK ||
        read_name("POSTGRES_USER", "postgres", super->name, err) != HA_OK ||
        read_name("POSTGRES_DB", super->name, out->database, err) != HA_OK ||
        read_name("PCP_USER", super->name, out->pcp_user, err) != HA_OK ||
        read_text("HAPOOL_RUN_DIR", "/run/hapool", out->run_dir, sizeof out->run_dir, err) !=
            HA_OK ||
        read_text("HAPOOL_PGPOOL", "/usr/sbin/pgpool", out->pgpool, sizeof out->pgpool, err) !=
            HA_OK ||
        read_secret("POSTGRES_PASSWORD", super->password, err) != HA_OK ||
        read_secret("PCP_PASSWORD", out->pcp_password, err) != HA_OK ||
        read_users_file(out, err) != HA_OK) {
        return HA_EINVAL;
    }
    if (super->password[0] == 0) {
        return err_set(err,
                       HA_EINVAL,
                       "POSTGRES_PASSWORD_FILE is not set; allowed: the path of a file with the "
                       "superuser's password");
    }
    if (out->pcp_password[0] == 0) {
        memcpy(out->pcp_password, super->password, sizeof super->password);
    }
    qsort(out->nodes, out->n_nodes, HAPOOL_ADDRESS_MAX, compare_nodes);
    return HA_OK;
}

int
hapool_config_read(struct hapool_config *out, struct err *err)
{
    int rc;

    memset(out, 0, sizeof *out);
    rc = read_all(out, err);
    if (rc != HA_OK) {
        hapool_config_wipe(out);
    }
    return rc;
}

unsigned
hapool_config_add(struct hapool_config *config, const struct hapool_fact *fact)
{
    unsigned n = 0;

    for (unsigned i = 0; i < fact->n_new && config->n_nodes < HAPOOL_NODES_MAX; i++, n++) {
        memcpy(config->nodes[config->n_nodes++], fact->added[i], HAPOOL_ADDRESS_MAX);
    }
    return n;
}

void
hapool_config_wipe(struct hapool_config *config)
{
    OPENSSL_cleanse(config->pcp_password, sizeof config->pcp_password);
    OPENSSL_cleanse(config->users, sizeof config->users);
}
