/*
 * slots.h - one small record in two checksummed slots of one file.
 *
 * Both slots hold the newest record, except while it changes. Record n lives
 * in slot n % 2, where it is written and synced before the save returns; then
 * the other slot gets a copy, not synced. So at any moment one slot is whole
 * and on disk, whatever a crash does to the other one, and a single damaged
 * slot costs nothing: the copy answers. Only a loss of power within the kernel's
 * write-back time after a save, and damage to that same slot, together bring
 * the record before back.
 *
 * The file has its full size from its creation, and each slot a page of its
 * own: a save needs no space.
 */
#ifndef HA_STORE_SLOTS_H
#define HA_STORE_SLOTS_H

#include "store/fs.h"

#define SLOTS_RECORD_BYTES_MAX 2048
#define SLOTS_SLOT_BYTES 4096

/* Set fs, dir, name and magic; the rest starts as zero. */
struct slots {
    struct fs *fs;
    const char *dir;
    const char *name;
    const char *magic; /* 8 characters: kind and version of the record */

    bool is_known;     /* the fields below say what the file holds */
    uint64_t sequence; /* of the newest record */
    size_t len;
    uint8_t bytes[SLOTS_RECORD_BYTES_MAX];
};

/*
 * Reads the newest record, and writes and syncs it once more: what a dying process had written but
 * not synced must not be acted on and then lost. HA_ENOTFOUND without a file, HA_ECORRUPT when no
 * slot is whole, HA_EVERSION when the record is of another kind.
 */
int slots_load(struct slots *slots, struct err *err) HA_MUST_CHECK;

/* Makes this the newest record, durably; creates the file. On failure the one before is there. */
int slots_save(struct slots *slots, const void *bytes, size_t len, struct err *err) HA_MUST_CHECK;

#endif
