"""What a history of attempts must look like. Pure: no cluster, no clock, no file.

The history is what clients saw (client.c), the rows that the last primary holds, and the forks
of its timeline. All moments are of one clock.
"""
import bisect
import collections

Write = collections.namedtuple(
    "Write", "sent received outcome host reign timeline lsn writer seq state")
Read = collections.namedtuple("Read", "sent received host reign timeline writer seq")


def parse_lsn(text):
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


def parse_attempts(lines):
    """(writes, reads); a last line that was cut off is left out."""
    writes, reads = [], []
    for line in lines:
        w = line.split()
        if not line.endswith("\n") or not w:
            continue
        if w[0] == "W" and len(w) == 11:
            reign, timeline, lsn = w[5:8]
            writes.append(Write(int(w[1]), int(w[2]), w[3], w[4],
                                int(reign) if reign != "-" else None,
                                int(timeline, 16) if timeline != "-" else None,
                                parse_lsn(lsn) if lsn != "-" else None,
                                int(w[8]), int(w[9]), w[10]))
        elif w[0] == "R" and len(w) == 8:
            reads.append(Read(int(w[1]), int(w[2]), w[3],
                              int(w[4]) if w[4] != "-" else None, int(w[5], 16), int(w[6]),
                              int(w[7])))
        else:
            raise ValueError(f"not a line of client.c: {line!r}")
    return writes, reads


def parse_forks(history, final):
    """{timeline: LSN where the final timeline's history left it} from a history file's text."""
    forks = {}
    for line in (history or "").splitlines():
        words = line.split()
        if words and words[0].isdigit():
            forks[int(words[0])] = parse_lsn(words[1])
    forks[final] = None  # nothing left it
    return forks


class History:
    def __init__(self, writes, reads, rows, forks, is_synchronous, lease_ms, max_lag_bytes,
                 slack_ms=1000):
        self.writes = writes
        self.reads = reads
        self.rows = rows  # set of (writer, seq)
        self.forks = forks
        self.is_synchronous = is_synchronous
        self.bound_ns = (lease_ms + slack_ms) * 1_000_000
        self.max_lag_bytes = max_lag_bytes
        self.acks = sorted((w for w in writes if w.outcome == "ok"), key=lambda w: w.received)
        self.lost = [w for w in self.acks if (w.writer, w.seq) not in rows]


def ms(ns):
    return f"{ns / 1e6:.1f} ms"


def term(answer):
    return answer.reign or 0, answer.timeline


def told(w):
    return f"{w.writer}.{w.seq} by {w.host} (reign {w.reign}, timeline {w.timeline})"


def two_servers(h):
    """Never two that acknowledge: a timeline is of one server and one reign, and once a newer one
    has answered, none that was asked for later is answered by an older one; reads as well."""
    bad = []
    owners = collections.defaultdict(set)
    holders = collections.defaultdict(set)
    answers = sorted([*h.acks, *h.reads], key=lambda a: a.received)
    first = {}
    newest = []  # the newest reign and timeline that had answered by each moment
    for a in answers:
        owners[term(a)].add(a.host)
        if a.reign is not None:
            holders[a.reign].add(a.host)
        first.setdefault(term(a), a)
        newest.append(max(newest[-1], term(a)) if newest else term(a))
    bad += [f"timeline {t} of reign {r} was answered by {sorted(s)}"
            for (r, t), s in owners.items() if len(s) > 1]
    bad += [f"reign {r} was answered by {sorted(s)}" for r, s in holders.items() if len(s) > 1]
    times = [a.received for a in answers]
    for a in answers:
        n = bisect.bisect_left(times, a.sent)
        if n and newest[n - 1] > term(a):
            begun = first[newest[n - 1]]
            what = "a write" if isinstance(a, Write) else "a read"
            bad.append(f"{a.host} (reign {a.reign}, timeline {a.timeline}) answered {what} that "
                       f"was asked for {ms(a.sent - begun.received)} after {begun.host} (reign "
                       f"{begun.reign}, timeline {begun.timeline}) had begun to answer")
    return bad


def lost_synchronous(h):
    """With synchronous replication every acknowledged row is there."""
    return [f"lost: {told(w)}" for w in h.lost] if h.is_synchronous else []


