/*
 * What data may do that lie there stopped, judged by the control file against
 * the ledger of reigns: each opened reign began a timeline at a fork that is on
 * record, so data are either a prefix of the cluster's history or they are not.
 */
#include "agent/core/core_internal.h"

#include <stddef.h>
#include <string.h>

/* The first reign on record whose timeline is newer than t: where t was left. */
static const struct reign_row *
next_reign(const struct state *s, uint32_t t)
{
    const struct reign_row *next = NULL;

    for (uint32_t i = 0; i < s->n_history; i++) {
        const struct reign_row *row = &s->history[i];

        if (row->timeline > t && (next == NULL || row->timeline < next->timeline)) {
            next = row;
        }
    }
    return next;
}

/* Was that timeline ever begun by a reign? Timeline 1 may be older than the first one on record. */
static const struct reign_row *
reign_of_timeline(const struct state *s, uint32_t t)
{
    for (uint32_t i = 0; i < s->n_history; i++) {
        if (s->history[i].timeline == t) {
            return &s->history[i];
        }
    }
    return NULL;
}

static enum rejoin_verdict
judge_older(const struct state *s, const struct pg_facts *pg, const char *self, const char **why)
{
    const struct reign_row *next = next_reign(s, pg->control_timeline);
    const struct reign_row *own = reign_of_timeline(s, pg->control_timeline);

    if (next == NULL || next->fork_lsn == 0) {
        *why = "its timeline was left longer ago than is remembered";
        return REJOIN_CLONE;
    }
    if (pg->data == PG_DATA_STANDBY) {
        if (pg->min_recovery_lsn > next->fork_lsn || pg->checkpoint_lsn > next->fork_lsn) {
            *why = "it has WAL beyond the point where the new timeline began";
            return REJOIN_CLONE;
        }
        *why = "a standby of an older timeline";
        return REJOIN_STREAM;
    }
    if (!pg->is_shut_down) {
        *why = "it was a primary and did not stop cleanly";
        return REJOIN_CLONE;
    }
    /* A clean primary's last record is its shutdown checkpoint: it must lie before the fork. */
    if (pg->checkpoint_lsn >= next->fork_lsn) {
        *why = "it was a primary and wrote beyond the point where the new timeline began";
        return REJOIN_CLONE;
    }
    if (own != NULL && strcmp(own->holder_address, self) != 0) {
        *why = "it began a timeline that another member put on record";
        return REJOIN_CLONE;
    }
    *why = "it was a primary and stopped before the new timeline began";
    return REJOIN_STREAM;
}

enum rejoin_verdict
rejoin_judge(const struct state *s, const struct pg_facts *pg, const char *self, const char **why)
{
    const struct reign_row *row = reign_of_timeline(s, pg->control_timeline);

    *why = "";
    if (pg->data == PG_DATA_DAMAGED) {
        *why = "the data directory holds files, but no control file that can be read";
        return REJOIN_DAMAGED;
    }
    if (s->sysid == 0 || pg->sysid == 0 || pg->control_timeline == 0) {
        *why = "the cluster has no data yet";
        return REJOIN_WAIT;
    }
    if (pg->sysid != s->sysid) {
        *why = "the data directory belongs to another cluster";
        return REJOIN_FOREIGN;
    }
    if (pg->control_timeline < s->timeline) {
        return judge_older(s, pg, self, why);
    }
    if (pg->control_timeline > s->timeline) {
        *why = "its timeline is not one of the cluster's";
        return REJOIN_CLONE;
    }
    if (pg->data == PG_DATA_PRIMARY && (row == NULL || strcmp(row->holder_address, self) != 0)) {
        *why = "it was started as a primary by hand";
        return REJOIN_CLONE;
    }
    *why = "on the cluster's timeline";
    return REJOIN_STREAM;
}

bool
rejoin_has_diverged(const struct state *s, const struct pg_facts *pg)
{
    const struct reign_row *next;

    if (pg->timeline == 0 || pg->timeline >= s->timeline) {
        return false;
    }
    next = next_reign(s, pg->timeline);
    return next != NULL && next->fork_lsn != 0 && pg->lsn > next->fork_lsn;
}
