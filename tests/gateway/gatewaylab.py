"""A cluster with gateways: nodes of tools/lab/lab.py, on which hapool runs instead of an agent."""
import os
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, f"{ROOT}/tools/lab")
sys.path.insert(0, f"{ROOT}/tests/integration")
import lab as labs  # noqa: E402

PCP_USER = "migasfree"
PORT, PCP_PORT = 9999, 9898


class Gateway(labs.Node):
    """A node with a Pgpool-II; start() runs hapool."""

    def __init__(self, lab, number):
        super().__init__(lab, 20 + number)
        self.name = f"g{number}"
        self.log = f"{self.dir}/hapool.log"

    def full_env(self):
        lab = self.lab
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/run",
               "PRIMARY_IP": lab.primary_ip,
               "REPLICAS_IP": ",".join(n.ip for n in lab.databases if n.ip != lab.primary_ip),
               "POSTGRES_PASSWORD_FILE": f"{lab.dir}/secrets/superadmin_pass",
               "PGPOOL_USERS_FILE": f"{lab.dir}/secrets/users",
               "PCP_USER": PCP_USER, "PCP_PASSWORD_FILE": f"{lab.dir}/secrets/pcp_pass",
               "PGPOOL_NUM_INIT_CHILDREN": "16"}
        env.update(self.env)
        return env

    def start(self, **changes):
        agent, self.lab.haagent = self.lab.haagent, self.lab.hapool
        try:
            return super().start(**changes)
        finally:
            self.lab.haagent = agent

    def sql(self, text, user=None, seconds=10, check=True):
        done = self.lab.client(
            "psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", self.ip, "-p",
            str(PORT), "-U", user or "postgres", "-d", "postgres", "-c", text, check=False,
            env={**os.environ, "PGPASSFILE": f"{self.lab.dir}/secrets/pgpass",
                 "PGCONNECT_TIMEOUT": "3"}, timeout=seconds + 5)
        if done.returncode != 0:
            if check:
                raise labs.LabError(f"{self.name}: {done.stderr.strip()}")
            return None
        return done.stdout.strip()

    def nodes(self):
        """{ip: (status, role)} as the real pcp_node_info sees it, called as the manual says. The
        tool looks for .pcppass in the home of the user database, which a lab's node shares with
        the machine: hence the variable."""
        done = self.exec("env", "PCPPASSFILE=/run/hapool/pcppass", "pcp_node_info", "-h",
                         "localhost", "-U", PCP_USER, "-w", check=False)
        found = {}
        for line in done.stdout.splitlines():
            words = line.split()
            if len(words) > 8:
                found[words[0]] = (words[4], words[6])
        return found

    def is_right(self):
        """It takes the primary as such, and exactly the streaming standbys are attached."""
        primary = self.lab.primary()
        seen = self.nodes()
        if primary is None or len(seen) != len(self.lab.databases):
            return False
        for n in self.lab.databases:
            is_up = seen[n.ip][0] in ("up", "waiting")
            if n is primary and (not is_up or seen[n.ip][1] != "primary"):
                return False
            if n is not primary and is_up != bool(n.init and n.is_streaming()):
                return False
        return True

    def wait_right(self, seconds=30):
        try:
            return labs.wait_for(f"{self.name} to see what is", self.is_right, seconds, every=0.1)
        except labs.LabError as e:
            raise labs.LabError(f"{e}: {self.nodes()}") from None


class GatewayLab(labs.Lab):
    def __init__(self, directory, gateways=1, prefix="hwg", **more):
        super().__init__(directory, prefix=prefix, **more)
        build = os.environ.get("HAWSER_BUILD", f"{ROOT}/build")
        self.hapool = f"{build}/tools/hapool/hapool"
        self.pcp_ask = f"{build}/tests/gateway/pcp_ask"
        self.gateways = [Gateway(self, i + 1) for i in range(gateways)]
        self.env.update({"PGPOOL_HOSTS": ",".join(g.ip for g in self.gateways),
                         "PCP_USER": PCP_USER,
                         "PCP_PASSWORD_FILE": f"{self.dir}/secrets/pcp_pass"})

    def up(self):
        everybody = self.nodes
        os.makedirs(f"{self.dir}/secrets", mode=0o755, exist_ok=True)
        for name, text in (("pcp_pass", "p:c\\p 'it' \"$x\" \u00f1\n"),
                           ("users", "# applications\napp:app's \"$ecret\" p\u00e4ss:word\n"),
                           ("superadmin_pass", "it's a \"$ecret\" p\u00e4ss\n"),
                           ("pgpass", "*:*:*:app:app's \"$ecret\" p\u00e4ss\\:word\n"
                                      "*:*:*:*:it's a \"$ecret\" p\u00e4ss\n")):
            with os.fdopen(os.open(f"{self.dir}/secrets/{name}", os.O_WRONLY | os.O_CREAT, 0o600),
                           "w", encoding="utf-8") as f:
                f.write(text)
        self.nodes = everybody + self.gateways  # one switch for all
        try:
            super().up()
        finally:
            self.nodes = everybody

    def down(self, purge=False):
        for g in self.gateways:
            g.power_off()
        super().down(purge)
        for g in self.gateways:
            labs.run("ip", "netns", "del", g.ns, check=False)

    def start_gateways(self):
        for g in self.gateways:
            g.start()
        for g in self.gateways:
            g.wait_right(60)


class Clients:
    """One writer and one reader through a gateway, a new connection per statement."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.is_on = True
        self.writes = []  # (when it was acknowledged, seq)
        self.reads = []
        self.wrong = []  # writes that reached a server in recovery, reads of nobody
        self.threads = [threading.Thread(target=self.write), threading.Thread(target=self.read)]
        for t in self.threads:
            t.start()

    def write(self):
        seq = 0
        while self.is_on:
            seq += 1
            if self.gateway.sql(f"INSERT INTO through VALUES ({seq})", check=False) is not None:
                self.writes.append((time.monotonic(), seq))
            else:
                time.sleep(0.02)

    def read(self):
        while self.is_on:
            if self.gateway.sql("SELECT 1", check=False) is not None:
                self.reads.append(time.monotonic())
            else:
                time.sleep(0.02)

    def wait_write(self, after, seconds=60):
        return labs.wait_for("a write through the gateway",
                             lambda: [w for w in self.writes if w[0] > after], seconds)[0]

    def stop(self):
        self.is_on = False
        for t in self.threads:
            t.join(30)
