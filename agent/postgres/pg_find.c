/*
 * Everything that postgres_open() checks: names, paths, user, binaries, version, owner of PGDATA.
 * Changes nothing.
 */
#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/postgres/pg_files.h"
#include "agent/postgres/pg_impl.h"
#include "agent/postgres/pg_swap.h"

#define MAJOR_MIN 13
#define MAJOR_MAX 18
#define LIB_DIR "/usr/lib/postgresql"
#define PLAIN_BIN_DIRS                                                                             \
    {                                                                                              \
        "/usr/local/bin", "/usr/bin"                                                               \
    }

static bool
is_in_group(const struct postgres *pg, gid_t group)
{
    gid_t groups[64];
    int n = (int)HA_COUNT_OF(groups);

    if (getgrouplist(pg->os_user, pg->config.gid, groups, &n) < 0) {
        return group == pg->config.gid;
    }
    for (int i = 0; i < n; i++) {
        if (groups[i] == group) {
            return true;
        }
    }
    return false;
}

bool
pg_may_access(const struct postgres *pg, const char *path, int mode)
{
    struct stat st;
    unsigned bits;

    if (stat(path, &st) != 0) {
        return false;
    }
    bits = (unsigned)st.st_mode & 7U;
    if (st.st_uid == pg->config.uid) {
        bits = (unsigned)st.st_mode >> 6 & 7U;
    } else if (is_in_group(pg, st.st_gid)) {
        bits = (unsigned)st.st_mode >> 3 & 7U;
    }
    return (bits & (unsigned)mode) == (unsigned)mode;
}

/* --- the user and the texts --- */

static int
check_user(struct postgres *pg, struct err *err)
{
    const struct passwd *pw = getpwuid(pg->config.uid);

    if (pg->config.uid == 0) {
        return err_set(err, HA_EINVAL, "PostgreSQL does not run as root: name another user");
    }
    if (geteuid() != 0 && geteuid() != pg->config.uid) {
        return err_set(
            err,
            HA_EINVAL,
            "to run PostgreSQL as user id %u the agent must be root or that user, it is %u",
            (unsigned)pg->config.uid,
            (unsigned)geteuid());
    }
    if (pw == NULL) {
        return err_set(err,
                       HA_EINVAL,
                       "user id %u has no name in /etc/passwd, initdb and peer need one",
                       (unsigned)pg->config.uid);
    }
    (void)snprintf(pg->os_user, sizeof pg->os_user, "%s", pw->pw_name);
    return HA_OK;
}

/* Role names go into files whose quoting has special first characters. */
static int
check_role(const char *what, const char *name, struct err *err)
{
    if (name[0] == '\0' || strlen(name) >= 64 || strchr("/+@", name[0]) != NULL) {
        return err_set(err, HA_EINVAL, "%s \"%s\": this cannot be a role's name here", what, name);
    }
    for (const char *at = name; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == '"' || *at == 0x7f) {
            return err_set(err, HA_EINVAL, "%s: a character of the name is not allowed", what);
        }
    }
    return HA_OK;
}

static int
check_password(const char *what, const char *password, struct err *err)
{
    if (password[0] == '\0') {
        return err_set(err, HA_EINVAL, "%s: the password is empty", what);
    }
    if (strpbrk(password, "\r\n") != NULL) {
        return err_set(err, HA_EINVAL, "%s: the password holds a line end", what);
    }
    return HA_OK;
}

static int
check_texts(const struct postgres *pg, struct err *err)
{
    const struct postgres_config *c = &pg->config;
    int rc = check_role("POSTGRES_USER", c->superuser, err);

    if (rc == HA_OK) {
        rc = check_role("REPLICATION_USER", c->replication_user, err);
    }
    if (rc == HA_OK) {
        rc = check_role("POSTGRES_DB", c->database, err);
    }
    if (rc == HA_OK) {
        rc = check_password("POSTGRES_PASSWORD", c->superuser_password, err);
    }
    if (rc == HA_OK) {
        rc = check_password("REPLICATION_PASSWORD", c->replication_password, err);
    }
    if (rc == HA_OK &&
        strspn(c->client_networks, "0123456789abcdefABCDEF.:/, ") != strlen(c->client_networks)) {
        rc = err_set(err, HA_EINVAL, "client networks: only numeric networks, with commas between");
    }
    return rc;
}

