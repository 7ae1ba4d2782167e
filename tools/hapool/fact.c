/*
 * What the agents say, over HTTP: all are asked at once, the highest reign counts.
 */
#include "tools/hapool/hapool.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_MAX (256 * 1024)
#define ASK_MS 1000
#define LATE_MS 200 /* for the rest, when most have answered: one that is off holds up nobody */
#define NETS_MAX 16

struct ask {
    int fd; /* -1 = done */
    bool is_sent;
    size_t len;
    char *answer;
};

static const char *
text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));

    return text == NULL ? "" : text;
}

static json_int_t
int_of(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static bool
is_true(const json_t *o, const char *key)
{
    return json_is_true(json_object_get(o, key));
}

static bool
is_up(const json_t *m)
{
    const char *state = text_of(m, "state");

    return is_true(m, "is_fresh") &&
           (strcmp(state, "running") == 0 || strcmp(state, "streaming") == 0 ||
            strcmp(state, "in archive recovery") == 0);
}

/* The holder, when it is heard, has its lease, is out of recovery and lets clients in. */
static const json_t *
find_primary(const json_t *root)
{
    const char *holder = text_of(root, "holder");
    const json_t *members = json_object_get(root, "members");
    size_t i;
    json_t *m;

    json_array_foreach(members, i, m)
    {
        if (strcmp(text_of(m, "address"), holder) == 0 && is_up(m) &&
            int_of(m, "lease_left_ms") > 0 && !is_true(m, "is_in_recovery") &&
            !is_true(m, "is_closed")) {
            return m;
        }
    }
    return NULL;
}

/* An address that is none would be written into Pgpool's file. */
static bool
is_address(const char *text)
{
    uint8_t bytes[16];

    return strlen(text) < HAPOOL_ADDRESS_MAX &&
           (inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1);
}

static void
note_new(const struct hapool_config *config, const json_t *m, struct hapool_fact *out)
{
    const char *address = text_of(m, "address");

    if (strcmp(text_of(m, "kind"), "database") != 0 || !is_address(address) ||
        config->n_nodes + out->n_new >= HAPOOL_NODES_MAX) {
        return;
    }
    for (unsigned i = 0; i < config->n_nodes; i++) {
        if (strcmp(config->nodes[i], address) == 0) {
            return;
        }
    }
    memcpy(out->added[out->n_new++], address, strlen(address) + 1);
}

/* Clients only wait there, or find nothing. */
static bool
is_useless(const json_t *m)
{
    return strcmp(text_of(m, "health"), "hung") == 0 ||
           strcmp(text_of(m, "health"), "data gone") == 0;
}

static void
take_member(const struct hapool_config *config,
            const json_t *m,
            const json_t *primary,
            json_int_t max_lag,
            struct hapool_fact *out)
{
    for (unsigned i = 0; i < config->n_nodes; i++) {
        if (strcmp(config->nodes[i], text_of(m, "address")) != 0 || m == primary) {
            continue;
        }
        out->is_standby[i] = is_true(m, "is_fresh") && is_true(m, "is_streaming") &&
                             !is_true(m, "is_noloadbalance") && !is_useless(m) && primary != NULL &&
                             strcmp(text_of(m, "upstream"), text_of(primary, "address")) == 0 &&
                             int_of(m, "timeline") == int_of(primary, "timeline") &&
                             strcmp(text_of(m, "lineage"), text_of(primary, "lineage")) == 0 &&
                             (max_lag == 0 || int_of(m, "replay_lag") <= max_lag);
        out->is_harmful[i] =
            primary != NULL && is_up(m) &&
            (is_useless(m) || (!is_true(m, "is_in_recovery") && !is_true(m, "is_streaming")));
    }
}

/* What who leads Raft wants of the gateways; it knows best who is gone. */
static void
take_wish(const struct hapool_config *config, const json_t *m, struct hapool_fact *out)
{
    for (unsigned i = 0; i < config->n_nodes; i++) {
        out->is_away[i] |= strcmp(config->nodes[i], text_of(m, "address")) == 0 &&
                           strcmp(text_of(m, "gateway"), "away") == 0;
    }
}

bool
hapool_fact_parse(const struct hapool_config *config, const char *json, struct hapool_fact *out)
{
    json_t *root = json_loads(json, 0, NULL);
    const json_t *primary;
    size_t i;
    json_t *m;

    memset(out, 0, sizeof *out);
    if (root == NULL) {
        return false;
    }
    out->reign = (uint64_t)int_of(json_object_get(root, "reign"), "reign");
    primary = find_primary(root);
    if (primary != NULL) {
        (void)snprintf(out->primary, sizeof out->primary, "%s", text_of(primary, "address"));
    }
    if (is_address(text_of(json_object_get(root, "raft"), "leader"))) {
        (void)snprintf(out->leader,
                       sizeof out->leader,
                       "%s",
                       text_of(json_object_get(root, "raft"), "leader"));
    }
    if (is_true(json_object_get(root, "raft"), "is_ready")) {
        struct hapool_net nets[NETS_MAX];

        out->led_term = (uint64_t)int_of(json_object_get(root, "raft"), "term");
        out->reach = (uint8_t)hapool_reach(
            json_object_get(root, "gateways"), nets, hapool_own_nets(nets, NETS_MAX));
    }
    json_array_foreach(json_object_get(root, "members"), i, m)
    {
        take_wish(config, m, out);
        take_member(
            config, m, primary, int_of(json_object_get(root, "declaration"), "max_lag"), out);
        note_new(config, m, out);
    }
    json_decref(root);
    return out->reign > 0;
}

static int
begin(const char *address, uint16_t port)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    const bool is_v4 = inet_pton(AF_INET, address, &v4.sin_addr) == 1;
    int fd;

    if (!is_v4 && inet_pton(AF_INET6, address, &v6.sin6_addr) != 1) {
        return -1;
    }
    fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0) { /* whether it connects is seen when it is written to */
        (void)connect(fd,
                      is_v4 ? (const struct sockaddr *)&v4 : (const struct sockaddr *)&v6,
                      is_v4 ? sizeof v4 : sizeof v6);
    }
    return fd;
}

