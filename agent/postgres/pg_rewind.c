/*
 * Data that left the cluster's history are taken back to where they left it, by pg_rewind.
 *
 * A half-rewound directory must never be started, so PGDATA is moved aside first and comes back
 * when all of it is done (pg_swap.h). Before that, nothing of it is changed but by its own crash
 * recovery: a trial run, ended before it fetches the files, shows whether pg_rewind can do it. The
 * source is the primary, and
 * must have made a checkpoint since its promotion: before that pg_rewind takes it for what it was.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/postgres/pg_control.h"
#include "agent/postgres/pg_files.h"
#include "agent/postgres/pg_impl.h"
#include "agent/postgres/pg_source.h"
#include "agent/postgres/pg_swap.h"

#define CHECKPOINT_WAIT_MS 60000
#define CHECKPOINT_PAUSE_MS 200

static const char CHECKPOINT_SQL[] =
    "SELECT timeline_id, ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))"
    "::bit(32)::int, has_function_privilege(current_user,"
    " 'pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)', 'EXECUTE')"
    " FROM pg_control_checkpoint()";

static const char *const C_LOCALE[] = {"LC_ALL=C", "LANG=C", NULL};

struct pg_rewind {
    bool is_trial;
    bool is_possible; /* the trial run came to where it would fetch the files */
    bool is_unneeded; /* pg_rewind says that there is nothing to take back */
    uint64_t source_sysid;
    uint64_t asked_at_ms;
};

void
pg_rewind_free(struct postgres *pg)
{
    if (pg->rewind == NULL) {
        return;
    }
    (void)unlink(pg->clone_passfile);
    free(pg->rewind);
    pg->rewind = NULL;
    pg_source_progress_end(pg);
}

static void
fail_tool(struct postgres *pg, const char *what, int status)
{
    char tail[PG_TEXT_MAX - 128];

    pg_tail_text(&pg->tail, tail, sizeof tail);
    postgres_finish(pg, HA_EFAILED, "%s ended with %d: %s", what, status, tail);
}

/* --- the end --- */

static void
on_looked(struct postgres *pg)
{
    postgres_finish(pg, HA_OK, "%s", "");
}

static void
on_back(struct postgres *pg)
{
    postgres_look(pg, on_looked);
}

static void
on_rewound(struct postgres *pg, int status)
{
    char data[PG_PATH_MAX];
    struct err err = {0};
    int rc;

    if (status != 0) {
        fail_tool(pg, "pg_rewind", status);
        return;
    }
    pg_swap_aside_data(pg, data);
    rc = pg_files_write_standby_signal(pg, data, &err);
    if (rc == HA_OK) {
        rc = pg_files_adapt(pg, data, &err);
    }
    if (rc == HA_OK) {
        rc = pg_swap_aside_done(pg, &err);
    }
    if (rc == HA_OK) {
        rc = pg_swap_tidy(pg, on_back, &err);
    }
    if (rc != HA_OK) {
        postgres_finish_err(pg, &err);
    }
}

/* --- pg_rewind --- */

static void
on_line(struct postgres *pg, const char *line)
{
    if (pg->rewind != NULL && strstr(line, "no rewind required") != NULL) {
        pg->rewind->is_unneeded = true;
    } else if (pg->rewind != NULL && pg->rewind->is_trial && !pg->rewind->is_possible &&
               strstr(line, "need to copy") != NULL) {
        pg->rewind->is_possible = true;
        pg_child_kill(pg->tool); /* it would fetch all of them, and throw them away */
    }
    pg_source_progress(pg, line);
}

static int
rewind_run(struct postgres *pg,
           const char *data,
           bool is_trial,
           void (*done)(struct postgres *pg, int status),
           struct err *err)
{
    char program[PG_PATH_MAX + 32];
    struct pg_text source = {0};
    const char *argv[10] = {program, "-D", data};
    size_t n = 3;
    int rc;

    (void)snprintf(program, sizeof program, "%s/pg_rewind", pg->bin_dir);
    pg_text_add(&source, "--source-server=");
    pg_source_conninfo(pg, "postgres", &source);
    if (source.has_failed) {
        pg_text_free(&source);
        return err_set(err, HA_ENOMEM, "pg_rewind: %s", err_code_text(HA_ENOMEM));
    }
    argv[n++] = source.data;
    argv[n++] = "--no-ensure-shutdown";
    argv[n++] = "--progress";
    argv[n++] = is_trial ? "--dry-run" : NULL;
    argv[n] = NULL;
    pg->rewind->is_trial = is_trial;
    rc = pg_tool_run(pg, argv, C_LOCALE, done, err);
    if (rc == HA_OK) {
        pg->tool_line = on_line;
    }
    pg_text_free(&source);
    return rc;
}

static void
on_tried(struct postgres *pg, int status)
{
    char data[PG_PATH_MAX];
    struct err err = {0};
    int rc;

    if (status != 0 && !pg->rewind->is_possible) {
        fail_tool(pg, "pg_rewind --dry-run", status);
        return;
    }
    if (pg->rewind->is_unneeded) {
        postgres_finish(
            pg,
            HA_EFAILED,
            "pg_rewind finds nothing to take back, but these data did leave %s's history",
            pg->from);
        return;
    }
    rc = pg_swap_aside(pg, &err);
    pg_swap_aside_data(pg, data);
    if (rc == HA_OK) {
        pg->facts.data = PG_DATA_TORN;
        postgres_tell(pg);
        rc = rewind_run(pg, data, false, on_rewound, &err);
    }
    if (rc != HA_OK) {
        postgres_finish_err(pg, &err);
    }
}

