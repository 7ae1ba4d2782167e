"""Which faults, when, on whom: a pure function of the seed.

A schedule says roles ("the primary", "a standby"), not names: whoever has the role when the time
comes is hit, and the record of the run says who that was. The same seed, length and number of
nodes give the same schedule.
"""
import random

# kind, weight, whom it may hit, shortest and longest duration in seconds. What is not in here is
# not injected; docs/testing.md names what cannot be.
KINDS = [
    # (kind, weight, targets, least s, most s)
    ("agent-killed", 4, ("primary", "primary", "standby"), 0, 5),
    ("agent-stopped", 4, ("primary", "primary", "standby"), 1, 8),
    ("agent-restarted", 2, ("primary", "standby"), 0, 1),
    ("guardian-killed", 2, ("primary", "standby"), 0, 1),
    ("guardian-stopped", 2, ("primary", "primary", "standby"), 2, 8),
    ("postmaster-killed", 4, ("primary", "primary", "standby"), 0, 1),
    ("postmaster-stopped", 3, ("primary", "primary", "standby"), 3, 14),
    ("backend-killed", 2, ("primary", "standby"), 0, 1),
    ("backend-stopped", 2, ("primary",), 2, 10),
    ("node-off", 4, ("primary", "primary", "standby"), 1, 8),
    ("node-frozen", 4, ("primary", "primary", "standby"), 2, 12),
    ("cut", 4, ("primary", "primary", "standby"), 2, 10),
    ("cut-out", 3, ("primary", "primary", "standby"), 2, 10),
    ("cut-in", 3, ("primary", "primary", "standby"), 2, 10),
    ("cut-pair", 3, ("primary", "standby"), 3, 12),
    ("halves", 2, ("primary",), 3, 10),
    ("ring", 2, ("primary",), 3, 12),
    ("delay", 3, ("primary", "standby"), 4, 12),
    ("loss", 3, ("primary", "standby"), 4, 12),
    ("disk-full", 2, ("primary", "standby"), 3, 10),
    ("disk-lost", 1, ("standby", "primary"), 1, 4),
    ("redeployed-one", 1, ("any",), 0, 1),
    ("redeployed-all", 1, ("any",), 9, 15),
    ("declared", 2, ("any",), 0, 1),
    ("all-off", 1, ("any",), 1, 4),
]
# Nothing else may be broken beside these, nor before the copies are whole again: what protects
# against them is that the others are well.
ALONE = {"disk-lost", "redeployed-all", "all-off"}
CALM_S = (3.0, 9.0)  # between two rounds
AFTER_ALONE_S = 8.0


class Fault:
    """One fault. `spare` is the node that is hit when nobody has the role; `number` is for what
    the kind needs besides (which backend, how much delay, who is declared)."""

    def __init__(self, at_s, kind, target, spare, seconds, number):
        self.at_s = at_s
        self.kind = kind
        self.target = target
        self.spare = spare
        self.seconds = seconds
        self.number = number

    @property
    def end_s(self):
        return self.at_s + self.seconds

    def __str__(self):
        return (f"{self.at_s:8.2f} s  {self.kind:18s} {self.target:8s} (else n{self.spare}) "
                f"for {self.seconds:5.2f} s, number {self.number}")


def one(dice, at_s, nodes, kinds, target=None):
    kind, _, targets, least, most = dice.choices(kinds, [k[1] for k in kinds])[0]
    return Fault(round(at_s, 2), kind, target or dice.choice(targets), dice.randint(1, nodes),
                 round(dice.uniform(least, most), 2), dice.randint(0, 999))


def make(seed, seconds, nodes, only=None):
    """The faults of a run, by time. The last one has ended when `seconds` are over."""
    dice = random.Random(seed * 1000003 + nodes)
    kinds = [k for k in KINDS if only is None or k[0] in only]
    pairs = [k for k in kinds if k[0] not in ALONE]
    faults = []
    at = dice.uniform(1.0, 4.0)
    while True:
        first = one(dice, at, nodes, kinds)
        batch = [first]
        if first.kind not in ALONE and pairs and dice.random() < 0.35:
            # Two at once: somewhere within the first, or right when it ends.
            batch.append(one(dice, at + dice.uniform(0, first.seconds + 0.5), nodes, pairs))
        end = max(f.end_s for f in batch)
        if end > seconds:
            return faults
        faults += batch
        at = end + dice.uniform(*CALM_S)
        if first.kind in ALONE:
            at += AFTER_ALONE_S
