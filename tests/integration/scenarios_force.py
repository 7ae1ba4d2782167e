"""An operator's force: the majority is gone for good, and one member goes on without it."""
import shutil

from scenario import check, labs, no_two_primaries_and_none_lost, only_full, scenario


def lose_everything(node):
    node.power_off()
    shutil.rmtree(f"{node.dir}/data")


@scenario
def the_last_of_three_is_forced(run):
    """Refused while the named live; then n3 goes on alone, n2 comes back with its old directory."""
    lab = run.cluster()
    n1, n2, n3 = lab.nodes
    w = run.writers(lab)
    n1.power_off()
    n2.kill_agent(labs.signal.SIGSTOP)  # alive, and silent
    labs.wait_for("n3 to be without a leader", lambda: n3.status()["raft"]["leader"] is None)
    for words, why in ((["--dead", "n1"], "neither here nor named dead"),
                       (["--dead", "n1,n2,n3"], "named dead, and")):
        no = lab.hactl("failover", "n3", "--force", *words)
        check(no.returncode == 4 and why in no.stderr, f"{words}: {no.returncode} {no.stderr}")
    check(lab.hactl("failover", "n3").returncode == 2, "failover without --force is no usage error")

    def forced():
        done = lab.hactl("failover", "n3", "--force", "--dead", f"n1,{n2.ip}")
        check(done.returncode in (0, 4), f"forced: {done.returncode} {done.stderr}")
        return done.returncode == 0
    labs.wait_for("the force, five seconds after the last word of n2", forced, every=1)
    check(lab.primary() is n3, "n3 is not the primary")
    w.wait_acks(labs.boottime_ns(), host=n3.ip)
    check("forced, named dead" in lab.hactl("history").stdout, "the history does not say it")
    n2.kill_agent(labs.signal.SIGCONT)  # the operator was wrong about this one
    labs.wait_for("n2 to find out", lambda: "begins anew" in n2.log_text())
    n1.start()
    lab.wait_healthy()
    check(lab.primary() is n3, "somebody's return moved the primary")
    no_two_primaries_and_none_lost(w, lab, may_lose=True)


@scenario
def two_members_one_state_directory_lost(run):
    """The standby's disk is lost: writes go on, nobody can be let in; recover lets it in again."""
    lab = run.cluster(nodes=2)
    n1, n2 = lab.nodes
    w = run.writers(lab)
    lose_everything(n2)
    n2.start()
    labs.wait_for("n1 to be without a leader", lambda: n1.status()["raft"]["leader"] is None)
    w.wait_acks(labs.boottime_ns(), host=n1.ip)

    def recovered():
        done = lab.hactl("recover", "n1", "--dead", n2.ip)
        check(done.returncode in (0, 4), f"recover: {done.returncode} {done.stderr}")
        return done.returncode == 0
    labs.wait_for("the recovery, five seconds after the last word of n2", recovered, every=1)
    lab.wait_healthy()
    acks, _ = no_two_primaries_and_none_lost(w, lab)
    check(len({a.timeline for a in acks}) == 1, "the primary was interrupted")


@scenario
def two_members_primary_lost_for_good(run):
    """The primary's node never comes back: the operator promotes the standby, a new node joins."""
    only_full(run)
    lab = run.cluster(nodes=2)
    n1, n2 = lab.nodes
    w = run.writers(lab)
    lose_everything(n1)

    def forced():
        done = lab.hactl("failover", "--force", "--dead", n1.ip)
        check(done.returncode in (0, 4), f"forced: {done.returncode} {done.stderr}")
        return done.returncode == 0
    labs.wait_for("the force", forced, every=1)
    w.wait_acks(labs.boottime_ns(), host=n2.ip)
    n1.start()  # a new disk under the old address
    lab.wait_healthy()
    check(lab.primary() is n2, "the new node took the primary's role")
    no_two_primaries_and_none_lost(w, lab, may_lose=True)
