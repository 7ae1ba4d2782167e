#include "agent/core/core_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/require.h"

struct effect *
effect_push(struct effect_list *fx, uint8_t type)
{
    struct effect *e;

    REQUIRE(fx->n < EFFECTS_MAX, "one step has few effects");
    e = &fx->at[fx->n++];
    memset(e, 0, sizeof *e);
    e->type = type;
    return e;
}

void
effect_send(struct effect_list *fx, const char *to, const struct message *message)
{
    struct effect *e = effect_push(fx, EFFECT_SEND);

    (void)snprintf(e->send.to, sizeof e->send.to, "%s", to);
    e->send.message = *message;
}

void
effect_log(
    struct effect_list *fx, uint8_t level, uint16_t rule, const char *event, const char *fmt, ...)
{
    struct effect *e = effect_push(fx, EFFECT_LOG);
    va_list args;

    e->log.level = level;
    e->log.rule = rule;
    e->log.event = event;
    va_start(args, fmt);
    (void)vsnprintf(e->log.text, sizeof e->log.text, fmt, args);
    va_end(args);
}

void
effect_exit(struct core *core, struct effect_list *fx, int status, const char *fmt, ...)
{
    struct effect *e;
    va_list args;

    if (core->is_exiting) {
        return;
    }
    core->is_exiting = true;
    e = effect_push(fx, EFFECT_EXIT);
    e->exit.status = status;
    va_start(args, fmt);
    (void)vsnprintf(e->exit.why, sizeof e->exit.why, fmt, args);
    va_end(args);
}

bool
effect_pg(struct core *core, struct effect_list *fx, enum pg_op op, const char *from)
{
    struct effect *e;

    const bool is_overtaking = core->pg_op == PG_OP_CHECKPOINT && op == PG_OP_STOP_FAST;

    if ((core->pg_op != PG_OP_NONE && !is_overtaking) || core->is_killing) {
        return false;
    }
    core->pg_op = (uint8_t)op;
    core->pg_op_at = core->now;
    e = effect_push(fx, EFFECT_PG);
    e->pg.op = (uint8_t)op;
    if (from != NULL) {
        (void)snprintf(e->pg.from, sizeof e->pg.from, "%s", from);
    }
    return true;
}

void
effect_pg_kill(struct core *core, struct effect_list *fx, const char *why)
{
    struct effect *e;

    if (core->is_killing) {
        return;
    }
    core->is_killing = true;
    effect_log(fx, LOG_LEVEL_WARN, 0, "postgres_kill", "%s", why);
    e = effect_push(fx, EFFECT_PG_KILL);
    (void)snprintf(e->pg_kill.why, sizeof e->pg_kill.why, "%s", why);
}

bool
effect_propose(struct core *core, struct effect_list *fx, struct command *command)
{
    if (core->is_proposing || !mono_reached(core->now, core->propose_after)) {
        return false;
    }
    command->origin = core->durable.id;
    command->counter = ++core->seq;
    core->is_proposing = true;
    core->proposal = *command;
    core->proposed_at = core->now;
    effect_push(fx, EFFECT_PROPOSE)->propose = *command;
    return true;
}

static bool __attribute__((format(printf, 4, 0)))
explain(uint16_t *rule, char why[HA_WHY_MAX], uint16_t new_rule, const char *fmt, va_list args)
{
    char text[HA_WHY_MAX];
    bool is_news = *rule != new_rule;

    (void)vsnprintf(text, sizeof text, fmt, args);
    *rule = new_rule;
    memcpy(why, text, sizeof text);
    return is_news;
}

void
core_explain(struct core *core, struct effect_list *fx, uint16_t rule, const char *fmt, ...)
{
    va_list args;
    bool is_news;

    va_start(args, fmt);
    is_news = explain(&core->rule, core->why, rule, fmt, args);
    va_end(args);
    if (is_news) {
        effect_log(fx, LOG_LEVEL_INFO, rule, "rule", "%s", core->why);
    }
}

void
governor_explain(struct core *core, struct effect_list *fx, uint16_t rule, const char *fmt, ...)
{
    va_list args;
    bool is_news;

    va_start(args, fmt);
    is_news = explain(&core->governor_rule, core->governor_why, rule, fmt, args);
    va_end(args);
    if (is_news) {
        effect_log(fx, LOG_LEVEL_INFO, rule, "governor", "%s", core->governor_why);
    }
}
