#include "agent/postgres/pg_source.h"

#include <stdlib.h>
#include <string.h>

#include "agent/postgres/pg_files.h"

#define CONNECT_MS 5000
#define QUESTION_MS 10000
#define PROGRESS_LOG_MS 10000

int
pg_source_ask(
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

int
pg_source_check(struct postgres *pg,
                const struct pg_answer *answer,
                uint64_t own,
                uint64_t *sysid,
                struct err *err)
{
    const unsigned major = (unsigned)answer->version / 10000;

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
    *sysid = strtoull(pg_answer_get(answer, 0, 0), NULL, 10);
    if (*sysid == 0) {
        return err_set(err, HA_ECORRUPT, "%s names no system identifier", pg->from);
    }
    if (own != 0 && own != *sysid) {
        return err_set(err,
                       HA_EREFUSED,
                       "%s has system identifier %llu, the data in %s have %llu: another cluster; "
                       "move them away if this member is to join",
                       pg->from,
                       (unsigned long long)*sysid,
                       pg->config.pgdata,
                       (unsigned long long)own);
    }
    return HA_OK;
}

void
pg_source_conninfo(const struct postgres *pg, const char *database, struct pg_text *info)
{
    pg_text_add(info, "host=");
    pg_text_add_conninfo(info, pg->from);
    pg_text_add(info, " port=%u user=", (unsigned)pg->config.port);
    pg_text_add_conninfo(info, pg->config.replication_user);
    pg_text_add(info, " passfile=");
    pg_text_add_conninfo(info, pg->clone_passfile);
    if (database != NULL) {
        pg_text_add(info, " dbname=");
        pg_text_add_conninfo(info, database);
    }
    /* Not the standby's own name: a copy that is being made confirms WAL, and would be counted
       as a synchronous standby, though nothing of it can be promoted. */
    pg_text_add(info,
                " application_name=hawser_copy connect_timeout=5 keepalives=1 keepalives_idle=2"
                " keepalives_interval=1 keepalives_count=3 tcp_user_timeout=10000"
                " sslmode=prefer gssencmode=disable");
}

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

void
pg_source_progress(struct postgres *pg, const char *line)
{
    const uint64_t now = uv_now(pg->config.loop);
    struct pg_progress *p = &pg->progress;
    struct pg_facts *f = &pg->facts;
    uint64_t done;
    uint64_t total;

    if (!progress_parse(line, &done, &total)) {
        pg_forward_line(pg, line);
        return;
    }
    f->clone_done_bytes = done * 1024;
    f->clone_total_bytes = total * 1024;
    if (p->since_ms == 0) {
        *p = (struct pg_progress){
            .since_ms = now, .since_bytes = f->clone_done_bytes, .logged_ms = now};
    } else if (now > p->since_ms && f->clone_done_bytes >= p->since_bytes) {
        f->clone_rate = (f->clone_done_bytes - p->since_bytes) * 1000 / (now - p->since_ms);
    }
    postgres_tell(pg);
    if (now - p->logged_ms >= PROGRESS_LOG_MS) {
        p->logged_ms = now;
        postgres_log(pg,
                     PG_LOG_INFO,
                     "clone_progress",
                     "%llu of %llu MB, %llu %%, %llu kB/s",
                     (unsigned long long)(done / 1024),
                     (unsigned long long)(total / 1024),
                     (unsigned long long)(total == 0 ? 100 : done * 100 / total),
                     (unsigned long long)(f->clone_rate / 1024));
    }
}

void
pg_source_progress_end(struct postgres *pg)
{
    memset(&pg->progress, 0, sizeof pg->progress);
    pg->facts.clone_done_bytes = 0;
    pg->facts.clone_total_bytes = 0;
    pg->facts.clone_rate = 0;
    postgres_tell(pg);
}
