#include "agent/postgres/pg_child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/postgres/pg_proc.h"

#define ESCALATE_MS 200         /* from the quit signal to the kill */
#define ESCALATE_GUARDED_MS 400 /* the guardian does the same, after 100 ms, and reaps */
#define GRACE_MS 1000           /* for descendants that outlive a child which ended well */
#define RETRY_MS 50
#define GROUPS_MAX 64
#define FD_SCAN_MAX 4096
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

extern char **environ;

struct pg_child {
    struct pg_child_spec spec; /* argv and env are not kept */
    pid_t pid;
    int status;
    ino_t life_inode;
    bool has_exited;
    bool is_killed; /* pg_child_kill() was called */
    bool is_output_ended;
    bool is_life_ended;
    uv_signal_t on_sigchld;
    uv_timer_t timer;
    uv_pipe_t output;
    uv_pipe_t life;
    int n_open_handles;
    char read_buffer[4096];
    char life_buffer[8];
    char line[PG_LINE_MAX];
    size_t line_len;
};

/* --- environment --- */

static bool
starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool
is_plain_variable(const char *entry)
{
    static const char *const PLAIN[] = {"PATH=", "LANG=", "LANGUAGE=", "LC_", "TZ=", "PGTZ="};

    for (size_t i = 0; i < HA_COUNT_OF(PLAIN); i++) {
        if (starts_with(entry, PLAIN[i])) {
            return true;
        }
    }
    return false;
}

/* What an init script may see: its user's own variables, but no secret's value. */
static bool
is_script_variable(const char *entry)
{
    static const char *const SECRET[] = {"PASSWORD=", "PASS=", "SECRET=", "TOKEN=", "KEY="};
    char name[256];
    const size_t len = strcspn(entry, "=") + 1;

    if (len >= sizeof name || starts_with(entry, "PG") || starts_with(entry, "HOME=")) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        name[i] = (char)(entry[i] >= 'a' && entry[i] <= 'z' ? entry[i] - 'a' + 'A' : entry[i]);
    }
    name[len] = '\0';
    for (size_t i = 0; i < HA_COUNT_OF(SECRET); i++) {
        const size_t n = strlen(SECRET[i]);

        if (len >= n && strcmp(name + len - n, SECRET[i]) == 0) {
            return false;
        }
    }
    return true;
}

/* Later entries win in no libc: the first of a name counts, so `extra` goes first. */
static size_t
env_fill(const char *const *extra, bool is_script, char **slots, char *bytes, size_t *n_bytes)
{
    size_t n = 0;
    size_t used = 0;

    for (int pass = 0; pass < 2; pass++) {
        for (const char *const *at = pass == 0 ? extra : (const char *const *)environ;
             at != NULL && *at != NULL;
             at++) {
            const size_t len = strlen(*at) + 1;

            if (pass == 1 && !is_plain_variable(*at) && !(is_script && is_script_variable(*at))) {
                continue;
            }
            if (slots != NULL) {
                slots[n] = memcpy(bytes + used, *at, len);
            }
            used += len;
            n++;
        }
    }
    *n_bytes = used;
    return n;
}

char **
pg_child_env(const char *const *extra, bool is_script, struct err *err)
{
    size_t n_bytes;
    const size_t n = env_fill(extra, is_script, NULL, NULL, &n_bytes);
    char **block = malloc((n + 1) * sizeof *block + n_bytes);

    if (block == NULL) {
        (void)err_set(err, HA_ENOMEM, "environment of a child: %s", err_code_text(HA_ENOMEM));
        return NULL;
    }
    (void)env_fill(extra, is_script, block, (char *)(block + n + 1), &n_bytes);
    block[n] = NULL;
    return block;
}

/* --- the child's side, between fork and exec: async-signal-safe calls only --- */

struct exec_plan {
    const struct pg_child_spec *spec;
    int output_fd;
    int life_fd;
    pid_t parent;
    bool is_root;
    gid_t groups[GROUPS_MAX];
    int n_groups;
};

static _Noreturn void
exec_failed(const char *what)
{
    const char *const why = strerror(errno);
    ssize_t ignored = write(STDERR_FILENO, "haagent: ", 9);

    ignored = write(STDERR_FILENO, what, strlen(what));
    ignored = write(STDERR_FILENO, ": ", 2);
    ignored = write(STDERR_FILENO, why, strlen(why));
    ignored = write(STDERR_FILENO, "\n", 1);
    (void)ignored;
    _exit(127);
}

static void
keep_fd(int fd)
{
    const int flags = fcntl(fd, F_GETFD);

    if (flags < 0 || fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC) < 0) {
        exec_failed("keeping a descriptor open");
    }
}

static void
exec_set_fds(const struct exec_plan *plan)
{
    const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(plan->output_fd, STDOUT_FILENO) < 0 ||
        dup2(plan->output_fd, STDERR_FILENO) < 0) {
        exec_failed("standard descriptors");
    }
