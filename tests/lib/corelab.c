#include "tests/lib/corelab.h"

#include <stdio.h>
#include <string.h>

#include "base/require.h"
#include "store/apply.h"

#define NET_MS 2
#define DISK_MS 3
#define COMMIT_MS 4
#define APPLY_LAG_MS 3

static const char *const ADDRESSES[LAB_MAX] = {
    "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"};

const char *
lab_address(unsigned i)
{
    return ADDRESSES[i];
}

static int
index_of(const char *address)
{
    for (int i = 0; i < LAB_MAX; i++) {
        if (strcmp(ADDRESSES[i], address) == 0) {
            return i;
        }
    }
    return -1;
}

void
lab_init(struct lab *lab, unsigned n, unsigned n_witnesses, uint8_t failover)
{
    struct declaration d = {.lease_ms = 2000, .failover = failover};

    memset(lab, 0, sizeof *lab);
    lab->n = n;
    lab->now_ms = 1000000;
    lab->wal = 0x3000000;
    d.n_members = (uint8_t)n;
    (void)snprintf(d.primary, sizeof d.primary, "%s", ADDRESSES[0]);
    for (unsigned i = 0; i < n; i++) {
        (void)snprintf(d.members[i].address, HA_ADDRESS_MAX, "%s", ADDRESSES[i]);
        d.members[i].kind = i >= n - n_witnesses ? MEMBER_WITNESS : MEMBER_DATABASE;
    }
    for (unsigned i = 0; i < n; i++) {
        struct core_config *c = &lab->configs[i];

        (void)snprintf(c->address, sizeof c->address, "%s", ADDRESSES[i]);
        (void)snprintf(c->name, sizeof c->name, "node%u", i + 1);
        c->kind = d.members[i].kind;
        c->declaration = d;
        c->boot_grace_ms = 15000;
        c->random = 1000 + i;
        lab_lose_disk(lab, i, true, true);
    }
}

void
lab_lose_disk(struct lab *lab, unsigned i, bool state, bool data)
{
    struct lab_node *node = &lab->nodes[i];

    REQUIRE(!node->is_on, "a disk is lost while the node is off");
    if (state) {
        memset(&node->disk, 0, sizeof node->disk);
        node->disk.nonce = (uint64_t)lab->now_ms * 10 + i + 1;
        state_init(&node->cache);
        node->cache_index = 0;
        state_init(&node->state);
        node->applied = 0;
    }
    if (data) {
        memset(&node->pg.facts, 0, sizeof node->pg.facts);
        node->pg.facts.run = PG_RUN_STOPPED;
        node->pg.facts.data = PG_DATA_EMPTY;
    }
}

/* ---- events and effects ---- */

static void give(struct lab *lab, unsigned i, const struct event *event);

static void
give_facts(struct lab *lab, unsigned i)
{
    struct event e = {.type = EVENT_PG_FACTS};

    e.pg = lab->nodes[i].pg.facts;
    give(lab, i, &e);
    if (lab->nodes[i].pg.facts.run == PG_RUN_UP) { /* it waits for nobody, and says so */
        struct event sync = {.type = EVENT_PG_SYNC};

        sync.pg_sync.version = lab->nodes[i].sync_version;
        give(lab, i, &sync);
    }
}

static bool
is_linked(const struct lab *lab, unsigned a, unsigned b)
{
    return lab->nodes[a].is_on && lab->nodes[b].is_on && !lab->is_cut[a][b];
}

static void
send_packet(struct lab *lab, unsigned from, unsigned to, const struct message *m)
{
    if (from == to || !is_linked(lab, from, to)) {
        return;
    }
    for (unsigned k = 0; k < LAB_NET_MAX; k++) {
        struct lab_packet *p = &lab->net[k];

        if (!p->is_used) {
            *p = (struct lab_packet){true, lab->now_ms + NET_MS, from, to, *m};
            return;
        }
    }
    REQUIRE(false, "the lab's network is large enough");
}

static int64_t
op_ms(uint8_t op)
{
    static const int64_t MS[PG_OP_COUNT] = {
        [PG_OP_INITDB] = 1500,
        [PG_OP_CLONE] = 2000,
        [PG_OP_START_PRIMARY] = 300,
        [PG_OP_START_STANDBY] = 300,
        [PG_OP_FOLLOW] = 30,
        [PG_OP_PROMOTE] = 100,
        [PG_OP_CHECKPOINT] = 50,
        [PG_OP_STOP_FAST] = 80,
    };

    return MS[op];
}

