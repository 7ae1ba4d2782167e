/*
 * hactl.h - what the verbs of hactl share.
 *
 * hactl asks agents over HTTP and tells what they say. It asks all that it knows at once and
 * believes the one that has seen the newest reign: an agent that is cut off knows an older one.
 *
 * Memory: one context for the life of the process.
 */
#ifndef HA_TOOLS_HACTL_H
#define HA_TOOLS_HACTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

#define HACTL_AGENTS_MAX 18
#define HACTL_URL_MAX 96
#define HACTL_WORDS_MAX 2

enum exit_status {
    EXIT_YES = 0,
    EXIT_NO = 1,
    EXIT_USAGE = 2,
    EXIT_UNREACHABLE = 3,
    EXIT_REFUSED = 4,
};

enum color_choice { COLOR_AUTO = 0, COLOR_ALWAYS, COLOR_NEVER };

struct options {
    const char *verb;
    const char *words[HACTL_WORDS_MAX];
    int n_words;
    const char *url; /* --url, or NULL */
    bool is_json;
    bool is_waiting;
    bool is_watching;
    bool is_read_only;
    bool is_forced;
    const char *dead; /* --dead, or NULL */
    bool wants_help;
    uint8_t color;      /* enum color_choice */
    int64_t timeout_ms; /* 0 = the verb's own */
    bool has_number;
    uint64_t number;
};

struct agents {
    size_t n;
    char urls[HACTL_AGENTS_MAX][HACTL_URL_MAX]; /* http://host:port */
};

struct context {
    struct options options;
    struct agents agents;
    bool has_color;
    FILE *out;
    FILE *err;
};

/* One verb: its line in --help, and what it does. */
struct verb {
    const char *name;
    const char *args; /* as --help shows them */
    const char *help;
    const char *example;
    int words_min;
    int words_max;
    enum exit_status (*run)(struct context *context);
};

/* The whole of hactl: `argv` as main() has it, texts to `out` and `err`. */
enum exit_status hactl_run(int argc, char **argv, FILE *out, FILE *err);

/* ---- args.c ---- */

/* Reads the command line. The exit status of a usage error with its text, or EXIT_YES. */
enum exit_status
args_parse(int argc, char **argv, struct options *out, struct err *err) HA_MUST_CHECK;

const struct verb *args_verb(const char *name);
void args_help(FILE *to);
void args_verb_help(FILE *to, const struct verb *verb);

/* ---- environment.c: the only reader of hactl's environment ---- */

/* The agents to ask: --url, else HA_URL, else the members that the environment lists. */
int environment_agents(const char *url, struct agents *out, struct err *err) HA_MUST_CHECK;
bool environment_wants_color(uint8_t choice, FILE *to);
const char *environment_database(void);

struct http_auth;

/* The key that signs requests, from HA_CLUSTER_SECRET or POSTGRES_PASSWORD (or their _FILE). */
int environment_auth(struct http_auth *auth, struct err *err) HA_MUST_CHECK;

/* ---- the verbs ---- */

enum exit_status verb_leader(struct context *context); /* show.c */
enum exit_status verb_status(struct context *context);
enum exit_status verb_members(struct context *context);
enum exit_status verb_guarantee(struct context *context);
enum exit_status verb_topology(struct context *context);
enum exit_status verb_history(struct context *context);
enum exit_status verb_explain(struct context *context);
enum exit_status verb_version(struct context *context);
enum exit_status verb_dsn(struct context *context);
enum exit_status verb_uri(struct context *context);
enum exit_status verb_declare(struct context *context); /* change.c */
enum exit_status verb_switchover(struct context *context);
enum exit_status verb_pause(struct context *context);
enum exit_status verb_resume(struct context *context);
enum exit_status verb_restart(struct context *context);
enum exit_status verb_reinit(struct context *context);
enum exit_status verb_reload(struct context *context);
enum exit_status verb_failover(struct context *context); /* force.c */
enum exit_status verb_recover(struct context *context);
enum exit_status verb_gateway(struct context *context); /* gateway.c */
enum exit_status verb_plan(struct context *context);    /* plan.c */

#endif
