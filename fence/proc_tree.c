#include "fence/proc_tree.h"

#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct proc {
    pid_t pid;
    pid_t parent;
    bool is_below;
    bool is_zombie;
};

struct proc_list {
    struct proc *at;
    size_t n;
    size_t size;
};

/* False when it is gone. */
static bool
proc_read(pid_t pid, struct proc *proc)
{
    char path[64];
    char line[512];
    const char *at;
    FILE *file;
    bool is_read = false;

    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    /* "pid (name) state parent ...": the name may hold anything, so look for the last bracket. */
    if (fgets(line, sizeof line, file) != NULL) {
        at = strrchr(line, ')');
        if (at != NULL && strlen(at) > 4) {
            *proc = (struct proc){.pid = pid,
                                  .parent = (pid_t)strtol(at + 4, NULL, 10),
                                  .is_zombie = at[2] == 'Z' || at[2] == 'X'};
            is_read = true;
        }
    }
    (void)fclose(file);
    return is_read;
}

static void
list_add(struct proc_list *list, const struct proc *proc)
{
    if (list->n == list->size) {
        const size_t size = list->size == 0 ? 256 : list->size * 2;
        struct proc *at = realloc(list->at, size * sizeof *at);

        if (at == NULL) {
            return; /* the caller repeats; what is killed first makes room */
        }
        list->at = at;
        list->size = size;
    }
    list->at[list->n++] = *proc;
}

static void
list_read(struct proc_list *list)
{
    DIR *dir = opendir("/proc");
    const struct dirent *entry;

    if (dir == NULL) {
        return;
    }
    while ((entry = readdir(dir)) != NULL) {
        const long pid = strtol(entry->d_name, NULL, 10);
        struct proc proc;

        if (pid > 0 && proc_read((pid_t)pid, &proc)) {
            list_add(list, &proc);
        }
    }
    (void)closedir(dir);
}

static bool
list_is_below(const struct proc_list *list, pid_t root, pid_t pid)
{
    if (pid == root) {
        return true;
    }
    for (size_t i = 0; i < list->n; i++) {
        if (list->at[i].pid == pid) {
            return list->at[i].is_below;
        }
    }
    return false;
}

/* Until nothing changes: children may stand before their parents in the list. */
static void
list_mark(struct proc_list *list, pid_t root)
{
    bool has_changed = true;

    while (has_changed) {
        has_changed = false;
        for (size_t i = 0; i < list->n; i++) {
            struct proc *proc = &list->at[i];

            if (!proc->is_below && list_is_below(list, root, proc->parent)) {
                proc->is_below = true;
                has_changed = true;
            }
        }
    }
}

size_t
proc_tree_kill(pid_t root, pid_t spare)
{
    struct proc_list list = {0};
    size_t killed = 0;

    list_read(&list);
    list_mark(&list, root);
    for (size_t i = 0; i < list.n; i++) {
        const struct proc *proc = &list.at[i];

        if (proc->is_below && !proc->is_zombie && proc->pid != spare && proc->pid != root &&
            kill(proc->pid, SIGKILL) == 0) {
            killed++;
        }
    }
    free(list.at);
    return killed;
}
