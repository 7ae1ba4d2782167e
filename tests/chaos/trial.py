"""One run: a cluster, clients, a schedule of faults, the healing, and the verdict."""
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

import checker
import faults
import schedule
import story
import lab as labs

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DISK_MB = 700
LEASE_MS = 2000
MAX_LAG = "1MB"
MAX_LAG_BYTES = 1 << 20
SICK_MS = 5000
HEAL_S = 120  # after the last fault: one primary that serves, and all others stream
CONF = ("max_connections=300|shared_buffers=32MB|max_wal_size=128MB|min_wal_size=32MB"
        "|wal_keep_size=64MB|checkpoint_timeout=60s|autovacuum_naptime=15s")
# How commits are replicated, and whether nothing may be lost.
REPLICATION = {"async": False, "sync": True}


def replication_settings(mode):
    """An environment: so many standbys confirm a commit that every majority that elects has
    one of them."""
    return {} if mode == "async" else {"HA_SYNC": "quorum"}


def own_mounts():
    """Everything that is mounted from here on goes away with this process."""
    if os.environ.get("HAWSER_CHAOS_MOUNTS") != "own":
        os.environ["HAWSER_CHAOS_MOUNTS"] = "own"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable,
                              *sys.argv])


class Interrupted(BaseException):
    """Somebody wants this to end."""


class Tail:
    """The client's attempts, as they come in."""

    def __init__(self, path):
        self.path = path
        self.at = 0
        self.rest = ""
        self.last_ack = None

    def look(self):
        try:
            with open(self.path, encoding="ascii") as f:
                f.seek(self.at)
                text = f.read()
                self.at = f.tell()
        except OSError:
            return
        lines = (self.rest + text).splitlines(keepends=True)
        self.rest = lines.pop() if lines and not lines[-1].endswith("\n") else ""
        for line in reversed(lines):
            if line.startswith("W") and line.split()[3] == "ok":
                self.last_ack = line.split()
                break

    def acknowledged_since(self, ns):
        """Who acknowledged a write that was asked for after that moment."""
        self.look()
        a = self.last_ack
        return a[4] if a and int(a[1]) > ns else None


class Watcher(threading.Thread):
    """Keeps what each agent says of the cluster, every few seconds."""

    def __init__(self, lab, path, every_s=3):
        super().__init__(daemon=True)
        self.lab = lab
        self.path = path
        self.every_s = every_s
        self.over = threading.Event()

    def run(self):
        with open(self.path, "w", encoding="utf-8") as f:
            while not self.over.wait(self.every_s):
                for n in self.lab.nodes:
                    code, body = n.http("/hawser/status")
                    with contextlib.suppress(ValueError):
                        body = json.loads(body)
                    json.dump({"at_ns": labs.boottime_ns(), "asked": n.name, "code": code,
                               "answer": body}, f)
                    f.write("\n")
                    f.flush()


