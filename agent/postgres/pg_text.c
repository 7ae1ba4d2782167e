#include "agent/postgres/pg_text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool
text_reserve(struct pg_text *text, size_t more)
{
    size_t size = text->size == 0 ? 256 : text->size;
    char *data;

    if (text->has_failed) {
        return false;
    }
    while (size - text->len <= more) {
        size *= 2;
    }
    if (size == text->size) {
        return true;
    }
    data = realloc(text->data, size);
    if (data == NULL) {
        text->has_failed = true;
        return false;
    }
    text->data = data;
    text->size = size;
    return true;
}

void
pg_text_add_bytes(struct pg_text *text, const char *bytes, size_t len)
{
    if (text_reserve(text, len)) {
        memcpy(text->data + text->len, bytes, len);
        text->len += len;
        text->data[text->len] = '\0';
    }
}

void
pg_text_add(struct pg_text *text, const char *fmt, ...)
{
    va_list args;
    int len;

    va_start(args, fmt);
    len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (len < 0 || !text_reserve(text, (size_t)len)) {
        text->has_failed = true;
        return;
    }
    va_start(args, fmt);
    (void)vsnprintf(text->data + text->len, (size_t)len + 1, fmt, args);
    va_end(args);
    text->len += (size_t)len;
}

void
pg_text_free(struct pg_text *text)
{
    if (text->data != NULL) {
        explicit_bzero(text->data, text->size); /* it may have held a password */
    }
    free(text->data);
    memset(text, 0, sizeof *text);
}

/* `value` between quotes; characters of `special` get `escape` before them. */
static void
add_quoted(struct pg_text *text, const char *value, const char *special, char escape)
{
    for (; *value != '\0'; value++) {
        if (strchr(special, *value) != NULL) {
            pg_text_add_bytes(text, escape == '\0' ? value : &escape, 1);
        }
        pg_text_add_bytes(text, value, 1);
    }
}

void
pg_text_add_conf(struct pg_text *text, const char *value)
{
    pg_text_add_bytes(text, "'", 1);
    add_quoted(text, value, "'\\", '\0');
    pg_text_add_bytes(text, "'", 1);
}

void
pg_text_add_literal(struct pg_text *text, const char *value)
{
    pg_text_add_bytes(text, "E'", 2);
    add_quoted(text, value, "'\\", '\0');
    pg_text_add_bytes(text, "'", 1);
}

void
pg_text_add_name(struct pg_text *text, const char *name)
{
    pg_text_add_bytes(text, "\"", 1);
    add_quoted(text, name, "\"", '\0');
    pg_text_add_bytes(text, "\"", 1);
}

void
pg_text_add_conninfo(struct pg_text *text, const char *value)
{
    pg_text_add_bytes(text, "'", 1);
    add_quoted(text, value, "'\\", '\\');
    pg_text_add_bytes(text, "'", 1);
}

void
pg_text_add_passfile(struct pg_text *text, const char *value)
{
    add_quoted(text, value, ":\\", '\\');
}
