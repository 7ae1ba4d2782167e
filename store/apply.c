#include "store/apply.h"

#include <string.h>

#include "base/require.h"
#include "store/apply_recover.h"
#include "store/sync.h"

static struct member *
member_entry(struct state *s, uint64_t id)
{
    for (size_t i = 0; id != 0 && i < HA_MEMBER_SLOTS; i++) {
        if (s->members[i].id == id) {
            return &s->members[i];
        }
    }
    return NULL;
}

static struct member *
member_entry_at(struct state *s, const char *address)
{
    const struct member *m = state_member_at(s, address);

    return m == NULL ? NULL : member_entry(s, m->id);
}

static struct member *
member_create(struct state *s, const struct member_spec *spec)
{
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        struct member *m = &s->members[i];

        if (m->id == 0) {
            memset(m, 0, sizeof *m);
            m->id = member_id(spec->address, s->members_generation);
            m->joined = s->members_generation;
            m->kind = spec->kind;
            memcpy(m->address, spec->address, sizeof m->address);
            return m;
        }
    }
    return NULL;
}

/* The first words of a cluster. Every founder is taken to have spoken them, so that one that comes
 * late with the same environment says nothing new. */
static int
apply_found(struct state *s, const struct command *c)
{
    const struct declaration *d = &c->found.declaration;

    if (s->cluster_id != 0 || c->found.cluster_id == 0 || declaration_fault(d) != NULL) {
        return HA_EREFUSED;
    }
    state_init(s);
    s->cluster_id = c->found.cluster_id;
    s->declaration = *d;
    s->generation = 1;
    s->members_generation = 1;
    s->settled_generation = 1;
    for (size_t i = 0; i < d->n_members; i++) {
        struct member *m = member_create(s, &d->members[i]);

        ENSURE(m != NULL, "a declaration has at most HA_MEMBERS_MAX members");
        m->declared = declaration_digest(d);
    }
    return HA_OK;
}

static int
apply_register(struct state *s, const struct command *c)
{
    struct member *m = member_entry_at(s, c->member_register.address);

    if (m == NULL || c->member_register.nonce == 0) {
        return HA_EREFUSED;
    }
    if (m->nonce != 0 && m->nonce != c->member_register.nonce) {
        return HA_EREFUSED; /* it lost its disk: MEMBER_REPLACE */
    }
    m->nonce = c->member_register.nonce;
    memcpy(m->name, c->member_register.name, sizeof m->name);
    return HA_OK;
}

/* The bytes behind the text are zeroed too: equal states are equal byte by byte. */
static void
note_declarer(struct state *s, const char *who)
{
    const size_t len = strnlen(who, sizeof s->declared_by - 1);

    memset(s->declared_by, 0, sizeof s->declared_by);
    memcpy(s->declared_by, who, len);
}

/* True when the words are old whoever speaks them: an older number than the one on record, or the
 * first words of a member that joined later. Such a member came because others had declared it;
 * what its environment says beside that may be of last week. A higher number says it is not. */
static bool
is_old_news(const struct state *s, const struct declaration *d, bool is_first)
{
    const bool is_lower = d->number != 0 && d->number < s->declaration.number;

    return is_lower || (is_first && d->number <= s->declaration.number);
}

/*
 * The one rule of declarations: only what differs from what the same declarer said last is
 * news. Old news is noted as said, but does not win. A person at the keyboard may say it anew, and
 * that is no word of the job: its task on a node that was off repeats what it said before, and
 * moves nobody.
 */
static int
apply_declare(struct state *s, const struct command *c)
{
    const bool is_job = c->declare.declarer[0] == 0;
    const bool is_anew = is_job && c->declare.is_anew;
    struct member *m = is_job ? NULL : member_entry_at(s, c->declare.declarer);
    struct declaration d = c->declare.declaration;
    uint64_t *said = is_job ? &s->job_declared : m == NULL ? NULL : &m->declared;
    uint64_t digest;
    bool is_first;

    if (said == NULL || s->cluster_id == 0) {
        return HA_EREFUSED;
    }
    is_first = !is_job && *said == 0;
    if (is_job) {
        struct declaration whole = s->declaration;

        memcpy(whole.primary, d.primary, sizeof whole.primary);
        whole.number = d.number;
        memset(&d, 0, sizeof d);
        memcpy(d.primary, whole.primary, sizeof d.primary);
        d.number = whole.number;
        digest = declaration_digest(&d);
        d = whole;
    } else {
        digest = declaration_digest(&d);
    }
    if (declaration_fault(&d) != NULL) {
        return HA_EREFUSED;
    }
    if (*said == digest && !is_anew) {
        return HA_OK;
    }
    if (!is_anew) {
        *said = digest;
    }
    if (is_old_news(s, &d, is_first)) {
        return HA_OK;
    }
    if (d.number == 0) {
        d.number = s->declaration.number;
    }
    /* Said anew it is a wish of now, though a failover moved the reign away from the same words. */
    if (!declaration_equals(&d, &s->declaration) || is_anew) {
        s->generation++;
        note_declarer(s, is_job ? "hactl declare" : c->declare.declarer);
    }
    s->declaration = d;
    return HA_OK;
}

