/*
 * Secrets: from NAME or the file in NAME_FILE, else derived from one another.
 */
#include "agent/shell/config_internal.h"

#include <string.h>

#include "agent/net/secret_derive.h"

static int
read_secret(const char *name, struct secret_text *out, struct err *err)
{
    return secret_text_read(name, config_env(name), config_env_file(name), out, err);
}

static int
derive_missing(struct config *out, struct err *err)
{
    struct secret_text *cluster = &out->cluster_secret;
    struct secret_text *replication = &out->replication_password;
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
