/*
 * PostgreSQL as facts. Data are a position in a tree of histories, so that two servers that wrote
 * different things under one timeline's number are not taken for the same.
 */
#include <string.h>

#include "tests/sim/sim.h"

#define WRITE_US (40 * SIM_MS)
#define PULL_US (25 * SIM_MS)
#define FIRST_LSN 0x3000000U

static struct sim_branch *
branch_of(const struct sim_node *n)
{
    return &n->sim->branches[n->pg.branch];
}

static int
branch_make(struct sim *sim, uint32_t timeline, int parent, uint64_t fork)
{
    const int b = sim->n_branches++;

    REQUIRE(b < SIM_BRANCHES_MAX, "the tree of histories is large enough");
    sim->branches[b] =
        (struct sim_branch){.timeline = timeline, .parent = parent, .fork = fork, .end = fork};
    return b;
}

bool
postgres_is_prefix(const struct sim *sim, int of, uint64_t end, int b, uint64_t l)
{
    uint64_t limit = end;

    for (int x = of; x >= 0; x = sim->branches[x].parent) {
        if (x == b) {
            return l <= limit;
        }
        limit = sim->branches[x].fork < limit ? sim->branches[x].fork : limit;
    }
    return false;
}

/* What PostgreSQL itself sees of it: the numbers of the timelines and where each was left. */
static bool
looks_like_prefix(const struct sim *sim, int of, uint64_t end, uint32_t timeline, uint64_t l)
{
    uint64_t limit = end;

    for (int x = of; x >= 0; x = sim->branches[x].parent) {
        if (sim->branches[x].timeline == timeline) {
            return l <= limit;
        }
        limit = sim->branches[x].fork < limit ? sim->branches[x].fork : limit;
    }
    return false;
}

/* The own process writes `bytes` more; two that write on from one point part here. */
static void
write_wal(struct sim_node *n, uint64_t bytes)
{
    struct sim_branch *b = branch_of(n);

    if (b->end != n->pg.lsn) {
        n->pg.branch = branch_make(n->sim, b->timeline, n->pg.branch, n->pg.lsn);
        b = branch_of(n);
    }
    n->pg.lsn += bytes;
    b->end = n->pg.lsn;
}

static void
tell_facts(struct sim_node *n)
{
    if (n->is_on && !n->is_facts_due) {
        n->is_facts_due = true;
        agent_push(n, SIM_FACTS, sim_between(n->sim, 500, 3 * SIM_MS), 0);
    }
}

static void
push_of_node(struct sim_node *n, uint8_t kind, int64_t after, uint64_t life)
{
    sim_push(
        n->sim,
        (struct sim_event){.at = n->sim->now + after, .kind = kind, .node = n->self, .life = life});
}

static void
start_wheels(struct sim_node *n)
{
    if (!n->pg.is_pulling) {
        n->pg.is_pulling = true;
        push_of_node(n, SIM_PG_PULL, PULL_US, 0);
    }
    if (!n->pg.is_writing) {
        n->pg.is_writing = true;
        push_of_node(n, SIM_PG_WRITE, WRITE_US, 0);
    }
}

void
postgres_lose_data(struct sim_node *n)
{
    const bool is_pulling = n->pg.is_pulling;
    const bool is_writing = n->pg.is_writing;
    const uint64_t op_life = n->pg.op_life;

    n->pg = (struct sim_pg){.run = PG_RUN_STOPPED, .data = PG_DATA_EMPTY};
    n->pg.is_pulling = is_pulling;
    n->pg.is_writing = is_writing;
    n->pg.op_life = op_life + 1;
}

/* What the history file of that timeline says. */
static uint64_t
lineage_of(const struct sim *sim, int b)
{
    const struct sim_branch *x = &sim->branches[b];
    uint64_t parent;

    if (x->parent < 0) {
        return LINEAGE_FIRST;
    }
    parent = lineage_of(sim, x->parent);
    return sim->branches[x->parent].timeline == x->timeline
               ? parent
               : lineage_extend(parent, sim->branches[x->parent].timeline, x->fork);
}

