/*
 * Who belongs to the cluster, who of them this agent is, and where it listens.
 */
#include "agent/shell/config_internal.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/net/address.h"
#include "agent/net/listen.h"

#define LIST_TEXT_MAX 256

struct addresses {
    size_t n;
    char at[HA_MEMBERS_MAX][HA_ADDRESS_MAX];
};

static bool
contains(const struct addresses *list, const char *address)
{
    for (size_t i = 0; i < list->n; i++) {
        if (strcmp(list->at[i], address) == 0) {
            return true;
        }
    }
    return false;
}

static int
read_list(const char *name, struct addresses *out, struct err *err)
{
    const char *value = config_env(name);

    out->n = 0;
    return value == NULL ? HA_OK : config_parse_addresses(name, value, out->at, &out->n, err);
}

/* Adds " word" to a list for people. */
static void
append(char *text, size_t size, const char *word)
{
    const size_t used = strlen(text);

    (void)snprintf(text + used, size - used, "%s%s", used == 0 ? "" : " ", word);
}

static void
list_members(const struct declaration *d, char *text, size_t size)
{
    text[0] = 0;
    for (size_t i = 0; i < d->n_members; i++) {
        append(text, size, d->members[i].address);
    }
}

static int
add_member(struct declaration *d,
           const char *name,
           const char *address,
           enum member_kind kind,
           struct err *err)
{
    for (size_t i = 0; i < d->n_members; i++) {
        if (strcmp(d->members[i].address, address) == 0) {
            return err_set(err,
                           HA_EINVAL,
                           "%s: %s is listed in another variable as well; allowed: each address "
                           "once among PRIMARY_IP, REPLICAS_IP and WITNESS_IPS",
                           name,
                           address);
        }
    }
    if (d->n_members == HA_MEMBERS_MAX) {
        return err_set(err,
                       HA_EINVAL,
                       "%s: too many members with %s; allowed: at most %d in all",
                       name,
                       address,
                       HA_MEMBERS_MAX);
    }
    struct member_spec *spec = &d->members[d->n_members++];
    (void)snprintf(spec->address, sizeof spec->address, "%s", address);
    spec->kind = (uint8_t)kind;
    return HA_OK;
}

static int
add_members(struct declaration *d,
            const char *name,
            const struct addresses *list,
            enum member_kind kind,
            struct err *err)
{
    int rc = HA_OK;

    for (size_t i = 0; rc == HA_OK && i < list->n; i++) {
        rc = add_member(d, name, list->at[i], kind, err);
    }
    return rc;
}

/* The listed database member that a host name stands for. */
static int
resolve_primary(const char *node,
                const struct declaration *d,
                char out[HA_ADDRESS_MAX],
                struct err *err)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    char found[LIST_TEXT_MAX] = "";
    char allowed[LIST_TEXT_MAX];
    const int rc = getaddrinfo(node, NULL, &hints, &list);

    out[0] = 0;
    for (const struct addrinfo *a = rc == 0 ? list : NULL; a != NULL; a = a->ai_next) {
        char text[HA_ADDRESS_MAX];
        char address[HA_ADDRESS_MAX];

        if (getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) !=
                0 ||
            !address_normalise(text, address)) {
            continue;
        }
        append(found, sizeof found, address);
        for (size_t i = 0; i < d->n_members; i++) {
            if (d->members[i].kind == MEMBER_DATABASE &&
                strcmp(d->members[i].address, address) == 0) {
                memcpy(out, address, HA_ADDRESS_MAX);
            }
        }
    }
    if (rc == 0) {
        freeaddrinfo(list);
    }
    if (out[0] != 0) {
        return HA_OK;
    }
    list_members(d, allowed, sizeof allowed);
    return err_set(err,
                   HA_EINVAL,
                   "POSTGRES_PRIMARY_NODE=%s: the name stands for %s; allowed: one that resolves "
                   "to a listed database address (%s), or set PRIMARY_IP instead",
                   node,
                   rc != 0 ? gai_strerror(rc) : found,
                   allowed[0] == 0 ? "none is listed" : allowed);
}

