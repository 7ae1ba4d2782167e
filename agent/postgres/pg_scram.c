#include "agent/postgres/pg_scram.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define SALT_TEXT_MAX 128
#define KEY_TEXT_LEN 44 /* 32 bytes in base64 */
#define ITERATIONS_MAX 100000

/* Bytes of a base64 text, or -1. OpenSSL counts the padding as bytes. */
static int
decode(const char *text, uint8_t out[SALT_TEXT_MAX])
{
    const size_t len = strlen(text);
    int n;

    if (len == 0 || len % 4 != 0 || len >= SALT_TEXT_MAX) {
        return -1;
    }
    n = EVP_DecodeBlock(out, (const unsigned char *)text, (int)len);
    for (size_t i = len; n > 0 && i > 0 && text[i - 1] == '='; i--) {
        n--;
    }
    return n;
}

bool
pg_scram_matches(const char *verifier, const char *password)
{
    static const char CLIENT_KEY[] = "Client Key";
    char salt_text[SALT_TEXT_MAX];
    char stored_text[KEY_TEXT_LEN + 1];
    uint8_t salt[SALT_TEXT_MAX];
    uint8_t stored[SALT_TEXT_MAX];
    uint8_t salted[SHA256_DIGEST_LENGTH];
    uint8_t client[SHA256_DIGEST_LENGTH];
    uint8_t made[SHA256_DIGEST_LENGTH];
    int iterations;
    int n_salt;
    bool is_same = false;

    if (sscanf(verifier,
               "SCRAM-SHA-256$%d:%127[A-Za-z0-9+/=]$%44[A-Za-z0-9+/=]:",
               &iterations,
               salt_text,
               stored_text) != 3 ||
        iterations < 1 || iterations > ITERATIONS_MAX || (n_salt = decode(salt_text, salt)) < 1 ||
        decode(stored_text, stored) != SHA256_DIGEST_LENGTH) {
        return false;
    }
    if (PKCS5_PBKDF2_HMAC(password,
                          (int)strlen(password),
                          salt,
                          n_salt,
                          iterations,
                          EVP_sha256(),
                          sizeof salted,
                          salted) == 1 &&
        HMAC(EVP_sha256(),
             salted,
             sizeof salted,
             (const unsigned char *)CLIENT_KEY,
             sizeof CLIENT_KEY - 1,
             client,
             NULL) != NULL) {
        (void)SHA256(client, sizeof client, made);
        is_same = CRYPTO_memcmp(made, stored, sizeof made) == 0;
    }
    OPENSSL_cleanse(salted, sizeof salted);
    OPENSSL_cleanse(client, sizeof client);
    return is_same;
}
