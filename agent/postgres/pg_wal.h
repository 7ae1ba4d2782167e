/*
 * pg_wal.h - log positions and timeline history files as texts.
 *
 * Pure: no clock, no files, no allocation. Fit for hostile input.
 */
#ifndef HA_POSTGRES_PG_WAL_H
#define HA_POSTGRES_PG_WAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define PG_LSN_TEXT_MAX 18     /* "FFFFFFFF/FFFFFFFF" with its NUL */
#define PG_HISTORY_NAME_MAX 17 /* "0000000A.history" with its NUL */

/* "0/3000060" as a byte position; the whole text must be one. Leaves *lsn alone when false. */
bool pg_lsn_parse(const char *text, uint64_t *lsn);

/* Writes "0/3000060". */
void pg_lsn_format(uint64_t lsn, char out[PG_LSN_TEXT_MAX]);

/* File name of a timeline's history: "0000000A.history". */
void pg_history_name(uint32_t timeline, char out[PG_HISTORY_NAME_MAX]);

struct pg_history {
    uint32_t parent;   /* the timeline before; 0 = none */
    uint64_t fork_lsn; /* where it was left */
    uint64_t lineage;  /* digest of this and all earlier forks, see lineage_extend() */
};

/*
 * Finds in the text of a timeline's history file where that timeline began. HA_ECORRUPT when the
 * text is no history file.
 */
int pg_history_parse(const char *text, struct pg_history *out, struct err *err) HA_MUST_CHECK;

/*
 * What the history file of an ancestor says: the lines of `text` before the ancestor's own, *len
 * bytes. False when it is none, or the text no history file up to there.
 */
bool pg_history_before(const char *text, uint32_t timeline, size_t *len);

#endif
