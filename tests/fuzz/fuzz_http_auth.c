/*
 * Goal:   no header passes that was not signed.
 * Method: the bytes are the header; nobody who makes them knows the secret.
 */
#include <string.h>

#include "agent/net/http_auth.h"
#include "tests/fuzz/fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct http_auth auth;
    static bool is_ready;
    const struct http_auth_request request = {"POST", "/switchover", "{}", 2};
    char header[256];
    struct err err = {0};

    if (!is_ready) {
        is_ready = true;
        REQUIRE(http_auth_init(&auth, (const uint8_t *)"secret", 6, 1800000000) == HA_OK, "a key");
    }
    if (len >= sizeof header) {
        len = sizeof header - 1;
    }
    if (len > 0) {
        memcpy(header, data, len);
    }
    header[len] = '\0';
    const int rc = http_auth_check(&auth, &request, header, 1800000000, &err);
    REQUIRE(rc == HA_EAUTH && err.text[0] != '\0', "nobody without the secret gets in");
    return 0;
}
