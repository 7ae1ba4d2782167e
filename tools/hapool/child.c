/*
 * Programs that hapool runs: Pgpool, and small ones whose output it reads.
 */
#include "tools/hapool/hapool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CAPTURE_MS 5000
#define ENV_MAX 6

int64_t
hapool_now_ms(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Children get no environment of ours: it may name what is nobody's business. */
static void
exec_clean(const char *const argv[], const char *passfile)
{
    static char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    static char lang[] = "LANG=C.UTF-8";
    static char pass[HAPOOL_PATH_MAX + 16];
    static char timeout[] = "PGCONNECT_TIMEOUT=3";
    char *env[] = {path, lang, timeout, passfile == NULL ? NULL : pass, NULL};
    char *words[16] = {NULL};
    sigset_t none;

    (void)snprintf(pass, sizeof pass, "PGPASSFILE=%s", passfile == NULL ? "" : passfile);
    for (size_t i = 0; argv[i] != NULL && i + 1 < HA_COUNT_OF(words); i++) {
        words[i] = strdup(argv[i]);
    }
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)execvpe(words[0], words, env);
    _exit(127);
}

/* Reads until the end; false when the time is over before. */
static bool
read_output(int fd, char *out, size_t size)
{
    const int64_t end = hapool_now_ms() + CAPTURE_MS;
    size_t len = 0;

    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        char spare[256];
        const int64_t left = end - hapool_now_ms();
        ssize_t n;

        if (left <= 0 || (poll(&p, 1, (int)left) <= 0 && errno != EINTR)) {
            return false;
        }
        n = len + 1 < size ? read(fd, out + len, size - 1 - len) : read(fd, spare, sizeof spare);
        if (n <= 0) {
            out[len] = 0;
            out[strcspn(out, "\n")] = 0;
            return n == 0;
        }
        len += len + 1 < size ? (size_t)n : 0;
    }
}

int
hapool_capture(const char *const argv[], const char *passfile, char *out, size_t size)
{
    int fds[2];
    int status = -1;
    pid_t pid;
    bool is_read;

    out[0] = 0;
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return HA_EFAILED;
    }
    pid = fork();
    if (pid == 0) {
        (void)dup2(fds[1], 1);
        (void)dup2(fds[1], 2);
        exec_clean(argv, passfile);
    }
    (void)close(fds[1]);
    is_read = pid > 0 && read_output(fds[0], out, size);
    (void)close(fds[0]);
    if (pid > 0 && !is_read) {
        (void)kill(pid, SIGKILL);
    }
    if (pid > 0) {
        (void)waitpid(pid, &status, 0);
    }
    return is_read && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? HA_OK : HA_EFAILED;
}

pid_t
hapool_start(const struct hapool_config *config, struct err *err)
{
    char files[4][HAPOOL_PATH_MAX + 32];
    static const char *const names[] = {"pgpool.conf", "pcp.conf", "pool_hba.conf", "pgpoolkey"};
    const char *const argv[] = {
        config->pgpool, "-n", "-f", files[0], "-F", files[1], "-a", files[2], "-k", files[3], NULL};
    pid_t pid;

    for (size_t i = 0; i < HA_COUNT_OF(files); i++) {
        (void)snprintf(files[i], sizeof files[i], "%s/%s", config->run_dir, names[i]);
    }
    pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGINT); /* no Pgpool without its hapool */
        exec_clean(argv, NULL);
    }
    return pid > 0 ? pid : (pid_t)err_set(err, HA_EFAILED, "cannot fork: %s", strerror(errno));
}
