#include "tools/hactl/picture.h"

#include <stdlib.h>
#include <string.h>

static const json_t *
find(const json_t *json, const char *path)
{
    while (json != NULL && path[0] != 0) {
        char key[64];
        const size_t len = strcspn(path, ".");

        (void)snprintf(key, sizeof key, "%.*s", (int)len, path);
        json = json_object_get(json, key);
        path += len + (path[len] == '.');
    }
    return json;
}

const char *
picture_text(const json_t *json, const char *path)
{
    const char *text = json_string_value(find(json, path));

    return text == NULL ? "" : text;
}

int64_t
picture_int(const json_t *json, const char *path)
{
    return json_integer_value(find(json, path));
}

bool
picture_bool(const json_t *json, const char *path)
{
    return json_is_true(find(json, path));
}

/* How much a picture is worth; the first figure that differs decides. */
static bool
is_better(const json_t *a, const json_t *b)
{
    static const char *const figures[] = {"reign.reign", "declaration.generation"};
    const bool has_a = picture_text(a, "leader")[0] != 0;
    const bool has_b = picture_text(b, "leader")[0] != 0;

    if (picture_int(a, figures[0]) != picture_int(b, figures[0])) {
        return picture_int(a, figures[0]) > picture_int(b, figures[0]);
    }
    if (has_a != has_b) {
        return has_a;
    }
    if (picture_int(a, figures[1]) != picture_int(b, figures[1])) {
        return picture_int(a, figures[1]) > picture_int(b, figures[1]);
    }
    return picture_bool(a, "raft.is_ready") && !picture_bool(b, "raft.is_ready");
}

static bool
is_picture(const struct answer *answer)
{
    return answer->status == 200 && json_is_object(json_object_get(answer->json, "reign")) &&
           json_is_array(json_object_get(answer->json, "members"));
}

const json_t *
picture_best(const struct answers *answers)
{
    const json_t *best = NULL;

    for (size_t i = 0; i < answers->n; i++) {
        const struct answer *a = &answers->at[i];

        if (is_picture(a) && (best == NULL || is_better(a->json, best))) {
            best = a->json;
        }
    }
    return best;
}

void
picture_reason(const struct answers *answers, const json_t *best, char *out, size_t size)
{
    const char *why = "";
    int64_t rule = 0;

    for (size_t i = 0; i < answers->n; i++) {
        const json_t *json = answers->at[i].json;

        if (is_picture(&answers->at[i]) && picture_bool(json, "governor.is_here")) {
            why = picture_text(json, "governor.why");
            rule = picture_int(json, "governor.rule");
        }
    }
    if (why[0] == 0) { /* nobody who could appoint was heard */
        const json_t *self = picture_member(best, picture_text(best, "agent.address"));

        why = picture_text(self, "why");
        rule = picture_int(self, "rule");
        if (picture_text(best, "raft.leader")[0] == 0) {
            (void)snprintf(
                out, size, "the agents have no majority%s%s", why[0] == 0 ? "" : "; ", why);
            return;
        }
    }
    (void)snprintf(out,
                   size,
                   rule == 0 ? "%s" : "%s (rule %lld)",
                   why[0] == 0 ? "nobody says why" : why,
                   (long long)rule);
}

const json_t *
picture_member(const json_t *picture, const char *who)
{
    const json_t *members = json_object_get(picture, "members");

    for (size_t i = 0; i < json_array_size(members); i++) {
        const json_t *m = json_array_get(members, i);

        if (strcmp(picture_text(m, "address"), who) == 0 ||
            strcmp(picture_text(m, "name"), who) == 0) {
            return m;
        }
    }
    return NULL;
}

uint64_t
picture_lsn_bytes(const char *text)
{
    char *end = NULL;
    const unsigned long long high = strtoull(text, &end, 16);

    if (end == text || *end != '/') {
        return 0;
    }
    return (uint64_t)(high << 32 | strtoull(end + 1, NULL, 16));
}

const json_t *
picture_best_standby(const json_t *picture)
{
    const json_t *members = json_object_get(picture, "members");
    const json_t *best = NULL;
    uint64_t best_lsn = 0;

    for (size_t i = 0; i < json_array_size(members); i++) {
        const json_t *m = json_array_get(members, i);
        const uint64_t lsn = picture_lsn_bytes(picture_text(m, "lsn"));

        if (strcmp(picture_text(m, "role"), "replica") == 0 &&
            strcmp(picture_text(m, "state"), "streaming") == 0 &&
            !picture_bool(m, "is_nofailover") && (best == NULL || lsn > best_lsn)) {
            best = m;
            best_lsn = lsn;
        }
    }
    return best;
}
