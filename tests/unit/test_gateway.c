/*
 * Goal:   rules 4xx: a gateway is told the difference between what it sees and what is, in the
 *         measured order; a stale primary is never attached; only a ready Raft leader speaks.
 * Method: a core whose picture of three members is made by hand, and a Pgpool of a few lines
 *         that does what Pgpool does with what it is told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/core/core_internal.h"
#include "tests/unit/cluster_state.h"

#define GATEWAY "10.0.0.50"
#define SILENT "10.0.0.49" /* its sessions do not end */

static struct core core;
static struct effect_list fx;
static struct gateway_facts pool; /* the gateway */
static char told[256];            /* "D0 P1 A2 " */
static int pool_rc;               /* of its sessions */
static unsigned n_looks;
static unsigned n_tries; /* sessions in which it was told something */
static const char *const IPS[] = {IP_A, IP_B, IP_C};

static struct status *
status_of(const char *address)
{
    return strcmp(address, IP_A) == 0 ? &core.status : &core_peer_at(&core, address)->status;
}

static void
standby(const char *address, const char *of)
{
    struct pg_facts *pg = &status_of(address)->pg;

    memset(pg, 0, sizeof *pg);
    pg->run = PG_RUN_UP;
    pg->is_in_recovery = true;
    pg->is_streaming = of != NULL;
    pg->timeline = core.state.timeline;
    pg->lsn = pg->replay_lsn = 0x5000;
    SET_TEXT(pg->upstream, of == NULL ? "" : of);
    status_of(address)->lease_left_ms = 0;
}

static void
primary(const char *address)
{
    struct status *st = status_of(address);

    standby(address, NULL);
    st->pg.is_in_recovery = false;
    st->reign = core.state.reign;
    st->lease_left_ms = 1000;
}

static void
begin(void)
{
    memset(&core, 0, sizeof core);
    core.now = mono_ms(1000000);
    cluster_reigned(&core.state);
    core.state.declaration.max_lag = 1 << 20;
    core.durable.id = id_of(&core.state, IP_A);
    core.status_at = core.now;
    core.raft.is_ready = true;
    core.gateways.n = 1;
    SET_TEXT(core.gateways.at[0].address, GATEWAY);
    memset(&pool, 0, sizeof pool);
    SET_TEXT(pool.address, GATEWAY);
    pool.has_nodes = true;
    pool.n_nodes = 3;
    for (size_t i = 0; i < 3; i++) {
        struct peer_view *p = core_peer_at(&core, IPS[i]);

        p->is_heard = true;
        p->status.id = id_of(&core.state, IPS[i]);
        core.status.id = core.durable.id;
        SET_TEXT(pool.nodes[i].host, IPS[i]);
        pool.nodes[i].state = GATEWAY_NODE_UP;
    }
    primary(IP_A);
    standby(IP_B, IP_A);
    standby(IP_C, IP_A);
    pool.nodes[0].is_primary = true;
    told[0] = 0;
    pool_rc = HA_OK;
    n_looks = n_tries = 0;
}

/* What Pgpool does. */
static void
obey(const struct gateway_op *op)
{
    const size_t used = strlen(told);

    if (op->verb == GATEWAY_PROMOTE) {
        for (size_t i = 0; i < pool.n_nodes; i++) {
            pool.nodes[i].is_primary = i == op->node;
            if (i != op->node) {
                pool.nodes[i].state = GATEWAY_NODE_DOWN;
            }
        }
    } else if (op->verb == GATEWAY_DETACH) {
        pool.nodes[op->node].state = GATEWAY_NODE_DOWN;
        pool.nodes[op->node].is_primary = false;
    } else {
        pool.nodes[op->node].state = GATEWAY_NODE_UP; /* and it looks who is the primary */
        for (size_t i = 0; i < pool.n_nodes; i++) {
            pool.nodes[i].is_primary = pool.nodes[i].state == GATEWAY_NODE_UP &&
                                       !status_of(pool.nodes[i].host)->pg.is_in_recovery;
        }
    }
    (void)snprintf(told + used,
                   sizeof told - used,
                   "%c%u ",
                   op->verb == GATEWAY_PROMOTE  ? 'P'
                   : op->verb == GATEWAY_DETACH ? 'D'
                                                : 'A',
                   op->node);
}

