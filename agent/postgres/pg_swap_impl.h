/*
 * pg_swap_impl.h - what pg_swap.c and pg_swap_old.c share. Nobody else includes it.
 */
#ifndef HA_POSTGRES_PG_SWAP_IMPL_H
#define HA_POSTGRES_PG_SWAP_IMPL_H

#include "agent/postgres/pg_swap.h"

#define INSIDE_PREFIX ".hawser."
#define OLDS_MAX 9 /* HA_KEEP_OLD */

enum pg_swap_mark {
    MARK_ABSENT = 0, /* no side directory */
    MARK_FOREIGN,    /* something is there and it is not ours */
    MARK_MAKING,
    MARK_WHOLE,
    MARK_MOVING,
    MARK_ASIDE,
    MARK_REWINDING,
    MARK_REWOUND,
    MARK_KEPT,
};

struct pg_swap_paths {
    bool is_inside;
    char fresh[PG_PATH_MAX + 16]; /* the side directory of the new one */
    char fresh_data[PG_PATH_MAX + 32];
    char old[PG_PATH_MAX + 16]; /* of the one before; older ones have ".1", ".2" ... behind it */
    char old_data[PG_PATH_MAX + 32];
};

void pg_swap_paths(const struct postgres *pg, struct pg_swap_paths *paths);
enum pg_swap_mark pg_swap_mark_read(const char *side);
int pg_swap_mark_write(struct postgres *pg, const char *side, const char *word, struct err *err)
    HA_MUST_CHECK;

/* PGDATA goes to .old/data, to be removed there for want of room. */
int pg_swap_move_out(struct postgres *pg,
                     const struct pg_swap_paths *paths,
                     struct err *err) HA_MUST_CHECK;

/* Removes in the thread pool what nothing is needed of any more, then `done`. Before a rebuild what
 * is kept aside makes room for what comes next; not when that has just come (has_swapped). */
int pg_swap_remove_rest(struct postgres *pg,
                        const struct pg_swap_paths *paths,
                        bool has_swapped,
                        void (*done)(struct postgres *pg),
                        struct err *err) HA_MUST_CHECK;

#endif
