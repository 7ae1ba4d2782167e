/*
 * client.h - HTTP to agents: a question to all of them at once, a signed request to one.
 *
 * Clock:  CLOCK_MONOTONIC, for timeouts.
 * Memory: an answer owns its JSON until answers_free().
 */
#ifndef HA_TOOLS_CLIENT_H
#define HA_TOOLS_CLIENT_H

#include "tools/hactl/hactl.h"

#define CLIENT_ASK_MS 2000   /* what an agent may take to answer a question */
#define CLIENT_POST_MS 15000 /* and a request: the cluster has to agree */

struct answer {
    const char *url;
    long status;     /* of HTTP; 0 = none came */
    json_t *json;    /* or NULL */
    char error[128]; /* why none came */
};

struct answers {
    size_t n;
    struct answer at[HACTL_AGENTS_MAX];
};

int64_t client_now_ms(void);
void client_sleep_ms(int64_t ms);

/*
 * GET from all agents at once. Waits for the last one, but no longer than a moment after somebody
 * knew a leader: a dead host costs little.
 */
void client_ask_all(const struct agents *agents, const char *path, struct answers *out);

/* Signed POST to one agent. `body` may be NULL. */
void client_post(const char *url,
                 const char *path,
                 const json_t *body,
                 const struct http_auth *auth,
                 struct answer *out);

/* Tells what each said instead of an answer; show.c. */
enum exit_status hactl_unreachable(const struct context *context, const struct answers *answers);

void answer_free(struct answer *answer);
void answers_free(struct answers *answers);

#endif
