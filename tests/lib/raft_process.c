#include "tests/lib/raft_process.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "store/state.h"
#include "tests/lib/raft_process_child.h"

uint64_t
raft_process_id(int n, unsigned incarnation)
{
    char address[HA_ADDRESS_MAX];

    (void)snprintf(address, sizeof address, RAFT_PROCESS_ADDRESS, 10 + n);
    return member_id(address, incarnation);
}

void
raft_process_start(struct raft_process *p)
{
    int fds[2];

    ENSURE(p->pid == 0, "one process a member");
    const int rv = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds);
    ENSURE(rv == 0, "descriptors");
    (void)fflush(NULL);
    const pid_t parent = getpid();
    p->pid = fork();
    ENSURE(p->pid >= 0, "processes");
    if (p->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) {
            _exit(1);
        }
        (void)close(fds[0]);
        raft_process_run(p, fds[1]);
    }
    (void)close(fds[1]);
    p->fd = fds[0];
}

int
raft_process_wait(struct raft_process *p)
{
    int status = 0;

    const pid_t pid = waitpid(p->pid, &status, 0);
    ENSURE(pid == p->pid, "our child");
    (void)close(p->fd);
    p->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

void
raft_process_kill(struct raft_process *p)
{
    if (p->pid != 0) {
        (void)kill(p->pid, SIGKILL);
        (void)raft_process_wait(p);
    }
}

/* One line, without its end. */
static bool
read_line(int fd, char *out, size_t size, int wait_ms)
{
    size_t len = 0;

    while (len + 1 < size) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (poll(&ready, 1, wait_ms) <= 0 || read(fd, &out[len], 1) != 1) {
            return false;
        }
        if (out[len] == '\n') {
            out[len] = '\0';
            return true;
        }
        len++;
    }
    return false;
}

bool
raft_process_ask(
    struct raft_process *p, char *answer, size_t size, int wait_ms, const char *fmt, ...)
{
    char line[128];
    va_list args;

    if (p->pid == 0) {
        return false;
    }
    va_start(args, fmt);
    int len = vsnprintf(line, sizeof line - 1, fmt, args);
    va_end(args);
    line[len++] = '\n';
    return send(p->fd, line, (size_t)len, MSG_NOSIGNAL) == len &&
           read_line(p->fd, answer, size, wait_ms);
}

bool
raft_process_view(struct raft_process *p, struct raft_process_view *v)
{
    char line[256];

    return raft_process_ask(p, line, sizeof line, 5000, "view") &&
           sscanf(line,
                  "view %d %d %d %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
                  " %d %d %" SCNx32,
                  &v->role,
                  &v->is_ready,
                  &v->is_changing,
                  &v->term,
                  &v->leader,
                  &v->commit,
                  &v->applied,
                  &v->last,
                  &v->n_voters,
                  &v->n_servers,
                  &v->hash) == 11;
}

int
raft_process_propose(struct raft_process *p, uint64_t counter)
{
    char line[128];
    int rc = HA_EUNKNOWN;

    if (!raft_process_ask(p, line, sizeof line, 20000, "propose %" PRIu64, counter) ||
        sscanf(line, "done %d", &rc) != 1) {
        return HA_EUNKNOWN;
    }
    return rc;
}
