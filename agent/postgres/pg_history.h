/*
 * pg_history.h - timeline history files in a data directory's pg_wal.
 *
 * No two promotions may begin timelines of one number: nothing tells them apart afterwards, and a
 * standby that has WAL of the one would stream on from the other (docs/decisions/0010).
 * PostgreSQL takes the first number for which it finds no history file, so numbers are skipped
 * by files that name no parent. Its walreceiver asks for the file of each number up to its
 * upstream's, and stops when one is missing there; so a server must have them all.
 *
 * Blocks for small files.
 */
#ifndef HA_POSTGRES_PG_HISTORY_H
#define HA_POSTGRES_PG_HISTORY_H

#include <stdint.h>

#include "agent/postgres/pg_impl.h"
#include "base/err.h"

/*
 * Where that timeline comes from, by its history file, as PostgreSQL takes it: one without a file
 * has no parent. A file that cannot be read leaves lineage 0.
 */
void pg_history_read(const char *pgdata, uint32_t timeline, struct pg_facts *facts);

/*
 * Makes files for the numbers above `newest` and below `next` that have none, in the running
 * server's directory. They are not synced: what a crash takes, pg_history_complete() brings back.
 */
int
pg_history_skip(struct postgres *pg, uint32_t newest, uint32_t next, struct err *err) HA_MUST_CHECK;

/*
 * Before a start of data on that timeline: makes the files of lower numbers that are missing, as in
 * a copy by pg_basebackup, which brings one. Those of its own ancestors hold what its own file
 * says of them; the others name no parent. HA_ECORRUPT when its own file is none.
 */
int pg_history_complete(struct postgres *pg, uint32_t timeline, struct err *err) HA_MUST_CHECK;

#endif
