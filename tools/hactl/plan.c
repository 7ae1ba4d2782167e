/*
 * What declaring another primary would do, told from the agents' picture. Nothing is changed.
 */
#include <stdarg.h>
#include <string.h>

#include "tools/hactl/picture.h"

#define STEPS_MAX 8
#define TEXT_MAX 200

enum plan_kind {
    PLAN_NOTHING = 0, /* it is so already */
    PLAN_WISH,        /* the declaration changes, the primary does not move */
    PLAN_SWITCHOVER,
    PLAN_FAILOVER, /* there is no primary: the declared one is appointed */
};

struct plan {
    uint8_t kind; /* enum plan_kind */
    char to[64];
    char waits[TEXT_MAX]; /* why it would not happen at once, or "" */
    size_t n;
    char steps[STEPS_MAX][TEXT_MAX];
    const char *outage;
    char risk[TEXT_MAX];
};

static void add(struct plan *p, const char *fmt, ...) HA_PRINTF(2, 3);

static void
add(struct plan *p, const char *fmt, ...)
{
    va_list args;

    if (p->n == STEPS_MAX) {
        return;
    }
    va_start(args, fmt);
    (void)vsnprintf(p->steps[p->n++], TEXT_MAX, fmt, args);
    va_end(args);
}

/* Why the cluster would wait before it does it. */
static void
find_wait(struct plan *p, const json_t *picture, const json_t *m)
{
    const char *unfit = picture_text(m, "unfit");

    if (picture_bool(picture, "is_paused")) {
        (void)snprintf(p->waits, TEXT_MAX, "the cluster is paused: hactl resume");
    } else if (!picture_bool(m, "is_fresh")) {
        (void)snprintf(p->waits, TEXT_MAX, "nothing is heard of %s", p->to);
    } else if (unfit[0] != 0) {
        (void)snprintf(p->waits, TEXT_MAX, "%s: %s", p->to, unfit);
    } else if (p->kind == PLAN_SWITCHOVER && !picture_bool(m, "is_streaming")) {
        (void)snprintf(p->waits, TEXT_MAX, "%s does not stream", p->to);
    } else if (p->kind == PLAN_SWITCHOVER && picture_int(picture, "declaration.max_lag") != 0 &&
               picture_int(m, "lag") > picture_int(picture, "declaration.max_lag")) {
        (void)snprintf(p->waits,
                       TEXT_MAX,
                       "%s lags %lld bytes, more than HA_MAX_LAG",
                       p->to,
                       (long long)picture_int(m, "lag"));
    }
}

static void
plan_switchover(struct plan *p, const json_t *picture)
{
    const char *from = picture_text(picture, "leader");
    const json_t *members = json_object_get(picture, "members");
    const long long reign = (long long)picture_int(picture, "reign.reign") + 1;

    add(p, "%s makes a checkpoint; clients are served", from);
    add(p, "%s stops cleanly; writes stop here", from);
    add(p, "%s shows that it has the last record", p->to);
    add(p, "%s opens reign %lld on a new timeline; writes go on", p->to, reign);
    for (size_t i = 0; i < json_array_size(members); i++) {
        const json_t *m = json_array_get(members, i);
        const char *address = picture_text(m, "address");

        if (strcmp(picture_text(m, "kind"), "database") == 0 && strcmp(address, p->to) != 0 &&
            picture_bool(m, "is_fresh")) {
            add(p, "%s follows it", address);
        }
    }
    p->outage = "less than a second";
    (void)snprintf(p->risk, TEXT_MAX, "nothing: whatever fails, %s serves again", from);
}

/* The one with the most WAL besides, or NULL. */
static const json_t *
richest(const json_t *picture, const char *than)
{
    const json_t *members = json_object_get(picture, "members");
    const json_t *best = NULL;
    uint64_t most = picture_lsn_bytes(picture_text(picture_member(picture, than), "lsn"));

    for (size_t i = 0; i < json_array_size(members); i++) {
        const json_t *m = json_array_get(members, i);
        const uint64_t lsn = picture_lsn_bytes(picture_text(m, "lsn"));

        if (picture_text(m, "unfit")[0] == 0 && picture_bool(m, "is_fresh") && lsn > most &&
            strcmp(picture_text(m, "kind"), "database") == 0) {
            best = m;
            most = lsn;
        }
    }
    return best;
}

static void
plan_failover(struct plan *p, const json_t *picture)
{
    const json_t *source = richest(picture, p->to);

    add(p, "the standbys let go of the old primary");
    if (source != NULL) {
        add(p, "%s fetches what %s has more", p->to, picture_text(source, "address"));
    }
    add(p,
        "%s opens reign %lld on a new timeline; writes go on",
        p->to,
        (long long)picture_int(picture, "reign.reign") + 1);
    p->outage = "writes stand still already; they go on within seconds";
    (void)snprintf(p->risk,
                   TEXT_MAX,
                   "what only %s has, and no standby received",
                   picture_text(picture, "reign.holder"));
}

