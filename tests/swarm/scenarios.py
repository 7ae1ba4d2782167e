"""The mission, sentence by sentence, on one Swarm: each scenario leaves the cluster whole."""
import json
import os
import re
import shutil
import time

import stack as stacks
from stack import GATEWAY_PORT, NAME, USER, GatewayWriter, check, labs

ALL = []
NEXT = "hawser-database:next"  # what a rolling update brings in; the service may have it since
LONG = []


class Skip(Exception):
    """This machine cannot run it; the text says why."""


def scenario(function):
    ALL.append(function)
    return function


def long_scenario(function):
    LONG.append(function)
    return scenario(function)


def other(stack, *nodes):
    return next(n for n in stack.members if n not in nodes and n.is_on())


def task_ids(stack, name="database"):
    return {node: ident for node, (ident, _) in stack.tasks(name).items()}


def wait_gateways(stack, primary):
    for node in stack.on():
        stack.wait_gateway(node, primary)


def load_images(stack, node):
    """What a registry would give to a node that is new."""
    stack.lab.load_saved(node)
    node.docker("tag", stacks.IMAGES[0], NEXT)


def timeline(stack, node):
    return stack.sql(node.ip, "SELECT timeline_id FROM pg_control_checkpoint()",
                     check_status=True)


@scenario
def a_stack_forms_and_writes_go_through_the_gateway(stack, note, _is_full):
    """One database a node, the declared one is the primary, standbys stream, Pgpool writes."""
    begun = time.monotonic()
    stack.deploy(wait=False)

    def first_write():
        return stack.sql(stack.primary.ip, "CREATE TABLE first (a int)", port=GATEWAY_PORT)
    labs.wait_for("the first write through Pgpool", lambda: first_write() is not None, 240, 0.2)
    note(f"docker stack deploy to the first write through Pgpool: {time.monotonic() - begun:.1f} s")
    stack.wait_healthy(stack.primary)
    check(set(stack.tasks("database")) == {n.name for n in stack.members},
          f"one task a node: {stack.tasks('database')}")
    check(stack.service("database", "{{.Spec.Mode.Global}}") not in ("", "<nil>"), "it is global")
    wait_gateways(stack, stack.primary)
    stack.create_ledger()
    job = labs.wait_for("the job to end", lambda: re.search(r"declaration \d+: primary .*",
                                                            stack.logs("declare")), 60)
    note(job.group(0))
    note(memory(stack.members[0]))


def memory(node):
    """What the tasks of a node take, shared pages counted in parts."""
    kb = {}
    for pid in labs.descendants(node.init.pid):
        kb.setdefault(comm(pid), []).append(node.memory_kb([pid]))
    parts = {"database task": ("haagent", "haguard", "postgres"), "agent": ("haagent",),
             "gateway task": ("hapool", "pgpool")}
    return "memory (PSS): " + ", ".join(
        f"{name} {sum(sum(kb.get(c, [])) for c in comms) / 1024:.0f} MiB"
        for name, comms in parts.items())


