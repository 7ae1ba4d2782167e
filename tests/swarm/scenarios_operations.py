"""What an operator and Swarm do to a cluster in its life: updates, drains, jobs, lost disks."""
import os
import time

import stack as stacks
from scenario import load_images, long_scenario, other, task_ids, update, wait_gateways, wait_update
from stack import NAME, USER, check, labs


@long_scenario
def a_broken_image_stops_at_one_task_and_is_rolled_back(stack, _note, _is_full):
    """The first task does not start: the update pauses, the others go on; then back."""
    stack.wait_healthy()
    for node in stack.members:
        made = node.docker("create", stacks.IMAGES[0]).stdout.strip()
        node.docker("commit", "--change", 'CMD ["/bin/false"]', made, "hawser-database:broken")
        node.docker("rm", "--volumes", made)
    writers = stack.write()
    writers.wait_acks(labs.boottime_ns())
    update(stack, "--image", "hawser-database:broken")
    wait_update(stack, "paused")
    check(len(stack.writable()) == 1, "one primary goes on")
    stack.manager().docker("service", "update", "--detach", "--rollback", f"{NAME}_database")
    wait_update(stack, "rollback_completed")
    stack.wait_healthy()
    writers.finish()
    wait_gateways(stack, stack.wait_primary())


@long_scenario
def an_update_that_is_interrupted_ends_as_the_last_word_says(stack, note, _is_full):
    """PRIMARY_IP is changed; when the first task has the new one, it is changed back."""
    old = stack.wait_healthy()
    new = other(stack, old)
    writers = stack.write()
    at = labs.boottime_ns()
    writers.wait_acks(at, old.ip)
    tasks = set(task_ids(stack).values())
    for primary in (new, old):
        rest = ",".join(n.ip for n in stack.members if n is not primary)
        update(stack, "--env-add", f"PRIMARY_IP={primary.ip}", "--env-add", f"REPLICAS_IP={rest}")
        if primary is new:
            labs.wait_for("one task with another word",
                          lambda: set(task_ids(stack).values()) - tasks, 200, 0.2)
    wait_update(stack, "completed")
    holder = stack.wait_healthy()
    stack.primary = old
    said = {n.name: stack.status(n)["declaration"]["primary"] for n in stack.members}
    check(set(said.values()) == {old.ip}, f"declared at last: {old.ip}; the agents say {said}")
    # Swarm chose the order: under auto who took over from the last task stays the primary.
    check(holder is old or stack.failover == "auto", f"{holder.name} is the primary")
    acks = writers.finish()
    note(f"longest write outage: {labs.outage_ms(acks, at, within_s=600):.0f} ms; declared is "
         f"{old.name}, the primary {holder.name}")
    wait_gateways(stack, holder)


@long_scenario
def a_drained_node_leaves_and_comes_back(stack, note, _is_full):
    """docker node update --availability drain of the primary's node, then active."""
    old = stack.wait_healthy()
    writers = stack.write()
    at = labs.boottime_ns()
    writers.wait_acks(at, old.ip)
    stack.manager().docker("node", "update", "--availability", "drain", old.name)
    labs.wait_for("another primary", lambda: [n for n in stack.writable() if n is not old], 150)
    stack.manager().docker("node", "update", "--availability", "active", old.name)
    stack.wait_healthy()
    acks = writers.finish()
    note(f"write outage of draining the primary's node: {labs.outage_ms(acks, at):.0f} ms")
    wait_gateways(stack, stack.wait_primary())


@long_scenario
def a_reinstalled_node_is_rebuilt(stack, _note, _is_full):
    """The same address with an empty disk: it joins as a replica, and founds nothing."""
    primary = stack.wait_healthy()
    node = stack.members[2] if stack.members[2] is not primary else stack.members[1]
    rows = stack.sql(primary.ip, "SELECT count(*) FROM hawser_ledger")
    manager = next(n for n in stack.members if n is not node)
    node.reinstall()
    labs.wait_for("a manager",
                  lambda: manager.docker("node", "ls", check=False).returncode == 0, 60)
    manager.docker("node", "demote", node.name)
    labs.wait_for("the node to be gone", lambda: manager.docker(
        "node", "rm", "--force", node.name, check=False).returncode == 0, 60)
    node.power_on()
    load_images(stack, node)
    stack.lab.join(node)
    stack.wait_healthy(seconds=300)
    check(stack.sql(node.ip, "SELECT count(*) FROM hawser_ledger") == rows, "its data are there")
    wait_gateways(stack, stack.wait_primary())


