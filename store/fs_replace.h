/*
 * fs_replace.h - puts a whole file in place of another, or leaves the old one.
 */
#ifndef HA_STORE_FS_REPLACE_H
#define HA_STORE_FS_REPLACE_H

#include "store/fs.h"

#define FS_PATH_MAX 512

/* Writes "DIR/NAME" to out[FS_PATH_MAX]. HA_ETOOBIG when it does not fit. */
int fs_path(char *out, const char *dir, const char *name, struct err *err) HA_MUST_CHECK;

struct fs_content {
    const char *name;
    const void *data;
    size_t len;
};

/*
 * Writes DIR/NAME.new, syncs it, renames it to DIR/NAME and syncs the directory. On failure
 * the new file is the old one or, from the rename on, the new one: whole in both cases.
 * *uncertain (may be NULL) says that the failure came so late.
 */
int fs_replace(struct fs *fs,
               const char *dir,
               const struct fs_content *content,
               bool *uncertain,
               struct err *err) HA_MUST_CHECK;

/* Removes what an interrupted fs_replace() left. No error when there is nothing. */
int
fs_replace_clean(struct fs *fs, const char *dir, const char *name, struct err *err) HA_MUST_CHECK;

#endif
