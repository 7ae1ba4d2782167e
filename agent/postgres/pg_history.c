#include "agent/postgres/pg_history.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/postgres/pg_files.h"
#include "agent/postgres/pg_text.h"
#include "agent/postgres/pg_wal.h"
#include "store/state.h"

/* So far back files are completed: who comes from longer ago is copied (HA_HISTORY_MAX reigns). */
#define COMPLETE_MAX 1024

#define PATH_MAX_HERE (PG_PATH_MAX + 64)

static void
history_path(const char *pgdata, uint32_t timeline, char path[PATH_MAX_HERE])
{
    char name[PG_HISTORY_NAME_MAX];

    pg_history_name(timeline, name);
    (void)snprintf(path, PATH_MAX_HERE, "%s/pg_wal/%s", pgdata, name);
}

void
pg_history_read(const char *pgdata, uint32_t timeline, struct pg_facts *facts)
{
    struct pg_history h = {.lineage = LINEAGE_FIRST};
    char path[PATH_MAX_HERE];
    char *text = NULL;
    int rc = HA_ENOTFOUND;

    history_path(pgdata, timeline, path);
    if (timeline > 1) {
        rc = pg_files_read(path, &text, NULL);
    }
    if (rc == HA_OK) {
        rc = pg_history_parse(text, &h, NULL);
        free(text);
    }
    facts->timeline_before = h.parent;
    facts->fork_lsn = h.fork_lsn;
    facts->lineage = rc == HA_OK || rc == HA_ENOTFOUND ? h.lineage : 0;
}

/* The file of a number that no ancestor has. PostgreSQL reads over comments. */
static int
put_skipped(const struct postgres *pg, uint32_t timeline, const char *path, struct err *err)
{
    struct pg_text text = {0};

    pg_text_add(&text, "# no timeline %u is known here: its number is not used\n", timeline);
    return pg_files_put(pg, path, &text, err);
}

int
pg_history_skip(struct postgres *pg, uint32_t newest, uint32_t next, struct err *err)
{
    char path[PATH_MAX_HERE];
    int rc = HA_OK;

    for (uint32_t t = newest + 1; rc == HA_OK && newest != 0 && t < next; t++) {
        history_path(pg->config.pgdata, t, path);
        if (access(path, F_OK) != 0) {
            rc = put_skipped(pg, t, path, err);
        }
    }
    if (rc == HA_OK && newest != 0 && next > newest + 1) {
        postgres_log(pg,
                     PG_LOG_WARN,
                     "timeline_skipped",
                     "timeline %u will follow %u: an earlier promotion may have begun one between. "
                     "To recover from a WAL archive, name timeline %u; \"latest\" may stop before",
                     next,
                     newest,
                     next);
    }
    return rc;
}

/* `own` is the text of the directory's own timeline's file. */
static int
complete_one(const struct postgres *pg, const char *own, uint32_t timeline, struct err *err)
{
    struct pg_text text = {0};
    char path[PATH_MAX_HERE];
    size_t len;

    history_path(pg->config.pgdata, timeline, path);
    if (access(path, F_OK) == 0) {
        return HA_OK;
    }
    if (!pg_history_before(own, timeline, &len)) {
        return put_skipped(pg, timeline, path, err);
    }
    pg_text_add_bytes(&text, own, len);
    return pg_files_write(pg, path, &text, err);
}

int
pg_history_complete(struct postgres *pg, uint32_t timeline, struct err *err)
{
    const uint32_t first = timeline > COMPLETE_MAX ? timeline - COMPLETE_MAX : 2;
    struct pg_history h;
    char path[PATH_MAX_HERE];
    char *own = NULL;
    int rc;

    if (timeline <= 2) {
        return HA_OK;
    }
    history_path(pg->config.pgdata, timeline, path);
    rc = pg_files_read(path, &own, err);
    if (rc == HA_ENOTFOUND) {
        return HA_OK; /* nothing is known of what came before */
    }
    if (rc == HA_OK) {
        rc = pg_history_parse(own, &h, err);
    }
    for (uint32_t t = first; rc == HA_OK && t < timeline; t++) {
        rc = complete_one(pg, own, t, err);
    }
    free(own);
    return rc;
}
