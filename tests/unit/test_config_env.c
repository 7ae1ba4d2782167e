/*
 * Goal:   a good environment becomes the configuration that it says; a wrong or contradictory
 *         one is refused with a text that names the variable and what is allowed, and no secret
 *         is ever in a text or left for a child.
 * Method: tables of environments. The host's interfaces, its resolver and its users are played
 *         by the test (--wrap), so that every host gives the same answers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/shell/config_env.h"

#define VARIABLES_MAX 16
#define SECRET "hunter2-do-not-tell"
#define THREE "PRIMARY_IP=10.0.0.1", "REPLICAS_IP=10.0.0.2,10.0.0.3"
#define GOOD THREE, "NODE_IP=10.0.0.1", "POSTGRES_PASSWORD=" SECRET

static char dir[] = "/tmp/test_config_env.XXXXXX";
static struct config config;
static struct err err;

/* ---- the host, as the test plays it ---- */

static const char *const *interfaces;

int __wrap_getifaddrs(struct ifaddrs **out);
void __wrap_freeifaddrs(struct ifaddrs *list);
struct passwd *__wrap_getpwnam(const char *name);
int __wrap_getaddrinfo(const char *node,
                       const char *service,
                       const struct addrinfo *hints,
                       struct addrinfo **out);
int __real_getaddrinfo(const char *node,
                       const char *service,
                       const struct addrinfo *hints,
                       struct addrinfo **out);

int
__wrap_getifaddrs(struct ifaddrs **out)
{
    static struct ifaddrs list[4];
    static struct sockaddr_in at[4];
    size_t n = 0;

    for (; interfaces != NULL && interfaces[n] != NULL; n++) {
        memset(&list[n], 0, sizeof list[n]);
        at[n].sin_family = AF_INET;
        assert_int_equal(inet_pton(AF_INET, interfaces[n], &at[n].sin_addr), 1);
        union {
            struct sockaddr_in *in;
            struct sockaddr *any;
        } cast = {.in = &at[n]};
        list[n].ifa_addr = cast.any;
        list[n].ifa_next = interfaces[n + 1] != NULL ? &list[n + 1] : NULL;
    }
    *out = n == 0 ? NULL : list;
    return 0;
}

void
__wrap_freeifaddrs(struct ifaddrs *list)
{
    (void)list;
}

int
__wrap_getaddrinfo(const char *node,
                   const char *service,
                   const struct addrinfo *hints,
                   struct addrinfo **out)
{
    (void)service;
    if (strcmp(node, "db2") == 0) {
        return __real_getaddrinfo("10.0.0.2", NULL, hints, out);
    }
    if (strcmp(node, "elsewhere") == 0) {
        return __real_getaddrinfo("192.0.2.9", NULL, hints, out);
    }
    return EAI_NONAME;
}

struct passwd *
__wrap_getpwnam(const char *name)
{
    static struct passwd user;
    const bool is_root = strcmp(name, "root") == 0;

    user.pw_uid = is_root ? 0 : geteuid() == 0 ? 123 : geteuid();
    user.pw_gid = is_root ? 0 : 124;
    return strcmp(name, "nobody-here") == 0 ? NULL : &user;
}

/* ---- helpers ---- */

/* "%D" in a value stands for the test's own directory. */
static void
set_env(const char *const *words)
{
    (void)clearenv();
    for (; *words != NULL; words++) {
        char name[64];
        char value[512];
        const char *equals = strchr(*words, '=');
        const char *mark = strstr(equals + 1, "%D");

        (void)snprintf(name, sizeof name, "%.*s", (int)(equals - *words), *words);
        if (mark != NULL) {
            (void)snprintf(value, sizeof value, "%s%s", dir, mark + 2);
        } else {
            (void)snprintf(value, sizeof value, "%s", equals + 1);
        }
        assert_int_equal(setenv(name, value, 1), 0);
    }
}

