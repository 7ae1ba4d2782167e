/*
 * proc_tree.h - the processes below one process, found in /proc.
 *
 * Errors: none; a process that ended meanwhile is no error. libc only.
 */
#ifndef HA_FENCE_PROC_TREE_H
#define HA_FENCE_PROC_TREE_H

#include <stddef.h>
#include <sys/types.h>

/*
 * Sends SIGKILL to every descendant of `root` but `spare` (0 = none), neither being touched.
 * Returns how many were signalled; zombies do not count. Processes that are forked meanwhile may
 * be missed: stop the one that forks, or repeat until it returns 0.
 */
size_t proc_tree_kill(pid_t root, pid_t spare);

#endif
