#include "tools/hactl/render.h"

#include <string.h>

#include "tools/hactl/table.h"

#define GREEN "\x1b[32;1m"
#define RED "\x1b[31m"
#define YELLOW "\x1b[33m"

static const json_t *
list_of(const json_t *json, const char *key)
{
    return json_object_get(json, key);
}

/* "primary" -> "Primary", as patronictl has it. */
static void
title_case(const char *word, char out[32])
{
    (void)snprintf(out, 32, "%s", word);
    if (out[0] >= 'a' && out[0] <= 'z') {
        out[0] = (char)(out[0] - 'a' + 'A');
    }
}

/* "1.5 MB"; small figures exactly. */
static void
human_bytes(int64_t bytes, char out[24])
{
    static const char *const units[] = {"kB", "MB", "GB", "TB"};
    double value = (double)bytes;
    size_t unit = 0;

    if (bytes < 10240) {
        (void)snprintf(out, 24, "%lld", (long long)bytes);
        return;
    }
    for (value /= 1024; value >= 1024 && unit + 1 < HA_COUNT_OF(units); unit++) {
        value /= 1024;
    }
    (void)snprintf(out, 24, "%.1f %s", value, units[unit]);
}

static void
title_of(const json_t *picture, char *out, size_t size)
{
    const char *id = picture_text(picture, "cluster_id");
    const char *sysid = picture_text(picture, "sysid");

    if (id[0] == 0) {
        (void)snprintf(out, size, "No cluster yet");
        return;
    }
    (void)snprintf(out, size, "Cluster: %s (%s)", id, sysid[0] == 0 ? "no data yet" : sysid);
}

/* The state, and how far a copy is. */
static void
state_text(const json_t *m, char *out, size_t size)
{
    const int64_t total = picture_int(m, "clone_total_bytes");

    if (total > 0) {
        (void)snprintf(out,
                       size,
                       "%s %d%%",
                       picture_text(m, "state"),
                       (int)(picture_int(m, "clone_done_bytes") * 100 / total));
    } else {
        (void)snprintf(out, size, "%s", picture_text(m, "state"));
    }
}

static const char *
color_of(const json_t *m)
{
    const char *state = picture_text(m, "state");

    if (strcmp(picture_text(m, "role"), "primary") == 0) {
        return GREEN;
    }
    if (!picture_bool(m, "is_fresh") || strcmp(state, "crashed") == 0 ||
        strcmp(state, "damaged") == 0) {
        return RED;
    }
    return strcmp(state, "streaming") == 0 || strcmp(state, "voting") == 0 ? NULL : YELLOW;
}

static void
status_row(struct table *t, const json_t *m, bool has_color)
{
    char role[32];
    char state[64];
    char lag[24] = "";

    title_case(picture_text(m, "role"), role);
    state_text(m, state, sizeof state);
    if (json_is_integer(json_object_get(m, "lag"))) {
        human_bytes(picture_int(m, "lag"), lag);
    }
    table_row(t, has_color ? color_of(m) : NULL);
    table_cell(t, 0, "%s", picture_text(m, "name"));
    table_cell(t, 1, "%s", picture_text(m, "address"));
    table_cell(t, 2, "%s", role);
    table_cell(t, 3, "%s", state);
    if (picture_int(m, "timeline") > 0) {
        table_cell(t, 4, "%lld", (long long)picture_int(m, "timeline"));
    }
    table_cell(t, 5, "%s", picture_text(m, "lsn"));
    table_cell(t, 6, "%s", lag);
    if (picture_int(m, "lease_left_ms") > 0) {
        table_cell(t, 7, "%lld ms", (long long)picture_int(m, "lease_left_ms"));
    }
    table_cell(t, 8, "%s", picture_bool(m, "is_fresh") ? picture_text(m, "raft_role") : "");
}

static void
print_declaration(const json_t *p, FILE *to)
{
    const char *primary = picture_text(p, "declaration.primary");

    if (primary[0] == 0) {
        return;
    }
    (void)fprintf(to,
                  "Declaration %lld: primary %s, failover %s, lease %lld ms",
                  (long long)picture_int(p, "declaration.generation"),
                  primary,
                  picture_text(p, "declaration.failover"),
                  (long long)picture_int(p, "declaration.lease_ms"));
    if (picture_text(p, "declaration.declared_by")[0] != 0) {
        (void)fprintf(to, "; said by %s", picture_text(p, "declaration.declared_by"));
    }
    (void)fputc('\n', to);
}

static void
print_reign(const json_t *p, FILE *to)
{
    if (picture_int(p, "reign.reign") == 0) {
        (void)fputs("Reign: none yet\n", to);
        return;
    }
    (void)fprintf(to,
                  "Reign %lld: %s since %.19s (%s)%s\n",
                  (long long)picture_int(p, "reign.reign"),
                  picture_text(p, "reign.holder"),
                  picture_text(p, "reign.since"),
                  picture_text(p, "reign.why"),
                  picture_bool(p, "reign.is_vacant")    ? ", given back"
                  : picture_text(p, "leader")[0] == 0   ? ", without a live lease"
                  : !picture_bool(p, "reign.is_opened") ? ", being opened"
                                                        : "");
    if (picture_text(p, "reign.handover")[0] != 0) {
        (void)fprintf(to, "Switchover to %s is under way\n", picture_text(p, "reign.handover"));
    }
}

