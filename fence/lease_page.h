/*
 * lease_page.h - the agent's pen for the lease page.
 *
 * The holder tells PostgreSQL through this page until when it may acknowledge
 * writes. One page serves one reign: make a new one when appointed, before the
 * promotion (or before the start of a primary); it begins revoked. The server
 * that has once seen a live lease of a reign obeys no other reign until it is
 * restarted.
 *
 * Revoke or close the page after the server has stopped and before it is
 * started again as a standby: the guardian ends a server that outlives a lease
 * which it has seen live.
 *
 * Clock:  lease_page_set() reads CLOCK_MONOTONIC_RAW and CLOCK_BOOTTIME.
 * Memory: the caller's struct; one mapping, undone by lease_page_close().
 * Errors: only creation can fail. It blocks for a few file operations.
 */
#ifndef HA_FENCE_LEASE_PAGE_H
#define HA_FENCE_LEASE_PAGE_H

#include <stdint.h>

#include "base/err.h"
#include "base/mono.h"

struct lease_layout;

struct lease_page {
    struct lease_layout *at; /* mapped, shared; NULL when there is none */
    uint64_t renewals;
};

/*
 * Creates the page of `reign` (> 0) at PATH, revoked, mode 0644. It is written
 * under the name PATH.new and then renamed, so a reader sees either a whole page
 * or none, and a page that a server has mapped is never truncated. The directory
 * must exist and should be writable by the agent's user alone.
 */
int lease_page_create(struct lease_page *page, const char *path, uint64_t reign, struct err *err)
    HA_MUST_CHECK;

/*
 * The lease is live until `deadline` (t_s + L - m, never measured from the receipt of a grant).
 * `sent_at` is t_s, for people only. A deadline that has passed revokes.
 */
void lease_page_set(struct lease_page *page, struct mono deadline, struct mono sent_at);

/* No lease from now on, until the next lease_page_set(). */
void lease_page_revoke(struct lease_page *page);

/* Revokes and unmaps; the file stays. A page without a mapping (all zero) is left alone. */
void lease_page_close(struct lease_page *page);

#endif
