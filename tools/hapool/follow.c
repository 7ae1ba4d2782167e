/*
 * Beside Pgpool: what it sees is compared with what the agents say, and repaired when none of them
 * does.
 */
#include "tools/hapool/hapool.h"

#include <stdio.h>
#include <string.h>

#define LOOK_MS 1000
#define LOOK_CLOSELY_MS 300 /* when nobody else does, or something is wrong */
#define AGAIN_MS 5000       /* each attach and each promotion disturbs sessions */

/* An agent sees a change within 0.1 s, and Pgpool does what it is told within a second or so. Who
 * is told by nobody waits for a second look alone. */
static const int64_t PATIENCE_MS[] = {
    [HAPOOL_REACH_UNKNOWN] = 1500,
    [HAPOOL_REACH_NOT] = 200,
    [HAPOOL_REACH_YES] = 5000,
};

/* Remembers the view; true when it is not the one before. */
static bool
has_moved(struct hapool_patience *p, const struct pcp_session *view)
{
    bool has = false;

    for (uint32_t i = 0; i < view->n_nodes && i < HAPOOL_NODES_MAX; i++) {
        const bool is_primary = view->nodes[i].role == PCP_ROLE_PRIMARY;

        has |= p->is_up[i] != hapool_is_up(&view->nodes[i]) || p->is_primary[i] != is_primary;
        p->is_up[i] = hapool_is_up(&view->nodes[i]);
        p->is_primary[i] = is_primary;
    }
    return has;
}

static bool
is_said(const struct hapool_patience *p, const struct pcp_op *ops, size_t n)
{
    bool is_same = n == p->n_told;

    for (size_t i = 0; is_same && i < n; i++) {
        is_same = ops[i].verb == p->told[i].verb && ops[i].node == p->told[i].node;
    }
    return is_same;
}

/* Who leads Raft since a moment ago has looked at no gateway yet: that is not being alone. */
static int64_t
patience_of(struct hapool_patience *p, enum hapool_reach reach, int64_t now)
{
    if (reach != HAPOOL_REACH_NOT) {
        p->alone_since = 0;
        return PATIENCE_MS[reach];
    }
    if (p->alone_since == 0) {
        p->alone_since = now;
    }
    return PATIENCE_MS[now - p->alone_since < PATIENCE_MS[HAPOOL_REACH_NOT] ? HAPOOL_REACH_UNKNOWN
                                                                            : HAPOOL_REACH_NOT];
}

bool
hapool_is_due(struct hapool_patience *p,
              enum hapool_reach reach,
              const struct pcp_session *view,
              const struct pcp_op *ops,
              size_t n,
              int64_t now)
{
    const int64_t patience = patience_of(p, reach, now);

    if (has_moved(p, view) || p->since == 0) {
        p->since = now;
    }
    if (n == 0) {
        p->since = 0;
        return false;
    }
    if (now - p->since < patience ||
        (p->told_at != 0 && now - p->told_at < AGAIN_MS && is_said(p, ops, n))) {
        return false;
    }
    p->since = now;
    p->told_at = now;
    p->n_told = n;
    memcpy(p->told, ops, n * sizeof *ops);
    return true;
}

static void
tell(const struct hapool_config *config,
     const struct hapool_fact *fact,
     const struct pcp_op *ops,
     size_t n,
     char *text,
     size_t size)
{
    static struct pcp_session session;
    const int rc = hapool_pcp(config, ops, n, &session);

    (void)snprintf(text,
                   size,
                   "%s is the primary of reign %llu, Pgpool was told so and of who is away%s%s",
                   fact->primary[0] == 0 ? "nobody" : fact->primary,
                   (unsigned long long)fact->reign,
                   rc == HA_OK      ? ""
                   : rc == HA_EAUTH ? ": it still has an older PCP password: "
                                    : ": ",
                   rc == HA_OK ? "" : session.err.text);
}

int64_t
hapool_follow(const struct hapool_config *config,
              struct hapool_patience *patience,
              struct hapool_fact *fact,
              char *text,
              size_t size)
{
    const struct pcp_op look = {.verb = PCP_NODE_INFO};
    static struct pcp_session session;
    struct pcp_op ops[PCP_OPS_MAX];
    size_t n;

    text[0] = 0;
    hapool_ask(config, fact);
    if ((fact->primary[0] == 0 && fact->led_term == 0) ||
        hapool_pcp(config, &look, 1, &session) != HA_OK) {
        patience->since = 0;
        return LOOK_MS;
    }
    n = hapool_difference(config, fact, &session, ops);
    if (hapool_is_due(patience, fact->reach, &session, ops, n, hapool_now_ms())) {
        tell(config, fact, ops, n, text, size);
    }
    return n > 0 || fact->reach == HAPOOL_REACH_NOT ? LOOK_CLOSELY_MS : LOOK_MS;
}
