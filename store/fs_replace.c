#include "store/fs_replace.h"

#include <stdio.h>

#define SUFFIX ".new"

int
fs_path(char *out, const char *dir, const char *name, struct err *err)
{
    const int len = snprintf(out, FS_PATH_MAX, "%s/%s", dir, name);

    if (len < 0 || len >= FS_PATH_MAX) {
        return err_set(err, HA_ETOOBIG, "path too long: %.64s...", dir);
    }
    return HA_OK;
}

static int
temporary_path(char *out, const char *dir, const char *name, struct err *err)
{
    const int len = snprintf(out, FS_PATH_MAX, "%s/%s" SUFFIX, dir, name);

    if (len < 0 || len >= FS_PATH_MAX) {
        return err_set(err, HA_ETOOBIG, "path too long: %.64s...", dir);
    }
    return HA_OK;
}

static int
write_whole(struct fs *fs, const char *path, const struct fs_content *content, struct err *err)
{
    int file = -1;
    int rc = fs->open(fs, path, true, &file, err);

    if (rc != HA_OK) {
        return rc;
    }
    rc = fs->truncate(fs, file, 0, err);
    if (rc == HA_OK) {
        rc = fs->write_at(fs, file, 0, content->data, content->len, err);
    }
    if (rc == HA_OK) {
        rc = fs->sync(fs, file, err);
    }
    if (rc != HA_OK) {
        (void)err_prefix(err, "%s", path);
    }
    if (fs->close(fs, file) != HA_OK && rc == HA_OK) {
        rc = err_set(err, HA_EIO, "%s: close failed", path);
    }
    return rc;
}

int
fs_replace(struct fs *fs,
           const char *dir,
           const struct fs_content *content,
           bool *uncertain,
           struct err *err)
{
    char path[FS_PATH_MAX];
    char temporary[FS_PATH_MAX];
    int rc = fs_path(path, dir, content->name, err);

    if (uncertain != NULL) {
        *uncertain = false;
    }
    if (rc == HA_OK) {
        rc = temporary_path(temporary, dir, content->name, err);
    }
    if (rc != HA_OK) {
        return rc;
    }
    rc = write_whole(fs, temporary, content, err);
    if (rc != HA_OK) {
        (void)fs->unlink(fs, temporary, NULL); /* gives the space of a full disk back */
        return rc;
    }
    if (uncertain != NULL) {
        *uncertain = true;
    }
    rc = fs->rename(fs, temporary, path, err);
    if (rc == HA_OK) {
        rc = fs->sync_dir(fs, dir, err);
    }
    if (rc == HA_OK && uncertain != NULL) {
        *uncertain = false;
    }
    return rc;
}

int
fs_replace_clean(struct fs *fs, const char *dir, const char *name, struct err *err)
{
    char temporary[FS_PATH_MAX];
    int rc = temporary_path(temporary, dir, name, err);

    if (rc == HA_OK) {
        rc = fs->unlink(fs, temporary, err);
    }
    return rc == HA_ENOTFOUND ? HA_OK : rc;
}
