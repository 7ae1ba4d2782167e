"""A cluster of real nodes on one machine, for ./demo, the tests and the benchmarks.

Each node is a network namespace with an address of its own on one virtual
switch, and a PID and mount namespace, so that it can be cut off (packets are
really dropped), powered off (everything in it dies at once) and started again
from its directory. A client lives on the switch and is never cut off.

Needs root, iproute2, nftables, util-linux. Touches nothing but namespaces and
directories of its own; ends only processes that it started.
"""
import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
import time

NET = "10.79.0"
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Debian's psql is a script around the real one, which is many times as fast to start.
PSQL = next(iter(sorted(glob.glob("/usr/lib/postgresql/*/bin/psql"), reverse=True)), "psql")
BIN = os.path.dirname(PSQL)
PG_MAJOR = int(BIN.split("/")[-2]) if BIN else 0  # what an agent finds here, too


class LabError(Exception):
    """Something that a person should read."""


def run(*args, check=True, **more):
    done = subprocess.run(args, capture_output=True, text=True, **more)
    if check and done.returncode != 0:
        raise LabError(f"{' '.join(args)}: {done.stderr.strip() or done.stdout.strip()}")
    return done


def wait_for(what, condition, seconds=60, every=0.05):
    """Until condition() is true (its value is returned), or a LabError that names what."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise LabError(f"waited {seconds} s for {what}")
        time.sleep(every)


def holds_for(what, condition, seconds, every=0.1):
    """condition() stays true so long, looked at again and again; or a LabError that names what."""
    end = boottime_ns() + seconds * 1_000_000_000
    while boottime_ns() < end:
        if not condition():
            raise LabError(f"not for {seconds} s: {what}")
        time.sleep(every)


def own_prefix():
    """A name for the namespaces of this very run, so that two runs do not meet."""
    return f"h{os.getpid():x}"


def boottime_ns():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def start_time(pid):
    """Field 22 of /proc/PID/stat, so that a process ID in use again is not taken for ours."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[19]
    except OSError:
        return None


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            return [int(x) for x in f.read().split()]
    except OSError:
        return []


def descendants(pid):
    found = []
    todo = [pid]
    while todo:
        for child in children(todo.pop()):
            found.append(child)
            todo.append(child)
    return found


class Process:
    """A process of ours, known by its ID and its start time."""

    def __init__(self, pid, started=None):
        self.pid = pid
        self.started = started or start_time(pid)

    def alive(self):
        try:
            with open(f"/proc/{self.pid}/stat", encoding="ascii") as f:
                words = f.read().rsplit(")", 1)[1].split()
        except OSError:
            return False
        return words[19] == self.started and words[0] != "Z"

    def kill(self, sig=signal.SIGKILL):
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)


