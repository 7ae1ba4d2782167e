/*
 * apply.h - one command changes the state, or is rejected.
 *
 * Pure and deterministic: no clock, no random source, nothing local. The same
 * command on the same state gives the same state and the same answer.
 */
#ifndef HA_STORE_APPLY_H
#define HA_STORE_APPLY_H

#include "store/command.h"
#include "store/state.h"

/*
 * HA_OK: applied, or said already (a repeated proposal gets the answer of the first).
 * HA_EREFUSED: the precondition does not hold; the state is as it was, but for the proposer's
 * idempotency key, which is noted with this answer.
 * Texts of *command must be zero behind their NUL, as command_decode() leaves them: they become
 * part of the state, which is compared byte by byte.
 */
int apply_command(struct state *state, const struct command *command);

/* The same from bytes. Bytes that cannot be decoded change nothing: HA_ECORRUPT or HA_EVERSION. */
int apply_bytes(struct state *state, const void *bytes, size_t len);

#endif
