"""Members that are being copied."""
import os
import shutil
import signal

from scenario import check, labs, no_two_primaries_and_none_lost, scenario


def copiers(node):
    """The pg_basebackup of a node and the child that streams its WAL, in this order."""
    found = []
    for pid in labs.descendants(node.agent.pid):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read().split(b"\0")
        except OSError:
            continue
        if os.path.basename(words[0]) == b"pg_basebackup":
            found.append(pid)
    return found if len(found) == 2 else None


@scenario
def a_copy_being_made_confirms_nothing(run):
    """A commit that waits for a member is not acknowledged by that member's half-made copy."""
    lab = run.cluster(failover="auto", env={"HA_SYNC": "strict", "HA_SYNC_COUNT": "2"})
    w = run.writers(lab)
    primary = lab.primary()
    primary.sql("CREATE TABLE ballast AS SELECT repeat('x', 1000) FROM generate_series(1, 100000)",
                seconds=60)
    n3 = next(n for n in lab.nodes if n is not primary)
    n3.power_off()
    shutil.rmtree(f"{n3.dir}/data")
    n3.start()
    main, _ = labs.wait_for("the copy to be made", lambda: copiers(n3), every=0.005)
    stopped = labs.Process(main)
    stopped.kill(signal.SIGSTOP)  # the files stand still, their WAL goes on
    try:
        at = labs.boottime_ns()
        # pg_basebackup confirms at the end of each file of WAL.
        labs.wait_for("three seconds", lambda: primary.sql(
            "SELECT pg_switch_wal()") and labs.boottime_ns() > at + 3 * 10**9, every=0.5)
        check(stopped.alive(), "the copy was made before it could be stopped")
        counted = primary.sql("SELECT string_agg(application_name, ', ') FROM pg_stat_replication"
                              f" WHERE client_addr = '{n3.ip}' AND sync_state <> 'async'")
        check(not counted, f"half a copy counts as the synchronous standby {counted}")
        told = [a for a in w.acks() if a.sent > at]
        check(not told, f"{len(told)} writes were acknowledged on the word of half a copy")
    finally:
        stopped.kill(signal.SIGCONT)
    lab.wait_healthy()
    w.wait_acks(labs.boottime_ns())
    no_two_primaries_and_none_lost(w, lab)
