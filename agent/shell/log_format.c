/*
 * How a line of the log looks: plain with fields in front, or JSON.
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "agent/core/effect.h"
#include "agent/shell/config_env.h"
#include "agent/shell/log.h"

struct writer {
    char *out;
    size_t size;
    size_t len;
};

/* Keeps room for the line's end, so that a text too long is cut and still a line. */
static void
put(struct writer *w, const char *bytes, size_t n)
{
    if (w->len + n + 4 <= w->size) {
        memcpy(w->out + w->len, bytes, n);
        w->len += n;
    }
}

static void
put_text(struct writer *w, const char *text)
{
    put(w, text, strlen(text));
}

/* Bytes of the UTF-8 character at `at`, 0 when there is no valid one. */
static size_t
utf8_length(const unsigned char *at)
{
    size_t n = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;

    if (at[0] > 0xf4) {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) ||
        (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f)) {
        return 0;
    }
    return n;
}

/* A reader takes one line for one event: nothing in a text may look like another line. */
static void
put_escaped(struct writer *w, const char *text, bool is_json)
{
    const unsigned char *at = (const unsigned char *)text;

    while (*at != 0) {
        const size_t n = utf8_length(at);
        char escape[8];

        if (n == 0) {
            put_text(w, is_json ? "\\ufffd" : "?");
        } else if (*at < 0x20 || *at == 0x7f) {
            (void)snprintf(escape, sizeof escape, is_json ? "\\u%04x" : "\\x%02x", *at);
            put_text(w, *at == '\n' ? "\\n" : *at == '\t' ? "\\t" : escape);
        } else if (is_json && (*at == '"' || *at == '\\')) {
            put_text(w, *at == '"' ? "\\\"" : "\\\\");
        } else {
            put(w, (const char *)at, n);
        }
        at += n == 0 ? 1 : n;
    }
}

static const char *
level_text(uint8_t level)
{
    static const char *const texts[] = {"error", "warn", "info", "debug"};

    return level < HA_COUNT_OF(texts) ? texts[level] : "info";
}

size_t
log_format_line(
    const struct log_line *line, uint8_t format, const char *name, char *out, size_t size)
{
    struct writer w = {out, size, 0};
    const bool is_json = format == LOG_FORMAT_JSON;
    char head[160];
    char when[40];
    struct tm tm;

    REQUIRE(size >= sizeof head, "the head of a line fits");
    if (gmtime_r(&line->at.tv_sec, &tm) == NULL ||
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm) == 0) {
        when[0] = 0;
    }
    (void)snprintf(head,
                   sizeof head,
                   is_json ? "{\"ts\":\"%s.%03ldZ\",\"level\":\"%s\"" : "%s.%03ldZ %s",
                   when,
                   line->at.tv_nsec / 1000000,
                   level_text(line->level));
    put_text(&w, head);
    if (is_json) {
        put_text(&w, ",\"node\":\"");
        put_escaped(&w, name, true);
        put_text(&w, "\"");
    }
    (void)snprintf(head, sizeof head, is_json ? ",\"event\":\"%s\"" : " ev=%s", line->event);
    put_text(&w, head);
    if (line->rule != 0) {
        (void)snprintf(head, sizeof head, is_json ? ",\"rule\":%u" : " rule=%u", line->rule);
        put_text(&w, head);
    }
    put_text(&w, is_json ? ",\"msg\":\"" : " ");
    put_escaped(&w, line->text, is_json);
    memcpy(out + w.len, is_json ? "\"}\n" : "\n", is_json ? 3 : 1);
    return w.len + (is_json ? 3 : 1);
}
