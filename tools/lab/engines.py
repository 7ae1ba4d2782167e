"""Real Docker engines on one machine, joined into a Swarm, for tests/swarm.

Each node is a set of namespaces (network, PID, mount, UTS, IPC) with an engine of
its own in it: its containerd, its data root, its control groups. The nodes hang on
one virtual switch in a network namespace of its own; nothing leads out of it, and
the host's network and firewall are not touched. Killing PID 1 of a node is a power
loss: the kernel kills engine and containers, and takes the mounts along.

A builder is one more engine, in the host's network, for `docker build`. It sets no
firewall rules, so a build names --network host.

Needs root and docker.io, iproute2, nftables, iptables, util-linux; debootstrap for
the base image. Everything carries the prefix of its run, and dies with it even when
it is killed; sweep() removes what a killed run left on the disk.
"""
import contextlib
import fcntl
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import time

from lab import LabError, Process, children, own_prefix, run, start_time, wait_for

NET = "10.78.0"
ROOM = "/var/tmp"  # a short path: the engines' sockets lie below it
CACHE = os.environ.get("HAWSER_CACHE", "/var/cache/hawser")
MARK = "hwe-"
MEMORY_GB = 10  # with as much free, the nodes' disks lie in memory: images load in half the time
WEIGHT = 16  # processes of the host that the engines' containers count as, together
BUILD_DOCKER = "/usr/bin/docker"  # of docker.io: it drives the engine's own BuildKit

# PID 1 of a node: /proc and /run as after a boot, then the engine; it reaps orphans as well.
INIT = """
mount --make-rprivate / && mount -t proc proc /proc && mount -t tmpfs -o mode=755 tmpfs /run &&
hostname "$1" || exit 1
echo "--- boot of $1"
trap 'kill -TERM "$engine"' TERM
dockerd --data-root "$2/data" --host "unix://$2/docker.sock" --cgroup-parent "$3" \
    --storage-driver overlay2 $4 &
engine=$!
wait "$engine" || wait "$engine"
"""

TABLE = """
table bridge lab {
    set cut { type ifname; }
    set pair { type ifname . ifname; }
    chain forward {
        type filter hook forward priority 0;
        iifname @cut drop
        oifname @cut drop
        iifname . oifname @pair drop
    }
    chain input { type filter hook input priority 0; iifname @cut drop; }
    chain output { type filter hook output priority 0; oifname @cut drop; }
}
"""


class NoEngine(LabError):
    """This machine starts no engine, whatever we do."""


def missing():
    """Why no engine can be started here, or None."""
    if os.geteuid() != 0:
        return "it needs root: engines are started in namespaces"
    for tool in ("dockerd", "docker", BUILD_DOCKER, "containerd", "nsenter", "unshare", "nft",
                 "iptables", "ip", "curl", "debootstrap", "setpriv"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    return None


def start(*what):
    """Builder and engines: where they do not start, it is the machine that cannot."""
    for each in what:
        try:
            each.up()
        except (LabError, OSError, subprocess.SubprocessError) as e:
            raise NoEngine(f"no engine starts here: {e}") from e


def want_container(host, image):
    """An engine may start and yet run nothing: not even Debian's `true`, whatever the image."""
    done = docker(host, "run", "--rm", "--network", "none", "--entrypoint", "/bin/true", image,
                  check=False)
    if done.returncode != 0:
        raise NoEngine(f"no container starts here: {done.stderr.strip()}")


def docker(host, *args, check=True, seconds=120, **more):
    env = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")}
    env.update(more.pop("env", {}))
    try:
        return run("docker", *args, check=check, timeout=seconds,
                   env={**env, "DOCKER_HOST": f"unix://{host}/docker.sock"}, **more)
    except subprocess.TimeoutExpired as e:
        silence = f"docker {' '.join(args)}: no answer after {seconds} s"
        if check:
            raise LabError(silence) from e
        return subprocess.CompletedProcess(e.cmd, 124, "", silence)


def die_with_us(command, log, **more):
    """A process in a session of its own that the kernel kills when this program dies."""
    return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command],
                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                            start_new_session=True, **more)


