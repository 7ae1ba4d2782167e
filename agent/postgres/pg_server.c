/*
 * Operations on the server itself: start, follow, promote, checkpoint, stop; and its end.
 *
 * What an operation waits for shows in the looks of pg_watch.c, each of which ends in
 * pg_server_on_look().
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/postgres/pg_files.h"
#include "agent/postgres/pg_history.h"
#include "agent/postgres/pg_impl.h"

#define CONNECT_MS 2000
#define CHECKPOINT_MS (3600 * 1000)
#define RECEIVER_PATIENCE_MS 100
#define COMMON_SOCKET_DIR "/var/run/postgresql"
#define ARGS_MAX 32

int
pg_server_session(struct postgres *pg,
                  const char *socket_dir,
                  const char *database,
                  struct pg_session **out,
                  struct err *err)
{
    const struct pg_session_config config = {
        .loop = pg->config.loop,
        .host = socket_dir,
        .port = pg->config.port,
        .user = pg->config.superuser,
        .database = database,
        .passfile = "",
        .connect_ms = CONNECT_MS,
    };

    return pg_session_open(&config, out, err);
}

/* --- the end of a server --- */

static void
after_look(struct postgres *pg)
{
    char tail[PG_TEXT_MAX - 128];

    if (postgres_check_canceled(pg) || pg->op == 0) {
        return;
    }
    pg_tail_text(&pg->tail, tail, sizeof tail);
    if (pg->op != POSTGRES_STOP_FAST) {
        postgres_finish(pg, HA_EFAILED, "the server ended (%d): %s", pg->facts.exit_status, tail);
    } else if (!pg->facts.is_shut_down) {
        postgres_finish(pg, HA_EFAILED, "the server ended without a shutdown checkpoint: %s", tail);
    } else {
        postgres_finish(pg, HA_OK, "%s", "");
    }
}

static void
on_gone(void *data, int status)
{
    struct postgres *pg = data;
    void (*const hook)(struct postgres *, int) = pg->server_gone;

    pg->server = NULL;
    pg->server_gone = NULL;
    if (pg->is_closing) {
        postgres_close_step(pg);
        return;
    }
    if (hook != NULL) {
        if (!postgres_check_canceled(pg)) {
            hook(pg, status);
        }
        return;
    }
    postgres_log(pg,
                 status == 0 ? PG_LOG_INFO : PG_LOG_WARN,
                 "server_gone",
                 "all processes of the server are gone, status %d",
                 status);
    postgres_look(pg, after_look);
}

static void
on_server_exit(void *data, int status)
{
    struct postgres *pg = data;

    if (pg->server_gone != NULL) {
        return; /* the temporary server of initdb is no server in the facts */
    }
    pg_watch_stop(pg);
    pg->facts.exit_status = status;
    postgres_set_run(pg, PG_RUN_STOPPING);
}

static void
on_line(void *data, const char *line)
{
    struct postgres *pg = data;

    /* The word of the WAL receiver. In another language it takes the long way: 30 s unstreamed. */
    if (!pg->facts.misses_wal && pg->facts.is_in_recovery &&
        strstr(line, "requested WAL segment") != NULL &&
        strstr(line, "has already been removed") != NULL) {
        pg->facts.misses_wal = true;
        postgres_tell(pg);
    }
    pg_forward_line(pg, line);
}

/* --- start --- */

int
pg_server_spawn(struct postgres *pg, const char *const argv[], bool has_lease, struct err *err)
{
    struct pg_guarded guarded;
    struct pg_child_spec spec = {
        .loop = pg->config.loop,
        .argv = pg_guarded_argv(pg, argv, has_lease, &guarded),
        .uid = pg->config.uid,
        .gid = pg->config.gid,
        .is_guardian = pg->config.guardian[0] != '\0',
        .quit_signal = SIGQUIT,
        .n_keep_fds = pg->config.n_inherit_fds,
        .data = pg,
        .on_line = on_line,
        .on_exit = on_server_exit,
        .on_gone = on_gone,
    };
    char **env = pg_child_env(NULL, false, err);
    int rc;

    REQUIRE(pg->server == NULL, "one server at a time");
    if (env == NULL) {
        return HA_ENOMEM;
    }
    for (size_t i = 0; i < spec.n_keep_fds; i++) {
        spec.keep_fds[i] = pg->config.inherit_fds[i];
    }
    spec.env = env;
    pg->tail.n = 0;
    rc = pg_child_start(&spec, &pg->server, err);
    free(env);
    return rc;
}

/*
 * A socket where psql looks for it, unless another server has its own there. Our lock keeps two
 * agents of one host from both finding the place free.
 */
