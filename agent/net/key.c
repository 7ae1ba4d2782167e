#include "agent/net/key.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <stdio.h>
#include <string.h>

#define INFO_MAX 256

int
key_derive(const uint8_t *secret,
           size_t secret_len,
           const char *label,
           const char *context,
           uint8_t out[KEY_BYTES])
{
    char info[INFO_MAX];
    const size_t label_len = strlen(label);
    const size_t context_len = strlen(context);
    const size_t info_len = label_len + 1 + context_len; /* a NUL between the two */
    int rc = HA_EFAILED;

    if (secret_len == 0 || info_len > sizeof info) {
        return HA_EINVAL;
    }
    memcpy(info, label, label_len + 1);
    memcpy(info + label_len + 1, context, context_len);

    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = kdf == NULL ? NULL : EVP_KDF_CTX_new(kdf);
    if (ctx != NULL) {
        char digest[] = "SHA256";
        /* The parameters are read only; OpenSSL's constructors merely forgot the const. */
        union {
            const uint8_t *in;
            void *out;
        } key = {.in = secret};
        const OSSL_PARAM params[] = {
            OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
            OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, key.out, secret_len),
            OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, info_len),
            OSSL_PARAM_construct_end(),
        };
        if (EVP_KDF_derive(ctx, out, KEY_BYTES, params) == 1) {
            rc = HA_OK;
        }
    }
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return rc;
}

void
key_wipe(void *data, size_t len)
{
    OPENSSL_cleanse(data, len);
}
