/*
 * The verbs that change something: each is a signed request, then a look at what came of it.
 */
#include "tools/hactl/change.h"

#include <string.h>

#define TIMEOUT_MS 60000
#define LOOK_AGAIN_MS 50

enum exit_status
change_init(struct change *ch, struct context *c)
{
    struct err err = {0};

    memset(ch, 0, sizeof *ch);
    ch->context = c;
    ch->begun_ms = client_now_ms();
    ch->until_ms = ch->begun_ms + (c->options.timeout_ms == 0 ? TIMEOUT_MS : c->options.timeout_ms);
    if (environment_auth(&ch->auth, &err) != HA_OK) {
        (void)fprintf(c->err, "hactl: %s\n", err.text);
        return EXIT_USAGE;
    }
    return EXIT_YES;
}

static bool
has_time(const struct change *ch)
{
    return client_now_ms() < ch->until_ms;
}

/* An agent that has just started may not know yet who belongs to the cluster: its refusal is not
 * taken for the last word at once. */
static bool
is_young(const struct change *ch)
{
    return client_now_ms() - ch->begun_ms < 10000;
}

/* Says it to one agent after the other until one took it, or refused it. */
enum exit_status
change_post(struct change *ch, const char *path, const json_t *body)
{
    const struct agents *agents = &ch->context->agents;

    for (size_t i = 0; i < agents->n && (i == 0 || has_time(ch)); i++) {
        struct answer a;
        enum exit_status status = EXIT_UNREACHABLE;

        client_post(agents->urls[i], path, body, &ch->auth, &a);
        (void)snprintf(ch->text,
                       sizeof ch->text,
                       "%s: %s",
                       a.url,
                       a.json != NULL ? picture_text(a.json, "text") : a.error);
        if (a.status == 200) {
            status = EXIT_YES;
        } else if (a.status >= 400 && a.status < 500) {
            status = EXIT_REFUSED;
        }
        answer_free(&a);
        if (status != EXIT_UNREACHABLE) {
            return status;
        }
    }
    return EXIT_UNREACHABLE;
}

/* `is_anew`: though the same was said before, which is no news otherwise. */
static enum exit_status
post_declaration(struct change *ch, const char *primary, bool is_anew)
{
    const struct options *o = &ch->context->options;
    json_t *body = json_pack("{s:s}", "primary", primary);
    enum exit_status status;

    if (is_anew) {
        (void)json_object_set_new(body, "anew", json_true());
    }
    if (o->has_number) {
        (void)json_object_set_new(body, "number", json_integer((json_int_t)o->number));
    }
    status = change_post(ch, "/hawser/declare", body);
    json_decref(body);
    return status;
}

/* The best picture; with patience until there is a cluster. NULL at the end of the time. */
const json_t *
change_look(struct change *ch, struct answers *answers, bool is_patient)
{
    const json_t *best;

    for (;;) {
        client_ask_all(&ch->context->agents, "/hawser/status", answers);
        best = picture_best(answers);
        /* A cluster that is being founded knows no members yet, and would refuse. */
        if ((best != NULL && picture_text(best, "cluster_id")[0] != 0 &&
             picture_int(best, "declaration.generation") > 0) ||
            !is_patient || !has_time(ch)) {
            break;
        }
        answers_free(answers);
        client_sleep_ms(10 * LOOK_AGAIN_MS);
    }
    if (best != NULL && picture_text(best, "cluster_id")[0] != 0) {
        return best;
    }
    (void)snprintf(ch->text,
                   sizeof ch->text,
                   best == NULL ? "no agent answers" : "the agents have founded no cluster yet");
    answers_free(answers);
    return NULL;
}

/*
 * Waits until `primary` holds a live lease and is open; with `or_any`, until anybody does: words
 * that were no news do not undo a failover that came after they were first said.
 */
enum exit_status
change_wait_open(struct change *ch, const char *primary, bool or_any)
{
    for (;;) {
        struct answers answers;
        const json_t *best;
        bool is_open;

        client_ask_all(&ch->context->agents, "/hawser/status", &answers);
        best = picture_best(&answers);
        is_open = best != NULL && picture_text(best, "leader")[0] != 0 &&
                  (or_any || strcmp(picture_text(best, "leader"), primary) == 0);
        if (!is_open && best != NULL) {
            picture_reason(&answers, best, ch->text, sizeof ch->text);
        }
        answers_free(&answers);
        if (is_open) {
            return EXIT_YES;
        }
        if (!has_time(ch)) {
            return EXIT_NO;
        }
        client_sleep_ms(LOOK_AGAIN_MS);
    }
}

