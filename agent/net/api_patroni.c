/*
 * Patroni's shapes: what monitors and gateways that know Patroni read.
 */
#include "agent/net/api_picture.h"

#include <stdio.h>
#include <string.h>

#include "store/sync.h"

#define PATRONI_LEVEL "4.1.0" /* whose API this is; monitors compare it as a number */
#define SCOPE "hawser"

static const char *
patroni_role(const struct picture *p)
{
    const struct core *core = p->view->core;

    return p->is_leader || (core->pg.run == PG_RUN_UP && !core->pg.is_in_recovery) ? "primary"
                                                                                   : "replica";
}

static json_t *
xlog_json(const struct pg_facts *pg)
{
    json_t *xlog = json_object();

    if (!pg->is_in_recovery) {
        put_u64(xlog, "location", pg->lsn);
        return xlog;
    }
    put_u64(xlog, "received_location", pg->lsn);
    put_u64(xlog, "replayed_location", pg->replay_lsn);
    (void)json_object_set_new(xlog, "replayed_timestamp", json_null());
    put_bool(xlog, "paused", false);
    return xlog;
}

/* Who streams from this member, as the members' own words have it. */
/* A commit may be acknowledged because this one has it. */
static bool
is_counted(const struct picture *p, const struct picture_member *m)
{
    const struct state *s = &p->view->core->state;

    return s->sync_count != 0 && (sync_bit(s, m->id) & s->sync_set) != 0;
}

static json_t *
replication_json(const struct picture *p)
{
    json_t *list = json_array();

    for (size_t i = 0; i < p->n; i++) {
        const struct picture_member *m = &p->members[i];

        if (m->is_self || !m->is_fresh || !m->status.pg.is_streaming ||
            strcmp(m->status.pg.upstream, p->view->core->config.address) != 0) {
            continue;
        }
        json_t *row = json_object();
        put_text(row, "application_name", m->name);
        put_text(row, "client_addr", m->address);
        put_text(row, "state", "streaming");
        put_text(row, "sync_state", is_counted(p, m) ? "quorum" : "async");
        put_int(row, "sync_priority", is_counted(p, m));
        (void)json_array_append_new(list, row);
    }
    return list;
}

static void
put_tags(json_t *object, const struct status *st)
{
    json_t *tags = json_object();

    if (st->is_nofailover) {
        put_bool(tags, "nofailover", true);
    }
    if (st->is_noloadbalance) {
        put_bool(tags, "noloadbalance", true);
    }
    if (st->is_nosync) {
        put_bool(tags, "nosync", true);
    }
    if (json_object_size(tags) != 0) {
        (void)json_object_set(object, "tags", tags);
    }
    json_decref(tags);
}

static void
put_database(json_t *object, const struct picture *p)
{
    const struct core *core = p->view->core;
    const struct pg_facts *pg = &core->pg;
    json_t *replication;
    char sysid[24];

    if (pg->version != 0) {
        put_int(object, "server_version", (int64_t)pg->version * 10000);
    }
    if (pg->run == PG_RUN_UP) {
        (void)json_object_set_new(object, "xlog", xlog_json(pg));
        put_int(object, "timeline", pg->timeline);
        replication = replication_json(p);
        if (json_array_size(replication) > 0) {
            (void)json_object_set(object, "replication", replication);
        }
        json_decref(replication);
        if (pg->is_in_recovery && pg->is_streaming) {
            put_text(object, "replication_state", "streaming");
        }
    }
    if (pg->sysid != 0) {
        (void)snprintf(sysid, sizeof sysid, "%llu", (unsigned long long)pg->sysid);
        put_text(object, "database_system_identifier", sysid);
    }
}

json_t *
api_patroni_json(const struct picture *p)
{
    const struct core *core = p->view->core;
    json_t *object = json_object();
    json_t *patroni = json_object();
    json_t *agent = json_object();

    put_text(object, "state", picture_pg_state(&core->pg, core->pg_op));
    put_text(object, "role", patroni_role(p));
    put_database(object, p);
    if (core->state.is_paused) {
        put_bool(object, "pause", true);
    }
    if (p->leader == NULL) {
        put_bool(object, "cluster_unlocked", true);
    }
    /* Our store is the group of agents itself: seen while it has a leader. */
    put_u64(object, "dcs_last_seen", core->raft.leader != 0 ? p->view->wall_ms / 1000 : 0);
    put_tags(object, &core->status);
    if (p->view->log_queued > 0) {
        put_u64(object, "logger_queue_size", p->view->log_queued);
    }
    if (p->view->log_lost > 0) {
        put_u64(object, "logger_records_lost", p->view->log_lost);
    }
    put_text(patroni, "version", PATRONI_LEVEL);
    put_text(patroni, "scope", SCOPE);
    put_text(patroni, "name", core->config.name);
    (void)json_object_set_new(object, "patroni", patroni);
    put_text(agent, "name", "hawser");
    put_text(agent, "version", HAWSER_VERSION);
    (void)json_object_set_new(object, "agent", agent);
    return object;
}