static bool
may_use_common_socket(struct postgres *pg)
{
    char path[128];
    char *text;
    long pid;

    if (!pg_may_access(pg, COMMON_SOCKET_DIR, W_OK | X_OK) ||
        strcmp(pg->config.run_dir, COMMON_SOCKET_DIR) == 0) {
        return false;
    }
    if (pg->common_socket_lock < 0) {
        (void)snprintf(path, sizeof path, COMMON_SOCKET_DIR "/.hawser.%u", pg->config.port);
        pg->common_socket_lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    }
    if (pg->common_socket_lock < 0 || flock(pg->common_socket_lock, LOCK_EX | LOCK_NB) != 0) {
        return false;
    }
    (void)snprintf(path, sizeof path, COMMON_SOCKET_DIR "/.s.PGSQL.%u.lock", pg->config.port);
    if (pg_files_read(path, &text, NULL) != HA_OK) {
        return true;
    }
    pid = strtol(text, NULL, 10);
    free(text);
    return pid <= 0 || (kill((pid_t)pid, 0) != 0 && errno == ESRCH);
}

/* The library that refuses without a lease, and the ones that the user wants. */
static void
libraries(const struct postgres *pg, char *out, size_t size)
{
    const char *user = pg_conf_get(&pg->extra, "shared_preload_libraries");
    const bool is_fenced = pg->config.fence_library[0] != '\0';

    out[0] = '\0';
    if (is_fenced || user != NULL) {
        (void)snprintf(out,
                       size,
                       "shared_preload_libraries=%s%s%s",
                       pg->config.fence_library,
                       is_fenced && user != NULL && user[0] != '\0' ? "," : "",
                       user == NULL ? "" : user);
    }
}

static int
spawn(struct postgres *pg, struct err *err)
{
    const struct postgres_config *c = &pg->config;
    char program[PG_PATH_MAX + 16];
    char set[10][PG_PATH_MAX + 64];
    const char *argv[ARGS_MAX] = {program, "-D", c->pgdata};
    size_t n = 3;
    size_t n_set = 0;

    (void)snprintf(program, sizeof program, "%s/postgres", pg->bin_dir);
    (void)snprintf(set[n_set++], sizeof set[0], "hba_file=%s", pg->hba_path);
    (void)snprintf(set[n_set++], sizeof set[0], "ident_file=%s", pg->ident_path);
    (void)snprintf(set[n_set++], sizeof set[0], "listen_addresses=%s", c->listen);
    (void)snprintf(set[n_set++], sizeof set[0], "port=%u", (unsigned)c->port);
    (void)snprintf(set[n_set++],
                   sizeof set[0],
                   "unix_socket_directories=%s%s",
                   c->run_dir,
                   may_use_common_socket(pg) ? "," COMMON_SOCKET_DIR : "");
    (void)snprintf(set[n_set++], sizeof set[0], "restart_after_crash=off");
    libraries(pg, set[n_set], sizeof set[0]);
    n_set += set[n_set][0] != '\0' ? 1 : 0;
    if (c->fence_library[0] != '\0') {
        const char *reads = pg_conf_get(&pg->extra, "ha_fence.reads");

        /* On the command line, where no superuser of the database can change it. */
        (void)snprintf(set[n_set++], sizeof set[0], "ha_fence.lease_file=%s", c->lease_path);
        (void)snprintf(
            set[n_set++], sizeof set[0], "ha_fence.reads=%.8s", reads == NULL ? "off" : reads);
    }
    for (size_t i = 0; i < n_set; i++) {
        argv[n++] = "-c";
        argv[n++] = set[i];
    }
    return pg_server_spawn(pg, argv, true, err);
}

/*
 * The volume's lock is ours, so what a postmaster.pid says is history; but the process id in it
 * may be somebody else's by now, in a container even likely, and PostgreSQL would not start.
 */
void
pg_server_remove_stale_pid_file(struct postgres *pg)
{
    char path[PG_PATH_MAX + 32];

    (void)snprintf(path, sizeof path, "%s/postmaster.pid", pg->config.pgdata);
    if (pg->config.n_inherit_fds > 0 && unlink(path) == 0) {
        postgres_log(pg, PG_LOG_INFO, "stale_pid_file", "%s removed", path);
    }
}

/* Writes the settings with pg->from as the upstream. */
static int
write_upstream(struct postgres *pg, struct err *err)
{
    memset(pg->follow, 0, sizeof pg->follow);
    (void)snprintf(pg->follow, sizeof pg->follow, "%s", pg->from);
    memcpy(pg->facts.upstream, pg->follow, sizeof pg->facts.upstream);
    pg->facts.is_streaming = false; /* of the new one, until a look says so */
    postgres_tell(pg);
    return pg_files_write_settings(pg, err);
}

