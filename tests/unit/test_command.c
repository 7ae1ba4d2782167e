/*
 * Goal:   a command is its bytes: every one survives the trip, and what no encoder made is refused
 *         and never changes a state.
 * Method: one sample of each type with extreme values; each truncation, each flipped bit, each
 *         other version and type, and a million random bytes in pieces.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/cluster_state.h"

#define LONGEST_ADDRESS "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255%1"

static struct declaration
longest_declaration(void)
{
    struct declaration d;

    memset(&d, 0, sizeof d);
    d.number = UINT64_MAX;
    SET_TEXT(d.primary, LONGEST_ADDRESS);
    d.lease_ms = UINT32_MAX;
    d.max_lag = UINT64_MAX - 1;
    d.failover = UINT8_MAX;
    d.n_members = HA_MEMBERS_MAX;
    for (size_t i = 0; i < HA_MEMBERS_MAX; i++) {
        SET_TEXT(d.members[i].address, LONGEST_ADDRESS);
        d.members[i].kind = (uint8_t)(200 + i);
    }
    return d;
}

static void
fill(char *text, size_t size, char with)
{
    memset(text, with, size - 1);
    text[size - 1] = 0;
}

/* A command of each type; every field holds a value of its own. */
static struct command
sample(enum command_type type)
{
    struct command c = from(UINT64_MAX, UINT64_MAX - 7, command_of(type));

    if (type == COMMAND_FOUND) {
        c.found.cluster_id = 0x1122334455667788ULL;
        c.found.declaration = longest_declaration();
    } else if (type == COMMAND_REGISTER) {
        SET_TEXT(c.member_register.address, LONGEST_ADDRESS);
        fill(c.member_register.name, sizeof c.member_register.name, 'n');
        c.member_register.nonce = 3;
    } else if (type == COMMAND_DECLARE) {
        SET_TEXT(c.declare.declarer, LONGEST_ADDRESS);
        c.declare.declaration = longest_declaration();
        c.declare.is_anew = true;
    } else if (type == COMMAND_MEMBER_ADD || type == COMMAND_MEMBER_REMOVE ||
               type == COMMAND_MEMBER_REPLACE) {
        c.members.generation = 4;
        SET_TEXT(c.members.spec.address, LONGEST_ADDRESS);
        c.members.spec.kind = 5;
        c.members.nonce = 6;
    } else if (type == COMMAND_SETTLE) {
        c.settle.generation = 7;
        c.settle.holder = 8;
    } else if (type == COMMAND_APPOINT) {
        c.appoint.reign = 9;
        c.appoint.holder = 10;
        c.appoint.epoch = 28;
        c.appoint.wall_ms = 11;
        fill(c.appoint.why, sizeof c.appoint.why, 'y');
    } else if (type == COMMAND_HANDOVER) {
        c.handover.reign = 12;
        c.handover.to = 13;
    } else if (type == COMMAND_VACATE) {
        c.vacate.reign = 14;
        c.vacate.holder = 15;
        c.vacate.final_lsn = 16;
        fill(c.vacate.why, sizeof c.vacate.why, 'v');
    } else if (type == COMMAND_OPENED) {
        c.opened.reign = 17;
        c.opened.holder = 18;
        c.opened.sysid = 19;
        c.opened.fork_lsn = 20;
        c.opened.timeline = 21;
        c.opened.lineage = 28;
    } else if (type == COMMAND_SYNC) {
        c.sync.reign = 22;
        c.sync.generation = 23;
        c.sync.epoch = 29;
        c.sync.set = 24;
        c.sync.count = 30;
        c.sync.lost = 31;
    } else if (type == COMMAND_REBUILD) {
        c.rebuild.member = 29;
        c.rebuild.reign = 30;
        c.rebuild.sysid = 31;
        c.rebuild.rung = 32;
    } else if (type == COMMAND_SETTINGS) {
        c.settings.lease_ms = 25;
        c.settings.max_lag = 26;
        c.settings.failover = 27;
    }
    return c;
}

static void
every_command_survives_its_bytes_and_fits(void **unused)
{
    (void)unused;
    for (int type = 1; type < COMMAND_TYPE_COUNT; type++) {
        const struct command c = sample((enum command_type)type);
        struct command back;
        uint8_t bytes[COMMAND_BYTES_MAX];
        uint8_t again[COMMAND_BYTES_MAX];
        const size_t len = command_encode(&c, bytes, sizeof bytes);

        assert_true(len > 0);
        assert_int_equal(len % 8, 0);
        memset(&back, 0xa5, sizeof back);
        assert_int_equal(command_decode(&back, bytes, len), HA_OK);
        assert_memory_equal(&back, &c, sizeof c);
        assert_int_equal(command_encode(&back, again, sizeof again), len);
        assert_memory_equal(again, bytes, len);
        for (size_t size = 0; size < len; size++) {
            assert_int_equal(command_encode(&c, again, size), 0);
        }
        assert_string_not_equal(command_type_text(c.type), "unknown");
    }
}

