/*
 * Replication slots. Every member keeps a physical slot for every other one, a standby too: whoever
 * is promoted has them at once, and a standby can be followed. On a standby nobody advances them,
 * so the agent does, never beyond what their owner has; who is away has none for ever.
 *
 * Slots that people made are the cluster's: a standby keeps the physical ones as its primary has
 * them, so that they outlive a switchover, and remembers the names of the logical ones, so that
 * what a promotion loses is said by name.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/postgres/pg_files.h"
#include "agent/postgres/pg_impl.h"
#include "agent/postgres/pg_text.h"
#include "agent/postgres/pg_wal.h"

#define CARE_MS 5000
#define RETRY_MS 1000
#define TIMEOUT_MS 5000
#define USERS_MS 2000
#define USER_SLOTS_MAX 64
#define CONNECT_MS 3000
#define NO_LEASE_STATE "25006"
#define LOGICAL_ON_STANDBY 16 /* from this major on a standby can have logical slots of its own */
#define LOGICAL_COPIED 17     /* and from this one PostgreSQL copies the primary's: pg_logical.c */

struct user_slot {
    char name[PG_SLOT_NAME_MAX];
    bool is_logical;
    uint64_t lsn; /* 0 = it reserves nothing */
};

struct pg_slots_control {
    struct pg_slots wish;
    bool is_told; /* there is a wish: before that nothing is dropped */
    struct pg_session *own;
    struct pg_session *users; /* of this server, about slots that people made */
    struct pg_session *upstream;
    char upstream_of[HA_ADDRESS_MAX];
    uint64_t care_at_ms;
    uint64_t users_at_ms;
    bool was_in_recovery;
    bool is_lost_due; /* promoted: the logical slots that are not here are to be named */
    bool is_loaded;
    bool is_known_own; /* the last primary was this server: its slots are here until dropped */
    size_t n_known;    /* the cluster's, as the last primary had them; also in a file */
    struct user_slot known[USER_SLOTS_MAX];
    size_t n_next; /* what is known once this standby's slots are like that */
    struct user_slot next[USER_SLOTS_MAX];
};

/* --- the file that remembers names --- */

static void
known_path(const struct postgres *pg, char out[PG_PATH_MAX + 16])
{
    (void)snprintf(out, PG_PATH_MAX + 16, "%s/slots", pg->config.state_dir);
}

static bool
is_slot_name(const char *name)
{
    const size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");

    return len > 0 && len < PG_SLOT_NAME_MAX && name[len] == '\0';
}

/* Lines of "p NAME" and "l NAME", and "own" where they are this server's. */
static void
known_load(struct postgres *pg)
{
    struct pg_slots_control *s = pg->slots;
    char path[PG_PATH_MAX + 16];
    char *text;
    char *rest;
    char *line;

    s->is_loaded = true;
    known_path(pg, path);
    if (pg_files_read(path, &text, NULL) != HA_OK) {
        return;
    }
    for (rest = text; (line = strtok_r(rest, "\n", &rest)) != NULL;) {
        s->is_known_own = s->is_known_own || strcmp(line, "own") == 0;
        if (s->n_known < USER_SLOTS_MAX && (line[0] == 'p' || line[0] == 'l') && line[1] == ' ' &&
            is_slot_name(line + 2)) {
            struct user_slot *k = &s->known[s->n_known++];

            memset(k, 0, sizeof *k);
            k->is_logical = line[0] == 'l';
            (void)snprintf(k->name, sizeof k->name, "%s", line + 2);
        }
    }
    free(text);
}

