/*
 * A copy of another member's data directory, made in a side directory and swapped in when whole.
 *
 * The source is asked first: the same cluster, the same major version, no tablespaces, and whether
 * it keeps a slot for this member, which then also keeps the WAL that the copy will need next.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/postgres/pg_control.h"
#include "agent/postgres/pg_files.h"
#include "agent/postgres/pg_impl.h"
#include "agent/postgres/pg_swap.h"
#include "agent/postgres/pg_text.h"

#define CONNECT_MS 5000
#define QUESTION_MS 10000
#define PROGRESS_LOG_MS 10000

struct pg_clone {
    char data[PG_PATH_MAX];
    char slot[PG_SLOT_NAME_MAX];
    uint64_t source_sysid;
    bool has_slot;
    uint64_t logged_at_ms;
};

void
pg_clone_free(struct postgres *pg)
{
    if (pg->clone == NULL) {
        return;
    }
    (void)unlink(pg->clone_passfile);
    free(pg->clone);
    pg->clone = NULL;
    pg->facts.clone_done_bytes = 0;
    pg->facts.clone_total_bytes = 0;
    postgres_tell(pg);
}

/* --- the end --- */

static void
on_looked(struct postgres *pg)
{
    postgres_finish(pg, HA_OK, "%s", "");
}

static void
on_swapped(struct postgres *pg)
{
    postgres_look(pg, on_looked);
}

/* Makes a standby of the copy and puts it in PGDATA's place. */
static int
copy_install(struct postgres *pg, struct err *err)
{
    const struct pg_clone *clone = pg->clone;
    uint64_t sysid = 0;
    int rc = pg_control_read_sysid(clone->data, &sysid, err);

    if (rc == HA_OK && sysid != clone->source_sysid) {
        rc = err_set(err, HA_ECORRUPT, "the copy is not of the system that the source named");
    }
    if (rc == HA_OK) {
        rc = pg_files_write_standby_signal(pg, clone->data, err);
    }
    if (rc == HA_OK) {
        rc = pg_files_adapt(pg, clone->data, err);
    }
    if (rc == HA_OK) {
        rc = pg_swap_mark_whole(pg, err);
    }
    return rc == HA_OK ? pg_swap_tidy(pg, on_swapped, err) : rc;
}

static void
on_copied(struct postgres *pg, int status)
{
    char tail[PG_TEXT_MAX - 128];
    struct err err = {0};

    if (status != 0) {
        pg_tail_text(&pg->tail, tail, sizeof tail);
        postgres_finish(pg, HA_EFAILED, "pg_basebackup ended with %d: %s", status, tail);
        return;
    }
    if (copy_install(pg, &err) != HA_OK) {
        postgres_finish_err(pg, &err);
    }
}

/* --- pg_basebackup --- */

/* "  23456/34567 kB (67%), 0/1 tablespace" */
static bool
progress_parse(const char *line, uint64_t *done, uint64_t *total)
{
    char *end;

    *done = strtoull(line, &end, 10);
    if (end == line || *end != '/') {
        return false;
    }
    line = end + 1;
    *total = strtoull(line, &end, 10);
    return end != line && strncmp(end, " kB", 3) == 0;
}

static void
on_copy_line(struct postgres *pg, const char *line)
{
    const uint64_t now = uv_now(pg->config.loop);
    uint64_t done;
    uint64_t total;

    if (!progress_parse(line, &done, &total)) {
        pg_forward_line(pg, line);
        return;
    }
    pg->facts.clone_done_bytes = done * 1024;
    pg->facts.clone_total_bytes = total * 1024;
    postgres_tell(pg);
    if (pg->clone != NULL && now - pg->clone->logged_at_ms >= PROGRESS_LOG_MS) {
        pg->clone->logged_at_ms = now;
        postgres_log(pg,
                     PG_LOG_INFO,
                     "clone_progress",
                     "%llu of %llu MB",
                     (unsigned long long)(done / 1024),
                     (unsigned long long)(total / 1024));
    }
}

static int
copy_begin(struct postgres *pg, struct err *err)
{
    struct pg_clone *clone = pg->clone;
    char program[PG_PATH_MAX + 32];
    struct pg_text info = {0};
    const char *argv[20] = {program,
                            "-D",
                            clone->data,
                            "-X",
                            "stream",
                            "--checkpoint=fast",
                            "--progress",
                            "--no-password"};
    size_t n = 8;
    int rc;

    (void)snprintf(program, sizeof program, "%s/pg_basebackup", pg->bin_dir);
    pg_text_add(&info, "host=");
    pg_text_add_conninfo(&info, pg->from);
    pg_text_add(&info, " port=%u user=", (unsigned)pg->config.port);
    pg_text_add_conninfo(&info, pg->config.replication_user);
    pg_text_add(&info, " passfile=");
    pg_text_add_conninfo(&info, pg->clone_passfile);
    /* Not the standby's own name: a copy that is being made confirms WAL, and would be counted
       as a synchronous standby, though nothing of it can be promoted. */
    pg_text_add(&info,
                " application_name=hawser_copy connect_timeout=5 keepalives=1 keepalives_idle=2"
                " keepalives_interval=1 keepalives_count=3 tcp_user_timeout=10000"
                " sslmode=prefer gssencmode=disable");
    if (info.has_failed) {
        pg_text_free(&info);
        return err_set(err, HA_ENOMEM, "pg_basebackup: %s", err_code_text(HA_ENOMEM));
    }
    argv[n++] = "-d";
    argv[n++] = info.data;
    if (clone->has_slot) {
        argv[n++] = "-S";
        argv[n++] = clone->slot;
    }
    postgres_log(pg,
                 PG_LOG_INFO,
                 "clone",
                 "copying from %s, %s",
                 pg->from,
                 clone->has_slot ? "its slot for this member keeps the WAL" : "no slot used");
    rc = pg_tool_run(pg, argv, NULL, on_copied, err);
    if (rc == HA_OK) {
        pg->tool_line = on_copy_line;
    }
    pg_text_free(&info);
    return rc;
}