/* One change at a time: the one before must be settled. */
static bool
members_may_change(const struct state *s, const struct command *c)
{
    return s->cluster_id != 0 && c->members.generation == s->members_generation &&
           s->settled_generation == s->members_generation;
}

static size_t
members_current(const struct state *s)
{
    size_t n = 0;

    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        n += member_is_current(&s->members[i]);
    }
    return n;
}

static int
apply_member_add(struct state *s, const struct command *c)
{
    const struct member_spec *spec = &c->members.spec;

    if (!members_may_change(s, c) || spec->address[0] == 0 || spec->kind >= MEMBER_KIND_COUNT ||
        state_member_at(s, spec->address) != NULL) {
        return HA_EREFUSED;
    }
    if (members_current(s) == HA_MEMBERS_MAX) {
        return HA_EREFUSED;
    }
    s->members_generation++;
    ENSURE(member_create(s, spec) != NULL, "there is one slot more than members");
    return HA_OK;
}

/* On its way out; a switchover to it is called off. */
static void
member_leave(struct state *s, struct member *m)
{
    m->left = s->members_generation;
    if (s->handover == m->id) {
        s->handover = 0;
    }
}

static int
apply_member_remove(struct state *s, const struct command *c)
{
    struct member *m = member_entry_at(s, c->members.spec.address);

    if (!members_may_change(s, c) || m == NULL) {
        return HA_EREFUSED;
    }
    if (m->id == s->holder && !s->is_vacant) {
        return HA_EREFUSED; /* hand over first */
    }
    if (members_current(s) == 1) {
        return HA_EREFUSED; /* anything is a quorum of nobody */
    }
    s->members_generation++;
    member_leave(s, m);
    return HA_OK;
}

static int
apply_member_replace(struct state *s, const struct command *c)
{
    struct member *m = member_entry_at(s, c->members.spec.address);
    struct member_spec spec;
    struct member *fresh;

    if (!members_may_change(s, c) || m == NULL || c->members.nonce == 0 || m->nonce == 0 ||
        m->nonce == c->members.nonce) {
        return HA_EREFUSED;
    }
    s->members_generation++;
    spec.kind = m->kind;
    memcpy(spec.address, m->address, sizeof spec.address);
    fresh = member_create(s, &spec);
    ENSURE(fresh != NULL, "there is one slot more than members");
    memcpy(fresh->name, m->name, sizeof fresh->name);
    fresh->nonce = c->members.nonce;
    fresh->declared = m->declared;
    member_leave(s, m);
    return HA_OK;
}

/* Either the holder leased under the newest members, so it never again counts an older set; or
 * nobody holds a lease at all. Either way the old set has no voice any more. A vacant reign alone
 * does not say that: one that nobody opened leaves the reign before it alive, which may renew in
 * the old set unseen (tests/model: settle-unopened). */
static int
apply_settle(struct state *s, const struct command *c)
{
    const bool is_held = s->reign != 0 && !s->is_vacant;
    const bool is_unheld = s->reign == 0 || (s->is_vacant && s->is_opened);

    if (s->cluster_id == 0 || c->settle.generation != s->members_generation) {
        return HA_EREFUSED;
    }
    if (c->settle.holder == 0 ? !is_unheld : (!is_held || c->settle.holder != s->holder)) {
        return HA_EREFUSED;
    }
    s->settled_generation = s->members_generation;
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        if (s->members[i].left != 0) {
            memset(&s->members[i], 0, sizeof s->members[i]);
            /* What it had is not on another because it is gone: it stays counted (INV-9). */
            s->sync_lost += s->sync_set >> i & 1;
            s->sync_set &= ~(1ULL << i);
        }
    }
    return HA_OK;
}

static void
history_add(struct state *s, const struct command *c, const struct member *holder)
{
    struct reign_row *row;

    if (s->n_history == HA_HISTORY_MAX) {
        memmove(&s->history[0], &s->history[1], (HA_HISTORY_MAX - 1) * sizeof s->history[0]);
        s->n_history--;
    }
    row = &s->history[s->n_history++];
    memset(row, 0, sizeof *row);
    row->reign = c->appoint.reign;
    row->holder = c->appoint.holder;
    row->wall_ms = c->appoint.wall_ms;
    memcpy(row->holder_address, holder->address, sizeof row->holder_address);
    memcpy(row->why, c->appoint.why, sizeof row->why);
}

