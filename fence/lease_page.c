#include "fence/lease_page.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fence/lease_host.h"
#include "fence/lease_layout.h"

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)

static int64_t
clock_ns(clockid_t clock)
{
    struct timespec ts;

    ENSURE(clock_gettime(clock, &ts) == 0, "the clock of the lease can be read");
    return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static void
word_store(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

/* Writes the whole page into a new file of its own. */
static int
page_write(const char *path, const struct lease_layout *page, int *fd, struct err *err)
{
    if (unlink(path) != 0 && errno != ENOENT) {
        return err_set(err, HA_EIO, "cannot remove %s: %s", path, strerror(errno));
    }
    *fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (*fd < 0) {
        return err_set(err, HA_EIO, "cannot create %s: %s", path, strerror(errno));
    }
    /* The umask must not hide the page from PostgreSQL's user. */
    if (fchmod(*fd, 0644) != 0 || pwrite(*fd, page, sizeof *page, 0) != (ssize_t)sizeof *page) {
        const int saved = errno;

        (void)close(*fd);
        (void)unlink(path);
        return err_set(err,
                       saved == ENOSPC ? HA_ENOSPC : HA_EIO,
                       "cannot write %s: %s",
                       path,
                       strerror(saved));
    }
    return 0;
}

int
lease_page_create(struct lease_page *page, const char *path, uint64_t reign, struct err *err)
{
    struct lease_layout fresh = {.magic = LEASE_PAGE_MAGIC,
                                 .version = LEASE_PAGE_VERSION,
                                 .size = LEASE_PAGE_SIZE,
                                 .reign = reign};
    char temp[4096];
    void *at;
    int len;
    int fd = -1;
    int rc;

    REQUIRE(reign > 0, "reign 0 names nobody");
    memset(page, 0, sizeof *page);
    len = snprintf(temp, sizeof temp, "%s.new", path);
    if (len < 0 || (size_t)len >= sizeof temp) {
        return err_set(err, HA_EINVAL, "the path of the lease page is too long");
    }
    if (lease_host_read(fresh.boot_id, &fresh.time_ns) != 0) {
        return err_set(err, HA_EIO, "cannot read the boot id: %s", strerror(errno));
    }
    rc = page_write(temp, &fresh, &fd, err);
    if (rc != 0) {
        return rc;
    }
    at = mmap(NULL, sizeof fresh, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (at == MAP_FAILED) {
        rc = err_set(err, HA_EIO, "cannot map %s: %s", temp, strerror(errno));
        (void)unlink(temp);
        return rc;
    }
    if (rename(temp, path) != 0) {
        rc = err_set(err, HA_EIO, "cannot rename %s to %s: %s", temp, path, strerror(errno));
        (void)munmap(at, sizeof fresh);
        (void)unlink(temp);
        return rc;
    }
    page->at = at;
    return 0;
}

void
lease_page_set(struct lease_page *page, struct mono deadline, struct mono sent_at)
{
    /*
     * RAW first, BOOTTIME second: whatever passes between the two reads (a
     * preemption, a freeze) makes the rest look shorter, never longer.
     */
    const int64_t raw_now = clock_ns(CLOCK_MONOTONIC_RAW);
    const int64_t boot_now = clock_ns(CLOCK_BOOTTIME);
    const int64_t boot = deadline.ms * NS_PER_MS;
    const int64_t rest = boot - boot_now;

    REQUIRE(page->at != NULL, "the page was created");
    if (rest <= 0) {
        lease_page_revoke(page);
        return;
    }
    /* A reader between the stores sees one old word, and the earlier word counts. */
    word_store(&page->at->sent_at_ns, (uint64_t)(sent_at.ms * NS_PER_MS));
    word_store(&page->at->valid_until_raw_ns, (uint64_t)(raw_now + rest));
    word_store(&page->at->valid_until_boot_ns, (uint64_t)boot);
    page->renewals++;
    word_store(&page->at->renewals, page->renewals);
}

void
lease_page_revoke(struct lease_page *page)
{
    REQUIRE(page->at != NULL, "the page was created");
    word_store(&page->at->valid_until_boot_ns, 0);
    word_store(&page->at->valid_until_raw_ns, 0);
}

void
lease_page_close(struct lease_page *page)
{
    if (page->at == NULL) {
        return;
    }
    lease_page_revoke(page);
    (void)munmap(page->at, sizeof *page->at);
    page->at = NULL;
}