static void
begin_op(struct lab *lab, unsigned i, uint8_t op, const char *from)
{
    struct lab_pg *pg = &lab->nodes[i].pg;

    REQUIRE(pg->op == PG_OP_NONE || (pg->op == PG_OP_CHECKPOINT && op == PG_OP_STOP_FAST),
            "one operation at a time, but for a stop that overtakes a checkpoint");
    pg->op = op;
    pg->op_done_ms = lab->now_ms + op_ms(op);
    memmove(pg->op_from, from, strnlen(from, sizeof pg->op_from - 1) + 1);
    if (op == PG_OP_START_PRIMARY || op == PG_OP_START_STANDBY) {
        pg->facts.run = PG_RUN_STARTING;
        if (op == PG_OP_START_STANDBY) {
            pg->facts.data = PG_DATA_STANDBY;
        }
    } else if (op == PG_OP_STOP_FAST) {
        pg->facts.run = PG_RUN_STOPPING;
    }
}

/* What must be on the disk before it leaves: the promise before its grant, the release before it is
 * sent, the opening before the first lease. */
static void
check_disk_first(struct lab *lab, unsigned i, const struct effect *e)
{
    const struct durable *disk = &lab->nodes[i].disk;
    const struct message *m = &e->send.message;

    if (e->type == EFFECT_SEND && m->type == MESSAGE_LEASE_GRANT &&
        (disk->promised_reign != m->lease_grant.reign ||
         disk->promised_holder != m->lease_grant.holder)) {
        lab->violations++;
    }
    if (e->type == EFFECT_SEND && m->type == MESSAGE_RELEASE &&
        disk->released_reign < m->release.reign) {
        lab->violations++;
    }
    if (e->type == EFFECT_LEASE && e->lease.deadline.ms != 0 &&
        disk->opened_reign != e->lease.reign) {
        lab->violations++;
    }
}

static void
run_effect(struct lab *lab, unsigned i, const struct effect *e)
{
    struct lab_node *node = &lab->nodes[i];

    check_disk_first(lab, i, e);
    switch ((enum effect_type)e->type) {
    case EFFECT_SEND:
        for (unsigned k = 0; k < lab->n; k++) {
            if (e->send.to[0] == 0 || index_of(e->send.to) == (int)k) {
                send_packet(lab, i, k, &e->send.message);
            }
        }
        break;
    case EFFECT_PERSIST:
        node->persist_record = e->persist;
        node->persist_done_ms = lab->now_ms + DISK_MS;
        break;
    case EFFECT_PROPOSE:
        node->proposal = e->propose;
        node->propose_done_ms = lab->now_ms + COMMIT_MS;
        break;
    case EFFECT_LEASE:
        node->pg.lease_until_ms = (uint64_t)e->lease.deadline.ms;
        break;
    case EFFECT_PG:
        node->pg.promote_to = e->pg.next;
        begin_op(lab, i, e->pg.op, e->pg.from);
        break;
    case EFFECT_PG_KILL:
        node->pg.killed_ms = lab->now_ms + 20;
        break;
    case EFFECT_RAFT_START:
        node->raft_started = true;
        break;
    case EFFECT_RAFT_TRANSFER:
        lab->leader = 0;
        for (unsigned k = 0; k < lab->n; k++) {
            if (strcmp(ADDRESSES[k], e->raft_server.address) == 0) {
                lab->leader = k + 1;
                lab->term++;
            }
        }
        break;
    case EFFECT_REPLY:
        node->replies++;
        node->last_reply_rc = e->reply.rc;
        break;
    case EFFECT_LOG:
        if (lab->is_trace) {
            printf("# %8lld n%u %s %u %s\n",
                   (long long)lab->now_ms - 1000000,
                   i + 1,
                   e->log.event,
                   e->log.rule,
                   e->log.text);
        }
        break;
    case EFFECT_EXIT:
        node->exit_status = e->exit.status;
        node->is_on = false;
        break;
    case EFFECT_PG_SYNC:
        node->sync_version = e->pg_sync.version; /* in force with the next event */
        break;
    case EFFECT_PG_DISCARD:
        node->pg.facts.has_old = false;
        break;
    case EFFECT_PG_WATCH:
    case EFFECT_PG_SLOTS:
    case EFFECT_PG_GATE:
    case EFFECT_PG_BALLAST:
    case EFFECT_RAFT_ADD:
    case EFFECT_RAFT_REMOVE:
    case EFFECT_GATEWAY:
    case EFFECT_TYPE_COUNT:
    default:
        break;
    }
}

