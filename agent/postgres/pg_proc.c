#include "agent/postgres/pg_proc.h"

#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool
holds_pipe(const char *pid, const char *target)
{
    char path[64];
    char link[64];
    const struct dirent *entry;
    bool is_held = false;
    DIR *dir;

    if (snprintf(path, sizeof path, "/proc/%.20s/fd", pid) >= (int)sizeof path) {
        return false;
    }
    dir = opendir(path);
    while (dir != NULL && !is_held && (entry = readdir(dir)) != NULL) {
        const ssize_t len = readlinkat(dirfd(dir), entry->d_name, link, sizeof link - 1);

        if (len > 0) {
            link[len] = '\0';
            is_held = strcmp(link, target) == 0;
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    return is_held;
}

size_t
pg_proc_signal_holders(ino_t pipe, pid_t spare, int signal)
{
    char target[64];
    const struct dirent *entry;
    size_t n = 0;
    DIR *dir = opendir("/proc");

    (void)snprintf(target, sizeof target, "pipe:[%llu]", (unsigned long long)pipe);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char *end;
        const long pid = strtol(entry->d_name, &end, 10);

        if (pid <= 1 || *end != '\0' || (pid_t)pid == getpid() || (pid_t)pid == spare) {
            continue;
        }
        if (holds_pipe(entry->d_name, target)) {
            n++;
            (void)kill((pid_t)pid, signal);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    return n;
}
