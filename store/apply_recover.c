#include "store/apply_recover.h"

#include <stdio.h>
#include <string.h>

/* The operator's words, for people: as many names as fit. */
static void
history_note(struct state *s, const struct command *c, const struct member *survivor)
{
    struct reign_row *row;
    size_t len;

    if (s->n_history == HA_HISTORY_MAX) {
        memmove(&s->history[0], &s->history[1], (HA_HISTORY_MAX - 1) * sizeof s->history[0]);
        s->n_history--;
    }
    row = &s->history[s->n_history++];
    memset(row, 0, sizeof *row);
    row->reign = s->reign;
    row->holder = s->holder;
    row->wall_ms = c->recover.wall_ms;
    memcpy(row->holder_address, survivor->address, sizeof row->holder_address);
    (void)snprintf(row->why, sizeof row->why, "forced, named dead:");
    for (uint32_t i = 0; i < c->recover.n_dead; i++) {
        len = strlen(row->why);
        if (len + 1 + strlen(c->recover.dead[i]) < sizeof row->why) {
            (void)snprintf(row->why + len, sizeof row->why - len, " %s", c->recover.dead[i]);
        }
    }
}

/* The operator says that its holder is dead: nobody holds a lease. What else was appointed there
 * is not known here. */
static void
end_reign(struct state *s)
{
    s->reign += RECOVER_REIGN_GAP;
    s->holder = 0;
    s->is_vacant = true;
    s->is_opened = s->opened_reign != 0;
    s->final_lsn = 0;
    s->handover = 0;
}

static void
declare_survivor(struct state *s, const struct member *survivor)
{
    static const char BY[] = "hactl failover";

    memcpy(s->declaration.primary, survivor->address, sizeof s->declaration.primary);
    s->generation++;
    s->is_paused = false;
    memset(s->declared_by, 0, sizeof s->declared_by);
    memcpy(s->declared_by, BY, sizeof BY);
}

int
apply_recover(struct state *s, const struct command *c)
{
    const struct member *survivor = state_member(s, c->recover.survivor);
    const bool is_failover = c->recover.is_failover;

    if (s->cluster_id == 0 || c->recover.era <= s->era || survivor == NULL ||
        c->recover.n_dead > HA_MEMBERS_MAX ||
        (is_failover && (survivor->kind != MEMBER_DATABASE ||
                         !declaration_lists(&s->declaration, survivor->address)))) {
        return HA_EREFUSED;
    }
    s->era = c->recover.era;
    s->members_generation++;
    s->settled_generation = s->members_generation;
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        if (&s->members[i] != survivor) {
            memset(&s->members[i], 0, sizeof s->members[i]);
        } else {
            s->members[i].left = 0;
        }
    }
    if (s->reign != 0 && s->holder != survivor->id) {
        end_reign(s);
    } else {
        s->handover = 0;
    }
    /* Who has which writes is what the operator says, too: that the survivor has what is left. */
    s->sync_set = 0;
    s->sync_count = 0;
    s->sync_lost = 0;
    s->sync_epoch++;
    if (is_failover) {
        declare_survivor(s, survivor);
    }
    history_note(s, c, survivor);
    return HA_OK;
}
