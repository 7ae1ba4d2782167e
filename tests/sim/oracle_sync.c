/*
 * INV-9 with true time. The oracle sees every disk, so it does not wait for an election that misses
 * a write: it says so as soon as one could.
 */
#include <string.h>

#include "store/sync.h"
#include "tests/sim/sim.h"

/* The node that is this member still: not one that lost its disk and is another by now. */
static const struct sim_node *
member_node(struct sim *sim, const struct member *m)
{
    const struct sim_node *n = sim_node_at(sim, m->address);

    return n != NULL && n->has_saved && n->saved.id == m->id ? n : NULL;
}

/* Of those that a choice asks, how many do not have the newest write that was acknowledged. As many
 * as are heard must never lie among them. */
void
oracle_check_known(struct sim_node *n)
{
    struct sim *sim = n->sim;
    const struct state *r = &sim->record;
    const uint64_t alive = sync_alive(r);
    unsigned n_missing = 0;

    if (r->sync_count == 0 || sim->sync_ack.lsn == 0) {
        return;
    }
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        const struct sim_node *m = (alive >> i & 1) != 0 ? member_node(sim, &r->members[i]) : NULL;

        n_missing +=
            m != NULL && !postgres_is_prefix(
                             sim, m->pg.branch, m->pg.lsn, sim->sync_ack.branch, sim->sync_ack.lsn);
    }
    if (n_missing >= sync_heard_needed(r)) {
        sim_violation(sim,
                      n,
                      "INV-9: %u of %u members lack a write that was acknowledged; %u of them are "
                      "enough to choose a successor",
                      n_missing,
                      sync_size(r->sync_set),
                      sync_heard_needed(r));
    }
}

static bool
let_go(struct sim *sim, const struct member *m, uint64_t epoch)
{
    const struct sim_node *n = member_node(sim, m);

    return n == NULL || n->saved.frozen_epoch >= epoch;
}

/* Who is appointed without a plan rests on members that let go, by their disks, in this epoch. */
static void
check_choice(struct sim_node *n, const struct state *before, const struct reign_row *row)
{
    const struct reign_row *last = state_reign(before, before->reign);
    const struct member *owner = last == NULL ? NULL : state_member(before, last->holder);
    const uint64_t alive = sync_alive(before);
    unsigned heard = 0;

    if (strcmp(row->why, "handover") == 0 || strcmp(row->why, "the primary stopped by plan") == 0) {
        return;
    }
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        heard += (alive >> i & 1) != 0 && let_go(n->sim, &before->members[i], before->sync_epoch);
    }
    if (heard < sync_heard_needed(before) &&
        (owner == NULL || !let_go(n->sim, owner, before->sync_epoch))) {
        sim_violation(n->sim,
                      n,
                      "INV-9: reign %llu is given away though %u members let go, of %u that must",
                      (unsigned long long)row->reign,
                      heard,
                      sync_heard_needed(before));
    }
}

static bool
is_newer(const struct state *s, const struct state *than)
{
    if (s->sync_epoch != than->sync_epoch) {
        return s->sync_epoch > than->sync_epoch;
    }
    return s->members_generation > than->members_generation ||
           s->settled_generation > than->settled_generation;
}

/* Somebody applied this: the newest record that there is may be another one now. */
void
oracle_on_record(struct sim_node *n, const struct state *s)
{
    struct sim *sim = n->sim;
    const struct reign_row *row = state_reign(s, s->reign);

    if (!is_newer(s, &sim->record)) {
        return;
    }
    if (s->sync_epoch == sim->record.sync_epoch + 1 && s->reign == sim->record.reign + 1 &&
        sim->record.sync_count != 0 && row != NULL) {
        check_choice(n, &sim->record, row);
    }
    if (s->reign > sim->record.reign && s->sync_count == 0) {
        sim->sync_ack.lsn = 0; /* chosen without regard to it */
    }
    sim->record = *s;
    if (s->sync_count != 0 && sim->acked_reign == s->reign && sim->last_ack[s->reign].lsn != 0) {
        sim->sync_ack.branch = sim->last_ack[s->reign].branch;
        sim->sync_ack.lsn = sim->last_ack[s->reign].lsn;
    }
    oracle_check_known(n);
}

/* Who let go follows no primary before the log, as it knows it, has a later epoch. */
void
oracle_check_follow(struct sim_node *n, const char *from)
{
    const struct sim_node *up = sim_node_at(n->sim, from);

    if (up != NULL && n->has_saved && n->saved.frozen_epoch != 0 &&
        n->saved.frozen_epoch >= n->core.state.sync_epoch && up->pg.run == PG_RUN_UP &&
        !up->pg.is_in_recovery) {
        sim_violation(n->sim, n, "INV-9: follows %s, of whom its disk says that it let go", from);
    }
}
