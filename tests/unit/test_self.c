/*
 * Goal:   an agent finds out which listed address leads back to it; others wait and are told so.
 * Method: real sockets on loopback addresses: 127.0.0.2 is the own one, 127.0.0.3 another's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/net/listen.h"
#include "agent/shell/self.h"

static const char *const ADDRESSES[] = {"127.0.0.3", "127.0.0.2", "127.0.0.4"};

/* A free port: what the system gave to a socket that is closed again. */
static uint16_t
free_port(void)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof at;
    struct err err = {0};
    uint16_t port;
    int fd;

    assert_int_equal(listen_tcp("127.0.0.2", 0, &fd, &err), HA_OK);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    memcpy(&port, (char *)&at + 2, sizeof port);
    (void)close(fd);
    return (uint16_t)(port << 8 | port >> 8);
}

static void
what_leads_back_is_the_own_address(void **state)
{
    struct self_question q = {
        .listen = "127.0.0.2", .port = free_port(), .addresses = ADDRESSES, .n = 3, .why = ""};
    struct err err = {0};
    size_t index = 9;

    (void)state;
    assert_int_equal(self_ask(&q, &index, &err), HA_OK);
    assert_int_equal(index, 1);
}

static void
who_is_not_listed_is_told_so(void **state)
{
    struct self_question q = {
        .listen = "127.0.0.9", .port = free_port(), .addresses = ADDRESSES, .n = 3, .why = ""};
    struct err err = {0};
    size_t index = 9;

    (void)state;
    assert_int_equal(self_ask(&q, &index, &err), HA_ENOTFOUND);
    assert_int_equal(index, 9);
}

/* Another agent sits at the listed address: it takes the word, and nothing comes back. */
static void
anothers_port_is_not_taken_for_the_own(void **state)
{
    struct self_question q = {
        .listen = "127.0.0.9", .port = free_port(), .addresses = ADDRESSES, .n = 3, .why = ""};
    struct err err = {0};
    size_t index = 9;
    int fd;

    (void)state;
    assert_int_equal(listen_tcp("127.0.0.3", q.port, &fd, &err), HA_OK);
    assert_int_equal(self_ask(&q, &index, &err), HA_ENOTFOUND);
    (void)close(fd);
}

static void
a_port_in_use_is_an_error(void **state)
{
    struct self_question q = {
        .listen = "127.0.0.2", .port = free_port(), .addresses = ADDRESSES, .n = 3, .why = ""};
    struct err err = {0};
    size_t index;
    int fd;

    (void)state;
    assert_int_equal(listen_tcp("127.0.0.2", q.port, &fd, &err), HA_OK);
    assert_int_equal(self_ask(&q, &index, &err), HA_EBUSY);
    assert_int_equal(self_health("127.0.0.2", q.port, &err), HA_EUNREACHABLE); /* mute */
    (void)close(fd);
    assert_int_equal(self_health("127.0.0.2", q.port, &err), HA_EUNREACHABLE);
    assert_non_null(strstr(err.text, "127.0.0.2 port"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_leads_back_is_the_own_address),
        cmocka_unit_test(who_is_not_listed_is_told_so),
        cmocka_unit_test(anothers_port_is_not_taken_for_the_own),
        cmocka_unit_test(a_port_in_use_is_an_error),
    };

    return cmocka_run_group_tests_name("self", tests, NULL, NULL);
}
