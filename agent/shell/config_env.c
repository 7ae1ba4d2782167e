#include "agent/shell/config_env.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/net/key.h"
#include "agent/shell/config_internal.h"
#include "store/sync.h"

#define NAME_WITH_FILE_MAX 64
#define BOOT_GRACE_MS 15000
#define MAX_LAG (16ULL << 20)
#define PRIORITY 100
#define SICK_MS 10000
#define SICK_MS_LEAST 2000
#define DISK_RESERVE (64ULL << 20)

/* The one table: what is not in here is not read. docs/configuration.md follows it. */
static const struct config_variable VARIABLES[] = {
    /* clang-format off */
    {"PRIMARY_IP", "required", "IP address of the node whose data are the truth", false},
    {"REPLICAS_IP", "none", "IP addresses of the other database nodes, with commas or blanks between", false},
    {"WITNESS_IPS", "none", "IP addresses of the agents that only vote", false},
    {"POSTGRES_PRIMARY_NODE", "not used", "host name in place of PRIMARY_IP; it must resolve to a listed address", false},
    {"MY_NODE_HOSTNAME", "the host name", "name of this node, for people", false},
    {"NODE_IP", "found: an own interface, or what leads back here", "which of the listed addresses is this node", false},
    {"PORT_DATABASE", "5432", "PostgreSQL's port, the same on every node", false},
    {"POSTGRES_USER", "postgres", "name of the superuser", false},
    {"POSTGRES_DB", "POSTGRES_USER", "database that is made at the first start", false},
    {"POSTGRES_PASSWORD", "required", "the superuser's password", true},
    {"POSTGRES_INITDB_ARGS", "none", "further arguments of initdb", false},
    {"POSTGRES_INITDB_WALDIR", "not used", "a directory of its own for the WAL: not supported, and refused", false},
    {"POSTGRES_HOST_AUTH_METHOD", "scram-sha-256", "how clients prove who they are: `scram-sha-256`; `md5` is taken for it, others are refused", false},
    {"PGDATA", "/var/lib/postgresql/data", "the data directory", false},
    {"POSTGRESQL_CONF", "none", "settings of PostgreSQL: name=value|name=value", false},
    {"REPLICATION_USER", "replicator", "role that the standbys stream as", false},
    {"REPLICATION_PASSWORD", "derived from HA_CLUSTER_SECRET", "its password", true},
    {"HA_CLUSTER_SECRET", "derived from POSTGRES_PASSWORD", "what agents and hactl know each other by", true},
    {"HA_FAILOVER", "declared", "who may take over: `declared` = only the declared primary, `auto` = the best standby", false},
    {"HA_LEASE_MS", "2000", "length of the primary's lease, 500 to 60000", false},
    {"HA_ON_CRASH", "default", "when PostgreSQL dies on the primary: `failover`, `restart`, or `default` = failover under auto, restart under declared", false},
    {"HA_ON_STOP", "handover", "when the primary's agent is told to end: `handover` = to a standby first, `stop` = only stop", false},
    {"HA_SYNC", "off", "synchronous replication: `off`, `on` = for as long as there is a standby, `quorum` = on so many of all that any majority knows each commit, `strict` = as `on`, but never on fewer than the count", false},
    {"HA_SYNC_COUNT", "1 of 3 members, 2 of 5", "how many standbys a commit waits for: 1 to 8", false},
    {"HA_MAX_LAG", "16MB", "how far behind a standby may be to take over: bytes, kB, MB, GB; 0 = any", false},
    {"HA_DECLARATION", "0", "counter of deployments; a lower one than that on record never wins; 0 = not used", false},
    {"HA_NOFAILOVER", "off", "`on`: this node never takes over", false},
    {"HA_PRIORITY", "100", "of two standbys with the same WAL the one with the higher number takes over, 0 to 1000", false},
    {"HA_NOSYNC", "off", "`on`: no commit ever waits for this node", false},
    {"HA_NOLOADBALANCE", "off", "`on`: no reads are sent to this node while it is a standby", false},
    {"HA_SICK_MS", "10000", "a PostgreSQL that answers no commit, or no new session, for so long is sick: 2000 to 600000, 0 = none ever is", false},
    {"HA_DISK_RESERVE", "64MB", "with less free space a primary is sick; as much is kept as a ballast: bytes, kB, MB, GB; 0 = neither", false},
    {"HA_REWIND", "on", "`off`: data that left the cluster's history are always copied anew, never rewound", false},
    {"HA_CLONE_FROM", "primary", "who is copied from: `primary`, `replica` = any standby that streams, or a member's address; the primary stands in", false},
    {"HA_CLONE_RATE", "0", "what a copy may take a second: bytes, kB, MB, GB (32kB to 1GB); 0 = any", false},
    {"HA_KEEP_OLD", "0", "how many of the data directories that were replaced are kept, 0 to 9; none goes before the new one streams", false},
    {"HA_SLOT_TTL", "86400", "seconds after which a member that is not heard of has no replication slot any more, up to 30 days; 0 = never", false},
    {"HA_BOOT_GRACE_MS", "15000", "after a start of the whole cluster: how long the last primary is waited for", false},
    {"HA_PEER_PORT", "7420", "port that the agents talk to each other on", false},
    {"HA_HTTP_PORT", "8008", "port of the HTTP API", false},
    {"HA_LISTEN", "NODE_IP if it is an own address, else all", "address that the agent and PostgreSQL listen on", false},
    {"HA_CLIENT_NETWORKS", "all", "networks that clients may come from: 10.0.0.0/8,fd00::/8", false},
    {"PGPOOL_HOSTS", "none", "names or addresses of the gateways (every address behind a name counts), with commas or blanks between", false},
    {"PGPOOL_PCP_PORT", "9898", "the gateways' PCP port", false},
    {"PCP_USER", "POSTGRES_USER", "whom the gateways know over PCP", false},
    {"PCP_PASSWORD", "POSTGRES_PASSWORD", "that user's password", true},
    {"HA_STATE_DIR", "/var/lib/hawser", "directory of the agent's own durable state", false},
    {"HA_RUN_DIR", "/run/hawser", "directory of sockets and the lease page", false},
    {"HA_LIB_DIR", "where they are installed, or beside haagent", "directory of ha_fence_15.so (of the server's major) and haguard", false},
    {"HA_PG_BIN", "found", "directory of PostgreSQL's programs", false},
    {"HA_PG_USER", "postgres, or the agent's own user", "user that PostgreSQL runs as", false},
    {"HA_FENCE", "on", "`off`: PostgreSQL does not check the lease itself (unsafe, and said at each start)", false},
    {"HA_INITDB_SCRIPTS", "/docker-entrypoint-initdb.d", "scripts that are run once, after the first initdb", false},
    {"HA_LOG_LEVEL", "info", "error, warn, info or debug", false},
    {"HA_LOG_FORMAT", "plain", "plain or json", false},
    /* clang-format on */
};

