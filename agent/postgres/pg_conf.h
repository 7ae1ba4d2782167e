/*
 * pg_conf.h - POSTGRESQL_CONF, "name=value|name=value", taken apart and checked.
 *
 * Only the first '=' of an entry splits; a value may hold further ones. Blanks
 * around name and value go; a value may stand in single quotes as in
 * postgresql.conf. Settings that the agent owns are refused: two masters of one
 * setting would mean that nobody knows what it is.
 *
 * Pure: no clock, no files. Fit for hostile input.
 * Memory: pg_conf_split() allocates one block; pg_conf_free() returns it.
 */
#ifndef HA_POSTGRES_PG_CONF_H
#define HA_POSTGRES_PG_CONF_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define PG_CONF_SETTINGS_MAX 128
#define PG_CONF_NAME_MAX 64

struct pg_conf {
    size_t n;
    struct {
        const char *name; /* lower case, as PostgreSQL folds it */
        const char *value;
    } settings[PG_CONF_SETTINGS_MAX];
    char *memory;
};

/* Takes `text` apart. The text of an error names the entry. */
int pg_conf_split(const char *text, struct pg_conf *out, struct err *err) HA_MUST_CHECK;
void pg_conf_free(struct pg_conf *conf);

/* Value of a setting, or NULL when it is not named. */
const char *pg_conf_get(const struct pg_conf *conf, const char *name);

/* True for a setting that nobody but the agent may give (any case). */
bool pg_conf_is_owned(const char *name);

#endif