#ifdef SYS_close_range
    if (syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) != 0)
#endif
    {
        for (int fd = 3; fd < FD_SCAN_MAX; fd++) {
            (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
        }
    }
    keep_fd(plan->life_fd);
    for (size_t i = 0; i < plan->spec->n_keep_fds; i++) {
        keep_fd(plan->spec->keep_fds[i]);
    }
}

static void
exec_reset_signals(void)
{
    struct sigaction sa = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int s = 1; s < 32; s++) {
        if (s != SIGKILL && s != SIGSTOP) {
            (void)sigaction(s, &sa, NULL);
        }
    }
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void
exec_child(const struct exec_plan *plan)
{
    const struct pg_child_spec *spec = plan->spec;

    /* Quoted from execve(2): argv and envp are not modified, their types are historical. */
    union {
        const char *const *in;
        char *const *out;
    } argv = {.in = spec->argv};

    exec_reset_signals();
    (void)setsid();
    (void)umask(077);
    exec_set_fds(plan);
    if (chdir("/") != 0) {
        exec_failed("chdir");
    }
    if (plan->is_root && (setgroups((size_t)plan->n_groups, plan->groups) != 0 ||
                          setgid(spec->gid) != 0 || setuid(spec->uid) != 0)) {
        exec_failed("becoming PostgreSQL's user");
    }
    /* After setuid: a change of credentials clears it. And the parent may have died before. */
    if (prctl(PR_SET_PDEATHSIG, spec->quit_signal) != 0) {
        exec_failed("PR_SET_PDEATHSIG");
    }
    if (getppid() != plan->parent) {
        _exit(125);
    }
    (void)execve(argv.out[0], argv.out, spec->env);
    exec_failed(argv.in[0]);
}

/* --- the agent's side --- */

static void
on_handle_closed(uv_handle_t *handle)
{
    struct pg_child *child = handle->data;

    child->n_open_handles--;
    if (child->n_open_handles == 0) {
        child->spec.on_gone(child->spec.data, child->status);
        free(child);
    }
}

static void
close_all(struct pg_child *child)
{
    uv_close((uv_handle_t *)&child->on_sigchld, on_handle_closed);
    uv_close((uv_handle_t *)&child->timer, on_handle_closed);
    uv_close((uv_handle_t *)&child->output, on_handle_closed);
    uv_close((uv_handle_t *)&child->life, on_handle_closed);
}

static void
check_gone(struct pg_child *child)
{
    if (child->has_exited && child->is_output_ended && child->is_life_ended) {
        close_all(child);
    }
}

static void
line_flush(struct pg_child *child)
{
    if (child->line_len > 0) {
        child->line[child->line_len] = '\0';
        child->line_len = 0;
        child->spec.on_line(child->spec.data, child->line);
    }
}

static void
on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct pg_child *child = handle->data;

    (void)suggested;
    *buf = handle == (uv_handle_t *)&child->output
               ? uv_buf_init(child->read_buffer, sizeof child->read_buffer)
               : uv_buf_init(child->life_buffer, sizeof child->life_buffer);
}

static void
on_output(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct pg_child *child = stream->data;

    for (ssize_t i = 0; i < n; i++) {
        const char c = buf->base[i];

        if (c == '\n' || c == '\r') {
            line_flush(child);
        } else if (child->line_len < sizeof child->line - 1) {
            child->line[child->line_len++] = c;
        }
    }
    if (n < 0) {
        line_flush(child);
        (void)uv_read_stop(stream);
        child->is_output_ended = true;
        check_gone(child);
    }
}

static void
on_life(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct pg_child *child = stream->data;

    (void)buf;
    if (n < 0) {
        (void)uv_read_stop(stream);
        child->is_life_ended = true;
        check_gone(child);
    }
}

/* Stops the child first so that it can fork no more, then the descendants go, then itself. */
static void
kill_tree(struct pg_child *child)
{
    if (!child->has_exited) {
        (void)kill(child->pid, SIGSTOP);
    }
    (void)pg_proc_signal_holders(child->life_inode, child->has_exited ? 0 : child->pid, SIGKILL);
    if (!child->has_exited) {
        (void)kill(child->pid, SIGKILL);
    }
}

static void
on_timer(uv_timer_t *timer)
{
    struct pg_child *child = timer->data;

    kill_tree(child);
    (void)uv_timer_start(timer, on_timer, RETRY_MS, 0);
}

