/*
 * api.h - what the HTTP port answers: the core's picture, rendered.
 *
 * A pure function of the picture: no SQL, no socket, nothing waits. The paths that
 * Patroni has keep its shapes and its status codes, so that gateways, probes and
 * monitors that know Patroni work unchanged; what is ours lies below /hawser. A
 * request that changes something becomes an event for the core; its answer comes
 * with EFFECT_REPLY. docs/http-api.md lists all of it.
 *
 * Clock:  passed in.
 * Memory: an answer owns its text until api_answer_free().
 */
#ifndef HA_NET_API_H
#define HA_NET_API_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/core/core.h"
#include "agent/net/http.h"
#include "base/mono.h"

/* What is rendered, at one moment. */
struct api_view {
    const struct core *core;
    struct mono now; /* may be later than the core's last event */
    uint64_t wall_ms;
    uint16_t port_database;
    uint16_t port_http;
    uint64_t log_queued;
    uint64_t log_lost;
};

struct api_answer {
    struct http_answer http; /* its body points into `memory` */
    char *memory;
};

/* True for a request that changes something: it must be signed (http_auth_check()). */
bool api_is_change(const struct http_request *request);

/* Answers a request that changes nothing. */
void
api_handle(const struct api_view *view, const struct http_request *request, struct api_answer *out);

/*
 * Turns a signed request into an event for the core, its token left 0. False when it cannot be
 * one; `refusal` is the answer then.
 */
bool api_parse_request(const struct api_view *view,
                       const struct http_request *request,
                       struct event *out,
                       struct api_answer *refusal) HA_MUST_CHECK;

/* The answer to a request that came to an end with `rc` (EFFECT_REPLY, http_auth_check()). */
void api_reply(int rc, const char *text, struct api_answer *out);

void api_answer_free(struct api_answer *answer);

#endif
