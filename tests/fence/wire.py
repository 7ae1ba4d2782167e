"""A PostgreSQL client of a few lines: it shows every message and every cut as it is.

Protocol 3 over a Unix socket, trust authentication, text results. psql and libpq hide
what these tests look for: which bytes arrived before the connection was cut.
"""

import contextlib
import fcntl
import select
import socket
import struct
import termios
import time


class Lost(Exception):
    """The server closed the connection."""


class Answer:
    """What one query (or one batch of messages) brought back."""

    def __init__(self):
        self.tags = []      # CommandComplete
        self.rows = []
        self.error = None   # SQLSTATE of the first ErrorResponse
        self.text = ""
        self.is_lost = False
        self.notified = 0
        self.ready = False

    def kind(self):
        """'ok', 'lost' or the SQLSTATE: an error counts also where the connection ends after it."""
        if self.error:
            return self.error
        return "lost" if self.is_lost else "ok"


class Session:
    def __init__(self, path, timeout=60, **options):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.buffer = b""
        options.setdefault("user", "postgres")
        options.setdefault("database", "postgres")
        body = struct.pack("!i", 196608)
        for name, value in options.items():
            body += name.encode() + b"\0" + value.encode() + b"\0"
        body += b"\0"
        self.sock.sendall(struct.pack("!i", len(body) + 4) + body)
        self.pid = 0
        self.hello = self.collect()

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, kind, body=b""):
        try:
            self.sock.sendall(kind + struct.pack("!i", len(body) + 4) + body)
        except OSError:
            pass  # the answer will tell

    def fill(self, count):
        while len(self.buffer) < count:
            try:
                more = self.sock.recv(65536)
            except ConnectionError:
                more = b""
            if not more:
                raise Lost()
            self.buffer += more

    def message(self):
        self.fill(5)
        kind, size = self.buffer[:1], struct.unpack("!i", self.buffer[1:5])[0]
        self.fill(1 + size)
        body, self.buffer = self.buffer[5:1 + size], self.buffer[1 + size:]
        return kind, body

    def take(self, answer, kind, body):
        if kind == b"C":
            answer.tags.append(body[:-1].decode())
        elif kind == b"D":
            answer.rows.append(row(body))
        elif kind == b"d":
            answer.rows.append(body)
        elif kind == b"A":
            answer.notified += 1
        elif kind == b"K":
            self.pid = struct.unpack("!i", body[:4])[0]
        elif kind == b"E" and answer.error is None:
            for field in body.split(b"\0"):
                if field[:1] == b"C":
                    answer.error = field[1:].decode()
                elif field[:1] == b"M":
                    answer.text = field[1:].decode()

    def received(self):
        """How many bytes lie in the socket, unread: what has left the server for good."""
        count = bytearray(4)
        fcntl.ioctl(self.sock, termios.FIONREAD, count)
        return struct.unpack("i", count)[0]

    def collect(self, until=b"Z"):
        """Reads until a message of one of these kinds has come, or the connection is lost. None:
        until it is lost."""
        answer = Answer()
        try:
            while until is None:
                self.fill(len(self.buffer) + 1)
            while True:
                kind, body = self.message()
                self.take(answer, kind, body)
                if kind in (until, b"Z"):
                    answer.ready = kind == b"Z"
                    return answer
                if kind == b"G":
                    return answer  # COPY FROM: the caller's turn
        except Lost:
            answer.is_lost = True
        return answer

    def start(self, *statements):
        """Sends them all; the answers are the caller's to collect."""
        messages = [s.encode() + b"\0" for s in statements]
        with contextlib.suppress(OSError):  # the answer will tell
            self.sock.sendall(b"".join(b"Q" + struct.pack("!i", len(m) + 4) + m for m in messages))

    def query(self, sql):
        self.start(sql)
        return self.collect()

    def value(self, sql):
        answer = self.query(sql)
        if answer.kind() != "ok":
            raise AssertionError(f"{sql}: {answer.kind()} {answer.text}")
        return answer.rows[0][0] if answer.rows else None

    def extended(self, sql):
        """Parse, Bind, Execute, Flush: the CommandComplete comes before the commit does."""
        self.send(b"P", b"\0" + sql.encode() + b"\0" + struct.pack("!h", 0))
        self.send(b"B", b"\0\0" + struct.pack("!hhh", 0, 0, 0))
        self.send(b"E", b"\0" + struct.pack("!i", 0))
        self.send(b"H")
        return self.collect(b"C")

    def sync(self):
        self.send(b"S")
        return self.collect()

    def is_gone(self, seconds=30):
        """True when the server closes an idle connection within the time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([self.sock], [], [], 0.05)[0]:
                try:
                    if not self.sock.recv(65536):
                        return True
                except ConnectionError:
                    return True
        return False


def row(body):
    at, values = 2, []
    for _ in range(struct.unpack("!h", body[:2])[0]):
        size = struct.unpack("!i", body[at:at + 4])[0]
        at += 4
        if size < 0:
            values.append(None)
        else:
            values.append(body[at:at + size].decode())
            at += size
    return values
