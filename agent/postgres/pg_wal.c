#include "agent/postgres/pg_wal.h"

#include <stdio.h>
#include <string.h>

#include "store/state.h"

/* One to eight hexadecimal digits; returns what follows them, or NULL. */
static const char *
hex_parse(const char *at, uint32_t *out)
{
    uint32_t v = 0;
    int digits = 0;

    for (; digits <= 8; digits++, at++) {
        uint32_t d;

        if (*at >= '0' && *at <= '9') {
            d = (uint32_t)(*at - '0');
        } else if (*at >= 'A' && *at <= 'F') {
            d = (uint32_t)(*at - 'A') + 10;
        } else if (*at >= 'a' && *at <= 'f') {
            d = (uint32_t)(*at - 'a') + 10;
        } else {
            break;
        }
        v = v << 4 | d;
    }
    if (digits == 0 || digits > 8) {
        return NULL;
    }
    *out = v;
    return at;
}

/* A position at the beginning of a text; returns what follows it, or NULL. */
static const char *
lsn_parse_prefix(const char *text, uint64_t *lsn)
{
    uint32_t high;
    uint32_t low;
    const char *at = hex_parse(text, &high);

    if (at == NULL || *at != '/') {
        return NULL;
    }
    at = hex_parse(at + 1, &low);
    if (at == NULL) {
        return NULL;
    }
    *lsn = (uint64_t)high << 32 | low;
    return at;
}

bool
pg_lsn_parse(const char *text, uint64_t *lsn)
{
    uint64_t v;
    const char *at = lsn_parse_prefix(text, &v);

    if (at == NULL || *at != '\0') {
        return false;
    }
    *lsn = v;
    return true;
}

void
pg_lsn_format(uint64_t lsn, char out[PG_LSN_TEXT_MAX])
{
    (void)snprintf(out, PG_LSN_TEXT_MAX, "%X/%X", (unsigned)(lsn >> 32), (unsigned)lsn);
}

void
pg_history_name(uint32_t timeline, char out[PG_HISTORY_NAME_MAX])
{
    (void)snprintf(out, PG_HISTORY_NAME_MAX, "%08X.history", timeline);
}

/* "<timeline> <white space> <lsn> <white space or end>"; false for anything else. */
static bool
history_parse_line(const char *at, uint32_t *timeline, uint64_t *lsn)
{
    uint64_t v = 0;
    const char *digits = at;

    for (; *at >= '0' && *at <= '9'; at++) {
        v = v * 10 + (uint64_t)(*at - '0');
        if (v > UINT32_MAX) {
            return false;
        }
    }
    if (at == digits || v == 0 || (*at != ' ' && *at != '\t')) {
        return false;
    }
    at += strspn(at, " \t");
    at = lsn_parse_prefix(at, lsn);
    if (at == NULL || (*at != '\0' && strchr(" \t\r\n", *at) == NULL)) {
        return false;
    }
    *timeline = (uint32_t)v;
    return true;
}

int
pg_history_parse(const char *text, struct pg_history *out, struct err *err)
{
    uint64_t lineage = LINEAGE_FIRST;
    uint32_t last = 0;
    uint64_t last_lsn = 0;
    int number = 0;

    while (*text != '\0') {
        const size_t len = strcspn(text, "\n");
        const char *at = text + strspn(text, " \t\r");
        uint32_t timeline;

        number++;
        text += len + (text[len] == '\n' ? 1 : 0);
        if (*at == '\n' || *at == '\0' || *at == '#') {
            continue;
        }
        if (!history_parse_line(at, &timeline, &last_lsn)) {
            return err_set(err, HA_ECORRUPT, "timeline history: line %d is malformed", number);
        }
        if (timeline <= last) {
            return err_set(err, HA_ECORRUPT, "timeline history: line %d is out of order", number);
        }
        last = timeline;
        lineage = lineage_extend(lineage, timeline, last_lsn);
    }
    if (last == 0) {
        return err_set(err, HA_ECORRUPT, "timeline history: it names no parent");
    }
    *out = (struct pg_history){.parent = last, .fork_lsn = last_lsn, .lineage = lineage};
    return HA_OK;
}

bool
pg_history_before(const char *text, uint32_t timeline, size_t *len)
{
    size_t at = 0;

    while (text[at] != '\0') {
        const char *line = text + at + strspn(text + at, " \t\r");
        uint32_t t;
        uint64_t lsn;

        if (*line != '\n' && *line != '\0' && *line != '#') {
            if (!history_parse_line(line, &t, &lsn)) {
                return false;
            }
            if (t == timeline) {
                *len = at;
                return true;
            }
        }
        at += strcspn(text + at, "\n");
        at += text[at] == '\n' ? 1 : 0;
    }
    return false;
}
