/*
 * synchronous_standby_names: written when the core says so, and watched until no process of the
 * server uses an older value.
 *
 * A reload reaches the processes one by one, and what each makes of it decides who is waited for
 * (docs/decisions/0009): the checkpointer says whether commits wait at all, each walsender whether
 * it counts, which pg_stat_replication shows, and how many must, which nothing shows. So a value is
 * in force when
 *   1. a new session has it: the postmaster has read it, and told its children;
 *   2. where commits waited for nobody before: a checkpoint was made since;
 *   3. where the count grew: the walsenders of before are gone;
 *   4. exactly the named standbys count.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/postgres/pg_files.h"
#include "agent/postgres/pg_impl.h"
#include "agent/postgres/pg_wal.h"

#define LOOK_MS 50
#define TIMEOUT_MS 5000
#define CHECKPOINT_MS (3600 * 1000)
#define SENDERS_MAX 64
#define NAMES_MAX (HA_MEMBERS_MAX * (PG_SLOT_NAME_MAX + 3) + 16)

static const char SHOW[] = "SHOW synchronous_standby_names";
static const char END_SENDERS[] = "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_replication"
                                  " WHERE sync_priority > 0";
/* The own position first: what lies before it was acknowledged before the standbys are looked at.
 */
static const char LOOK[] =
    "WITH f AS MATERIALIZED (SELECT CASE WHEN pg_is_in_recovery() THEN NULL"
    " ELSE pg_current_wal_flush_lsn() END AS lsn)"
    " SELECT f.lsn, pg_is_in_recovery(), r.pid, r.application_name, r.state, r.sync_priority,"
    " r.flush_lsn FROM f LEFT JOIN pg_stat_replication r ON true";

enum column {
    COL_LSN = 0,
    COL_IN_RECOVERY,
    COL_PID,
    COL_NAME,
    COL_STATE,
    COL_PRIORITY,
    COL_FLUSH,
};

struct pg_sync_control {
    struct pg_session *session;
    struct sync_names wanted;
    uint64_t applied;           /* version */
    bool is_read;               /* step 1 is done */
    bool is_checkpoint_due;     /* step 2 is not */
    bool is_end_of_senders_due; /* step 3 is not */
    int old_senders[SENDERS_MAX];
    int n_old_senders;
    uint64_t asked_ms;
    bool is_closed;
};

void
pg_sync_text(const struct postgres *pg, char *out, size_t size)
{
    const struct sync_names *w = &pg->sync->wanted;
    char name[PG_SLOT_NAME_MAX];
    size_t len;

    out[0] = '\0';
    if (w->count == 0) {
        return;
    }
    len = (size_t)snprintf(out, size, "ANY %u (", w->count);
    for (uint32_t i = 0; i < w->n; i++) {
        pg_slot_name(w->address[i], name);
        len += (size_t)snprintf(out + len, size - len, "%s\"%s\"", i == 0 ? "" : ",", name);
    }
    /* Nobody bears that name: every commit waits. */
    (void)snprintf(out + len, size - len, "%s)", w->n == 0 ? "\"hawser_nobody\"" : "");
}

bool
pg_sync_is_closed(const struct postgres *pg)
{
    return pg->sync->is_closed;
}

/* The server starts with what was just written. */
void
pg_sync_on_start(struct postgres *pg)
{
    struct pg_sync_control *s = pg->sync;

    s->applied = s->wanted.version;
    s->is_read = true;
    s->is_checkpoint_due = false;
    s->is_end_of_senders_due = false;
    s->n_old_senders = 0;
}

/* A walsender that served before the promotion reckons only after it read its settings again. */
void
pg_sync_on_promoted(struct postgres *pg)
{
    if (pg->sync->wanted.count != 0) {
        pg_server_reload(pg);
    }
}

void
postgres_set_sync(struct postgres *pg, const struct sync_names *names)
{
    struct pg_sync_control *s = pg->sync;
    const struct sync_names before = s->wanted;
    const bool was_applied = s->applied == before.version;
    struct err err = {0};

    s->wanted = *names;
    if (pg->server == NULL || pg->server_gone != NULL) {
        return; /* written when the server starts */
    }
    s->is_checkpoint_due = s->is_checkpoint_due || !was_applied || before.count == 0;
    s->is_end_of_senders_due = s->is_end_of_senders_due || !was_applied ||
                               (before.count != 0 && names->count > before.count);
    if (names->count == 0) {
        s->is_checkpoint_due = s->is_end_of_senders_due = false;
    }
    s->is_read = false;
    if (pg_files_write_settings(pg, &err) != HA_OK) {
        postgres_log(pg, PG_LOG_ERROR, "settings", "%s", err.text);
        return;
    }
    pg_server_reload(pg);
}

void
postgres_set_gate(struct postgres *pg, bool is_open)
{
    struct err err = {0};

    if (pg->sync->is_closed == !is_open) {
        return;
    }
    pg->sync->is_closed = !is_open;
    if (pg->server == NULL || pg->server_gone != NULL) {
        return;
    }
    if (pg_files_write_access(pg, &err) != HA_OK) {
        postgres_log(pg, PG_LOG_ERROR, "access_files", "%s", err.text);
        return;
    }
    pg_server_reload(pg);
}

/* --- what the server shows --- */

static bool
is_named(const struct sync_names *names, const char *name)
{
    char slot[PG_SLOT_NAME_MAX];

    for (uint32_t i = 0; i < names->n; i++) {
        pg_slot_name(names->address[i], slot);
        if (strcmp(slot, name) == 0) {
            return true;
        }
    }
    return false;
}

static bool
is_old_sender(const struct pg_sync_control *s, int pid)
{
    for (int i = 0; i < s->n_old_senders; i++) {
        if (s->old_senders[i] == pid) {
            return true;
        }
    }
    return false;
}

