#include "agent/postgres/pg_swap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/postgres/pg_files.h"
#include "agent/postgres/pg_swap_impl.h"

#define MARKER "hawser-side-directory"

static int
fail_errno(struct err *err, const char *what, const char *path)
{
    return err_set(
        err, errno == ENOSPC ? HA_ENOSPC : HA_EIO, "%s %s: %s", what, path, strerror(errno));
}

static bool
is_mount_point(const char *path)
{
    char line[3 * PATH_MAX];
    char field[PATH_MAX];
    char real[PATH_MAX];
    bool is_found = false;
    FILE *f = realpath(path, real) == NULL ? NULL : fopen("/proc/self/mountinfo", "re");

    while (f != NULL && !is_found && fgets(line, sizeof line, f) != NULL) {
        /* id, parent id, device, root, mount point */
        is_found = sscanf(line, "%*s %*s %*s %*s %4095s", field) == 1 && strcmp(field, real) == 0;
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return is_found;
}

static void
parent_of(const char *path, char out[PG_PATH_MAX])
{
    char *slash;

    (void)snprintf(out, PG_PATH_MAX, "%s", path);
    slash = strrchr(out, '/');
    slash[slash == out ? 1 : 0] = '\0';
}

void
pg_swap_paths(const struct postgres *pg, struct pg_swap_paths *p)
{
    const char *const pgdata = pg->config.pgdata;
    char parent[PG_PATH_MAX];

    parent_of(pgdata, parent);
    (void)snprintf(p->fresh, sizeof p->fresh, "%s/" INSIDE_PREFIX "new", pgdata);
    (void)snprintf(p->old, sizeof p->old, "%s/" INSIDE_PREFIX "old", pgdata);
    p->is_inside = access(p->fresh, F_OK) == 0 || access(p->old, F_OK) == 0 ||
                   is_mount_point(pgdata) || access(parent, W_OK) != 0;
    if (!p->is_inside) {
        (void)snprintf(p->fresh, sizeof p->fresh, "%s.new", pgdata);
        (void)snprintf(p->old, sizeof p->old, "%s.old", pgdata);
    }
    (void)snprintf(p->fresh_data, sizeof p->fresh_data, "%s/data", p->fresh);
    (void)snprintf(p->old_data, sizeof p->old_data, "%s/data", p->old);
}

/* Entries that belong to the volume or to us, not to a data directory. */
static bool
is_aside(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "lost+found") == 0 ||
           strncmp(name, INSIDE_PREFIX, strlen(INSIDE_PREFIX)) == 0;
}

bool
pg_swap_is_empty(const char *pgdata)
{
    const struct dirent *entry;
    bool is_empty = true;
    DIR *dir = opendir(pgdata);

    if (dir == NULL) {
        return errno == ENOENT;
    }
    while (is_empty && (entry = readdir(dir)) != NULL) {
        is_empty = is_aside(entry->d_name);
    }
    (void)closedir(dir);
    return is_empty;
}

enum pg_swap_mark
pg_swap_mark_read(const char *side)
{
    static const struct {
        const char *text;
        enum pg_swap_mark mark;
    } TEXTS[] = {{"making\n", MARK_MAKING},
                 {"whole\n", MARK_WHOLE},
                 {"moving\n", MARK_MOVING},
                 {"aside\n", MARK_ASIDE},
                 {"rewinding\n", MARK_REWINDING},
                 {"rewound\n", MARK_REWOUND},
                 {"kept\n", MARK_KEPT}};
    char path[PG_PATH_MAX + 64];
    enum pg_swap_mark mark = MARK_FOREIGN;
    char *text;

    if (access(side, F_OK) != 0) {
        return MARK_ABSENT;
    }
    (void)snprintf(path, sizeof path, "%s/" MARKER, side);
    if (pg_files_read(path, &text, NULL) != HA_OK) {
        /* A crash between mkdir and the marker leaves an empty one. */
        return pg_swap_is_empty(side) ? MARK_MAKING : MARK_FOREIGN;
    }
    for (size_t i = 0; i < HA_COUNT_OF(TEXTS); i++) {
        if (strcmp(text, TEXTS[i].text) == 0) {
            mark = TEXTS[i].mark;
        }
    }
    free(text);
    return mark;
}

