/*
 * What was replaced, or never became whole: kept, moved on, removed. All of it in the thread pool.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "agent/postgres/pg_files.h"
#include "agent/postgres/pg_swap_impl.h"
#include "agent/postgres/pg_tblspc.h"
#include "base/require.h"

#define ROOM_SPARE (64ULL << 20)

struct removal {
    uv_work_t work;
    struct postgres *pg;
    struct pg_swap_paths paths;
    const char *pgdata;
    unsigned keep;   /* HA_KEEP_OLD */
    bool is_rebuild; /* what is kept must make room for what comes next */
    uint64_t bytes;  /* make_room: of the copy */
    void (*done)(struct postgres *pg);
    int stuck; /* why a kept one could not be moved on, an errno; 0 = all were */
};

static void
numbered(const struct removal *r, unsigned i, const char *behind, char out[PG_PATH_MAX + 64])
{
    if (i == 0) {
        (void)snprintf(out, PG_PATH_MAX + 64, "%s%s", r->paths.old, behind);
    } else {
        (void)snprintf(out, PG_PATH_MAX + 64, "%s.%u%s", r->paths.old, i, behind);
    }
}

/* Its tablespaces too, but for those that another data directory here uses. */
static void
release_tablespaces(const struct removal *r, const char *data)
{
    char olds[OLDS_MAX + 1][PG_PATH_MAX + 64];
    const char *live[OLDS_MAX + 2];
    size_t n = 0;

    live[n++] = r->pgdata;
    for (unsigned i = 0; i <= OLDS_MAX; i++) {
        numbered(r, i, "/data", olds[i]);
        live[n++] = olds[i];
    }
    pg_tblspc_release(r->pg, data, live, n);
}

/* The data first, the marker last: a crash in between leaves what is still known as ours. */
static void
remove_side(const struct removal *r, const char *side)
{
    char data[PG_PATH_MAX + 64];

    (void)snprintf(data, sizeof data, "%.1040s/data", side);
    release_tablespaces(r, data);
    pg_files_remove_tree(data);
    pg_files_remove_tree(side);
}

/* .old becomes .old.1, and so on; what has no place any more goes. */
static void
rotate(struct removal *r, unsigned keep)
{
    char from[PG_PATH_MAX + 64];
    char to[PG_PATH_MAX + 64];

    for (unsigned i = keep; i <= OLDS_MAX; i++) {
        numbered(r, i, "", from);
        if (access(from, F_OK) == 0) {
            remove_side(r, from);
        }
    }
    for (unsigned i = keep; i-- > 0;) {
        numbered(r, i, "", from);
        numbered(r, i + 1, "", to);
        if (rename(from, to) != 0 && errno != ENOENT) {
            r->stuck = errno; /* it stays, and so does what would have taken its place */
        }
    }
}

static void
on_done(uv_work_t *work, int status)
{
    struct removal *r = work->data;
    struct postgres *pg = r->pg;
    void (*const done)(struct postgres *) = r->done;

    (void)status;
    if (r->stuck != 0) {
        postgres_log(pg,
                     PG_LOG_WARN,
                     "swap",
                     "%s: an older copy could not be moved on: %s; it is tried again",
                     r->paths.old,
                     strerror(r->stuck));
    }
    free(r);
    pg->is_tidying = false;
    if (pg->facts.has_old != pg_swap_has_old(pg)) {
        pg->facts.has_old = !pg->facts.has_old;
        postgres_tell(pg);
    }
    if (done == NULL) {
        if (pg->is_closing) {
            postgres_close_step(pg);
        }
    } else if (pg->is_canceled && !pg->is_closing) {
        postgres_look(pg, NULL); /* the swap took place all the same */
    } else if (!postgres_check_canceled(pg)) {
        done(pg);
    }
}

static struct removal *
removal_new(struct postgres *pg, void (*done)(struct postgres *pg), struct err *err)
{
    struct removal *r = calloc(1, sizeof *r);

    if (r == NULL) {
        (void)err_set(err, HA_ENOMEM, "side directory: %s", err_code_text(HA_ENOMEM));
        return NULL;
    }
    pg_swap_paths(pg, &r->paths);
    r->pg = pg;
    r->pgdata = pg->config.pgdata;
    r->keep = pg->config.keep_old < OLDS_MAX ? pg->config.keep_old : OLDS_MAX;
    r->done = done;
    r->work.data = r;
    return r;
}

/* From here on it is the thread's. */
static void
removal_queue(struct removal *take_r, uv_work_cb work)
{
    int rc;

    take_r->pg->is_tidying = true;
    rc = uv_queue_work(take_r->pg->config.loop, &take_r->work, work, on_done);
    ENSURE(rc == 0, "the loop has a thread pool");
}

/* --- before an operation, and at the start --- */

