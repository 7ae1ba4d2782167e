"""Deliberate breaks of the source, each applied to a scratch copy of the tree and built there.

Shared by the programs `prove` of several suites. A list of breaks is a text:

    = NAME | what is broken
    ! the run that must fail | what must tell
    @ a file
    < lines that stand once in it
    > what takes their place

An entry may have several files, and several places in a file. What stands before the first `=`
is for people.
"""
import argparse
import contextlib
import os
import re
import shutil
import subprocess
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# What runs on a node, and its clients.
ON_NODES = ("agent/shell/haagent", "fence/haguard", "tools/hactl/hactl", "tests/lib/writer",
            "tests/fence/lease_stub", "tests/fence/ackload")


def read_list(path):
    """Entries of name, what, run, check, [(file, old lines, new lines)]."""
    entries = []
    with open(path, encoding="utf-8") as f:
        for line in f.read().splitlines():
            mark, text = line[:2], line[2:]
            if mark == "= ":
                name, what = text.split(" | ")
                entries.append({"name": name, "what": what, "edits": []})
            elif mark == "! ":
                entries[-1]["run"], entries[-1]["check"] = text.split(" | ")
            elif mark == "@ ":
                entries[-1]["edits"].append((text, [], []))
            elif mark == "< ":
                entries[-1]["edits"][-1][1].append(text)
            elif mark == "> ":
                entries[-1]["edits"][-1][2].append(text)
    return entries


def broken(text, old, new):
    """The text with its one place replaced, however the lines are indented; else None."""
    pattern = r"\n".join(r"[ \t]*" + re.escape(line.strip()) for line in old)
    places = [m.span() for m in re.finditer(pattern, text)]
    if len(places) != 1:
        return None
    return text[:places[0][0]] + "\n".join(new) + text[places[0][1]:]


def stale(entries, tree=ROOT):
    """Of each entry that does not fit the tree any more: its name and the first line it wants."""
    for entry in entries:
        texts = {}
        for path, old, new in entry["edits"]:
            if path not in texts:
                with open(f"{tree}/{path}", encoding="utf-8") as f:
                    texts[path] = f.read()
            texts[path] = broken(texts[path], old, new)
            if texts[path] is None:
                yield f"{entry['name']}: {path} has no such lines (once): {old[0]}"
                break


class Stale(Exception):
    """The entry does not fit the tree any more."""


def modules(tree):
    """The targets that are ha_fence for each major here."""
    out = subprocess.run(["ninja", "-C", f"{tree}/build", "-t", "targets", "all"],
                         capture_output=True, text=True, check=True).stdout
    return re.findall(r"^(fence/ha_fence/ha_fence_\d+\.so):", out, re.MULTILINE)


def build(tree, targets=()):
    """All of the tree, or those targets and the modules."""
    made = subprocess.run(["ninja", "-C", f"{tree}/build",
                           *([*targets, *modules(tree)] if targets else [])],
                          capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise Stale("does not compile: " + made.stdout[-1500:])


@contextlib.contextmanager
def tree_broken(tree, entry, targets=()):
    """Builds the tree with the entry's edits, and puts the text back in the end."""
    kept = {}
    try:
        for path, old, new in entry["edits"]:
            with open(f"{tree}/{path}", encoding="utf-8") as f:
                before = f.read()
            kept.setdefault(path, before)
            text = broken(before, old, new)
            if text is None:
                raise Stale(f"{path} has no such lines (once): {old[0]}")
            with open(f"{tree}/{path}", "w", encoding="utf-8") as f:
                f.write(text)
        build(tree, targets)
        yield
    finally:
        for path, text in kept.items():
            with open(f"{tree}/{path}", "w", encoding="utf-8") as f:
                f.write(text)


@contextlib.contextmanager
def scratch_tree():
    """A copy of the tree that goes in the end, set up to be built."""
    tree = tempfile.mkdtemp(prefix="hw-prove-", dir="/var/tmp")
    os.chmod(tree, 0o755)
    try:
        shutil.copytree(ROOT, tree, dirs_exist_ok=True, symlinks=True,
                        ignore=shutil.ignore_patterns("build*", ".git", "__pycache__"))
        subprocess.run(["meson", "setup", f"{tree}/build", tree], check=True,
                       capture_output=True)
        yield tree
    finally:
        shutil.rmtree(tree)


def parser_of(doc):
    """The arguments that each `prove` takes."""
    parser = argparse.ArgumentParser(description=doc,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--tree", help="a copy of the tree that is set up and may be broken")
    return parser


def prove(args, path, attempt):
    """Tries each chosen entry of the list by attempt(tree, entry) -> (noticed, how), on a copy of
    the tree; prints the table; -> the exit code."""
    chosen = [e for e in read_list(path) if not args.only or e["name"] in args.only]
    bad = 0
    with contextlib.nullcontext(args.tree) if args.tree else scratch_tree() as tree:
        for entry in chosen:
            try:
                noticed, how = attempt(tree, entry)
            except Stale as error:
                noticed, how = False, f"stale: {error}"
            bad += not noticed
            print(f"{'noticed' if noticed else 'MISSED':8} {entry['name']:20} {entry['what']}\n"
                  f"{'':9}{how}", flush=True)
    print(f"{len(chosen) - bad} passed, {bad} failed, 0 skipped")
    return bad != 0