static void
known_save(struct postgres *pg)
{
    const struct pg_slots_control *s = pg->slots;
    char path[PG_PATH_MAX + 16];
    struct pg_text text = {0};
    struct err err = {0};

    known_path(pg, path);
    pg_text_add(&text, "%s", s->is_known_own ? "own\n" : "");
    for (size_t i = 0; i < s->n_known; i++) {
        pg_text_add(&text, "%c %s\n", s->known[i].is_logical ? 'l' : 'p', s->known[i].name);
    }
    if (pg_files_put(pg, path, &text, &err) != HA_OK) {
        postgres_log(pg, PG_LOG_WARN, "slots", "%s", err.text);
    }
}

static const struct user_slot *
find(const struct user_slot *list, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i].name, name) == 0) {
            return &list[i];
        }
    }
    return NULL;
}

static void
known_set(struct postgres *pg, const struct user_slot *list, size_t n, bool is_own)
{
    struct pg_slots_control *s = pg->slots;
    bool is_same = n == s->n_known && is_own == s->is_known_own;

    for (size_t i = 0; is_same && i < n; i++) {
        const struct user_slot *k = find(s->known, s->n_known, list[i].name);

        is_same = k != NULL && k->is_logical == list[i].is_logical;
    }
    memcpy(s->known, list, n * sizeof *list);
    s->n_known = n;
    s->is_known_own = is_own;
    if (!is_same) {
        known_save(pg);
    }
}

/* --- the members' slots --- */

static void
on_care(void *data, const struct pg_answer *answer)
{
    struct postgres *pg = data;

    if (answer->rc == HA_EREFUSED && strcmp(answer->sqlstate, NO_LEASE_STATE) != 0) {
        postgres_log(pg, PG_LOG_WARN, "slots", "%s", answer->text);
    }
    if (answer->rc != HA_OK) {
        pg->slots->care_at_ms = uv_now(pg->config.loop) + RETRY_MS;
    }
    for (int i = 0; answer->rc == HA_OK && i < answer->n_rows; i++) {
        postgres_log(pg,
                     PG_LOG_WARN,
                     "slot_dropped",
                     "%s: its member was removed, or away for longer than HA_SLOT_TTL",
                     pg_answer_get(answer, i, 0));
    }
    pg_session_reset(pg->slots->own);
}

static void
add_wish(const struct pg_slots *wish, struct pg_text *values)
{
    char name[PG_SLOT_NAME_MAX];

    pg_text_add(values, "(VALUES (NULL::name, NULL::pg_lsn)");
    for (uint32_t i = 0; i < wish->n; i++) {
        pg_slot_name(wish->at[i].address, name);
        pg_text_add(values,
                    ",('%s','%X/%X')",
                    name,
                    (unsigned)(wish->at[i].lsn >> 32),
                    (unsigned)wish->at[i].lsn);
    }
    pg_text_add(values, ") v(n, l)");
}

/* What fell out of max_slot_wal_keep_size is of no use and is made anew. The last question is the
 * one whose rows are the answer. */
static void
members_care(struct postgres *pg)
{
    struct pg_slots_control *s = pg->slots;
    const uint64_t now = uv_now(pg->config.loop);
    struct pg_text values = {0};
    struct pg_text sql = {0};

    if (!s->is_told || now < s->care_at_ms || pg_session_is_busy(s->own)) {
        return;
    }
    s->care_at_ms = now + CARE_MS;
    add_wish(&s->wish, &values);
    pg_text_add(&sql,
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots, %s"
                " WHERE slot_name = n AND wal_status = 'lost' AND NOT active;"
                "SELECT pg_create_physical_replication_slot(n, true) FROM %s WHERE n IS NOT NULL"
                " AND NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = n);",
                values.data,
                values.data);
    if (pg->facts.is_in_recovery) {
        pg_text_add(&sql,
                    "SELECT pg_replication_slot_advance(n, least(l, pg_last_wal_replay_lsn()))"
                    " FROM pg_replication_slots, %s WHERE slot_name = n AND NOT active"
                    " AND slot_type = 'physical'"
                    " AND restart_lsn < least(l, pg_last_wal_replay_lsn());",
                    values.data);
    }
    pg_text_add(&sql,
                "SELECT slot_name, pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                " WHERE slot_type = 'physical' AND NOT active AND slot_name LIKE 'hawser\\_%%'"
                " AND NOT EXISTS (SELECT FROM %s WHERE n = slot_name)",
                values.data);
    if (!values.has_failed && !sql.has_failed) {
        (void)pg_session_ask(s->own, sql.data, TIMEOUT_MS, on_care, pg);
    }
    pg_text_free(&values);
    pg_text_free(&sql);
}

