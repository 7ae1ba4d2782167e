"""The folder that a run leaves: everything needed to understand what happened."""
import datetime
import os
import re
import shutil
import subprocess
import time

import lab as labs

STAMP = re.compile(r"^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d(?:\.\d+)?)")


def wall(boot_ns):
    """A moment of the client's clock as UTC, good to about a millisecond."""
    offset = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return (boot_ns + offset) / 1e9


def stamp(seconds):
    t = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return t.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]


def lines_of_log(path, name):
    """(stamp, text) of a node's log; a line without a time belongs to the one before."""
    at = ""
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            for line in f:
                m = STAMP.match(line)
                if m:
                    at = f"{m.group(1)}T{m.group(2)}"
                    at += "" if "." in at else ".000"
                    line = line[m.end():].lstrip("Z ")
                yield at, f"{name:6s} {line.rstrip()}"
    except OSError:
        return


def lines_of_acks(writes, every_ns=500_000_000):
    """What clients saw, half a second a line, and each silence of more than 300 ms."""
    out = []
    bins = {}
    for w in writes:
        key = w.received // every_ns
        row = bins.setdefault(key, {})
        told = f"{w.host} {w.outcome}" + (f" tl{w.timeline} reign {w.reign}" if w.timeline else "")
        row[told] = row.get(told, 0) + 1
    for key in sorted(bins):
        text = "; ".join(f"{n} x {told}" for told, n in sorted(bins[key].items()))
        out.append((stamp(wall(key * every_ns)), f"client {text}"))
    acks = sorted((w.received, w.host) for w in writes if w.outcome == "ok")
    for (a, _), (b, host) in zip(acks, acks[1:]):
        if b - a > 300_000_000:
            out.append((stamp(wall(b)), f"client {(b - a) / 1e6:.0f} ms without an "
                                        f"acknowledgement end here, at {host}"))
    return out


def merge(folder, lab, said, writes):
    """timeline.txt: faults, agents, servers and clients, by time, in one readable text."""
    lines = [(stamp(wall(at)), f"chaos  {text}") for at, text in said]
    lines += lines_of_acks(writes)
    for n in lab.nodes:
        lines += lines_of_log(n.log, n.name)
    lines.sort(key=lambda line: line[0])
    with open(f"{folder}/timeline.txt", "w", encoding="utf-8") as f:
        for at, text in lines:
            f.write(f"{at} {text}\n")


def keep_nodes(folder, lab):
    """Of each node: its log, its control file in words, its history files and settings."""
    control = f"{labs.BIN}/pg_controldata"
    for n in lab.nodes:
        to = f"{folder}/{n.name}"
        os.makedirs(to, exist_ok=True)
        for path in (n.log, f"{n.pgdata}/postgresql.auto.conf", f"{n.pgdata}/standby.signal"):
            if os.path.exists(path):
                shutil.copy(path, to)
        wal = f"{n.pgdata}/pg_wal"
        for name in os.listdir(wal) if os.path.isdir(wal) else []:
            if name.endswith(".history"):
                shutil.copy(f"{wal}/{name}", to)
        if os.path.exists(f"{n.pgdata}/global/pg_control") and os.path.exists(control):
            with open(f"{to}/pg_controldata.txt", "wb") as f:
                subprocess.run([control, "-D", n.pgdata], stdout=f, stderr=f, check=False)
        with open(f"{to}/files.txt", "wb") as f:
            subprocess.run(["ls", "-lR", "--time-style=full-iso", f"{n.dir}/data"], stdout=f,
                           stderr=f, check=False)