static int
apply_appoint(struct state *s, const struct command *c)
{
    struct member *m = member_entry(s, c->appoint.holder);

    if (s->cluster_id == 0 || s->is_paused || c->appoint.reign != s->reign + 1 || m == NULL ||
        !member_is_current(m) || m->kind != MEMBER_DATABASE) {
        return HA_EREFUSED;
    }
    if (c->appoint.epoch != s->sync_epoch) {
        return HA_EREFUSED; /* who had let go for this choice may follow the old holder again */
    }
    s->sync_epoch++;
    s->reign = c->appoint.reign;
    s->holder = c->appoint.holder;
    s->is_vacant = false;
    s->is_opened = false;
    s->handover = 0;
    s->final_lsn = 0;
    s->acted_generation = s->generation;
    m->rebuild = 0;
    m->rebuild_rung = REBUILD_NONE;
    history_add(s, c, m);
    return HA_OK;
}

static int
apply_handover(struct state *s, const struct command *c)
{
    const struct member *m = state_member(s, c->handover.to);

    if (c->handover.reign != s->reign || s->reign == 0 || s->is_vacant) {
        return HA_EREFUSED;
    }
    if (c->handover.to != 0 && (s->is_paused || m == NULL || !member_is_current(m) ||
                                m->kind != MEMBER_DATABASE || c->handover.to == s->holder)) {
        return HA_EREFUSED;
    }
    s->handover = c->handover.to;
    return HA_OK;
}

static int
apply_vacate(struct state *s, const struct command *c)
{
    if (c->vacate.reign != s->reign || s->reign == 0 || c->vacate.holder != s->holder) {
        return HA_EREFUSED;
    }
    if (s->is_vacant) {
        return HA_OK;
    }
    s->is_vacant = true;
    s->final_lsn = c->vacate.final_lsn;
    return HA_OK;
}

/*
 * A promotion leaves the newest timeline on record, nowhere before that one began, and takes a
 * number that none before it can have taken, though it was never opened. (A higher one: history
 * files of others' making were in its way.) The first reign brings the data that it has.
 */
static bool
continues_ledger(const struct state *s, const struct command *c)
{
    if (s->opened_reign == 0) {
        return c->opened.lineage != 0;
    }
    return c->opened.timeline >= state_next_timeline(s) && c->opened.fork_lsn >= s->fork_lsn &&
           c->opened.lineage == lineage_extend(s->lineage, s->timeline, c->opened.fork_lsn);
}

static int
apply_opened(struct state *s, const struct command *c)
{
    if (c->opened.reign != s->reign || s->reign == 0 || c->opened.holder != s->holder ||
        s->is_vacant || c->opened.sysid == 0 || c->opened.timeline == 0) {
        return HA_EREFUSED;
    }
    if (s->sysid != 0 && s->sysid != c->opened.sysid) {
        return HA_EREFUSED;
    }
    if (s->is_opened) {
        return s->timeline == c->opened.timeline && s->lineage == c->opened.lineage ? HA_OK
                                                                                    : HA_EREFUSED;
    }
    if (!continues_ledger(s, c)) {
        return HA_EREFUSED;
    }
    s->sysid = c->opened.sysid;
    s->is_opened = true;
    s->opened_reign = s->reign;
    s->timeline = c->opened.timeline;
    s->fork_lsn = c->opened.fork_lsn;
    s->lineage = c->opened.lineage;
    for (uint32_t i = 0; i < s->n_history; i++) {
        if (s->history[i].reign == s->reign) {
            s->history[i].timeline = c->opened.timeline;
            s->history[i].fork_lsn = c->opened.fork_lsn;
            s->history[i].lineage = c->opened.lineage;
        }
    }
    return HA_OK;
}

static int
apply_settings(struct state *s, const struct command *c)
{
    struct declaration d = s->declaration;

    if (c->settings.lease_ms != 0) {
        d.lease_ms = c->settings.lease_ms;
    }
    if (c->settings.max_lag != 0) {
        d.max_lag = c->settings.max_lag;
    }
    if (c->settings.failover != FAILOVER_POLICY_COUNT) {
        d.failover = c->settings.failover;
    }
    if (s->cluster_id == 0 || declaration_fault(&d) != NULL) {
        return HA_EREFUSED;
    }
    if (!declaration_equals(&d, &s->declaration)) {
        /* A setting is no word about the primary: what was acted upon stays acted upon. */
        s->acted_generation += s->acted_generation == s->generation;
        s->generation++;
        note_declarer(s, "hactl settings");
    }
    s->declaration = d;
    return HA_OK;
}

