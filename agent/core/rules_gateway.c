/*
 * The gateways: a ready Raft leader makes every Pgpool see what is. Rules 4xx.
 *
 * Wanted: the holder that may write is the primary, verified standbys are attached, all
 * others are detached. Only differences are told, and what was told is read back: Pgpool
 * acknowledges what it queued, not what it did.
 */
#include "agent/core/core_internal.h"
#include "agent/core/gateway_plan.h"

#include <stdio.h>
#include <string.h>

#define BAD_PATIENCE_MS 1000    /* shorter than this a server's absence is not worth a cut */
#define SUCCESSOR_MS 2000       /* behind the lease: an election, a promotion */
#define STRAY_PATIENCE_MS 10000 /* a standby that does not follow the holder, or only from afar */
#define GOOD_PATIENCE_MS 200    /* two looks at its WAL receiver */
#define STEADY_MS 15000
#define READ_BACK_MS 100
#define TELL_AGAIN_MS 1500 /* Pgpool handles what was queued within a second or so */
#define RETRY_MS 1000
#define PROBATION_MS 5000 /* whether what was told lasts is worth a look before the steady one */

/* ---- what is wanted ---- */

static bool
may_write(const struct core *core, const struct candidate *c)
{
    const struct state *s = &core->state;

    return c->is_fresh && c->member->id == s->holder && !s->is_vacant &&
           c->status->reign == s->reign && c->status->lease_left_ms > 0 &&
           c->status->pg.run == PG_RUN_UP && !c->status->pg.is_in_recovery && !c->status->is_closed;
}

static bool
is_near(const struct core *core, const struct candidate *c, const struct candidate *holder)
{
    const uint64_t max_lag = core->state.declaration.max_lag;

    return max_lag == 0 || c->status->pg.replay_lsn + max_lag >= holder->status->pg.lsn;
}

static bool
streams_from(const struct core *core, const struct candidate *c, const struct candidate *holder)
{
    const struct pg_facts *pg = &c->status->pg;
    const struct pg_facts *from = &holder->status->pg;

    return pg->is_streaming && pg->timeline == from->timeline && pg->lineage == from->lineage &&
           strcmp(pg->upstream, holder->member->address) == 0 && is_near(core, c, holder);
}

static bool
has_lasted(const struct core *core, struct mono since, int64_t ms)
{
    return since.ms != 0 && mono_sub(core->now, since) >= ms;
}

static void
note_since(const struct core *core, struct mono *since, bool holds)
{
    if (!holds) {
        since->ms = 0;
    } else if (since->ms == 0) {
        *since = core->now;
    }
}

static uint8_t
judge(const struct core *core,
      const struct candidate *c,
      const struct candidate *holder,
      struct gateway_target *t)
{
    const bool is_up = c->is_fresh && c->status->pg.run == PG_RUN_UP;
    const bool is_standby =
        is_up && c->status->pg.is_in_recovery && health_serves(c->status->health);
    const bool is_unwanted = is_standby && c->status->is_noloadbalance;
    const bool is_good =
        is_standby && !is_unwanted && holder != NULL && streams_from(core, c, holder);
    const bool is_stray =
        is_standby && holder != NULL && (!c->status->pg.is_streaming || !is_near(core, c, holder));

    note_since(core, &t->good_since, is_good);
    note_since(core, &t->bad_since, !is_standby || is_stray || is_unwanted);
    if (c == holder) {
        t->bad_since.ms = 0;
        return GATEWAY_WANT_PRIMARY;
    }
    if (is_good) {
        return has_lasted(core, t->good_since, GOOD_PATIENCE_MS) ? GATEWAY_WANT_STANDBY
                                                                 : GATEWAY_WANT_KEEP;
    }
    if (is_up && !c->status->pg.is_in_recovery && c->member->id != core->state.holder) {
        return GATEWAY_WANT_AWAY; /* a stale primary: not for one moment */
    }
    return has_lasted(core, t->bad_since, is_stray ? STRAY_PATIENCE_MS : BAD_PATIENCE_MS)
               ? GATEWAY_WANT_AWAY
               : GATEWAY_WANT_KEEP;
}

static struct gateway_target *
target_of(struct core *core, const char *address)
{
    struct gateway_target *spare = NULL;

    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        struct gateway_target *t = &core->gateways.targets[i];

        if (strcmp(t->address, address) == 0) {
            return t;
        }
        if (spare == NULL && t->address[0] == 0) {
            spare = t;
        }
    }
    if (spare != NULL) {
        (void)snprintf(spare->address, sizeof spare->address, "%s", address);
    }
    return spare;
}