int
pg_swap_mark_write(struct postgres *pg, const char *side, const char *word, struct err *err)
{
    char path[PG_PATH_MAX + 64];
    struct pg_text text = {0};

    (void)snprintf(path, sizeof path, "%s/" MARKER, side);
    pg_text_add(&text, "%s\n", word);
    return pg_files_write(pg, path, &text, err);
}

static int
make_side(struct postgres *pg, const char *side, const char *word, struct err *err)
{
    if (mkdir(side, 0700) != 0 && errno != EEXIST) {
        return fail_errno(err, "mkdir", side);
    }
    if (geteuid() == 0 && chown(side, pg->config.uid, pg->config.gid) != 0) {
        return fail_errno(err, "chown", side);
    }
    return pg_swap_mark_write(pg, side, word, err);
}

static int
sync_dir(const char *path, struct err *err)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int rc = fd < 0 || fsync(fd) != 0 ? fail_errno(err, "fsync", path) : HA_OK;

    if (fd >= 0) {
        (void)close(fd);
    }
    return rc;
}

static int
move_entries(const char *from, const char *to, struct err *err)
{
    char source[PG_PATH_MAX + 512];
    char target[PG_PATH_MAX + 512];
    const struct dirent *entry;
    int rc = HA_OK;
    DIR *dir = opendir(from);

    if (dir == NULL) {
        return errno == ENOENT ? HA_OK : fail_errno(err, "opendir", from);
    }
    while (rc == HA_OK && (entry = readdir(dir)) != NULL) {
        if (is_aside(entry->d_name)) {
            continue;
        }
        (void)snprintf(source, sizeof source, "%s/%s", from, entry->d_name);
        (void)snprintf(target, sizeof target, "%s/%s", to, entry->d_name);
        if (rename(source, target) != 0) {
            rc = fail_errno(err, "move", source);
        }
    }
    (void)closedir(dir);
    if (rc == HA_OK) {
        rc = sync_dir(to, err);
    }
    return rc == HA_OK ? sync_dir(from, err) : rc;
}

/* What is in PGDATA goes to .old/data, with that word on it. */
static int
move_out(struct postgres *pg, const struct pg_swap_paths *p, const char *word, struct err *err)
{
    const char *const pgdata = pg->config.pgdata;
    char parent[PG_PATH_MAX];
    int rc;

    if (pg_swap_is_empty(pgdata)) {
        return p->is_inside || rmdir(pgdata) == 0 || errno == ENOENT
                   ? HA_OK
                   : fail_errno(err, "rmdir", pgdata);
    }
    rc = make_side(pg, p->old, word, err);
    if (rc != HA_OK) {
        return rc;
    }
    postgres_log(pg, PG_LOG_INFO, "swap", "moving what is in %s to %s", pgdata, p->old_data);
    if (p->is_inside) {
        if (mkdir(p->old_data, 0700) != 0 && errno != EEXIST) {
            return fail_errno(err, "mkdir", p->old_data);
        }
        return move_entries(pgdata, p->old_data, err);
    }
    parent_of(pgdata, parent);
    if (rename(pgdata, p->old_data) != 0) {
        return fail_errno(err, "rename", pgdata);
    }
    return sync_dir(parent, err);
}

