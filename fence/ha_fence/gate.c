/*
 * gate.c - the one question: may this server acknowledge now?
 */
#include "postgres.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

#include "access/xlog.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "storage/ipc.h"

#include "fence/ha_fence/ha_fence.h"

struct fence_shared *fence_shared = NULL;

static struct lease_view view;
static enum lease_fault open_fault = LEASE_NO_FILE;
static bool is_cut = false;
static uint64_t known_reign = 0; /* fence_shared's, which is set once */

/* The last look that found the lease live: the tick of the coarse clock, and the words. */
static struct {
    int64_t tick_ns;
    uint64_t boot_ns;
    uint64_t raw_ns;
} seen;

bool
fence_is_active(void)
{
    return IsUnderPostmaster && !IsBinaryUpgrade && !RecoveryInProgress();
}

bool
fence_is_cut(void)
{
    return is_cut;
}

bool
fence_has_client(void)
{
    return MyProcPort != NULL;
}

const struct lease_layout *
fence_page(void)
{
    return view.at;
}

/* Grows with the kernel's tick, each 1 to 10 ms; INT64_MAX = there is no such clock. */
LEASE_HOT static int64_t
coarse_ns(void)
{
    struct timespec ts;

    if (clock_gettime(CLOCK_MONOTONIC_COARSE, &ts) != 0) {
        return INT64_MAX;
    }
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

LEASE_HOT static void
note_live(void)
{
    seen.tick_ns = coarse_ns();
    seen.boot_ns = __atomic_load_n(&view.at->valid_until_boot_ns, __ATOMIC_RELAXED);
    seen.raw_ns = __atomic_load_n(&view.at->valid_until_raw_ns, __ATOMIC_RELAXED);
}

LEASE_HOT static bool
was_live_just_now(void)
{
    return view.at != NULL && seen.boot_ns != 0 && seen.raw_ns != 0 &&
           seen.boot_ns == __atomic_load_n(&view.at->valid_until_boot_ns, __ATOMIC_RELAXED) &&
           seen.raw_ns == __atomic_load_n(&view.at->valid_until_raw_ns, __ATOMIC_RELAXED) &&
           seen.tick_ns != INT64_MAX && seen.tick_ns == coarse_ns();
}

/*
 * Takes over the file that the path names now. A page that is mapped stays in use until then, as
 * its words still count. Each time that there is no lease: the agent makes a new page right before
 * a promotion, and a session that looked before that must not miss it.
 */
static void
look_up(void)
{
    struct lease_view fresh;

    if (!lease_view_is_stale(&view, fence_lease_file)) {
        return;
    }
    open_fault = lease_view_open(&fresh, fence_lease_file);
    if (open_fault == LEASE_LIVE) {
        lease_view_close(&view);
        view = fresh;
        seen.boot_ns = 0; /* that was another page */
    }
}

/* The first reign that a primary sees live is its own until it is restarted. */
LEASE_HOT static enum lease_fault
check_reign(void)
{
    enum lease_fault fault;
    uint64_t none = 0;

    if (known_reign == 0) {
        known_reign = __atomic_load_n(&fence_shared->reign, __ATOMIC_SEQ_CST);
    }
    fault = lease_view_check(&view, known_reign);
    if (fault == LEASE_LIVE && known_reign == 0 && fence_is_active() &&
        !__atomic_compare_exchange_n(&fence_shared->reign,
                                     &none,
                                     view.at->reign,
                                     false,
                                     __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST) &&
        none != view.at->reign) {
        fault = LEASE_OTHER_REIGN;
    }
    return fault;
}

enum lease_fault
fence_look(void)
{
    enum lease_fault fault;

    if (fence_shared == NULL) {
        return LEASE_NO_FILE;
    }
    if (view.at != NULL) {
        fault = check_reign();
        if (fault == LEASE_LIVE) {
            note_live();
            return fault;
        }
    }
    look_up();
    return view.at != NULL ? check_reign() : open_fault;
}

const char *
fence_describe(void)
{
    static char text[256];
    const enum lease_fault fault = fence_look();
    const char *state = fence_is_active() ? "primary" : "not active";

    snprintf(text,
             sizeof text,
             "%s: %s; reign " UINT64_FORMAT ", rest " INT64_FORMAT " ms, renewals " UINT64_FORMAT
             ", refused " UINT64_FORMAT ", cut " UINT64_FORMAT,
             state,
             lease_fault_text(fault),
             (uint64)(view.at != NULL ? view.at->reign : 0),
             (int64)lease_view_rest_ms(&view),
             (uint64)(view.at != NULL ? view.at->renewals : 0),
             (uint64)fence_shared->refused,
             (uint64)fence_shared->cut);
    return text;
}

/* "123 ms ago", for the message of a refusal. */
static const char *
deadline_text(void)
{
    static char text[64];
    struct timespec ts;
    uint64_t deadline;
    uint64_t now;

    deadline = view.at != NULL ? view.at->valid_until_boot_ns : 0;
    if (deadline == 0 || clock_gettime(CLOCK_BOOTTIME, &ts) != 0) {
        return "no deadline";
    }
    now = (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
    snprintf(text,
             sizeof text,
             "deadline %s " UINT64_FORMAT " ms%s",
             now < deadline ? "in" : "passed",
             (uint64)((now < deadline ? deadline - now : now - deadline) / 1000000),
             now < deadline ? "" : " ago");
    return text;
}

void
fence_require(void)
{
    enum lease_fault fault;

    if (!fence_is_active()) {
        return;
    }
    fault = fence_look();
    if (fault == LEASE_LIVE) {
        return;
    }
    __atomic_add_fetch(&fence_shared->refused, 1, __ATOMIC_RELAXED);
    fence_leave_after_error();
    ereport(ERROR,
            (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
             errmsg("this server may not acknowledge anything: %s (reign " UINT64_FORMAT ", %s)",
                    lease_fault_text(fault),
                    (uint64)(view.at != NULL ? view.at->reign : 0),
                    deadline_text()),
             errhint("It is not, or no longer, the primary of its cluster. Connect to the one "
                     "that is.")));
}

/* Who comes here is asked again before anything is durable, and before anything leaves: one answer
 * for all statements of a tick spares the clocks, which are a good part of what a read costs. */
void
fence_require_early(void)
{
    if (!was_live_just_now()) {
        fence_require();
    }
}

void
fence_cut(const char *why)
{
    if (is_cut || MyProcPort == NULL) {
        return;
    }
    is_cut = true;
    __atomic_add_fetch(&fence_shared->cut, 1, __ATOMIC_RELAXED);
    /*
     * An ERROR, a FATAL or proc_exit() after the commit record ends in PANIC. So do what
     * SyncRepWaitForLSN() does: say nothing, and let the backend find its client lost.
     */
    (void)shutdown(MyProcPort->sock, SHUT_RDWR);
    ClientConnectionLost = 1;
    InterruptPending = 1;
    ereport(LOG_SERVER_ONLY,
            (errmsg("ha_fence: connection cut without an acknowledgement: %s", why)));
}

void
fence_init_gate(void)
{
    void *at = mmap(NULL,
                    sizeof(struct fence_shared),
                    PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS,
                    -1,
                    0);

    if (at == MAP_FAILED) {
        ereport(FATAL, (errmsg("ha_fence: cannot map shared memory: %m")));
    }
    fence_shared = at;
    /* Mapped once here, the page is inherited by every backend. It may come later, too. */
    open_fault = lease_view_open(&view, fence_lease_file);
    if (IsPostmasterEnvironment) {
        ereport(LOG,
                (errmsg("ha_fence: lease file \"%s\": %s",
                        fence_lease_file,
                        open_fault == LEASE_LIVE ? "found" : lease_fault_text(open_fault))));
    }
}
