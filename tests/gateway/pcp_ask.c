/*
 * pcp_ask - one session of agent/gateway/pcp.c by hand, for the tests of the gateway.
 *
 *   pcp_ask ADDRESS PORT USER PASSWORD_FILE OPERATION...
 *
 * OPERATION: info, count, reload, attach:N, detach:N, promote:N. Prints "rc CODE TEXT", "count
 * N", and a line "N HOST PORT STATUS ROLE" for each node.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/gateway/pcp.h"

static int
parse_op(const char *word, struct pcp_op *out)
{
    static const char *const words[PCP_VERB_COUNT] = {[PCP_NODE_COUNT] = "count",
                                                      [PCP_NODE_INFO] = "info",
                                                      [PCP_DETACH] = "detach:",
                                                      [PCP_ATTACH] = "attach:",
                                                      [PCP_PROMOTE] = "promote:",
                                                      [PCP_RELOAD] = "reload"};

    for (uint8_t v = 1; v < PCP_VERB_COUNT; v++) {
        const size_t len = strlen(words[v]);

        if (strncmp(word, words[v], len) == 0) {
            *out = (struct pcp_op){.verb = v, .node = (int32_t)strtol(word + len, NULL, 10)};
            return 0;
        }
    }
    return -1;
}

static void
on_done(void *data, int rc, const struct pcp_session *s)
{
    int *status = data;

    printf("rc %d %s\n", rc, s->err.text);
    if (s->node_count > 0) {
        printf("count %d\n", s->node_count);
    }
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        printf("%u %s %u %u %u\n",
               i,
               s->nodes[i].host,
               s->nodes[i].port,
               s->nodes[i].status,
               s->nodes[i].role);
    }
    *status = rc == HA_OK ? 0 : 1;
}

int
main(int argc, char **argv)
{
    struct pcp_op ops[PCP_OPS_MAX];
    char password[PCP_PASSWORD_MAX] = "";
    struct pcp_config config = {.loop = uv_default_loop(), .done = on_done};
    struct pcp *pcp;
    struct err err = {0};
    int status = 1;
    FILE *f = argc > 5 ? fopen(argv[4], "r") : NULL;

    if (f == NULL || fgets(password, sizeof password, f) == NULL || argc - 5 > PCP_OPS_MAX) {
        fprintf(stderr, "usage: pcp_ask ADDRESS PORT USER PASSWORD_FILE OPERATION...\n");
        return 2;
    }
    fclose(f);
    password[strcspn(password, "\n")] = 0;
    for (int i = 5; i < argc; i++) {
        if (parse_op(argv[i], &ops[i - 5]) != 0) {
            fprintf(stderr, "pcp_ask: what is %s?\n", argv[i]);
            return 2;
        }
    }
    config.address = argv[1];
    config.port = (uint16_t)strtoul(argv[2], NULL, 10);
    config.user = argv[3];
    config.password = password;
    config.data = &status;
    if (pcp_begin(&config, ops, (size_t)(argc - 5), &pcp, &err) != HA_OK) {
        fprintf(stderr, "pcp_ask: %s\n", err.text);
        return 1;
    }
    (void)uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    (void)uv_loop_close(uv_default_loop());
    return status;
}
