"""The runner behind ./test: builds, runs suites, counts.

A suite is one of
- a Meson suite: tests/NAME/meson.build, tests registered with `suite: 'NAME'`;
- a folder with an executable `run`, called from the root as `tests/NAME/run [--full]` when build/
  is made, whose last line is "N passed, N failed, N skipped";
- both (their counts are added up);
- one of the functions below (clang, sanitizers).
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = "build"
LOGS = os.path.join(BUILD, "test-logs")
TAIL_LINES = 60
NOT_SUITES = {"bench", "lib"}  # folders of tests/ that hold no tests

# name, what it shows, limit in seconds (six times that with --full). The order is the order of
# running: cheap and telling first. Together within half an hour on two cores.
SUITES = [
    ("tidy", "house rules of the source, and the checker's own tests", 180),
    ("docs", "links and commands in README.md and docs/", 60),
    ("unit", "each part alone", 300),
    ("clang", "the whole tree compiles with clang -Werror", 300),
    ("sanitizers", "the unit suite under ASan and UBSan", 420),
    ("fuzz", "decoders against their corpus", 180),
    ("sim", "the real core on virtual time, seed by seed", 300),
    ("model", "the safety protocol, checked by Spin", 600),
    ("fence", "the PostgreSQL module against a real server", 600),
    ("raft", "groups of Raft nodes on virtual time", 300),
    ("rejoin", "every member comes back by itself: rewind, copy, tablespaces", 900),
    ("integration", "agents with real PostgreSQL and Pgpool-II", 1800),
    ("gateway", "Pgpool-II and HAProxy follow the fact", 900),
    ("swarm", "the stack on three real Docker engines, sentence by sentence", 900),
    ("chaos", "seeded faults on real nodes; every attempt accounted for", 900),
]
LIMIT_OF_OTHERS = 300
LAST_LINE = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped$")


class Count:
    def __init__(self, passed=0, failed=0, skipped=0):
        self.passed, self.failed, self.skipped = passed, failed, skipped

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def has_run(name):
    return os.access(f"tests/{name}/run", os.X_OK)


def has_meson(name):
    path = f"tests/{name}/meson.build"
    return os.path.exists(path) and f"suite: '{name}'" in open(path, encoding="utf-8").read()


def known_suites():
    """Names in order of running; folders that the table does not name come last."""
    names = [s[0] for s in SUITES if s[0] in BUILT_IN or has_run(s[0]) or has_meson(s[0])]
    for name in sorted(os.listdir("tests")):
        if name not in names and name not in NOT_SUITES and (has_run(name) or has_meson(name)):
            names.append(name)
    return names


def clean_environment():
    env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    env["LC_ALL"] = "C.UTF-8"
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    return env


def kill_group(process):
    for sig, grace in ((signal.SIGTERM, 45), (signal.SIGKILL, 15)):
        try:
            os.killpg(process.pid, sig)
            process.wait(grace)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def run_logged(command, log, limit):
    """Exit status of a command whose output goes to `log`; None when its time ran out."""
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT,
                               stdin=subprocess.DEVNULL, start_new_session=True,
                               env=clean_environment())
    try:
        return process.wait(max(limit, 1))
    except subprocess.TimeoutExpired:
        kill_group(process)
        log.write(f"\n{command[0]}: stopped after {limit:.0f} s\n")
        log.flush()
        return None
    except BaseException:
        kill_group(process)
        raise


def read_log(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def count_run(name, full, log, limit):
    """A folder's `run`. Silence, a missing last line and a wrong status are failures."""
    start = log.tell()
    status = run_logged([f"tests/{name}/run"] + ["--full"] * full, log, limit)
    with open(log.name, encoding="utf-8", errors="replace") as f:
        f.seek(start)
        lines = [m for m in map(LAST_LINE.match, f.read().splitlines()) if m]
    count = Count(*map(int, lines[-1].groups())) if lines else Count()
    ran = count.passed + count.failed + count.skipped
    if count.failed == 0 and (status != 0 or ran == 0):
        count.failed = 1
    return count


def count_junit(path):
    count = Count()
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            count.failed += 1
        elif case.find("skipped") is not None:
            count.skipped += 1
        else:
            count.passed += 1
    return count


