#include "tests/lib/fs_mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/fs_mem_node.h"

#define PATH_MAX_BYTES 512
#define FILES_MAX 64
#define NAMES_MAX 96
#define PENDING_NAMES_MAX 32
#define NO_FILE (-1)

struct name {
    char path[PATH_MAX_BYTES];
    int node;
};

struct names {
    struct name *at; /* NAMES_MAX of them */
    size_t n;
};

/* A change of names that is not durable yet: `from` goes (if any), `to` means `node` (if any). */
struct name_change {
    char from[PATH_MAX_BYTES];
    char to[PATH_MAX_BYTES];
    int node;
};

struct fs_mem {
    struct fs table;
    uint64_t random;
    struct node nodes[NAMES_MAX];
    struct names now;
    struct names disk;
    struct name_change *name_changes;
    size_t n_name_changes;
    int files[FILES_MAX]; /* node, or NO_FILE */
    uint64_t capacity;
    uint64_t operations;
    uint64_t fail_at;
    uint64_t fail_n;
    int fail_code;
    uint64_t off_at;
    bool is_off;
};

static int
names_find(const struct names *names, const char *path)
{
    for (size_t i = 0; i < names->n; i++) {
        if (strcmp(names->at[i].path, path) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static void
names_drop(struct names *names, const char *path)
{
    const int i = names_find(names, path);

    if (i >= 0) {
        names->at[i] = names->at[--names->n];
    }
}

static void
names_apply(struct names *names, const struct name_change *change)
{
    if (change->from[0] != '\0') {
        names_drop(names, change->from);
    }
    if (change->to[0] != '\0') {
        names_drop(names, change->to);
        REQUIRE(names->n < NAMES_MAX, "a test has few files");
        memcpy(names->at[names->n].path, change->to, PATH_MAX_BYTES);
        names->at[names->n++].node = change->node;
    }
}

static void
name_change_add(struct fs_mem *disk, const char *from, const char *to, int node)
{
    struct name_change *change;

    if (disk->n_name_changes == PENDING_NAMES_MAX) {
        /* A kernel, too, writes back what nobody syncs. */
        names_apply(&disk->disk, &disk->name_changes[0]);
        disk->n_name_changes--;
        memmove(disk->name_changes,
                disk->name_changes + 1,
                disk->n_name_changes * sizeof *disk->name_changes);
    }
    disk->name_changes =
        must_realloc(disk->name_changes, (disk->n_name_changes + 1) * sizeof *disk->name_changes);
    change = &disk->name_changes[disk->n_name_changes++];
    memset(change, 0, sizeof *change);
    (void)snprintf(change->from, sizeof change->from, "%s", from);
    (void)snprintf(change->to, sizeof change->to, "%s", to);
    change->node = node;
    names_apply(&disk->now, change);
}

static bool
node_is_visible(const struct fs_mem *disk, int node)
{
    for (size_t i = 0; i < disk->now.n; i++) {
        if (disk->now.at[i].node == node) {
            return true;
        }
    }
    for (size_t i = 0; i < FILES_MAX; i++) {
        if (disk->files[i] == node) {
            return true;
        }
    }
    return false;
}

static bool
node_is_needed(const struct fs_mem *disk, int node)
{
    for (size_t i = 0; i < disk->disk.n; i++) {
        if (disk->disk.at[i].node == node) {
            return true;
        }
    }
    for (size_t i = 0; i < disk->n_name_changes; i++) {
        if (disk->name_changes[i].node == node) {
            return true;
        }
    }
    return node_is_visible(disk, node);
}

static int
node_new(struct fs_mem *disk)
{
    for (int i = 0; i < NAMES_MAX; i++) {
        if (disk->nodes[i].is_used && !node_is_needed(disk, i)) {
            node_free(&disk->nodes[i]);
        }
        if (!disk->nodes[i].is_used) {
            disk->nodes[i].is_used = true;
            return i;
        }
    }
    REQUIRE(false, "a test has few files");
    return NO_FILE;
}

static uint64_t
space_left(const struct fs_mem *disk)
{
    uint64_t used = 0;

    for (int i = 0; i < NAMES_MAX; i++) {
        if (disk->nodes[i].is_used && node_is_visible(disk, i)) {
            used += disk->nodes[i].now.len;
        }
    }
    return used < disk->capacity ? disk->capacity - used : 0;
}

/* Counts an operation. HA_OK: go on; *is_last says that the power goes behind its effect. */
static int
begin(struct fs_mem *disk, bool *is_last, struct err *err)
{
    *is_last = false;
    if (disk->is_off) {
        return err_set(err, HA_EIO, "the power is off");
    }
    disk->operations++;
    if (disk->operations == disk->off_at) {
        disk->is_off = true;
        *is_last = true;
        return HA_OK;
    }
    if (disk->operations >= disk->fail_at && disk->operations - disk->fail_at < disk->fail_n) {
        return err_set(err, disk->fail_code, "the disk says: %s", err_code_text(disk->fail_code));
    }
    return HA_OK;
}

static int
end(bool is_last, struct err *err)
{
    return is_last ? err_set(err, HA_EIO, "the power went") : HA_OK;
}

static struct node *
file_node(struct fs_mem *disk, int file)
{
    REQUIRE(file >= 0 && file < FILES_MAX && disk->files[file] != NO_FILE, "the file is open");
    return &disk->nodes[disk->files[file]];
}

static int
mem_read_all(struct fs *fs, const char *path, void **data, size_t *len, struct err *err)
{
    struct fs_mem *const disk = fs->impl;
    bool is_last;
    int rc = begin(disk, &is_last, err);
    const int i = names_find(&disk->now, path);

    if (rc == HA_OK) {
        rc = end(is_last, err);
    }
    if (rc != HA_OK) {
        return rc;
    }
    if (i < 0) {
        return err_set(err, HA_ENOTFOUND, "%s: not found", path);
    }
    *len = disk->nodes[disk->now.at[i].node].now.len;
    *data = must_realloc(NULL, *len);
    if (*len > 0) {
        memcpy(*data, disk->nodes[disk->now.at[i].node].now.at, *len);
    }
    return HA_OK;
}

static int
mem_open(struct fs *fs, const char *path, bool create, int *file, struct err *err)
{
    struct fs_mem *const disk = fs->impl;
    int i = names_find(&disk->now, path);
    bool is_last;
    int rc = begin(disk, &is_last, err);

    if (rc != HA_OK) {
        return rc;
    }
    if (i < 0 && !create) {
        rc = end(is_last, err);
        return rc != HA_OK ? rc : err_set(err, HA_ENOTFOUND, "%s: not found", path);
    }
    REQUIRE(strlen(path) < PATH_MAX_BYTES, "a test has short paths");
    if (i < 0) {
        name_change_add(disk, "", path, node_new(disk));
        i = names_find(&disk->now, path);
    }
    rc = end(is_last, err);
    for (int f = 0; rc == HA_OK && f < FILES_MAX; f++) {
        if (disk->files[f] == NO_FILE) {
            disk->files[f] = disk->now.at[i].node;
            *file = f;
            return HA_OK;
        }
    }
    REQUIRE(rc != HA_OK, "no file is left open");
    return rc;
}

static int
mem_write_at(
    struct fs *fs, int file, uint64_t offset, const void *data, size_t len, struct err *err)
{
    struct fs_mem *const disk = fs->impl;
    bool is_last;
    int rc = begin(disk, &is_last, err);
    struct node *node;
    uint64_t grows;
    uint64_t left;

    if (disk->is_off && !is_last) {
        return rc;
    }
    node = file_node(disk, file);
    if (rc != HA_OK) {
        node_write(node, offset, data, fs_mem_draw_part(&disk->random, len));
        return rc;
    }
    grows = offset + len > node->now.len ? offset + len - node->now.len : 0;
    left = space_left(disk);
    if (grows > left) {
        const uint64_t short_of = grows - left;

        node_write(node, offset, data, short_of < len ? len - (size_t)short_of : 0);
        rc = end(is_last, err);
        return rc != HA_OK ? rc : err_set(err, HA_ENOSPC, "no space left on the disk");
    }
    node_write(node, offset, data, len);
    return end(is_last, err);
}

static int
mem_sync(struct fs *fs, int file, struct err *err)
{
    struct fs_mem *const disk = fs->impl;
    bool is_last;
    int rc = begin(disk, &is_last, err);
    struct node *node;

    if (disk->is_off) {
        return rc != HA_OK ? rc : end(is_last, err);
    }
    node = file_node(disk, file);
    if (rc != HA_OK) {
        node_fail_sync(&disk->random, node);
        return rc;
    }
    node_sync(node);
    return HA_OK;
}

static int
mem_truncate(struct fs *fs, int file, uint64_t len, struct err *err)
{
    struct fs_mem *const disk = fs->impl;
    bool is_last;
    const int rc = begin(disk, &is_last, err);

    if (rc != HA_OK) {
        return rc;
    }
    node_truncate(file_node(disk, file), len);
    return end(is_last, err);
}

static int
mem_close(struct fs *fs, int file)
{
    struct fs_mem *const disk = fs->impl;

    (void)file_node(disk, file);
    disk->files[file] = NO_FILE;
    return HA_OK;
}

static int
mem_rename(struct fs *fs, const char *from, const char *to, struct err *err)
{
    struct fs_mem *const disk = fs->impl;
    const int i = names_find(&disk->now, from);
    bool is_last;
    const int rc = begin(disk, &is_last, err);

    if (rc != HA_OK) {
        return rc;
    }
    if (i < 0) {
        return err_set(err, HA_ENOTFOUND, "%s: not found", from);
    }
    name_change_add(disk, from, to, disk->now.at[i].node);
    return end(is_last, err);
}

static int
mem_unlink(struct fs *fs, const char *path, struct err *err)
{
    struct fs_mem *const disk = fs->impl;
    bool is_last;
    int rc = begin(disk, &is_last, err);

    if (rc != HA_OK) {
        return rc;
    }
    if (names_find(&disk->now, path) < 0) {
        rc = end(is_last, err);
        return rc != HA_OK ? rc : err_set(err, HA_ENOTFOUND, "%s: not found", path);
    }
    name_change_add(disk, path, "", NO_FILE);
    return end(is_last, err);
}

static bool
is_in_dir(const char *path, const char *dir)
{
    const size_t len = strlen(dir);

    return strncmp(path, dir, len) == 0 && path[len] == '/' && strchr(path + len + 1, '/') == NULL;
}

static int
mem_sync_dir(struct fs *fs, const char *path, struct err *err)
{
    struct fs_mem *const disk = fs->impl;
    bool is_last;
    const int rc = begin(disk, &is_last, err);
    size_t left = 0;

    if (rc != HA_OK || is_last) {
        return rc != HA_OK ? rc : end(is_last, err);
    }
    for (size_t i = 0; i < disk->n_name_changes; i++) {
        const struct name_change *const change = &disk->name_changes[i];

        if (is_in_dir(change->to[0] != '\0' ? change->to : change->from, path)) {
            names_apply(&disk->disk, change);
        } else {
            disk->name_changes[left++] = *change;
        }
    }
    disk->n_name_changes = left;
    return HA_OK;
}

struct fs_mem *
fs_mem_new(uint64_t seed)
{
    struct fs_mem *const disk = must_realloc(NULL, sizeof *disk);

    memset(disk, 0, sizeof *disk);
    disk->random = seed;
    disk->capacity = UINT64_MAX;
    disk->fail_at = UINT64_MAX;
    disk->now.at = must_realloc(NULL, NAMES_MAX * sizeof *disk->now.at);
    disk->disk.at = must_realloc(NULL, NAMES_MAX * sizeof *disk->disk.at);
    for (size_t i = 0; i < FILES_MAX; i++) {
        disk->files[i] = NO_FILE;
    }
    disk->table = (struct fs){
        .impl = disk,
        .read_all = mem_read_all,
        .open = mem_open,
        .write_at = mem_write_at,
        .sync = mem_sync,
        .truncate = mem_truncate,
        .close = mem_close,
        .rename = mem_rename,
        .unlink = mem_unlink,
        .sync_dir = mem_sync_dir,
    };
    return disk;
}

void
fs_mem_free(struct fs_mem *disk)
{
    for (size_t i = 0; i < NAMES_MAX; i++) {
        node_free(&disk->nodes[i]);
    }
    free(disk->name_changes);
    free(disk->now.at);
    free(disk->disk.at);
    free(disk);
}

struct fs_mem *
fs_mem_copy(const struct fs_mem *disk, uint64_t seed)
{
    struct fs_mem *const copy = fs_mem_new(seed);

    for (size_t i = 0; i < disk->now.n; i++) {
        const int node = node_new(copy);

        bytes_assign(&copy->nodes[node].now, &disk->nodes[disk->now.at[i].node].now);
        bytes_assign(&copy->nodes[node].disk, &copy->nodes[node].now);
        name_change_add(copy, "", disk->now.at[i].path, node);
        names_apply(&copy->disk, &copy->name_changes[0]);
        copy->n_name_changes = 0;
    }
    return copy;
}

struct fs *
fs_mem_fs(struct fs_mem *disk)
{
    return &disk->table;
}

uint64_t
fs_mem_operations(const struct fs_mem *disk)
{
    return disk->operations;
}

void
fs_mem_set_capacity(struct fs_mem *disk, uint64_t bytes)
{
    disk->capacity = bytes;
}

void
fs_mem_fail_at(struct fs_mem *disk, uint64_t k, uint64_t n, int code)
{
    disk->fail_at = k == 0 ? UINT64_MAX : disk->operations + k;
    disk->fail_n = n;
    disk->fail_code = code;
}

void
fs_mem_power_off_at(struct fs_mem *disk, uint64_t k)
{
    disk->off_at = k == 0 ? 0 : disk->operations + k;
}

bool
fs_mem_is_off(const struct fs_mem *disk)
{
    return disk->is_off;
}

void
fs_mem_restart(struct fs_mem *disk, enum fs_mem_loss loss)
{
    size_t n_names = 0;

    disk->is_off = false;
    disk->off_at = 0;
    disk->fail_at = UINT64_MAX;
    for (size_t i = 0; i < FILES_MAX; i++) {
        disk->files[i] = NO_FILE;
    }
    if (loss == FS_MEM_ALL_STAY) {
        return;
    }
    for (size_t i = 0; i < NAMES_MAX; i++) {
        node_lose(&disk->random, &disk->nodes[i], loss);
    }
    if (loss == FS_MEM_KEEP_ALL) {
        n_names = disk->n_name_changes;
    } else if (loss != FS_MEM_LOSE_ALL) {
        n_names = fs_mem_draw_to(&disk->random, disk->n_name_changes);
    }
    for (size_t i = 0; i < n_names; i++) {
        names_apply(&disk->disk, &disk->name_changes[i]);
    }
    disk->n_name_changes = 0;
    memcpy(disk->now.at, disk->disk.at, disk->disk.n * sizeof *disk->now.at);
    disk->now.n = disk->disk.n;
}

size_t
fs_mem_open_files(const struct fs_mem *disk)
{
    size_t n = 0;

    for (size_t i = 0; i < FILES_MAX; i++) {
        n += disk->files[i] != NO_FILE;
    }
    return n;
}

const uint8_t *
fs_mem_bytes(const struct fs_mem *disk, const char *path, size_t *len)
{
    const int i = names_find(&disk->now, path);

    if (i < 0) {
        return NULL;
    }
    *len = disk->nodes[disk->now.at[i].node].now.len;
    return disk->nodes[disk->now.at[i].node].now.at;
}

static struct node *
named_node(struct fs_mem *disk, const char *path)
{
    const int i = names_find(&disk->now, path);

    REQUIRE(i >= 0, "the file exists");
    return &disk->nodes[disk->now.at[i].node];
}

void
fs_mem_flip(struct fs_mem *disk, const char *path, uint64_t bit)
{
    struct node *const node = named_node(disk, path);

    REQUIRE(bit / 8 < node->now.len, "the bit is in the file");
    node->now.at[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    if (bit / 8 < node->disk.len) {
        node->disk.at[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
}

void
fs_mem_cut(struct fs_mem *disk, const char *path, size_t len)
{
    struct node *const node = named_node(disk, path);

    bytes_resize(&node->now, len);
    bytes_assign(&node->disk, &node->now);
    changes_clear(node);
}

void
fs_mem_put(struct fs_mem *disk, const char *path, const void *data, size_t len)
{
    struct node *const node = named_node(disk, path);

    fs_mem_cut(disk, path, 0);
    bytes_write(&node->now, 0, data, len);
    bytes_assign(&node->disk, &node->now);
}

void
fs_mem_remove(struct fs_mem *disk, const char *path)
{
    names_drop(&disk->now, path);
    names_drop(&disk->disk, path);
}
