#include "agent/postgres/postgres.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/postgres/pg_control.h"
#include "agent/postgres/pg_files.h"
#include "agent/postgres/pg_history.h"
#include "agent/postgres/pg_impl.h"
#include "agent/postgres/pg_probe_host.h"
#include "agent/postgres/pg_swap.h"

static const char *const OP_TEXTS[] = {
    [POSTGRES_INITDB] = "initdb",
    [POSTGRES_CLONE] = "clone",
    [POSTGRES_START_PRIMARY] = "start_primary",
    [POSTGRES_START_STANDBY] = "start_standby",
    [POSTGRES_FOLLOW] = "follow",
    [POSTGRES_PROMOTE] = "promote",
    [POSTGRES_CHECKPOINT] = "checkpoint",
    [POSTGRES_STOP_FAST] = "stop_fast",
    [POSTGRES_RELOAD] = "reload",
    [POSTGRES_REWIND] = "rewind",
};

void
postgres_log(struct postgres *pg, int level, const char *event, const char *fmt, ...)
{
    char text[PG_TEXT_MAX];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    pg->config.callbacks.on_log(pg->config.callbacks.data, level, event, text);
}

/* --- handing over --- */

static void
on_deliver(uv_timer_t *timer)
{
    struct postgres *pg = timer->data;
    const enum postgres_op op = pg->op;

    if (pg->is_closing) {
        return;
    }
    if (pg->is_facts_changed) {
        struct pg_facts facts;

        memcpy(&facts, &pg->facts, sizeof facts); /* with its padding, see facts_differ() */
        pg->is_facts_changed = false;
        memcpy(&pg->facts_told, &facts, sizeof facts);
        pg->config.callbacks.on_facts(pg->config.callbacks.data, &facts);
    }
    if (pg->is_finished && !pg->is_closing) {
        pg->is_finished = false;
        pg->is_canceled = false;
        pg->op = 0;
        pg->config.callbacks.on_done(pg->config.callbacks.data, op, pg->op_rc, pg->op_text);
    }
}

void
postgres_tell(struct postgres *pg)
{
    pg->is_facts_changed = true;
    (void)uv_timer_start(&pg->deliver, on_deliver, 0, 0);
}

void
postgres_set_run(struct postgres *pg, enum pg_run run)
{
    if (pg->facts.run != run) {
        pg->facts.run = (uint8_t)run;
        postgres_tell(pg);
    }
}

void
postgres_finish(struct postgres *pg, int rc, const char *fmt, ...)
{
    va_list args;

    if (pg->op == 0 || pg->is_finished) {
        return;
    }
    va_start(args, fmt);
    (void)vsnprintf(pg->op_text, sizeof pg->op_text, fmt, args);
    va_end(args);
    pg->op_rc = rc;
    pg->is_finished = true;
    pg_watch_hurry(pg, false);
    pg_session_close(pg->work);
    pg->work = NULL;
    (void)uv_timer_stop(&pg->step);
    pg_initdb_free(pg);
    pg_clone_free(pg);
    pg_rewind_free(pg);
    postgres_log(pg,
                 rc == HA_OK ? PG_LOG_INFO : PG_LOG_WARN,
                 "postgres_done",
                 "%s: %s%s%s (%llu ms)",
                 OP_TEXTS[pg->op],
                 rc == HA_OK ? "ok" : err_code_text(rc),
                 pg->op_text[0] != '\0' ? ": " : "",
                 pg->op_text,
                 (unsigned long long)(uv_now(pg->config.loop) - pg->op_began_ms));
    (void)uv_timer_start(&pg->deliver, on_deliver, 0, 0);
}

void
postgres_finish_err(struct postgres *pg, const struct err *err)
{
    postgres_finish(pg, err->code, "%s", err->text);
}

bool
postgres_check_canceled(struct postgres *pg)
{
    if (pg->is_closing) {
        postgres_close_step(pg);
        return true;
    }
    if (!pg->is_canceled || pg->op == 0) {
        return false;
    }
    if (pg->server == NULL && pg->tool == NULL && !pg->is_tidying) {
        postgres_finish(pg, HA_ECANCELED, "%s", "cut short");
    }
    return true;
}

static void
on_step(uv_timer_t *timer)
{
    struct postgres *pg = timer->data;

    pg->step_next(pg);
}

void
postgres_step_after(struct postgres *pg, unsigned ms, void (*next)(struct postgres *pg))
{
    pg->step_next = next;
    (void)uv_timer_start(&pg->step, on_step, ms, 0);
}

/* --- a look at what lies there, the server being down --- */

