"""Switchover, failover, fencing: the primary dies, freezes, is cut off, hands over."""
import signal

from scenario import check, labs, no_two_primaries_and_none_lost, scenario


def declare(lab, node):
    done = lab.hactl("declare", node.ip)
    check(done.returncode == 0, f"hactl declare: {done.stdout}{done.stderr}")


@scenario
def switchovers_in_a_row_lose_nothing(run):
    """Switchovers under 8 writers, the role going around: no acknowledged write is missing."""
    lab = run.cluster()
    w = run.writers(lab)
    n = 20 if run.is_full else 4
    outages = []
    for i in range(n):
        to = lab.nodes[(i + 1) % 3]
        at = labs.boottime_ns()
        declare(lab, to)
        lab.wait_primary(to)
        w.wait_acks(labs.boottime_ns())
        outages.append(labs.outage_ms(w.acks(), at))
        lab.wait_healthy()
    acks, _ = no_two_primaries_and_none_lost(w, lab)
    check(len({a.timeline for a in acks}) == n + 1, "a switchover without a new timeline")
    run.note(f"{n} switchovers, {len(acks)} acknowledged, outage ms "
             + " ".join(f"{o:.0f}" for o in outages))


def handover_is_decided(node, before):
    said = node.log_text()[before:]
    return "the handover is called off" in said or "giving the reign back: handover" in said


@scenario
def a_successor_that_lacks_the_last_record_gets_no_reign(run):
    """Its WAL receiver hangs: the handover is called off, and done when it has caught up."""
    lab = run.cluster(nodes=2)
    n1, n2 = lab.nodes
    w = run.writers(lab)
    receiver = n2.process("walreceiver")
    receiver.kill(signal.SIGSTOP)
    at = labs.boottime_ns()
    w.wait_acks(at, host=n1.ip)
    before = len(n1.log_text())
    declare(lab, n2)
    labs.wait_for("n1 to hand over or to call it off", lambda: handover_is_decided(n1, before))
    receiver.kill(signal.SIGTERM)  # so that it takes nothing more from its socket when it wakes
    receiver.kill(signal.SIGCONT)
    lab.wait_primary(n2)
    lab.wait_healthy()
    w.wait_acks(labs.boottime_ns())
    acks, _ = no_two_primaries_and_none_lost(w, lab)
    check("the handover is called off" in n1.log_text(), "the handover was not called off")
    run.note(f"{len(acks)} acknowledged, {len([a for a in acks if a.sent > at])} of them after "
             "the receiver hung")


def fail_over(run, deed, undo=lambda lab: None, failover="auto", **more):
    """The primary's end by `deed`; another takes over; after `undo` all is well again."""
    lab = run.cluster(failover=failover, **more)
    w = run.writers(lab)
    old = lab.primary()
    at = labs.boottime_ns()
    deed(lab, old)
    begun = labs.wait_for("another node to acknowledge writes",
                          lambda: [a for a in w.acks() if a.sent > at and a.host != old.ip], 60)
    w.wait_acks(begun[0].sent + 500_000_000)  # while the fault lasts: does the old one answer too?
    two = labs.two_primaries(w.acks())
    check(not two, "two primaries: " + "; ".join(two[:3]))
    undo(lab)
    lab.wait_healthy()
    check(lab.primary() is not old, "the old primary took the role back")
    acks, gone = no_two_primaries_and_none_lost(w, lab, may_lose=True)
    run.note(f"outage {labs.outage_ms(acks, at):.0f} ms, {len(acks)} acknowledged, "
             f"{len(gone)} lost (asynchronous)")
    last = max(a.received for a in acks if a.host == old.ip)
    return lab, acks, at, last


@scenario
def postmaster_killed(run):
    """kill -9 of the primary's postmaster, auto: another takes over, nothing is lost."""
    fail_over(run, lambda lab, n: n.kill_postmaster())