static void
give(struct lab *lab, unsigned i, const struct event *event)
{
    struct effect_list fx;
    struct event e = *event;

    if (!lab->nodes[i].is_on || lab->nodes[i].is_frozen) {
        return;
    }
    e.now = mono_ms(lab->now_ms);
    e.wall_ms = (uint64_t)lab->now_ms;
    decide_step(&lab->nodes[i].core, &e, &fx);
    ENSURE(mono_before(e.now, core_wakeup_at(&lab->nodes[i].core)), "what is due was done");
    for (uint32_t k = 0; k < fx.n; k++) {
        run_effect(lab, i, &fx.at[k]);
    }
}

/* ---- the world's turn ---- */

static void
end_op(struct lab *lab, unsigned i)
{
    struct lab_pg *pg = &lab->nodes[i].pg;
    struct pg_facts *f = &pg->facts;
    const int from = index_of(pg->op_from);
    struct event e = {.type = EVENT_PG_DONE};
    int rc = HA_OK;

    switch ((enum pg_op)pg->op) {
    case PG_OP_INITDB:
        f->data = PG_DATA_PRIMARY;
        f->sysid = 77;
        f->is_shut_down = true;
        f->control_timeline = 1;
        f->timeline = 1;
        f->lineage = LINEAGE_FIRST;
        f->checkpoint_lsn = lab->wal;
        f->lsn = lab->wal;
        break;
    case PG_OP_CLONE:
    case PG_OP_REWIND:
        if (from < 0 || !is_linked(lab, i, (unsigned)from) ||
            lab->nodes[from].pg.facts.run != PG_RUN_UP) {
            rc = HA_EFAILED;
            break;
        }
        *f = lab->nodes[from].pg.facts;
        f->run = PG_RUN_STOPPED;
        f->data = PG_DATA_STANDBY;
        f->control_timeline = f->timeline;
        f->min_recovery_lsn = f->lsn;
        f->checkpoint_lsn = f->lsn;
        f->is_in_recovery = true;
        f->is_streaming = false;
        f->upstream[0] = 0;
        break;
    case PG_OP_START_PRIMARY:
        f->run = PG_RUN_UP;
        f->is_in_recovery = false;
        f->timeline = f->control_timeline;
        break;
    case PG_OP_START_STANDBY:
        f->run = PG_RUN_UP;
        f->is_in_recovery = true;
        f->timeline = f->control_timeline;
        memcpy(f->upstream, pg->op_from, sizeof f->upstream);
        break;
    case PG_OP_FOLLOW:
        memcpy(f->upstream, pg->op_from, sizeof f->upstream);
        f->is_streaming = false;
        f->has_receiver = false;
        break;
    case PG_OP_PROMOTE:
        f->timeline_before = f->timeline;
        f->lineage = lineage_extend(f->lineage, f->timeline, f->lsn);
        f->timeline = pg->promote_to > f->timeline ? pg->promote_to : f->timeline + 1;
        f->fork_lsn = f->lsn;
        f->is_in_recovery = false;
        f->data = PG_DATA_PRIMARY;
        f->upstream[0] = 0;
        f->is_streaming = false;
        break;
    case PG_OP_STOP_FAST:
        f->run = PG_RUN_STOPPED;
        f->is_shut_down = true;
        f->control_timeline = f->timeline;
        f->checkpoint_lsn = f->lsn;
        f->min_recovery_lsn = f->data == PG_DATA_STANDBY ? f->lsn : 0;
        if (f->data == PG_DATA_PRIMARY) { /* the shutdown record leaves to who streams */
            f->lsn += 0x78;
            lab->wal = f->lsn > lab->wal ? f->lsn : lab->wal;
            for (unsigned k = 0; k < lab->n; k++) {
                struct pg_facts *o = &lab->nodes[k].pg.facts;

                if (k != i && is_linked(lab, i, k) && o->is_streaming &&
                    index_of(o->upstream) == (int)i) {
                    o->lsn = f->lsn;
                    o->replay_lsn = f->lsn;
                    give_facts(lab, k);
                }
            }
        }
        break;
    case PG_OP_NONE:
    case PG_OP_CHECKPOINT:
    case PG_OP_RELOAD:
    case PG_OP_COUNT:
    default:
        break;
    }
    e.pg_done.op = pg->op;
    e.pg_done.rc = rc;
    e.pg_done.text = "";
    pg->op = PG_OP_NONE;
    give_facts(lab, i);
    give(lab, i, &e);
}