/* Variables of the other programs of this project, which share environments with the agent. */
static const char *const FOREIGN[] = {"HA_URL", "HA_GATEWAYS", NULL};

extern char **environ;

const struct config_variable *
config_variables(size_t *n)
{
    *n = HA_COUNT_OF(VARIABLES);
    return VARIABLES;
}

static const struct config_variable *
find_variable(const char *name, size_t len)
{
    for (size_t i = 0; i < HA_COUNT_OF(VARIABLES); i++) {
        if (strlen(VARIABLES[i].name) == len && strncmp(VARIABLES[i].name, name, len) == 0) {
            return &VARIABLES[i];
        }
    }
    return NULL;
}

/* An empty variable counts as one that is not set: stack files leave many empty. */
static const char *
get(const char *name)
{
    const char *value = getenv(name);

    return value == NULL || value[0] == 0 ? NULL : value;
}

const char *
config_env(const char *name)
{
    REQUIRE(find_variable(name, strlen(name)) != NULL, "every variable is in the table");
    return get(name);
}

const char *
config_env_file(const char *name)
{
    char file[NAME_WITH_FILE_MAX];
    const struct config_variable *v = find_variable(name, strlen(name));

    REQUIRE(v != NULL && v->is_secret, "only secrets are read from files");
    (void)snprintf(file, sizeof file, "%s_FILE", name);
    return get(file);
}

