/*
 * What this host has: PostgreSQL's programs, the fence, the guardian, the user.
 */
#include "agent/shell/config_internal.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PG_MAJOR_MIN 13
#define PG_MAJOR_MAX 18

/* True when dir/name can be read (or, as a program, be run); its path goes to `out`. */
static bool
find_in(const char *dir, const char *name, int mode, char out[CONFIG_PATH_MAX])
{
    char path[CONFIG_PATH_MAX];
    const int len = snprintf(path, sizeof path, "%s/%s", dir, name);

    if (len < 0 || (size_t)len >= sizeof path || access(path, mode) != 0) {
        return false;
    }
    memcpy(out, path, sizeof path);
    return true;
}

/* The version that the data directory was made by, or "". */
static void
data_version(const char *pgdata, char out[16])
{
    char path[CONFIG_PATH_MAX];
    FILE *file;

    out[0] = 0;
    if (!find_in(pgdata, "PG_VERSION", R_OK, path) || (file = fopen(path, "re")) == NULL) {
        return;
    }
    if (fgets(out, 16, file) == NULL) {
        out[0] = 0;
    }
    (void)fclose(file);
    out[strcspn(out, "\n")] = 0;
}

static bool
has_postgres(const char *dir)
{
    char path[CONFIG_PATH_MAX];

    return find_in(dir, "postgres", X_OK, path);
}

/* Debian's place for the data's major, else for the newest; else the Alpine image's. */
static void
find_pg_bin(struct config *out)
{
    char version[16];
    char dir[CONFIG_PATH_MAX];
    long data;

    data_version(out->pgdata, version);
    data = strtol(version, NULL, 10);

    for (int major = PG_MAJOR_MAX; major >= PG_MAJOR_MIN; major--) {
        (void)snprintf(dir, sizeof dir, "/usr/lib/postgresql/%d/bin", major);
        if ((data == 0 || data == major) && has_postgres(dir)) {
            memcpy(out->pg_bin, dir, sizeof dir);
            return;
        }
    }
    if ((data == 0 || (data >= PG_MAJOR_MIN && data <= PG_MAJOR_MAX)) &&
        has_postgres("/usr/local/bin")) {
        (void)snprintf(out->pg_bin, sizeof out->pg_bin, "/usr/local/bin");
    }
}

static int
no_programs(const struct config *out, struct err *err)
{
    char version[16];

    data_version(out->pgdata, version);
    if (version[0] == 0) {
        return err_set(err,
                       HA_EINVAL,
                       "HA_PG_BIN is not set, and no PostgreSQL was found; allowed: PostgreSQL %d "
                       "to %d, installed",
                       PG_MAJOR_MIN,
                       PG_MAJOR_MAX);
    }
    return err_set(err,
                   HA_EINVAL,
                   "PGDATA=%s: made by PostgreSQL %.12s, whose programs were not found; allowed: "
                   "data of PostgreSQL %d to %d, with that version installed",
                   out->pgdata,
                   version,
                   PG_MAJOR_MIN,
                   PG_MAJOR_MAX);
}

static int
read_pg_bin(struct config *out, struct err *err)
{
    if (config_env("HA_PG_BIN") == NULL) {
        find_pg_bin(out);
        return out->pg_bin[0] != 0 ? HA_OK : no_programs(out, err);
    }
    if (config_text("HA_PG_BIN", "", out->pg_bin, sizeof out->pg_bin, err) != HA_OK) {
        return HA_EINVAL;
    }
    if (!has_postgres(out->pg_bin)) {
        return err_set(err,
                       HA_EINVAL,
                       "HA_PG_BIN=%s: no program `postgres` in it; allowed: a directory with "
                       "PostgreSQL %d to %d",
                       out->pg_bin,
                       PG_MAJOR_MIN,
                       PG_MAJOR_MAX);
    }
    return HA_OK;
}

/* Where this very program lies. */
static void
own_directory(char out[PATH_MAX])
{
    char self[PATH_MAX] = "";
    const ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);

    (void)snprintf(out, PATH_MAX, "%s", len <= 0 ? "/usr/lib/hawser" : dirname(self));
}

/* The module's file: ha_fence_15.so for the server in .../15/bin; ha_fence.so where the path does
 * not tell the major. */
static void
module_name(const struct config *config, char *out, size_t size)
{
    char path[CONFIG_PATH_MAX];
    const char *major;

    memcpy(path, config->pg_bin, sizeof path);
    major = strrchr(dirname(path), '/');
    if (major != NULL && strtol(major + 1, NULL, 10) >= PG_MAJOR_MIN) {
        (void)snprintf(out, size, "ha_fence_%ld.so", strtol(major + 1, NULL, 10));
    } else {
        (void)snprintf(out, size, "ha_fence.so");
    }
}

/* Looks for the module and the guardian in HA_LIB_DIR; else where they are installed, beside the
 * agent, and in the tree that the agent was built in. */
