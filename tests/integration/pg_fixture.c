#include "tests/integration/pg_fixture.h"

#include <fcntl.h>
#include <net/if.h>
#include <pwd.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define DEADLINE_MS 60000

double
now_ms(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

void
fixture_isolate(void)
{
    struct ifreq lo = {.ifr_name = "lo"};
    int fd;

    if (unshare(CLONE_NEWNS | CLONE_NEWNET) != 0) {
        return;
    }
    (void)mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &lo) == 0) {
        lo.ifr_flags = (short)(lo.ifr_flags | IFF_UP);
        (void)ioctl(fd, SIOCSIFFLAGS, &lo);
    }
    (void)close(fd);
}

static void
on_facts(void *data, const struct pg_facts *facts)
{
    struct node *node = data;

    node->facts = *facts;
}

static void
on_done(void *data, enum postgres_op op, int rc, const char *text)
{
    struct node *node = data;

    node->is_done = true;
    node->op = op;
    node->rc = rc;
    (void)snprintf(node->text, sizeof node->text, "%s", text);
}

static void
on_log(void *data, int level, const char *event, const char *text)
{
    struct node *node = data;
    char line[4096];
    const int len = snprintf(line, sizeof line, "%d %s %s\n", level, event, text);
    const size_t n = len < (int)sizeof line ? (size_t)len : sizeof line - 1;

    if (node->die_at != NULL && strstr(text, node->die_at) != NULL) {
        (void)kill(getpid(), SIGKILL);
    }

    if (node->log_len + n >= sizeof node->log) {
        memmove(node->log, node->log + sizeof node->log / 2, sizeof node->log / 2);
        node->log_len -= sizeof node->log / 2;
    }
    memcpy(node->log + node->log_len, line, n);
    node->log_len += n;
    node->log[node->log_len] = '\0';
}

void
node_init(struct node *node, uv_loop_t *loop, const char *address)
{
    const struct passwd *pw = getpwnam("postgres");
    char template[] = "/tmp/hawser-pg-XXXXXX";

    assert_non_null(pw);
    memset(node, 0, sizeof *node);
    node->loop = loop;
    (void)snprintf(node->address, sizeof node->address, "%s", address);
    assert_non_null(mkdtemp(template));
    assert_int_equal(chmod(template, 0755), 0);
    (void)snprintf(node->root, sizeof node->root, "%s", template);
    (void)snprintf(node->pgdata, sizeof node->pgdata, "%s/v/data", template);
    (void)snprintf(node->run_dir, sizeof node->run_dir, "%s/run", template);
    (void)snprintf(node->state_dir, sizeof node->state_dir, "%s/state", template);
    char volume[320];
    (void)snprintf(volume, sizeof volume, "%s/v", template);
    assert_int_equal(mkdir(volume, 0755), 0);
    node->config = (struct postgres_config){
        .loop = loop,
        .bin_dir = "",
        .pgdata = node->pgdata,
        .run_dir = node->run_dir,
        .state_dir = node->state_dir,
        .self = node->address,
        .listen = node->address,
        .port = FIXTURE_PORT,
        .uid = pw->pw_uid,
        .gid = pw->pw_gid,
        .superuser = "admin",
        .superuser_password = FIXTURE_PASSWORD,
        .database = "app",
        .replication_user = "rep\\user",
        .replication_password = FIXTURE_REPL_PASSWORD,
        .initdb_args = "",
        .extra_conf = "fsync=off|max_connections=30|shared_buffers=16MB",
        .init_scripts = "",
        .client_networks = "",
        .fence_library = "",
        .lease_path = "",
        .guardian = "",
        .callbacks = {.data = node, .on_facts = on_facts, .on_done = on_done, .on_log = on_log},
    };
}

int
node_try_open(struct node *node, struct err *err)
{
    return postgres_open(&node->config, &node->pg, err);
}

void
node_set_slot(struct node *node, const char *address, uint64_t lsn)
{
    struct pg_slots wish = {.n = 1};

    (void)snprintf(wish.at[0].address, sizeof wish.at[0].address, "%s", address);
    wish.at[0].lsn = lsn;
    postgres_set_slots(node->pg, &wish);
}

void
node_open(struct node *node)
{
    static const char *const MEMBERS[] = {"127.0.0.11", "127.0.0.12"};
    struct err err = {0};

    memset(&node->facts, 0, sizeof node->facts);
    if (node_try_open(node, &err) != HA_OK) {
        fail_msg("%s", err.text);
    }
    postgres_set_members(node->pg, MEMBERS, 2);
    node_set_slot(node, strcmp(node->address, MEMBERS[0]) == 0 ? MEMBERS[1] : MEMBERS[0], 0);
    node_wait(node, node_is_stopped, "the first look");
}

static void
on_closed(void *data)
{
    struct node *node = data;

    node->is_closed = true;
}

