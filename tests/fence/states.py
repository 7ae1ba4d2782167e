"""The states of a server and of its lease page.

Goal:   the fence is out of the way where it must be, and closed for every fault of the page.
Method: real servers; pages spoilt byte by byte; each fault has its own text in the refusal.
"""

import os
import shutil
import signal
import subprocess

from bench import (IS_ROOT, PG_BIN, Skip, as_postgres, boot_ns, descendants, is_alive, send,
                   stat_fields, title, wait_for)


def refusal(server):
    """The text of the refusal of a write, or '' when it was taken."""
    with server.session() as session:
        answer = session.query("INSERT INTO t VALUES (1)")
    assert answer.kind() in ("ok", "25006"), answer.kind()
    return answer.text if answer.error else ""


def initdb_and_single_user_mode_need_no_lease(bench):
    server = bench.server()
    server.run("initdb", "-D", server.data, "-A", "trust", "-U", "postgres", "-N",
               "--wal-segsize=1")
    with open(f"{server.data}/postgresql.conf", "a", encoding="utf-8") as file:
        file.write(f"shared_preload_libraries = '{bench.library}'\n"
                   f"ha_fence.lease_file = '{server.lease}'\n")
    done = server.run("postgres", "--single", "-D", server.data, "postgres",
                      input="CREATE TABLE t (i int);\nINSERT INTO t VALUES (1);\n")
    assert "ERROR" not in done.stderr, done.stderr


def pg_upgrade_runs_through_without_a_lease(bench):
    old, new = bench.server("old"), bench.server("new")
    old.initdb()
    new.run("initdb", "-D", new.data, "-A", "trust", "-U", "postgres", "-N", "--wal-segsize=1",
            "-k")
    for server in (old, new):
        with open(f"{server.data}/postgresql.conf", "a", encoding="utf-8") as file:
            file.write(f"shared_preload_libraries = '{bench.library}'\nfsync = off\n"
                       f"ha_fence.lease_file = '{server.lease}'\n")
    done = subprocess.run([f"{PG_BIN}/pg_upgrade", "-b", PG_BIN, "-B", PG_BIN, "-d", old.data,
                           "-D", new.data, "-U", "postgres", "-s", new.root], cwd=new.root,
                          text=True, capture_output=True, **as_postgres())
    assert done.returncode == 0, done.stdout[-1500:]


def make_standby(server):
    with open(f"{server.data}/standby.signal", "w", encoding="utf-8"):
        pass


def a_standby_needs_no_lease_and_a_promotion_by_hand_is_closed(bench):
    server = bench.server()
    server.initdb()
    make_standby(server)
    server.start()
    server.stop_worker()
    with server.session() as old:
        assert old.value("SELECT pg_is_in_recovery()") == "t"
        assert old.value("SHOW ha_fence.status").startswith("not active")
        # The last thing that is answered; what follows is a primary without a lease.
        old.start("SELECT pg_promote(true, 20)")
        old.collect()
        wait_for("the refusal", lambda: "lease" in refusal_of(server, "SELECT 1"))
    with server.session() as fresh:
        assert fresh.query("CREATE TABLE t (i int)").error == "25006"
    stub = bench.stub(server)
    stub.hold()
    wait_for("the lease to be found", lambda: not refusal_of(server, "SELECT 1"))
    server.sql("CREATE TABLE t (i int)")


def refusal_of(server, sql):
    with server.session() as session:
        answer = session.query(sql)
        return answer.text if answer.error else ("lost" if answer.is_lost else "")


def a_promotion_with_a_lease_opens_at_once(bench):
    server = bench.server()
    server.initdb()
    make_standby(server)
    server.start()
    with server.session() as agent:
        stub = bench.stub(server)
        stub.hold()
        assert agent.value("SELECT pg_promote(true, 20)") == "t"
        assert agent.query("CREATE TABLE t (i int); INSERT INTO t VALUES (1)").kind() == "ok"


def who_looked_before_the_page_came_is_answered_right_after_a_promotion(bench):
    """The agent watches its standby by one session, makes the page, and promotes: all at once."""
    server = bench.server()
    server.initdb()
    make_standby(server)
    server.start()
    with server.session() as agent, server.session() as other:
        assert "no lease file" in agent.value("SHOW ha_fence.status")
        bench.stub(server).hold()
        other.start("SELECT pg_promote(true, 20)")

        def is_primary():
            answer = agent.query("SELECT pg_is_in_recovery(), current_setting('ha_fence.status')")
            assert answer.kind() == "ok", answer.text
            return answer.rows[0][0] == "f"
        wait_for("the promotion", is_primary)
        assert other.collect().kind() == "ok"