/* A side directory's data take PGDATA's place. */
static int
move_in(struct postgres *pg, bool is_inside, const char *from, struct err *err)
{
    const char *const pgdata = pg->config.pgdata;
    char parent[PG_PATH_MAX];

    if (access(from, F_OK) != 0) {
        return HA_OK; /* done before a crash */
    }
    postgres_log(pg, PG_LOG_INFO, "swap", "moving %s to %s", from, pgdata);
    if (is_inside) {
        if ((geteuid() == 0 && chown(pgdata, pg->config.uid, pg->config.gid) != 0) ||
            chmod(pgdata, 0700) != 0) {
            return fail_errno(err, "chown", pgdata);
        }
        return move_entries(from, pgdata, err);
    }
    parent_of(pgdata, parent);
    if (rename(from, pgdata) != 0) {
        return fail_errno(err, "rename", from);
    }
    return sync_dir(parent, err);
}

/* The new data are in place: what they replaced, if anything, waits until they stream. */
static int
finish_pending(struct postgres *pg,
               const struct pg_swap_paths *p,
               enum pg_swap_mark mark,
               struct err *err)
{
    int rc = HA_OK;

    if (mark == MARK_WHOLE) {
        rc = move_out(pg, p, "making", err);
        if (rc == HA_OK) {
            rc = pg_swap_mark_write(pg, p->fresh, "moving", err);
        }
    }
    if (rc == HA_OK) {
        rc = move_in(pg, p->is_inside, p->fresh_data, err);
    }
    if (rc == HA_OK && access(p->old, F_OK) == 0) {
        rc = pg_swap_mark_write(pg, p->old, "kept", err);
    }
    return rc;
}

/* Goes on where a crash may have cut a swap or a rewind short. */
static int
finish(struct postgres *pg, const struct pg_swap_paths *p, struct err *err)
{
    const enum pg_swap_mark fresh = pg_swap_mark_read(p->fresh);
    const enum pg_swap_mark old = pg_swap_mark_read(p->old);

    if (fresh == MARK_FOREIGN || old == MARK_FOREIGN) {
        return err_set(err,
                       HA_EREFUSED,
                       "%s is in the way and not made by the agent: move it away",
                       fresh == MARK_FOREIGN ? p->fresh : p->old);
    }
    if (fresh == MARK_WHOLE || fresh == MARK_MOVING) {
        return finish_pending(pg, p, fresh, err);
    }
    if (old == MARK_ASIDE || old == MARK_REWOUND) {
        return move_in(pg, p->is_inside, p->old_data, err);
    }
    return HA_OK;
}

int
pg_swap_tidy(struct postgres *pg, void (*done)(struct postgres *pg), struct err *err)
{
    struct pg_swap_paths p;
    enum pg_swap_mark fresh;
    int rc;

    pg_swap_paths(pg, &p);
    fresh = pg_swap_mark_read(p.fresh);
    rc = finish(pg, &p, err);
    if (rc != HA_OK) {
        return rc;
    }
    return pg_swap_remove_rest(pg, &p, fresh == MARK_WHOLE || fresh == MARK_MOVING, done, err);
}

static void
path_copy(char out[PG_PATH_MAX], const char *path)
{
    const size_t len = strlen(path);

    REQUIRE(len < PG_PATH_MAX, "pg_find.c leaves room for what is put behind PGDATA");
    memcpy(out, path, len + 1);
}

int
pg_swap_move_out(struct postgres *pg, const struct pg_swap_paths *p, struct err *err)
{
    return move_out(pg, p, "kept", err);
}

/* --- a data directory is rewound where nobody can start it --- */

int
pg_swap_aside(struct postgres *pg, struct err *err)
{
    struct pg_swap_paths p;
    int rc;

    pg_swap_paths(pg, &p);
    rc = move_out(pg, &p, "aside", err);
    return rc == HA_OK ? pg_swap_mark_write(pg, p.old, "rewinding", err) : rc;
}

int
pg_swap_aside_done(struct postgres *pg, struct err *err)
{
    struct pg_swap_paths p;
    int rc;

    pg_swap_paths(pg, &p);
    rc = sync_dir(p.old_data, err);
    return rc == HA_OK ? pg_swap_mark_write(pg, p.old, "rewound", err) : rc;
}