void
config_env_forget(const char *name)
{
    char *value = getenv(name);

    if (value != NULL) {
        key_wipe(value, strlen(value)); /* /proc/PID/environ shows this very memory */
        (void)unsetenv(name);
    }
}

void
config_warn(struct config *config, const char *fmt, ...)
{
    va_list args;

    if (config->n_warnings == CONFIG_WARNINGS_MAX) {
        return;
    }
    char *text = config->warnings[config->n_warnings++];
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof config->warnings[0], fmt, args);
    va_end(args);
}

int
config_text(const char *name, const char *fallback, char *out, size_t size, struct err *err)
{
    const char *value = config_env(name);
    const char *text = value == NULL ? fallback : value;

    if (strlen(text) >= size) {
        return err_set(err,
                       HA_EINVAL,
                       "%s=%.40s...: too long; allowed: less than %zu characters",
                       name,
                       text,
                       size);
    }
    memcpy(out, text, strlen(text) + 1);
    return HA_OK;
}

static int
read_path(const char *name, const char *fallback, char out[CONFIG_PATH_MAX], struct err *err)
{
    if (config_text(name, fallback, out, CONFIG_PATH_MAX, err) != HA_OK) {
        return HA_EINVAL;
    }
    if (out[0] != '/') {
        return err_set(err, HA_EINVAL, "%s=%s: not absolute; allowed: a path from /", name, out);
    }
    return HA_OK;
}

static int
read_number(
    const char *name, uint64_t fallback, uint64_t min, uint64_t max, uint64_t *out, struct err *err)
{
    const char *value = config_env(name);

    *out = fallback;
    return value == NULL ? HA_OK : config_parse_number(name, value, min, max, out, err);
}

static int
read_choice(
    const char *name, uint8_t fallback, const char *const choices[], uint8_t *out, struct err *err)
{
    const char *value = config_env(name);

    *out = fallback;
    return value == NULL ? HA_OK : config_parse_choice(name, value, choices, out, err);
}

static int
read_port(const char *name, uint16_t fallback, uint16_t *out, struct err *err)
{
    uint64_t number;
    const int rc = read_number(name, fallback, 1, 65535, &number, err);

    *out = rc == HA_OK ? (uint16_t)number : 0;
    return rc;
}

static int
read_ports(struct config *out, struct err *err)
{
    int rc;

    if ((rc = read_port("PORT_DATABASE", 5432, &out->port_database, err)) != HA_OK ||
        (rc = read_port("HA_PEER_PORT", 7420, &out->port_peer, err)) != HA_OK ||
        (rc = read_port("HA_HTTP_PORT", 8008, &out->port_http, err)) != HA_OK) {
        return rc;
    }
    if (out->port_database == out->port_peer || out->port_database == out->port_http ||
        out->port_peer == out->port_http) {
        return err_set(err,
                       HA_EINVAL,
                       "PORT_DATABASE=%u, HA_PEER_PORT=%u, HA_HTTP_PORT=%u: two are equal; "
                       "allowed: three different ports",
                       out->port_database,
                       out->port_peer,
                       out->port_http);
    }
    return HA_OK;
}

static int
read_sync(struct declaration *d, struct err *err)
{
    static const char *const choices[] = {"off", "on", "quorum", "strict", NULL};
    uint64_t count;

    if (read_choice("HA_SYNC", SYNC_OFF, choices, &d->sync, err) != HA_OK ||
        read_number("HA_SYNC_COUNT", 0, 1, HA_MEMBERS_MAX - 1, &count, err) != HA_OK) {
        return HA_EINVAL;
    }
    if (d->sync == SYNC_OFF && count != 0) {
        return err_set(err,
                       HA_EINVAL,
                       "HA_SYNC_COUNT=%u: without HA_SYNC no commit waits for anybody; allowed: "
                       "HA_SYNC=on, quorum or strict beside it",
                       (unsigned)count);
    }
    d->sync_count = (uint8_t)count;
    return HA_OK;
}

