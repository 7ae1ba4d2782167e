/*
 * cluster_state.h - a replicated state for the tests of the store, and commands in one line each.
 *
 * say() is how every test speaks: the command goes through its bytes, and a second member that
 * was restored from a snapshot a moment before hears the same bytes. Whatever a test is about,
 * it thereby also shows that both members hold the same state, byte for byte.
 *
 * Include cmocka.h first.
 */
#ifndef HA_TESTS_UNIT_CLUSTER_STATE_H
#define HA_TESTS_UNIT_CLUSTER_STATE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "store/apply.h"
#include "store/command.h"
#include "store/snapshot.h"
#include "store/state.h"

#define CLUSTER_ID 0xc1u
#define IP_A "10.0.0.1"
#define IP_B "10.0.0.2"
#define IP_C "10.0.0.3"
#define IP_W "10.0.0.9"

/* Fills a text field to its last byte, as a decoder leaves it. */
#define SET_TEXT(field, text) set_text((field), sizeof(field), (text))

static inline void
set_text(char *field, size_t size, const char *text)
{
    const size_t len = strlen(text);

    assert_true(len < size);
    memset(field, 0, size);
    memcpy(field, text, len);
}

static inline void
declaration_add(struct declaration *d, const char *address, enum member_kind kind)
{
    struct member_spec *spec = &d->members[d->n_members++];

    SET_TEXT(spec->address, address);
    spec->kind = (uint8_t)kind;
    declaration_sort(d);
}

/* A, B, C with a database each; `primary` is the declared one. */
static inline struct declaration
wish(const char *primary)
{
    struct declaration d;

    memset(&d, 0, sizeof d);
    SET_TEXT(d.primary, primary);
    d.lease_ms = HA_LEASE_MS_DEFAULT;
    declaration_add(&d, IP_A, MEMBER_DATABASE);
    declaration_add(&d, IP_B, MEMBER_DATABASE);
    declaration_add(&d, IP_C, MEMBER_DATABASE);
    return d;
}

static inline struct command
command_of(enum command_type type)
{
    struct command c;

    memset(&c, 0, sizeof c);
    c.type = (uint8_t)type;
    return c;
}

static inline struct command
found(struct declaration d)
{
    struct command c = command_of(COMMAND_FOUND);

    c.found.cluster_id = CLUSTER_ID;
    c.found.declaration = d;
    return c;
}

static inline struct command
member_register(const char *address, uint64_t nonce)
{
    struct command c = command_of(COMMAND_REGISTER);

    SET_TEXT(c.member_register.address, address);
    SET_TEXT(c.member_register.name, "node");
    c.member_register.nonce = nonce;
    return c;
}

static inline struct command
declare(const char *declarer, struct declaration d)
{
    struct command c = command_of(COMMAND_DECLARE);

    SET_TEXT(c.declare.declarer, declarer);
    c.declare.declaration = d;
    return c;
}

/* What `hactl declare` sends: the primary and the number alone. */
static inline struct command
declare_by_job(const char *primary, uint64_t number)
{
    struct command c = command_of(COMMAND_DECLARE);

    SET_TEXT(c.declare.declaration.primary, primary);
    c.declare.declaration.number = number;
    return c;
}

static inline struct command
members_change(enum command_type type, uint64_t generation, const char *address)
{
    struct command c = command_of(type);

    c.members.generation = generation;
    SET_TEXT(c.members.spec.address, address);
    return c;
}

static inline struct command
member_replace(uint64_t generation, const char *address, uint64_t nonce)
{
    struct command c = members_change(COMMAND_MEMBER_REPLACE, generation, address);

    c.members.nonce = nonce;
    return c;
}

static inline struct command
settle(uint64_t generation, uint64_t holder)
{
    struct command c = command_of(COMMAND_SETTLE);

    c.settle.generation = generation;
    c.settle.holder = holder;
    return c;
}

static inline struct command
appoint(uint64_t reign, uint64_t holder)
{
    struct command c = command_of(COMMAND_APPOINT);

    c.appoint.reign = reign;
    c.appoint.holder = holder;
    c.appoint.wall_ms = 1000 + reign;
    SET_TEXT(c.appoint.why, "because");
    return c;
}

static inline struct command
handover(uint64_t reign, uint64_t to)
{
    struct command c = command_of(COMMAND_HANDOVER);

    c.handover.reign = reign;
    c.handover.to = to;
    return c;
}

static inline struct command
vacate(uint64_t reign, uint64_t holder)
{
    struct command c = command_of(COMMAND_VACATE);

    c.vacate.reign = reign;
    c.vacate.holder = holder;
    c.vacate.final_lsn = 0x5000;
    SET_TEXT(c.vacate.why, "stopped");
    return c;
}

