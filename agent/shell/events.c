#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/shell/agent.h"
#include "agent/shell/clock.h"
#include "agent/shell/log.h"

/* An event with copies of what it borrows, for those that come while a step runs. */
struct queued_event {
    struct queued_event *next;
    struct event event;
    struct state state;
    struct message message;
    char from[HA_ADDRESS_MAX];
    char text[HA_ERR_TEXT_MAX];
};

static void
enqueue(struct agent *agent, const struct event *event)
{
    struct queued_event *q = calloc(1, sizeof *q);

    REQUIRE(q != NULL, "an agent without memory ends, and its database with it");
    q->event = *event;
    if (event->type == EVENT_STATE) {
        q->state = *event->state.state;
        q->event.state.state = &q->state;
    } else if (event->type == EVENT_MESSAGE) {
        q->message = *event->message.message;
        q->event.message.message = &q->message;
        (void)snprintf(q->from, sizeof q->from, "%s", event->message.from);
        q->event.message.from = q->from;
    } else if (event->type == EVENT_PG_DONE) {
        (void)snprintf(q->text, sizeof q->text, "%s", event->pg_done.text);
        q->event.pg_done.text = q->text;
    }
    if (agent->last != NULL) {
        agent->last->next = q;
    } else {
        agent->first = q;
    }
    agent->last = q;
}

static void
step(struct agent *agent, const struct event *event)
{
    struct event e = *event;

    e.now = clock_mono();
    e.wall_ms = clock_wall_ms();
    decide_step(&agent->core, &e, &agent->effects);
    agent_run_effects(agent, &agent->effects);
}

static void
on_timer(uv_timer_t *timer)
{
    agent_tick(timer->data);
}

static void
arm_timer(struct agent *agent)
{
    const int64_t wait = mono_sub(core_wakeup_at(&agent->core), clock_mono());

    if (!agent->is_ending) {
        uv_update_time(&agent->loop);
        /* Never 0: a timer that is due at once and armed by its own callback runs again before the
         * loop looks at a socket or a child, for ever when what is due waits for one of them. */
        (void)uv_timer_start(&agent->timer, on_timer, wait > 0 ? (uint64_t)wait : 1, 0);
    }
}

void
agent_event(struct agent *agent, const struct event *event)
{
    if (agent->is_stepping) {
        enqueue(agent, event);
        return;
    }
    agent->is_stepping = true;
    step(agent, event);
    while (agent->first != NULL) {
        struct queued_event *q = agent->first;

        agent->first = q->next;
        if (agent->first == NULL) {
            agent->last = NULL;
        }
        step(agent, &q->event);
        free(q);
    }
    agent->is_stepping = false;
    arm_timer(agent);
}

void
agent_tick(struct agent *agent)
{
    const struct event e = {.type = EVENT_TICK};

    agent_event(agent, &e);
}

/* ---- the peer link ---- */

static void
on_message(void *data, const char *from, uint8_t type, const void *body, size_t len)
{
    struct agent *agent = data;
    struct message m;
    struct event e = {.type = EVENT_MESSAGE};

    if (type >= PEER_RAFT) {
        if (agent->consensus != NULL) {
            consensus_receive(agent->consensus, from, type, body, len);
        }
        return;
    }
    if (agent_message_decode(&m, type, body, len) != HA_OK) {
        log_write(LOG_LEVEL_WARN, "bad_message", "%s sent a message that cannot be read", from);
        return;
    }
    e.message.from = from;
    e.message.message = &m;
    agent_event(agent, &e);
}

static void
on_connected(void *data, const char *to, bool is_connected)
{
    (void)data;
    log_write(LOG_LEVEL_INFO,
              is_connected ? "peer_up" : "peer_down",
              "the connection to %s is %s",
              to,
              is_connected ? "up" : "down");
}

static void
on_log(void *data, int level, const char *event, const char *text)
{
    (void)data;
    log_write((uint8_t)level, event, "%s", text);
}

struct peer_callbacks
agent_peer_callbacks(struct agent *agent)
{
    return (struct peer_callbacks){
        .data = agent, .on_message = on_message, .on_connected = on_connected, .on_log = on_log};
}

/* ---- Raft ---- */

static void
on_state(void *data, const struct state *state, uint64_t index)
{
    struct agent *agent = data;
    struct event e = {.type = EVENT_STATE};

    e.state.state = state;
    e.state.index = index;
    agent_event(agent, &e);
    agent_remember_state(agent, state, index);
    agent_follow_members(agent);
}

static void
on_view(void *data, const struct raft_view *view)
{
    struct agent *agent = data;
    struct event e = {.type = EVENT_RAFT};

    e.raft.role = (uint8_t)view->role;
    e.raft.is_ready = view->is_ready;
    e.raft.is_changing = view->is_changing;
    e.raft.is_uncommitted = view->is_uncommitted;
    e.raft.term = view->term;
    e.raft.leader = view->leader;
    e.raft.n_servers = view->n_servers;
    for (uint32_t i = 0; i < view->n_servers; i++) {
        e.raft.servers[i].id = view->servers[i].id;
        e.raft.servers[i].is_voter = view->servers[i].is_voter;
        memcpy(e.raft.servers[i].address, view->servers[i].address, HA_ADDRESS_MAX);
    }
    agent_event(agent, &e);
}

static void
on_fatal(void *data, const char *why)
{
    log_write(LOG_LEVEL_ERROR, "raft_failed", "Raft cannot go on: %s", why);
    agent_end(data, 1);
}

struct consensus_callbacks
agent_consensus_callbacks(struct agent *agent)
{
    return (struct consensus_callbacks){.data = agent,
                                        .on_state = on_state,
                                        .on_view = on_view,
                                        .on_fatal = on_fatal,
                                        .on_log = on_log};
}

/* ---- PostgreSQL ---- */

static void
on_facts(void *data, const struct pg_facts *facts)
{
    struct event e = {.type = EVENT_PG_FACTS};

    e.pg = *facts;
    agent_event(data, &e);
}

static void
on_done(void *data, enum postgres_op op, int rc, const char *text)
{
    struct event e = {.type = EVENT_PG_DONE};

    e.pg_done.op = (uint8_t)op;
    e.pg_done.rc = rc;
    e.pg_done.text = text;
    agent_event(data, &e);
}

static void
on_probe(void *data, const struct pg_probe *probe)
{
    struct event e = {.type = EVENT_PG_PROBE};

    e.pg_probe = *probe;
    agent_event(data, &e);
}

static void
on_sync(void *data, const struct pg_sync *seen)
{
    struct event e = {.type = EVENT_PG_SYNC};

    e.pg_sync = *seen;
    agent_event(data, &e);
}

struct postgres_callbacks
agent_postgres_callbacks(struct agent *agent)
{
    return (struct postgres_callbacks){.data = agent,
                                       .on_facts = on_facts,
                                       .on_done = on_done,
                                       .on_log = on_log,
                                       .on_probe = on_probe,
                                       .on_sync = on_sync};
}
