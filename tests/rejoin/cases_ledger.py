"""Data that are not of the cluster's history, whatever their timeline's number says."""
import os
import shutil

from rejoinlab import Since, as_postgres, by_hand, check_same, fail_over, wait_back, write_by_hand
from scenario import Skip, check, labs, scenario


def copies(text):
    """Begin and end of each copy that a log tells of. One that failed, as before a primary that is
    not open yet, lets another member have its turn: between two of them anything may be."""
    found, begun = [], None
    for line in text.splitlines():
        if " ev=clone copying from " in line:
            begun = line[:24]
        elif begun is not None and " ev=postgres_done clone: " in line:
            found.append((begun, line[:24]))
            begun = None
    return found


@scenario
def a_fork_on_the_same_timeline_and_two_rebuilds_at_once(run):
    """Two standbys ran as primaries by hand on timeline 1: both are copied anew, one by one."""
    lab = run.cluster(env={"HA_CLONE_RATE": "8MB", "HA_KEEP_OLD": "1"})
    n1, n2, n3 = lab.nodes
    n1.sql("CREATE TABLE before AS SELECT generate_series(1, 50000) AS i")
    lab.wait_healthy()
    for n in (n2, n3):
        n.stop_agent()
    for n in (n2, n3):
        os.remove(f"{n.pgdata}/standby.signal")
        write_by_hand(n)
    with open(f"{n3.pgdata}/standby.signal", "w", encoding="ascii"):
        pass  # put back: by its files it is a standby of the right timeline again
    shutil.chown(f"{n3.pgdata}/standby.signal", "postgres", "postgres")
    logs = [Since(n) for n in (n2, n3)]
    for n in (n2, n3):
        n.start()
    labs.wait_for("both to stream", lambda: n2.is_streaming() and n3.is_streaming(), 300)
    spans = []
    for log in logs:
        log.check_copied(r"it ran as a primary on a timeline that another member put on record")
        check(not log.said("rewind: "), "pg_rewind sees no fork on one timeline: it must not run")
        spans.append(copies(log.text()))
        check(spans[-1], "its log tells no copy")
    for begun, ended in spans[0]:
        others = [s for s in spans[1] if s[0] < ended and begun < s[1]]
        check(not others, f"both were rebuilt at once: {begun} to {ended}, and {others}")
    check(any(log.said("rule=376 waits for another") for log in logs), "none waited")
    lab.wait_healthy()
    check_same(lab)
    for n in (n2, n3):
        labs.wait_for(f"{n.name}'s old data to be kept",
                      lambda n=n: os.path.isdir(f"{n.pgdata}.old.1/data"), 30)


@scenario
def promoted_by_hand(run):
    """pg_ctl promote on a standby: it acknowledges nothing, is not followed, and comes back."""
    lab = run.cluster()
    n1, n2, _ = lab.nodes
    w = run.writers(lab)
    log = Since(n2)
    as_postgres(n2, "/bin/sh", "-c",
                f"touch {n2.pgdata}/promote && kill -USR1 $(head -1 {n2.pgdata}/postmaster.pid)")
    log.wait(r"left recovery without a lease|the primary's fence")
    log.wait(r"its timeline is not one of the cluster's")
    wait_back(lab, n2)
    check(log.said("rewind: ok|clone: ok"), "a hand-made timeline streamed on")
    lab.wait_healthy()
    acks = w.stop()
    check({a.host for a in acks} == {n1.ip}, "another server acknowledged writes")
    check_same(lab)


@scenario
def old_volumes_are_restored(run):
    """A standby's and a primary's data of long ago come back: they join, or are replaced."""
    if not run.is_full:
        raise Skip("with --full only: it fails over three times")
    lab = run.cluster(failover="auto")
    n1, n2, n3 = lab.nodes
    n1.power_off()  # as a snapshot of a running primary is
    shutil.copytree(n1.pgdata, f"{n1.dir}/snapshot", symlinks=True)
    run_as = shutil.chown
    new = lab.wait_primary()
    n1.start()
    wait_back(lab, n1)
    lab.wait_healthy()
    new = fail_over(lab, new)
    lab.nodes[[n1, n2, n3].index(new)].sql("CREATE TABLE later AS SELECT 1 AS i")
    for n in lab.nodes:
        if n.init is None:
            n.start()
    lab.wait_healthy()
    if lab.primary() is n1:
        fail_over(lab, n1)
    else:
        n1.power_off()
    shutil.rmtree(n1.pgdata)
    shutil.copytree(f"{n1.dir}/snapshot", n1.pgdata, symlinks=True)
    for root, dirs, files in os.walk(n1.pgdata):
        for name in dirs + files + ["."]:
            run_as(os.path.join(root, name), "postgres", "postgres")
    log = Since(n1)
    n1.start()
    wait_back(lab, n1)
    check(log.said("rewind: ok|clone: ok"), "a primary of long ago streamed on")
    check(n1.sql("SELECT count(*) FROM later") == "1", "it has not what came later")
    lab.wait_healthy()
    check_same(lab)
