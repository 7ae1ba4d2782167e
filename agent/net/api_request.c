/*
 * Requests that change something: a signed POST becomes an event for the core.
 */
#include <string.h>

#include "agent/net/address.h"
#include "agent/net/api_picture.h"

static const struct {
    const char *path;
    uint8_t type;
} REQUESTS[] = {
    {"/hawser/declare", REQUEST_DECLARE},
    {"/hawser/pause", REQUEST_PAUSE},
    {"/hawser/resume", REQUEST_RESUME},
    {"/hawser/restart", REQUEST_RESTART},
    {"/hawser/reload", REQUEST_RELOAD},
    {"/hawser/reinit", REQUEST_REINIT},
    {"/hawser/recover", REQUEST_RECOVER},
};

bool
api_is_change(const struct http_request *request)
{
    return request->method != HTTP_METHOD_GET && request->method != HTTP_METHOD_HEAD &&
           request->method != HTTP_METHOD_OPTIONS;
}

static bool
has_only(const json_t *body, const char *const keys[])
{
    size_t n = 0;

    for (size_t i = 0; keys[i] != NULL; i++) {
        n += json_object_get(body, keys[i]) != NULL;
    }
    return n == json_object_size(body);
}

static bool
parse_declare(const struct api_view *view,
              const json_t *body,
              struct event *out,
              struct api_answer *refusal)
{
    static const char *const keys[] = {"primary", "number", "anew", NULL};
    const char *primary = json_string_value(json_object_get(body, "primary"));
    const json_t *number = json_object_get(body, "number");
    const json_t *anew = json_object_get(body, "anew");
    const struct member *m;

    if (!has_only(body, keys) || primary == NULL || (anew != NULL && !json_is_boolean(anew)) ||
        (number != NULL && (!json_is_integer(number) || json_integer_value(number) < 0))) {
        api_answer_error(refusal,
                         400,
                         "wanted: {\"primary\": \"IP address\", \"number\": 0 or more, "
                         "\"anew\": true or false}");
        return false;
    }
    memset(out->request.primary, 0, sizeof out->request.primary);
    if (!address_normalise(primary, out->request.primary)) {
        api_answer_error(refusal, 422, "%.60s is not an IP address", primary);
        return false;
    }
    m = state_member_at(&view->core->state, out->request.primary);
    if (m == NULL || m->kind != MEMBER_DATABASE) {
        api_answer_error(refusal,
                         422,
                         m == NULL ? "%s is not a member of this cluster"
                                   : "%s is a witness: it has no database",
                         out->request.primary);
        return false;
    }
    out->request.is_anew = json_is_true(anew);
    out->request.number = number == NULL ? 0 : (uint64_t)json_integer_value(number);
    return true;
}

static bool
parse_recover(const json_t *body, struct event *out, struct api_answer *refusal)
{
    static const char *const keys[] = {"dead", "failover", NULL};
    const json_t *dead = json_object_get(body, "dead");
    const json_t *failover = json_object_get(body, "failover");
    const size_t n = json_array_size(dead);

    if (!has_only(body, keys) || !json_is_array(dead) || n == 0 || n > HA_MEMBERS_MAX ||
        (failover != NULL && !json_is_boolean(failover))) {
        api_answer_error(
            refusal, 400, "wanted: {\"dead\": [\"IP address\", ...], \"failover\": true or false}");
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const char *address = json_string_value(json_array_get(dead, i));

        if (address == NULL || !address_normalise(address, out->request.dead[i])) {
            api_answer_error(refusal, 422, "\"dead\": an entry is not an IP address");
            return false;
        }
    }
    out->request.n_dead = (uint32_t)n;
    out->request.is_failover = json_is_true(failover);
    return true;
}

/* An empty body is an empty object. */
static json_t *
parse_body(const struct http_request *request)
{
    json_t *body = request->body_len == 0
                       ? json_object()
                       : json_loadb(request->body, request->body_len, JSON_REJECT_DUPLICATES, NULL);

    if (body != NULL && !json_is_object(body)) {
        json_decref(body);
        return NULL;
    }
    return body;
}

bool
api_parse_request(const struct api_view *view,
                  const struct http_request *request,
                  struct event *out,
                  struct api_answer *refusal)
{
    json_t *body;
    bool is_good;

    memset(out, 0, sizeof *out);
    out->type = EVENT_REQUEST;
    for (size_t i = 0; i < HA_COUNT_OF(REQUESTS); i++) {
        if (strcmp(REQUESTS[i].path, request->path) == 0) {
            out->request.type = REQUESTS[i].type;
        }
    }
    if (out->request.type == 0 || request->method != HTTP_METHOD_POST) {
        api_answer_error(refusal,
                         out->request.type == 0 ? 404 : 405,
                         "no such request; there are POST /hawser/declare, /hawser/pause, "
                         "/hawser/resume, /hawser/restart, /hawser/reload, /hawser/reinit and "
                         "/hawser/recover");
        return false;
    }
    body = parse_body(request);
    if (body == NULL) {
        api_answer_error(refusal, 400, "the body is not a JSON object");
        return false;
    }
    if (out->request.type == REQUEST_DECLARE) {
        is_good = parse_declare(view, body, out, refusal);
    } else if (out->request.type == REQUEST_RECOVER) {
        is_good = parse_recover(body, out, refusal);
    } else {
        is_good = json_object_size(body) == 0;
        if (!is_good) {
            api_answer_error(refusal, 400, "no words are wanted in the body");
        }
    }
    json_decref(body);
    return is_good;
}

/* What a client makes of an outcome: hactl's exit code hangs on it. */
static int
http_status(int rc)
{
    switch ((enum ha_error)rc) {
    case HA_OK:
        return 200;
    case HA_EAUTH:
        return 401;
    case HA_EINVAL:
        return 422;
    case HA_EREFUSED:
    case HA_EEXIST:
        return 409;
    case HA_EBUSY:
    case HA_ENOTLEADER:
    case HA_EUNREACHABLE:
        return 503;
    case HA_EUNKNOWN:
    case HA_ETIMEOUT:
        return 504;
    case HA_EIO:
    case HA_ENOSPC:
    case HA_ECORRUPT:
    case HA_ENOTFOUND:
    case HA_ETOOBIG:
    case HA_ENOMEM:
    case HA_EVERSION:
    case HA_ECANCELED:
    case HA_EFAILED:
    default:
        return 500;
    }
}

void
api_reply(int rc, const char *text, struct api_answer *out)
{
    json_t *o = json_object();

    put_int(o, "code", rc);
    put_text(o, "text", rc == HA_OK ? "done" : text);
    api_answer_json(out, http_status(rc), o);
}
