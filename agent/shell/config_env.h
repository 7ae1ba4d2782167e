/*
 * config_env.h - everything that the environment says, read once and checked.
 *
 * The only place that reads the environment. A wrong or contradictory one is refused with
 * a text that names the variable, its value (never a secret's) and what is allowed. Once
 * read, secrets are wiped from the process's environment, so that no child inherits them.
 *
 * Memory: struct config is the caller's, plain data; config_wipe() takes the secrets out.
 */
#ifndef HA_SHELL_CONFIG_ENV_H
#define HA_SHELL_CONFIG_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/core/core.h"
#include "agent/net/secret_text.h"
#include "base/err.h"

#define CONFIG_PATH_MAX 256
#define CONFIG_USER_MAX 64 /* PostgreSQL's limit of a name, with its NUL */
#define CONFIG_TEXT_MAX 4096
#define CONFIG_HOSTS_MAX 1024
#define CONFIG_WARNINGS_MAX 8

enum log_format {
    LOG_FORMAT_PLAIN = 0,
    LOG_FORMAT_JSON,
    LOG_FORMAT_COUNT,
};

struct config {
    /* For core_init(). `random` is left 0: making it is the shell's work. */
    struct core_config core;

    /* For postgres_open(); a witness has none of it. */
    char pg_bin[CONFIG_PATH_MAX]; /* "" = to be found */
    char pgdata[CONFIG_PATH_MAX];
    char initdb_scripts[CONFIG_PATH_MAX]; /* "" when there is no such directory */
    char initdb_args[CONFIG_TEXT_MAX];
    char extra_conf[CONFIG_TEXT_MAX];      /* POSTGRESQL_CONF */
    char client_networks[CONFIG_TEXT_MAX]; /* CIDRs with a comma between; "" = all */
    char superuser[CONFIG_USER_MAX];
    char database[CONFIG_USER_MAX];
    char replication_user[CONFIG_USER_MAX];
    struct secret_text superuser_password;
    struct secret_text replication_password;
    char fence_library[CONFIG_PATH_MAX]; /* of ha_fence.so; "" = the fence is off */
    char guardian[CONFIG_PATH_MAX];      /* of haguard; "" = none found */
    uid_t uid;                           /* to run PostgreSQL as; never 0 for a database member */
    gid_t gid;
    uint16_t port_database;
    uint64_t clone_rate; /* bytes a second; 0 = any */
    unsigned keep_old;   /* data directories that were replaced */

    /* For peer_open() and the HTTP API. */
    struct secret_text cluster_secret;
    char listen[HA_ADDRESS_MAX];
    uint16_t port_peer;
    uint16_t port_http;

    /* The gateways; hosts "" = none. */
    char gateway_hosts[CONFIG_HOSTS_MAX];
    char pcp_user[CONFIG_USER_MAX];
    struct secret_text pcp_password;
    uint16_t port_pcp;

    char state_dir[CONFIG_PATH_MAX];
    char run_dir[CONFIG_PATH_MAX];
    uint8_t log_level;  /* enum log_level of agent/core/effect.h */
    uint8_t log_format; /* enum log_format */

    /* What is allowed, but should be said at each start. */
    unsigned n_warnings;
    char warnings[CONFIG_WARNINGS_MAX][256];
};

/* One variable, as --help and docs/configuration.md show it. */
struct config_variable {
    const char *name;
    const char *fallback; /* what holds when it is not set, in words */
    const char *help;
    bool is_secret; /* NAME_FILE is read as well; the value is never shown */
};

/* The table of all variables. */
const struct config_variable *config_variables(size_t *n);

/*
 * Finds out which of the addresses is the own one, where no interface tells and NODE_IP is not
 * set; `config` has the ports and `listen`. It may take its time. HA_ENOTFOUND: none is.
 */
typedef int (*config_self_fn)(const struct config *config,
                              const char *const addresses[],
                              size_t n,
                              size_t *index,
                              struct err *err);

/*
 * Reads and checks. On failure `out` holds no secret. Once: secrets leave the environment. `ask`
 * may be NULL: then an interface or NODE_IP must tell who this is.
 */
int config_from_env(struct config *out, config_self_fn ask, struct err *err) HA_MUST_CHECK;

/* Only where the agent of this very environment answers over HTTP. */
int config_http_from_env(char host[HA_ADDRESS_MAX], uint16_t *port, struct err *err) HA_MUST_CHECK;

/* Overwrites the secrets. */
void config_wipe(struct config *config);

#endif
