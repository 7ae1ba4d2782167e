/*
 * worker.c - ends a primary that outlived its lease.
 *
 * The checks at commit and at the output are enough for safety; this is for the rest:
 * it frees clients that wait for a fenced server, and ends long statements. It acts only
 * after a live lease was seen on this server, or a server that starts before its
 * lease would end in a loop. It needs nobody outside, but does not survive its own
 * SIGSTOP; then the guardian acts, or whoever wakes finds the lease expired.
 */
#include "postgres.h"

#include <ctype.h>
#include <dirent.h>
#include <dlfcn.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#if PG_VERSION_NUM >= 140000
#include "utils/wait_event.h"
#endif

#include "fence/ha_fence/ha_fence.h"

#define LOOK_EVERY_MS 100
#define ESCALATE_AFTER_MS 1000

PGDLLEXPORT void ha_fence_worker(Datum arg);

static bool
is_child_of(const char *pid, pid_t parent)
{
    char path[64];
    char line[512];
    FILE *file;
    char *at;
    int ppid = 0;

    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    file = fopen(path, "r");
    if (file == NULL) {
        return false;
    }
    /* pid (name) state ppid: the name may hold anything, so look for the last bracket. */
    if (fgets(line, sizeof line, file) != NULL) {
        at = strrchr(line, ')');
        if (at != NULL && strlen(at) > 4) {
            ppid = (int)strtol(at + 4, NULL, 10);
        }
    }
    fclose(file);
    return ppid == (int)parent;
}

/* SIGQUIT stays pending on a postmaster that is stopped: kill its children, then itself. */
static void
kill_all(void)
{
    struct dirent *entry;
    DIR *dir;

    (void)kill(PostmasterPid, SIGSTOP); /* it must not fork meanwhile */
    dir = opendir("/proc");
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (isdigit((unsigned char)entry->d_name[0]) && is_child_of(entry->d_name, PostmasterPid)) {
            const pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

            if (pid != MyProcPid) {
                (void)kill(pid, SIGKILL);
            }
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    (void)kill(PostmasterPid, SIGKILL);
    _exit(2);
}

static void
end_server(enum lease_fault fault)
{
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};

    __atomic_store_n(&fence_shared->is_ended, 1, __ATOMIC_SEQ_CST);
    (void)kill(PostmasterPid, SIGQUIT);
    /* Whoever reads the log may be frozen; there must be time for what follows. */
    if (poll(&out, 1, 0) == 1 && (out.revents & POLLOUT) != 0) {
        ereport(LOG,
                (errmsg("ha_fence: %s (reign " UINT64_FORMAT "): ended the server",
                        lease_fault_text(fault),
                        (uint64)fence_shared->reign)));
    }
    /* A postmaster that runs sends SIGQUIT to us, too, long before this is over. */
    for (int waited = 0; waited < ESCALATE_AFTER_MS; waited += 10) {
        pg_usleep(10000L);
    }
    kill_all();
}

void
ha_fence_worker(Datum arg)
{
    (void)arg;
    BackgroundWorkerUnblockSignals();
    for (;;) {
        long wait_ms = LOOK_EVERY_MS;

        if (fence_is_active()) {
            const enum lease_fault fault = fence_look();

            if (fault == LEASE_LIVE) {
                const struct lease_view view = {.at = fence_page()};

                wait_ms = Min(wait_ms, (long)lease_view_rest_ms(&view));
            } else if (__atomic_load_n(&fence_shared->reign, __ATOMIC_SEQ_CST) != 0) {
                end_server(fault);
            }
        }
        (void)WaitLatch(MyLatch,
                        WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
                        Max(wait_ms, 1),
                        PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
}

void
fence_init_worker(void)
{
    BackgroundWorker worker = {0};
    Dl_info info;

    if (!IsPostmasterEnvironment || IsBinaryUpgrade) {
        return;
    }
    /* By its own path, as the library need not lie in $libdir. */
    if (dladdr(&fence_shared, &info) == 0 ||
        snprintf(worker.bgw_library_name, sizeof worker.bgw_library_name, "%s", info.dli_fname) >=
            (int)sizeof worker.bgw_library_name) {
        ereport(FATAL,
                (errmsg("ha_fence: the path of the library is longer than %d bytes",
                        (int)sizeof worker.bgw_library_name - 1)));
    }
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
    worker.bgw_start_time = BgWorkerStart_PostmasterStart;
    worker.bgw_restart_time = 1; /* somebody may terminate it; it comes back */
    snprintf(worker.bgw_function_name, sizeof worker.bgw_function_name, "ha_fence_worker");
    snprintf(worker.bgw_name, sizeof worker.bgw_name, "ha_fence");
    snprintf(worker.bgw_type, sizeof worker.bgw_type, "ha_fence");
    RegisterBackgroundWorker(&worker);
}