static void
put_lag(json_t *object, const struct picture_member *m)
{
    const struct pg_facts *pg = &m->status.pg;
    const bool is_running = m->is_fresh && pg->run == PG_RUN_UP;
    static const char *const lsns[] = {"receive_lsn", "replay_lsn", "lsn"};
    static const char *const lags[] = {"receive_lag", "replay_lag", "lag"};

    for (size_t i = 0; i < HA_COUNT_OF(lsns); i++) {
        /* Patroni's `lsn` and `lag` are the replayed ones' better half: what it received. */
        const bool is_replay = i == 1;
        const uint64_t lsn = is_replay ? pg->replay_lsn : pg->lsn;

        if (!is_running || lsn == 0) {
            put_text(object, lsns[i], "unknown");
        } else {
            put_lsn(object, lsns[i], lsn);
        }
        if (!is_running || !m->has_lag) {
            put_text(object, lags[i], "unknown");
        } else {
            put_u64(object, lags[i], is_replay ? m->replay_lag : m->lag);
        }
    }
}

static json_t *
cluster_member_json(const struct picture *p, const struct picture_member *m)
{
    const struct pg_facts *pg = &m->status.pg;
    const bool is_v6 = strchr(m->address, ':') != NULL;
    json_t *object = json_object();
    char url[HA_ADDRESS_MAX + 40];

    (void)snprintf(url,
                   sizeof url,
                   is_v6 ? "http://[%s]:%u/patroni" : "http://%s:%u/patroni",
                   m->address,
                   p->view->port_http);
    put_text(object, "name", m->name);
    put_text(object, "role", m->is_leader ? "leader" : "replica");
    put_text(object,
             "state",
             !m->is_known || !m->is_fresh               ? m->state
             : pg->run == PG_RUN_UP && pg->is_streaming ? "streaming"
                                                        : picture_pg_state(pg, 0));
    put_text(object, "api_url", url);
    put_text(object, "host", m->address);
    put_int(object, "port", p->view->port_database);
    if (m->is_fresh && pg->run == PG_RUN_UP) {
        put_int(object, "timeline", pg->timeline);
    }
    if (m->is_known) {
        put_tags(object, &m->status);
    }
    if (!m->is_leader) {
        put_lag(object, m);
    }
    return object;
}

json_t *
api_cluster_json(const struct picture *p)
{
    json_t *object = json_object();
    json_t *members = json_array();

    for (size_t i = 0; i < p->n; i++) {
        if (p->members[i].kind == MEMBER_DATABASE) {
            (void)json_array_append_new(members, cluster_member_json(p, &p->members[i]));
        }
    }
    (void)json_object_set_new(object, "members", members);
    put_text(object, "scope", SCOPE);
    if (p->view->core->state.is_paused) {
        put_bool(object, "pause", true);
    }
    return object;
}

/* [timeline that ended, where, why, when, new leader] */
json_t *
api_history_json(const struct picture *p)
{
    const struct state *s = &p->view->core->state;
    json_t *list = json_array();
    uint32_t before = 0;

    for (uint32_t i = 0; i < s->n_history; i++) {
        const struct reign_row *row = &s->history[i];
        const struct member *m = state_member(s, row->holder);
        char when[PICTURE_TIME_MAX];

        if (row->timeline == 0) {
            continue;
        }
        if (before != 0 && before != row->timeline) {
            json_t *line = json_array();

            picture_time(row->wall_ms, when);
            (void)json_array_append_new(line, json_integer(before));
            (void)json_array_append_new(line, json_integer((int64_t)row->fork_lsn));
            (void)json_array_append_new(line, json_string(row->why));
            (void)json_array_append_new(line, json_string(when));
            (void)json_array_append_new(
                line, json_string(m != NULL && m->name[0] != 0 ? m->name : row->holder_address));
            (void)json_array_append_new(list, line);
        }
        before = row->timeline;
    }
    return list;
}

json_t *
api_config_json(const struct picture *p)
{
    const struct declaration *d = &p->view->core->state.declaration;
    json_t *object = json_object();

    put_int(object, "ttl", (d->lease_ms + 999) / 1000);
    put_u64(object, "maximum_lag_on_failover", d->max_lag);
    put_bool(object, "synchronous_mode", d->sync != SYNC_OFF);
    put_bool(object, "pause", p->view->core->state.is_paused);
    return object;
}
