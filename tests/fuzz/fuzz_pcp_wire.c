/*
 * Goal:   no stream of bytes gets a PCP session beyond its bounds, and where the network cuts it
 *         changes nothing.
 * Method: the first byte chooses the operation; the rest in one piece and in pieces gives the
 *         same end and the same nodes.
 */
#include <string.h>

#include "agent/gateway/pcp_wire.h"
#include "tests/fuzz/fuzz.h"

static int
run(struct pcp_session *s, const uint8_t *data, size_t len, size_t piece)
{
    const struct pcp_op ops[2] = {{.verb = (uint8_t)(1 + data[0] % (PCP_VERB_COUNT - 1))},
                                  {.verb = PCP_NODE_INFO}};
    int rc = HA_OK;

    pcp_session_init(s, "user", "password", ops, 2);
    for (size_t at = 1; at < len && rc == HA_OK; at += piece) {
        s->out_len = 0;
        rc = pcp_session_feed(s, data + at, len - at < piece ? len - at : piece);
    }
    REQUIRE(s->n_nodes <= PCP_NODES_MAX && s->out_len <= PCP_OUT_MAX, "all is bounded");
    return rc == HA_OK ? pcp_session_close(s) : rc;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct pcp_session whole;
    static struct pcp_session pieces;
    int rc;

    if (len == 0) {
        return 0;
    }
    rc = run(&whole, data, len, PCP_MESSAGE_MAX);
    REQUIRE(rc == run(&pieces, data, len, 1 + data[0] % 7U), "where it is cut changes nothing");
    REQUIRE(whole.step == pieces.step && whole.n_nodes == pieces.n_nodes &&
                memcmp(whole.nodes, pieces.nodes, sizeof whole.nodes) == 0,
            "where it is cut changes nothing");
    return 0;
}
