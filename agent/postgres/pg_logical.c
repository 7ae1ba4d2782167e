/*
 * Failover slots (PostgreSQL 17 and later): logical slots that a promotion does not lose.
 *
 * A standby's own worker keeps copies of the logical slots that were made with failover = true; it
 * is switched on in the settings where wal_level is logical. What is left for the agent: no
 * subscriber may have what no standby has, for after a failover the server would not know of it. So
 * the primary names its standbys in synchronized_standby_slots, and logical decoding of failover
 * slots waits for all of them. For commits it means nothing: who is waited for before an
 * acknowledgement stands in pg_sync.c alone.
 *
 * It waits for a named one that is not there, too, and for ever. Therefore:
 *   - who is named has been attached, and had all that was written until the look before;
 *   - who is neither attached nor heard of for ABSENT_MS is named no more. It is not named less at
 *     once, for a standby that restarts would be the one that lacks what a subscriber has;
 *   - a slot that is gone is named no more;
 *   - before a planned stop nobody is named: a logical walsender that waits for an absent standby
 *     holds up the shutdown, and a server that shuts down reads no settings. Who follows gets all
 *     of the WAL in a handover anyway;
 *   - a new primary names nobody until its standbys follow it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/postgres/pg_files.h"
#include "agent/postgres/pg_impl.h"
#include "agent/postgres/pg_wal.h"

#define FIRST_MAJOR 17
#define LOOK_MS 1000
#define ABSENT_MS 10000
#define TIMEOUT_MS 5000

struct standby {
    char name[PG_SLOT_NAME_MAX];
    bool is_named;
    uint64_t seen_at_ms; /* attached and heard of */
};

struct pg_logical_control {
    struct pg_session *session;
    uint64_t look_at_ms;
    uint64_t written; /* flushed by the primary at the look before; 0 = no look */
    bool is_behind;   /* the settings file names others */
    size_t n;
    struct standby standbys[HA_MEMBERS_MAX];
};

/* Flush position; whether there is a slot to wait for; then each member's slot. */
static const char LOOK[] =
    "SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_flush_lsn() END,"
    " EXISTS (SELECT FROM pg_replication_slots WHERE failover), s.slot_name, s.active,"
    " s.restart_lsn FROM (VALUES (1)) one LEFT JOIN pg_replication_slots s"
    " ON s.slot_type = 'physical' AND s.slot_name LIKE 'hawser\\_%'";

enum column { COL_WRITTEN = 0, COL_IS_WANTED, COL_NAME, COL_ACTIVE, COL_RESTART };

static bool
is_off(const char *value)
{
    static const char *const WORDS[] = {"off", "false", "no", "0", "f", "n"};

    for (size_t i = 0; value != NULL && i < HA_COUNT_OF(WORDS); i++) {
        if (strcasecmp(value, WORDS[i]) == 0) {
            return true;
        }
    }
    return false;
}

bool
pg_logical_is_on(const struct postgres *pg)
{
    const char *level = pg_conf_get(&pg->extra, "wal_level");

    return pg->facts.version >= FIRST_MAJOR && level != NULL && strcasecmp(level, "logical") == 0;
}

/* Defaults: without the feedback the worker does not run, and would say so again and again. */
void
pg_logical_add_defaults(const struct postgres *pg, struct pg_text *text)
{
    if (pg_logical_is_on(pg)) {
        pg_text_add(text,
                    "hot_standby_feedback = on\nsync_replication_slots = %s\n",
                    is_off(pg_conf_get(&pg->extra, "hot_standby_feedback")) ? "off" : "on");
    }
}

void
pg_logical_add_owned(const struct postgres *pg, struct pg_text *text)
{
    const struct pg_logical_control *l = pg->logical;
    const char *comma = "";

    if (!pg_logical_is_on(pg)) {
        return;
    }
    pg_text_add(text, "synchronized_standby_slots = '");
    for (size_t i = 0; i < l->n; i++) {
        if (l->standbys[i].is_named) {
            pg_text_add(text, "%s%s", comma, l->standbys[i].name);
            comma = ",";
        }
    }
    pg_text_add(text, "'\n");
    if (pg->follow[0] == '\0') {
        pg_text_add(text, "sync_replication_slots = off\n"); /* whose? It would ask on and on */
    }
}

static void
write_down(struct postgres *pg)
{
    struct err err = {0};

    if (pg_files_write_settings(pg, &err) != HA_OK) {
        postgres_log(pg, PG_LOG_ERROR, "settings", "%s", err.text);
        return;
    }
    pg->logical->is_behind = false;
    pg_server_reload(pg);
}

/* Takes a name in. There is room for it: who is not named may go. */
static void
meet(struct pg_logical_control *l, const char *name)
{
    struct standby *s = NULL;

    for (size_t i = 0; i < l->n; i++) {
        if (strcmp(l->standbys[i].name, name) == 0) {
            return;
        }
        if (!l->standbys[i].is_named) {
            s = &l->standbys[i];
        }
    }
    if (l->n < HA_MEMBERS_MAX) {
        s = &l->standbys[l->n++];
    }
    if (s != NULL) {
        *s = (struct standby){0};
        (void)snprintf(s->name, sizeof s->name, "%s", name);
    }
}