static int
start(struct postgres *pg, struct err *err)
{
    const bool is_standby = pg->op == POSTGRES_START_STANDBY;
    int rc;

    if (pg->server != NULL) {
        return err_set(err, HA_EREFUSED, "the server runs already");
    }
    if (pg->facts.data != PG_DATA_PRIMARY && pg->facts.data != PG_DATA_STANDBY) {
        return err_set(err, HA_EREFUSED, "%s holds no data directory", pg->config.pgdata);
    }
    if (!is_standby && pg_files_has_standby_signal(pg->config.pgdata)) {
        return err_set(
            err, HA_EREFUSED, "standby.signal is there: only a promotion makes a primary");
    }
    rc = pg_files_prepare(pg, err);
    if (rc == HA_OK && is_standby) {
        rc = pg_files_write_standby_signal(pg, pg->config.pgdata, err);
    }
    if (rc == HA_OK) {
        rc = write_upstream(pg, err);
    }
    if (rc == HA_OK) {
        rc = pg_files_write_access(pg, err);
    }
    if (rc == HA_OK) {
        rc = pg_files_adapt(pg, pg->config.pgdata, err);
    }
    if (rc == HA_OK) {
        rc = pg_history_complete(pg, pg->facts.control_timeline, err);
    }
    if (rc != HA_OK) {
        return rc;
    }
    pg_server_remove_stale_pid_file(pg);
    pg_sync_on_start(pg);
    rc = spawn(pg, err);
    if (rc != HA_OK) {
        return rc;
    }
    pg->facts.timeline = 0;
    pg->facts.is_in_recovery = is_standby;
    pg->facts.is_streaming = false;
    pg->facts.has_receiver = false;
    pg->facts.exit_status = 0;
    pg->facts.is_fresh_copy = false;
    pg->facts.misses_wal = false;
    postgres_set_run(pg, PG_RUN_STARTING);
    pg_watch_start(pg);
    return HA_OK;
}

/* --- a running server --- */

void
pg_server_reload(struct postgres *pg)
{
    if (pg->server != NULL) {
        pg_child_signal(pg->server, SIGHUP);
    }
}

static int
require_up(const struct postgres *pg, bool is_standby_wanted, struct err *err)
{
    if (pg->server == NULL || pg->facts.run != PG_RUN_UP) {
        return err_set(err, HA_EREFUSED, "the server is not up");
    }
    if (is_standby_wanted && !pg->facts.is_in_recovery) {
        return err_set(err, HA_EREFUSED, "the server is no standby");
    }
    return HA_OK;
}

static int
follow(struct postgres *pg, struct err *err)
{
    int rc = require_up(pg, true, err);

    if (rc == HA_OK) {
        rc = write_upstream(pg, err);
    }
    if (rc == HA_OK) {
        rc = pg_files_adapt(pg, pg->config.pgdata, err);
    }
    if (rc != HA_OK) {
        return rc;
    }
    pg_server_reload(pg);
    if (pg->follow[0] != '\0') {
        postgres_finish(pg, HA_OK, "%s", "");
        return HA_OK;
    }
    pg_watch_hurry(pg, true);
    return HA_OK;
}

/*
 * Disconnected is: no WAL receiver in a look that was asked after the passfile was gone (one that
 * starts later cannot log in), and nothing on disk whose position is not known yet.
 */
static void
follow_check(struct postgres *pg)
{
    const uint64_t waited = uv_now(pg->config.loop) - pg->op_began_ms;
    const struct pg_look *look = &pg->look;

    if (look->receiver_pid != 0) {
        /* The startup process asks it to end, unless it is held up by a replay conflict. */
        if (waited > RECEIVER_PATIENCE_MS) {
            (void)kill(look->receiver_pid, SIGTERM);
        }
        return;
    }
    if (look->received_lsn != 0 || look->is_local_wal_replayed) {
        postgres_finish(pg, HA_OK, "%s", "");
    }
}

/* The module is loaded and looks at our page, or it is no server to take writes. */
static int
require_fence(const struct postgres *pg, struct err *err)
{
    const struct postgres_config *c = &pg->config;

    if (c->fence_library[0] == '\0' || strcmp(pg->look.lease_file, c->lease_path) == 0) {
        return HA_OK;
    }
    if (pg->look.lease_file[0] == '\0') {
        return err_set(
            err, HA_EREFUSED, "the server is not fenced: %.200s is no ha_fence", c->fence_library);
    }
    return err_set(err,
                   HA_EREFUSED,
                   "the server is not fenced: its ha_fence looks at \"%.200s\", not at \"%.200s\"",
                   pg->look.lease_file,
                   c->lease_path);
}

