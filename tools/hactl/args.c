/*
 * The command line: one table of verbs and one of options, which also make --help.
 */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "tools/hactl/hactl.h"

static const struct verb VERBS[] = {
    /* clang-format off */
    {"leader", "", "print the primary's address; exit 1 and a reason when there is none", "hactl leader", 0, 0, verb_leader},
    {"status", "", "a table of the members, the declaration, the reign, and drift", "hactl status --watch", 0, 0, verb_status},
    {"members", "", "who belongs to the cluster, and who was heard of", "hactl members", 0, 0, verb_members},
    {"topology", "", "who streams from whom", "hactl topology", 0, 0, verb_topology},
    {"history", "", "the reigns: who, when, why", "hactl history", 0, 0, verb_history},
    {"explain", "[NODE]", "what each agent, or that of NODE, is doing and why", "hactl explain n2", 0, 1, verb_explain},
    {"declare", "PRIMARY", "put a new declared primary on record; the same words again change nothing", "hactl declare 10.0.0.12 --wait", 1, 1, verb_declare},
    {"switchover", "[TO]", "move the primary to TO, or to the best standby, and wait until it is open", "hactl switchover n2", 0, 1, verb_switchover},
    {"failover", "[TO]", "with --force: TO goes on as the primary without the members that --dead names", "hactl failover n2 --force --dead n1", 0, 1, verb_failover},
    {"recover", "[NODE]", "NODE goes on without the members that --dead names; the primary stays, if it is NODE", "hactl recover n1 --dead n2", 0, 1, verb_recover},
    {"plan", "PRIMARY", "what declaring PRIMARY would do, step by step; changes nothing", "hactl plan n2", 1, 1, verb_plan},
    {"restart", "NODE", "restart the PostgreSQL of NODE in place", "hactl restart n2", 1, 1, verb_restart},
    {"reload", "NODE", "make the PostgreSQL of NODE read its settings again", "hactl reload n2", 1, 1, verb_reload},
    {"reinit", "NODE", "replace the data of the standby NODE by a copy", "hactl reinit n3", 1, 1, verb_reinit},
    {"guarantee", "", "what is promised about acknowledged writes at this moment", "hactl guarantee", 0, 0, verb_guarantee},
    {"pause", "", "appoint nobody until resume", "hactl pause", 0, 0, verb_pause},
    {"resume", "", "end a pause", "hactl resume", 0, 0, verb_resume},
    {"gateway", "", "what each gateway sees beside what is; exit 1 while they differ", "hactl gateway", 0, 0, verb_gateway},
    {"dsn", "", "connection parameters of the primary", "psql \"$(hactl dsn) dbname=app\"", 0, 0, verb_dsn},
    {"uri", "", "one URI that finds the primary wherever it is", "psql \"$(hactl uri)\"", 0, 0, verb_uri},
    {"version", "", "versions of hactl and of the agents", "hactl version", 0, 0, verb_version},
    /* clang-format on */
};

enum option_key {
    KEY_HELP = 'h',
    KEY_URL = 'u',
    KEY_JSON = 'j',
    KEY_WATCH = 'w',
    KEY_VERSION = 'V',
    KEY_WAIT = 256,
    KEY_NUMBER,
    KEY_TIMEOUT,
    KEY_COLOR,
    KEY_READ_ONLY,
    KEY_FORCE,
    KEY_DEAD,
};

static const struct {
    const char *name;
    const char *arg; /* NULL = none */
    int key;
    const char *help;
} OPTIONS[] = {
    /* clang-format off */
    {"json", NULL, KEY_JSON, "print JSON"},
    {"url", "URL[,URL]", KEY_URL, "agents to ask (default: HA_URL, else PRIMARY_IP, REPLICAS_IP, WITNESS_IPS and NODE_IP with HA_HTTP_PORT, else 127.0.0.1:8008)"},
    {"timeout", "SECONDS", KEY_TIMEOUT, "how long to wait in all (default 60)"},
    {"wait", NULL, KEY_WAIT, "declare: until it is in force and the primary is open"},
    {"number", "N", KEY_NUMBER, "declare: the deploy counter (HA_DECLARATION)"},
    {"watch", NULL, KEY_WATCH, "status: again each second"},
    {"read-only", NULL, KEY_READ_ONLY, "dsn, uri: prefer a standby"},
    {"force", NULL, KEY_FORCE, "failover: the majority is gone for good"},
    {"dead", "NODE[,NODE]", KEY_DEAD, "failover, recover: who is dead for good and never comes back as what it was"},
    {"color", "WHEN", KEY_COLOR, "auto, always or never"},
    {"help", NULL, KEY_HELP, "this text, or that of a verb"},
    {"version", NULL, KEY_VERSION, "version of hactl"},
    /* clang-format on */
};

const struct verb *
args_verb(const char *name)
{
    for (size_t i = 0; i < HA_COUNT_OF(VERBS); i++) {
        if (strcmp(VERBS[i].name, name) == 0) {
            return &VERBS[i];
        }
    }
    return NULL;
}

