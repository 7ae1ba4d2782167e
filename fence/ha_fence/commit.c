/*
 * commit.c - before the commit record, and after it; and the commands.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/lwlock.h"
#include "tcop/utility.h"

#include "fence/ha_fence/ha_fence.h"

static ExecutorStart_hook_type prev_executor_start = NULL;
static ProcessUtility_hook_type prev_process_utility = NULL;

static bool wrote_wal = false; /* before the commit record, so the commit waits for standbys */
static XLogRecPtr two_phase_end = InvalidXLogRecPtr; /* of COMMIT PREPARED's own record */

static bool
standbys_are_defined(void)
{
#ifdef SYNC_STANDBY_DEFINED /* since the minor releases of May 2025 */
    const int status = ((volatile WalSndCtlData *)WalSndCtl)->sync_standbys_status;

    return (status & SYNC_STANDBY_INIT) != 0
               ? (status & SYNC_STANDBY_DEFINED) != 0
               : SyncRepStandbyNames != NULL && SyncRepStandbyNames[0] != '\0';
#else
    return ((volatile WalSndCtlData *)WalSndCtl)->sync_standbys_defined;
#endif
}

/*
 * True when this commit should have waited for the standbys and they have not confirmed it:
 * the wait was cancelled. PostgreSQL would acknowledge such a commit with a warning. `is_commit`
 * is false for PREPARE, which never waits for the replay.
 */
static bool
sync_wait_was_cancelled(XLogRecPtr end, bool is_commit)
{
    int mode = SYNC_REP_WAIT_FLUSH;
    XLogRecPtr confirmed;

    if (!SyncRepRequested() || !standbys_are_defined()) {
        return false;
    }
    if (synchronous_commit == SYNCHRONOUS_COMMIT_REMOTE_WRITE) {
        mode = SYNC_REP_WAIT_WRITE;
    } else if (synchronous_commit == SYNCHRONOUS_COMMIT_REMOTE_APPLY && is_commit) {
        mode = SYNC_REP_WAIT_APPLY;
    }
    LWLockAcquire(SyncRepLock, LW_SHARED);
    confirmed = WalSndCtl->lsn[mode];
    LWLockRelease(SyncRepLock);
    return confirmed < end;
}

/* The record is written: from here on nothing may fail, only stay silent. */
static void
after_commit(XLogRecPtr end, bool is_commit)
{
    enum lease_fault fault;

    if (!fence_has_client() || !fence_is_active()) {
        return;
    }
    fence_expect_ack();
    fault = fence_look();
    if (fault != LEASE_LIVE) {
        fence_cut(lease_fault_text(fault));
    } else if (end != InvalidXLogRecPtr && sync_wait_was_cancelled(end, is_commit)) {
        fence_cut("the wait for synchronous replication was cancelled");
    }
}

LEASE_HOT static void
fence_xact(XactEvent event, void *arg)
{
    const bool has_xid = TransactionIdIsValid(GetTopTransactionIdIfAny());

    (void)arg;
    switch (event) {
    case XACT_EVENT_PRE_COMMIT:
    case XACT_EVENT_PRE_PREPARE:
        if (has_xid) {
            fence_require();
        }
        wrote_wal = XactLastRecEnd != InvalidXLogRecPtr;
        break;
    case XACT_EVENT_COMMIT:
        if (two_phase_end != InvalidXLogRecPtr) {
            after_commit(two_phase_end, true);
        } else if (has_xid) {
            after_commit(wrote_wal ? XactLastCommitEnd : InvalidXLogRecPtr, true);
        }
        two_phase_end = InvalidXLogRecPtr;
        break;
    case XACT_EVENT_PREPARE:
        /*
         * The end of the record is known to nobody by now, so ask for more than its start. A
         * record that was confirmed up to the middle when the wait was cancelled passes; should
         * it be lost then, COMMIT PREPARED will say so.
         */
        after_commit(ProcLastRecPtr + 1, false);
        break;
    case XACT_EVENT_ABORT:
        two_phase_end = InvalidXLogRecPtr;
        break;
    default:
        break;
    }
}

LEASE_HOT static void
fence_executor_start(QueryDesc *query, int eflags)
{
    const PlannedStmt *stmt = query->plannedstmt;

    if (!fence_reads || query->operation != CMD_SELECT || stmt->hasModifyingCTE ||
        stmt->rowMarks != NIL) {
        fence_require_early();
    }
    if (prev_executor_start != NULL) {
        prev_executor_start(query, eflags);
    } else {
        standard_ExecutorStart(query, eflags);
    }
}

static bool
is_two_phase_end(const Node *node)
{
    return IsA(node, TransactionStmt) &&
           (((const TransactionStmt *)node)->kind == TRANS_STMT_COMMIT_PREPARED ||
            ((const TransactionStmt *)node)->kind == TRANS_STMT_ROLLBACK_PREPARED);
}

static bool
is_rollback(const Node *node)
{
    return IsA(node, TransactionStmt) &&
           ((const TransactionStmt *)node)->kind == TRANS_STMT_ROLLBACK;
}

/* Which commands are refused at once. The rest meets the check at commit, and the output's. */
static bool
needs_lease(Node *node)
{
    if (!fence_reads) {
        return !is_rollback(node);
    }
    return IsA(node, NotifyStmt) || GetCommandLogLevel(node) < LOGSTMT_ALL;
}

static void
require_for(Node *node)
{
    if (is_two_phase_end(node)) {
        /* Its record is written before the surrounding transaction's PRE_COMMIT. */
        fence_require();
    } else if (needs_lease(node)) {
        fence_require_early();
    }
}

#if PG_VERSION_NUM >= 140000
static void
fence_process_utility(PlannedStmt *stmt,
                      const char *text,
                      bool is_read_only_tree,
                      ProcessUtilityContext context,
                      ParamListInfo params,
                      QueryEnvironment *env,
                      DestReceiver *dest,
                      QueryCompletion *completion)
{
    Node *node = stmt->utilityStmt;
    const bool is_end = is_two_phase_end(node);

    require_for(node);
    (prev_process_utility != NULL ? prev_process_utility : standard_ProcessUtility)(
        stmt, text, is_read_only_tree, context, params, env, dest, completion);
    if (is_end) {
        /* The surrounding transaction has no xid: its end would look like a read's. */
        two_phase_end = XactLastRecEnd;
    }
}
#else
static void
fence_process_utility(PlannedStmt *stmt,
                      const char *text,
                      ProcessUtilityContext context,
                      ParamListInfo params,
                      QueryEnvironment *env,
                      DestReceiver *dest,
                      QueryCompletion *completion)
{
    Node *node = stmt->utilityStmt;
    const bool is_end = is_two_phase_end(node);

    require_for(node);
    (prev_process_utility != NULL ? prev_process_utility : standard_ProcessUtility)(
        stmt, text, context, params, env, dest, completion);
    if (is_end) {
        /* The surrounding transaction has no xid: its end would look like a read's. */
        two_phase_end = XactLastRecEnd;
    }
}
#endif

void
fence_init_commit(void)
{
    RegisterXactCallback(fence_xact, NULL);
    prev_executor_start = ExecutorStart_hook;
    ExecutorStart_hook = fence_executor_start;
    prev_process_utility = ProcessUtility_hook;
    ProcessUtility_hook = fence_process_utility;
}
