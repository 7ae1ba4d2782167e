/*
 * What data may do that lie there stopped, judged by the control file against
 * the ledger of reigns: each opened reign began a timeline at a fork that is on
 * record, so data are either a prefix of the cluster's history or they are not.
 */
#include "agent/core/core_internal.h"

#include <stddef.h>
#include <string.h>

/* The first reign on record whose timeline is newer than t: where t was left. Right only when t
 * itself is on record, for then all that came after it are. */
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

bool
rejoin_is_of_ledger(const struct state *s, uint32_t timeline, uint64_t lineage)
{
    const struct reign_row *row = state_timeline(s, timeline);

    if (lineage == 0) {
        return false;
    }
    if (s->opened_reign != 0 && timeline == s->timeline) {
        return lineage == s->lineage; /* remembered for longer than its row */
    }
    return row != NULL && row->lineage == lineage;
}

/* It wrote WAL of its own there, so only the holder of that timeline may have done it. */
static bool
is_another_ones(const struct state *s, const struct pg_facts *pg, const char *self)
{
    const struct reign_row *row = state_timeline(s, pg->control_timeline);

    return row == NULL || strcmp(row->holder_address, self) != 0;
}

/* pg_rewind wants data that were stopped cleanly. A primary it recovers itself; a standby that was
 * killed could be brought to that only by starting it. */
static enum rejoin_verdict
left(const struct pg_facts *pg, bool was_primary)
{
    const bool is_recoverable = pg->data == PG_DATA_PRIMARY && was_primary;

    return pg->is_shut_down || is_recoverable ? REJOIN_REWIND : REJOIN_CLONE;
}

static enum rejoin_verdict
judge_older(const struct state *s, const struct pg_facts *pg, bool was_primary, const char **why)
{
    const struct reign_row *next = next_reign(s, pg->control_timeline);

    if (next == NULL) {
        *why = "its timeline was left longer ago than is remembered";
        return REJOIN_CLONE;
    }
    if (!was_primary) {
        if (pg->min_recovery_lsn > next->fork_lsn || pg->checkpoint_lsn > next->fork_lsn) {
            *why = "it has WAL beyond the point where the new timeline began";
            return left(pg, false);
        }
        *why = "a standby of an older timeline";
        return REJOIN_STREAM;
    }
    if (!pg->is_shut_down) {
        *why = "it was a primary and did not stop cleanly";
        return left(pg, true);
    }
    /* A clean primary's last record is its shutdown checkpoint: it must lie before the fork. */
    if (pg->checkpoint_lsn >= next->fork_lsn) {
        *why = "it was a primary and wrote beyond the point where the new timeline began";
        return left(pg, true);
    }
    *why = "it was a primary and stopped before the new timeline began";
    return REJOIN_STREAM;
}

enum rejoin_verdict
rejoin_judge(const struct state *s, const struct pg_facts *pg, const char *self, const char **why)
{
    const bool was_primary = pg->data == PG_DATA_PRIMARY || pg->was_primary;

    *why = "";
    if (pg->data == PG_DATA_DAMAGED) {
        *why = "the data directory holds files, but no control file that can be read";
        return REJOIN_DAMAGED;
    }
    if (pg->data == PG_DATA_TORN && pg->sysid == 0) {
        *why = "a rewind of its data was cut short, and their control file cannot be read";
        return REJOIN_DAMAGED;
    }
    if (s->sysid == 0 || pg->sysid == 0) {
        *why = "the cluster has no data yet";
        return REJOIN_WAIT;
    }
    if (pg->sysid != s->sysid) {
        *why = "the data directory belongs to another cluster";
        return REJOIN_FOREIGN;
    }
    if (pg->data == PG_DATA_TORN) {
        *why = "a rewind of its data was cut short";
        return REJOIN_CLONE;
    }
    if (pg->control_timeline == 0) {
        *why = "its control file was not read yet";
        return REJOIN_WAIT;
    }
    if (!rejoin_is_of_ledger(s, pg->control_timeline, pg->lineage)) {
        *why = "its timeline is not one of the cluster's";
        return left(pg, was_primary);
    }
    if (was_primary && is_another_ones(s, pg, self)) {
        *why = "it ran as a primary on a timeline that another member put on record";
        return REJOIN_CLONE;
    }
    if (pg->control_timeline < s->timeline) {
        return judge_older(s, pg, was_primary, why);
    }
    *why = "on the cluster's timeline";
    return REJOIN_STREAM;
}

bool
rejoin_has_diverged(const struct state *s, const struct pg_facts *pg)
{
    const struct reign_row *next;

    if (pg->timeline == 0 || pg->lineage == 0 || pg->timeline > s->timeline) {
        return false; /* not known yet, or the log is behind */
    }
    if (!rejoin_is_of_ledger(s, pg->timeline, pg->lineage)) {
        return true;
    }
    next = next_reign(s, pg->timeline);
    return next != NULL && pg->lsn > next->fork_lsn;
}