/* One session, which takes no time. */
static void
serve(const struct effect *e, bool is_obedient)
{
    struct gateway_facts facts = pool;

    if (strcmp(e->gateway.address, SILENT) == 0) {
        return;
    }
    n_looks += e->gateway.ops[0].verb == GATEWAY_LOOK;
    n_tries += e->gateway.ops[0].verb != GATEWAY_LOOK;
    facts.rc = pool_rc;
    for (uint32_t k = 0; k < e->gateway.n_ops && is_obedient; k++) {
        if (e->gateway.ops[k].verb != GATEWAY_LOOK) {
            obey(&e->gateway.ops[k]);
        }
    }
    facts.has_nodes = e->gateway.ops[0].verb == GATEWAY_LOOK;
    gateway_on_facts(&core, &fx, &facts);
}

static void
serve_all(bool is_obedient)
{
    for (unsigned round = 0; fx.n > 0 && round < 4; round++) {
        const struct effect_list list = fx;

        fx.n = 0;
        for (uint32_t i = 0; i < list.n; i++) {
            if (list.at[i].type == EFFECT_GATEWAY) {
                serve(&list.at[i], is_obedient);
            }
        }
    }
}

/* So long; members that are heard stay so. */
static void
run(int64_t ms, bool is_obedient)
{
    for (const int64_t end = core.now.ms + ms; core.now.ms < end;) {
        core.now = mono_add(core.now, 50);
        core.status_at = core.now;
        for (size_t i = 0; i < CORE_PEERS_MAX; i++) {
            core.peers[i].heard_at = core.peers[i].is_heard ? core.now : mono_ms(0);
        }
        fx.n = 0;
        rules_gateway(&core, &fx);
        serve_all(is_obedient);
    }
}

static void
nothing_is_told_to_a_gateway_that_sees_what_is(void **state)
{
    (void)state;
    begin();
    run(40000, true);
    assert_string_equal(told, "");
    assert_int_equal(core.gateways.at[0].rule, 400);
}

static void
a_new_primary_is_promoted_first_and_standbys_come_as_they_stream(void **state)
{
    (void)state;
    begin();
    run(500, true);
    SAID(&core.state, appoint(2, id_of(&core.state, IP_B)));
    core_peer_at(&core, IP_A)->is_heard = false;
    core.status.pg.run = PG_RUN_STOPPED;
    standby(IP_C, NULL);
    run(200, true);
    assert_string_equal(told, ""); /* appointed is not writable */
    primary(IP_B);
    run(100, true);
    assert_string_equal(told, "P1 ");
    run(1000, true);
    standby(IP_C, IP_B);
    run(1500, true);
    assert_string_equal(told, "P1 A2 ");
    run(30000, true);
    assert_string_equal(told, "P1 A2 ");
}

static void
a_lost_primary_is_detached_last_and_only_after_a_while(void **state)
{
    (void)state;
    begin();
    run(500, true);
    core.durable.id = id_of(&core.state, IP_B); /* B leads Raft */
    core.status = *status_of(IP_B);
    core_peer_at(&core, IP_A)->is_heard = false;
    core_peer_at(&core, IP_C)->is_heard = false;
    run(900, true);
    assert_string_equal(told, "");
    run(500, true);
    assert_string_equal(told, "D2 D0 ");
    run(30000, true);
    assert_string_equal(told, "D2 D0 "); /* B stays: reads go on */
}