static int
read_primary(struct config *out, const char *primary_ip, struct err *err)
{
    struct declaration *d = &out->core.declaration;
    const char *node = config_env("POSTGRES_PRIMARY_NODE");

    if (primary_ip[0] != 0) {
        memcpy(d->primary, primary_ip, HA_ADDRESS_MAX);
    }
    if (node == NULL) {
        return HA_OK;
    }
    /* The node that bears the name knows its own address without asking anybody. */
    if (strcmp(node, out->core.name) == 0 && out->core.kind == MEMBER_DATABASE) {
        memcpy(d->primary, out->core.address, HA_ADDRESS_MAX);
    } else if (resolve_primary(node, d, d->primary, err) != HA_OK) {
        return HA_EINVAL;
    }
    if (primary_ip[0] != 0 && strcmp(primary_ip, d->primary) != 0) {
        return err_set(err,
                       HA_EINVAL,
                       "POSTGRES_PRIMARY_NODE=%s: that is %s, but PRIMARY_IP=%s; allowed: both "
                       "naming the same node, or one of them alone",
                       node,
                       d->primary,
                       primary_ip);
    }
    return HA_OK;
}

/* Own interfaces' addresses, as a list for people; `listed` those that are members. */
static int
scan_interfaces(const struct declaration *d, struct addresses *listed, char *found, size_t size)
{
    struct ifaddrs *list = NULL;

    listed->n = 0;
    found[0] = 0;
    if (getifaddrs(&list) != 0) {
        return HA_EFAILED;
    }
    for (const struct ifaddrs *a = list; a != NULL; a = a->ifa_next) {
        const int family = a->ifa_addr == NULL ? AF_UNSPEC : a->ifa_addr->sa_family;
        const socklen_t len = family == AF_INET    ? sizeof(struct sockaddr_in)
                              : family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                   : 0;
        char text[NI_MAXHOST];
        char address[HA_ADDRESS_MAX];

        if (len == 0 ||
            getnameinfo(a->ifa_addr, len, text, sizeof text, NULL, 0, NI_NUMERICHOST) != 0 ||
            !address_normalise(text, address)) {
            continue; /* link-local addresses bear a zone and are nobody's member address */
        }
        append(found, size, address);
        for (size_t i = 0; i < d->n_members; i++) {
            if (strcmp(d->members[i].address, address) == 0 && !contains(listed, address)) {
                memcpy(listed->at[listed->n++], address, sizeof address);
            }
        }
    }
    freeifaddrs(list);
    return HA_OK;
}

/* Asked for by what leads back here: in a container no interface has a member's address. */
static int
ask_self(struct config *out, config_self_fn ask, struct err *err)
{
    const struct declaration *d = &out->core.declaration;
    const char *addresses[HA_MEMBERS_MAX];
    size_t index = 0;
    int rc = config_read_listen(out, err);

    for (size_t i = 0; i < d->n_members; i++) {
        addresses[i] = d->members[i].address;
    }
    if (rc == HA_OK) {
        rc = ask(out, addresses, d->n_members, &index, err);
    }
    if (rc == HA_OK) {
        memcpy(out->core.address, addresses[index], strlen(addresses[index]) + 1);
    }
    return rc;
}

static int
find_self(struct config *out, config_self_fn ask, struct err *err)
{
    const struct declaration *d = &out->core.declaration;
    struct addresses listed;
    char found[LIST_TEXT_MAX];
    char allowed[LIST_TEXT_MAX];

    list_members(d, allowed, sizeof allowed);
    if (scan_interfaces(d, &listed, found, sizeof found) != HA_OK) {
        return err_set(
            err, HA_EFAILED, "NODE_IP is not set, and the own interfaces cannot be listed");
    }
    if (listed.n == 1) {
        memcpy(out->core.address, listed.at[0], HA_ADDRESS_MAX);
        return HA_OK;
    }
    if (listed.n == 0 && ask != NULL) {
        return ask_self(out, ask, err);
    }
    return err_set(err,
                   HA_EINVAL,
                   "NODE_IP is not set, and %s of this host's addresses (%s) %s a member's; "
                   "allowed: NODE_IP set to the one of %s that is this node",
                   listed.n == 0 ? "none" : "more than one",
                   found,
                   listed.n == 0 ? "is" : "are",
                   allowed);
}

