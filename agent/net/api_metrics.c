/*
 * /metrics: Prometheus' text format 0.0.4. Patroni's names where it has one, so that its
 * dashboards work; ours begin with hawser_.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/net/api_picture.h"

#define METRICS_MAX 16384

struct page {
    char *text;
    size_t len;
    char labels[HA_NAME_MAX * 2 + 40];
};

static void HA_PRINTF(2, 3) put(struct page *page, const char *fmt, ...)
{
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(page->text + page->len, METRICS_MAX - page->len, fmt, args);
    va_end(args);
    if (n > 0 && (size_t)n < METRICS_MAX - page->len) {
        page->len += (size_t)n;
    }
    page->text[page->len] = 0;
}

static void
metric(struct page *page, const char *name, const char *type, const char *help, uint64_t value)
{
    put(page, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
    put(page, "%s{%s} %llu\n", name, page->labels, (unsigned long long)value);
}

static void
gauge(struct page *page, const char *name, const char *help, uint64_t value)
{
    metric(page, name, "gauge", help, value);
}

/* Quotes, backslashes and line ends would end a label's value. */
static void
make_labels(struct page *page, const char *name)
{
    char clean[HA_NAME_MAX];
    size_t n = 0;

    for (; name[n] != 0 && n + 1 < sizeof clean; n++) {
        const unsigned char c = (unsigned char)name[n];

        clean[n] = name[n];
        if (c < 0x20 || c > 0x7e || c == '"' || c == '\\') {
            clean[n] = '_';
        }
    }
    clean[n] = 0;
    (void)snprintf(page->labels, sizeof page->labels, "scope=\"hawser\",name=\"%s\"", clean);
}

/* The numbers that Patroni has frozen. */
static unsigned
state_number(const struct core *core)
{
    static const struct {
        const char *text;
        unsigned number;
    } numbers[] = {{"initializing new cluster", 0},
                   {"creating replica", 4},
                   {"running", 5},
                   {"starting", 6},
                   {"stopping", 11},
                   {"stopped", 12},
                   {"crashed", 14}};
    const char *state = picture_pg_state(&core->pg, core->pg_op);

    for (size_t i = 0; i < HA_COUNT_OF(numbers); i++) {
        if (strcmp(numbers[i].text, state) == 0) {
            return numbers[i].number;
        }
    }
    return 12;
}

static void
put_patroni(struct page *page, const struct picture *p)
{
    const struct core *core = p->view->core;
    const struct pg_facts *pg = &core->pg;
    const bool is_up = pg->run == PG_RUN_UP;
    const bool is_standby = is_up && pg->is_in_recovery;

    gauge(page, "patroni_version", "Level of the API, as a number.", 40100);
    gauge(page, "patroni_postgres_running", "1 if PostgreSQL runs.", is_up);
    gauge(page, "patroni_primary", "1 if this node holds the lease and is open.", p->is_leader);
    metric(page,
           "patroni_xlog_location",
           "counter",
           "Location of the primary's WAL, 0 on a standby.",
           is_up && !is_standby ? pg->lsn : 0);
    gauge(page, "patroni_standby_leader", "Always 0.", 0);
    gauge(page, "patroni_replica", "1 if this node is a standby.", is_standby);
    gauge(page, "patroni_sync_standby", "1 if this node is a synchronous standby.", 0);
    metric(page,
           "patroni_xlog_received_location",
           "counter",
           "WAL that the standby received, 0 on a primary.",
           is_standby ? pg->lsn : 0);
    metric(page,
           "patroni_xlog_replayed_location",
           "counter",
           "WAL that the standby replayed, 0 on a primary.",
           is_standby ? pg->replay_lsn : 0);
    gauge(page,
          "patroni_postgres_streaming",
          "1 if the standby streams.",
          is_standby && pg->is_streaming);
    gauge(page,
          "patroni_postgres_server_version",
          "Version of PostgreSQL.",
          (uint64_t)pg->version * 10000);
    gauge(page, "patroni_cluster_unlocked", "1 if nobody holds the lease.", p->leader == NULL);
    metric(page,
           "patroni_postgres_timeline",
           "counter",
           "Timeline of PostgreSQL.",
           is_up ? pg->timeline : 0);
    gauge(page,
          "patroni_dcs_last_seen",
          "When the group of agents last had a leader.",
          core->raft.leader != 0 ? p->view->wall_ms / 1000 : 0);
    gauge(page, "patroni_is_paused", "1 if failover is paused.", core->state.is_paused);
    gauge(page, "patroni_postgres_state", "State of PostgreSQL.", state_number(core));
}

static void
put_hawser(struct page *page, const struct picture *p)
{
    const struct core *core = p->view->core;
    const struct state *s = &core->state;
    size_t n_fresh = 0;

    for (size_t i = 0; i < p->n; i++) {
        n_fresh += p->members[i].is_fresh;
    }
    metric(page, "hawser_reign", "counter", "Number of the newest reign.", s->reign);
    metric(page,
           "hawser_declaration_generation",
           "counter",
           "Generation of the declaration.",
           s->generation);
    gauge(page,
          "hawser_lease_left_milliseconds",
          "What is left of the own lease, 0 without one.",
          p->has_lease ? (uint64_t)mono_sub(core->lease.deadline, p->view->now) : 0);
    gauge(page, "hawser_members", "Members of the cluster.", p->n);
    gauge(page, "hawser_members_heard", "Members that were heard of lately.", n_fresh);
    metric(page, "hawser_raft_term", "counter", "Raft's term.", core->raft.term);
    gauge(page, "hawser_raft_leader", "1 if this node leads Raft.", core->raft.role == 3);
    metric(page, "hawser_raft_applied", "counter", "Newest entry applied.", core->state_index);
    gauge(page, "hawser_rule", "Rule that this member acts by.", core->rule);
    if (p->self != NULL && p->self->has_lag) {
        gauge(page, "hawser_lag_bytes", "WAL that this standby has not received.", p->self->lag);
    }
    metric(page, "hawser_log_lost", "counter", "Lines that the log lost.", p->view->log_lost);
}

char *
api_metrics_text(const struct picture *p)
{
    struct page page = {.text = malloc(METRICS_MAX)};

    if (page.text == NULL) {
        return NULL;
    }
    page.text[0] = 0;
    make_labels(&page, p->view->core->config.name);
    put_patroni(&page, p);
    put_hawser(&page, p);
    return page.text;
}