/* --- slots that people made --- */

static size_t
take_users(const struct pg_answer *answer, struct user_slot list[USER_SLOTS_MAX])
{
    size_t n = 0;

    for (int i = 0; i < answer->n_rows && n < USER_SLOTS_MAX; i++) {
        struct user_slot *u = &list[n];

        if (!is_slot_name(pg_answer_get(answer, i, 1))) {
            continue; /* the first row, which says whether this is a primary */
        }
        memset(u, 0, sizeof *u);
        (void)snprintf(u->name, sizeof u->name, "%s", pg_answer_get(answer, i, 1));
        u->is_logical = strcmp(pg_answer_get(answer, i, 2), "logical") == 0;
        (void)pg_lsn_parse(pg_answer_get(answer, i, 3), &u->lsn);
        n++;
    }
    return n;
}

static const char USERS_SQL[] =
    "SELECT pg_is_in_recovery(), '', '', NULL::pg_lsn UNION ALL"
    " SELECT NULL, slot_name, slot_type, restart_lsn FROM pg_replication_slots"
    " WHERE NOT temporary AND slot_name NOT LIKE 'hawser\\_%'";

static bool
is_primarys(const struct pg_answer *answer)
{
    return answer->rc == HA_OK && answer->n_rows > 0 && pg_answer_get(answer, 0, 0)[0] == 'f';
}

/* Of the primary itself: after a promotion the logical ones that did not come along are named. */
static void
on_own_users(void *data, const struct pg_answer *answer)
{
    struct postgres *pg = data;
    struct pg_slots_control *s = pg->slots;
    struct user_slot list[USER_SLOTS_MAX];
    size_t n;

    if (is_primarys(answer)) {
        n = take_users(answer, list);
        for (size_t i = 0; s->is_lost_due && i < s->n_known; i++) {
            if (find(list, n, s->known[i].name) == NULL) {
                postgres_log(pg,
                             PG_LOG_ERROR,
                             "slot_lost",
                             "the %s slot \"%s\" of the primary before is not here: who reads from "
                             "it must begin anew",
                             s->known[i].is_logical ? "logical" : "physical",
                             s->known[i].name);
            }
        }
        s->is_lost_due = false;
        known_set(pg, list, n, true);
    }
    pg_session_reset(s->users);
}

static void
on_mirrored(void *data, const struct pg_answer *answer)
{
    struct postgres *pg = data;

    if (answer->rc == HA_EREFUSED) {
        postgres_log(pg, PG_LOG_WARN, "slots", "%s", answer->text);
    }
    for (int i = 0; answer->rc == HA_OK && i < answer->n_rows; i++) {
        postgres_log(pg,
                     PG_LOG_WARN,
                     "slot_dropped",
                     "\"%s\": the primary has no such slot, or this server had it as the primary",
                     pg_answer_get(answer, i, 0));
    }
    if (answer->rc == HA_OK) {
        known_set(pg, pg->slots->next, pg->slots->n_next, false);
    }
    pg_session_reset(pg->slots->users);
}

/*
 * Those that were known before and are no more, and logical ones that are left of when this server
 * was the primary: they hold back WAL for nobody, and one that is to survive a failover stands in
 * the way of its copy. Which these are: before standbys could have logical slots, all of them; then
 * those that this server had as the primary, and those that no standby can have made.
 */
