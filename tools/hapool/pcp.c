/*
 * The Pgpool beside, over PCP; blocking, with a deadline.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tools/hapool/hapool.h"

#define SESSION_MS 2000

static int
converse(int fd, struct pcp_session *s)
{
    const int64_t end = hapool_now_ms() + SESSION_MS;
    uint8_t bytes[2048];

    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        const int64_t left = end - hapool_now_ms();
        ssize_t n;
        int rc;

        if (s->out_len > 0) {
            if (send(fd, s->out, s->out_len, MSG_NOSIGNAL) != (ssize_t)s->out_len) {
                return err_set(&s->err, HA_EUNREACHABLE, "the connection is gone");
            }
            s->out_len = 0;
        }
        if (s->step == PCP_STEP_DONE) {
            return s->err.code;
        }
        if (left <= 0 || poll(&p, 1, (int)left) <= 0) {
            return err_set(&s->err, HA_ETIMEOUT, "Pgpool does not answer over PCP");
        }
        n = recv(fd, bytes, sizeof bytes, 0);
        if (n <= 0) {
            return pcp_session_close(s);
        }
        rc = pcp_session_feed(s, bytes, (size_t)n);
        if (rc != HA_OK) {
            return rc;
        }
    }
}

int
hapool_pcp(const struct hapool_config *config,
           const struct pcp_op *ops,
           size_t n_ops,
           struct pcp_session *session)
{
    const struct sockaddr_in to = {.sin_family = AF_INET,
                                   .sin_port = htons(config->port_pcp),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc;

    pcp_session_init(session, config->pcp_user, config->pcp_password, ops, n_ops);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&to, sizeof to) != 0) {
        rc = err_set(&session->err, HA_EUNREACHABLE, "Pgpool's PCP port is closed");
    } else {
        rc = converse(fd, session);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    pcp_session_wipe(session);
    return rc;
}

bool
hapool_is_up(const struct pcp_node *node)
{
    return node->status == PCP_STATUS_WAITING || node->status == PCP_STATUS_UP;
}

static int
index_of(const struct hapool_config *config, const char *address)
{
    for (unsigned i = 0; i < config->n_nodes; i++) {
        if (strcmp(config->nodes[i], address) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static size_t
add(struct pcp_op ops[PCP_OPS_MAX], size_t n, enum pcp_verb verb, uint32_t node)
{
    if (n < PCP_OPS_MAX) {
        ops[n++] = (struct pcp_op){.verb = (uint8_t)verb, .node = (int32_t)node};
    }
    return n;
}

/* Who shall be away: without a primary not the last one that is attached, since Pgpool would serve
 * nobody; and who Pgpool takes as the primary last, since it searches then. */
static size_t
add_detaches(const struct hapool_config *config,
             const struct hapool_fact *fact,
             const struct pcp_session *view,
             struct pcp_op ops[PCP_OPS_MAX])
{
    unsigned n_up = 0;
    size_t n = 0;

    for (uint32_t i = 0; i < view->n_nodes; i++) {
        n_up += hapool_is_up(&view->nodes[i]);
    }
    for (unsigned primaries = 0; primaries < 2; primaries++) {
        for (uint32_t i = 0; i < view->n_nodes; i++) {
            const struct pcp_node *node = &view->nodes[i];
            const int at = index_of(config, node->host);

            if (hapool_is_up(node) && (n_up > 1 || fact->primary[0] != 0) &&
                strcmp(node->host, fact->primary) != 0 && at >= 0 &&
                (fact->is_harmful[at] || fact->is_away[at]) &&
                (node->role == PCP_ROLE_PRIMARY) == (primaries == 1)) {
                n = add(ops, n, PCP_DETACH, i);
                n_up--;
            }
        }
    }
    return n;
}

size_t
hapool_difference(const struct hapool_config *config,
                  const struct hapool_fact *fact,
                  const struct pcp_session *view,
                  struct pcp_op ops[PCP_OPS_MAX])
{
    bool is_primary_right = false;
    bool is_primary_up = false;
    size_t n = add_detaches(config, fact, view, ops);

    if (fact->primary[0] == 0 || index_of(config, fact->primary) < 0) {
        return n;
    }
    for (uint32_t i = 0; i < view->n_nodes; i++) {
        const struct pcp_node *node = &view->nodes[i];

        if (strcmp(node->host, fact->primary) == 0) {
            is_primary_up = hapool_is_up(node);
            is_primary_right = hapool_is_up(node) && node->role == PCP_ROLE_PRIMARY;
        }
    }
    for (uint32_t i = 0; i < view->n_nodes && !is_primary_right; i++) {
        if (strcmp(view->nodes[i].host, fact->primary) == 0) {
            n = add(ops, n, is_primary_up ? PCP_PROMOTE : PCP_ATTACH, i);
        }
    }
    /* Pgpool begins new children when it has done all that waits: a writer would wait for the
     * standbys, a second in all. They come at the next look; it takes them as down until then. */
    if (is_primary_up && !is_primary_right) {
        return n;
    }
    for (uint32_t i = 0; i < view->n_nodes; i++) {
        const int at = index_of(config, view->nodes[i].host);

        if (at >= 0 && fact->is_standby[at] && !fact->is_away[at] &&
            (!is_primary_right || !hapool_is_up(&view->nodes[i]))) {
            n = add(ops, n, PCP_ATTACH, i);
        }
    }
    return n;
}