void
postgres_facts(const struct sim_node *n, struct pg_facts *f)
{
    const struct sim_pg *pg = &n->pg;

    memset(f, 0, sizeof *f);
    f->run = pg->run;
    f->data = pg->data;
    f->version = 15;
    f->exit_status = pg->exit_status;
    if (pg->data == PG_DATA_EMPTY) {
        return;
    }
    f->sysid = pg->sysid;
    f->is_in_recovery = pg->is_in_recovery;
    f->is_streaming = pg->is_streaming;
    f->has_receiver = pg->is_streaming;
    memcpy(f->upstream, pg->upstream, sizeof f->upstream);
    f->timeline = branch_of(n)->timeline;
    f->lsn = pg->lsn;
    f->replay_lsn = pg->is_in_recovery ? pg->lsn : 0;
    f->timeline_before = pg->timeline_before;
    f->fork_lsn = pg->fork_lsn;
    f->lineage = lineage_of(n->sim, pg->branch);
    f->was_primary = pg->data == PG_DATA_PRIMARY;
    f->is_fresh_copy = pg->is_fresh_copy;
    f->has_old = pg->has_old;
    f->is_shut_down = pg->is_shut_down;
    f->control_timeline = branch_of(n)->timeline;
    f->checkpoint_lsn = pg->checkpoint_lsn;
    f->min_recovery_lsn = pg->data == PG_DATA_STANDBY ? pg->lsn : 0;
}

bool
postgres_is_live(const struct sim_node *n)
{
    return n->pg.run == PG_RUN_UP && !n->pg.is_in_recovery &&
           sim_local_ms(n) < n->pg.page_deadline_ms;
}

/* The guardian sleeps on the lease too. */
void
postgres_set_page(struct sim_node *n, int64_t deadline_ms, uint64_t reign)
{
    n->pg.page_deadline_ms = deadline_ms;
    n->pg.page_reign = reign;
    if (deadline_ms != 0 && n->sim->has_guardian) {
        push_of_node(n, SIM_PG_GUARD, sim_true_at(n, deadline_ms) - n->sim->now, 0);
    }
}

static int64_t
op_us(struct sim *sim, uint8_t op)
{
    static const int64_t MS[PG_OP_COUNT] = {
        [PG_OP_INITDB] = 800,
        [PG_OP_CLONE] = 1500,
        [PG_OP_START_PRIMARY] = 200,
        [PG_OP_START_STANDBY] = 200,
        [PG_OP_FOLLOW] = 30,
        [PG_OP_PROMOTE] = 100,
        [PG_OP_CHECKPOINT] = 50,
        [PG_OP_STOP_FAST] = 80,
        [PG_OP_REWIND] = 700,
    };

    return sim_between(sim, MS[op] * SIM_MS / 2, MS[op] * SIM_MS * 3);
}

void
postgres_begin_op(struct sim_node *n, uint8_t op, const char *from)
{
    struct sim_pg *pg = &n->pg;

    if (pg->op == PG_OP_CHECKPOINT && op == PG_OP_STOP_FAST) { /* overtaken */
        pg->op = PG_OP_NONE;
        pg->op_life++;
    }
    REQUIRE(pg->op == PG_OP_NONE, "one operation at a time");
    pg->op = op;
    memset(pg->op_from, 0, sizeof pg->op_from);
    memcpy(pg->op_from, from, strnlen(from, sizeof pg->op_from - 1));
    if (pg->data == PG_DATA_TORN && (op == PG_OP_START_PRIMARY || op == PG_OP_START_STANDBY)) {
        sim_violation(n->sim, n, "starts a half-rewound data directory");
    }
    if (op == PG_OP_START_PRIMARY || op == PG_OP_START_STANDBY) {
        pg->run = PG_RUN_STARTING;
        pg->is_streaming = false;
        memset(pg->upstream, 0, sizeof pg->upstream);
        if (op == PG_OP_START_STANDBY) {
            pg->data = PG_DATA_STANDBY;
        }
    } else if (op == PG_OP_STOP_FAST) {
        pg->run = PG_RUN_STOPPING;
    }
    tell_facts(n);
    push_of_node(n, SIM_PG_OP, op_us(n->sim, op), pg->op_life);
}

