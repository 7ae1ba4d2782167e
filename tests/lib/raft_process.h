/*
 * raft_process.h - a member of a Raft group as a process of its own: real files, real links.
 *
 * A child speaks raft/consensus.h and does what its parent says, one line a command:
 *
 *   found N                the first command, with members 1..N          -> done RC MICROSECONDS
 *   propose COUNTER        a command under that idempotency key          -> done RC MICROSECONDS
 *   bench N                N commands, one after the other               -> bench P50 P99 MAX
 *   view                                                                 -> view ROLE READY ...
 *   counter ORIGIN         last command of that member in the own state  -> counter N
 *   transfer N | add N I | remove N I   member N, incarnation I          -> rc RC
 *   full 0|1               the disk has no room left                     -> rc 0
 *   quit                   a clean end                                   -> the process ends
 *
 * It ends with status 3 on on_fatal, 4 when the log is refused.
 */
#ifndef HA_TESTS_LIB_RAFT_PROCESS_H
#define HA_TESTS_LIB_RAFT_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/require.h"

#define RAFT_PROCESS_FATAL 3
#define RAFT_PROCESS_REFUSED 4

struct raft_process {
    int n;                /* member 1 is 127.0.0.11, 2 is .12, ... */
    unsigned incarnation; /* of its id */
    uint16_t port;
    char dir[128];
    unsigned election_ms;
    unsigned heartbeat_ms;
    int n_founders; /* bootstraps with members 1..n_founders when the log is pristine; 0 = joins */
    pid_t pid;      /* 0 = not running */
    int fd;
};

struct raft_process_view {
    int role;
    int is_ready;
    int is_changing;
    uint64_t term;
    uint64_t leader;
    uint64_t commit;
    uint64_t applied;
    uint64_t last;
    int n_voters;
    int n_servers;
    uint32_t hash; /* of the state */
};

uint64_t raft_process_id(int n, unsigned incarnation);

void raft_process_start(struct raft_process *p);
/* SIGKILL, and reaps it. */
void raft_process_kill(struct raft_process *p);
/* Waits for its end; the exit status. */
int raft_process_wait(struct raft_process *p);

/* Sends a line and reads the answer. False: the process is gone, or silent for `wait_ms`. */
bool raft_process_ask(
    struct raft_process *p, char *answer, size_t size, int wait_ms, const char *fmt, ...)
    HA_PRINTF(5, 6);
bool raft_process_view(struct raft_process *p, struct raft_process_view *view);
/* The rc of a proposal, HA_EUNKNOWN when the process is gone. */
int raft_process_propose(struct raft_process *p, uint64_t counter);

#endif