static void
finish(struct ask *a)
{
    (void)close(a->fd);
    a->fd = -1;
    a->answer[a->len] = 0;
}

static void
go_on(struct ask *a)
{
    static const char request[] = "GET /hawser/status HTTP/1.0\r\nHost: agent\r\n\r\n";
    ssize_t n;

    if (!a->is_sent) {
        a->is_sent = true;
        if (send(a->fd, request, sizeof request - 1, MSG_NOSIGNAL) != sizeof request - 1) {
            finish(a);
        }
        return;
    }
    n = recv(a->fd, a->answer + a->len, ANSWER_MAX - 1 - a->len, 0);
    if (n <= 0) {
        finish(a);
        return;
    }
    a->len += (size_t)n;
    if (a->len == ANSWER_MAX - 1) {
        a->len = 0; /* no picture is that long */
        finish(a);
    }
}

static void
gather(struct ask *asks, unsigned n)
{
    int64_t end = hapool_now_ms() + ASK_MS;
    bool is_short = false;

    for (;;) {
        struct pollfd fds[HAPOOL_NODES_MAX];
        unsigned n_open = 0;
        unsigned n_answers = 0;
        int64_t left;

        for (unsigned i = 0; i < n; i++) {
            fds[i].fd = asks[i].fd; /* poll() passes over -1 */
            fds[i].events = asks[i].is_sent ? POLLIN : POLLOUT;
            fds[i].revents = 0;
            n_open += asks[i].fd >= 0;
            n_answers += asks[i].fd < 0 && asks[i].len > 0;
        }
        if (!is_short && n_answers * 2 > n) {
            is_short = true;
            end = end < hapool_now_ms() + LATE_MS ? end : hapool_now_ms() + LATE_MS;
        }
        left = end - hapool_now_ms();
        if (n_open == 0 || left <= 0) {
            break;
        }
        (void)poll(fds, n, (int)left);
        for (unsigned i = 0; i < n; i++) {
            if (fds[i].revents != 0 && asks[i].fd >= 0) {
                go_on(&asks[i]);
            }
        }
    }
    for (unsigned i = 0; i < n; i++) {
        if (asks[i].fd >= 0) {
            finish(&asks[i]);
        }
    }
}

/* Of two that know the same reign, the one that hears the primary knows more; what shall be away is
 * the word of who leads Raft, whatever else it hears. */
static void
weigh(struct hapool_fact *best, const struct hapool_fact *fact)
{
    const struct hapool_fact leads = fact->led_term > best->led_term ? *fact : *best;
    const struct hapool_fact knows = best->leader[0] != 0 ? *best : *fact;

    if (fact->reign > best->reign || (fact->reign == best->reign && best->primary[0] == 0)) {
        *best = *fact;
    }
    best->led_term = leads.led_term;
    best->reach = leads.reach;
    memcpy(best->is_away, leads.is_away, sizeof best->is_away);
    memcpy(best->leader, knows.leader, sizeof best->leader);
}

static void
ask_all(const struct hapool_config *config,
        const char *const addresses[],
        unsigned n,
        struct hapool_fact *out)
{
    struct ask asks[HAPOOL_NODES_MAX];

    for (unsigned i = 0; i < n; i++) {
        asks[i] = (struct ask){.fd = -1, .answer = calloc(1, ANSWER_MAX)};
        REQUIRE(asks[i].answer != NULL, "there is memory for an answer");
        asks[i].fd = begin(addresses[i], config->port_http);
    }
    gather(asks, n);
    for (unsigned i = 0; i < n; i++) {
        const char *body = strstr(asks[i].answer, "\r\n\r\n");
        struct hapool_fact fact;

        if (body != NULL && strncmp(asks[i].answer, "HTTP/1.", 7) == 0 &&
            strncmp(asks[i].answer + 8, " 200", 4) == 0 &&
            hapool_fact_parse(config, body + 4, &fact)) {
            weigh(out, &fact);
        }
        free(asks[i].answer);
    }
}

void
hapool_ask(const struct hapool_config *config, struct hapool_fact *out)
{
    const char *addresses[HAPOOL_NODES_MAX];
    char leader[HAPOOL_ADDRESS_MAX];
    bool is_node = false;

    memset(out, 0, sizeof *out);
    for (unsigned i = 0; i < config->n_nodes; i++) {
        addresses[i] = config->nodes[i];
    }
    ask_all(config, addresses, config->n_nodes, out);
    for (unsigned i = 0; i < config->n_nodes; i++) {
        is_node |= strcmp(config->nodes[i], out->leader) == 0;
    }
    if (out->led_term == 0 && out->leader[0] != 0 && !is_node) { /* a witness */
        memcpy(leader, out->leader, sizeof leader);
        addresses[0] = leader;
        ask_all(config, addresses, 1, out);
    }
}
