#include "agent/postgres/pg_probe_host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define PATH_BYTES (1024 + 64)
#define ROOM_FOR_BALLAST 4 /* it is made where so many times its size is free */

/* --- the directory and its disk --- */

static void
look_at_data(struct pg_probe_job *job)
{
    char path[PATH_BYTES];
    struct stat st;

    if (stat(job->pgdata, &st) != 0) {
        job->probe.is_data_gone = errno == ENOENT || errno == ENOTDIR || errno == EACCES;
        return;
    }
    if (job->ino == 0) {
        job->dev = st.st_dev;
        job->ino = st.st_ino;
    }
    (void)snprintf(path, sizeof path, "%s/global/pg_control", job->pgdata);
    job->probe.is_data_gone = st.st_dev != job->dev || st.st_ino != job->ino ||
                              (access(path, F_OK) != 0 && errno == ENOENT);
}

static void
look_at_disk(struct pg_probe_job *job)
{
    static const char *const PLACES[] = {"", "/pg_wal"};
    char path[PATH_BYTES];
    struct statvfs fs;

    for (size_t i = 0; i < sizeof PLACES / sizeof PLACES[0]; i++) {
        (void)snprintf(path, sizeof path, "%s%s", job->pgdata, PLACES[i]);
        if (statvfs(path, &fs) != 0) {
            continue;
        }
        const uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;

        job->probe.is_read_only |= (fs.f_flag & ST_RDONLY) != 0;
        if (job->probe.total_bytes == 0 || free_bytes < job->probe.free_bytes) {
            job->probe.free_bytes = free_bytes;
            job->probe.total_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
        }
    }
}

/* --- the ballast --- */

/*
 * Beside PGDATA, where no copy takes it along; where WAL lies on another file system than that,
 * in pg_wal, whose content no base backup takes along either.
 */
static void
ballast_path(const char *pgdata, char path[PATH_BYTES])
{
    struct stat parent;
    struct stat wal;

    (void)snprintf(path, PATH_BYTES, "%s/pg_wal", pgdata);
    const bool has_wal = stat(path, &wal) == 0;

    (void)snprintf(path, PATH_BYTES, "%s/..", pgdata);
    if (has_wal && (stat(path, &parent) != 0 || parent.st_dev != wal.st_dev)) {
        (void)snprintf(path, PATH_BYTES, "%s/pg_wal/hawser.ballast", pgdata);
    } else {
        (void)snprintf(path, PATH_BYTES, "%s.ballast", pgdata);
    }
}

bool
pg_probe_host_release(const char *pgdata)
{
    char path[PATH_BYTES];

    ballast_path(pgdata, path);
    return unlink(path) == 0;
}

static void
make_ballast(const struct pg_probe_job *job, const char *path)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0) {
        return;
    }
    if (posix_fallocate(fd, 0, (off_t)job->ballast_bytes) != 0) {
        (void)unlink(path);
    }
    (void)close(fd);
}

static void
keep_ballast(struct pg_probe_job *job)
{
    char path[PATH_BYTES];
    struct stat st;

    if (job->ballast_bytes == 0 || job->probe.total_bytes == 0) {
        return;
    }
    ballast_path(job->pgdata, path);
    if (lstat(path, &st) != 0 && !job->probe.is_data_gone && !job->probe.is_read_only &&
        job->probe.free_bytes >= ROOM_FOR_BALLAST * job->ballast_bytes) {
        make_ballast(job, path);
    }
}

/* --- processes --- */

/* The process' state letter, or 0. */
static char
state_of(pid_t pid)
{
    char path[64];
    char text[512];
    const char *end;
    ssize_t len;
    int fd;

    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    len = read(fd, text, sizeof text - 1);
    (void)close(fd);
    if (len <= 0) {
        return 0;
    }
    text[len] = '\0';
    end = strrchr(text, ')'); /* the name before it may hold anything */
    return end != NULL && end[1] == ' ' ? end[2] : 0;
}

