"""The workbench of the fence tests: a server, the agent's stub, the guardian, processes."""

import contextlib
import glob
import os
import pwd
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time

import wire

IS_ROOT = os.geteuid() == 0
PG_BIN = os.environ.get("PG_BIN") or sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
MARGIN_MS = 20  # the lease word ends this long before the lease


class Skip(Exception):
    """This test cannot be run here; the text says why."""


def boot_ns():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def wait_for(what, condition, seconds=60):
    """Waits for a condition, generously; its failure names what did not come."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s for: {what}")
        time.sleep(0.005)
    return value


def as_postgres():
    if not IS_ROOT:
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def stat_fields(pid):
    """(state, parent) of a process, or None."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return fields[0], int(fields[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_alive(pid):
    fields = stat_fields(pid)
    return fields is not None and fields[0] not in "ZX"


def descendants(pid):
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := stat_fields(entry)):
            parents.setdefault(fields[1], []).append(int(entry))
    found, queue = [], [pid]
    while queue:
        for child in parents.get(queue.pop(), []):
            found.append(child)
            queue.append(child)
    return found


def title(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def send(signum, *pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


class Stub:
    """The agent's stub: keeps the lease page, and is the parent of a guardian if asked."""

    def __init__(self, build, path, reign=7, lease_ms=60000, command=(), log=None):
        args = [f"{build}/tests/fence/lease_stub", path, str(reign), str(lease_ms), str(MARGIN_MS)]
        self.path = path
        stderr = open(log, "ab") if log else None  # pylint: disable=consider-using-with
        self.process = subprocess.Popen(
            args + (["--", *command] if command else []),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True)
        if stderr:
            stderr.close()
        self.lines = []
        self.child = 0
        self.read_ok()
        if command:
            self.child = int(self.process.stdout.readline().split()[1])

    def read_ok(self):
        line = self.process.stdout.readline()
        if not line.startswith("ok"):
            raise AssertionError(f"lease_stub said {line!r}")

    def order(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        self.read_ok()

    def hold(self, ms=60000):
        self.order(f"hold {ms}")

    def revoke(self):
        self.order("revoke")

    def lease(self, ms):
        """Renews from now on, for so long each time."""
        self.order(f"lease {ms}")

    def is_running(self):
        return stat_fields(self.process.pid)[0] not in "Tt"

    def deadline_ns(self):
        with open(self.path, "rb") as file:
            return struct.unpack("Q", file.read()[128:136])[0]

    def signal(self, signum):
        self.process.send_signal(signum)

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Server:
    """A data directory and the postmaster on it. Unix socket only."""

    template = None

    def __init__(self, bench, name="a"):
        self.bench = bench
        self.root = f"{bench.dir}/{name}"
        self.data = f"{self.root}/data"
        self.lease = f"{self.root}/lease"
        self.log = f"{self.root}/log"
        self.socket = f"{self.root}/.s.PGSQL.5432"
        self.process = None
        self.pid = 0
        os.mkdir(self.root)
        if IS_ROOT:
            os.chown(self.root, pwd.getpwnam("postgres").pw_uid, -1)

    def run(self, *args, **options):
        return subprocess.run([f"{PG_BIN}/{args[0]}", *args[1:]], check=True, text=True,
                              capture_output=True, **as_postgres(), **options)

    def initdb(self):
        """Copies the one data directory that was made for all tests."""
        self.bench.copy_template(self.data)

    def command(self, library=True, **settings):
        base = {"unix_socket_directories": self.root, "listen_addresses": "",
                "max_prepared_transactions": "10", "shared_buffers": "16MB",
                "wal_level": "logical", "log_line_prefix": "%m [%p] ", "fsync": "off",
                "max_wal_size": "256MB", "autovacuum": "off"}
        if library:
            base["shared_preload_libraries"] = self.bench.library
            base["ha_fence.lease_file"] = self.lease
        args = [f"{PG_BIN}/postgres", "-D", self.data]
        for name, value in {**base, **settings}.items():
            args += ["-c", f"{name}={value}"]
        return args

    def start(self, **settings):
        """Starts the postmaster itself and waits until it answers and its worker is there."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(**settings), stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, **as_postgres())
        self.pid = self.process.pid
        self.wait_ready()
        if settings.get("library", True):
            # Forked long ago; but it takes its name only when it gets the CPU.
            wait_for("the worker", self.workers)

    def adopt(self, guardian):
        """The postmaster was started by a guardian."""
        def find():
            return [pid for pid in descendants(guardian) if stat_fields(pid)[1] == guardian
                    and "bin/postgres" in title(pid)]
        self.pid = wait_for("a postmaster", find)[0]
        self.wait_ready()

    def wait_ready(self):
        def answers():
            if self.process and self.process.poll() is not None:
                raise AssertionError(f"postgres ended: {self.tail()}")
            try:
                with wire.Session(self.socket) as session:
                    return session.hello.error != "57P03" and not session.hello.is_lost
            except OSError:
                return False
        wait_for("an answer of the server", answers)

    def session(self, **options):
        return wire.Session(self.socket, **options)

    def sql(self, text):
        with self.session() as session:
            return session.value(text)

    def workers(self):
        """The module's own guardian; none for the moment between its end and its restart."""
        return [p for p in descendants(self.pid) if title(p).startswith("postgres: ha_fence")]

    def stop_worker(self):
        """Stops the module's own guardian, so that what the checks do can be seen."""
        send(signal.SIGSTOP, *wait_for("the worker", self.workers))

    def use_lease(self):
        """One answer under a live lease. A server that never saw one alive is closed, and is not
        ended by its worker: where that end is expected, somebody must have seen it."""
        self.sql("SELECT 1")

    def reload(self, **settings):
        with open(f"{self.data}/postgresql.auto.conf", "a", encoding="utf-8") as file:
            for name, value in settings.items():
                file.write(f"{name} = '{value}'\n")
        send(signal.SIGHUP, self.pid)

    def read_log(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def tail(self):
        return self.read_log()[-1500:]

    def ends(self, seconds=60):
        wait_for("the end of the server", lambda: not self.all_pids(), seconds)

    def all_pids(self):
        if self.process:
            self.process.poll()
        return ([self.pid] if is_alive(self.pid) else []) + descendants(self.pid)

    def stop(self):
        if not self.pid:
            return
        pids = self.all_pids()
        send(signal.SIGKILL, self.pid, *pids)
        send(signal.SIGCONT, self.pid, *pids)
        if self.process:
            self.process.wait()
        wait_for("the end of all processes", lambda: not any(is_alive(p) for p in pids))
        self.pid, self.process = 0, None
        for left in glob.glob(f"{self.data}/postmaster.pid") + glob.glob(f"{self.root}/.s.*"):
            os.unlink(left)


class Bench:
    """One test's directory and everything that must end with it."""

    def __init__(self, build, template, reps):
        self.build = os.path.abspath(build)
        self.template = template
        self.reps = reps
        self.dir = tempfile.mkdtemp(prefix="hafence-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        major = re.search(r"/(\d+)/", PG_BIN).group(1)
        self.library = f"{self.dir}/ha_fence.so"
        shutil.copy(f"{self.build}/fence/ha_fence/ha_fence_{major}.so", self.library)
        self.things = []

    def copy_template(self, to):
        subprocess.run(["cp", "-a", self.template, to], check=True)

    @staticmethod
    def drop_arguments():
        """What tells haguard to become the user postgres."""
        if not IS_ROOT:
            return []
        user = pwd.getpwnam("postgres")
        return ["--uid", str(user.pw_uid), "--gid", str(user.pw_gid)]

    def server(self, name="a"):
        server = Server(self, name)
        self.things.append(server.stop)
        return server

    def stub(self, server, **options):
        stub = Stub(self.build, server.lease, **options)
        self.things.append(stub.close)
        return stub

    def fenced(self, name="a", **settings):
        """A primary with a live lease, its worker stopped, and the table t. -> (server, stub)"""
        server = self.server(name)
        server.initdb()
        stub = self.stub(server)
        stub.hold()
        server.start(**settings)
        server.stop_worker()
        server.sql("CREATE TABLE t (i int)")
        return server, stub

    def close(self):
        """Undoes everything, also what comes after something that cannot be undone."""
        failures = []
        for undo in reversed(self.things):
            try:
                undo()
            except Exception as error:  # said below
                failures.append(error)
        shutil.rmtree(self.dir, ignore_errors=True)
        if failures:
            raise failures[0]


def make_template(path):
    subprocess.run([f"{PG_BIN}/initdb", "-D", path, "-A", "trust", "-U", "postgres", "-N",
                    "--wal-segsize=1", "-k"], check=True, capture_output=True, **as_postgres())
