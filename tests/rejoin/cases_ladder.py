"""The ladder: stream on, else pg_rewind, else a copy; and whatever can go wrong on it."""
import glob
import os
import shutil

from rejoinlab import (Since, by_hand, check_same, fail_over, process, stall_after, unstall,
                       wait_back, write_by_hand)
from scenario import check, labs, no_two_primaries_and_none_lost, scenario

BIG = ("CREATE TABLE big AS SELECT i, repeat(md5(i::text), 30) AS t"
       " FROM generate_series(1, 60000) i")  # some 60 MB


@scenario
def each_rung_of_the_ladder(run):
    """Rewound; without the rights for it, and without the WAL for it, copied; never writable."""
    lab = run.cluster(failover="auto")
    old = lab.primary()
    w = run.writers(lab)
    new = fail_over(lab, old)
    write_by_hand(old)
    log = Since(old)
    old.start()
    wait_back(lab, old)
    log.check_rewound()
    w.wait_acks(labs.boottime_ns())
    no_two_primaries_and_none_lost(w, lab, may_lose=True)
    lab.wait_healthy()

    logs = {n: Since(n) for n in lab.databases}
    old, new = new, fail_over(lab, new)
    logs[new].wait(r"ev=upkeep pg_rewind may")  # it gives the right, once for each promotion
    right = "pg_read_binary_file(text, bigint, bigint, boolean)"
    new.sql(f"REVOKE EXECUTE ON FUNCTION {right} FROM replicator")
    write_by_hand(old)
    log = Since(old)
    old.start()
    wait_back(lab, old)
    log.check_copied(r"rewind: .*permission denied")
    lab.wait_healthy()

    old, new = new, fail_over(lab, new)
    write_by_hand(old, more=["CHECKPOINT", "SELECT pg_switch_wal()", "CREATE TABLE x (i int)",
                             "CHECKPOINT", "SELECT pg_switch_wal()"])
    segments = sorted(glob.glob(f"{old.pgdata}/pg_wal/0000*[0-9A-F]"))
    for path in segments[:-2]:
        os.remove(path)
    log = Since(old)
    old.start()
    wait_back(lab, old)
    log.check_copied(r"rewind: .*(could not find previous WAL record|could not open file)")
    lab.wait_healthy()
    check_same(lab)


@scenario
def a_rewind_that_is_killed_in_the_middle(run):
    """Half-rewound data are never started: a copy takes their place, and they are kept aside."""
    lab = run.cluster(failover="auto", env={"HA_KEEP_OLD": "1"})
    old = lab.primary()
    new = fail_over(lab, old)
    write_by_hand(old)
    new.sql(BIG, seconds=60)
    stall_after(old, new, 8)
    log = Since(old)
    old.start()
    log.wait(r"moving what is in .* to .*\.old/data", 120)
    labs.wait_for("pg_rewind to stand in the middle", lambda: new.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'replicator'"
        " AND wait_event = 'ClientWrite'", check=False) == "1", 60, every=0.1)
    check(process(old, "pg_rewind", "--progress"), "pg_rewind has ended")
    old.power_off()
    check(not os.path.exists(f"{old.pgdata}/PG_VERSION"), "a half-rewound PGDATA could be started")
    with open(f"{old.pgdata}.old/hawser-side-directory", encoding="ascii") as f:
        check(f.read() == "rewinding\n", "the marker does not say that it is being rewound")
    unstall(old)
    log = Since(old)
    old.start()
    wait_back(lab, old)
    log.check_copied(r"a rewind of its data was cut short")
    check(not log.said(r"rewind: ok"), "it was rewound a second time")
    labs.wait_for("what was replaced to be kept as the one before",
                  lambda: os.path.isdir(f"{old.pgdata}.old.1/data")
                  and not os.path.exists(f"{old.pgdata}.old"), 30)
    lab.wait_healthy()
    check_same(lab)


def wait_half_copied(node):
    """What the node says of itself when a fifth of the copy is there."""
    def progress():
        status = node.status()
        me = [m for m in status["members"] if m["is_self"]] if status else []
        return me and me[0].get("clone_percent", 0) >= 20 and me[0]
    return labs.wait_for("the copy to be in the middle", progress, 60, every=0.1)