static void
look_done(struct postgres *pg)
{
    void (*const done)(struct postgres *) = pg->look_done;

    pg->look_done = NULL;
    pg->is_looking = false;
    postgres_set_run(pg, PG_RUN_STOPPED);
    postgres_tell(pg);
    if (done != NULL) {
        done(pg);
    } else {
        (void)postgres_check_canceled(pg);
    }
}

static void
on_controldata(struct postgres *pg, int status)
{
    struct pg_control control = {0};
    struct err err = {0};
    struct pg_facts *f = &pg->facts;

    if (status != 0) {
        (void)err_set(
            &err, HA_ECORRUPT, "pg_controldata ended with %d: %.300s", status, pg->tool_output);
    }
    if (status != 0 || pg_control_parse(pg->tool_output, &control, &err) != HA_OK) {
        postgres_log(pg, PG_LOG_ERROR, "damaged", "%s: %s", pg->config.pgdata, err.text);
        f->data = PG_DATA_DAMAGED;
    }
    if (control.sysid != 0) {
        f->sysid = control.sysid;
    }
    f->is_shut_down = control.is_shut_down;
    f->control_timeline = control.timeline;
    f->checkpoint_lsn = control.checkpoint_lsn;
    f->min_recovery_lsn = control.min_recovery_lsn;
    f->was_primary = control.was_primary && !pg_files_has_backup_label(pg->config.pgdata);
    pg_history_read(pg->config.pgdata, control.timeline, f);
    look_done(pg);
}

void
postgres_look(struct postgres *pg, void (*done)(struct postgres *pg))
{
    const char *const pgdata = pg->config.pgdata;
    char program[PG_PATH_MAX + 32];
    const char *const argv[] = {program, "-D", pgdata, NULL};
    struct err err = {0};
    struct pg_facts *f = &pg->facts;

    pg->look_done = done;
    pg->is_looking = true;
    f->has_receiver = f->is_streaming = false;
    f->has_old = pg_swap_has_old(pg);
    f->is_fresh_copy = pg_files_has_backup_label(pgdata);
    if (pg_swap_is_empty(pgdata)) {
        f->data = pg_swap_is_torn(pg) ? PG_DATA_TORN : PG_DATA_EMPTY;
        f->sysid = f->checkpoint_lsn = f->min_recovery_lsn = 0;
        f->control_timeline = f->timeline_before = 0;
        f->lineage = f->fork_lsn = 0;
        f->is_shut_down = f->was_primary = false;
        if (f->data == PG_DATA_TORN) {
            char data[PG_PATH_MAX];

            pg_swap_aside_data(pg, data);
            if (pg_control_read_sysid(data, &f->sysid, &err) != HA_OK) {
                postgres_log(pg, PG_LOG_ERROR, "damaged", "%s", err.text);
            }
        }
        look_done(pg);
        return;
    }
    f->data = pg_files_has_standby_signal(pgdata) ? PG_DATA_STANDBY : PG_DATA_PRIMARY;
    (void)snprintf(program, sizeof program, "%s/pg_controldata", pg->bin_dir);
    if (pg_tool_capture(pg, argv, on_controldata, &err) != HA_OK) {
        postgres_log(pg, PG_LOG_ERROR, "damaged", "%s", err.text);
        f->data = PG_DATA_DAMAGED;
        look_done(pg);
    }
}

/* --- open and close --- */

static void
on_tidied(struct postgres *pg)
{
    postgres_look(pg, NULL);
}

/* The first turn of the loop: what a crash cut short is finished, then the first look. */
static void
on_first_turn(struct postgres *pg)
{
    struct err err = {0};

    if (pg_swap_tidy(pg, on_tidied, &err) != HA_OK) {
        postgres_log(pg, PG_LOG_ERROR, "side_directory", "%s", err.text);
        postgres_look(pg, NULL);
    }
}