@long_scenario
def passwords_are_rotated_by_new_secrets(stack, note, _is_full):
    """New secrets under new names: the roles have the new passwords at the end, the old are out."""
    stack.wait_healthy()
    old = stacks.PASSWORD
    stack.write_secret("superadmin_pass_2", "another 'pass' \u00fc 2\n")
    stack.write_secret("replication_pass_2", "another stre@m 2\n")
    for name in ("superadmin_pass", "replication_pass"):
        stack.create_secret(f"{NAME}_{name}_2", f"{name}_2")
    stack.env.update(SUPERADMIN_PASS_SECRET=f"{NAME}_superadmin_pass_2",
                     REPLICATION_PASS_SECRET=f"{NAME}_replication_pass_2")
    stack.deploy(wait=False)
    wait_update(stack, "completed")
    stack.write_secret("pgpass", "*:*:*:*:another 'pass' \u00fc 2\n")
    stack.wait_healthy()
    primary = stack.wait_primary()
    refused = stack.client("psql", "-X", "-h", primary.ip, "-U", USER, "-d", USER, "-c", "SELECT 1",
                           check=False, env={**os.environ, "PGPASSWORD": old,
                                             "PGPASSFILE": "/dev/null"})
    check(refused.returncode != 0, "the old password still lets in")
    wait_gateways(stack, primary)
    check(stack.gateway(primary)("INSERT INTO first VALUES (2)") is not None, "it takes writes")
    note("both passwords are new, and the old one is out")


@long_scenario
def a_task_that_dies_without_a_manager_comes_back_with_one(stack, note, _is_full):
    """Two of three managers off: what dies on the third stays dead until a manager is back."""
    primary = stack.wait_healthy()
    others = [n for n in stack.members if n is not primary]
    writers = stack.write()
    writers.wait_acks(labs.boottime_ns(), primary.ip)
    for node in others:
        node.power_off()
    labs.wait_for("writes to stop: no majority", lambda: not stack.writable(), 60)
    container = stack.container(primary)
    primary.docker("kill", container)
    time.sleep(8)  # Swarm's restart delay is 2 s
    check(stack.container(primary) is None, "nobody starts it without a manager")
    begun = time.monotonic()
    for node in others:
        node.power_on()
    stack.wait_healthy(seconds=300)
    note(f"managers back to all streaming: {time.monotonic() - begun:.0f} s")
    writers.finish(may_lose=True)
    wait_gateways(stack, stack.wait_primary())


@long_scenario
def a_task_that_begins_as_the_power_goes_comes_back(stack, note, _is_full):
    """Docker starts that container again when it boots, and may forget its secrets: it ends with a
    clear word, and the task that Swarm starts next has them."""
    primary = stack.wait_healthy()
    node = other(stack, primary)
    told = 0
    for _ in range(3):
        before = stack.container(node)

        def begun(before=before):
            ids = node.docker("ps", "-aq", "--filter", f"name={NAME}_database").stdout.split()
            return ids[0] if ids and ids[0] != before else None
        node.docker("kill", before)
        fresh = labs.wait_for("the next task's container", begun, 60, 0.01)
        node.power_off()
        node.power_on()
        labs.wait_for("it to stream", lambda: stack.sql(  # the primary may not miss it yet
            node.ip, "SELECT status FROM pg_stat_wal_receiver") == "streaming", 240, 0.3)
        stack.wait_healthy(primary)
        said = node.docker("logs", fresh, check=False)
        is_empty = "_FILE=/run/secrets/" in said.stdout + said.stderr
        check(not is_empty or stack.container(node) != fresh, "that container runs")
        told += is_empty
    note(f"{told} of 3 containers were started again without their secrets, and said so")
    wait_gateways(stack, primary)


@long_scenario
def a_job_that_runs_late_moves_nobody(stack, note, _is_full):
    """A node is off when another primary is deployed, and when a person moves it back by hand.
    Swarm runs the job's task on that node as soon as it is there again: it is no news."""
    old = stack.wait_healthy()
    declared = stack.status(old)["declaration"]["primary"]  # under auto another may reign
    new = other(stack, old, *[n for n in stack.members if n.ip == declared])
    away = other(stack, old, new)
    away.power_off()
    labs.wait_for("a manager", lambda: stack.manager(), 120)
    stack.deploy(primary=new)
    stack.wait_primary(new)
    stack.hactl(new, "switchover", old.ip)
    stack.wait_primary(old)
    jobs = set(stack.container_logs("declare"))
    away.power_on()

    def late_words():
        return [line for who, lines in stack.container_logs("declare").items()
                if who.startswith(f"{away.name} ") and who not in jobs
                for line in lines if "unchanged: said before" in line]
    told = labs.wait_for("the job's task on the node that was away", late_words, 120, 0.5)
    stack.wait_healthy(old)
    note(told[0].split(maxsplit=1)[1])
    stack.deploy(primary=old)
    check(stack.wait_primary() is old, "the next deploy says what is in force")
    wait_gateways(stack, old)


@long_scenario
def an_older_deployment_never_wins(stack, _note, _is_full):
    """HA_DECLARATION in hawser.env: of two people that deploy, who has the older file loses."""
    old = stack.wait_healthy()
    stack.deploy(primary=old, HA_DECLARATION="7")
    done = stack.script("deploy", "--wait", PRIMARY_IP=other(stack, old).ip, HA_DECLARATION="6")
    check("unchanged" in done.stdout, f"it says that it changed nothing: {done.stdout}")
    check(stack.wait_primary() is old, "the older words moved the primary")
    stack.deploy(HA_DECLARATION="7")
    stack.wait_healthy(old)
