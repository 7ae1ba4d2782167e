/*
 * guardian.c - haguard: the process between the agent and the postmaster.
 *
 *   haguard --parent-pid N [--lease PATH] [--uid N --gid N] [--cgroup DIR] [--quit-ms N]
 *           -- /path/to/postgres args...
 *
 * Starts the postmaster as its child and lives as long as any process of it. Ends it
 *   - when a lease that it has once seen live is live no more,
 *   - when the process N (the agent, its parent) dies,
 *   - when it gets SIGQUIT;
 * by SIGQUIT to the postmaster, and --quit-ms (100) later by SIGKILL to all of it. When
 * haguard itself dies, the postmaster gets SIGQUIT from the kernel. SIGINT, SIGTERM, SIGHUP,
 * SIGUSR1 and SIGUSR2 are handed on. Ends as the postmaster ended: with its exit status,
 * or by the same signal; 1 = could not start it.
 *
 * It has a session of its own, so what stops the agent's process group does not stop it.
 * It is the second layer: no safety argument rests on it. Inherited descriptors (the lock
 * of the volume) are handed on and closed by the end of the last process.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/require.h"
#include "fence/lease_view.h"
#include "fence/proc_tree.h"

#define LOOK_EVERY_MS 100
#define KILL_EVERY_MS 10
#define STRAYS_MS 500 /* after a clean end: the log collector and the like end by themselves */
#define QUIT_MS 100

enum phase {
    PHASE_GUARD = 0, /* the postmaster runs and may */
    PHASE_QUIT,      /* SIGQUIT was sent */
    PHASE_STRAYS,    /* the postmaster ended cleanly, its last children may do so, too */
    PHASE_KILL,      /* everything is killed until nothing is left */
};

struct guard {
    const char *lease;
    const char *cgroup;
    pid_t parent;
    uid_t uid;
    gid_t gid;
    bool drops;
    int64_t quit_ms;

    enum phase phase;
    pid_t postmaster;
    int status;
    bool is_over; /* the postmaster was reaped */
    bool is_orphan;
    uint64_t reign; /* seen live; 0 = none yet */
    struct lease_view view;
    sigset_t old_mask;
    int signal_fd, timer_fd, parent_fd;
};

/* The agent that reads our standard error may be frozen: never wait for it. */
static void HA_PRINTF(1, 2) say(const char *fmt, ...)
{
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    char line[512] = "haguard: ";
    const size_t prefix = strlen(line);
    va_list args;
    int len;

    va_start(args, fmt);
    len = vsnprintf(line + prefix, sizeof line - prefix - 1, fmt, args);
    va_end(args);
    if (len < 0) {
        return;
    }
    line[sizeof line - 2] = '\0';
    len = (int)strlen(line);
    line[len++] = '\n';
    if (poll(&out, 1, 0) == 1 && (out.revents & POLLOUT) != 0 &&
        write(STDERR_FILENO, line, (size_t)len) < 0) {
        return; /* nobody to tell */
    }
}

static void
guard_wake_in(struct guard *g, int64_t ms)
{
    const int64_t at_least = ms > 0 ? ms : 1;
    const struct itimerspec at = {
        .it_value = {.tv_sec = at_least / 1000, .tv_nsec = at_least % 1000 * 1000000}};

    ENSURE(timerfd_settime(g->timer_fd, 0, &at, NULL) == 0, "the timer can be set");
}

