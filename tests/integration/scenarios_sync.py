"""Synchronous replication: nothing acknowledged is lost; nothing is shown before it could be."""
import signal

from scenario import check, labs, no_two_primaries_and_none_lost, only_full, scenario


def sync_of(lab):
    """What the primary's agent says of its commits."""
    for n in lab.databases:
        status = n.status() if n.init else None
        if status and status["leader"] == n.ip:
            return status["sync"]
    return {}


def wait_commits(lab, word, seconds=60):
    return labs.wait_for(f"commits to be: {word}",
                         lambda: sync_of(lab) if sync_of(lab).get("commits") == word else None,
                         seconds)


def local_sql(node, text):
    """On the agent's own socket, where no gate is."""
    done = node.exec("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "psql",
                     "-X", "-A", "-t", "-q", "-h", "/run/hawser", "-U", "postgres", "-c", text,
                     check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def freeze_server(node, sig):
    """All processes of its PostgreSQL, and not its agent."""
    p = node.postmaster()
    for q in [labs.Process(d) for d in labs.descendants(p.pid)] + [p]:
        q.kill(sig)


def cluster(run, mode, **more):
    env = {"HA_SYNC": mode, **more.pop("env", {})}
    lab = run.cluster(failover="auto", env=env, **more)
    sync = wait_commits(lab, "held")
    check(sync["count"] == sync["wanted"], f"on record: {sync}")
    return lab


def primary_dies(run, mode, deed=lambda n: n.power_off(), **more):
    """The primary's end under 8 writers: who takes over has every acknowledged write."""
    lab = cluster(run, mode, **more)
    w = run.writers(lab)
    old = lab.primary()
    at = labs.boottime_ns()
    deed(old)
    labs.wait_for("another node to acknowledge writes",
                  lambda: [a for a in w.acks() if a.sent > at and a.host != old.ip], 60)
    outage = labs.outage_ms(w.acks(), at)
    for n in lab.nodes:
        if not (n.agent and n.agent.alive()):
            n.start()
    lab.wait_healthy()
    wait_commits(lab, "held")
    acks, _ = no_two_primaries_and_none_lost(w, lab)
    run.note(f"HA_SYNC={mode}: outage {outage:.0f} ms, {len(acks)} acknowledged, 0 lost")


@scenario
def sync_on_primary_dies(run):
    """HA_SYNC=on, the primary's power goes: 0 lost."""
    primary_dies(run, "on")


@scenario
def sync_quorum_primary_dies(run):
    """HA_SYNC=quorum, 2 of 5 members' disks: the primary's power goes, 0 lost."""
    primary_dies(run, "quorum", nodes=5)


@scenario
def sync_strict_primary_dies(run):
    """HA_SYNC=strict, kill -9 of the agent: 0 lost."""
    only_full(run)
    primary_dies(run, "strict", deed=lambda n: n.kill_agent())


@scenario
def sync_on_falls_back_says_so_and_comes_back(run):
    """The last standby of HA_SYNC=on ends: commits go on alone, loudly; then they wait again."""
    only_full(run)
    lab = run.cluster(nodes=2, witnesses=1, failover="auto", env={"HA_SYNC": "on"})
    n1, n2 = lab.databases
    wait_commits(lab, "held")
    w = run.writers(lab)
    n2.power_off()
    at = labs.boottime_ns()
    sync = wait_commits(lab, "asynchronous")
    check(sync["count"] == 0, f"asynchronous, but on record: {sync}")
    w.wait_acks(labs.boottime_ns())
    run.note(f"writes stood still for {labs.outage_ms(w.acks(), at):.0f} ms")
    check("commits are ASYNCHRONOUS" in n1.log_text(), "the log does not say so")
    said = lab.hactl("guarantee")
    check("ASYNCHRONOUS" in said.stdout and said.returncode == 0, f"hactl: {said.stdout}")
    check("asynchronous" in lab.hactl("status").stdout, "hactl status does not say so")
    n2.start()
    lab.wait_healthy()
    wait_commits(lab, "held")
    check("no acknowledged write is lost" in lab.hactl("guarantee").stdout, "hactl guarantee")
    w.wait_acks(labs.boottime_ns())
    no_two_primaries_and_none_lost(w, lab)


@scenario
def sync_strict_blocks_and_a_flapping_standby_changes_nothing(run):
    """HA_SYNC=strict without its standby acknowledges nothing; with it, writes go on."""
    only_full(run)
    lab = run.cluster(nodes=2, witnesses=1, failover="auto", env={"HA_SYNC": "strict"})
    n1, n2 = lab.databases
    wait_commits(lab, "held")
    w = run.writers(lab)
    for _ in range(2):
        before = sync_of(lab)
        freeze_server(n2, signal.SIGSTOP)
        stopped = labs.boottime_ns()
        labs.holds_for("no write is acknowledged without a standby", lambda t=stopped: not any(
            a.sent > t + 500_000_000 for a in w.acks()), 5)
        after = sync_of(lab)
        check((after["set"], after["count"]) == (before["set"], before["count"]),
              f"the set changed: {before} {after}")
        freeze_server(n2, signal.SIGCONT)
        w.wait_acks(labs.boottime_ns())
    check(lab.primary() is n1, "the role moved")
    no_two_primaries_and_none_lost(w, lab)


@scenario
def sync_switchovers_lose_nothing(run):
    """Switchovers with HA_SYNC=quorum: no write is missing, and commits are held again."""
    only_full(run)
    lab = cluster(run, "quorum")
    w = run.writers(lab)
    outages = []
    for i in range(2):
        to = lab.nodes[(i + 1) % 3]
        at = labs.boottime_ns()
        done = lab.hactl("declare", to.ip)
        check(done.returncode == 0, f"hactl declare: {done.stderr}")
        lab.wait_primary(to)
        w.wait_acks(labs.boottime_ns())
        outages.append(labs.outage_ms(w.acks(), at))
        lab.wait_healthy()
        wait_commits(lab, "held")
    acks, _ = no_two_primaries_and_none_lost(w, lab)
    run.note(f"{len(acks)} acknowledged, outage ms " + " ".join(f"{o:.0f}" for o in outages))


@scenario
def a_commit_that_waited_is_not_shown_before_a_standby_has_it(run):
    """kill -9 of a primary in whose WAL lies a commit that no standby has: after the restart in
    place (declared) nobody sees the row before a standby has it."""
    lab = run.cluster(nodes=2, witnesses=1, env={"HA_SYNC": "strict"})
    n1, n2 = lab.databases
    wait_commits(lab, "held")
    n1.sql("CREATE TABLE seen (id int)")
    freeze_server(n2, signal.SIGSTOP)
    waiting = lab.client_popen("psql", "-X", "-q", "-h", n1.ip, "-U", "postgres", "-c",
                               "INSERT INTO seen VALUES (1)")
    labs.wait_for("the commit to wait",
                  lambda: local_sql(n1, "SELECT count(*) FROM pg_stat_activity"
                                        " WHERE wait_event = 'SyncRep'") == "1", 30)
    end = local_sql(n1, "SELECT pg_current_wal_flush_lsn()")
    old = n1.postmaster()
    n1.kill_postmaster()
    check(waiting.wait(30) != 0, "the commit was acknowledged without a standby")
    labs.wait_for("the old server to be gone", lambda: not old.alive(), 30)
    labs.wait_for("the row to be recovered",
                  lambda: local_sql(n1, "SELECT count(*) FROM seen") == "1", 60)
    at = labs.boottime_ns()
    seen = []
    labs.wait_for("three seconds of clients that look",
                  lambda: seen.append(n1.sql("SELECT count(*) FROM seen", check=False))
                  or labs.boottime_ns() > at + 3_000_000_000)
    check(set(seen) == {None}, f"a client was let in before a standby had the row: {seen}")
    freeze_server(n2, signal.SIGCONT)
    labs.wait_for("clients to be let in", lambda: n1.sql("SELECT count(*) FROM seen",
                                                         check=False), 60)
    has = n2.sql(f"SELECT pg_last_wal_receive_lsn() >= '{end}'")
    check(has == "t", "clients were let in, and the standby has less")
    check(n1.sql("SELECT count(*) FROM seen") == "1", "the row is gone")
    check(lab.primary() is n1, "the role moved")
    wait_commits(lab, "held")
    run.note(f"{len(seen)} attempts of clients were refused")
