/*
 * pg_source.h - questions to the server that is copied from, and how programs reach it.
 *
 * Asked as the replication role, over the network, by the operation under way (its session is
 * pg->work).
 */
#ifndef HA_POSTGRES_PG_SOURCE_H
#define HA_POSTGRES_PG_SOURCE_H

#include "agent/postgres/pg_impl.h"
#include "agent/postgres/pg_text.h"

/* Asks in a new session; the one before it goes. */
int pg_source_ask(struct postgres *pg,
                  bool is_replication,
                  const char *sql,
                  pg_answer_fn done,
                  struct err *err) HA_MUST_CHECK;

/*
 * Takes the answer to IDENTIFY_SYSTEM. Refuses a source of another major version, or of another
 * system than `own`, the data that lie here (0 = there are none).
 */
int pg_source_check(struct postgres *pg,
                    const struct pg_answer *answer,
                    uint64_t own,
                    uint64_t *sysid,
                    struct err *err) HA_MUST_CHECK;

/* A connection string for pg_basebackup and pg_rewind. No password in it: a passfile is named. */
void pg_source_conninfo(const struct postgres *pg, const char *database, struct pg_text *info);

/* Notes a line of progress in the facts, "23456/34567 kB (67%)", or forwards it to the log. */
void pg_source_progress(struct postgres *pg, const char *line);
void pg_source_progress_end(struct postgres *pg);

#endif