static void
rest_work(uv_work_t *work)
{
    struct removal *r = work->data;
    const enum pg_swap_mark old = pg_swap_mark_read(r->paths.old);

    if (old == MARK_ASIDE || old == MARK_REWOUND) {
        pg_files_remove_tree(r->paths.old); /* its data are back in their place */
    } else if (old == MARK_KEPT && r->is_rebuild) {
        rotate(r, r->keep > 0 ? r->keep : 1);
    }
    if (pg_swap_mark_read(r->paths.fresh) != MARK_ABSENT) {
        remove_side(r, r->paths.fresh);
    }
}

int
pg_swap_remove_rest(struct postgres *pg,
                    const struct pg_swap_paths *p,
                    bool has_swapped,
                    void (*done)(struct postgres *pg),
                    struct err *err)
{
    struct removal *r;

    if (pg->is_tidying) {
        return err_set(err, HA_EBUSY, "what was replaced before is still being removed");
    }
    if (pg_swap_mark_read(p->fresh) != MARK_ABSENT) {
        postgres_log(pg, PG_LOG_INFO, "swap", "removing %s", p->fresh);
    }
    r = removal_new(pg, done, err);
    if (r == NULL) {
        return HA_ENOMEM;
    }
    r->is_rebuild = !has_swapped && (pg->op == POSTGRES_CLONE || pg->op == POSTGRES_REWIND);
    removal_queue(r, rest_work);
    return HA_OK;
}

/* --- the new data stream --- */

static void
discard_work(uv_work_t *work)
{
    struct removal *r = work->data;

    rotate(r, r->keep);
}

void
pg_swap_discard(struct postgres *pg)
{
    struct removal *r;

    if (pg->is_tidying || !pg_swap_has_old(pg) || (r = removal_new(pg, NULL, NULL)) == NULL) {
        return;
    }
    postgres_log(pg,
                 PG_LOG_INFO,
                 "swap",
                 "the new data stream: of what they replaced %u are kept",
                 pg->config.keep_old);
    removal_queue(r, discard_work);
}

/* --- room for a copy --- */

static bool
has_room(const struct removal *r)
{
    struct statvfs fs;

    return statvfs(r->paths.fresh, &fs) != 0 ||
           (uint64_t)fs.f_bavail * fs.f_frsize >= r->bytes + r->bytes / 10 + ROOM_SPARE;
}

/* The markers stay: the new data do not stream yet. */
static void
olds_work(uv_work_t *work)
{
    struct removal *r = work->data;
    char path[PG_PATH_MAX + 64];

    for (unsigned i = OLDS_MAX + 1; i-- > 0 && !has_room(r);) {
        numbered(r, i, "/data", path);
        if (access(path, F_OK) == 0) {
            release_tablespaces(r, path);
            pg_files_remove_tree(path);
        }
    }
}

static void
on_olds_removed(struct postgres *pg)
{
    struct removal probe = {.bytes = pg->room.bytes};
    struct removal *r;
    struct err err = {0};

    pg_swap_paths(pg, &probe.paths);
    if (has_room(&probe) || pg_swap_is_empty(pg->config.pgdata)) {
        pg->room.done(pg);
        return;
    }
    postgres_log(pg, PG_LOG_WARN, "no_room", "removing the data in %s", pg->config.pgdata);
    r = removal_new(pg, pg->room.done, &err);
    if (r == NULL || pg_swap_move_out(pg, &probe.paths, &err) != HA_OK) {
        free(r);
        postgres_finish_err(pg, &err);
        return;
    }
    r->bytes = pg->room.bytes;
    removal_queue(r, olds_work);
    pg->facts.data = PG_DATA_EMPTY;
    pg->facts.has_old = true;
    postgres_tell(pg);
}

int
pg_swap_make_room(struct postgres *pg,
                  uint64_t bytes,
                  void (*done)(struct postgres *pg),
                  struct err *err)
{
    struct removal probe = {.bytes = bytes};
    struct removal *r;

    pg_swap_paths(pg, &probe.paths);
    if (has_room(&probe)) {
        postgres_step_after(pg, 0, done);
        return HA_OK;
    }
    postgres_log(pg,
                 PG_LOG_WARN,
                 "no_room",
                 "there is no room for a copy of %llu MB beside %s (system %llu): what is kept "
                 "aside is removed now, and if that is not enough the data themselves",
                 (unsigned long long)(bytes >> 20),
                 pg->config.pgdata,
                 (unsigned long long)pg->facts.sysid);
    pg->room.bytes = bytes;
    pg->room.done = done;
    r = removal_new(pg, on_olds_removed, err);
    if (r == NULL) {
        return HA_ENOMEM;
    }
    r->bytes = bytes;
    removal_queue(r, olds_work);
    return HA_OK;
}
