#include "tests/lib/fs_mem_node.h"

#include <stdlib.h>
#include <string.h>

#define SECTOR_BYTES 512

void *
must_realloc(void *memory, size_t size)
{
    void *const grown = realloc(memory, size > 0 ? size : 1);

    REQUIRE(grown != NULL, "a test has memory");
    return grown;
}

/* splitmix64 */
uint64_t
fs_mem_draw(uint64_t *random)
{
    uint64_t z = *random += 0x9e3779b97f4a7c15ULL;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

/* 0 .. limit, both included. */
size_t
fs_mem_draw_to(uint64_t *random, size_t limit)
{
    return (size_t)(fs_mem_draw(random) % ((uint64_t)limit + 1));
}

size_t
fs_mem_draw_part(uint64_t *random, size_t len)
{
    const size_t kind = fs_mem_draw_to(random, 3);

    if (kind < 2) {
        return kind == 0 ? 0 : len;
    }
    return fs_mem_draw_to(random, len);
}

void
bytes_resize(struct bytes *b, size_t len)
{
    if (len > b->len) {
        b->at = must_realloc(b->at, len);
        memset(b->at + b->len, 0, len - b->len);
    }
    b->len = len;
}

void
bytes_write(struct bytes *b, uint64_t offset, const void *data, size_t len)
{
    if (len == 0) {
        return;
    }
    if (offset + len > b->len) {
        bytes_resize(b, (size_t)offset + len);
    }
    memcpy(b->at + offset, data, len);
}

void
bytes_assign(struct bytes *to, const struct bytes *from)
{
    to->len = 0;
    bytes_write(to, 0, from->at, from->len);
}

static void
change_apply(struct bytes *b, const struct change *change)
{
    if (change->is_truncate) {
        bytes_resize(b, (size_t)change->offset);
    } else {
        bytes_write(b, change->offset, change->data.at, change->data.len);
    }
}

void
changes_clear(struct node *node)
{
    for (size_t i = 0; i < node->n_changes; i++) {
        free(node->changes[i].data.at);
    }
    node->n_changes = 0;
}

void
node_sync(struct node *node)
{
    for (size_t i = 0; i < node->n_changes; i++) {
        change_apply(&node->disk, &node->changes[i]);
    }
    changes_clear(node);
}

void
node_free(struct node *node)
{
    changes_clear(node);
    free(node->changes);
    free(node->now.at);
    free(node->disk.at);
    *node = (struct node){0};
}

static struct change *
change_add(struct node *node)
{
    node->changes = must_realloc(node->changes, (node->n_changes + 1) * sizeof *node->changes);
    node->changes[node->n_changes] = (struct change){0};
    return &node->changes[node->n_changes++];
}

void
node_write(struct node *node, uint64_t offset, const void *data, size_t len)
{
    struct change *const change = change_add(node);

    change->offset = offset;
    bytes_write(&change->data, 0, data, len);
    bytes_write(&node->now, offset, data, len);
}

void
node_truncate(struct node *node, uint64_t len)
{
    struct change *const change = change_add(node);

    change->is_truncate = true;
    change->offset = len;
    bytes_resize(&node->now, (size_t)len);
}

/* Some first changes reach the disk, and the first bytes of the next write. How many changes? */
static size_t
keep_prefix(uint64_t *random, struct node *node)
{
    const size_t n = fs_mem_draw_to(random, node->n_changes);

    for (size_t i = 0; i < n; i++) {
        change_apply(&node->disk, &node->changes[i]);
    }
    if (n < node->n_changes && !node->changes[n].is_truncate) {
        const struct change *const torn = &node->changes[n];

        bytes_write(
            &node->disk, torn->offset, torn->data.at, fs_mem_draw_to(random, torn->data.len));
    }
    return n;
}

void
node_fail_sync(uint64_t *random, struct node *node)
{
    size_t left = 0;

    for (size_t i = keep_prefix(random, node); i < node->n_changes; i++) {
        if (node->changes[i].is_truncate) {
            const struct change kept = node->changes[i];

            node->changes[i] = node->changes[left];
            node->changes[left++] = kept;
        }
    }
    for (size_t i = left; i < node->n_changes; i++) {
        free(node->changes[i].data.at);
    }
    node->n_changes = left;
}

static void
keep_sectors_of(uint64_t *random, struct node *node, const struct change *change)
{
    size_t done = 0;

    while (done < change->data.len) {
        const uint64_t at = change->offset + done;
        size_t part = SECTOR_BYTES - (size_t)(at % SECTOR_BYTES);

        if (part > change->data.len - done) {
            part = change->data.len - done;
        }
        if (fs_mem_draw(random) % 2 == 0) {
            bytes_write(&node->disk, at, change->data.at + done, part);
        }
        done += part;
    }
    /* The file may have its new length all the same, with zeros where nothing was written. */
    if (fs_mem_draw(random) % 2 == 0 && node->disk.len < change->offset + done) {
        bytes_resize(&node->disk, (size_t)change->offset + done);
    }
}

static void
keep_sectors(uint64_t *random, struct node *node)
{
    for (size_t i = 0; i < node->n_changes; i++) {
        const struct change *const change = &node->changes[i];

        if (!change->is_truncate) {
            keep_sectors_of(random, node, change);
        } else if (fs_mem_draw(random) % 2 == 0) {
            change_apply(&node->disk, change);
        } else {
            return; /* a journal keeps the order of lengths */
        }
    }
}

void
node_lose(uint64_t *random, struct node *node, enum fs_mem_loss loss)
{
    if (loss == FS_MEM_KEEP_ALL) {
        node_sync(node);
    } else if (loss == FS_MEM_KEEP_PREFIX) {
        (void)keep_prefix(random, node);
    } else if (loss == FS_MEM_KEEP_SECTORS) {
        keep_sectors(random, node);
    }
    changes_clear(node);
    bytes_assign(&node->now, &node->disk);
}