static void
print_sync(const json_t *p, FILE *to)
{
    const char *commits = picture_text(p, "sync.commits");

    if (strcmp(picture_text(p, "sync.mode"), "off") == 0 && picture_int(p, "sync.count") == 0) {
        return;
    }
    (void)fprintf(
        to,
        "Synchronous (%s): %lld of %zu have each commit, %lld wanted, %lld stream%s%s%s\n",
        picture_text(p, "sync.mode"),
        (long long)picture_int(p, "sync.count"),
        json_array_size(list_of(json_object_get(p, "sync"), "set")),
        (long long)picture_int(p, "sync.wanted"),
        (long long)picture_int(p, "sync.streaming"),
        commits[0] == 0 ? "" : "; commits: ",
        commits,
        picture_bool(p, "sync.is_closed") ? "; no clients are let in yet" : "");
}

static void
print_drift(const json_t *p, FILE *to)
{
    const json_t *list = list_of(p, "drift");

    if (json_array_size(list) == 0) {
        (void)fputs("Drift: none\n", to);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *d = json_array_get(list, i);

        (void)fprintf(to, "Drift: %s: %s\n", picture_text(d, "name"), picture_text(d, "what"));
    }
}

/* What a person must look at. */
static void
print_sick(const json_t *members, FILE *to)
{
    for (size_t i = 0; i < json_array_size(members); i++) {
        const json_t *m = json_array_get(members, i);
        const char *health = picture_text(m, "health");
        const long long stuck = (long long)picture_int(m, "stuck_processes");

        if (!picture_bool(m, "is_fresh")) {
            continue;
        }
        if (health[0] != 0 && strcmp(health, "well") != 0 && strcmp(health, "unknown") != 0) {
            (void)fprintf(to, "Sick: %s: %s\n", picture_text(m, "name"), health);
        }
        if (stuck != 0) {
            (void)fprintf(to,
                          "Stuck: %s: %lld of PostgreSQL's processes do not run on\n",
                          picture_text(m, "name"),
                          stuck);
        }
    }
}

void
render_status(const json_t *picture, bool has_color, FILE *to)
{
    static struct table t;
    const json_t *members = list_of(picture, "members");
    char title[96];

    title_of(picture, title, sizeof title);
    table_init(&t, title);
    table_column(&t, "Member", false);
    table_column(&t, "Host", false);
    table_column(&t, "Role", false);
    table_column(&t, "State", false);
    table_column(&t, "TL", true);
    table_column(&t, "LSN", true);
    table_column(&t, "Lag", true);
    table_column(&t, "Lease", true);
    table_column(&t, "Raft", false);
    for (size_t i = 0; i < json_array_size(members); i++) {
        status_row(&t, json_array_get(members, i), has_color);
    }
    table_print(&t, to);
    print_declaration(picture, to);
    print_reign(picture, to);
    print_sync(picture, to);
    print_drift(picture, to);
    print_sick(members, to);
    if (picture_bool(picture, "is_paused")) {
        (void)fputs("Paused: nobody is appointed; hactl resume ends it\n", to);
    }
}

void
render_members(const json_t *picture, FILE *to)
{
    static struct table t;
    const json_t *members = list_of(picture, "members");
    char title[96];

    title_of(picture, title, sizeof title);
    table_init(&t, title);
    table_column(&t, "Member", false);
    table_column(&t, "Host", false);
    table_column(&t, "Kind", false);
    table_column(&t, "Id", false);
    table_column(&t, "Raft", false);
    table_column(&t, "Heard", true);
    for (size_t i = 0; i < json_array_size(members); i++) {
        const json_t *m = json_array_get(members, i);

        table_row(&t, NULL);
        table_cell(&t, 0, "%s", picture_text(m, "name"));
        table_cell(&t, 1, "%s", picture_text(m, "address"));
        table_cell(&t, 2, "%s", picture_text(m, "kind"));
        table_cell(&t, 3, "%s", picture_text(m, "id"));
        table_cell(&t, 4, "%s", picture_text(m, "raft_role"));
        if (picture_bool(m, "is_self")) {
            table_cell(&t, 5, "asked");
        } else if (json_object_get(m, "age_ms") == NULL) {
            table_cell(&t, 5, "never");
        } else {
            table_cell(&t, 5, "%lld ms ago", (long long)picture_int(m, "age_ms"));
        }
    }
    table_print(&t, to);
}

/* ---- topology ---- */

