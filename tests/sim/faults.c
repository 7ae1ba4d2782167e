/* The plan of what goes wrong, drawn before the run, so that one fault can be left out. */
#include <string.h>

#include "tests/sim/sim.h"

static const char *const TEXTS[FAULT_KIND_COUNT] = {
    [FAULT_ISOLATE] = "is cut off",
    [FAULT_ONE_WAY_OUT] = "is heard by nobody",
    [FAULT_ONE_WAY_IN] = "hears nobody",
    [FAULT_PAIR] = "loses its way to another",
    [FAULT_LOSS] = "messages are lost",
    [FAULT_DELAY] = "messages are late",
    [FAULT_DOUBLE] = "messages come twice",
    [FAULT_AGENT_KILL] = "its agent is killed",
    [FAULT_POWER] = "loses power",
    [FAULT_POWER_ALL] = "all lose power",
    [FAULT_FREEZE_AGENT] = "its agent is frozen",
    [FAULT_FREEZE_NODE] = "is frozen as a whole",
    [FAULT_HIDDEN_PAUSE] = "is paused, and its clock with it",
    [FAULT_DISK_SLOW] = "its disk is slow",
    [FAULT_DISK_FULL] = "its disk is full",
    [FAULT_DISK_ERROR] = "its disk fails",
    [FAULT_DISK_LOST] = "loses its disk",
    [FAULT_PG_CRASH] = "its PostgreSQL crashes",
    [FAULT_DECLARE] = "a person declares it the primary",
    [FAULT_PAUSE] = "a person pauses the cluster",
    [FAULT_REDEPLOY] = "the stack is deployed anew",
    [FAULT_RESTART] = "is told to stop, and starts again",
    [FAULT_PG_RESTART] = "a person restarts its PostgreSQL, or has it copied anew",
    [FAULT_MEMBERS] = "the stack is deployed anew with one member more, or fewer",
};

const char *
faults_text(uint8_t kind)
{
    return TEXTS[kind];
}

static uint8_t
draw_kind(struct sim *sim)
{
    static const uint8_t WEIGHTS[FAULT_KIND_COUNT] = {
        [FAULT_ISOLATE] = 12,   [FAULT_ONE_WAY_OUT] = 5,  [FAULT_ONE_WAY_IN] = 5,
        [FAULT_PAIR] = 6,       [FAULT_LOSS] = 3,         [FAULT_DELAY] = 4,
        [FAULT_DOUBLE] = 3,     [FAULT_AGENT_KILL] = 8,   [FAULT_POWER] = 8,
        [FAULT_POWER_ALL] = 2,  [FAULT_FREEZE_AGENT] = 8, [FAULT_FREEZE_NODE] = 8,
        [FAULT_DISK_SLOW] = 3,  [FAULT_DISK_FULL] = 2,    [FAULT_DISK_ERROR] = 2,
        [FAULT_DISK_LOST] = 3,  [FAULT_PG_CRASH] = 6,     [FAULT_DECLARE] = 8,
        [FAULT_PAUSE] = 2,      [FAULT_REDEPLOY] = 3,     [FAULT_RESTART] = 5,
        [FAULT_PG_RESTART] = 4, [FAULT_HIDDEN_PAUSE] = 8, [FAULT_MEMBERS] = 5,
    };
    unsigned sum = 0;
    unsigned at;

    for (unsigned k = 0; k < FAULT_KIND_COUNT; k++) {
        sum += WEIGHTS[k];
    }
    at = sim_below(sim, sum);
    for (uint8_t k = 0;; k++) {
        if (at < WEIGHTS[k]) {
            return k;
        }
        at -= WEIGHTS[k];
    }
}

void
faults_plan(struct sim *sim, int64_t from, int64_t to)
{
    const int64_t pace = sim_between(sim, 700 * SIM_MS, 5000 * SIM_MS);
    int64_t at = from;

    sim->faults_end = to;
    while (at < to && sim->n_plan < SIM_PLAN_MAX) {
        struct sim_fault *f = &sim->plan[sim->n_plan];
        const int64_t lease = (int64_t)sim->declaration.lease_ms * SIM_MS;

        f->at = at;
        f->kind = draw_kind(sim);
        f->node = (uint8_t)sim_below(sim, sim->n);
        f->other = (uint8_t)sim_below(sim, sim->n);
        f->number = sim_below(sim, 1000000);
        f->length = sim_between(sim, lease / 4, lease * 4);
        sim_push(sim,
                 (struct sim_event){.at = at, .kind = SIM_FAULT, .type = (uint8_t)sim->n_plan});
        sim->n_plan++;
        at += sim_between(sim, pace / 4, pace * 2);
    }
}