def a_server_without_a_page_starts_and_is_closed_until_one_comes(bench):
    server = bench.server()
    server.initdb()
    server.start()  # with its worker: without a live lease ever seen, it must not end the server
    assert "no lease file" in refusal_of(server, "SELECT 1")
    stub = bench.stub(server)
    stub.hold()
    wait_for("the page to be found", lambda: not refusal_of(server, "SELECT 1"))
    stub.revoke()
    server.ends()
    assert "PANIC" not in server.read_log()


def spoil(path, offset, data):
    """A copy under a new inode, spoilt, then renamed: as an intruder or an accident would."""
    shutil.copy(path, path + ".bad")
    with open(path + ".bad", "r+b") as file:
        file.seek(offset)
        file.write(data)
    os.chmod(path + ".bad", 0o644)
    os.rename(path + ".bad", path)


def each_fault_of_the_page_closes_and_names_itself(bench):
    faults = {
        "bad magic": lambda p: spoil(p, 0, b"x"),
        "another version": lambda p: spoil(p, 8, b"\x07"),
        "another boot": lambda p: spoil(p, 16, b"zz"),
        "another time namespace": lambda p: spoil(p, 56, b"\x01\x02\x03"),
        "names no reign": lambda p: spoil(p, 64, bytes(8)),
        "wrong size": lambda p: spoil(p, 192, b"x"),
        "others than its owner": lambda p: os.chmod(p, 0o664),
        "no regular file": lambda p: (os.rename(p, p + ".real"), os.symlink(p + ".real", p)),
        "no lease file": os.unlink,
    }
    if IS_ROOT:
        faults["cannot be read"] = lambda p: (os.chown(p, 0, 0), os.chmod(p, 0o600))
    server = bench.server()
    server.initdb()
    for text, spoil_it in faults.items():
        stub = bench.stub(server)
        stub.hold()
        spoil_it(server.lease)
        server.start()
        found = refusal_of(server, "SELECT 1")
        assert text in found, f"{text}: {found!r}"
        server.stop()
        stub.close()
        for left in (server.lease, server.lease + ".real"):
            if os.path.lexists(left):
                os.unlink(left)