/* The operation is over, one way or the other. */
static void
finish_op(struct sim_node *n, int rc)
{
    const uint8_t op = n->pg.op;

    n->pg.op = PG_OP_NONE;
    n->pg.op_life++;
    if (op != PG_OP_NONE && n->is_on) {
        sim_push(n->sim,
                 (struct sim_event){.at = n->sim->now + sim_between(n->sim, 200, 2 * SIM_MS),
                                    .kind = SIM_PG_DONE,
                                    .node = n->self,
                                    .type = op,
                                    .life = n->life,
                                    .rc = rc});
    } else {
        tell_facts(n);
    }
}

void
postgres_kill_in(struct sim_node *n, int64_t after)
{
    if (n->pg.kill_at == 0 || n->sim->now + after < n->pg.kill_at) {
        n->pg.kill_at = n->sim->now + after;
        push_of_node(n, SIM_PG_KILL, after, 0);
    }
}

void
postgres_stop_dirty(struct sim_node *n, int exit_status, bool is_told)
{
    struct sim_pg *pg = &n->pg;

    pg->kill_at = 0;
    if (pg->op == PG_OP_REWIND && sim_below(n->sim, 2) == 0) {
        pg->data = PG_DATA_TORN;
    }
    if (pg->run != PG_RUN_STOPPED) {
        sim_trace(n->sim, n, "PostgreSQL ends at once");
        pg->run = PG_RUN_STOPPED;
        pg->is_shut_down = false;
        pg->is_streaming = false;
        pg->exit_status = exit_status;
        sync_on_stop(n);
        sync_on_leave(n);
        if (pg->data == PG_DATA_STANDBY) {
            pg->checkpoint_lsn = pg->lsn;
        }
    }
    finish_op(n, is_told && exit_status != 0 ? HA_EFAILED : HA_ECANCELED);
    tell_facts(n);
}

/* ---- operations ---- */

static void
take_data(struct sim_pg *pg, const struct sim_node *from)
{
    pg->data = PG_DATA_STANDBY;
    pg->sysid = from->pg.sysid;
    pg->branch = from->pg.branch;
    pg->lsn = from->pg.lsn;
    pg->checkpoint_lsn = from->pg.lsn;
    pg->is_shut_down = false;
    pg->is_in_recovery = true;
    pg->is_streaming = false;
    pg->is_fresh_copy = true;
    memset(pg->upstream, 0, sizeof pg->upstream);
}

static int
end_clone(struct sim_node *n)
{
    struct sim *sim = n->sim;
    const struct sim_node *from = sim_node_at(sim, n->pg.op_from);
    struct sim_pg *pg = &n->pg;

    if (from == NULL || !sim_is_linked(sim, n->self, from->self) ||
        !sim_is_linked(sim, from->self, n->self) || from->pg.run != PG_RUN_UP ||
        sim_below(sim, 20) == 0) {
        return HA_EFAILED;
    }
    pg->has_old = pg->data != PG_DATA_EMPTY;
    take_data(pg, from);
    return HA_OK;
}

/* It may leave the data neither as they were nor as they should be. */
static int
end_rewind(struct sim_node *n)
{
    struct sim *sim = n->sim;
    const struct sim_node *from = sim_node_at(sim, n->pg.op_from);
    struct sim_pg *pg = &n->pg;

    if (from == NULL || !sim_is_linked(sim, n->self, from->self) ||
        !sim_is_linked(sim, from->self, n->self) || from->pg.run != PG_RUN_UP ||
        from->pg.is_in_recovery || sim_below(sim, 5) == 0) {
        if (sim_below(sim, 2) == 0) {
            pg->data = PG_DATA_TORN;
        }
        return HA_EFAILED;
    }
    take_data(pg, from);
    return HA_OK;
}

