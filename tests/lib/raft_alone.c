#include "tests/lib/raft_alone.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/net/peer.h"
#include "base/require.h"
#include "raft/message.h"

#define ELECTION_MS 300
#define HEARTBEAT_MS 50

static const char *const ADDRESSES[] = {"", "10.0.0.1", "10.0.0.2", "10.0.0.3"};

static bool
env_send(struct raft_env *env, const char *to, uint8_t type, const void *body, size_t len)
{
    struct alone *a = env->impl;

    if (a->n_sent == ALONE_SENT_MAX) {
        memmove(&a->sent[0], &a->sent[1], (ALONE_SENT_MAX - 1) * sizeof a->sent[0]);
        a->n_sent--;
    }
    struct alone_sent *s = &a->sent[a->n_sent++];
    ENSURE(len <= sizeof s->body, "tests send little");
    (void)snprintf(s->to, sizeof s->to, "%s", to);
    s->type = type;
    s->len = len;
    memcpy(s->body, body, len);
    return true;
}

static void
env_disk_submit(struct raft_env *env, struct raft_disk_job *job)
{
    struct alone *a = env->impl;

    a->job = job;
}

static void
env_tick_start(struct raft_env *env, unsigned ms)
{
    struct alone *a = env->impl;

    a->tick_ms = ms;
}

static void
env_tick_stop(struct raft_env *env)
{
    struct alone *a = env->impl;

    a->tick_ms = 0;
}

static void
env_wake(struct raft_env *env)
{
    struct alone *a = env->impl;

    a->is_turn_due = true;
}

static int64_t
env_now_ms(struct raft_env *env)
{
    const struct alone *a = env->impl;

    return a->now;
}

static uint32_t
env_random(struct raft_env *env)
{
    (void)env;
    return 7;
}

static void
on_apply(void *data, uint64_t index, const void *bytes, size_t len, int rc)
{
    struct alone *a = data;

    (void)bytes;
    (void)len;
    (void)rc;
    a->applied = index;
    a->n_applied++;
}

static void
on_fatal(void *data, const char *why)
{
    struct alone *a = data;

    (void)why;
    a->has_failed = true;
}

enum beginning { FIRST, AGAIN, RECOVERED };

static void
start(struct alone *a, unsigned threshold, enum beginning beginning)
{
    struct err err = {0};
    const struct raft_node_config config = {
        .env = &a->env,
        .fs = fs_mem_fs(a->disk),
        .dir = "/raft",
        .id = ALONE_ID,
        .address = ADDRESSES[1],
        .election_ms = ELECTION_MS,
        .heartbeat_ms = HEARTBEAT_MS,
        .snapshot_threshold = threshold,
        .snapshot_trailing = 1,
        .callbacks = {.data = a, .on_fatal = on_fatal},
        .on_apply = on_apply,
    };
    struct raft_server_view servers[3] = {{0}};
    int rc = raft_node_open(&config, &a->node, &err);

    for (int i = 0; i < 3; i++) {
        servers[i].id = ALONE_ID + (uint64_t)i;
        servers[i].is_voter = true;
        (void)snprintf(servers[i].address, HA_ADDRESS_MAX, "%s", ADDRESSES[i + 1]);
    }
    if (rc == HA_OK && beginning == FIRST) {
        rc = raft_node_bootstrap(a->node, servers, 3, &err);
    }
    if (rc == HA_OK && beginning == RECOVERED) {
        rc = raft_node_recover(a->node, servers, 1, &err);
    }
    if (rc == HA_OK) {
        rc = raft_node_start(a->node, &err);
    }
    ENSURE(rc == HA_OK, err.text);
    alone_settle(a);
}

struct alone *
alone_new(unsigned threshold)
{
    struct alone *a = calloc(1, sizeof *a);

    ENSURE(a != NULL, "memory");
    a->disk = fs_mem_new(1);
    a->env = (struct raft_env){.impl = a,
                               .send = env_send,
                               .disk_submit = env_disk_submit,
                               .tick_start = env_tick_start,
                               .tick_stop = env_tick_stop,
                               .wake = env_wake,
                               .now_ms = env_now_ms,
                               .random = env_random};
    start(a, threshold, FIRST);
    return a;
}

static void
stop(struct alone *a)
{
    raft_node_close(a->node, NULL, NULL);
    if (a->job != NULL) {
        struct raft_disk_job *job = a->job;
        a->job = NULL;
        job->was_canceled = true;
        job->done(job);
    }
    raft_node_turn(a->node);
    a->node = NULL;
}

void
alone_free(struct alone *a)
{
    stop(a);
    fs_mem_free(a->disk);
    free(a);
}

static void
start_again(struct alone *a, enum beginning beginning)
{
    stop(a);
    fs_mem_restart(a->disk, FS_MEM_LOSE_ALL);
    a->applied = 0;
    a->n_applied = 0;
    a->has_failed = false;
    start(a, 0, beginning);
}

