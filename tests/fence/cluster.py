"""A primary that is frozen, killed or half-frozen, in a cluster that goes on without it.

Goal:   S1 where it counts: real agents, a real successor, three nodes, a network between them.
        No acknowledgement after expiry, no overlap with the successor, no PANIC, and with
        synchronous replication no acknowledged row is lost; whether the layers behind the module's
        checks (guardian, worker) are there or not. A primary whose agent is frozen for good is
        replaced, and its server goes.
Method: eight writers to each node stamp each answer with CLOCK_BOOTTIME, the clock of the deadline
        in the lease page. The fault strikes the primary, the others choose a successor, and only
        when that has acknowledged writes the old one wakes. The layers are taken away by stopping
        them: what then holds are the checks in the backends alone.

An answer that was checked in time and caught by a stop on its way out arrives when its backend
wakes: at most one of a session, asked for before the stop. It is counted and allowed; see S1 in
docs/invariants.md.

The table of the faults in the end counts what stands in the file of --results, or this run alone.
"""

import contextlib
import json
import os
import signal
import statistics
import struct
import subprocess
import sys
import time

from bench import IS_ROOT, Skip, boot_ns, descendants, is_alive, send, title, wait_for
from freeze import LATE_MS

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/lab"))
import lab as labs  # noqa: E402  pylint: disable=wrong-import-position

LEASE_MS = 2000
SUCCESSION_MS = 2000  # what a failover may cost beyond the lease, on a machine that is not busy
UNSHIPPED_NS = 1_000_000_000  # what an asynchronous primary may not have shipped when it is struck
FREEZER = "/sys/fs/cgroup/freezer"
FAULTS = ("agent_stopped", "agent_killed", "half_stopped", "all_frozen", "all_stopped")
# A row of each fault; --full runs each of them in both ways, ten times.
SHORT = (("agent_stopped", True), ("half_stopped", False), ("all_frozen", False),
         ("agent_killed", False), ("all_stopped", True))
# Where standbys are asked, their letting go stops a stale primary, too. Here the fence is alone.
SHORT_ASYNCHRONOUS = (("agent_stopped", False), ("half_stopped", True))


class Freezer:
    """A cgroup that holds all processes of a node and stops them in one instant."""

    def __init__(self, name):
        self.path = f"{FREEZER}/{name}"
        if not os.access(f"{FREEZER}/cgroup.procs", os.W_OK):
            raise Skip("no cgroup freezer here")
        os.makedirs(self.path, exist_ok=True)

    def write(self, file, text):
        with open(f"{self.path}/{file}", "w", encoding="ascii") as out:
            out.write(text)

    def take(self, node):
        """Everything on the node; what it forks from now on is born here."""
        inside = set()

        def add():
            missing = [p for p in (node.init.pid, *descendants(node.init.pid),
                                   *agents_tree(node)) if p not in inside]
            for pid in missing:
                with contextlib.suppress(ProcessLookupError):
                    self.write("cgroup.procs", str(pid))
                inside.add(pid)
            return not missing
        wait_for("all processes in the freezer", add)

    def freeze(self):
        self.write("freezer.state", "FROZEN")

        def is_frozen():
            with open(f"{self.path}/freezer.state", encoding="ascii") as file:
                return file.read().strip() == "FROZEN"
        wait_for("the freezer", is_frozen)

    def thaw(self):
        self.write("freezer.state", "THAWED")

    def close(self):
        """Also in the end of a test that was stopped: what is frozen cannot be killed."""
        if os.path.isdir(self.path):
            self.thaw()
            wait_for("the freezer to be empty", self.remove)

    def remove(self):
        """Lets everybody go; again, as what they fork meanwhile is born inside."""
        with open(f"{self.path}/cgroup.procs", encoding="ascii") as file:
            pids = file.read().split()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # it ended
                with open(f"{FREEZER}/cgroup.procs", "w", encoding="ascii") as out:
                    out.write(pid)
        try:
            os.rmdir(self.path)
            return True
        except OSError:
            return False


def agents_tree(node):
    return [node.agent.pid, *descendants(node.agent.pid)] if node.agent else []


