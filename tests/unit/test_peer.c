/*
 * Goal:   members exchange messages, and nobody else can make them stop, or say, anything.
 * Method: links at 127.0.0.11 to .13 in this process, or in a forked one that gets killed;
 *         strangers in forked processes. While they do their worst, the exchange must go on and
 *         the log must stay short. Waits are conditions with a generous deadline.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "agent/net/peer.h"
#include "agent/net/peer_frame.h"

#define A "127.0.0.11"
#define B "127.0.0.12"
#define C "127.0.0.13"
#define SECRET "the secret of this cluster"
#define DEADLINE_MS 20000

static uint16_t port;

struct node {
    uv_loop_t loop;
    bool is_open;
    bool is_closed;
    struct peer_link *link;
    const char *self;
    size_t n_messages;
    size_t n_ticks; /* messages of the ticker */
    uint8_t last_type;
    size_t last_len;
    uint8_t last_first;
    uint8_t last_final;
    char last_from[HA_ADDRESS_MAX];
    size_t n_up;
    size_t n_down;
    size_t n_log;
    char log[4096];
};

static uv_loop_t *loop; /* of this process, shared by its nodes */

static void
on_message(void *data, const char *from, uint8_t type, const void *body, size_t len)
{
    struct node *node = data;
    const uint8_t *bytes = body;

    if (type == PEER_STATUS) {
        node->n_ticks++;
        return;
    }
    node->n_messages++;
    node->last_type = type;
    node->last_len = len;
    node->last_first = len > 0 ? bytes[0] : 0;
    node->last_final = len > 0 ? bytes[len - 1] : 0;
    (void)snprintf(node->last_from, sizeof node->last_from, "%s", from);
}

static void
on_connected(void *data, const char *to, bool is_connected)
{
    struct node *node = data;

    (void)to;
    if (is_connected) {
        node->n_up++;
    } else {
        node->n_down++;
    }
}

static void
on_log(void *data, int level, const char *event, const char *text)
{
    struct node *node = data;
    const size_t used = strlen(node->log);

    (void)level;
    node->n_log++;
    (void)snprintf(node->log + used, sizeof node->log - used, "%s: %s\n", event, text);
}

static int
try_open(struct node *node, const char *self, const char *secret, struct err *err)
{
    const struct peer_config config = {
        .loop = loop,
        .self = self,
        .listen_host = self,
        .port = port,
        .secret = (const uint8_t *)secret,
        .secret_len = strlen(secret),
        .callbacks = {node, on_message, on_connected, on_log},
    };

    memset(node, 0, sizeof *node);
    node->self = self;
    const int rc = peer_open(&config, &node->link, err);
    node->is_open = rc == HA_OK;
    return rc;
}

static void
node_open(struct node *node, const char *self, const char *secret)
{
    static const char *const members[] = {A, B, C};
    struct err err = {0};

    assert_int_equal(try_open(node, self, secret, &err), HA_OK);
    peer_set_members(node->link, members, HA_COUNT_OF(members));
}

static void
on_closed(void *data)
{
    struct node *node = data;

    node->is_closed = true;
}

static void
node_close(struct node *node)
{
    peer_close(node->link, on_closed, node);
    while (!node->is_closed) {
        (void)uv_run(loop, UV_RUN_ONCE);
    }
    node->is_open = false;
}

static uint64_t
now_ms(void)
{
    return uv_hrtime() / 1000000U;
}

