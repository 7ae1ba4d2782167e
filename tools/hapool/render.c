/*
 * Pgpool's files. Each setting that is not Pgpool's default says why it is not.
 */
#include "tools/hapool/hapool.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_HEX 65

/* A file that is complete or not there. */
struct out {
    FILE *f;
    char path[HAPOOL_PATH_MAX + 64];
    char next[HAPOOL_PATH_MAX + 72];
};

static int
open_out(struct out *o, const char *dir, const char *name, struct err *err)
{
    int fd;

    (void)snprintf(o->path, sizeof o->path, "%s/%s", dir, name);
    (void)snprintf(o->next, sizeof o->next, "%s.new", o->path);
    (void)unlink(o->next);
    fd = open(o->next, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    o->f = fd < 0 ? NULL : fdopen(fd, "w");
    if (o->f == NULL) {
        return err_set(err, HA_EIO, "HAPOOL_RUN_DIR: %s: %s", o->next, strerror(errno));
    }
    return HA_OK;
}

static int
close_out(struct out *o, struct err *err)
{
    const bool is_bad = ferror(o->f) != 0;

    if (fclose(o->f) != 0 || is_bad || rename(o->next, o->path) != 0) {
        return err_set(err, HA_EIO, "HAPOOL_RUN_DIR: %s: %s", o->path, strerror(errno));
    }
    return HA_OK;
}

/* 'text' with quotes and backslashes as pgpool.conf wants them. */
static void
put_quoted(FILE *f, const char *name, const char *text)
{
    (void)fprintf(f, "%s = '", name);
    for (; *text != 0; text++) {
        if (*text == '\'' || *text == '\\') {
            (void)fputc(*text == '\'' ? '\'' : '\\', f);
        }
        (void)fputc(*text, f);
    }
    (void)fputs("'\n", f);
}

static const char FIXED_SETTINGS[] =
    "# The mode. Older names (master_slave_mode) are ignored since 4.2.\n"
    "backend_clustering_mode = 'streaming_replication'\n"
    "load_balance_mode = on\n"
    "# Clients and agents come over the network; pool_hba.conf and the password decide.\n"
    "listen_addresses = '*'\n"
    "pcp_listen_addresses = '*'\n"
    "enable_pool_hba = on\n"
    "pool_passwd = 'pool_passwd'\n"
    "# Who is up is the agents' word: their votes see a failure sooner than a poll, and a\n"
    "# connection error is no vote.\n"
    "health_check_period = 0\n"
    "failover_on_backend_error = off\n"
    "failover_on_backend_shutdown = off\n"
    "# Only the agents promote and rebuild: any command here would be a second, competing\n"
    "# promoter, and follow_primary_command takes every standby as lost.\n"
    "failover_command = ''\n"
    "failback_command = ''\n"
    "follow_primary_command = ''\n"
    "# It would attach again what the agents detach, by name alone.\n"
    "auto_failback = off\n"
    "# It may take the new primary for the false one: with two servers it always does.\n"
    "detach_false_primary = off\n"
    "# A search that finds nothing must not keep readers waiting (5 minutes by default).\n"
    "search_primary_node_timeout = 1\n"
    "# A server whose packets are dropped delays a new session by this (10 s by default).\n"
    "connect_timeout = 1000\n"
    "# No look at the lag: it waits without end for a server that is frozen, and holds a lock\n"
    "# meanwhile without which no search for the primary ends. The agents know the lag.\n"
    "sr_check_period = 0\n"
    "# A child that asks a server for a relation holds the lock of the shared cache until it is\n"
    "# answered, deaf to signals: one whose packets are dropped stops all others for minutes.\n"
    "enable_shared_relcache = off\n"
    "# Raft decides who leads; a second quorum would only put servers in quarantine.\n"
    "use_watchdog = off\n"
    "# Statements hold data.\n"
    "log_statement = off\n"
    "log_per_node_statement = off\n"
    "log_line_prefix = 'pgpool: %p: '\n";

static void
put_backends(FILE *f, const struct hapool_config *c)
{
    (void)fputs("# Equal weights: a weight belongs to a node, and the role moves on.\n"
                "# DISALLOW_TO_FAILOVER would refuse the agents' detach; ALWAYS_PRIMARY would\n"
                "# keep a dead primary for ever.\n",
                f);
    for (unsigned i = 0; i < c->n_nodes; i++) {
        (void)fprintf(f,
                      "backend_hostname%u = '%s'\n"
                      "backend_port%u = %u\n"
                      "backend_weight%u = 1\n"
                      "backend_flag%u = 'ALLOW_TO_FAILOVER'\n"
                      "backend_application_name%u = '%s'\n",
                      i,
                      c->nodes[i],
                      i,
                      c->port_database,
                      i,
                      i,
                      i,
                      c->nodes[i]);
    }
}

static int
render_conf(const struct hapool_config *c, struct err *err)
{
    struct out o;

    if (open_out(&o, c->run_dir, "pgpool.conf", err) != HA_OK) {
        return err->code;
    }
    (void)fprintf(o.f, "# Written by hapool at each start; what is changed here is lost.\n");
    (void)fputs(FIXED_SETTINGS, o.f);
    (void)fprintf(o.f, "port = %u\npcp_port = %u\n", c->port, c->port_pcp);
    /* A child each is what a change of the primary costs: sized to the need. */
    (void)fprintf(o.f, "num_init_children = %u\nmax_pool = %u\n", c->n_children, c->max_pool);
    put_quoted(o.f, c->version >= 404 ? "unix_socket_directories" : "socket_dir", c->run_dir);
    put_quoted(o.f, "pcp_socket_dir", c->run_dir);
    put_quoted(o.f, c->version >= 407 ? "work_dir" : "logdir", c->run_dir);
    (void)fprintf(o.f, "pid_file_name = '%s/pgpool.pid'\n", c->run_dir);
    (void)fputs("# Its password stands in pool_passwd.\n", o.f);
    put_quoted(o.f, "sr_check_user", c->users[0].name);
    put_quoted(o.f, "sr_check_database", c->database);
    (void)fputs("sr_check_password = ''\n", o.f);
    put_backends(o.f, c);
    return close_out(&o, err);
}

static int
render_hba(const struct hapool_config *c, struct err *err)
{
    struct out o;

    if (open_out(&o, c->run_dir, "pool_hba.conf", err) != HA_OK) {
        return err->code;
    }
    (void)fputs("local all all scram-sha-256\n"
                "host all all 0.0.0.0/0 scram-sha-256\n"
                "host all all ::/0 scram-sha-256\n",
                o.f);
    return close_out(&o, err);
}

bool
hapool_encrypt(const char *password, const char *key, char *out, size_t size)
{
    uint8_t k[EVP_MAX_KEY_LENGTH];
    uint8_t iv[EVP_MAX_IV_LENGTH];
    uint8_t cipher[HAPOOL_SECRET_MAX + 32];
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n = 0;
    int rest = 0;
    bool is_done = false;

    if (ctx != NULL && size > 4 + 4 * ((strlen(password) + 16) / 3 + 2) &&
        EVP_BytesToKey(EVP_aes_256_cbc(),
                       EVP_sha1(), /* what Pgpool does; the key is random, not a password */
                       NULL,
                       (const uint8_t *)key,
                       (int)strlen(key),
                       1,
                       k,
                       iv) > 0 &&
        EVP_EncryptInit_ex(ctx, EVP_aes_256_cbc(), NULL, k, iv) == 1 &&
        EVP_EncryptUpdate(ctx, cipher, &n, (const uint8_t *)password, (int)strlen(password)) == 1 &&
        EVP_EncryptFinal_ex(ctx, cipher + n, &rest) == 1) {
        memcpy(out, "AES", 3);
        (void)EVP_EncodeBlock((uint8_t *)out + 3, cipher, n + rest);
        is_done = true;
    }
    EVP_CIPHER_CTX_free(ctx);
    OPENSSL_cleanse(k, sizeof k);
    return is_done;
}

/* The key lives as long as the container: nobody else needs it. */
static int
load_key(const struct hapool_config *c, char key[KEY_HEX], struct err *err)
{
    char path[HAPOOL_PATH_MAX + 16];
    uint8_t bytes[(KEY_HEX - 1) / 2];
    struct out o;
    FILE *f;
    size_t n = 0;

    (void)snprintf(path, sizeof path, "%s/pgpoolkey", c->run_dir);
    f = fopen(path, "re");
    if (f != NULL) {
        n = fread(key, 1, KEY_HEX - 1, f);
        (void)fclose(f);
    }
    if (n == KEY_HEX - 1) {
        key[n] = 0;
        return HA_OK;
    }
    if (RAND_bytes(bytes, sizeof bytes) != 1) {
        return err_set(err, HA_EFAILED, "OpenSSL has no random numbers");
    }
    for (size_t i = 0; i < sizeof bytes; i++) {
        (void)snprintf(key + 2 * i, 3, "%02x", bytes[i]);
    }
    if (open_out(&o, c->run_dir, "pgpoolkey", err) != HA_OK) {
        return err->code;
    }
    (void)fputs(key, o.f);
    return close_out(&o, err);
}

/* Pgpool logs in to every server itself, so it must know the password: as a verifier it is of no
 * use to it. Encrypted, it is not there to be read at a glance. */
static int
render_passwords(const struct hapool_config *c, struct err *err)
{
    char key[KEY_HEX];
    char text[2 * HAPOOL_SECRET_MAX];
    struct out o;

    if (load_key(c, key, err) != HA_OK || open_out(&o, c->run_dir, "pool_passwd", err) != HA_OK) {
        return err->code;
    }
    for (unsigned i = 0; i < c->n_users; i++) {
        if (!hapool_encrypt(c->users[i].password, key, text, sizeof text)) {
            (void)fclose(o.f);
            return err_set(err, HA_EFAILED, "a password cannot be encrypted");
        }
        (void)fprintf(o.f, "%s:%s\n", c->users[i].name, text);
    }
    OPENSSL_cleanse(key, sizeof key);
    return close_out(&o, err);
}

static int
render_pcp(const struct hapool_config *c, struct err *err)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    struct out o;

    if (EVP_Digest(c->pcp_password, strlen(c->pcp_password), digest, &n, EVP_md5(), NULL) != 1) {
        return err_set(err, HA_EFAILED, "OpenSSL has no MD5, which PCP needs");
    }
    if (open_out(&o, c->run_dir, "pcp.conf", err) != HA_OK) {
        return err->code;
    }
    (void)fprintf(o.f, "%s:", c->pcp_user);
    for (unsigned i = 0; i < n; i++) {
        (void)fprintf(o.f, "%02x", digest[i]);
    }
    (void)fputc('\n', o.f);
    return close_out(&o, err);
}