/* Of timelines that each left the one before at 0x4000. */
static inline uint64_t
lineage_of(uint32_t timeline)
{
    uint64_t lineage = LINEAGE_FIRST;

    for (uint32_t t = 1; t < timeline; t++) {
        lineage = lineage_extend(lineage, t, 0x4000);
    }
    return lineage;
}

static inline struct command
opened(uint64_t reign, uint64_t holder, uint32_t timeline)
{
    struct command c = command_of(COMMAND_OPENED);

    c.opened.reign = reign;
    c.opened.holder = holder;
    c.opened.sysid = 77;
    c.opened.timeline = timeline;
    c.opened.fork_lsn = 0x4000;
    c.opened.lineage = lineage_of(timeline);
    return c;
}

static inline struct command
settings(uint32_t lease_ms, uint64_t max_lag, uint8_t failover)
{
    struct command c = command_of(COMMAND_SETTINGS);

    c.settings.lease_ms = lease_ms;
    c.settings.max_lag = max_lag;
    c.settings.failover = failover;
    return c;
}

static inline struct command
from(uint64_t origin, uint64_t counter, struct command c)
{
    c.origin = origin;
    c.counter = counter;
    return c;
}

static inline uint64_t
id_of(const struct state *s, const char *address)
{
    const struct member *m = state_member_at(s, address);

    return m == NULL ? 0 : m->id;
}

/* Fails the test when the state changes in a snapshot. */
static inline void
assert_survives_snapshot(const struct state *s, struct state *restored)
{
    uint8_t *bytes = malloc(SNAPSHOT_BYTES_MAX);
    size_t len;

    assert_non_null(bytes);
    len = snapshot_encode(s, bytes, SNAPSHOT_BYTES_MAX);
    assert_true(len > 0);
    memset(restored, 0xa5, sizeof *restored);
    assert_int_equal(snapshot_decode(restored, bytes, len), HA_OK);
    assert_memory_equal(s, restored, sizeof *s);
    free(bytes);
}

static inline int
say(struct state *s, struct command c)
{
    struct state *twin = malloc(sizeof *twin);
    uint8_t bytes[COMMAND_BYTES_MAX];
    size_t len;
    int rc;

    if (c.type == COMMAND_APPOINT && c.appoint.epoch == 0) {
        c.appoint.epoch = s->sync_epoch; /* where a test does not care */
    } else if (c.type == COMMAND_SYNC && c.sync.epoch == 0) {
        c.sync.epoch = s->sync_epoch;
    }
    len = command_encode(&c, bytes, sizeof bytes);
    assert_non_null(twin);
    assert_true(len > 0);
    assert_int_equal(len % 8, 0);
    assert_survives_snapshot(s, twin);
    rc = apply_bytes(s, bytes, len);
    assert_int_equal(apply_bytes(twin, bytes, len), rc);
    assert_memory_equal(s, twin, sizeof *s);
    free(twin);
    return rc;
}

#define SAID(of, command) assert_int_equal(say((of), (command)), HA_OK)

/* Refused, and the state is what it was. */
#define REFUSED(of, command)                                                                       \
    do {                                                                                           \
        struct state before;                                                                       \
        memcpy(&before, (of), sizeof before);                                                      \
        assert_int_equal(say((of), (command)), HA_EREFUSED);                                       \
        assert_memory_equal((of), &before, sizeof before);                                         \
    } while (0)

/* Accepted, and the state is what it was: repeated words. */
#define CHANGES_NOTHING(of, command)                                                               \
    do {                                                                                           \
        struct state before;                                                                       \
        memcpy(&before, (of), sizeof before);                                                      \
        assert_int_equal(say((of), (command)), HA_OK);                                             \
        assert_memory_equal((of), &before, sizeof before);                                         \
    } while (0)

/* Members A, B, C, all registered; nobody reigns yet. */
static inline void
cluster_founded(struct state *s)
{
    state_init(s);
    SAID(s, found(wish(IP_A)));
    SAID(s, member_register(IP_A, 0xa));
    SAID(s, member_register(IP_B, 0xb));
    SAID(s, member_register(IP_C, 0xc));
}

/* The same; A holds reign 1, opened on timeline 1. */
static inline void
cluster_reigned(struct state *s)
{
    cluster_founded(s);
    SAID(s, appoint(1, id_of(s, IP_A)));
    SAID(s, opened(1, id_of(s, IP_A), 1));
}

#endif
