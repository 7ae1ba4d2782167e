"""The stack of deploy/ on real engines, and what a client, an operator and Docker see of it."""
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, f"{ROOT}/tools/lab")
import engines  # noqa: E402
import lab as labs  # noqa: E402
from lab import run  # noqa: E402

NAME = "ha"
USER = "migasfree"
PASSWORD = "it's a \"$ecret\" p\u00e4ss"
REPLICATION = "stre@m 'pass' 17"
GATEWAY_PORT = 9999
TRIXIE = ("DEBIAN=trixie", "PG_MAJOR=17")
IMAGES = ("hawser-database:test", "hawser-pgpool:test")


def check(condition, text):
    if not condition:
        raise labs.LabError(text)


class Stack:
    """`lab` is an Engines whose nodes are joined and have the images."""

    def __init__(self, lab):
        self.lab = lab
        self.failover = "declared"
        self.primary = lab.nodes[0]
        self.members = list(lab.nodes)
        self.env = {}
        self.writers = []
        self.builder = None
        self.secrets = f"{lab.dir}/secrets"
        self.dir = lab.dir
        self.prefix = lab.prefix
        self.writer_path = f"{ROOT}/build/tests/lib/writer"

    # ---- secrets ----

    def make_secrets(self):
        os.makedirs(self.secrets, exist_ok=True)
        self.write_secret("pgpass", f"*:*:*:*:{PASSWORD}\n")
        for name, text in (("superadmin_pass", PASSWORD), ("replication_pass", REPLICATION),
                           ("ha_secret", os.urandom(24).hex())):
            self.write_secret(name, text + "\n")
            self.create_secret(f"{NAME}_{name}", name)

    def write_secret(self, name, text):
        path = f"{self.secrets}/{name}"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w",
                       encoding="utf-8") as f:
            f.write(text)

    def create_secret(self, name, file):
        self.manager().docker("secret", "create", name, f"{self.secrets}/{file}")

    # ---- deploying ----

    def manager(self):
        def found():
            try:
                return self.lab.manager()
            except labs.LabError:
                return None
        return labs.wait_for("a manager that answers", found, 90, every=0.5)

    def variables(self, **more):
        ips = [n.ip for n in self.members]
        primary = more.get("PRIMARY_IP", self.primary.ip)
        return {"STACK": NAME, "PRIMARY_IP": primary,
                "REPLICAS_IP": ",".join(i for i in ips if i != primary),
                "PORT_DATABASE": "5432", "HA_FAILOVER": self.failover,
                # Three engines on two cores: a task may be held up for longer than on a machine
                # of its own, and no scenario is about that.
                "HA_LEASE_MS": "4000",
                "POSTGRES_USER": USER, "POSTGRES_DB": USER,
                "HAWSER_DATABASE_IMAGE": IMAGES[0], "HAWSER_PGPOOL_IMAGE": IMAGES[1],
                # This kernel may have no IPVS, hence neither mesh nor virtual addresses.
                "PGPOOL_PUBLISH_MODE": "host", "PGPOOL_DEPLOY_MODE": "global",
                "PGPOOL_ENDPOINT_MODE": "dnsrr", **self.env, **more}

    def build_and_load(self, folder, target):
        """An image that only a test needs."""
        self.builder.wait_build(self.builder.build(folder, target))
        self.lab.load(self.builder.run_dir, f"hawser-{target}:test", name=target)

    def script(self, *words, check_status=True, seconds=400, **changes):
        """deploy/hawser with an environment file of these variables (None: left out)."""
        path = f"{self.dir}/hawser.env"
        values = {k: v for k, v in self.variables(**changes).items() if v is not None}
        with open(path, "w", encoding="utf-8") as f:
            f.writelines(f"{k}={v}\n" for k, v in values.items())
        manager = self.manager()
        try:
            done = subprocess.run(
                [f"{ROOT}/deploy/hawser", *words, "--env", path, "--resolve-image", "never"],
                capture_output=True, text=True, timeout=seconds, check=False,
                env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": self.dir,
                     "DOCKER_HOST": f"unix://{manager.dir}/docker.sock"})
        except subprocess.TimeoutExpired as e:
            raise labs.LabError(f"hawser {words}: no end after {seconds} s: {e.stdout}") from e
        if check_status and done.returncode != 0:
            raise labs.LabError(f"hawser {' '.join(words)}: {done.stdout}{done.stderr}")
        return done

    def deploy(self, primary=None, wait=True, **changes):
        if primary is not None:
            self.primary = primary
        return self.script("deploy", *(["--wait"] if wait else []), **changes)

    # ---- what Docker sees ----

    def ask_swarm(self, *words):
        """An answer of the managers. On a busy machine they may be without a leader for a while."""
        def answer():
            done = self.manager().docker(*words, check=False)
            return done if done.returncode == 0 else None
        return labs.wait_for(f"Swarm to answer {' '.join(words)}", answer, 90, every=0.5).stdout

    def service(self, name, field):
        return self.ask_swarm("service", "inspect", "--format", field, f"{NAME}_{name}").strip()

    def tasks(self, name):
        """Node -> (task id, state) of the tasks that shall run."""
        found = {}
        text = self.ask_swarm(
            "service", "ps", "--no-trunc", "--filter", "desired-state=running", "--format",
            "{{.Node}} {{.ID}} {{.CurrentState}}", f"{NAME}_{name}")
        for line in text.splitlines():
            node, ident, state = line.split()[:3]
            found[node] = (ident, state)
        return found

    def logs(self, name):
        """What Docker tells of a service. Where a node is off it waits for its word without end."""
        done = run("timeout", "20", "docker", "service", "logs", "--raw", f"{NAME}_{name}",
                   check=False,
                   env={**os.environ, "DOCKER_HOST": f"unix://{self.manager().dir}/docker.sock"})
        return done.stdout + done.stderr

    def container_logs(self, name, lines=40, nodes=None):
        """Node and container -> its newest lines; of each node that is on, without the Swarm."""
        found = {}
        for node in nodes or self.on():
            for words in node.docker("ps", "-a", "--format", "{{.ID}} {{.Status}}", "--filter",
                                     f"name={NAME}_{name}", check=False).stdout.splitlines():
                ident, status = words.split(maxsplit=1)
                done = node.docker("logs", "--timestamps", "--tail", str(lines), ident, check=False)
                found[f"{node.name} {ident} ({status})"] = sorted(
                    (done.stdout + done.stderr).splitlines())
        return found

    def container(self, node, service="database"):
        ids = node.docker("ps", "-q", "--filter", f"name={NAME}_{service}").stdout.split()
        return ids[0] if ids else None

    def in_container(self, node, *words, service="database", check_status=True, seconds=90):
        container = self.container(node, service)
        if container is None:
            raise labs.LabError(f"{node.name} has no container of {service}")
        return node.docker("exec", container, *words, check=check_status, seconds=seconds)

    # ---- what clients see ----

    def client(self, *words, **more):
        return self.lab.client(*words, **more)

    def sql(self, ip, text, port=5432, check_status=False, seconds=15, user=USER):
        done = self.client(
            labs.PSQL, "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", ip, "-p", str(port),
            "-U", user, "-d", USER, "-c", text, check=False, timeout=seconds + 10,
            env={**os.environ, "PGPASSFILE": f"{self.secrets}/pgpass", "PGCONNECT_TIMEOUT": "10"})
        if done.returncode != 0:
            if check_status:
                raise labs.LabError(f"{ip}: {done.stderr.strip()}")
            return None
        return done.stdout.strip()

    def gateway(self, node):
        """A way to ask through the gateway of that node."""
        return lambda text, **more: self.sql(node.ip, text, port=GATEWAY_PORT, **more)

    def on(self):
        return [n for n in self.members if n.is_on()]

    def writable(self):
        return [n for n in self.on() if self.sql(n.ip, "SELECT NOT pg_is_in_recovery()") == "t"]

    def wait_primary(self, node=None, seconds=150):
        def condition():
            found = self.writable()
            return found[0] if len(found) == 1 and node in (None, found[0]) else None
        return labs.wait_for(f"{node.name if node else 'a node'} to be the primary", condition,
                             seconds, every=0.1)

    def wait_healthy(self, node=None, seconds=240):
        """One primary; every other member that is on streams; every gateway has both right."""
        def condition():
            found = self.writable()
            if len(found) != 1 or node not in (None, found[0]):
                return None
            streams = self.sql(found[0].ip, "SELECT count(*) FROM pg_stat_replication "
                                            "WHERE state = 'streaming'")
            return found[0] if streams == str(len(self.on()) - 1) else None
        return labs.wait_for("one primary and all others streaming", condition, seconds, every=0.3)

    def pool_nodes(self, node):
        """Address -> (status, role) as the gateway on that node has it; none without it."""
        if self.container(node, "pgpool") is None:
            return {}
        text = self.in_container(node, "pcp_node_info", "-h", "localhost", "-U", USER, "-w",
                                 service="pgpool", check_status=False).stdout
        return {w[0]: (w[4], w[6]) for w in (x.split() for x in text.splitlines()) if len(w) > 7}

    def wait_gateway(self, node, primary, up=None, seconds=90):
        """Until that gateway has this primary, and just these members attached."""
        want = {n.ip for n in (up or self.on())}

        def condition():
            seen = self.pool_nodes(node)
            attached = {ip for ip, (status, _) in seen.items() if status in ("up", "waiting")}
            return seen.get(primary.ip, ("", ""))[1] == "primary" and attached == want
        try:
            labs.wait_for("the gateway", condition, seconds, every=0.5)
        except labs.LabError as e:
            raise labs.LabError(f"the gateway of {node.name} sees {self.pool_nodes(node)}; wanted "
                                f"{primary.ip} as the primary of {sorted(want)}") from e

    def hactl(self, node, *words, **more):
        return self.in_container(node, "hactl", *words, **more)

    def status(self, node):
        code = self.client("curl", "-s", "-m", "3", f"http://{node.ip}:8008/hawser/status",
                           check=False)
        return json.loads(code.stdout) if code.returncode == 0 and code.stdout else None

    # ---- writers, as labs.Writers wants them ----

    @property
    def databases(self):
        return self.members

    def write(self, threads=2):
        path = f"{self.dir}/acks-{len(self.writers)}.txt"
        writers = SwarmWriters(self, path, threads)
        self.writers.append(writers)
        return writers

    def create_ledger(self):
        self.sql(self.wait_primary().ip, "CREATE TABLE IF NOT EXISTS hawser_ledger "
                                         "(writer int, seq bigint, PRIMARY KEY (writer, seq))",
                 check_status=True)

    def lost(self, acks):
        """Acknowledged rows that are not there. Writers number their rows anew at each start."""
        rows = set(self.sql(self.wait_primary().ip,
                            "SELECT writer || ' ' || seq FROM hawser_ledger",
                            seconds=60, check_status=True).split("\n"))
        return [f"{a.writer} {a.seq}" for a in acks if f"{a.writer} {a.seq}" not in rows]

    def restore(self):
        """After a scenario that failed: all on, nothing cut, one primary."""
        self.close()
        self.lab.heal()
        for node in self.members:
            node.power_on()
        self.wait_healthy(seconds=150)

    def close(self):
        for w in self.writers:
            w.kill()


