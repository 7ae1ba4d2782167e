"""Founding, joining, restarting, losing a directory."""
import itertools
import os
import shutil

from scenario import check, labs, no_two_primaries_and_none_lost, scenario


def sysids(lab):
    return {n.sql("SELECT system_identifier FROM pg_control_system()") for n in lab.databases}


def cluster_ids(lab):
    """What each member says of which cluster it is, once all of them know."""
    def said():
        ids = [(n.status() or {}).get("cluster_id") for n in lab.nodes]
        return ids if all(ids) else None
    return set(labs.wait_for("each member to know its cluster", said))


def waits_alone(node):
    """It has looked around, and goes on waiting; it founds nothing."""
    labs.wait_for(f"{node.name} to look around", lambda: "1 of 3 members are here" in
                  node.log_text() or "founding a cluster" in node.log_text())
    at = labs.boottime_ns()
    labs.wait_for("three seconds alone", lambda: labs.boottime_ns() > at + 3_000_000_000)
    check("founding a cluster" not in node.log_text(), f"{node.name}, alone, founds a cluster")
    check(not os.path.exists(node.pgdata), f"{node.name}, alone, has made data")


@scenario
def one_member_is_a_cluster(run):
    """A single member founds, writes, and comes back from a restart."""
    lab = run.cluster(nodes=1)
    n1 = lab.nodes[0]
    n1.sql("CREATE TABLE t AS SELECT 7 AS x")
    n1.stop_agent()
    n1.start()
    lab.wait_primary(n1)
    check(n1.sql("SELECT x FROM t") == "7", "the row is gone after a restart")


@scenario
def synchronous_replication_does_not_block_the_founding(run):
    """HA_SYNC=strict with two members: founded without a standby, synchronous then."""
    lab = run.cluster(nodes=2, env={"HA_SYNC": "strict"})
    n1, n2 = lab.nodes
    labs.wait_for("commits to wait for the standby", lambda: n1.sql(
        "SELECT sync_state FROM pg_stat_replication") == "quorum")
    n2.power_off()
    try:
        n1.sql("CREATE TABLE t ()", seconds=0)
    except labs.subprocess.TimeoutExpired:
        return
    check(False, "a commit was acknowledged without a standby")


@scenario
def three_empty_members_in_any_order_found_one_cluster(run):
    """Whatever the order in which they come, there is one cluster with one system identifier."""
    orders = list(itertools.permutations(range(3)))
    for order in orders if run.is_full else [orders[0], orders[5]]:
        lab = run.cluster(start=False)
        for i in order:
            lab.nodes[i].start()
        ids = cluster_ids(lab)
        check(len(ids) == 1, f"order {order}: {len(ids)} clusters were founded")
        lab.wait_healthy()
        check(len(sysids(lab)) == 1, f"order {order}: more than one cluster was founded")
        lab.down(purge=True)
        run.labs.remove(lab)


@scenario
def a_minority_founds_nothing(run):
    """One of three, alone, waits; when a second comes they found, and the third joins."""
    lab = run.cluster(start=False)
    n1, n2, n3 = lab.nodes
    n1.start()
    waits_alone(n1)
    n2.start()
    lab.wait_primary(n1)
    n3.start()
    lab.wait_healthy()
    check(len(sysids(lab)) == 1, "the late member founded a cluster of its own")


@scenario
def a_member_that_lost_everything_founds_no_second_cluster(run):
    """The primary's disk is lost while it is cut off: alone it founds nothing; healed, it joins."""
    lab = run.cluster(failover="auto")
    n1 = lab.nodes[0]
    before = sysids(lab)
    n1.power_off()
    new = lab.wait_primary()
    shutil.rmtree(f"{n1.dir}/data")
    lab.cut(n1)
    os.rename(n1.log, f"{n1.log}.before")  # there it founded, with the others
    n1.start()
    waits_alone(n1)
    lab.heal()
    lab.wait_healthy()
    check(lab.primary() is new, "its return moved the primary")
    check(sysids(lab) == before, "the cluster's identity changed")


@scenario
def a_lost_state_directory_is_replaced(run):
    """A replica, then the primary, loses its state directory alone (PGDATA stays)."""
    lab = run.cluster()
    n1, n2, _ = lab.nodes
    w = run.writers(lab)
    n2.stop_agent()
    shutil.rmtree(f"{n2.dir}/data/state")
    n2.start()
    lab.wait_healthy()
    n1.stop_agent()
    shutil.rmtree(f"{n1.dir}/data/state")
    n1.start()
    lab.wait_healthy()
    w.wait_acks(labs.boottime_ns())
    no_two_primaries_and_none_lost(w, lab)


@scenario
def the_whole_cluster_restarts(run):
    """All at once, in any order, cleanly and by power loss: the same primary, nothing lost."""
    lab = run.cluster()
    n1 = lab.nodes[0]
    w = run.writers(lab)
    for n in lab.nodes:
        n.power_off()
    for n in reversed(lab.nodes):
        n.start()
    check(lab.wait_healthy() is n1, "power loss of all moved the declared primary")
    w.wait_acks(labs.boottime_ns())
    for n in lab.nodes:
        n.kill_agent(labs.signal.SIGTERM)
    for n in lab.nodes:
        labs.wait_for("the agents to end", lambda n=n: not n.agent.alive())
    for n in lab.nodes:
        n.start()
    lab.wait_primary(n1)  # it may have handed over to one that was not yet told to end
    lab.wait_healthy()
    w.wait_acks(labs.boottime_ns())
    no_two_primaries_and_none_lost(w, lab)


@scenario
def five_members_and_a_witness_arbiter(run):
    """Two databases and a witness fail over; five databases lose two and go on."""
    lab = run.cluster(nodes=2, witnesses=1, failover="auto")
    w = run.writers(lab)
    lab.nodes[0].power_off()
    lab.wait_primary(lab.nodes[1])
    lab.nodes[0].start()
    lab.wait_healthy()
    w.wait_acks(labs.boottime_ns())
    no_two_primaries_and_none_lost(w, lab, may_lose=True)
    lab.down(purge=True)
    run.labs.remove(lab)
    lab = run.cluster(nodes=5, failover="auto")
    w = run.writers(lab, threads=4)
    lab.nodes[0].power_off()
    lab.nodes[4].power_off()
    lab.wait_primary()
    lab.nodes[0].start()
    lab.nodes[4].start()
    lab.wait_healthy()
    w.wait_acks(labs.boottime_ns())
    no_two_primaries_and_none_lost(w, lab, may_lose=True)
