/*
 * An empty PGDATA becomes the first data directory of the cluster.
 *
 * initdb works in a side directory. A temporary server then runs on it, reachable only through a
 * socket in a private directory: roles, database and init scripts are its work. It writes without
 * a lease and needs none, as no client can reach it. Only when it has been stopped cleanly does
 * the side directory take PGDATA's place, so a crash half-way leaves an empty PGDATA.
 */
#include <dirent.h>
#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/postgres/pg_files.h"
#include "agent/postgres/pg_impl.h"
#include "agent/postgres/pg_initdb_args.h"
#include "agent/postgres/pg_swap.h"

#define ARGS_MAX 64
#define CONNECT_PAUSE_MS 20
#define SQL_TIMEOUT_MS 60000

struct pg_initdb {
    char data[PG_PATH_MAX];
    char socket_dir[PG_PATH_MAX];
    char pwfile[PG_PATH_MAX + 32];
    char hba[PG_PATH_MAX + 32];
    char ident[PG_PATH_MAX + 32];
    char *args_memory; /* POSTGRES_INITDB_ARGS, cut into words */
    struct dirent **scripts;
    int n_scripts;
    int next_script;
};

static void server_connect(struct postgres *pg);
static void script_next(struct postgres *pg);

void
pg_initdb_free(struct postgres *pg)
{
    struct pg_initdb *in = pg->initdb;

    if (in == NULL) {
        return;
    }
    (void)unlink(in->pwfile);
    for (int i = 0; i < in->n_scripts; i++) {
        free(in->scripts[i]);
    }
    free(in->scripts);
    free(in->args_memory);
    free(in);
    pg->initdb = NULL;
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

static void
on_server_stopped(struct postgres *pg, int status)
{
    char tail[PG_TEXT_MAX - 128];
    struct err err = {0};
    int rc;

    if (status != 0) {
        pg_tail_text(&pg->tail, tail, sizeof tail);
        postgres_finish(pg, HA_EFAILED, "the temporary server ended with %d: %s", status, tail);
        return;
    }
    rc = pg_files_adapt(pg, pg->initdb->data, &err);
    if (rc == HA_OK) {
        rc = pg_swap_mark_whole(pg, &err);
    }
    if (rc == HA_OK) {
        rc = pg_swap_tidy(pg, on_swapped, &err);
    }
    if (rc != HA_OK) {
        postgres_finish_err(pg, &err);
    }
}

/* A step failed while the temporary server runs: it goes first, then the operation ends. */
static void
on_failed_server_gone(struct postgres *pg, int status)
{
    (void)status;
    postgres_finish(pg, pg->op_rc, "%s", pg->fail_text);
}

static void
fail_with_server(struct postgres *pg, int rc, const char *text)
{
    pg->op_rc = rc;
    (void)snprintf(pg->fail_text, sizeof pg->fail_text, "%s", text);
    pg_session_close(pg->work);
    pg->work = NULL;
    if (pg->server == NULL) {
        on_failed_server_gone(pg, 0);
        return;
    }
    pg->server_gone = on_failed_server_gone;
    pg_child_kill(pg->server);
}

/* --- init scripts --- */

static bool
ends_with(const char *text, const char *end)
{
    const size_t a = strlen(text);
    const size_t b = strlen(end);

    return a > b && strcmp(text + a - b, end) == 0;
}

static void
on_script_done(struct postgres *pg, int status)
{
    const char *const name = pg->initdb->scripts[pg->initdb->next_script - 1]->d_name;
    char tail[PG_TEXT_MAX / 2];
    char text[PG_TEXT_MAX];

    if (status != 0) {
        pg_tail_text(&pg->tail, tail, sizeof tail);
        (void)snprintf(text, sizeof text, "init script %s ended with %d: %s", name, status, tail);
        fail_with_server(pg, HA_EFAILED, text);
        return;
    }
    script_next(pg);
}

/* The shell line that runs a script, with $1 its path and $2 psql; NULL = not one of ours. */
static const char *
script_line(const char *path)
{
    static const char SQL[] = "exec \"$2\" -v ON_ERROR_STOP=1 -X -w -f \"$1\"";

    if (ends_with(path, ".sh")) {
        return access(path, X_OK) == 0 ? "exec \"$1\"" : ". \"$1\"";
    }
    if (ends_with(path, ".sql")) {
        return SQL;
    }
    if (ends_with(path, ".sql.gz")) {
        return "gunzip -c \"$1\" | \"$2\" -v ON_ERROR_STOP=1 -X -w -f -";
    }
    if (ends_with(path, ".sql.xz")) {
        return "xzcat \"$1\" | \"$2\" -v ON_ERROR_STOP=1 -X -w -f -";
    }
    if (ends_with(path, ".sql.zst")) {
        return "zstd -dc \"$1\" | \"$2\" -v ON_ERROR_STOP=1 -X -w -f -";
    }
    return NULL;
}

/* The variables that scripts of the official image rely on. No password: the socket needs none. */
static int
script_run(struct postgres *pg, const char *path, const char *line, struct err *err)
{
    const struct postgres_config *c = &pg->config;
    const struct passwd *pw = getpwuid(c->uid);
    const char *const shell = access("/bin/bash", X_OK) == 0 ? "/bin/bash" : "/bin/sh";
    char psql[PG_PATH_MAX + 16];
    char env[9][PG_PATH_MAX + 96];
    const char *extra[HA_COUNT_OF(env) + 1] = {NULL};
    const char *const argv[] = {shell, "-c", line, path, path, psql, NULL};
    size_t n = 0;

    (void)snprintf(psql, sizeof psql, "%s/psql", pg->bin_dir);
    (void)snprintf(env[n++], sizeof env[0], "PGHOST=%s", pg->initdb->socket_dir);
    (void)snprintf(env[n++], sizeof env[0], "PGPORT=%u", (unsigned)c->port);
    (void)snprintf(env[n++], sizeof env[0], "PGUSER=%s", c->superuser);
    (void)snprintf(env[n++], sizeof env[0], "PGDATABASE=%s", c->database);
    (void)snprintf(env[n++], sizeof env[0], "PGDATA=%s", pg->initdb->data);
    (void)snprintf(env[n++], sizeof env[0], "POSTGRES_USER=%s", c->superuser);
    (void)snprintf(env[n++], sizeof env[0], "POSTGRES_DB=%s", c->database);
    (void)snprintf(env[n++], sizeof env[0], "HOME=%s", pw == NULL ? "/" : pw->pw_dir);
    (void)snprintf(env[n++],
                   sizeof env[0],
                   "PATH=%s:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                   pg->bin_dir);
    for (size_t i = 0; i < n; i++) {
        extra[i] = env[i];
    }
    return pg_tool_script(pg, argv, extra, on_script_done, err);
}

static void
script_next(struct postgres *pg)
{
    struct pg_initdb *in = pg->initdb;
    char path[PG_PATH_MAX + 300];
    const char *line = NULL;
    struct err err = {0};

    while (line == NULL && in->next_script < in->n_scripts) {
        const char *const name = in->scripts[in->next_script++]->d_name;

        (void)snprintf(path, sizeof path, "%s/%s", pg->config.init_scripts, name);
        line = name[0] == '.' ? NULL : script_line(path);
        if (name[0] != '.') {
            postgres_log(pg,
                         PG_LOG_INFO,
                         "init_script",
                         "%s %s",
                         line == NULL ? "ignoring" : "running",
                         path);
        }
    }
    if (pg->server == NULL) {
        postgres_finish(pg, HA_EFAILED, "the temporary server ended before the scripts did");
        return;
    }
    if (line == NULL) {
        pg->server_gone = on_server_stopped;
        pg_child_signal(pg->server, SIGINT);
        return;
    }
    if (script_run(pg, path, line, &err) != HA_OK) {
        fail_with_server(pg, err.code, err.text);
    }
}

static void
scripts_begin(struct postgres *pg)
{
    struct pg_initdb *in = pg->initdb;

    pg_session_close(pg->work);
    pg->work = NULL;
    if (pg->config.init_scripts[0] != '\0') {
        in->n_scripts = scandir(pg->config.init_scripts, &in->scripts, NULL, alphasort);
        if (in->n_scripts < 0) {
            in->n_scripts = 0;
            postgres_log(pg,
                         PG_LOG_INFO,
                         "init_scripts",
                         "%s: %s",
                         pg->config.init_scripts,
                         strerror(errno));
        }
    }
    script_next(pg);
}

/* --- roles and database --- */

static void
on_database(void *data, const struct pg_answer *answer)
{
    struct postgres *pg = data;

    /* 42P04: it is there already, as "postgres" always is. */
    if (answer->rc != HA_OK && strcmp(answer->sqlstate, "42P04") != 0) {
        fail_with_server(pg, answer->rc, answer->text);
        return;
    }
    scripts_begin(pg);
}

static void
ask(struct postgres *pg, struct pg_text *sql, pg_answer_fn done)
{
    if (sql->has_failed) {
        fail_with_server(pg, HA_ENOMEM, err_code_text(HA_ENOMEM));
    } else {
        (void)pg_session_ask(pg->work, sql->data, SQL_TIMEOUT_MS, done, pg);
    }
    pg_text_free(sql);
}

static void
on_role(void *data, const struct pg_answer *answer)
{
    struct postgres *pg = data;
    struct pg_text sql = {0};

    if (answer->rc != HA_OK) {
        fail_with_server(pg, answer->rc, answer->text);
        return;
    }
    pg_text_add(&sql, "CREATE DATABASE ");
    pg_text_add_name(&sql, pg->config.database);
    ask(pg, &sql, on_database);
}

/* The server gets the verifier: not even its log of failed statements can hold the password. */
static void
role_create(struct postgres *pg)
{
    const char *const role = pg->config.replication_user;
    struct err err = {0};
    struct pg_text sql = {0};
    char *verifier;

    if (strcmp(role, pg->config.superuser) == 0) {
        pg_text_add(&sql, "SELECT 1");
        ask(pg, &sql, on_role);
        return;
    }
    verifier = pg_scram_verifier(role, pg->config.replication_password, &err);
    if (verifier == NULL) {
        fail_with_server(pg, err.code, err.text);
        return;
    }
    pg_text_add(&sql, "CREATE ROLE ");
    pg_text_add_name(&sql, role);
    pg_text_add(&sql, " LOGIN REPLICATION PASSWORD ");
    pg_text_add_literal(&sql, verifier);
    free(verifier);
    ask(pg, &sql, on_role);
}

static void
on_connected(void *data, const struct pg_answer *answer)
{
    struct postgres *pg = data;

    if (answer->rc == HA_OK) {
        role_create(pg);
        return;
    }
    /* It is still starting; when it ends instead, on_server_died() has the last word. */
    postgres_step_after(pg, CONNECT_PAUSE_MS, server_connect);
}

static void
server_connect(struct postgres *pg)
{
    (void)pg_session_ask(pg->work, "SELECT 1", SQL_TIMEOUT_MS, on_connected, pg);
}

static void
on_server_died(struct postgres *pg, int status)
{
    char tail[PG_TEXT_MAX - 128];

    if (pg->tool != NULL) {
        pg_child_kill(pg->tool); /* the script ends in a failure, and that ends the operation */
        return;
    }
    pg_tail_text(&pg->tail, tail, sizeof tail);
    postgres_finish(pg, HA_EFAILED, "the temporary server ended with %d: %s", status, tail);
}

/* --- the temporary server --- */

static int
write_server_files(struct postgres *pg, struct err *err)
{
    struct pg_initdb *in = pg->initdb;
    struct pg_text hba = {0};
    struct pg_text ident = {0};
    int rc;

    pg_text_add(&hba, "local all all peer map=hawser\n");
    pg_text_add(&ident, "hawser root ");
    pg_text_add_name(&ident, pg->config.superuser);
    pg_text_add(&ident, "\nhawser ");
    pg_text_add_name(&ident, pg->os_user);
    pg_text_add(&ident, " ");
    pg_text_add_name(&ident, pg->config.superuser);
    pg_text_add(&ident, "\n");
    rc = pg_files_write(pg, in->hba, &hba, err);
    if (rc != HA_OK) {
        pg_text_free(&ident);
        return rc;
    }
    return pg_files_write(pg, in->ident, &ident, err);
}

/* POSTGRESQL_CONF counts here too: an init script may need a library that it loads. */
static int
server_spawn(struct postgres *pg, struct err *err)
{
    struct pg_initdb *in = pg->initdb;
    char program[PG_PATH_MAX + 16];
    char fixed[6][PG_PATH_MAX + 64];
    const char *argv[20 + 2 * PG_CONF_SETTINGS_MAX] = {program, "-D", in->data};
    struct pg_text extra[PG_CONF_SETTINGS_MAX] = {{0}};
    size_t n = 3;
    size_t n_fixed = 0;
    int rc;

    (void)snprintf(program, sizeof program, "%s/postgres", pg->bin_dir);
    (void)snprintf(fixed[n_fixed++], sizeof fixed[0], "listen_addresses=");
    (void)snprintf(fixed[n_fixed++], sizeof fixed[0], "port=%u", (unsigned)pg->config.port);
    (void)snprintf(fixed[n_fixed++], sizeof fixed[0], "hba_file=%s", in->hba);
    (void)snprintf(fixed[n_fixed++], sizeof fixed[0], "ident_file=%s", in->ident);
    (void)snprintf(fixed[n_fixed++], sizeof fixed[0], "unix_socket_directories=%s", in->socket_dir);
    (void)snprintf(fixed[n_fixed++], sizeof fixed[0], "password_encryption=scram-sha-256");
    for (size_t i = 0; i < n_fixed; i++) {
        argv[n++] = "-c";
        argv[n++] = fixed[i];
    }
    for (size_t i = 0; i < pg->extra.n; i++) {
        pg_text_add(&extra[i], "%s=%s", pg->extra.settings[i].name, pg->extra.settings[i].value);
        argv[n++] = "-c";
        argv[n++] = extra[i].data == NULL ? "" : extra[i].data;
    }
    argv[n++] = "-c"; /* the last counts: no standby is there yet that a commit could wait for */
    argv[n++] = "synchronous_standby_names=";
    rc = pg_server_spawn(pg, argv, false, err);
    for (size_t i = 0; i < pg->extra.n; i++) {
        pg_text_free(&extra[i]);
    }
    return rc;
}

static void
on_initdb_done(struct postgres *pg, int status)
{
    char tail[PG_TEXT_MAX - 128];
    struct err err = {0};
    int rc;

    (void)unlink(pg->initdb->pwfile);
    if (status != 0) {
        pg_tail_text(&pg->tail, tail, sizeof tail);
        postgres_finish(pg, HA_EFAILED, "initdb ended with %d: %s", status, tail);
        return;
    }
    rc = write_server_files(pg, &err);
    if (rc == HA_OK) {
        rc = pg_server_session(pg, pg->initdb->socket_dir, "postgres", &pg->work, &err);
    }
    if (rc == HA_OK) {
        pg->server_gone = on_server_died;
        rc = server_spawn(pg, &err);
    }
    if (rc != HA_OK) {
        pg->server_gone = NULL;
        postgres_finish_err(pg, &err);
        return;
    }
    server_connect(pg);
}

/* --- initdb --- */

static int
write_pwfile(struct postgres *pg, struct err *err)
{
    char *verifier = pg_scram_verifier(pg->config.superuser, pg->config.superuser_password, err);
    struct pg_text text = {0};

    if (verifier == NULL) {
        return HA_EFAILED;
    }
    pg_text_add(&text, "%s\n", verifier);
    free(verifier);
    return pg_files_write(pg, pg->initdb->pwfile, &text, err);
}

static int
initdb_run(struct postgres *pg, struct err *err)
{
    struct pg_initdb *in = pg->initdb;
    char program[PG_PATH_MAX + 16];
    char pwfile[PG_PATH_MAX + 64];
    const char *argv[ARGS_MAX] = {program,
                                  "-D",
                                  in->data,
                                  "-U",
                                  pg->config.superuser,
                                  pwfile,
                                  "--auth-local=peer",
                                  "--auth-host=scram-sha-256",
                                  "--data-checksums"};
    size_t n = 9;
    char **env;
    int n_words;

    (void)snprintf(program, sizeof program, "%s/initdb", pg->bin_dir);
    (void)snprintf(pwfile, sizeof pwfile, "--pwfile=%s", in->pwfile);
    in->args_memory = strdup(pg->config.initdb_args);
    env = pg_child_env(NULL, false, err);
    if (in->args_memory == NULL || env == NULL) {
        free(env);
        return err_set(err, HA_ENOMEM, "initdb: %s", err_code_text(HA_ENOMEM));
    }
    if (pg_initdb_needs_encoding(pg->config.initdb_args, env)) {
        argv[n++] = "--encoding=UTF8";
    }
    free(env);
    n_words = pg_initdb_words(in->args_memory, argv + n, ARGS_MAX - 1 - n, err);
    if (n_words < 0) {
        return n_words;
    }
    argv[n + (size_t)n_words] = NULL;
    return pg_tool_run(pg, argv, NULL, on_initdb_done, err);
}

static int
make_socket_dir(const struct postgres *pg, struct err *err)
{
    const char *const dir = pg->initdb->socket_dir;

    if (strlen(dir) >= PG_SOCKET_PATH_MAX) {
        return err_set(err, HA_EINVAL, "%s: too long for a socket", dir);
    }
    if ((mkdir(dir, 0700) != 0 && errno != EEXIST) || chmod(dir, 0700) != 0 ||
        (geteuid() == 0 && chown(dir, pg->config.uid, pg->config.gid) != 0)) {
        return err_set(err, HA_EIO, "%s: %s", dir, strerror(errno));
    }
    return HA_OK;
}

static void
on_tidied(struct postgres *pg)
{
    struct pg_initdb *in = pg->initdb;
    char side[PG_PATH_MAX];
    struct err err = {0};
    int rc;

    if (!pg_swap_is_empty(pg->config.pgdata)) {
        postgres_finish(pg, HA_EREFUSED, "%s is not empty", pg->config.pgdata);
        return;
    }
    rc = pg_swap_prepare(pg, &err);
    pg_swap_side(pg, side);
    pg_swap_data(pg, in->data);
    /* Not beside the data: PGDATA's path may be longer than a socket's can be. */
    (void)snprintf(in->socket_dir, sizeof in->socket_dir, "%.900s/initdb", pg->config.run_dir);
    (void)snprintf(in->pwfile, sizeof in->pwfile, "%s/pwfile", side);
    (void)snprintf(in->hba, sizeof in->hba, "%s/hba", side);
    (void)snprintf(in->ident, sizeof in->ident, "%s/ident", side);
    if (rc == HA_OK) {
        rc = make_socket_dir(pg, &err);
    }
    if (rc == HA_OK) {
        rc = write_pwfile(pg, &err);
    }
    if (rc == HA_OK) {
        rc = initdb_run(pg, &err);
    }
    if (rc != HA_OK) {
        postgres_finish_err(pg, &err);
    }
}

int
pg_initdb_begin(struct postgres *pg, struct err *err)
{
    int rc;

    if (pg->server != NULL) {
        return err_set(err, HA_EREFUSED, "the server runs");
    }
    pg->initdb = calloc(1, sizeof *pg->initdb);
    if (pg->initdb == NULL) {
        return err_set(err, HA_ENOMEM, "initdb: %s", err_code_text(HA_ENOMEM));
    }
    rc = pg_files_prepare(pg, err);
    return rc == HA_OK ? pg_swap_tidy(pg, on_tidied, err) : rc;
}
