/*
 * core_scenes.h - pictures of a core for the tests of what shows it.
 *
 * Three databases (n1 to n3) and a witness (w); what differs is told by each scene's name.
 */
#ifndef HA_TESTS_UNIT_CORE_SCENES_H
#define HA_TESTS_UNIT_CORE_SCENES_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/core.h"

#define SCENE_NOW_MS 1000000
#define SCENE_WALL_MS 1795381200123ULL
#define SCENE_SYSID 7412345678901234567ULL

static const char *const SCENE_IPS[] = {"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.9"};
static const char *const SCENE_NAMES[] = {"n1", "n2", "n3", "w"};

#define SCENE_TEXT(field, text) ((void)snprintf((field), sizeof(field), "%s", (text)))

static inline void
scene_declare(struct declaration *d, unsigned primary)
{
    SCENE_TEXT(d->primary, SCENE_IPS[primary]);
    d->lease_ms = 2000;
    d->max_lag = 16 << 20;
    d->failover = FAILOVER_AUTO;
    d->n_members = 4;
    for (unsigned i = 0; i < 4; i++) {
        SCENE_TEXT(d->members[i].address, SCENE_IPS[i]);
        d->members[i].kind = i == 3 ? MEMBER_WITNESS : MEMBER_DATABASE;
    }
}

static inline void
scene_reign(struct state *s, uint64_t reign, unsigned holder, uint32_t timeline, const char *why)
{
    struct reign_row *row = &s->history[s->n_history++];

    s->reign = reign;
    s->holder = s->members[holder].id;
    s->is_opened = true;
    s->opened_reign = reign;
    s->timeline = timeline;
    row->reign = reign;
    row->holder = s->holder;
    row->wall_ms = SCENE_WALL_MS - 60000 + reign * 1000;
    row->timeline = timeline;
    row->fork_lsn = timeline == 1 ? 0 : 0x3000000 + reign;
    row->lineage = timeline; /* any, but one for each */
    s->lineage = row->lineage;
    SCENE_TEXT(row->holder_address, SCENE_IPS[holder]);
    SCENE_TEXT(row->why, why);
}

static inline struct pg_facts
scene_pg(bool is_primary, uint64_t lsn, const char *upstream)
{
    struct pg_facts pg = {.run = PG_RUN_UP, .sysid = SCENE_SYSID, .timeline = 2, .version = 15};

    pg.lineage = pg.timeline;
    pg.data = is_primary ? PG_DATA_PRIMARY : PG_DATA_STANDBY;
    pg.is_in_recovery = !is_primary;
    pg.is_streaming = !is_primary;
    pg.lsn = lsn;
    pg.replay_lsn = is_primary ? 0 : lsn - 0x20;
    SCENE_TEXT(pg.upstream, upstream);
    return pg;
}

static inline struct status
scene_status(const struct core *core, unsigned i)
{
    struct status st = {.cluster_id = core->state.cluster_id,
                        .id = core->state.members[i].id,
                        .uptime_ms = 500000,
                        .generation = core->state.generation,
                        .members_generation = 1,
                        .reign = core->state.reign,
                        .holder = core->state.holder,
                        .raft_term = 7,
                        .raft_leader = core->state.members[1].id,
                        .raft_applied = 42,
                        .raft_role = i == 1 ? 3 : 1,
                        .rule = i == 0   ? 340
                                : i == 3 ? 300
                                         : 360};

    st.declared = declaration_digest(&core->config.declaration);
    SCENE_TEXT(st.name, SCENE_NAMES[i]);
    SCENE_TEXT(st.why, i == 0 ? "the primary" : i == 3 ? "a witness" : "streaming from 10.0.0.1");
    if (i != 3) {
        st.pg = scene_pg(
            i == 0, i == 0 ? 0x5000100 : 0x5000100 - 0x100 * i, i == 0 ? "" : SCENE_IPS[0]);
    }
    st.lease_left_ms = i == 0 ? 1700 : 0;
    return st;
}

/* The core of member `self` of a healthy cluster: n1 reigns, n2 leads Raft. */
static inline void
scene_healthy(struct core *core, unsigned self)
{
    struct state *s = &core->state;

    memset(core, 0, sizeof *core);
    SCENE_TEXT(core->config.address, SCENE_IPS[self]);
    SCENE_TEXT(core->config.name, SCENE_NAMES[self]);
    core->config.kind = self == 3 ? MEMBER_WITNESS : MEMBER_DATABASE;
    scene_declare(&core->config.declaration, 0);
    core->now = mono_ms(SCENE_NOW_MS);
    core->started_at = mono_ms(SCENE_NOW_MS - 500000);
    core->wall_ms = SCENE_WALL_MS;
    s->cluster_id = 0xc1c1;
    s->sysid = SCENE_SYSID;
    s->declaration = core->config.declaration;
    s->generation = 3;
    s->acted_generation = 3;
    s->members_generation = 1;
    s->settled_generation = 1;
    SCENE_TEXT(s->declared_by, "10.0.0.2");
    for (unsigned i = 0; i < 4; i++) {
        struct member *m = &s->members[i];

        SCENE_TEXT(m->address, SCENE_IPS[i]);
        SCENE_TEXT(m->name, SCENE_NAMES[i]);
        m->kind = i == 3 ? MEMBER_WITNESS : MEMBER_DATABASE;
        m->joined = 1;
        m->id = member_id(m->address, 1);
    }
    scene_reign(s, 1, 1, 1, "the first reign: the declared primary");
    scene_reign(s, 2, 0, 2, "handover");
    core->state_index = 42;
    core->raft.role = self == 1 ? 3 : 1;
    core->raft.is_ready = self == 1;
    core->raft.term = 7;
    core->raft.leader = s->members[1].id;
    core->durable.id = s->members[self].id;
    core->durable_saved = core->durable;
    core->status = scene_status(core, self);
    core->status_at = mono_ms(SCENE_NOW_MS - 50);
    core->pg = core->status.pg;
    core->rule = core->status.rule;
    SCENE_TEXT(core->why, core->status.why);
    core->governor_rule = self == 1 ? 200 : 0;
    SCENE_TEXT(core->governor_why, self == 1 ? "the declared primary reigns" : "");
    if (self == 0) {
        core->durable.opened_reign = 2;
        core->durable_saved = core->durable;
        core->lease.reign = 2;
        core->lease.deadline = mono_ms(SCENE_NOW_MS + 1800);
    }
    for (unsigned i = 0, n = 0; i < 4; i++) {
        if (i != self) {
            struct peer_view *p = &core->peers[n++];

            SCENE_TEXT(p->address, SCENE_IPS[i]);
            p->is_heard = true;
            p->heard_at = mono_ms(SCENE_NOW_MS - 50);
            p->status = scene_status(core, i);
        }
    }
}