class Node:
    def __init__(self, lab, number):
        self.lab = lab
        self.number = number
        self.name = f"n{number}"
        self.ip = f"{NET}.{10 + number}"
        self.ns = f"{lab.prefix}-n{number}"
        self.port = f"{lab.prefix}p{number}"  # its port on the switch
        self.dir = f"{lab.dir}/n{number}"
        self.pgdata = f"{self.dir}/data/pgdata"
        self.log = f"{self.dir}/agent.log"
        self.env = {}
        self.init = None  # PID 1 of the node
        self.agent = None
        self.is_witness = False
        self.clock_s = None  # how far its clocks since boot are ahead; None: not at all

    # ---- power ----

    def power_on(self):
        """The node's PID 1: nothing but a place to live in. Its own IPC namespace, as a container
        has one: shared memory of a Pgpool or PostgreSQL that was killed ends with the node."""
        if self.init and self.init.alive():
            return
        os.makedirs(self.dir, exist_ok=True)
        os.makedirs(f"{self.dir}/data", exist_ok=True)
        hosts = f"{self.lab.dir}/hosts"  # names that the nodes know, if a lab has any
        shell = (f"if [ -e {hosts} ]; then mount --bind {hosts} /etc/hosts; fi && "
                 "mount -t tmpfs tmpfs /dev/shm && "
                 "mount -t tmpfs tmpfs /run && mkdir -p /run/hawser /run/postgresql && "
                 "chmod 1777 /run/postgresql && mount -t proc proc /proc && "
                 f"hostname {self.name} && echo ready && while :; do sleep 1000 & wait; done")
        clock = [] if self.clock_s is None else ["--time", "--boottime", str(self.clock_s),
                                                 "--monotonic", str(self.clock_s)]
        p = subprocess.Popen(
            ["ip", "netns", "exec", self.ns, "unshare", "--mount", "--uts", "--ipc", "--pid",
             *clock, "--fork", "--kill-child=SIGKILL", "sh", "-c", shell],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, start_new_session=True)
        if p.stdout.readline().strip() != "ready":
            raise LabError(f"{self.name} does not boot")
        inner = wait_for(f"{self.name} to boot", lambda: children(p.pid))
        self.init = Process(inner[0])
        self.lab.popen.append(p)
        self.lab.save()

    def power_off(self):
        """Everything on the node dies at once, as with a pulled plug."""
        if self.init:
            self.kill_agent(signal.SIGCONT)
            self.init.kill()
            wait_for(f"{self.name} to be off", lambda: not self.init.alive())
        self.init = None
        self.agent = None
        self.lab.save()

    def enter(self):
        """What runs a command inside the node."""
        clock = [] if self.clock_s is None else ["-T"]
        return ["nsenter", "-t", str(self.init.pid), "-m", "-u", "-i", "-n", "-p", *clock]

    def exec(self, *args, check=True, **more):
        return run(*self.enter(), *args, check=check, **more)

    # ---- the agent ----

    def start(self, **changes):
        """Starts the agent with its environment, changed for good by `changes`."""
        for key, value in changes.items():
            if value is None:
                self.env.pop(key, None)
            else:
                self.env[key] = str(value)
        self.power_on()
        with open(self.log, "ab") as log:
            p = subprocess.Popen(
                [*self.enter(), "env", "-i", *[f"{k}={v}" for k, v in self.full_env().items()],
                 self.lab.haagent],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.lab.popen.append(p)

        def found():
            if p.poll() is not None:
                return -1
            return (children(p.pid) or [0])[0]
        pid = wait_for(f"the agent of {self.name} to start", found)
        self.agent = Process(pid) if pid > 0 else None
        self.agent_popen = p
        self.lab.save()
        return p

    def full_env(self):
        lab = self.lab
        others = [n for n in lab.nodes if n.is_witness is False]
        primary = lab.primary_ip
        env = {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "LANG": "C.UTF-8",
            "PRIMARY_IP": primary,
            "REPLICAS_IP": ",".join(n.ip for n in others if n.ip != primary),
            "NODE_IP": self.ip,
            "POSTGRES_PASSWORD_FILE": f"{lab.dir}/secrets/superadmin_pass",
            "HA_CLUSTER_SECRET_FILE": f"{lab.dir}/secrets/ha_secret",
            "PGDATA": self.pgdata,
            "HA_STATE_DIR": f"{self.dir}/data/state",
            "HA_RUN_DIR": "/run/hawser",
            "HA_FAILOVER": lab.failover,
            "HA_LEASE_MS": str(lab.lease_ms),
            "HA_LOG_LEVEL": "debug",
        }
        witnesses = [n.ip for n in lab.nodes if n.is_witness]
        if witnesses:
            env["WITNESS_IPS"] = ",".join(witnesses)
        env.update(lab.env)
        env.update(self.env)
        if "PRIMARY_IP" in self.env and "REPLICAS_IP" not in self.env:
            env["REPLICAS_IP"] = ",".join(n.ip for n in others if n.ip != env["PRIMARY_IP"])
        return env

    def kill_agent(self, sig=signal.SIGKILL):
        if self.agent:
            self.agent.kill(sig)
        if sig == signal.SIGCONT and getattr(self, "agent_popen", None):
            # nsenter stopped itself with its child, and would never reap it
            if self.agent_popen.poll() is None:
                self.agent_popen.send_signal(signal.SIGCONT)

    def stop_agent(self, seconds=60):
        """SIGTERM, and until it has ended."""
        self.kill_agent(signal.SIGTERM)
        wait_for(f"the agent of {self.name} to end",
                 lambda: not (self.agent and self.agent.alive()), seconds)
        self.agent = None
        self.lab.save()

    def postmaster(self):
        """The postmaster's process, or None."""
        roots = [p.pid for p in (self.agent, self.init) if p]  # the agent's parent is outside
        for pid in [d for root in roots for d in descendants(root)]:
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    words = f.read().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"/postgres") and b"-D" in words:
                return Process(pid)
        return None

    def process(self, title):
        """The one process of the node's PostgreSQL that bears that title."""
        def found():
            pids = []
            for pid in descendants(self.postmaster().pid) if self.postmaster() else []:
                with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as f:
                    if title.encode() in f.read():
                        pids.append(pid)
            return [Process(p) for p in pids] if len(pids) == 1 else None
        return wait_for(f"one process {title} on {self.name}", found)[0]

    def kill_postmaster(self, sig=signal.SIGKILL):
        p = self.postmaster()
        if p is None:
            raise LabError(f"no postmaster runs on {self.name}")
        p.kill(sig)

    # ---- questions ----

    def http(self, path, seconds=2):
        """(status, body) from the agent, asked by the client; (0, reason) when it is silent."""
        done = self.lab.client("curl", "-s", "-m", str(seconds), "-o", "-", "-w", "\n%{http_code}",
                               f"http://{self.ip}:8008{path}", check=False)
        if done.returncode != 0:
            return 0, done.stderr
        body, _, code = done.stdout.rpartition("\n")
        return int(code), body

    def status(self):
        code, body = self.http("/hawser/status")
        return json.loads(body) if code == 200 else None

    def sql(self, text, user=None, seconds=10, check=True):
        try:
            done = self.lab.client(
                PSQL, "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", self.ip,
                "-U", user or "postgres", "-d", "postgres", "-c", text,
                check=False, env={**os.environ, "PGPASSFILE": f"{self.lab.dir}/secrets/pgpass",
                                  "PGCONNECT_TIMEOUT": "2"}, timeout=seconds + 5)
        except subprocess.TimeoutExpired:
            if check:
                raise
            return None  # who asks in a loop asks again: a server that went away says nothing
        if done.returncode != 0:
            if check:
                raise LabError(f"{self.name}: {done.stderr.strip()}")
            return None
        return done.stdout.strip()

    def is_writable(self):
        return self.sql("SELECT NOT pg_is_in_recovery()", check=False) == "t"

    def is_streaming(self):
        return self.sql("SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'",
                        check=False) == "1"

    def log_text(self):
        try:
            with open(self.log, encoding="utf-8", errors="replace") as f:
                return f.read()
        except OSError:
            return ""


