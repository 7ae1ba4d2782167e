"""What the cases of rejoin share: servers run by hand, stalled links, the log since a moment."""
import contextlib
import glob
import os
import re

from scenario import check, labs

BIN = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
HAND_PORT = "5499"


def as_postgres(node, *args, **more):
    return node.exec("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "env",
                     "HOME=/tmp", *args, **more)


@contextlib.contextmanager
def by_hand(node):
    """A server on a node's data that no agent knows of: yields a function that runs SQL there."""
    ctl = [f"{BIN}/pg_ctl", "-w", "-D", node.pgdata]
    options = (f"-c listen_addresses='' -c port={HAND_PORT} "
               "-c unix_socket_directories=/run/postgresql")
    with contextlib.suppress(FileNotFoundError):
        os.remove(f"{node.pgdata}/postmaster.pid")  # of before the node's power was cut
    as_postgres(node, *ctl, "-o", options, "-l", "/run/postgresql/by-hand.log", "start")

    def sql(text):
        return as_postgres(node, "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "/run/postgresql",
                           "-p", HAND_PORT, "-d", "postgres", "-c", text).stdout.strip()
    yield sql
    as_postgres(node, *ctl, "-m", "fast", "stop")


def write_by_hand(node, more=()):
    """777 rows that no cluster acknowledged, and a clean stop."""
    node.power_on()
    with by_hand(node) as sql:
        check(sql("SELECT pg_is_in_recovery()") == "f", "the hand-started server is a standby")
        sql("CREATE TABLE by_hand AS SELECT generate_series(1, 777) AS i")
        for text in more:
            sql(text)


def check_same(lab):
    """What was written by hand is nowhere, and what the primary has is everywhere."""
    primary = lab.wait_primary()
    primary.sql("CREATE TABLE IF NOT EXISTS agreed (i int); INSERT INTO agreed VALUES (1)")
    want = primary.sql("SELECT count(*) FROM agreed")
    for n in lab.databases:
        labs.wait_for(f"{n.name} to have what {primary.name} has",
                      lambda n=n: n.sql("SELECT count(*) FROM agreed", check=False) == want, 60)
        check(n.sql("SELECT to_regclass('by_hand') IS NULL") == "t",
              f"{n.name} has rows that were written by hand")


class Since:
    """A node's log from now on."""

    def __init__(self, node):
        self.node = node
        self.at = len(node.log_text())

    def text(self):
        return self.node.log_text()[self.at:]

    def said(self, pattern):
        return re.search(pattern, self.text()) is not None

    def wait(self, pattern, seconds=60):
        labs.wait_for(f"{self.node.name} to say {pattern!r}", lambda: self.said(pattern), seconds)

    def check_rewound(self):
        check(self.said(r"rewind: ok"), f"{self.node.name} was not rewound")
        check(not self.said(r"clone: ok"), f"{self.node.name} was copied, not rewound")

    def check_copied(self, why):
        check(self.said(why), f"{self.node.name} does not say {why!r}")
        check(self.said(r"clone: ok"), f"{self.node.name} was not copied")


def wait_back(lab, node, seconds=300):
    """The node streams steadily, and was writable at no moment on the way. One that asks for WAL
    which is gone shows "streaming" for a moment at each try."""
    since = []

    def condition():
        if node.is_writable():
            raise labs.LabError(f"{node.name} was writable on its way back")
        if not node.is_streaming():
            since.clear()
        elif not since:
            since.append(labs.boottime_ns())
        return since and labs.boottime_ns() - since[0] > 3_000_000_000
    labs.wait_for(f"{node.name} to stream", condition, seconds, every=0.1)


def stall_after(node, source, megabytes):
    """What the node gets from the source's PostgreSQL ends after so much."""
    node.exec("nft", "-f", "-", input=f"""
        table inet stall {{
            chain input {{
                type filter hook input priority 0;
                ip saddr {source.ip} tcp sport 5432 quota over {megabytes} mbytes drop
            }}
        }}""")


def unstall(node):
    """The rule outlives the node's power."""
    node.power_on()
    node.exec("nft", "delete", "table", "inet", "stall")


def process(node, *words):
    """A process on the node whose command line has all these words, or None."""
    for pid in labs.descendants(node.init.pid) + (labs.descendants(node.agent.pid)
                                                  if node.agent else []):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                line = f.read().replace(b"\0", b" ").decode(errors="replace")
            if all(w in line for w in words):
                return labs.Process(pid)
    return None


def fail_over(lab, node):
    """The primary's power is cut; returns the next one."""
    node.power_off()
    new = lab.wait_primary()
    check(new is not node, "the dead one is the primary")
    return new
