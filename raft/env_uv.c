#include "raft/env_uv.h"

#include <sys/random.h>
#include <time.h>

#include "base/require.h"

static bool
env_send(struct raft_env *env, const char *to, uint8_t type, const void *body, size_t len)
{
    struct env_uv *e = env->impl;

    return peer_send(e->link, to, type, body, len);
}

static void
on_work(uv_work_t *work)
{
    struct env_uv *e = work->data;

    e->job->run(e->job);
}

static void
on_work_done(uv_work_t *work, int status)
{
    struct env_uv *e = work->data;
    struct raft_disk_job *job = e->job;

    e->job = NULL;
    job->was_canceled = status != 0;
    job->done(job);
}

static void
env_disk_submit(struct raft_env *env, struct raft_disk_job *job)
{
    struct env_uv *e = env->impl;

    REQUIRE(e->job == NULL, "one job at a time");
    e->job = job;
    e->work.data = e;
    const int rv = uv_queue_work(e->loop, &e->work, on_work, on_work_done);
    ENSURE(rv == 0, "uv_queue_work fails without a callback only");
}

static void
on_tick(uv_timer_t *timer)
{
    struct env_uv *e = timer->data;

    raft_node_tick(e->node);
}

static void
env_tick_start(struct raft_env *env, unsigned ms)
{
    struct env_uv *e = env->impl;

    (void)uv_timer_start(&e->tick, on_tick, ms, ms);
}

static void
env_tick_stop(struct raft_env *env)
{
    struct env_uv *e = env->impl;

    (void)uv_timer_stop(&e->tick);
}

static void
on_idle(uv_idle_t *idle)
{
    (void)idle;
}

static void
env_wake(struct raft_env *env)
{
    struct env_uv *e = env->impl;

    (void)uv_idle_start(&e->idle, on_idle);
}

static void
on_check(uv_check_t *check)
{
    struct env_uv *e = check->data;

    if (uv_is_active((const uv_handle_t *)&e->idle) != 0) {
        (void)uv_idle_stop(&e->idle);
        raft_node_turn(e->node);
    }
}

static int64_t
env_now_ms(struct raft_env *env)
{
    struct timespec ts;

    (void)env;
    (void)clock_gettime(CLOCK_BOOTTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static uint32_t
env_random(struct raft_env *env)
{
    uint32_t value = 0;

    (void)env;
    const ssize_t n = getrandom(&value, sizeof value, 0);
    ENSURE(n == (ssize_t)sizeof value, "the kernel has random bytes");
    return value;
}

void
env_uv_init(struct env_uv *e, uv_loop_t *loop, struct peer_link *link)
{
    *e = (struct env_uv){.loop = loop, .link = link};
    e->env = (struct raft_env){
        .impl = e,
        .send = env_send,
        .disk_submit = env_disk_submit,
        .tick_start = env_tick_start,
        .tick_stop = env_tick_stop,
        .wake = env_wake,
        .now_ms = env_now_ms,
        .random = env_random,
    };
}

void
env_uv_open(struct env_uv *e, struct raft_node *node)
{
    e->node = node;
    (void)uv_timer_init(e->loop, &e->tick);
    (void)uv_idle_init(e->loop, &e->idle);
    (void)uv_check_init(e->loop, &e->check);
    e->tick.data = e;
    e->idle.data = e;
    e->check.data = e;
    e->n_open = 3;
    (void)uv_check_start(&e->check, on_check);
}

static void
on_closed(uv_handle_t *handle)
{
    struct env_uv *e = handle->data;

    e->n_open--;
    if (e->n_open == 0) {
        e->closed(e->closed_data);
    }
}

void
env_uv_close(struct env_uv *e, void (*closed)(void *data), void *data)
{
    REQUIRE(e->job == NULL, "the node waited for its disk");
    e->closed = closed;
    e->closed_data = data;
    e->node = NULL;
    uv_close((uv_handle_t *)&e->tick, on_closed);
    uv_close((uv_handle_t *)&e->idle, on_closed);
    uv_close((uv_handle_t *)&e->check, on_closed);
}
