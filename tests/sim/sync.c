/*
 * Synchronous replication of the virtual PostgreSQL. A rule arrives at the server's processes one
 * by one: at the checkpointer, which says whether commits wait at all, and at each walsender, which
 * releases them by its own count among those who count at that moment. docs/decisions has how the
 * real server does it.
 */
#include <string.h>

#include "tests/sim/sim.h"

#define CHECKPOINTER SIM_NODES_MAX
#define PICKUP_US (400 * SIM_MS)

static bool
is_up(const struct sim_node *n)
{
    return n->pg.run == PG_RUN_UP || n->pg.run == PG_RUN_STOPPING;
}

static bool
is_named(const struct sim_sync *s, const char *address)
{
    for (uint32_t i = 0; i < s->told.n; i++) {
        if (strcmp(s->told.address[i], address) == 0) {
            return true;
        }
    }
    return false;
}

static void
pick_up(struct sim_node *n, unsigned part)
{
    struct sim_sync *s = &n->pg.sync;

    if (part == CHECKPOINTER) {
        s->is_waiting_on = s->told.count != 0;
        s->checkpointer_serial = s->serial;
        if (!s->is_waiting_on) { /* whoever waits is let go */
            s->waiting_lsn = 0;
        }
        return;
    }
    s->senders[part].is_named = is_named(s, n->sim->nodes[part].address);
    s->senders[part].count = s->told.count;
    s->senders[part].serial = s->serial;
}

void
sync_tell(struct sim_node *n, const struct sync_names *names)
{
    struct sim_sync *s = &n->pg.sync;

    s->told = *names;
    s->serial++;
    for (unsigned part = 0; part <= CHECKPOINTER && is_up(n); part++) {
        sim_push(n->sim,
                 (struct sim_event){.at = n->sim->now + sim_between(n->sim, SIM_MS, PICKUP_US),
                                    .kind = SIM_PG_RELOAD,
                                    .node = n->self,
                                    .type = (uint8_t)part});
    }
}

/* The server starts: every process of it reads the newest files. */
void
sync_on_start(struct sim_node *n)
{
    memset(n->pg.sync.senders, 0, sizeof n->pg.sync.senders);
    n->pg.sync.waiting_lsn = 0;
    pick_up(n, CHECKPOINTER);
}

void
sync_on_stop(struct sim_node *n)
{
    memset(n->pg.sync.senders, 0, sizeof n->pg.sync.senders);
    n->pg.sync.waiting_lsn = 0;
}

void
sync_on_reload(struct sim_node *n, unsigned part)
{
    if (is_up(n) && (part == CHECKPOINTER || n->pg.sync.senders[part].is_on)) {
        pick_up(n, part);
    }
}

static bool
is_applied(const struct sim_sync *s)
{
    for (unsigned k = 0; k < SIM_NODES_MAX; k++) {
        if (s->senders[k].is_on && s->senders[k].serial != s->serial) {
            return false;
        }
    }
    return s->checkpointer_serial == s->serial;
}

void
sync_facts(struct sim_node *n, struct pg_sync *out)
{
    struct sim_sync *s = &n->pg.sync;

    memset(out, 0, sizeof *out);
    if (is_applied(s)) {
        s->applied_version = s->told.version;
    }
    out->version = s->applied_version;
    out->lsn = n->pg.is_in_recovery ? 0 : n->pg.lsn;
    for (unsigned k = 0; k < n->sim->n; k++) {
        if (s->senders[k].is_on) {
            memcpy(out->standbys[out->n].address, n->sim->nodes[k].address, HA_ADDRESS_MAX);
            out->standbys[out->n++].flush_lsn = s->senders[k].flush;
        }
    }
}

/* How far `count` of those that count have everything. */
static uint64_t
confirmed(const struct sim_sync *s, unsigned count)
{
    uint64_t best = 0;

    for (unsigned k = 0; k < SIM_NODES_MAX; k++) {
        unsigned n = 0;

        for (unsigned j = 0; j < SIM_NODES_MAX; j++) {
            n += s->senders[j].is_on && s->senders[j].is_named &&
                 s->senders[j].flush >= s->senders[k].flush;
        }
        if (s->senders[k].is_on && s->senders[k].is_named && n >= count &&
            s->senders[k].flush > best) {
            best = s->senders[k].flush;
        }
    }
    return best;
}

/* A standby says what it has; its walsender lets go whoever that is enough for. */
void
sync_on_flush(struct sim_node *n, unsigned standby, uint64_t lsn)
{
    struct sim_sync *s = &n->pg.sync;
    struct sim_sender *w = &s->senders[standby];
    uint64_t up_to;

    if (!w->is_on) {
        w->is_on = true; /* a child of the postmaster, which read the newest file */
        pick_up(n, standby);
    }
    w->flush = lsn;
    if (n->pg.run != PG_RUN_UP || n->pg.is_in_recovery || !w->is_named || w->count == 0) {
        return;
    }
    up_to = confirmed(s, w->count);
    if (s->waiting_lsn == 0 || up_to < s->first_waiting_lsn) {
        return;
    }
    if (postgres_is_live(n)) {
        oracle_on_ack(n, up_to < s->waiting_lsn ? up_to : s->waiting_lsn);
    }
    if (up_to >= s->waiting_lsn) {
        s->waiting_lsn = 0;
    } else {
        s->first_waiting_lsn = up_to + 1;
    }
}

void
sync_on_leave(struct sim_node *standby)
{
    for (unsigned k = 0; k < standby->sim->n; k++) {
        standby->sim->nodes[k].pg.sync.senders[standby->self].is_on = false;
    }
}

/* True when the commit that was just written waits. */
bool
sync_waits(struct sim_node *n)
{
    struct sim_sync *s = &n->pg.sync;

    if (!s->is_waiting_on) {
        return false;
    }
    if (s->waiting_lsn == 0) {
        s->first_waiting_lsn = n->pg.lsn;
    }
    s->waiting_lsn = n->pg.lsn;
    return true;
}
