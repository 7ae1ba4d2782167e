"""What happens to each kind of work once the lease is gone.

Goal:   nothing durable is acknowledged, what is refused left nothing behind, no PANIC.
Method: a session prepares under a live lease; the lease is revoked; the statement runs; then
        the lease comes back and another session looks at what became of it. The module's worker
        is stopped, or it would end the server before anything can be seen.
"""

import re
import signal
import subprocess
import time

from bench import PG_BIN, as_postgres, descendants, is_alive, send, title, wait_for

CHECK_T = "SELECT count(*) FROM t"

# name, before (live), the statement (revoked), a look (live again), what the look shows if nothing
# happened. Each must be refused with 25006.
REFUSED = [
    ("insert", "", "INSERT INTO t VALUES (1)", CHECK_T),
    ("commit_of_a_write", "BEGIN; INSERT INTO t VALUES (1)", "COMMIT", CHECK_T),
    ("commit_of_an_asynchronous_write",
     "SET synchronous_commit = off; BEGIN; INSERT INTO t VALUES (1)", "COMMIT", CHECK_T),
    ("prepare_transaction", "BEGIN; INSERT INTO t VALUES (1)", "PREPARE TRANSACTION 'p'",
     "SELECT count(*) FROM pg_prepared_xacts"),
    ("commit_prepared", "BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'q'",
     "COMMIT PREPARED 'q'", CHECK_T),
    ("rollback_prepared", "BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'r'",
     "ROLLBACK PREPARED 'r'", "SELECT count(*) - 1 FROM pg_prepared_xacts WHERE gid = 'r'"),
    ("create_table", "", "CREATE TABLE u (i int)",
     "SELECT count(*) FROM pg_class WHERE relname = 'u'"),
    ("create_index_concurrently", "", "CREATE INDEX CONCURRENTLY ti ON t (i)",
     "SELECT count(*) FROM pg_class WHERE relname = 'ti'"),
    ("vacuum", "", "VACUUM t", None),
    ("create_database", "", "CREATE DATABASE d",
     "SELECT count(*) FROM pg_database WHERE datname = 'd'"),
    ("truncate", "INSERT INTO t VALUES (1), (2)", "TRUNCATE t", "SELECT count(*) - 2 FROM t"),
    ("unlogged_table", "CREATE UNLOGGED TABLE ul (i int)", "INSERT INTO ul VALUES (1)",
     "SELECT count(*) FROM ul"),
    ("temporary_table", "CREATE TEMP TABLE tt (i int)", "INSERT INTO tt VALUES (1)", None),
    ("nextval", "CREATE SEQUENCE s", "SELECT nextval('s')", None),
    ("select", "", "SELECT count(*) FROM t", None),
    ("fetch", "BEGIN; DECLARE c CURSOR FOR SELECT 1", "FETCH c", None),
    ("advisory_lock", "", "SELECT pg_advisory_lock(1)",
     "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
    ("listen", "", "LISTEN n", None),
    ("notify", "", "NOTIFY n", None),
    ("copy_from", "", "COPY t FROM STDIN", None),
    ("copy_to", "", "COPY t TO STDOUT", None),
    ("call_with_commit", "CREATE PROCEDURE p() LANGUAGE plpgsql AS "
     "'BEGIN INSERT INTO t VALUES (1); COMMIT; END'", "CALL p()", CHECK_T),
    ("do_with_commit", "", "DO 'BEGIN INSERT INTO t VALUES (1); COMMIT; END'", CHECK_T),
    ("execute", "PREPARE e AS INSERT INTO t VALUES (1)", "EXECUTE e", CHECK_T),
    ("switch_wal", "", "SELECT pg_switch_wal()", None),
    ("logical_message", "", "SELECT pg_logical_emit_message(false, 'a', 'b')", None),
    ("large_object", "", "SELECT lo_create(4711)",
     "SELECT count(*) FROM pg_largeobject_metadata"),
    ("begin", "", "BEGIN", None),
    ("commit_of_a_read", "BEGIN; SELECT 1", "COMMIT", None),
    ("set", "", "SET work_mem = '1MB'", None),
    ("show", "", "SHOW work_mem", None),
    ("checkpoint", "", "CHECKPOINT", None),
    ("write_caught_by_a_handler", "",
     "DO 'BEGIN INSERT INTO t VALUES (1); EXCEPTION WHEN OTHERS THEN NULL; END'", CHECK_T),
]

# With the reads open, these are answered ...
OPEN_READS = [("select", "SELECT 1"), ("show", "SHOW work_mem"),
              ("begin", "BEGIN; SELECT 1; COMMIT"),
              ("with", "WITH a AS (SELECT 1) SELECT * FROM a")]
# ... and these still refused.
OPEN_WRITES = [("insert", "INSERT INTO t VALUES (1)"), ("nextval", "SELECT nextval('s')"),
               ("with", "WITH a AS (INSERT INTO t VALUES (1) RETURNING i) SELECT * FROM a"),
               ("lock_rows", "SELECT * FROM t FOR UPDATE"), ("notify", "NOTIFY n"),
               ("create", "CREATE TABLE v (i int)"), ("function", "SELECT write_t()"),
               ("commit_prepared", "COMMIT PREPARED 'q'")]


def roll_back_prepared(server):
    with server.session() as session:
        for row in session.query("SELECT gid FROM pg_prepared_xacts").rows:
            session.query(f"ROLLBACK PREPARED '{row[0]}'")


def each_kind_of_work_is_refused_and_leaves_nothing(bench):
    server, stub = bench.fenced()
    wrong = []
    for name, before, statement, look in REFUSED:
        stub.hold()
        server.sql("TRUNCATE t")
        with server.session() as session:
            if before:
                answer = session.query(before)
                assert answer.kind() == "ok", f"{name}: {before}: {answer.text}"
            stub.revoke()
            answer = session.query(statement)
            is_gone = session.is_gone()
        stub.hold()
        found = server.sql(look) if look else "0"
        roll_back_prepared(server)
        if answer.kind() != "25006" or answer.tags or found != "0" or not is_gone:
            wrong.append(f"{name}: {answer.kind()} tags={answer.tags} found={found} "
                         f"gone={is_gone} {answer.text}")
    assert not wrong, "\n".join(wrong)
    assert "PANIC" not in server.read_log()


def the_refusal_names_reign_and_deadline(bench):
    server, stub = bench.fenced()
    with server.session() as session:
        stub.hold(100)
        wait_for("the expiry", lambda: session.query("SELECT 1").kind() != "ok")
    with server.session() as session:
        answer = session.query("INSERT INTO t VALUES (1)")
    assert answer.error == "25006", answer.kind()
    assert "reign 7" in answer.text and "ms ago" in answer.text, answer.text


def open_reads_are_answered_and_writes_are_not(bench):
    server, stub = bench.fenced(**{"ha_fence.reads": "on"})
    server.sql("CREATE SEQUENCE s")
    server.sql("CREATE FUNCTION write_t() RETURNS void LANGUAGE sql AS 'INSERT INTO t VALUES (1)'")
    server.sql("INSERT INTO t VALUES (0)")
    with server.session() as session:
        session.query("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'q'")
    stub.revoke()
    for name, sql in OPEN_READS:
        with server.session() as session:
            assert session.query(sql).kind() == "ok", name
    for name, sql in OPEN_WRITES:
        with server.session() as session:
            answer = session.query(sql)
            assert answer.kind() == "25006" and not answer.tags, f"{name}: {answer.kind()}"
            assert session.query("SELECT 1").kind() == "ok", f"{name}: the session goes on"
    # Gets its xid after the check before the commit record: the one after it cuts.
    with server.session() as session:
        answer = session.query("SELECT pg_notify('n', '')")
        assert answer.kind() == "lost" and not answer.tags, answer.kind()
    assert server.sql("SELECT count(*) FROM t") == "1"


def rollback_ends_the_session_without_an_answer(bench):
    server, stub = bench.fenced()
    with server.session() as session:
        session.query("BEGIN; INSERT INTO t VALUES (1)")
        stub.revoke()
        answer = session.query("ROLLBACK")
        assert answer.kind() == "lost" and not answer.tags, answer.kind()


# The commit record is written and the client waits for its acknowledgement: a synchronous standby
# that does not exist holds it there, until the names are emptied.
BETWEEN = [
    ("insert", "", "INSERT INTO t VALUES (1)", CHECK_T),
    ("prepare", "BEGIN; INSERT INTO t VALUES (1)", "PREPARE TRANSACTION 'p'",
     "SELECT count(*) FROM pg_prepared_xacts"),
    ("commit_prepared", "BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'p'",
     "COMMIT PREPARED 'p'", CHECK_T),
    ("call", "CREATE PROCEDURE p() LANGUAGE plpgsql AS "
     "'BEGIN INSERT INTO t VALUES (1); COMMIT; END'", "CALL p()", CHECK_T),
    ("copy", "", "COPY t FROM PROGRAM 'echo 1'", CHECK_T),
    ("create_index_concurrently", "", "CREATE INDEX CONCURRENTLY ti ON t (i)",
     "SELECT count(*) FROM pg_class WHERE relname = 'ti'"),
]


def want_a_standby(server):
    """Each commit from now on waits. All read the names, but the checkpointer tells them whether to
    look at them: it does so before it begins the checkpoint that is asked for."""
    server.reload(synchronous_standby_names="nobody")
    wait_for("the names", lambda: server.sql("SHOW synchronous_standby_names") != "")
    server.sql("CHECKPOINT")


def in_sync_wait(server, pid):
    return any(p == pid and "waiting for" in title(p) for p in descendants(server.pid))


def between_record_and_acknowledgement(bench, release, only=None):
    """Brings each of BETWEEN into its wait for the standby and lets `release` end the wait."""
    for name, before, statement, look in BETWEEN:
        if only and name not in only:
            continue
        server, stub = bench.fenced(name)
        with server.session() as session:
            if before:
                assert session.query(before).kind() == "ok", name
            want_a_standby(server)
            session.start(statement)
            wait_for(f"{name} to wait", lambda: in_sync_wait(server, session.pid))
            release(server, stub, session)
            answer = session.collect()
        assert answer.kind() == "lost" and not answer.tags, f"{name}: {answer.kind()} {answer.tags}"
        stub.hold()
        if "shutdown request" in server.read_log():
            server.ends()
            server.reload(synchronous_standby_names="")
            server.start()
        assert server.sql(look) == "1", f"{name}: is durable"
        assert "PANIC" not in server.read_log(), name
        server.stop()


def expiry_after_the_commit_record_cuts(bench):
    def release(server, stub, _session):
        stub.revoke()
        server.reload(synchronous_standby_names="")
    between_record_and_acknowledgement(bench, release)


def a_procedure_does_not_go_on_after_a_fenced_commit(bench):
    """The check right after the commit record, on its own: nothing here writes to the client."""
    server, stub = bench.fenced()
    server.sql("CREATE PROCEDURE p() LANGUAGE plpgsql AS 'DECLARE until timestamptz; BEGIN "
               "INSERT INTO t VALUES (1); COMMIT; until := clock_timestamp() + ''60 s''; "
               "LOOP EXIT WHEN clock_timestamp() > until; END LOOP; END'")
    with server.session() as session:
        want_a_standby(server)
        session.start("CALL p()")
        wait_for("the commit to wait", lambda: in_sync_wait(server, session.pid))
        stub.revoke()
        begin = time.monotonic()
        server.reload(synchronous_standby_names="")
        answer = session.collect()
        wait_for("the backend's end", lambda: not is_alive(session.pid))
    assert answer.kind() == "lost" and time.monotonic() - begin < 30


def a_cancelled_wait_for_a_standby_is_not_acknowledged(bench):
    def release(_server, _stub, session):
        send(signal.SIGINT, session.pid)
    between_record_and_acknowledgement(bench, release)


def cancelled_by_a_superuser_it_is_not_acknowledged(bench):
    def release(server, _stub, session):
        assert server.sql(f"SELECT pg_cancel_backend({session.pid})") == "t"
    between_record_and_acknowledgement(bench, release, ["insert"])


def cancelled_by_the_end_of_its_session_it_is_not_acknowledged(bench):
    def release(server, _stub, session):
        assert server.sql(f"SELECT pg_terminate_backend({session.pid})") == "t"
    between_record_and_acknowledgement(bench, release, ["insert", "commit_prepared"])


def cancelled_by_a_fast_shutdown_it_is_not_acknowledged(bench):
    def release(server, _stub, _session):
        send(signal.SIGCONT, *server.workers())  # or the postmaster waits for it
        send(signal.SIGINT, server.pid)
    between_record_and_acknowledgement(bench, release, ["insert", "call"])


def a_smart_shutdown_waits_and_a_cancel_in_it_is_no_acknowledgement(bench):
    def release(server, _stub, session):
        send(signal.SIGCONT, *server.workers())
        send(signal.SIGTERM, server.pid)
        wait_for("the request", lambda: "smart shutdown" in server.read_log())
        assert in_sync_wait(server, session.pid)
        send(signal.SIGINT, session.pid)
    between_record_and_acknowledgement(bench, release, ["insert"])


def a_statement_timeout_in_the_wait_is_no_acknowledgement(bench):
    """It strikes where a procedure commits. A statement's own commit is out of its reach."""
    server, _stub = bench.fenced()
    server.sql("CREATE PROCEDURE p() LANGUAGE plpgsql AS "
               "'BEGIN INSERT INTO t VALUES (1); COMMIT; END'")
    want_a_standby(server)
    with server.session() as session:
        session.query("SET statement_timeout = '1s'")
        session.start("CALL p()")
        wait_for("the commit to wait", lambda: in_sync_wait(server, session.pid))
        answer = session.collect()
    assert answer.kind() == "lost" and not answer.tags, f"{answer.kind()} {answer.tags}"
    assert server.sql(CHECK_T) == "1"


def asynchronous_commits_are_acknowledged_beside_a_missing_standby(bench):
    server, _stub = bench.fenced()
    want_a_standby(server)
    with server.session() as session:
        # Writes to the catalogs, so it would wait.
        session.query("SET synchronous_commit = local; CREATE TEMP TABLE tt (i int)")
        for level in ("local", "off"):
            session.query(f"SET synchronous_commit = {level}")
            assert session.query("INSERT INTO t VALUES (1)").kind() == "ok", level
        session.query("SET synchronous_commit = on")
        assert session.query("INSERT INTO tt VALUES (1)").kind() == "ok", "no WAL, no wait"


def a_synchronous_standby_that_confirms_disturbs_nothing(bench):
    server, _stub = bench.fenced()
    server.sql("CREATE PROCEDURE p() LANGUAGE plpgsql AS "
               "'BEGIN INSERT INTO t VALUES (1); COMMIT; INSERT INTO t VALUES (2); END'")
    standby = subprocess.Popen([f"{PG_BIN}/pg_receivewal", "-h", server.root, "-U", "postgres",
                                "-D", server.root, "--synchronous", "--no-loop"],
                               **as_postgres())
    bench.things.append(lambda: (standby.kill(), standby.wait()))
    server.reload(synchronous_standby_names="pg_receivewal")
    wait_for("the standby", lambda: server.sql(
        "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1")
    with server.session() as session:
        for level in ("on", "remote_write", "local", "off"):
            session.query(f"SET synchronous_commit = {level}")
            for sql in ("INSERT INTO t VALUES (1)", "CALL p()", "VACUUM t", "SELECT 1",
                        "BEGIN; INSERT INTO t VALUES (1)", "PREPARE TRANSACTION 'p'",
                        "COMMIT PREPARED 'p'", "BEGIN; INSERT INTO t VALUES (1)",
                        "PREPARE TRANSACTION 'q'", "ROLLBACK PREPARED 'q'",
                        "CREATE INDEX CONCURRENTLY ti ON t (i)", "DROP INDEX ti"):
                answer = session.query(sql)
                assert answer.kind() == "ok", f"{level}: {sql}: {answer.kind()} {answer.text}"


def a_result_is_not_told_after_expiry(bench):
    """The last check: the statement passed all others long ago."""
    for reads in ("off", "on"):
        server, stub = bench.fenced(f"r{reads}", **{"ha_fence.reads": reads})
        lock = "SELECT pg_advisory_lock(1)"
        cases = [(f"BEGIN; INSERT INTO t VALUES (1); COMMIT; {lock}", True),
                 (lock, reads == "off")]
        for sql, is_cut in cases:
            stub.hold()
            with server.session() as session:
                with server.session() as owner:
                    owner.query(lock)
                    session.start(sql)
                    wait_for("the lock to be waited for",
                             lambda: title(session.pid).endswith("SELECT waiting"))
                    stub.revoke()
                answer = session.collect()  # its owner has gone: the lock is given
            got = (answer.kind(), bool(answer.tags))
            assert got == (("lost", False) if is_cut else ("ok", True)), f"{reads} {sql}: {got}"
        server.stop()


def a_commit_told_early_by_the_protocol_is_not_confirmed(bench):
    """Extended protocol: CommandComplete was flushed, the commit itself comes with Sync."""
    for reads in ("off", "on"):
        server, stub = bench.fenced(f"r{reads}", **{"ha_fence.reads": reads})
        with server.session() as session:
            assert session.extended("INSERT INTO t VALUES (1)").tags == ["INSERT 0 1"]
            stub.revoke()
            answer = session.sync()
            assert answer.kind() == "25006", answer.kind()
        stub.hold()
        assert server.sql(CHECK_T) == "0"
        server.stop()


def a_long_result_ends_with_the_lease(bench):
    server, stub = bench.fenced()
    for sql in ("SELECT repeat('x', 1000), pg_sleep(0.01) FROM generate_series(1, 1000)",
                "COPY (SELECT repeat('x', 1000), pg_sleep(0.01) FROM generate_series(1, 1000)) "
                "TO STDOUT"):
        stub.hold()
        with server.session() as session:
            session.start(sql)
            for _ in range(20):
                session.message()
            stub.revoke()
            answer = session.collect()
        assert answer.kind() == "lost" and not answer.tags, answer.kind()
        # What had left before lies in the socket; a full answer would have 980 rows more.
        assert len(answer.rows) < 500, len(answer.rows)


def a_client_that_reads_late_hears_only_what_had_left(bench):
    """Its answers are checked, and the server waits until it takes them: then they are old."""
    server, stub = bench.fenced()
    with server.session() as session:
        # In one go: the server must not stop reading before it stops writing.
        session.start(*["INSERT INTO t VALUES (1)"] * 2000)
        wait_for("the server to wait for the client", lambda: server.sql(
            f"SELECT wait_event FROM pg_stat_activity WHERE pid = {session.pid}") == "ClientWrite")
        stub.revoke()
        had_left = session.received()
        answer = session.collect(until=None)
        count = len(session.buffer)
    assert answer.is_lost and 0 < had_left == count, f"{had_left} had left, {count} came"
    stub.hold()
    assert int(server.sql(CHECK_T)) > 0


def a_parallel_query_gives_no_answer_after_expiry(bench):
    server, stub = bench.fenced()
    server.sql("CREATE TABLE big AS SELECT generate_series(1, 20000) AS i; ANALYZE big; "
               "ALTER TABLE big SET (parallel_workers = 2)")
    with server.session() as session:
        session.query("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; "
                      "SET min_parallel_table_scan_size = 0")
        session.start("SELECT count(pg_sleep(0.0002)) FROM big")
        wait_for("the parallel workers", lambda: any(
            "parallel worker" in title(p) for p in descendants(server.pid)))
        stub.revoke()
        answer = session.collect()
    # A worker that only begins now is refused; that ends the query as well.
    assert answer.kind() in ("lost", "25006"), answer.kind()
    assert not answer.rows and not answer.tags


def what_has_no_client_writes_nothing_either(bench):
    """Autovacuum has nobody to cut; its transaction is refused."""
    server, stub = bench.fenced(autovacuum="on", autovacuum_naptime="1s",
                                autovacuum_analyze_threshold="1", log_autovacuum_min_duration="0")
    server.sql("CREATE TABLE av (i int)")
    # Nothing is worth its while before this; the statistics arrive a moment after the commit.
    server.sql("INSERT INTO av SELECT generate_series(1, 1000)")
    stub.revoke()
    refusal = r"may not acknowledge.*\n.*HINT.*\n.*analyze of table .postgres.public.av"
    wait_for("autovacuum to be refused", lambda: re.search(refusal, server.read_log()))
    stub.hold()
    assert server.sql("SELECT count(*) FROM pg_statistic WHERE starelid = 'av'::regclass") == "0"
    assert "PANIC" not in server.read_log()


def a_notification_is_not_told_after_expiry(bench):
    server, stub = bench.fenced()
    with server.session() as listener, server.session() as sender:
        listener.query("LISTEN n")
        assert sender.query("NOTIFY n").kind() == "ok"
        assert wait_for("a notification", lambda: listener.message()[0] == b"A")
        send(signal.SIGSTOP, listener.pid)
        assert sender.query("NOTIFY n").kind() == "ok"
        stub.revoke()
        send(signal.SIGCONT, listener.pid)
        answer = listener.collect()
        assert answer.is_lost and answer.notified == 0, answer.notified


def an_ordinary_life_with_a_lease_is_not_disturbed(bench):
    server, _stub = bench.fenced()
    with server.session() as session:
        for name, before, statement, _look in REFUSED:
            if name in ("copy_from", "begin") or "prepare" in name or before.startswith("BEGIN"):
                continue
            if before and not before.startswith(("CREATE PROC", "PREPARE", "CREATE UNL",
                                                 "CREATE SEQ", "CREATE TEMP")):
                session.query(before)
            elif before:
                assert session.query(before).kind() == "ok", name
            answer = session.query(statement)
            assert answer.kind() == "ok", f"{name}: {answer.kind()} {answer.text}"
        big = session.query("SELECT repeat('y', 100000) FROM generate_series(1, 50)")
        assert big.kind() == "ok" and len(big.rows) == 50
        small = session.query("SELECT i, repeat('z', i % 300) FROM generate_series(1, 20000) i")
        assert [r[0] for r in small.rows] == [str(i) for i in range(1, 20001)]
        status = session.value("SHOW ha_fence.status")
        assert "primary: the lease is live; reign 7" in status, status
        for setting in ("ha_fence.lease_file", "ha_fence.reads", "ha_fence.status"):
            answer = session.query(f"SET {setting} = ''")
            assert answer.error == "55P02", f"{setting}: {answer.kind()}"
        function = session.query("CREATE FUNCTION st(OUT a bool, OUT l text, OUT r bigint, "
                                 "OUT m bigint, OUT n bigint, OUT f bigint, OUT c bigint, "
                                 "OUT p text) RETURNS record AS "
                                 f"'{bench.library}', 'ha_fence_status' LANGUAGE C")
        assert function.kind() == "ok", function.text
        found = session.query("SELECT a, l, r FROM st()").rows[0]
        assert found == ["t", "the lease is live", "7"], found


TESTS = [each_kind_of_work_is_refused_and_leaves_nothing,
         the_refusal_names_reign_and_deadline,
         open_reads_are_answered_and_writes_are_not,
         rollback_ends_the_session_without_an_answer,
         expiry_after_the_commit_record_cuts,
         a_procedure_does_not_go_on_after_a_fenced_commit,
         a_cancelled_wait_for_a_standby_is_not_acknowledged,
         cancelled_by_a_superuser_it_is_not_acknowledged,
         cancelled_by_the_end_of_its_session_it_is_not_acknowledged,
         cancelled_by_a_fast_shutdown_it_is_not_acknowledged,
         a_smart_shutdown_waits_and_a_cancel_in_it_is_no_acknowledgement,
         a_statement_timeout_in_the_wait_is_no_acknowledgement,
         asynchronous_commits_are_acknowledged_beside_a_missing_standby,
         a_synchronous_standby_that_confirms_disturbs_nothing,
         a_result_is_not_told_after_expiry,
         a_commit_told_early_by_the_protocol_is_not_confirmed,
         a_long_result_ends_with_the_lease,
         a_client_that_reads_late_hears_only_what_had_left,
         a_parallel_query_gives_no_answer_after_expiry,
         what_has_no_client_writes_nothing_either,
         a_notification_is_not_told_after_expiry,
         an_ordinary_life_with_a_lease_is_not_disturbed]