void
args_help(FILE *to)
{
    (void)fprintf(to, "usage: hactl VERB [options]\n\nVerbs:\n");
    for (size_t i = 0; i < HA_COUNT_OF(VERBS); i++) {
        char left[40];

        (void)snprintf(left, sizeof left, "%s %s", VERBS[i].name, VERBS[i].args);
        (void)fprintf(to, "  %-18s %s\n", left, VERBS[i].help);
    }
    (void)fprintf(to, "\nOptions:\n");
    for (size_t i = 0; i < HA_COUNT_OF(OPTIONS); i++) {
        char left[40];

        (void)snprintf(left,
                       sizeof left,
                       "--%s%s%s",
                       OPTIONS[i].name,
                       OPTIONS[i].arg == NULL ? "" : " ",
                       OPTIONS[i].arg == NULL ? "" : OPTIONS[i].arg);
        (void)fprintf(to, "  %-18s %s\n", left, OPTIONS[i].help);
    }
    (void)fprintf(to,
                  "\nExit status: 0 yes, 1 no, 2 wrong usage, 3 no agent answers, 4 refused.\n");
}

void
args_verb_help(FILE *to, const struct verb *verb)
{
    (void)fprintf(to,
                  "usage: hactl %s%s%s [options]\n\n  %s\n\nExample: %s\n",
                  verb->name,
                  verb->args[0] == 0 ? "" : " ",
                  verb->args,
                  verb->help,
                  verb->example);
}

static int
parse_seconds(const char *text, int64_t *out, struct err *err)
{
    char *end = NULL;
    const double seconds = strtod(text, &end);

    if (end == text || *end != 0 || !(seconds > 0) || seconds > 86400) {
        return err_set(err, HA_EINVAL, "--timeout %s: allowed: seconds, more than 0", text);
    }
    *out = (int64_t)(seconds * 1000);
    return HA_OK;
}

static int
parse_number(const char *text, struct options *out, struct err *err)
{
    char *end = NULL;

    errno = 0;
    out->number = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != 0 || errno != 0 || out->number > INT64_MAX) {
        return err_set(err, HA_EINVAL, "--number %s: allowed: a whole number", text);
    }
    out->has_number = true;
    return HA_OK;
}

static int
parse_color(const char *text, struct options *out, struct err *err)
{
    static const char *const words[] = {"auto", "always", "never"};

    for (uint8_t i = 0; i < HA_COUNT_OF(words); i++) {
        if (strcmp(text, words[i]) == 0) {
            out->color = i;
            return HA_OK;
        }
    }
    return err_set(err, HA_EINVAL, "--color %s: allowed: auto, always, never", text);
}

static int
take_option(int key, struct options *out, struct err *err)
{
    switch (key) {
    case KEY_HELP:
        out->wants_help = true;
        return HA_OK;
    case KEY_VERSION:
        out->verb = "version";
        return HA_OK;
    case KEY_URL:
        out->url = optarg;
        return HA_OK;
    case KEY_JSON:
        out->is_json = true;
        return HA_OK;
    case KEY_WATCH:
        out->is_watching = true;
        return HA_OK;
    case KEY_WAIT:
        out->is_waiting = true;
        return HA_OK;
    case KEY_READ_ONLY:
        out->is_read_only = true;
        return HA_OK;
    case KEY_FORCE:
        out->is_forced = true;
        return HA_OK;
    case KEY_DEAD:
        out->dead = optarg;
        return HA_OK;
    case KEY_NUMBER:
        return parse_number(optarg, out, err);
    case KEY_TIMEOUT:
        return parse_seconds(optarg, &out->timeout_ms, err);
    case KEY_COLOR:
        return parse_color(optarg, out, err);
    case ':':
        return err_set(err, HA_EINVAL, "an option lacks its argument; see hactl --help");
    default:
        return err_set(err, HA_EINVAL, "unknown option; see hactl --help");
    }
}

static int
parse_options(int argc, char **argv, struct options *out, struct err *err)
{
    struct option table[HA_COUNT_OF(OPTIONS) + 1];
    int key;

    memset(table, 0, sizeof table);
    for (size_t i = 0; i < HA_COUNT_OF(OPTIONS); i++) {
        table[i].name = OPTIONS[i].name;
        table[i].has_arg = OPTIONS[i].arg == NULL ? no_argument : required_argument;
        table[i].val = OPTIONS[i].key;
    }
    optind = 0; /* anew, also for the second command line of a test */
    while ((key = getopt_long(argc, argv, ":hu:jwV", table, NULL)) != -1) {
        if (take_option(key, out, err) != HA_OK) {
            return HA_EINVAL;
        }
    }
    return HA_OK;
}

enum exit_status
args_parse(int argc, char **argv, struct options *out, struct err *err)
{
    const struct verb *verb;

    memset(out, 0, sizeof *out);
    if (parse_options(argc, argv, out, err) != HA_OK) {
        return EXIT_USAGE;
    }
    if (out->verb == NULL && optind < argc) {
        out->verb = argv[optind++];
    }
    if (out->verb == NULL) {
        (void)err_set(err, HA_EINVAL, "a verb is missing; see hactl --help");
        return out->wants_help ? EXIT_YES : EXIT_USAGE;
    }
    verb = args_verb(out->verb);
    if (verb == NULL) {
        (void)err_set(err, HA_EINVAL, "%s: unknown verb; see hactl --help", out->verb);
        return EXIT_USAGE;
    }
    for (; optind < argc && out->n_words < HACTL_WORDS_MAX; optind++) {
        out->words[out->n_words++] = argv[optind];
    }
    if (!out->wants_help &&
        (optind < argc || out->n_words < verb->words_min || out->n_words > verb->words_max)) {
        (void)err_set(err, HA_EINVAL, "usage: hactl %s %s", verb->name, verb->args);
        return EXIT_USAGE;
    }
    return EXIT_YES;
}
