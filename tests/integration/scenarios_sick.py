"""Sick servers: hung, stopped, on a full, read-only or lost disk; and those that are only slow."""
import os
import signal
import subprocess

from scenario import Skip, alone, check, labs, no_two_primaries_and_none_lost, scenario

SICK_MS = 3000
# A silence counts from the last answer; then the kill, the appointment, the promotion.
BOUND_MS = SICK_MS + 3000
ENV = {"HA_SICK_MS": str(SICK_MS)}
MB = 1 << 20


def explain(lab, node):
    return lab.hactl("explain", node.name).stdout


def small_disk(node, megabytes):
    """A file system of its own for a node's data."""
    node.power_on()
    node.exec("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", f"{node.dir}/data")


def free_mb(node):
    out = node.exec("df", "-B1", "--output=avail", f"{node.dir}/data").stdout
    return int(out.split()[1]) // MB


def fill(node, leave_mb):
    """A foreign file takes all of the node's disk but so much."""
    size = free_mb(node) - leave_mb
    node.exec("fallocate", "-l", f"{size}MiB", f"{node.dir}/data/foreign", check=leave_mb > 0)
    if leave_mb == 0:
        node.exec("sh", "-c", f"cat /dev/zero >>{node.dir}/data/foreign", check=False)


def took_over(w, at, old):
    """ms from `at` to the first write that another node acknowledged."""
    def first():
        mine = [a.received for a in w.acks() if a.sent > at and a.host != old.ip]
        return min(mine) if mine else None
    return (labs.wait_for("another node to acknowledge writes", first, 60) - at) / 1e6


def hangs(run, deed, what):
    """The primary's server is made silent by `deed`: within the bound another one serves."""
    lab = run.cluster(failover="auto", env=ENV)
    w = run.writers(lab)
    old = lab.primary()
    p = old.postmaster()
    at = labs.boottime_ns()
    deed(old)
    took = took_over(w, at, old)
    check(not p.alive(), "the reign moved while the old postmaster lived")
    check("sick" in old.log_text(), "nothing was said")
    check(took < BOUND_MS, f"it took {took:.0f} ms, the bound is {BOUND_MS}")
    lab.wait_healthy()
    acks, gone = no_two_primaries_and_none_lost(w, lab, may_lose=True)
    run.note(f"{what}: another one serves after {took:.0f} ms with HA_SICK_MS={SICK_MS}; "
             f"{len(acks)} acknowledged, {len(gone)} lost (asynchronous)")


@scenario
def postmaster_stopped(run):
    """SIGSTOP of the postmaster alone: old sessions go on, new ones hang; another takes over."""
    hangs(run, lambda n: n.postmaster().kill(signal.SIGSTOP), "postmaster stopped")


@scenario
def whole_server_stopped(run):
    """SIGSTOP of every process of the server: it accepts connections and answers nothing."""
    def deed(n):
        p = n.postmaster()
        p.kill(signal.SIGSTOP)  # first, so that it forks no more
        for pid in labs.descendants(p.pid):
            labs.Process(pid).kill(signal.SIGSTOP)
    hangs(run, deed, "whole server stopped")


@scenario
def one_stuck_backend_is_shown_and_alarms_nobody(run):
    """SIGSTOP of one backend: shown in status and log; the primary stays, writes go on."""
    lab = run.cluster(failover="auto", env=ENV)
    w = run.writers(lab)
    n1 = lab.primary()
    sleeper = subprocess.Popen(
        ["ip", "netns", "exec", f"{lab.prefix}-sw", "psql", "-X", "-q", "-h", n1.ip, "-U",
         "postgres", "-d", "postgres", "-c", "SELECT pg_sleep(600)"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "PGPASSFILE": f"{lab.dir}/secrets/pgpass",
             "PGAPPNAME": "sleeper"}, start_new_session=True)
    try:
        def backend():
            got = n1.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'sleeper'"
                         " AND wait_event = 'PgSleep'")
            return int(got) if got else None
        inner = labs.wait_for("the session to sleep", backend)
        pid = labs.wait_for("its process", lambda: [d for d in labs.descendants(
            n1.postmaster().pid) if inner_pid(d) == inner])[0]
        labs.Process(pid).kill(signal.SIGSTOP)
        at = labs.boottime_ns()
        labs.wait_for("the stuck backend to be shown", lambda: "Stuck: n1: 1 of" in lab.hactl(
            "status").stdout, 15)
        labs.wait_for("thrice the limit",
                      lambda: labs.boottime_ns() > at + 3 * SICK_MS * 1_000_000)
        check("stuck_process" in n1.log_text(), "the log does not tell of it")
        check(" sick" not in n1.log_text(), "one stuck backend alarmed the cluster")
        check(lab.primary() is n1, "the role moved")
        gap = labs.outage_ms(w.acks(), at, within_s=(labs.boottime_ns() - at) / 1e9)
        check(gap < 1500, f"writes stood still for {gap:.0f} ms")
        labs.Process(pid).kill(signal.SIGCONT)
        labs.wait_for("it to be well", lambda: "Stuck:" not in lab.hactl("status").stdout, 15)
    finally:
        sleeper.kill()
        sleeper.wait(timeout=10)
    no_two_primaries_and_none_lost(w, lab)