static void
forget_gone(struct core *core)
{
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        struct gateway_target *t = &core->gateways.targets[i];

        if (t->address[0] != 0 && state_member_at(&core->state, t->address) == NULL) {
            memset(t, 0, sizeof *t);
            core->gateways.version++;
        }
    }
}

/* A primary was there a moment ago, and another, or the same, is on its way. */
static void
update_expectation(struct core *core, const struct candidate *list, size_t n, bool has_primary)
{
    const struct state *s = &core->state;
    struct gateways_view *all = &core->gateways;
    bool is_coming = s->declaration.failover == FAILOVER_AUTO || s->handover != 0 || s->is_vacant;
    bool was = all->is_expecting;

    for (size_t i = 0; i < n; i++) {
        is_coming |= list[i].member->id == s->holder && list[i].is_fresh;
    }
    note_since(core, &all->lost_since, !has_primary);
    all->is_expecting = !has_primary && is_coming && !s->is_paused &&
                        !has_lasted(core, all->lost_since, s->declaration.lease_ms + SUCCESSOR_MS);
    all->version += was != all->is_expecting;
}

static void
update_targets(struct core *core)
{
    struct candidate list[HA_MEMBER_SLOTS];
    const size_t n = candidates_list(core, list);
    const struct candidate *holder = NULL;

    forget_gone(core);
    for (size_t i = 0; i < n; i++) {
        holder = may_write(core, &list[i]) ? &list[i] : holder;
    }
    update_expectation(core, list, n, holder != NULL);
    for (size_t i = 0; i < n; i++) {
        struct gateway_target *t = target_of(core, list[i].member->address);
        uint8_t want;

        if (t == NULL || list[i].member->kind != MEMBER_DATABASE) {
            continue;
        }
        want = judge(core, &list[i], holder, t);
        core->gateways.version += want != t->want;
        t->want = want;
    }
}

/* ---- sessions ---- */

static void
put_why(struct core *core,
        struct effect_list *fx,
        struct gateway_view *g,
        uint16_t rule,
        const char *why)
{
    const bool is_news = rule != g->rule;
    const bool is_bad = rule >= 420;

    g->rule = rule;
    (void)snprintf(g->why, sizeof g->why, "%s", why);
    if (is_news || (rule != 400 && rule < 420 && g->is_told)) {
        effect_log(fx,
                   is_bad ? LOG_LEVEL_WARN : LOG_LEVEL_INFO,
                   rule,
                   "gateway",
                   "%s: %s",
                   g->address,
                   g->why);
    }
    (void)core;
}

static void
tell(struct core *core,
     struct effect_list *fx,
     struct gateway_view *g,
     const struct gateway_plan *plan)
{
    struct effect *e = effect_push(fx, EFFECT_GATEWAY);

    memcpy(e->gateway.address, g->address, HA_ADDRESS_MAX);
    e->gateway.n_ops = plan->n;
    memcpy(e->gateway.ops, plan->ops, sizeof plan->ops);
    g->is_busy = true;
    g->is_told = true;
    g->told_at = core->now;
    g->told_version = core->gateways.version;
    put_why(core, fx, g, plan->rule, plan->why);
}

static void
look(struct core *core, struct effect_list *fx, struct gateway_view *g)
{
    struct effect *e = effect_push(fx, EFFECT_GATEWAY);

    memcpy(e->gateway.address, g->address, HA_ADDRESS_MAX);
    e->gateway.n_ops = 1;
    e->gateway.ops[0].verb = GATEWAY_LOOK;
    g->is_busy = true;
    g->is_told = false;
    g->due_at = mono_add(core->now, STEADY_MS);
}

/* A fresh view is at hand: compare, and tell the difference. */
static void
compare(struct core *core, struct effect_list *fx, struct gateway_view *g)
{
    struct gateway_plan plan;

    if (g->told_version == core->gateways.version &&
        mono_sub(core->now, g->told_at) < TELL_AGAIN_MS && g->told_at.ms != 0) {
        struct gateway_view copy = *g; /* what was told may still be queued: read on */

        gateway_make_plan(core, &copy, &plan);
        if (plan.rule != 400) {
            g->due_at = mono_add(core->now, READ_BACK_MS);
            return;
        }
    } else {
        gateway_make_plan(core, g, &plan);
    }
    if (plan.n > 0) {
        tell(core, fx, g, &plan);
        return;
    }
    g->is_told = false;
    put_why(core, fx, g, plan.rule, plan.why);
    g->due_at = mono_add(core->now,
                         plan.rule != 400             ? RETRY_MS
                         : gateway_is_on_probation(g) ? PROBATION_MS
                                                      : STEADY_MS);
}