@scenario
def postmaster_killed_under_declared_restarts_in_place(run):
    """kill -9 of the postmaster under `declared`: the same primary serves again."""
    lab = run.cluster()
    w = run.writers(lab)
    n1 = lab.primary()
    n1.kill_postmaster()
    w.wait_acks(labs.boottime_ns())
    check(lab.wait_primary() is n1, "the role moved without a declaration")
    lab.wait_healthy()
    no_two_primaries_and_none_lost(w, lab)


@scenario
def agent_killed(run):
    """kill -9 of the primary's agent: its PostgreSQL dies with it, another takes over."""
    def deed(_lab, n):
        p = n.postmaster()
        n.kill_agent()
        labs.wait_for("PostgreSQL to die with its agent", lambda: not p.alive(), 3)
    fail_over(run, deed, undo=lambda lab: [n.start() for n in lab.nodes if not n.agent.alive()],
              lease_ms=8000)  # so that it does not die of that


@scenario
def node_powered_off(run):
    """Everything on the primary's node dies at once."""
    fail_over(run, lambda lab, n: n.power_off(),
              undo=lambda lab: [n.start() for n in lab.nodes if n.init is None])


def cut_holds(run, one_way):
    """The cut primary stops within its lease; nobody answers before; it heals."""
    _, acks, at, last = fail_over(run, lambda lab, n: lab.cut(n, one_way=one_way),
                                  undo=lambda lab: lab.heal())
    check(last - at <= 2_200_000_000,
          f"the cut primary acknowledged {(last - at) / 1e6:.0f} ms after the cut, lease 2000 ms")
    run.note(f"last acknowledgement of the cut primary: {(last - at) / 1e6:.0f} ms after the cut")
    return acks


@scenario
def primary_cut_off(run):
    """All packets between the primary and the others are dropped."""
    cut_holds(run, None)


@scenario
def primary_cut_off_one_way_out(run):
    """What the primary sends is dropped; it still hears everybody."""
    cut_holds(run, "out")


@scenario
def primary_cut_off_one_way_in(run):
    """What the primary should hear is dropped; everybody still hears it."""
    cut_holds(run, "in")


def stay(seconds):
    """A fault lasts for so long."""
    until = labs.boottime_ns() + int(seconds * 1e9)
    labs.wait_for(f"{seconds} s", lambda: labs.boottime_ns() > until, seconds + 60, every=0.01)


@scenario
def answers_that_come_late_make_no_lease(run):
    """Grants reach the primary's frozen agent; when it wakes, another reigns: they are void."""
    lab = run.cluster(lease_ms=4000)
    n1, n2, _ = lab.nodes
    w = run.writers(lab)
    lab.cut(n1, one_way="in")  # a question each second gets out, and no answer in
    stay(1.2)
    n1.kill_agent(signal.SIGSTOP)
    lab.heal()  # the answers arrive in the sockets of the frozen agent
    stay(1.2)
    lab.cut(n1)  # and nothing of what comes after
    at = labs.boottime_ns()
    declare(lab, n2)
    w.wait_acks(at, host=n2.ip)
    woken = labs.boottime_ns()
    n1.kill_agent(signal.SIGCONT)
    stay(4)
    late = [a for a in w.acks() if a.sent > woken and a.host == n1.ip]
    check(not late, f"two primaries: {len(late)} acknowledged under a lease of late answers")
    lab.heal()
    lab.wait_healthy()
    check(lab.primary() is n2, "the old primary took the role back")
    no_two_primaries_and_none_lost(w, lab, may_lose=True)


@scenario
def declared_policy_promotes_nobody_by_itself(run):
    """A dead primary under `declared`: writes wait; a declaration promotes; the old one follows."""
    lab = run.cluster()
    n1, n2, _ = lab.nodes
    w = run.writers(lab)
    lab.cut(n1)
    labs.wait_for("the cut primary to stop", lambda: not n1.is_writable(), 30)
    at = labs.boottime_ns()
    labs.wait_for("six seconds without a primary", lambda: labs.boottime_ns() > at + 6_000_000_000)
    check(lab.primary() is None, "somebody was promoted without a declaration")
    check("writes wait" in lab.hactl("leader").stderr + "".join(n.log_text() for n in lab.nodes),
          "nobody says that writes wait")
    declare(lab, n2)
    lab.wait_primary(n2)
    lab.heal()
    lab.wait_healthy()
    check(lab.primary() is n2, "the old primary took the role back")
    w.wait_acks(labs.boottime_ns())
    no_two_primaries_and_none_lost(w, lab, may_lose=True)


