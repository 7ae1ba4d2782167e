#include "agent/net/secret_derive.h"

#define LABEL_CLUSTER "hawser cluster v1"
#define LABEL_REPLICATION "hawser replication v1"

int
secret_derive_cluster(const char *password, size_t password_len, uint8_t out[KEY_BYTES])
{
    return key_derive((const uint8_t *)password, password_len, LABEL_CLUSTER, "", out);
}

int
secret_derive_replication(const uint8_t *cluster, size_t cluster_len, char out[SECRET_TEXT_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t key[KEY_BYTES];
    const int rc = key_derive(cluster, cluster_len, LABEL_REPLICATION, "", key);

    for (size_t i = 0; rc == HA_OK && i < KEY_BYTES; i++) {
        out[2 * i] = digits[key[i] >> 4];
        out[2 * i + 1] = digits[key[i] & 15];
    }
    out[rc == HA_OK ? SECRET_TEXT_BYTES - 1 : 0] = 0;
    key_wipe(key, sizeof key);
    return rc;
}
