"""Freeze before choosing: the candidates let go first, then the one with the most WAL wins."""
import re

from scenario import check, labs, no_two_primaries_and_none_lost, scenario

BEHIND_BYTES = 256 << 10


def cut_wal(upstream, standby):
    """The standby gets no more WAL from there; the agents still hear each other."""
    upstream.exec("nft", "-f", "-", input=f"""
        table inet cutwal {{
            chain input {{
                type filter hook input priority 0;
                ip saddr {standby.ip} tcp dport 5432 drop
            }}
        }}""")


def log_times(node, pattern):
    """Moments of the lines that match, as sortable texts."""
    return [line[:24] for line in node.log_text().splitlines() if re.search(pattern, line)]


def let_go_before(reign, lab, candidates):
    """Every candidate's last word before the appointment was that its receiver is gone."""
    begun = min(log_times(n, rf"reign {reign} is held by")[0] for n in lab.nodes
                if log_times(n, rf"reign {reign} is held by"))
    for n in candidates:
        times = [t for t in log_times(n, r"rule=367 ") if t <= begun]
        check(times, f"{n.name} had not let go when reign {reign} was given")


def wal_is_behind(lab, node, other):
    """True when a node has received less than another one: by more than what is written between
    the two questions, and than what was under way when its answers began to be dropped."""
    text = "SELECT pg_last_wal_receive_lsn()"
    a, b = node.sql(text), other.sql(text)
    return lab.nodes[0].sql(f"SELECT '{b}'::pg_lsn - '{a}'::pg_lsn > {BEHIND_BYTES}") == "t"


def has_received(lab, node, lsn):
    got = node.sql("SELECT pg_last_wal_receive_lsn()")
    return lab.nodes[0].sql(f"SELECT '{got}'::pg_lsn >= '{lsn}'::pg_lsn") == "t"


@scenario
def the_most_advanced_standby_wins(run):
    """auto: the standby that lags loses against the one that does not; both let go first."""
    lab = run.cluster(failover="auto")
    n1, n2, n3 = lab.nodes
    w = run.writers(lab)
    cut_wal(n1, n2)
    labs.wait_for("n2 to fall behind", lambda: wal_is_behind(lab, n2, n3), 60)
    w.wait_acks(labs.boottime_ns())
    at = labs.boottime_ns()
    lab.cut(n1)
    lab.wait_primary(n3)
    w.wait_acks(labs.boottime_ns(), host=n3.ip)
    let_go_before(2, lab, [n2, n3])
    n1.exec("nft", "delete", "table", "inet", "cutwal")
    lab.heal()
    lab.wait_healthy()
    acks, gone = no_two_primaries_and_none_lost(w, lab, may_lose=True)
    old = [a for a in acks if f"{a.writer} {a.seq}" in set(gone) and a.received < at - 200_000_000]
    check(not old, f"{len(old)} writes of long before the cut are lost")
    run.note(f"outage {labs.outage_ms(acks, at):.0f} ms, {len(acks)} acknowledged, {len(gone)} "
             "lost (asynchronous)")


@scenario
def a_source_that_dies_in_the_middle(run):
    """The declared one lags and fetches; its source dies; it fetches from the next, and opens."""
    lab = run.cluster(nodes=5)
    n1, n2, n3, n4, n5 = lab.nodes
    w = run.writers(lab)
    cut_wal(n1, n2)
    labs.wait_for("n2 to fall behind", lambda: wal_is_behind(lab, n2, n4), 60)
    w.wait_acks(labs.boottime_ns())
    known = labs.boottime_ns()  # what was acknowledged until now, n4 and n5 get
    until = n1.sql("SELECT pg_current_wal_flush_lsn()")
    labs.wait_for("n4 and n5 to have it",
                  lambda: all(has_received(lab, n, until) for n in (n4, n5)))
    n1.exec("nft", "-f", "-", input=f"""
        add rule inet cutwal input ip saddr {{ {n4.ip}, {n5.ip} }} tcp dport 5432 drop
        """)
    labs.wait_for("n4 and n5 to fall behind",
                  lambda: wal_is_behind(lab, n4, n3) and wal_is_behind(lab, n5, n3), 60)
    check(wal_is_behind(lab, n2, n4), "n2 has caught up")
    cut_wal(n3, n2)
    done = lab.hactl("declare", n2.ip)
    check(done.returncode == 0, f"hactl declare: {done.stdout}{done.stderr}")
    n1.power_off()
    fetching = r"rule=366 fetching the newest WAL from "
    labs.wait_for("n2 to be sent to n3", lambda: log_times(n2, fetching + re.escape(n3.ip)), 30)
    check(not n2.is_writable(), "n2 was opened without what n3 has")
    at = labs.boottime_ns()
    n3.power_off()
    lab.wait_primary(n2, seconds=30)
    took = (labs.boottime_ns() - at) / 1e9
    sent_to = [line for line in n2.log_text().splitlines() if "follow: ok" in line
               or "fetching the newest WAL" in line]
    check(log_times(n2, fetching), f"no word of a second choice: {sent_to}")
    w.wait_acks(labs.boottime_ns(), host=n2.ip)
    n1.start()
    n3.start()
    lab.wait_healthy()
    acks, gone = no_two_primaries_and_none_lost(w, lab, may_lose=True)
    missing = set(gone)
    old = [a for a in acks if f"{a.writer} {a.seq}" in missing and a.received < known]
    check(not old, f"{len(old)} writes that n4 and n5 had are lost: it opened without fetching")
    run.note(f"open {took:.1f} s after the source's death; {len(acks)} acknowledged, {len(gone)} "
             "lost with the two dead nodes, none that a living one had")
