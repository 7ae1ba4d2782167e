"""Files of a tree, and C source in the shapes that the rules look at."""

import os
import re
import subprocess

FIXTURES = "tests/tidy/fixtures"


class Tree:
    """The files of a checkout (what git knows or would add), or of a bare folder."""

    def __init__(self, root):
        self.root = root
        self.paths = self._list()
        self._text = {}
        self._code = {}

    def _list(self):
        if os.path.exists(os.path.join(self.root, ".git")):
            out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=self.root,
                                 check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        else:
            out = [os.path.relpath(os.path.join(d, f), self.root)
                   for d, _, files in os.walk(self.root) for f in files]
        return sorted(p for p in set(out) if not p.startswith(FIXTURES + "/") and
                      "__pycache__" not in p and not p.startswith("build") and
                      os.path.isfile(os.path.join(self.root, p)))

    def named(self, *suffixes):
        return [p for p in self.paths if p.endswith(suffixes)]

    def has(self, path):
        return path in self.paths

    def text(self, path):
        if path not in self._text:
            with open(os.path.join(self.root, path), encoding="utf-8", errors="replace",
                      newline="") as f:
                self._text[path] = f.read()
        return self._text[path]

    def lines(self, path):
        return self.text(path).split("\n")

    def code(self, path):
        """C text with comments, strings and characters blanked; lines stay where they are."""
        if path not in self._code:
            self._code[path] = blank(self.text(path))
        return self._code[path]

    def scripts(self, language):
        """Files whose first line names an interpreter, and files with its suffix."""
        suffix = {"python": ".py", "bash": ".sh"}[language]
        found = []
        for path in self.paths:
            if path.endswith(suffix):
                found.append(path)
            elif "." not in os.path.basename(path) or os.path.basename(path).startswith("."):
                first = self.text(path).split("\n", 1)[0]
                if first.startswith("#!") and language in first:
                    found.append(path)
        return found


TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def blank(text):
    def spaces(match):
        token = match.group()
        if token[0] in "\"'":
            return token[0] + " " * (len(token) - 2) + token[0]
        return re.sub(r"[^\n]", " ", token)
    return TOKEN.sub(spaces, text)


INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def includes(tree, path):
    """(line, is_system, name) of every include."""
    text = tree.text(path)
    return [(text.count("\n", 0, m.start()) + 1, m.group(1) == "<", m.group(2))
            for m in INCLUDE.finditer(text)]


class Function:
    """A definition: its name, the text of its parameters, its body's first line and lines."""

    def __init__(self, name, line, parameters, body_line, body):
        self.name, self.line, self.parameters = name, line, parameters
        self.body_line, self.body = body_line, body

    def n_parameters(self):
        depth, count = 0, 1
        for c in self.parameters:
            depth += (c == "(") - (c == ")")
            count += c == "," and depth == 0
        return 0 if self.parameters.strip() in ("", "void") else count

    def n_lines(self):
        """Lines of the body; rows of constant tables in it do not count."""
        count, in_table = 0, False
        for line in self.body:
            if in_table:
                in_table = not re.match(r"\s*\};", line)
                continue
            count += 1
            in_table = bool(re.match(r"\s*static const .*\{\s*$", line))
        return count

    def depth(self):
        """Levels of control blocks in the body; initializers are none."""
        stack, deepest = [], 0
        text = "\n".join(self.body)
        for at, c in enumerate(text):
            if c == "{":
                before = text[:at].rstrip()
                is_block = all(stack) and text[at - 1:at] != ")" and (
                    before == "" or before[-1] in ";{}:)" or
                    re.search(r"\b(else|do)$", before) is not None)
                stack.append(is_block)
                deepest = max(deepest, sum(stack))
            elif c == "}" and stack:
                stack.pop()
        return deepest


HEAD = re.compile(r"^([a-z_]\w*)\(", re.M | re.I)


def functions(tree, path):
    """Definitions, found by the house style: the name begins a line, so do its braces."""
    code = tree.code(path)
    found = []
    for head in HEAD.finditer(code):
        depth, at = 1, head.end()
        while at < len(code) and depth > 0:
            depth += (code[at] == "(") - (code[at] == ")")
            at += 1
        body = re.compile(r"[^;{}]*\n\{\n(.*?)^\}", re.S | re.M).match(code, at)
        if body:
            line = code.count("\n", 0, head.start()) + 1
            body_line = code.count("\n", 0, body.start(1)) + 1
            found.append(Function(head.group(1), line, code[head.end():at - 1], body_line,
                                  body.group(1).split("\n")[:-1]))
    return found