/* What the data replaced is gone from here on. */
void
postgres_discard(struct sim_node *n)
{
    if (n->pg.is_fresh_copy) {
        sim_violation(n->sim, n, "removes what its data replaced before they ever ran");
    }
    n->pg.has_old = false;
    tell_facts(n);
}

static void
end_promote(struct sim_node *n)
{
    struct sim_pg *pg = &n->pg;
    const uint32_t timeline = branch_of(n)->timeline;
    const uint32_t number = pg->promote_to > timeline ? pg->promote_to : timeline + 1;

    pg->timeline_before = timeline;
    pg->fork_lsn = pg->lsn;
    pg->branch = branch_make(n->sim, number, pg->branch, pg->lsn);
    pg->is_in_recovery = false;
    pg->is_streaming = false;
    memset(pg->upstream, 0, sizeof pg->upstream);
    pg->data = PG_DATA_PRIMARY;
    pg->checkpoint_lsn = pg->lsn;
    pg->is_shut_down = false;
    sync_on_leave(n);
    oracle_on_promoted(n);
}

/* The last record leaves to who streams. */
static void
end_stop(struct sim_node *n)
{
    struct sim *sim = n->sim;
    struct sim_pg *pg = &n->pg;

    pg->run = PG_RUN_STOPPED;
    pg->is_shut_down = true;
    pg->is_streaming = false;
    pg->exit_status = 0;
    pg->checkpoint_lsn = pg->lsn;
    sync_on_leave(n);
    if (pg->data != PG_DATA_PRIMARY) {
        sync_on_stop(n);
        return;
    }
    write_wal(n, 0x78);
    for (unsigned k = 0; k < sim->n; k++) {
        struct sim_node *o = &sim->nodes[k];

        if (o != n && o->pg.run == PG_RUN_UP && o->pg.is_streaming &&
            strcmp(o->pg.upstream, n->address) == 0 && sim_is_linked(sim, n->self, k) &&
            sim_is_linked(sim, k, n->self) && o->node_frozen_until <= sim->now &&
            postgres_is_prefix(sim, pg->branch, pg->lsn, o->pg.branch, o->pg.lsn)) {
            o->pg.branch = pg->branch;
            o->pg.lsn = pg->lsn;
            tell_facts(o);
        }
    }
    sync_on_stop(n); /* whose commit waited is told nothing */
}

static int
end_op(struct sim_node *n)
{
    struct sim *sim = n->sim;
    struct sim_pg *pg = &n->pg;

    switch ((enum pg_op)pg->op) {
    case PG_OP_INITDB:
        pg->data = PG_DATA_PRIMARY;
        pg->sysid = ++sim->sysids;
        pg->branch = branch_make(sim, 1, -1, FIRST_LSN);
        pg->lsn = FIRST_LSN;
        pg->checkpoint_lsn = FIRST_LSN;
        pg->is_shut_down = true;
        pg->is_in_recovery = false;
        pg->fork_lsn = 0;
        pg->timeline_before = 0;
        break;
    case PG_OP_CLONE:
        return end_clone(n);
    case PG_OP_REWIND:
        return end_rewind(n);
    case PG_OP_START_PRIMARY:
    case PG_OP_START_STANDBY:
        if (!sim->is_calm && sim_below(sim, 40) == 0) {
            pg->run = PG_RUN_STOPPED;
            pg->exit_status = 1;
            return HA_EFAILED;
        }
        pg->run = PG_RUN_UP;
        pg->is_in_recovery = pg->op == PG_OP_START_STANDBY;
        pg->is_fresh_copy = false;
        pg->is_shut_down = false;
        memcpy(pg->upstream, pg->op_from, sizeof pg->upstream);
        start_wheels(n);
        sync_on_start(n);
        break;
    case PG_OP_FOLLOW:
        memcpy(pg->upstream, pg->op_from, sizeof pg->upstream);
        pg->is_streaming = false;
        sync_on_leave(n);
        break;
    case PG_OP_PROMOTE:
        if (!sim->is_calm && sim_below(sim, 40) == 0) {
            return HA_EFAILED;
        }
        end_promote(n);
        break;
    case PG_OP_STOP_FAST:
        end_stop(n);
        break;
    case PG_OP_CHECKPOINT:
        pg->checkpoint_lsn = pg->lsn;
        break;
    case PG_OP_NONE:
    case PG_OP_RELOAD:
    case PG_OP_COUNT:
    default:
        break;
    }
    return HA_OK;
}

