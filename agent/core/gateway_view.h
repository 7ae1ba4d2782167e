/*
 * gateway_view.h - what the governor knows of the gateways, and what it wants of them.
 *
 * Part of struct core. Only a ready Raft leader asks and tells gateways; everybody
 * else keeps the list alone.
 */
#ifndef HA_CORE_GATEWAY_VIEW_H
#define HA_CORE_GATEWAY_VIEW_H

#include "agent/core/gateway_facts.h"
#include "base/mono.h"

enum gateway_want {
    GATEWAY_WANT_KEEP = 0, /* as it is: a moment's weakness is no reason to cut sessions */
    GATEWAY_WANT_AWAY,     /* detached */
    GATEWAY_WANT_STANDBY,  /* attached */
    GATEWAY_WANT_PRIMARY,  /* attached, and taken as the primary */
};

/* One database member, as the gateways shall see it. */
struct gateway_target {
    char address[HA_ADDRESS_MAX]; /* "" = free entry */
    uint8_t want;                 /* enum gateway_want */
    struct mono bad_since;        /* 0 = not bad; clients can do nothing there */
    struct mono good_since;       /* 0 = not good; a verified standby */
};

struct gateway_attach {
    struct mono tried_at;
    int64_t pause_ms; /* 0 = not tried under this reign */
};

struct gateway_view {
    char address[HA_ADDRESS_MAX];
    bool is_busy; /* a session is under way */
    bool is_told; /* that session tells it something */
    struct mono due_at;
    struct mono told_at;
    uint64_t told_version; /* of the wish */
    bool has_view;
    struct mono seen_at;
    struct gateway_facts view; /* its newest view */
    int32_t rc;                /* of the last session */
    uint16_t rule;             /* 400: as it should be; else what is wrong or done about it */
    char why[GATEWAY_TEXT_MAX];
    struct gateway_attach promote;
    struct gateway_attach attach[GATEWAY_NODES_MAX];
};

struct gateways_view {
    bool was_leading;
    uint64_t version;       /* of the wish: grows when any target's does */
    uint64_t reign;         /* that attach[] was counted under */
    struct mono lost_since; /* 0 = somebody may write */
    bool is_expecting;      /* a primary, in a moment: sessions are left alone until then */
    uint32_t n;
    struct gateway_view at[GATEWAYS_MAX];
    struct gateway_target targets[HA_MEMBER_SLOTS];
};

/* enum gateway_want for the server with that address; away when it is no member's. */
uint8_t gateways_want(const struct gateways_view *all, const char *address);

/* The same for who acts on it without asking us again, hapool: "as it is" while a primary is about
 * to open, and for whom nothing is known of yet. */
uint8_t gateways_want_now(const struct gateways_view *all, const char *address);

/* What a gateway says of one of its nodes is what is wanted of it. */
bool gateway_node_is_right(const struct gateway_node *node, uint8_t want);

/* It was seen, and nothing is to be told to it. */
bool gateway_is_right(const struct gateway_view *gateway);

#endif