/* The members are known last of all. */
static int
check_sync(const struct declaration *d, struct err *err)
{
    unsigned n_databases = 0;

    for (size_t i = 0; i < d->n_members; i++) {
        n_databases += d->members[i].kind == MEMBER_DATABASE;
    }
    if (d->sync_count != 0 && d->sync_count >= n_databases) {
        return err_set(err,
                       HA_EINVAL,
                       "HA_SYNC_COUNT=%u: there are %u database members; allowed: fewer",
                       d->sync_count,
                       n_databases);
    }
    if (d->sync >= SYNC_QUORUM && n_databases < 2) {
        return err_set(err,
                       HA_EINVAL,
                       "HA_SYNC=%s: there is no standby; allowed: off, on, or more in REPLICAS_IP",
                       sync_mode_text(d->sync));
    }
    return HA_OK;
}

static int
read_max_lag(struct declaration *d, struct err *err)
{
    const char *value = config_env("HA_MAX_LAG");

    d->max_lag = MAX_LAG;
    return value == NULL ? HA_OK : config_parse_bytes("HA_MAX_LAG", value, &d->max_lag, err);
}

/* When PostgreSQL counts as sick. */
static int
read_health(struct core_config *core, struct err *err)
{
    const char *reserve = config_env("HA_DISK_RESERVE");
    uint64_t sick;

    if (read_number("HA_SICK_MS", SICK_MS, 0, 600000, &sick, err) != HA_OK) {
        return HA_EINVAL;
    }
    if (sick != 0 && sick < SICK_MS_LEAST) {
        return err_set(
            err,
            HA_EINVAL,
            "HA_SICK_MS=%llu: too short for a busy machine; allowed: 2000 to 600000, or 0",
            (unsigned long long)sick);
    }
    core->sick_ms = (uint32_t)sick;
    core->disk_reserve = DISK_RESERVE;
    return reserve == NULL
               ? HA_OK
               : config_parse_bytes("HA_DISK_RESERVE", reserve, &core->disk_reserve, err);
}

/* What is special about this node. */
static int
read_tags(struct core_config *core, struct err *err)
{
    static const char *const switches[] = {"off", "on", NULL};
    uint8_t is_nosync;
    uint8_t is_noloadbalance;
    uint64_t priority;

    if (read_choice("HA_NOSYNC", 0, switches, &is_nosync, err) != HA_OK ||
        read_choice("HA_NOLOADBALANCE", 0, switches, &is_noloadbalance, err) != HA_OK ||
        read_number("HA_PRIORITY", PRIORITY, 0, 1000, &priority, err) != HA_OK) {
        return HA_EINVAL;
    }
    core->is_nosync = is_nosync != 0;
    core->is_noloadbalance = is_noloadbalance != 0;
    core->priority = (uint16_t)priority;
    return HA_OK;
}

static int
read_policy(struct config *out, struct err *err)
{
    static const char *const failovers[] = {"declared", "auto", NULL};
    static const char *const crashes[] = {"default", "failover", "restart", NULL};
    static const char *const stops[] = {"handover", "stop", NULL};
    static const char *const switches[] = {"off", "on", NULL};
    struct core_config *core = &out->core;
    struct declaration *d = &core->declaration;
    uint64_t lease;
    uint64_t grace;
    uint8_t is_nofailover;

    if (read_tags(core, err) != HA_OK ||
        read_choice("HA_FAILOVER", FAILOVER_DECLARED, failovers, &d->failover, err) != HA_OK ||
        read_choice("HA_ON_CRASH", ON_CRASH_DEFAULT, crashes, &core->on_crash, err) != HA_OK ||
        read_choice("HA_ON_STOP", ON_STOP_HANDOVER, stops, &core->on_stop, err) != HA_OK ||
        read_choice("HA_NOFAILOVER", 0, switches, &is_nofailover, err) != HA_OK ||
        read_number(
            "HA_LEASE_MS", HA_LEASE_MS_DEFAULT, HA_LEASE_MS_MIN, HA_LEASE_MS_MAX, &lease, err) !=
            HA_OK ||
        read_number("HA_BOOT_GRACE_MS", BOOT_GRACE_MS, 0, 3600000, &grace, err) != HA_OK ||
        read_number("HA_DECLARATION", 0, 0, INT64_MAX, &d->number, err) != HA_OK ||
        read_max_lag(d, err) != HA_OK || read_sync(d, err) != HA_OK ||
        read_health(core, err) != HA_OK || config_read_rebuild(out, err) != HA_OK) {
        return HA_EINVAL;
    }
    d->lease_ms = (uint32_t)lease;
    core->boot_grace_ms = (uint32_t)grace;
    core->is_nofailover = is_nofailover != 0;
    return HA_OK;
}

