#include "agent/gateway/gateway.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/gateway/pcp.h"

#define NAMES_MAX 8
#define NAME_MAX_BYTES 256
#define LEVEL_WARN 1 /* of agent/shell/log.h */
#define LEVEL_INFO 2

/* One of the names of PGPOOL_HOSTS. */
struct name {
    struct gateways *owner;
    char text[NAME_MAX_BYTES];
    uv_getaddrinfo_t request;
    bool is_asking;
    bool is_lost; /* said once */
    struct gateway_list found;
};

/* A session that runs. */
struct run {
    struct gateways *owner;
    struct pcp *pcp;
    struct gateway_facts facts;
};

struct gateways {
    struct gateways_config config;
    char user[PCP_USER_MAX];
    char password[PCP_PASSWORD_MAX];
    struct name names[NAMES_MAX];
    size_t n_names;
    struct gateway_list list;
    struct run runs[GATEWAYS_MAX];
    uv_timer_t timer;
    bool is_closing;
    unsigned n_asking;
    bool is_timer_closed;
};

static void
free_when_done(struct gateways *g)
{
    if (g->is_closing && g->n_asking == 0 && g->is_timer_closed) {
        memset(g->password, 0, sizeof g->password);
        free(g);
    }
}

static void
say(struct gateways *g, int level, const char *event, const char *text)
{
    if (g->config.on_log != NULL) {
        g->config.on_log(g->config.data, level, event, text);
    }
}

/* ---- names ---- */

static void
list_add(struct gateway_list *list, const char *address)
{
    for (uint32_t i = 0; i < list->n; i++) {
        if (strcmp(list->at[i], address) == 0) {
            return;
        }
    }
    if (list->n < GATEWAYS_MAX) {
        memset(list->at[list->n], 0, HA_ADDRESS_MAX);
        (void)snprintf(list->at[list->n++], HA_ADDRESS_MAX, "%s", address);
    }
}

static void
publish(struct gateways *g)
{
    struct gateway_list list;

    memset(&list, 0, sizeof list);
    for (size_t i = 0; i < g->n_names; i++) {
        for (uint32_t k = 0; k < g->names[i].found.n; k++) {
            list_add(&list, g->names[i].found.at[k]);
        }
    }
    if (memcmp(&list, &g->list, sizeof list) != 0) {
        g->list = list;
        g->config.on_list(g->config.data, &list);
    }
}

/* The resolver may give them in another order each time. */
static int
compare_addresses(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void
take_addresses(struct name *name, const struct addrinfo *all)
{
    char text[INET6_ADDRSTRLEN];

    memset(&name->found, 0, sizeof name->found);
    for (const struct addrinfo *a = all; a != NULL; a = a->ai_next) {
        if (getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) ==
            0) {
            list_add(&name->found, text);
        }
    }
    qsort(name->found.at, name->found.n, HA_ADDRESS_MAX, compare_addresses);
}

static void
on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *all)
{
    struct name *name = request->data;
    struct gateways *g = name->owner;
    char text[NAME_MAX_BYTES + 64];

    name->is_asking = false;
    g->n_asking--;
    if (g->is_closing) {
        uv_freeaddrinfo(all);
        free_when_done(g);
        return;
    }
    if (status == 0) {
        take_addresses(name, all);
        name->is_lost = false;
        publish(g);
    } else if (!name->is_lost) { /* what it was known as stays: a resolver fails now and then */
        name->is_lost = true;
        (void)snprintf(text, sizeof text, "%s: %s", name->text, uv_strerror(status));
        say(g, LEVEL_WARN, "gateway_name", text);
    }
    uv_freeaddrinfo(all);
}

static void
resolve_all(struct gateways *g)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};

    for (size_t i = 0; i < g->n_names; i++) {
        struct name *name = &g->names[i];

        if (name->is_asking) {
            continue;
        }
        name->request.data = name;
        if (uv_getaddrinfo(g->config.loop, &name->request, on_resolved, name->text, NULL, &hints) ==
            0) {
            name->is_asking = true;
            g->n_asking++;
        }
    }
}

static void
on_timer(uv_timer_t *timer)
{
    resolve_all(timer->data);
}

static int
read_names(struct gateways *g, const char *hosts, struct err *err)
{
    while (hosts[strspn(hosts, ", \t")] != 0) {
        size_t len;

        hosts += strspn(hosts, ", \t");
        len = strcspn(hosts, ", \t");
        if (g->n_names == NAMES_MAX || len >= NAME_MAX_BYTES) {
            return err_set(err, HA_ETOOBIG, "PGPOOL_HOSTS: more than %d names", NAMES_MAX);
        }
        memcpy(g->names[g->n_names].text, hosts, len);
        g->names[g->n_names++].owner = g;
        hosts += len;
    }
    return HA_OK;
}