static bool
node_was_closed(struct node *node)
{
    return node->is_closed;
}

void
node_close(struct node *node)
{
    node->is_closed = false;
    postgres_close(node->pg, on_closed, node);
    node_wait(node, node_was_closed, "close");
    node->pg = NULL;
}

void
node_remove(struct node *node)
{
    const char *const argv[] = {"rm", "-rf", node->root, NULL};
    const pid_t pid = fork();

    if (pid == 0) {
        (void)execlp(argv[0], argv[0], argv[1], argv[2], (char *)NULL);
        _exit(127);
    }
    (void)waitpid(pid, NULL, 0);
}

static void
on_tick(uv_timer_t *timer)
{
    (void)timer;
}

void
node_wait(struct node *node, bool (*is_true)(struct node *node), const char *what)
{
    const double deadline = now_ms() + DEADLINE_MS;
    uv_timer_t tick;

    (void)uv_timer_init(node->loop, &tick);
    (void)uv_timer_start(&tick, on_tick, 50, 50);
    while (!is_true(node) && now_ms() < deadline) {
        (void)uv_run(node->loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)&tick, NULL);
    (void)uv_run(node->loop, UV_RUN_NOWAIT);
    if (!is_true(node)) {
        /* cmocka cuts its messages at 1 kB. */
        (void)fprintf(
            stderr,
            "%s\nrun %d data %d lsn %llx replay %llx receiver %d streaming %d upstream %s\n",
            node->log,
            node->facts.run,
            node->facts.data,
            (unsigned long long)node->facts.lsn,
            (unsigned long long)node->facts.replay_lsn,
            node->facts.has_receiver,
            node->facts.is_streaming,
            node->facts.upstream);
        fail_msg("%s: not in time: %s", node->address, what);
    }
}

bool
node_is_done(struct node *node)
{
    return node->is_done;
}

bool
node_is_stopped(struct node *node)
{
    return node->facts.run == PG_RUN_STOPPED;
}

bool
node_is_up(struct node *node)
{
    return node->facts.run == PG_RUN_UP;
}

bool
node_is_streaming(struct node *node)
{
    return node->facts.is_streaming;
}

void
node_begin(struct node *node, enum postgres_op op, const char *from)
{
    node->is_done = false;
    assert_int_equal(postgres_begin(node->pg, op, from), HA_OK);
}

int
node_run(struct node *node, enum postgres_op op, const char *from)
{
    node_begin(node, op, from);
    node_wait(node, node_is_done, "the end of the operation");
    assert_int_equal(node->op, op);
    if (node->rc != HA_OK && node->rc != HA_ECANCELED && getenv("FIXTURE_VERBOSE") != NULL) {
        print_message("# op %d: %s\n%s", (int)op, node->text, node->log);
    }
    return node->rc;
}

void
node_sql(struct node *node, const char *sql, char *out, size_t size)
{
    node_sql_in(node, "app", sql, out, size);
}

void
node_sql_in(struct node *node, const char *database, const char *sql, char *out, size_t size)
{
    char port[16];
    char buffer[4096];
    int pipe_fds[2];
    size_t len = 0;
    ssize_t n;
    int status;
    pid_t pid;

    (void)snprintf(port, sizeof port, "%d", FIXTURE_PORT);
    assert_int_equal(pipe(pipe_fds), 0);
    pid = fork();
    if (pid == 0) {
        (void)dup2(pipe_fds[1], STDOUT_FILENO);
        (void)close(pipe_fds[0]);
        (void)execlp("psql",
                     "psql",
                     "-XAtqw",
                     "-v",
                     "ON_ERROR_STOP=1",
                     "-h",
                     node->run_dir,
                     "-p",
                     port,
                     "-U",
                     "admin",
                     "-d",
                     database,
                     "-c",
                     sql,
                     (char *)NULL);
        _exit(127);
    }
    (void)close(pipe_fds[1]);
    while ((n = read(pipe_fds[0], buffer + len, sizeof buffer - 1 - len)) > 0) {
        len += (size_t)n;
    }
    (void)close(pipe_fds[0]);
    (void)waitpid(pid, &status, 0);
    buffer[len] = '\0';
    if (status != 0) {
        fail_msg("psql: %s\n%s", sql, node->log);
    }
    if (out != NULL) {
        (void)snprintf(out, size, "%.*s", (int)strcspn(buffer, "\n"), buffer);
    }
}

pid_t
node_postmaster(const struct node *node)
{
    char path[512];
    char line[32] = "";
    FILE *f;

    (void)snprintf(path, sizeof path, "%s/postmaster.pid", node->pgdata);
    f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    (void)fclose(f);
    return (pid_t)strtol(line, NULL, 10);
}

bool
node_log_has(const struct node *node, const char *text)
{
    return strstr(node->log, text) != NULL;
}

