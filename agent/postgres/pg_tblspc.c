#include "agent/postgres/pg_tblspc.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OWN_PREFIX "hawser."

static const char *
base_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? path : slash + 1;
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

    if (location[0] != '/' || len + 32 > sizeof path) {
        return err_set(
            err, HA_EREFUSED, "the tablespace at \"%.200s\" has no usable path", location);
    }
    (void)snprintf(path, sizeof path, "%.*s", (int)len, location);
    for (char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash != NULL) {
            *slash = '\0';
        }
        if (mkdir(path, slash == NULL ? 0700 : 0755) == 0) {
            if (geteuid() == 0 && slash == NULL &&
                chown(path, pg->config.uid, pg->config.gid) != 0) {
                return err_set(err, HA_EIO, "chown %.200s: %s", path, strerror(errno));
            }
        } else if (errno != EEXIST) {
            return err_set(err, HA_EIO, "mkdir %.200s: %s", path, strerror(errno));
        }
        if (slash == NULL) {
            break;
        }
        *slash = '/';
    }
    (void)snprintf(out, PG_PATH_MAX, "%.900s/" OWN_PREFIX "%08x", path, (unsigned)tag);
    return HA_OK;
}

static int
remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path) == 0 || errno == ENOENT ? 0 : -1;
}

static void
remove_tree(const char *path)
{
    (void)nftw(path, remove_entry, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
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
        remove_tree(target);
        return;
    }
    dir = opendir(target);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (strncmp(entry->d_name, "PG_", 3) == 0 && entry->d_name[3] >= '0' &&
            entry->d_name[3] <= '9') {
            (void)snprintf(path, sizeof path, "%s/%s", target, entry->d_name);
            remove_tree(path);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
}

void
pg_tblspc_release(const char *data, const char *const live[], size_t n_live)
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
            remove_contents(target);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
}