static int
copy_config(struct postgres *pg, const struct postgres_config *config, struct err *err)
{
    struct postgres_config *c = &pg->config;
    const char **const texts[] = {
        &c->bin_dir,
        &c->pgdata,
        &c->run_dir,
        &c->state_dir,
        &c->self,
        &c->listen,
        &c->superuser,
        &c->superuser_password,
        &c->database,
        &c->replication_user,
        &c->replication_password,
        &c->initdb_args,
        &c->extra_conf,
        &c->init_scripts,
        &c->client_networks,
        &c->fence_library,
        &c->lease_path,
        &c->guardian,
    };
    size_t size = 0;
    char *at;

    *c = *config;
    for (size_t i = 0; i < HA_COUNT_OF(texts); i++) {
        *texts[i] = *texts[i] == NULL ? "" : *texts[i];
        size += strlen(*texts[i]) + 1;
    }
    pg->memory = at = malloc(size);
    if (at == NULL) {
        return err_set(err, HA_ENOMEM, "postgres: %s", err_code_text(HA_ENOMEM));
    }
    for (size_t i = 0; i < HA_COUNT_OF(texts); i++) {
        const size_t len = strlen(*texts[i]) + 1;

        *texts[i] = memcpy(at, *texts[i], len);
        /* "PGDATA/" and "PGDATA" must not have two different neighbours. */
        for (size_t end = len - 1; texts[i] == &c->pgdata && end > 1 && at[end - 1] == '/'; end--) {
            at[end - 1] = '\0';
        }
        at += len;
    }
    pg->memory_len = size;
    return HA_OK;
}

static void
free_all(struct postgres *pg)
{
    pg_conf_free(&pg->extra);
    if (pg->memory != NULL) {
        explicit_bzero(pg->memory, pg->memory_len); /* passwords */
    }
    if (pg->common_socket_lock >= 0) {
        (void)close(pg->common_socket_lock);
    }
    free(pg->memory);
    free(pg->tool_output);
    pg_sync_free(pg);
    pg_logical_free(pg);
    free(pg);
}

int
postgres_open(const struct postgres_config *config, struct postgres **out, struct err *err)
{
    struct postgres *pg = calloc(1, sizeof *pg);
    int rc;

    if (pg == NULL) {
        return err_set(err, HA_ENOMEM, "postgres: %s", err_code_text(HA_ENOMEM));
    }
    pg->common_socket_lock = -1;
    rc = copy_config(pg, config, err);
    if (rc == HA_OK) {
        rc = pg_find_all(pg, err);
    }
    if (rc == HA_OK) {
        rc = pg_sync_open(pg, err);
    }
    if (rc == HA_OK) {
        rc = pg_logical_open(pg, err);
    }
    if (rc == HA_OK) {
        rc = pg_canary_open(pg, err);
    }
    if (rc == HA_OK) {
        rc = pg_roles_open(pg, err);
    }
    if (rc == HA_OK) {
        rc = pg_slots_open(pg, err);
    }
    if (rc == HA_OK) {
        rc = pg_watch_open(pg, err);
    }
    if (rc != HA_OK) {
        free_all(pg);
        return rc;
    }
    (void)uv_timer_init(pg->config.loop, &pg->deliver);
    (void)uv_timer_init(pg->config.loop, &pg->step);
    pg->deliver.data = pg->step.data = pg;
    pg->n_open_handles = 4; /* and the timers of watch and canary */
    (void)snprintf(pg->members[0], sizeof pg->members[0], "%s", pg->config.self);
    pg->n_members = 1;
    postgres_step_after(pg, 0, on_first_turn);
    *out = pg;
    return HA_OK;
}

void
postgres_handle_closed(struct postgres *pg)
{
    pg->n_open_handles--;
    if (pg->n_open_handles == 0) {
        void (*const closed)(void *) = pg->closed;
        void *const data = pg->closed_data;

        free_all(pg);
        closed(data);
    }
}

static void
on_timer_closed(uv_handle_t *handle)
{
    postgres_handle_closed(handle->data);
}

/* All that runs must be gone before anything is freed: called again at each end of something. */
void
postgres_close_step(struct postgres *pg)
{
    if (pg->server != NULL || pg->tool != NULL || pg->is_tidying ||
        uv_is_closing((uv_handle_t *)&pg->step)) {
        return;
    }
    pg_watch_close(pg);
    pg_sync_close(pg);
    pg_logical_close(pg);
    pg_canary_close(pg);
    pg_roles_close(pg);
    pg_slots_close(pg);
    uv_close((uv_handle_t *)&pg->deliver, on_timer_closed);
    uv_close((uv_handle_t *)&pg->step, on_timer_closed);
}

void
postgres_close(struct postgres *pg, void (*closed)(void *data), void *data)
{
    REQUIRE(!pg->is_closing, "closed once");
    pg->closed = closed;
    pg->closed_data = data;
    postgres_kill(pg, "closing");
    pg->is_closing = true;
    pg_session_close(pg->work);
    pg->work = NULL;
    (void)uv_timer_stop(&pg->step);
    pg_initdb_free(pg);
    pg_clone_free(pg);
    pg_rewind_free(pg);
    postgres_close_step(pg);
}

/* --- the calls --- */