class Lab:
    def __init__(self, directory, nodes=3, witnesses=0, failover="declared", lease_ms=2000,
                 prefix=None, build=None, env=None):
        self.dir = os.path.abspath(directory)
        self.prefix = prefix or own_prefix()
        self.failover = failover
        self.lease_ms = lease_ms
        self.env = dict(env or {})
        build = build or os.environ.get("HAWSER_BUILD", f"{ROOT}/build")
        self.haagent = f"{build}/agent/shell/haagent"
        self.hactl_path = f"{build}/tools/hactl/hactl"
        self.writer_path = f"{build}/tests/lib/writer"
        self.popen = []
        self.nodes = [Node(self, i + 1) for i in range(nodes + witnesses)]
        for n in self.nodes[nodes:]:
            n.is_witness = True
        self.primary_ip = self.nodes[0].ip
        self.writers = []

    # ---- the switch ----

    def up(self):
        os.makedirs(f"{self.dir}/secrets", mode=0o755, exist_ok=True)
        for name, text in (("superadmin_pass", "it's a \"$ecret\" p\u00e4ss\n"),
                           ("ha_secret", os.urandom(24).hex() + "\n"),
                           ("pgpass", "*:*:*:*:it's a \"$ecret\" p\u00e4ss\n")):
            path = f"{self.dir}/secrets/{name}"
            if not os.path.exists(path):
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w",
                               encoding="utf-8") as f:
                    f.write(text)
        self.network_down()
        sw = f"{self.prefix}-sw"
        run("ip", "netns", "add", sw)
        run("ip", "-n", sw, "link", "set", "lo", "up")
        run("ip", "-n", sw, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
        run("ip", "-n", sw, "addr", "add", f"{NET}.1/24", "dev", "br0")
        run("ip", "-n", sw, "link", "set", "br0", "up")
        run("ip", "netns", "exec", sw, "nft", "-f", "-", input="""
            table bridge lab {
                set pair { type ifname . ifname; }
                chain forward {
                    type filter hook forward priority 0;
                    iifname . oifname @pair drop
                }
            }""")
        for n in self.nodes:
            run("ip", "netns", "add", n.ns)
            run("ip", "-n", n.ns, "link", "set", "lo", "up")
            run("ip", "link", "add", n.port, "netns", sw, "type", "veth", "peer", "name", "eth0",
                "netns", n.ns)
            run("ip", "-n", n.ns, "addr", "add", f"{n.ip}/24", "dev", "eth0")
            run("ip", "-n", n.ns, "link", "set", "eth0", "up")
            run("ip", "-n", sw, "link", "set", n.port, "master", "br0", "up")
        os.chmod(self.dir, 0o755)
        self.save()

    def network_down(self):
        for ns in [n.ns for n in self.nodes] + [f"{self.prefix}-sw"]:
            run("ip", "netns", "del", ns, check=False)

    def down(self, purge=False):
        for w in self.writers:
            w.kill()
        for n in self.nodes:
            n.power_off()
        for p in self.popen:
            with contextlib.suppress(subprocess.TimeoutExpired):
                p.wait(timeout=10)
            if p.stdout:
                p.stdout.close()
        self.popen = []
        self.network_down()
        if purge:
            shutil.rmtree(self.dir, ignore_errors=True)

    def client(self, *args, check=True, **more):
        return run("ip", "netns", "exec", f"{self.prefix}-sw", *args, check=check, **more)

    def client_popen(self, *args):
        """The same, not waited for; with the superuser's password."""
        p = subprocess.Popen(
            ["ip", "netns", "exec", f"{self.prefix}-sw", *args], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "PGPASSFILE": f"{self.dir}/secrets/pgpass"})
        self.popen.append(p)
        return p

    def cut(self, node, peers=None, one_way=None):
        """Drops every packet between a node and its peers (all others unless said). one_way:
        "out" drops only what it sends, "in" only what it would receive. The client is not cut."""
        pairs = []
        for p in peers or [n for n in self.nodes if n is not node]:
            pairs += [f"{node.port} . {p.port}"] if one_way != "in" else []
            pairs += [f"{p.port} . {node.port}"] if one_way != "out" else []
        run("ip", "netns", "exec", f"{self.prefix}-sw", "nft", "add", "element", "bridge", "lab",
            "pair", f"{{ {', '.join(pairs)} }}")

    def heal(self):
        run("ip", "netns", "exec", f"{self.prefix}-sw", "nft", "flush", "set", "bridge", "lab",
            "pair")

    # ---- the cluster ----

    def node(self, name):
        for n in self.nodes:
            if name in (n.name, n.ip):
                return n
        raise LabError(f"there is no node {name}; there are "
                       + ", ".join(n.name for n in self.nodes))

    @property
    def databases(self):
        return [n for n in self.nodes if not n.is_witness]

    def start(self):
        for n in self.nodes:
            n.start()

    def hactl(self, *args, check=False, seconds=60):
        urls = ",".join(f"http://{n.ip}:8008" for n in self.nodes)
        return self.client(self.hactl_path, "--url", urls, *args, check=check,
                           timeout=seconds + 30,
                           env={**os.environ,
                                "HA_CLUSTER_SECRET_FILE": f"{self.dir}/secrets/ha_secret"})

    def primary(self):
        """The one writable node, or None."""
        found = [n for n in self.databases if n.init and n.is_writable()]
        return found[0] if len(found) == 1 else None

    def wait_primary(self, node=None, seconds=90):
        def condition():
            p = self.primary()
            return p if p is not None and (node is None or p is node) else None
        return wait_for(f"{node.name if node else 'a node'} to be the primary", condition, seconds)

    def wait_healthy(self, seconds=120):
        """One primary, and every other database node that is on streams."""
        def condition():
            p = self.primary()
            return p if p and all(n is p or n.is_streaming() for n in self.databases
                                  if n.init) else None
        return wait_for("one primary and all others streaming", condition, seconds, every=0.2)

    def create_ledger(self):
        self.wait_primary().sql("CREATE TABLE IF NOT EXISTS hawser_ledger "
                                "(writer int, seq bigint, PRIMARY KEY (writer, seq))")

    def write(self, seconds=600, threads=8, name="acks", pause_us=2000):
        """Starts writers; see Writers."""
        return Writers(self, seconds, threads, f"{self.dir}/{name}-{len(self.writers)}.txt",
                       pause_us)

    # ---- state across calls of ./demo ----

    def save(self):
        if not os.path.isdir(self.dir):
            return
        state = {"nodes": [{"env": n.env, "init": [n.init.pid, n.init.started] if n.init else None,
                            "agent": [n.agent.pid, n.agent.started] if n.agent else None,
                            "witness": n.is_witness} for n in self.nodes],
                 "failover": self.failover, "lease_ms": self.lease_ms, "prefix": self.prefix,
                 "primary_ip": self.primary_ip, "env": self.env}
        with open(f"{self.dir}/lab.json.new", "w", encoding="utf-8") as f:
            json.dump(state, f)
        os.rename(f"{self.dir}/lab.json.new", f"{self.dir}/lab.json")

    @staticmethod
    def load(directory):
        with open(f"{directory}/lab.json", encoding="utf-8") as f:
            state = json.load(f)
        lab = Lab(directory, nodes=len(state["nodes"]), failover=state["failover"],
                  lease_ms=state["lease_ms"], prefix=state["prefix"], env=state["env"])
        lab.primary_ip = state["primary_ip"]
        for n, s in zip(lab.nodes, state["nodes"]):
            n.env = s["env"]
            n.is_witness = s["witness"]
            n.init = Process(*s["init"]) if s["init"] else None
            n.agent = Process(*s["agent"]) if s["agent"] else None
            if n.init and not n.init.alive():
                n.init = n.agent = None
        return lab


