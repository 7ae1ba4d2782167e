/*
 * The HTTP port: reads are answered from the core's picture, changes are checked
 * for their signature, given to the core, and answered when it replies.
 */
#include <string.h>

#include "agent/net/api.h"
#include "agent/shell/agent.h"
#include "agent/shell/clock.h"
#include "agent/shell/log.h"

static struct api_view
view_now(const struct agent *agent)
{
    struct log_figures figures;

    log_get_figures(&figures);
    return (struct api_view){.core = &agent->core,
                             .now = clock_mono(),
                             .wall_ms = clock_wall_ms(),
                             .port_database = agent->config.port_database,
                             .port_http = agent->config.port_http,
                             .log_queued = figures.n_queued,
                             .log_lost = figures.n_lost};
}

static int
check_signature(struct agent *agent, const struct http_request *request, struct err *err)
{
    const struct http_auth_request what = {.method = request->method_text,
                                           .target = request->target,
                                           .body = request->body,
                                           .body_len = request->body_len};

    return http_auth_check(&agent->auth,
                           &what,
                           http_request_header(request, "Authorization"),
                           (int64_t)(clock_wall_ms() / 1000),
                           err);
}

/* A place among those that wait for an answer, or -1. */
static int
free_place(const struct agent *agent)
{
    for (int i = 0; i < AGENT_REPLIES_MAX; i++) {
        if (!agent->replies[i].is_used) {
            return i;
        }
    }
    return -1;
}

static void
change(struct agent *agent, const struct http_request *request, struct http_exchange *exchange)
{
    const struct api_view view = view_now(agent);
    struct api_answer answer = {0};
    struct event event;
    struct err err = {0};
    int rc = check_signature(agent, request, &err);
    int place = -1;

    if (rc == HA_OK && (place = free_place(agent)) < 0) {
        rc = err_set(&err, HA_EBUSY, "too many requests wait for an answer");
    }
    if (rc != HA_OK) {
        log_write(LOG_LEVEL_WARN,
                  "http_refused",
                  "%s %s from %s: %s",
                  request->method_text,
                  request->path,
                  request->remote,
                  err.text);
        api_reply(rc, err.text, &answer);
    } else if (api_parse_request(&view, request, &event, &answer)) {
        log_write(LOG_LEVEL_INFO,
                  "http_request",
                  "%s %s from %s",
                  request->method_text,
                  request->path,
                  request->remote);
        agent->replies[place].is_used = true;
        agent->replies[place].ticket = http_defer(exchange);
        event.request.token = (uint64_t)place + 1;
        agent_event(agent, &event);
        return;
    }
    http_answer(exchange, &answer.http);
    api_answer_free(&answer);
}

static void
on_request(void *data, const struct http_request *request, struct http_exchange *exchange)
{
    struct agent *agent = data;
    struct api_view view;
    struct api_answer answer = {0};

    if (api_is_change(request)) {
        change(agent, request, exchange);
        return;
    }
    view = view_now(agent);
    api_handle(&view, request, &answer);
    http_answer(exchange, &answer.http);
    api_answer_free(&answer);
}

static void
on_log(void *data, int level, const char *event, const char *text)
{
    (void)data;
    log_write((uint8_t)level, event, "%s", text);
}

int
agent_web_open(struct agent *agent, struct err *err)
{
    const struct config *c = &agent->config;
    const struct http_config config = {.loop = &agent->loop,
                                       .host = c->listen,
                                       .port = c->port_http,
                                       .data = agent,
                                       .on_request = on_request,
                                       .on_log = on_log};
    const int rc = http_auth_init(&agent->auth,
                                  (const uint8_t *)c->cluster_secret.bytes,
                                  c->cluster_secret.len,
                                  (int64_t)(clock_wall_ms() / 1000));

    if (rc != HA_OK) {
        return err_set(err, rc, "cannot derive the key of the HTTP port's signatures");
    }
    return http_open(&config, &agent->http, err);
}

void
agent_web_reply(struct agent *agent, uint64_t token, int rc, const char *text)
{
    struct api_answer answer = {0};
    struct agent_reply *reply;

    REQUIRE(token >= 1 && token <= AGENT_REPLIES_MAX, "a token is one that we gave");
    reply = &agent->replies[token - 1];
    if (!reply->is_used || agent->http == NULL) {
        return;
    }
    reply->is_used = false;
    api_reply(rc, text, &answer);
    (void)http_finish(agent->http, reply->ticket, &answer.http);
    api_answer_free(&answer);
}
