/*
 * Our own pictures: /hawser/status, /hawser/history, /hawser/explain.
 */
#include "agent/net/api_picture.h"
#include "store/sync.h"

#include <stdio.h>
#include <string.h>

static const char *
raft_role_text(uint8_t role)
{
    static const char *const texts[] = {"none", "follower", "candidate", "leader"};

    return role < HA_COUNT_OF(texts) ? texts[role] : "none";
}

static const char *
failover_text(uint8_t failover)
{
    return failover == FAILOVER_AUTO ? "auto" : "declared";
}

static json_t *
agent_json(const struct picture *p)
{
    const struct core *core = p->view->core;
    json_t *o = json_object();

    put_text(o, "name", "hawser");
    put_text(o, "version", HAWSER_VERSION);
    put_text(o, "address", core->config.address);
    put_text(o, "node", core->config.name);
    put_int(o, "uptime_ms", mono_sub(p->view->now, core->started_at));
    put_u64(o, "log_lost", p->view->log_lost);
    return o;
}

static json_t *
declaration_json(const struct picture *p)
{
    const struct state *s = &p->view->core->state;
    const struct declaration *d = &s->declaration;
    json_t *o = json_object();
    json_t *members = json_array();

    put_u64(o, "generation", s->generation);
    put_u64(o, "acted_generation", s->acted_generation);
    put_u64(o, "number", d->number);
    put_text_or_null(o, "primary", d->primary);
    put_text_or_null(o, "declared_by", s->declared_by);
    put_text(o, "failover", failover_text(d->failover));
    put_int(o, "lease_ms", d->lease_ms);
    put_u64(o, "max_lag", d->max_lag);
    put_text(o, "sync", sync_mode_text(d->sync));
    put_int(o, "sync_count", d->sync_count);
    for (size_t i = 0; i < d->n_members && i < HA_MEMBERS_MAX; i++) {
        json_t *m = json_object();

        put_text(m, "address", d->members[i].address);
        put_text(m, "kind", d->members[i].kind == MEMBER_WITNESS ? "witness" : "database");
        (void)json_array_append_new(members, m);
    }
    (void)json_object_set_new(o, "members", members);
    return o;
}

static json_t *
reign_row_json(const struct picture *p, const struct reign_row *row)
{
    const struct member *m = state_member(&p->view->core->state, row->holder);
    json_t *o = json_object();
    char when[PICTURE_TIME_MAX];

    picture_time(row->wall_ms, when);
    put_u64(o, "reign", row->reign);
    put_text(o, "holder", row->holder_address);
    put_text_or_null(o, "holder_name", m == NULL ? NULL : m->name);
    put_text(o, "since", when);
    put_text(o, "why", row->why);
    if (row->timeline != 0) {
        put_int(o, "timeline", row->timeline);
        put_lsn(o, "fork_lsn", row->fork_lsn);
    }
    return o;
}

static json_t *
reign_json(const struct picture *p)
{
    const struct state *s = &p->view->core->state;
    const struct reign_row *row = state_reign(s, s->reign);
    json_t *o = row == NULL ? json_object() : reign_row_json(p, row);

    put_u64(o, "reign", s->reign);
    put_bool(o, "is_vacant", s->is_vacant);
    put_bool(o, "is_opened", s->is_opened);
    if (s->is_vacant) {
        put_lsn(o, "final_lsn", s->final_lsn);
    }
    put_text_or_null(o, "handover", picture_address(p, s->handover));
    return o;
}

static json_t *
raft_json(const struct picture *p)
{
    const struct core *core = p->view->core;
    json_t *o = json_object();

    put_text(o, "role", raft_role_text(core->raft.role));
    put_u64(o, "term", core->raft.term);
    put_text_or_null(o, "leader", picture_address(p, core->raft.leader));
    put_bool(o, "is_ready", core->raft.is_ready);
    put_u64(o, "applied", core->state_index);
    return o;
}

static uint64_t
percent(uint64_t done, uint64_t total)
{
    return done >= total ? 100 : done * 100 / total;
}

static void
put_postgres(json_t *o, const struct picture_member *m)
{
    const struct pg_facts *pg = &m->status.pg;
    const uint32_t timeline = pg->run == PG_RUN_UP ? pg->timeline : pg->control_timeline;

    if (timeline != 0) {
        put_int(o, "timeline", timeline);
        put_id(o, "lineage", pg->lineage); /* two forks may bear one number */
    }
    put_lsn(o, "lsn", pg->lsn);
    if (pg->is_in_recovery) {
        put_lsn(o, "replay_lsn", pg->replay_lsn);
    }
    if (m->has_lag) {
        put_u64(o, "lag", m->lag);
        put_u64(o, "replay_lag", m->replay_lag);
    }
    put_text_or_null(o, "upstream", pg->upstream);
    put_bool(o, "is_streaming", pg->run == PG_RUN_UP && pg->is_in_recovery && pg->is_streaming);
    put_bool(o, "is_in_recovery", pg->is_in_recovery);
    if (pg->version != 0) {
        put_int(o, "postgres", pg->version);
    }
    if (pg->clone_total_bytes != 0) {
        put_u64(o, "clone_done_bytes", pg->clone_done_bytes);
        put_u64(o, "clone_total_bytes", pg->clone_total_bytes);
        put_u64(o, "clone_percent", percent(pg->clone_done_bytes, pg->clone_total_bytes));
        put_u64(o, "clone_bytes_per_second", pg->clone_rate);
    }
}

