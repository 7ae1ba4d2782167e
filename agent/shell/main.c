/*
 * haagent - the entry point of a task of the database service.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/shell/agent.h"
#include "agent/shell/clock.h"
#include "agent/shell/log.h"
#include "agent/shell/self.h"
#include "store/durable.h"
#include "store/lock.h"

#define LOCK_WAIT_MS 60000 /* a task before this one may need its grace period to stop */
#define END_PATIENCE_MS 5000
#define WAIT_SAID_MS 15000 /* "it waits" is said so often */
#define WHY_LOOKING "this agent looks for its own address among the listed ones"

static void
usage(FILE *to)
{
    size_t n;
    const struct config_variable *v = config_variables(&n);

    fprintf(to,
            "usage: haagent            run as the environment says\n"
            "       haagent --check    say whether the environment is right, start nothing\n"
            "       haagent --health   say whether the agent of this environment is alive\n"
            "       haagent --version\n"
            "       haagent --help\n\n"
            "Environment:\n");
    for (size_t i = 0; i < n; i++) {
        fprintf(to,
                "  %s%s\n      %s (default: %s)\n",
                v[i].name,
                v[i].is_secret ? ", or _FILE" : "",
                v[i].help,
                v[i].fallback);
    }
}

/* ---- the end ---- */

static void
closed(void *data)
{
    struct agent *agent = data;

    agent->n_closing--;
    if (agent->n_closing == 0) {
        uv_stop(&agent->loop);
    }
}

static void
on_end_patience(uv_timer_t *timer)
{
    struct agent *agent = timer->data;

    log_write(LOG_LEVEL_WARN, "exit", "something did not close in time");
    uv_stop(&agent->loop);
}

/* PostgreSQL goes first: the others keep the member's word until it is dead. */
static void
close_rest(void *data)
{
    struct agent *agent = data;

    if (agent->consensus != NULL) {
        agent->n_closing++;
        consensus_close(agent->consensus, closed, agent);
        agent->consensus = NULL;
    }
    gateways_close(agent->gateways);
    agent->gateways = NULL;
    if (agent->http != NULL) {
        agent->n_closing++;
        http_close(agent->http, closed, agent);
        agent->http = NULL;
    }
    if (agent->link != NULL) {
        agent->n_closing++;
        peer_close(agent->link, closed, agent);
        agent->link = NULL;
    }
    closed(agent);
}

void
agent_end(struct agent *agent, int status)
{
    if (agent->is_ending) {
        return;
    }
    agent->is_ending = true;
    agent->exit_status = status;
    agent_revoke_lease(agent);
    agent->timer.data = agent;
    (void)uv_timer_start(&agent->timer, on_end_patience, END_PATIENCE_MS, 0);
    agent->n_closing = 1;
    if (agent->postgres != NULL) {
        postgres_close(agent->postgres, close_rest, agent);
        agent->postgres = NULL;
    } else {
        close_rest(agent);
    }
}

static void
on_signal(uv_signal_t *handle, int number)
{
    struct agent *agent = handle->data;
    const struct event e = {.type = EVENT_STOP};

    log_write(LOG_LEVEL_INFO, "signal", "told to stop (%s)", strsignal(number));
    agent_event(agent, &e);
}

/* ---- the beginning ---- */

static int
make_directory(const char *path, mode_t mode, struct err *err)
{
    char part[CONFIG_PATH_MAX];
    const size_t len = strlen(path);

    REQUIRE(len < sizeof part, "the configuration has bounded its paths");
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != 0) {
            continue;
        }
        memcpy(part, path, i);
        part[i] = 0;
        if (mkdir(part, i == len ? mode : 0755) != 0 && errno != EEXIST) {
            return err_set(err, HA_EIO, "cannot make the directory %s: %s", part, strerror(errno));
        }
    }
    return HA_OK;
}

/* Nothing is touched before the locks are held: another container of this service may live. */
static int
lock_volumes(struct agent *agent, struct err *err)
{
    char path[CONFIG_PATH_MAX + 16];
    int rc;

    (void)snprintf(path, sizeof path, "%s/lock", agent->config.state_dir);
    rc = lock_take(path, LOCK_WAIT_MS, &agent->lock_fds[0], err);
    if (rc == HA_OK) {
        agent->n_locks = 1;
    }
    if (rc == HA_OK && agent->config.core.kind == MEMBER_DATABASE) {
        /* Beside PGDATA, not inside: initdb wants it empty, and a copy replaces it. */
        (void)snprintf(path, sizeof path, "%s.lock", agent->config.pgdata);
        rc = lock_take(path, LOCK_WAIT_MS, &agent->lock_fds[1], err);
        agent->n_locks = rc == HA_OK ? 2 : 1;
    }
    return rc;
}