static void
what_has_no_type_or_too_many_members_has_no_bytes(void **unused)
{
    uint8_t bytes[COMMAND_BYTES_MAX];
    struct command c = command_of(COMMAND_TYPE_COUNT);

    (void)unused;
    assert_int_equal(command_encode(&c, bytes, sizeof bytes), 0);
    c.type = 0;
    assert_int_equal(command_encode(&c, bytes, sizeof bytes), 0);
    assert_string_equal(command_type_text(0), "unknown");
    assert_string_equal(command_type_text(COMMAND_TYPE_COUNT), "unknown");
    assert_string_equal(command_type_text(255), "unknown");
    assert_string_equal(command_type_text(COMMAND_APPOINT), "appoint");
    c = sample(COMMAND_FOUND);
    c.found.declaration.n_members = HA_MEMBERS_MAX + 1;
    assert_int_equal(command_encode(&c, bytes, sizeof bytes), 0);
}

static void
every_truncation_and_every_excess_is_corrupt(void **unused)
{
    (void)unused;
    for (int type = 1; type < COMMAND_TYPE_COUNT; type++) {
        const struct command c = sample((enum command_type)type);
        uint8_t bytes[COMMAND_BYTES_MAX + 64] = {0};
        const size_t len = command_encode(&c, bytes, COMMAND_BYTES_MAX);
        struct command back;

        for (size_t n = 0; n < len; n++) {
            /* An exact copy, so that a sanitizer sees the first byte that is read beyond. */
            uint8_t *part = malloc(n + 1);

            assert_non_null(part);
            memcpy(part, bytes, n);
            part = realloc(part, n > 0 ? n : 1);
            assert_int_equal(command_decode(&back, part, n), HA_ECORRUPT);
            free(part);
        }
        for (size_t n = len + 1; n < len + 64; n++) {
            assert_int_equal(command_decode(&back, bytes, n), HA_ECORRUPT);
        }
    }
}

static void
another_format_is_told_apart_from_damage(void **unused)
{
    const struct command c = sample(COMMAND_APPOINT);
    uint8_t bytes[COMMAND_BYTES_MAX];
    const size_t len = command_encode(&c, bytes, sizeof bytes);
    struct command back;
    struct state s;
    struct state before;

    (void)unused;
    for (int format = 0; format < 256; format++) {
        bytes[0] = (uint8_t)format;
        assert_int_equal(command_decode(&back, bytes, len), format == 1 ? HA_OK : HA_EVERSION);
    }
    bytes[0] = 2;
    cluster_reigned(&s);
    memcpy(&before, &s, sizeof s);
    assert_int_equal(apply_bytes(&s, bytes, len), HA_EVERSION);
    assert_memory_equal(&s, &before, sizeof s);
    assert_int_equal(apply_bytes(&s, bytes, 0), HA_ECORRUPT);
    assert_memory_equal(&s, &before, sizeof s);
}

/* Decodes; what is accepted must encode to the very same bytes, what is not must change nothing. */
static void
assert_canonical(struct state *s, const uint8_t *bytes, size_t len)
{
    struct command c;
    struct state before;
    uint8_t again[COMMAND_BYTES_MAX];
    const int rc = command_decode(&c, bytes, len);

    memcpy(&before, s, sizeof before);
    if (rc == HA_OK) {
        assert_int_equal(command_encode(&c, again, sizeof again), len);
        assert_memory_equal(again, bytes, len);
        (void)apply_bytes(s, bytes, len);
        memcpy(s, &before, sizeof before);
    } else {
        assert_int_equal(apply_bytes(s, bytes, len), rc);
        assert_memory_equal(s, &before, sizeof before);
    }
}