/* What the canary and the look at its host say. */
static void
put_health(json_t *o, const struct status *st)
{
    put_text(o, "health", health_text(st->health));
    put_int(o, "stuck_processes", st->n_stuck);
    if (st->commit_us != 0) {
        put_int(o, "commit_us", st->commit_us);
    }
    if (st->disk_free != 0) {
        put_u64(o, "disk_free", st->disk_free);
    }
}

static json_t *
member_json(const struct picture *p, const struct picture_member *m)
{
    const struct status *st = &m->status;
    json_t *o = json_object();

    put_text(o, "name", m->name);
    put_text(o, "address", m->address);
    put_id(o, "id", m->id);
    put_text(o, "kind", m->kind == MEMBER_WITNESS ? "witness" : "database");
    put_text(o, "role", m->role);
    put_text(o, "state", m->state);
    put_bool(o, "is_self", m->is_self);
    put_bool(o, "is_fresh", m->is_fresh);
    if (m->kind == MEMBER_DATABASE && p->view->core->raft.is_ready) {
        put_text(o,
                 "gateway",
                 picture_want_text(gateways_want_now(&p->view->core->gateways, m->address)));
    }
    if (!m->is_known) {
        return o;
    }
    put_int(o, "age_ms", m->age_ms);
    if (m->kind == MEMBER_DATABASE) {
        put_postgres(o, m);
        put_health(o, st);
    }
    put_int(o, "lease_left_ms", st->lease_left_ms);
    put_bool(o, "is_closed", st->is_closed);
    put_text(o, "raft_role", raft_role_text(st->raft_role));
    put_u64(o, "raft_term", st->raft_term);
    put_u64(o, "raft_applied", st->raft_applied);
    put_u64(o, "generation", st->generation);
    put_u64(o, "members_generation", st->members_generation);
    put_u64(o, "reign", st->reign);
    put_bool(o,
             "is_frozen",
             p->view->core->state.reign != 0 && st->frozen_reign == p->view->core->state.reign);
    put_bool(o, "is_nofailover", st->is_nofailover);
    put_bool(o, "is_nosync", st->is_nosync);
    put_bool(o, "is_noloadbalance", st->is_noloadbalance);
    put_int(o, "priority", st->priority);
    if (m->kind == MEMBER_DATABASE && !m->is_leader) {
        put_text_or_null(o, "unfit", core_why_unfit(p->view->core, m->id));
    }
    put_int(o, "rule", st->rule);
    put_text(o, "why", st->why);
    return o;
}

static void
add_drift(json_t *list, const struct picture_member *m, const char *what, uint64_t of, uint64_t on)
{
    json_t *o = json_object();
    char text[160];

    if (of == 0 && on == 0) {
        (void)snprintf(text, sizeof text, "%s", what);
    } else {
        (void)snprintf(text,
                       sizeof text,
                       "%s %llu of %llu",
                       what,
                       (unsigned long long)of,
                       (unsigned long long)on);
    }
    put_text(o, "address", m->address);
    put_text(o, "name", m->name);
    put_text(o, "what", text);
    (void)json_array_append_new(list, o);
}

/* Where the members do not say or know the same. */
static json_t *
drift_json(const struct picture *p)
{
    const struct state *s = &p->view->core->state;
    const uint64_t digest = declaration_digest(&s->declaration);
    uint64_t generation = s->generation;
    json_t *list = json_array();

    for (size_t i = 0; i < p->n; i++) {
        const struct picture_member *m = &p->members[i];

        if (m->is_fresh && m->status.generation > generation) {
            generation = m->status.generation;
        }
    }
    for (size_t i = 0; s->cluster_id != 0 && i < p->n; i++) {
        const struct picture_member *m = &p->members[i];

        if (!m->is_fresh) {
            continue;
        }
        if (m->status.declared != digest) {
            add_drift(list, m, "its environment is not the declaration in force", 0, 0);
        }
        if (m->status.generation < generation) {
            add_drift(list, m, "it knows declaration", m->status.generation, generation);
        }
        if (s->sysid != 0 && m->status.pg.sysid != 0 && m->status.pg.sysid != s->sysid) {
            add_drift(list, m, "its data belong to another cluster", 0, 0);
        }
    }
    return list;
}