@scenario
def the_gateway_pools_spreads_reads_and_asks_for_passwords(stack, _note, _is_full):
    """SCRAM only; reads of all servers, writes of one; the manual's PCP commands by hand."""
    node = stack.members[1]
    ask = stack.gateway(node)
    # Its address tells no server from another: each task has one of its own node's bridge. And what
    # Pgpool shall spread must be stable.
    servers = {ask("SELECT pg_postmaster_start_time()") for _ in range(24)}
    check(len(servers - {None}) > 1, f"reads were spread over {servers} only")
    check(ask("INSERT INTO first VALUES (1)") is not None, "it takes writes")
    refused = stack.client("psql", "-X", "-h", node.ip, "-p", str(GATEWAY_PORT), "-U", USER, "-d",
                           USER, "-c", "SELECT 1", check=False,
                           env={**os.environ, "PGPASSWORD": "wrong", "PGPASSFILE": "/dev/null"})
    check(refused.returncode != 0, "a wrong password was let in")
    scram = stack.sql(stack.primary.ip, "SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid "
                                        "WHERE rolname = current_user")
    check(scram == "t", "the verifier is SCRAM's")
    ids = {ip: i for i, ip in enumerate(sorted(n.ip for n in stack.members))}
    standby = other(stack, stack.primary)
    for verb in ("pcp_detach_node", "pcp_attach_node"):
        stack.in_container(node, verb, "-h", "localhost", "-U", USER, "-w", str(ids[standby.ip]),
                           service="pgpool")
    stack.wait_gateway(node, stack.primary)
    modes = stack.in_container(node, "find", "/run/hapool", "-type", "f", "-name", "*pass*",
                               "-printf", "%m ", service="pgpool").stdout.split()
    check(modes and set(modes) == {"600"}, f"modes of password files: {modes}")
    for name, value in (("tcp_syn_retries", "1"), ("tcp_keepalive_time", "5")):
        seen = stack.in_container(node, "cat", f"/proc/sys/net/ipv4/{name}",
                                  service="pgpool").stdout.strip()
        check(seen == value, f"net.ipv4.{name} of the gateway is {seen}")


def comm(pid):
    try:
        with open(f"/proc/{pid}/comm", encoding="ascii") as f:
            return f.read().strip()
    except OSError:
        return ""


@scenario
def secrets_are_mounted_and_nowhere_else(stack, _note, _is_full):
    """Not in docker inspect, image history, logs, arguments or environments of processes."""
    node = stack.members[0]
    told = {}
    for name in ("database", "pgpool", "declare"):
        told[f"service {name}"] = stack.manager().docker("service", "inspect",
                                                         f"{NAME}_{name}").stdout
        told[f"log of {name}"] = stack.logs(name)
    for container in node.docker("ps", "-aq").stdout.split():
        told[f"container {container}"] = node.docker("inspect", container).stdout
    for image in stacks.IMAGES:
        told[image] = (node.docker("image", "inspect", image).stdout
                       + node.docker("history", "--no-trunc", image).stdout)
    n = 0
    for pid in labs.descendants(node.init.pid):
        for what in ("cmdline", "environ"):
            try:
                with open(f"/proc/{pid}/{what}", "rb") as f:
                    told[f"{what} of {pid}"] = f.read().decode("utf-8", "replace")
                    n += 1
            except OSError:
                continue
    check(n > 40, f"only {n} processes were looked at")
    found = [where for where, text in told.items() if stacks.leaks(text)]
    check(not found, f"a secret is shown in {found}")
    inside = stack.in_container(node, "cat", "/run/secrets/superadmin_pass").stdout
    check(stacks.leaks(inside), "the secret is mounted")
    owners = {os.stat(f"/proc/{pid}").st_uid for pid in labs.descendants(node.init.pid)
              if comm(pid) == "postgres"}
    check(owners and 0 not in owners, f"PostgreSQL runs as {owners}")


@scenario
def a_redeploy_with_another_primary_moves_it_and_restarts_no_database(stack, note, _is_full):
    """env.py names another node: promoted, no task restarted, nothing lost, the outage told."""
    old, new = stack.primary, other(stack, stack.primary)
    line = timeline(stack, old)
    tasks = task_ids(stack)
    gateway = GatewayWriter(stack, old)
    writers = stack.write()
    begun = labs.boottime_ns()
    writers.wait_acks(begun, old.ip)
    path = f"{stack.dir}/env.py"
    with open(path, "w", encoding="utf-8") as f:
        f.write(f"# settings\nPOSTGRES_PRIMARY_NODE = '{new.name}'  # the new boss\n")
    at, at_wall = labs.boottime_ns(), time.monotonic()
    stack.script("deploy", "--wait", "--env-py", path, PRIMARY_IP=old.ip)
    stack.primary = new
    writers.wait_acks(at, new.ip)
    gateway.wait_write(time.monotonic())
    note(f"write outage of the redeploy: {labs.outage_ms(writers.acks(), at):.0f} ms at the "
         f"server, {gateway.longest_gap(at_wall) * 1000:.0f} ms through Pgpool")
    stack.wait_healthy(new)
    wait_gateways(stack, new)
    gateway.stop()
    writers.finish()
    check(task_ids(stack) == tasks, "tasks of the database were restarted")
    check(int(timeline(stack, new)) > int(line), "it was a real promotion: the timeline is new")
    again = stack.script("deploy", "--wait", "--env-py", path, PRIMARY_IP=old.ip)
    check(stack.wait_primary() is new, f"a deploy that says the same moves nobody: {again.stdout}")


