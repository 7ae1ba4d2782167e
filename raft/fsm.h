/*
 * fsm.h - libraft's state machine interface over store/apply.h.
 *
 * Applying never fails: a command that apply rejects or that cannot be decoded is an entry without
 * effect, with the same answer on every member. libraft would stop for good on an error.
 */
#ifndef HA_RAFT_FSM_H
#define HA_RAFT_FSM_H

#include <raft.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/state.h"

struct fsm {
    struct raft_fsm raft; /* what raft_init() gets */
    struct state state;
    int answer;        /* of the last command; raft_apply's result points here */
    bool is_changed;   /* since the owner last cleared it */
    bool is_broken;    /* a snapshot could not be decoded: the owner must stop */
    uint64_t n_unread; /* commands that could not be decoded */
    void *data;
    /* May be NULL. */
    void (*on_apply)(void *data, const void *bytes, size_t len, int rc);
};

void fsm_init(struct fsm *fsm);

#endif
