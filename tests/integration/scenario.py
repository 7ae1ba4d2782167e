"""The frame of the scenario tests: real agents, real PostgreSQL, real dropped packets.

A scenario is a function that takes a Run. It passes when it returns; it fails by
an exception. Each has a cluster of its own, which is taken down afterwards; the
logs of one that failed stay, and the output names them.
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, f"{ROOT}/tools/lab")
import lab as labs  # noqa: E402

SCENARIOS = []
WRITER_PAUSE_US = 10_000  # hundreds of writes a second show a gap as well as thousands do
JOBS = 2  # scenarios at a time: most of each is waiting
FAULTS = []  # what failed and why, said once more at the end where a reader looks first
FAULT = "FAILED   "
COUNTS = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped$")


class Skip(Exception):
    """This machine cannot run it; the text says why."""


def scenario(function):
    SCENARIOS.append(function)
    return function


def alone(function):
    """A scenario that loads the machine, or measures it: nothing runs beside it."""
    function.is_alone = True
    return scenario(function)


class Run:
    """What a scenario gets: clusters, and what must be true at its end."""

    def __init__(self, name, is_full):
        self.is_full = is_full
        self.dir = tempfile.mkdtemp(prefix=f"hw-{name[:24]}-", dir="/var/tmp")
        os.chmod(self.dir, 0o755)  # PostgreSQL runs as another user
        self.labs = []
        self.notes = []

    def cluster(self, nodes=3, failover="declared", lease_ms=2000, witnesses=0, env=None,
                start=True):
        lab = labs.Lab(f"{self.dir}/c{len(self.labs)}", nodes=nodes, witnesses=witnesses,
                       failover=failover, lease_ms=lease_ms, env=env)
        self.labs.append(lab)
        lab.up()
        if start:
            lab.start()
            lab.wait_healthy()
        return lab

    def writers(self, lab, threads=8):
        lab.create_ledger()
        w = lab.write(threads=threads, pause_us=WRITER_PAUSE_US)
        w.wait_acks(labs.boottime_ns())
        return w

    def note(self, text):
        self.notes.append(text)

    def close(self, keep):
        for lab in self.labs:
            lab.down()
        if not keep:
            shutil.rmtree(self.dir, ignore_errors=True)


def check(condition, text):
    if not condition:
        raise labs.LabError(text)


def only_full(run):
    if not run.is_full:
        raise Skip("with --full only: half a minute")


def no_two_primaries_and_none_lost(writers, lab, may_lose=False):
    """The end of every scenario with writers."""
    acks = writers.stop()
    two = labs.two_primaries(acks)
    check(not two, "two primaries: " + "; ".join(two[:3]))
    gone = labs.lost(acks, lab)
    if not may_lose:
        check(not gone, f"{len(gone)} acknowledged writes are lost: {gone[:3]}")
    return acks, gone


def run_one(function, is_full):
    """(outcome, seconds)"""
    run = Run(function.__name__, is_full)
    begun = time.monotonic()
    outcome = "failed"
    try:
        function(run)
        outcome = "passed"
    except Skip as e:
        run.note(f"skipped: {e}")
        outcome = "skipped"
    except Exception as e:  # noqa: BLE001 - whatever it is, it is a failure with a story
        run.note(traceback.format_exc())
        FAULTS.append(f"{function.__name__}: {e!r}")
        for lab in run.labs:
            for n in lab.nodes:
                run.note(f"--- {n.name}: {n.log}\n"
                         + "\n".join(n.log_text().splitlines()[-25:]))
    except BaseException:  # interrupted: leave no namespaces and no servers behind
        run.close(keep=True)
        raise
    try:
        run.close(keep=outcome == "failed")
    except Exception as e:  # noqa: BLE001
        run.note(traceback.format_exc())
        FAULTS.append(f"{function.__name__}: taking it down: {e!r}")
        outcome = "failed"
    print(f"{outcome:8s} {function.__name__} ({time.monotonic() - begun:.1f} s)", flush=True)
    for text in run.notes:
        print("    " + text.replace("\n", "\n    "), flush=True)
    return outcome


class Workers:
    """Scenarios side by side, each in a process of its own that prints when it has ended."""

    def __init__(self, is_full):
        self.is_full = is_full
        self.running = []
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}

    def start(self, function):
        self.running.append(subprocess.Popen(
            [sys.executable, sys.argv[0], *(["--full"] if self.is_full else []),
             function.__name__], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True))
        self.running[-1].reader = threading.Thread(target=self.read, args=[self.running[-1]])
        self.running[-1].reader.start()

    @staticmethod
    def read(p):
        p.text = p.stdout.read()

    def take(self, p):
        """One that has ended: what it says, without its last line, which is counted."""
        p.reader.join()
        lines = p.text.splitlines()
        found = COUNTS.match(lines[-1]) if lines else None
        if found is None or p.wait() not in (0, 1):
            self.counts["failed"] += 1
            FAULTS.append(f"{p.args[-1]}: ended with status {p.wait()}")
        else:
            lines.pop()
            FAULTS.extend(x[len(FAULT):] for x in lines if x.startswith(FAULT))
            for name, n in zip(self.counts, found.groups()):
                self.counts[name] += int(n)
        print("\n".join(x for x in lines if not x.startswith(FAULT)), flush=True)
        self.running.remove(p)

    def wait_below(self, n):
        while len(self.running) >= n:
            ended = [p for p in self.running if p.poll() is not None]
            for p in ended:
                self.take(p)
            if not ended:
                time.sleep(0.1)

    def run(self, functions):
        try:
            for f in functions:
                is_alone = getattr(f, "is_alone", False)
                self.wait_below(1 if is_alone else JOBS)
                self.start(f)
                if is_alone:
                    self.wait_below(1)
            self.wait_below(1)
        finally:  # interrupted: each takes its own cluster down
            for p in self.running:
                p.terminate()
            for p in self.running:
                p.wait()
        return self.counts


def run_each(functions, is_full):
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for f in functions:
        counts[run_one(f, is_full)] += 1
    return counts


def main(doc, is_sharing=False):
    """`is_sharing`: scenarios that share a cluster run one after another, in this process."""
    args = sys.argv[1:]
    if "--list" in args:
        for s in SCENARIOS:
            print(f"{s.__name__}: {(s.__doc__ or '').strip().splitlines()[0]}")
        return 0
    if "--help" in args:
        print(doc)
        return 0
    is_full = "--full" in args
    only = [a for a in args if not a.startswith("--")]
    known = {s.__name__ for s in SCENARIOS}
    unknown = [a for a in only if a not in known]
    if unknown or [a for a in args if a.startswith("--") and a not in ("--full", "--only")]:
        print(f"unknown: {unknown or args}; --list shows all", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("needs root: nodes are namespaces\n0 passed, 0 failed, 1 skipped")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))  # ./test ran out of patience
    chosen = [s for s in SCENARIOS if not only or s.__name__ in only]
    if len(chosen) > 1 and not is_sharing:
        counts = Workers(is_full).run(chosen)
    else:
        counts = run_each(chosen, is_full)
    for text in FAULTS:
        print(f"{FAULT}{text}")
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] else 0
