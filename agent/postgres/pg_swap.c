#include "agent/postgres/pg_swap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/postgres/pg_files.h"

#define MARKER "hawser-side-directory"
#define INSIDE_PREFIX ".hawser."

enum mark {
    MARK_ABSENT = 0, /* no side directory */
    MARK_FOREIGN,    /* something is there and it is not ours */
    MARK_MAKING,
    MARK_WHOLE,
    MARK_MOVING,
};

struct paths {
    bool is_inside;
    char fresh[PG_PATH_MAX + 16]; /* the side directory of the new one */
    char fresh_data[PG_PATH_MAX + 32];
    char old[PG_PATH_MAX + 16];
    char old_data[PG_PATH_MAX + 32];
};

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

static void
find_paths(const struct postgres *pg, struct paths *p)
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

static enum mark
read_mark(const char *side)
{
    static const struct {
        const char *text;
        enum mark mark;
    } TEXTS[] = {{"making\n", MARK_MAKING}, {"whole\n", MARK_WHOLE}, {"moving\n", MARK_MOVING}};
    char path[PG_PATH_MAX + 64];
    enum mark mark = MARK_FOREIGN;
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

static int
write_mark(struct postgres *pg, const char *side, const char *word, struct err *err)
{
    char path[PG_PATH_MAX + 64];
    struct pg_text text = {0};

    (void)snprintf(path, sizeof path, "%s/" MARKER, side);
    pg_text_add(&text, "%s\n", word);
    return pg_files_write(pg, path, &text, err);
}

static int
make_side(struct postgres *pg, const char *side, struct err *err)
{
    if (mkdir(side, 0700) != 0 && errno != EEXIST) {
        return fail_errno(err, "mkdir", side);
    }
    if (geteuid() == 0 && chown(side, pg->config.uid, pg->config.gid) != 0) {
        return fail_errno(err, "chown", side);
    }
    return write_mark(pg, side, "making", err);
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

/* What is in PGDATA goes to .old/data. */
static int
move_out(struct postgres *pg, const struct paths *p, struct err *err)
{
    const char *const pgdata = pg->config.pgdata;
    char parent[PG_PATH_MAX];
    int rc;

    if (pg_swap_is_empty(pgdata)) {
        return p->is_inside || rmdir(pgdata) == 0 || errno == ENOENT
                   ? HA_OK
                   : fail_errno(err, "rmdir", pgdata);
    }
    rc = make_side(pg, p->old, err);
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

/* .new/data takes PGDATA's place. */
static int
move_in(struct postgres *pg, const struct paths *p, struct err *err)
{
    const char *const pgdata = pg->config.pgdata;
    char parent[PG_PATH_MAX];

    if (access(p->fresh_data, F_OK) != 0) {
        return HA_OK; /* done before a crash */
    }
    postgres_log(pg, PG_LOG_INFO, "swap", "moving %s to %s", p->fresh_data, pgdata);
    if (p->is_inside) {
        if ((geteuid() == 0 && chown(pgdata, pg->config.uid, pg->config.gid) != 0) ||
            chmod(pgdata, 0700) != 0) {
            return fail_errno(err, "chown", pgdata);
        }
        return move_entries(p->fresh_data, pgdata, err);
    }
    parent_of(pgdata, parent);
    if (rename(p->fresh_data, pgdata) != 0) {
        return fail_errno(err, "rename", p->fresh_data);
    }
    return sync_dir(parent, err);
}

static int
finish_pending(struct postgres *pg, const struct paths *p, enum mark mark, struct err *err)
{
    int rc = HA_OK;

    if (mark == MARK_WHOLE) {
        rc = move_out(pg, p, err);
        if (rc == HA_OK) {
            rc = write_mark(pg, p->fresh, "moving", err);
        }
    }
    return rc == HA_OK ? move_in(pg, p, err) : rc;
}

/* --- removing --- */

struct removal {
    uv_work_t work;
    struct postgres *pg;
    struct paths paths;
    void (*done)(struct postgres *pg);
};

static int
remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path) == 0 || errno == ENOENT ? 0 : -1;
}

/* The data first, the marker last: a crash in between leaves what is still known as ours. */
static void
remove_side(const char *side, const char *data)
{
    (void)nftw(data, remove_entry, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    (void)nftw(side, remove_entry, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static void
removal_work(uv_work_t *work)
{
    const struct removal *r = work->data;

    remove_side(r->paths.old, r->paths.old_data);
    remove_side(r->paths.fresh, r->paths.fresh_data);
}

static void
removal_done(uv_work_t *work, int status)
{
    struct removal *r = work->data;
    struct postgres *pg = r->pg;
    void (*const done)(struct postgres *) = r->done;

    (void)status;
    free(r);
    pg->is_tidying = false;
    if (pg->is_canceled && !pg->is_closing) {
        postgres_look(pg, NULL); /* the swap took place all the same */
    } else if (!postgres_check_canceled(pg)) {
        done(pg);
    }
}

int
pg_swap_tidy(struct postgres *pg, void (*done)(struct postgres *pg), struct err *err)
{
    struct removal *r = calloc(1, sizeof *r);
    enum mark fresh;
    enum mark old;
    int rc = HA_OK;

    if (r == NULL) {
        return err_set(err, HA_ENOMEM, "side directory: %s", err_code_text(HA_ENOMEM));
    }
    find_paths(pg, &r->paths);
    fresh = read_mark(r->paths.fresh);
    old = read_mark(r->paths.old);
    if (fresh == MARK_FOREIGN || old == MARK_FOREIGN) {
        rc = err_set(err,
                     HA_EREFUSED,
                     "%s is in the way and not made by the agent: move it away",
                     fresh == MARK_FOREIGN ? r->paths.fresh : r->paths.old);
    } else if (fresh == MARK_WHOLE || fresh == MARK_MOVING) {
        rc = finish_pending(pg, &r->paths, fresh, err);
    }
    if (rc != HA_OK) {
        free(r);
        return rc;
    }
    if (fresh != MARK_ABSENT || old != MARK_ABSENT) {
        postgres_log(pg, PG_LOG_INFO, "swap", "removing %s and %s", r->paths.fresh, r->paths.old);
    }
    r->pg = pg;
    r->done = done;
    r->work.data = r;
    pg->is_tidying = true;
    rc = uv_queue_work(pg->config.loop, &r->work, removal_work, removal_done);
    ENSURE(rc == 0, "the loop has a thread pool");
    return HA_OK;
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
    struct paths p;

    if (make_parents(pg, err) != HA_OK) {
        return err == NULL ? HA_EIO : err->code;
    }
    find_paths(pg, &p);
    if (p.is_inside && mkdir(pg->config.pgdata, 0700) != 0 && errno != EEXIST) {
        return fail_errno(err, "mkdir", pg->config.pgdata);
    }
    /* PostgreSQL's user must get to the side directory through PGDATA. */
    if (p.is_inside && geteuid() == 0 &&
        chown(pg->config.pgdata, pg->config.uid, pg->config.gid) != 0) {
        return fail_errno(err, "chown", pg->config.pgdata);
    }
    return make_side(pg, p.fresh, err);
}

int
pg_swap_mark_whole(struct postgres *pg, struct err *err)
{
    struct paths p;
    int rc;

    find_paths(pg, &p);
    rc = sync_dir(p.fresh_data, err);
    if (rc == HA_OK) {
        rc = sync_dir(p.fresh, err);
    }
    return rc == HA_OK ? write_mark(pg, p.fresh, "whole", err) : rc;
}

static void
path_copy(char out[PG_PATH_MAX], const char *path)
{
    const size_t len = strlen(path);

    REQUIRE(len < PG_PATH_MAX, "pg_find.c leaves room for what is put behind PGDATA");
    memcpy(out, path, len + 1);
}

void
pg_swap_side(const struct postgres *pg, char path[PG_PATH_MAX])
{
    struct paths p;

    find_paths(pg, &p);
    path_copy(path, p.fresh);
}

void
pg_swap_data(const struct postgres *pg, char path[PG_PATH_MAX])
{
    struct paths p;

    find_paths(pg, &p);
    path_copy(path, p.fresh_data);
}

void
pg_swap_effective(const struct postgres *pg, char path[PG_PATH_MAX])
{
    char version[PG_PATH_MAX + 64];
    struct paths p;
    enum mark mark;

    find_paths(pg, &p);
    mark = read_mark(p.fresh);
    (void)snprintf(version, sizeof version, "%s/PG_VERSION", p.fresh_data);
    path_copy(path,
              (mark == MARK_WHOLE || mark == MARK_MOVING) && access(version, F_OK) == 0
                  ? p.fresh_data
                  : pg->config.pgdata);
}
