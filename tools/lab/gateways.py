"""A cluster with gateways, for ./demo, the tests and the benchmarks: nodes of lab.py, on which
hapool or HAProxy runs instead of an agent; and clients that know a gateway's address alone."""
import json
import os
import subprocess
import sys

import lab as labs

ROOT = labs.ROOT

PCP_USER = "migasfree"
PORT, PCP_PORT = 9999, 9898
# Another Pgpool-II than the machine's, and the folder of its pcp_* tools: their wire differs.
PGPOOL = os.environ.get("HAWSER_PGPOOL", "/usr/sbin/pgpool")
PGPOOL_CONF = os.environ.get("HAWSER_PGPOOL_CONF", "/etc/pgpool2/pgpool.conf"
                             if PGPOOL == "/usr/sbin/pgpool" else "")
PCP_TOOLS = os.environ.get("HAWSER_PCP_TOOLS", "/usr/sbin")
SUPER = "it's a \"$ecret\" p\u00e4ss"
APP = "app's \"$ecret\" p\u00e4ss:word"
PCP = "p:c\\p 'it' \"$x\" \u00f1"


def escaped(password):
    """As a password file has it."""
    return password.replace("\\", "\\\\").replace(":", "\\:")


class Gateway(labs.Node):
    """A node with a Pgpool-II; start() runs hapool."""

    def __init__(self, lab, number):
        super().__init__(lab, 20 + number)
        self.name = f"g{number}"
        self.log = f"{self.dir}/hapool.log"

    def full_env(self):
        lab = self.lab
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root",
               "PRIMARY_IP": lab.primary_ip,
               "REPLICAS_IP": ",".join(n.ip for n in lab.first if n.ip != lab.primary_ip),
               "POSTGRES_PASSWORD_FILE": f"{lab.dir}/secrets/superadmin_pass",
               "PGPOOL_USERS_FILE": f"{lab.dir}/secrets/users",
               "PCP_USER": PCP_USER, "PCP_PASSWORD_FILE": f"{lab.dir}/secrets/pcp_pass",
               "PGPOOL_NUM_INIT_CHILDREN": "16", "HAPOOL_PGPOOL": PGPOOL}
        env.update(self.env)
        return env

    def power_on(self):
        """A home and a network's settings of its own, as a container has them."""
        was_on = self.init and self.init.alive()
        super().power_on()
        if not was_on:
            # As the container's sysctl: Pgpool 4.3 searches through attached servers without end.
            self.exec("sysctl", "-q", "-w", "net.ipv4.tcp_syn_retries=1")
            self.exec("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/root")

    def start(self, **changes):
        agent, self.lab.haagent = self.lab.haagent, self.lab.hapool
        try:
            return super().start(**changes)
        finally:
            self.lab.haagent = agent

    def hapool(self, *args):
        """hapool by hand, with the environment of the one that runs."""
        return self.exec("env", "-i", *[f"{k}={v}" for k, v in self.full_env().items()],
                         self.lab.hapool, *args, check=False)

    def sql(self, text, user=None, seconds=10, check=True, port=PORT):
        try:
            done = self.lab.client(
                "psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", self.ip, "-p",
                str(port), "-U", user or "postgres", "-d", "postgres", "-c", text, check=False,
                env={**os.environ, "PGPASSFILE": f"{self.lab.dir}/secrets/pgpass",
                     "PGCONNECT_TIMEOUT": "3"}, timeout=seconds + 5)
        except subprocess.TimeoutExpired:
            if check:
                raise
            return None
        if done.returncode != 0:
            if check:
                raise labs.LabError(f"{self.name}: {done.stderr.strip()}")
            return None
        return done.stdout.strip()

    def tool(self, name, *args):
        """Pgpool's own tool, called as the manual says."""
        return self.exec(f"{PCP_TOOLS}/pcp_{name}", "-h", "localhost", "-U", PCP_USER, "-w", *args,
                         check=False)

    def nodes(self):
        """{ip: (status, role)} as the real pcp_node_info sees it."""
        found = {}
        for line in self.tool("node_info").stdout.splitlines():
            words = line.split()
            if len(words) > 8:
                found[words[0]] = (words[4], words[6])
        return found

    def is_attached(self, node):
        return self.nodes().get(node.ip, ("?",))[0] in ("up", "waiting")

    def is_right(self):
        """It takes the primary as such, and exactly the streaming standbys are attached."""
        primary = self.lab.primary()
        seen = self.nodes()
        if primary is None or any(n.ip not in seen for n in self.lab.databases):
            return False
        for n in self.lab.databases:
            is_up = seen[n.ip][0] in ("up", "waiting")
            if n is primary and (not is_up or seen[n.ip][1] != "primary"):
                return False
            if n is not primary and is_up != bool(n.init and n.is_streaming()):
                return False
        return True

    def wait_right(self, seconds=60):
        try:
            return labs.wait_for(f"{self.name} to see what is", self.is_right, seconds, every=0.1)
        except labs.LabError as e:
            raise labs.LabError(f"{e}: {self.nodes()}") from None