@scenario
def a_half_copied_standby_is_not_elected_though_it_is_alone(run):
    """The primary dies while its only standby is copied from it: nobody reigns until it is back."""
    lab = run.cluster(nodes=2, witnesses=1, failover="auto")
    old, half = lab.databases
    old.sql(BIG, seconds=60)
    lab.wait_healthy()
    half.power_off()
    shutil.rmtree(half.pgdata)
    half.start(HA_CLONE_RATE="4MB")
    wait_half_copied(half)
    old.power_off()

    def reason():
        status = half.status()
        return status and [m["unfit"] for m in status["members"] if m["is_self"] and m["unfit"]]
    said = labs.wait_for("the members to say why they elect nobody", reason, 60)
    run.note(f"unfit: {said[0]}")
    labs.holds_for("a half-copied standby is not elected", lambda: not half.is_writable(), 5)
    check(not os.path.exists(f"{half.pgdata}/PG_VERSION"), "half a copy took the place of PGDATA")
    old.start()
    lab.wait_primary(old)
    wait_back(lab, half)
    lab.wait_healthy()
    check_same(lab)


@scenario
def a_source_that_dies_in_the_middle_of_a_copy(run):
    """The half-copied member is nobody's candidate; it copies from the next primary."""
    lab = run.cluster(failover="auto")
    old = lab.primary()
    old.sql(BIG, seconds=60)
    lab.wait_healthy()
    half = lab.nodes[2]
    half.power_off()
    shutil.rmtree(half.pgdata)
    log = Since(half)
    half.start(HA_CLONE_RATE="4MB")
    me = wait_half_copied(half)
    check(me["clone_done_bytes"] > 0 and me["clone_bytes_per_second"] < 8 << 20,
          f"progress: {me.get('clone_done_bytes')} at {me.get('clone_bytes_per_second')} B/s")
    new = fail_over(lab, old)
    check(new is lab.nodes[1], "the half-copied member was elected")
    log.wait(r"clone: .*(pg_basebackup ended|failed)")
    check(not log.said(r"clone: ok"), "a copy without its end counts")
    half.power_off()
    half.start(HA_CLONE_RATE=None)  # what is half is removed, and copied anew
    wait_back(lab, half)
    check(log.said(rf"copying from {new.ip}"), "it did not copy from the new primary")
    old.start()
    lab.wait_healthy()
    check_same(lab)


@scenario
def tablespaces_are_copied_and_rewound(run):
    """Tables in a tablespace survive a copy from a replica, a second copy, and a rewind."""
    lab = run.cluster(failover="auto", start=False)
    space = f"{lab.dir}/space"
    os.makedirs(space)
    for n in lab.nodes:
        n.power_on()
        own = f"{n.dir}/space"
        os.makedirs(own)
        shutil.chown(own, "postgres", "postgres")
        n.exec("mount", "--bind", own, space)
    lab.start()
    lab.wait_healthy()
    old = lab.primary()
    old.sql(f"CREATE TABLESPACE far LOCATION '{space}'")
    old.sql("CREATE TABLE spaced (i int) TABLESPACE far; INSERT INTO spaced VALUES (1), (2)")
    third = lab.nodes[2]
    for _ in range(2):  # the second time the first copy's directory is in the way
        third.stop_agent()
        shutil.rmtree(third.pgdata)
        log = Since(third)
        third.start(HA_CLONE_FROM="replica")
        wait_back(lab, third)
        log.check_copied(rf"copying from {lab.nodes[1].ip}")
        check(third.sql("SELECT sum(i) FROM spaced") == "3", "the tablespace did not come along")
    old.kill_agent()
    new = labs.wait_for("another primary", lambda: lab.primary() not in (None, old)
                        and lab.primary(), 90)
    with by_hand(old) as sql:
        sql("INSERT INTO spaced VALUES (1000)")
    new.sql("INSERT INTO spaced VALUES (10)")
    log = Since(old)
    old.start()
    wait_back(lab, old)
    log.check_rewound()
    labs.wait_for("the tablespace to be the new primary's",
                  lambda: old.sql("SELECT sum(i) FROM spaced", check=False) == "13", 30)
    lab.wait_healthy()
    check_same(lab)
