#include "agent/net/api_picture.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- words ---- */

void
picture_lsn(uint64_t lsn, char out[PICTURE_LSN_MAX])
{
    (void)snprintf(
        out, PICTURE_LSN_MAX, "%X/%X", (unsigned)(lsn >> 32), (unsigned)(lsn & 0xffffffffu));
}

void
picture_time(uint64_t wall_ms, char out[PICTURE_TIME_MAX])
{
    const time_t s = (time_t)(wall_ms / 1000);
    char when[PICTURE_TIME_MAX / 2];
    struct tm tm;

    if (gmtime_r(&s, &tm) == NULL || strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm) == 0) {
        when[0] = 0;
    }
    (void)snprintf(out, PICTURE_TIME_MAX, "%s.%03u+00:00", when, (unsigned)(wall_ms % 1000));
}

const char *
picture_pg_state(const struct pg_facts *pg, uint8_t op)
{
    if (op == PG_OP_INITDB) {
        return "initializing new cluster";
    }
    if (op == PG_OP_CLONE || (pg->clone_total_bytes != 0 && pg->run != PG_RUN_UP)) {
        return "creating replica";
    }
    switch ((enum pg_run)pg->run) {
    case PG_RUN_STARTING:
        return "starting";
    case PG_RUN_UP:
        return "running";
    case PG_RUN_STOPPING:
        return "stopping";
    case PG_RUN_STOPPED:
        return pg->data == PG_DATA_EMPTY ? "uninitialized"
               : pg->exit_status != 0    ? "crashed"
                                         : "stopped";
    case PG_RUN_UNKNOWN:
    case PG_RUN_COUNT:
    default:
        return "unknown";
    }
}

static const char *
role_of(const struct picture_member *m, const struct state *s)
{
    if (m->kind == MEMBER_WITNESS) {
        return "witness";
    }
    if (m->is_leader) {
        return "primary";
    }
    return m->id != 0 && m->id == s->holder && !s->is_vacant ? "holder" : "replica";
}

static const char *
state_of(const struct picture_member *m, const struct state *s)
{
    const struct pg_facts *pg = &m->status.pg;

    if (!m->is_known) {
        return "unknown";
    }
    if (!m->is_fresh) {
        return "unreachable";
    }
    if (m->kind == MEMBER_WITNESS) {
        return "voting";
    }
    if (pg->data == PG_DATA_DAMAGED && pg->run == PG_RUN_STOPPED) {
        return "damaged";
    }
    if (pg->run != PG_RUN_UP || !pg->is_in_recovery) {
        return picture_pg_state(pg, 0);
    }
    if (pg->is_streaming) {
        return "streaming";
    }
    return s->reign != 0 && m->status.frozen_reign == s->reign ? "frozen" : "not streaming";
}

/* ---- the members ---- */

/* What an agent knows of itself, at this very moment; its last message may be 100 ms old. */
static struct status
own_status(const struct picture *p)
{
    const struct core *core = p->view->core;
    struct status st = core->status;

    st.id = core->durable.id;
    st.generation = core->state.generation;
    st.members_generation = core->state.members_generation;
    st.reign = core->state.reign;
    st.holder = core->state.holder;
    st.lease_left_ms = p->has_lease ? (int32_t)mono_sub(core->lease.deadline, p->view->now) : 0;
    st.frozen_reign = core->frozen_reign;
    st.raft_term = core->raft.term;
    st.raft_leader = core->raft.leader;
    st.raft_role = core->raft.role;
    st.raft_applied = core->state_index;
    st.declared = declaration_digest(&core->config.declaration);
    st.is_nofailover = core->config.is_nofailover;
    st.is_nosync = core->config.is_nosync;
    st.is_noloadbalance = core->config.is_noloadbalance;
    st.priority = core->config.priority;
    st.sync = core->sync.phase;
    st.n_sync = core->sync.n_streaming;
    st.is_closed = core->sync.is_closed;
    st.rule = core->rule;
    memcpy(st.why, core->why, sizeof st.why);
    memcpy(st.name, core->config.name, sizeof st.name);
    st.pg = core->pg;
    return st;
}

static const struct peer_view *
find_peer(const struct core *core, const char *address)
{
    for (size_t i = 0; i < CORE_PEERS_MAX; i++) {
        if (core->peers[i].address[0] != 0 && strcmp(core->peers[i].address, address) == 0) {
            return &core->peers[i];
        }
    }
    return NULL;
}

static bool
is_open(const struct picture_member *m, const struct state *s)
{
    return m->is_fresh && m->id != 0 && m->id == s->holder && !s->is_vacant &&
           m->status.lease_left_ms > 0 && m->status.pg.run == PG_RUN_UP &&
           !m->status.pg.is_in_recovery;
}

