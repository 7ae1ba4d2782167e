/*
 * pg_swap.h - a data directory is made beside PGDATA and takes its place when it is whole.
 *
 * A side directory holds a marker file ("this is ours", and how far we are) and
 * `data`. It lies beside PGDATA (PGDATA.new, PGDATA.old) or, when PGDATA is a mount
 * point, which cannot be renamed, in it (.hawser.new, .hawser.old); the contents
 * are then moved entry by entry. The marker says at any time what is still to be
 * done, so that a crash between two steps is finished by the next start:
 *
 *   "making"  - not whole: worth nothing, removed
 *   "whole"   - complete and synced: what is in PGDATA goes to .old/data, then
 *   "moving"  - .new/data takes its place.
 *
 * What lies in .old says why:
 *
 *   "kept"      - it was replaced, and waits until the new data stream: pg_swap_discard();
 *   "aside"     - PGDATA on its way to be rewound, whole: moved back;
 *   "rewinding" - pg_rewind may have changed it: never moved back, never started;
 *   "rewound"   - it ended well: moved back.
 *
 * Blocks: renames only. Trees are removed in the loop's thread pool.
 */
#ifndef HA_POSTGRES_PG_SWAP_H
#define HA_POSTGRES_PG_SWAP_H

#include <stdbool.h>

#include "agent/postgres/pg_impl.h"
#include "base/err.h"

/* True when there is no directory, or nothing but side directories and lost+found in it. */
bool pg_swap_is_empty(const char *pgdata);

/* The directory that has PGDATA's PG_VERSION, also in the middle of a swap. */
void pg_swap_effective(const struct postgres *pg, char path[PG_PATH_MAX]);

/* Path of the side directory (sockets and password file of initdb) and of the data in it. */
void pg_swap_side(const struct postgres *pg, char path[PG_PATH_MAX]);
void pg_swap_data(const struct postgres *pg, char path[PG_PATH_MAX]);

/*
 * Finishes what a crash cut short and removes what is left over. HA_EREFUSED: what lies where a
 * side directory should be is not ours. `done` runs later, also after an error of removing. Before
 * an operation that replaces the data, what is kept aside still makes room for them.
 */
int
pg_swap_tidy(struct postgres *pg, void (*done)(struct postgres *pg), struct err *err) HA_MUST_CHECK;

/* Makes the side directory with its marker, after pg_swap_tidy(). */
int pg_swap_prepare(struct postgres *pg, struct err *err) HA_MUST_CHECK;

/* Declares the side directory whole; pg_swap_tidy() then puts it in PGDATA's place. */
int pg_swap_mark_whole(struct postgres *pg, struct err *err) HA_MUST_CHECK;

/* PGDATA goes aside to be rewound; where it lies then; and back with the next pg_swap_tidy(). */
int pg_swap_aside(struct postgres *pg, struct err *err) HA_MUST_CHECK;
void pg_swap_aside_data(const struct postgres *pg, char path[PG_PATH_MAX]);
int pg_swap_aside_done(struct postgres *pg, struct err *err) HA_MUST_CHECK;

/* There is no PGDATA, for a rewind of it was cut short. */
bool pg_swap_is_torn(const struct postgres *pg);

/* What the data replaced is kept aside. */
bool pg_swap_has_old(const struct postgres *pg);

/* Removes that, but for config.keep_old copies; the facts tell when it is done. */
void pg_swap_discard(struct postgres *pg);

/*
 * Where a copy of so many bytes finds no room beside what is there: removes what is kept aside, and
 * if that is not enough PGDATA too, each after a word in the log. `done` runs later.
 */
int pg_swap_make_room(struct postgres *pg,
                      uint64_t bytes,
                      void (*done)(struct postgres *pg),
                      struct err *err) HA_MUST_CHECK;

#endif