static void
stop_dirty(struct lab *lab, unsigned i)
{
    struct lab_pg *pg = &lab->nodes[i].pg;
    const uint8_t op = pg->op;
    struct event e = {.type = EVENT_PG_DONE};

    pg->killed_ms = 0;
    pg->op = PG_OP_NONE;
    if (pg->facts.run != PG_RUN_STOPPED) {
        pg->facts.run = PG_RUN_STOPPED;
        pg->facts.is_shut_down = false;
        pg->facts.control_timeline = pg->facts.timeline;
        pg->facts.checkpoint_lsn = pg->facts.lsn;
        pg->facts.min_recovery_lsn = pg->facts.data == PG_DATA_STANDBY ? pg->facts.lsn : 0;
        pg->facts.is_streaming = false;
    }
    give_facts(lab, i);
    if (op != PG_OP_NONE) {
        e.pg_done.op = op;
        e.pg_done.rc = HA_ECANCELED;
        e.pg_done.text = "killed";
        give(lab, i, &e);
    }
}

/* Primaries write, standbys that can follow do. */
static void
flow_wal(struct lab *lab, unsigned i)
{
    struct pg_facts *f = &lab->nodes[i].pg.facts;
    int up;

    if (!lab->nodes[i].is_on || f->run != PG_RUN_UP) {
        return;
    }
    if (!f->is_in_recovery) {
        f->lsn += 0x100;
        lab->wal = f->lsn > lab->wal ? f->lsn : lab->wal;
        return;
    }
    up = index_of(f->upstream);
    if (up < 0 || !is_linked(lab, i, (unsigned)up) || !is_linked(lab, (unsigned)up, i) ||
        (lab->nodes[up].pg.facts.run != PG_RUN_UP &&
         lab->nodes[up].pg.facts.run != PG_RUN_STOPPING)) {
        f->is_streaming = false;
        f->has_receiver = false;
        return;
    }
    const struct pg_facts *u = &lab->nodes[up].pg.facts;
    if (u->timeline < f->timeline || (u->timeline > f->timeline && f->lsn > u->fork_lsn) ||
        (u->timeline == f->timeline && u->lsn < f->lsn)) {
        f->is_streaming = false;
        return;
    }
    f->is_streaming = true;
    f->has_receiver = true;
    f->timeline = u->timeline;
    f->lineage = u->lineage;
    f->lsn = u->lsn;
    f->replay_lsn = u->lsn;
}

static bool
has_majority(const struct lab *lab, unsigned i)
{
    unsigned n = 0;

    for (unsigned k = 0; k < lab->n; k++) {
        n += k == i ? lab->nodes[k].is_on
                    : is_linked(lab, i, k) && is_linked(lab, k, i) && lab->nodes[k].raft_started &&
                          !lab->nodes[k].is_frozen;
    }
    return n >= lab->n / 2 + 1;
}

static void
elect(struct lab *lab)
{
    const unsigned l = lab->leader;

    if (l != 0 && lab->nodes[l - 1].is_on && lab->nodes[l - 1].raft_started &&
        !lab->nodes[l - 1].is_frozen && has_majority(lab, l - 1)) {
        return;
    }
    lab->leader = 0;
    if (lab->now_ms % 700 != 0) { /* an election takes its time */
        return;
    }
    for (unsigned i = lab->n; i > 0; i--) {
        if (lab->nodes[i - 1].is_on && lab->nodes[i - 1].raft_started &&
            !lab->nodes[i - 1].is_frozen && has_majority(lab, i - 1)) {
            lab->leader = i;
            lab->term++;
            return;
        }
    }
}

static void
tell_raft(struct lab *lab, unsigned i)
{
    struct event e = {.type = EVENT_RAFT};
    const bool hears =
        lab->leader != 0 && (lab->leader == i + 1 || is_linked(lab, lab->leader - 1, i));

    e.raft.term = lab->term;
    e.raft.role = lab->leader == i + 1 ? 3 : 1;
    e.raft.is_ready = lab->leader == i + 1;
    if (hears) {
        const struct member *m =
            state_member_at(&lab->nodes[lab->leader - 1].state, ADDRESSES[lab->leader - 1]);

        e.raft.leader = m == NULL ? 1 : m->id;
    }
    if (memcmp(&e.raft, &lab->nodes[i].core.raft, sizeof e.raft) != 0) {
        give(lab, i, &e);
    }
}

