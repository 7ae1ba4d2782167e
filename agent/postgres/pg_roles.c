/*
 * The two roles that the environment gives passwords to, on a primary: a password that was changed
 * there (a new Docker secret) is put into the server, and a replication role that is not there (the
 * data came from elsewhere) is made. Once for each time that the server is a primary.
 *
 * The fence refuses it without a lease, so no other server than the primary is ever changed.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/postgres/pg_impl.h"
#include "agent/postgres/pg_scram.h"
#include "agent/postgres/pg_text.h"

#define RETRY_MS 2000
#define TIMEOUT_MS 10000
#define NO_LEASE_STATE "25006"

struct pg_roles {
    struct pg_session *session;
    bool is_right; /* seen to be so since the server became a primary */
    bool is_asking;
    uint64_t again_at_ms;
    int role; /* index of the role that is being put right */
};

struct role {
    const char *name;
    const char *password;
    bool is_replication;
};

static struct role
role_of(const struct postgres *pg, int index)
{
    const struct postgres_config *c = &pg->config;

    return index == 0 ? (struct role){c->superuser, c->superuser_password, false}
                      : (struct role){c->replication_user, c->replication_password, true};
}

static void
roles_again(struct postgres *pg, const struct pg_answer *answer)
{
    struct pg_roles *r = pg->roles;

    if (answer != NULL && answer->rc == HA_EREFUSED &&
        strcmp(answer->sqlstate, NO_LEASE_STATE) != 0) {
        postgres_log(pg, PG_LOG_WARN, "roles", "%s", answer->text);
    }
    r->is_asking = false;
    r->again_at_ms = uv_now(pg->config.loop) + RETRY_MS;
    pg_session_reset(r->session);
}

static void
on_changed(void *data, const struct pg_answer *answer)
{
    struct postgres *pg = data;

    if (answer->rc == HA_OK) {
        postgres_log(pg,
                     PG_LOG_INFO,
                     "roles",
                     "role %s has the password of the environment now",
                     role_of(pg, pg->roles->role).name);
    }
    roles_again(pg, answer); /* and then the look that finds all right */
}

/* The server gets the verifier: not even its log can hold the password. */
static void
role_change(struct postgres *pg, const struct role *role, bool is_there)
{
    struct pg_text sql = {0};
    struct err err = {0};
    char *verifier = pg_scram_verifier(role->name, role->password, &err);

    if (verifier == NULL) {
        postgres_log(pg, PG_LOG_WARN, "roles", "%s", err.text);
        roles_again(pg, NULL);
        return;
    }
    /* No standby is waited for: with the password of before it could not even log in. */
    pg_text_add(&sql, "SET LOCAL synchronous_commit = local; ");
    pg_text_add(&sql, is_there ? "ALTER ROLE " : "CREATE ROLE ");
    pg_text_add_name(&sql, role->name);
    pg_text_add(&sql, role->is_replication ? " LOGIN REPLICATION PASSWORD " : " PASSWORD ");
    pg_text_add_literal(&sql, verifier);
    free(verifier);
    if (sql.has_failed ||
        pg_session_ask(pg->roles->session, sql.data, TIMEOUT_MS, on_changed, pg) != HA_OK) {
        roles_again(pg, NULL);
    }
    pg_text_free(&sql);
}

static void
on_seen(void *data, const struct pg_answer *answer)
{
    struct postgres *pg = data;
    struct pg_roles *r = pg->roles;

    if (answer->rc != HA_OK) {
        roles_again(pg, answer);
        return;
    }
    for (r->role = 0; r->role < 2; r->role++) {
        const struct role role = role_of(pg, r->role);
        int row = 0;

        while (row < answer->n_rows && strcmp(pg_answer_get(answer, row, 0), role.name) != 0) {
            row++;
        }
        if (!pg_scram_matches(pg_answer_get(answer, row, 1), role.password)) {
            role_change(pg, &role, row < answer->n_rows);
            return;
        }
    }
    r->is_right = true;
    r->is_asking = false;
    pg_session_reset(r->session);
}

void
pg_roles_care(struct postgres *pg)
{
    struct pg_roles *r = pg->roles;
    struct pg_text sql = {0};

    if (pg->facts.run != PG_RUN_UP || pg->facts.is_in_recovery) {
        r->is_right = false;
        return;
    }
    if (r->is_right || r->is_asking || pg->look.is_refused ||
        uv_now(pg->config.loop) < r->again_at_ms || pg_session_is_busy(r->session)) {
        return;
    }
    pg_text_add(&sql, "SELECT rolname, rolpassword FROM pg_authid WHERE rolname IN (");
    pg_text_add_literal(&sql, role_of(pg, 0).name);
    pg_text_add(&sql, ", ");
    pg_text_add_literal(&sql, role_of(pg, 1).name);
    pg_text_add(&sql, ")");
    if (!sql.has_failed && pg_session_ask(r->session, sql.data, TIMEOUT_MS, on_seen, pg) == HA_OK) {
        r->is_asking = true;
    }
    pg_text_free(&sql);
}

void
pg_roles_stop(struct postgres *pg)
{
    pg->roles->is_right = false;
    pg->roles->again_at_ms = 0;
}

void
pg_roles_close(struct postgres *pg)
{
    if (pg->roles != NULL) {
        pg_session_close(pg->roles->session);
        free(pg->roles);
        pg->roles = NULL;
    }
}

int
pg_roles_open(struct postgres *pg, struct err *err)
{
    struct pg_roles *r = calloc(1, sizeof *r);
    int rc;

    if (r == NULL) {
        return err_set(err, HA_ENOMEM, "roles: %s", err_code_text(HA_ENOMEM));
    }
    rc = pg_server_session(pg, pg->config.run_dir, "postgres", &r->session, err);
    if (rc != HA_OK) {
        free(r);
        return rc;
    }
    pg->roles = r;
    return HA_OK;
}