/* ---- the wheels ---- */

/* A client writes. Without a lease the commit is refused, but WAL was written. */
static void
write_once(struct sim_node *n)
{
    if (n->pg.run != PG_RUN_UP || n->pg.is_in_recovery) {
        return;
    }
    if (n->pg.sync.is_closed) {
        return;
    }
    if (postgres_is_live(n)) {
        write_wal(n, 0x100);
        if (!sync_waits(n)) {
            oracle_on_ack(n, n->pg.lsn);
        }
    } else {
        n->sim->n_refused++;
        write_wal(n, 0x40);
    }
}

static void
pull_once(struct sim_node *n)
{
    struct sim *sim = n->sim;
    struct sim_pg *pg = &n->pg;
    struct sim_node *up = sim_node_at(sim, pg->upstream);
    const bool was_streaming = pg->is_streaming;
    const uint64_t sysid = pg->sysid;

    if (pg->run != PG_RUN_UP || !pg->is_in_recovery) {
        return;
    }
    pg->is_streaming =
        up != NULL && up != n && sim_is_linked(sim, n->self, up->self) &&
        sim_is_linked(sim, up->self, n->self) && up->pg.sysid == sysid &&
        up->node_frozen_until <= sim->now &&
        (up->pg.run == PG_RUN_UP || up->pg.run == PG_RUN_STOPPING) &&
        looks_like_prefix(sim, up->pg.branch, up->pg.lsn, branch_of(n)->timeline, pg->lsn);
    if (pg->is_streaming) {
        if (!postgres_is_prefix(sim, up->pg.branch, up->pg.lsn, pg->branch, pg->lsn)) {
            sim_violation(sim,
                          n,
                          "streams timeline %u from %s, whose history is another one",
                          branch_of(n)->timeline,
                          up->address);
            return;
        }
        pg->branch = up->pg.branch;
        pg->lsn = up->pg.lsn;
        sync_on_flush(up, n->self, pg->lsn);
    } else {
        sync_on_leave(n);
    }
    if (was_streaming != pg->is_streaming) {
        tell_facts(n);
    }
}

void
postgres_on_event(struct sim_node *n, const struct sim_event *e)
{
    struct sim_pg *pg = &n->pg;

    if (e->kind == SIM_PG_OP) {
        if (e->life == pg->op_life && pg->op != PG_OP_NONE) {
            finish_op(n, end_op(n));
        }
    } else if (e->kind == SIM_PG_KILL) {
        if (pg->kill_at != 0 && pg->kill_at <= n->sim->now) {
            postgres_stop_dirty(n, 0, false);
            if (!n->is_on) {
                postgres_set_page(n, 0, 0);
            }
        }
    } else if (e->kind == SIM_PG_GUARD) {
        if (pg->run != PG_RUN_STOPPED && pg->data == PG_DATA_PRIMARY && pg->page_deadline_ms != 0 &&
            sim_local_ms(n) >= pg->page_deadline_ms) {
            sim_trace(n->sim, n, "the guardian ends PostgreSQL");
            postgres_stop_dirty(n, 0, true);
        }
    } else if (e->kind == SIM_PG_WRITE) {
        write_once(n);
        push_of_node(n, SIM_PG_WRITE, WRITE_US, 0);
    } else if (e->kind == SIM_PG_RELOAD) {
        sync_on_reload(n, e->type);
    } else if (e->kind == SIM_PG_PULL) {
        pull_once(n);
        push_of_node(n, SIM_PG_PULL, PULL_US, 0);
    }
}