static void
make(struct plan *p, const json_t *picture, const json_t *m)
{
    const char *leader = picture_text(picture, "leader");
    const bool is_declared = strcmp(picture_text(picture, "declaration.primary"), p->to) == 0;

    p->outage = "none";
    (void)snprintf(p->risk, TEXT_MAX, "nothing");
    if (strcmp(leader, p->to) == 0) {
        p->kind = is_declared ? PLAN_NOTHING : PLAN_WISH;
    } else {
        p->kind = leader[0] != 0 ? PLAN_SWITCHOVER : PLAN_FAILOVER;
    }
    if (!is_declared) {
        add(p,
            "declaration %lld names %s",
            (long long)picture_int(picture, "declaration.generation") + 1,
            p->to);
    }
    if (p->kind == PLAN_SWITCHOVER) {
        plan_switchover(p, picture);
    } else if (p->kind == PLAN_FAILOVER) {
        plan_failover(p, picture);
    }
    if (p->kind >= PLAN_SWITCHOVER) {
        find_wait(p, picture, m);
    }
}

static void
print_json(const struct plan *p, FILE *to)
{
    static const char *const KINDS[] = {"nothing", "wish", "switchover", "failover"};
    json_t *steps = json_array();
    json_t *o = json_object();

    for (size_t i = 0; i < p->n; i++) {
        (void)json_array_append_new(steps, json_string(p->steps[i]));
    }
    (void)json_object_set_new(o, "primary", json_string(p->to));
    (void)json_object_set_new(o, "kind", json_string(KINDS[p->kind]));
    (void)json_object_set_new(o, "steps", steps);
    (void)json_object_set_new(o, "outage", json_string(p->outage));
    (void)json_object_set_new(o, "risk", json_string(p->risk));
    (void)json_object_set_new(o, "waits", p->waits[0] == 0 ? json_null() : json_string(p->waits));
    (void)json_dumpf(o, to, JSON_INDENT(2));
    (void)fputc('\n', to);
    json_decref(o);
}

static void
print(const struct plan *p, const json_t *picture, FILE *to)
{
    (void)fprintf(to,
                  "Now: %s reigns, %s is declared, HA_FAILOVER=%s\n",
                  picture_text(picture, "leader")[0] != 0 ? picture_text(picture, "leader")
                                                          : "nobody",
                  picture_text(picture, "declaration.primary"),
                  picture_text(picture, "declaration.failover"));
    if (p->kind == PLAN_NOTHING) {
        (void)fprintf(to, "%s is the declared primary and reigns: nothing to do\n", p->to);
        return;
    }
    for (size_t i = 0; i < p->n; i++) {
        (void)fprintf(to, "%zu. %s\n", i + 1, p->steps[i]);
    }
    (void)fprintf(to, "Outage of writes: %s\nAt risk: %s\n", p->outage, p->risk);
    if (p->waits[0] != 0) {
        (void)fprintf(to, "It would wait: %s\n", p->waits);
    }
}

enum exit_status
verb_plan(struct context *c)
{
    static const char PREFIX[] = "PRIMARY=";
    const char *who = c->options.words[0];
    struct answers answers;
    struct plan p = {0};
    const json_t *picture;
    const json_t *m;

    if (strncmp(who, PREFIX, sizeof PREFIX - 1) == 0) {
        who += sizeof PREFIX - 1;
    }
    client_ask_all(&c->agents, "/hawser/status", &answers);
    picture = picture_best(&answers);
    if (picture == NULL || picture_text(picture, "cluster_id")[0] == 0) {
        (void)fprintf(c->err, "hactl: no agent answers that belongs to a cluster\n");
        answers_free(&answers);
        return EXIT_UNREACHABLE;
    }
    m = picture_member(picture, who);
    if (m == NULL || strcmp(picture_text(m, "kind"), "database") != 0) {
        (void)fprintf(c->err,
                      "hactl: %s is %s\n",
                      who,
                      m == NULL ? "not a member" : "a witness: it has no database");
        answers_free(&answers);
        return EXIT_REFUSED;
    }
    (void)snprintf(p.to, sizeof p.to, "%s", picture_text(m, "address"));
    make(&p, picture, m);
    if (c->options.is_json) {
        print_json(&p, c->out);
    } else {
        print(&p, picture, c->out);
    }
    answers_free(&answers);
    return p.waits[0] == 0 ? EXIT_YES : EXIT_NO;
}