@scenario
def a_lost_primary_waits_for_the_redeploy_then_comes_back_as_a_replica(stack, note, _is_full):
    """declared: writes stop, reads go on, another is deployed and promoted; the old one rejoins."""
    old = stack.primary
    new, third = [n for n in stack.members if n is not old]
    writers = stack.write()
    at = labs.boottime_ns()
    writers.wait_acks(at, old.ip)
    old.power_off()
    off = labs.boottime_ns()
    labs.wait_for("reads through a gateway", lambda: stack.gateway(third)("SELECT 1") == "1", 60)
    time.sleep(10)  # more than two leases: what is not there by then does not come
    check(not [a for a in writers.acks() if a.sent > off + 5_000_000_000],
          "somebody took writes that nobody declared")
    check(not stack.writable(), "nobody is promoted before the redeploy")
    labs.wait_for("a manager", lambda: stack.manager(), 120)
    begun = labs.boottime_ns()
    stack.deploy(primary=new, wait=False)
    first = writers.wait_acks(begun, new.ip, seconds=120)[0]
    note(f"redeploy to the first write of the new primary: {(first.received - begun) / 1e9:.1f} s")
    stack.wait_gateway(third, new)
    old.power_on()
    stack.wait_healthy(new)
    wait_gateways(stack, new)
    writers.finish(may_lose=True)  # asynchronous: what no standby had is lost, and S1 holds
    check(stack.sql(old.ip, "SELECT pg_is_in_recovery()") == "t", "the old one is a replica")


@scenario
def an_environment_that_changes_restarts_each_task_and_ends_the_same(stack, note, is_full):
    """PRIMARY_IP in the service itself: two words are alive for a while, the end is one."""
    old = stack.primary
    said = stack.service("database", "{{json .Spec.TaskTemplate.ContainerSpec.Env}}")
    # What it says already is no news: the declaration in force may be a later one of the job's.
    new = other(stack, old, *[n for n in stack.members if f'"PRIMARY_IP={n.ip}"' in said])
    writers = stack.write()
    at = labs.boottime_ns()
    writers.wait_acks(at, old.ip)
    others = ",".join(n.ip for n in stack.members if n is not new)
    tasks = task_ids(stack)
    update(stack, "--env-add", f"PRIMARY_IP={new.ip}", "--env-add", f"REPLICAS_IP={others}")
    wait_update(stack, "completed")
    stack.wait_healthy(new)
    stack.primary = new
    wait_gateways(stack, new)
    acks = writers.finish()
    note(f"longest write outage of a rolling restart of all three: "
         f"{labs.outage_ms(acks, at, within_s=600):.0f} ms")
    check(not set(tasks.values()) & set(task_ids(stack).values()), "each task is a new one")
    if is_full:
        # The stack says the same as what is in force. Its tasks are restarted all the same:
        # --env-add stirs the order of the variables, and Docker takes that for a change.
        done = stack.deploy()
        wait_update(stack, "completed")
        check(stack.wait_healthy(new) is new, done.stdout)
        wait_gateways(stack, new)


def update(stack, *words):
    stack.manager().docker(
        "service", "update", "--detach", "--no-resolve-image", "--update-delay", "2s",
        "--update-monitor", "5s", *words, f"{NAME}_database")