def lost_within_the_bound(h):
    """Asynchronous: lost is only what lies beyond the fork of its timeline; and beyond that lies
    no more than HA_MAX_LAG and what was acknowledged in one lease (and a second for the reports)
    before that server's last word."""
    if h.is_synchronous:
        return []
    bad = []
    by_term = collections.defaultdict(list)
    for w in h.acks:
        by_term[term(w)].append(w)
    # A timeline that nobody followed may be numbered again: the history means the last of them.
    last_term = {t: max(k for k in by_term if k[1] == t) for _, t in by_term}
    forks = {k: h.forks.get(k[1], 0) if last_term[k[1]] == k else 0 for k in by_term}
    later = {}  # (term, writer) -> LSN of that writer's next acknowledged row
    for w in sorted(h.acks, key=lambda w: w.seq, reverse=True):
        following = later.get((term(w), w.writer))
        later[term(w), w.writer] = w.lsn
        if (w.writer, w.seq) in h.rows:
            continue
        fork = forks[term(w)]
        if fork is None:
            bad.append(f"lost on the last timeline, which nothing left: {told(w)}")
        elif following is not None and following <= fork:
            bad.append(f"lost before the fork of its timeline: {told(w)}")
    for key in sorted({term(w) for w in h.lost}):
        acks = by_term[key]
        fork = forks[key] or acks[0].lsn
        until = acks[-1].received - h.bound_ns
        known = max((w.lsn for w in acks if w.received <= until), default=fork)
        if known - fork > h.max_lag_bytes:
            bad.append(f"reign {key[0]}, timeline {key[1]}: {known - fork} bytes were acknowledged "
                       f"beyond the fork {ms(h.bound_ns)} before that server's last word; the "
                       f"bound is {h.max_lag_bytes}")
    return bad


def refused_but_there(h):
    """What was refused is not there."""
    return [f"refused ({w.state}), and there: {w.writer}.{w.seq} at {w.host}"
            for w in h.writes if w.outcome == "no" and (w.writer, w.seq) in h.rows]


def nobody_wrote(h):
    """There is no row that no client asked for."""
    asked = {(w.writer, w.seq) for w in h.writes}
    return [f"nobody wrote {w}.{s}" for w, s in sorted(h.rows - asked)]


def _reads_by_writer(h):
    by_writer = collections.defaultdict(list)
    for r in h.reads:
        by_writer[r.writer].append(r)
    return by_writer


def reads_go_back(h):
    """On the primary a reader sees what was acknowledged or read before it asked, of all that
    was not lost within the bound."""
    bad = []
    seen = collections.defaultdict(list)  # writer -> [(received, seq, what)]
    for w in h.acks:
        if (w.writer, w.seq) in h.rows:
            seen[w.writer].append((w.received, w.seq, "acknowledged by " + w.host))
    kept = collections.defaultdict(list)
    for w, s in sorted(h.rows):
        kept[w].append(s)
    for writer, reads in _reads_by_writer(h).items():
        for r in reads:
            n = bisect.bisect_right(kept[writer], r.seq)
            if n:  # what a read saw and was not lost
                seen[writer].append((r.received, kept[writer][n - 1], "read from " + r.host))
    for writer, reads in _reads_by_writer(h).items():
        facts = sorted(seen[writer])
        times = [f[0] for f in facts]
        best = []
        for f in facts:
            best.append(f if not best or f[1] > best[-1][1] else best[-1])
        for r in reads:
            n = bisect.bisect_left(times, r.sent)
            if n and best[n - 1][1] > r.seq:
                at, seq, what = best[n - 1]
                bad.append(f"{r.host} (reign {r.reign}, timeline {r.timeline}) showed row "
                           f"{r.seq} of writer {writer} as the last, {ms(r.sent - at)} after "
                           f"row {seq} was {what}")
    return bad


def reads_of_what_went(h):
    """With synchronous replication nothing that a reader saw is lost."""
    if not h.is_synchronous:
        return []
    return [f"{r.host} (reign {r.reign}, timeline {r.timeline}) showed {r.writer}.{r.seq}, "
            "which is not there" for r in h.reads if r.seq and (r.writer, r.seq) not in h.rows]


def reads_of_the_future(h):
    """No reader sees what was not asked for yet."""
    sent = {(w.writer, w.seq): w.sent for w in h.writes}
    return [f"{r.host} showed {r.writer}.{r.seq} before it was written" for r in h.reads
            if r.seq and ((r.writer, r.seq) not in sent
                          or sent[r.writer, r.seq] > r.received)]


CHECKS = [two_servers, lost_synchronous, lost_within_the_bound, refused_but_there, nobody_wrote,
          reads_go_back, reads_of_what_went, reads_of_the_future]


def check(h):
    """{name of a check: what it found}; empty when all is well."""
    found = {c.__name__: c(h) for c in CHECKS}
    return {name: bad for name, bad in found.items() if bad}


def longest_gap(acks):
    """(ms, when it began): the longest time without an acknowledgement."""
    times = [w.received for w in acks]
    gaps = [((b - a) / 1e6, a) for a, b in zip(times, times[1:])]
    return max(gaps, default=(0.0, 0))