void
pg_swap_aside_data(const struct postgres *pg, char path[PG_PATH_MAX])
{
    struct pg_swap_paths p;

    pg_swap_paths(pg, &p);
    path_copy(path, p.old_data);
}

bool
pg_swap_is_torn(const struct postgres *pg)
{
    struct pg_swap_paths p;

    pg_swap_paths(pg, &p);
    return pg_swap_mark_read(p.old) == MARK_REWINDING && pg_swap_is_empty(pg->config.pgdata);
}

bool
pg_swap_has_old(const struct postgres *pg)
{
    struct pg_swap_paths p;

    pg_swap_paths(pg, &p);
    return pg_swap_mark_read(p.old) == MARK_KEPT;
}

/* The directories above PGDATA, as the first start on a new volume needs them. */
static int
make_parents(const struct postgres *pg, struct err *err)
{
    char path[PG_PATH_MAX];

    (void)snprintf(path, sizeof path, "%s", pg->config.pgdata);
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0755) == 0) {
            if (geteuid() == 0 && chown(path, pg->config.uid, pg->config.gid) != 0) {
                return fail_errno(err, "chown", path);
            }
        } else if (errno != EEXIST) {
            return fail_errno(err, "mkdir", path);
        }
        *slash = '/';
    }
    return HA_OK;
}

int
pg_swap_prepare(struct postgres *pg, struct err *err)
{
    struct pg_swap_paths p;

    if (make_parents(pg, err) != HA_OK) {
        return err == NULL ? HA_EIO : err->code;
    }
    pg_swap_paths(pg, &p);
    if (p.is_inside && mkdir(pg->config.pgdata, 0700) != 0 && errno != EEXIST) {
        return fail_errno(err, "mkdir", pg->config.pgdata);
    }
    /* PostgreSQL's user must get to the side directory through PGDATA. */
    if (p.is_inside && geteuid() == 0 &&
        chown(pg->config.pgdata, pg->config.uid, pg->config.gid) != 0) {
        return fail_errno(err, "chown", pg->config.pgdata);
    }
    return make_side(pg, p.fresh, "making", err);
}

int
pg_swap_mark_whole(struct postgres *pg, struct err *err)
{
    struct pg_swap_paths p;
    int rc;

    pg_swap_paths(pg, &p);
    rc = sync_dir(p.fresh_data, err);
    if (rc == HA_OK) {
        rc = sync_dir(p.fresh, err);
    }
    return rc == HA_OK ? pg_swap_mark_write(pg, p.fresh, "whole", err) : rc;
}

void
pg_swap_side(const struct postgres *pg, char path[PG_PATH_MAX])
{
    struct pg_swap_paths p;

    pg_swap_paths(pg, &p);
    path_copy(path, p.fresh);
}

void
pg_swap_data(const struct postgres *pg, char path[PG_PATH_MAX])
{
    struct pg_swap_paths p;

    pg_swap_paths(pg, &p);
    path_copy(path, p.fresh_data);
}

void
pg_swap_effective(const struct postgres *pg, char path[PG_PATH_MAX])
{
    char version[PG_PATH_MAX + 64];
    struct pg_swap_paths p;
    enum pg_swap_mark mark;

    pg_swap_paths(pg, &p);
    mark = pg_swap_mark_read(p.fresh);
    (void)snprintf(version, sizeof version, "%s/PG_VERSION", p.fresh_data);
    if ((mark == MARK_WHOLE || mark == MARK_MOVING) && access(version, F_OK) == 0) {
        path_copy(path, p.fresh_data);
    } else if (pg_swap_is_empty(pg->config.pgdata) && access(p.old_data, F_OK) == 0) {
        path_copy(path, p.old_data); /* it is being rewound */
    } else {
        path_copy(path, pg->config.pgdata);
    }
}
