"""Replication slots: of members, and of people."""
import os
import signal
import time

from rejoinlab import Since
from scenario import Skip, check, labs, scenario


def slots(node):
    """What the server says; one that says nothing is asked again."""
    def said():
        text = node.sql("SELECT slot_name, restart_lsn FROM pg_replication_slots", check=False)
        return None if text is None else [dict(x.split("|") for x in text.splitlines())]
    return labs.wait_for(f"{node.name} to say which slots it has", said, 60)[0]


@scenario
def slots_outlive_a_switchover(run):
    """People's physical slots are on every member; lost logical ones are named; who is away for
    longer than HA_SLOT_TTL has none."""
    lab = run.cluster(env={"HA_SLOT_TTL": "20", "POSTGRESQL_CONF": "wal_level=logical"})
    n1, n2, n3 = lab.nodes
    of = {n: "hawser_" + n.ip.replace(".", "_") for n in lab.nodes}
    n1.sql("SELECT pg_create_physical_replication_slot('archive', true)")
    n1.sql("SELECT pg_create_logical_replication_slot('cdc', 'pgoutput')")
    n1.sql("CREATE TABLE filler AS SELECT repeat('x', 1000) AS t FROM generate_series(1, 5000)")
    at = n1.sql("SELECT pg_current_wal_lsn()")
    n1.sql(f"SELECT pg_replication_slot_advance('archive', '{at}')")
    for n in (n2, n3):
        labs.wait_for(f"{n.name} to have the slot where it is",
                      lambda n=n: slots(n).get("archive") == at, 30)
    begun = n2.sql("SELECT pg_last_wal_replay_lsn()")
    labs.wait_for("a standby's slot for another one to follow it", lambda: n2.sql(
        f"SELECT restart_lsn >= '{begun}' FROM pg_replication_slots"
        f" WHERE slot_name = '{of[n3]}'", check=False) == "t", 30)
    log = Since(n2)
    done = lab.hactl("declare", n2.ip)
    check(done.returncode == 0, f"hactl declare: {done.stdout}{done.stderr}")
    lab.wait_primary(n2)
    check(slots(n2).get("archive") == at, "the slot did not outlive the switchover")
    log.wait(r'ev=slot_lost the logical slot "cdc" ')
    check(not log.said(r'slot_lost .*"archive"'), "a slot that is here is called lost")
    lab.wait_healthy()
    labs.wait_for("the old primary to hold back no WAL for the logical one",
                  lambda: "cdc" not in slots(n1), 30)
    check("archive" in slots(n1), "the old primary dropped a slot of the cluster")
    n2.sql("SELECT pg_drop_replication_slot('archive')")
    for n in (n1, n3):
        labs.wait_for(f"{n.name} to drop what the primary dropped",
                      lambda n=n: "archive" not in slots(n), 30)
    n3.stop_agent()
    check(of[n3] in slots(n2), "a slot went before its time")
    for n in (n1, n2):
        labs.wait_for(f"{n.name} to have no slot for who is away",
                      lambda n=n: of[n3] not in slots(n), 60)
    n3.start()
    labs.wait_for("it to be back", lambda: of[n3] in slots(n1) and of[n3] in slots(n2), 60)
    lab.wait_healthy()


class Subscriber:
    """A PostgreSQL beside the cluster that takes the ledger from whoever is its primary."""

    def __init__(self, lab):
        self.lab = lab
        self.dir = f"{lab.dir}/subscriber"
        os.makedirs(self.dir)
        labs.shutil.copy(f"{lab.dir}/secrets/pgpass", f"{self.dir}/pgpass")
        labs.run("chown", "-R", "postgres", self.dir)
        self.run("initdb", "-D", f"{self.dir}/data", "-A", "trust", "-N")
        self.run("pg_ctl", "-w", "-D", f"{self.dir}/data", "-l", f"{self.dir}/log", "-o",
                 f"-c listen_addresses='' -c unix_socket_directories={self.dir} -c fsync=off",
                 "start")

    def run(self, program, *args, check=True):
        return self.lab.client("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups",
                               "env", "-i", "LC_ALL=C.UTF-8", f"{labs.BIN}/{program}", *args,
                               check=check, stdin=labs.subprocess.DEVNULL)

    def sql(self, text):
        return self.run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", self.dir, "-d", "postgres",
                        "-c", text).stdout.strip()

    def subscribe(self):
        hosts = ",".join(n.ip for n in self.lab.databases)
        self.sql("CREATE TABLE hawser_ledger (writer int, seq bigint, PRIMARY KEY (writer, seq))")
        self.sql(f"CREATE SUBSCRIPTION feed CONNECTION 'host={hosts} user=postgres dbname=postgres"
                 f" passfile={self.dir}/pgpass connect_timeout=2 target_session_attrs=read-write'"
                 " PUBLICATION feed WITH (failover = true)")

    def rows(self):
        return set(self.sql("SELECT writer || ' ' || seq FROM hawser_ledger").split("\n"))

    def stop(self):
        self.run("pg_ctl", "-D", f"{self.dir}/data", "-m", "immediate", "stop", check=False)