def inner_pid(pid):
    """A process' number inside its own namespace."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
            for line in f:
                if line.startswith("NSpid:"):
                    return int(line.split()[-1])
    except OSError:
        pass
    return None


@scenario
def hung_under_declared_is_an_alarm(run):
    """The same under `declared`: said in status, log and explain; nothing moves; it recovers."""
    lab = run.cluster(env=ENV)
    n1 = lab.primary()
    at = labs.boottime_ns()
    n1.postmaster().kill(signal.SIGSTOP)
    labs.wait_for("the alarm in hactl status", lambda: "Sick: n1: hung" in lab.hactl(
        "status").stdout, 15)
    told = (labs.boottime_ns() - at) / 1e6
    text = explain(lab, n1)
    check("SICK" in text and "declared" in text, f"hactl explain does not tell: {text}")
    check("sick" in n1.log_text(), "the log does not tell")
    labs.wait_for("twice the limit",
                  lambda: labs.boottime_ns() > at + 2 * SICK_MS * 1_000_000)
    check("reign=2" not in n1.log_text() and n1.postmaster() is not None, "something moved")
    n1.postmaster().kill(signal.SIGCONT)
    labs.wait_for("the alarm to end", lambda: "Sick:" not in lab.hactl("status").stdout, 15)
    check(lab.primary() is n1, "the role moved")
    run.note(f"the alarm was up {told:.0f} ms after the fault, HA_SICK_MS={SICK_MS}")
    check(told < BOUND_MS, f"the alarm took {told:.0f} ms")


def disk_fills(run, leave_mb):
    lab = run.cluster(failover="auto", env=ENV, start=False)
    n1 = lab.nodes[0]
    small_disk(n1, 900)
    lab.start()
    lab.wait_healthy()
    check(lab.primary() is n1, "n1 is not the primary")
    labs.wait_for("the ballast", lambda: n1.exec("test", "-f", f"{n1.pgdata}.ballast",
                                                 check=False).returncode == 0)
    w = run.writers(lab)
    at = labs.boottime_ns()
    fill(n1, leave_mb)
    took = took_over(w, at, n1)
    gap = labs.outage_ms(w.acks(), at, within_s=took / 1000 + 1)
    check("PANIC" not in n1.log_text(), "PostgreSQL came to its PANIC")
    check("handover" in lab.hactl("history").stdout, "no handover in the history")
    check("the ballast gives its room" in n1.log_text(), "the ballast was kept")
    n1.exec("rm", "-f", f"{n1.dir}/data/foreign")  # a standby, too, needs room
    lab.wait_healthy()
    acks, _ = no_two_primaries_and_none_lost(w, lab)
    run.note(f"{leave_mb} MB left: another one serves after {took:.0f} ms, writes stood still for "
             f"{gap:.0f} ms; {len(acks)} acknowledged, 0 lost")
    labs.wait_for("the ballast to be made anew", lambda: n1.exec(
        "test", "-f", f"{n1.pgdata}.ballast", check=False).returncode == 0)


@scenario
def disk_nearly_full(run):
    """A disk with 40 MB left: handed over cleanly, before PostgreSQL ends by itself: 0 lost."""
    disk_fills(run, 40)


@scenario
def disk_full(run):
    """A disk filled to the last byte at once: the ballast makes room for a clean end: 0 lost."""
    disk_fills(run, 0)


@scenario
def disk_low_under_declared_is_an_alarm(run):
    """A nearly full disk under `declared`: an alarm, nothing moves, and it ends."""
    lab = run.cluster(env=ENV, start=False)
    n1 = lab.nodes[0]
    small_disk(n1, 900)
    lab.start()
    lab.wait_healthy()
    fill(n1, 40)
    labs.wait_for("the alarm", lambda: "Sick: n1: disk low" in lab.hactl("status").stdout, 15)
    check("SICK" in explain(lab, n1), "hactl explain does not tell")
    check(lab.primary() is n1, "the role moved")
    n1.exec("rm", "-f", f"{n1.dir}/data/foreign")
    labs.wait_for("the alarm to end", lambda: "Sick:" not in lab.hactl("status").stdout, 15)


@scenario
def data_directory_vanishes(run):
    """The primary's data directory is moved away: another takes over, it is copied anew."""
    lab = run.cluster(failover="auto", env=ENV)
    w = run.writers(lab)
    n1 = lab.primary()
    at = labs.boottime_ns()
    os.rename(n1.pgdata, f"{n1.dir}/data/moved")
    took = took_over(w, at, n1)
    check(took < BOUND_MS, f"it took {took:.0f} ms, the bound is {BOUND_MS}")
    check("data directory is gone" in n1.log_text() or "PostgreSQL ended" in n1.log_text(),
          "nothing was said")
    lab.wait_healthy()
    _, gone = no_two_primaries_and_none_lost(w, lab, may_lose=True)
    run.note(f"another one serves after {took:.0f} ms; {len(gone)} lost (asynchronous)")


