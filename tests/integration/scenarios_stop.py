"""Agents that are told to end: a rolling update costs next to nothing, and loses nothing."""
from scenario import alone, check, labs, no_two_primaries_and_none_lost, scenario

OUTAGE_MS = 2000  # a lease: what it would cost if nobody handed over
AWAY_NS = 3_000_000_000  # between a container's end and its successor's start


def roll(run, failover):
    """Each agent is stopped (SIGTERM) and started in turn under 8 writers."""
    lab = run.cluster(failover=failover)
    w = run.writers(lab)
    outages, stops = [], []
    for n in lab.nodes:
        was_primary = lab.wait_primary() is n
        at = labs.boottime_ns()
        n.stop_agent()
        gone = labs.boottime_ns()
        stops.append((gone - at) / 1e9)
        labs.wait_for("the next container", lambda: labs.boottime_ns() > gone + AWAY_NS)
        n.start()
        lab.wait_healthy()
        if failover == "declared":
            lab.wait_primary(lab.nodes[0])  # it gets its reign back by itself
            lab.wait_healthy()
        w.wait_acks(labs.boottime_ns())
        gap = labs.outage_ms(w.acks(), at, within_s=(labs.boottime_ns() - at) / 1e9)
        outages.append((n.name, gap, was_primary))
    acks, _ = no_two_primaries_and_none_lost(w, lab)
    run.note(f"{failover}: outage ms " + ", ".join(
        f"{name}{' (primary)' if p else ''} {gap:.0f}" for name, gap, p in outages)
        + f"; agent gone after s {' '.join(f'{s:.1f}' for s in stops)}"
        + f"; {len(acks)} acknowledged, 0 lost")
    check(outages[0][2], "the first one that was stopped was no primary")
    for name, gap, _ in outages:
        check(gap < OUTAGE_MS, f"stopping {name} cost {gap:.0f} ms of writes")
    check(max(stops) < 10, f"an agent took {max(stops):.1f} s to end")
    return lab


@alone
def rolling_restart_under_declared(run):
    """SIGTERM hands over also under `declared`, and the declared one returns: 0 lost."""
    lab = roll(run, "declared")
    whys = lab.hactl("history").stdout
    check("handover" in whys, f"no handover in the history: {whys}")


@alone
def rolling_restart_under_auto(run):
    """SIGTERM hands over under `auto`, whoever reigns: 0 lost."""
    roll(run, "auto")


@scenario
def restart_and_reload_in_place(run):
    """hactl restart of standby and primary, auto: nobody takes over, nothing is lost."""
    lab = run.cluster(failover="auto")
    w = run.writers(lab)
    n1, n2, _ = lab.nodes
    plan = lab.hactl("plan", f"PRIMARY={n2.ip}")
    check(plan.returncode == 0 and "makes a checkpoint" in plan.stdout, f"hactl plan: {plan}")
    gaps = []
    for n in (n2, n1):
        before = n.sql("SELECT pg_postmaster_start_time()")
        at = labs.boottime_ns()
        done = lab.hactl("restart", n.name)
        check(done.returncode == 0, f"hactl restart: {done.stdout}{done.stderr}")
        check(n.sql("SELECT pg_postmaster_start_time()") != before, f"{n.name} was not restarted")
        lab.wait_healthy()
        w.wait_acks(labs.boottime_ns())
        gaps.append(labs.outage_ms(w.acks(), at, within_s=(labs.boottime_ns() - at) / 1e9))
    before = n1.sql("SELECT pg_conf_load_time()")
    done = lab.hactl("reload", n1.name)
    check(done.returncode == 0, f"hactl reload: {done.stdout}{done.stderr}")
    labs.wait_for("the reload", lambda: n1.sql("SELECT pg_conf_load_time()") != before, 10)
    check(lab.primary() is n1 and "reign 2" not in n1.log_text(), "the role moved")
    acks, _ = no_two_primaries_and_none_lost(w, lab)
    run.note(f"outage ms: standby {gaps[0]:.0f}, primary {gaps[1]:.0f}; {len(acks)} acknowledged, "
             "0 lost")


@scenario
def on_stop_stop_hands_over_to_nobody(run):
    """HA_ON_STOP=stop under `declared`: writes wait for the same primary, nothing is lost."""
    lab = run.cluster(env={"HA_ON_STOP": "stop"})
    w = run.writers(lab)
    n1 = lab.primary()
    n1.stop_agent()
    at = labs.boottime_ns()
    labs.wait_for("four seconds without a primary", lambda: labs.boottime_ns() > at + 4 * 10**9)
    check(lab.primary() is None, "somebody took over")
    n1.start()
    lab.wait_healthy()
    check(lab.primary() is n1, "another one is the primary")
    w.wait_acks(labs.boottime_ns())
    no_two_primaries_and_none_lost(w, lab)
