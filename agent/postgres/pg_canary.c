/*
 * The canary: once a second a commit through the whole path that a client's takes, WAL on disk
 * included, and again and again over a new session; beside it a look at what the server stands on.
 * It observes; agent/core/health.c judges.
 *
 * What it commits is a logical message: a transaction with an id and a commit record, and no table
 * (docs/decisions/0006). It waits for its own disk only, not for standbys: those are no illness of
 * this server.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/postgres/pg_impl.h"
#include "agent/postgres/pg_probe_host.h"

#define EVERY_MS 1000
#define NO_LEASE_STATE "25006"
#define LEAST_TIMEOUT_MS 500

static const char QUESTION[] = "BEGIN READ WRITE; SET LOCAL synchronous_commit = local;"
                               " SELECT CASE WHEN pg_is_in_recovery() THEN NULL"
                               " ELSE pg_logical_emit_message(true, 'hawser', '') END; COMMIT";
static const char QUESTION_STANDBY[] = "SELECT 1";

struct pg_canary {
    struct pg_session *session;
    uv_timer_t timer;
    uv_work_t work;
    struct pg_probe_job job;
    bool is_running;
    bool is_job_running;
    bool is_closing;
    bool is_new_session; /* of the question under way */
    bool is_ill;         /* the last question failed, and the log has it */
    uint64_t asked_ns;
    uint64_t new_session_at_ms;
    uint16_t n_stuck_told;
};

static void
tell(struct postgres *pg, const struct pg_probe *probe)
{
    if (pg->config.callbacks.on_probe != NULL) {
        pg->config.callbacks.on_probe(pg->config.callbacks.data, probe);
    }
}

/* --- the commit --- */

static unsigned
timeout_ms(const struct postgres *pg)
{
    const unsigned third = pg->config.sick_ms / 3;

    return third < LEAST_TIMEOUT_MS ? LEAST_TIMEOUT_MS : third;
}

static void
on_answer(void *data, const struct pg_answer *answer)
{
    struct postgres *pg = data;
    struct pg_canary *c = pg->canary;
    const bool is_no_lease =
        answer->rc == HA_EREFUSED && strcmp(answer->sqlstate, NO_LEASE_STATE) == 0;
    const struct pg_probe probe = {
        .kind = PG_PROBE_SERVER,
        .is_new_session = c->is_new_session,
        /* "too many clients" and its like are an answer; silence is none. */
        .is_answered = answer->rc != HA_ETIMEOUT,
        .is_done = answer->rc == HA_OK || is_no_lease,
        .took_us = (uint32_t)((uv_hrtime() - c->asked_ns) / 1000),
    };

    if (!c->is_running) {
        return;
    }
    if (probe.is_done != !c->is_ill) {
        c->is_ill = !probe.is_done;
        postgres_log(pg,
                     c->is_ill ? PG_LOG_WARN : PG_LOG_INFO,
                     "canary",
                     "%s%s",
                     c->is_ill ? "no commit: " : "commits again",
                     c->is_ill ? answer->text : "");
    }
    if (answer->rc != HA_OK) {
        pg_session_reset(c->session);
    }
    if (c->is_new_session && probe.is_answered) {
        c->new_session_at_ms = uv_now(pg->config.loop);
    }
    tell(pg, &probe);
}

static void
ask(struct postgres *pg)
{
    struct pg_canary *c = pg->canary;

    if (pg->config.sick_ms == 0 || pg->facts.run != PG_RUN_UP || pg_session_is_busy(c->session)) {
        return;
    }
    if (uv_now(pg->config.loop) - c->new_session_at_ms >= timeout_ms(pg)) {
        pg_session_reset(c->session);
    }
    c->is_new_session = !pg_session_is_open(c->session);
    c->asked_ns = uv_hrtime();
    (void)pg_session_ask(c->session,
                         pg->facts.is_in_recovery ? QUESTION_STANDBY : QUESTION,
                         timeout_ms(pg),
                         on_answer,
                         pg);
}

/* --- the host --- */

