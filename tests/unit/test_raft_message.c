/*
 * Goal:   a message survives the way; no bytes crash the decoder or get past its rules.
 * Method: round trips of every type; every truncation and every single flipped bit of each (the
 *         decoder's word is then checked against the rules that libraft relies on; ASan watches);
 *         hand-made breaches of single rules.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "raft/configuration.h"
#include "raft/message.h"
#include "store/log.h"

#define FROM 11
#define TO 22

static uint64_t payload[8] = {1, 2, 3, 4, 5, 6, 7, 8};

static void
make_configuration(struct raft_configuration *conf)
{
    raft_configuration_init(conf);
    assert_int_equal(raft_configuration_add(conf, 11, "10.0.0.1", RAFT_VOTER), 0);
    assert_int_equal(raft_configuration_add(conf, 22, "fd00::2", RAFT_VOTER), 0);
    assert_int_equal(raft_configuration_add(conf, 33, "10.0.0.3", RAFT_SPARE), 0);
}

/* An AppendEntries of three entries: command, configuration, barrier. */
static void
make_append_entries(struct raft_message *m, struct raft_entry entries[3], struct raft_buffer *conf)
{
    struct raft_configuration c;

    make_configuration(&c);
    assert_int_equal(raft_configuration_encode(&c, conf), 0);
    raft_configuration_close(&c);
    memset(entries, 0, 3 * sizeof entries[0]);
    entries[0] = (struct raft_entry){.term = 3, .type = RAFT_COMMAND, .buf = {payload, 64}};
    entries[1] = (struct raft_entry){.term = 4, .type = RAFT_CHANGE, .buf = *conf};
    entries[2] = (struct raft_entry){.term = 4, .type = RAFT_BARRIER, .buf = {payload, 8}};
    *m = (struct raft_message){.type = RAFT_IO_APPEND_ENTRIES};
    m->append_entries = (struct raft_append_entries){.term = 4,
                                                     .prev_log_index = 7,
                                                     .prev_log_term = 3,
                                                     .leader_commit = 8,
                                                     .entries = entries,
                                                     .n_entries = 3};
}

static size_t
encode(const struct raft_message *m, uint8_t **out)
{
    unsigned n = 0;
    static uint8_t bytes[MESSAGE_BYTES_MAX];
    const size_t len = message_encode(m, FROM, TO, bytes, sizeof bytes, &n);

    assert_true(len > 0);
    /* An allocation of its own: ASan then knows where it ends. */
    *out = malloc(len);
    assert_non_null(*out);
    memcpy(*out, bytes, len);
    return len;
}

/* One message of each type, encoded. */
static size_t
make_bytes(unsigned short type, uint8_t **out)
{
    struct raft_message m = {.type = type};
    struct raft_entry entries[3];
    struct raft_buffer conf = {0};
    size_t len;

    switch (type) {
    case RAFT_IO_APPEND_ENTRIES:
        make_append_entries(&m, entries, &conf);
        break;
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        m.append_entries_result.term = 5;
        m.append_entries_result.rejected = 6;
        m.append_entries_result.last_log_index = 7;
        break;
    case RAFT_IO_REQUEST_VOTE:
        m.request_vote = (struct raft_request_vote){.term = 5,
                                                    .candidate_id = FROM,
                                                    .last_log_index = 9,
                                                    .last_log_term = 4,
                                                    .pre_vote = true};
        break;
    case RAFT_IO_REQUEST_VOTE_RESULT:
        m.request_vote_result.term = 5;
        m.request_vote_result.vote_granted = true;
        compat_set_pre_vote(&m.request_vote_result, PRE_VOTE_NO);
        break;
    case RAFT_IO_INSTALL_SNAPSHOT:
        m.install_snapshot = (struct raft_install_snapshot){
            .term = 5, .last_index = 9, .last_term = 4, .conf_index = 2, .data = {payload, 40}};
        make_configuration(&m.install_snapshot.conf);
        break;
    default:
        m.timeout_now = (struct raft_timeout_now){.term = 5, .last_log_index = 9};
        break;
    }
    len = encode(&m, out);
    if (type == RAFT_IO_INSTALL_SNAPSHOT) {
        raft_configuration_close(&m.install_snapshot.conf);
    }
    raft_free(conf.base);
    return len;
}

