/*
 * raft_alone.h - one Raft node, and the test is the rest of the world.
 *
 * The test speaks for the other members with hand-made messages, reads what the node sends, and
 * says when the disk is done and how late it is. Nothing happens by itself.
 */
#ifndef HA_TESTS_LIB_RAFT_ALONE_H
#define HA_TESTS_LIB_RAFT_ALONE_H

#include <raft.h>

#include "raft/node.h"
#include "tests/lib/fs_mem.h"

#define ALONE_SENT_MAX 64
#define ALONE_ID 1001 /* 10.0.0.1; the others are 1002 at 10.0.0.2 and 1003 at 10.0.0.3 */

struct alone_sent {
    char to[HA_ADDRESS_MAX];
    uint8_t type;
    uint8_t body[8192];
    size_t len;
};

struct alone {
    struct raft_env env;
    struct fs_mem *disk;
    struct raft_node *node;
    struct raft_disk_job *job;
    bool is_disk_slow; /* jobs wait for alone_disk() */
    bool is_turn_due;
    int64_t now;
    unsigned tick_ms;
    uint64_t applied; /* index of the last command applied */
    uint64_t n_applied;
    bool has_failed;
    size_t n_sent;
    struct alone_sent sent[ALONE_SENT_MAX];
};

/* A founded group of three, this node running. Snapshots after `threshold` entries (0 = rarely). */
struct alone *alone_new(unsigned threshold);
void alone_free(struct alone *a);

/* Turns (and disk jobs, unless the disk is slow) until nothing is due. */
void alone_settle(struct alone *a);
/* The job that waits is done now. */
void alone_disk(struct alone *a);
/* Time passes. */
void alone_wait(struct alone *a, int64_t ms);
/* Power off, disk as it was synced, and up again. */
void alone_restart(struct alone *a);

/* The same, with a forced configuration of this member alone before it is up. */
void alone_recover(struct alone *a);

/* A message from member 2 or 3, as its link would deliver it; then alone_settle(). */
void alone_hear(struct alone *a, int from, const struct raft_message *m);
/* AppendEntries with n commands of the given term; a change of configuration if `conf`. */
void alone_hear_entries(struct alone *a,
                        int from,
                        struct raft_append_entries args,
                        const struct raft_configuration *conf);
/* A success. */
void alone_hear_success(struct alone *a, int from, uint64_t term, uint64_t last_index);

/* Makes the node leader of the term that it then has. */
uint64_t alone_win(struct alone *a);

/* The newest message of the type to that member; false when there is none. Frees nothing. */
bool alone_last_sent(struct alone *a, int to, unsigned short type, struct raft_message *m);
void alone_forget_sent(struct alone *a);

#endif