static int
check_paths(struct postgres *pg, struct err *err)
{
    const struct postgres_config *c = &pg->config;
    const char *const paths[] = {c->pgdata, c->run_dir, c->state_dir};
    const char *const names[] = {"PGDATA", "the run directory", "the state directory"};

    for (size_t i = 0; i < HA_COUNT_OF(paths); i++) {
        const size_t max = i == 1 ? PG_SOCKET_PATH_MAX : PG_PATH_MAX - 64;

        if (paths[i][0] != '/' || strlen(paths[i]) >= max || strpbrk(paths[i], "\r\n,'") != NULL) {
            return err_set(err,
                           HA_EINVAL,
                           "%s: \"%.200s\" must be an absolute path of less than %zu bytes",
                           names[i],
                           paths[i],
                           max);
        }
    }
    (void)snprintf(pg->settings_path, PG_PATH_MAX, "%s/postgresql.agent.conf", c->state_dir);
    (void)snprintf(pg->hba_path, PG_PATH_MAX, "%s/pg_hba.conf", c->state_dir);
    (void)snprintf(pg->ident_path, PG_PATH_MAX, "%s/pg_ident.conf", c->state_dir);
    (void)snprintf(pg->follow_passfile, PG_PATH_MAX, "%s/follow.pass", c->state_dir);
    (void)snprintf(pg->clone_passfile, PG_PATH_MAX, "%s/clone.pass", c->state_dir);
    return HA_OK;
}

/* --- binaries --- */

/* Major version of the server program in a directory: 0 when there is none that says so. */
static uint32_t
binary_major(const char *bin_dir)
{
    char path[PG_PATH_MAX + 16];
    char line[128] = "";
    const char *at;
    ssize_t len = 0;
    int out[2];
    pid_t pid;

    (void)snprintf(path, sizeof path, "%s/postgres", bin_dir);
    if (access(path, X_OK) != 0 || pipe(out) != 0) {
        return 0;
    }
    pid = fork();
    if (pid == 0) {
        (void)dup2(out[1], STDOUT_FILENO);
        (void)close(out[0]);
        (void)execl(path, path, "-V", (char *)NULL);
        _exit(127);
    }
    (void)close(out[1]);
    if (pid > 0) {
        len = read(out[0], line, sizeof line - 1);
        (void)waitpid(pid, NULL, 0);
    }
    (void)close(out[0]);
    line[len > 0 ? len : 0] = '\0';
    at = strstr(line, "(PostgreSQL) "); /* "postgres (PostgreSQL) 15.20 (Debian ...)" */
    return at == NULL ? 0 : (uint32_t)strtoul(at + strlen("(PostgreSQL) "), NULL, 10);
}

/* PG_VERSION of a data directory; 0 when it has none. */
static uint32_t
data_major(const char *pgdata)
{
    char path[PG_PATH_MAX + 16];
    char *text;
    uint32_t major;

    (void)snprintf(path, sizeof path, "%s/PG_VERSION", pgdata);
    if (pg_files_read(path, &text, NULL) != HA_OK) {
        return 0;
    }
    major = (uint32_t)strtoul(text, NULL, 10);
    free(text);
    return major;
}

static bool
has_server(const char *dir)
{
    char path[PG_PATH_MAX + 16];

    (void)snprintf(path, sizeof path, "%s/postgres", dir);
    return access(path, X_OK) == 0;
}

static bool
take_bin_dir(struct postgres *pg, const char *dir)
{
    if (!has_server(dir)) {
        return false;
    }
    (void)snprintf(pg->bin_dir, sizeof pg->bin_dir, "%s", dir);
    return true;
}

/* Where the server program lies: as configured, else of PGDATA's major, else the newest. */
static bool
find_bin_dir(struct postgres *pg, uint32_t major)
{
    static const char *const PLAIN[] = PLAIN_BIN_DIRS;
    char dir[PG_PATH_MAX];

    if (pg->config.bin_dir[0] != '\0') {
        return take_bin_dir(pg, pg->config.bin_dir);
    }
    for (uint32_t m = major != 0 ? major : MAJOR_MAX; m >= MAJOR_MIN && m <= MAJOR_MAX; m--) {
        (void)snprintf(dir, sizeof dir, LIB_DIR "/%u/bin", m);
        if (take_bin_dir(pg, dir)) {
            return true;
        }
        if (major != 0) {
            break;
        }
    }
    for (size_t i = 0; i < HA_COUNT_OF(PLAIN); i++) {
        if (take_bin_dir(pg, PLAIN[i])) {
            return true;
        }
    }
    return false;
}

