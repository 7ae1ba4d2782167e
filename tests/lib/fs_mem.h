/*
 * fs_mem.h - a disk in memory that forgets, fills up and fails as disks do.
 *
 * A write is visible at once and durable only after sync() of its file; a
 * created, renamed or removed name only after sync_dir() of its directory. A loss
 * of power keeps, of what was not durable, nothing, all, or a part that the seed
 * chooses. A failed sync behaves as on Linux: the data stay visible, and no later
 * sync writes them; only lengths, which a journal keeps, are tried again.
 *
 * Deterministic: the same calls on a disk of the same seed give the same bytes.
 * Directories exist by themselves. One thread.
 */
#ifndef HA_TESTS_LIB_FS_MEM_H
#define HA_TESTS_LIB_FS_MEM_H

#include "store/fs.h"

/* What becomes of the writes that were not durable. */
enum fs_mem_loss {
    FS_MEM_ALL_STAY, /* the process died, the machine did not: still visible, still not durable */
    FS_MEM_LOSE_ALL, /* and all of these: the power went */
    FS_MEM_KEEP_ALL,
    FS_MEM_KEEP_PREFIX,  /* the first few of each file, the last of them torn at any byte */
    FS_MEM_KEEP_SECTORS, /* any sectors of 512 bytes, the others old or zero */
    FS_MEM_LOSS_COUNT,
};

struct fs_mem;

struct fs_mem *fs_mem_new(uint64_t seed);
void fs_mem_free(struct fs_mem *disk);
/* Another disk with the same content, nothing armed, no file open, all of it durable. */
struct fs_mem *fs_mem_copy(const struct fs_mem *disk, uint64_t seed);

/* The table to hand to the code under test; it lives as long as the disk. */
struct fs *fs_mem_fs(struct fs_mem *disk);

/* Operations so far: every call but close(). */
uint64_t fs_mem_operations(const struct fs_mem *disk);

/* The files together hold at most this many bytes; a write beyond is done as far as it fits. */
void fs_mem_set_capacity(struct fs_mem *disk, uint64_t bytes);

/* n operations from the k-th from now on (1 = the next) fail with `code`; k = 0 disarms. */
void fs_mem_fail_at(struct fs_mem *disk, uint64_t k, uint64_t n, int code);

/*
 * The power goes in the k-th operation from now: it and all after it return HA_EIO, and whether
 * its effect survives is for fs_mem_restart(). 0 disarms.
 */
void fs_mem_power_off_at(struct fs_mem *disk, uint64_t k);
bool fs_mem_is_off(const struct fs_mem *disk);

/*
 * Loses what `loss` says, disarms, and gives power again. The process is dead: its files are
 * closed, so free what it had (log_close()) before.
 */
void fs_mem_restart(struct fs_mem *disk, enum fs_mem_loss loss);

size_t fs_mem_open_files(const struct fs_mem *disk);

/* The visible bytes of a file, or NULL; valid until the next change of the file. */
const uint8_t *fs_mem_bytes(const struct fs_mem *disk, const char *path, size_t *len);

/* Behind the back of the code under test, durable at once. The file must exist. */
void fs_mem_put(struct fs_mem *disk, const char *path, const void *data, size_t len);
void fs_mem_flip(struct fs_mem *disk, const char *path, uint64_t bit);
void fs_mem_cut(struct fs_mem *disk, const char *path, size_t len);
void fs_mem_remove(struct fs_mem *disk, const char *path);

#endif
