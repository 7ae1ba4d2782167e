/*
 * core_internal.h - what the core's own files share. Nobody else includes it.
 *
 * Rules carry stable numbers, shown to people: 1xx cluster and declaration,
 * 2xx governor, 3xx holder, 35x handover, 36x standby, 4xx gateways, 5xx stop. docs/rules.md
 * lists them.
 */
#ifndef HA_CORE_CORE_INTERNAL_H
#define HA_CORE_CORE_INTERNAL_H

#include "agent/core/core.h"

#define STATUS_EVERY_MS 100
#define STATUS_FRESH_MS 600

/* ---- effects.c ---- */

struct effect *effect_push(struct effect_list *fx, uint8_t type);
void effect_send(struct effect_list *fx, const char *to, const struct message *message);
void effect_log(
    struct effect_list *fx, uint8_t level, uint16_t rule, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
void effect_exit(struct core *core, struct effect_list *fx, int status, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Begins an operation on PostgreSQL; false while another runs or a kill is under way. */
bool effect_pg(struct core *core, struct effect_list *fx, enum pg_op op, const char *from);
void effect_pg_kill(struct core *core, struct effect_list *fx, const char *why);

/* Proposes; false while another proposal is in flight or one failed a moment ago. */
bool effect_propose(struct core *core, struct effect_list *fx, struct command *command);

/* Says what this member does, and logs it when it is news. */
void core_explain(struct core *core, struct effect_list *fx, uint16_t rule, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void
governor_explain(struct core *core, struct effect_list *fx, uint16_t rule, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* ---- the rules, in the order in which a step runs them ---- */

void rules_fence(struct core *core, struct effect_list *fx);    /* rules_fence.c */
void rules_lease(struct core *core, struct effect_list *fx);    /* rules_lease.c */
void rules_found(struct core *core, struct effect_list *fx);    /* rules_found.c */
void rules_removed(struct core *core, struct effect_list *fx);  /* rules_removed.c */
void rules_recover(struct core *core, struct effect_list *fx);  /* rules_recover.c */
void rules_declare(struct core *core, struct effect_list *fx);  /* rules_declare.c */
void rules_health(struct core *core, struct effect_list *fx);   /* rules_sick.c */
void rules_vacate(struct core *core, struct effect_list *fx);   /* rules_lease.c */
void governor_step(struct core *core, struct effect_list *fx);  /* governor.c */
void rules_sync(struct core *core, struct effect_list *fx);     /* rules_sync.c */
void rules_postgres(struct core *core, struct effect_list *fx); /* rules_postgres.c */
void rules_status(struct core *core, struct effect_list *fx);   /* status.c */
void rules_gateway(struct core *core, struct effect_list *fx);  /* rules_gateway.c */

/* ---- single events ---- */

void lease_on_request(struct core *core,
                      struct effect_list *fx,
                      const char *from,
                      const struct lease_request *request);
void lease_on_grant(struct core *core, const char *from, const struct lease_grant *grant);
/* When the holder's next question is due; false when it asks none. */
bool lease_asks_at(const struct core *core, struct mono *at);
void lease_on_release(struct core *core, const char *from, const struct release *release);
void lease_on_persisted(struct core *core, struct effect_list *fx);
void found_on_probe(struct core *core,
                    struct effect_list *fx,
                    const char *from,
                    const struct probe *probe);
void
postgres_on_done(struct core *core, struct effect_list *fx, uint8_t op, int rc, const char *text);
void postgres_on_facts(struct core *core, struct effect_list *fx, const struct pg_facts *facts);
void gateway_on_facts(struct core *core, struct effect_list *fx, const struct gateway_facts *facts);
void sync_on_facts(struct core *core, const struct pg_sync *seen);
void gateway_on_list(struct core *core, struct effect_list *fx, const struct gateway_list *list);

/* ---- rules_removed.c, rules_recover.c ---- */

/* Its id goes; what it promised, opened and released stays. */
void removed_forget(struct core *core);
void recover_on_request(struct core *core, struct effect_list *fx, const struct event *event);
/* `by` belongs to a newer era: this member's reign, if any, is over at once. */
void recover_outlived(struct core *core, struct effect_list *fx, const char *by);

/* ---- rules_found.c ---- */

/* As what the disk says that this member is; by force alone, when it is recovering. */
void found_start_raft(struct core *core, struct effect_list *fx);

void found_ask_everybody(struct core *core, struct effect_list *fx);
/* What it said of the cluster and of this member is at most a second old. */
bool found_has_answered(const struct core *core, const struct peer_view *peer);

/* ---- parts of rules_postgres.c in files of their own ---- */

void holder_step(struct core *core, struct effect_list *fx);   /* rules_holder.c */
void handover_step(struct core *core, struct effect_list *fx); /* rules_handover.c */
void handover_begin(struct core *core, struct effect_list *fx);
void handover_on_done(struct core *core, struct effect_list *fx, uint8_t op, int rc);
void stop_step(struct core *core, struct effect_list *fx);    /* rules_stop.c */
void standby_step(struct core *core, struct effect_list *fx); /* rules_standby.c */

/* Data that must be replaced: rules_rebuild.c. */
bool rebuild_sees_primary(const struct core *core);
/* A copy is due, though the data lie in the cluster's history. */
bool rebuild_is_due(const struct core *core);
/* A person wants this standby's data replaced by a copy: refused with a reason, or due from now. */
void rebuild_on_request(struct core *core, struct effect_list *fx, uint64_t token);
/* How diverged data are replaced next: enum rebuild_rung. */
uint8_t rebuild_rung_next(const struct core *core);
/* True when the log says that this member's data may be replaced in this way; else it is asked. */
bool rebuild_ask(struct core *core, struct effect_list *fx, uint8_t rung, const char *why);
void rebuild_step(
    struct core *core, struct effect_list *fx, uint8_t rung, const char *primary, const char *why);
void rebuild_on_done(struct core *core, uint8_t op, int rc);
/* A standby streams. */
void rebuild_end(struct core *core, struct effect_list *fx);
void rebuild_yield(struct core *core, struct effect_list *fx);
/* Of the governor. */
void rebuild_expire(struct core *core, struct effect_list *fx);

/* Which members' slots PostgreSQL keeps: rules_slots.c. */
void slots_step(struct core *core, struct effect_list *fx);

/* A restart, or only new settings, at a person's request: rules_restart.c */
void restart_on_request(struct core *core, struct effect_list *fx, uint64_t token, bool is_reload);
void restart_on_done(struct core *core, struct effect_list *fx, uint8_t op, int rc);
void restart_step(struct core *core, struct effect_list *fx);

/* True while the holder's PostgreSQL is sick: said, and acted upon where policy allows. */
bool sick_holder_step(struct core *core, struct effect_list *fx); /* rules_sick.c */
/* Gives PostgreSQL the room that was kept, if its disk is low. */
void sick_release_ballast(struct core *core, struct effect_list *fx);

/* Another member that could take over now. */
bool core_has_successor(const struct core *core);
/* Another member that could, now or once its server streams: it may be starting. */
bool core_may_get_successor(const struct core *core);
bool core_fails_over_on_crash(const struct core *core);

/* Begins to give the reign back; PostgreSQL must be stopped (INV-5). */
void vacate_begin(struct core *core, struct effect_list *fx, uint64_t final_lsn, const char *why);

/* ---- synchronous replication: sync_wish.c, rules_sync.c ---- */

/* What the policy asks of this member's PostgreSQL as a primary, given who streams. */
struct sync_rule sync_wish(const struct core *core);
/* What it waits for from its first moment as a primary: covered by what is on record. */
struct sync_rule sync_first(const struct core *core);
/* What it was told, in the bits of the members of now; the weakest that a part of it may use. */
struct sync_rule sync_told(const struct core *core, const struct sync_names *names);
struct sync_rule sync_weakest(const struct core *core);
/* The whole server uses what it was told last. */
bool sync_is_applied(const struct core *core);
/* May this PostgreSQL become a primary? Not before its rule rests on the newest record, which no
 * older proposal of its own can change any more. Asks the log for what it lacks. */
bool sync_is_ready(struct core *core, struct effect_list *fx);
/* Before PostgreSQL starts as a primary on data that it had: nobody is let in for now. */
void sync_close(struct core *core, struct effect_list *fx);
/* This member let go of the holder for an election and may follow nobody but a later one. */
bool sync_is_frozen(const struct core *core);

/* ---- governor's helpers ---- */

/* A member as a candidate, at core->now. */
struct candidate {
    const struct member *member;
    const struct status *status; /* its newest, also of this member itself */
    bool is_fresh;
    const char *unfit; /* why it cannot be appointed, or NULL */
};

/* Fills `out` for every current member; returns how many. */
size_t candidates_list(const struct core *core, struct candidate out[HA_MEMBER_SLOTS]);

/* The candidate with the most WAL among the fit; ties: declared primary, then priority,
 * then address. */
const struct candidate *
candidate_best(const struct core *core, const struct candidate *list, size_t n);

/* True when `a` has more WAL than `b`: timeline first, then LSN. */
bool candidate_has_more(const struct pg_facts *a, const struct pg_facts *b);

/* Counts in an election: its PostgreSQL let go of the holder, its disk says so where it must. */
bool candidate_is_frozen(const struct core *core, const struct candidate *c);

/* A failover where commits were synchronous: governor_sync.c. True when it can go on: `most` is who
 * has every acknowledged write. */
bool governor_is_sure(struct core *core,
                      struct effect_list *fx,
                      const struct candidate *list,
                      size_t n,
                      const struct candidate **most);

/* ---- rejoin.c ---- */

enum rejoin_verdict {
    REJOIN_STREAM = 1, /* start as a standby and follow */
    REJOIN_REWIND,     /* they left the cluster's timelines, at a place that can be found */
    REJOIN_CLONE,      /* the data left the cluster's timelines: copy anew */
    REJOIN_WAIT,       /* cannot be told yet */
    REJOIN_FOREIGN,    /* another cluster's data: touch nothing */
    REJOIN_DAMAGED,    /* unreadable: touch nothing */
};

/* What stopped data may do, by the control file against the ledger of reigns. `self` = own
 * address: a member that lost its state directory alone is still the same data. */
enum rejoin_verdict rejoin_judge(const struct state *state,
                                 const struct pg_facts *pg,
                                 const char *self,
                                 const char **why);

/* True when that timeline is one that a reign of this cluster began, at the same places. */
bool rejoin_is_of_ledger(const struct state *state, uint32_t timeline, uint64_t lineage);

/* True when a running standby has WAL that the cluster's timelines do not have. */
bool rejoin_has_diverged(const struct state *state, const struct pg_facts *pg);

#endif
