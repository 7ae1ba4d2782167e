#include "agent/postgres/pg_tblspc.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/postgres/pg_files.h"

#define OWN_PREFIX "hawser."

/* Where tablespaces lie is said by a superuser of PostgreSQL, not of the host: this thread touches
 * files there with the rights of PostgreSQL's user only. */
static void
rights_drop(const struct postgres *pg)
{
    if (geteuid() == 0) {
        (void)setfsgid(pg->config.gid);
        (void)setfsuid(pg->config.uid);
    }
}

static void
rights_restore(void)
{
    (void)setfsuid(geteuid());
    (void)setfsgid(getegid());
}

static const char *
base_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? path : slash + 1;
}

/* The directory and those above it; 0 or an errno. */
static int
make_path(char *path)
{
    for (char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash != NULL) {
            *slash = '\0';
        }
        if (mkdir(path, 0700) != 0) {
            const int rc = errno;

            if (access(path, F_OK) != 0) {
                return rc;
            }
        }
        if (slash == NULL) {
            return 0;
        }
        *slash = '/';
    }
}

int
pg_tblspc_side(const struct postgres *pg,
               const char *location,
               uint32_t tag,
               char out[PG_PATH_MAX],
               struct err *err)
{
    const bool is_own = strncmp(base_of(location), OWN_PREFIX, strlen(OWN_PREFIX)) == 0;
    const size_t len = is_own ? (size_t)(base_of(location) - location) - 1 : strlen(location);
    char path[PG_PATH_MAX];
    int rc;

    if (location[0] != '/' || len + 32 > sizeof path) {
        return err_set(
            err, HA_EREFUSED, "the tablespace at \"%.200s\" has no usable path", location);
    }
    (void)snprintf(path, sizeof path, "%.*s", (int)len, location);
    rights_drop(pg);
    rc = make_path(path);
    rights_restore();
    if (rc != 0) {
        return err_set(err,
                       HA_EIO,
                       "the tablespace's directory %.200s cannot be made: %s; make it, owned by "
                       "PostgreSQL's user",
                       path,
                       strerror(rc));
    }
    (void)snprintf(out, PG_PATH_MAX, "%.900s/" OWN_PREFIX "%08x", path, (unsigned)tag);
    return HA_OK;
}

static bool
link_read(const char *data, const char *name, char out[PG_PATH_MAX])
{
    char path[PG_PATH_MAX + 300];
    ssize_t len;

    (void)snprintf(path, sizeof path, "%s/pg_tblspc/%s", data, name);
    len = readlink(path, out, PG_PATH_MAX - 1);
    if (len <= 0 || out[0] != '/') {
        return false;
    }
    out[len] = '\0';
    return true;
}

static bool
is_used_by(const char *data, const char *target)
{
    char path[PG_PATH_MAX + 16];
    char other[PG_PATH_MAX];
    const struct dirent *entry;
    bool is_used = false;
    DIR *dir;

    (void)snprintf(path, sizeof path, "%s/pg_tblspc", data);
    dir = opendir(path);
    while (dir != NULL && !is_used && (entry = readdir(dir)) != NULL) {
        is_used = link_read(data, entry->d_name, other) && strcmp(other, target) == 0;
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    return is_used;
}

/* Of a directory that a person named only what PostgreSQL put there. */
static void
remove_contents(const char *target)
{
    char path[PG_PATH_MAX + 300];
    const struct dirent *entry;
    DIR *dir;

    if (strncmp(base_of(target), OWN_PREFIX, strlen(OWN_PREFIX)) == 0) {
        pg_files_remove_tree(target);
        return;
    }
    dir = opendir(target);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (strncmp(entry->d_name, "PG_", 3) == 0 && entry->d_name[3] >= '0' &&
            entry->d_name[3] <= '9') {
            (void)snprintf(path, sizeof path, "%s/%s", target, entry->d_name);
            pg_files_remove_tree(path);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
}

void
pg_tblspc_release(const struct postgres *pg,
                  const char *data,
                  const char *const live[],
                  size_t n_live)
{
    char path[PG_PATH_MAX + 64];
    char target[PG_PATH_MAX];
    const struct dirent *entry;
    DIR *dir;

    (void)snprintf(path, sizeof path, "%s/pg_tblspc", data);
    dir = opendir(path);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        bool is_used = !link_read(data, entry->d_name, target);

        for (size_t i = 0; !is_used && i < n_live; i++) {
            is_used = strcmp(live[i], data) != 0 && is_used_by(live[i], target);
        }
        if (!is_used) {
            rights_drop(pg);
            remove_contents(target);
            rights_restore();
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
}
