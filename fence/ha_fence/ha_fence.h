/*
 * ha_fence.h - the parts of the PostgreSQL module ha_fence, for each other.
 *
 * A primary acknowledges nothing without a live lease (see fence/lease_layout.h). The lease
 * is asked three times: before the commit record is written (an error, and nothing happened),
 * after it (the connection is cut: the outcome is unknown to the client, which is the
 * truth), and before bytes leave for the client, which covers all the rest.
 *
 * Not active in recovery, in single-user and bootstrap mode and in pg_upgrade. On a primary
 * every fault of the page means "no lease".
 *
 * PostgreSQL 13 to 18, from one source. Include after postgres.h.
 */
#ifndef HA_FENCE_HA_FENCE_H
#define HA_FENCE_HA_FENCE_H

#include "fence/lease_view.h"

/* Survives a crash-restart of the server: mapped by the postmaster, inherited by fork(). */
struct fence_shared {
    uint64_t reign;    /* the one that was seen live on this server; 0 = none yet */
    uint64_t refused;  /* commands that got an error */
    uint64_t cut;      /* connections that were cut */
    uint64_t is_ended; /* 1 when the worker has begun to end the server */
};

extern char *fence_lease_file;
extern bool fence_reads;
extern struct fence_shared *fence_shared;

/* gate.c: the question, and the two ways to say no. */

/* Must a lease be asked for here and now at all? */
LEASE_HOT bool fence_is_active(void);
/* The state of the lease; LEASE_LIVE = go on. Where it is not live, the file is looked up again. */
LEASE_HOT enum lease_fault fence_look(void);
/* One line for people: state, reign, rest, counters. */
const char *fence_describe(void);
const struct lease_layout *fence_page(void);
/* ERROR 25006 unless the lease is live. Never where a commit record may have been written. */
void fence_require(void);
/*
 * The same at the beginning of a statement, where a refusal is an error that people understand.
 * What it lets pass is stopped later, so an answer of this tick of the coarse clock (10 ms at most)
 * is enough, if nobody has written to the page since. Nothing that leaves rests on it: when a
 * paused machine goes on, that clock may stand for a moment while the others have leapt.
 */
LEASE_HOT void fence_require_early(void);
/* The client hears nothing more; the backend leaves at its next chance. Never raises an error. */
void fence_cut(const char *why);
LEASE_HOT bool fence_is_cut(void);
/* Is there somebody who would take our silence for success? */
bool fence_has_client(void);
void fence_init_gate(void);

/* output.c: what leaves for the client. */

/* Something durable happened: not one byte more without a lease. */
void fence_expect_ack(void);
/* The session got a refusal: it ends when the error has been sent. */
void fence_leave_after_error(void);
void fence_init_output(void);

/* commit.c: before and after the commit record; commands. */
void fence_init_commit(void);

/* worker.c: the background worker that ends a server without a lease. */
void fence_init_worker(void);

#endif