class Old:
    """The primary that the fault strikes."""

    def __init__(self, cluster, node):
        self.cluster = cluster
        self.node = node
        self.server = node.postmaster().pid
        tree = descendants(self.server)
        self.pids = [self.server, *tree]
        self.backends = [p for p in tree if "hawser_ledger" in title(p) or
                         title(p).startswith("postgres: postgres postgres")]
        self.worker = [p for p in tree if title(p).startswith("postgres: ha_fence")]
        self.guardian = [p for p in agents_tree(node) if "haguard" in title(p).split(" ")[0]]
        self.stopped = []
        self.freezer = None

    def deadline_ns(self):
        run = os.path.join(f"/proc/{self.node.init.pid}", "root", "run", "hawser")
        with open(f"{run}/fence/lease", "rb") as file:
            return struct.unpack("Q", file.read()[128:136])[0]

    def stop(self, pids):
        send(signal.SIGSTOP, *pids)
        self.stopped += pids

    def take_layers_away(self):
        assert len(self.worker) == 1 and len(self.guardian) == 1, (self.worker, self.guardian)
        send(signal.SIGSTOP, *self.worker, *self.guardian)

    def give_layers_back(self):
        send(signal.SIGCONT, *self.worker, *self.guardian)

    def prepare(self, fault):
        if fault == "all_frozen":
            self.freezer = Freezer(f"{self.node.ns}-{time.monotonic_ns()}")
            self.cluster.things.append(self.freezer.close)
            self.freezer.take(self.node)

    def strike(self, fault):
        if fault == "all_frozen":
            self.freezer.freeze()
            return
        self.node.kill_agent(signal.SIGKILL if fault == "agent_killed" else signal.SIGSTOP)
        if fault == "half_stopped":
            self.stop(self.backends[::2])
        elif fault == "all_stopped":
            # The postmaster first, or it would fork behind us.
            self.stop([self.server, *self.guardian, *descendants(self.server)])

    def wake(self, with_layers):
        """Whatever was stopped but the agent that is frozen for good."""
        if self.freezer:
            self.freezer.close()
        layers = [] if with_layers else [*self.worker, *self.guardian]
        send(signal.SIGCONT, *[p for p in self.stopped if p not in layers])

    def wakes_the_agent(self):
        if self.node.agent and self.node.agent.alive():
            self.node.kill_agent(signal.SIGCONT)
        else:
            self.node.start()


def label_of(fault, with_layers):
    return f"{fault}, layers {'on' if with_layers else 'off'}"


