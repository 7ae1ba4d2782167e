/*
 * Whether an agent tells our Pgpool by itself: a Swarm's names and overlay network come late after
 * a deploy, and go wrong for a while when a node is lost.
 */
#include "tools/hapool/hapool.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <jansson.h>
#include <net/if.h>
#include <string.h>

static size_t
copy_address(const struct sockaddr *from, uint8_t out[16])
{
    if (from->sa_family == AF_INET) {
        memcpy(out, &((const struct sockaddr_in *)(const void *)from)->sin_addr, 4);
        return 4;
    }
    memcpy(out, &((const struct sockaddr_in6 *)(const void *)from)->sin6_addr, 16);
    return 16;
}

size_t
hapool_own_nets(struct hapool_net *nets, size_t max)
{
    struct ifaddrs *all = NULL;
    size_t n = 0;

    if (getifaddrs(&all) != 0) {
        return 0;
    }
    for (const struct ifaddrs *a = all; a != NULL && n < max; a = a->ifa_next) {
        if (a->ifa_addr == NULL || a->ifa_netmask == NULL || (a->ifa_flags & IFF_LOOPBACK) != 0 ||
            (a->ifa_addr->sa_family != AF_INET && a->ifa_addr->sa_family != AF_INET6)) {
            continue;
        }
        memset(&nets[n], 0, sizeof nets[n]);
        nets[n].family = a->ifa_addr->sa_family;
        (void)copy_address(a->ifa_addr, nets[n].address);
        (void)copy_address(a->ifa_netmask, nets[n].mask);
        n++;
    }
    freeifaddrs(all);
    return n;
}

static bool
is_neighbour(const struct hapool_net *net, const uint8_t address[16])
{
    for (size_t i = 0; i < (net->family == AF_INET ? 4 : 16); i++) {
        if (((net->address[i] ^ address[i]) & net->mask[i]) != 0) {
            return false;
        }
    }
    return true;
}

enum hapool_reach
hapool_reach(const struct json_t *gateways, const struct hapool_net *nets, size_t n_nets)
{
    enum hapool_reach reach =
        json_array_size(gateways) == 0 ? HAPOOL_REACH_NOT : HAPOOL_REACH_UNKNOWN;
    size_t i;
    json_t *g;

    json_array_foreach(gateways, i, g)
    {
        const char *text = json_string_value(json_object_get(g, "address"));
        uint8_t address[16] = {0};
        int family = 0;

        if (text != NULL) {
            family = inet_pton(AF_INET, text, address) == 1    ? AF_INET
                     : inet_pton(AF_INET6, text, address) == 1 ? AF_INET6
                                                               : 0;
        }
        for (size_t k = 0; k < n_nets; k++) {
            if (nets[k].family != family || !is_neighbour(&nets[k], address)) {
                continue;
            }
            if (memcmp(nets[k].address, address, sizeof address) == 0) {
                return json_is_true(json_object_get(g, "is_reached")) ? HAPOOL_REACH_YES
                                                                      : HAPOOL_REACH_NOT;
            }
            reach = HAPOOL_REACH_NOT;
        }
    }
    return reach;
}
