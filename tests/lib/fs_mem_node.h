/*
 * fs_mem_node.h - the bytes of one file of fs_mem: visible, durable, and what lies between.
 * Private to fs_mem*.c.
 */
#ifndef HA_TESTS_LIB_FS_MEM_NODE_H
#define HA_TESTS_LIB_FS_MEM_NODE_H

#include "tests/lib/fs_mem.h"

struct bytes {
    uint8_t *at;
    size_t len;
};

/* A change of a file's bytes that is not durable yet. */
struct change {
    bool is_truncate;
    uint64_t offset; /* or the new length */
    struct bytes data;
};

struct node {
    bool is_used;
    struct bytes now;
    struct bytes disk;
    struct change *changes;
    size_t n_changes;
};

/* realloc() that aborts the test instead of failing. */
void *must_realloc(void *memory, size_t size);

uint64_t fs_mem_draw(uint64_t *random);
/* 0 .. limit, both included. */
size_t fs_mem_draw_to(uint64_t *random, size_t limit);

/* How much of a write is done that fails: nothing, all, or some first bytes. */
size_t fs_mem_draw_part(uint64_t *random, size_t len);

void bytes_resize(struct bytes *b, size_t len);
void bytes_write(struct bytes *b, uint64_t offset, const void *data, size_t len);
void bytes_assign(struct bytes *to, const struct bytes *from);

void node_write(struct node *node, uint64_t offset, const void *data, size_t len);
void node_truncate(struct node *node, uint64_t len);
/* Makes all changes durable. */
void node_sync(struct node *node);
/* Some first changes reach the disk; the other writes never will, the other lengths still may. */
void node_fail_sync(uint64_t *random, struct node *node);
/* Forgets the pending changes; what they made visible stays so. */
void changes_clear(struct node *node);
/* The power went: visible is what is durable. */
void node_lose(uint64_t *random, struct node *node, enum fs_mem_loss loss);
void node_free(struct node *node);

#endif