static void
host_run(uv_work_t *work)
{
    const struct postgres *pg = work->data;

    pg_probe_host_run(&pg->canary->job);
}

static void canary_free(struct postgres *pg);

static void
host_done(uv_work_t *work, int status)
{
    struct postgres *pg = work->data;
    struct pg_canary *c = pg->canary;
    const struct pg_probe *probe = &c->job.probe;

    c->is_job_running = false;
    if (c->is_closing) {
        canary_free(pg);
        return;
    }
    if (status != 0 || !c->is_running) {
        return;
    }
    if ((probe->n_stuck != 0) != (c->n_stuck_told != 0)) {
        c->n_stuck_told = probe->n_stuck;
        postgres_log(pg,
                     PG_LOG_WARN,
                     "stuck_process",
                     probe->n_stuck != 0 ? "%u of its processes do not run on, among them %d "
                                           "(state %c)"
                                         : "%u of its processes are stuck",
                     (unsigned)probe->n_stuck,
                     (int)c->job.stuck_pid,
                     c->job.stuck_state != 0 ? c->job.stuck_state : '?');
    }
    tell(pg, probe);
}

static void
look_at_host(struct postgres *pg)
{
    struct pg_canary *c = pg->canary;

    if (c->is_job_running || pg->facts.run != PG_RUN_UP || pg->server == NULL) {
        return;
    }
    c->job.root = pg_child_pid(pg->server);
    c->job.is_guarded = pg->config.guardian[0] != '\0';
    c->job.now_ms = uv_now(pg->config.loop);
    c->job.stuck_ms = pg->config.sick_ms < 2 * EVERY_MS ? EVERY_MS : pg->config.sick_ms / 2;
    c->job.ballast_bytes = pg->config.disk_reserve;
    c->is_job_running = uv_queue_work(pg->config.loop, &c->work, host_run, host_done) == 0;
}

/* --- life --- */

static void
on_timer(uv_timer_t *timer)
{
    struct postgres *pg = timer->data;

    ask(pg);
    look_at_host(pg);
}

void
pg_canary_start(struct postgres *pg)
{
    struct pg_canary *c = pg->canary;

    c->is_running = true;
    c->is_ill = false;
    c->n_stuck_told = 0;
    c->new_session_at_ms = 0;
    if (!c->is_job_running) {
        c->job.ino = 0;
        memset(c->job.suspects, 0, sizeof c->job.suspects);
    }
    pg_session_reset(c->session);
    (void)uv_timer_start(&c->timer, on_timer, EVERY_MS, EVERY_MS);
}

void
pg_canary_stop(struct postgres *pg)
{
    pg->canary->is_running = false;
    (void)uv_timer_stop(&pg->canary->timer);
}

static void
canary_free(struct postgres *pg)
{
    free(pg->canary);
    pg->canary = NULL;
    postgres_handle_closed(pg);
}

static void
on_closed(uv_handle_t *handle)
{
    struct postgres *pg = handle->data;

    if (pg->canary->is_job_running) {
        pg->canary->is_closing = true; /* freed when the pool gives the job back */
        return;
    }
    canary_free(pg);
}

void
pg_canary_close(struct postgres *pg)
{
    pg_canary_stop(pg);
    pg_session_close(pg->canary->session);
    pg->canary->session = NULL;
    uv_close((uv_handle_t *)&pg->canary->timer, on_closed);
}

int
pg_canary_open(struct postgres *pg, struct err *err)
{
    struct pg_canary *c = calloc(1, sizeof *c);
    int rc;

    if (c == NULL) {
        return err_set(err, HA_ENOMEM, "canary: %s", err_code_text(HA_ENOMEM));
    }
    rc = pg_server_session(pg, pg->config.run_dir, "postgres", &c->session, err);
    if (rc != HA_OK) {
        free(c);
        return rc;
    }
    (void)snprintf(c->job.pgdata, sizeof c->job.pgdata, "%s", pg->config.pgdata);
    (void)uv_timer_init(pg->config.loop, &c->timer);
    c->timer.data = pg;
    c->work.data = pg;
    pg->canary = c;
    return HA_OK;
}
