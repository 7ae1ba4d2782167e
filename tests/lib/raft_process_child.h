/*
 * raft_process_child.h - the child's side of raft_process.h.
 */
#ifndef HA_TESTS_LIB_RAFT_PROCESS_CHILD_H
#define HA_TESTS_LIB_RAFT_PROCESS_CHILD_H

#include "tests/lib/raft_process.h"

#define RAFT_PROCESS_ADDRESS "127.0.0.%d"
#define RAFT_PROCESS_MEMBERS 6 /* that the links know */

/* Runs the member until it is told to quit. Ends the process. */
_Noreturn void raft_process_run(const struct raft_process *p, int fd);

#endif