def a_page_of_another_time_namespace_is_refused(bench):
    if not IS_ROOT:
        raise Skip("needs root")
    server = bench.server()
    server.initdb()
    probe = subprocess.run(["unshare", "-T", "--boottime", "1000", "true"], capture_output=True)
    if probe.returncode != 0:
        raise Skip("no time namespaces here")
    holder = subprocess.Popen(
        ["unshare", "-T", "--boottime", "1000", "--", f"{bench.build}/tests/fence/lease_stub",
         server.lease, "7", "60000", "20"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    bench.things.append(lambda: (holder.kill(), holder.wait()))
    holder.stdout.readline()
    server.start()
    assert "another time namespace" in refusal_of(server, "SELECT 1")


def an_unlinked_page_serves_until_its_deadline_then_a_new_one(bench):
    server, stub = bench.fenced()
    stub.hold(4000)
    until = stub.deadline_ns()
    os.unlink(server.lease)
    assert refusal(server) == ""
    with server.session() as session:
        wait_for("the expiry", lambda: session.query("INSERT INTO t VALUES (1)").kind() != "ok")
    assert boot_ns() >= until
    again = bench.stub(server)
    again.hold()
    wait_for("the new page", lambda: refusal(server) == "")


def a_server_obeys_one_reign_only(bench):
    server, stub = bench.fenced()
    stub.revoke()
    other = bench.stub(server, reign=8)
    other.hold()
    found = wait_for("the other page to be seen", lambda: (
        lambda text: text if "another reign" in text else "")(refusal(server)))
    assert "reign 8" in found, found
    server.stop()
    server.start()
    assert refusal(server) == ""


def a_truncated_page_ends_the_backends_not_the_fence(bench):
    server, stub = bench.fenced()
    os.truncate(server.lease, 0)
    with server.session() as session:
        answer = session.query("INSERT INTO t VALUES (1)")
    assert answer.kind() == "lost", answer.kind()
    wait_for("the end or a restart",
             lambda: not server.all_pids() or "signal 7" in server.read_log())
    assert stub.process.poll() is None


def the_pgxs_makefile_builds_a_module_that_fences(bench):
    if not shutil.which("make"):
        raise Skip("no make here")
    shutil.copytree("fence", f"{bench.dir}/src/fence")
    done = subprocess.run(["make", "-C", f"{bench.dir}/src/fence/ha_fence", "with_llvm=no",
                           f"PG_CONFIG={PG_BIN}/pg_config", "USE_PGXS=1"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1500:]
    assert os.path.exists(f"{bench.dir}/src/fence/ha_fence/ha_fence.control")
    bench.library = f"{bench.dir}/src/fence/ha_fence/ha_fence.so"
    server, stub = bench.fenced()
    assert refusal(server) == ""
    stub.revoke()
    assert "revoked" in refusal(server)


def pg_rewind_recovers_a_crashed_server_without_a_lease(bench):
    """It starts the server in single-user mode, with the module in postgresql.conf."""
    server, stub = bench.fenced()
    source = bench.server("source")
    server.sql("CHECKPOINT")
    server.stop()
    subprocess.run(["cp", "-a", server.data, source.data], check=True)
    source.start(library=False)
    source.sql("CREATE TABLE more (i int)")
    source.process.send_signal(signal.SIGINT)
    source.process.wait(60)
    stub.revoke()
    with open(f"{server.data}/postgresql.conf", "a", encoding="utf-8") as file:
        file.write(f"shared_preload_libraries = '{bench.library}'\n"
                   f"ha_fence.lease_file = '{server.lease}'\n")
    assert "in production" in server.run("pg_controldata", server.data).stdout
    done = server.run("pg_rewind", f"--target-pgdata={server.data}",
                      f"--source-pgdata={source.data}")
    assert "shut down" in server.run("pg_controldata", server.data).stdout, done.stderr


def a_missing_library_prevents_the_start(bench):
    server = bench.server()
    server.initdb()
    done = subprocess.run(server.command(shared_preload_libraries="/nowhere/ha_fence"),
                          capture_output=True, text=True, **as_postgres())
    assert done.returncode != 0 and "could not access file" in done.stderr, done.stderr


def alter_system_does_not_move_the_lease_file(bench):
    server, stub = bench.fenced(**{"ha_fence.reads": "off"})
    forged = bench.dir + "/forged"
    server.sql(f"ALTER SYSTEM SET ha_fence.lease_file = '{forged}'")
    server.sql("ALTER SYSTEM SET ha_fence.reads = on")
    server.stop()
    stub.hold()
    server.start(**{"ha_fence.reads": "off"})
    assert server.sql("SHOW ha_fence.lease_file") == server.lease
    assert server.sql("SHOW ha_fence.reads") == "off"


def the_worker_ends_the_server_at_expiry(bench):
    server = bench.server()
    server.initdb()
    stub = bench.stub(server)
    stub.hold()
    server.start()
    with server.session() as session:
        session.query("SELECT 1")
        session.start("SELECT pg_sleep(600)")
        wait_for("the sleep", lambda: title(session.pid).endswith("SELECT"))
        stub.hold(300)
        server.ends()
        assert session.collect().is_lost
    assert "PANIC" not in server.read_log()


def the_worker_comes_back_when_terminated(bench):
    server = bench.server()
    server.initdb()
    stub = bench.stub(server)
    stub.hold()
    server.start()
    server.use_lease()
    first = server.workers()
    send(signal.SIGTERM, *first)
    # None at all for a second: between the two lists there is an empty one.
    wait_for("another worker", lambda: server.workers() not in ([], first))
    stub.revoke()
    server.ends()


def the_worker_kills_when_the_postmaster_is_stopped(bench):
    server = bench.server()
    server.initdb()
    stub = bench.stub(server)
    stub.hold()
    server.start()
    server.use_lease()
    pids = server.all_pids()
    send(signal.SIGSTOP, server.pid)
    stub.revoke()
    server.ends()
    assert not any(is_alive(p) for p in pids)


# How a walsender of each kind is asked for its stream.
SENDERS = {
    "physical": ("true", "pg_create_physical_replication_slot('s', true)",
                 "START_REPLICATION SLOT s PHYSICAL {start} TIMELINE 1"),
    "logical": ("database", "pg_create_logical_replication_slot('s', 'pgoutput')",
                "START_REPLICATION SLOT s LOGICAL 0/0 "
                "(proto_version '1', publication_names 'p')"),
}


def streaming(server, kind):
    """A session that receives what is written from now on; one row has come through."""
    replication, slot, start = SENDERS[kind]
    server.sql("CREATE PUBLICATION p FOR TABLE t")
    server.sql(f"SELECT {slot}")
    at = server.sql("SELECT pg_current_wal_lsn()")
    receiver = server.session(replication=replication)
    receiver.start(start.format(start=at))
    assert receiver.message()[0] == b"W", kind
    server.sql("INSERT INTO t VALUES (1)")
    wait_for("the row", lambda: is_shipped(receiver.message()[1]))
    return receiver


def is_shipped(body):
    """WAL, or a change; not a keepalive."""
    return body[:1] == b"w"


def stop_sending(receiver):
    """The walsender stops, and what had left it is read."""
    send(signal.SIGSTOP, receiver.pid)
    wait_for("the stop", lambda: stat_fields(receiver.pid)[0] == "T")
    while receiver.received() or receiver.buffer:
        receiver.message()


def expire(stub):
    stub.hold(50)
    wait_for("the deadline", lambda: boot_ns() > stub.deadline_ns())


def no_walsender_ships_anything_without_a_lease(bench):
    """Neither the one that streamed, nor a new one; also where reads are open on purpose."""
    ends = {"revoked": ("off", lambda stub: stub.revoke()), "expired": ("on", expire)}
    for kind, (replication, _slot, start) in SENDERS.items():
        for end, (reads, take) in ends.items():
            label = f"{kind}, {end}"
            server, stub = bench.fenced(f"{kind}-{end}", **{"ha_fence.reads": reads})
            with streaming(server, kind) as receiver:
                stop_sending(receiver)
                server.sql("INSERT INTO t VALUES (2)")
                take(stub)
                send(signal.SIGCONT, receiver.pid)
                answer = receiver.collect()
            shipped = [d for d in answer.rows if is_shipped(d)]
            assert answer.is_lost and not shipped, f"{label}: {shipped}"
            wait_for("the walsender's end", lambda: not is_alive(receiver.pid))
            for sql in ("IDENTIFY_SYSTEM", start.format(start="0/1000000")):
                with server.session(replication=replication) as again:
                    answer = again.query(sql)
                    assert answer.kind() != "ok" and not answer.rows, f"{label}: {sql}"
            assert "PANIC" not in server.read_log(), label
            server.stop()


def a_walsender_that_has_nothing_to_send_is_cut_as_well(bench):
    """With its next keepalive: a standby must not take the silence of a stale primary for peace."""
    for kind in SENDERS:
        server, stub = bench.fenced(kind, wal_sender_timeout="4s")
        with streaming(server, kind) as receiver:
            stub.revoke()
            assert receiver.collect().is_lost, kind
        # The client is cut first, and the log told then.
        wait_for(f"{kind}: the log to say that it was cut",
                 lambda s=server: "connection cut without an acknowledgement" in s.read_log())
        log = server.read_log()
        assert "terminating walsender process due to replication timeout" not in log, kind
        server.stop()


def a_clean_shutdown_under_a_lease_ships_its_last_record(bench):
    """During a switchover the lease stays until the server has stopped."""
    server = bench.server()
    server.initdb()
    bench.stub(server)
    server.start()
    server.sql("SELECT pg_create_physical_replication_slot('s', true)")
    start = server.sql("SELECT pg_current_wal_lsn()")
    with server.session(replication="true") as standby:
        standby.start(f"START_REPLICATION SLOT s PHYSICAL {start} TIMELINE 1")
        assert standby.message()[0] == b"W"
        send(signal.SIGINT, server.pid)
        received = 0
        while True:
            kind, body = standby.message()
            if kind != b"d":
                break
            if body[:1] == b"w":
                received = int.from_bytes(body[1:9], "big") + len(body) - 25
            # Confirm, or the server waits for us: r, write, flush, apply, clock, no reply.
            where = received.to_bytes(8, "big")
            standby.send(b"d", b"r" + where * 3 + bytes(8) + b"\0")
    server.process.wait(60)
    control = server.run("pg_controldata", server.data).stdout
    line = [l for l in control.splitlines() if l.startswith("Latest checkpoint location")][0]
    high, low = line.split()[-1].split("/")
    assert "shut down" in control and received > (int(high, 16) << 32) + int(low, 16), control


TESTS = [initdb_and_single_user_mode_need_no_lease,
         pg_upgrade_runs_through_without_a_lease,
         a_standby_needs_no_lease_and_a_promotion_by_hand_is_closed,
         a_promotion_with_a_lease_opens_at_once,
         who_looked_before_the_page_came_is_answered_right_after_a_promotion,
         a_server_without_a_page_starts_and_is_closed_until_one_comes,
         each_fault_of_the_page_closes_and_names_itself,
         a_page_of_another_time_namespace_is_refused,
         an_unlinked_page_serves_until_its_deadline_then_a_new_one,
         a_server_obeys_one_reign_only,
         a_truncated_page_ends_the_backends_not_the_fence,
         the_pgxs_makefile_builds_a_module_that_fences,
         pg_rewind_recovers_a_crashed_server_without_a_lease,
         a_missing_library_prevents_the_start,
         alter_system_does_not_move_the_lease_file,
         the_worker_ends_the_server_at_expiry,
         the_worker_comes_back_when_terminated,
         the_worker_kills_when_the_postmaster_is_stopped,
         no_walsender_ships_anything_without_a_lease,
         a_walsender_that_has_nothing_to_send_is_cut_as_well,
         a_clean_shutdown_under_a_lease_ships_its_last_record]