static void
no_detach_keeps_a_gateway_busy_while_a_primary_is_about_to_open(void **state)
{
    (void)state;
    begin();
    core.state.declaration.failover = FAILOVER_AUTO;
    core.state.declaration.lease_ms = 2000;
    run(500, true);
    core.durable.id = id_of(&core.state, IP_B);
    core.status = *status_of(IP_B);
    core_peer_at(&core, IP_A)->is_heard = false;
    run(3500, true); /* a lease, an election and a promotion */
    assert_string_equal(told, "");
    SAID(&core.state, appoint(2, id_of(&core.state, IP_B)));
    core.status.pg.is_in_recovery = false;
    core.status.lease_left_ms = 1000;
    core.status.reign = 2;
    run(100, true);
    assert_string_equal(told, "P1 ");
    /* Nobody came: then readers must be rid of the dead one. */
    begin();
    core.state.declaration.failover = FAILOVER_AUTO;
    core.state.declaration.lease_ms = 2000;
    run(500, true);
    core.durable.id = id_of(&core.state, IP_B);
    core.status = *status_of(IP_B);
    core_peer_at(&core, IP_A)->is_heard = false;
    run(4500, true);
    assert_string_equal(told, "D0 ");
    /* Paused: nobody will come. */
    begin();
    core.state.declaration.failover = FAILOVER_AUTO;
    core.state.is_paused = true;
    run(500, true);
    core.durable.id = id_of(&core.state, IP_B);
    core.status = *status_of(IP_B);
    core_peer_at(&core, IP_A)->is_heard = false;
    run(1500, true);
    assert_string_equal(told, "D0 ");
}

/* Detaching the primary makes Pgpool search through all attached servers. */
static void
a_search_comes_upon_no_suspect(void **state)
{
    (void)state;
    begin();
    run(500, true);
    core.durable.id = id_of(&core.state, IP_B);
    core.status = *status_of(IP_B);
    core_peer_at(&core, IP_A)->is_heard = false;
    run(900, true);
    core_peer_at(&core, IP_C)->is_heard = false; /* only just: not for a second yet */
    run(300, true);
    assert_string_equal(told, "D2 D0 ");
}

static void
a_stale_primary_is_never_attached(void **state)
{
    (void)state;
    begin();
    pool.nodes[2].state = GATEWAY_NODE_DOWN;
    primary(IP_C); /* a lease of its own imagination */
    status_of(IP_C)->pg.is_streaming = true;
    SET_TEXT(status_of(IP_C)->pg.upstream, IP_A);
    run(60000, true);
    assert_string_equal(told, "");
    pool.nodes[2].state = GATEWAY_NODE_UP; /* by a person's hand */
    run(16000, true);
    assert_string_equal(told, "D2 ");
    begin();
    run(500, true);
    primary(IP_C); /* promoted by hand, while clients read there */
    run(100, true);
    assert_string_equal(told, "D2 "); /* at once */
}

static void
a_gateway_with_two_primaries_is_told_of_the_one(void **state)
{
    (void)state;
    begin();
    run(500, true);
    pool.nodes[1].is_primary = true; /* and it has the right one as well */
    run(15500, true);
    assert_string_equal(told, "P0 A1 A2 ");
}

static void
a_standby_without_its_source_is_detached_when_it_stays_so(void **state)
{
    (void)state;
    begin();
    run(500, true);
    standby(IP_C, NULL);
    run(9500, true);
    assert_string_equal(told, "");
    run(1000, true);
    assert_string_equal(told, "D2 ");
}

static void
a_standby_that_stays_far_behind_serves_no_reads(void **state)
{
    (void)state;
    begin();
    run(500, true);
    core.status.pg.lsn = 0x5000 + (1 << 20) + 1;
    run(9500, true);
    assert_string_equal(told, ""); /* a burst of writes */
    status_of(IP_B)->pg.replay_lsn += 0x100;
    run(1000, true);
    assert_string_equal(told, "D2 ");
    run(30000, true);
    assert_string_equal(told, "D2 ");
    status_of(IP_C)->pg.replay_lsn += 0x100;
    run(1000, true);
    assert_string_equal(told, "D2 A2 ");
    begin();
    core.state.declaration.max_lag = 0; /* any */
    core.status.pg.lsn = 1 << 30;
    run(30000, true);
    assert_string_equal(told, "");
}