int
gateways_open(const struct gateways_config *config, struct gateways **out, struct err *err)
{
    struct gateways *g = calloc(1, sizeof *g);
    int rc;

    if (g == NULL) {
        return err_set(err, HA_ENOMEM, "no memory for the gateways");
    }
    if (strlen(config->user) >= PCP_USER_MAX || strlen(config->password) >= PCP_PASSWORD_MAX) {
        free(g);
        return err_set(err, HA_ETOOBIG, "PCP_USER or its password is too long");
    }
    g->config = *config;
    memcpy(g->user, config->user, strlen(config->user));
    memcpy(g->password, config->password, strlen(config->password));
    rc = read_names(g, config->hosts, err);
    if (rc != HA_OK) {
        free(g);
        return rc;
    }
    REQUIRE(uv_timer_init(config->loop, &g->timer) == 0, "a timer can be made");
    g->timer.data = g;
    (void)uv_timer_start(&g->timer, on_timer, 0, GATEWAY_RESOLVE_MS);
    *out = g;
    return HA_OK;
}

/* ---- sessions ---- */

static void
take_nodes(struct gateway_facts *facts, const struct pcp_session *s)
{
    facts->has_nodes = true;
    for (uint32_t i = 0; i < s->n_nodes && i < GATEWAY_NODES_MAX; i++) {
        struct gateway_node *node = &facts->nodes[facts->n_nodes++];

        if (strlen(s->nodes[i].host) < HA_ADDRESS_MAX) {
            (void)snprintf(node->host, HA_ADDRESS_MAX, "%.47s", s->nodes[i].host);
        }
        node->port = s->nodes[i].port;
        node->state = s->nodes[i].status == PCP_STATUS_DOWN     ? GATEWAY_NODE_DOWN
                      : s->nodes[i].status == PCP_STATUS_UNUSED ? GATEWAY_NODE_UNUSED
                                                                : GATEWAY_NODE_UP;
        node->is_primary = s->nodes[i].role == PCP_ROLE_PRIMARY;
    }
}

static void
on_done(void *data, int rc, const struct pcp_session *s)
{
    struct run *run = data;
    struct gateways *g = run->owner;
    struct gateway_facts facts = run->facts;

    run->pcp = NULL;
    facts.rc = rc;
    (void)snprintf(facts.text, sizeof facts.text, "%.119s", s->err.text);
    if (s->has_nodes) {
        take_nodes(&facts, s);
    }
    g->config.on_facts(g->config.data, &facts);
}

static struct run *
find_run(struct gateways *g)
{
    for (size_t i = 0; i < GATEWAYS_MAX; i++) {
        if (g->runs[i].pcp == NULL) {
            return &g->runs[i];
        }
    }
    return NULL;
}

static void
cancel_run(struct gateways *g, const char *address)
{
    for (size_t i = 0; i < GATEWAYS_MAX; i++) {
        struct run *run = &g->runs[i];

        if (run->pcp != NULL && strcmp(run->facts.address, address) == 0) {
            pcp_cancel(run->pcp);
            run->pcp = NULL;
        }
    }
}

void
gateways_run(struct gateways *g, const char *address, const struct gateway_op *ops, uint32_t n_ops)
{
    static const uint8_t verbs[GATEWAY_VERB_COUNT] = {[GATEWAY_LOOK] = PCP_NODE_INFO,
                                                      [GATEWAY_DETACH] = PCP_DETACH,
                                                      [GATEWAY_ATTACH] = PCP_ATTACH,
                                                      [GATEWAY_PROMOTE] = PCP_PROMOTE};
    struct run *run = find_run(g);
    struct gateway_facts facts = {.rc = HA_EBUSY, .text = "all sessions are in use"};
    struct pcp_op list[PCP_OPS_MAX];
    struct pcp_config config = {.loop = g->config.loop,
                                .address = address,
                                .port = g->config.pcp_port,
                                .user = g->user,
                                .password = g->password,
                                .done = on_done,
                                .data = run};
    struct err err = {0};

    if (n_ops == 0) {
        cancel_run(g, address);
        return;
    }
    (void)snprintf(facts.address, sizeof facts.address, "%s", address);
    REQUIRE(n_ops <= PCP_OPS_MAX, "GATEWAY_OPS_MAX fits");
    for (uint32_t i = 0; i < n_ops; i++) {
        list[i] = (struct pcp_op){.verb = verbs[ops[i].verb], .node = ops[i].node};
    }
    if (run != NULL) {
        run->owner = g;
        memset(&run->facts, 0, sizeof run->facts);
        (void)snprintf(run->facts.address, sizeof run->facts.address, "%s", address);
        facts.rc = pcp_begin(&config, list, n_ops, &run->pcp, &err);
        if (facts.rc == HA_OK) {
            return;
        }
        run->pcp = NULL;
        (void)snprintf(facts.text, sizeof facts.text, "%.119s", err.text);
    }
    g->config.on_facts(g->config.data, &facts);
}

static void
on_timer_closed(uv_handle_t *handle)
{
    struct gateways *g = handle->data;

    g->is_timer_closed = true;
    free_when_done(g);
}

void
gateways_close(struct gateways *g)
{
    if (g == NULL || g->is_closing) {
        return;
    }
    g->is_closing = true;
    for (size_t i = 0; i < GATEWAYS_MAX; i++) {
        if (g->runs[i].pcp != NULL) {
            pcp_cancel(g->runs[i].pcp);
            g->runs[i].pcp = NULL;
        }
    }
    for (size_t i = 0; i < g->n_names; i++) {
        if (g->names[i].is_asking) {
            (void)uv_cancel((uv_req_t *)&g->names[i].request);
        }
    }
    uv_close((uv_handle_t *)&g->timer, on_timer_closed);
}
