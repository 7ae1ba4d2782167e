"""A Swarm redeploy: tasks restart one by one with another environment, in any order."""
import itertools
import os

from scenario import check, labs, no_two_primaries_and_none_lost, scenario


def roll(node, primary):
    """What Swarm does to one task: stop, then start with the new environment."""
    node.stop_agent()
    node.start(PRIMARY_IP=primary.ip)


@scenario
def rolling_redeploy_moves_the_primary(run):
    """Every order of the nodes ends with the newly declared primary, once, nothing lost."""
    orders = list(itertools.permutations(range(3)))
    for order in orders if run.is_full else [orders[0], orders[4]]:
        lab = run.cluster()
        w = run.writers(lab)
        n2 = lab.nodes[1]
        for i in order:
            roll(lab.nodes[i], n2)
            labs.wait_for("the agent to answer", lambda i=i: lab.nodes[i].status())
        lab.wait_primary(n2)
        lab.wait_healthy()
        w.wait_acks(labs.boottime_ns())
        acks, _ = no_two_primaries_and_none_lost(w, lab)
        # Who is told to stop while it reigns hands over: each of them at most once, if the next
        # task is stopped before the reign is back where it belongs; and one move to the declared.
        moves = len({a.timeline for a in acks}) - 1
        check(moves <= len(order) + 1,
              f"order {order}: {moves} changes of timeline for one declaration")
        run.note(f"order {order}: {moves} new timelines")
        lab.down(purge=True)
        run.labs.remove(lab)


@scenario
def interrupted_redeploy_and_a_stale_environment(run):
    """Half of the nodes have the new environment, one comes back with the old: no flapping."""
    lab = run.cluster()
    n1, n2, n3 = lab.nodes
    w = run.writers(lab)
    roll(n3, n2)  # the update stops here: one node says n2, two say n1
    lab.wait_primary(n2)
    lab.wait_healthy()
    n1.stop_agent()
    n1.start()  # restarts with the environment that it had: nothing new
    lab.wait_healthy()
    labs.holds_for("a stale environment moves the primary to nobody",
                   lambda: lab.primary() in (n2, None), 5)
    check(lab.primary() is n2, "a stale environment ended the primary")
    roll(n1, n2)
    roll(n2, n2)  # hands over, and gets its reign back
    lab.wait_primary(n2)
    lab.wait_healthy()
    w.wait_acks(labs.boottime_ns())
    no_two_primaries_and_none_lost(w, lab)


@scenario
def a_node_that_was_away_changes_nothing(run):
    """Off during a declaration, back with the environment of before."""
    lab = run.cluster()
    _, n2, n3 = lab.nodes
    n3.power_off()
    done = lab.hactl("declare", n2.ip, "--wait")
    check(done.returncode == 0, f"hactl declare --wait: {done.stderr}")
    lab.wait_primary(n2)
    n3.start()
    lab.wait_healthy()
    check(lab.primary() is n2, "the returning node moved the primary")
    again = lab.hactl("declare", n2.ip)
    check(again.returncode == 0, "the same words again are an error")
    check(lab.primary() is n2, "the same words again moved something")


@scenario
def an_older_deploy_counter_never_wins(run):
    """HA_DECLARATION counts deployments: words of a lower one are noted, and move nothing."""
    lab = run.cluster(env={"HA_DECLARATION": "5"})
    n1, n2, n3 = lab.nodes
    n3.stop_agent()
    n3.start(PRIMARY_IP=n2.ip, HA_DECLARATION="6")
    lab.wait_primary(n2)
    lab.wait_healthy()
    n1.stop_agent()
    n1.start(PRIMARY_IP=n3.ip, HA_DECLARATION="4")
    labs.wait_for("n1 to say what its environment says",
                  lambda: "the environment says something new" in n1.log_text())
    lab.wait_healthy()
    labs.holds_for("an older deploy counter moves the primary to nobody",
                   lambda: lab.primary() in (n2, None), 5)
    check(lab.primary() is n2, "an older deploy counter ended the primary")
    declaration = n2.status()["declaration"]
    check((declaration["number"], declaration["primary"]) == (6, n2.ip),
          f"an older deploy counter is on record: {declaration}")


@scenario
def a_new_secret_is_a_new_password(run):
    """Both passwords change by their files, agent by agent: at the end the new ones only count."""
    lab = run.cluster(start=False)
    secrets = f"{lab.dir}/secrets"

    def write(name, text):
        with open(f"{secrets}/{name}", "w", encoding="utf-8") as f:
            f.write(text + "\n")

    write("replication_pass", "str\u00e9am 1")
    lab.env["REPLICATION_PASSWORD_FILE"] = f"{secrets}/replication_pass"
    lab.start()
    primary = lab.wait_healthy()
    old = f"{secrets}/pgpass"
    os.rename(old, f"{secrets}/pgpass.old")
    write("superadmin_pass", "n\u00e9w 'super' \"pass\"")
    write("replication_pass", "str\u00e9am 2")
    write("pgpass", "*:*:*:*:n\u00e9w 'super' \"pass\"")
    os.chmod(old, 0o600)
    for node in [n for n in lab.nodes if n is not primary] + [primary]:
        node.stop_agent()
        node.start()
    primary = lab.wait_healthy()
    stored = primary.sql("SELECT count(*) FROM pg_authid WHERE rolpassword LIKE 'SCRAM-SHA-256$%'")
    check(stored == "2", f"{stored} verifiers")
    refused = lab.client("psql", "-X", "-h", primary.ip, "-U", "postgres", "-d", "postgres", "-c",
                         "SELECT 1", check=False,
                         env={**os.environ, "PGPASSFILE": f"{secrets}/pgpass.old"})
    check(refused.returncode != 0 and "password" in refused.stderr, refused.stderr)
    check(any("has the password of the environment now" in n.log_text() for n in lab.nodes),
          "the agent says that it changed them")
    check(not any("super' " in n.log_text() for n in lab.nodes), "a password is in a log")