/* Finished when it answers; one that is not fenced ends at once. */
static void
started_primary(struct postgres *pg)
{
    struct err err = {0};

    /* What refuses for want of a lease is fenced. */
    if (!pg->look.is_refused && require_fence(pg, &err) != HA_OK) {
        postgres_set_run(pg, PG_RUN_STOPPING);
        pg_child_kill(pg->server);
    }
    postgres_finish(pg, err.code, "%s", err.text);
}

/* pg_promote() without SQL: the file, then the signal. Saves a round trip, needs no session. */
static int
promote(struct postgres *pg, struct err *err)
{
    char path[PG_PATH_MAX + 32];
    struct pg_text empty = {0};
    int rc = require_up(pg, true, err);

    if (rc == HA_OK) {
        rc = require_fence(pg, err);
    }
    if (rc == HA_OK) {
        rc = pg_history_skip(pg, pg->promote_after, pg->promote_to, err);
    }
    if (rc == HA_OK) {
        (void)snprintf(path, sizeof path, "%s/promote", pg->config.pgdata);
        rc = pg_files_put(pg, path, &empty, err);
    }
    if (rc == HA_OK) {
        pg_child_signal(pg->server, SIGUSR1);
        pg_watch_hurry(pg, true);
    }
    return rc;
}

static void
on_checkpoint(void *data, const struct pg_answer *answer)
{
    postgres_finish(data, answer->rc, "%s", answer->text);
}

static int
checkpoint(struct postgres *pg, struct err *err)
{
    int rc = require_up(pg, false, err);

    if (rc == HA_OK) {
        pg_logical_release(pg); /* on a primary it is the first half of a stop */
        rc = pg_server_session(pg, pg->config.run_dir, "postgres", &pg->work, err);
    }
    if (rc == HA_OK) {
        rc = pg_session_ask(pg->work, "CHECKPOINT", CHECKPOINT_MS, on_checkpoint, pg);
    }
    return rc;
}

static void
stop_fast(struct postgres *pg)
{
    if (pg->server == NULL) {
        postgres_finish(pg, HA_OK, "%s", "");
        return;
    }
    if (pg->facts.run != PG_RUN_STOPPING) {
        pg_watch_stop(pg);
        postgres_set_run(pg, PG_RUN_STOPPING);
        pg_child_signal(pg->server, SIGINT);
    }
}

static int
reload(struct postgres *pg, struct err *err)
{
    int rc = require_up(pg, false, err);

    if (rc == HA_OK) {
        rc = pg_files_write_settings(pg, err);
    }
    if (rc == HA_OK) {
        rc = pg_files_write_access(pg, err);
    }
    if (rc == HA_OK) {
        pg_server_reload(pg);
        postgres_finish(pg, HA_OK, "%s", "");
    }
    return rc;
}

void
pg_server_on_look(struct postgres *pg)
{
    const bool is_frozen_start = pg->op == POSTGRES_START_STANDBY && pg->follow[0] == '\0';

    if (pg->op == 0 || pg->is_finished || pg->look.answered < pg->op_look) {
        return;
    }
    switch (pg->op) {
    case POSTGRES_START_PRIMARY:
        started_primary(pg);
        break;
    case POSTGRES_START_STANDBY:
        /* Who follows nobody is asked for its position next: it must know it. */
        if (!is_frozen_start || pg->look.is_local_wal_replayed) {
            postgres_finish(pg, HA_OK, "%s", "");
        }
        break;
    case POSTGRES_FOLLOW:
        follow_check(pg);
        break;
    case POSTGRES_PROMOTE:
        if (!pg->look.is_refused && !pg->facts.is_in_recovery) {
            postgres_finish(pg, HA_OK, "%s", "");
        }
        break;
    case POSTGRES_INITDB:
    case POSTGRES_CLONE:
    case POSTGRES_REWIND:
    case POSTGRES_CHECKPOINT:
    case POSTGRES_STOP_FAST:
    case POSTGRES_RELOAD:
    case POSTGRES_OP_COUNT:
    default:
        break;
    }
}

int
pg_server_begin(struct postgres *pg, struct err *err)
{
    pg->op_look = pg->look.asked + 1;
    switch (pg->op) {
    case POSTGRES_START_PRIMARY:
    case POSTGRES_START_STANDBY:
        return start(pg, err);
    case POSTGRES_FOLLOW:
        return follow(pg, err);
    case POSTGRES_PROMOTE:
        return promote(pg, err);
    case POSTGRES_CHECKPOINT:
        return checkpoint(pg, err);
    case POSTGRES_STOP_FAST:
        stop_fast(pg);
        return HA_OK;
    case POSTGRES_RELOAD:
        return reload(pg, err);
    case POSTGRES_INITDB:
    case POSTGRES_CLONE:
    case POSTGRES_REWIND:
    case POSTGRES_OP_COUNT:
    default:
        return err_set(err, HA_EINVAL, "no operation of the server: %d", (int)pg->op);
    }
}