static void
print_below(const json_t *members, const char *upstream, unsigned depth, FILE *to)
{
    for (size_t i = 0; i < json_array_size(members) && depth < 9; i++) {
        const json_t *m = json_array_get(members, i);
        const bool is_root = upstream[0] == 0;
        const bool is_primary = strcmp(picture_text(m, "role"), "primary") == 0;
        const char *from = picture_bool(m, "is_streaming") ? picture_text(m, "upstream") : "";

        if (is_root ? !is_primary : strcmp(from, upstream) != 0) {
            continue;
        }
        (void)fprintf(to,
                      "%*s%s%s (%s) %s\n",
                      (int)depth * 2,
                      "",
                      depth == 0 ? "" : "+ ",
                      picture_text(m, "name"),
                      picture_text(m, "address"),
                      depth == 0 ? "primary" : "streaming");
        print_below(members, picture_text(m, "address"), depth + 1, to);
    }
}

void
render_topology(const json_t *picture, FILE *to)
{
    const json_t *members = list_of(picture, "members");

    print_below(members, "", 0, to);
    for (size_t i = 0; i < json_array_size(members); i++) {
        const json_t *m = json_array_get(members, i);

        if (strcmp(picture_text(m, "role"), "primary") != 0 && !picture_bool(m, "is_streaming")) {
            (void)fprintf(to,
                          "- %s (%s) %s, %s\n",
                          picture_text(m, "name"),
                          picture_text(m, "address"),
                          picture_text(m, "role"),
                          picture_text(m, "state"));
        }
    }
}

/* ---- history and reasons ---- */

void
render_history(const json_t *page, FILE *to)
{
    static struct table t;
    const json_t *reigns = list_of(page, "reigns");

    table_init(&t, "Reigns");
    table_column(&t, "Reign", true);
    table_column(&t, "Holder", false);
    table_column(&t, "Since", false);
    table_column(&t, "TL", true);
    table_column(&t, "Fork LSN", true);
    table_column(&t, "Why", false);
    for (size_t i = 0; i < json_array_size(reigns); i++) {
        const json_t *r = json_array_get(reigns, i);
        const char *name = picture_text(r, "holder_name");

        table_row(&t, NULL);
        table_cell(&t, 0, "%lld", (long long)picture_int(r, "reign"));
        table_cell(&t, 1, "%s", name[0] != 0 ? name : picture_text(r, "holder"));
        table_cell(&t, 2, "%.19s", picture_text(r, "since"));
        if (picture_int(r, "timeline") > 0) {
            table_cell(&t, 3, "%lld", (long long)picture_int(r, "timeline"));
        }
        table_cell(&t, 4, "%s", picture_text(r, "fork_lsn"));
        table_cell(&t, 5, "%s", picture_text(r, "why"));
    }
    table_print(&t, to);
}

void
render_explain(const json_t *page, FILE *to)
{
    (void)fprintf(to,
                  "%s (%s): %s, %s\n  rule %lld: %s\n",
                  picture_text(page, "agent.node"),
                  picture_text(page, "agent.address"),
                  picture_text(page, "role"),
                  picture_text(page, "state"),
                  (long long)picture_int(page, "rule"),
                  picture_text(page, "why"));
    if (strcmp(picture_text(page, "operation"), "none") != 0) {
        (void)fprintf(to,
                      "  PostgreSQL: %s for %lld ms\n",
                      picture_text(page, "operation"),
                      (long long)picture_int(page, "operation_ms"));
    }
    if (picture_bool(page, "has_lease")) {
        (void)fprintf(to, "  lease: %lld ms left\n", (long long)picture_int(page, "lease_left_ms"));
    }
    if (picture_int(page, "promise.left_ms") > 0) {
        (void)fprintf(to,
                      "  promised reign %lld to %s for %lld ms more\n",
                      (long long)picture_int(page, "promise.reign"),
                      picture_text(page, "promise.holder"),
                      (long long)picture_int(page, "promise.left_ms"));
    }
    if (picture_int(page, "promise.quiet_ms") > 0) {
        (void)fprintf(to,
                      "  started lately: grants no new reign for %lld ms\n",
                      (long long)picture_int(page, "promise.quiet_ms"));
    }
    if (picture_bool(page, "governor.is_here")) {
        (void)fprintf(to,
                      "  governor, rule %lld: %s\n",
                      (long long)picture_int(page, "governor.rule"),
                      picture_text(page, "governor.why"));
    }
}

void
render_explain_all(const json_t *picture, FILE *to)
{
    static struct table t;
    const json_t *members = list_of(picture, "members");

    table_init(&t, "What each agent does");
    table_column(&t, "Member", false);
    table_column(&t, "Role", false);
    table_column(&t, "Rule", true);
    table_column(&t, "Why", false);
    for (size_t i = 0; i < json_array_size(members); i++) {
        const json_t *m = json_array_get(members, i);

        table_row(&t, NULL);
        table_cell(&t, 0, "%s", picture_text(m, "name"));
        table_cell(&t, 1, "%s", picture_text(m, "role"));
        if (picture_int(m, "rule") > 0) {
            table_cell(&t, 2, "%lld", (long long)picture_int(m, "rule"));
        }
        table_cell(&t,
                   3,
                   "%s",
                   picture_bool(m, "is_fresh") ? picture_text(m, "why")
                                               : "nothing was heard of it");
    }
    table_print(&t, to);
}
