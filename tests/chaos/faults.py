"""Carries faults out on the lab's nodes, and takes them back.

begin() does a fault and returns what undoes it (or None). Agents that ended are started again by
supervise(), as a container's restart policy would, unless a fault holds them down.
"""
import collections
import contextlib
import errno
import os
import shutil
import signal
import subprocess
import time

import lab as labs

RESTART_S = 0.5  # what an orchestrator takes at least
DELAYS_MS = (5, 20, 60, 150, 300)
LOSSES = (500, 1000, 2000, 3000, 5000)  # of 10,000
FILL_STEP = 1 << 20


def words_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read().split(b"\0")
    except OSError:
        return [b""]


class Network:
    """Which pairs of ports do not hear each other, and whose cable is bad."""

    def __init__(self, lab, wire, seed):
        self.lab = lab
        self.wire = wire
        self.seed = seed
        self.pairs = collections.Counter()
        self.wires = {}

    def inside(self, *args, **more):
        return labs.run("ip", "netns", "exec", f"{self.lab.prefix}-sw", *args, **more)

    def ports(self, node):
        return node.port, f"{self.lab.prefix}w{node.number}"

    def elements(self, verb, pairs):
        if pairs:
            text = ", ".join(f"{a} . {b}" for a, b in sorted(pairs))
            self.inside("nft", verb, "element", "bridge", "lab", "pair", f"{{ {text} }}")

    def cut(self, ways):
        """ways: (from node, to node) pairs. Returns the undo."""
        pairs = [(a, b) for x, y in ways for a in self.ports(x) for b in self.ports(y)]
        self.elements("add", [p for p in pairs if self.pairs[p] == 0])
        self.pairs.update(pairs)

        def undo():
            self.pairs.subtract(pairs)
            self.elements("delete", [p for p in pairs if self.pairs[p] == 0])
        return undo

    def bad_cable(self, node, *options):
        """The node's port is unplugged from the switch and goes through a wire process."""
        if node in self.wires:
            return None
        port, outer = self.ports(node)
        inner = f"{self.lab.prefix}x{node.number}"
        sw = f"{self.lab.prefix}-sw"
        labs.run("ip", "-n", sw, "link", "add", inner, "type", "veth", "peer", "name", outer)
        for end in (inner, outer):
            labs.run("ip", "-n", sw, "link", "set", end, "up")
        p = subprocess.Popen(
            ["ip", "netns", "exec", sw, self.wire, "--a", port, "--b", inner, "--seed",
             str(self.seed), *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, start_new_session=True)
        if p.stdout.readline().strip() != "ready":
            raise labs.LabError("the wire does not start")
        self.wires[node] = p
        labs.run("ip", "-n", sw, "link", "set", port, "nomaster")
        labs.run("ip", "-n", sw, "link", "set", outer, "master", "br0")

        def undo():
            labs.run("ip", "-n", sw, "link", "set", outer, "nomaster")
            labs.run("ip", "-n", sw, "link", "set", port, "master", "br0")
            self.stop_wire(node)
            labs.run("ip", "-n", sw, "link", "del", inner)
        return undo

    def stop_wire(self, node):
        p = self.wires.pop(node)
        p.terminate()
        p.wait(timeout=10)
        p.stdout.close()

    def close(self):
        for node in list(self.wires):
            self.stop_wire(node)


class Faults:
    def __init__(self, lab, network, say):
        self.lab = lab
        self.network = network
        self.say = say
        self.held = collections.Counter()  # whose agent stays down
        self.ended_at = {}
        self.expected = collections.defaultdict(set)  # signals that we sent to an agent
        self.surprises = []  # agents that ended by themselves
        self.later = []  # (monotonic moment, function): steps of a fault that takes several
        self.talks = []  # hactl processes

    # ---- processes ----

    def guardian(self, node):
        for pid in self.processes(node):
            if os.path.basename(words_of(pid)[0]) == b"haguard":
                return labs.Process(pid)
        return None

    @staticmethod
    def processes(node):
        roots = [p.pid for p in (node.agent, node.init) if p and p.alive()]
        return [*roots, *[d for r in roots for d in labs.descendants(r)]]

    def sessions(self, node):
        """The postmaster's children, in a steady order."""
        p = node.postmaster()
        return sorted(labs.descendants(p.pid)) if p else []

    def supervise(self):
        """Starts agents again; called all the time."""
        now = time.monotonic()
        for due, step in [s for s in self.later if s[0] <= now]:
            self.later.remove((due, step))
            step()
        for node in self.lab.nodes:
            if self.held[node] or (node.agent and node.agent.alive()):
                continue
            if node not in self.ended_at:
                self.ended_at[node] = now
                self.note_end(node)
            if now - self.ended_at[node] >= RESTART_S:
                del self.ended_at[node]
                self.expected[node].clear()
                node.start()
                self.say(f"{node.name}: agent started again")

    def note_end(self, node):
        p = getattr(node, "agent_popen", None)
        status = None
        if p is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = p.wait(timeout=5)
        self.say(f"{node.name}: agent ended, status {status}")
        if status is None or status == 0 and "term" in self.expected[node] \
                or "kill" in self.expected[node]:
            return
        self.surprises.append((node.name, status))

    # ---- faults; each returns its undo, or None ----

    def begin(self, fault, node):
        if fault.kind not in ("all-off", "declared", "redeployed-all", "disk-full", "halves",
                              "ring", "cut-pair") and not (node.init and node.init.alive()):
            self.say(f"{fault.kind} skipped: {node.name} is off")
            return None
        return getattr(self, fault.kind.replace("-", "_"))(fault, node)

    def signal(self, process, sig, what):
        if process is None or not process.alive():
            self.say(f"skipped: {what} does not run")
            return None
        process.kill(sig)
        return lambda: process.kill(signal.SIGCONT)

    def hold(self, node):
        self.held[node] += 1

        def undo():
            self.held[node] -= 1
        return undo

    def agent_killed(self, _fault, node):
        undo = self.hold(node)
        self.expected[node].add("kill")
        node.kill_agent(signal.SIGCONT)  # nsenter, too, may be stopped
        node.kill_agent()
        return undo

    def agent_stopped(self, _fault, node):
        if not node.agent or not node.agent.alive():
            return None
        self.signal(node.agent, signal.SIGSTOP, "the agent")
        return lambda: node.kill_agent(signal.SIGCONT)

    def agent_restarted(self, _fault, node):
        self.expected[node].add("term")
        node.kill_agent(signal.SIGTERM)

    def guardian_killed(self, _fault, node):
        self.signal(self.guardian(node), signal.SIGKILL, "the guardian")

    def guardian_stopped(self, _fault, node):
        return self.signal(self.guardian(node), signal.SIGSTOP, "the guardian")

    def postmaster_killed(self, _fault, node):
        self.signal(node.postmaster(), signal.SIGKILL, "the postmaster")

    def postmaster_stopped(self, _fault, node):
        return self.signal(node.postmaster(), signal.SIGSTOP, "the postmaster")

    def pick_session(self, fault, node):
        sessions = self.sessions(node)
        if not sessions:
            return None
        pid = sessions[fault.number % len(sessions)]
        self.say(f"{node.name}: {words_of(pid)[0].decode(errors='replace')}")
        return labs.Process(pid)

    def backend_killed(self, fault, node):
        self.signal(self.pick_session(fault, node), signal.SIGKILL, "a backend")

    def backend_stopped(self, fault, node):
        return self.signal(self.pick_session(fault, node), signal.SIGSTOP, "a backend")

    def node_off(self, _fault, node):
        undo = self.hold(node)
        self.expected[node].add("kill")
        self.thaw(node)
        node.power_off()
        return undo

    def disk_lost(self, fault, node):
        undo = self.node_off(fault, node)
        for name in os.listdir(f"{node.dir}/data"):
            path = f"{node.dir}/data/{name}"
            shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
        return undo

    def all_off(self, fault, _node):
        undos = [self.node_off(fault, n) for n in self.lab.nodes]
        return lambda: [u() for u in undos]

    def node_frozen(self, _fault, node):
        frozen = set()
        while True:  # until nobody is left who could fork
            new = [p for p in self.processes(node) if p not in frozen]
            if not new:
                break
            for pid in new:
                labs.Process(pid).kill(signal.SIGSTOP)
                frozen.add(pid)
        return lambda: self.thaw(node)

    def thaw(self, node):
        for pid in self.processes(node):
            labs.Process(pid).kill(signal.SIGCONT)
        node.kill_agent(signal.SIGCONT)

    def others(self, node):
        return [n for n in self.lab.nodes if n is not node]

    def cut(self, _fault, node):
        return self.network.cut([w for n in self.others(node) for w in ((node, n), (n, node))])

    def cut_out(self, _fault, node):
        return self.network.cut([(node, n) for n in self.others(node)])

    def cut_in(self, _fault, node):
        return self.network.cut([(n, node) for n in self.others(node)])

    def cut_pair(self, fault, node):
        others = self.others(node)
        other = others[fault.number % len(others)]
        self.say(f"{node.name} and {other.name} do not hear each other")
        return self.network.cut([(node, other), (other, node)])

    def halves(self, fault, node):
        """The node is with the minority."""
        others = self.others(node)
        n = (len(self.lab.nodes) - 1) // 2
        at = fault.number % len(others)
        small = [node, *(others[at:] + others[:at])[:n - 1]]
        large = [x for x in self.lab.nodes if x not in small]
        self.say(f"{', '.join(x.name for x in small)} | {', '.join(x.name for x in large)}")
        return self.network.cut([w for a in small for b in large for w in ((a, b), (b, a))])

    def ring(self, _fault, _node):
        """Each hears a majority, and no two the same one: five nodes hear their two neighbours.
        Of three the first and the last do not hear each other."""
        nodes = self.lab.nodes
        n = len(nodes)
        far = [(a, b) for i, a in enumerate(nodes) for j, b in enumerate(nodes)
               if a is not b and ((i - j) % n not in (1, n - 1) if n > 3 else {i, j} == {0, n - 1})]
        return self.network.cut(far)

    def delay(self, fault, node):
        ms = DELAYS_MS[fault.number % len(DELAYS_MS)]
        self.say(f"{node.name}: {ms} to {ms * 1.5:.0f} ms each way")
        return self.network.bad_cable(node, "--delay-us", str(ms * 1000), "--jitter-us",
                                      str(ms * 500))

    def loss(self, fault, node):
        chance = LOSSES[fault.number % len(LOSSES)]
        self.say(f"{node.name}: {chance / 100:.0f} % of its frames are lost each way")
        return self.network.bad_cable(node, "--loss", str(chance), "--delay-us", "200")

    def disk_full(self, _fault, node):
        path = f"{node.dir}/data/foreign"
        with open(path, "ab") as f:
            free = os.statvfs(path)
            size = f.tell() + free.f_bavail * free.f_frsize
            with contextlib.suppress(OSError):
                os.posix_fallocate(f.fileno(), 0, max(size - FILL_STEP, 1))
            try:
                f.seek(0, os.SEEK_END)
                while True:
                    f.write(b"\0" * 65536)
                    f.flush()
            except OSError as e:
                if e.errno != errno.ENOSPC:
                    raise
            with contextlib.suppress(OSError):
                f.flush()

        def undo():
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)
        return undo

    # ---- words of people and of deployments ----

    def redeploy(self, node, primary):
        node.env["PRIMARY_IP"] = primary.ip
        self.agent_restarted(None, node)

    def redeployed_one(self, fault, node):
        primary = self.lab.databases[fault.number % len(self.lab.databases)]
        self.say(f"{node.name} restarts and declares {primary.name}")
        self.redeploy(node, primary)

    def redeployed_all(self, fault, _node):
        primary = self.lab.databases[fault.number % len(self.lab.databases)]
        self.say(f"all restart, one by one, and declare {primary.name}")
        for i, n in enumerate(self.lab.nodes):
            self.later.append((time.monotonic() + 3 * i, lambda n=n: self.redeploy(n, primary)))

    def declared(self, fault, _node):
        primary = self.lab.databases[fault.number % len(self.lab.databases)]
        self.say(f"hactl declare {primary.name}")
        urls = ",".join(f"http://{n.ip}:8008" for n in self.lab.nodes)
        self.talks.append(subprocess.Popen(
            ["ip", "netns", "exec", f"{self.lab.prefix}-sw", "timeout", "20", self.lab.hactl_path,
             "--url", urls, "declare", primary.ip], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ,
                 "HA_CLUSTER_SECRET_FILE": f"{self.lab.dir}/secrets/ha_secret"}))

    def close(self):
        for p in self.talks:
            if p.poll() is None:
                p.kill()
            p.wait(timeout=10)
        self.network.close()
