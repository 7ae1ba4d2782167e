/*
 * governor_members.h - the governor's care for who belongs to the cluster.
 */
#ifndef HA_CORE_GOVERNOR_MEMBERS_H
#define HA_CORE_GOVERNOR_MEMBERS_H

#include "agent/core/core.h"

/*
 * Registers members that ask to be let in, replaces those that lost their disk,
 * makes the members what the declaration says and Raft's servers what the members
 * are: one change at a time, each settled before the next (docs/protocol.md, 3 and 6).
 */
void governor_members(struct core *core, struct effect_list *fx);

#endif