/* Runs the loop until the condition holds; fails the test when it does not in time. */
#define RUN_UNTIL(cond)                                                                            \
    do {                                                                                           \
        const uint64_t limit_ms = now_ms() + DEADLINE_MS;                                          \
        while (!(cond)) {                                                                          \
            if (now_ms() >= limit_ms) {                                                            \
                fail_msg("not in time: %s", #cond);                                                \
            }                                                                                      \
            (void)uv_run(loop, UV_RUN_ONCE);                                                       \
        }                                                                                          \
    } while (0)

static void
run_for(uint64_t ms)
{
    const uint64_t until_ms = now_ms() + ms;

    while (now_ms() < until_ms) {
        (void)uv_run(loop, UV_RUN_ONCE);
    }
}

static bool
are_connected(struct node *x, struct node *y)
{
    return peer_is_connected(x->link, y->self) && peer_is_connected(y->link, x->self);
}

/* Two members that exchange a status every 20 ms, as agents do. */
struct couple {
    struct node a;
    struct node b;
    uv_timer_t ticker;
};

static void
tick(uv_timer_t *timer)
{
    struct couple *couple = timer->data;

    (void)peer_send(couple->a.link, B, PEER_STATUS, "tick", 4);
    (void)peer_send(couple->b.link, A, PEER_STATUS, "tick", 4);
}

static void
couple_open(struct couple *couple)
{
    node_open(&couple->a, A, SECRET);
    node_open(&couple->b, B, SECRET);
    RUN_UNTIL(are_connected(&couple->a, &couple->b));
    assert_int_equal(uv_timer_init(loop, &couple->ticker), 0);
    couple->ticker.data = couple;
    assert_int_equal(uv_timer_start(&couple->ticker, tick, 0, 20), 0);
}

static void
couple_close(struct couple *couple)
{
    uv_close((uv_handle_t *)&couple->ticker, NULL);
    node_close(&couple->a);
    node_close(&couple->b);
}

/* The exchange goes on in both directions, over the connections that were there before. */
static void
assert_undisturbed(struct couple *couple)
{
    const size_t a = couple->a.n_ticks;
    const size_t b = couple->b.n_ticks;

    RUN_UNTIL(couple->a.n_ticks >= a + 20 && couple->b.n_ticks >= b + 20);
    assert_int_equal(couple->a.n_down, 0);
    assert_int_equal(couple->b.n_down, 0);
}

static int
knock(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)inet_pton(AF_INET, A, &at.sin_addr);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&at, sizeof at) != 0) {
        _exit(3);
    }
    return fd;
}

/* A process that does not outlive this one, however a test ends. */
static pid_t
fork_child(void)
{
    const pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
    return pid;
}