/* Which of the members this agent is. */
static int
read_self(struct config *out, config_self_fn ask, struct err *err)
{
    struct declaration *d = &out->core.declaration;
    const char *own = config_env("NODE_IP");
    char allowed[LIST_TEXT_MAX];
    int rc = own == NULL ? find_self(out, ask, err)
                         : config_parse_address("NODE_IP", own, out->core.address, err);

    if (rc != HA_OK) {
        return rc;
    }
    for (size_t i = 0; i < d->n_members; i++) {
        if (strcmp(d->members[i].address, out->core.address) == 0) {
            out->core.kind = d->members[i].kind;
            return HA_OK;
        }
    }
    list_members(d, allowed, sizeof allowed);
    return err_set(err,
                   HA_EINVAL,
                   "NODE_IP=%s: not one of the members; allowed: %s (PRIMARY_IP, REPLICAS_IP, "
                   "WITNESS_IPS)",
                   out->core.address,
                   allowed);
}

static int
read_name(struct config *out, struct err *err)
{
    char host[HA_NAME_MAX] = "";

    if (gethostname(host, sizeof host - 1) != 0) {
        host[0] = 0;
    }
    return config_text("MY_NODE_HOSTNAME", host, out->core.name, sizeof out->core.name, err);
}

int
config_read_members(struct config *out, config_self_fn ask, struct err *err)
{
    struct declaration *d = &out->core.declaration;
    struct addresses replicas;
    struct addresses witnesses;
    char primary[HA_ADDRESS_MAX] = "";
    const char *value = config_env("PRIMARY_IP");
    int rc = value == NULL ? HA_OK : config_parse_address("PRIMARY_IP", value, primary, err);

    if (rc == HA_OK && value == NULL && config_env("POSTGRES_PRIMARY_NODE") == NULL) {
        rc = err_set(err,
                     HA_EINVAL,
                     "PRIMARY_IP is not set; allowed: the IP address of the node whose data are "
                     "the truth, or its host name in POSTGRES_PRIMARY_NODE");
    }
    if (rc != HA_OK || (rc = read_list("REPLICAS_IP", &replicas, err)) != HA_OK ||
        (rc = read_list("WITNESS_IPS", &witnesses, err)) != HA_OK) {
        return rc;
    }
    if (primary[0] != 0) {
        rc = add_member(d, "PRIMARY_IP", primary, MEMBER_DATABASE, err);
    }
    if (rc != HA_OK ||
        (rc = add_members(d, "REPLICAS_IP", &replicas, MEMBER_DATABASE, err)) != HA_OK ||
        (rc = add_members(d, "WITNESS_IPS", &witnesses, MEMBER_WITNESS, err)) != HA_OK ||
        (rc = read_name(out, err)) != HA_OK || (rc = read_self(out, ask, err)) != HA_OK ||
        (rc = read_primary(out, primary, err)) != HA_OK) {
        return rc;
    }
    declaration_sort(d);
    return HA_OK;
}

/* True when this host can bind the address: then it is one of its own. */
static bool
is_local(const char *address)
{
    struct sockaddr_storage sa;
    bool is_bound;
    int fd;

    if (!listen_parse(address, 0, &sa)) {
        return false;
    }
    fd = socket(sa.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return false;
    }
    union {
        struct sockaddr_storage *storage;
        struct sockaddr *any;
    } at = {.storage = &sa};
    is_bound = bind(fd,
                    at.any,
                    sa.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                             : sizeof(struct sockaddr_in)) == 0;
    (void)close(fd);
    return is_bound;
}

int
config_read_listen(struct config *out, struct err *err)
{
    const char *value = config_env("HA_LISTEN");
    const char *self = out->core.address;
    const char *family = self[0] != 0 ? self : out->core.declaration.members[0].address;

    if (value == NULL) {
        const char *any = strchr(family, ':') != NULL ? "::" : "0.0.0.0";

        (void)snprintf(out->listen, sizeof out->listen, "%s", is_local(self) ? self : any);
        return HA_OK;
    }
    if (!address_normalise(value, out->listen) || !is_local(out->listen)) {
        return err_set(err,
                       HA_EINVAL,
                       "HA_LISTEN=%s: not an address of this host; allowed: an own IP address, "
                       "0.0.0.0 or ::",
                       value);
    }
    return HA_OK;
}
