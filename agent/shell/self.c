#include "agent/shell/self.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/core/core.h"
#include "agent/net/listen.h"
#include "agent/shell/clock.h"

#define ASK_MS 2000
#define GUESTS_MAX 8
#define DOORS 2
#define WORD_BYTES 16
#define WORD_CHARS (2 * WORD_BYTES)
#define HEALTH_MS 3000

/* One way out: to an address, with a word of its own. */
struct way {
    int fd;
    bool is_said;
    char word[WORD_CHARS + 1];
};

/* Who came to one of the ports; -1 = free. */
struct guest {
    int fd;
    size_t door;
};

struct asking {
    const struct self_question *q;
    int doors[DOORS]; /* listens at the port that is asked about; at port_http, or -1: the same */
    struct way ways[HA_MEMBERS_MAX];
    struct guest guests[GUESTS_MAX];
};

static int64_t
now_ms(void)
{
    return clock_mono().ms;
}

static void
make_word(char out[WORD_CHARS + 1])
{
    uint8_t random[WORD_BYTES];

    REQUIRE(getrandom(random, sizeof random, 0) == (ssize_t)sizeof random,
            "the kernel has random numbers");
    for (size_t i = 0; i < sizeof random; i++) {
        (void)snprintf(out + 2 * i, 3, "%02x", random[i]);
    }
}