static uint64_t
random_u64(void)
{
    uint64_t v = 0;

    while (v == 0) {
        REQUIRE(getrandom(&v, sizeof v, 0) == (ssize_t)sizeof v, "the kernel has random numbers");
    }
    return v;
}

/* What the disk remembers; each start is counted there before anything is said to anybody. */
static int
load_memory(struct agent *agent, struct durable *durable, struct err *err)
{
    int rc = durable_load(fs_posix(), agent->config.state_dir, durable, err);

    if (rc == HA_ENOTFOUND) {
        memset(durable, 0, sizeof *durable);
        durable->nonce = random_u64();
        rc = HA_OK;
    }
    if (rc == HA_OK) {
        rc = durable_discard_rest(fs_posix(), agent->config.state_dir, durable, err);
    }
    if (rc != HA_OK) {
        return rc;
    }
    durable->boots++;
    return durable_save(fs_posix(), agent->config.state_dir, durable, err);
}

static int
start_core(struct agent *agent, struct err *err)
{
    static struct state remembered;
    struct durable durable;
    uint64_t index = 0;
    bool has_memory;
    int rc = load_memory(agent, &durable, err);

    if (rc != HA_OK) {
        return rc;
    }
    has_memory =
        state_cache_load(fs_posix(), agent->config.state_dir, &remembered, &index) == HA_OK;
    agent->config.core.random = random_u64();
    core_init(&agent->core,
              &agent->config.core,
              &durable,
              has_memory ? &remembered : NULL,
              index,
              clock_mono());
    return HA_OK;
}

static int
open_link(struct agent *agent, struct err *err)
{
    const struct config *c = &agent->config;
    const struct peer_config config = {.loop = &agent->loop,
                                       .self = c->core.address,
                                       .listen_host = c->listen,
                                       .port = c->port_peer,
                                       .secret = (const uint8_t *)c->cluster_secret.bytes,
                                       .secret_len = c->cluster_secret.len,
                                       .callbacks = agent_peer_callbacks(agent)};

    return peer_open(&config, &agent->link, err);
}

static int
open_postgres(struct agent *agent, struct err *err)
{
    const struct config *c = &agent->config;
    struct postgres_config config = {.loop = &agent->loop,
                                     .bin_dir = c->pg_bin,
                                     .pgdata = c->pgdata,
                                     .run_dir = c->run_dir,
                                     .state_dir = c->state_dir,
                                     .self = c->core.address,
                                     .listen = c->listen,
                                     .port = c->port_database,
                                     .uid = c->uid,
                                     .gid = c->gid,
                                     .superuser = c->superuser,
                                     .superuser_password = c->superuser_password.bytes,
                                     .database = c->database,
                                     .replication_user = c->replication_user,
                                     .replication_password = c->replication_password.bytes,
                                     .initdb_args = c->initdb_args,
                                     .extra_conf = c->extra_conf,
                                     .init_scripts = c->initdb_scripts,
                                     .client_networks = c->client_networks,
                                     .fence_library = c->fence_library,
                                     .lease_path = agent->lease_path,
                                     .guardian = c->guardian,
                                     .sick_ms = c->core.sick_ms,
                                     .disk_reserve = c->core.disk_reserve,
                                     .keep_old = c->keep_old,
                                     .clone_rate = c->clone_rate,
                                     .n_inherit_fds = agent->n_locks,
                                     .callbacks = agent_postgres_callbacks(agent)};

    for (unsigned i = 0; i < agent->n_locks; i++) {
        config.inherit_fds[i] = agent->lock_fds[i];
    }
    return postgres_open(&config, &agent->postgres, err);
}

