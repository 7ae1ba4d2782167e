"""The mission, sentence by sentence, on one Swarm: each scenario leaves the cluster whole."""
import os
import re
import time

import stack as stacks
from scenario import NEXT, other, scenario, task_ids, timeline, update, wait_gateways, wait_update
from stack import GATEWAY_PORT, NAME, USER, GatewayWriter, check, labs


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
def an_operator_asks_and_declares_by_the_script(stack, note, _is_full):
    """deploy/hawser status, logs, secrets, declare: what they say is so, and no task restarts."""
    old, new = stack.primary, other(stack, stack.primary)
    tasks = task_ids(stack)
    told = stack.script("status").stdout
    check(re.search(rf"{old.name} +\| +{old.ip} +\| Primary +\| running", told), told)
    check(told.count("| Replica | streaming |") == len(stack.members) - 1, told)
    for words, wanted in ((["logs"], " ev="), (["logs", "pgpool"], "pgpool: "),
                          (["logs", "declare"], "declaration ")):
        def said(words=words, wanted=wanted):  # Docker shows nothing of what began just now
            lines = stack.script(*words).stdout
            check(wanted in lines or "Docker shows nothing of it yet" in lines, f"{words}: {lines}")
            return lines if wanted in lines else None
        lines = labs.wait_for(f"hawser {words} to show {wanted!r}", said, 60, 0.5)
        check(not stacks.leaks(lines), f"{words} shows a secret")
    spare = [f"spare_{name}" for name in ("superadmin_pass", "replication_pass", "ha_secret")]
    for changes, made in (({}, []), ({"STACK": "spare"}, spare), ({"STACK": "spare"}, [])):
        lines = stack.script("secrets", **changes).stdout.splitlines()
        check(lines == [f"hawser: made the secret {name}" for name in made], f"secrets: {lines}")
    stack.manager().docker("secret", "rm", *spare)
    refused = stack.script("declare", "n9", check_status=False)
    check(refused.returncode != 0 and "n9: no node of this Swarm; allowed: " in refused.stderr,
          f"declare n9: {refused.stderr}")
    at = time.monotonic()
    done = stack.script("declare", new.name).stdout
    check(f"declared {new.ip}; write it into hawser.env too" in done, done)
    check(stack.writable() == [new], "it says so before the primary is open")
    note(f"hawser declare: {time.monotonic() - at:.1f} s until it says so")
    stack.wait_healthy(new)
    stack.deploy()  # the file says the old one still
    stack.wait_healthy(old)
    wait_gateways(stack, old)
    check(task_ids(stack) == tasks, "tasks of the database were restarted")


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
def an_engine_that_is_restarted_hands_over_first(stack, note, _is_full):
    """The engine of the primary's node ends and starts again: nothing is lost, all stream."""
    old = stack.wait_healthy()
    writers = stack.write()
    at = labs.boottime_ns()
    writers.wait_acks(at, old.ip)
    old.shut_down()
    down = labs.boottime_ns()
    elsewhere = labs.wait_for("a write elsewhere", lambda: [
        a for a in writers.acks() if a.sent > at and a.host != old.ip], 60)[0]
    check(elsewhere.received < down, "it ended before it had handed over")
    old.power_on()
    stack.wait_healthy()
    acks = writers.finish()
    note(f"write outage of a restart of the engine: {labs.outage_ms(acks, at):.0f} ms")
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
