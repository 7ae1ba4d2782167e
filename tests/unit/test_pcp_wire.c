/*
 * Goal:   a PCP session authenticates, reads both shapes of a node, reports refusals, and
 *         survives any bytes.
 * Method: scripted answers, fed whole and byte by byte; the password's answer is compared with
 *         one that was computed elsewhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/gateway/pcp_wire.h"

static struct pcp_session session;
static uint8_t script[8192];
static size_t script_len;

/* A message whose texts are divided by '|', each with a NUL behind it. */
static void
say(char type, const char *texts)
{
    const size_t len = strlen(texts) + (texts[0] != 0);
    uint8_t *at = script + script_len;

    at[0] = (uint8_t)type;
    at[1] = at[2] = 0;
    at[3] = (uint8_t)((len + 4) >> 8);
    at[4] = (uint8_t)(len + 4);
    memcpy(at + 5, texts, len);
    for (size_t i = 0; i < len; i++) {
        at[5 + i] = at[5 + i] == '|' ? 0 : at[5 + i];
    }
    script_len += 5 + len;
}

static void
begin(uint8_t verb, int32_t node)
{
    const struct pcp_op op = {.verb = verb, .node = node};

    pcp_session_init(&session, "pcp", "it's a \"$ecret\" p\xc3\xa4ss", &op, 1);
    script_len = 0;
    say('m', "1234");
    script[4] = 8; /* the salt has no NUL behind it */
    script_len = 9;
    say('r', "AuthenticationOK");
}

static int
feed(size_t piece)
{
    int rc = HA_OK;

    for (size_t at = 0; at < script_len && rc == HA_OK; at += piece) {
        session.out_len = 0;
        rc = pcp_session_feed(
            &session, script + at, script_len - at < piece ? script_len - at : piece);
    }
    return rc;
}

static void
the_answer_to_the_salt_is_pgpools(void **state)
{
    (void)state;
    begin(PCP_NODE_COUNT, 0);
    assert_int_equal(session.out[0], 'M');
    session.out_len = 0;
    assert_int_equal(pcp_session_feed(&session, script, 9), HA_OK);
    assert_int_equal(session.out[0], 'R');
    assert_memory_equal(session.out + 5, "pcp\0", 4);
    /* md5hex(md5hex(md5hex(password) + "pcp") + "1234") */
    assert_string_equal((const char *)session.out + 9, "beb89fa90cc8ee1ee409801537186909");
}

static void
both_shapes_of_a_node_are_read(void **state)
{
    static const char *const shapes[] = {
        "NodeInfo|10.0.0.2|5432|2|0|up|0.5|3|standby|4711|streaming|async|1",
        "NodeInfo|10.0.0.2|5432|2|0|up|0.5|3|standby|0|4711|streaming|async|1"};

    (void)state;
    for (size_t i = 0; i < HA_COUNT_OF(shapes); i++) {
        for (size_t piece = 1; piece < 40; piece += 13) {
            begin(PCP_NODE_INFO, 0);
            say('i', "ArraySize|1");
            say('N', "SNOTICE|Mnothing of importance|");
            say('i', shapes[i]);
            say('i', "CommandComplete");
            assert_int_equal(feed(piece), HA_OK);
            assert_int_equal(session.step, PCP_STEP_DONE);
            assert_true(session.has_nodes);
            assert_int_equal(session.n_nodes, 1);
            assert_string_equal(session.nodes[0].host, "10.0.0.2");
            assert_int_equal(session.nodes[0].port, 5432);
            assert_int_equal(session.nodes[0].status, PCP_STATUS_UP);
            assert_int_equal(session.nodes[0].role, PCP_ROLE_STANDBY);
            assert_int_equal(session.nodes[0].delay, 4711);
            assert_int_equal(pcp_session_close(&session), HA_OK);
        }
    }
}

static void
a_wrong_password_is_told_from_a_refused_operation(void **state)
{
    (void)state;
    begin(PCP_DETACH, 1);
    script_len = 9;
    say('E', "SFATAL|C08000|Mauthentication failed|");
    assert_int_equal(feed(5), HA_EAUTH);
    begin(PCP_DETACH, 1);
    say('E', "SERROR|C08000|Minvalid degenerate backend request|");
    assert_int_equal(feed(5), HA_OK);
    assert_int_equal(session.step, PCP_STEP_DONE);
    assert_int_equal(pcp_session_close(&session), HA_EREFUSED);
    assert_non_null(strstr(session.err.text, "invalid degenerate"));
}

static void
a_session_that_is_cut_off_is_no_success(void **state)
{
    (void)state;
    begin(PCP_NODE_INFO, 0);
    say('i', "ArraySize|2");
    say('i', "NodeInfo|10.0.0.2|5432|2|0|up|0.5|3|standby|0|streaming|async|1");
    assert_int_equal(feed(7), HA_OK);
    assert_false(session.has_nodes);
    assert_int_equal(pcp_session_close(&session), HA_EUNREACHABLE);
}

static void
what_does_not_speak_pcp_is_refused(void **state)
{
    static const uint8_t http[] = "HTTP/1.1 400 Bad Request\r\n\r\n";

    (void)state;
    begin(PCP_NODE_INFO, 0);
    assert_int_equal(pcp_session_feed(&session, http, sizeof http - 1), HA_ECORRUPT);
    begin(PCP_NODE_INFO, 0);
    say('i', "NodeInfo|10.0.0.2|99999|2|0|up|0.5|3|standby|0|streaming|async|1");
    assert_int_equal(feed(9), HA_ECORRUPT);
    begin(PCP_NODE_INFO, 0);
    say('i', "NodeInfo|10.0.0.2|5432|2");
    assert_int_equal(feed(9), HA_ECORRUPT);
    begin(PCP_NODE_INFO, 0);
    for (size_t i = 0; i < PCP_NODES_MAX; i++) {
        say('i', "NodeInfo|10.0.0.2|5432|2|0|up|0.5|3|standby|0|streaming|async|1");
    }
    assert_int_equal(feed(64), HA_OK);
    script_len = 0;
    say('i', "NodeInfo|10.0.0.2|5432|2|0|up|0.5|3|standby|0|streaming|async|1");
    assert_int_equal(feed(64), HA_ETOOBIG);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_answer_to_the_salt_is_pgpools),
        cmocka_unit_test(both_shapes_of_a_node_are_read),
        cmocka_unit_test(a_wrong_password_is_told_from_a_refused_operation),
        cmocka_unit_test(a_session_that_is_cut_off_is_no_success),
        cmocka_unit_test(what_does_not_speak_pcp_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
