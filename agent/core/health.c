#include "agent/core/health.h"

#include <stdio.h>

#define LOOKS_IN_A_ROW 2 /* a single look may meet a moment between two states */
#define FORECAST_S 3     /* so soon full at the present pace is low */

void
health_reset(struct health *h)
{
    *h = (struct health){0};
}

static void
note_server(struct health *h, const struct pg_probe *p, struct mono now)
{
    h->server = *p;
    if (p->is_done) {
        h->done_at = now;
    }
    if (p->is_new_session && p->is_answered) {
        h->session_at = now;
        h->tried_new_at = (struct mono){0};
    } else if (p->is_new_session && h->tried_new_at.ms == 0) {
        h->tried_new_at = now;
    }
}

static uint64_t
fill_per_s(const struct health *h, const struct pg_probe *p, struct mono now)
{
    const int64_t for_ms = mono_sub(now, h->host_at);

    if (h->host_at.ms == 0 || for_ms <= 0 || p->free_bytes >= h->host.free_bytes) {
        return 0;
    }
    return (h->host.free_bytes - p->free_bytes) * 1000 / (uint64_t)for_ms;
}

/* Low until thrice the room is there again: a border is crossed once, and the ballast's room that
 * was given back is no recovery. */
static bool
is_low(const struct health *h, const struct pg_probe *p, uint64_t reserve)
{
    const uint64_t wanted = (h->is_low ? 3 * reserve : reserve) + FORECAST_S * h->fill_per_s;

    return reserve != 0 && p->total_bytes != 0 && p->free_bytes < wanted;
}

static void
note_host(struct health *h, const struct pg_probe *p, uint64_t reserve, struct mono now)
{
    h->fill_per_s = fill_per_s(h, p, now);
    h->is_low = is_low(h, p, reserve);
    h->host = *p;
    h->host_at = now;
    h->n_gone = p->is_data_gone ? h->n_gone + 1 : 0;
    h->n_read_only = p->is_read_only ? h->n_read_only + 1 : 0;
    if (!p->is_postmaster_stopped) {
        h->running_at = now;
    }
}

void
health_note(struct health *h, const struct pg_probe *probe, uint64_t reserve, struct mono now)
{
    if (probe->kind == PG_PROBE_SERVER) {
        note_server(h, probe, now);
    } else if (probe->kind == PG_PROBE_HOST) {
        note_host(h, probe, reserve, now);
    }
}

static void
excuse(struct mono *at, struct mono now)
{
    if (at->ms != 0) {
        *at = now;
    }
}

void
health_excuse(struct health *h, struct mono now)
{
    excuse(&h->done_at, now);
    excuse(&h->session_at, now);
    excuse(&h->tried_new_at, now);
    excuse(&h->running_at, now);
    excuse(&h->host_at, now);
}

static bool
is_silent(struct mono since, int64_t limit_ms, struct mono now)
{
    return limit_ms != 0 && since.ms != 0 && mono_sub(now, since) > limit_ms;
}

/* No new session: only where one was tried. */
static bool
is_closed(const struct health *h, int64_t limit_ms, struct mono now)
{
    return h->tried_new_at.ms != 0 && is_silent(h->session_at, limit_ms, now);
}

enum health_verdict
health_judge(const struct health *h, int64_t limit_ms, struct mono now)
{
    if (h->done_at.ms == 0) {
        return HEALTH_UNKNOWN;
    }
    if (h->n_gone >= LOOKS_IN_A_ROW) {
        return HEALTH_DATA_GONE;
    }
    if (h->n_read_only >= LOOKS_IN_A_ROW) {
        return HEALTH_READ_ONLY;
    }
    if (is_silent(h->done_at, limit_ms, now) || is_closed(h, limit_ms, now) ||
        (h->host.is_postmaster_stopped && is_silent(h->running_at, limit_ms, now))) {
        return HEALTH_HUNG;
    }
    if (h->is_low) {
        return HEALTH_DISK_LOW;
    }
    if (is_silent(h->host_at, limit_ms, now)) {
        return HEALTH_DISK_SILENT;
    }
    return HEALTH_WELL;
}

bool
health_serves(uint8_t verdict)
{
    return verdict != HEALTH_HUNG && verdict != HEALTH_DATA_GONE;
}

const char *
health_text(uint8_t verdict)
{
    static const char *const TEXTS[HEALTH_COUNT] = {
        [HEALTH_UNKNOWN] = "unknown",
        [HEALTH_WELL] = "well",
        [HEALTH_DATA_GONE] = "data gone",
        [HEALTH_READ_ONLY] = "read-only",
        [HEALTH_HUNG] = "hung",
        [HEALTH_DISK_LOW] = "disk low",
        [HEALTH_DISK_SILENT] = "disk silent",
    };

    return verdict < HEALTH_COUNT ? TEXTS[verdict] : "unknown";
}

static void
why_hung(const struct health *h, struct mono now, char *out, size_t size)
{
    const long long done_s = mono_sub(now, h->done_at) / 1000;
    const long long session_s = mono_sub(now, h->session_at) / 1000;

    if (h->host.is_postmaster_stopped) {
        (void)snprintf(out, size, "its postmaster is stopped by a signal");
    } else if (done_s >= session_s || h->tried_new_at.ms == 0) {
        (void)snprintf(out, size, "it has answered no commit for %lld s", done_s);
    } else {
        (void)snprintf(out, size, "it has answered no new session for %lld s", session_s);
    }
}

void
health_why(const struct health *h, uint8_t verdict, struct mono now, char *out, size_t size)
{
    switch ((enum health_verdict)verdict) {
    case HEALTH_DATA_GONE:
        (void)snprintf(out, size, "its data directory is gone, or was replaced");
        break;
    case HEALTH_READ_ONLY:
        (void)snprintf(out, size, "its file system is read-only");
        break;
    case HEALTH_HUNG:
        why_hung(h, now, out, size);
        break;
    case HEALTH_DISK_LOW:
        (void)snprintf(out,
                       size,
                       "its disk has %llu MB left and fills by %llu MB/s",
                       (unsigned long long)(h->host.free_bytes >> 20),
                       (unsigned long long)(h->fill_per_s >> 20));
        break;
    case HEALTH_DISK_SILENT:
        (void)snprintf(out, size, "its file system does not answer");
        break;
    case HEALTH_UNKNOWN:
    case HEALTH_WELL:
    case HEALTH_COUNT:
    default:
        (void)snprintf(out, size, "%s", health_text(verdict));
        break;
    }
}