class HAProxy(labs.Node):
    """A node with the real HAProxy and deploy/haproxy.cfg, its addresses replaced."""

    def __init__(self, lab, number):
        super().__init__(lab, 30 + number)
        self.name = f"h{number}"
        self.log = f"{self.dir}/haproxy.log"

    def start(self, **_changes):
        self.power_on()
        with open(f"{ROOT}/deploy/haproxy.cfg", encoding="utf-8") as f:
            text = f.read()
        for i, n in enumerate(self.lab.databases):
            text = text.replace(f"192.0.2.{11 + i}:", f"{n.ip}:")
        if "192.0.2." in text:
            raise labs.LabError("deploy/haproxy.cfg has servers that the test does not know")
        with open(f"{self.dir}/haproxy.cfg", "w", encoding="utf-8") as f:
            f.write(text)
        with open(self.log, "ab") as log:
            p = subprocess.Popen(
                ["nsenter", "-t", str(self.init.pid), "-m", "-u", "-n", "-p", "haproxy", "-W",
                 "-db", "-f", f"{self.dir}/haproxy.cfg"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.lab.popen.append(p)


class GatewayLab(labs.Lab):
    """`silent`: one more gateway whose PCP port accepts and says nothing, at the client's address.
    """

    def __init__(self, directory, gateways=1, haproxies=0, silent=False, **more):
        super().__init__(directory, **more)
        build = os.environ.get("HAWSER_BUILD", f"{ROOT}/build")
        self.hapool = f"{build}/tools/hapool/hapool"
        self.pcp_ask = f"{build}/tests/gateway/pcp_ask"
        self.traffic_path = f"{build}/tests/lib/traffic"
        self.first = list(self.databases)  # whom the gateways' environment names
        self.gateways = [Gateway(self, i + 1) for i in range(gateways)]
        self.haproxies = [HAProxy(self, i + 1) for i in range(haproxies)]
        self.is_silent = silent
        self.named = [g.ip for g in self.gateways] + ([f"{labs.NET}.1"] if silent else [])
        self.env.update({"PGPOOL_HOSTS": "tasks.pgpool", "PCP_USER": PCP_USER,
                         "PCP_PASSWORD_FILE": f"{self.dir}/secrets/pcp_pass"})

    @property
    def everybody(self):
        return self.nodes + self.gateways + self.haproxies

    def secret(self, name, text):
        path = f"{self.dir}/secrets/{name}"
        with os.fdopen(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w",
                       encoding="utf-8") as f:
            f.write(text)
        os.rename(path + ".new", path)

    def set_passwords(self, app=APP, pcp=PCP):
        self.secret("pcp_pass", pcp + "\n")
        self.secret("users", f"# applications\napp:{app}\n")
        self.secret("pgpass", f"*:*:*:app:{escaped(app)}\n*:*:*:*:{escaped(SUPER)}\n")

    def name_gateways(self, addresses):
        """What the nodes find behind the name tasks.pgpool."""
        with open(f"{self.dir}/hosts", "w", encoding="ascii") as f:  # in place: nodes mount it
            f.write("127.0.0.1 localhost\n" + "".join(f"{a} tasks.pgpool\n" for a in addresses))
        os.chmod(f"{self.dir}/hosts", 0o644)

    def up(self):
        nodes = self.nodes
        os.makedirs(f"{self.dir}/secrets", mode=0o755, exist_ok=True)
        self.name_gateways(self.named)
        self.secret("superadmin_pass", SUPER + "\n")
        self.set_passwords()
        self.nodes = self.everybody  # one switch for all
        try:
            super().up()
        finally:
            self.nodes = nodes
        if self.is_silent:
            self.popen.append(self.listen_silently())

    def listen_silently(self):
        code = ("import socket; s = socket.create_server(('', %d)); print('ready', flush=True)\n"
                "kept = []\nwhile True:\n    kept.append(s.accept())" % PCP_PORT)
        p = subprocess.Popen(["ip", "netns", "exec", f"{self.prefix}-sw", sys.executable, "-c",
                              code], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                             start_new_session=True)
        self.silent_popen = p
        p.stdout.readline()
        return p

    def down(self, purge=False):
        if getattr(self, "silent_popen", None):
            self.silent_popen.kill()
        for g in self.gateways + self.haproxies:
            g.power_off()
        super().down(purge)
        for g in self.gateways + self.haproxies:
            labs.run("ip", "netns", "del", g.ns, check=False)

    def start_gateways(self):
        for g in self.gateways + self.haproxies:
            g.start()
        for g in self.gateways:
            g.wait_right()

    def save(self):
        super().save()
        path = f"{self.dir}/lab.json"
        if os.path.exists(path) and hasattr(self, "gateways"):
            with open(path, encoding="utf-8") as f:
                state = json.load(f)
            state["gateways"] = [
                {"init": [g.init.pid, g.init.started] if g.init else None,
                 "agent": [g.agent.pid, g.agent.started] if g.agent else None}
                for g in self.gateways]
            with open(f"{path}.new", "w", encoding="utf-8") as f:
                json.dump(state, f)
            os.rename(f"{path}.new", path)

    @staticmethod
    def load(directory):
        with open(f"{directory}/lab.json", encoding="utf-8") as f:
            state = json.load(f)
        plain = labs.Lab.load(directory)
        lab = GatewayLab(directory, gateways=len(state["gateways"]), nodes=len(plain.nodes),
                         failover=plain.failover, lease_ms=plain.lease_ms, prefix=plain.prefix,
                         env=plain.env)
        lab.primary_ip = plain.primary_ip
        for n, was in zip(lab.nodes, plain.nodes):
            n.env, n.is_witness, n.init, n.agent = was.env, was.is_witness, was.init, was.agent
        for g, s in zip(lab.gateways, state["gateways"]):
            g.init = labs.Process(*s["init"]) if s["init"] else None
            g.agent = labs.Process(*s["agent"]) if s["agent"] else None
            if g.init and not g.init.alive():
                g.init = g.agent = None
        return lab

    def cut_off(self, node):
        """From everybody, the gateways too; only a client that asks it directly still hears it."""
        self.cut(node, [n for n in self.everybody if n is not node])

    def autopsy(self):
        """What each gateway sees, and where its processes wait: for a scenario that failed."""
        text = [f"hactl gateway: {self.views()}"]
        for g in [g for g in self.gateways if g.init and g.init.alive()]:
            text.append(f"--- {g.name}: {g.nodes()}")
            text.append(g.exec("ss", "-tnpo", check=False).stdout)
            text.append(g.exec("ps", "-eo", "pid,ppid,etimes,stat,wchan:24,args",
                               check=False).stdout)
        return "\n".join(text)

    def views(self):
        """What `hactl gateway` says: (exit status, {address: gateway})."""
        done = self.hactl("gateway", "--json")
        return done.returncode, {g["address"]: g for g in json.loads(done.stdout or "[]")}

    def traffic(self, host, port=PORT, writers=2, readers=2, seconds=900, watch=False):
        return Traffic(self, host, port, writers, readers, seconds, watch)


class Traffic:
    """Clients of one gateway (tests/lib/traffic.c), and what they saw."""
    count = 0

    def __init__(self, lab, host, port, writers, readers, seconds, watch):
        Traffic.count += 1
        self.lab = lab
        self.where = f"{host}:{port}"
        self.path = f"{lab.dir}/traffic-{Traffic.count}.txt"
        words = ["--host", host, "--port", str(port), "--writers", str(writers), "--readers",
                 str(readers), "--first", str(1000 * Traffic.count), "--seconds", str(seconds),
                 "--out", self.path]
        if watch:
            words += ["--watch", ",".join(n.ip for n in lab.databases)]
        self.p = subprocess.Popen(
            ["ip", "netns", "exec", f"{lab.prefix}-sw", lab.traffic_path, *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "PGPASSFILE": f"{lab.dir}/secrets/pgpass"}, start_new_session=True)
        lab.writers.append(self)

    def lines(self, kind, after=0):
        """The lines of that kind whose first time is later, as lists of words."""
        if not os.path.exists(self.path):
            return []
        found = []
        with open(self.path, encoding="ascii") as f:
            for line in f:
                words = line.split()
                if line.endswith("\n") and words[0] == kind and int(words[1]) > after:
                    found.append(words)
        return found

    def acks(self):
        return [labs.Ack(" ".join(w[1:])) for w in self.lines("W")]

    def wait(self, kind, after, seconds=60, host=None):
        """The first such line that was begun after that moment (and came from that server)."""
        def found():
            return [w for w in self.lines(kind, after) if host is None or w[3] == host]
        what = "a write" if kind == "W" else "a read"
        try:
            return labs.wait_for(f"{what} through {self.where}, on {host or 'any server'}",
                                 found, seconds)[0]
        except labs.LabError as e:
            raise labs.LabError(f"{e}; it saw: {self.latest()}") from None

    def latest(self):
        """The last line of each kind and its age: what a failure needs to be understood."""
        now = labs.boottime_ns()
        return "; ".join(f"{' '.join(w[3:])} {kind} {(now - int(w[1])) / 1e6:.0f} ms ago"
                         for kind in "WwRrOC" for w in self.lines(kind)[-1:])

    def gap_ms(self, kind, after):
        """The longest time without an answer of that kind that ended later than that moment."""
        times = sorted(int(w[2]) for w in self.lines(kind))
        return max([(b - a) / 1e6 for a, b in zip(times, times[1:]) if b > after] or [0])

    def stop(self):
        if self.p.poll() is None:
            self.p.terminate()
            self.p.wait(timeout=30)

    def kill(self):
        if self.p.poll() is None:
            self.p.kill()
        self.p.wait(timeout=10)
