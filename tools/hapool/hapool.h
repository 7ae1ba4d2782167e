/*
 * hapool.h - the entry point of the gateway container: Pgpool-II, told what is.
 *
 * Environment and secret files become Pgpool's files; Pgpool starts when there is a
 * primary (by role, not by open port) and in the state that the agents say; hapool
 * stays beside it and repairs over PCP what no agent does, so that a gateway which none of
 * them can reach still follows. The agents' own word comes first.
 *
 * Errors:  struct err; one that a person must mend names the variable.
 * Secrets: files of mode 0600 in the run directory; never in argv, log or a child's environment.
 */
#ifndef HA_HAPOOL_HAPOOL_H
#define HA_HAPOOL_HAPOOL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/gateway/pcp_wire.h"
#include "base/err.h"

struct json_t; /* jansson.h */

#define HAPOOL_NODES_MAX 16
#define HAPOOL_USERS_MAX 64
#define HAPOOL_ADDRESS_MAX 48
#define HAPOOL_NAME_MAX 64
#define HAPOOL_SECRET_MAX 1024
#define HAPOOL_PATH_MAX 256

struct hapool_user {
    char name[HAPOOL_NAME_MAX];
    char password[HAPOOL_SECRET_MAX];
};

struct hapool_config {
    /* By Pgpool's number. Those of the environment are sorted; who joined later stands behind. */
    char nodes[HAPOOL_NODES_MAX][HAPOOL_ADDRESS_MAX];
    unsigned n_nodes;
    uint16_t port_database;
    uint16_t port_http; /* of the agents */
    uint16_t port;
    uint16_t port_pcp;
    unsigned n_children;
    unsigned max_pool;
    char database[HAPOOL_NAME_MAX];
    char pcp_user[HAPOOL_NAME_MAX];
    char pcp_password[HAPOOL_SECRET_MAX];
    struct hapool_user users[HAPOOL_USERS_MAX]; /* the first is POSTGRES_USER */
    unsigned n_users;
    char run_dir[HAPOOL_PATH_MAX];
    char pgpool[HAPOOL_PATH_MAX];
    unsigned version; /* 403 = 4.3 */
};

/* Whether the agent that leads Raft tells the Pgpool beside us by itself. */
enum hapool_reach {
    HAPOOL_REACH_UNKNOWN = 0, /* it tells some by addresses that may be ours behind a translation */
    HAPOOL_REACH_NOT,         /* it knows no gateway, or us as silent, or our neighbours alone */
    HAPOOL_REACH_YES,
};

/* An address of our own, and who its neighbours are. */
struct hapool_net {
    int family; /* AF_INET, AF_INET6 */
    uint8_t address[16];
    uint8_t mask[16];
};

/* What the agents say. */
struct hapool_fact {
    uint64_t reign;                    /* 0 = nothing is known */
    char primary[HAPOOL_ADDRESS_MAX];  /* "" = nobody may write */
    bool is_standby[HAPOOL_NODES_MAX]; /* streams from the primary, close enough */
    bool is_harmful[HAPOOL_NODES_MAX]; /* a primary that is none, or it hangs: never attached */
    bool is_away[HAPOOL_NODES_MAX];    /* who leads Raft wants it detached; it may be gone */
    uint64_t led_term;                 /* of who leads Raft and said so; 0 = nobody did */
    uint8_t reach;                     /* enum hapool_reach, by its word */
    char leader[HAPOOL_ADDRESS_MAX];   /* who leads Raft, as others say; "" = unknown */
    unsigned n_new;                    /* database members that the configuration lacks */
    char added[HAPOOL_NODES_MAX][HAPOOL_ADDRESS_MAX];
};

/* config.c: reads and checks; the environment's own secrets are taken out of it. */
int hapool_config_read(struct hapool_config *out, struct err *err) HA_MUST_CHECK;
void hapool_config_wipe(struct hapool_config *config);

/* config.c: the cluster's newer members become nodes, behind those that Pgpool knows: a number
 * never means another server. How many there were. */
unsigned hapool_config_add(struct hapool_config *config, const struct hapool_fact *fact);

/* render.c: writes all files. `fact` gives the state that Pgpool starts in; NULL keeps it. */
int hapool_render(const struct hapool_config *config,
                  const struct hapool_fact *fact,
                  struct err *err) HA_MUST_CHECK;

/* render.c: "AES" and base64, as Pgpool decrypts it with that key. False when it does not fit. */
bool hapool_encrypt(const char *password, const char *key, char *out, size_t size);

/* When what is wrong is ours to repair. */
struct hapool_patience {
    int64_t since; /* ms; what Pgpool sees has been wrong and the same since; 0 = it is right */
    bool is_up[HAPOOL_NODES_MAX];
    bool is_primary[HAPOOL_NODES_MAX];
    int64_t alone_since; /* ms; HAPOOL_REACH_NOT since; 0 = it is not */
    int64_t told_at;     /* ms; 0 = never */
    size_t n_told;
    struct pcp_op told[PCP_OPS_MAX];
};

/* fact.c: asks all agents of nodes at once, then the witness that leads Raft if one does; the
 * highest reign counts. */
void hapool_ask(const struct hapool_config *config, struct hapool_fact *out);

/* fact.c: one answer's picture; false when it cannot be read or says nothing. */
bool
hapool_fact_parse(const struct hapool_config *config, const char *json, struct hapool_fact *out);

/* pcp.c: one session with the Pgpool beside; HA_OK or why not. The result is in `session`. */
int hapool_pcp(const struct hapool_config *config,
               const struct pcp_op *ops,
               size_t n_ops,
               struct pcp_session *session) HA_MUST_CHECK;

/* pcp.c: attached, whether a session uses it or not. */
bool hapool_is_up(const struct pcp_node *node);

/* pcp.c: what must be told so that `nodes` become the fact; the number of operations. */
size_t hapool_difference(const struct hapool_config *config,
                         const struct hapool_fact *fact,
                         const struct pcp_session *view,
                         struct pcp_op ops[PCP_OPS_MAX]);

/* reach.c: our own addresses without the loopback; how many. */
size_t hapool_own_nets(struct hapool_net *nets, size_t max);

/* reach.c: what "gateways" of who leads Raft mean for a gateway with those addresses. */
enum hapool_reach
hapool_reach(const struct json_t *gateways, const struct hapool_net *nets, size_t n_nets);

/* follow.c: true when the n `ops`, which would make `view` right (0: it is), are to be told now. An
 * agent that reaches Pgpool comes first; while Pgpool's view moves, somebody is at work; what was
 * told in vain is repeated seldom. `now` in ms. */
bool hapool_is_due(struct hapool_patience *patience,
                   enum hapool_reach reach,
                   const struct pcp_session *view,
                   const struct pcp_op *ops,
                   size_t n,
                   int64_t now);

/* follow.c: looks, tells when it is due, and leaves what the agents say in `fact`. What it did is
 * in `text` ("" = nothing). Ms until the next look. */
int64_t hapool_follow(const struct hapool_config *config,
                      struct hapool_patience *patience,
                      struct hapool_fact *fact,
                      char *text,
                      size_t size);

/* child.c: runs a program to its end; its output without the last newline. < 0: it failed. */
int hapool_capture(const char *const argv[], const char *passfile, char *out, size_t size);

/* child.c: starts Pgpool; its process id, or < 0. */
pid_t hapool_start(const struct hapool_config *config, struct err *err) HA_MUST_CHECK;

int64_t hapool_now_ms(void);

#endif