static void
every_flipped_bit_gives_damage_or_another_whole_command(void **unused)
{
    struct state s;

    (void)unused;
    cluster_reigned(&s);
    for (int type = 1; type < COMMAND_TYPE_COUNT; type++) {
        const struct command c = sample((enum command_type)type);
        uint8_t bytes[COMMAND_BYTES_MAX];
        const size_t len = command_encode(&c, bytes, sizeof bytes);

        for (size_t bit = 0; bit < 8 * len; bit++) {
            bytes[bit / 8] ^= (uint8_t)(1U << (bit % 8));
            assert_canonical(&s, bytes, len);
            bytes[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        }
    }
}

static uint32_t
next_random(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

static void
random_bytes_never_change_a_state(void **unused)
{
    struct state s;
    uint8_t bytes[COMMAND_BYTES_MAX];
    uint32_t seed = 2463534242U;

    (void)unused;
    cluster_reigned(&s);
    for (int round = 0; round < 20000; round++) {
        const size_t len = next_random(&seed) % 200;

        for (size_t i = 0; i < len; i++) {
            bytes[i] = (uint8_t)next_random(&seed);
        }
        if (len > 1 && round % 2 == 0) { /* half of them get past the first gate */
            bytes[0] = 1;
            bytes[1] %= COMMAND_TYPE_COUNT;
        }
        assert_canonical(&s, bytes, len);
    }
}

/* Plausible commands in random order: the members' states agree and the invariants hold. */
static struct command
random_command(const struct state *s, uint32_t *seed)
{
    static const char *const IPS[] = {IP_A, IP_B, IP_C, IP_W, "10.0.0.4", "10.0.0.5"};
    const char *const ip = IPS[next_random(seed) % HA_COUNT_OF(IPS)];
    const uint64_t who = s->members[next_random(seed) % HA_MEMBER_SLOTS].id;
    const uint64_t reign = s->reign + next_random(seed) % 2;
    const uint64_t generation = s->members_generation;
    struct declaration d = wish(ip);

    switch (next_random(seed) % 14) {
    case 0:
        return found(d);
    case 1:
        return member_register(ip, 1 + next_random(seed) % 3);
    case 2:
        d.number = next_random(seed) % 4;
        d.n_members = (uint8_t)(1 + next_random(seed) % 3);
        memset(&d.members[d.n_members], 0, (HA_MEMBERS_MAX - d.n_members) * sizeof d.members[0]);
        return declare(IPS[next_random(seed) % 4], d);
    case 3:
        return declare_by_job(ip, next_random(seed) % 4);
    case 4:
        return members_change(COMMAND_MEMBER_ADD, generation, ip);
    case 5:
        return members_change(COMMAND_MEMBER_REMOVE, generation, ip);
    case 6:
        return member_replace(generation, ip, 1 + next_random(seed) % 3);
    case 7:
        return settle(generation, next_random(seed) % 2 == 0 ? 0 : s->holder);
    case 8:
        return handover(reign, who);
    case 9:
        return vacate(reign, next_random(seed) % 2 == 0 ? who : s->holder);
    case 10:
        return opened(reign, next_random(seed) % 2 == 0 ? who : s->holder, 1);
    case 11:
        return command_of(next_random(seed) % 4 == 0 ? COMMAND_PAUSE : COMMAND_RESUME);
    default:
        return appoint(reign, who);
    }
}

static void
assert_invariants(const struct state *before, const struct state *s)
{
    size_t n_current = 0;
    size_t n_settled = 0;

    assert_true(s->reign == before->reign || s->reign == before->reign + 1);
    assert_true(s->reign != before->reign || s->holder == before->holder || s->reign == 0);
    assert_true(s->reign != before->reign || s->is_vacant || !before->is_vacant);
    assert_true(s->generation >= before->generation);
    assert_true(s->declaration.number >= before->declaration.number);
    assert_true(s->settled_generation <= s->members_generation);
    assert_true(s->members_generation <= s->settled_generation + 1);
    assert_null(declaration_fault(&s->declaration));
    assert_true(s->handover == 0 || member_is_current(state_member(s, s->handover)));
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        const struct member *m = &s->members[i];

        n_current += member_is_current(m);
        n_settled += member_was_settled(s, m);
        for (size_t k = 0; m->id != 0 && k < i; k++) {
            assert_true(s->members[k].id != m->id);
        }
        assert_true(m->id != 0 || (m->joined == 0 && m->address[0] == 0));
        if (member_is_current(m)) {
            assert_ptr_equal(state_member_at(s, m->address), m);
        }
    }
    assert_in_range(n_current, 1, HA_MEMBERS_MAX);
    assert_in_range(n_settled, 1, HA_MEMBERS_MAX);
}

static void
any_order_of_commands_keeps_the_invariants(void **unused)
{
    struct state s;
    uint32_t seed = 42;
    uint64_t n_applied = 0;

    (void)unused;
    cluster_founded(&s);
    for (int round = 0; round < 20000; round++) {
        struct command c = random_command(&s, &seed);
        struct state before;

        c.origin = s.members[next_random(&seed) % HA_MEMBER_SLOTS].id;
        c.counter = next_random(&seed) % 3 == 0 ? 0 : (uint64_t)(round / 2);
        memcpy(&before, &s, sizeof before);
        n_applied += say(&s, c) == HA_OK;
        assert_invariants(&before, &s);
    }
    assert_true(n_applied > 2000);
    assert_true(s.reign > HA_HISTORY_MAX);
    assert_true(s.members_generation > 50);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_command_survives_its_bytes_and_fits),
        cmocka_unit_test(what_has_no_type_or_too_many_members_has_no_bytes),
        cmocka_unit_test(every_truncation_and_every_excess_is_corrupt),
        cmocka_unit_test(another_format_is_told_apart_from_damage),
        cmocka_unit_test(every_flipped_bit_gives_damage_or_another_whole_command),
        cmocka_unit_test(random_bytes_never_change_a_state),
        cmocka_unit_test(any_order_of_commands_keeps_the_invariants),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
