/*
 * apply_recover.h - what an operator's force does to the replicated state (docs/protocol.md, 7).
 *
 * Called by apply.c alone.
 */
#ifndef HA_STORE_APPLY_RECOVER_H
#define HA_STORE_APPLY_RECOVER_H

#include "store/command.h"

/* Reigns that the others may have had unheard of here: their numbers stay theirs. */
#define RECOVER_REIGN_GAP 1000

int apply_recover(struct state *state, const struct command *command);

#endif
