/*
 * pg_text.h - a text that grows, and PostgreSQL's ways of quoting.
 *
 * Memory: pg_text_free() returns it. A failed allocation sets `has_failed`, and
 *         whoever uses the text asks once at the end.
 */
#ifndef HA_POSTGRES_PG_TEXT_H
#define HA_POSTGRES_PG_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct pg_text {
    char *data; /* NUL-terminated once something was added */
    size_t len;
    size_t size;
    bool has_failed;
};

void pg_text_add(struct pg_text *text, const char *fmt, ...) HA_PRINTF(2, 3);
void pg_text_add_bytes(struct pg_text *text, const char *bytes, size_t len);
void pg_text_free(struct pg_text *text);

/* 'value' for postgresql.conf. */
void pg_text_add_conf(struct pg_text *text, const char *value);
/* E'value' for SQL. */
void pg_text_add_literal(struct pg_text *text, const char *value);
/* "name" for SQL, pg_hba.conf and pg_ident.conf. */
void pg_text_add_name(struct pg_text *text, const char *name);
/* 'value' inside a conninfo. */
void pg_text_add_conninfo(struct pg_text *text, const char *value);
/* A field of a passfile. */
void pg_text_add_passfile(struct pg_text *text, const char *value);

#endif
