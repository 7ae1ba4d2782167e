/*
 * Goal:   an agent finds out which listed address leads back to it; others wait and are told so.
 * Method: real sockets on loopback addresses: 127.0.0.2 is the own one, 127.0.0.3 another's.
 */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
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

/* About the HTTP port itself. */
static struct self_question
question(const char *listen)
{
    const uint16_t port = free_port();

    return (struct self_question){.listen = listen,
                                  .port = port,
                                  .port_http = port,
                                  .addresses = ADDRESSES,
                                  .n = 3,
                                  .why = "it waits for better days"};
}

static void
what_leads_back_is_the_own_address(void **state)
{
    const struct self_question q = question("127.0.0.2");
    struct err err = {0};
    size_t index = 9;

    (void)state;
    assert_int_equal(self_ask(&q, &index, &err), HA_OK);
    assert_int_equal(index, 1);
}

static void
who_is_not_listed_is_told_so(void **state)
{
    const struct self_question q = question("127.0.0.9");
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
    const struct self_question q = question("127.0.0.9");
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
    const struct self_question q = question("127.0.0.2");
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

/* What a child of ours hears at the port, asked again and again for so long. */
static bool
is_alive_all_the_time(const char *host, uint16_t port, unsigned times)
{
    struct err err = {0};

    for (unsigned i = 0; i < times; i++) {
        struct pollfd nothing = {.fd = -1};

        (void)poll(&nothing, 1, 100);
        if (self_health(host, port, &err) != HA_OK) {
            return false;
        }
    }
    return true;
}

/* The container's health check and hactl ask at the HTTP port, whatever is looked for. */
static void
while_another_port_is_asked_about_it_is_alive(void **state)
{
    struct self_question q = question("127.0.0.9");
    struct err err = {0};
    size_t index = 9;
    int status = 0;
    pid_t child;

    (void)state;
    q.port_http = free_port();
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        _exit(is_alive_all_the_time("127.0.0.9", q.port_http, 8) ? 0 : 1);
    }
    assert_int_equal(self_ask(&q, &index, &err), HA_ENOTFOUND);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_leads_back_is_the_own_address),
        cmocka_unit_test(who_is_not_listed_is_told_so),
        cmocka_unit_test(anothers_port_is_not_taken_for_the_own),
        cmocka_unit_test(a_port_in_use_is_an_error),
        cmocka_unit_test(while_another_port_is_asked_about_it_is_alive),
    };

    return cmocka_run_group_tests_name("self", tests, NULL, NULL);
}
