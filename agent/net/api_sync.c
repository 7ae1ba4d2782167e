/*
 * What the cluster promises about acknowledged writes at this moment, as JSON: the record by which
 * a successor is chosen, what the primary says of its commits, and one sentence for people.
 */
#include <stdio.h>
#include <string.h>

#include "agent/net/api_picture.h"
#include "store/sync.h"

static const char *const PHASES[SYNC_PHASE_COUNT] = {
    [SYNC_PHASE_NONE] = "none",
    [SYNC_PHASE_HELD] = "held",
    [SYNC_PHASE_LESS] = "less than wanted",
    [SYNC_PHASE_CHANGING] = "changing",
    [SYNC_PHASE_WAITING] = "commits wait",
    [SYNC_PHASE_ALONE] = "asynchronous",
};

/* How far the standby that is furthest is behind; false when none streams. */
static bool
least_lag(const struct picture *p, uint64_t *lag)
{
    bool is_found = false;

    for (size_t i = 0; i < p->n; i++) {
        const struct picture_member *m = &p->members[i];

        if (m->is_fresh && m->has_lag && m->status.pg.is_streaming && !m->is_leader &&
            (!is_found || m->lag < *lag)) {
            *lag = m->lag;
            is_found = true;
        }
    }
    return is_found;
}

static void
say_asynchronous(const struct picture *p, const char *because, char *out, size_t size)
{
    uint64_t lag = 0;

    if (p->leader == NULL) {
        (void)snprintf(out, size, "%sno primary acknowledges writes now", because);
    } else if (least_lag(p, &lag)) {
        (void)snprintf(out,
                       size,
                       "%sa failover may lose the newest acknowledged writes; the closest "
                       "standby is %llu bytes behind now",
                       because,
                       (unsigned long long)lag);
    } else {
        (void)snprintf(out,
                       size,
                       "%sno standby streams: what is acknowledged now exists only on %s",
                       because,
                       p->leader->address);
    }
}

static void
say_synchronous(const struct picture *p, const char *members, char *out, size_t size)
{
    const struct state *s = &p->view->core->state;
    const uint8_t phase = p->leader == NULL ? (uint8_t)SYNC_PHASE_NONE : p->leader->status.sync;

    (void)snprintf(out,
                   size,
                   "no acknowledged write is lost by a failover: each is on the primary and on at "
                   "least %u of %s; a successor is chosen only when %u of these, or the last "
                   "primary, have let go of it%s",
                   s->sync_count,
                   members,
                   sync_heard_needed(s),
                   phase == SYNC_PHASE_WAITING ? "; commits wait now: too few of them stream" : "");
}

static void
members_text(const struct state *s, char *out, size_t size)
{
    size_t len = 0;

    out[0] = '\0';
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        if ((s->sync_set >> i & 1) != 0 && len < size) {
            len += (size_t)snprintf(
                out + len, size - len, "%s%s", len == 0 ? "" : ", ", s->members[i].address);
        }
    }
    if (s->sync_lost != 0 && len < size) {
        (void)snprintf(out + len, size - len, " and %u that are gone", s->sync_lost);
    }
}

static void
put_guarantee(json_t *o, const struct picture *p)
{
    const struct state *s = &p->view->core->state;
    const uint8_t phase = p->leader == NULL ? (uint8_t)SYNC_PHASE_NONE : p->leader->status.sync;
    char members[HA_MEMBER_SLOTS * (HA_ADDRESS_MAX + 2) + 32];
    char text[sizeof members + 320];

    if (s->sync_count != 0) {
        members_text(s, members, sizeof members);
        say_synchronous(p, members, text, sizeof text);
    } else if (phase == SYNC_PHASE_ALONE) {
        say_asynchronous(
            p, "ASYNCHRONOUS although HA_SYNC=on, for no standby was left: ", text, sizeof text);
    } else if (s->declaration.sync != SYNC_OFF) {
        say_asynchronous(p, "nothing is promised yet: ", text, sizeof text);
    } else {
        say_asynchronous(p, "asynchronous: ", text, sizeof text);
    }
    put_text(o, "guarantee", text);
}

json_t *
api_sync_json(const struct picture *p)
{
    const struct state *s = &p->view->core->state;
    json_t *o = json_object();
    json_t *set = json_array();

    put_text(o, "mode", sync_mode_text(s->declaration.sync));
    put_int(o, "wanted", sync_count_wanted(s));
    put_int(o, "count", s->sync_count);
    put_int(o, "lost", s->sync_lost);
    put_u64(o, "epoch", s->sync_epoch);
    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        if ((s->sync_set >> i & 1) != 0) {
            (void)json_array_append_new(set, json_string(s->members[i].address));
        }
    }
    (void)json_object_set_new(o, "set", set);
    if (p->leader != NULL && p->leader->status.sync < SYNC_PHASE_COUNT) {
        put_text(o, "commits", PHASES[p->leader->status.sync]);
        put_int(o, "streaming", p->leader->status.n_sync);
        put_bool(o, "is_closed", p->leader->status.is_closed);
    }
    put_guarantee(o, p);
    return o;
}