def weigh_cgroup(name):
    """Gives a group of machines the weight of so many processes. Without it, all that runs in
    containers shares what one process of the host gets, and starves beside any other work."""
    for path, file, weight in (("/sys/fs/cgroup/cpu", "cpu.shares", 1024 * WEIGHT),
                               ("/sys/fs/cgroup", "cpu.weight", 100 * WEIGHT)):
        with contextlib.suppress(OSError):  # a kernel has one or the other
            if os.path.exists(f"{path}/{file}" if path.endswith("cpu") else
                              "/sys/fs/cgroup/cgroup.subtree_control"):
                os.makedirs(f"{path}/{name}", exist_ok=True)
                with open(f"{path}/{name}/{file}", "w", encoding="ascii") as f:
                    f.write(str(weight))


def remove_cgroups(name):
    """The control groups of a killed engine; in every hierarchy."""
    def is_gone():
        left = []
        for base, dirs, _ in os.walk("/sys/fs/cgroup", topdown=False):
            if f"/{name}/" in base + "/":
                with contextlib.suppress(OSError):
                    os.rmdir(base)
                left += [base] if os.path.isdir(base) else []
            del dirs
        return not left
    wait_for("the control groups to go", is_gone, 20, every=0.2)


def has_memory():
    with open("/proc/meminfo", encoding="ascii") as f:
        free = next(int(x.split()[1]) for x in f if x.startswith("MemAvailable:"))
    return free > MEMORY_GB << 20


class Node:
    def __init__(self, lab, number):
        self.lab = lab
        self.name = f"n{number}"
        self.ip = f"{NET}.{10 + number}"
        self.ns = f"{lab.prefix}-{self.name}"
        self.port = f"{lab.prefix}q{number}"
        self.dir = f"{lab.dir}/{self.name}"
        self.init = None
        self.outer = None

    def docker(self, *args, **more):
        return docker(self.dir, *args, **more)

    def is_on(self):
        return self.init is not None and self.init.alive()

    def answers(self):
        return self.docker("version", check=False, seconds=20).returncode == 0

    def cable(self):
        sw = self.lab.switch
        run("ip", "netns", "add", self.ns)
        run("ip", "link", "add", self.port, "netns", sw, "type", "veth", "peer", "name", "eth0",
            "netns", self.ns)
        run("ip", "-n", sw, "link", "set", self.port, "master", "br0", "up")
        run("ip", "-n", self.ns, "link", "set", "lo", "up")
        run("ip", "-n", self.ns, "addr", "add", f"{self.ip}/24", "dev", "eth0")
        run("ip", "-n", self.ns, "link", "set", "eth0", "up")

    def make_disk(self):
        if not os.path.exists(f"{self.dir}/data"):
            os.makedirs(f"{self.dir}/data")
            if self.lab.is_in_memory:
                run("mount", "-t", "tmpfs", "-o", "mode=711", "tmpfs", f"{self.dir}/data")

    def boot(self):
        """Power on; power_on() also waits for the engine."""
        if self.is_on():
            return
        self.make_disk()
        if not os.path.exists(f"/run/netns/{self.ns}"):
            self.cable()
        with open(f"{self.dir}/log", "ab") as log:
            # Not `ip netns exec`: that hides the hierarchies of control groups.
            self.outer = die_with_us(
                ["nsenter", f"--net=/run/netns/{self.ns}", "unshare", "--mount", "--uts", "--ipc",
                 "--pid", "--fork", "--kill-child=SIGKILL", "bash", "-c", INIT, "engine",
                 self.name, self.dir, f"/{self.lab.prefix}/{self.name}", self.lab.engine_args],
                log)
        inner = wait_for(f"{self.name} to boot", lambda: children(self.outer.pid), 30)
        self.init = Process(inner[0])

    def power_on(self):
        self.boot()
        wait_for(f"the engine of {self.name}", self.answers, 120, every=0.2)

    def power_off(self):
        """The plug is pulled: not even a TCP reset gets out."""
        if self.init is None:
            return
        self.lab.cut(self)
        self.init.kill()
        self.clean_up(60)
        self.lab.heal(self)

    def shut_down(self):
        """The engine is told to end, as by a restart of its service: it stops its containers."""
        self.init.kill(signal.SIGTERM)
        self.clean_up(180)

    def clean_up(self, seconds):
        """Waits for the end of PID 1; what it leaves behind goes."""
        self.outer.wait(timeout=seconds)
        wait_for(f"{self.name} to be off", lambda: not self.init.alive(), 60)
        self.init = None
        for path in ("docker.sock", "docker.pid"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.dir}/{path}")
        run("ip", "-n", self.lab.switch, "link", "del", self.port, check=False)
        run("ip", "netns", "del", self.ns, check=False)
        remove_cgroups(f"{self.lab.prefix}/{self.name}")

    def reinstall(self):
        """The same machine with an empty disk."""
        self.power_off()
        self.remove_disk()

    def remove_disk(self):
        run("umount", "--lazy", f"{self.dir}/data", check=False)
        shutil.rmtree(f"{self.dir}/data", ignore_errors=True)

    def exec(self, *args, check=True, **more):
        return run("nsenter", "--target", str(self.init.pid), "--mount", "--uts", "--ipc", "--net",
                   "--pid", *args, check=check, **more)

    def swarm_state(self):
        return self.docker("info", "--format", "{{.Swarm.LocalNodeState}}").stdout.strip()

    def memory_kb(self, pids):
        total = 0
        for pid in pids:
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
                    total += sum(int(x.split()[1]) for x in f if x.startswith("Pss:"))
        return total


