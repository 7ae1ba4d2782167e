/*
 * gateway.h - the gateways of PGPOOL_HOSTS: found by name, each talked to by itself.
 *
 * Names are resolved again every GATEWAY_RESOLVE_MS, off the loop; every address behind a
 * name is a gateway of its own. One that hangs delays none of the others. Nothing is decided
 * here: the core says what is asked and told (agent/core/rules_gateway.c).
 *
 * Threads: the loop's; names are resolved in libuv's pool.
 * Memory:  copies what it is given; holds the PCP password until it is closed.
 * Errors:  come back as facts, never as a failed call.
 */
#ifndef HA_GATEWAY_GATEWAY_H
#define HA_GATEWAY_GATEWAY_H

#include <uv.h>

#include "agent/core/gateway_facts.h"
#include "base/err.h"

#define GATEWAY_RESOLVE_MS 5000

struct gateways;

struct gateways_config {
    uv_loop_t *loop;
    const char *hosts; /* names or addresses, with commas or blanks between */
    uint16_t pcp_port;
    const char *user;
    const char *password;
    void *data;
    /* The addresses changed. */
    void (*on_list)(void *data, const struct gateway_list *list);
    /* A session ended; exactly one for each gateways_run(). */
    void (*on_facts)(void *data, const struct gateway_facts *facts);
    void (*on_log)(void *data, int level, const char *event, const char *text);
};

int gateways_open(const struct gateways_config *config,
                  struct gateways **out,
                  struct err *err) HA_MUST_CHECK;

/*
 * Runs operations in one session with one gateway, or reports at once that it cannot. No
 * operations: the session that is under way with it ends, and nothing is reported of it.
 */
void gateways_run(struct gateways *gateways,
                  const char *address,
                  const struct gateway_op *ops,
                  uint32_t n_ops);

/* Ends all sessions; handles are closed and memory is freed as the loop runs on. NULL is fine. */
void gateways_close(struct gateways *gateways);

#endif
