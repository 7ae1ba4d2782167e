#include "base/codec.h"

#include <string.h>

void
codec_reader_init(struct codec_reader *r, const void *base, size_t len)
{
    r->at = base;
    r->left = len;
    r->failed = false;
}

static uint64_t
get_le(struct codec_reader *r, size_t width)
{
    uint64_t v = 0;

    if (r->failed || r->left < width) {
        r->failed = true;
        return 0;
    }
    for (size_t i = 0; i < width; i++) {
        v |= (uint64_t)r->at[i] << (8 * i);
    }
    r->at += width;
    r->left -= width;
    return v;
}

uint8_t
codec_get_u8(struct codec_reader *r)
{
    return (uint8_t)get_le(r, 1);
}

uint16_t
codec_get_u16(struct codec_reader *r)
{
    return (uint16_t)get_le(r, 2);
}

uint32_t
codec_get_u32(struct codec_reader *r)
{
    return (uint32_t)get_le(r, 4);
}

uint64_t
codec_get_u64(struct codec_reader *r)
{
    return get_le(r, 8);
}

int64_t
codec_get_i64(struct codec_reader *r)
{
    return (int64_t)get_le(r, 8);
}

bool
codec_get_bool(struct codec_reader *r)
{
    const uint8_t v = codec_get_u8(r);

    if (v > 1) {
        r->failed = true;
    }
    return v == 1;
}

void
codec_get_bytes(struct codec_reader *r, void *out, size_t len)
{
    if (r->failed || r->left < len) {
        r->failed = true;
        memset(out, 0, len);
        return;
    }
    memcpy(out, r->at, len);
    r->at += len;
    r->left -= len;
}

void
codec_get_text(struct codec_reader *r, char *out, size_t size)
{
    const size_t len = codec_get_u16(r);

    memset(out, 0, size);
    if (r->failed || len >= size || len > r->left || memchr(r->at, 0, len) != NULL) {
        r->failed = true;
        return;
    }
    codec_get_bytes(r, out, len);
}

bool
codec_reader_is_done(const struct codec_reader *r)
{
    return !r->failed && r->left == 0;
}

void
codec_writer_init(struct codec_writer *w, void *base, size_t size)
{
    w->base = base;
    w->size = size;
    w->len = 0;
    w->failed = false;
}

static void
put_le(struct codec_writer *w, uint64_t v, size_t width)
{
    if (w->failed || w->size - w->len < width) {
        w->failed = true;
        return;
    }
    for (size_t i = 0; i < width; i++) {
        w->base[w->len + i] = (uint8_t)(v >> (8 * i));
    }
    w->len += width;
}

void
codec_put_u8(struct codec_writer *w, uint8_t v)
{
    put_le(w, v, 1);
}

void
codec_put_u16(struct codec_writer *w, uint16_t v)
{
    put_le(w, v, 2);
}

void
codec_put_u32(struct codec_writer *w, uint32_t v)
{
    put_le(w, v, 4);
}

void
codec_put_u64(struct codec_writer *w, uint64_t v)
{
    put_le(w, v, 8);
}

void
codec_put_i64(struct codec_writer *w, int64_t v)
{
    put_le(w, (uint64_t)v, 8);
}

void
codec_put_bool(struct codec_writer *w, bool v)
{
    put_le(w, v ? 1 : 0, 1);
}

void
codec_put_bytes(struct codec_writer *w, const void *from, size_t len)
{
    if (w->failed || w->size - w->len < len) {
        w->failed = true;
        return;
    }
    if (len > 0) {
        memcpy(w->base + w->len, from, len);
    }
    w->len += len;
}

void
codec_put_text(struct codec_writer *w, const char *text)
{
    const size_t len = strlen(text);

    if (len > UINT16_MAX) {
        w->failed = true;
        return;
    }
    codec_put_u16(w, (uint16_t)len);
    codec_put_bytes(w, text, len);
}

void
codec_put_padding(struct codec_writer *w, size_t to)
{
    while (!w->failed && w->len % to != 0) {
        codec_put_u8(w, 0);
    }
}