class Engines:
    """N nodes on a switch; the first `managers` of them manage the Swarm."""

    def __init__(self, nodes=3, managers=3, prefix=None, engine_args=""):
        self.prefix = prefix or own_prefix()
        self.dir = f"{ROOM}/{MARK}{self.prefix}"
        self.switch = f"{self.prefix}-qs"
        self.engine_args = engine_args
        self.is_in_memory = has_memory()
        self.managers = managers
        self.nodes = [Node(self, i + 1) for i in range(nodes)]

    def up(self):
        """Switch and first node; up_others() starts the rest."""
        os.makedirs(self.dir)
        with open(f"{self.dir}/owner.json", "w", encoding="ascii") as f:
            json.dump({"pid": os.getpid(), "started": start_time(os.getpid()),
                       "prefix": self.prefix}, f)
        run("ip", "netns", "add", self.switch)
        run("ip", "-n", self.switch, "link", "set", "lo", "up")
        run("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
        run("ip", "-n", self.switch, "addr", "add", f"{NET}.1/24", "dev", "br0")
        run("ip", "-n", self.switch, "link", "set", "br0", "up")
        run("ip", "netns", "exec", self.switch, "nft", "-f", "-", input=TABLE)
        weigh_cgroup(self.prefix)
        self.nodes[0].power_on()

    def up_others(self):
        """The rest, with the images that the first one has: to copy takes a tenth of to load."""
        for n in self.nodes[1:]:
            n.make_disk()
            for part in ("image", "overlay2"):
                run("cp", "-a", f"{self.nodes[0].dir}/data/{part}", f"{n.dir}/data/", timeout=400)
            n.boot()
        for n in self.nodes:
            n.power_on()

    def join(self, node):
        """Into the Swarm; the first one makes it."""
        first = self.nodes[0]
        if node is first:
            node.docker("swarm", "init", "--advertise-addr", node.ip)
            return
        role = "manager" if self.nodes.index(node) < self.managers else "worker"
        token = self.manager().docker("swarm", "join-token", "-q", role).stdout.strip()
        node.docker("swarm", "join", "--advertise-addr", node.ip, "--token", token,
                    f"{self.manager().ip}:2377")

    def form(self):
        for n in self.nodes:
            self.join(n)

    def manager(self):
        """A node whose engine manages and answers."""
        for n in self.nodes:
            if n.is_on() and n.docker("node", "ls", check=False, seconds=20).returncode == 0:
                return n
        raise LabError("no manager answers")

    def add_node(self):
        node = Node(self, len(self.nodes) + 1)
        self.nodes.append(node)
        node.power_on()
        return node

    def client(self, *args, check=True, **more):
        """On the switch: neither node nor gateway."""
        return run("ip", "netns", "exec", self.switch, *args, check=check, **more)

    # ---- cables ----

    def nft(self, verb, which, what):
        run("ip", "netns", "exec", self.switch, "nft", verb, "element", "bridge", "lab", which,
            f"{{ {what} }}", check=verb == "add")

    def cut(self, node, peer=None):
        """From all and everybody; or only from a peer."""
        if peer is None:
            self.nft("add", "cut", node.port)
        else:
            self.nft("add", "pair", f"{node.port} . {peer.port}, {peer.port} . {node.port}")

    def heal(self, node=None):
        if node is not None:
            self.nft("delete", "cut", node.port)
            return
        for which in ("cut", "pair"):
            run("ip", "netns", "exec", self.switch, "nft", "flush", "set", "bridge", "lab", which)

    # ---- images ----

    def load(self, host, *images, name="images"):
        """Copies images of another engine to all nodes that are on; load_saved() to one more."""
        docker(host, "save", "-o", f"{self.dir}/{name}.tar", *images, seconds=600)
        self.load_saved(*[n for n in self.nodes if n.is_on()], name=name)

    def load_saved(self, *nodes, name="images"):
        waits = [subprocess.Popen(["docker", "load", "-q", "-i", f"{self.dir}/{name}.tar"],
                                  env={**os.environ,
                                       "DOCKER_HOST": f"unix://{n.dir}/docker.sock"},
                                  stdout=subprocess.DEVNULL) for n in nodes]
        for p in waits:
            if p.wait(timeout=400) != 0:
                raise LabError("an image could not be loaded")

    def down(self, keep_logs=False):
        for n in self.nodes:
            with contextlib.suppress(LabError, subprocess.TimeoutExpired):
                n.power_off()
        run("ip", "netns", "del", self.switch, check=False)
        with contextlib.suppress(LabError):
            remove_cgroups(self.prefix)
        for n in self.nodes:
            n.remove_disk()
        if not keep_logs:
            shutil.rmtree(self.dir, ignore_errors=True)


class Builder:
    """An engine to build images with. Its layers stay in CACHE for the next run."""

    def __init__(self, prefix=None):
        self.prefix = prefix or own_prefix()
        self.bridge = f"{self.prefix}qb"
        self.dir = f"{CACHE}/builder"
        self.run_dir = f"{ROOM}/{MARK}{self.prefix}b"
        self.process = None
        self.lock = None

    def up(self):
        os.makedirs(f"{self.dir}/data", exist_ok=True)
        os.makedirs(self.run_dir)
        with open(f"{self.run_dir}/owner.json", "w", encoding="ascii") as f:
            json.dump({"pid": os.getpid(), "started": start_time(os.getpid()),
                       "prefix": self.prefix}, f)
        self.lock = open(f"{self.dir}/lock", "w", encoding="ascii")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        weigh_cgroup(self.prefix)
        # A bridge of its own: with none, an engine takes or deletes the host's docker0.
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "addr", "add", f"{NET.rsplit('.', 1)[0]}.1.1/24", "dev", self.bridge)
        with open(f"{self.run_dir}/log", "ab") as log:
            self.process = die_with_us(
                ["unshare", "--mount", "dockerd", "--data-root", f"{self.dir}/data",
                 "--exec-root", f"{self.run_dir}/exec", "--pidfile", f"{self.run_dir}/pid",
                 "--host", f"unix://{self.run_dir}/docker.sock",
                 "--cgroup-parent", f"/{self.prefix}/builder", "--bridge", self.bridge,
                 "--iptables=false", "--ip-forward=false", "--storage-driver", "overlay2"], log)
        wait_for("the builder's engine", lambda: self.answers(), 120, every=0.2)

    def answers(self):
        if self.process.poll() is not None:
            with open(f"{self.run_dir}/log", encoding="utf-8", errors="replace") as f:
                raise NoEngine("the engine does not start: " + " | ".join(f.readlines()[-3:]))
        return self.docker("version", check=False, seconds=20).returncode == 0

    def docker(self, *args, **more):
        return docker(self.run_dir, *args, **more)

    def base_image(self, suite="bookworm"):
        """A local stand-in for debian:SUITE-slim, made from this host's own Debian mirror."""
        name = f"debian:{suite}-slim"
        if self.docker("image", "inspect", name, check=False).returncode != 0:
            here = os.path.dirname(os.path.abspath(__file__))
            tar = f"{CACHE}/base-{suite}.tar"
            run(f"{here}/base-image", suite, tar, timeout=900)
            self.docker("import", "--change", 'CMD ["bash"]', tar, name, seconds=300)
        want_container(self.run_dir, name)
        return name

    def build(self, root, target, args=(), tag="test"):
        """Begins `docker build` of a target; wait_build() ends it. Several run side by side."""
        log = open(f"{self.run_dir}/build-{target}-{tag}.log", "wb")
        words = [w for a in args for w in ("--build-arg", a)]
        p = subprocess.Popen(
            [BUILD_DOCKER, "build", "--progress", "plain", "--network", "host", "--target", target,
             "-t", f"hawser-{target}:{tag}", *words, root],
            env={**os.environ, "DOCKER_HOST": f"unix://{self.run_dir}/docker.sock",
                 "DOCKER_BUILDKIT": "1"},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        p.log_path = log.name
        log.close()
        return p

    @staticmethod
    def wait_build(p, seconds=900):
        if p.wait(timeout=seconds) != 0:
            with open(p.log_path, encoding="utf-8", errors="replace") as f:
                raise LabError("docker build failed:\n" + "".join(f.readlines()[-25:]))

    def down(self):
        if self.process is not None and self.process.poll() is None:
            with open(f"{self.run_dir}/pid", encoding="ascii") as f:
                os.kill(int(f.read()), signal.SIGTERM)
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.process.kill()
        run("ip", "link", "del", self.bridge, check=False)
        with contextlib.suppress(LabError):
            remove_cgroups(self.prefix)
        shutil.rmtree(self.run_dir, ignore_errors=True)
        if self.lock:
            self.lock.close()


def sweep():
    """What runs left on the disk that could not clean up after themselves."""
    for path in glob.glob(f"{ROOM}/{MARK}*/owner.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            with open(path, encoding="ascii") as f:
                owner = json.load(f)
            if start_time(owner["pid"]) == owner["started"]:
                continue
            for ns in run("ip", "netns", "list", check=False).stdout.split():
                if ns.startswith(f"{owner['prefix']}-"):
                    run("ip", "netns", "del", ns, check=False)
            run("ip", "link", "del", f"{owner['prefix']}qb", check=False)
            remove_cgroups(owner["prefix"])
            for disk in glob.glob(f"{os.path.dirname(path)}/n*/data"):
                run("umount", "--lazy", disk, check=False)
            shutil.rmtree(os.path.dirname(path), ignore_errors=True)
            print(f"swept {os.path.dirname(path)}", file=sys.stderr)
            time.sleep(0)
