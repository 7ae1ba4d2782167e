/*
 * gateway_facts.h - what a gateway (a Pgpool-II) says of itself, and what it can be told.
 *
 * Filled by agent/gateway, read by the rules of group 4xx.
 */
#ifndef HA_CORE_GATEWAY_FACTS_H
#define HA_CORE_GATEWAY_FACTS_H

#include <stdbool.h>
#include <stdint.h>

#include "store/state.h"

#define GATEWAYS_MAX 8
#define GATEWAY_NODES_MAX 16
#define GATEWAY_OPS_MAX 16
#define GATEWAY_TEXT_MAX 120

enum gateway_verb {
    GATEWAY_LOOK = 1, /* only read its view */
    GATEWAY_DETACH,
    GATEWAY_ATTACH,
    GATEWAY_PROMOTE, /* it takes the node as the primary and all others as down */
    GATEWAY_VERB_COUNT,
};

struct gateway_op {
    uint8_t verb; /* enum gateway_verb */
    uint8_t node; /* the gateway's own number of the node */
};

enum gateway_node_state {
    GATEWAY_NODE_UNUSED = 0,
    GATEWAY_NODE_DOWN,
    GATEWAY_NODE_UP, /* attached: clients may be sent there */
};

struct gateway_node {
    char host[HA_ADDRESS_MAX]; /* "" = a text too long for an address */
    uint16_t port;
    uint8_t state; /* enum gateway_node_state */
    bool is_primary;
};

/* What came of one session with one gateway. */
struct gateway_facts {
    char address[HA_ADDRESS_MAX];
    int32_t rc;                  /* HA_OK, or why it could not be asked or refused */
    char text[GATEWAY_TEXT_MAX]; /* the reason, for people */
    bool has_nodes;              /* it was asked for its view, and gave it */
    uint32_t n_nodes;
    struct gateway_node nodes[GATEWAY_NODES_MAX]; /* by its own numbers */
};

/* The addresses behind PGPOOL_HOSTS, as resolved last. */
struct gateway_list {
    uint32_t n;
    char at[GATEWAYS_MAX][HA_ADDRESS_MAX];
};

#endif
