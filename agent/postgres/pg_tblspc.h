/*
 * pg_tblspc.h - the directories of tablespaces, which lie outside of the data directory.
 *
 * A copy's tablespaces are made beside the ones that are there, each in a directory of its own
 * below the tablespace's ("hawser.XXXXXXXX"), so that the data that are replaced stay whole.
 *
 * Blocks; fit for a thread of the pool: of `pg` it reads what never changes.
 */
#ifndef HA_POSTGRES_PG_TBLSPC_H
#define HA_POSTGRES_PG_TBLSPC_H

#include <stddef.h>
#include <stdint.h>

#include "agent/postgres/pg_impl.h"

/* Where a copy's tablespace goes, that the source has at `location`; makes the directory above. */
int pg_tblspc_side(const struct postgres *pg,
                   const char *location,
                   uint32_t tag,
                   char out[PG_PATH_MAX],
                   struct err *err) HA_MUST_CHECK;

/* Removes what the tablespaces of that data directory hold, but for those that `live` ones use. */
void pg_tblspc_release(const struct postgres *pg,
                       const char *data,
                       const char *const live[],
                       size_t n_live);

#endif
