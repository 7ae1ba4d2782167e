"""Checks that other programs make: formatter, linker's view of the pure libraries, shellcheck."""

import os
import re
import shutil
import subprocess
import tempfile

from rules import C
from source import Tree

# What the pure libraries may ask of the outside: memory, text, and the end. No clock, no random
# source, no allocation, no file but stderr for require_failed().
PURE_SYMBOLS = {
    "memcpy", "memmove", "memset", "memcmp", "memchr", "bcmp", "strlen", "strnlen", "strcmp",
    "strncmp", "strchr", "strrchr", "snprintf", "vsnprintf", "abort", "fprintf", "stderr",
    "__memcpy_chk", "__memmove_chk", "__memset_chk", "__snprintf_chk", "__vsnprintf_chk",
    "__fprintf_chk", "__stack_chk_fail", "_GLOBAL_OFFSET_TABLE_",
}
PURE_LIBRARIES = ["base/libbase.a", "store/libstore.a", "agent/core/libcore.a"]


def outside_symbols(libraries):
    """What none of the libraries defines: {symbol: object that wants it}."""
    wanted, defined = {}, set()
    for library in libraries:
        out = subprocess.run(["nm", "-A", library], check=True, stdout=subprocess.PIPE,
                             text=True).stdout
        for line in out.splitlines():
            where, symbol = line.split()[0], line.split()[-1]
            if re.search(r" U \S+$", line):
                wanted.setdefault(symbol, where.rstrip(":"))
            elif re.search(r" [A-TV-Z] \S+$", line):
                defined.add(symbol)
    return {s: w for s, w in wanted.items() if s not in defined}


def check_symbols(tally, root):
    libraries = [os.path.join(root, "build", p) for p in PURE_LIBRARIES]
    if not all(map(os.path.exists, libraries)):
        tally.skip("symbols: build/ is not there")
        return
    foreign = {s: w for s, w in outside_symbols(libraries).items() if s not in PURE_SYMBOLS}
    for symbol, where in sorted(foreign.items()):
        print(f"{where}: symbols: a pure part must not call {symbol}")
    tally.fail(f"symbols: {len(foreign)}") if foreign else tally.ok()


def check_symbols_bites(tally, _root):
    """The check above sees a clock and a malloc where they do not belong."""
    if not shutil.which("cc"):
        tally.skip("symbols-bite: no compiler")
        return
    with tempfile.TemporaryDirectory(prefix="hawser-tidy-") as place:
        with open(f"{place}/x.c", "w", encoding="utf-8") as f:
            f.write("#include <stdlib.h>\n#include <time.h>\n#include <string.h>\n"
                    "void own(void);\nvoid own(void) {}\n"
                    "void *f(void);\nvoid *f(void) { own(); return malloc((size_t)time(0)); }\n")
        subprocess.run(["cc", "-c", "-o", f"{place}/x.o", f"{place}/x.c"], check=True)
        subprocess.run(["ar", "rc", f"{place}/x.a", f"{place}/x.o"], check=True)
        found = set(outside_symbols([f"{place}/x.a"])) - PURE_SYMBOLS
    tally.ok() if found == {"malloc", "time"} else tally.fail(f"symbols-bite: {sorted(found)}")


def check_format(tally, root):
    formatter = shutil.which("clang-format-14")
    if formatter is None:
        tally.skip("format: clang-format-14 is not there")
        return
    files = Tree(root).named(*C)
    done = subprocess.run([formatter, "--dry-run", "-Werror"] + files, cwd=root, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    bad = sorted(set(re.findall(r"^(\S+?):\d+:\d+: error", done.stdout, re.M)))
    for path in bad:
        print(f"{path}:1: format: clang-format-14 -i {path}")
    tally.ok() if done.returncode == 0 else tally.fail(f"format: {len(bad)}")


def check_shell(tally, root):
    scripts = Tree(root).scripts("bash")
    if not shutil.which("shellcheck"):
        tally.skip("shell: shellcheck is not there")
        return
    done = subprocess.run(["shellcheck"] + scripts, cwd=root, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout, end="")
    tally.ok() if done.returncode == 0 else tally.fail("shell")


CHECKS = {"symbols": check_symbols, "symbols-bite": check_symbols_bites, "format": check_format,
          "shell": check_shell}
