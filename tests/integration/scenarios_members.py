"""Members that come and go by declaration: another REPLICAS_IP, task by task, as Swarm does it."""
import json

from members import redeploy, wait_members, without
from scenario import check, labs, no_two_primaries_and_none_lost, only_full, scenario


def raft_leader(lab):
    for n in lab.nodes:
        status = n.status() if n.init else None
        if status and status["raft"]["role"] == "leader":
            return n
    return None


@scenario
def members_come_and_go_by_declaration(run):
    """3 -> 4 -> 3 members under writers; the one that went comes back under its old directory."""
    only_full(run)
    lab = run.cluster(nodes=4, start=False)
    n1, _, _, n4 = lab.nodes
    three = without(lab, n4)
    redeploy(lab, three)
    wait_members(lab, three)
    w = run.writers(lab)
    redeploy(lab, lab.nodes)
    wait_members(lab, lab.nodes)
    check(n4.is_streaming(), "the new member does not stream")
    redeploy(lab, three)  # n4 runs on, with the environment that it had
    wait_members(lab, three)
    w.wait_acks(labs.boottime_ns())
    redeploy(lab, lab.nodes)
    wait_members(lab, lab.nodes)
    check("asks to be let in anew" in n4.log_text(), "n4 did not find out that it was removed")
    check(lab.primary() is n1, "a change of members moved the declared primary")
    w.wait_acks(labs.boottime_ns())
    no_two_primaries_and_none_lost(w, lab)


@scenario
def two_members_become_three(run):
    """The third takes part: with the primary's node lost it takes over (auto)."""
    lab = run.cluster(nodes=3, failover="auto", start=False)
    n1, n2, n3 = lab.nodes
    redeploy(lab, [n1, n2])
    wait_members(lab, [n1, n2])
    w = run.writers(lab)
    redeploy(lab, lab.nodes)
    wait_members(lab, lab.nodes)
    lab.wait_primary(n1)
    n1.power_off()
    p = lab.wait_primary()
    w.wait_acks(labs.boottime_ns(), host=p.ip)
    n1.start()
    lab.wait_healthy()
    no_two_primaries_and_none_lost(w, lab, may_lose=True)


@scenario
def a_dead_member_and_the_raft_leader_are_removed(run):
    """4 -> 3 with a dead one, then 3 -> 2 with Raft's leader, which is not the primary."""
    only_full(run)
    lab = run.cluster(nodes=4, failover="auto")
    n1, _, _, n4 = lab.nodes
    w = run.writers(lab)
    n4.power_off()
    three = without(lab, n4)
    redeploy(lab, three, primary=n1)
    wait_members(lab, three)
    leader = labs.wait_for("a Raft leader beside the primary",
                           lambda: next((n for n in three if n is raft_leader(lab)
                                         and n is not lab.primary()), None))
    two = without(lab, n4, leader)
    primary = lab.primary()
    # The environment of one is enough: it is another word than its last one.
    other = next(n for n in two if n is not primary)
    other.stop_agent()
    other.start(PRIMARY_IP=primary.ip, REPLICAS_IP=other.ip)
    wait_members(lab, two)
    check(raft_leader(lab) in two, "a removed member leads Raft")
    leader.power_off()  # its voice is not missing
    w.wait_acks(labs.boottime_ns())
    n = lab.hactl("members", "--json")
    check(n.returncode == 0 and len(json.loads(n.stdout)) >= 2, f"hactl members: {n.stderr}")
    no_two_primaries_and_none_lost(w, lab)