static void
cut(struct sim *sim, const struct sim_fault *f, bool is_on)
{
    for (unsigned k = 0; k < sim->n; k++) {
        if (k == f->node || (f->kind == FAULT_PAIR && k != f->other)) {
            continue;
        }
        if (f->kind != FAULT_ONE_WAY_IN) {
            sim->cut[f->node][k] += is_on ? 1U : -1U;
        }
        if (f->kind != FAULT_ONE_WAY_OUT && !(f->kind == FAULT_PAIR && f->number % 2 == 0)) {
            sim->cut[k][f->node] += is_on ? 1U : -1U;
        }
    }
}

static void
weather(struct sim *sim, const struct sim_fault *f, bool is_on)
{
    if (f->kind == FAULT_LOSS) {
        sim->lose_percent = is_on ? 5 + f->number % 40 : 0;
    } else if (f->kind == FAULT_DELAY) {
        sim->delay_max = is_on ? (50 + f->number % 2500) * SIM_MS : 2 * SIM_MS;
    } else {
        sim->double_percent = is_on ? 50 : 0;
    }
}

static void
disk(struct sim *sim, const struct sim_fault *f, bool is_on)
{
    struct sim_node *n = &sim->nodes[f->node];

    if (f->kind == FAULT_DISK_SLOW) {
        n->slow_disk_until = is_on ? sim->now + f->length : 0;
        return;
    }
    n->n_disk_bad += is_on ? 1U : -1U;
    n->is_disk_hurt = n->is_disk_hurt || is_on;
    if (f->kind == FAULT_DISK_FULL) {
        fs_mem_set_capacity(n->disk, is_on ? 1 : UINT64_MAX);
    } else {
        fs_mem_fail_at(n->disk, is_on ? 1 + f->number % 20 : 0, 1 + f->number % 5, HA_EIO);
    }
}

/* One primary that all follow, and no change of members under way: one may go and not come back. */
static bool
is_whole(struct sim *sim)
{
    char why[160];

    if (oracle_healthy(sim, why) < 0) {
        return false;
    }
    for (unsigned i = 0; i < sim->n; i++) {
        const struct core *c = &sim->nodes[i].core;

        if (sim->is_member[i] && (c->state.settled_generation != c->state.members_generation ||
                                  c->raft.n_servers != c->state.declaration.n_members)) {
            return false;
        }
    }
    return true;
}

/* A minority only, one at a time, and not the last good copy of the data. */
static void
lose_disk(struct sim *sim, const struct sim_fault *f)
{
    struct sim_node *n = &sim->nodes[f->node];

    if (sim->declaration.n_members < 3 || !sim->is_member[f->node] || sim->is_redeploying ||
        !is_whole(sim)) {
        return;
    }
    agent_die(n, true);
    sim_trace(sim, n, "LOSES ITS DISK%s", f->number % 3 == 0 ? "" : " and its data");
    fs_mem_free(n->disk);
    n->disk = fs_mem_new(sim_random(sim));
    n->has_saved = false;
    if (n->n_disk_bad != 0) { /* the new one has the same fault */
        n->is_disk_hurt = true;
    }
    if (f->number % 3 != 0) {
        postgres_lose_data(n);
    }
    sim->n_disks_lost++;
}

static void
request(struct sim_node *n, uint8_t type, const char *primary, bool is_anew)
{
    struct event e = {.type = EVENT_REQUEST};

    e.request.token = 1;
    e.request.type = type;
    if (primary != NULL) {
        memcpy(e.request.primary, primary, HA_ADDRESS_MAX);
        e.request.is_anew = is_anew;
    }
    /* Who looks after it means it, also when the words are those of the last time. */
    e.request.number = n->sim->is_calm ? n->core.state.declaration.number + 1 : 0;
    if (n->agent_frozen_until <= n->sim->now && n->node_frozen_until <= n->sim->now) {
        agent_give(n, &e);
    }
}