static void
take_failure(struct core *core,
             struct effect_list *fx,
             struct gateway_view *g,
             const struct gateway_facts *facts)
{
    const bool is_auth = facts->rc == HA_EAUTH;
    char why[GATEWAY_TEXT_MAX];

    g->has_view = false;
    g->due_at = mono_add(core->now, is_auth ? STEADY_MS : RETRY_MS);
    (void)snprintf(why,
                   sizeof why,
                   "%s: %.80s",
                   is_auth ? "PCP refuses the password" : err_code_text(facts->rc),
                   facts->text);
    put_why(core, fx, g, is_auth ? 421 : 420, why);
}

void
gateway_on_facts(struct core *core, struct effect_list *fx, const struct gateway_facts *facts)
{
    for (uint32_t i = 0; i < core->gateways.n; i++) {
        struct gateway_view *g = &core->gateways.at[i];

        if (strcmp(g->address, facts->address) != 0 || !g->is_busy) {
            continue;
        }
        g->is_busy = false;
        g->rc = facts->rc;
        if (g->is_told) { /* whatever it answered: what counts is read back */
            g->due_at = mono_add(core->now, READ_BACK_MS);
            g->is_told = false;
        } else if (facts->rc != HA_OK || !facts->has_nodes) {
            take_failure(core, fx, g, facts);
        } else {
            g->has_view = true;
            g->seen_at = core->now;
            g->view = *facts;
            if (core->raft.is_ready) {
                compare(core, fx, g);
            }
        }
    }
}

void
gateway_on_list(struct core *core, struct effect_list *fx, const struct gateway_list *list)
{
    struct gateway_view kept[GATEWAYS_MAX];

    memset(kept, 0, sizeof kept);
    for (uint32_t i = 0; i < list->n; i++) {
        memcpy(kept[i].address, list->at[i], HA_ADDRESS_MAX);
        for (uint32_t k = 0; k < core->gateways.n; k++) {
            if (strcmp(core->gateways.at[k].address, list->at[i]) == 0) {
                kept[i] = core->gateways.at[k];
            }
        }
    }
    memcpy(core->gateways.at, kept, sizeof kept);
    core->gateways.n = list->n;
    effect_log(fx, LOG_LEVEL_INFO, 0, "gateways", "%u gateways are known", list->n);
}

/* Another leads: what is under way ends in the middle, and what was seen is of yesterday. */
static void
fall_silent(struct core *core, struct effect_list *fx)
{
    struct gateways_view *all = &core->gateways;

    for (uint32_t i = 0; all->was_leading && i < all->n; i++) {
        struct gateway_view *g = &all->at[i];

        if (g->is_busy && fx->n + 4 < EFFECTS_MAX) {
            struct effect *e = effect_push(fx, EFFECT_GATEWAY);

            memcpy(e->gateway.address, g->address, HA_ADDRESS_MAX);
            e->gateway.n_ops = 0;
        }
        g->is_busy = false;
        g->is_told = false;
        g->has_view = false;
        g->rule = 0;
        g->why[0] = 0;
    }
    if (all->was_leading) {
        memset(all->targets, 0, sizeof all->targets);
    }
    all->was_leading = false;
}

void
rules_gateway(struct core *core, struct effect_list *fx)
{
    struct gateways_view *all = &core->gateways;
    const uint64_t before = all->version;

    if (!core->raft.is_ready) {
        fall_silent(core, fx);
        return;
    }
    if (mono_before(core->now, core->tilt_until)) {
        return;
    }
    update_targets(core); /* without a gateway as well: hapool asks for it */
    if (all->reign != core->state.reign) {
        all->reign = core->state.reign;
        for (uint32_t i = 0; i < all->n; i++) {
            memset(all->at[i].attach, 0, sizeof all->at[i].attach);
            memset(&all->at[i].promote, 0, sizeof all->at[i].promote);
        }
    }
    for (uint32_t i = 0; i < all->n; i++) {
        struct gateway_view *g = &all->at[i];

        if (!all->was_leading || all->version != before) {
            g->due_at = core->now;
        }
        if (!g->is_busy && mono_reached(core->now, g->due_at) && fx->n + 4 < EFFECTS_MAX) {
            look(core, fx, g);
        }
    }
    all->was_leading = true;
}