static void
replicate(struct lab *lab, unsigned i)
{
    struct lab_node *node = &lab->nodes[i];
    const uint64_t before = node->applied;

    if (lab->leader == 0 || !node->raft_started ||
        !(lab->leader == i + 1 || is_linked(lab, lab->leader - 1, i))) {
        return;
    }
    while (node->applied < lab->n_log) {
        (void)apply_command(&node->state, &lab->log[node->applied]);
        node->applied++;
    }
    if (node->applied != before) {
        struct event e = {.type = EVENT_STATE};

        e.state.state = &node->state;
        e.state.index = node->applied;
        node->cache = node->state;
        node->cache_index = node->applied;
        give(lab, i, &e);
    }
}

static void
commit(struct lab *lab, unsigned i)
{
    struct lab_node *node = &lab->nodes[i];
    struct event e = {.type = EVENT_PROPOSED};

    node->propose_done_ms = 0;
    e.proposed.counter = node->proposal.counter;
    e.proposed.rc = HA_ENOTLEADER;
    if (lab->leader != 0 && (lab->leader == i + 1 || (is_linked(lab, i, lab->leader - 1) &&
                                                      is_linked(lab, lab->leader - 1, i)))) {
        struct state probe = lab->nodes[lab->leader - 1].state;
        uint64_t at = lab->nodes[lab->leader - 1].applied;

        REQUIRE(lab->n_log < LAB_LOG_MAX, "the lab's log is large enough");
        lab->log[lab->n_log++] = node->proposal;
        while (at < lab->n_log) {
            e.proposed.rc = apply_command(&probe, &lab->log[at++]);
        }
        if (lab->is_trace) {
            printf("# %8lld n%u log: %s -> %d\n",
                   (long long)lab->now_ms - 1000000,
                   i + 1,
                   command_type_text(node->proposal.type),
                   e.proposed.rc);
        }
        replicate(lab, lab->leader - 1);
    }
    give(lab, i, &e);
}

static void
node_turn(struct lab *lab, unsigned i)
{
    struct lab_node *node = &lab->nodes[i];
    const struct event tick = {.type = EVENT_TICK};

    if (!node->is_on) {
        return;
    }
    if (node->pg.killed_ms != 0 && lab->now_ms >= node->pg.killed_ms && !lab->is_kill_stuck[i]) {
        stop_dirty(lab, i);
    }
    if (node->pg.op != PG_OP_NONE && lab->now_ms >= node->pg.op_done_ms) {
        end_op(lab, i);
    }
    if (node->is_frozen) {
        return;
    }
    if (node->persist_done_ms != 0 && lab->now_ms >= node->persist_done_ms) {
        struct event e = {.type = EVENT_PERSISTED};

        node->persist_done_ms = 0;
        node->disk = node->persist_record;
        give(lab, i, &e);
    }
    if (node->propose_done_ms != 0 && lab->now_ms >= node->propose_done_ms) {
        commit(lab, i);
    }
    if (node->is_on && lab->now_ms % 20 == 0) {
        give_facts(lab, i);
    }
    if (node->is_on && (mono_reached(mono_ms(lab->now_ms), core_wakeup_at(&node->core)))) {
        give(lab, i, &tick);
    }
}

/* S1: who could acknowledge a write at this very moment? With the fence inside PostgreSQL that
 * takes a live lease page; the lab counts both. */
static void
check_s1(struct lab *lab)
{
    unsigned n = 0;

    for (unsigned i = 0; i < lab->n; i++) {
        const struct lab_pg *pg = &lab->nodes[i].pg;

        n += lab->nodes[i].is_on && pg->facts.run == PG_RUN_UP && !pg->facts.is_in_recovery &&
             (uint64_t)lab->now_ms < pg->lease_until_ms;
    }
    if (n > 1) {
        lab->violations++;
    }
}

static void
deliver(struct lab *lab)
{
    for (unsigned k = 0; k < LAB_NET_MAX; k++) {
        struct lab_packet *p = &lab->net[k];

        if (p->is_used && lab->now_ms >= p->at_ms && !lab->nodes[p->to].is_frozen) {
            const struct message m = p->message;
            struct event e = {.type = EVENT_MESSAGE};

            p->is_used = false;
            e.message.from = ADDRESSES[p->from];
            e.message.message = &m;
            if (is_linked(lab, p->from, p->to)) {
                give(lab, p->to, &e);
            }
        }
    }
}

