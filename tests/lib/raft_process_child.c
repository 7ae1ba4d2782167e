#include "tests/lib/raft_process_child.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "agent/net/peer.h"
#include "base/crc32c.h"
#include "raft/consensus.h"
#include "store/snapshot.h"

#define BENCH_MAX 5000
static const char SECRET[] = "a secret of these tests alone";

struct child {
    const struct raft_process *p;
    uv_loop_t loop;
    struct peer_link *link;
    struct consensus *consensus;
    struct fs fs;
    bool is_full;
    struct state state;
    uint64_t id;
    char address[HA_ADDRESS_MAX];
    uv_pipe_t pipe;
    int fd;
    char input[512];
    size_t input_len;
    uint64_t began_ns;
    uint64_t bench_counter;
    size_t bench_n;
    size_t bench_left;
    double bench_us[BENCH_MAX];
};

static struct child child;

static void say(const char *fmt, ...) HA_PRINTF(1, 2);

static void
say(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    (void)vdprintf(child.fd, fmt, args);
    va_end(args);
}

/* A disk without room: every write fails, as statfs would have told. */
static int
full_write_at(
    struct fs *fs, int file, uint64_t offset, const void *data, size_t len, struct err *err)
{
    if (child.is_full) {
        return err_set(err, HA_ENOSPC, "no space left on the test's disk");
    }
    return fs_posix()->write_at(fs_posix(), file, offset, data, len, err);
    (void)fs;
}

static void
on_message(void *data, const char *from, uint8_t type, const void *body, size_t len)
{
    (void)data;
    if (child.consensus != NULL) {
        consensus_receive(child.consensus, from, type, body, len);
    }
}

static void
on_state(void *data, const struct state *state, uint64_t index)
{
    (void)data;
    (void)index;
    child.state = *state;
}

static void
on_fatal(void *data, const char *why)
{
    (void)data;
    (void)why;
    _exit(RAFT_PROCESS_FATAL);
}

static void
on_log(void *data, int level, const char *event, const char *text)
{
    (void)data;
    if (getenv("RAFT_LOG") != NULL) {
        (void)fprintf(stderr, "# %s %d %s: %s\n", child.address, level, event, text);
    }
}

static void
on_done(void *data, int rc)
{
    (void)data;
    say("done %d %" PRIu64 "\n", rc, (uv_hrtime() - child.began_ns) / 1000);
}

static void
propose(struct command *command, void (*done)(void *data, int rc))
{
    child.began_ns = uv_hrtime();
    const int rc = consensus_propose(child.consensus, command, done, NULL);
    if (rc != HA_OK) {
        done(NULL, rc);
    }
}

static struct command
make_command(uint64_t counter)
{
    struct command c = {.type = COMMAND_SETTINGS, .origin = child.id, .counter = counter};

    c.settings.max_lag = 1 + counter % 100000;
    c.settings.failover = FAILOVER_POLICY_COUNT;
    return c;
}

static int
compare_doubles(const void *a, const void *b)
{
    const double *x = a;
    const double *y = b;

    return *x < *y ? -1 : *x > *y;
}

static void bench_next(void);

static void
on_bench(void *data, int rc)
{
    (void)data;
    if (rc != HA_OK) {
        say("bench failed %d\n", rc);
        return;
    }
    child.bench_us[child.bench_n++] = (double)(uv_hrtime() - child.began_ns) / 1000;
    if (--child.bench_left > 0) {
        bench_next();
        return;
    }
    const size_t n = child.bench_n;
    qsort(child.bench_us, n, sizeof child.bench_us[0], compare_doubles);
    say("bench %.0f %.0f %.0f\n",
        child.bench_us[n / 2],
        child.bench_us[n * 99 / 100],
        child.bench_us[n - 1]);
}

static void
bench_next(void)
{
    struct command c = make_command(++child.bench_counter);

    propose(&c, on_bench);
}

static void
found(int n)
{
    struct command c = {.type = COMMAND_FOUND};

    c.found.cluster_id = 1;
    c.found.declaration.lease_ms = HA_LEASE_MS_DEFAULT;
    c.found.declaration.n_members = (uint8_t)n;
    for (int i = 0; i < n; i++) {
        (void)snprintf(
            c.found.declaration.members[i].address, HA_ADDRESS_MAX, RAFT_PROCESS_ADDRESS, 11 + i);
    }
    (void)snprintf(c.found.declaration.primary, HA_ADDRESS_MAX, RAFT_PROCESS_ADDRESS, 11);
    propose(&c, on_done);
}

static void
tell_view(void)
{
    static uint8_t bytes[SNAPSHOT_BYTES_MAX];
    struct raft_view v;
    int n_voters = 0;
    const size_t len = snapshot_encode(&child.state, bytes, sizeof bytes);

    consensus_get_view(child.consensus, &v);
    for (uint32_t i = 0; i < v.n_servers; i++) {
        n_voters += v.servers[i].is_voter ? 1 : 0;
    }
    say("view %d %d %d %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %d %u %" PRIx32
        "\n",
        (int)v.role,
        v.is_ready,
        v.is_changing,
        v.term,
        v.leader,
        v.commit_index,
        v.applied_index,
        v.last_index,
        n_voters,
        v.n_servers,
        crc32c(0, bytes, len));
}

static void
on_all_closed(void *data)
{
    (void)data;
    _exit(0);
}

static void
on_consensus_closed(void *data)
{
    (void)data;
    child.consensus = NULL;
    peer_close(child.link, on_all_closed, NULL);
}

/* add and remove: member N in its incarnation I. */
static int
change_server(bool is_add, int n, unsigned incarnation)
{
    char address[HA_ADDRESS_MAX];
    const uint64_t id = raft_process_id(n, incarnation);

    (void)snprintf(address, sizeof address, RAFT_PROCESS_ADDRESS, 10 + n);
    return is_add ? consensus_server_add(child.consensus, id, address)
                  : consensus_server_remove(child.consensus, id);
}

