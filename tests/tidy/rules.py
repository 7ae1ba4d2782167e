"""The house rules. A rule takes a Tree and yields (path, line, text); it says nothing when all is
well. See docs/architecture.md for the arrows and docs/hacking.md for the figures.
"""

import os
import re

from source import functions, includes

C = (".c", ".h")

# Libc that needs no operating system behind it: all that the pure parts may see.
PURE_HEADERS = {"limits.h", "stdarg.h", "stdbool.h", "stddef.h", "stdint.h", "stdio.h", "stdlib.h",
                "string.h", "inttypes.h"}
PURE_STORE = {"apply", "apply_recover", "command", "declaration_codec", "durable_record",
              "snapshot", "state", "sync"}

# Who may include whose headers, by folder; the longest prefix counts. A name that ends in "/" is
# a folder, else a file. Nothing points upward.
ARROWS = {
    "base": ["base/"],
    "store": ["base/", "store/"],
    "agent/core": ["base/", "store/", "agent/core/"],
    "raft": ["base/", "store/", "raft/", "agent/net/peer.h", "agent/core/raft_facts.h"],
    "agent/net": ["base/", "store/", "agent/net/"],
    "agent/postgres": ["base/", "store/", "agent/postgres/", "agent/core/pg_facts.h",
                       "agent/core/pg_probe.h", "agent/core/pg_slots.h", "agent/core/pg_sync.h"],
    "agent/gateway": ["base/", "store/", "agent/gateway/", "agent/core/"],
    "agent/shell": ["base/", "store/", "agent/", "raft/", "fence/lease_page.h"],
    "fence": ["base/", "fence/"],
    "fence/ha_fence": ["fence/ha_fence/", "fence/lease_view.h", "fence/lease_layout.h"],
    "tools": ["base/", "tools/", "agent/gateway/pcp_wire.h", "agent/net/http_auth.h",
              "agent/net/key.h", "agent/net/secret_derive.h", "agent/net/secret_text.h"],
    "tests": ["base/", "store/", "agent/", "raft/", "fence/", "tools/", "tests/"],
}

# Libraries and the folders or files that alone may see them.
OWNERS = {
    r"raft(\.h|/)": ["raft/", "tests/"],
    r"libpq-fe\.h": ["agent/postgres/pg_query.c", "tests/"],
    r"uv\.h": ["raft/", "agent/net/", "agent/postgres/", "agent/gateway/", "agent/shell/",
              "tests/"],
    r"openssl/": ["agent/net/", "agent/postgres/pg_scram.c", "agent/gateway/", "agent/shell/",
                  "tools/", "tests/"],
    r"jansson\.h": ["agent/net/", "agent/shell/", "tools/", "tests/"],
    r"curl/": ["tools/", "tests/"],
    r"yaml\.h": ["tools/", "tests/"],
    r"llhttp\.h": ["agent/net/", "tests/"],
    r"cmocka\.h": ["tests/"],
}

BANNED = ["strcpy", "strcat", "sprintf", "vsprintf", "strtok", "atoi", "atol", "system", "gets",
          "alloca"]
SLEEPS = ["sleep", "usleep", "nanosleep", "clock_nanosleep"]

# (rule, path): why this one may.
EXCEPTIONS = {
    ("arrows", "agent/net/api.h"): "renders the core's picture, and reads nothing else of it",
    ("sleep", "store/lock.c"): "waits for a lock before there is a loop",
    ("parameters", "fence/ha_fence/commit.c"): "PostgreSQL's hook has eight",
    ("parameters", "raft/io_load.c"): "libraft's raft_io.load has seven",
    ("contract", "fence/ha_fence/ha_fence.c"): "PostgreSQL wants its postgres.h first",
}

CODE_FOLDERS = ("base/", "store/", "raft/", "agent/", "fence/", "tools/")


def is_pure(path):
    stem = os.path.splitext(os.path.basename(path))[0]
    return path.startswith(("base/", "agent/core/")) or \
        (path.startswith("store/") and stem in PURE_STORE)


def longest_prefix(path, table):
    folders = [f for f in table if path.startswith(f + "/")]
    return max(folders, key=len) if folders else None


def line_of(text, at):
    return text.count("\n", 0, at) + 1