@scenario
def an_image_is_rolled_out_with_hand_over(stack, note, _is_full):
    """A rolling image update, and HA_FAILOVER=auto with it: writes stop for a moment only."""
    old = stack.wait_healthy()
    for node in stack.members:
        node.docker("tag", stacks.IMAGES[0], NEXT)
    writers = stack.write()
    at = labs.boottime_ns()
    writers.wait_acks(at, old.ip)
    update(stack, "--image", NEXT, "--env-add", "HA_FAILOVER=auto")
    wait_update(stack, "completed")
    stack.wait_healthy()
    stack.failover = "auto"
    acks = writers.finish()
    note(f"longest write outage of a rolling image update: "
         f"{labs.outage_ms(acks, at, within_s=600):.0f} ms")
    wait_gateways(stack, stack.wait_primary())


def wait_update(stack, want, seconds=300):
    """Until Swarm says that the update of the database ended so."""
    def condition():
        state = stack.service("database", "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}")
        check(state in (want, "updating", "rollback_started", ""), f"the update is {state}")
        return state == want
    labs.wait_for(f"the update to be {want}", condition, seconds, every=0.5)


@scenario
def auto_fails_over_when_the_primarys_node_loses_its_power(stack, note, _is_full):
    """auto: the best standby takes over by itself, and the gateway follows."""
    check(stack.failover == "auto", "the scenario before left the cluster under auto")
    old = stack.wait_healthy()
    third = other(stack, old)
    gateway = GatewayWriter(stack, third)
    writers = stack.write()
    writers.wait_acks(labs.boottime_ns(), old.ip)
    at, at_wall = labs.boottime_ns(), time.monotonic()
    old.power_off()
    first = labs.wait_for("a write elsewhere",
                          lambda: [a for a in writers.acks() if a.sent > at and a.host != old.ip],
                          60)[0]
    through = gateway.wait_write(time.monotonic())
    note(f"power-off to the first write (auto): {(first.received - at) / 1e9:.1f} s at the server, "
         f"{through - at_wall:.1f} s at most through Pgpool")
    old.power_on()
    stack.wait_healthy()
    # The declared primary has the right to come back under auto, once it streams.
    gateway.stop()
    writers.finish(may_lose=True)
    wait_gateways(stack, stack.wait_primary())


@scenario
def a_node_that_is_cut_off_is_no_second_primary_and_finds_back(stack, note, _is_full):
    """The primary's node is cut off: it stops within its lease; Swarm restarts a healthy task."""
    old = stack.wait_healthy()
    writers = stack.write()
    writers.wait_acks(labs.boottime_ns(), old.ip)
    for peer in [n for n in stack.members if n is not old]:
        stack.lab.cut(old, peer)  # the clients on the switch still reach it: the worst case
    at = labs.boottime_ns()
    labs.wait_for("a write elsewhere",
                  lambda: [a for a in writers.acks() if a.sent > at and a.host != old.ip], 60)
    late = [a for a in writers.acks() if a.host == old.ip and a.received > at]
    note(f"the last acknowledgement of the isolated primary came "
         f"{(max([a.received for a in late] or [at]) - at) / 1e6:.0f} ms after the cut")
    stack.lab.heal()
    stack.wait_healthy()
    writers.finish(may_lose=True)
    wait_gateways(stack, stack.wait_primary())


@scenario
def all_engines_lose_their_power_at_once_and_the_cluster_comes_back(stack, note, _is_full):
    """A power cut of the site: all boot in any order; one primary again, and nothing lost."""
    stack.wait_healthy()
    writers = stack.write()
    writers.wait_acks(labs.boottime_ns())
    acks = writers.stop()
    for node in stack.members:
        node.power_off()
    begun = time.monotonic()
    for node in stack.members:
        node.boot()
    for node in stack.members:
        node.power_on()
    stack.wait_healthy(seconds=300)
    note(f"power to all streaming again: {time.monotonic() - begun:.0f} s")
    check(not labs.two_primaries(acks), "two primaries")
    gone = stack.lost(acks)
    check(not gone, f"{len(gone)} acknowledged writes are lost: {gone[:3]}")
    wait_gateways(stack, stack.wait_primary())