static void
obey(const char *line)
{
    uint64_t number = 0;
    unsigned second = 1;
    char word[16] = "";

    (void)sscanf(line, "%15s %" SCNu64 " %u", word, &number, &second);
    if (strcmp(word, "view") == 0) {
        tell_view();
    } else if (strcmp(word, "found") == 0) {
        found((int)number);
    } else if (strcmp(word, "propose") == 0) {
        struct command c = make_command(number);
        propose(&c, on_done);
    } else if (strcmp(word, "bench") == 0) {
        child.bench_n = 0;
        child.bench_left = number < BENCH_MAX ? number : BENCH_MAX;
        child.bench_counter += 1000000;
        bench_next();
    } else if (strcmp(word, "counter") == 0) {
        const struct member *m = state_member(&child.state, number);
        say("counter %" PRIu64 "\n", m == NULL ? 0 : m->last_counter);
    } else if (strcmp(word, "transfer") == 0) {
        const uint64_t to = number == 0 ? 0 : raft_process_id((int)number, second);
        say("rc %d\n", consensus_transfer(child.consensus, to));
    } else if (strcmp(word, "add") == 0 || strcmp(word, "remove") == 0) {
        say("rc %d\n", change_server(word[0] == 'a', (int)number, second));
    } else if (strcmp(word, "full") == 0) {
        child.is_full = number != 0;
        say("rc 0\n");
    } else if (strcmp(word, "quit") == 0) {
        consensus_close(child.consensus, on_consensus_closed, NULL);
    }
}

static void
on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    (void)handle;
    (void)size;
    *buf = uv_buf_init(child.input + child.input_len,
                       (unsigned)(sizeof child.input - child.input_len));
}

static void
on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    char *end;

    (void)stream;
    (void)buf;
    if (n < 0) {
        _exit(1);
    }
    child.input_len += (size_t)n;
    while ((end = memchr(child.input, '\n', child.input_len)) != NULL) {
        const size_t len = (size_t)(end - child.input) + 1;
        *end = '\0';
        obey(child.input);
        child.input_len -= len;
        memmove(child.input, child.input + len, child.input_len);
    }
}

static void
open_link(void)
{
    static char addresses[RAFT_PROCESS_MEMBERS][HA_ADDRESS_MAX];
    const char *list[RAFT_PROCESS_MEMBERS];
    struct err err = {0};
    const struct peer_config config = {
        .loop = &child.loop,
        .self = child.address,
        .listen_host = child.address,
        .port = child.p->port,
        .secret = (const uint8_t *)SECRET,
        .secret_len = sizeof SECRET - 1,
        .callbacks = {.on_message = on_message, .on_log = on_log},
    };

    if (peer_open(&config, &child.link, &err) != HA_OK) {
        (void)fprintf(stderr, "# %s: %s\n", child.address, err.text);
        _exit(1);
    }
    for (int i = 0; i < RAFT_PROCESS_MEMBERS; i++) {
        (void)snprintf(addresses[i], HA_ADDRESS_MAX, RAFT_PROCESS_ADDRESS, 11 + i);
        list[i] = addresses[i];
    }
    peer_set_members(child.link, list, RAFT_PROCESS_MEMBERS);
}

static void
open_consensus(void)
{
    struct raft_server_view servers[RAFT_PROCESS_MEMBERS] = {{0}};
    struct err err = {0};
    const struct consensus_config config = {
        .loop = &child.loop,
        .link = child.link,
        .fs = &child.fs,
        .dir = child.p->dir,
        .id = child.id,
        .address = child.address,
        .election_ms = child.p->election_ms,
        .heartbeat_ms = child.p->heartbeat_ms,
        .callbacks = {.on_state = on_state, .on_fatal = on_fatal, .on_log = on_log},
    };

    child.fs = *fs_posix();
    child.fs.write_at = full_write_at;
    state_init(&child.state);
    int rc = consensus_open(&config, &child.consensus, &err);
    if (rc == HA_OK && child.p->n_founders > 0) {
        for (int i = 0; i < child.p->n_founders; i++) {
            servers[i].id = raft_process_id(i + 1, 1);
            servers[i].is_voter = true;
            (void)snprintf(servers[i].address, HA_ADDRESS_MAX, RAFT_PROCESS_ADDRESS, 11 + i);
        }
        rc = consensus_bootstrap(child.consensus, servers, (size_t)child.p->n_founders, &err);
        rc = rc == HA_EEXIST ? HA_OK : rc;
    }
    if (rc == HA_OK) {
        rc = consensus_start(child.consensus, &err);
    }
    if (rc != HA_OK) {
        (void)fprintf(stderr, "# %s: %s\n", child.address, err.text);
        _exit(RAFT_PROCESS_REFUSED);
    }
}

_Noreturn void
raft_process_run(const struct raft_process *p, int fd)
{
    (void)signal(SIGPIPE, SIG_IGN);
    child.p = p;
    child.fd = fd;
    child.id = raft_process_id(p->n, p->incarnation);
    (void)snprintf(child.address, sizeof child.address, RAFT_PROCESS_ADDRESS, 10 + p->n);
    (void)mkdir(p->dir, 0700);
    (void)uv_loop_init(&child.loop);
    open_link();
    open_consensus();
    (void)uv_pipe_init(&child.loop, &child.pipe, 0);
    (void)uv_pipe_open(&child.pipe, dup(fd));
    (void)uv_read_start((uv_stream_t *)&child.pipe, on_alloc, on_read);
    (void)uv_run(&child.loop, UV_RUN_DEFAULT);
    _exit(1);
}