static int
open_world(struct agent *agent, struct err *err)
{
    static const int SIGNALS[] = {SIGTERM, SIGINT};
    int rc;

    REQUIRE(uv_timer_init(&agent->loop, &agent->timer) == 0, "a timer can be made");
    agent->timer.data = agent;
    for (size_t i = 0; i < HA_COUNT_OF(SIGNALS); i++) {
        REQUIRE(uv_signal_init(&agent->loop, &agent->signals[i]) == 0, "a signal can be watched");
        agent->signals[i].data = agent;
        REQUIRE(uv_signal_start(&agent->signals[i], on_signal, SIGNALS[i]) == 0,
                "a signal can be watched");
    }
    rc = open_link(agent, err);
    if (rc == HA_OK && agent->config.core.kind == MEMBER_DATABASE) {
        rc = open_postgres(agent, err);
    }
    if (rc == HA_OK) {
        rc = agent_web_open(agent, err);
    }
    if (rc == HA_OK) {
        rc = agent_gateways_open(agent, err);
    }
    if (rc == HA_OK) {
        agent_follow_members(agent);
    }
    return rc;
}

/* The lease page lies in a directory of the agent's own: PostgreSQL's user may write into the run
 * directory, for its sockets, and whoever can write the page could forge a lease. */
static int
make_lease_directory(struct agent *agent, struct err *err)
{
    char path[CONFIG_PATH_MAX];
    const int len = snprintf(path, sizeof path, "%s/fence", agent->config.run_dir);

    if (len < 0 || (size_t)len >= sizeof path) {
        return err_set(err, HA_EINVAL, "HA_RUN_DIR=%s is too long", agent->config.run_dir);
    }
    (void)snprintf(agent->lease_path, sizeof agent->lease_path, "%s/lease", path);
    return make_directory(path, 0755, err);
}

static int
prepare(struct agent *agent, struct err *err)
{
    int rc = make_directory(agent->config.state_dir, 0755, err);

    if (rc == HA_OK) {
        rc = make_directory(agent->config.run_dir, 0755, err);
    }
    if (rc == HA_OK) {
        rc = make_lease_directory(agent, err);
    }
    if (rc == HA_OK) {
        rc = lock_volumes(agent, err);
    }
    if (rc == HA_OK) {
        rc = start_core(agent, err);
    }
    return rc == HA_OK ? open_world(agent, err) : rc;
}

static int
run(struct agent *agent)
{
    struct err err = {0};
    struct pg_facts facts;

    log_start(agent->config.log_level, agent->config.log_format, agent->config.core.name);
    for (unsigned i = 0; i < agent->config.n_warnings; i++) {
        log_write(LOG_LEVEL_WARN, "config", "%s", agent->config.warnings[i]);
    }
    log_write(LOG_LEVEL_INFO,
              "start",
              "haagent %s is member %s (%s)",
              HAWSER_VERSION,
              agent->config.core.address,
              agent->config.core.name);
    REQUIRE(uv_loop_init(&agent->loop) == 0, "an event loop can be made");
    if (prepare(agent, &err) != HA_OK) {
        log_write(LOG_LEVEL_ERROR, "start_failed", "%s", err.text);
        return 1;
    }
    config_wipe(&agent->config);
    if (agent->postgres != NULL) {
        struct event e = {.type = EVENT_PG_FACTS};

        postgres_get_facts(agent->postgres, &facts);
        e.pg = facts;
        agent_event(agent, &e);
    } else {
        agent_tick(agent);
    }
    (void)uv_run(&agent->loop, UV_RUN_DEFAULT);
    lease_page_close(&agent->page);
    return agent->exit_status;
}

/* The other ports must lead here as well: the members speak and stream through them. Others are
 * told `why` meanwhile. */
static int
check_published(const struct config *config, size_t index, const char *why, struct err *err)
{
    const struct member_spec *self = &config->core.declaration.members[index];
    const char *const address[] = {self->address};
    const struct {
        const char *name;
        uint16_t port;
        bool is_used;
    } ports[] = {{"HA_PEER_PORT", config->port_peer, true},
                 {"PORT_DATABASE", config->port_database, self->kind == MEMBER_DATABASE}};

    for (size_t i = 0; i < HA_COUNT_OF(ports); i++) {
        const struct self_question question = {.listen = config->listen,
                                               .port = ports[i].port,
                                               .port_http = config->port_http,
                                               .addresses = address,
                                               .n = 1,
                                               .why = why};
        size_t same;
        const int rc = ports[i].is_used ? self_ask(&question, &same, err) : HA_OK;

        if (rc == HA_ENOTFOUND) {
            return err_set(err,
                           rc,
                           "%s=%u: that port of %s does not lead to this container; allowed: "
                           "published in host mode, under the same number",
                           ports[i].name,
                           ports[i].port,
                           self->address);
        }
        if (rc != HA_OK) {
            return rc;
        }
    }
    return HA_OK;
}