int
node_login(const struct node *node, const char *user, const char *password, const char *sql)
{
    char port[16];
    int status;
    const pid_t pid = fork();

    (void)snprintf(port, sizeof port, "%d", FIXTURE_PORT);
    if (pid == 0) {
        (void)setenv("PGPASSWORD", password, 1);
        (void)execlp("psql",
                     "psql",
                     "-XAtqw",
                     "-v",
                     "ON_ERROR_STOP=1",
                     "-h",
                     node->address,
                     "-p",
                     port,
                     "-U",
                     user,
                     "-d",
                     "app",
                     "-c",
                     sql,
                     (char *)NULL);
        _exit(127);
    }
    (void)waitpid(pid, &status, 0);
    return WEXITSTATUS(status);
}

bool
process_is_gone(pid_t pid)
{
    char path[64];
    char line[256] = "";
    const char *state;
    FILE *f;

    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    f = fopen(path, "r");
    if (f == NULL) {
        return true;
    }
    (void)!fgets(line, sizeof line, f);
    (void)fclose(f);
    state = strrchr(line, ')');
    return state == NULL || state[2] == 'Z';
}

static void
on_turn_over(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

void
node_turn(struct node *node, unsigned ms)
{
    uv_timer_t timer;
    bool is_over = false;

    (void)uv_timer_init(node->loop, &timer);
    timer.data = &is_over;
    (void)uv_timer_start(&timer, on_turn_over, ms, 0);
    while (!is_over) {
        (void)uv_run(node->loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)&timer, NULL);
    (void)uv_run(node->loop, UV_RUN_NOWAIT);
}

void
node_run_ok(struct node *node, enum postgres_op op, const char *from)
{
    if (node_run(node, op, from) != HA_OK) {
        fail_msg("%s: operation %d: %s\n%s", node->address, (int)op, node->text, node->log);
    }
}

void
node_reopen_guarded(struct node *node, bool is_guarded)
{
    if (node->pg != NULL) {
        node_close(node);
    }
    node->config.guardian = is_guarded ? getenv("HAGUARD") : "";
    node_open(node);
}

static int
agent_lock(const struct node *node)
{
    char path[400];
    int fd;

    (void)snprintf(path, sizeof path, "%s/lock", node->root);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    return fd;
}

void
agent_wait_lock(const struct node *node)
{
    (void)close(agent_lock(node));
}

pid_t
agent_fork(struct node *node, enum postgres_op op, const char *from, bool is_awaited)
{
    int said[2];
    char byte;
    pid_t pid;

    assert_int_equal(pipe2(said, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        uv_loop_t own;

        (void)uv_loop_init(&own);
        node->loop = node->config.loop = &own;
        node->config.inherit_fds[0] = agent_lock(node);
        node->config.n_inherit_fds = 1;
        node_open(node);
        node_begin(node, op, from);
        while (is_awaited ? !node->is_done : node->facts.clone_done_bytes == 0) {
            (void)uv_run(&own, UV_RUN_ONCE);
        }
        if (node->is_done && node->rc != HA_OK) {
            (void)fprintf(stderr, "%s\n%s", node->text, node->log);
            _exit(1);
        }
        (void)!write(said[1], "x", 1);
        (void)uv_run(&own, UV_RUN_DEFAULT);
        _exit(0);
    }
    (void)close(said[1]);
    if (read(said[0], &byte, 1) != 1) {
        fail_msg("the agent ended early");
    }
    (void)close(said[0]);
    return pid;
}

pid_t
agent_fork_dying(struct node *node, enum postgres_op op, const char *from)
{
    const pid_t pid = fork();

    if (pid == 0) {
        uv_loop_t own;

        (void)uv_loop_init(&own);
        node->loop = node->config.loop = &own;
        node->config.inherit_fds[0] = agent_lock(node);
        node->config.n_inherit_fds = 1;
        node_open(node);
        node_begin(node, op, from);
        (void)uv_run(&own, UV_RUN_DEFAULT);
        _exit(0);
    }
    return pid;
}

bool
process_wait_gone(pid_t pid)
{
    const double deadline = now_ms() + 20000;

    while (!process_is_gone(pid) && now_ms() < deadline) {
        (void)usleep(5000);
    }
    return process_is_gone(pid);
}

void
file_touch(const char *dir, const char *name)
{
    char path[700];
    FILE *f;

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    f = fopen(path, "w");
    assert_non_null(f);
    (void)fclose(f);
}

bool
file_is_there(const char *dir, const char *name)
{
    char path[700];

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

void
shell_run(const char *fmt, ...)
{
    char line[2048];
    va_list args;
    FILE *f;

    va_start(args, fmt);
    (void)vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    f = popen(line, "r");
    assert_non_null(f);
    if (pclose(f) != 0) {
        fail_msg("failed: %s", line);
    }
}
