"""Members that were away: who may be elected, who comes back, in every order."""
import itertools

from rejoinlab import Since, check_same, fail_over, wait_back
from scenario import check, labs, no_two_primaries_and_none_lost, scenario


@scenario
def a_stale_standby_is_not_elected_after_a_rolling_outage(run):
    """It missed a switchover; when it alone is left, nobody reigns until who has more is back."""
    lab = run.cluster(failover="auto", witnesses=2, env={"HA_BOOT_GRACE_MS": "1000"})
    n1, n2, stale = lab.databases
    stale.power_off()
    done = lab.hactl("declare", n2.ip)
    check(done.returncode == 0, f"hactl declare: {done.stdout}{done.stderr}")
    lab.wait_primary(n2)
    lab.wait_healthy()
    n2.sql("CREATE TABLE kept AS SELECT generate_series(1, 100) AS i")
    labs.wait_for("n1 to have it",
                  lambda: n1.sql("SELECT count(*) FROM kept", check=False) == "100", 30)
    n1.power_off()
    n2.power_off()
    stale.start()

    def reason():
        leader = [n for n in lab.nodes if n.init and "rule=233" in n.log_text()]
        status = leader[0].status() if leader else None
        return "timeline" in " ".join(
            m.get("unfit") or "" for m in (status or {}).get("members", [])
            if m["address"] == stale.ip)
    labs.wait_for("the governor to say that it lacks the newest timeline", reason, 60)
    labs.holds_for("the stale standby is not elected", lambda: not stale.is_writable(), 3)
    n1.start()
    lab.wait_primary(n1)
    check(n1.sql("SELECT count(*) FROM kept") == "100", "what was acknowledged is gone")
    n2.start()
    lab.wait_healthy()
    check_same(lab)


@scenario
def a_copy_that_a_person_asks_for(run):
    """hactl reinit of a standby: copied, streaming; of the primary: refused, nothing happens."""
    lab = run.cluster()
    n1, _, n3 = lab.nodes
    n1.sql("CREATE TABLE kept AS SELECT generate_series(1, 100) AS i")
    done = lab.hactl("reinit", n1.name)
    check(done.returncode == 4 and "holds the reign" in done.stdout + done.stderr,
          f"reinit of the primary: {done.returncode}: {done.stdout}{done.stderr}")
    log = Since(n3)
    done = lab.hactl("reinit", n3.name)
    check(done.returncode == 0, f"hactl reinit: {done.stdout}{done.stderr}")
    log.wait(r"clone: ok", 120)
    wait_back(lab, n3)
    log.check_copied(r"an operator asked for it")
    check(n3.sql("SELECT count(*) FROM kept") == "100", "the copy lacks rows")
    lab.wait_healthy()
    check_same(lab)


@scenario
def away_for_longer_than_the_wal(run):
    """The primary has removed the WAL that it needs: it says so, and is copied anew."""
    lab = run.cluster(env={"POSTGRESQL_CONF": "wal_keep_size=0|max_slot_wal_keep_size=16MB|"
                                              "max_wal_size=48MB|min_wal_size=32MB"})
    n1, _, n3 = lab.nodes
    n3.stop_agent()
    n1.sql("CREATE TABLE filler AS SELECT repeat('x', 1000) AS t FROM generate_series(1, 60000)",
           seconds=60)
    for _ in range(4):
        n1.sql("SELECT pg_switch_wal()")
        n1.sql("CHECKPOINT", seconds=60)
    log = Since(n3)
    n3.start()
    wait_back(lab, n3)
    log.check_copied(r"the primary has removed the WAL that it needs")
    lab.wait_healthy()
    check_same(lab)


def wait_follows(node, primary):
    labs.wait_for(f"{node.name} to stream from {primary.name}", lambda: node.sql(
        "SELECT sender_host FROM pg_stat_wal_receiver WHERE status = 'streaming'",
        check=False) == primary.ip, 60)


@scenario
def three_failovers_in_a_row(run):
    """Three primaries die one after the other, come back in each order; all stream in the end."""
    lab = run.cluster(nodes=4, witnesses=3, failover="auto")
    w = run.writers(lab, threads=2)
    orders = list(itertools.permutations(range(3)))
    if not run.is_full:
        orders = [(2, 0, 1)]
    for order in orders:
        dead = []
        for _ in range(3):
            old = lab.wait_primary()
            w.wait_acks(labs.boottime_ns())
            for n in lab.databases:  # who is to be next knows of its timeline
                if n is not old and n not in dead:
                    wait_follows(n, old)
            dead.append(old)
            fail_over(lab, old)
        logs = [Since(n) for n in dead]
        for i in order:
            dead[i].start()
            wait_back(lab, dead[i])
        lab.wait_healthy()
        check(all(not log.said("starts as the primary|rule=321") for log in logs),
              "an old primary started as one")
        w.wait_acks(labs.boottime_ns())
    acks, gone = no_two_primaries_and_none_lost(w, lab, may_lose=True)
    run.note(f"{len(orders)} orders, {len(acks)} acknowledged, {len(gone)} lost (asynchronous)")
    check_same(lab)