void
lab_run(struct lab *lab, int64_t ms)
{
    for (const int64_t end = lab->now_ms + ms; lab->now_ms < end; lab->now_ms++) {
        elect(lab);
        for (unsigned i = 0; i < lab->n; i++) {
            if (lab->nodes[i].is_on && lab->nodes[i].raft_started && !lab->nodes[i].is_frozen) {
                if (lab->now_ms % APPLY_LAG_MS == 0) {
                    replicate(lab, i);
                }
                tell_raft(lab, i);
            }
            if (lab->now_ms % 5 == 0) {
                flow_wal(lab, i);
            }
        }
        deliver(lab);
        for (unsigned i = 0; i < lab->n; i++) {
            node_turn(lab, i);
        }
        check_s1(lab);
    }
}

void
lab_power_on(struct lab *lab, unsigned i)
{
    struct lab_node *node = &lab->nodes[i];

    node->is_on = true;
    node->is_frozen = false;
    node->raft_started = false;
    node->exit_status = -1;
    node->persist_done_ms = 0;
    node->propose_done_ms = 0;
    node->pg.op = PG_OP_NONE;
    node->pg.killed_ms = 0;
    node->pg.lease_until_ms = 0;
    node->disk.boots++;
    core_init(&node->core,
              &lab->configs[i],
              &node->disk,
              node->cache_index != 0 ? &node->cache : NULL,
              node->cache_index,
              mono_ms(lab->now_ms));
    give_facts(lab, i);
}

void
lab_power_off(struct lab *lab, unsigned i)
{
    struct lab_node *node = &lab->nodes[i];

    node->is_on = false; /* nothing of it hears of anything any more */
    stop_dirty(lab, i);
    node->pg.lease_until_ms = 0;
    node->raft_started = false;
    for (unsigned k = 0; k < LAB_NET_MAX; k++) {
        if (lab->net[k].is_used && (lab->net[k].from == i || lab->net[k].to == i)) {
            lab->net[k].is_used = false;
        }
    }
}

void
lab_cut(struct lab *lab, unsigned i, bool is_cut)
{
    for (unsigned k = 0; k < lab->n; k++) {
        if (k != i) {
            lab->is_cut[i][k] = is_cut;
            lab->is_cut[k][i] = is_cut;
        }
    }
}

void
lab_crash_postgres(struct lab *lab, unsigned i)
{
    stop_dirty(lab, i);
}

void
lab_request(struct lab *lab, unsigned at, uint8_t type)
{
    struct event e = {.type = EVENT_REQUEST};

    e.request.token = 1;
    e.request.type = type;
    give(lab, at, &e);
}

void
lab_probe(struct lab *lab, unsigned i, const struct pg_probe *probe)
{
    struct event e = {.type = EVENT_PG_PROBE, .pg_probe = *probe};

    give(lab, i, &e);
}

void
lab_stop(struct lab *lab, unsigned i)
{
    struct event e = {.type = EVENT_STOP};

    give(lab, i, &e);
}

void
lab_request_declare(struct lab *lab, unsigned at, unsigned primary)
{
    struct event e = {.type = EVENT_REQUEST};

    e.request.token = 1;
    e.request.type = REQUEST_DECLARE;
    (void)snprintf(e.request.primary, sizeof e.request.primary, "%s", ADDRESSES[primary]);
    give(lab, at, &e);
}

int
lab_primary(const struct lab *lab)
{
    for (unsigned i = 0; i < lab->n; i++) {
        const struct lab_pg *pg = &lab->nodes[i].pg;

        if (lab->nodes[i].is_on && pg->facts.run == PG_RUN_UP && !pg->facts.is_in_recovery &&
            (uint64_t)lab->now_ms < pg->lease_until_ms) {
            return (int)i;
        }
    }
    return -1;
}

static bool
is_healthy(const struct lab *lab, int primary)
{
    const int p = lab_primary(lab);

    if (p < 0 || (primary >= 0 && p != primary) || !lab->nodes[p].core.state.is_opened) {
        return false;
    }
    for (unsigned i = 0; i < lab->n; i++) {
        if ((int)i != p && lab->nodes[i].is_on && lab->configs[i].kind == MEMBER_DATABASE &&
            (!lab->nodes[i].pg.facts.is_streaming ||
             index_of(lab->nodes[i].pg.facts.upstream) != p)) {
            return false;
        }
    }
    return true;
}

bool
lab_run_until_healthy(struct lab *lab, int primary, int64_t limit_ms)
{
    for (int64_t end = lab->now_ms + limit_ms; lab->now_ms < end;) {
        if (is_healthy(lab, primary)) {
            return true;
        }
        lab_run(lab, 10);
    }
    return false;
}
