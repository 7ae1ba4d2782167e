/*
 * pg_initdb_args.h - POSTGRES_INITDB_ARGS as words for initdb.
 *
 * Pure: no files, no allocation. Fit for hostile input.
 */
#ifndef HA_POSTGRES_PG_INITDB_ARGS_H
#define HA_POSTGRES_PG_INITDB_ARGS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/*
 * Cuts `text` into words in place, quotes and backslashes as a shell takes them. Returns how many,
 * or HA_EINVAL: too many, a quote that is not closed, an option that is the agent's to give.
 */
int pg_initdb_words(char *text, const char *words[], size_t max, struct err *err) HA_MUST_CHECK;

/* The C locale gives SQL_ASCII, which nobody wants: UTF8 then, unless the user says otherwise. */
bool pg_initdb_needs_encoding(const char *args, char *const env[]);

#endif