@scenario
def what_is_wrong_is_told_before_and_after_it_is_deployed(stack, note, _is_full):
    """Wrong primary, an address twice, a node left out, no secret, a port not published."""
    n1, n2, n3 = [n.ip for n in stack.members[:3]]
    for changes, wanted in (
            ({"PRIMARY_IP": "10.78.0.99"}, "10.78.0.99 is no node"),
            ({"PRIMARY_IP": n1, "REPLICAS_IP": f"{n1},{n2}"}, f"{n1} is listed twice"),
            ({"PRIMARY_IP": n1, "REPLICAS_IP": n2}, f"note: node {n3} is not listed"),
            ({"PRIMARY_IP": "", "REPLICAS_IP": n2}, "PRIMARY_IP is not set"),
            ({"POSTGRES_PRIMARY_NODE": "n9"}, "POSTGRES_PRIMARY_NODE=n9: no node"),
            ({"SUPERADMIN_PASS_SECRET": "nowhere"}, "no such secret: nowhere"),
            ({"HA_LEASE_MS": "5"}, "HA_LEASE_MS=5"),
            ({"PORT_DATABASE": "7420"}, "two are equal"),
            ({"STACK": "Big Name"}, "STACK=Big Name")):
        done = stack.script("check", check_status=False, **changes)
        told = done.stdout + done.stderr
        check(wanted in told, f"{changes}: {wanted!r} is not in {told[-600:]!r}")
        check(done.returncode != 0 or "note" in wanted, f"{changes}: it was let through")
    # Ports of its own: those of the stack are taken on each node.
    right = {"PRIMARY_IP": n1, "REPLICAS_IP": f"{n2},{n3}", "POSTGRES_PASSWORD": "x" * 12,
             "PORT_DATABASE": "15432", "HA_PEER_PORT": "17420", "HA_HTTP_PORT": "18008"}
    both = ("18008", "17420")
    for name, env, published, wanted in (
            ("twice", {**right, "REPLICAS_IP": f"{n1},{n2}"}, both, f"{n1} is listed in another"),
            ("primary", {**right, "PRIMARY_IP": "10.78.0.x"}, both, "PRIMARY_IP=10.78.0.x"),
            ("secret", {**right, "NODE_IP": n1, "POSTGRES_PASSWORD": ""}, both,
             "POSTGRES_PASSWORD_FILE is not set"),
            ("nothing", right, (), "no listed address"),
            ("unlisted", {**right, "PRIMARY_IP": "10.78.0.99", "REPLICAS_IP": ""}, both,
             "no listed address (10.78.0.99)"),
            ("database", right, both, "PORT_DATABASE=15432: that port of"),
            ("peers", right, ("18008", "15432"), "HA_PEER_PORT=17420: that port of")):
        note(told_by_a_service(stack, f"wrong-{name}", env, published, wanted))


def told_by_a_service(stack, name, env, published, wanted):
    """A service with a wrong environment: within seconds its log says so, and it stays alive or
    tries again. While it lives, hactl in its container says the same."""
    words = [w for k, v in env.items() for w in ("--env", f"{k}={v}")]
    words += [w for p in published for w in ("--publish", f"mode=host,target={p},published={p}")]
    manager = stack.manager()

    def told():
        done = manager.docker("service", "logs", "--raw", name, check=False)
        return wanted in done.stdout + done.stderr

    def told_by_hactl():
        for node in stack.on():
            for container in node.docker("ps", "-q", "--filter", f"name={name}").stdout.split():
                done = node.docker("exec", container, "hactl", "status", "--url",
                                   f"http://127.0.0.1:{env['HA_HTTP_PORT']}", check=False)
                if wanted in done.stdout + done.stderr:
                    return True
        return False
    begun = time.monotonic()
    manager.docker("service", "create", "--detach", "--no-resolve-image", "--name", name, *words,
                   "--restart-delay", "2s", stacks.IMAGES[0])
    try:
        labs.wait_for(f"{wanted!r} in the log of {name}", told, 60)
        seconds = time.monotonic() - begun
        more = ""
        if "that port of" in wanted or "no listed" in wanted:
            labs.wait_for(f"hactl to say {wanted!r}", told_by_hactl, 60)
            more = f", by hactl after {time.monotonic() - begun:.1f} s"
    finally:
        manager.docker("service", "rm", name)
    return f"{name}: told after {seconds:.1f} s{more}"


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