/* One that goes stays on for a while, or is taken away at once; the last of two stays on, else what
 * is left of Raft had no majority to remove it with. One that never started has no environment to
 * start with, until it is declared again. */
static void
remove_member(struct sim *sim, struct sim_node *n, bool is_taken_away)
{
    struct declaration *d = &sim->declaration;
    const bool may_go = is_taken_away && d->n_members > 2 && is_whole(sim);
    uint8_t left = 0;

    for (uint8_t i = 0; i < d->n_members; i++) {
        if (strcmp(d->members[i].address, n->address) != 0) {
            d->members[left++] = d->members[i];
        }
    }
    memset(&d->members[left], 0, sizeof d->members[left]);
    d->n_members = left;
    sim->is_member[n->self] = false;
    if (may_go || n->config.declaration.n_members == 0) {
        n->is_wanted = false;
        agent_die(n, true);
    }
}

static void
add_member(struct sim *sim, struct sim_node *n)
{
    struct declaration *d = &sim->declaration;
    struct member_spec *m = &d->members[d->n_members++];

    memcpy(m->address, n->address, HA_ADDRESS_MAX);
    m->kind = n->config.kind;
    declaration_sort(d);
    sim->is_member[n->self] = true;
    if (!n->is_wanted) {
        n->is_wanted = true;
        sim_push(sim,
                 (struct sim_event){.at = sim->now + 2000 * SIM_MS,
                                    .kind = SIM_BOOT,
                                    .node = n->self,
                                    .life = n->life});
    }
}

static unsigned
count_databases(const struct declaration *d)
{
    unsigned n = 0;

    for (uint8_t i = 0; i < d->n_members; i++) {
        n += d->members[i].kind == MEMBER_DATABASE;
    }
    return n;
}

/* Where commits wait for a standby, one stays. */
/* Without that one, most of the list would be empty ones: declared so, they are told to found a
 * cluster, and nobody knows of the one that there is. No agent can tell that from a first start. */
static bool
is_list_of_empties(struct sim *sim, const struct sim_node *without)
{
    unsigned n = 0;
    unsigned n_empty = 0;

    for (unsigned i = 0; i < sim->n; i++) {
        const struct sim_node *other = &sim->nodes[i];

        if (sim->is_member[i] && other != without) {
            n++;
            n_empty += !other->has_saved || other->saved.id == 0;
        }
    }
    return n_empty > n / 2;
}

/* Founders agree on a list; who changes it before they have a leader is told to change it back. */
static bool
is_founded(const struct sim *sim)
{
    for (unsigned i = 0; i < sim->n; i++) {
        if (sim->nodes[i].has_saved && sim->nodes[i].saved.cluster_id != 0) {
            return true;
        }
    }
    return false;
}

static void
change_members(struct sim *sim, const struct sim_fault *f)
{
    struct sim_node *n = &sim->nodes[f->other];
    const unsigned least = sim->declaration.sync == SYNC_OFF ? 1 : 2;

    if (!is_founded(sim)) {
        return;
    }
    if (!sim->is_member[f->other]) {
        add_member(sim, n);
    } else if (sim->declaration.n_members >= 2 && !is_list_of_empties(sim, n) &&
               (n->config.kind == MEMBER_WITNESS || count_databases(&sim->declaration) > least) &&
               strcmp(sim->declaration.primary, n->address) != 0) {
        remove_member(sim, n, f->number % 2 == 0);
    }
}

