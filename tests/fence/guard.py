"""haguard, the process between the agent and the postmaster.

Goal:   it ends the server when it must and only then, all of it, and tells how it ended.
Method: real servers below a guardian whose parent is this script or the agent's stub.
"""

import fcntl
import os
import signal
import subprocess
import tempfile
import time

import freeze
from bench import (IS_ROOT, Skip, descendants, is_alive, send, title, wait_for)


class Guardian:
    """haguard as a child of this script."""

    def __init__(self, bench, server, *options, stderr=None, pass_fds=(), **settings):
        command = freeze.haguard_command(bench, server, os.getpid(), **settings)
        at = command.index("--")
        with open(server.log, "ab") as log:
            self.process = subprocess.Popen([*command[:at], *options, *command[at:]], stdout=log,
                                            stderr=stderr or log, stdin=subprocess.DEVNULL,
                                            pass_fds=pass_fds)
        self.pid = self.process.pid
        bench.things.append(self.close)
        self.server = server
        server.adopt(self.pid)

    def close(self):
        if self.process.poll() is None:
            send(signal.SIGCONT, self.pid)
            self.process.kill()
        self.process.wait()


def guarded(bench, *options, lease=True, standby=False, says=None, **named):
    """-> (server, guardian, stub or None); the module's worker is stopped. `says` returns what the
    guardian has said so far, where that is not the server's log."""
    server = bench.server()
    server.initdb()
    if standby:
        with open(f"{server.data}/standby.signal", "w", encoding="utf-8"):
            pass
    stub = None
    if lease:
        stub = bench.stub(server)
        stub.hold()
    guardian = Guardian(bench, server, *options, **named)
    server.stop_worker()
    if lease:
        # It ends a server only when it has seen the lease alive.
        wait_for("the guardian to see the lease",
                 lambda: freeze.GUARDS in (says or server.read_log)())
    return server, guardian, stub


def control_state(server):
    out = server.run("pg_controldata", server.data).stdout
    return [l.split(":", 1)[1].strip() for l in out.splitlines() if "cluster state" in l][0]


def free_worker(server):
    send(signal.SIGCONT, *server.workers())


def it_hands_signals_on_and_ends_as_the_postmaster(bench):
    server, guardian, _stub = guarded(bench)
    if IS_ROOT:
        with open(f"/proc/{server.pid}/status", encoding="utf-8") as file:
            uid = [l for l in file if l.startswith("Uid:")][0].split()
        assert "0" not in uid[1:], uid
    send(signal.SIGHUP, guardian.pid)
    wait_for("the reload", lambda: "received SIGHUP" in server.read_log())
    free_worker(server)
    send(signal.SIGINT, guardian.pid)
    assert guardian.process.wait(60) == 0
    assert control_state(server) == "shut down"


def a_killed_postmaster_takes_all_its_processes_along(bench):
    server, guardian, _stub = guarded(bench)
    with server.session() as session:
        session.start("SELECT count(*) FROM generate_series(1, 1000000000)")
        wait_for("the query", lambda: "SELECT" in title(session.pid))
        pids = server.all_pids()
        send(signal.SIGKILL, server.pid)
        assert guardian.process.wait(60) == -signal.SIGKILL
    assert not any(is_alive(p) for p in pids)


def expiry_ends_the_server(bench):
    server, guardian, stub = guarded(bench)
    pids = server.all_pids()
    stub.hold(300)
    guardian.process.wait(60)
    assert not any(is_alive(p) for p in pids)
    assert "the lease expired" in server.read_log()


def a_revoked_page_ends_the_server(bench):
    _server, guardian, stub = guarded(bench)
    stub.revoke()
    guardian.process.wait(60)


def a_page_of_another_reign_ends_the_server(bench):
    server, guardian, stub = guarded(bench)
    other = bench.stub(server, reign=8)
    other.hold()
    stub.hold(200)
    guardian.process.wait(60)
    assert "another reign" in server.read_log()


def without_a_live_lease_ever_seen_it_leaves_the_server_alone(bench):
    for name, prepare in (("none", lambda s: None), ("revoked", lambda s: s.revoke())):
        server = bench.server(name)
        server.initdb()
        with open(f"{server.data}/standby.signal", "w", encoding="utf-8"):
            pass
        if name == "revoked":
            prepare(bench.stub(server))
        guardian = Guardian(bench, server)
        time.sleep(0.5)  # five looks
        assert guardian.process.poll() is None, name
        assert server.sql("SELECT pg_is_in_recovery()") == "t", name
        server.stop()


