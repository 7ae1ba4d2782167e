"""Frozen, killed and half-frozen: nobody hears an acknowledgement after the deadline.

Goal:   S1's half that lies in PostgreSQL: no ack after expiry, whoever is stopped, and whether a
        guardian is there or not; what was acknowledged is durable; no PANIC.
Method: eight writers stamp every acknowledgement with CLOCK_BOOTTIME, the clock of the deadline in
        the page. The fault strikes, the lease runs out, whatever is frozen wakes up again.

An answer that was checked before the deadline can be late: the backend loses the CPU, or is
stopped, between its last check and send(). That is at most one answer of a session, as the next
statement begins after it; so a second one after the deadline is always a failure. The first
may be LATE_MS late, which the protocol allows for (x), and only where a stop struck, later.
"""

import os
import signal
import subprocess
import time

from bench import IS_ROOT, boot_ns, descendants, is_alive, send, title, wait_for

LEASE_MS = 1000
LATE_MS = 100
GUARDIANS = ("none", "worker", "haguard")
GUARDS = "haguard: guards the server under reign 7"


class Load:
    def __init__(self, bench, server):
        # What counts is when the answer came, not when a busy machine let us look at it.
        nice = ["nice", "-n", "-15"] if IS_ROOT else []
        self.process = subprocess.Popen(
            [*nice, f"{bench.build}/tests/fence/ackload",
             f"host={server.root} user=postgres dbname=postgres connect_timeout=5", "120"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        bench.things.append(self.kill)
        self.acks = []
        self.errors = {}

    def finish(self):
        """Ends the load; -> the time of the last acknowledgement."""
        out, _ = self.process.communicate(timeout=60)
        for line in out.splitlines():
            fields = line.split()
            if fields[0] == "ack":
                self.acks.append((int(fields[1]), int(fields[2]), int(fields[3])))
            else:
                self.errors[fields[1]] = self.errors.get(fields[1], 0) + int(fields[2])
        return max((a[2] for a in self.acks), default=0)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def haguard_command(bench, server, parent, **settings):
    command = [f"{bench.build}/fence/haguard", "--parent-pid", str(parent), "--lease", server.lease]
    command += bench.drop_arguments()
    return command + ["--", *server.command(**settings)]


def start(bench, name, guardian):
    """A server under load-to-be, kept by a stub that renews. -> (server, stub, load)"""
    server = bench.server(name)
    server.initdb()
    if guardian == "haguard":
        # The stub is the guardian's parent, as the agent is; a shell knows the stub's pid.
        script = 'exec "$0" --parent-pid $PPID "$@"'
        command = haguard_command(bench, server, 0, log_destination="stderr")
        stub = bench.stub(server, lease_ms=60000, command=["/bin/sh", "-c", script, command[0],
                                                           *command[3:]], log=server.log)
        server.adopt(stub.child)
        wait_for("the guardian to see the lease", lambda: GUARDS in server.read_log())
    else:
        stub = bench.stub(server)
        server.start()
    if guardian != "worker":
        server.stop_worker()
    server.sql("CREATE TABLE acks (thread int, n int)")
    if IS_ROOT:
        # An agent that gets no CPU would lose its lease before the fault.
        os.setpriority(os.PRIO_PROCESS, stub.process.pid, -15)
    stub.lease(LEASE_MS)
    load = Load(bench, server)
    wait_for("all writers", lambda: server_writers(server) >= 8)
    return server, stub, load


def writers(server):
    return [p for p in descendants(server.pid) if title(p).startswith("postgres: postgres")]


def server_writers(server):
    return len(writers(server))


def victims(server, stub, fault):
    """Which processes the fault stops."""
    backends = writers(server)
    return {
        "agent_stopped": [],
        "agent_killed": [],
        "half_stopped": backends[::2],
        "all_stopped": [server.pid, *([stub.child] if stub.child else []),
                        *descendants(server.pid)],
    }[fault]


def one_fault(bench, name, fault, guardian):
    server, stub, load = start(bench, name, guardian)
    wait_for("some load", lambda: int(server.sql("SELECT count(*) FROM acks")) > 100)
    stopped = victims(server, stub, fault)
    worker = [p for p in stopped if title(p).startswith("postgres: ha_fence")]
    stub.signal(signal.SIGKILL if fault == "agent_killed" else signal.SIGSTOP)
    send(signal.SIGSTOP, *stopped)
    deadline = stub.deadline_ns()
    if fault != "agent_killed":
        # The last write of the stub may be on its way into the page.
        wait_for("the stub to stop", lambda: not stub.is_running())
        deadline = stub.deadline_ns()
    while boot_ns() < deadline + 400_000_000:
        time.sleep(0.02)
    if guardian == "none":
        stopped = [p for p in stopped if p not in worker]
    send(signal.SIGCONT, *stopped)
    if fault == "all_stopped":
        stub.signal(signal.SIGCONT)  # wakes, and must not renew
    if guardian != "none":
        server.ends()
    else:
        wait_for("a refusal", lambda: "may not acknowledge" in server.read_log())
    last = load.finish()
    label = f"{fault}, {guardian}"
    late_ms = (last - deadline) / 1e6
    print(f"    {label}: {len(load.acks)} acks, last {late_ms:+.1f} ms, {load.errors}", flush=True)
    assert len(load.acks) > 20, f"{label}: no load: {load.errors}"
    check_late(load, deadline, bool(stopped), label)
    assert "PANIC" not in server.read_log(), label
    assert guardian != "none" or load.errors.get("25006", 0) > 0, f"{label}: {load.errors}"
    check_durable(bench, server, stub, load, label)


def check_late(load, deadline, is_stopped, label):
    late = [a for a in load.acks if a[2] >= deadline]
    for thread in {a[0] for a in late}:
        answers = [(a[2] - deadline) / 1e6 for a in late if a[0] == thread]
        assert len(answers) == 1, f"{label}: one session, several answers after expiry: {answers}"
    very_late = [a for a in late if a[2] > deadline + LATE_MS * 1_000_000]
    assert len(very_late) <= (1 if is_stopped else 0), f"{label}: {very_late} > {deadline}"


def check_durable(bench, server, stub, load, label):
    """Every acknowledged row is there after a restart."""
    server.stop()
    stub.close()
    if stub.child:
        wait_for("the guardian's end", lambda: not is_alive(stub.child))
    bench.stub(server).hold()
    server.start()
    with server.session() as session:
        rows = {(int(a), int(b)) for a, b in session.query("SELECT thread, n FROM acks").rows}
    missing = [a for a in load.acks if a[:2] not in rows]
    server.stop()
    assert not missing, f"{label}: {len(missing)} acknowledged rows are lost"


def repeat(bench, fault):
    for rep in range(bench.reps):
        for guardian in GUARDIANS:
            one_fault(bench, f"{guardian}{rep}", fault, guardian)


def no_ack_after_expiry_when_the_agent_is_stopped(bench):
    repeat(bench, "agent_stopped")


def no_ack_after_expiry_when_the_agent_is_killed(bench):
    repeat(bench, "agent_killed")


def no_ack_after_expiry_when_half_of_the_backends_are_stopped(bench):
    repeat(bench, "half_stopped")


def no_ack_after_expiry_when_everything_is_stopped(bench):
    repeat(bench, "all_stopped")


TESTS = [no_ack_after_expiry_when_the_agent_is_stopped,
         no_ack_after_expiry_when_the_agent_is_killed,
         no_ack_after_expiry_when_half_of_the_backends_are_stopped,
         no_ack_after_expiry_when_everything_is_stopped]