/* Its old sessions go on, the WAL receiver too: only the canary tells. A Pgpool that has it
 * attached opens a session there for each of its own, and waits. */
static void
a_standby_that_hangs_is_detached_until_it_is_well(void **state)
{
    (void)state;
    begin();
    run(500, true);
    status_of(IP_C)->health = HEALTH_HUNG;
    run(900, true);
    assert_string_equal(told, "");
    run(300, true);
    assert_string_equal(told, "D2 ");
    run(60000, true);
    assert_string_equal(told, "D2 ");
    status_of(IP_C)->health = HEALTH_WELL;
    run(1000, true);
    assert_string_equal(told, "D2 A2 ");
    status_of(IP_C)->health = HEALTH_DISK_LOW; /* it still serves */
    run(60000, true);
    assert_string_equal(told, "D2 A2 ");
}

static void
a_standby_that_shall_serve_no_reads_is_kept_away(void **state)
{
    (void)state;
    begin();
    run(500, true);
    status_of(IP_C)->is_noloadbalance = true;
    run(1500, true);
    assert_string_equal(told, "D2 ");
    run(60000, true);
    assert_string_equal(told, "D2 ");
    status_of(IP_C)->is_noloadbalance = false;
    run(1000, true);
    assert_string_equal(told, "D2 A2 ");
}

static void
a_member_that_left_is_detached(void **state)
{
    (void)state;
    begin();
    run(500, true);
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        if (strcmp(core.state.members[i].address, IP_C) == 0) {
            memset(&core.state.members[i], 0, sizeof core.state.members[i]);
        }
    }
    run(100, true);
    assert_string_equal(told, "D2 ");
}

static void
what_a_hand_changed_is_seen_within_the_steady_round(void **state)
{
    (void)state;
    begin();
    run(500, true);
    pool.nodes[2].state = GATEWAY_NODE_DOWN;
    run(15500, true);
    assert_string_equal(told, "A2 ");
}

static void
a_refused_password_is_not_tried_in_a_flood(void **state)
{
    (void)state;
    begin();
    pool_rc = HA_EAUTH;
    run(500, true);
    n_looks = 0;
    run(14000, true);
    assert_int_equal(n_looks, 0);
    run(1500, true);
    assert_int_equal(n_looks, 1);
    assert_int_equal(core.gateways.at[0].rule, 421);
    begin();
    pool_rc = HA_EUNREACHABLE;
    run(14000, true);
    assert_true(n_looks >= 12); /* one that does not answer is asked each second */
    assert_int_equal(core.gateways.at[0].rule, 420);
}

static void
tries_that_do_not_help_become_rare_until_another_reign(void **state)
{
    (void)state;
    begin();
    pool.nodes[0].is_primary = false;
    run(134000, false); /* at 0, 5, 15, 35 and 75 s; the next after a minute */
    assert_int_equal(n_tries, 5);
    SAID(&core.state, appoint(2, id_of(&core.state, IP_B)));
    standby(IP_A, IP_B);
    primary(IP_B);
    run(100, true);
    assert_string_equal(told, "P1 "); /* it does not wait for the rest of that minute */
}

