/*
 * three_members.h - for unit tests of one rule: a core that knows three databases, an open reign on
 * timeline 2, and nobody's word yet.
 */
#ifndef HA_TESTS_UNIT_THREE_MEMBERS_H
#define HA_TESTS_UNIT_THREE_MEMBERS_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "agent/core/core_internal.h"

enum { THREE_MEMBERS = 3 };

/* Ids 1 to 3 at 10.0.0.1 to 10.0.0.3; system 7, lineage 72. Who is who is for the caller to say. */
static inline void
three_members(struct core *core, uint64_t reign)
{
    struct state *s = &core->state;

    memset(core, 0, sizeof *core);
    for (unsigned i = 0; i < THREE_MEMBERS; i++) {
        s->members[i].id = i + 1;
        s->members[i].kind = MEMBER_DATABASE;
        (void)snprintf(s->members[i].address, sizeof s->members[i].address, "10.0.0.%u", i + 1);
    }
    s->sysid = 7;
    s->timeline = 2;
    s->lineage = 72;
    s->reign = s->opened_reign = reign;
    s->is_opened = true;
}

#endif