/* Runs a stranger in a process of its own, and the loop until it is done. */
static void
run_stranger(void (*stranger)(void))
{
    int status = 0;
    pid_t ended = 0;
    const pid_t pid = fork_child();

    if (pid == 0) {
        stranger();
        _exit(0);
    }
    RUN_UNTIL((ended = waitpid(pid, &status, WNOHANG)) != 0);
    assert_int_equal(ended, pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void
raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max < 4096 ? limit.rlim_max : 4096;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void
three_members_exchange_messages_in_both_directions(void **state)
{
    static struct node n[3];
    static const char *const address[] = {A, B, C};

    (void)state;
    for (int i = 0; i < 3; i++) {
        node_open(&n[i], address[i], SECRET);
        assert_false(peer_send(n[i].link, address[(i + 1) % 3], PEER_RAFT, "x", 1));
    }
    RUN_UNTIL(are_connected(&n[0], &n[1]) && are_connected(&n[1], &n[2]) &&
              are_connected(&n[0], &n[2]));
    for (int from = 0; from < 3; from++) {
        for (int to = 0; to < 3; to++) {
            const size_t before = n[to].n_messages;
            if (from == to) {
                assert_false(peer_send(n[from].link, address[to], PEER_RAFT, "x", 1));
                continue;
            }
            assert_true(peer_send(n[from].link, address[to], (uint8_t)(PEER_RAFT + to), "abc", 3));
            RUN_UNTIL(n[to].n_messages == before + 1);
            assert_string_equal(n[to].last_from, address[from]);
            assert_int_equal(n[to].last_type, PEER_RAFT + to);
            assert_int_equal(n[to].last_len, 3);
        }
    }
    assert_false(peer_send(n[0].link, "127.0.0.99", PEER_RAFT, "x", 1));
    assert_int_equal(n[0].n_up, 2);
    for (int i = 0; i < 3; i++) {
        node_close(&n[i]);
    }
}

static void
the_largest_messages_pass_both_ways_and_a_full_queue_drops(void **state)
{
    static struct couple couple;
    static const size_t lens[] = {0, 1, 16378, 16379, 16380, 16384, 65536, PEER_MESSAGE_MAX};
    uint8_t *body = malloc(PEER_MESSAGE_MAX);
    size_t n_sent = 0;

    (void)state;
    assert_non_null(body);
    couple_open(&couple);
    for (size_t i = 0; i < HA_COUNT_OF(lens); i++) {
        memset(body, 'm', lens[i]);
        if (lens[i] > 0) {
            body[0] = (uint8_t)i;
            body[lens[i] - 1] = (uint8_t)(i + 1);
        }
        assert_true(peer_send(couple.a.link, B, PEER_RAFT, body, lens[i]));
        assert_true(peer_send(couple.b.link, A, PEER_RAFT, body, lens[i]));
        RUN_UNTIL(couple.a.n_messages == i + 1 && couple.b.n_messages == i + 1);
        assert_int_equal(couple.b.last_len, lens[i]);
        assert_int_equal(couple.a.last_len, lens[i]);
        assert_true(lens[i] < 2 || couple.b.last_final == i + 1);
        assert_true(lens[i] < 2 || couple.a.last_first == i);
    }
    /* Nobody reads while the loop does not run: the queue fills and then refuses. */
    couple.b.n_messages = 0;
    while (peer_send(couple.a.link, B, PEER_RAFT, body, PEER_MESSAGE_MAX)) {
        n_sent++;
        assert_true(n_sent < 64);
    }
    assert_true(n_sent >= 3);
    RUN_UNTIL(couple.b.n_messages == n_sent);
    assert_true(peer_send(couple.a.link, B, PEER_RAFT, body, PEER_MESSAGE_MAX));
    RUN_UNTIL(couple.b.n_messages == n_sent + 1);
    assert_undisturbed(&couple);
    assert_non_null(strstr(couple.a.log, "peer_queue_full"));
    couple_close(&couple);
    free(body);
}

static void
a_member_with_the_wrong_secret_never_joins(void **state)
{
    static struct couple couple;
    static struct node c;

    (void)state;
    couple_open(&couple);
    const size_t n_log = couple.a.n_log;
    node_open(&c, C, "not the secret of this cluster");
    RUN_UNTIL(c.n_log > 0 && couple.a.n_log > n_log);
    run_for(1500);
    assert_false(peer_is_connected(c.link, A));
    assert_false(peer_is_connected(couple.a.link, C));
    assert_int_equal(c.n_up, 0);
    assert_int_equal(c.n_ticks + c.n_messages, 0);
    assert_int_equal(couple.a.n_messages + couple.b.n_messages, 0);
    assert_undisturbed(&couple);
    assert_non_null(strstr(couple.a.log, "peer_wrong_key: from " C));
    assert_true(couple.a.n_log <= 6);
    assert_true(c.n_log <= 6);
    node_close(&c);
    couple_close(&couple);
}

static void
who_is_not_listed_is_refused(void **state)
{
    static struct couple couple;
    static struct node stranger;
    static const char *const all[] = {A, B, C, "127.0.0.14"};
    static const char *const pair[] = {A, B};
    static const char *const three[] = {A, B, C};

    (void)state;
    couple_open(&couple);
    assert_int_equal(try_open(&stranger, "127.0.0.14", SECRET, NULL), HA_OK);
    peer_set_members(stranger.link, all, 4);
    RUN_UNTIL(strstr(couple.a.log, "peer_unlisted") != NULL && stranger.n_log > 0);
    run_for(500);
    assert_int_equal(stranger.n_up, 0);
    node_close(&stranger);

    /* A member that is taken off the list loses its connections, and gets them back with it. */
    peer_set_members(couple.a.link, all + 2, 1);
    assert_false(peer_is_connected(couple.a.link, B));
    RUN_UNTIL(couple.a.n_down == 1 && couple.b.n_down == 1);
    assert_false(peer_send(couple.a.link, B, PEER_RAFT, "x", 1));
    peer_set_members(couple.a.link, pair, 2);
    RUN_UNTIL(are_connected(&couple.a, &couple.b));
    peer_set_members(couple.a.link, three, 3);
    assert_true(peer_is_connected(couple.a.link, B));
    couple_close(&couple);
}

static void
send_garbage(void)
{
    static const char hello[] = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    static uint8_t noise[100000];
    unsigned seed = 1;

    (void)signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < sizeof noise; i++) {
        seed = seed * 1103515245U + 12345U;
        noise[i] = (uint8_t)(seed >> 16);
    }
    for (size_t len = 1; len <= sizeof noise; len = len * 7 + 1) {
        const int fd = knock();
        (void)!write(fd, noise, len);
        (void)close(fd);
    }
    for (int i = 0; i < 20; i++) {
        const int fd = knock();
        (void)!write(fd, "GET /primary HTTP/1.1\r\nHost: x\r\n\r\n", 35);
        (void)close(fd);
    }
    for (size_t len = 1; len < sizeof hello; len++) {
        const int fd = knock();
        (void)!write(fd, hello, len);
        (void)close(fd);
    }
    /* A hello that announces much and sends it slowly, and frames without any TLS. */
    const int slow = knock();
    (void)!write(slow, hello, sizeof hello - 1);
    const int frames = knock();
    uint8_t header[PEER_FRAME_HEADER];
    peer_frame_header(header, PEER_RAFT, 100);
    (void)!write(frames, header, sizeof header);
    (void)usleep(300000);
    for (int i = 0; i < 200; i++) { /* a port scan */
        (void)close(knock());
    }
}

static void
garbage_changes_nothing(void **state)
{
    static struct couple couple;

    (void)state;
    couple_open(&couple);
    run_stranger(send_garbage);
    assert_undisturbed(&couple);
    assert_int_equal(couple.a.n_messages, 0);
    if (couple.a.n_log > 8) {
        fail_msg("too much was logged:\n%s", couple.a.log);
    }
    assert_non_null(strstr(couple.a.log, "peer_stranger"));
    couple_close(&couple);
}

static void
hold_idle_connections(void)
{
    raise_file_limit();
    for (int i = 0; i < 1000; i++) {
        (void)knock();
    }
    (void)sleep(1);
}

static void
a_thousand_idle_connections_keep_no_member_out(void **state)
{
    static struct couple couple;
    static struct node c;

    (void)state;
    couple_open(&couple);
    const pid_t pid = fork_child();
    if (pid == 0) {
        for (;;) {
            const int first = knock();
            hold_idle_connections();
            for (int fd = first; fd < first + 1001; fd++) {
                (void)close(fd);
            }
        }
    }
    RUN_UNTIL(strstr(couple.a.log, "peer_crowded") != NULL);
    assert_undisturbed(&couple);
    node_open(&c, C, SECRET); /* a member that comes while they are all there */
    RUN_UNTIL(peer_is_connected(c.link, A) && peer_is_connected(couple.a.link, C));
    assert_undisturbed(&couple);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    if (couple.a.n_log > 9) {
        fail_msg("too much was logged:\n%s", couple.a.log);
    }
    node_close(&c);
    couple_close(&couple);
}

/* A member in a process of its own; it sends a status every 20 ms until it is killed. */
static pid_t
fork_member(void)
{
    static struct couple couple;
    const pid_t pid = fork_child();

    if (pid != 0) {
        return pid;
    }
    uv_loop_t own;
    if (uv_loop_init(&own) != 0) {
        _exit(4);
    }
    loop = &own;
    node_open(&couple.b, B, SECRET);
    for (;;) {
        (void)uv_run(loop, UV_RUN_ONCE);
        (void)peer_send(couple.b.link, A, PEER_STATUS, "tick", 4);
    }
}

static void
a_killed_member_is_noticed_and_its_successor_is_connected(void **state)
{
    static struct node a;

    (void)state;
    node_open(&a, A, SECRET);
    for (size_t round = 1; round <= 3; round++) {
        const pid_t pid = fork_member();
        const size_t before = a.n_ticks;
        RUN_UNTIL(a.n_up == round && a.n_ticks > before + 3);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        RUN_UNTIL(a.n_down == round);
        assert_false(peer_is_connected(a.link, B));
    }
    node_close(&a);
}

static void
a_port_in_use_is_told_with_its_number(void **state)
{
    static struct node a;
    static struct node again;
    struct err err = {0};
    char number[16];

    (void)state;
    node_open(&a, A, SECRET);
    assert_int_equal(try_open(&again, A, SECRET, &err), HA_EBUSY);
    (void)snprintf(number, sizeof number, "%u", port);
    assert_non_null(strstr(err.text, A));
    assert_non_null(strstr(err.text, number));
    assert_int_equal(try_open(&again, "no-address", SECRET, &err), HA_EINVAL);
    assert_int_equal(try_open(&again, B, "", &err), HA_EINVAL);
    node_close(&a);
}

static unsigned n_turns;

static void
count_turn(uv_prepare_t *prepare)
{
    (void)prepare;
    n_turns++;
}

static void
knock_fifty_times(void)
{
    for (int i = 0; i < 50; i++) {
        (void)knock();
    }
    (void)usleep(700000);
}

static void
running_out_of_descriptors_neither_spins_nor_disturbs(void **state)
{
    static struct couple couple;
    struct rlimit before;
    struct rlimit tight;
    uv_prepare_t turns;

    (void)state;
    couple_open(&couple);
    const int next = dup(0);
    assert_true(next > 0);
    (void)close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    tight = before;
    tight.rlim_cur = (rlim_t)next + 3;
    assert_int_equal(uv_prepare_init(loop, &turns), 0);
    assert_int_equal(uv_prepare_start(&turns, count_turn), 0);
    n_turns = 0;

    const pid_t pid = fork_child();
    if (pid == 0) {
        knock_fifty_times();
        _exit(0);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    run_for(600);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_true(n_turns < 2000);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_undisturbed(&couple);
    uv_close((uv_handle_t *)&turns, NULL);
    couple_close(&couple);
}

/* Two agents that both say that they are B: the newer one is heard, the older one's call ends. */
static void
the_newest_connection_of_a_member_replaces_the_older(void **state)
{
    static struct node a;
    static struct node b;
    struct err err = {0};

    (void)state;
    node_open(&a, A, SECRET);
    const pid_t pid = fork_member();
    RUN_UNTIL(a.n_ticks > 3);
    /* The same name at another address to listen on. */
    const struct peer_config config = {
        .loop = loop,
        .self = B,
        .listen_host = "127.0.0.15",
        .port = port,
        .secret = (const uint8_t *)SECRET,
        .secret_len = strlen(SECRET),
        .callbacks = {&b, on_message, on_connected, on_log},
    };
    static const char *const members[] = {A, B};
    memset(&b, 0, sizeof b);
    assert_int_equal(peer_open(&config, &b.link, &err), HA_OK);
    peer_set_members(b.link, members, 2);
    RUN_UNTIL(peer_is_connected(b.link, A) && peer_send(b.link, A, PEER_RAFT, "new", 3));
    RUN_UNTIL(a.n_messages == 1);
    RUN_UNTIL(strstr(a.log, "peer_replaced") != NULL);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    node_close(&b);
    node_close(&a);
}

static int
set_up(void **state)
{
    static uv_loop_t own;
    static struct node probe;

    (void)state;
    raise_file_limit();
    loop = &own;
    if (uv_loop_init(loop) != 0) {
        return -1;
    }
    port = (uint16_t)(20000 + getpid() % 10000);
    while (try_open(&probe, A, SECRET, NULL) != HA_OK) {
        port++;
    }
    node_close(&probe);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    (void)uv_run(loop, UV_RUN_NOWAIT);
    return uv_loop_close(loop); /* fails while a handle is left */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_members_exchange_messages_in_both_directions),
        cmocka_unit_test(the_largest_messages_pass_both_ways_and_a_full_queue_drops),
        cmocka_unit_test(a_member_with_the_wrong_secret_never_joins),
        cmocka_unit_test(who_is_not_listed_is_refused),
        cmocka_unit_test(garbage_changes_nothing),
        cmocka_unit_test(a_thousand_idle_connections_keep_no_member_out),
        cmocka_unit_test(a_killed_member_is_noticed_and_its_successor_is_connected),
        cmocka_unit_test(a_port_in_use_is_told_with_its_number),
        cmocka_unit_test(running_out_of_descriptors_neither_spins_nor_disturbs),
        cmocka_unit_test(the_newest_connection_of_a_member_replaces_the_older),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
