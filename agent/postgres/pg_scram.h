/*
 * pg_scram.h - whether a role's stored verifier is that of a password.
 *
 * Pure. The password is taken as its bytes: what SASLprep would change does not match, and the
 * verifier is written anew then, which does no harm.
 */
#ifndef HA_POSTGRES_PG_SCRAM_H
#define HA_POSTGRES_PG_SCRAM_H

#include <stdbool.h>

/* `verifier` as in pg_authid.rolpassword: SCRAM-SHA-256$4096:salt$stored:server; anything else is
 * no match. */
bool pg_scram_matches(const char *verifier, const char *password);

#endif
