/*
 * lease_layout.h - the bytes of the lease page, shared by its writer and its readers.
 *
 * A file of LEASE_PAGE_SIZE bytes on a tmpfs (so that it is gone after a
 * reboot), outside the data directory (so that no base backup copies it). The
 * agent writes it; the PostgreSQL module ha_fence and the guardian haguard only
 * read it. The header never changes after the file got its name; the hot words
 * are single aligned 64-bit atomics, so they need no checksum and no lock.
 *
 * A lease is live while BOTH deadlines lie ahead: CLOCK_BOOTTIME runs through
 * suspend but is slewed by NTP, CLOCK_MONOTONIC_RAW is never slewed but stops in
 * suspend. A word of 0 means revoked.
 *
 * libc only, and nothing that clashes with PostgreSQL's own headers.
 */
#ifndef HA_FENCE_LEASE_LAYOUT_H
#define HA_FENCE_LEASE_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#define LEASE_PAGE_MAGIC UINT64_C(0x4541534c52535748) /* "HWSRLSAE" */
#define LEASE_PAGE_VERSION UINT32_C(1)
#define LEASE_PAGE_SIZE 192
#define LEASE_BOOT_ID_MAX 40 /* 36 characters and zeros */

struct lease_layout {
    uint64_t magic;
    uint32_t version;
    uint32_t size;                   /* LEASE_PAGE_SIZE */
    char boot_id[LEASE_BOOT_ID_MAX]; /* BOOTTIME starts again at every boot */
    uint64_t time_ns;                /* inode of /proc/self/ns/time: BOOTTIME may be offset there */
    uint64_t reign;                  /* whose deadline this is; never 0 */
    uint8_t unused[56];

    /* The hot words, on a cache line of their own. */
    uint64_t valid_until_boot_ns; /* CLOCK_BOOTTIME */
    uint64_t valid_until_raw_ns;  /* CLOCK_MONOTONIC_RAW */
    uint64_t sent_at_ns;          /* CLOCK_BOOTTIME of the request that earned it; to look at */
    uint64_t renewals;            /* counts up with every deadline that was set; to look at */
    uint8_t unused_hot[32];
};

_Static_assert(sizeof(struct lease_layout) == LEASE_PAGE_SIZE, "size of the lease page");
_Static_assert(offsetof(struct lease_layout, reign) == 64, "place of the reign");
_Static_assert(offsetof(struct lease_layout, valid_until_boot_ns) == 128, "place of the hot words");

#endif
