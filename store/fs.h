/*
 * fs.h - the few file operations that the durable files need, as a table.
 *
 * The agent uses fs_posix(). Tests and the simulator bring a disk of their
 * own, which can be full, fail, and lose what was not synced.
 *
 * Errors: HA_ENOSPC, HA_EIO, HA_ENOTFOUND, HA_EEXIST. All calls block.
 */
#ifndef HA_STORE_FS_H
#define HA_STORE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct fs {
    void *impl;
    /* Reads a whole file; *data is malloc'ed and the caller's. */
    int (*read_all)(struct fs *fs, const char *path, void **data, size_t *len, struct err *err);
    /* Opens for writing at an offset, creating it if `create`. *file >= 0. */
    int (*open)(struct fs *fs, const char *path, bool create, int *file, struct err *err);
    int (*write_at)(
        struct fs *fs, int file, uint64_t offset, const void *data, size_t len, struct err *err);
    int (*sync)(struct fs *fs, int file, struct err *err); /* fdatasync */
    int (*truncate)(struct fs *fs, int file, uint64_t len, struct err *err);
    int (*close)(struct fs *fs, int file);
    int (*rename)(struct fs *fs, const char *from, const char *to, struct err *err);
    int (*unlink)(struct fs *fs, const char *path, struct err *err);
    int (*sync_dir)(struct fs *fs, const char *path, struct err *err);
};

/* The real file system. Static; never freed. */
struct fs *fs_posix(void);

#endif