class Ack:
    __slots__ = ("sent", "received", "host", "timeline", "writer", "seq")

    def __init__(self, line):
        sent, received, self.host, timeline, self.writer, self.seq = line.split()
        self.sent, self.received = int(sent), int(received)
        self.timeline = int(timeline, 16)


class Writers:
    """Clients that write all the time, and what they were told."""

    def __init__(self, lab, seconds, threads, path, pause_us):
        self.lab = lab
        self.path = path
        self.p = subprocess.Popen(
            ["ip", "netns", "exec", f"{lab.prefix}-sw", lab.writer_path, "--hosts",
             ",".join(n.ip for n in lab.databases), "--threads", str(threads), "--seconds",
             str(seconds), "--pause-us", str(pause_us), "--out", path],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "PGPASSFILE": f"{lab.dir}/secrets/pgpass"}, start_new_session=True)
        lab.writers.append(self)

    def acks(self):
        if not os.path.exists(self.path):
            return []
        with open(self.path, encoding="ascii") as f:
            return [Ack(line) for line in f if line.endswith("\n") and line.count(" ") == 5]

    def wait_acks(self, after_ns, host=None, seconds=60):
        """Until a write that was sent after that moment is acknowledged (by that host)."""
        return wait_for("a write to be acknowledged",
                        lambda: [a for a in self.acks() if a.sent > after_ns
                                 and (host is None or a.host == host)], seconds, every=0.1)

    def stop(self):
        self.p.send_signal(signal.SIGTERM)
        self.p.wait(timeout=30)
        return self.acks()

    def kill(self):
        if self.p.poll() is None:
            self.p.kill()
        self.p.wait(timeout=10)