class Cluster:
    def __init__(self, bench, sync):
        if not IS_ROOT:
            raise Skip("needs root: nodes are namespaces")
        self.lab = labs.Lab(f"{bench.dir}/lab", nodes=3, failover="auto", lease_ms=LEASE_MS,
                            build=bench.build, env={"HA_SYNC": sync})
        bench.things.append(self.lab.down)
        self.lab.up()
        self.lab.start()
        self.sync = sync
        self.lab.wait_healthy()
        self.wait_held()
        self.lab.create_ledger()
        self.writers = self.lab.write(seconds=36000)
        self.writers.wait_acks(boot_ns())
        self.rows = []
        self.reigns_ended = []  # of the struck: address, from when to when nobody may have its rows
        self.results = bench.results
        self.things = bench.things

    def wait_held(self):
        """Until it is on record that no commit is acknowledged which a majority does not know."""
        if self.sync == "off":
            return

        def is_held():
            status = [n.status() for n in self.lab.nodes]
            return any(s and s["leader"] == n.ip and s["sync"]["commits"] == "held"
                       for n, s in zip(self.lab.nodes, status))
        labs.wait_for("commits to be held", is_held, 120)

    def one_fault(self, fault, with_layers, still_s=0):
        lab = self.lab
        label = label_of(fault, with_layers)
        self.wait_held()
        node = lab.wait_primary()
        self.writers.wait_acks(boot_ns(), host=node.ip)
        old = Old(self, node)
        assert len(old.backends) >= 8, f"{label}: {len(old.backends)} writers"
        old.prepare(fault)
        if not with_layers:
            old.take_layers_away()
        at = boot_ns()
        try:
            old.strike(fault)
            struck = boot_ns()
            first = self.successor(at, node, label)
            while boot_ns() < struck + still_s * 1_000_000_000:
                time.sleep(0.05)
            deadline = old.deadline_ns()
            old.wake(with_layers)
            if not with_layers and fault != "all_frozen":
                self.refuses(node, label)  # where the agent woke, too, it is no primary any more
        finally:
            old.give_layers_back()
        wait_for(f"{label}: the old server to go", lambda: not any(is_alive(p) for p in old.pids))
        old.wakes_the_agent()
        lab.wait_healthy()
        self.check(fault, with_layers, old, (at, struck, deadline, first))

    def successor(self, at, node, label):
        """The first acknowledgement of another node after the fault."""
        found = labs.wait_for(f"{label}: another node to acknowledge", lambda: [
            a for a in self.writers.acks() if a.sent > at and a.host != node.ip], 120)
        return min(a.received for a in found)

    def refuses(self, node, label):
        """Nothing ends it, and it answers nothing. It may be silent: nobody reads its log while the
        agent is stopped, and who has an error to write there waits when the pipe is full."""
        def is_refused():
            try:
                node.sql("SELECT 1")
            except labs.LabError as error:
                return "may not acknowledge" in str(error)
            except subprocess.TimeoutExpired:
                return True
            raise AssertionError(f"{label}: a stale primary answers")
        wait_for(f"{label}: a refusal", is_refused)

    def check(self, fault, with_layers, old, moments):
        at, struck, deadline, first = moments
        label = label_of(fault, with_layers)
        acks = [a for a in self.writers.acks() if a.received > at - 1_000_000_000]
        mine = [a for a in acks if a.host == old.node.ip and a.sent < first]
        # Checked before the stop, sent on waking: see the top of this file.
        caught = [a for a in mine if a.received >= first]
        late = [a for a in mine if a.received >= deadline and a not in caught]
        assert all(a.sent < struck for a in caught), f"{label}: asked for after the stop"
        assert all(a.sent < deadline for a in late), f"{label}: asked for after expiry"
        assert len({a.writer for a in caught}) == len(caught), f"{label}: two of one session"
        assert len({a.writer for a in late}) == len(late), f"{label}: two of one session"
        self.reigns_ended.append((old.node.ip, at - UNSHIPPED_NS, max(deadline, struck)))
        last = max((a.received for a in mine if a not in caught), default=at)
        assert last <= deadline + LATE_MS * 1_000_000, f"{label}: {(last - deadline) / 1e6} ms late"
        assert last < first, f"{label}: overlap of {(last - first) / 1e6} ms"
        two = labs.two_primaries(acks)
        assert not two, f"{label}: {two[:3]}"
        for node in self.lab.nodes:
            assert "PANIC" not in node.log_text(), label
        row = {"sync": self.sync, "fault": fault, "layers": "on" if with_layers else "off",
               "last_ms": (last - deadline) / 1e6, "gap_ms": (first - last) / 1e6,
               "outage_ms": (first - at) / 1e6, "late": len(late), "caught": len(caught)}
        self.rows.append(row)
        print(f"    {label}: last answer {row['last_ms']:+.1f} ms from expiry; the first of the "
              f"successor {row['gap_ms']:.0f} ms after it and {row['outage_ms']:.0f} ms after the "
              f"fault; late: {len(late)}, caught by the stop: {len(caught)}", flush=True)
        limit = LEASE_MS + (SUCCESSION_MS if os.getloadavg()[0] <= os.cpu_count() else 30000)
        assert (first - at) / 1e6 <= limit, f"{label}: {(first - at) / 1e6:.0f} ms without writes"

    def may_be_lost(self, ack):
        """Where commits wait for nobody: what the struck one acknowledged and had not shipped."""
        return self.sync == "off" and any(
            ack.host == host and begin <= ack.received <= end + LATE_MS * 1_000_000
            for host, begin, end in self.reigns_ended)

    def finish(self):
        acks = self.writers.stop()
        gone = set(labs.lost(acks, self.lab))
        lost = [a for a in acks if f"{a.writer} {a.seq}" in gone]
        wrong = [a for a in lost if not self.may_be_lost(a)]
        assert not wrong, f"{len(wrong)} acknowledged rows are lost: {wrong[:3]}"
        print(f"    {len(self.rows)} faults, {len(acks)} acknowledged, {len(lost)} lost"
              f"{' (asynchronous)' if lost else ''}", flush=True)
        self.report()

    def report(self):
        """Only a run that lost nothing but what it may adds to the file."""
        rows = self.rows
        if self.results:
            with open(self.results, "a", encoding="ascii") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
            with open(self.results, encoding="ascii") as file:
                rows = [json.loads(line) for line in file]
        print(f"    {'fault':14} {'layers':6} {'runs':>4}  {'last answer - expiry, ms':>24}  "
              f"{'to the successor, ms':>20}  {'no writes, ms':>13}  late  caught")
        for fault in FAULTS:
            for layers in ("on", "off"):
                table_row(fault, layers, [r for r in rows if (r["sync"], r["fault"], r["layers"])
                                          == (self.sync, fault, layers)])


def table_row(fault, layers, rows):
    if not rows:
        return
    last = [r["last_ms"] for r in rows]
    outages = [r["outage_ms"] for r in rows]
    span = f"{min(last):+.1f} .. {max(last):+.1f}"
    print(f"    {fault:14} {layers:6} {len(rows):4}  {span:>24}  "
          f"{'at least %.0f' % min(r['gap_ms'] for r in rows):>20}  "
          f"{'%.0f .. %.0f' % (statistics.median(outages), max(outages)):>13}  "
          f"{sum(r['late'] for r in rows):4}  {sum(r['caught'] for r in rows):6}", flush=True)


def strike_all(bench, cluster, short):
    if not bench.is_whole:
        for fault, with_layers in short:
            cluster.one_fault(fault, with_layers)
    else:
        for _ in range(bench.reps):
            for fault in FAULTS:
                for with_layers in (True, False):
                    cluster.one_fault(fault, with_layers, 30 if fault == "all_stopped" else 0)
    cluster.finish()


def a_stale_primary_acknowledges_nothing_beside_its_successor(bench):
    strike_all(bench, Cluster(bench, "quorum"), SHORT)


def where_commits_wait_for_nobody_the_fence_alone_keeps_it_silent(bench):
    strike_all(bench, Cluster(bench, "off"), SHORT_ASYNCHRONOUS)


TESTS = [a_stale_primary_acknowledges_nothing_beside_its_successor,
         where_commits_wait_for_nobody_the_fence_alone_keeps_it_silent]
