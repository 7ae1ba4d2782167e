/*
 * pg_files.h - the files that steer PostgreSQL: its settings, who may log in, whom to follow.
 *
 * All but three lie in the agent's state directory, outside PGDATA, where no copy
 * of a data directory takes them along. In PGDATA: one include line at the end of
 * postgresql.conf, standby.signal, and postgresql.auto.conf, from which settings
 * that the agent owns are taken out (it would win over the included file).
 *
 * Blocks for files of some kilobytes.
 */
#ifndef HA_POSTGRES_PG_FILES_H
#define HA_POSTGRES_PG_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "agent/postgres/pg_impl.h"
#include "agent/postgres/pg_text.h"
#include "base/err.h"

/* Makes state and run directory as PostgreSQL needs them. Idempotent. */
int pg_files_prepare(struct postgres *pg, struct err *err) HA_MUST_CHECK;

/*
 * Writes `text` to `path`, mode 0600, owned by PostgreSQL's user: under another name first, then
 * renamed. Frees the text. pg_files_write() syncs, for what lies in a data directory;
 * pg_files_put() does not, for what is written anew before each start: a slow disk must not hold
 * up the loop of a holder.
 */
int pg_files_put(const struct postgres *pg, const char *path, struct pg_text *text, struct err *err)
    HA_MUST_CHECK;
int pg_files_write(const struct postgres *pg,
                   const char *path,
                   struct pg_text *text,
                   struct err *err) HA_MUST_CHECK;

/* Reads a small text file (up to 1 MiB), malloc'ed. HA_ENOTFOUND when there is none. */
int pg_files_read(const char *path, char **out, struct err *err) HA_MUST_CHECK;

/* The settings file, with pg->follow as the upstream ("" = nobody), and its passfile. */
int pg_files_write_settings(struct postgres *pg, struct err *err) HA_MUST_CHECK;

/* Who may log in: pg_hba.conf and pg_ident.conf. */
int pg_files_write_access(struct postgres *pg, struct err *err) HA_MUST_CHECK;

/* A passfile with the replication role's password. */
int pg_files_write_passfile(struct postgres *pg, const char *path, struct err *err) HA_MUST_CHECK;

/* Include line and auto.conf of a data directory. */
int pg_files_adapt(struct postgres *pg, const char *pgdata, struct err *err) HA_MUST_CHECK;

int pg_files_write_standby_signal(struct postgres *pg,
                                  const char *pgdata,
                                  struct err *err) HA_MUST_CHECK;

/* The data are a copy that was not started yet. */
bool pg_files_has_backup_label(const char *pgdata);

bool pg_files_has_standby_signal(const char *pgdata);

/* Name of the physical slot and application name of a member: "hawser_10_0_0_7". */
#define PG_SLOT_NAME_MAX 64
void pg_slot_name(const char *address, char out[PG_SLOT_NAME_MAX]);

/* Removes what is below a path and the path itself, over no mount and through no link. What cannot
 * be removed stays; the caller looks. */
void pg_files_remove_tree(const char *path);

#endif