static void
try_run(struct postgres *pg)
{
    struct err err = {0};

    pg_session_close(pg->work);
    pg->work = NULL;
    if (rewind_run(pg, pg->config.pgdata, true, on_tried, &err) != HA_OK) {
        postgres_finish_err(pg, &err);
    }
}

/* --- crash recovery of what was a primary and did not stop cleanly --- */

static void
on_recovered(struct postgres *pg, int status)
{
    if (status != 0) {
        fail_tool(pg, "crash recovery", status);
        return;
    }
    try_run(pg);
}

/* Nobody can connect to it: no socket, no commit. The settings that keep WAL are in its files. */
static int
recover(struct postgres *pg, struct err *err)
{
    char program[PG_PATH_MAX + 32];
    const char *const argv[] = {program, "--single", "-D", pg->config.pgdata, "template1", NULL};
    int rc = pg_files_write_settings(pg, err);

    if (rc == HA_OK) {
        rc = pg_files_adapt(pg, pg->config.pgdata, err);
    }
    if (rc != HA_OK) {
        return rc;
    }
    (void)snprintf(program, sizeof program, "%s/postgres", pg->bin_dir);
    postgres_log(pg, PG_LOG_INFO, "rewind", "crash recovery first, with nobody connected");
    pg_server_remove_stale_pid_file(pg);
    return pg_tool_run(pg, argv, C_LOCALE, on_recovered, err);
}

/* --- questions to the source --- */

static void ask_checkpoint(struct postgres *pg);

static void
on_checkpoint(void *data, const struct pg_answer *answer)
{
    struct postgres *pg = data;
    const uint64_t waited = uv_now(pg->config.loop) - pg->rewind->asked_at_ms;
    struct err err = {0};

    if (answer->rc != HA_OK) {
        postgres_finish(pg, answer->rc, "%s: %s", pg->from, answer->text);
    } else if (strcmp(pg_answer_get(answer, 0, 2), "t") != 0) {
        postgres_finish(pg,
                        HA_EFAILED,
                        "permission denied: role %s of %s may not run pg_read_binary_file()",
                        pg->config.replication_user,
                        pg->from);
    } else if (strcmp(pg_answer_get(answer, 0, 0), pg_answer_get(answer, 0, 1)) == 0) {
        if (pg->facts.is_shut_down) {
            try_run(pg);
        } else if (recover(pg, &err) != HA_OK) {
            postgres_finish_err(pg, &err);
        }
    } else if (waited > CHECKPOINT_WAIT_MS) {
        postgres_finish(
            pg, HA_ETIMEOUT, "%s made no checkpoint since its promotion in 60 s", pg->from);
    } else {
        postgres_step_after(pg, CHECKPOINT_PAUSE_MS, ask_checkpoint);
    }
}

static void
ask_checkpoint(struct postgres *pg)
{
    struct err err = {0};

    if (pg_source_ask(pg, false, CHECKPOINT_SQL, on_checkpoint, &err) != HA_OK) {
        postgres_finish_err(pg, &err);
    }
}

static void
on_identified(void *data, const struct pg_answer *answer)
{
    struct postgres *pg = data;
    struct err err = {0};

    if (pg_source_check(pg, answer, pg->facts.sysid, &pg->rewind->source_sysid, &err) != HA_OK) {
        postgres_finish_err(pg, &err);
        return;
    }
    pg->rewind->asked_at_ms = uv_now(pg->config.loop);
    postgres_step_after(pg, 0, ask_checkpoint);
}

static void
on_tidied(struct postgres *pg)
{
    struct err err = {0};
    int rc = pg_files_write_passfile(pg, pg->clone_passfile, &err);

    if (rc == HA_OK) {
        rc = pg_source_ask(pg, true, "IDENTIFY_SYSTEM", on_identified, &err);
    }
    if (rc != HA_OK) {
        postgres_finish_err(pg, &err);
    }
}

int
pg_rewind_begin(struct postgres *pg, struct err *err)
{
    const bool is_whole = pg->facts.data == PG_DATA_PRIMARY || pg->facts.data == PG_DATA_STANDBY;
    int rc;

    if (pg->server != NULL || !is_whole) {
        return err_set(err, HA_EREFUSED, "there is no stopped server to rewind");
    }
    if (pg->from[0] == '\0' || strcmp(pg->from, pg->config.self) == 0) {
        return err_set(err, HA_EINVAL, "there is nobody to rewind to");
    }
    pg->rewind = calloc(1, sizeof *pg->rewind);
    if (pg->rewind == NULL) {
        return err_set(err, HA_ENOMEM, "rewind: %s", err_code_text(HA_ENOMEM));
    }
    rc = pg_files_prepare(pg, err);
    return rc == HA_OK ? pg_swap_tidy(pg, on_tidied, err) : rc;
}