/* How often it went to sleep by itself: a process that waits once and for ever has one count. */
static uint64_t
switches_of(pid_t pid)
{
    static const char KEY[] = "\nvoluntary_ctxt_switches:";
    char path[64];
    char text[4096];
    const char *at;
    ssize_t len;
    int fd;

    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    len = read(fd, text, sizeof text - 1);
    (void)close(fd);
    if (len <= 0) {
        return 0;
    }
    text[len] = '\0';
    at = strstr(text, KEY);
    return at == NULL ? 0 : strtoull(at + sizeof KEY - 1, NULL, 10);
}

static bool
is_stopped(char state)
{
    return state == 'T' || state == 't';
}

static struct pg_suspect *
suspect_of(struct pg_probe_job *job, pid_t pid)
{
    struct pg_suspect *spare = NULL;

    for (size_t i = 0; i < PG_PROBE_SUSPECTS_MAX; i++) {
        struct pg_suspect *s = &job->suspects[i];

        if (s->pid == pid) {
            return s;
        }
        if (s->pid == 0 && spare == NULL) {
            spare = s;
        }
    }
    return spare;
}

/* Stopped, or in one and the same wait for the disk, for the whole time. */
static void
weigh(struct pg_probe_job *job, pid_t pid, char state)
{
    const uint64_t switches = state == 'D' ? switches_of(pid) : 0;
    struct pg_suspect *s = suspect_of(job, pid);

    if (s == NULL) {
        return;
    }
    if (s->pid != pid || s->state != state || s->switches != switches) {
        *s = (struct pg_suspect){
            .pid = pid, .state = state, .switches = switches, .since_ms = job->now_ms};
    }
    s->is_seen = true;
    if (job->now_ms - s->since_ms >= job->stuck_ms) {
        job->probe.n_stuck++;
        job->stuck_pid = pid;
        job->stuck_state = state;
    }
}

/* Calls `each` for every child. */
static void
each_child(pid_t parent,
           struct pg_probe_job *job,
           void (*each)(struct pg_probe_job *job, pid_t child))
{
    char path[80];
    FILE *file;
    int pid;

    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)parent, (int)parent);
    file = fopen(path, "re");
    if (file == NULL) {
        return;
    }
    while (fscanf(file, "%d", &pid) == 1) { /* NOLINT(cert-err34-c): the kernel writes numbers */
        each(job, (pid_t)pid);
    }
    (void)fclose(file);
}

static void
look_at_process(struct pg_probe_job *job, pid_t pid)
{
    const char state = state_of(pid);

    if (state == 'D' || is_stopped(state)) {
        weigh(job, pid, state);
    }
}

static void
look_at_postmaster(struct pg_probe_job *job, pid_t pid)
{
    job->probe.is_postmaster_stopped |= is_stopped(state_of(pid));
    look_at_process(job, pid);
    each_child(pid, job, look_at_process);
}

static void
look_at_processes(struct pg_probe_job *job)
{
    for (size_t i = 0; i < PG_PROBE_SUSPECTS_MAX; i++) {
        job->suspects[i].is_seen = false;
    }
    if (job->root != 0 && job->is_guarded) {
        each_child(job->root, job, look_at_postmaster);
    } else if (job->root != 0) {
        look_at_postmaster(job, job->root);
    }
    for (size_t i = 0; i < PG_PROBE_SUSPECTS_MAX; i++) {
        if (!job->suspects[i].is_seen) {
            job->suspects[i].pid = 0;
        }
    }
}

void
pg_probe_host_run(struct pg_probe_job *job)
{
    memset(&job->probe, 0, sizeof job->probe);
    job->probe.kind = PG_PROBE_HOST;
    job->stuck_pid = 0;
    look_at_data(job);
    look_at_disk(job);
    keep_ballast(job);
    look_at_processes(job);
}