/* The bits count entries: they mean what the proposer meant only while the members are the same.
 * Before a reign is open nobody follows its holder, so what is on record is of the reign before. */
static int
apply_sync(struct state *s, const struct command *c)
{
    if (c->sync.reign != s->reign || s->reign == 0 || s->is_vacant ||
        c->sync.generation != s->members_generation || c->sync.set >> HA_MEMBER_SLOTS != 0 ||
        !s->is_opened || c->sync.epoch != s->sync_epoch) {
        return HA_EREFUSED;
    }
    if (c->sync.count == 0 ? (c->sync.set != 0 || c->sync.lost != 0)
                           : c->sync.count > sync_size(c->sync.set) + c->sync.lost) {
        return HA_EREFUSED;
    }
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        const struct member *m = &s->members[i];

        if ((c->sync.set >> i & 1) != 0 && (!member_is_current(m) || m->kind != MEMBER_DATABASE)) {
            return HA_EREFUSED;
        }
    }
    s->sync_set = c->sync.set;
    s->sync_count = c->sync.count;
    s->sync_lost = c->sync.lost;
    s->sync_epoch++;
    return HA_OK;
}

/* The wipe interlock: which member's data of which system, and the newer reign that it saw. */
static int
apply_rebuild(struct state *s, const struct command *c)
{
    struct member *m = member_entry(s, c->rebuild.member);

    if (m == NULL || c->rebuild.rung >= REBUILD_RUNG_COUNT) {
        return HA_EREFUSED;
    }
    if (c->rebuild.rung == REBUILD_NONE) {
        m->rebuild = 0;
        m->rebuild_rung = REBUILD_NONE;
        return HA_OK;
    }
    if (!member_is_current(m) || m->kind != MEMBER_DATABASE || m->id == s->holder ||
        c->rebuild.reign != s->reign || s->is_vacant || !s->is_opened ||
        c->rebuild.sysid != s->sysid ||
        (c->rebuild.rung != REBUILD_CLEAR && !state_may_rebuild(s, m->id))) {
        return HA_EREFUSED;
    }
    m->rebuild = c->rebuild.reign;
    m->rebuild_rung = c->rebuild.rung;
    return HA_OK;
}

static int
apply_pause(struct state *s, const struct command *c)
{
    if (s->cluster_id == 0) {
        return HA_EREFUSED;
    }
    s->is_paused = c->type == COMMAND_PAUSE;
    return HA_OK;
}

static int
apply_one(struct state *s, const struct command *c)
{
    switch ((enum command_type)c->type) {
    case COMMAND_FOUND:
        return apply_found(s, c);
    case COMMAND_REGISTER:
        return apply_register(s, c);
    case COMMAND_DECLARE:
        return apply_declare(s, c);
    case COMMAND_MEMBER_ADD:
        return apply_member_add(s, c);
    case COMMAND_MEMBER_REMOVE:
        return apply_member_remove(s, c);
    case COMMAND_MEMBER_REPLACE:
        return apply_member_replace(s, c);
    case COMMAND_SETTLE:
        return apply_settle(s, c);
    case COMMAND_APPOINT:
        return apply_appoint(s, c);
    case COMMAND_HANDOVER:
        return apply_handover(s, c);
    case COMMAND_VACATE:
        return apply_vacate(s, c);
    case COMMAND_OPENED:
        return apply_opened(s, c);
    case COMMAND_SYNC:
        return apply_sync(s, c);
    case COMMAND_SETTINGS:
        return apply_settings(s, c);
    case COMMAND_PAUSE:
    case COMMAND_RESUME:
        return apply_pause(s, c);
    case COMMAND_RECOVER:
        return apply_recover(s, c);
    case COMMAND_REBUILD:
        return apply_rebuild(s, c);
    case COMMAND_TYPE_COUNT:
    default:
        return HA_EREFUSED;
    }
}

int
apply_command(struct state *state, const struct command *command)
{
    struct member *origin = member_entry(state, command->origin);
    int rc;

    if (origin != NULL && command->counter != 0 && command->counter <= origin->last_counter) {
        /* Said before. Of an older one only the newest answer is remembered, and nobody waits for
         * it: a member has one proposal in flight. */
        return command->counter == origin->last_counter ? origin->last_result : HA_EREFUSED;
    }
    rc = apply_one(state, command);
    origin = member_entry(state, command->origin);
    if (origin != NULL && command->counter != 0) {
        origin->last_counter = command->counter;
        origin->last_result = rc;
    }
    return rc;
}

int
apply_bytes(struct state *state, const void *bytes, size_t len)
{
    struct command command;
    const int rc = command_decode(&command, bytes, len);

    return rc == HA_OK ? apply_command(state, &command) : rc;
}