/* Of one reign: a hand, or a search that found nobody, takes the primary away again and again. */
static void
a_promotion_that_helped_is_no_reason_to_wait_with_the_next_one(void **state)
{
    (void)state;
    begin();
    run(500, true);
    for (unsigned i = 0; i < 6; i++) {
        pool.nodes[0].is_primary = false;
        pool.nodes[1].is_primary = true;
        told[0] = 0;
        for (unsigned n = 0; n < 310 && told[0] == 0; n++) {
            run(50, true); /* the steady look */
        }
        assert_string_equal(told, "P0 A1 A2 ");
        run(7000, true);
        assert_int_equal(core.gateways.at[0].rule, 400);
    }
    for (unsigned i = 0; i < 40; i++) { /* one that lasts for less than five seconds: seldom */
        pool.nodes[0].is_primary = false;
        core.gateways.version++;
        n_tries = i < 20 ? 0 : n_tries;
        run(3000, true);
    }
    assert_in_range(n_tries, 1, 2);
}

/* Neither log nor `hactl gateway` may say that something is being done while it is not. */
static void
what_waits_for_its_pause_is_not_said_to_be_done(void **state)
{
    const struct gateway_view *g = &core.gateways.at[0];

    (void)state;
    begin();
    pool.nodes[2].state = GATEWAY_NODE_DOWN;
    run(4000, false);
    assert_int_equal(n_tries, 1);
    assert_int_equal(g->rule, 413);
    assert_non_null(strstr(g->why, IP_C));
    run(2000, true); /* the pause is over */
    assert_string_equal(told, "A2 ");
    assert_int_equal(g->rule, 400);
    begin();
    pool.nodes[0].is_primary = false;
    pool.nodes[1].is_primary = true;
    run(4000, false);
    assert_int_equal(n_tries, 1);
    assert_int_equal(g->rule, 413);
}

/* An attach that helped is no reason to wait with the next one. */
static void
a_standby_that_comes_back_again_and_again_is_attached_each_time(void **state)
{
    (void)state;
    begin();
    run(500, true);
    for (unsigned i = 0; i < 6; i++) {
        told[0] = 0;
        core_peer_at(&core, IP_C)->is_heard = false;
        run(3000, true);
        core_peer_at(&core, IP_C)->is_heard = true;
        run(1000, true);
        assert_string_equal(told, "D2 A2 ");
        run(10000, true);
    }
    for (unsigned i = 0; i < 20; i++) { /* one that does not stay for five seconds: seldom */
        core_peer_at(&core, IP_C)->is_heard = false;
        run(1500, true);
        core_peer_at(&core, IP_C)->is_heard = true;
        told[0] = 0;
        run(1500, true);
    }
    assert_string_equal(told, "");
}

static void
only_a_standby_that_streams_from_the_holder_is_attached(void **state)
{
    struct pg_facts *pg;

    (void)state;
    begin();
    run(500, true);
    pg = &status_of(IP_C)->pg;
    pool.nodes[2].state = GATEWAY_NODE_DOWN;
    SET_TEXT(pg->upstream, IP_B);
    run(20000, true);
    SET_TEXT(pg->upstream, IP_A);
    pg->timeline++;
    run(20000, true);
    pg->timeline--;
    core.status.pg.lsn = 0x5000 + (1 << 20) + 1;
    status_of(IP_B)->pg.replay_lsn += 0x100;
    run(20000, true);
    assert_string_equal(told, "");
    pg->replay_lsn += 0x100;
    run(1500, true);
    assert_string_equal(told, "A2 ");
}

/* The ways in which the holder of record is not, or not yet, where writes may go. */
static void
lose_the_right(unsigned how)
{
    struct status *st = status_of(IP_A);

    switch (how) {
    case 0:
        core.state.is_vacant = true;
        break;
    case 1:
        st->lease_left_ms = 0;
        break;
    case 2:
        st->reign--;
        break;
    case 3:
        st->pg.is_in_recovery = true;
        break;
    case 4:
        st->is_closed = true; /* what was recovered is not with a standby yet */
        break;
    default:
        st->pg.run = PG_RUN_STARTING;
        break;
    }
}