@long_scenario
def haproxy_leads_to_the_primary(stack, note, _is_full):
    """The other gateway: port 5000 writes, 5001 reads, after a switchover as well."""
    primary = stack.wait_healthy()
    stack.build_and_load(os.path.join(os.path.dirname(__file__), "haproxy"), "haproxy")
    stack.manager().docker("service", "rm", f"{NAME}_pgpool")
    stack.primary = primary
    stack.env["PGPOOL_DEPLOY_MODE"] = "replicated"
    stack.script("deploy", "--gateway", "haproxy", HAWSER_HAPROXY_IMAGE="hawser-haproxy:test")

    def where(port, sql):
        return next((x for x in (stack.sql(n.ip, sql, port=port) for n in stack.members)
                     if x is not None), None)

    def ready():
        return where(5000, "CREATE TABLE IF NOT EXISTS by_haproxy (a int)") is not None
    labs.wait_for("a write through HAProxy", ready, 90, 0.3)
    new = other(stack, primary)
    stack.script("deploy", "--gateway", "haproxy", "--wait", PRIMARY_IP=new.ip,
                 REPLICAS_IP=",".join(n.ip for n in stack.members if n is not new),
                 HAWSER_HAPROXY_IMAGE="hawser-haproxy:test")
    stack.primary = new
    labs.wait_for("writes to follow", lambda: where(
        5000, "INSERT INTO by_haproxy VALUES (1) RETURNING a"), 30, 0.2)
    stack.wait_healthy(new)
    labs.wait_for("reads of a standby",
                  lambda: where(5001, "SELECT pg_is_in_recovery()") == "t", 30, 0.2)
    note("writes and reads went through HAProxy, before and after a switchover")
    for name in ("pgpool", "haproxy"):
        stack.manager().docker("service", "rm", f"{NAME}_{name}")
    del stack.env["PGPOOL_DEPLOY_MODE"]
    stack.deploy()
    wait_gateways(stack, new)


@long_scenario
def three_nodes_become_four_and_three_again(stack, _note, _is_full):
    """A node is added to the Swarm and to REPLICAS_IP, then taken out of both."""
    primary = stack.wait_healthy()
    node = stack.lab.add_node()
    load_images(stack, node)
    stack.lab.join(node)
    # Of the node itself: after so many tasks Docker needs long for the service's log.
    labs.wait_for("the new task to say why it waits", lambda: [
        line for lines in stack.container_logs("database", nodes=[node]).values() for line in lines
        if "no listed address" in line], 90)
    stack.members.append(node)
    stack.primary = primary
    stack.deploy(wait=False)
    wait_update(stack, "completed", seconds=400)
    stack.wait_healthy(seconds=300)
    stack.members.remove(node)
    stack.manager().docker("node", "update", "--label-add", "database=false", node.name)
    stack.deploy(wait=False)
    wait_update(stack, "completed", seconds=400)
    primary = stack.wait_healthy(seconds=300)
    members = [m["address"] for m in stack.status(primary)["members"]]
    check(node.ip not in members, f"the members are {members}")