static int
find_fence(struct config *out, struct err *err)
{
    static const char *const PLACES[] = {"", "/../../fence", "/../../fence/ha_fence"};
    char own[PATH_MAX];
    char name[32];
    char dir[CONFIG_PATH_MAX];

    module_name(out, name, sizeof name);
    if (config_text("HA_LIB_DIR", "", dir, sizeof dir, err) != HA_OK) {
        return HA_EINVAL;
    }
    if (dir[0] == 0) {
        (void)find_in(HAWSER_LIB_DIR, name, R_OK, out->fence_library);
        (void)find_in(HAWSER_LIB_DIR, "haguard", X_OK, out->guardian);
        own_directory(own);
    } else {
        (void)snprintf(own, sizeof own, "%s", dir);
    }
    for (size_t i = 0; i < HA_COUNT_OF(PLACES) && (i == 0 || dir[0] == 0); i++) {
        char place[PATH_MAX + 32];

        (void)snprintf(place, sizeof place, "%s%s", own, PLACES[i]);
        if (out->fence_library[0] == 0) {
            (void)find_in(place, name, R_OK, out->fence_library);
        }
        if (out->guardian[0] == 0) {
            (void)find_in(place, "haguard", X_OK, out->guardian);
        }
    }
    return HA_OK;
}

/* Without the fence a frozen agent can leave two writable primaries, so nobody gets there by an
 * incomplete installation: it takes HA_FENCE=off. */
static int
read_fence(struct config *out, struct err *err)
{
    static const char *const choices[] = {"off", "on", NULL};
    const char *value = config_env("HA_FENCE");
    uint8_t is_on = 1;
    char name[32];

    if ((value != NULL && config_parse_choice("HA_FENCE", value, choices, &is_on, err) != HA_OK) ||
        find_fence(out, err) != HA_OK) {
        return HA_EINVAL;
    }
    module_name(out, name, sizeof name);
    if (is_on == 0) {
        out->fence_library[0] = 0;
        config_warn(out,
                    "HA_FENCE=off: PostgreSQL does not check the lease itself; a frozen agent "
                    "can leave two writable primaries");
        return HA_OK;
    }
    if (out->fence_library[0] == 0 || out->guardian[0] == 0) {
        return err_set(
            err,
            HA_EINVAL,
            "HA_FENCE=on: %s was not found; allowed: with %s and haguard in " HAWSER_LIB_DIR
            ", in HA_LIB_DIR or beside the agent, or HA_FENCE=off",
            out->fence_library[0] == 0 ? name : "haguard",
            name);
    }
    return HA_OK;
}

static int
read_user(struct config *out, struct err *err)
{
    const char *value = config_env("HA_PG_USER");
    const char *name = value == NULL ? "postgres" : value;
    const struct passwd *user;

    out->uid = geteuid();
    out->gid = getegid();
    if (value == NULL && out->uid != 0) {
        return HA_OK;
    }
    user = getpwnam(name);
    if (user == NULL || user->pw_uid == 0 || (out->uid != 0 && out->uid != user->pw_uid)) {
        return err_set(err,
                       HA_EINVAL,
                       "HA_PG_USER=%s: %s; allowed: an existing user but root%s",
                       name,
                       user == NULL        ? "no such user"
                       : user->pw_uid == 0 ? "PostgreSQL refuses to run as root"
                                           : "the agent is not root and cannot become it",
                       value == NULL ? " (the agent runs as root, so postgres is wanted)" : "");
    }
    out->uid = user->pw_uid;
    out->gid = user->pw_gid;
    return HA_OK;
}

static int
read_scripts(struct config *out, struct err *err)
{
    const char *fallback = "/docker-entrypoint-initdb.d";

    if (config_text("HA_INITDB_SCRIPTS",
                    access(fallback, F_OK) == 0 ? fallback : "",
                    out->initdb_scripts,
                    sizeof out->initdb_scripts,
                    err) != HA_OK) {
        return HA_EINVAL;
    }
    if (out->initdb_scripts[0] != 0 && access(out->initdb_scripts, R_OK | X_OK) != 0) {
        return err_set(err,
                       HA_EINVAL,
                       "HA_INITDB_SCRIPTS=%s: %s; allowed: a readable directory",
                       out->initdb_scripts,
                       strerror(errno));
    }
    return HA_OK;
}

int
config_read_host(struct config *out, struct err *err)
{
    int rc;

    if (out->core.kind != MEMBER_DATABASE) {
        out->uid = geteuid();
        out->gid = getegid();
        return HA_OK;
    }
    if ((rc = read_pg_bin(out, err)) != HA_OK || (rc = read_fence(out, err)) != HA_OK ||
        (rc = read_user(out, err)) != HA_OK) {
        return rc;
    }
    return read_scripts(out, err);
}
