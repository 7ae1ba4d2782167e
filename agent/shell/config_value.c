#include "agent/shell/config_value.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/net/address.h"

#define SEPARATORS ", \t\r\n"

int
config_parse_number(
    const char *name, const char *value, uint64_t min, uint64_t max, uint64_t *out, struct err *err)
{
    char *end = NULL;
    unsigned long long number;

    errno = 0;
    number = isdigit((unsigned char)value[0]) ? strtoull(value, &end, 10) : 0;
    if (end == NULL || *end != 0) {
        return err_set(err,
                       HA_EINVAL,
                       "%s=%s: not a whole number; allowed: %llu to %llu",
                       name,
                       value,
                       (unsigned long long)min,
                       (unsigned long long)max);
    }
    if (errno != 0 || number < min || number > max) {
        return err_set(err,
                       HA_EINVAL,
                       "%s=%s: out of bounds; allowed: %llu to %llu",
                       name,
                       value,
                       (unsigned long long)min,
                       (unsigned long long)max);
    }
    *out = number;
    return HA_OK;
}

int
config_parse_bytes(const char *name, const char *value, uint64_t *out, struct err *err)
{
    static const struct {
        const char *text;
        unsigned shift;
    } units[] = {{"", 0}, {"B", 0}, {"kB", 10}, {"MB", 20}, {"GB", 30}};
    const unsigned long long max = 1ULL << 50;
    char *end = NULL;
    unsigned long long number;

    errno = 0;
    number = isdigit((unsigned char)value[0]) ? strtoull(value, &end, 10) : 0;
    for (size_t i = 0; end != NULL && errno == 0 && i < HA_COUNT_OF(units); i++) {
        if (strcmp(end, units[i].text) == 0 && number <= max >> units[i].shift) {
            *out = number << units[i].shift;
            return HA_OK;
        }
    }
    return err_set(err,
                   HA_EINVAL,
                   "%s=%s: not a size; allowed: bytes, or a whole number with kB, MB or GB",
                   name,
                   value);
}

int
config_parse_choice(
    const char *name, const char *value, const char *const choices[], uint8_t *out, struct err *err)
{
    char allowed[128] = "";

    for (uint8_t i = 0; choices[i] != NULL; i++) {
        const size_t used = strlen(allowed);

        if (strcmp(value, choices[i]) == 0) {
            *out = i;
            return HA_OK;
        }
        (void)snprintf(
            allowed + used, sizeof allowed - used, "%s%s", used == 0 ? "" : ", ", choices[i]);
    }
    return err_set(err, HA_EINVAL, "%s=%s: unknown; allowed: %s", name, value, allowed);
}

/* True for an address that one host can have. */
static bool
is_host(const char *address)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (inet_pton(AF_INET, address, &v4) == 1) {
        const uint32_t host = ntohl(v4.s_addr);

        return host >> 24 != 0 && host >> 28 < 0xe; /* not this network, multicast, broadcast */
    }
    return inet_pton(AF_INET6, address, &v6) == 1 && !IN6_IS_ADDR_UNSPECIFIED(&v6) &&
           !IN6_IS_ADDR_MULTICAST(&v6);
}

int
config_parse_address(const char *name, const char *value, char out[HA_ADDRESS_MAX], struct err *err)
{
    if (!address_normalise(value, out) || !is_host(out)) {
        return err_set(err,
                       HA_EINVAL,
                       "%s=%s: not the IP address of a host; allowed: one like 10.0.0.11 or "
                       "fd00::11, no names, no ports",
                       name,
                       value);
    }
    return HA_OK;
}

/* The next word of a list, cut into `word`. False at the end. */
static bool
next_word(const char **at, char *word, size_t size)
{
    size_t len;

    *at += strspn(*at, SEPARATORS);
    len = strcspn(*at, SEPARATORS);
    if (len == 0) {
        return false;
    }
    (void)snprintf(word, size, "%.*s", (int)len, *at);
    *at += len;
    return true;
}

int
config_parse_addresses(const char *name,
                       const char *value,
                       char out[HA_MEMBERS_MAX][HA_ADDRESS_MAX],
                       size_t *n,
                       struct err *err)
{
    char word[128];

    *n = 0;
    while (next_word(&value, word, sizeof word)) {
        char address[HA_ADDRESS_MAX];

        if (config_parse_address(name, word, address, err) != HA_OK) {
            return HA_EINVAL;
        }
        for (size_t i = 0; i < *n; i++) {
            if (strcmp(out[i], address) == 0) {
                return err_set(
                    err, HA_EINVAL, "%s: %s is listed twice; allowed: once each", name, address);
            }
        }
        if (*n == HA_MEMBERS_MAX) {
            return err_set(err,
                           HA_EINVAL,
                           "%s: more than %d addresses; allowed: at most %d members in all",
                           name,
                           HA_MEMBERS_MAX,
                           HA_MEMBERS_MAX);
        }
        memcpy(out[(*n)++], address, sizeof address);
    }
    return HA_OK;
}

/* "address/bits", in its normal form. */
static bool
normalise_network(char *word, char *out, size_t size)
{
    char address[HA_ADDRESS_MAX];
    char *slash = strchr(word, '/');
    uint64_t bits = 0;

    if (slash != NULL) {
        *slash = 0;
    }
    if (!address_normalise(word, address)) {
        return false;
    }
    const uint64_t bits_max = strchr(address, ':') != NULL ? 128 : 32;
    if (slash == NULL) {
        bits = bits_max;
    } else if (config_parse_number("", slash + 1, 0, bits_max, &bits, NULL) != HA_OK) {
        return false;
    }
    (void)snprintf(out, size, "%s/%u", address, (unsigned)bits);
    return true;
}

int
config_parse_networks(const char *name, const char *value, char *out, size_t size, struct err *err)
{
    char word[128];
    size_t used = 0;

    out[0] = 0;
    while (next_word(&value, word, sizeof word)) {
        char network[HA_ADDRESS_MAX + 8];
        char shown[sizeof word];

        memcpy(shown, word, sizeof shown);
        if (!normalise_network(word, network, sizeof network)) {
            return err_set(err,
                           HA_EINVAL,
                           "%s: %s is not a network; allowed: ones like 10.0.0.0/8 or fd00::/8",
                           name,
                           shown);
        }
        if (used + strlen(network) + 2 > size) {
            return err_set(
                err, HA_EINVAL, "%s: too long; allowed: less than %zu characters", name, size);
        }
        used += (size_t)snprintf(out + used, size - used, "%s%s", used == 0 ? "" : ",", network);
    }
    return HA_OK;
}
