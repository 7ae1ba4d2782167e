/*
 * The two verbs for the day when the majority is gone for good: docs/protocol.md, section 7.
 *
 * They ask one member to go on without the others, of which the operator names those that are
 * dead. hactl refuses what it can see to be wrong; the agent refuses what it can.
 */
#include <string.h>

#include "tools/hactl/change.h"

#define DEAD_MAX 9

struct dead {
    size_t n;
    char address[DEAD_MAX][64];
};

/* --dead n1,10.0.0.2: names where a picture knows them, else addresses. */
static bool
read_dead(struct change *ch, const json_t *picture, struct dead *out)
{
    char list[512];
    char *rest = NULL;

    memset(out, 0, sizeof *out);
    if ((size_t)snprintf(list, sizeof list, "%s", ch->context->options.dead) >= sizeof list) {
        (void)snprintf(ch->text, sizeof ch->text, "--dead: the list is too long");
        return false;
    }
    for (char *word = strtok_r(list, ",", &rest); word != NULL; word = strtok_r(NULL, ",", &rest)) {
        if (out->n == DEAD_MAX) {
            (void)snprintf(ch->text, sizeof ch->text, "--dead: more than %d members", DEAD_MAX);
            return false;
        }
        change_resolve(picture, word, out->address[out->n++]);
    }
    return out->n > 0;
}

static bool
is_dead(const struct dead *dead, const char *address)
{
    for (size_t i = 0; i < dead->n; i++) {
        if (strcmp(dead->address[i], address) == 0) {
            return true;
        }
    }
    return false;
}

/* The one that shall go on: as named, else the only one that answers. One that is named dead and
 * answers as a member is not dead; one that lost its state directory answers as nobody. */
static bool
choose(struct change *ch, const struct answers *answers, const struct dead *dead, char to[64])
{
    const struct options *o = &ch->context->options;
    size_t n = 0;

    for (size_t i = 0; i < answers->n; i++) {
        const json_t *a = answers->at[i].json;
        const char *address = a == NULL ? "" : picture_text(a, "agent.address");

        if (a == NULL || picture_text(a, "cluster_id")[0] == 0) {
            continue;
        }
        if (is_dead(dead, address)) {
            (void)snprintf(ch->text, sizeof ch->text, "%s is named dead, and answers", address);
            return false;
        }
        (void)snprintf(to, 64, "%s", address);
        n++;
    }
    if (n != 1 && o->n_words == 0) {
        (void)snprintf(ch->text,
                       sizeof ch->text,
                       n == 0 ? "no agent answers"
                              : "several answer: name the one that shall go on, the others follow");
        return false;
    }
    return true;
}

static enum exit_status
force(struct context *c, bool is_failover)
{
    struct change ch;
    struct answers answers;
    struct dead dead;
    const json_t *best;
    json_t *body;
    json_t *list;
    char to[64] = "";
    char done[200];
    enum exit_status status = change_init(&ch, c);

    if (status != EXIT_YES) {
        return status;
    }
    best = change_look(&ch, &answers, false);
    if (best == NULL) {
        return change_report(&ch, EXIT_UNREACHABLE, "");
    }
    if (!read_dead(&ch, best, &dead) || !choose(&ch, &answers, &dead, to)) {
        answers_free(&answers);
        return change_report(&ch, EXIT_REFUSED, "");
    }
    answers_free(&answers);
    if (!change_speak_to(&ch, c->options.n_words == 1 ? c->options.words[0] : to, to)) {
        return change_report(&ch, EXIT_REFUSED, "");
    }
    body = json_object();
    list = json_array();
    for (size_t i = 0; i < dead.n; i++) {
        (void)json_array_append_new(list, json_string(dead.address[i]));
    }
    (void)json_object_set_new(body, "dead", list);
    (void)json_object_set_new(body, "failover", json_boolean(is_failover));
    status = change_post(&ch, "/hawser/recover", body);
    json_decref(body);
    if (status == EXIT_YES && is_failover) {
        status = change_wait_open(&ch, to, false);
    }
    (void)snprintf(done,
                   sizeof done,
                   is_failover ? "%s is the primary, after %.2f s; who comes back is copied anew"
                               : "%s goes on, after %.2f s; who comes back is copied anew",
                   to,
                   (double)(client_now_ms() - ch.begun_ms) / 1000);
    return change_report(&ch, status, done);
}

static enum exit_status
usage(struct context *c, const char *text)
{
    (void)fprintf(c->err, "hactl: %s\n", text);
    return EXIT_USAGE;
}

enum exit_status
verb_failover(struct context *c)
{
    if (!c->options.is_forced) {
        return usage(c,
                     "failover: a majority moves the primary by hactl switchover or declare; "
                     "without one: --force, and --dead with the members that are dead for good");
    }
    return c->options.dead == NULL ? usage(c, "failover --force: --dead NODE[,NODE] is missing")
                                   : force(c, true);
}

enum exit_status
verb_recover(struct context *c)
{
    return c->options.dead == NULL ? usage(c, "recover: --dead NODE[,NODE] is missing")
                                   : force(c, false);
}