static void
on_sigchld(uv_signal_t *handle, int signum)
{
    struct pg_child *child = handle->data;
    int raw;
    pid_t pid;

    (void)signum;
    if (child->has_exited) {
        return;
    }
    do {
        pid = waitpid(child->pid, &raw, WNOHANG);
    } while (pid < 0 && errno == EINTR);
    if (pid == 0) {
        return;
    }
    /* ECHILD: somebody else reaped it; how it ended is lost, that it ended is certain. */
    child->status = pid < 0 ? 126 : WIFEXITED(raw) ? WEXITSTATUS(raw) : -WTERMSIG(raw);
    child->has_exited = true;
    if (child->spec.on_exit != NULL) {
        child->spec.on_exit(child->spec.data, child->status);
    }
    /* A backend that outlives its postmaster goes on acknowledging (seen: 3.6 s): no grace then. */
    if (child->status != 0 || child->is_killed) {
        kill_tree(child);
        (void)uv_timer_start(&child->timer, on_timer, RETRY_MS, 0);
    } else {
        (void)uv_timer_start(&child->timer, on_timer, GRACE_MS, 0);
    }
    check_gone(child);
}

static int
init_handles(struct pg_child *child, int output_fd, int life_fd)
{
    uv_loop_t *loop = child->spec.loop;
    struct stat st;

    if (fstat(life_fd, &st) != 0) {
        return UV_EIO;
    }
    child->life_inode = st.st_ino;
    (void)uv_signal_init(loop, &child->on_sigchld);
    (void)uv_timer_init(loop, &child->timer);
    (void)uv_pipe_init(loop, &child->output, 0);
    (void)uv_pipe_init(loop, &child->life, 0);
    child->n_open_handles = 4;
    child->on_sigchld.data = child->timer.data = child->output.data = child->life.data = child;
    int rc = uv_signal_start(&child->on_sigchld, on_sigchld, SIGCHLD);
    if (rc == 0) {
        rc = uv_pipe_open(&child->output, output_fd);
    }
    if (rc == 0) {
        rc = uv_pipe_open(&child->life, life_fd);
    }
    if (rc == 0) {
        rc = uv_read_start((uv_stream_t *)&child->output, on_alloc, on_output);
    }
    if (rc == 0) {
        rc = uv_read_start((uv_stream_t *)&child->life, on_alloc, on_life);
    }
    return rc;
}

static void
plan_groups(struct exec_plan *plan)
{
    const struct passwd *pw = getpwuid(plan->spec->uid);

    plan->is_root = geteuid() == 0 && !plan->spec->is_guardian;
    plan->groups[0] = plan->spec->gid;
    plan->n_groups = GROUPS_MAX;
    if (pw == NULL ||
        getgrouplist(pw->pw_name, plan->spec->gid, plan->groups, &plan->n_groups) < 0) {
        plan->n_groups = 1;
    }
}

int
pg_child_start(const struct pg_child_spec *spec, struct pg_child **out, struct err *err)
{
    struct exec_plan plan = {.spec = spec, .parent = getpid()};
    struct pg_child *child = calloc(1, sizeof *child);
    int output[2] = {-1, -1};
    int life[2] = {-1, -1};

    REQUIRE(spec->uid != 0, "PostgreSQL never runs as root");
    if (child == NULL || pipe2(output, O_CLOEXEC) != 0 || pipe2(life, O_CLOEXEC) != 0) {
        (void)err_set(err, HA_EFAILED, "%s: pipe: %s", spec->argv[0], strerror(errno));
        goto fail;
    }
    child->spec = *spec;
    plan.output_fd = output[1];
    plan.life_fd = life[1];
    plan_groups(&plan);
    /* Both pipes' other ends must be watched before the first byte can come; a loop that cannot
     * take four handles is out of memory or descriptors, and nothing was started yet. */
    const int rc = init_handles(child, output[0], life[0]);
    ENSURE(rc == 0, "the loop takes the handles of a child");
    child->pid = fork();
    if (child->pid == 0) {
        exec_child(&plan);
    }
    (void)close(output[1]);
    (void)close(life[1]);
    if (child->pid < 0) {
        /* The pipes end at once, and on_gone tells of it as of any other end. */
        child->status = 127;
        child->has_exited = true;
        child->spec.on_line(child->spec.data, "haagent: fork failed");
    }
    *out = child;
    return HA_OK;

fail:
    for (int i = 0; i < 2; i++) {
        if (output[i] >= 0) {
            (void)close(output[i]);
        }
        if (life[i] >= 0) {
            (void)close(life[i]);
        }
    }
    free(child);
    return HA_EFAILED;
}

pid_t
pg_child_pid(const struct pg_child *child)
{
    return child->pid;
}

void
pg_child_signal(struct pg_child *child, int signal)
{
    if (!child->has_exited) {
        (void)kill(child->pid, signal);
    }
}

void
pg_child_kill(struct pg_child *child)
{
    if (child->is_killed) {
        return;
    }
    child->is_killed = true;
    uv_update_time(child->spec.loop); /* a pause from now, not from when this turn began */
    if (child->has_exited) {
        kill_tree(child);
        (void)uv_timer_start(&child->timer, on_timer, RETRY_MS, 0);
        return;
    }
    (void)kill(child->pid, child->spec.quit_signal);
    (void)uv_timer_start(
        &child->timer, on_timer, child->spec.is_guardian ? ESCALATE_GUARDED_MS : ESCALATE_MS, 0);
}