static void
add_drops(const struct postgres *pg, const struct user_slot *list, size_t n, struct pg_text *sql)
{
    const struct pg_slots_control *s = pg->slots;
    const bool has_copies = pg->facts.version >= LOGICAL_COPIED;

    pg_text_add(sql,
                "SELECT slot_name, pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                " WHERE NOT active AND NOT temporary AND (slot_type = 'physical' AND"
                " slot_name IN (''");
    for (size_t i = 0; i < s->n_known; i++) {
        if (!s->known[i].is_logical && find(list, n, s->known[i].name) == NULL) {
            pg_text_add(sql, ",'%s'", s->known[i].name);
        }
    }
    if (pg->facts.version < LOGICAL_ON_STANDBY) {
        pg_text_add(sql, ") OR slot_type = 'logical' AND slot_name NOT LIKE 'hawser\\_%%')");
        return;
    }
    pg_text_add(sql,
                ") OR slot_type = 'logical' AND %s (%s slot_name IN (''",
                has_copies ? "NOT synced AND" : "",
                has_copies ? "failover OR" : "");
    for (size_t i = 0; s->is_known_own && i < s->n_known; i++) {
        if (s->known[i].is_logical) {
            pg_text_add(sql, ",'%s'", s->known[i].name);
        }
    }
    pg_text_add(sql, ")))");
}

static void
mirror(struct postgres *pg, const struct user_slot *list, size_t n)
{
    struct pg_slots_control *s = pg->slots;
    struct pg_text values = {0};
    struct pg_text sql = {0};

    pg_text_add(&values, "(VALUES (NULL::name, NULL::pg_lsn)");
    for (size_t i = 0; i < n; i++) {
        if (list[i].is_logical) {
            continue;
        }
        pg_text_add(&values, ",('%s',", list[i].name);
        if (list[i].lsn == 0) {
            pg_text_add(&values, "NULL)");
        } else {
            pg_text_add(&values, "'%X/%X')", (unsigned)(list[i].lsn >> 32), (unsigned)list[i].lsn);
        }
    }
    pg_text_add(&values, ") v(n, l)");
    pg_text_add(&sql,
                "SELECT pg_create_physical_replication_slot(n, l IS NOT NULL) FROM %s"
                " WHERE n IS NOT NULL"
                " AND NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = n);"
                "SELECT pg_replication_slot_advance(n, least(l, pg_last_wal_replay_lsn()))"
                " FROM pg_replication_slots, %s WHERE slot_name = n AND NOT active"
                " AND slot_type = 'physical'"
                " AND restart_lsn < least(l, pg_last_wal_replay_lsn());",
                values.data,
                values.data);
    add_drops(pg, list, n, &sql);
    if (!values.has_failed && !sql.has_failed) {
        (void)pg_session_ask(s->users, sql.data, TIMEOUT_MS, on_mirrored, pg);
    }
    pg_text_free(&values);
    pg_text_free(&sql);
}

static void
on_upstream_users(void *data, const struct pg_answer *answer)
{
    struct postgres *pg = data;
    struct pg_slots_control *s = pg->slots;
    struct user_slot list[USER_SLOTS_MAX];
    size_t n;

    if (is_primarys(answer) && pg->facts.run == PG_RUN_UP && pg->facts.is_in_recovery &&
        !pg_session_is_busy(s->users)) {
        n = take_users(answer, list);
        memcpy(s->next, list, n * sizeof *list);
        s->n_next = n;
        mirror(pg, list, n);
    }
    pg_session_reset(s->upstream);
}

/* A session with whom this standby follows, as the role that it follows with. */
static bool
upstream_open(struct postgres *pg)
{
    struct pg_slots_control *s = pg->slots;
    const struct pg_session_config config = {
        .loop = pg->config.loop,
        .host = pg->follow,
        .port = pg->config.port,
        .user = pg->config.replication_user,
        .database = "postgres",
        .passfile = pg->follow_passfile,
        .connect_ms = CONNECT_MS,
    };

    if (s->upstream != NULL && strcmp(s->upstream_of, pg->follow) == 0) {
        return true;
    }
    pg_session_close(s->upstream);
    s->upstream = NULL;
    memcpy(s->upstream_of, pg->follow, sizeof s->upstream_of);
    return pg_session_open(&config, &s->upstream, NULL) == HA_OK;
}

static void
users_care(struct postgres *pg)
{
    struct pg_slots_control *s = pg->slots;
    const uint64_t now = uv_now(pg->config.loop);

    if (!s->is_loaded) {
        known_load(pg);
    }
    if (s->was_in_recovery && !pg->facts.is_in_recovery) {
        s->is_lost_due = true;
        s->users_at_ms = 0;
    }
    s->was_in_recovery = pg->facts.is_in_recovery;
    if (now < s->users_at_ms || pg_session_is_busy(s->users) || pg->look.is_refused) {
        return;
    }
    s->users_at_ms = now + USERS_MS;
    if (!pg->facts.is_in_recovery) {
        (void)pg_session_ask(s->users, USERS_SQL, TIMEOUT_MS, on_own_users, pg);
    } else if (pg->follow[0] != '\0' && pg->facts.is_streaming &&
               !(s->upstream != NULL && pg_session_is_busy(s->upstream)) && upstream_open(pg)) {
        (void)pg_session_ask(s->upstream, USERS_SQL, TIMEOUT_MS, on_upstream_users, pg);
    }
}

void
pg_slots_care(struct postgres *pg)
{
    if (pg->facts.run == PG_RUN_UP) {
        members_care(pg);
        users_care(pg);
    }
}

void
pg_slots_stop(struct postgres *pg)
{
    struct pg_slots_control *s = pg->slots;

    s->care_at_ms = s->users_at_ms = 0;
    s->was_in_recovery = s->is_lost_due = false;
    pg_session_close(s->upstream);
    s->upstream = NULL;
}

void
pg_slots_set(struct postgres *pg, const struct pg_slots *wish)
{
    struct pg_slots_control *s = pg->slots;
    bool is_same = s->is_told && s->wish.n == wish->n;

    for (uint32_t i = 0; is_same && i < wish->n; i++) {
        is_same = strcmp(s->wish.at[i].address, wish->at[i].address) == 0;
    }
    s->wish = *wish;
    s->is_told = true;
    if (!is_same) {
        s->care_at_ms = 0;
    }
}

bool
pg_slots_is_heard(const struct postgres *pg, const char *name)
{
    const struct pg_slots *wish = &pg->slots->wish;
    char slot[PG_SLOT_NAME_MAX];

    for (uint32_t i = 0; i < wish->n; i++) {
        pg_slot_name(wish->at[i].address, slot);
        if (strcmp(slot, name) == 0) {
            return wish->at[i].lsn != 0;
        }
    }
    return false;
}

void
pg_slots_close(struct postgres *pg)
{
    if (pg->slots != NULL) {
        pg_session_close(pg->slots->own);
        pg_session_close(pg->slots->users);
        pg_session_close(pg->slots->upstream);
        free(pg->slots);
        pg->slots = NULL;
    }
}

int
pg_slots_open(struct postgres *pg, struct err *err)
{
    struct pg_slots_control *s = calloc(1, sizeof *s);
    int rc;

    if (s == NULL) {
        return err_set(err, HA_ENOMEM, "slots: %s", err_code_text(HA_ENOMEM));
    }
    rc = pg_server_session(pg, pg->config.run_dir, "postgres", &s->own, err);
    if (rc == HA_OK) {
        rc = pg_server_session(pg, pg->config.run_dir, "postgres", &s->users, err);
    }
    if (rc != HA_OK) {
        pg_session_close(s->own);
        free(s);
        return rc;
    }
    pg->slots = s;
    return HA_OK;
}