/* Who this is, asked once; others are told `why` meanwhile. */
static int
ask_self_once(const struct config *config,
              const char *const addresses[],
              size_t n,
              const char *why,
              size_t *index,
              struct err *err)
{
    const struct self_question question = {.listen = config->listen,
                                           .port = config->port_http,
                                           .port_http = config->port_http,
                                           .addresses = addresses,
                                           .n = n,
                                           .why = why};
    char listed[HA_MEMBERS_MAX * HA_ADDRESS_MAX] = "";
    const int rc = self_ask(&question, index, err);

    if (rc != HA_ENOTFOUND) {
        return rc == HA_OK ? check_published(config, *index, why, err) : rc;
    }
    for (size_t i = 0; i < n; i++) {
        const size_t used = strlen(listed);

        (void)snprintf(
            listed + used, sizeof listed - used, "%s%s", used > 0 ? " " : "", addresses[i]);
    }
    return err_set(
        err,
        HA_ENOTFOUND,
        "no listed address (%s) leads to port %u of this container: either this node is "
        "not in PRIMARY_IP, REPLICAS_IP or WITNESS_IPS, or HA_HTTP_PORT is not published "
        "in host mode; allowed: one of both put right, or NODE_IP set",
        listed,
        config->port_http);
}

static int
ask_self_now(const struct config *config,
             const char *const addresses[],
             size_t n,
             size_t *index,
             struct err *err)
{
    return ask_self_once(config, addresses, n, WHY_LOOKING, index, err);
}

/* Who this is, asked until something answers. What is not in the list waits here: a stack may be
 * deployed with the right one while the task goes on. */
static int
ask_self_patiently(const struct config *config,
                   const char *const addresses[],
                   size_t n,
                   size_t *index,
                   struct err *err)
{
    char why[HA_ERR_TEXT_MAX] = WHY_LOOKING;
    int64_t said_ms = 0;

    for (;;) {
        const int rc = ask_self_once(config, addresses, n, why, index, err);

        if (rc != HA_ENOTFOUND) {
            return rc;
        }
        memcpy(why, err->text, sizeof why);
        if (said_ms == 0 || clock_mono().ms - said_ms >= WAIT_SAID_MS) {
            said_ms = clock_mono().ms;
            log_write(LOG_LEVEL_WARN, "waits", "%s", err->text);
        }
    }
}

static int
health(void)
{
    char host[HA_ADDRESS_MAX];
    uint16_t port;
    struct err err = {0};

    if (config_http_from_env(host, &port, &err) != HA_OK ||
        self_health(host, port, &err) != HA_OK) {
        fprintf(stderr, "haagent: %s\n", err.text);
        return 1;
    }
    return 0;
}

static int
check(void)
{
    static struct config config;
    struct err err = {0};

    if (config_from_env(&config, ask_self_now, &err) != HA_OK) {
        fprintf(stderr, "haagent: %s\n", err.text);
        return 1;
    }
    for (unsigned i = 0; i < config.n_warnings; i++) {
        fprintf(stderr, "haagent: warning: %s\n", config.warnings[i]);
    }
    printf("the environment is right: member %s of %u, primary %s\n",
           config.core.address,
           config.core.declaration.n_members,
           config.core.declaration.primary);
    config_wipe(&config);
    return 0;
}

int
main(int argc, char **argv)
{
    static struct agent agent;
    struct err err = {0};
    int status;

    (void)signal(SIGPIPE, SIG_IGN);
    if (argc > 1) {
        if (argc == 2 && strcmp(argv[1], "--check") == 0) {
            return check();
        }
        if (argc == 2 && strcmp(argv[1], "--health") == 0) {
            return health();
        }
        if (argc == 2 && strcmp(argv[1], "--version") == 0) {
            puts("haagent " HAWSER_VERSION);
            return 0;
        }
        if (argc == 2 && strcmp(argv[1], "--help") == 0) {
            usage(stdout);
            return 0;
        }
        usage(stderr);
        return 2;
    }
    if (config_from_env(&agent.config, ask_self_patiently, &err) != HA_OK) {
        fprintf(stderr, "haagent: %s\n", err.text);
        return 1;
    }
    status = run(&agent);
    log_stop();
    if (agent.is_again) {
        for (unsigned i = 0; i < agent.n_locks; i++) {
            (void)close(agent.lock_fds[i]); /* the others close by themselves */
        }
        (void)execv("/proc/self/exe", argv);
        fprintf(stderr, "haagent: cannot begin anew: %s\n", strerror(errno));
        return 1;
    }
    return status;
}