class Trial:
    def __init__(self, seed, nodes, seconds, replication, only=None):
        self.seed, self.n_nodes, self.seconds = seed, nodes, seconds
        self.replication, self.only = replication, only
        self.is_synchronous = REPLICATION[replication]
        self.env = {"POSTGRESQL_CONF": CONF, "HA_MAX_LAG": MAX_LAG,
                    "HA_SICK_MS": str(SICK_MS), "HA_BOOT_GRACE_MS": "5000",
                    "HA_LOG_LEVEL": "debug" if seconds <= 1200 else "info",
                    **replication_settings(replication)}
        self.plan = schedule.make(seed, seconds, nodes, only)
        self.said = []
        self.client = None
        self.folder = tempfile.mkdtemp(prefix=f"hw-chaos-{seed}-", dir="/var/tmp")
        os.chmod(self.folder, 0o755)  # PostgreSQL runs as another user

    @property
    def command(self):
        only = f" --only {' '.join(self.only)}" if self.only else ""
        return (f"tests/chaos/run --seed {self.seed} --minutes {self.seconds / 60:g} --nodes "
                f"{self.n_nodes} --sync {self.replication}{only}")

    def say(self, text):
        self.said.append((labs.boottime_ns(), text))
        with open(f"{self.folder}/chaos.log", "a", encoding="utf-8") as f:
            f.write(f"{story.stamp(time.time())} {text}\n")

    # ---- the cluster ----

    def build(self):
        build = os.environ.get("HAWSER_BUILD", f"{ROOT}/build")
        self.lab = labs.Lab(f"{self.folder}/lab", nodes=self.n_nodes, failover="auto",
                            lease_ms=LEASE_MS, env=self.env)
        self.lab.up()
        clocks = random.Random(self.seed)
        for n in self.lab.nodes:
            n.clock_s = clocks.randint(0, 10**8)
            os.makedirs(f"{n.dir}/data")
            labs.run("mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", f"{n.dir}/data")
        self.network = faults.Network(self.lab, f"{build}/tests/chaos/wire", self.seed)
        self.faults = faults.Faults(self.lab, self.network, self.say)
        self.lab.start()
        self.lab.wait_healthy()
        self.lab.wait_primary().sql("CREATE TABLE hawser_chaos (writer int, seq bigint, host text,"
                                    " PRIMARY KEY (writer, seq))")
        self.attempts = f"{self.folder}/attempts.txt"
        self.client = subprocess.Popen(
            ["ip", "netns", "exec", f"{self.lab.prefix}-sw", f"{build}/tests/chaos/client",
             "--hosts", ",".join(n.ip for n in self.lab.nodes), "--seconds",
             str(int(self.seconds) + 3600), "--out", self.attempts],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "PGPASSFILE": f"{self.lab.dir}/secrets/pgpass"},
            start_new_session=True)
        self.tail = Tail(self.attempts)
        now = labs.boottime_ns()
        labs.wait_for("the first write", lambda: self.tail.acknowledged_since(now))
        self.watcher = Watcher(self.lab, f"{self.folder}/status.jsonl")
        self.watcher.start()

    def victim(self, fault):
        """Who has the role now, as the clients see it."""
        self.tail.look()
        nodes = self.lab.nodes
        primary = next((n for n in nodes if self.tail.last_ack and n.ip == self.tail.last_ack[4]),
                       None)
        if fault.target == "any" or primary is None:
            return nodes[fault.spare - 1]
        if fault.target == "primary":
            return primary
        others = [n for n in nodes if n is not primary]
        return others[fault.number % len(others)]

    def break_things(self):
        """The schedule, kept to the time: begins and ends of faults in one order."""
        begun = time.monotonic()
        todo = [(f.at_s, i, "begin", f) for i, f in enumerate(self.plan)]
        undo = {}
        while todo or time.monotonic() - begun < self.seconds:
            self.faults.supervise()
            todo.sort(key=lambda t: t[:2])
            if not todo or time.monotonic() - begun < todo[0][0]:
                time.sleep(0.02)
                continue
            _, i, what, fault = todo.pop(0)
            if what == "begin":
                node = self.victim(fault)
                self.say(f"fault {i}: {fault.kind} on {node.name} ({fault.target}) for "
                         f"{fault.seconds} s")
                undo[i] = self.faults.begin(fault, node)
                if undo[i]:
                    todo.append((fault.end_s, i, "end", fault))
            else:
                undo.pop(i)()
                self.say(f"fault {i}: {fault.kind} ends")

    def is_well(self, since):
        """One primary that acknowledges, and everybody else streams from it."""
        host = self.tail.acknowledged_since(since)
        if host is None or self.faults.later:
            return self.not_yet("nobody acknowledged a write yet")
        primary = self.lab.node(host)
        n = primary.sql("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' "
                        "AND NOT pg_is_in_recovery()", check=False)
        if n is None or int(n) < self.n_nodes - 1:
            return self.not_yet(f"{n} stream from {primary.name}")
        for x in self.lab.nodes:
            if x is not primary and not x.is_streaming():
                return self.not_yet(f"{x.name} does not stream")
        return primary

    def not_yet(self, why):
        if not self.said[-1][1].endswith(why):
            self.say(f"not well yet: {why}")

    def heal(self):
        since = labs.boottime_ns()
        self.say("all faults are over")

        def condition():
            self.faults.supervise()
            try:
                return self.is_well(since)
            except subprocess.TimeoutExpired as e:
                return self.not_yet(f"no answer in {e.timeout} s from "
                                    f"{e.cmd[e.cmd.index('-h') + 1]}")
        primary = labs.wait_for("one primary that serves and all others streaming", condition,
                                HEAL_S, every=0.3)
        self.healed_s = (labs.boottime_ns() - since) / 1e9
        self.say(f"well again after {self.healed_s:.1f} s: {primary.name} is the primary")
        return primary

    # ---- the verdict ----

    def stop_client(self):
        if self.client and self.client.poll() is None:
            self.client.send_signal(signal.SIGTERM)
            try:
                self.client.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.client.kill()
                self.client.wait(timeout=10)

    def collect(self, primary):
        """What the primary holds goes to files, so that the history can be judged again."""
        rows = primary.sql("SELECT writer || ' ' || seq FROM hawser_chaos", seconds=120)
        with open(f"{self.folder}/rows.txt", "w", encoding="ascii") as f:
            f.write(rows + "\n")
        final = int(primary.sql("SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)"),
                    16)
        history = primary.sql("SELECT coalesce(pg_read_file('pg_wal/%08X.history', "
                              "0, 1000000, true), '')"
                              % final)
        with open(f"{self.folder}/verdict-input.json", "w", encoding="ascii") as f:
            json.dump({"final": final, "history": history, "lease_ms": LEASE_MS,
                       "is_synchronous": self.is_synchronous, "max_lag": MAX_LAG_BYTES}, f)

    def copies_that_differ(self, primary):
        """Every standby, once it replayed as far, holds what the primary holds."""
        digest = ("SELECT count(*) || ' ' || coalesce(sum(hashtextextended(writer || '.' || seq "
                  "|| host, 0) % 1000000007), 0) FROM hawser_chaos")
        lsn = primary.sql("SELECT pg_current_wal_insert_lsn()")
        want = primary.sql(digest, seconds=120)
        bad = []
        for n in self.lab.nodes:
            if n is primary:
                continue
            labs.wait_for(f"{n.name} to replay {lsn}", lambda n=n: n.sql(
                f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'", check=False) == "t", 60)
            got = n.sql(digest, seconds=120)
            if got != want:
                bad.append(f"{n.name} holds {got}, the primary {want} (rows, digest)")
        return bad

    def judge(self, primary):
        primaries = [n.name for n in self.lab.nodes if n.is_writable()]
        self.stop_client()
        self.collect(primary)
        bad = check_folder(self.folder, quiet=True)
        if primaries != [primary.name]:
            bad["one_primary"] = [f"writable at the end: {primaries}"]
        differ = self.copies_that_differ(primary)
        if differ:
            bad["copies_equal"] = differ
        if self.faults.surprises:
            bad["agents_end_by_themselves"] = [f"{n}: status {s}" for n, s in
                                               self.faults.surprises]
        return bad

    def figures(self):
        with open(self.attempts, encoding="ascii") as f:
            writes, reads = checker.parse_attempts(f)
        acks = sorted((w for w in writes if w.outcome == "ok"), key=lambda w: w.received)
        rows = read_rows(self.folder)
        gap, at = checker.longest_gap(acks)
        counts = collections.Counter(w.outcome for w in writes)
        before = [t for ns, t in self.said if ns <= at and "fault" in t]
        reigns = {w.reign for w in acks}
        return (f"{len(self.plan)} faults in {self.seconds:g} s; {counts['ok']} acknowledged, "
                f"{counts['no']} refused, {counts['open']} without an answer, {len(reads)} reads "
                f"on primaries; {sum((w.writer, w.seq) not in rows for w in acks)} lost; "
                f"{len(reigns)} reigns served; longest outage {gap:.0f} ms (after "
                f"{before[-1] if before else 'the start'}); well {self.healed_s:.1f} s after the "
                f"last fault (bound {HEAL_S} s)")

    def run(self, keep=False):
        """True when all is well."""
        name = f"seed {self.seed}, {self.n_nodes} nodes, {self.replication}"
        begun = time.monotonic()
        with open(f"{self.folder}/schedule.txt", "w", encoding="ascii") as f:
            f.write(f"# {self.command}\n" + "".join(f"{x}\n" for x in self.plan))
        signal.signal(signal.SIGTERM, stop)
        text = ""
        try:
            self.build()
            self.break_things()
            bad = self.judge(self.heal())
            text = self.figures()
        except Exception:  # noqa: BLE001 - whatever it is, it is a failure with a story
            bad = {"the run": [traceback.format_exc()]}
        except BaseException:
            print(f"stopped  {name}; folder: {self.folder}", flush=True)
            self.tell({"the run": ["stopped from outside"]})
            self.close()
            raise
        if bad or keep:
            self.tell(bad)
        self.close()
        print(f"{'failed' if bad else 'passed'}   {name} ({time.monotonic() - begun:.0f} s): "
              f"{text}", flush=True)
        for what, found in bad.items():
            print(f"    {what}: {len(found)}")
            for line in found[:5]:
                print("      " + line.replace("\n", "\n      "))
        if bad or keep:
            print(f"    folder: {self.folder} (begin with timeline.txt)\n    again:  "
                  f"{self.command}", flush=True)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
        return not bad

    def tell(self, bad):
        """Everything that is needed to understand it, before the cluster goes."""
        self.stop_client()
        with contextlib.suppress(AttributeError, OSError, subprocess.SubprocessError):
            for n in self.lab.nodes:
                with open(f"{self.folder}/{n.name}-explain.txt", "w", encoding="utf-8") as f:
                    f.write(self.lab.hactl("explain", n.name).stdout)
            with open(f"{self.folder}/hactl.txt", "w", encoding="utf-8") as f:
                f.write(self.lab.hactl("status").stdout + self.lab.hactl("history").stdout)
        writes = []
        if os.path.exists(f"{self.folder}/attempts.txt"):
            with open(f"{self.folder}/attempts.txt", encoding="ascii") as f:
                writes, _ = checker.parse_attempts(f)
        if hasattr(self, "lab"):
            story.keep_nodes(self.folder, self.lab)
            story.merge(self.folder, self.lab, self.said, writes)
        with open(f"{self.folder}/README.txt", "w", encoding="utf-8") as f:
            f.write(f"again: {self.command}\ncheck: tests/chaos/run --check {self.folder}\n\n"
                    "timeline.txt       faults, agents, servers, clients: all by time (UTC)\n"
                    "schedule.txt       what was to happen; chaos.log: what was done to whom\n"
                    "attempts.txt       every attempt of every client (tests/chaos/client.c)\n"
                    "rows.txt           the rows on the last primary\n"
                    "status.jsonl       what each agent said of the cluster, every 3 s\n"
                    "nN/                a node: its log, control file, history files\n\n")
            for what, found in bad.items():
                f.write(f"{what}:\n" + "".join(f"  {x}\n" for x in found))

    def close(self):
        self.stop_client()
        if hasattr(self, "watcher"):
            self.watcher.over.set()
            self.watcher.join(timeout=30)
        if hasattr(self, "faults"):
            self.faults.close()
        if hasattr(self, "lab"):
            self.lab.down()
            for n in self.lab.nodes:
                labs.run("umount", "-l", f"{n.dir}/data", check=False)


def stop(*_):
    raise Interrupted


def read_rows(folder):
    with open(f"{folder}/rows.txt", encoding="ascii") as f:
        return {tuple(map(int, line.split())) for line in f if line.strip()}


def check_folder(folder, quiet=False):
    """Judges the history in a folder."""
    with open(f"{folder}/attempts.txt", encoding="ascii") as f:
        writes, reads = checker.parse_attempts(f)
    with open(f"{folder}/verdict-input.json", encoding="ascii") as f:
        given = json.load(f)
    bad = checker.check(checker.History(
        writes, reads, read_rows(folder), checker.parse_forks(given["history"], given["final"]),
        given["is_synchronous"], given["lease_ms"], given["max_lag"]))
    if not quiet:
        for what, found in bad.items():
            print(f"{what}: {len(found)}")
            for line in found[:20]:
                print("  " + line)
    return bad
