/*
 * What the disk keeps for the core: the durable record (synced, the core waits
 * for it) and the last applied state (a memory). Both are written in the thread
 * pool, for a slow disk must not cost the primary its lease.
 */
#include "agent/shell/agent.h"
#include "agent/shell/log.h"
#include "store/durable.h"

static void
persist_in_pool(uv_work_t *work)
{
    struct agent *agent = work->data;

    agent->persist_rc =
        durable_save(fs_posix(), agent->config.state_dir, &agent->persist_record, NULL);
}

static void
persisted(uv_work_t *work, int status)
{
    struct agent *agent = work->data;
    struct event e = {.type = EVENT_PERSISTED};

    e.persisted.rc = status == 0 ? agent->persist_rc : HA_ECANCELED;
    agent_event(agent, &e);
}

void
agent_persist(struct agent *agent, const struct durable *record)
{
    agent->persist_record = *record;
    agent->persist_work.data = agent;
    REQUIRE(uv_queue_work(&agent->loop, &agent->persist_work, persist_in_pool, persisted) == 0,
            "the pool takes work");
}

static void cache_start(struct agent *agent);

static void
cache_in_pool(uv_work_t *work)
{
    struct agent *agent = work->data;

    (void)state_cache_save(
        fs_posix(), agent->config.state_dir, &agent->persist_cache, agent->persist_cache_index);
}

static void
cached(uv_work_t *work, int status)
{
    struct agent *agent = work->data;

    (void)status;
    agent->is_cache_busy = false;
    if (agent->is_cache_due) {
        cache_start(agent);
    }
}

static void
cache_start(struct agent *agent)
{
    agent->is_cache_due = false;
    agent->is_cache_busy = true;
    agent->persist_cache = agent->cache_state;
    agent->persist_cache_index = agent->cache_index;
    agent->cache_work.data = agent;
    REQUIRE(uv_queue_work(&agent->loop, &agent->cache_work, cache_in_pool, cached) == 0,
            "the pool takes work");
}

void
agent_remember_state(struct agent *agent, const struct state *state, uint64_t index)
{
    agent->cache_state = *state;
    agent->cache_index = index;
    agent->is_cache_due = true;
    if (!agent->is_cache_busy) {
        cache_start(agent);
    }
}