static void
put_escaped(FILE *f, const char *text)
{
    for (; *text != 0; text++) {
        if (*text == ':' || *text == '\\') {
            (void)fputc('\\', f);
        }
        (void)fputc(*text, f);
    }
}

/* For `psql` of the health check, and for people: pcp_node_info -h localhost -U USER -w. */
static int
render_passfiles(const struct hapool_config *c, struct err *err)
{
    struct out o;

    if (open_out(&o, c->run_dir, "pgpass", err) != HA_OK) {
        return err->code;
    }
    (void)fprintf(o.f, "*:*:*:%s:", c->users[0].name);
    put_escaped(o.f, c->users[0].password);
    (void)fputc('\n', o.f);
    if (close_out(&o, err) != HA_OK || open_out(&o, c->run_dir, "pcppass", err) != HA_OK) {
        return err->code;
    }
    (void)fprintf(o.f, "*:*:%s:", c->pcp_user);
    put_escaped(o.f, c->pcp_password);
    (void)fputc('\n', o.f);
    return close_out(&o, err);
}

/* Pgpool starts with each node as this file says. A standby that is not sure, and one that cannot
 * be reached, start as down: the first search must not hang on them. */
static int
render_status(const struct hapool_config *c, const struct hapool_fact *fact, struct err *err)
{
    struct out o;

    if (open_out(&o, c->run_dir, "pgpool_status", err) != HA_OK) {
        return err->code;
    }
    for (unsigned i = 0; i < c->n_nodes; i++) {
        const bool is_up = strcmp(c->nodes[i], fact->primary) == 0 || fact->is_standby[i];

        (void)fprintf(o.f, "%s\n", is_up ? "up" : "down");
    }
    return close_out(&o, err);
}

int
hapool_render(const struct hapool_config *config, const struct hapool_fact *fact, struct err *err)
{
    int rc;

    if ((rc = render_conf(config, err)) != HA_OK || (rc = render_hba(config, err)) != HA_OK ||
        (rc = render_passwords(config, err)) != HA_OK || (rc = render_pcp(config, err)) != HA_OK ||
        (rc = render_passfiles(config, err)) != HA_OK) {
        return rc;
    }
    return fact == NULL ? HA_OK : render_status(config, fact, err);
}