def count_meson(name, build, log, limit):
    """A Meson suite: every case of every program counts, and a program that died counts as one."""
    base = f"{build}/meson-logs/{name}"
    for path in (f"{base}.json", f"{base}.junit.xml"):
        if os.path.exists(path):
            os.remove(path)
    status = run_logged(["meson", "test", "-C", build, "--no-rebuild", "--suite", name,
                         "--logbase", name, "--print-errorlogs"], log, limit)
    total = Count()
    try:
        total = count_junit(f"{base}.junit.xml")
        results = [json.loads(line)["result"] for line in open(f"{base}.json", encoding="utf-8")]
    except (OSError, ValueError, xml.etree.ElementTree.ParseError) as error:
        log.write(f"no result of meson: {error}\n")
        results = []
    died = sum(1 for r in results if r not in ("OK", "SKIP", "EXPECTEDFAIL"))
    total.failed = max(total.failed, died)
    if total.failed == 0 and (status != 0 or not results):
        total.failed = 1
    return total


def has_options(build, options):
    """True when the build directory is there and set up with these options."""
    try:
        with open(f"{build}/meson-info/intro-buildoptions.json", encoding="utf-8") as f:
            now = {o["name"]: o["value"] for o in json.load(f)}
    except (OSError, ValueError):
        return False
    return all(str(now.get(k)).lower() == v for k, v in options.items())


def configure(build, options, env=None):
    if has_options(build, options):
        return 0, ""
    verb = "configure" if os.path.exists(f"{build}/build.ninja") else "setup"
    done = subprocess.run(["meson", verb, build] + [f"-D{k}={v}" for k, v in options.items()],
                          env={**clean_environment(), **(env or {})}, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def compile_in(build, options, env=None):
    """None when it compiled, else the text that says why not."""
    status, text = configure(build, options, env)
    if status == 0:
        done = subprocess.run(["ninja", "-C", build], env=clean_environment(), check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        status, text = done.returncode, done.stdout
    return None if status == 0 else text


def suite_clang(_full, log, _limit):
    fault = compile_in("build-clang", {"werror": "true"}, {"CC": "clang"})
    log.write(fault or "compiled\n")
    return Count(passed=1) if fault is None else Count(failed=1)


def suite_sanitizers(_full, log, limit):
    build = "build-asan"
    fault = compile_in(build, {"b_sanitize": "address,undefined", "b_lundef": "false"})
    if fault is not None:
        log.write(fault)
        return Count(failed=1)
    return count_meson("unit", build, log, limit)


BUILT_IN = {"clang": suite_clang, "sanitizers": suite_sanitizers}


def run_suite(name, full):
    limit = next((s[2] for s in SUITES if s[0] == name), LIMIT_OF_OTHERS) * (6 if full else 1)
    path = os.path.join(LOGS, f"{name}.log")
    began = time.monotonic()
    count = Count()
    with open(path, "w", encoding="utf-8", buffering=1) as log:
        if name in BUILT_IN:
            count.add(BUILT_IN[name](full, log, limit))
        if has_meson(name):
            count.add(count_meson(name, BUILD, log, limit))
        if has_run(name):
            count.add(count_run(name, full, log, limit - (time.monotonic() - began)))
    print(f"{name:12} {count} ({time.monotonic() - began:.1f} s)", flush=True)
    if count.failed:
        show_tail(path)
    return count


def show_tail(path):
    print(f"---- the last {TAIL_LINES} lines of {path}")
    for line in read_log(path).splitlines()[-TAIL_LINES:]:
        print(f"     {line}")
    print("----", flush=True)


def parse_arguments(known):
    parser = argparse.ArgumentParser(prog="./test", description="Builds Hawser, runs its tests.")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="all of them when none is named")
    parser.add_argument("--list", action="store_true", help="name the suites and stop")
    parser.add_argument("--full", action="store_true", help="run them at full size (hours)")
    args = parser.parse_args()
    for name in args.suites:
        if name not in known:
            parser.error(f"unknown suite {name!r}; there are: {' '.join(known)}")
    return args


def main():
    os.chdir(ROOT)
    known = known_suites()
    args = parse_arguments(known)
    if args.list:
        what = {s[0]: s[1] for s in SUITES}
        for name in known:
            print(f"{name:12} {what.get(name, '')}".rstrip())
        return 0
    total = Count()
    began = time.monotonic()
    fault = compile_in(BUILD, {"werror": "true"})
    shutil.rmtree(LOGS, ignore_errors=True)
    if fault is not None:
        print(fault)
        total.failed = 1
    else:
        os.makedirs(LOGS)
        print(f"{'build':12} done ({time.monotonic() - began:.1f} s)", flush=True)
        for name in known if not args.suites else dict.fromkeys(args.suites):
            total.add(run_suite(name, args.full))
    print(total)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