static void
a_holder_that_may_not_write_is_no_primary(void **state)
{
    (void)state;
    for (unsigned how = 0; how < 6; how++) {
        begin();
        pool.nodes[0].is_primary = false; /* the gateway has another one still */
        pool.nodes[1].is_primary = true;
        lose_the_right(how);
        run(900, true);
        assert_null(strchr(told, 'P'));
    }
    begin();
    pool.nodes[0].is_primary = false;
    pool.nodes[1].is_primary = true;
    run(900, true);
    assert_string_equal(told, "P0 A1 A2 "); /* with all of it, it is told at once */
}

static void
one_node_stays_attached_whatever_is_lost(void **state)
{
    (void)state;
    begin();
    run(500, true);
    core.durable.id = 99; /* a witness leads, and hears nobody */
    for (size_t i = 0; i < 3; i++) {
        core_peer_at(&core, IPS[i])->is_heard = false;
    }
    run(20000, true);
    assert_string_equal(told, "D1 D2 ");
}

static void
a_standby_of_another_history_is_not_attached(void **state)
{
    (void)state;
    begin();
    run(500, true);
    pool.nodes[2].state = GATEWAY_NODE_DOWN;
    status_of(IP_C)->pg.lineage = 7; /* the same timeline by number, forked elsewhere */
    run(20000, true);
    assert_string_equal(told, "");
    status_of(IP_C)->pg.lineage = core.status.pg.lineage;
    run(150, true);
    assert_string_equal(told, ""); /* not upon one look */
    run(1000, true);
    assert_string_equal(told, "A2 ");
}

static void
a_gateway_that_does_not_obey_is_told_again_but_not_in_a_flood(void **state)
{
    (void)state;
    begin();
    pool.nodes[2].state = GATEWAY_NODE_DOWN;
    run(500, false);
    assert_int_equal(core.gateways.at[0].rule, 411);
    run(1000, true);
    assert_string_equal(told, ""); /* the pause */
    run(6000, true);
    assert_string_equal(told, "A2 ");
    begin();
    pool.nodes[0].is_primary = false;
    pool.nodes[1].is_primary = true;
    run(500, false);
    run(3000, true);
    assert_string_equal(told, ""); /* a promotion cuts every session: not twice in a row */
    run(3500, true);
    assert_string_equal(told, "P0 A1 A2 ");
}

static void
a_primary_that_the_gateway_has_down_is_attached_after_the_suspects_are_gone(void **state)
{
    (void)state;
    begin();
    run(500, true);
    core_peer_at(&core, IP_C)->is_heard = false;
    pool.nodes[0].state = GATEWAY_NODE_DOWN;
    pool.nodes[0].is_primary = false;
    run(1500, false);
    run(3000, true);
    assert_string_equal(told, "D2 A0 ");
}

static void
who_does_not_lead_says_nothing(void **state)
{
    (void)state;
    begin();
    pool.nodes[0].is_primary = false;
    core.raft.is_ready = false;
    run(5000, true);
    assert_string_equal(told, "");
    core.raft.is_ready = true;
    core.tilt_until = mono_add(core.now, 3000);
    run(2500, true);
    assert_string_equal(told, "");
    run(1000, true);
    assert_string_equal(told, "P0 A1 A2 ");
}

static void
who_no_longer_leads_ends_what_it_was_saying(void **state)
{
    (void)state;
    begin();
    pool.nodes[0].is_primary = false;
    fx.n = 0;
    rules_gateway(&core, &fx);
    assert_int_equal(fx.n, 1); /* it looks, and no answer has come yet */
    assert_true(core.gateways.at[0].is_busy);
    core.raft.is_ready = false;
    fx.n = 0;
    rules_gateway(&core, &fx);
    assert_int_equal(fx.n, 1);
    assert_int_equal(fx.at[0].type, EFFECT_GATEWAY);
    assert_int_equal(fx.at[0].gateway.n_ops, 0); /* the session ends */
    gateway_on_facts(&core, &fx, &pool);         /* one that came too late to be ended */
    assert_false(core.gateways.at[0].has_view);
    fx.n = 0;
    run(5000, true);
    assert_string_equal(told, "");
}