static void
cgroup_write(const struct guard *g, const char *file, const char *text)
{
    char path[4096];
    int fd;

    if (g->cgroup == NULL) {
        return;
    }
    (void)snprintf(path, sizeof path, "%s/%s", g->cgroup, file);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) {
        say("cannot write %s: %s", path, strerror(errno));
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

/* Everything below us, and again until nothing is left. */
static void
guard_kill(struct guard *g)
{
    g->phase = PHASE_KILL;
    cgroup_write(g, "cgroup.kill", "1");
    if (!g->is_over) {
        /* Stopped, it forks no more; SIGKILL works on a stopped process, too. */
        (void)kill(g->postmaster, SIGSTOP);
        (void)proc_tree_kill(getpid(), g->postmaster);
        (void)kill(g->postmaster, SIGKILL);
    } else {
        (void)proc_tree_kill(getpid(), 0);
    }
    guard_wake_in(g, KILL_EVERY_MS);
}

static void
guard_end(struct guard *g, const char *why)
{
    if (g->phase != PHASE_GUARD) {
        return;
    }
    g->phase = PHASE_QUIT;
    (void)kill(g->postmaster, SIGQUIT);
    guard_wake_in(g, g->quit_ms);
    say("ends the server: %s (reign %llu)", why, (unsigned long long)g->reign);
}

static void
guard_look_at_lease(struct guard *g)
{
    enum lease_fault fault = lease_view_check(&g->view, g->reign);

    if (fault != LEASE_LIVE && g->lease != NULL && lease_view_is_stale(&g->view, g->lease)) {
        struct lease_view fresh;

        if (lease_view_open(&fresh, g->lease) == LEASE_LIVE) {
            lease_view_close(&g->view);
            g->view = fresh;
            fault = lease_view_check(&g->view, g->reign);
        }
    }
    if (fault == LEASE_LIVE) {
        const int64_t rest = lease_view_rest_ms(&g->view);

        if (g->reign == 0) {
            say("guards the server under reign %llu", (unsigned long long)g->view.at->reign);
        }
        g->reign = g->view.at->reign;
        guard_wake_in(g, rest < LOOK_EVERY_MS ? rest : LOOK_EVERY_MS);
    } else if (g->reign != 0) {
        guard_end(g, lease_fault_text(fault));
    } else {
        guard_wake_in(g, LOOK_EVERY_MS);
    }
}

static void
guard_on_timer(struct guard *g)
{
    uint64_t count;

    if (read(g->timer_fd, &count, sizeof count) != (ssize_t)sizeof count) {
        return;
    }
    if (g->phase == PHASE_GUARD) {
        guard_look_at_lease(g);
    } else {
        guard_kill(g);
    }
}

static void
guard_on_parent_death(struct guard *g)
{
    if (!g->is_orphan) {
        g->is_orphan = true;
        guard_end(g, "the agent died");
    }
}

/* Returns true when no process is left. */
static bool
guard_reap(struct guard *g)
{
    for (;;) {
        int status;
        const pid_t pid = waitpid(-1, &status, WNOHANG);

        if (pid < 0) {
            return errno == ECHILD;
        }
        if (pid == 0) {
            return false;
        }
        if (pid == g->postmaster) {
            g->is_over = true;
            g->status = status;
            if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
                g->phase = PHASE_STRAYS;
                guard_wake_in(g, STRAYS_MS);
            } else {
                /* Without a postmaster a backend may finish and acknowledge its statement. */
                guard_kill(g);
            }
        }
    }
}

static bool
guard_on_signal(struct guard *g)
{
    struct signalfd_siginfo info;
    bool is_empty = false;

    while (read(g->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        const int signum = (int)info.ssi_signo;

        if (signum == SIGCHLD) {
            is_empty = guard_reap(g);
        } else if (signum == SIGRTMIN) {
            /* The kernel says this also when only the thread that started us has ended. */
            if (getppid() != g->parent) {
                guard_on_parent_death(g);
            }
        } else if (signum == SIGQUIT) {
            guard_end(g, "asked to");
        } else if (!g->is_over) {
            (void)kill(g->postmaster, signum);
        }
    }
    return is_empty;
}

static void
guard_run(struct guard *g)
{
    struct pollfd fds[] = {{.fd = g->signal_fd, .events = POLLIN},
                           {.fd = g->timer_fd, .events = POLLIN},
                           {.fd = g->parent_fd, .events = POLLIN}};
    bool is_empty = false;

    guard_wake_in(g, 1);
    while (!is_empty) {
        if (poll(fds, HA_COUNT_OF(fds), -1) < 0 && errno != EINTR) {
            guard_kill(g);
        }
        if (fds[1].revents != 0) {
            guard_on_timer(g);
        }
        if (fds[2].revents != 0) {
            fds[2].fd = -1;
            guard_on_parent_death(g);
        }
        if (fds[0].revents != 0) {
            is_empty = guard_on_signal(g);
        }
    }
}

static void
child_drop(const struct guard *g)
{
    const struct passwd *user;

    if (!g->drops) {
        return;
    }
    user = getpwuid(g->uid);
    if ((user != NULL ? initgroups(user->pw_name, g->gid) : setgroups(0, NULL)) != 0 ||
        setgid(g->gid) != 0 || setuid(g->uid) != 0) {
        say("cannot become user %d: %s", (int)g->uid, strerror(errno));
        _exit(1);
    }
}

static _Noreturn void
child_exec(const struct guard *g, pid_t guard_pid, char *const *command)
{
    cgroup_write(g, "cgroup.procs", "0");
    child_drop(g);
    /* After the change of user, which clears it. */
    if (prctl(PR_SET_PDEATHSIG, SIGQUIT) != 0 || getppid() != guard_pid) {
        _exit(1);
    }
    (void)signal(SIGPIPE, SIG_DFL);
    (void)sigprocmask(SIG_SETMASK, &g->old_mask, NULL);
    (void)execv(command[0], command);
    say("cannot execute %s: %s", command[0], strerror(errno));
    _exit(1);
}

static int
guard_start(struct guard *g, char *const *command)
{
    const pid_t self = getpid();
    sigset_t mask;

    (void)sigemptyset(&mask);
    for (size_t i = 0; i < 8; i++) {
        const int taken[] = {SIGCHLD, SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGRTMIN};

        (void)sigaddset(&mask, taken[i]);
    }
    (void)signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &mask, &g->old_mask) != 0) {
        return -1;
    }
    (void)setsid();
    g->parent_fd = (int)syscall(SYS_pidfd_open, g->parent, 0U);
    g->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    g->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    if (g->signal_fd < 0 || g->timer_fd < 0 || prctl(PR_SET_PDEATHSIG, SIGRTMIN) != 0 ||
        prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) {
        return -1;
    }
    if (getppid() != g->parent) {
        errno = ESRCH;
        return -1;
    }
    if (g->cgroup != NULL && mkdir(g->cgroup, 0755) != 0 && errno != EEXIST) {
        say("no cgroup %s: %s", g->cgroup, strerror(errno));
        g->cgroup = NULL;
    }
    g->postmaster = fork();
    if (g->postmaster == 0) {
        child_exec(g, self, command);
    }
    return g->postmaster < 0 ? -1 : 0;
}