enum exit_status
change_report(struct change *ch, enum exit_status status, const char *done)
{
    const struct context *c = ch->context;

    if (c->options.is_json) {
        json_t *o = json_pack("{s:b, s:s, s:I}",
                              "done",
                              status == EXIT_YES,
                              "text",
                              status == EXIT_YES ? done : ch->text,
                              "ms",
                              (json_int_t)(client_now_ms() - ch->begun_ms));

        (void)json_dumpf(o, c->out, JSON_INDENT(2));
        (void)fputc('\n', c->out);
        json_decref(o);
    } else if (status == EXIT_YES) {
        (void)fprintf(c->out, "%s\n", done);
    }
    if (status != EXIT_YES) {
        (void)fprintf(c->err,
                      "hactl: %s: %s\n",
                      status == EXIT_REFUSED       ? "refused"
                      : status == EXIT_UNREACHABLE ? "not done"
                                                   : "not yet",
                      ch->text);
    }
    http_auth_fini(&ch->auth);
    return status;
}

/* The address of a member that is named by address or name; "" when there is none. */
void
change_resolve(const json_t *picture, const char *who, char out[64])
{
    const json_t *m = picture_member(picture, who);

    (void)snprintf(out, 64, "%s", m == NULL ? who : picture_text(m, "address"));
}

/* What is in force after our words, as a sentence. False when they were no news. */
static bool
tell_declaration(struct change *ch, const char *wanted, int64_t generation, char *out, size_t size)
{
    struct answers answers;
    const json_t *best = change_look(ch, &answers, false);
    bool is_news;

    (void)snprintf(out, size, "declared: %s", wanted);
    if (best == NULL) {
        return true;
    }
    is_news = picture_int(best, "declaration.generation") != generation;
    if (strcmp(picture_text(best, "declaration.primary"), wanted) != 0) {
        (void)snprintf(
            out,
            size,
            "unchanged: said before, or a lower number than the one on record; the declared "
            "primary is %s (said by %s); hactl switchover moves it all the same",
            picture_text(best, "declaration.primary"),
            picture_text(best, "declaration.declared_by"));
    } else {
        (void)snprintf(out,
                       size,
                       "declaration %lld: primary %s%s",
                       (long long)picture_int(best, "declaration.generation"),
                       wanted,
                       is_news ? "" : ", as before");
    }
    answers_free(&answers);
    return is_news;
}

enum exit_status
verb_declare(struct context *c)
{
    struct change ch;
    struct answers answers;
    const json_t *best;
    char primary[64];
    char done[320] = "";
    int64_t generation;
    enum exit_status status = change_init(&ch, c);

    if (status != EXIT_YES) {
        return status;
    }
    best = change_look(&ch, &answers, c->options.is_waiting);
    if (best == NULL) {
        return change_report(&ch, EXIT_UNREACHABLE, "");
    }
    change_resolve(best, c->options.words[0], primary);
    generation = picture_int(best, "declaration.generation");
    answers_free(&answers);
    while ((status = post_declaration(&ch, primary, false)) != EXIT_YES && c->options.is_waiting &&
           has_time(&ch) && (status == EXIT_UNREACHABLE || is_young(&ch))) {
        client_sleep_ms(10 * LOOK_AGAIN_MS);
    }
    if (status == EXIT_YES) {
        const bool is_news = tell_declaration(&ch, primary, generation, done, sizeof done);

        status = c->options.is_waiting ? change_wait_open(&ch, primary, !is_news) : EXIT_YES;
    }
    return change_report(&ch, status, done);
}

/* Whom to move to; false when that is nobody. */
static bool
choose(struct change *ch, const json_t *picture, char to[64])
{
    const struct options *o = &ch->context->options;
    const json_t *m =
        o->n_words == 1 ? picture_member(picture, o->words[0]) : picture_best_standby(picture);

    if (m == NULL) {
        (void)snprintf(ch->text,
                       sizeof ch->text,
                       o->n_words == 1 ? "%s is not a member" : "no standby streams",
                       o->words[0]);
        return false;
    }
    (void)snprintf(to, 64, "%s", picture_text(m, "address"));
    if (strcmp(picture_text(m, "kind"), "database") != 0) {
        (void)snprintf(ch->text, sizeof ch->text, "%s is a witness", to);
        return false;
    }
    return true;
}