def rule_arrows(tree):
    for path in tree.named(*C):
        folder = longest_prefix(path, ARROWS)
        if folder is None:
            continue
        for line, is_system, name in includes(tree, path):
            if is_system or (folder == "fence/ha_fence" and not tree.has(name)):
                continue  # the second: PostgreSQL's own headers
            if not any(name == a or (a.endswith("/") and name.startswith(a))
                       for a in ARROWS[folder]):
                yield path, line, f"{folder}/ must not include {name}"
            elif not tree.has(name):
                yield path, line, f"{name} is not there (write it from the project's root)"
            elif is_pure(path) and not is_pure(name):
                yield path, line, f"this part is pure, {name} is not"


def rule_pure_headers(tree):
    for path in tree.named(*C):
        for line, is_system, name in includes(tree, path):
            if is_pure(path) and is_system and name not in PURE_HEADERS:
                yield path, line, f"this part is pure: no <{name}>"


def rule_owners(tree):
    for path in tree.named(*C):
        for line, _, name in includes(tree, path):
            for pattern, owners in OWNERS.items():
                if not tree.has(name) and re.match(pattern, name) and \
                        not path.startswith(tuple(owners)):
                    yield path, line, f"<{name}> belongs to {', '.join(owners)}"


def calls(tree, path, names):
    pattern = re.compile(r"(?<![\w.>])(" + "|".join(names) + r")\s*\(")
    code = tree.code(path)
    for match in pattern.finditer(code):
        yield line_of(code, match.start()), match.group(1)


def rule_getenv(tree):
    for path in tree.named(*C):
        if path == "agent/shell/config_env.c" or path.startswith(("tools/", "tests/")):
            continue
        for line, name in calls(tree, path, ["getenv", "secure_getenv"]):
            yield path, line, f"{name} belongs to agent/shell/config_env.c"


def rule_banned(tree):
    for path in tree.named(*C):
        for line, name in calls(tree, path, BANNED):
            yield path, line, f"{name} is banned"


def rule_sleep(tree):
    for path in tree.named(*C):
        if not path.startswith("tests/"):
            for line, name in calls(tree, path, SLEEPS):
                yield path, line, f"{name}: wait for something"


def rule_length(tree):
    for path in tree.named(*C):
        if path.startswith(CODE_FOLDERS):
            file_max, function_max = 600, 70
        elif path.startswith("tests/"):
            file_max, function_max = 900, 120
        else:
            continue
        n_lines = tree.text(path).count("\n")
        if n_lines > file_max:
            yield path, n_lines, f"{n_lines} lines, {file_max} are allowed"
        for f in functions(tree, path):
            if f.n_lines() > function_max:
                yield path, f.line, f"{f.name}() has {f.n_lines()} lines, {function_max} allowed"


def rule_parameters(tree):
    for path in tree.named(*C):
        for f in functions(tree, path):
            if f.n_parameters() > 6:
                yield path, f.line, f"{f.name}() has {f.n_parameters()} parameters, 6 are allowed"


def rule_nesting(tree):
    for path in tree.named(*C):
        for f in functions(tree, path):
            if f.depth() > 4:
                yield path, f.line, f"{f.name}() is {f.depth()} levels deep, 4 are allowed"


def rule_width(tree):
    for path in tree.named(*C) + tree.scripts("python"):
        is_table = False
        for n, line in enumerate(tree.lines(path), 1):
            is_table = (is_table or "clang-format off" in line) and "clang-format on" not in line
            if len(line) > 100 and not is_table:
                yield path, n, f"{len(line)} columns, 100 are allowed"


def rule_blanks(tree):
    for path in tree.named(".c", ".h", ".py", ".md", ".sh", ".build", ".yml", ".yaml", ".pml"):
        text = tree.text(path)
        for n, line in enumerate(text.split("\n"), 1):
            if line != line.rstrip():
                yield path, n, "blanks (or a carriage return) at the end of the line"
            if "\t" in line and not path.endswith((".md", ".pml")):
                yield path, n, "a tab"
        if text and not text.endswith("\n"):
            yield path, text.count("\n") + 1, "no newline at the end"