static bool
parse_number(const char *text, int64_t *value)
{
    char *end;

    errno = 0;
    *value = strtoll(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && *value >= 0 && *value <= INT32_MAX;
}

static bool
parse(struct guard *g, int argc, char **argv)
{
    static const struct option options[] = {{"lease", required_argument, NULL, 'l'},
                                            {"parent-pid", required_argument, NULL, 'p'},
                                            {"uid", required_argument, NULL, 'u'},
                                            {"gid", required_argument, NULL, 'g'},
                                            {"cgroup", required_argument, NULL, 'c'},
                                            {"quit-ms", required_argument, NULL, 'q'},
                                            {NULL, 0, NULL, 0}};
    int64_t uid = -1;
    int64_t gid = -1;
    int64_t parent = 0;
    int which;

    while ((which = getopt_long(argc, argv, "+", options, NULL)) != -1) {
        if (which == 'l') {
            g->lease = optarg;
        } else if (which == 'c') {
            g->cgroup = optarg;
        } else {
            int64_t *to = which == 'p'   ? &parent
                          : which == 'u' ? &uid
                          : which == 'g' ? &gid
                          : which == 'q' ? &g->quit_ms
                                         : NULL;

            if (to == NULL || !parse_number(optarg, to)) {
                return false;
            }
        }
    }
    g->parent = (pid_t)parent;
    g->drops = uid > 0;
    g->uid = (uid_t)uid;
    g->gid = (gid_t)gid;
    return parent > 0 && optind < argc && uid != 0 && (uid > 0) == (gid > 0);
}

/* Ends the way the postmaster ended. */
static int
guard_finish(const struct guard *g)
{
    if (g->cgroup != NULL) {
        (void)rmdir(g->cgroup);
    }
    if (WIFSIGNALED(g->status)) {
        const struct rlimit no_core = {0, 0};
        const int signum = WTERMSIG(g->status);
        sigset_t mask;

        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)signal(signum, SIG_DFL);
        (void)sigemptyset(&mask);
        (void)sigaddset(&mask, signum);
        (void)sigprocmask(SIG_UNBLOCK, &mask, NULL);
        (void)raise(signum);
        return 128 + signum;
    }
    return WEXITSTATUS(g->status);
}

int
main(int argc, char **argv)
{
    struct guard g = {.quit_ms = QUIT_MS};

    if (!parse(&g, argc, argv)) {
        (void)fprintf(stderr,
                      "usage: haguard --parent-pid N [--lease PATH] [--uid N --gid N] "
                      "[--cgroup DIR] [--quit-ms N] -- command args...\n");
        return 2;
    }
    if (guard_start(&g, argv + optind) != 0) {
        say("cannot start: %s", strerror(errno));
        return 1;
    }
    guard_run(&g);
    return guard_finish(&g);
}