/* As the official image has it, these three may stand in a file as well: a Docker secret. */
static int
read_text_or_file(const char *name, const char *fallback, char *out, size_t size, struct err *err)
{
    char file[NAME_WITH_FILE_MAX];
    struct secret_text text;

    (void)snprintf(file, sizeof file, "%s_FILE", name);
    if (get(file) == NULL) {
        return config_text(name, fallback, out, size, err);
    }
    if (secret_text_read(name, config_env(name), get(file), &text, err) != HA_OK) {
        return HA_EINVAL;
    }
    if (text.len >= size) {
        return err_set(err, HA_EINVAL, "%s: too long; allowed: %zu characters", file, size - 1);
    }
    memcpy(out, text.bytes, text.len + 1);
    return HA_OK;
}

/* What the official image knows, and must not be taken for done where it is not. */
static int
read_refused(struct err *err)
{
    static const char *const METHODS[] = {"scram-sha-256", "md5", NULL};
    const char *waldir = config_env("POSTGRES_INITDB_WALDIR");
    uint8_t method;

    if (waldir != NULL) {
        return err_set(err,
                       HA_EINVAL,
                       "POSTGRES_INITDB_WALDIR=%s: not supported, as a copied or rebuilt directory "
                       "must be whole; allowed: not set (put the volume on the fast disk)",
                       waldir);
    }
    return read_choice("POSTGRES_HOST_AUTH_METHOD", 0, METHODS, &method, err);
}

static int
read_database(struct config *out, struct err *err)
{
    const char *networks = config_env("HA_CLIENT_NETWORKS");

    if (read_refused(err) != HA_OK ||
        read_text_or_file("POSTGRES_USER", "postgres", out->superuser, CONFIG_USER_MAX, err) !=
            HA_OK ||
        read_text_or_file("POSTGRES_DB", out->superuser, out->database, CONFIG_USER_MAX, err) !=
            HA_OK ||
        config_text(
            "REPLICATION_USER", "replicator", out->replication_user, CONFIG_USER_MAX, err) !=
            HA_OK ||
        read_text_or_file("POSTGRES_INITDB_ARGS", "", out->initdb_args, CONFIG_TEXT_MAX, err) !=
            HA_OK ||
        config_text("POSTGRESQL_CONF", "", out->extra_conf, CONFIG_TEXT_MAX, err) != HA_OK ||
        config_parse_networks("HA_CLIENT_NETWORKS",
                              networks == NULL ? "" : networks,
                              out->client_networks,
                              CONFIG_TEXT_MAX,
                              err) != HA_OK ||
        read_path("PGDATA", "/var/lib/postgresql/data", out->pgdata, err) != HA_OK ||
        read_path("HA_STATE_DIR", "/var/lib/hawser", out->state_dir, err) != HA_OK ||
        read_path("HA_RUN_DIR", "/run/hawser", out->run_dir, err) != HA_OK) {
        return HA_EINVAL;
    }
    if (strcmp(out->superuser, out->replication_user) == 0) {
        return err_set(err,
                       HA_EINVAL,
                       "REPLICATION_USER=%s: the same as POSTGRES_USER; allowed: another name",
                       out->replication_user);
    }
    return HA_OK;
}