/* Another environment for everybody, one after the other. */
static void
redeploy(struct sim *sim, const struct sim_fault *f)
{
    struct declaration *d = &sim->declaration;

    if (sim->is_redeploying) {
        return;
    }
    sim->is_redeploying = true;
    if (f->kind == FAULT_MEMBERS) {
        change_members(sim, f);
    }
    if (f->number % 4 == 0) {
        d->lease_ms = d->lease_ms == 2000 ? 1000 : 2000;
    }
    if (f->number % 7 < 2 && !sim->has_hidden_pauses && count_databases(d) > 1) {
        d->sync = (uint8_t)(f->number / 7 % SYNC_MODE_COUNT);
    }
    if (f->number % 5 == 0) {
        d->failover = d->failover == FAILOVER_AUTO ? FAILOVER_DECLARED : FAILOVER_AUTO;
    }
    if (sim->nodes[f->other].config.kind == MEMBER_DATABASE && sim->is_member[f->other] &&
        f->number % 3 != 0) {
        memcpy(d->primary, sim->nodes[f->other].address, HA_ADDRESS_MAX);
    }
    for (unsigned i = 0; i < sim->n; i++) {
        sim_push(sim,
                 (struct sim_event){.at = sim->now + (i + 1) * (f->number % 3000) * SIM_MS,
                                    .kind = SIM_REDEPLOY,
                                    .node = (uint8_t)i,
                                    .type = i + 1 == sim->n});
    }
}

static void
stop_softly(struct sim_node *n)
{
    if (n->is_on && !n->is_restarting) {
        n->is_restarting = true;
        sim_trace(n->sim, n, "is told to stop");
        agent_push(n, SIM_STOP, 0, 0);
    }
}

static void
freeze(struct sim *sim, const struct sim_fault *f)
{
    struct sim_node *n = &sim->nodes[f->node];
    const int64_t until = sim->now + f->length;

    if (!n->is_on) {
        return;
    }
    /* What waits already waits for the later of two. */
    if (f->kind == FAULT_FREEZE_AGENT && until > n->agent_frozen_until) {
        n->agent_frozen_until = until;
    } else if (f->kind == FAULT_FREEZE_NODE && until > n->node_frozen_until) {
        n->node_frozen_until = until;
    }
}

/* By a hypervisor: no clock of the node moves. What is frozen already stays for as long. */
static void
pause_unseen(struct sim *sim, const struct sim_fault *f)
{
    struct sim_node *n = &sim->nodes[f->node];

    if (!sim->has_hidden_pauses || !n->is_on || n->node_frozen_until > sim->now) {
        return;
    }
    n->node_frozen_until = sim->now + f->length;
    n->clock_zero += f->length;
    if (n->pg.page_deadline_ms != 0) {
        postgres_set_page(n, n->pg.page_deadline_ms, n->pg.page_reign);
    }
}

static void
power(struct sim *sim, const struct sim_fault *f)
{
    for (unsigned i = 0; i < sim->n; i++) {
        if (f->kind == FAULT_POWER_ALL || i == f->node) {
            agent_die(&sim->nodes[i], f->kind != FAULT_AGENT_KILL);
        }
    }
}

static void
begin(struct sim *sim, const struct sim_fault *f)
{
    struct sim_node *n = &sim->nodes[f->node];

    switch ((enum sim_fault_kind)f->kind) {
    case FAULT_ISOLATE:
    case FAULT_ONE_WAY_OUT:
    case FAULT_ONE_WAY_IN:
    case FAULT_PAIR:
        cut(sim, f, true);
        break;
    case FAULT_LOSS:
    case FAULT_DELAY:
    case FAULT_DOUBLE:
        weather(sim, f, true);
        break;
    case FAULT_AGENT_KILL:
    case FAULT_POWER:
    case FAULT_POWER_ALL:
        power(sim, f);
        break;
    case FAULT_FREEZE_AGENT:
    case FAULT_FREEZE_NODE:
        freeze(sim, f);
        break;
    case FAULT_HIDDEN_PAUSE:
        pause_unseen(sim, f);
        break;
    case FAULT_DISK_SLOW:
    case FAULT_DISK_FULL:
    case FAULT_DISK_ERROR:
        disk(sim, f, true);
        break;
    case FAULT_DISK_LOST:
        lose_disk(sim, f);
        break;
    case FAULT_PG_CRASH:
        if (n->pg.run != PG_RUN_STOPPED && n->node_frozen_until <= sim->now) {
            postgres_stop_dirty(n, -11, true);
        }
        break;
    case FAULT_DECLARE:
        if (n->config.kind == MEMBER_DATABASE) {
            request(&sim->nodes[f->other], REQUEST_DECLARE, n->address, false);
        }
        break;
    case FAULT_PAUSE:
        request(n, REQUEST_PAUSE, NULL, false);
        break;
    case FAULT_REDEPLOY:
    case FAULT_MEMBERS:
        redeploy(sim, f);
        break;
    case FAULT_RESTART:
        stop_softly(n);
        break;
    case FAULT_PG_RESTART:
        request(n,
                f->number % 4 == 0   ? REQUEST_RELOAD
                : f->number % 4 == 1 ? REQUEST_REINIT
                                     : REQUEST_RESTART,
                NULL,
                false);
        break;
    case FAULT_KIND_COUNT:
    default:
        break;
    }
}

