/*
 * env.h - the world below a Raft node: network, disk worker, clock, chance.
 *
 * One node, one env. env_uv.c gives the real one; a simulator gives virtual
 * time, a network that loses and reorders, and a disk that forgets what was
 * not synced. Everything in raft/ but env_uv.c and consensus.c is free of libuv.
 *
 * Threads: all calls come from the loop's thread. Only raft_disk_job.run runs
 *          elsewhere, and one job at a time.
 */
#ifndef HA_RAFT_ENV_H
#define HA_RAFT_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Work that blocks on the disk. */
struct raft_disk_job {
    void (*run)(struct raft_disk_job *job);  /* on the worker; never touches the node */
    void (*done)(struct raft_disk_job *job); /* on the loop, afterwards, never inside submit */
    bool was_canceled; /* the env sets it when it calls done() without run(): only while closing */
};

struct raft_env {
    void *impl;
    /* False when nothing was queued. The body is borrowed for the call. */
    bool (*send)(struct raft_env *env, const char *to, uint8_t type, const void *body, size_t len);
    /* Runs the job. The node submits the next one only after done(). */
    void (*disk_submit)(struct raft_env *env, struct raft_disk_job *job);
    /* raft_node_tick() every `ms` from now on; never inside this call. */
    void (*tick_start)(struct raft_env *env, unsigned ms);
    void (*tick_stop)(struct raft_env *env);
    /* raft_node_turn() soon, from the top of the loop. Repeated calls before it are one. */
    void (*wake)(struct raft_env *env);
    int64_t (*now_ms)(struct raft_env *env);
    uint32_t (*random)(struct raft_env *env);
};

#endif