static inline struct peer_view *
scene_peer(struct core *core, unsigned i)
{
    for (size_t k = 0; k < CORE_PEERS_MAX; k++) {
        if (strcmp(core->peers[k].address, SCENE_IPS[i]) == 0) {
            return &core->peers[k];
        }
    }
    abort(); /* no scene lacks a peer */
}

/* n2 sees: n1 is gone, its lease has run out; n3 copies; n3's environment says something else. */
static inline void
scene_primary_lost(struct core *core)
{
    struct status *n3;

    scene_healthy(core, 1);
    scene_peer(core, 0)->heard_at = mono_ms(SCENE_NOW_MS - 9000);
    core->config.declaration.failover = FAILOVER_DECLARED;
    core->state.declaration.failover = FAILOVER_DECLARED;
    core->state.is_paused = true;
    core->governor_rule = 230;
    SCENE_TEXT(core->governor_why, "writes wait for 10.0.0.1, or for another declaration");
    core->pg.is_streaming = false;
    core->pg.upstream[0] = 0;
    n3 = &scene_peer(core, 2)->status;
    n3->generation = 2;
    n3->pg = (struct pg_facts){.run = PG_RUN_STOPPED,
                               .data = PG_DATA_EMPTY,
                               .clone_done_bytes = 250,
                               .clone_total_bytes = 1000};
    SCENE_TEXT(n3->why, "copying from 10.0.0.1");
}

static inline void
scene_gateway(struct gateway_view *g, const char *address, const char *primary, uint16_t rule)
{
    SCENE_TEXT(g->address, address);
    g->has_view = true;
    g->seen_at = mono_ms(SCENE_NOW_MS - 2500);
    g->rule = rule;
    g->view.n_nodes = 3;
    for (unsigned i = 0; i < 3; i++) {
        SCENE_TEXT(g->view.nodes[i].host, SCENE_IPS[i]);
        g->view.nodes[i].port = 5432;
        g->view.nodes[i].state = GATEWAY_NODE_UP;
        g->view.nodes[i].is_primary = strcmp(primary, SCENE_IPS[i]) == 0;
    }
}

/* n2 leads Raft and looks at three gateways: one is right, one takes the old primary for the
 * primary and still has n3, which copies; one refuses the password. */
static inline void
scene_gateways(struct core *core)
{
    static const uint8_t wants[] = {GATEWAY_WANT_PRIMARY, GATEWAY_WANT_STANDBY, GATEWAY_WANT_AWAY};
    struct gateways_view *all = &core->gateways;

    scene_healthy(core, 1);
    all->n = 3;
    for (unsigned i = 0; i < 3; i++) {
        SCENE_TEXT(all->targets[i].address, SCENE_IPS[i]);
        all->targets[i].want = wants[i];
    }
    scene_gateway(&all->at[0], "10.0.0.21", SCENE_IPS[0], 400);
    SCENE_TEXT(all->at[0].why, "it sees what is");
    all->at[0].view.nodes[2].state = GATEWAY_NODE_DOWN;
    scene_gateway(&all->at[1], "10.0.0.22", SCENE_IPS[1], 410);
    SCENE_TEXT(all->at[1].why, "telling it that 10.0.0.1 is the primary");
    SCENE_TEXT(all->at[2].address, "10.0.0.23");
    all->at[2].rc = HA_EAUTH;
    all->at[2].rule = 421;
    SCENE_TEXT(all->at[2].why, "PCP refuses the password: user pcp: authentication failed");
}

/* n1 before there is any cluster. */
static inline void
scene_founding(struct core *core)
{
    struct core_config config;

    scene_healthy(core, 0);
    config = core->config;
    memset(core, 0, sizeof *core);
    core->config = config;
    core->now = mono_ms(SCENE_NOW_MS);
    core->started_at = mono_ms(SCENE_NOW_MS - 700);
    core->rule = 111;
    SCENE_TEXT(core->why, "1 of 4 declared members is here");
    core->pg.run = PG_RUN_STOPPED;
    core->pg.data = PG_DATA_EMPTY;
}

#endif