/* Row of a slot, or -1. */
static int
row_of(const struct pg_answer *answer, const char *name)
{
    for (int i = 0; i < answer->n_rows; i++) {
        if (strcmp(pg_answer_get(answer, i, COL_NAME), name) == 0) {
            return i;
        }
    }
    return -1;
}

/* Whether it is to be named from now on. */
static bool
judge(struct postgres *pg, struct standby *s, const struct pg_answer *answer, int row)
{
    const struct pg_logical_control *l = pg->logical;
    const uint64_t now = uv_now(pg->config.loop);
    uint64_t has = 0;

    if (row < 0 || pg_answer_get(answer, 0, COL_IS_WANTED)[0] != 't') {
        return false;
    }
    (void)pg_lsn_parse(pg_answer_get(answer, row, COL_RESTART), &has);
    if (pg_answer_get(answer, row, COL_ACTIVE)[0] == 't' && pg_slots_is_heard(pg, s->name)) {
        s->seen_at_ms = now;
        return s->is_named || (l->written != 0 && has >= l->written);
    }
    return s->is_named && now - s->seen_at_ms < ABSENT_MS;
}

static void
on_look(void *data, const struct pg_answer *answer)
{
    struct postgres *pg = data;
    struct pg_logical_control *l = pg->logical;
    uint64_t written = 0;

    if (answer->rc != HA_OK || answer->n_rows == 0 || pg->facts.run != PG_RUN_UP ||
        pg->op == POSTGRES_CHECKPOINT) {
        l->written = 0;
        return;
    }
    (void)pg_lsn_parse(pg_answer_get(answer, 0, COL_WRITTEN), &written);
    for (int i = 0; written != 0 && i < answer->n_rows; i++) {
        if (pg_slots_is_heard(pg, pg_answer_get(answer, i, COL_NAME))) {
            meet(l, pg_answer_get(answer, i, COL_NAME));
        }
    }
    for (size_t i = 0; i < l->n; i++) {
        struct standby *s = &l->standbys[i];
        const bool is_named = written != 0 && judge(pg, s, answer, row_of(answer, s->name));

        if (is_named != s->is_named) {
            l->is_behind = true;
            s->is_named = is_named;
            postgres_log(pg,
                         PG_LOG_INFO,
                         "slot_sync",
                         "logical decoding %s for %s",
                         is_named ? "waits" : "no more waits",
                         s->name);
        }
    }
    l->written = written;
    if (l->is_behind) {
        write_down(pg);
    }
}

/* Nobody is named; true when somebody was. */
static bool
forget(struct pg_logical_control *l)
{
    bool was_named = false;

    for (size_t i = 0; i < l->n; i++) {
        was_named = was_named || l->standbys[i].is_named;
    }
    l->n = 0;
    l->written = 0;
    return was_named;
}

void
pg_logical_care(struct postgres *pg)
{
    struct pg_logical_control *l = pg->logical;
    const uint64_t now = uv_now(pg->config.loop);

    if (!pg_logical_is_on(pg) || pg->facts.run != PG_RUN_UP || pg->facts.is_in_recovery ||
        pg->look.is_refused || pg->op == POSTGRES_CHECKPOINT || now < l->look_at_ms ||
        pg_session_is_busy(l->session)) {
        return;
    }
    l->look_at_ms = now + LOOK_MS;
    (void)pg_session_ask(l->session, LOOK, TIMEOUT_MS, on_look, pg);
}

void
pg_logical_release(struct postgres *pg)
{
    pg->logical->is_behind = forget(pg->logical) || pg->logical->is_behind;
    if (pg->logical->is_behind && pg->facts.run == PG_RUN_UP) {
        write_down(pg);
    }
    pg->logical->look_at_ms = uv_now(pg->config.loop) + ABSENT_MS;
}

void
pg_logical_stop(struct postgres *pg)
{
    (void)forget(pg->logical);
    pg->logical->is_behind = false; /* written when the server starts */
    pg->logical->look_at_ms = 0;
    pg_session_reset(pg->logical->session);
}

void
pg_logical_close(struct postgres *pg)
{
    pg_session_close(pg->logical->session);
    pg->logical->session = NULL;
}

void
pg_logical_free(struct postgres *pg)
{
    free(pg->logical);
    pg->logical = NULL;
}

int
pg_logical_open(struct postgres *pg, struct err *err)
{
    pg->logical = calloc(1, sizeof *pg->logical);
    if (pg->logical == NULL) {
        return err_set(err, HA_ENOMEM, "slots: %s", err_code_text(HA_ENOMEM));
    }
    return pg_server_session(pg, pg->config.run_dir, "postgres", &pg->logical->session, err);
}