static int
check_tools(const struct postgres *pg, struct err *err)
{
    static const char *const TOOLS[] = {"initdb", "pg_basebackup", "pg_controldata", "psql"};
    char path[PG_PATH_MAX + 32];

    for (size_t i = 0; i < HA_COUNT_OF(TOOLS); i++) {
        (void)snprintf(path, sizeof path, "%s/%s", pg->bin_dir, TOOLS[i]);
        if (access(path, X_OK) != 0) {
            return err_set(err,
                           HA_ENOTFOUND,
                           "%s: missing; install postgresql-client-%u beside the server",
                           path,
                           pg->facts.version);
        }
    }
    if (pg->config.guardian[0] != '\0' && access(pg->config.guardian, X_OK) != 0) {
        return err_set(err, HA_ENOTFOUND, "%s: the guardian is missing", pg->config.guardian);
    }
    return HA_OK;
}

static int
check_version(struct postgres *pg, struct err *err)
{
    char effective[PG_PATH_MAX];
    uint32_t major;

    pg_swap_effective(pg, effective);
    major = data_major(effective);

    if (major != 0 && (major < MAJOR_MIN || major > MAJOR_MAX)) {
        return err_set(err,
                       HA_EVERSION,
                       "%s was made by PostgreSQL %u; 13 to 18 are supported",
                       pg->config.pgdata,
                       major);
    }
    if (!find_bin_dir(pg, major)) {
        return err_set(err,
                       HA_ENOTFOUND,
                       "no server program of PostgreSQL %s%.0u found; install postgresql-%u",
                       major == 0 ? "" : "of major version ",
                       major,
                       major == 0 ? 15 : major);
    }
    pg->facts.version = binary_major(pg->bin_dir);
    if (pg->facts.version < MAJOR_MIN || pg->facts.version > MAJOR_MAX) {
        return err_set(err,
                       HA_EVERSION,
                       "%s/postgres is of version %u; 13 to 18 are supported",
                       pg->bin_dir,
                       pg->facts.version);
    }
    if (major != 0 && major != pg->facts.version) {
        return err_set(err,
                       HA_EVERSION,
                       "%s was made by PostgreSQL %u, the programs in %s are of %u; install "
                       "postgresql-%u",
                       pg->config.pgdata,
                       major,
                       pg->bin_dir,
                       pg->facts.version,
                       major);
    }
    return check_tools(pg, err);
}

static int
check_pgdata(const struct postgres *pg, struct err *err)
{
    const char *const pgdata = pg->config.pgdata;
    struct stat st;

    if (stat(pgdata, &st) != 0) {
        return errno == ENOENT ? HA_OK
                               : err_set(err, HA_EIO, "PGDATA %s: %s", pgdata, strerror(errno));
    }
    if (!S_ISDIR(st.st_mode)) {
        return err_set(err, HA_EINVAL, "PGDATA %s is no directory", pgdata);
    }
    /* An empty one is made PostgreSQL's when it is filled, if we are root. */
    if (st.st_uid != pg->config.uid && (!pg_swap_is_empty(pgdata) || geteuid() != 0)) {
        return err_set(err,
                       HA_EREFUSED,
                       "PGDATA %s belongs to user id %u, PostgreSQL runs as %u: chown -R %u it",
                       pgdata,
                       (unsigned)st.st_uid,
                       (unsigned)pg->config.uid,
                       (unsigned)pg->config.uid);
    }
    /* Root may write where the mode says no, but not on what is mounted read-only. */
    if (access(pgdata, W_OK) != 0 ||
        (st.st_uid == pg->config.uid && !pg_may_access(pg, pgdata, R_OK | W_OK | X_OK))) {
        return err_set(
            err,
            HA_EREFUSED,
            "PGDATA %s cannot be written by user %s: mount it read-write, chmod u+rwx it",
            pgdata,
            pg->os_user);
    }
    return HA_OK;
}

int
pg_find_all(struct postgres *pg, struct err *err)
{
    int rc = check_user(pg, err);

    if (rc == HA_OK) {
        rc = check_texts(pg, err);
    }
    if (rc == HA_OK) {
        rc = check_paths(pg, err);
    }
    if (rc == HA_OK) {
        rc = pg_conf_split(pg->config.extra_conf, &pg->extra, err);
    }
    if (rc == HA_OK) {
        rc = check_pgdata(pg, err);
    }
    if (rc == HA_OK) {
        rc = check_version(pg, err);
    }
    return rc;
}
