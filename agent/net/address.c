#include "agent/net/address.h"

#include <arpa/inet.h>
#include <stddef.h>

bool
address_normalise(const char *text, char out[HA_ADDRESS_MAX])
{
    struct in_addr v4;
    struct in6_addr v6;

    if (inet_pton(AF_INET, text, &v4) == 1) {
        return inet_ntop(AF_INET, &v4, out, HA_ADDRESS_MAX) != NULL;
    }
    if (inet_pton(AF_INET6, text, &v6) != 1) {
        return false;
    }
    if (IN6_IS_ADDR_V4MAPPED(&v6)) {
        return inet_ntop(AF_INET, &v6.s6_addr[12], out, HA_ADDRESS_MAX) != NULL;
    }
    return inet_ntop(AF_INET6, &v6, out, HA_ADDRESS_MAX) != NULL;
}
