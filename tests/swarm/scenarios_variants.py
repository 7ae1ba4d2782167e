"""Other stacks: another gateway, a fourth node, Prometheus, a witness."""
import json
import os
import shutil

import stack as stacks
from scenario import Skip, load_images, long_scenario, other, wait_gateways, wait_update
from stack import NAME, check, labs


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
