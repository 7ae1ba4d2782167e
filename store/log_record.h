/*
 * log_record.h - the bytes of the log file, and the one walk over them. Private to log*.c.
 *
 * File:   a header of 32 bytes, then records. Everything is a multiple of 8 bytes.
 * Record: a header of 48 bytes with a CRC of its own; of an entry, also the padded data.
 *         A *seal* is a record without data: all before it was synced when it was written.
 *
 * What is a torn tail? Appends go behind the synced end of the file and a seal follows each sync,
 * so a crash can only have torn what follows the last seal: the entries of ONE append, of which
 * the disk may have kept any part, and the seal behind them. Hence, where a record is incomplete
 * or fails a CRC:
 *
 *   1. A seal or an entry of a later append stands behind it: this place had been synced. Damage.
 *   2. Nothing but pieces of the same append, or rubbish, stands behind it: a torn tail, cut off.
 *
 * A record whose CRCs hold and which says the wrong thing (index, term, kind, length) was never
 * torn: damage. So is a bad header of the file, which is only ever written by a rename.
 *
 * What this cannot see: damage to the entries of the last append, or to the seal before them, when
 * the seal behind them is missing, too, that is after a loss of power within the kernel's
 * write-back time behind an append; and a file that somebody cut off at its end. Both look like a
 * torn tail, and are noted as one.
 *
 * It assumes that writing behind the end of a sector's old bytes does not harm these.
 */
#ifndef HA_STORE_LOG_RECORD_H
#define HA_STORE_LOG_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define LOG_FILE_HEADER_BYTES 32
#define LOG_RECORD_HEADER_BYTES 48

struct log_file_header {
    uint64_t first_index;
    uint64_t term_before; /* of the entry before the first, 0 before entry 1 */
};

struct log_record {
    bool is_seal;
    uint16_t type;
    uint32_t len;
    uint32_t data_crc; /* over the data with their padding */
    uint64_t index;    /* of the entry; of a seal: the next one */
    uint64_t batch;    /* first index of the append that it came with */
    uint64_t term;
};

/* Where an entry stands in the file. */
struct log_mark {
    uint64_t offset;
    uint64_t term;
};

struct log_marks {
    uint64_t first_index;
    uint64_t term_before;
    size_t n;
    size_t capacity;
    struct log_mark *at;
};

/* What a walk found. */
struct log_walk {
    uint64_t end;         /* behind the last good record */
    bool is_sealed;       /* that record is a seal */
    bool is_torn;         /* bytes of an unfinished write stand behind it */
    uint64_t last_run;    /* where the last append begins, with the seal before it */
    uint64_t entries_end; /* behind the last entry, before a seal there */
};

static inline uint64_t
log_padded(uint64_t len)
{
    return (len + 7) & ~(uint64_t)7;
}

void log_file_header_encode(const struct log_file_header *header, uint8_t *out);
void log_record_encode(const struct log_record *record, uint8_t *out);

/* False when the bytes are not all there or fail their CRC. */
bool log_record_decode(struct log_record *record, const uint8_t *bytes, uint64_t left);

/*
 * Walks the file. *marks is filled anew and the caller's to free, also on failure. HA_ECORRUPT
 * names `path` and the offset.
 */
int log_walk(const char *path,
             const uint8_t *bytes,
             size_t len,
             struct log_marks *marks,
             struct log_walk *found,
             struct err *err) HA_MUST_CHECK;

/* Makes room for n more marks. */
int log_marks_reserve(struct log_marks *marks, size_t n, struct err *err) HA_MUST_CHECK;
void log_marks_fini(struct log_marks *marks);

#endif
