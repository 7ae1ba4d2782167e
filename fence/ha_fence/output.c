/*
 * output.c - the last check, before bytes leave for the client.
 *
 * It stands in front of pqcomm.c's methods. A message that carries a result, or any
 * message after something durable happened, makes the buffer one that leaves only
 * with a live lease. Errors leave always, or nobody would learn why.
 *
 * Between a check and its send() lies no wait: a client that reads slowly is waited for
 * here and not in pqcomm.c, and whenever it takes more, the lease is asked again. What
 * remains is the way of some instructions from the check to send(), on which the CPU can be
 * lost, and a single message bigger than the buffer, whose later parts are not checked
 * again; its end is not told without the CommandComplete after it.
 */
#include "postgres.h"

#include "libpq/auth.h"
#include "libpq/libpq.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/walsender.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#if PG_VERSION_NUM >= 140000
#include "utils/wait_event.h"
#endif

#include "fence/ha_fence/ha_fence.h"

/* PQ_SEND_BUFFER_SIZE of pqcomm.c: a fuller buffer is sent there, without asking us. */
#define SEND_BUFFER_SIZE 8192
#define MESSAGE_HEADER_SIZE 5
#define RECHECK_MS 100 /* how long a client that reads nothing keeps a fenced backend */

static ClientAuthentication_hook_type prev_authentication = NULL;
static const PQcommMethods *core = NULL;
static PQcommMethods ours;

static bool is_result_waiting = false; /* in the buffer, unchecked */
static bool is_ack_expected = false;
static bool is_in_noblock = false;
static bool is_leaving = false;
static bool is_flushing = false;
static bool is_ready_put = false; /* a ReadyForQuery is in the buffer */
static size_t fill = 0;           /* at most so many bytes are in the buffer */

void
fence_expect_ack(void)
{
    is_ack_expected = true;
}

void
fence_leave_after_error(void)
{
    /* With reads open, the session is still of use. */
    is_leaving = !fence_reads && fence_has_client();
}

LEASE_HOT static bool
may_leave(void)
{
    enum lease_fault fault;

    if (fence_is_cut()) {
        return false;
    }
    if ((!is_result_waiting && !is_ack_expected) || !fence_is_active()) {
        return true;
    }
    fault = fence_look();
    if (fault == LEASE_LIVE) {
        return true;
    }
    fence_cut(lease_fault_text(fault));
    return false;
}

/* After a flush: what has left needs no check any more. */
LEASE_HOT static void
settle(void)
{
    if (core->is_send_pending()) {
        return;
    }
    fill = 0;
    is_result_waiting = false;
    if (is_ready_put) {
        /* Until then more may follow that tells of the commit. */
        is_ack_expected = false;
    }
    if (is_leaving && is_ready_put) {
        /* A pooler would keep a session that can do nothing: 57P01 follows the error. */
        ProcDiePending = true;
        InterruptPending = true;
    }
    is_ready_put = false;
}

LEASE_HOT static int
fence_flush_if_writable(void)
{
    int rc;

    if (!may_leave()) {
        return EOF;
    }
    rc = core->flush_if_writable();
    settle();
    return rc;
}

/* As secure_write() waits, for a while. */
static void
await_client(void)
{
    const int event =
        WaitLatchOrSocket(MyLatch,
                          WL_LATCH_SET | WL_SOCKET_WRITEABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
                          MyProcPort->sock,
                          RECHECK_MS,
                          WAIT_EVENT_CLIENT_WRITE);

    if ((event & WL_LATCH_SET) != 0) {
        ResetLatch(MyLatch);
        ProcessClientWriteInterrupt(true);
    }
}

LEASE_HOT static int
fence_flush(void)
{
    int rc;

    if (is_flushing) {
        return 0; /* an error on its way out, while we wait: as pqcomm.c does */
    }
    is_flushing = true;
    for (;;) {
        rc = fence_flush_if_writable();
        if (rc != 0 || !core->is_send_pending()) {
            break;
        }
        await_client();
    }
    is_flushing = false;
    return rc;
}

static void
fence_comm_reset(void)
{
    is_flushing = false;
    core->comm_reset();
}

LEASE_HOT static bool
fence_is_send_pending(void)
{
    return !fence_is_cut() && core->is_send_pending();
}

LEASE_HOT static void
mark(char type)
{
    switch (type) {
    case 'd': /* CopyData: rows, and the WAL that a walsender ships */
    case 'C': /* CommandComplete */
    case 'D': /* DataRow */
    case 'V': /* FunctionCallResponse */
        if (!fence_reads || am_walsender) {
            is_result_waiting = true;
        }
        break;
    case 'A': /* NotificationResponse: tells of a commit */
        is_result_waiting = true;
        break;
    case 'Z': /* ReadyForQuery */
        is_ready_put = true;
        break;
    default:
        break;
    }
}

LEASE_HOT static int
fence_putmessage(char type, const char *body, size_t len)
{
    const size_t size = len + MESSAGE_HEADER_SIZE;

    if (fence_is_cut()) {
        return 0;
    }
    /* The noblock variant comes here too, after it made the buffer big enough. */
    if (!is_in_noblock && fill + size > SEND_BUFFER_SIZE) {
        if (fence_flush() != 0) {
            return EOF;
        }
    }
    mark(type);
    if (!is_in_noblock && size > SEND_BUFFER_SIZE && !may_leave()) {
        return EOF;
    }
    fill += size;
    return core->putmessage(type, body, len);
}

static void
fence_putmessage_noblock(char type, const char *body, size_t len)
{
    if (fence_is_cut()) {
        return;
    }
    is_in_noblock = true;
    core->putmessage_noblock(type, body, len);
    is_in_noblock = false;
}

static void
fence_authentication(Port *port, int status)
{
    if (prev_authentication != NULL) {
        prev_authentication(port, status);
    }
    if (status != STATUS_OK || core != NULL || !IsUnderPostmaster || IsBinaryUpgrade) {
        return;
    }
    core = PqCommMethods;
    ours = *core; /* 13 has two members more */
    ours.comm_reset = fence_comm_reset;
    ours.flush = fence_flush;
    ours.flush_if_writable = fence_flush_if_writable;
    ours.is_send_pending = fence_is_send_pending;
    ours.putmessage = fence_putmessage;
    ours.putmessage_noblock = fence_putmessage_noblock;
    PqCommMethods = &ours;
    /* Unknown what the authentication left in the buffer; the next message finds out. */
    fill = SEND_BUFFER_SIZE;
}

void
fence_init_output(void)
{
    prev_authentication = ClientAuthentication_hook;
    ClientAuthentication_hook = fence_authentication;
}