class SwarmWriters(labs.Writers):
    """Clients of every server, all the time; they record who acknowledged, on which timeline."""

    def __init__(self, stack, path, threads):  # pylint: disable=super-init-not-called
        self.lab = stack
        self.path = path
        stack.sql(stack.wait_primary().ip, "TRUNCATE hawser_ledger", check_status=True)
        self.p = engines.die_with_us(
            ["ip", "netns", "exec", f"{stack.lab.switch}", stack.writer_path, "--hosts",
             ",".join(n.ip for n in stack.members), "--user", USER, "--db", USER,
             "--threads", str(threads), "--seconds", "3600", "--out", path],
            subprocess.DEVNULL,
            env={**os.environ, "PGPASSFILE": f"{stack.secrets}/pgpass"})

    def finish(self, may_lose=False):
        """The end of a scenario: never two primaries, and nothing acknowledged is gone."""
        acks = self.stop()
        two = labs.two_primaries(acks)
        check(not two, "two primaries: " + "; ".join(two[:3]))
        gone = self.lab.lost(acks)
        check(may_lose or not gone, f"{len(gone)} acknowledged writes are lost: {gone[:3]}")
        return acks


class GatewayWriter:
    """One client that writes through a gateway, with a new session for each row."""

    def __init__(self, stack, node):
        self.ask = stack.gateway(node)
        self.acks = []
        self.is_over = False
        stack.writers.append(self)
        self.thread = threading.Thread(target=self.work, daemon=True)
        labs.wait_for("the gateway", lambda: self.ask(
            "CREATE TABLE IF NOT EXISTS through (seq bigint)") is not None, 60, every=0.2)
        self.thread.start()

    def work(self):
        seq = 0
        while not self.is_over:
            seq += 1
            if self.ask(f"INSERT INTO through VALUES ({seq})") is not None:
                self.acks.append(time.monotonic())
            else:
                time.sleep(0.05)

    def wait_write(self, after, seconds=120):
        return labs.wait_for("a write through the gateway",
                             lambda: [a for a in self.acks if a > after], seconds)[0]

    def longest_gap(self, after):
        times = [a for a in self.acks if a > after - 5]
        return max([b - a for a, b in zip(times, times[1:]) if b > after] or [0])

    def kill(self):
        self.is_over = True

    def stop(self):
        self.kill()
        self.thread.join(60)


def image_size(host, image):
    return int(engines.docker(host, "image", "inspect", "--format", "{{.Size}}", image).stdout)


def build_images(builder, args=()):
    builder.base_image(dict(a.split("=") for a in args).get("DEBIAN", "bookworm"))
    builds = [builder.build(ROOT, target, args) for target in ("database", "pgpool")]
    for b in builds:
        builder.wait_build(b)


def remove(path):
    shutil.rmtree(path, ignore_errors=True)


def leaks(text):
    """Parts of secrets in a text."""
    return [w for w in ("$ecret", "p\u00e4ss", "stre@m") if re.search(re.escape(w), text)]
