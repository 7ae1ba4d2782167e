/*
 * The verbs that only ask.
 */
#include <string.h>

#include "tools/hactl/render.h"

#define WATCH_MS 1000

static void
print_json(const struct context *c, const json_t *json)
{
    (void)json_dumpf(json, c->out, JSON_INDENT(2));
    (void)fputc('\n', c->out);
}

/* Why an answer is no picture. */
static const char *
reason(const struct answer *a)
{
    if (a->json != NULL && picture_text(a->json, "text")[0] != 0) {
        return picture_text(a->json, "text");
    }
    return a->error[0] != 0 ? a->error : "a strange answer";
}

/* Nobody answered: what each said instead. */
enum exit_status
hactl_unreachable(const struct context *c, const struct answers *answers)
{
    for (size_t i = 0; i < answers->n; i++) {
        (void)fprintf(c->err, "hactl: %s: %s\n", answers->at[i].url, reason(&answers->at[i]));
    }
    return EXIT_UNREACHABLE;
}

/* Agents that answer, but not as members yet: they say what they wait for. */
static void
tell_waiting(const struct context *c, const struct answers *answers)
{
    for (size_t i = 0; i < answers->n; i++) {
        if (answers->at[i].status >= 400) {
            (void)fprintf(c->err, "hactl: %s: %s\n", answers->at[i].url, reason(&answers->at[i]));
        }
    }
}

/* Asks all; the best picture, or NULL after it has told why not. */
static const json_t *
ask(const struct context *c, struct answers *answers)
{
    const json_t *best;

    client_ask_all(&c->agents, "/hawser/status", answers);
    best = picture_best(answers);
    if (best == NULL) {
        (void)hactl_unreachable(c, answers);
    }
    return best;
}

static enum exit_status
no_primary(const struct context *c, const struct answers *answers, const json_t *best)
{
    char why[320];

    picture_reason(answers, best, why, sizeof why);
    (void)fprintf(c->err, "hactl: there is no primary: %s\n", why);
    return EXIT_NO;
}

enum exit_status
verb_leader(struct context *c)
{
    enum exit_status status = EXIT_UNREACHABLE;
    struct answers answers;
    const json_t *best = ask(c, &answers);

    if (best != NULL) {
        const char *leader = picture_text(best, "leader");

        if (c->options.is_json) {
            char why[320] = "";
            json_t *o;

            if (leader[0] == 0) {
                picture_reason(&answers, best, why, sizeof why);
            }
            o = json_pack("{s:o, s:I, s:I, s:s}",
                          "leader",
                          leader[0] == 0 ? json_null() : json_string(leader),
                          "reign",
                          (json_int_t)picture_int(best, "reign.reign"),
                          "lease_left_ms",
                          (json_int_t)picture_int(best, "lease_left_ms"),
                          "why",
                          why);
            print_json(c, o);
            json_decref(o);
        } else if (leader[0] != 0) {
            (void)fprintf(c->out, "%s\n", leader);
        }
        status = leader[0] != 0 ? EXIT_YES : no_primary(c, &answers, best);
    }
    answers_free(&answers);
    return status;
}

/* Asks, and shows the best picture one way or another. */
static enum exit_status
show(struct context *c, void (*render)(const json_t *picture, FILE *to))
{
    struct answers answers;
    const json_t *best = ask(c, &answers);

    if (best != NULL && (c->options.is_json || render == NULL)) {
        print_json(c, best);
    } else if (best != NULL) {
        render(best, c->out);
        tell_waiting(c, &answers);
    }
    answers_free(&answers);
    return best == NULL ? EXIT_UNREACHABLE : EXIT_YES;
}

static void
render_plain_status(const json_t *picture, FILE *to)
{
    render_status(picture, false, to);
}

static void
render_colored_status(const json_t *picture, FILE *to)
{
    render_status(picture, true, to);
}

enum exit_status
verb_status(struct context *c)
{
    void (*const render)(const json_t *, FILE *) =
        c->has_color ? render_colored_status : render_plain_status;
    const int64_t begun = client_now_ms();
    enum exit_status status = show(c, render);

    while (c->options.is_watching &&
           (c->options.timeout_ms == 0 || client_now_ms() - begun < c->options.timeout_ms)) {
        (void)fflush(c->out);
        client_sleep_ms(WATCH_MS);
        (void)fputs(c->has_color ? "\x1b[H\x1b[2J" : "\n", c->out);
        status = show(c, render);
    }
    return status;
}

static void
render_guarantee(const json_t *picture, FILE *to)
{
    (void)fprintf(to, "%s\n", picture_text(picture, "sync.guarantee"));
}

enum exit_status
verb_guarantee(struct context *c)
{
    return show(c, render_guarantee);
}

enum exit_status
verb_members(struct context *c)
{
    return show(c, render_members);
}

enum exit_status
verb_topology(struct context *c)
{
    return show(c, render_topology);
}

/* Of the histories, the one that goes on longest. */
enum exit_status
verb_history(struct context *c)
{
    struct answers answers;
    const json_t *best = NULL;
    int64_t newest = -1;

    client_ask_all(&c->agents, "/hawser/history", &answers);
    for (size_t i = 0; i < answers.n; i++) {
        const json_t *reigns = json_object_get(answers.at[i].json, "reigns");
        const size_t n = json_array_size(reigns);
        const int64_t last = n == 0 ? 0 : picture_int(json_array_get(reigns, n - 1), "reign");

        if (json_is_array(reigns) && last > newest) {
            best = answers.at[i].json;
            newest = last;
        }
    }
    if (best == NULL) {
        (void)hactl_unreachable(c, &answers);
    } else if (c->options.is_json) {
        print_json(c, best);
    } else {
        render_history(best, c->out);
    }
    answers_free(&answers);
    return best == NULL ? EXIT_UNREACHABLE : EXIT_YES;
}