void
alone_restart(struct alone *a)
{
    start_again(a, AGAIN);
}

void
alone_recover(struct alone *a)
{
    start_again(a, RECOVERED);
}

void
alone_settle(struct alone *a)
{
    while (a->is_turn_due || (a->job != NULL && !a->is_disk_slow)) {
        if (a->is_turn_due) {
            a->is_turn_due = false;
            raft_node_turn(a->node);
        } else {
            alone_disk(a);
        }
    }
}

void
alone_disk(struct alone *a)
{
    struct raft_disk_job *job = a->job;

    ENSURE(job != NULL, "the disk has something to do");
    a->job = NULL;
    job->run(job);
    job->done(job);
    alone_settle(a);
}

void
alone_wait(struct alone *a, int64_t ms)
{
    for (int64_t end = a->now + ms; a->now < end && a->tick_ms > 0;) {
        a->now += a->tick_ms;
        raft_node_tick(a->node);
        alone_settle(a);
    }
}

void
alone_hear(struct alone *a, int from, const struct raft_message *m)
{
    static uint8_t body[MESSAGE_BYTES_MAX];
    unsigned n = 0;
    const size_t len =
        message_encode(m, ALONE_ID + (uint64_t)from - 1, ALONE_ID, body, sizeof body, &n);

    ENSURE(len > 0, "a message that can be sent");
    raft_node_receive(a->node, ADDRESSES[from], (uint8_t)PEER_RAFT, body, len);
    alone_settle(a);
}

void
alone_hear_entries(struct alone *a,
                   int from,
                   struct raft_append_entries args,
                   const struct raft_configuration *conf)
{
    struct raft_entry entries[32] = {{0}};
    struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES};
    struct raft_buffer encoded = {0};
    uint64_t nothing = 0; /* a command that nobody can decode: a no-op */

    ENSURE(args.n_entries <= 32, "few entries");
    for (unsigned i = 0; i < args.n_entries; i++) {
        /* The entries carry the message's term, unless it is the group's first. */
        entries[i].term = args.term;
        entries[i].type = RAFT_COMMAND;
        entries[i].buf = (struct raft_buffer){.base = &nothing, .len = sizeof nothing};
    }
    if (conf != NULL) {
        ENSURE(raft_configuration_encode(conf, &encoded) == 0, "memory");
        entries[0].type = RAFT_CHANGE;
        entries[0].buf = encoded;
    }
    m.append_entries = args;
    m.append_entries.entries = entries;
    alone_hear(a, from, &m);
    raft_free(encoded.base);
}

void
alone_hear_success(struct alone *a, int from, uint64_t term, uint64_t last_index)
{
    struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES_RESULT};

    m.append_entries_result.term = term;
    m.append_entries_result.last_log_index = last_index;
    alone_hear(a, from, &m);
}

uint64_t
alone_win(struct alone *a)
{
    for (int tries = 0; tries < 100; tries++) {
        struct raft_message asked;
        struct raft_message m = {.type = RAFT_IO_REQUEST_VOTE_RESULT};
        struct raft_view view;

        alone_forget_sent(a);
        alone_wait(a, HEARTBEAT_MS);
        while (alone_last_sent(a, 2, RAFT_IO_REQUEST_VOTE, &asked)) {
            alone_forget_sent(a);
            m.request_vote_result.vote_granted = true;
            compat_set_pre_vote(&m.request_vote_result,
                                asked.request_vote.pre_vote ? PRE_VOTE_YES : PRE_VOTE_NO);
            m.request_vote_result.term =
                asked.request_vote.pre_vote ? asked.request_vote.term - 1 : asked.request_vote.term;
            alone_hear(a, 2, &m);
        }
        raft_node_get_view(a->node, &view);
        if (view.role == RAFT_ROLE_LEADER) {
            return view.term;
        }
    }
    ENSURE(false, "it can be elected");
    return 0;
}

bool
alone_last_sent(struct alone *a, int to, unsigned short type, struct raft_message *m)
{
    for (size_t i = a->n_sent; i > 0; i--) {
        const struct alone_sent *s = &a->sent[i - 1];
        uint64_t id = 0;

        if (s->type != PEER_RAFT || strcmp(s->to, ADDRESSES[to]) != 0 ||
            message_decode(m, &id, s->body, s->len) != HA_OK) {
            continue;
        }
        const struct raft_message copy = *m;
        message_free(m);
        if (copy.type == type) {
            *m = copy;
            m->append_entries.entries =
                type == RAFT_IO_APPEND_ENTRIES ? NULL : m->append_entries.entries;
            return true;
        }
    }
    return false;
}

void
alone_forget_sent(struct alone *a)
{
    a->n_sent = 0;
}
