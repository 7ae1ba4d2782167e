#include "fence/lease_host.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BOOT_ID_LEN 36

int
lease_host_read(char boot_id[LEASE_BOOT_ID_MAX], uint64_t *time_ns)
{
    struct stat st;
    ssize_t len;
    int fd;

    memset(boot_id, 0, LEASE_BOOT_ID_MAX);
    *time_ns = 0;
    fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    len = read(fd, boot_id, BOOT_ID_LEN);
    (void)close(fd);
    if (len != BOOT_ID_LEN) {
        return -1;
    }
    if (stat("/proc/self/ns/time", &st) == 0) {
        *time_ns = (uint64_t)st.st_ino;
    } else if (errno != ENOENT) {
        return -1;
    }
    return 0;
}