static int
begin(struct postgres *pg, struct err *err)
{
    switch (pg->op) {
    case POSTGRES_INITDB:
        return pg_initdb_begin(pg, err);
    case POSTGRES_CLONE:
        return pg_clone_begin(pg, err);
    case POSTGRES_REWIND:
        return pg_rewind_begin(pg, err);
    case POSTGRES_START_PRIMARY:
    case POSTGRES_START_STANDBY:
    case POSTGRES_FOLLOW:
    case POSTGRES_PROMOTE:
    case POSTGRES_CHECKPOINT:
    case POSTGRES_STOP_FAST:
    case POSTGRES_RELOAD:
        return pg_server_begin(pg, err);
    case POSTGRES_OP_COUNT:
    default:
        return err_set(err, HA_EINVAL, "no such operation");
    }
}

int
postgres_promote(struct postgres *pg, uint32_t timeline, uint32_t next)
{
    if (pg->op == 0) {
        pg->promote_after = timeline;
        pg->promote_to = next;
    }
    return postgres_begin(pg, POSTGRES_PROMOTE, NULL);
}

int
postgres_begin(struct postgres *pg, enum postgres_op op, const char *from)
{
    struct err err = {0};

    REQUIRE(op > 0 && op < POSTGRES_OP_COUNT, "an operation of the list");
    if (pg->op == POSTGRES_CHECKPOINT && op == POSTGRES_STOP_FAST) {
        pg_session_close(pg->work);
        pg->work = NULL;
        pg->is_finished = false;
        pg->op = 0;
    }
    if (pg->op != 0 || pg->is_closing || pg->facts.run == PG_RUN_UNKNOWN) {
        return HA_EBUSY;
    }
    uv_update_time(pg->config.loop);
    pg->op = op;
    pg->op_began_ms = uv_now(pg->config.loop);
    pg->is_canceled = false;
    (void)snprintf(pg->from, sizeof pg->from, "%s", from == NULL ? "" : from);
    if (begin(pg, &err) != HA_OK) {
        postgres_finish_err(pg, &err);
    }
    return HA_OK;
}

void
postgres_kill(struct postgres *pg, const char *why)
{
    if (pg->server != NULL || pg->tool != NULL || pg->op != 0) {
        postgres_log(pg, PG_LOG_INFO, "postgres_kill", "%s", why);
    }
    if (pg->server != NULL) {
        pg_watch_stop(pg);
        if (pg->server_gone == NULL) {
            postgres_set_run(pg, PG_RUN_STOPPING);
        }
        pg_child_kill(pg->server);
    }
    if (pg->tool != NULL && !pg->is_looking) {
        pg_child_kill(pg->tool);
    }
    if (pg->op != 0 && !pg->is_finished) {
        pg->is_canceled = true;
        pg_session_close(pg->work);
        pg->work = NULL;
        (void)uv_timer_stop(&pg->step);
        (void)postgres_check_canceled(pg);
    }
}

void
postgres_set_members(struct postgres *pg, const char *const addresses[], size_t n)
{
    char members[HA_COUNT_OF(pg->members)][HA_ADDRESS_MAX];
    struct err err = {0};

    memset(members, 0, sizeof members);
    n = n < HA_COUNT_OF(members) ? n : HA_COUNT_OF(members);
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(members[i], sizeof members[i], "%s", addresses[i]);
    }
    if (n == pg->n_members && memcmp(members, pg->members, sizeof members) == 0) {
        return;
    }
    memcpy(pg->members, members, sizeof members);
    pg->n_members = n;
    if (pg->server == NULL || pg->server_gone != NULL) {
        return; /* written when the server starts */
    }
    if (pg_files_write_access(pg, &err) != HA_OK) {
        postgres_log(pg, PG_LOG_ERROR, "access_files", "%s", err.text);
        return;
    }
    pg_server_reload(pg);
}

void
postgres_watch(struct postgres *pg, bool is_watched)
{
    if (pg->is_watched != is_watched) {
        pg->is_watched = is_watched;
        pg_watch_look_now(pg);
    }
}

void
postgres_set_slots(struct postgres *pg, const struct pg_slots *wish)
{
    pg_slots_set(pg, wish);
}

void
postgres_discard(struct postgres *pg)
{
    pg_swap_discard(pg);
}

void
postgres_release_ballast(struct postgres *pg)
{
    const bool is_gone = pg_probe_host_release(pg->config.pgdata);

    postgres_log(pg, PG_LOG_INFO, "ballast", "%s", is_gone ? "removed" : "there was none");
}

void
postgres_get_facts(const struct postgres *pg, struct pg_facts *facts)
{
    *facts = pg->facts;
}
