/*
 * codec.h - bounded little-endian reading and writing.
 *
 * Everything that crosses a disk or a network goes through these two structs.
 * They never read or write past the end: an overrun sets `failed`, and every
 * later call is a no-op that yields zero. So a decoder reads all its fields and
 * asks once, at the end, whether all of it was there.
 *
 * Memory: both borrow the caller's buffer. Nothing is allocated.
 */
#ifndef HA_BASE_CODEC_H
#define HA_BASE_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct codec_reader {
    const uint8_t *at;
    size_t left;
    bool failed;
};

struct codec_writer {
    uint8_t *base;
    size_t size;
    size_t len; /* bytes written so far */
    bool failed;
};

void codec_reader_init(struct codec_reader *r, const void *base, size_t len);
uint8_t codec_get_u8(struct codec_reader *r);
uint16_t codec_get_u16(struct codec_reader *r);
uint32_t codec_get_u32(struct codec_reader *r);
uint64_t codec_get_u64(struct codec_reader *r);
int64_t codec_get_i64(struct codec_reader *r);
/* Fails on any byte but 0 and 1. */
bool codec_get_bool(struct codec_reader *r);
/* Copies `len` bytes; zeroes `out` when they are not there. */
void codec_get_bytes(struct codec_reader *r, void *out, size_t len);
/* A u16 length and that many bytes, none NUL; `out` gets a NUL. Fails when `size` is too small. */
void codec_get_text(struct codec_reader *r, char *out, size_t size);
/* True when nothing failed and nothing is left over. */
bool codec_reader_is_done(const struct codec_reader *r);

void codec_writer_init(struct codec_writer *w, void *base, size_t size);
void codec_put_u8(struct codec_writer *w, uint8_t v);
void codec_put_u16(struct codec_writer *w, uint16_t v);
void codec_put_u32(struct codec_writer *w, uint32_t v);
void codec_put_u64(struct codec_writer *w, uint64_t v);
void codec_put_i64(struct codec_writer *w, int64_t v);
void codec_put_bool(struct codec_writer *w, bool v);
void codec_put_bytes(struct codec_writer *w, const void *from, size_t len);
/* A NUL-terminated text as u16 length and bytes. */
void codec_put_text(struct codec_writer *w, const char *text);
/* Zero bytes up to the next multiple of `to`. */
void codec_put_padding(struct codec_writer *w, size_t to);

#endif