static int
read_gateways(struct config *out, struct err *err)
{
    if (config_text("PGPOOL_HOSTS", "", out->gateway_hosts, CONFIG_HOSTS_MAX, err) != HA_OK ||
        config_text("PCP_USER", out->superuser, out->pcp_user, CONFIG_USER_MAX, err) != HA_OK) {
        return HA_EINVAL;
    }
    return read_port("PGPOOL_PCP_PORT", 9898, &out->port_pcp, err);
}

/* A mistyped HA_ name would silently mean its default. */
static void
warn_unknown(struct config *out)
{
    for (char **at = environ; at != NULL && *at != NULL; at++) {
        size_t len = strcspn(*at, "=");
        bool is_known = strncmp(*at, "HA_", 3) != 0 || find_variable(*at, len) != NULL;

        for (size_t i = 0; !is_known && FOREIGN[i] != NULL; i++) {
            is_known = strlen(FOREIGN[i]) == len && strncmp(*at, FOREIGN[i], len) == 0;
        }
        if (!is_known && len > 5 && strncmp(*at + len - 5, "_FILE", 5) == 0) {
            const struct config_variable *v = find_variable(*at, len - 5);

            is_known = v != NULL && v->is_secret;
        }
        if (!is_known) {
            config_warn(out, "%.*s is not a variable that the agent knows", (int)len, *at);
        }
    }
}

static int
read_all(struct config *out, config_self_fn ask, struct err *err)
{
    static const char *const levels[] = {"error", "warn", "info", "debug", NULL};
    static const char *const formats[] = {"plain", "json", NULL};
    int rc;

    if ((rc = read_choice("HA_LOG_LEVEL", LOG_LEVEL_INFO, levels, &out->log_level, err)) != HA_OK ||
        (rc = read_choice("HA_LOG_FORMAT", LOG_FORMAT_PLAIN, formats, &out->log_format, err)) !=
            HA_OK ||
        (rc = read_ports(out, err)) != HA_OK || (rc = read_policy(out, err)) != HA_OK ||
        (rc = read_database(out, err)) != HA_OK || (rc = read_gateways(out, err)) != HA_OK ||
        (rc = config_read_members(out, ask, err)) != HA_OK ||
        (rc = config_read_listen(out, err)) != HA_OK ||
        (rc = config_read_secrets(out, err)) != HA_OK ||
        (rc = config_read_host(out, err)) != HA_OK ||
        (rc = check_sync(&out->core.declaration, err)) != HA_OK) {
        return rc;
    }
    const char *fault = declaration_fault(&out->core.declaration);
    return fault == NULL ? HA_OK : err_set(err, HA_EINVAL, "the environment: %s", fault);
}

int
config_from_env(struct config *out, config_self_fn ask, struct err *err)
{
    int rc;

    memset(out, 0, sizeof *out);
    warn_unknown(out);
    rc = read_all(out, ask, err);
    for (size_t i = 0; i < HA_COUNT_OF(VARIABLES); i++) {
        if (VARIABLES[i].is_secret) {
            config_env_forget(VARIABLES[i].name);
        }
    }
    if (rc != HA_OK) {
        config_wipe(out);
    }
    return rc;
}

int
config_http_from_env(char host[HA_ADDRESS_MAX], uint16_t *port, struct err *err)
{
    static struct config config; /* too big for a stack */
    int rc;

    memset(&config, 0, sizeof config);
    rc = read_ports(&config, err);
    if (rc != HA_OK) {
        return rc;
    }
    if (config_read_members(&config, NULL, NULL) != HA_OK) {
        config.core.address[0] = 0; /* it listens on all, then */
    }
    rc = config_read_listen(&config, err);
    if (rc != HA_OK) {
        return rc;
    }
    memcpy(host, config.listen, HA_ADDRESS_MAX);
    *port = config.port_http;
    return HA_OK;
}

void
config_wipe(struct config *config)
{
    key_wipe(&config->superuser_password, sizeof config->superuser_password);
    key_wipe(&config->replication_password, sizeof config->replication_password);
    key_wipe(&config->pcp_password, sizeof config->pcp_password);
    key_wipe(&config->cluster_secret, sizeof config->cluster_secret);
}