static void
write_file(const char *name, const void *bytes, size_t len)
{
    char path[128];
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static bool
holds(const void *bytes, size_t len, const char *text)
{
    return memmem(bytes, len, text, strlen(text)) != NULL;
}

static int
read_env(const char *const *words)
{
    memset(&err, 0, sizeof err);
    set_env(words);
    return config_from_env(&config, NULL, &err);
}

#define READ(...) read_env((const char *const[]){__VA_ARGS__, NULL})

static void
must_read(const char *const *words)
{
    const int rc = read_env(words);

    if (rc != HA_OK) {
        fail_msg("refused: %s", err.text);
    }
}

#define MUST_READ(...) must_read((const char *const[]){__VA_ARGS__, NULL})

/* ---- good environments ---- */

static void
the_least_environment_gives_the_documented_defaults(void **state)
{
    (void)state;
    MUST_READ(GOOD);
    const struct declaration *d = &config.core.declaration;
    assert_string_equal(config.core.address, "10.0.0.1");
    assert_int_equal(config.core.kind, MEMBER_DATABASE);
    assert_int_equal(config.core.on_crash, ON_CRASH_DEFAULT);
    assert_int_equal(config.core.on_stop, ON_STOP_HANDOVER);
    assert_int_equal(config.core.boot_grace_ms, 15000);
    assert_false(config.core.is_nofailover);
    assert_false(config.core.is_nosync);
    assert_false(config.core.is_noloadbalance);
    assert_int_equal(config.core.priority, 100);
    assert_string_equal(d->primary, "10.0.0.1");
    assert_int_equal(d->n_members, 3);
    assert_int_equal(d->lease_ms, 2000);
    assert_int_equal(d->max_lag, 16 << 20);
    assert_int_equal(d->failover, FAILOVER_DECLARED);
    assert_int_equal(d->number, 0);
    assert_null(declaration_fault(d));
    assert_string_equal(config.superuser, "postgres");
    assert_string_equal(config.database, "postgres");
    assert_string_equal(config.replication_user, "replicator");
    assert_string_equal(config.superuser_password.bytes, SECRET);
    assert_string_equal(config.pgdata, "/var/lib/postgresql/data");
    assert_string_equal(config.state_dir, "/var/lib/hawser");
    assert_string_equal(config.run_dir, "/run/hawser");
    assert_string_equal(config.listen, "0.0.0.0");
    assert_string_equal(config.client_networks, "");
    assert_int_equal(config.port_database, 5432);
    assert_int_equal(config.port_peer, 7420);
    assert_int_equal(config.port_http, 8008);
    assert_int_equal(config.log_level, LOG_LEVEL_INFO);
    assert_int_equal(config.log_format, LOG_FORMAT_PLAIN);
    assert_int_not_equal(config.uid, 0);
}

static void
every_word_of_a_full_environment_arrives(void **state)
{
    (void)state;
    MUST_READ("PRIMARY_IP=10.0.0.2",
              "REPLICAS_IP=10.0.0.3 10.0.0.1",
              "WITNESS_IPS=::FFFF:10.0.0.9",
              "NODE_IP=10.0.0.3",
              "POSTGRES_USER=migasfree",
              "POSTGRES_PASSWORD=" SECRET,
              "HA_FAILOVER=auto",
              "HA_LEASE_MS=500",
              "HA_ON_CRASH=restart",
              "HA_ON_STOP=stop",
              "HA_MAX_LAG=3MB",
              "HA_DECLARATION=18446744073",
              "HA_CLIENT_NETWORKS=10.0.0.0/8, FD00::/8 192.0.2.7",
              "HA_NOFAILOVER=on",
              "HA_NOSYNC=on",
              "HA_SYNC=strict",
              "HA_SYNC_COUNT=2",
              "HA_NOLOADBALANCE=on",
              "HA_PRIORITY=1000",
              "HA_LOG_FORMAT=json",
              "HA_LOG_LEVEL=debug");
    const struct declaration *d = &config.core.declaration;
    assert_string_equal(d->primary, "10.0.0.2");
    assert_int_equal(d->n_members, 4);
    assert_string_equal(d->members[0].address, "10.0.0.1");
    assert_string_equal(d->members[3].address, "10.0.0.9");
    assert_int_equal(d->members[3].kind, MEMBER_WITNESS);
    assert_int_equal(d->failover, FAILOVER_AUTO);
    assert_int_equal(d->lease_ms, 500);
    assert_int_equal(d->max_lag, 3 << 20);
    assert_int_equal(d->number, 18446744073);
    assert_int_equal(config.core.on_crash, ON_CRASH_RESTART);
    assert_int_equal(config.core.on_stop, ON_STOP_STOP);
    assert_true(config.core.is_nofailover);
    assert_true(config.core.is_nosync);
    assert_int_equal(d->sync, SYNC_STRICT);
    assert_int_equal(d->sync_count, 2);
    assert_true(config.core.is_noloadbalance);
    assert_int_equal(config.core.priority, 1000);
    assert_string_equal(config.database, "migasfree");
    assert_string_equal(config.client_networks, "10.0.0.0/8,fd00::/8,192.0.2.7/32");
    assert_int_equal(config.log_format, LOG_FORMAT_JSON);
    assert_int_equal(config.log_level, LOG_LEVEL_DEBUG);
}

static void
the_same_members_in_another_order_are_the_same_declaration(void **state)
{
    (void)state;
    MUST_READ(GOOD);
    const uint64_t digest = declaration_digest(&config.core.declaration);
    MUST_READ("PRIMARY_IP=10.0.0.1",
              "REPLICAS_IP= 10.0.0.3 , 10.0.0.2 ",
              "NODE_IP=10.0.0.3",
              "POSTGRES_PASSWORD=x");
    assert_true(digest == declaration_digest(&config.core.declaration));
}

static void
the_own_address_is_the_one_listed_of_the_interfaces(void **state)
{
    static const char *const one[] = {"127.0.0.1", "10.0.0.3", "192.0.2.1", NULL};
    static const char *const two[] = {"10.0.0.2", "10.0.0.3", NULL};
    static const char *const none[] = {"127.0.0.1", "192.0.2.1", NULL};

    (void)state;
    interfaces = one;
    MUST_READ(THREE, "POSTGRES_PASSWORD=x");
    assert_string_equal(config.core.address, "10.0.0.3");
    interfaces = two;
    assert_int_equal(READ(THREE, "POSTGRES_PASSWORD=x"), HA_EINVAL);
    assert_non_null(strstr(err.text, "more than one"));
    interfaces = none;
    assert_int_equal(READ(THREE, "POSTGRES_PASSWORD=x"), HA_EINVAL);
    assert_non_null(strstr(err.text, "none of this host's addresses (127.0.0.1 192.0.2.1)"));
    assert_non_null(strstr(err.text, "NODE_IP set to the one of 10.0.0.1 10.0.0.2 10.0.0.3"));
    interfaces = NULL;
}

static int
the_second_answers(
    const struct config *c, const char *const addresses[], size_t n, size_t *index, struct err *e)
{
    (void)e;
    assert_int_equal(n, 3);
    assert_string_equal(addresses[1], "10.0.0.2");
    assert_int_equal(c->port_http, 8009);
    assert_string_equal(c->listen, "0.0.0.0");
    *index = 1;
    return HA_OK;
}

/* In a container no interface has a member's address. */
static void
who_has_no_listed_interface_asks_who_it_is(void **state)
{
    static const char *const none[] = {"127.0.0.1", "172.18.0.3", NULL};
    static const char *const words[] = {THREE, "POSTGRES_PASSWORD=x", "HA_HTTP_PORT=8009", NULL};

    (void)state;
    interfaces = none;
    memset(&err, 0, sizeof err);
    set_env(words);
    assert_int_equal(config_from_env(&config, the_second_answers, &err), HA_OK);
    assert_string_equal(config.core.address, "10.0.0.2");
    assert_string_equal(config.listen, "0.0.0.0");
    interfaces = NULL;
}

static void
a_host_name_may_stand_for_the_primary(void **state)
{
    (void)state;
    MUST_READ("POSTGRES_PRIMARY_NODE=db2",
              "REPLICAS_IP=10.0.0.1,10.0.0.2",
              "NODE_IP=10.0.0.1",
              "POSTGRES_PASSWORD=x");
    assert_string_equal(config.core.declaration.primary, "10.0.0.2");
    /* The node itself needs no resolver. */
    MUST_READ("POSTGRES_PRIMARY_NODE=unresolvable",
              "MY_NODE_HOSTNAME=unresolvable",
              "REPLICAS_IP=10.0.0.1,10.0.0.2",
              "NODE_IP=10.0.0.1",
              "POSTGRES_PASSWORD=x");
    assert_string_equal(config.core.declaration.primary, "10.0.0.1");
    assert_string_equal(config.core.name, "unresolvable");
    MUST_READ("POSTGRES_PRIMARY_NODE=db2",
              "PRIMARY_IP=10.0.0.2",
              "REPLICAS_IP=10.0.0.1",
              "NODE_IP=10.0.0.1",
              "POSTGRES_PASSWORD=x");
}

static void
the_agent_listens_on_its_own_address_only_when_it_is_local(void **state)
{
    (void)state;
    MUST_READ("PRIMARY_IP=127.0.0.1", "NODE_IP=127.0.0.1", "POSTGRES_PASSWORD=x");
    assert_string_equal(config.listen, "127.0.0.1");
    MUST_READ(GOOD, "HA_LISTEN=127.0.0.5");
    assert_string_equal(config.listen, "127.0.0.5");
    MUST_READ("PRIMARY_IP=2001:db8::1", "NODE_IP=2001:DB8:0::1", "POSTGRES_PASSWORD=x");
    assert_string_equal(config.core.address, "2001:db8::1");
    assert_string_equal(config.listen, "::");
}

/* ---- secrets ---- */

static void
a_secret_file_loses_its_line_end_and_nothing_else(void **state)
{
    (void)state;
    write_file("pass", " a b\t\r\n", 7);
    MUST_READ(THREE, "NODE_IP=10.0.0.1", "POSTGRES_PASSWORD_FILE=%D/pass");
    assert_string_equal(config.superuser_password.bytes, " a b\t");
    assert_int_equal(config.superuser_password.len, 5);
}

/* As in the official image: a Docker secret may hold the user's name. */
static void
names_may_stand_in_files(void **state)
{
    (void)state;
    write_file("user", "migasfree\n", 10);
    write_file(
        "long", "0123456789012345678901234567890123456789012345678901234567890123456789", 70);
    MUST_READ(GOOD, "POSTGRES_USER_FILE=%D/user", "POSTGRES_HOST_AUTH_METHOD=md5");
    assert_string_equal(config.superuser, "migasfree");
    assert_string_equal(config.database, "migasfree");
    assert_int_equal(READ(GOOD, "POSTGRES_USER=x", "POSTGRES_USER_FILE=%D/user"), HA_EINVAL);
    assert_int_equal(READ(GOOD, "POSTGRES_DB_FILE=%D/long"), HA_EINVAL);
    assert_non_null(strstr(err.text, "POSTGRES_DB_FILE: too long"));
}

static void
derived_secrets_are_the_same_on_every_member_and_differ_from_their_source(void **state)
{
    char replication[SECRET_TEXT_MAX];
    char cluster[32];

    (void)state;
    MUST_READ(GOOD);
    memcpy(replication, config.replication_password.bytes, sizeof replication);
    memcpy(cluster, config.cluster_secret.bytes, sizeof cluster);
    assert_int_equal(config.cluster_secret.len, 32);
    assert_int_equal(config.replication_password.len, 64);
    MUST_READ(THREE, "NODE_IP=10.0.0.2", "POSTGRES_PASSWORD=" SECRET);
    assert_string_equal(config.replication_password.bytes, replication);
    assert_memory_equal(config.cluster_secret.bytes, cluster, sizeof cluster);
    MUST_READ(THREE, "NODE_IP=10.0.0.2", "POSTGRES_PASSWORD=" SECRET "2");
    assert_string_not_equal(config.replication_password.bytes, replication);
    assert_memory_not_equal(config.cluster_secret.bytes, cluster, sizeof cluster);
    MUST_READ(GOOD, "HA_CLUSTER_SECRET=one", "REPLICATION_PASSWORD=two");
    assert_string_equal(config.cluster_secret.bytes, "one");
    assert_string_equal(config.replication_password.bytes, "two");
}

static void
no_child_inherits_a_secret(void **state)
{
    char *before;

    (void)state;
    set_env((const char *const[]){GOOD, "HA_CLUSTER_SECRET=one", NULL});
    before = getenv("POSTGRES_PASSWORD");
    assert_non_null(before);
    assert_int_equal(config_from_env(&config, NULL, &err), HA_OK);
    assert_null(getenv("POSTGRES_PASSWORD"));
    assert_null(getenv("HA_CLUSTER_SECRET"));
    assert_int_equal(before[0], 0); /* the memory that /proc shows is wiped as well */
}

static void
wiping_and_failing_leave_no_secret_behind(void **state)
{
    (void)state;
    MUST_READ(GOOD);
    assert_true(holds(&config, sizeof config, SECRET));
    config_wipe(&config);
    assert_false(holds(&config, sizeof config, SECRET));
    assert_int_equal(READ(GOOD, "HA_INITDB_SCRIPTS=/nowhere"), HA_EINVAL);
    assert_false(holds(&config, sizeof config, SECRET));
}

static void
a_witness_needs_no_password_of_the_superuser(void **state)
{
    (void)state;
    MUST_READ(THREE, "WITNESS_IPS=10.0.0.9", "NODE_IP=10.0.0.9", "HA_CLUSTER_SECRET=one");
    assert_int_equal(config.core.kind, MEMBER_WITNESS);
    assert_int_equal(config.superuser_password.len, 0);
}

/* ---- warnings ---- */

static void
an_unsafe_choice_and_a_mistyped_name_are_said_at_each_start(void **state)
{
    (void)state;
    MUST_READ(GOOD, "HA_FENCE=off", "HA_FAILOWER=auto", "HA_CLUSTER_SECRET_FILE=", "HA_URL=x");
    assert_int_equal(config.n_warnings, 2);
    assert_string_equal(config.warnings[0], "HA_FAILOWER is not a variable that the agent knows");
    assert_non_null(strstr(config.warnings[1], "HA_FENCE=off"));
}

static void
the_fence_is_on_where_the_module_is_found(void **state)
{
    char path[128];

    (void)state;
    assert_int_equal(READ(GOOD, "HA_LIB_DIR=%D", "HA_PG_BIN=/"), HA_EINVAL);
    write_file("ha_fence.so", "", 0);
    assert_int_equal(READ(GOOD, "HA_LIB_DIR=%D", "HA_PG_BIN=/"), HA_EINVAL); /* no guardian */
    write_file("haguard", "", 0);
    (void)snprintf(path, sizeof path, "%s/haguard", dir);
    assert_int_equal(chmod(path, 0700), 0);
    write_file("postgres", "", 0);
    (void)snprintf(path, sizeof path, "%s/postgres", dir);
    assert_int_equal(chmod(path, 0700), 0);
    MUST_READ(GOOD, "HA_LIB_DIR=%D", "HA_PG_BIN=%D");
    assert_int_equal(config.n_warnings, 0);
    assert_non_null(strstr(config.fence_library, "/ha_fence.so"));
    MUST_READ(GOOD, "HA_LIB_DIR=%D", "HA_FENCE=off");
    assert_string_equal(config.fence_library, "");
}

/* ---- bad environments ---- */

static const struct {
    const char *env[VARIABLES_MAX];
    const char *text; /* in the error, at its start unless it begins with '*' */
} BAD[] = {
    /* clang-format off */
    {{"NODE_IP=10.0.0.1", "POSTGRES_PASSWORD=x"}, "PRIMARY_IP is not set; allowed:"},
    {{GOOD, "PRIMARY_IP="}, "PRIMARY_IP is not set"},
    {{GOOD, "PRIMARY_IP=db1"}, "PRIMARY_IP=db1: not the IP address of a host; allowed:"},
    {{GOOD, "PRIMARY_IP=0.0.0.0"}, "PRIMARY_IP=0.0.0.0: not the IP address of a host"},
    {{GOOD, "PRIMARY_IP=224.0.0.1"}, "PRIMARY_IP=224.0.0.1: not the IP address"},
    {{GOOD, "PRIMARY_IP=10.0.0.1:5432"}, "PRIMARY_IP=10.0.0.1:5432: not the IP address"},
    {{GOOD, "PRIMARY_IP=10.0.0.2"}, "REPLICAS_IP: 10.0.0.2 is listed in another variable"},
    {{GOOD, "REPLICAS_IP=10.0.0.2,010.0.0.3"}, "REPLICAS_IP=010.0.0.3: not the IP address"},
    {{GOOD, "REPLICAS_IP=10.0.0.2,10.0.0.2"}, "REPLICAS_IP: 10.0.0.2 is listed twice; allowed:"},
    {{GOOD, "REPLICAS_IP=fd00::2,fd00:0::2"}, "REPLICAS_IP: fd00::2 is listed twice; allowed:"},
    {{GOOD, "WITNESS_IPS=10.0.0.3"}, "WITNESS_IPS: 10.0.0.3 is listed in another variable"},
    {{GOOD, "WITNESS_IPS=10.0.1.1 10.0.1.2 10.0.1.3 10.0.1.4 10.0.1.5 10.0.1.6 10.0.1.7"},
     "WITNESS_IPS: too many members"},
    {{GOOD, "REPLICAS_IP=1.1.1.1,1.1.1.2,1.1.1.3,1.1.1.4,1.1.1.5,1.1.1.6,1.1.1.7,1.1.1.8,1.1.1.9,"
            "1.1.1.10"}, "REPLICAS_IP: more than 9 addresses; allowed: at most 9 members"},
    {{GOOD, "NODE_IP=10.0.0.4"}, "NODE_IP=10.0.0.4: not one of the members; allowed: 10.0.0.1 "},
    {{GOOD, "NODE_IP=me"}, "NODE_IP=me: not the IP address"},
    {{GOOD, "POSTGRES_PRIMARY_NODE=db2"}, "POSTGRES_PRIMARY_NODE=db2: that is 10.0.0.2, but PRIMARY_IP=10.0.0.1;"},
    {{GOOD, "POSTGRES_PRIMARY_NODE=elsewhere"}, "POSTGRES_PRIMARY_NODE=elsewhere: the name stands for 192.0.2.9; allowed:"},
    {{GOOD, "POSTGRES_PRIMARY_NODE=typo"}, "POSTGRES_PRIMARY_NODE=typo: the name stands for Name or service not known"},
    {{GOOD, "PORT_DATABASE=0"}, "PORT_DATABASE=0: out of bounds; allowed: 1 to 65535"},
    {{GOOD, "PORT_DATABASE=5432x"}, "PORT_DATABASE=5432x: not a whole number"},
    {{GOOD, "PORT_DATABASE=-5"}, "PORT_DATABASE=-5: not a whole number"},
    {{GOOD, "PORT_DATABASE=65536"}, "PORT_DATABASE=65536: out of bounds"},
    {{GOOD, "HA_PEER_PORT=5432"}, "PORT_DATABASE=5432, HA_PEER_PORT=5432, HA_HTTP_PORT=8008: two are equal;"},
    {{GOOD, "HA_HTTP_PORT=7420"}, "PORT_DATABASE=5432, HA_PEER_PORT=7420, HA_HTTP_PORT=7420: two are equal;"},
    {{GOOD, "HA_LISTEN=192.0.2.55"}, "HA_LISTEN=192.0.2.55: not an address of this host; allowed:"},
    {{GOOD, "HA_FAILOVER=yes"}, "HA_FAILOVER=yes: unknown; allowed: declared, auto"},
    {{GOOD, "HA_LEASE_MS=499"}, "HA_LEASE_MS=499: out of bounds; allowed: 500 to 60000"},
    {{GOOD, "HA_LEASE_MS=99999999999999999999999"}, "HA_LEASE_MS=99999999999999999999999: out of bounds"},
    {{GOOD, "HA_ON_CRASH=panic"}, "HA_ON_CRASH=panic: unknown; allowed: default, failover, restart"},
    {{GOOD, "HA_ON_STOP=now"}, "HA_ON_STOP=now: unknown; allowed: handover, stop"},
    {{GOOD, "POSTGRES_INITDB_WALDIR=/wal"}, "POSTGRES_INITDB_WALDIR=/wal: not supported"},
    {{GOOD, "POSTGRES_HOST_AUTH_METHOD=trust"}, "POSTGRES_HOST_AUTH_METHOD=trust: unknown; allowed: scram-sha-256, md5"},
    {{GOOD, "HA_SYNC_COUNT=1"}, "HA_SYNC_COUNT=1: without HA_SYNC no commit waits for anybody"},
    {{GOOD, "HA_SYNC=on", "HA_SYNC_COUNT=3"}, "HA_SYNC_COUNT=3: "},
    {{GOOD, "HA_SYNC=strict", "HA_SYNC_COUNT=0"}, "HA_SYNC_COUNT=0"},
    {{GOOD, "HA_PRIORITY=1001"}, "HA_PRIORITY=1001"},
    {{GOOD, "HA_SYNC=maybe"}, "HA_SYNC=maybe: unknown"},
    {{GOOD, "HA_MAX_LAG=1TB"}, "HA_MAX_LAG=1TB: not a size; allowed:"},
    {{GOOD, "HA_MAX_LAG=99999999999999GB"}, "HA_MAX_LAG=99999999999999GB: not a size"},
    {{GOOD, "HA_DECLARATION=v2"}, "HA_DECLARATION=v2: not a whole number"},
    {{GOOD, "HA_BOOT_GRACE_MS=1h"}, "HA_BOOT_GRACE_MS=1h: not a whole number"},
    {{GOOD, "HA_LOG_LEVEL=all"}, "HA_LOG_LEVEL=all: unknown; allowed: error, warn, info, debug"},
    {{GOOD, "HA_LOG_FORMAT=xml"}, "HA_LOG_FORMAT=xml: unknown; allowed: plain, json"},
    {{GOOD, "HA_STATE_DIR=state"}, "HA_STATE_DIR=state: not absolute"},
    {{GOOD, "HA_CLIENT_NETWORKS=10.0.0.0/33"}, "HA_CLIENT_NETWORKS: 10.0.0.0/33 is not a network"},
    {{GOOD, "REPLICATION_USER=postgres"}, "REPLICATION_USER=postgres: the same as POSTGRES_USER"},
    {{GOOD, "POSTGRES_USER=a234567890123456789012345678901234567890123456789012345678901234"},
     "POSTGRES_USER=a234567890123456789012345678901234567890...: too long"},
    {{GOOD, "HA_FENCE=maybe"}, "HA_FENCE=maybe: unknown; allowed: off, on"},
    {{GOOD, "HA_PG_BIN=/nowhere"}, "HA_PG_BIN=/nowhere: no program `postgres` in it"},
    {{GOOD, "HA_PG_USER=root"}, "HA_PG_USER=root: PostgreSQL refuses to run as root; allowed:"},
    {{GOOD, "HA_PG_USER=nobody-here"}, "HA_PG_USER=nobody-here: no such user"},
    {{GOOD, "HA_INITDB_SCRIPTS=/nowhere"}, "HA_INITDB_SCRIPTS=/nowhere: No such file"},
    {{GOOD, "POSTGRES_PASSWORD="}, "POSTGRES_PASSWORD_FILE is not set; allowed:"},
    {{GOOD, "POSTGRES_PASSWORD_FILE=%D/pass"}, "POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE="},
    {{GOOD, "POSTGRES_PASSWORD=a\nb"}, "POSTGRES_PASSWORD: more than one line"},
    {{GOOD, "HA_CLUSTER_SECRET_FILE=%D/absent"}, "*absent: cannot be read: No such file"},
    {{GOOD, "HA_CLUSTER_SECRET_FILE=%D"}, "*cannot be read: Is a directory"},
    {{GOOD, "HA_CLUSTER_SECRET_FILE=%D/empty"}, "*/empty: empty; allowed: one line of text"},
    {{GOOD, "HA_CLUSTER_SECRET_FILE=%D/lines"}, "*/lines: more than one line"},
    {{GOOD, "HA_CLUSTER_SECRET_FILE=%D/binary"}, "*/binary: more than one line, or a NUL byte"},
    {{GOOD, "REPLICATION_PASSWORD_FILE=%D/long"}, "*/long: too long"},
    /* clang-format on */
};

static void
a_bad_environment_is_refused_by_name_and_with_what_is_allowed(void **state)
{
    static char many[2048];

    (void)state;
    memset(many, 'x', sizeof many);
    write_file("pass", SECRET "\n", strlen(SECRET) + 1);
    write_file("empty", "\n", 1);
    write_file("lines", SECRET "\nmore\n", strlen(SECRET) + 6);
    write_file("binary", SECRET "\0x", strlen(SECRET) + 2);
    write_file("long", many, sizeof many);
    for (size_t i = 0; i < HA_COUNT_OF(BAD); i++) {
        const int rc = read_env(BAD[i].env);
        const bool is_anywhere = BAD[i].text[0] == '*';
        const char *at = strstr(err.text, BAD[i].text + is_anywhere);

        if (rc == HA_OK || at == NULL || (!is_anywhere && at != err.text)) {
            fail_msg("row %zu: rc %d \"%s\", wanted \"%s\"", i, rc, err.text, BAD[i].text);
        }
        if (strstr(err.text, SECRET) != NULL || strstr(err.text, "allowed") == NULL) {
            fail_msg("row %zu: \"%s\" tells a secret, or not what is allowed", i, err.text);
        }
        assert_false(holds(&config, sizeof config, SECRET));
    }
}

/* ---- the document ---- */

static void
the_document_has_every_variable_and_no_other(void **state)
{
    static char text[64 * 1024];
    FILE *file = fopen(DOCS_DIR "/configuration.md", "re");
    size_t n_rows = 0;
    size_t n;
    const struct config_variable *v = config_variables(&n);

    (void)state;
    assert_non_null(file);
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    assert_int_equal(fclose(file), 0);
    for (size_t i = 0; i < n; i++) {
        char row[512];
        size_t len;

        len = (size_t)snprintf(row, sizeof row, "\n| `%s`", v[i].name);
        if (v[i].is_secret) {
            len += (size_t)snprintf(row + len, sizeof row - len, ", `%s_FILE`", v[i].name);
        }
        len += (size_t)snprintf(row + len, sizeof row - len, " | %s | ", v[i].fallback);
        for (const char *at = v[i].help; *at != 0 && len + 3 < sizeof row; at++) {
            len += (size_t)snprintf(row + len, sizeof row - len, *at == '|' ? "\\%c" : "%c", *at);
        }
        (void)snprintf(row + len, sizeof row - len, " |\n");
        if (strstr(text, row) == NULL) {
            fail_msg("docs/configuration.md lacks this row:%s", row);
        }
    }
    for (const char *at = text; (at = strstr(at, "\n| `")) != NULL; at++) {
        n_rows++;
    }
    assert_int_equal(n_rows, n);
}

static int
make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static int
remove_dir(void **state)
{
    static const char *const names[] = {
        "pass", "empty", "lines", "binary", "long", "user", "ha_fence.so", "haguard", "postgres"};

    (void)state;
    for (size_t i = 0; i < HA_COUNT_OF(names); i++) {
        char path[128];

        (void)snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        (void)unlink(path);
    }
    return rmdir(dir);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_environment_gives_the_documented_defaults),
        cmocka_unit_test(every_word_of_a_full_environment_arrives),
        cmocka_unit_test(the_same_members_in_another_order_are_the_same_declaration),
        cmocka_unit_test(the_own_address_is_the_one_listed_of_the_interfaces),
        cmocka_unit_test(a_host_name_may_stand_for_the_primary),
        cmocka_unit_test(the_agent_listens_on_its_own_address_only_when_it_is_local),
        cmocka_unit_test(a_secret_file_loses_its_line_end_and_nothing_else),
        cmocka_unit_test(names_may_stand_in_files),
        cmocka_unit_test(who_has_no_listed_interface_asks_who_it_is),
        cmocka_unit_test(derived_secrets_are_the_same_on_every_member_and_differ_from_their_source),
        cmocka_unit_test(no_child_inherits_a_secret),
        cmocka_unit_test(wiping_and_failing_leave_no_secret_behind),
        cmocka_unit_test(a_witness_needs_no_password_of_the_superuser),
        cmocka_unit_test(an_unsafe_choice_and_a_mistyped_name_are_said_at_each_start),
        cmocka_unit_test(the_fence_is_on_where_the_module_is_found),
        cmocka_unit_test(a_bad_environment_is_refused_by_name_and_with_what_is_allowed),
        cmocka_unit_test(the_document_has_every_variable_and_no_other),
    };

    /* The runner asks for its own format in the environment, which the tests empty. */
    if (getenv("CMOCKA_MESSAGE_OUTPUT") != NULL) {
        cmocka_set_message_output(CM_OUTPUT_TAP);
    }
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
