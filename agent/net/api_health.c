/*
 * The health checks: who may be sent what. Patroni's rules (docs/http-api.md).
 *
 * L: this member holds the lease and its PostgreSQL is a primary that is up.
 * R: its PostgreSQL is up and in recovery, and the filters of the query pass.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/net/api_picture.h"

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

    if (pg->run != PG_RUN_UP || !pg->is_in_recovery || !tags_pass(p, query)) {
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
    if (core->raft.leader == 0 || core->pg.run != PG_RUN_UP || !core->pg.is_streaming) {
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

/* There are no synchronous standbys yet: every replica is an asynchronous one. */
static bool
passes(const struct picture *p, const char *word, const char *query)
{
    static const struct {
        const char *word;
        bool wants_group; /* 503 while the group of agents has no leader */
        bool primary;
        bool replica;
    } rules[] = {
        /* clang-format off */
        {"", false, true, false},
        {"primary", false, true, false},
        {"master", false, true, false},
        {"read-write", false, true, false},
        {"leader", false, true, false},
        {"standby-leader", false, false, false},
        {"standby_leader", false, false, false},
        {"replica", false, false, true},
        {"read-only", false, true, true},
        {"sync", true, false, false},
        {"synchronous", true, false, false},
        {"quorum", true, false, false},
        {"async", true, false, true},
        {"asynchronous", true, false, true},
        {"read-only-sync", true, true, false},
        {"read-only-synchronous", true, true, false},
        {"read-only-quorum", true, true, false},
        /* clang-format on */
    };

    for (size_t i = 0; i < HA_COUNT_OF(rules); i++) {
        if (strcmp(rules[i].word, word) != 0) {
            continue;
        }
        if (rules[i].primary && p->is_leader) {
            return true;
        }
        return rules[i].replica && !(rules[i].wants_group && p->view->core->raft.leader == 0) &&
               is_replica(p, query);
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