static void
add_member(struct picture *p, const char *address, uint8_t kind, uint64_t id, const char *name)
{
    const struct core *core = p->view->core;
    struct picture_member *m = &p->members[p->n++];

    memset(m, 0, sizeof *m);
    m->address = address;
    m->kind = kind;
    m->id = id;
    m->is_self = strcmp(address, core->config.address) == 0;
    if (m->is_self) {
        m->is_known = true;
        m->is_fresh = true;
        m->status = own_status(p);
    } else {
        const struct peer_view *peer = find_peer(core, address);

        if (peer != NULL && peer->is_heard) {
            m->is_known = true;
            m->status = peer->status;
            m->age_ms = mono_sub(p->view->now, peer->heard_at);
            m->is_fresh = peer_is_fresh(core, peer);
            /* The deadline has come nearer since the message was sent. */
            m->status.lease_left_ms = m->age_ms >= m->status.lease_left_ms
                                          ? 0
                                          : m->status.lease_left_ms - (int32_t)m->age_ms;
        }
    }
    m->name = name[0] != 0                            ? name
              : m->is_known && m->status.name[0] != 0 ? m->status.name
                                                      : address;
    m->is_leader = is_open(m, &core->state);
    m->role = role_of(m, &core->state);
    m->state = state_of(m, &core->state);
}

static bool
comes_before(const struct picture_member *a, const struct picture_member *b)
{
    const int by_name = strcmp(a->name, b->name);

    return by_name != 0 ? by_name < 0 : strcmp(a->address, b->address) < 0;
}

/* A name that lies inside the member moves along with it. */
static void
swap(struct picture_member *a, struct picture_member *b)
{
    const bool is_a_inside = a->name == a->status.name;
    const bool is_b_inside = b->name == b->status.name;
    const struct picture_member was = *a;

    *a = *b;
    *b = was;
    a->name = is_b_inside ? a->status.name : a->name;
    b->name = is_a_inside ? b->status.name : b->name;
}

static void
sort_members(struct picture *p)
{
    for (size_t i = 1; i < p->n; i++) {
        for (size_t k = i; k > 0 && comes_before(&p->members[k], &p->members[k - 1]); k--) {
            swap(&p->members[k], &p->members[k - 1]);
        }
    }
}

/* How far everybody is behind the leader, or behind the last word of the holder. */
static void
measure_lags(struct picture *p)
{
    const struct state *s = &p->view->core->state;
    const struct picture_member *ahead = p->leader;

    for (size_t i = 0; ahead == NULL && i < p->n; i++) {
        const struct picture_member *m = &p->members[i];

        if (m->id != 0 && m->id == s->holder && m->is_known && !m->status.pg.is_in_recovery) {
            ahead = m;
        }
    }
    for (size_t i = 0; i < p->n; i++) {
        struct picture_member *m = &p->members[i];
        const struct pg_facts *pg = &m->status.pg;

        if (ahead == NULL || m == ahead || ahead->status.pg.lsn == 0 || !m->is_known ||
            m->kind != MEMBER_DATABASE || pg->lsn == 0) {
            continue;
        }
        const uint64_t lsn = ahead->status.pg.lsn;
        m->has_lag = true;
        m->lag = lsn > pg->lsn ? lsn - pg->lsn : 0;
        m->replay_lag = lsn > pg->replay_lsn ? lsn - pg->replay_lsn : 0;
    }
}

void
picture_make(struct picture *p, const struct api_view *view)
{
    const struct core *core = view->core;
    const struct declaration *d = &core->config.declaration;

    p->view = view;
    p->n = 0;
    p->self = NULL;
    p->leader = NULL;
    p->has_lease = core_has_lease(core) && mono_before(view->now, core->lease.deadline);
    p->is_leader = p->has_lease && core->pg.run == PG_RUN_UP && !core->pg.is_in_recovery;
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        const struct member *m = &core->state.members[i];

        if (member_is_current(m)) {
            add_member(p, m->address, m->kind, m->id, m->name);
        }
    }
    for (size_t i = 0; core->state.members_generation == 0 && p->n < d->n_members; i++) {
        add_member(p, d->members[i].address, d->members[i].kind, 0, "");
    }
    sort_members(p);
    for (size_t i = 0; i < p->n; i++) {
        if (p->members[i].is_self) {
            p->self = &p->members[i];
        }
        if (p->members[i].is_leader) {
            p->leader = &p->members[i];
        }
    }
    measure_lags(p);
}

const char *
picture_address(const struct picture *p, uint64_t id)
{
    const struct member *m = state_member(&p->view->core->state, id);

    return m == NULL ? NULL : m->address;
}

/* ---- JSON ---- */

static json_t *
text_json(const char *text)
{
    json_t *json = json_string(text);

    return json != NULL ? json : json_string("?");
}

void
put_text(json_t *object, const char *key, const char *text)
{
    (void)json_object_set_new(object, key, text_json(text));
}

void
put_text_or_null(json_t *object, const char *key, const char *text)
{
    (void)json_object_set_new(
        object, key, text == NULL || text[0] == 0 ? json_null() : text_json(text));
}

void
put_int(json_t *object, const char *key, int64_t value)
{
    (void)json_object_set_new(object, key, json_integer(value));
}

void
put_u64(json_t *object, const char *key, uint64_t value)
{
    put_int(object, key, value > INT64_MAX ? INT64_MAX : (int64_t)value);
}

void
put_bool(json_t *object, const char *key, bool value)
{
    (void)json_object_set_new(object, key, json_boolean(value));
}

void
put_lsn(json_t *object, const char *key, uint64_t lsn)
{
    char text[PICTURE_LSN_MAX];

    picture_lsn(lsn, text);
    put_text_or_null(object, key, lsn == 0 ? NULL : text);
}

void
put_id(json_t *object, const char *key, uint64_t id)
{
    char text[24];

    (void)snprintf(text, sizeof text, "%016llx", (unsigned long long)id);
    put_text_or_null(object, key, id == 0 ? NULL : text);
}