@scenario
def the_declared_successor_fetches_what_it_lacks(run):
    """The declared one lags behind another standby when the primary dies: it fetches first."""
    lab = run.cluster()
    n1, n2, n3 = lab.nodes
    w = run.writers(lab)
    lab.cut(n2, peers=[n1])  # n2 hears n3 still, but no more WAL from the primary
    labs.wait_for("n2 to fall behind", lambda: not n2.is_streaming(), 60)
    w.wait_acks(labs.boottime_ns())
    n1.power_off()
    lab.heal()
    declare(lab, n2)
    lab.wait_primary(n2)
    n1.start()
    lab.wait_healthy()
    w.wait_acks(labs.boottime_ns())
    check("fetching the newest WAL" in n2.log_text(), "it did not fetch")
    acks, gone = no_two_primaries_and_none_lost(w, lab, may_lose=True)
    run.note(f"{len(acks)} acknowledged, {len(gone)} lost (in flight at the power loss)")


@scenario
def two_members_replica_dies(run):
    """The replica's death does not stop writes, not even over a restart of the primary."""
    lab = run.cluster(nodes=2, failover="auto")
    n1, n2 = lab.nodes
    w = run.writers(lab)
    n2.power_off()
    at = labs.boottime_ns()
    labs.wait_for("writes to go on for 5 s",
                  lambda: [a for a in w.acks() if a.sent > at + 5_000_000_000], 30)
    gap = labs.outage_ms(w.acks(), at)
    check(gap < 1500, f"writes stood still for {gap:.0f} ms when the replica died")
    n1.power_off()
    n1.start()
    lab.wait_primary(n1)
    w.wait_acks(labs.boottime_ns())
    n2.start()
    lab.wait_healthy()
    no_two_primaries_and_none_lost(w, lab)


@scenario
def two_members_primary_dies(run):
    """The primary's death does not promote the replica of two, not even under `auto`."""
    lab = run.cluster(nodes=2, failover="auto")
    n1, n2 = lab.nodes
    w = run.writers(lab)
    n1.power_off()
    labs.holds_for("the replica of two is not promoted", lambda: not n2.is_writable(), 8)
    n1.start()
    lab.wait_primary(n1)
    lab.wait_healthy()
    w.wait_acks(labs.boottime_ns())
    no_two_primaries_and_none_lost(w, lab)


@scenario
def a_hand_promoted_replica_is_put_down(run):
    """pg_promote() by hand on a replica: it acknowledges nothing, and is rebuilt."""
    lab = run.cluster()
    n2 = lab.nodes[1]
    w = run.writers(lab)
    n2.exec("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "psql", "-h",
            "/run/hawser", "-U", "postgres", "-c", "SELECT pg_promote()", check=False)
    labs.wait_for("the hand-promoted one to be stopped", lambda: "kill" in n2.log_text(), 30)
    lab.wait_healthy()
    acks, _ = no_two_primaries_and_none_lost(w, lab)
    check({a.host for a in acks} == {lab.nodes[0].ip}, "another server acknowledged writes")


@scenario
def agent_frozen(run):
    """SIGSTOP of the primary's agent: no acknowledgement after the lease; another takes over."""
    def deed(_lab, n):
        n.kill_agent(signal.SIGSTOP)

    def undo(lab):
        for n in lab.nodes:
            n.kill_agent(signal.SIGCONT)
    _, _, at, last = fail_over(run, deed, undo)
    check(last - at <= 2_200_000_000,
          f"acknowledged {(last - at) / 1e6:.0f} ms after the freeze, lease 2000 ms")