static void
small_messages_survive(void **unused)
{
    struct raft_message m;
    uint64_t to = 0;
    uint8_t *bytes;

    (void)unused;
    size_t len = make_bytes(RAFT_IO_APPEND_ENTRIES_RESULT, &bytes);
    assert_int_equal(message_decode(&m, &to, bytes, len), HA_OK);
    assert_int_equal(m.server_id, FROM);
    assert_int_equal(to, TO);
    assert_int_equal(m.append_entries_result.term, 5);
    assert_int_equal(m.append_entries_result.rejected, 6);
    assert_int_equal(m.append_entries_result.last_log_index, 7);
    free(bytes);
    len = make_bytes(RAFT_IO_REQUEST_VOTE, &bytes);
    assert_int_equal(message_decode(&m, &to, bytes, len), HA_OK);
    assert_int_equal(m.request_vote.candidate_id, FROM);
    assert_int_equal(m.request_vote.last_log_index, 9);
    assert_true(m.request_vote.pre_vote);
    assert_false(m.request_vote.disrupt_leader);
    free(bytes);
    len = make_bytes(RAFT_IO_REQUEST_VOTE_RESULT, &bytes);
    assert_int_equal(message_decode(&m, &to, bytes, len), HA_OK);
    assert_true(m.request_vote_result.vote_granted);
    assert_int_equal(compat_pre_vote(&m.request_vote_result), PRE_VOTE_NO);
    free(bytes);
    len = make_bytes(RAFT_IO_TIMEOUT_NOW, &bytes);
    assert_int_equal(message_decode(&m, &to, bytes, len), HA_OK);
    assert_int_equal(m.timeout_now.last_log_index, 9);
    free(bytes);
}

static void
entries_survive_in_one_batch(void **unused)
{
    struct raft_message m;
    struct raft_configuration conf;
    uint64_t to = 0;
    uint8_t *bytes;
    const size_t len = make_bytes(RAFT_IO_APPEND_ENTRIES, &bytes);

    (void)unused;
    assert_int_equal(message_decode(&m, &to, bytes, len), HA_OK);
    const struct raft_append_entries *args = &m.append_entries;
    assert_int_equal(args->n_entries, 3);
    assert_int_equal(args->prev_log_index, 7);
    assert_int_equal(args->prev_log_term, 3);
    assert_int_equal(args->leader_commit, 8);
    assert_int_equal(args->entries[0].buf.len, 64);
    assert_memory_equal(args->entries[0].buf.base, payload, 64);
    assert_int_equal(args->entries[2].type, RAFT_BARRIER);
    for (int i = 0; i < 3; i++) {
        assert_ptr_equal(args->entries[i].batch, args->entries[0].buf.base);
    }
    assert_int_equal(
        configuration_decode(&conf, args->entries[1].buf.base, args->entries[1].buf.len), HA_OK);
    assert_int_equal(conf.n, 3);
    assert_string_equal(conf.servers[1].address, "fd00::2");
    assert_int_equal(conf.servers[2].role, RAFT_SPARE);
    raft_configuration_close(&conf);
    message_free(&m);
    free(bytes);
}

static void
snapshot_survives(void **unused)
{
    struct raft_message m;
    uint64_t to = 0;
    uint8_t *bytes;
    const size_t len = make_bytes(RAFT_IO_INSTALL_SNAPSHOT, &bytes);

    (void)unused;
    assert_int_equal(message_decode(&m, &to, bytes, len), HA_OK);
    assert_int_equal(m.install_snapshot.last_index, 9);
    assert_int_equal(m.install_snapshot.conf.n, 3);
    assert_int_equal(m.install_snapshot.data.len, 40);
    assert_memory_equal(m.install_snapshot.data.base, payload, 40);
    message_free(&m);
    free(bytes);
}

