"""What must be refused, with a message that tells what to do, and data untouched."""
import os
import subprocess

from scenario import check, labs, scenario


def refuses(lab, node, words, **env):
    """The agent ends by itself, with a status that is not 0 and a message with those words."""
    before = len(node.log_text())
    p = node.start(**env)
    try:
        p.wait(timeout=40)
    except subprocess.TimeoutExpired as e:
        raise labs.LabError(f"{env}: the agent went on") from e
    said = node.log_text()[before:]
    check(p.returncode != 0, f"{env}: exit status 0")
    for word in words:
        check(word in said, f"{env}: the message lacks '{word}': {said[-600:]}")
    check("ecret" not in said, "a secret stands in the log")
    for key in env:
        node.env.pop(key, None)


@scenario
def wrong_environment(run):
    """Each names the variable, what was found and what is allowed; nothing is made."""
    lab = run.cluster(start=False)
    n1 = lab.nodes[0]
    n1.power_on()
    for words, env in (
            (["PRIMARY_IP", "10.79.0.999"], {"PRIMARY_IP": "10.79.0.999"}),
            (["PRIMARY_IP"], {"PRIMARY_IP": ""}),
            (["REPLICAS_IP", "10.79.0.12 is listed twice"],
             {"REPLICAS_IP": "10.79.0.12,10.79.0.12"}),
            (["NODE_IP", "10.79.0.99"], {"NODE_IP": "10.79.0.99"}),
            (["HA_FAILOVER", "sometimes", "auto"], {"HA_FAILOVER": "sometimes"}),
            (["HA_LEASE_MS", "10", "500"], {"HA_LEASE_MS": "10"}),
            (["PORT_DATABASE", "70000"], {"PORT_DATABASE": "70000"}),
            (["POSTGRES_PASSWORD_FILE", "/nowhere"], {"POSTGRES_PASSWORD_FILE": "/nowhere"}),
            (["POSTGRESQL_CONF"], {"POSTGRESQL_CONF": "work_mem"})):
        refuses(lab, n1, words, **env)
    check(not os.path.exists(n1.pgdata), "data were made under a wrong environment")