/* It accepts and says nothing: its session is under way for as long as one may be. */
static void
a_gateway_that_hangs_delays_no_other(void **state)
{
    struct gateway_facts facts = pool;

    (void)state;
    begin();
    core.gateways.n = 2;
    SET_TEXT(core.gateways.at[0].address, SILENT);
    SET_TEXT(core.gateways.at[1].address, GATEWAY);
    pool.nodes[0].is_primary = false;
    run(500, true);
    assert_string_equal(told, "P0 A1 A2 ");
    pool.nodes[2].state = GATEWAY_NODE_DOWN;
    run(15500, true);
    assert_string_equal(told, "P0 A1 A2 A2 ");
    assert_true(core.gateways.at[0].is_busy);
    assert_false(core.gateways.at[0].has_view);
    SET_TEXT(facts.address, SILENT);
    facts.rc = HA_ETIMEOUT; /* at last */
    gateway_on_facts(&core, &fx, &facts);
    assert_int_equal(core.gateways.at[0].rule, 420);
    assert_int_equal(core.gateways.at[1].rule, 400);
}

static void
a_gateway_of_another_cluster_is_left_alone(void **state)
{
    (void)state;
    begin();
    for (size_t i = 0; i < 3; i++) {
        pool.nodes[i].host[0] = '9';
    }
    run(5000, true);
    assert_string_equal(told, "");
    assert_int_equal(core.gateways.at[0].rule, 430);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_told_to_a_gateway_that_sees_what_is),
        cmocka_unit_test(a_new_primary_is_promoted_first_and_standbys_come_as_they_stream),
        cmocka_unit_test(a_lost_primary_is_detached_last_and_only_after_a_while),
        cmocka_unit_test(no_detach_keeps_a_gateway_busy_while_a_primary_is_about_to_open),
        cmocka_unit_test(a_search_comes_upon_no_suspect),
        cmocka_unit_test(a_stale_primary_is_never_attached),
        cmocka_unit_test(a_standby_that_comes_back_again_and_again_is_attached_each_time),
        cmocka_unit_test(only_a_standby_that_streams_from_the_holder_is_attached),
        cmocka_unit_test(a_gateway_with_two_primaries_is_told_of_the_one),
        cmocka_unit_test(a_standby_without_its_source_is_detached_when_it_stays_so),
        cmocka_unit_test(a_standby_that_stays_far_behind_serves_no_reads),
        cmocka_unit_test(a_standby_that_hangs_is_detached_until_it_is_well),
        cmocka_unit_test(a_standby_that_shall_serve_no_reads_is_kept_away),
        cmocka_unit_test(a_promotion_that_helped_is_no_reason_to_wait_with_the_next_one),
        cmocka_unit_test(what_waits_for_its_pause_is_not_said_to_be_done),
        cmocka_unit_test(a_member_that_left_is_detached),
        cmocka_unit_test(what_a_hand_changed_is_seen_within_the_steady_round),
        cmocka_unit_test(a_refused_password_is_not_tried_in_a_flood),
        cmocka_unit_test(tries_that_do_not_help_become_rare_until_another_reign),
        cmocka_unit_test(a_holder_that_may_not_write_is_no_primary),
        cmocka_unit_test(one_node_stays_attached_whatever_is_lost),
        cmocka_unit_test(a_standby_of_another_history_is_not_attached),
        cmocka_unit_test(a_gateway_that_does_not_obey_is_told_again_but_not_in_a_flood),
        cmocka_unit_test(
            a_primary_that_the_gateway_has_down_is_attached_after_the_suspects_are_gone),
        cmocka_unit_test(who_does_not_lead_says_nothing),
        cmocka_unit_test(who_no_longer_leads_ends_what_it_was_saying),
        cmocka_unit_test(a_gateway_that_hangs_delays_no_other),
        cmocka_unit_test(a_gateway_of_another_cluster_is_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
