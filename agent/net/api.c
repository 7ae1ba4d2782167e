#include "agent/net/api.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/net/api_picture.h"

#define WORD_MAX 32

/* ---- answers ---- */

void
api_answer_empty(struct api_answer *out, int status)
{
    memset(out, 0, sizeof *out);
    out->http.status = status;
}

/* Takes malloc()ed text; NULL means that there was no memory for it. */
static void
answer_text(struct api_answer *out, int status, const char *content_type, char *take_text)
{
    api_answer_empty(out, take_text == NULL ? 500 : status);
    if (take_text != NULL) {
        out->memory = take_text;
        out->http.content_type = content_type;
        out->http.body = take_text;
        out->http.body_len = strlen(take_text);
        out->http.headers = "Cache-Control: no-store\r\n";
    }
}

void
api_answer_json(struct api_answer *out, int status, json_t *take_json)
{
    answer_text(out,
                status,
                "application/json",
                take_json == NULL ? NULL : json_dumps(take_json, JSON_COMPACT));
    json_decref(take_json);
}

void
api_answer_error(struct api_answer *out, int status, const char *fmt, ...)
{
    json_t *o = json_object();
    char text[256];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    put_int(o, "code", status == 404 ? HA_ENOTFOUND : HA_EINVAL);
    put_text(o, "text", text);
    api_answer_json(out, status, o);
}

void
api_answer_free(struct api_answer *answer)
{
    free(answer->memory);
    memset(answer, 0, sizeof *answer);
}

/* ---- what is asked ---- */

static const struct {
    const char *path;
    json_t *(*render)(const struct picture *picture);
} PAGES[] = {
    {"/patroni", api_patroni_json},
    {"/cluster", api_cluster_json},
    {"/history", api_history_json},
    {"/config", api_config_json},
    {"/hawser/status", api_status_json},
    {"/hawser/history", api_reigns_json},
    {"/hawser/explain", api_explain_json},
};

/* The first word of a path: "/replica/x" is about replica, as in Patroni. */
static void
first_word(const char *path, char out[WORD_MAX])
{
    const char *at = path[0] == '/' ? path + 1 : path;

    (void)snprintf(out, WORD_MAX, "%.*s", (int)strcspn(at, "/"), at);
}

static void
answer_health(const struct picture *p, const struct http_request *request, struct api_answer *out)
{
    char word[WORD_MAX];
    int status;

    first_word(request->path, word);
    status = api_health_status(p, word, request->query);
    if (strcmp(word, "liveness") == 0 || strcmp(word, "readiness") == 0) {
        api_answer_empty(out, status);
    } else {
        api_answer_json(out, status, api_patroni_json(p));
    }
}

void
api_handle(const struct api_view *view, const struct http_request *request, struct api_answer *out)
{
    struct picture picture;

    picture_make(&picture, view);
    for (size_t i = 0; i < HA_COUNT_OF(PAGES); i++) {
        if (strcmp(PAGES[i].path, request->path) == 0) {
            api_answer_json(out, 200, PAGES[i].render(&picture));
            return;
        }
    }
    if (strcmp(request->path, "/metrics") == 0) {
        answer_text(
            out, 200, "text/plain; version=0.0.4; charset=utf-8", api_metrics_text(&picture));
    } else if (strncmp(request->path, "/hawser", 7) == 0) {
        api_answer_error(out,
                         404,
                         "no such page; there are /hawser/status, /hawser/history and "
                         "/hawser/explain");
    } else {
        answer_health(&picture, request, out);
    }
}