@scenario
def disk_turns_read_only(run):
    """The primary's file system gives up and turns read-only: another takes over."""
    lab = run.cluster(failover="auto", env=ENV, start=False)
    n1 = lab.nodes[0]
    n1.power_on()
    image = f"{run.dir}/n1.img"
    with open(image, "wb") as f:
        f.truncate(900 * MB)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    mounted = n1.exec("mount", "-o", "loop,errors=remount-ro", image, f"{n1.dir}/data", check=False)
    if mounted.returncode != 0:
        raise Skip(f"no loop device: {mounted.stderr.strip()}")
    lab.start()
    lab.wait_healthy()
    w = run.writers(lab)
    at = labs.boottime_ns()
    n1.exec("mount", "-o", "remount,abort", f"{n1.dir}/data", check=False)
    took = took_over(w, at, n1)
    check(took < BOUND_MS, f"it took {took:.0f} ms, the bound is {BOUND_MS}")
    acks, gone = no_two_primaries_and_none_lost(w, lab, may_lose=True)
    run.note(f"another one serves after {took:.0f} ms; {len(acks)} acknowledged, "
             f"{len(gone)} lost (asynchronous)")


@alone
def a_busy_machine_is_not_sick(run):
    """Busy loops on twice the cores and pgbench, for a minute (--full: ten): no false alarm."""
    seconds = 600 if run.is_full else 60
    pgbench = f"{labs.BIN}/pgbench"
    if not os.path.exists(pgbench):
        raise Skip("there is no pgbench")
    lab = run.cluster(failover="auto")  # the default limit: what users run with
    w = run.writers(lab)
    n1 = lab.primary()
    env = {**os.environ, "PGPASSFILE": f"{lab.dir}/secrets/pgpass"}
    bench = ["ip", "netns", "exec", f"{lab.prefix}-sw", pgbench, "-h", n1.ip, "-U", "postgres"]
    subprocess.run([*bench, "-q", "-i", "-s", "5", "postgres"], check=True, env=env,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    load = [subprocess.Popen(["sh", "-c", "while :; do :; done"], start_new_session=True)
            for _ in range(2 * (os.cpu_count() or 1))]
    load.append(subprocess.Popen([*bench, "-n", "-c", "8", "-j", "2", "-T", str(seconds),
                                  "postgres"], env=env, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL, start_new_session=True))
    worst = 0
    try:
        at = labs.boottime_ns()
        while labs.boottime_ns() < at + seconds * 1_000_000_000:
            n = labs.boottime_ns()
            labs.wait_for("the next look", lambda n=n: labs.boottime_ns() > n + 10**9, every=0.2)
            status = n1.status()
            for m in (status or {}).get("members", []):
                if m["address"] == n1.ip:
                    worst = max(worst, m.get("commit_us", 0))
    finally:
        for p in load:
            p.kill()
            p.wait(timeout=10)
    said = [n.name for n in lab.nodes if " sick" in n.log_text()]
    check(not said, f"false alarm on {said}")
    check(lab.primary() is n1, "the role moved")
    acks, _ = no_two_primaries_and_none_lost(w, lab)
    run.note(f"{seconds} s at 100 % CPU: no alarm; slowest canary commit seen "
             f"{worst / 1000:.0f} ms; {len(acks)} acknowledged, 0 lost")