static json_t *
governor_json(const struct core *core)
{
    json_t *o = json_object();

    put_int(o, "rule", core->governor_rule);
    put_text(o, "why", core->governor_why);
    put_bool(o, "is_here", core->raft.is_ready);
    if (core->freeze_reign != 0) {
        put_u64(o, "freeze_reign", core->freeze_reign);
    }
    return o;
}

json_t *
api_status_json(const struct picture *p)
{
    const struct core *core = p->view->core;
    const struct state *s = &core->state;
    json_t *o = json_object();
    json_t *members = json_array();
    char sysid[24];

    (void)json_object_set_new(o, "agent", agent_json(p));
    put_id(o, "cluster_id", s->cluster_id);
    (void)snprintf(sysid, sizeof sysid, "%llu", (unsigned long long)s->sysid);
    put_text_or_null(o, "sysid", s->sysid == 0 ? NULL : sysid);
    put_int(o, "port_database", p->view->port_database);
    put_int(o, "port_http", p->view->port_http);
    (void)json_object_set_new(o, "declaration", declaration_json(p));
    (void)json_object_set_new(o, "reign", reign_json(p));
    put_text_or_null(
        o, "holder", s->is_vacant || s->reign == 0 ? NULL : picture_address(p, s->holder));
    put_text_or_null(o, "leader", p->leader == NULL ? NULL : p->leader->address);
    put_int(o, "lease_left_ms", p->leader == NULL ? 0 : p->leader->status.lease_left_ms);
    put_bool(o, "is_paused", s->is_paused);
    put_u64(o, "members_generation", s->members_generation);
    put_u64(o, "settled_generation", s->settled_generation);
    (void)json_object_set_new(o, "raft", raft_json(p));
    (void)json_object_set_new(o, "governor", governor_json(core));
    (void)json_object_set_new(o, "sync", api_sync_json(p));
    for (size_t i = 0; i < p->n; i++) {
        (void)json_array_append_new(members, member_json(p, &p->members[i]));
    }
    (void)json_object_set_new(o, "members", members);
    (void)json_object_set_new(o, "drift", drift_json(p));
    (void)json_object_set_new(o, "gateways", api_gateways_json(p));
    return o;
}

json_t *
api_reigns_json(const struct picture *p)
{
    const struct state *s = &p->view->core->state;
    json_t *o = json_object();
    json_t *list = json_array();

    for (uint32_t i = 0; i < s->n_history; i++) {
        (void)json_array_append_new(list, reign_row_json(p, &s->history[i]));
    }
    (void)json_object_set_new(o, "reigns", list);
    return o;
}

static json_t *
promise_json(const struct picture *p)
{
    const struct promise *promise = &p->view->core->promise;
    const int64_t left = mono_sub(promise->until, p->view->now);
    const int64_t quiet = mono_sub(promise->quiet_until, p->view->now);
    json_t *o = json_object();

    put_u64(o, "reign", promise->reign);
    put_text_or_null(o, "holder", picture_address(p, promise->holder));
    put_int(o, "left_ms", promise->reign == 0 || left < 0 ? 0 : left);
    put_int(o, "quiet_ms", quiet < 0 ? 0 : quiet);
    return o;
}

static const char *
operation_text(uint8_t op)
{
    static const char *const texts[] = {"none",
                                        "initdb",
                                        "clone",
                                        "start as primary",
                                        "start as standby",
                                        "follow",
                                        "promote",
                                        "checkpoint",
                                        "stop",
                                        "reload",
                                        "rewind"};

    return op < HA_COUNT_OF(texts) ? texts[op] : "none";
}

json_t *
api_explain_json(const struct picture *p)
{
    const struct core *core = p->view->core;
    json_t *o = json_object();

    (void)json_object_set_new(o, "agent", agent_json(p));
    put_text(o, "role", p->self == NULL ? "no member yet" : p->self->role);
    put_text(o, "state", p->self == NULL ? "unknown" : p->self->state);
    put_int(o, "rule", core->rule);
    put_text(o, "why", core->why);
    put_text(o, "operation", operation_text(core->pg_op));
    put_int(o, "operation_ms", core->pg_op == 0 ? 0 : mono_sub(p->view->now, core->pg_op_at));
    put_bool(o, "is_killing", core->is_killing);
    put_bool(o, "has_lease", p->has_lease);
    put_int(o, "lease_left_ms", p->has_lease ? mono_sub(core->lease.deadline, p->view->now) : 0);
    put_bool(o, "is_stopping", core->is_stopping);
    (void)json_object_set_new(o, "promise", promise_json(p));
    (void)json_object_set_new(o, "raft", raft_json(p));
    (void)json_object_set_new(o, "governor", governor_json(core));
    return o;
}