@scenario
def port_in_use(run):
    """Another process has the agents' port: it is named."""
    lab = run.cluster(start=False)
    n1 = lab.nodes[0]
    n1.power_on()
    hog = subprocess.Popen(
        ["nsenter", "-t", str(n1.init.pid), "-n", "python3", "-c",
         "import socket,sys;s=socket.socket();s.bind(('0.0.0.0',7420));s.listen();print('on',"
         "flush=True);sys.stdin.read()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        check(hog.stdout.readline() == b"on\n", "the port could not be taken")
        refuses(lab, n1, ["7420", "in use"])
    finally:
        hog.kill()
        hog.wait()
        hog.stdin.close()
        hog.stdout.close()


@scenario
def a_wrong_secret_stays_outside(run):
    """A member with another cluster secret never joins; the others do not care."""
    lab = run.cluster(start=False)
    n1, n2, n3 = lab.nodes
    with open(f"{lab.dir}/secrets/other", "w", encoding="ascii") as f:
        f.write("another secret altogether\n")
    n1.start()
    n2.start()
    n3.start(HA_CLUSTER_SECRET_FILE=f"{lab.dir}/secrets/other")
    lab.wait_primary(n1)
    labs.wait_for("n2 to stream", n2.is_streaming)
    labs.wait_for("the stranger to be told why, or to get data",
                  lambda: "HA_CLUSTER_SECRET" in n3.log_text() or os.path.exists(n3.pgdata))
    check(not os.path.exists(n3.pgdata), "the stranger got data")
    n3.stop_agent()
    n3.start(HA_CLUSTER_SECRET_FILE=None)
    lab.wait_healthy()


@scenario
def a_server_without_the_fence_is_not_promoted(run):
    """Another library stands where ha_fence should: the server starts, and never takes a write."""
    lab = run.cluster(nodes=1, start=False)
    n1 = lab.nodes[0]
    place = f"{run.dir}/lib"
    os.makedirs(place)
    os.symlink(f"{os.path.dirname(lab.haagent)}/../../fence/haguard", f"{place}/haguard")
    other = labs.run(f"{labs.BIN}/pg_config", "--pkglibdir").stdout.strip()
    os.symlink(f"{other}/auto_explain.so", f"{place}/ha_fence_{labs.PG_MAJOR}.so")
    n1.start(HA_LIB_DIR=place)
    text = f"ha_fence_{labs.PG_MAJOR}.so is no ha_fence"
    labs.wait_for("the refusal to be told", lambda: text in n1.log_text(), 60)
    check(not n1.is_writable(), "a server without the fence was promoted")
    n1.stop_agent()
    check("rule=331" not in n1.log_text(), "a server without the fence was the primary")
    n1.start(HA_LIB_DIR=None)
    lab.wait_healthy()


@scenario
def another_clusters_data(run):
    """PGDATA of another cluster: exit, a message that tells what to do, data untouched."""
    lab = run.cluster(nodes=3)
    n3 = lab.nodes[2]
    n3.stop_agent()
    labs.shutil.rmtree(n3.pgdata)
    made = n3.exec("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups",
                   f"{labs.BIN}/initdb", "-D", f"{lab.dir}/foreign", check=False)
    if made.returncode != 0:
        os.makedirs(f"{lab.dir}/foreign", exist_ok=True)
        labs.shutil.chown(f"{lab.dir}/foreign", "postgres", "postgres")
        n3.exec("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups",
                f"{labs.BIN}/initdb", "-D", f"{lab.dir}/foreign")
    os.rename(f"{lab.dir}/foreign", n3.pgdata)
    with open(f"{n3.pgdata}/global/pg_control", "rb") as f:
        before = f.read()
    refuses(lab, n3, ["PGDATA", "system", "nothing was touched"])
    with open(f"{n3.pgdata}/global/pg_control", "rb") as f:
        check(f.read() == before, "the foreign data were touched")
    check(lab.primary() is lab.nodes[0], "the cluster was disturbed")


@scenario
def unusable_data_directories(run):
    """Of an unsupported version, owned by somebody else, not writable: told, untouched."""
    lab = run.cluster(nodes=1)
    n1 = lab.nodes[0]
    n1.stop_agent()
    version = f"{n1.pgdata}/PG_VERSION"
    with open(version, "w", encoding="ascii") as f:
        f.write("9.6\n")
    refuses(lab, n1, ["9.6", "13"])
    with open(version, "w", encoding="ascii") as f:
        f.write(f"{labs.PG_MAJOR}\n")
    labs.run("chown", "-R", "daemon", n1.pgdata)
    refuses(lab, n1, ["PGDATA", "chown"])
    labs.run("chown", "-R", "postgres", n1.pgdata)
    os.chmod(n1.pgdata, 0o500)
    refuses(lab, n1, ["PGDATA", "cannot be written", "chmod"])
    os.chmod(n1.pgdata, 0o700)
    n1.exec("mount", "--bind", n1.pgdata, n1.pgdata)
    n1.exec("mount", "-o", "remount,bind,ro", n1.pgdata)
    refuses(lab, n1, ["PGDATA", "cannot be written", "mount"])
    n1.exec("umount", n1.pgdata)
    n1.start()
    lab.wait_primary(n1)


@scenario
def a_second_agent_on_the_volume_waits_then_gives_up(run):
    """Two agents, one volume: the second never touches it, and says who holds it."""
    lab = run.cluster(nodes=1)
    n1 = lab.nodes[0]
    first = n1.agent
    before = len(n1.log_text())
    p = n1.start()
    try:
        p.wait(timeout=120)
    except subprocess.TimeoutExpired as e:
        raise labs.LabError("the second agent neither ran nor gave up") from e
    check(p.returncode != 0 and "lock" in n1.log_text()[before:], "no word about the lock")
    check(first.alive() and n1.is_writable(), "the first one was disturbed")
    n1.agent = first