/* The very agent is asked: what others know of it may be old. */
static enum exit_status
explain_node(struct context *c, const char *who)
{
    enum exit_status status = EXIT_UNREACHABLE;
    struct answers answers;

    client_ask_all(&c->agents, "/hawser/explain", &answers);
    for (size_t i = 0; i < answers.n && status != EXIT_YES; i++) {
        const json_t *page = answers.at[i].json;

        if (strcmp(picture_text(page, "agent.address"), who) != 0 &&
            strcmp(picture_text(page, "agent.node"), who) != 0) {
            continue;
        }
        if (c->options.is_json) {
            print_json(c, page);
        } else {
            render_explain(page, c->out);
        }
        status = EXIT_YES;
    }
    if (status != EXIT_YES) {
        (void)fprintf(c->err, "hactl: the agent of %s does not answer\n", who);
    }
    answers_free(&answers);
    return status;
}

enum exit_status
verb_explain(struct context *c)
{
    struct answers answers;
    const json_t *best;

    if (c->options.n_words == 1) {
        return explain_node(c, c->options.words[0]);
    }
    best = ask(c, &answers);
    if (best != NULL && c->options.is_json) {
        print_json(c, best);
    } else if (best != NULL) {
        char why[320];

        render_explain_all(best, c->out);
        picture_reason(&answers, best, why, sizeof why);
        (void)fprintf(c->out, "Governor: %s\n", why);
    }
    answers_free(&answers);
    return best == NULL ? EXIT_UNREACHABLE : EXIT_YES;
}

enum exit_status
verb_version(struct context *c)
{
    struct answers answers;
    json_t *agents = json_object();
    json_t *o = json_pack("{s:s}", "hactl", HAWSER_VERSION);

    client_ask_all(&c->agents, "/hawser/status", &answers);
    if (!c->options.is_json) {
        (void)fprintf(c->out, "hactl %s\n", HAWSER_VERSION);
    }
    for (size_t i = 0; i < answers.n; i++) {
        const char *version = picture_text(answers.at[i].json, "agent.version");
        const char *at = picture_text(answers.at[i].json, "agent.address");

        if (version[0] != 0) {
            (void)json_object_set_new(agents, at, json_string(version));
            if (!c->options.is_json) {
                (void)fprintf(c->out, "agent %s at %s\n", version, at);
            }
        }
    }
    (void)json_object_set_new(o, "agents", agents);
    if (c->options.is_json) {
        print_json(c, o);
    }
    json_decref(o);
    answers_free(&answers);
    return EXIT_YES;
}

/* ---- where to connect ---- */

enum exit_status
verb_dsn(struct context *c)
{
    enum exit_status status = EXIT_UNREACHABLE;
    struct answers answers;
    const json_t *best = ask(c, &answers);

    if (best != NULL) {
        const json_t *standby = picture_best_standby(best);
        const char *leader = c->options.is_read_only && standby != NULL
                                 ? picture_text(standby, "address")
                                 : picture_text(best, "leader");
        const long long port = picture_int(best, "port_database");

        status = leader[0] == 0 ? no_primary(c, &answers, best) : EXIT_YES;
        if (status == EXIT_YES && c->options.is_json) {
            json_t *o = json_pack("{s:s, s:I}", "host", leader, "port", (json_int_t)port);

            print_json(c, o);
            json_decref(o);
        } else if (status == EXIT_YES) {
            (void)fprintf(c->out, "host=%s port=%lld\n", leader, port);
        }
    }
    answers_free(&answers);
    return status;
}

static void
make_uri(const struct context *c, const json_t *picture, char *out, size_t size)
{
    const json_t *members = json_object_get(picture, "members");
    const long long port = picture_int(picture, "port_database");
    size_t len = (size_t)snprintf(out, size, "postgres://");

    for (size_t i = 0; i < json_array_size(members); i++) {
        const json_t *m = json_array_get(members, i);
        const char *address = picture_text(m, "address");
        const bool is_v6 = strchr(address, ':') != NULL;

        if (strcmp(picture_text(m, "kind"), "database") == 0 && len < size) {
            len += (size_t)snprintf(out + len,
                                    size - len,
                                    "%s%s%s%s:%lld",
                                    out[len - 1] == '/' ? "" : ",",
                                    is_v6 ? "[" : "",
                                    address,
                                    is_v6 ? "]" : "",
                                    port);
        }
    }
    (void)snprintf(out + len,
                   size - len,
                   /* 2 s: libpq asks the servers in turn, and one may be a black hole */
                   "/%s?target_session_attrs=%s&connect_timeout=2",
                   environment_database(),
                   c->options.is_read_only ? "prefer-standby" : "read-write");
}

enum exit_status
verb_uri(struct context *c)
{
    struct answers answers;
    const json_t *best = ask(c, &answers);

    if (best != NULL) {
        char uri[1024];

        make_uri(c, best, uri, sizeof uri);
        if (c->options.is_json) {
            json_t *o = json_pack("{s:s}", "uri", uri);

            print_json(c, o);
            json_decref(o);
        } else {
            (void)fprintf(c->out, "%s\n", uri);
        }
    }
    answers_free(&answers);
    return best == NULL ? EXIT_UNREACHABLE : EXIT_YES;
}