/* What libraft takes on trust. */
static void
check_rules(const struct raft_message *m)
{
    const struct raft_append_entries *args = &m->append_entries;
    uint64_t term;

    assert_int_not_equal(m->server_id, 0);
    if (m->type == RAFT_IO_INSTALL_SNAPSHOT) {
        assert_true(m->install_snapshot.conf.n > 0);
        assert_true(m->install_snapshot.data.len > 0);
        return;
    }
    if (m->type != RAFT_IO_APPEND_ENTRIES) {
        return;
    }
    term = args->prev_log_term;
    for (unsigned i = 0; i < args->n_entries; i++) {
        const struct raft_entry *e = &args->entries[i];
        assert_true(e->type >= RAFT_COMMAND && e->type <= RAFT_CHANGE);
        assert_int_equal(e->buf.len % 8, 0);
        assert_true(e->buf.len > 0 && e->buf.len <= LOG_ENTRY_BYTES_MAX);
        assert_true(e->term >= term && e->term <= args->term);
        assert_non_null(e->batch);
        term = e->term;
    }
}

static void
damaged_bytes_are_refused_or_harmless(void **unused)
{
    (void)unused;
    for (unsigned short type = RAFT_IO_APPEND_ENTRIES; type <= RAFT_IO_TIMEOUT_NOW; type++) {
        uint8_t *bytes;
        const size_t len = make_bytes(type, &bytes);

        for (size_t cut = 0; cut < len; cut++) {
            struct raft_message m;
            uint64_t to;
            uint8_t *part = malloc(cut + 1);
            assert_non_null(part);
            memcpy(part, bytes, cut);
            part = realloc(part, cut == 0 ? 1 : cut);
            assert_int_not_equal(message_decode(&m, &to, part, cut), HA_OK);
            free(part);
        }
        for (size_t bit = 0; bit < len * 8; bit++) {
            struct raft_message m;
            uint64_t to;
            bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            if (message_decode(&m, &to, bytes, len) == HA_OK) {
                check_rules(&m);
                message_free(&m);
            }
            bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        }
        free(bytes);
    }
}

static void
random_bytes_are_refused_or_harmless(void **unused)
{
    uint64_t chance = 1;

    (void)unused;
    for (int i = 0; i < 200000; i++) {
        struct raft_message m;
        uint64_t to;
        uint8_t bytes[160] = {1};
        for (size_t j = 24; j < sizeof bytes; j++) {
            chance = chance * 6364136223846793005u + 1442695040888963407u;
            bytes[j] = (chance >> 60) == 0 ? (uint8_t)(chance >> 40) : 0;
        }
        bytes[1] = (uint8_t)(1 + i % 6);
        bytes[8] = 1;
        bytes[16] = 1;
        bytes[24] = 9;
        if (message_decode(&m, &to, bytes, 24 + (size_t)i % (sizeof bytes - 24)) == HA_OK) {
            check_rules(&m);
            message_free(&m);
        }
    }
}

static void
entry_that_libraft_would_corrupt_is_refused(void **unused)
{
    struct raft_message m;
    struct raft_entry entries[3];
    struct raft_buffer conf;
    struct raft_message got;
    uint8_t *bytes;
    uint64_t to;

    (void)unused;
    make_append_entries(&m, entries, &conf);
    entries[0].buf.len = 60; /* not a multiple of 8 */
    size_t len = encode(&m, &bytes);
    assert_int_equal(message_decode(&got, &to, bytes, len), HA_ECORRUPT);
    free(bytes);
    entries[0].buf.len = 64;
    entries[0].term = 5; /* newer than the message */
    len = encode(&m, &bytes);
    assert_int_equal(message_decode(&got, &to, bytes, len), HA_ECORRUPT);
    free(bytes);
    entries[0].term = 4;
    entries[1].term = 3; /* goes back */
    len = encode(&m, &bytes);
    assert_int_equal(message_decode(&got, &to, bytes, len), HA_ECORRUPT);
    free(bytes);
    entries[1].term = 4;
    ((uint8_t *)conf.base)[1] = 200; /* servers that are not there */
    len = encode(&m, &bytes);
    assert_int_equal(message_decode(&got, &to, bytes, len), HA_ECORRUPT);
    free(bytes);
    raft_free(conf.base);
}