def nothing_survives_the_escalation(bench):
    """A stopped postmaster, a stopped backend, and a child that ran away into its own session."""
    server, guardian, stub = guarded(bench)
    with server.session() as session, server.session() as other:
        session.start("COPY (SELECT 1) TO PROGRAM 'setsid sleep 1000 </dev/null >/dev/null 2>&1 &'")
        session.collect()
        sleepers = wait_for("the runaway", lambda: [
            p for p in descendants(guardian.pid) if title(p).startswith("sleep 1000")])
        send(signal.SIGSTOP, other.pid, server.pid)
        pids = server.all_pids() + sleepers
        stub.revoke()
        assert guardian.process.wait(60) == -signal.SIGKILL
    assert not any(is_alive(p) for p in pids)


def the_death_of_the_agent_ends_the_server(bench):
    server, stub, load = freeze.start(bench, "a", "haguard")
    stub.order("hold 60000")  # it is not the lease that ends it
    pids = server.all_pids()
    stub.signal(signal.SIGKILL)
    server.ends()
    load.finish()
    wait_for("the guardian's end", lambda: not is_alive(stub.child))
    assert not any(is_alive(p) for p in pids)
    assert "the agent died" in server.read_log()


def the_death_of_the_guardian_ends_the_server(bench):
    server, guardian, _stub = guarded(bench)
    send(signal.SIGKILL, guardian.pid)
    server.ends()
    assert "immediate shutdown" in server.read_log()


def a_lock_is_free_only_when_no_process_is_left(bench):
    with tempfile.NamedTemporaryFile(dir=bench.dir) as own:
        fd = os.open(own.name, os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX)
        server, guardian, _stub = guarded(bench, pass_fds=(fd,))
        os.close(fd)

        def is_free():
            try:
                fcntl.flock(own.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                return False
        with server.session() as session:
            pids = server.all_pids()
            send(signal.SIGSTOP, session.pid, guardian.pid)
            send(signal.SIGKILL, server.pid)
            wait_for("the end of the postmaster", lambda: not is_alive(server.pid))
            assert is_alive(session.pid) and not is_free()
            send(signal.SIGCONT, guardian.pid)
            guardian.process.wait(60)
            assert is_free()
            assert not any(is_alive(p) for p in pids)


def a_full_log_pipe_does_not_hold_it_up(bench):
    """Its standard error is read by the agent, and the agent may be frozen."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.set_blocking(reader, False)
    said = []

    def says():
        try:
            said.append(os.read(reader, 65536).decode())
        except BlockingIOError:
            pass
        return "".join(said)
    server, guardian, stub = guarded(bench, stderr=writer, says=says)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        pass
    os.set_blocking(writer, True)
    send(signal.SIGSTOP, server.pid)
    stub.revoke()
    assert guardian.process.wait(60) == -signal.SIGKILL
    os.close(reader)
    os.close(writer)


def it_does_not_start_for_a_parent_that_is_none(bench):
    server = bench.server()
    command = freeze.haguard_command(bench, server, 1)
    done = subprocess.run(command[:command.index("--") + 1] + ["/bin/sleep", "100"],
                          capture_output=True, text=True)
    assert done.returncode == 1 and "cannot start" in done.stderr, done
    done = subprocess.run([command[0], "--", "/bin/true"], capture_output=True, text=True)
    assert done.returncode == 2


def a_cgroup_of_its_own_is_killed_at_once(bench):
    mount = f"{bench.dir}/cgroup2"
    os.mkdir(mount)
    if not IS_ROOT or subprocess.run(["mount", "-t", "cgroup2", "none", mount],
                                     capture_output=True).returncode != 0:
        raise Skip("no cgroup2 can be mounted here")
    bench.things.insert(0, lambda: subprocess.run(["umount", mount], check=False))
    if not os.access(f"{mount}/cgroup.procs", os.W_OK):
        raise Skip("the cgroup2 is not writable")
    group = f"{mount}/hafence-{os.getpid()}"
    server, guardian, stub = guarded(bench, "--cgroup", group)
    with open(f"{group}/cgroup.procs", encoding="utf-8") as file:
        assert server.pid in [int(l) for l in file]
    if not os.path.exists(f"{group}/cgroup.kill"):
        raise Skip("no cgroup.kill here")
    send(signal.SIGSTOP, server.pid)
    stub.revoke()
    guardian.process.wait(60)
    assert not os.path.exists(group)
    assert "cannot write" not in server.read_log()


TESTS = [it_hands_signals_on_and_ends_as_the_postmaster,
         a_killed_postmaster_takes_all_its_processes_along,
         expiry_ends_the_server,
         a_revoked_page_ends_the_server,
         a_page_of_another_reign_ends_the_server,
         without_a_live_lease_ever_seen_it_leaves_the_server_alone,
         nothing_survives_the_escalation,
         the_death_of_the_agent_ends_the_server,
         the_death_of_the_guardian_ends_the_server,
         a_lock_is_free_only_when_no_process_is_left,
         a_full_log_pipe_does_not_hold_it_up,
         it_does_not_start_for_a_parent_that_is_none,
         a_cgroup_of_its_own_is_killed_at_once]