def rule_leftovers(tree):
    for path in tree.paths:
        if path.startswith("tests/tidy/"):
            continue
        for n, line in enumerate(tree.lines(path), 1):
            match = re.search(r"\b(FIXME|TODO|XXX)\b", line)
            if match:
                yield path, n, f"{match.group()}: do it, or drop it"


def rule_meson(tree):
    """Every .c is named in the meson.build of its folder or of one above, as itself or, for tests,
    without the prefix that the folder's loop puts before it."""
    for path in tree.named(".c"):
        folder, name = os.path.split(path)
        stem = re.sub(r"^(test|fuzz)_", "", name[:-2])
        wanted = [f"'{name}'"] + ([f"'{stem}':", f"'{stem}',"] if stem != name[:-2] else [])
        rest = ""
        while True:
            wanted.append(f"'{rest}{name}'")
            build = os.path.join(folder, "meson.build")
            if tree.has(build) and any(w in tree.text(build) for w in wanted):
                break
            if folder == "":
                yield path, 1, "no meson.build names it"
                break
            folder, part = os.path.split(folder)
            rest = f"{part}/{rest}"


def rule_markdown(tree):
    for path in tree.named(".md"):
        level, in_code = 0, False
        if not re.match(r"# \S", tree.text(path)):
            yield path, 1, "the first line must be the title: # ..."
        for n, line in enumerate(tree.lines(path), 1):
            if line.startswith("```"):
                in_code = not in_code
            match = None if in_code else re.match(r"(#+) ", line)
            if match:
                new = len(match.group(1))
                if new == 1 and n > 1:
                    yield path, n, "a second title"
                if new > level + 1:
                    yield path, n, "a heading skips a level"
                level = new


def rule_guards(tree):
    seen = {}
    for path in tree.named(".h"):
        stem = re.sub(r"\W", "_", os.path.basename(path)[:-2]).upper()
        match = re.search(r"^#ifndef (\w+)\n#define (\w+)$", tree.text(path), re.M)
        if not match or match.group(1) != match.group(2):
            yield path, 1, "no include guard"
            continue
        guard = match.group(1)
        if not re.fullmatch(rf"HA_(\w+_)?{stem}_H", guard):
            yield path, 1, f"the guard {guard} is not HA_<FOLDER>_{stem}_H"
        if guard in seen:
            yield path, 1, f"{seen[guard]} has the guard {guard} too"
        seen[guard] = path


def rule_contract(tree):
    """A header begins with what it is for; a source with its own header."""
    for path in tree.named(".h"):
        name = re.escape(os.path.basename(path))
        if not re.match(rf"/\*\n \* {name} - \S", tree.text(path)):
            yield path, 1, f"must begin with the comment: {os.path.basename(path)} - what it is for"
    for path in tree.named(".c"):
        own = path[:-2] + ".h"
        first = includes(tree, path)[:1]
        internal = path[:-2] + "_internal.h"
        if tree.has(own) and (not first or first[0][2] not in (own, internal)):
            yield path, first[0][0] if first else 1, f"must include {own} first"


def rule_typedef(tree):
    for path in tree.named(*C):
        for match in re.finditer(r"^\s*typedef\s+(struct|enum|union)\b", tree.code(path), re.M):
            yield path, line_of(tree.code(path), match.start()), "no typedef but for callbacks"


PLACES = re.compile(r"/root/|/home/[a-z]|\bdocker\.io/|\bghcr\.io\b"
                    r"|\bquay\.io\b|\bgcr\.io\b|\bartifactory\b|\bregistry\.[a-z-]+\.[a-z]")


def rule_places(tree):
    for path in tree.paths:
        if path.startswith("tests/tidy/"):
            continue
        for n, line in enumerate(tree.lines(path), 1):
            match = PLACES.search(line)
            if match:
                yield path, n, f"names a machine's own place: {match.group()}"


def rule_python(tree):
    for path in tree.scripts("python"):
        try:
            compile(tree.text(path), path, "exec")
        except SyntaxError as error:
            yield path, error.lineno or 1, str(error)


RULES = {name[5:]: f for name, f in list(globals().items()) if name.startswith("rule_")}


def check(tree, name):
    """Violations of one rule, without the listed exceptions."""
    return [v for v in RULES[name](tree) if (name, v[0]) not in EXCEPTIONS]