static void
newer_format_is_named_as_such(void **unused)
{
    struct raft_message m;
    uint64_t to;
    uint8_t *bytes;
    const size_t len = make_bytes(RAFT_IO_TIMEOUT_NOW, &bytes);

    (void)unused;
    bytes[0]++;
    assert_int_equal(message_decode(&m, &to, bytes, len), HA_EVERSION);
    free(bytes);
}

/* More than a message holds: the first ones go, and the commit index does not run ahead. */
static void
long_log_goes_in_parts(void **unused)
{
    enum { N = 5, LEN = LOG_ENTRY_BYTES_MAX };
    static uint8_t data[LEN];
    struct raft_entry entries[N] = {{0}};
    struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES};
    struct raft_message got;
    static uint8_t bytes[MESSAGE_BYTES_MAX];
    unsigned n = 0;
    uint64_t to;

    (void)unused;
    for (int i = 0; i < N; i++) {
        entries[i] = (struct raft_entry){.term = 2, .type = RAFT_COMMAND, .buf = {data, LEN}};
    }
    m.append_entries = (struct raft_append_entries){.term = 2,
                                                    .prev_log_index = 10,
                                                    .prev_log_term = 1,
                                                    .leader_commit = 15,
                                                    .entries = entries,
                                                    .n_entries = N};
    const size_t len = message_encode(&m, FROM, TO, bytes, sizeof bytes, &n);
    assert_int_equal(message_decode(&got, &to, bytes, len), HA_OK);
    assert_in_range(n, 1, N - 1);
    assert_int_equal(got.append_entries.n_entries, n);
    assert_int_equal(got.append_entries.leader_commit, 10 + n);
    message_free(&got);
}

static void
history_knows_what_held_when(void **unused)
{
    static struct configuration_history h;

    (void)unused;
    assert_null(configuration_history_at(&h, 100));
    for (uint64_t i = 1; i <= 20; i++) {
        configuration_history_add(&h, i * 10, &i, sizeof i);
    }
    assert_int_equal(h.n, CONFIGURATION_HISTORY_MAX);
    assert_int_equal(configuration_history_at(&h, 199)->index, 190);
    assert_int_equal(configuration_history_at(&h, 200)->index, 200);
    assert_false(configuration_history_truncate(&h, 201));
    assert_true(configuration_history_truncate(&h, 185));
    assert_int_equal(configuration_history_at(&h, UINT64_MAX)->index, 180);
    /* One at the same place replaces it. */
    configuration_history_add(&h, 175, "x", 1);
    assert_int_equal(configuration_history_at(&h, UINT64_MAX)->index, 175);
    assert_int_equal(configuration_history_at(&h, UINT64_MAX)->len, 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_messages_survive),
        cmocka_unit_test(entries_survive_in_one_batch),
        cmocka_unit_test(snapshot_survives),
        cmocka_unit_test(damaged_bytes_are_refused_or_harmless),
        cmocka_unit_test(random_bytes_are_refused_or_harmless),
        cmocka_unit_test(entry_that_libraft_would_corrupt_is_refused),
        cmocka_unit_test(newer_format_is_named_as_such),
        cmocka_unit_test(long_log_goes_in_parts),
        cmocka_unit_test(history_knows_what_held_when),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
