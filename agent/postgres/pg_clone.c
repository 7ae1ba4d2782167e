/*
 * A copy of another member's data directory, made in a side directory and swapped in when whole.
 *
 * The source is asked first: the same cluster, the same major version, how large it is, its
 * tablespaces, and whether it keeps a slot for this member, which then also keeps the WAL that
 * the copy will need next.
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
#include "agent/postgres/pg_tblspc.h"
#include "agent/postgres/pg_text.h"

#define TABLESPACES_MAX 32
#define RATE_MIN_KB 32 /* what pg_basebackup takes */
#define RATE_MAX_KB (1024 * 1024)

struct pg_clone {
    char data[PG_PATH_MAX];
    char slot[PG_SLOT_NAME_MAX];
    uint64_t source_sysid;
    bool has_slot;
    size_t n_maps;
    char maps[TABLESPACES_MAX][2 * PG_PATH_MAX + 64]; /* pg_basebackup -T */
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
    pg_source_progress_end(pg);
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

static int
copy_begin(struct postgres *pg, struct err *err)
{
    struct pg_clone *clone = pg->clone;
    char program[PG_PATH_MAX + 32];
    char rate[32];
    struct pg_text info = {0};
    const char *argv[24 + 2 * TABLESPACES_MAX] = {program,
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
    pg_source_conninfo(pg, NULL, &info);
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
    for (size_t i = 0; i < clone->n_maps; i++) {
        argv[n++] = "-T";
        argv[n++] = clone->maps[i];
    }
    if (pg->config.clone_rate > 0) {
        const uint64_t kb = pg->config.clone_rate / 1024;

        (void)snprintf(rate,
                       sizeof rate,
                       "--max-rate=%llu",
                       (unsigned long long)(kb < RATE_MIN_KB   ? RATE_MIN_KB
                                            : kb > RATE_MAX_KB ? RATE_MAX_KB
                                                               : kb));
        argv[n++] = rate;
    }
    postgres_log(pg,
                 PG_LOG_INFO,
                 "clone",
                 "copying from %s, %s",
                 pg->from,
                 clone->has_slot ? "its slot for this member keeps the WAL" : "no slot used");
    rc = pg_tool_run(pg, argv, NULL, on_copied, err);
    if (rc == HA_OK) {
        pg->tool_line = pg_source_progress;
    }
    pg_text_free(&info);
    return rc;
}

/* --- questions to the source --- */

static void
begin_copy(struct postgres *pg)
{
    struct err err = {0};

    if (copy_begin(pg, &err) != HA_OK) {
        postgres_finish_err(pg, &err);
    }
}

/* "old=new", with every '=' in the paths escaped as pg_basebackup wants it. */
static int
map_add(struct postgres *pg, const char *location, uint32_t tag, struct err *err)
{
    struct pg_clone *clone = pg->clone;
    char side[PG_PATH_MAX];
    const char *const parts[] = {location, side};
    char *out = clone->maps[clone->n_maps];
    size_t len = 0;
    int rc = pg_tblspc_side(pg, location, tag, side, err);

    for (size_t i = 0; rc == HA_OK && i < HA_COUNT_OF(parts); i++) {
        for (const char *at = parts[i]; *at != '\0'; at++) {
            if (*at == '=') {
                out[len++] = '\\';
            }
            out[len++] = *at;
            if (len + 4 > sizeof clone->maps[0]) {
                return err_set(
                    err, HA_EREFUSED, "the tablespace at %.200s has too long a path", location);
            }
        }
        out[len++] = i == 0 ? '=' : '\0';
    }
    clone->n_maps += rc == HA_OK;
    return rc;
}

/* One row for each tablespace, and a first one for what is not in any. */
static int
take_catalog(struct postgres *pg, const struct pg_answer *answer, uint64_t *bytes, struct err *err)
{
    const uint32_t tag = (uint32_t)(uv_hrtime() >> 10);

    *bytes = strtoull(pg_answer_get(answer, 0, 2), NULL, 10);
    pg->clone->has_slot = strcmp(pg_answer_get(answer, 0, 1), "1") == 0;
    for (int i = 1; i < (int)answer->n_rows; i++) {
        const char *location = pg_answer_get(answer, i, 0);

        if (location[0] != '/') {
            continue; /* inside the data directory */
        }
        if (pg->clone->n_maps == TABLESPACES_MAX) {
            return err_set(err,
                           HA_EREFUSED,
                           "%s has more than %d tablespaces, which the agent cannot copy",
                           pg->from,
                           TABLESPACES_MAX);
        }
        if (map_add(pg, location, tag, err) != HA_OK) {
            return err->code;
        }
    }
    return HA_OK;
}

static void
on_catalog(void *data, const struct pg_answer *answer)
{
    struct postgres *pg = data;
    struct err err = {0};
    uint64_t bytes = 0;
    int rc;

    if (answer->rc != HA_OK) {
        /* It can be copied all the same: a database "postgres" may be missing. */
        postgres_log(pg, PG_LOG_WARN, "clone", "%s tells no slots: %s", pg->from, answer->text);
        rc = HA_OK;
    } else {
        rc = take_catalog(pg, answer, &bytes, &err);
    }
    pg_session_reset(pg->work);
    if (rc == HA_OK) {
        rc = pg_swap_make_room(pg, bytes, begin_copy, &err);
    }
    if (rc != HA_OK) {
        postgres_finish_err(pg, &err);
    }
}

static int
catalog_ask(struct postgres *pg, struct err *err)
{
    char sql[768];

    (void)snprintf(sql,
                   sizeof sql,
                   "SELECT '', (SELECT count(*) FROM pg_replication_slots WHERE slot_name = '%s'"
                   "  AND slot_type = 'physical' AND NOT active AND restart_lsn IS NOT NULL),"
                   " (SELECT sum(pg_database_size(oid)) FROM pg_database"
                   "  WHERE has_database_privilege(oid, 'CONNECT'))"
                   " UNION ALL"
                   " SELECT pg_tablespace_location(oid), 0, 0 FROM pg_tablespace"
                   " WHERE spcname NOT IN ('pg_default', 'pg_global')",
                   pg->clone->slot);
    return pg_source_ask(pg, false, sql, on_catalog, err);
}

static void
on_identified(void *data, const struct pg_answer *answer)
{
    struct postgres *pg = data;
    struct err err = {0};
    uint64_t own = 0;
    int rc;

    if (pg_control_read_sysid(pg->config.pgdata, &own, NULL) != HA_OK) {
        own = pg->facts.data == PG_DATA_TORN ? pg->facts.sysid : 0;
    }
    rc = pg_source_check(pg, answer, own, &pg->clone->source_sysid, &err);
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
        rc = pg_source_ask(pg, true, "IDENTIFY_SYSTEM", on_identified, &err);
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