enum exit_status
verb_switchover(struct context *c)
{
    struct change ch;
    struct answers answers;
    const json_t *best;
    char to[64];
    char declared[64];
    char done[160];
    bool is_there;
    enum exit_status status = change_init(&ch, c);

    if (status != EXIT_YES) {
        return status;
    }
    best = change_look(&ch, &answers, false);
    if (best == NULL) {
        return change_report(&ch, EXIT_UNREACHABLE, "");
    }
    (void)snprintf(declared, sizeof declared, "%s", picture_text(best, "declaration.primary"));
    if (!choose(&ch, best, to)) {
        answers_free(&answers);
        return change_report(&ch, EXIT_REFUSED, "");
    }
    if (picture_bool(best, "is_paused")) {
        (void)snprintf(ch.text, sizeof ch.text, "the cluster is paused: hactl resume first");
        answers_free(&answers);
        return change_report(&ch, EXIT_REFUSED, "");
    }
    is_there = strcmp(picture_text(best, "leader"), to) == 0 && strcmp(declared, to) == 0;
    answers_free(&answers);
    if (is_there) {
        (void)snprintf(done, sizeof done, "%s is the primary already", to);
        return change_report(&ch, EXIT_YES, done);
    }
    status = post_declaration(&ch, to, true);
    if (status == EXIT_YES) {
        status = change_wait_open(&ch, to, false);
    }
    (void)snprintf(done,
                   sizeof done,
                   "%s is the primary, after %.2f s",
                   to,
                   (double)(client_now_ms() - ch.begun_ms) / 1000);
    return change_report(&ch, status, done);
}

static enum exit_status
say(struct context *c, const char *path, const char *done)
{
    struct change ch;
    enum exit_status status = change_init(&ch, c);

    if (status != EXIT_YES) {
        return status;
    }
    return change_report(&ch, change_post(&ch, path, NULL), done);
}

enum exit_status
verb_pause(struct context *c)
{
    return say(c, "/hawser/pause", "paused: nobody is appointed until hactl resume");
}

enum exit_status
verb_resume(struct context *c)
{
    return say(c, "/hawser/resume", "resumed");
}

/* The agent of a member, as the only one that is spoken to. */
bool
change_speak_to(struct change *ch, const char *who, char address[64])
{
    struct context *c = ch->context;
    struct answers answers;
    const json_t *best = change_look(ch, &answers, false);
    const json_t *m = best == NULL ? NULL : picture_member(best, who);
    long long port = best == NULL ? 0 : (long long)picture_int(best, "port_http");
    char url[HACTL_URL_MAX];

    if (best == NULL) {
        return false;
    }
    if (m == NULL) {
        (void)snprintf(ch->text, sizeof ch->text, "%s is not a member", who);
        answers_free(&answers);
        return false;
    }
    (void)snprintf(address, 64, "%s", picture_text(m, "address"));
    for (size_t i = 0; i < answers.n; i++) {
        const json_t *status = answers.at[i].json;

        if (status != NULL && strcmp(picture_text(status, "agent.address"), address) == 0) {
            (void)snprintf(url, sizeof url, "%s", answers.at[i].url);
            port = 0;
        }
    }
    if (port != 0) { /* it did not answer, or is none of those that were asked */
        (void)snprintf(url,
                       sizeof url,
                       strchr(address, ':') == NULL ? "http://%s:%lld" : "http://[%s]:%lld",
                       address,
                       port);
    }
    memcpy(c->agents.urls[0], url, sizeof url);
    c->agents.n = 1;
    answers_free(&answers);
    return true;
}

static enum exit_status
say_to_node(struct context *c, const char *path, const char *done)
{
    struct change ch;
    char address[64];
    char text[160];
    enum exit_status status = change_init(&ch, c);

    if (status != EXIT_YES) {
        return status;
    }
    if (!change_speak_to(&ch, c->options.words[0], address)) {
        return change_report(&ch, EXIT_REFUSED, "");
    }
    status = change_post(&ch, path, NULL);
    (void)snprintf(text,
                   sizeof text,
                   "%s: %s, after %.2f s",
                   address,
                   done,
                   (double)(client_now_ms() - ch.begun_ms) / 1000);
    return change_report(&ch, status, text);
}

enum exit_status
verb_restart(struct context *c)
{
    return say_to_node(c, "/hawser/restart", "PostgreSQL was restarted");
}

enum exit_status
verb_reload(struct context *c)
{
    return say_to_node(c, "/hawser/reload", "PostgreSQL has read its settings");
}

enum exit_status
verb_reinit(struct context *c)
{
    return say_to_node(
        c, "/hawser/reinit", "a copy takes the place of its data (hactl status shows it)");
}
