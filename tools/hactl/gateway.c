/*
 * hactl gateway: each gateway's view beside the cluster's.
 */
#include <string.h>

#include "tools/hactl/render.h"
#include "tools/hactl/table.h"

static void
put_node(struct table *t, const json_t *gateway, const json_t *node, bool is_first)
{
    table_row(t, NULL);
    if (is_first) {
        table_cell(t, 0, "%s", picture_text(gateway, "address"));
    }
    table_cell(t, 1, "%lld", (long long)picture_int(node, "node"));
    table_cell(
        t, 2, "%s:%lld", picture_text(node, "address"), (long long)picture_int(node, "port"));
    table_cell(t,
               3,
               "%s%s%s",
               picture_text(node, "state"),
               strcmp(picture_text(node, "state"), "up") == 0 ? ", " : "",
               strcmp(picture_text(node, "state"), "up") == 0 ? picture_text(node, "role") : "");
    table_cell(t, 4, "%s", picture_text(node, "want"));
    table_cell(t, 5, "%s", picture_bool(node, "is_right") ? "" : "MISMATCH");
}

void
render_gateways(const json_t *gateways, FILE *to)
{
    static struct table t;

    table_init(&t, "Gateways");
    table_column(&t, "Gateway", false);
    table_column(&t, "Node", true);
    table_column(&t, "Server", false);
    table_column(&t, "It sees", false);
    table_column(&t, "The cluster says", false);
    table_column(&t, "", false);
    for (size_t i = 0; i < json_array_size(gateways); i++) {
        const json_t *g = json_array_get(gateways, i);
        const json_t *nodes = json_object_get(g, "nodes");

        for (size_t k = 0; k < json_array_size(nodes); k++) {
            put_node(&t, g, json_array_get(nodes, k), k == 0);
        }
        if (json_array_size(nodes) == 0) {
            table_row(&t, NULL);
            table_cell(&t, 0, "%s", picture_text(g, "address"));
            table_cell(&t, 3, "unknown");
            table_cell(&t, 5, "UNREACHED");
        }
    }
    table_print(&t, to);
    for (size_t i = 0; i < json_array_size(gateways); i++) {
        const json_t *g = json_array_get(gateways, i);
        const char *why = picture_text(g, "why");

        (void)fprintf(to,
                      "%s: %s (rule %lld)\n",
                      picture_text(g, "address"),
                      why[0] == 0 ? "not asked yet" : why,
                      (long long)picture_int(g, "rule"));
    }
}

/* The gateways as the agent knows them that leads Raft, for it alone asks them. */
static const json_t *
find_gateways(const struct answers *answers, bool *is_asked)
{
    const json_t *found = NULL;
    uint64_t term = 0;

    *is_asked = false;
    for (size_t i = 0; i < answers->n; i++) {
        const json_t *json = answers->at[i].json;
        const json_t *list = json_object_get(json, "gateways");
        const uint64_t its_term = (uint64_t)picture_int(json, "raft.term");

        if (!json_is_array(list)) {
            continue;
        }
        if (picture_bool(json, "raft.is_ready") && (!*is_asked || its_term > term)) {
            found = list;
            term = its_term;
            *is_asked = true;
        } else if (!*is_asked && json_array_size(list) >= json_array_size(found)) {
            found = list;
        }
    }
    return found;
}

static bool
are_all_right(const json_t *gateways)
{
    for (size_t i = 0; i < json_array_size(gateways); i++) {
        if (!picture_bool(json_array_get(gateways, i), "is_right")) {
            return false;
        }
    }
    return json_array_size(gateways) > 0;
}

enum exit_status
verb_gateway(struct context *c)
{
    struct answers answers;
    const json_t *gateways;
    enum exit_status status;
    bool is_asked;

    client_ask_all(&c->agents, "/hawser/status", &answers);
    gateways = find_gateways(&answers, &is_asked);
    if (gateways == NULL) {
        status = hactl_unreachable(c, &answers);
        answers_free(&answers);
        return status;
    }
    if (c->options.is_json) {
        (void)json_dumpf(gateways, c->out, JSON_INDENT(2));
        (void)fputc('\n', c->out);
    } else if (json_array_size(gateways) > 0 && is_asked) {
        render_gateways(gateways, c->out);
    }
    if (json_array_size(gateways) == 0) {
        (void)fprintf(c->err, "hactl: the agents know no gateway (PGPOOL_HOSTS)\n");
    } else if (!is_asked) {
        (void)fprintf(c->err, "hactl: no agent leads Raft, so nobody looks at the gateways\n");
    }
    status = is_asked && are_all_right(gateways) ? EXIT_YES : EXIT_NO;
    answers_free(&answers);
    return status;
}