@long_scenario
def prometheus_loads_the_alerts_and_tells_that_there_is_no_primary(stack, note, _is_full):
    """deploy/alerts.yml in a real Prometheus: every rule evaluates; the ones that must, fire."""
    if shutil.which("prometheus") is None:
        raise Skip("prometheus is not installed")
    primary = stack.wait_healthy()
    config = f"{stack.dir}/prometheus.yml"
    with open(config, "w", encoding="utf-8") as f:
        json.dump({"global": {"scrape_interval": "1s", "scrape_timeout": "1s",
                              "evaluation_interval": "1s"},
                   "rule_files": [f"{stacks.ROOT}/deploy/alerts.yml"],
                   "scrape_configs": [{"job_name": "hawser", "static_configs": [
                       {"targets": [f"{n.ip}:8008" for n in stack.members]}]}]}, f)
    with open(f"{stack.dir}/prometheus.log", "wb") as log:
        server = stacks.engines.die_with_us(
            ["ip", "netns", "exec", stack.lab.switch, "prometheus", "--config.file", config,
             "--storage.tsdb.path", f"{stack.dir}/prometheus", "--web.listen-address",
             "127.0.0.1:9090"], log)

    def ask(what):
        done = stack.client("curl", "-s", "-m", "3", f"http://127.0.0.1:9090/api/v1/{what}",
                            check=False)
        return json.loads(done.stdout)["data"] if done.returncode == 0 and done.stdout else None

    def alerts():
        return {a["labels"]["alertname"]: a["state"] for a in (ask("alerts") or {"alerts": []})[
            "alerts"]}

    def are_well():
        groups = (ask("rules") or {"groups": []})["groups"]
        rules = [r for g in groups for r in g["rules"]]
        check(not [r for r in rules if r["health"] == "err"], f"a rule fails: {rules}")
        return rules if rules and all(r["health"] == "ok" for r in rules) else None
    try:
        rules = labs.wait_for("all rules to be evaluated", are_well, 60, 0.5)
        labs.wait_for("no alert of a healthy cluster", lambda: not alerts(), 60, 0.5)
        others = [n for n in stack.members if n is not primary]
        for node in others:
            node.power_off()
        labs.wait_for("the alert of no primary",
                      lambda: alerts().get("HawserNoPrimary") == "firing", 120, 0.5)
        check("HawserAgentAway" in alerts(), f"an agent is away: {alerts()}")
        for node in others:
            node.power_on()
        stack.wait_healthy(seconds=300)
        labs.wait_for("no alert at the end", lambda: not alerts(), 120, 0.5)
        note(f"{len(rules)} rules evaluated")
    finally:
        server.kill()
        server.wait()
    wait_gateways(stack, stack.wait_primary())


@long_scenario
def two_databases_and_a_witness(stack, note, _is_full):
    """The stack is removed and a new one deployed: the witness keeps no data, and its vote lets
    the cluster fail over when one of the two databases is lost."""
    first, second, third = stack.members[:3]
    stack.manager().docker("stack", "rm", NAME)
    for node in stack.members:
        labs.wait_for("the volume to be free", lambda node=node: node.docker(
            "volume", "rm", f"{NAME}_database", check=False).returncode == 0, 200, 0.5)
    for label in ("witness=true", "database=false"):
        stack.manager().docker("node", "update", "--label-add", label, third.name)
    stack.members, stack.primary = [first, second], first
    stack.failover = "auto"
    stack.env["WITNESS_IPS"] = third.ip
    stack.script("deploy", "--witness", "--wait")
    stack.wait_healthy(first)
    check(not third.docker("volume", "ls", "-q", "--filter", f"name={NAME}_database").stdout,
          "the witness has no volume of data")
    stack.create_ledger()
    writers = stack.write()
    at = labs.boottime_ns()
    writers.wait_acks(at, first.ip)
    first.power_off()
    at = labs.boottime_ns()
    done = writers.wait_acks(at, second.ip, seconds=90)[0]
    note(f"power-off to the first write of the other database: {(done.received - at) / 1e9:.1f} s")
    first.power_on()
    stack.wait_healthy()
    writers.finish(may_lose=True)