/* A connection under way, or -1. */
static int
begin_connect(const char *host, uint16_t port)
{
    struct sockaddr_storage at;
    union {
        struct sockaddr_storage *storage;
        struct sockaddr *any;
    } to = {.storage = &at};
    int fd;

    if (!listen_parse(host, port, &at)) {
        return -1;
    }
    fd = socket(at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    if (connect(fd,
                to.any,
                at.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                         : sizeof(struct sockaddr_in)) != 0 &&
        errno != EINPROGRESS) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static void
close_way(struct way *way)
{
    if (way->fd >= 0) {
        (void)close(way->fd);
        way->fd = -1;
    }
}

static void
say_word(struct way *way)
{
    char text[128];
    const int len =
        snprintf(text, sizeof text, "GET /hawser/who?word=%s HTTP/1.0\r\n\r\n", way->word);

    if (send(way->fd, text, (size_t)len, MSG_NOSIGNAL) != len) {
        close_way(way); /* refused, or not listening */
        return;
    }
    way->is_said = true;
}

static void
greet(struct asking *a, size_t door)
{
    const int fd = accept4(a->doors[door], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    for (size_t i = 0; fd >= 0 && i < GUESTS_MAX; i++) {
        if (a->guests[i].fd < 0) {
            a->guests[i] = (struct guest){.fd = fd, .door = door};
            return;
        }
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

/* What is told to those who want the agent itself. */
static void
answer_guest(const struct asking *a, int fd, const char *request)
{
    char text[HA_ERR_TEXT_MAX + 256];

    (void)snprintf(text,
                   sizeof text,
                   strstr(request, " /liveness") != NULL
                       ? "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"
                       : "HTTP/1.0 503 Service Unavailable\r\n"
                         "Content-Type: application/json\r\n\r\n"
                         "{\"code\":%d,\"text\":\"%s\"}\n",
                   HA_ENOTFOUND,
                   a->q->why);
    (void)send(fd, text, strlen(text), MSG_NOSIGNAL);
}

/* The index of the way whose word was heard at the port that it was said to, or -1. */
static int
hear(struct asking *a, struct guest *guest)
{
    char text[512];
    const ssize_t n = recv(guest->fd, text, sizeof text - 1, 0);
    int found = -1;

    if (n < 0 && errno == EAGAIN) {
        return -1;
    }
    text[n < 0 ? 0 : n] = 0;
    for (size_t i = 0; guest->door == 0 && i < a->q->n; i++) {
        if (strstr(text, a->ways[i].word) != NULL) {
            found = (int)i;
        }
    }
    if (n > 0) {
        answer_guest(a, guest->fd, text);
    }
    (void)close(guest->fd);
    guest->fd = -1;
    return found;
}

/* Waits for something to happen and deals with it. The way whose word was heard, or -1. */
static int
turn(struct asking *a, int wait_ms)
{
    struct pollfd p[DOORS + HA_MEMBERS_MAX + GUESTS_MAX];
    struct pollfd *ways = p + DOORS;
    struct pollfd *guests = ways + HA_MEMBERS_MAX;
    int found = -1;

    for (size_t i = 0; i < DOORS; i++) {
        p[i] = (struct pollfd){.fd = a->doors[i], .events = POLLIN};
    }
    for (size_t i = 0; i < HA_MEMBERS_MAX; i++) {
        const struct way *way = &a->ways[i];

        ways[i] =
            (struct pollfd){.fd = i < a->q->n && !way->is_said ? way->fd : -1, .events = POLLOUT};
    }
    for (size_t i = 0; i < GUESTS_MAX; i++) {
        guests[i] = (struct pollfd){.fd = a->guests[i].fd, .events = POLLIN};
    }
    if (poll(p, HA_COUNT_OF(p), wait_ms) <= 0) {
        return -1;
    }
    for (size_t i = 0; i < a->q->n; i++) {
        if (ways[i].revents != 0) {
            say_word(&a->ways[i]);
        }
    }
    for (size_t i = 0; i < GUESTS_MAX && found < 0; i++) {
        if (guests[i].revents != 0) {
            found = hear(a, &a->guests[i]);
        }
    }
    for (size_t i = 0; i < DOORS; i++) {
        if (p[i].revents != 0) {
            greet(a, i);
        }
    }
    return found;
}

static void
close_doors(const struct asking *a)
{
    for (size_t i = 0; i < DOORS; i++) {
        if (a->doors[i] >= 0) {
            (void)close(a->doors[i]);
        }
    }
}

static int
open_doors(struct asking *a, struct err *err)
{
    const uint16_t ports[DOORS] = {a->q->port, a->q->port_http};
    int rc = HA_OK;

    for (size_t i = 0; i < DOORS; i++) {
        a->doors[i] = -1;
    }
    for (size_t i = 0; rc == HA_OK && i < (ports[0] == ports[1] ? 1 : DOORS); i++) {
        rc = listen_tcp(a->q->listen, ports[i], &a->doors[i], err);
    }
    if (rc != HA_OK) {
        close_doors(a);
    }
    return rc;
}

static void
end_asking(struct asking *a)
{
    for (size_t i = 0; i < a->q->n; i++) {
        close_way(&a->ways[i]);
    }
    for (size_t i = 0; i < GUESTS_MAX; i++) {
        if (a->guests[i].fd >= 0) {
            (void)close(a->guests[i].fd);
        }
    }
    close_doors(a);
}

int
self_ask(const struct self_question *question, size_t *index, struct err *err)
{
    const int64_t until = now_ms() + ASK_MS;
    struct asking a = {.q = question};
    int found = -1;
    int rc = open_doors(&a, err);

    if (rc != HA_OK) {
        return rc;
    }
    REQUIRE(question->n <= HA_MEMBERS_MAX, "no more than the members are asked");
    for (size_t i = 0; i < GUESTS_MAX; i++) {
        a.guests[i].fd = -1;
    }
    for (size_t i = 0; i < question->n; i++) {
        make_word(a.ways[i].word);
        a.ways[i].fd = begin_connect(question->addresses[i], question->port);
    }
    for (int64_t left = ASK_MS; found < 0 && left > 0; left = until - now_ms()) {
        found = turn(&a, (int)left);
    }
    end_asking(&a);
    if (found < 0) {
        return err_set(err, HA_ENOTFOUND, "no listed address leads here");
    }
    *index = (size_t)found;
    return HA_OK;
}

/* Waits until the socket is ready; false when the time is over. */
static bool
wait_ready(int fd, short events, int64_t until)
{
    struct pollfd p = {.fd = fd, .events = events};
    const int64_t left = until - now_ms();

    return left > 0 && poll(&p, 1, (int)left) > 0;
}

int
self_health(const char *host, uint16_t port, struct err *err)
{
    static const char ASK[] = "GET /liveness HTTP/1.0\r\n\r\n";
    const int64_t until = now_ms() + HEALTH_MS;
    const int fd = begin_connect(host, port);
    char text[64] = "";
    bool is_well = false;

    if (fd >= 0 && wait_ready(fd, POLLOUT, until) &&
        send(fd, ASK, sizeof ASK - 1, MSG_NOSIGNAL) == (ssize_t)(sizeof ASK - 1) &&
        wait_ready(fd, POLLIN, until)) {
        const ssize_t n = recv(fd, text, sizeof text - 1, 0);

        text[n < 0 ? 0 : n] = 0;
        is_well = strncmp(text, "HTTP/1.", 7) == 0 && strncmp(text + 8, " 200", 4) == 0;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    if (!is_well) {
        text[strcspn(text, "\r\n")] = 0;
        return err_set(err,
                       HA_EUNREACHABLE,
                       "no agent is alive at %s port %u%s%s",
                       host,
                       port,
                       text[0] == 0 ? "" : ": ",
                       text);
    }
    return HA_OK;
}