def copied(node):
    return node.sql("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'feed' AND synced"
                    " AND NOT temporary", check=False) == "1"


def waited_for(node):
    return set(filter(None, (node.sql("SHOW synchronized_standby_slots", check=False) or "")
                      .split(",")))


def check_fed(lab, feed, seconds=60):
    """All that the primary has arrives, and nothing else ever did."""
    want = set(lab.wait_primary().sql("SELECT writer || ' ' || seq FROM hawser_ledger",
                                      seconds=60).split("\n"))
    labs.wait_for("the subscriber to have all rows", lambda: want <= feed.rows(), seconds)
    extra = feed.rows() - want
    check(not extra, f"the subscriber has {len(extra)} rows that the primary has not: "
          f"{sorted(extra)[:3]}")
    return len(want)


@scenario
def a_subscriber_goes_on_after_switchover_and_failover(run):
    """PostgreSQL 17: a logical slot with failover = true is on every standby, so a subscriber goes
    on where it was; it never has what the next primary lacks; and an absent standby stops it for
    seconds only."""
    if labs.PG_MAJOR < 17:
        raise Skip("PostgreSQL copies logical slots to standbys from 17 on")
    lab = run.cluster(failover="auto", env={"POSTGRESQL_CONF": "wal_level=logical"})
    n1, n2, n3 = lab.nodes
    of = {n: "hawser_" + n.ip.replace(".", "_") for n in lab.nodes}
    writers = run.writers(lab, threads=4)
    n1.sql("CREATE PUBLICATION feed FOR TABLE hawser_ledger")
    feed = Subscriber(lab)
    try:
        check(waited_for(n1) == set(), "standbys are named though no slot is to survive a failover")
        feed.subscribe()
        labs.wait_for("both standbys to be waited for",
                      lambda: waited_for(n1) == {of[n2], of[n3]}, 60)
        for n in (n2, n3):
            labs.wait_for(f"{n.name} to have the slot", lambda n=n: copied(n), 60)
        log = Since(n2)
        done = lab.hactl("declare", n2.ip)
        check(done.returncode == 0, f"hactl declare: {done.stdout}{done.stderr}")
        lab.wait_primary(n2)
        writers.wait_acks(labs.boottime_ns(), n2.ip)
        check(not log.said("slot_lost"), "a slot that came along is called lost")
        labs.wait_for("the old primary to have a copy instead of its own slot",
                      lambda: copied(n1), 60)
        labs.wait_for("the others to be waited for",
                      lambda: waited_for(n2) == {of[n1], of[n3]}, 60)

        # Failover: the power of the primary is cut while rows flow.
        n2.power_off()
        new = lab.wait_primary()
        check(new is not n2, "the dead one is the primary")
        writers.wait_acks(labs.boottime_ns(), new.ip)
        writers.stop()
        run.note(f"{check_fed(lab, feed)} rows")
        third = n3 if new is n1 else n1
        labs.wait_for("the one that is left to be waited for",
                      lambda: waited_for(new) == {of[third]}, 60)

        # Who comes back has the slot again, whatever its own was on the timeline that it left.
        n2.start()
        lab.wait_healthy()
        labs.wait_for("it to have the slot", lambda: copied(n2), 60)
        labs.wait_for("both to be waited for",
                      lambda: waited_for(new) == {of[n2], of[third]}, 60)

        # One goes silent with its connections open: rows stop for a while, not for good.
        frozen = [third.agent, third.postmaster()]
        frozen += [labs.Process(pid) for pid in labs.descendants(third.postmaster().pid)]
        for process in frozen:
            process.kill(signal.SIGSTOP)
        began = time.monotonic()
        new.sql("INSERT INTO hawser_ledger VALUES (99, 1)")
        labs.wait_for("the row to arrive all the same", lambda: "99 1" in feed.rows(), 60)
        run.note(f"an absent standby: {time.monotonic() - began:.1f} s")
        check(waited_for(new) == {of[n2]}, "the absent one is waited for")
        third.power_off()
        third.start()
        lab.wait_healthy()
        labs.wait_for("both to be waited for again", lambda: len(waited_for(new)) == 2, 60)

        # A planned move right after a standby died: the server's end waits for nobody.
        third.power_off()
        began = time.monotonic()
        done = lab.hactl("switchover", n2.ip)
        check(done.returncode == 0, f"hactl switchover: {done.stdout}{done.stderr}")
        lab.wait_primary(n2)
        run.note(f"a move beside a dead standby: {time.monotonic() - began:.1f} s")
        n2.sql("INSERT INTO hawser_ledger VALUES (99, 2)")
        labs.wait_for("the row to arrive", lambda: "99 2" in feed.rows(), 60)
        check_fed(lab, feed)
    finally:
        feed.stop()
