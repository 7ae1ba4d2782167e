#include "fence/lease_view.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fence/lease_host.h"

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

static const char *const FAULT_TEXT[LEASE_FAULT_COUNT] = {
    [LEASE_LIVE] = "the lease is live",
    [LEASE_NO_PATH] = "no lease file is configured",
    [LEASE_NO_FILE] = "there is no lease file",
    [LEASE_UNREADABLE] = "the lease file cannot be read",
    [LEASE_NOT_REGULAR] = "the lease file is no regular file",
    [LEASE_FORGEABLE] = "the lease file could be written by others than its owner",
    [LEASE_BAD_SIZE] = "the lease file has a wrong size",
    [LEASE_BAD_MAGIC] = "the lease file is none (bad magic number)",
    [LEASE_BAD_VERSION] = "the lease file is of another version",
    [LEASE_OTHER_BOOT] = "the lease file is from another boot",
    [LEASE_OTHER_TIME_NS] = "the lease file is from another time namespace",
    [LEASE_BAD_REIGN] = "the lease file names no reign",
    [LEASE_OTHER_REIGN] = "the lease is of another reign than this server's",
    [LEASE_REVOKED] = "the lease is revoked",
    [LEASE_EXPIRED] = "the lease expired",
};

const char *
lease_fault_text(enum lease_fault fault)
{
    return (unsigned)fault < LEASE_FAULT_COUNT ? FAULT_TEXT[fault] : "unknown";
}

static enum lease_fault
file_fault(const struct stat *st)
{
    if (!S_ISREG(st->st_mode)) {
        return LEASE_NOT_REGULAR;
    }
    if ((st->st_uid != 0 && st->st_uid != geteuid()) || (st->st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        return LEASE_FORGEABLE;
    }
    return st->st_size == LEASE_PAGE_SIZE ? LEASE_LIVE : LEASE_BAD_SIZE;
}

static enum lease_fault
header_fault(const struct lease_layout *page)
{
    char boot_id[LEASE_BOOT_ID_MAX];
    uint64_t time_ns;

    if (page->magic != LEASE_PAGE_MAGIC) {
        return LEASE_BAD_MAGIC;
    }
    if (page->version != LEASE_PAGE_VERSION) {
        return LEASE_BAD_VERSION;
    }
    if (page->size != LEASE_PAGE_SIZE) {
        return LEASE_BAD_SIZE;
    }
    if (lease_host_read(boot_id, &time_ns) != 0) {
        return LEASE_UNREADABLE;
    }
    if (memcmp(page->boot_id, boot_id, sizeof boot_id) != 0) {
        return LEASE_OTHER_BOOT;
    }
    if (page->time_ns != time_ns) {
        return LEASE_OTHER_TIME_NS;
    }
    return page->reign != 0 ? LEASE_LIVE : LEASE_BAD_REIGN;
}

enum lease_fault
lease_view_open(struct lease_view *view, const char *path)
{
    struct lease_layout *at;
    enum lease_fault fault;
    struct stat st;
    int fd;

    memset(view, 0, sizeof *view);
    if (path == NULL || path[0] == '\0') {
        return LEASE_NO_PATH;
    }
    /* O_NONBLOCK: a FIFO put there must not hang a backend. */
    fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        if (errno == ELOOP) {
            return LEASE_NOT_REGULAR;
        }
        return errno == ENOENT ? LEASE_NO_FILE : LEASE_UNREADABLE;
    }
    fault = fstat(fd, &st) == 0 ? file_fault(&st) : LEASE_UNREADABLE;
    if (fault != LEASE_LIVE) {
        (void)close(fd);
        return fault;
    }
    at = mmap(NULL, LEASE_PAGE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (at == MAP_FAILED) {
        return LEASE_UNREADABLE;
    }
    fault = header_fault(at);
    if (fault != LEASE_LIVE) {
        (void)munmap(at, LEASE_PAGE_SIZE);
        return fault;
    }
    view->at = at;
    view->device = (uint64_t)st.st_dev;
    view->inode = (uint64_t)st.st_ino;
    return LEASE_LIVE;
}

LEASE_HOT static bool
clock_is_before(clockid_t clock, uint64_t deadline_ns)
{
    struct timespec ts;

    if (clock_gettime(clock, &ts) != 0) {
        return false;
    }
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec < deadline_ns;
}

enum lease_fault
lease_view_check(const struct lease_view *view, uint64_t reign)
{
    uint64_t boot;
    uint64_t raw;

    if (view->at == NULL) {
        return LEASE_NO_FILE;
    }
    if (reign != 0 && view->at->reign != reign) {
        return LEASE_OTHER_REIGN;
    }
    boot = __atomic_load_n(&view->at->valid_until_boot_ns, __ATOMIC_ACQUIRE);
    raw = __atomic_load_n(&view->at->valid_until_raw_ns, __ATOMIC_ACQUIRE);
    /* The clock is read after the words. Both are loads; the kernel's way to the clock keeps its
     * reading behind loads that came before it. */
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (boot == 0 || raw == 0) {
        return LEASE_REVOKED;
    }
    return clock_is_before(CLOCK_MONOTONIC_RAW, raw) && clock_is_before(CLOCK_BOOTTIME, boot)
               ? LEASE_LIVE
               : LEASE_EXPIRED;
}

int64_t
lease_view_rest_ms(const struct lease_view *view)
{
    struct timespec ts;
    uint64_t boot;
    uint64_t now;

    if (view->at == NULL) {
        return 0;
    }
    boot = __atomic_load_n(&view->at->valid_until_boot_ns, __ATOMIC_SEQ_CST);
    if (clock_gettime(CLOCK_BOOTTIME, &ts) != 0) {
        return 0;
    }
    now = (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
    return boot > now ? (int64_t)((boot - now + NS_PER_MS - 1) / NS_PER_MS) : 0;
}

bool
lease_view_is_stale(const struct lease_view *view, const char *path)
{
    struct stat st;

    if (view->at == NULL || lstat(path, &st) != 0) {
        return true;
    }
    return (uint64_t)st.st_dev != view->device || (uint64_t)st.st_ino != view->inode;
}

void
lease_view_close(struct lease_view *view)
{
    if (view->at != NULL) {
        /* munmap() takes no pointer to const; the page is only unmapped. */
        (void)munmap((void *)(uintptr_t)view->at, LEASE_PAGE_SIZE);
    }
    memset(view, 0, sizeof *view);
}