/* --- questions to the source --- */

/* A session with the source as the replication role; the one before it goes. */
static int
source_ask(
    struct postgres *pg, bool is_replication, const char *sql, pg_answer_fn done, struct err *err)
{
    const struct pg_session_config config = {
        .loop = pg->config.loop,
        .host = pg->from,
        .port = pg->config.port,
        .user = pg->config.replication_user,
        .database = "postgres",
        .passfile = pg->clone_passfile,
        .is_replication = is_replication,
        .connect_ms = CONNECT_MS,
    };
    int rc;

    pg_session_close(pg->work);
    pg->work = NULL;
    rc = pg_session_open(&config, &pg->work, err);
    return rc == HA_OK ? pg_session_ask(pg->work, sql, QUESTION_MS, done, pg) : rc;
}

static void
on_catalog(void *data, const struct pg_answer *answer)
{
    struct postgres *pg = data;
    struct err err = {0};

    if (answer->rc != HA_OK) {
        /* It can be copied all the same: a database "postgres" may be missing. */
        postgres_log(pg, PG_LOG_WARN, "clone", "%s tells no slots: %s", pg->from, answer->text);
    } else if (strcmp(pg_answer_get(answer, 0, 0), "0") != 0) {
        postgres_finish(pg,
                        HA_EREFUSED,
                        "%s has tablespaces, which the agent cannot copy: move their tables to "
                        "pg_default, or copy this member by hand",
                        pg->from);
        return;
    } else {
        pg->clone->has_slot = strcmp(pg_answer_get(answer, 0, 1), "1") == 0;
    }
    pg_session_reset(pg->work);
    if (copy_begin(pg, &err) != HA_OK) {
        postgres_finish_err(pg, &err);
    }
}

static int
catalog_ask(struct postgres *pg, struct err *err)
{
    char sql[512];

    (void)snprintf(sql,
                   sizeof sql,
                   "SELECT (SELECT count(*) FROM pg_tablespace"
                   "  WHERE spcname NOT IN ('pg_default', 'pg_global')),"
                   " (SELECT count(*) FROM pg_replication_slots WHERE slot_name = '%s'"
                   "  AND slot_type = 'physical' AND NOT active AND restart_lsn IS NOT NULL)",
                   pg->clone->slot);
    return source_ask(pg, false, sql, on_catalog, err);
}

/* Refuses a source that is another system than the data that are here. */
static int
source_check(struct postgres *pg, const struct pg_answer *answer, struct err *err)
{
    const unsigned major = (unsigned)answer->version / 10000;
    uint64_t own = 0;

    if (answer->rc != HA_OK) {
        return err_set(err, answer->rc, "%s: %s", pg->from, answer->text);
    }
    if (major != pg->facts.version) {
        return err_set(err,
                       HA_EVERSION,
                       "%s runs PostgreSQL %u, the programs here are of %u",
                       pg->from,
                       major,
                       (unsigned)pg->facts.version);
    }
    pg->clone->source_sysid = strtoull(pg_answer_get(answer, 0, 0), NULL, 10);
    if (pg->clone->source_sysid == 0) {
        return err_set(err, HA_ECORRUPT, "%s names no system identifier", pg->from);
    }
    if (pg_control_read_sysid(pg->config.pgdata, &own, NULL) == HA_OK &&
        own != pg->clone->source_sysid) {
        return err_set(err,
                       HA_EREFUSED,
                       "%s has system identifier %llu, the data in %s have %llu: another cluster; "
                       "move them away if this member is to join",
                       pg->from,
                       (unsigned long long)pg->clone->source_sysid,
                       pg->config.pgdata,
                       (unsigned long long)own);
    }
    return HA_OK;
}

static void
on_identified(void *data, const struct pg_answer *answer)
{
    struct postgres *pg = data;
    struct err err = {0};
    int rc = source_check(pg, answer, &err);

    if (rc == HA_OK) {
        rc = catalog_ask(pg, &err);
    }
    if (rc != HA_OK) {
        postgres_finish_err(pg, &err);
    }
}

static void
on_tidied(struct postgres *pg)
{
    struct err err = {0};
    int rc = pg_swap_prepare(pg, &err);

    pg_swap_data(pg, pg->clone->data);
    pg_slot_name(pg->config.self, pg->clone->slot);
    if (rc == HA_OK) {
        rc = pg_files_write_passfile(pg, pg->clone_passfile, &err);
    }
    if (rc == HA_OK) {
        rc = source_ask(pg, true, "IDENTIFY_SYSTEM", on_identified, &err);
    }
    if (rc != HA_OK) {
        postgres_finish_err(pg, &err);
    }
}

int
pg_clone_begin(struct postgres *pg, struct err *err)
{
    int rc;

    if (pg->server != NULL) {
        return err_set(err, HA_EREFUSED, "the server runs");
    }
    if (pg->from[0] == '\0' || strcmp(pg->from, pg->config.self) == 0) {
        return err_set(err, HA_EINVAL, "there is nobody to copy from");
    }
    pg->clone = calloc(1, sizeof *pg->clone);
    if (pg->clone == NULL) {
        return err_set(err, HA_ENOMEM, "clone: %s", err_code_text(HA_ENOMEM));
    }
    rc = pg_files_prepare(pg, err);
    return rc == HA_OK ? pg_swap_tidy(pg, on_tidied, err) : rc;
}
