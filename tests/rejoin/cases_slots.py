"""Replication slots: of members, and of people."""
from rejoinlab import Since
from scenario import check, labs, scenario


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