/* Steps 3 and 4 as the rows show them. In recovery nobody waits. */
static bool
is_in_force(const struct pg_sync_control *s, const struct pg_answer *answer)
{
    if (pg_answer_get(answer, 0, COL_IN_RECOVERY)[0] == 't') {
        return true;
    }
    for (int i = 0; i < answer->n_rows; i++) {
        const char *name = pg_answer_get(answer, i, COL_NAME);
        const bool counts = strtol(pg_answer_get(answer, i, COL_PRIORITY), NULL, 10) > 0;

        if (is_old_sender(s, (int)strtol(pg_answer_get(answer, i, COL_PID), NULL, 10)) ||
            counts != (s->wanted.count != 0 && is_named(&s->wanted, name))) {
            return false;
        }
    }
    return true;
}

static void
add_standby(const struct postgres *pg, const struct pg_answer *answer, int row, struct pg_sync *out)
{
    char slot[PG_SLOT_NAME_MAX];

    if (strcmp(pg_answer_get(answer, row, COL_STATE), "streaming") != 0) {
        return;
    }
    for (size_t i = 0; i < pg->n_members && out->n < HA_MEMBERS_MAX; i++) {
        pg_slot_name(pg->members[i], slot);
        if (strcmp(slot, pg_answer_get(answer, row, COL_NAME)) == 0) {
            memcpy(out->standbys[out->n].address, pg->members[i], HA_ADDRESS_MAX);
            (void)pg_lsn_parse(pg_answer_get(answer, row, COL_FLUSH),
                               &out->standbys[out->n].flush_lsn);
            out->n++;
            return;
        }
    }
}

static void
on_look(void *data, const struct pg_answer *answer)
{
    struct postgres *pg = data;
    struct pg_sync_control *s = pg->sync;
    struct pg_sync seen = {0};

    if (answer->rc != HA_OK || answer->n_rows == 0 || pg->facts.run != PG_RUN_UP) {
        return;
    }
    if (s->applied != s->wanted.version && s->is_read && !s->is_checkpoint_due &&
        !s->is_end_of_senders_due && is_in_force(s, answer)) {
        s->applied = s->wanted.version;
        s->n_old_senders = 0;
    }
    seen.version = s->applied;
    (void)pg_lsn_parse(pg_answer_get(answer, 0, COL_LSN), &seen.lsn);
    for (int i = 0; i < answer->n_rows; i++) {
        add_standby(pg, answer, i, &seen);
    }
    if (pg->config.callbacks.on_sync != NULL) {
        pg->config.callbacks.on_sync(pg->config.callbacks.data, &seen);
    }
}

static void
on_show(void *data, const struct pg_answer *answer)
{
    struct postgres *pg = data;
    char wanted[NAMES_MAX];

    pg_sync_text(pg, wanted, sizeof wanted);
    if (answer->rc == HA_OK && strcmp(pg_answer_get(answer, 0, 0), wanted) == 0) {
        pg->sync->is_read = true;
    }
}

static void
on_checkpoint(void *data, const struct pg_answer *answer)
{
    struct postgres *pg = data;

    /* A value that came meanwhile needs one of its own. */
    if (answer->rc == HA_OK && pg->sync->is_read) {
        pg->sync->is_checkpoint_due = false;
    }
}

static void
on_senders_ended(void *data, const struct pg_answer *answer)
{
    struct postgres *pg = data;
    struct pg_sync_control *s = pg->sync;

    if (answer->rc != HA_OK || !s->is_read) {
        return;
    }
    for (int i = 0; i < answer->n_rows && s->n_old_senders < SENDERS_MAX; i++) {
        s->old_senders[s->n_old_senders++] = (int)strtol(pg_answer_get(answer, i, 0), NULL, 10);
    }
    s->is_end_of_senders_due = answer->n_rows > SENDERS_MAX;
}

/* One step at a time, each over the same session. */
void
pg_sync_on_look(struct postgres *pg)
{
    struct pg_sync_control *s = pg->sync;
    const uint64_t now = uv_now(pg->config.loop);

    if (s->wanted.version == 0 || pg->facts.run != PG_RUN_UP || pg_session_is_busy(s->session) ||
        now - s->asked_ms < LOOK_MS) {
        return;
    }
    s->asked_ms = now;
    if (!s->is_read) {
        pg_session_reset(s->session); /* only a new one shows what the postmaster has */
        (void)pg_session_ask(s->session, SHOW, TIMEOUT_MS, on_show, pg);
    } else if (s->is_checkpoint_due) {
        (void)pg_session_ask(s->session, "CHECKPOINT", CHECKPOINT_MS, on_checkpoint, pg);
    } else if (s->is_end_of_senders_due) {
        (void)pg_session_ask(s->session, END_SENDERS, TIMEOUT_MS, on_senders_ended, pg);
    } else {
        (void)pg_session_ask(s->session, LOOK, TIMEOUT_MS, on_look, pg);
    }
}

void
pg_sync_stop(struct postgres *pg)
{
    pg_session_reset(pg->sync->session);
}

void
pg_sync_close(struct postgres *pg)
{
    pg_session_close(pg->sync->session);
    pg->sync->session = NULL;
}

void
pg_sync_free(struct postgres *pg)
{
    free(pg->sync);
    pg->sync = NULL;
}

int
pg_sync_open(struct postgres *pg, struct err *err)
{
    pg->sync = calloc(1, sizeof *pg->sync);
    if (pg->sync == NULL) {
        return err_set(err, HA_ENOMEM, "sync: %s", err_code_text(HA_ENOMEM));
    }
    return pg_server_session(pg, pg->config.run_dir, "postgres", &pg->sync->session, err);
}
