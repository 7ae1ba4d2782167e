/*
 * The health checks: who may be sent what. Patroni's rules (docs/http-api.md).
 *
 * L: this member holds the lease and its PostgreSQL is a primary that is up.
 * R: its PostgreSQL is up and in recovery, and the filters of the query pass.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/net/api_picture.h"
#include "store/sync.h"

#define LOOP_STALL_MS 5000

/* "16kB", "10MB", "1GB", or bytes; false when it cannot be read: then there is no limit. */
static bool
parse_lag(const char *text, uint64_t *out)
{
    static const struct {
        const char *unit;
        unsigned shift;
    } units[] = {{"", 0}, {"B", 0}, {"kB", 10}, {"MB", 20}, {"GB", 30}, {"TB", 40}};
    char *end = NULL;
    const unsigned long long number = strtoull(text, &end, 10);

    for (size_t i = 0; end != text && i < HA_COUNT_OF(units); i++) {
        if (strcmp(end, units[i].unit) == 0 && number < 1ULL << 20 << (40 - units[i].shift)) {
            *out = number << units[i].shift;
            return true;
        }
    }
    return false;
}

static uint64_t
own_lag(const struct picture *p, bool is_received)
{
    const struct picture_member *m = p->self;

    return m == NULL || !m->has_lag ? 0 : is_received ? m->lag : m->replay_lag;
}

/* Every tag that is asked for must be there. A tag of ours that is not set counts as missing. */
static bool
tags_pass(const struct picture *p, const char *query)
{
    const char *at = query;

    while ((at = strstr(at, "tag_")) != NULL) {
        if (at == query || at[-1] == '&') {
            char value[16] = "";

            if (strncmp(at, "tag_nofailover=", 15) != 0 || !p->view->core->config.is_nofailover ||
                !http_query_get(query, "tag_nofailover", value, sizeof value) ||
                strcmp(value, "true") != 0) {
                return false;
            }
        }
        at += 4;
    }
    return true;
}

static bool
is_replica(const struct picture *p, const char *query)
{
    const struct pg_facts *pg = &p->view->core->pg;
    char value[32];
    uint64_t limit;

    if (pg->run != PG_RUN_UP || !pg->is_in_recovery || !tags_pass(p, query) ||
        p->view->core->config.is_noloadbalance || !health_serves(p->view->core->verdict)) {
        return false;
    }
    if (http_query_get(query, "replication_state", value, sizeof value) &&
        strcmp(value, pg->is_streaming ? "streaming" : "") != 0) {
        return false;
    }
    return !http_query_get(query, "lag", value, sizeof value) || !parse_lag(value, &limit) ||
           own_lag(p, false) <= limit;
}

static bool
is_ready(const struct picture *p, const char *query)
{
    const struct core *core = p->view->core;
    uint64_t limit = core->state.declaration.max_lag;
    char value[32];
    bool is_write;

    if (p->is_leader) {
        return true;
    }
    if (core->raft.leader == 0 || core->pg.run != PG_RUN_UP || !core->pg.is_streaming ||
        !health_serves(core->verdict)) {
        return false;
    }
    is_write = http_query_get(query, "mode", value, sizeof value) && strcmp(value, "write") == 0;
    if (http_query_get(query, "lag", value, sizeof value) && parse_lag(value, &limit)) {
        return own_lag(p, is_write) <= limit;
    }
    return limit == 0 || own_lag(p, is_write) <= limit;
}

/* Somebody answers, so the loop turns; and the core was told the time lately. */
static bool
is_alive(const struct picture *p)
{
    return mono_sub(p->view->now, p->view->core->now) < LOOP_STALL_MS;
}

/* Commits may be acknowledged because this member has them. */
static bool
is_synchronous(const struct picture *p)
{
    const struct state *s = &p->view->core->state;

    return s->sync_count != 0 && (sync_bit(s, p->view->core->durable.id) & s->sync_set) != 0;
}

static bool
passes(const struct picture *p, const char *word, const char *query)
{
    static const struct {
        const char *word;
        bool wants_group; /* 503 while the group of agents has no leader */
        bool primary;
        enum { NO, YES, IN_SET, OUTSIDE } replica;
    } rules[] = {
        /* clang-format off */
        {"", false, true, NO},
        {"primary", false, true, NO},
        {"master", false, true, NO},
        {"read-write", false, true, NO},
        {"leader", false, true, NO},
        {"standby-leader", false, false, NO},
        {"standby_leader", false, false, NO},
        {"replica", false, false, YES},
        {"read-only", false, true, YES},
        {"sync", true, false, IN_SET},
        {"synchronous", true, false, IN_SET},
        {"quorum", true, false, IN_SET},
        {"async", true, false, OUTSIDE},
        {"asynchronous", true, false, OUTSIDE},
        {"read-only-sync", true, true, IN_SET},
        {"read-only-synchronous", true, true, IN_SET},
        {"read-only-quorum", true, true, IN_SET},
        /* clang-format on */
    };

    for (size_t i = 0; i < HA_COUNT_OF(rules); i++) {
        if (strcmp(rules[i].word, word) != 0) {
            continue;
        }
        if (rules[i].primary && p->is_leader && !p->view->core->sync.is_closed) {
            return true;
        }
        if (rules[i].replica >= IN_SET && (rules[i].replica == IN_SET) != is_synchronous(p)) {
            return false;
        }
        return rules[i].replica != NO &&
               !(rules[i].wants_group && p->view->core->raft.leader == 0) && is_replica(p, query);
    }
    return false;
}

int
api_health_status(const struct picture *p, const char *word, const char *query)
{
    if (strcmp(word, "health") == 0) {
        return p->view->core->pg.run == PG_RUN_UP ? 200 : 503;
    }
    if (strcmp(word, "liveness") == 0) {
        return is_alive(p) ? 200 : 503;
    }
    if (strcmp(word, "readiness") == 0) {
        return is_ready(p, query) ? 200 : 503;
    }
    return passes(p, word, query) ? 200 : 503;
}