# ---- checking what was acknowledged ----

def outage_ms(acks, around_ns, within_s=120):
    """The longest time without an acknowledgement that ends after that moment."""
    times = sorted(a.received for a in acks if a.received > around_ns - 2_000_000_000
                   and a.received < around_ns + within_s * 1_000_000_000)
    gaps = [(b - a) / 1e6 for a, b in zip(times, times[1:]) if b > around_ns]
    return max(gaps) if gaps else None


def two_primaries(acks):
    """Acknowledgements that were asked for after a newer timeline had begun to answer: there must
    be none. One timeline belongs to one reign, hence to one server."""
    first = {}
    hosts = {}
    for a in acks:
        first[a.timeline] = min(first.get(a.timeline, a.received), a.received)
        hosts.setdefault(a.timeline, set()).add(a.host)
    bad = [f"timeline {t} was written by {sorted(h)}" for t, h in hosts.items() if len(h) > 1]
    for a in acks:
        for t, begun in first.items():
            if t > a.timeline and a.sent > begun:
                bad.append(f"{a.host} on timeline {a.timeline} acknowledged a write asked for "
                           f"{(a.sent - begun) / 1e6:.1f} ms after timeline {t} had begun")
                break
    return bad


def lost(acks, lab):
    """Acknowledged rows that the primary does not have. The reign may go back to the declared
    primary at this very moment and end the session: then the next primary is asked."""
    def answer():
        primary = lab.primary()
        rows = primary and primary.sql("SELECT writer || ' ' || seq FROM hawser_ledger",
                                       seconds=60, check=False)
        return None if rows is None else [rows]
    rows = set(wait_for("a primary to tell its rows", answer, 120)[0].split("\n"))
    return [f"{a.writer} {a.seq}" for a in acks if f"{a.writer} {a.seq}" not in rows]