static void
end(struct sim *sim, const struct sim_fault *f)
{
    if (f->kind <= FAULT_PAIR) {
        cut(sim, f, false);
    } else if (f->kind <= FAULT_DOUBLE) {
        weather(sim, f, false);
    } else if (f->kind == FAULT_DISK_SLOW || f->kind == FAULT_DISK_FULL ||
               f->kind == FAULT_DISK_ERROR) {
        disk(sim, f, false);
    } else if (f->kind == FAULT_PAUSE) {
        request(&sim->nodes[f->node], REQUEST_RESUME, NULL, false);
    }
}

void
faults_on_event(struct sim *sim, const struct sim_event *e)
{
    const struct sim_fault *f = &sim->plan[e->type];
    struct sim_event over = {.kind = SIM_FAULT_END, .type = e->type};

    if (e->kind == SIM_REDEPLOY) {
        if (sim->is_member[e->node]) { /* the others keep the environment that they had */
            stop_softly(&sim->nodes[e->node]);
        }
        if (e->type != 0) {
            sim->is_redeploying = false;
        }
        return;
    }
    if (f->is_left_out) {
        return;
    }
    if (e->kind == SIM_FAULT_END) {
        sim_trace(sim, &sim->nodes[f->node], "---- over: %s", TEXTS[f->kind]);
        end(sim, f);
        return;
    }
    sim_trace(sim,
              &sim->nodes[f->node],
              "---- fault %u: %s (node%u), for %.1f s",
              e->type,
              TEXTS[f->kind],
              f->other + 1U,
              (double)f->length / 1e6);
    over.at = sim->now + f->length;
    sim_push(sim, over);
    begin(sim, f);
}

/* Whatever still goes on ends by its own event; the plan has no more. */
void
faults_end(struct sim *sim)
{
    sim->is_calm = true;
    sim_trace(sim, NULL, "---- the faults are over");
}

/* On the cluster's own timeline, or the only data of a cluster that has none on record yet. */
static bool
has_good_data(const struct sim_node *n)
{
    return n->config.kind == MEMBER_DATABASE && n->pg.data != PG_DATA_EMPTY &&
           (n->core.state.sysid == 0 ||
            n->sim->branches[n->pg.branch].timeline == n->core.state.timeline);
}

/* Looks for the best data when the declared primary has none, and takes a pause back. */
void
faults_operator(struct sim *sim)
{
    const struct sim_node *best = NULL;
    struct sim_node *speaker = NULL;

    for (unsigned i = 0; i < sim->n; i++) {
        struct sim_node *n = &sim->nodes[i];

        if (!n->is_on || !sim->is_member[i]) {
            continue;
        }
        if (n->core.raft.leader != 0 && core_self(&n->core) != NULL) {
            speaker = n;
        }
        if (has_good_data(n) && (best == NULL || n->pg.lsn > best->pg.lsn ||
                                 (n->pg.lsn == best->pg.lsn && n->pg.run > best->pg.run))) {
            best = n;
        }
    }
    if (speaker == NULL) {
        return;
    }
    if (speaker->core.state.is_paused) {
        sim_trace(sim, speaker, "the operator lets the cluster go on");
        request(speaker, REQUEST_RESUME, NULL, false);
    } else if (best != NULL && sim->live_node < 0 &&
               (speaker->core.state.declaration.failover == FAILOVER_DECLARED ||
                speaker->core.state.sysid == 0) &&
               strcmp(speaker->core.state.declaration.primary, best->address) != 0) {
        sim_trace(sim, speaker, "the operator declares %s", best->address);
        request(speaker, REQUEST_DECLARE, best->address, true);
    }
}
