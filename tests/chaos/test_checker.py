"""The checker, fed histories that are right and histories that were doctored.

Goal:   each check finds what it is for, and a right history passes.
Method: a history of two servers and one failover is made up; each test changes one thing. No
        check may be left that no doctored history trips.
"""
import random
import traceback

import checker
import schedule
from checker import Read, Write

SECOND = 1_000_000_000
A, B = "10.79.0.11", "10.79.0.12"
FORK = 5000
TESTS = []


def test(function):
    TESTS.append(function)
    return function


class Story:
    """8 writers: A acknowledges from 0 to 10 s on timeline 1, B from 12 s to 20 s on timeline 2.
    What A acknowledged beyond LSN 5000 (its last 0.4 s) is gone."""

    def __init__(self):
        self.writes, self.reads, self.rows = [], [], set()
        self.lsn = 200
        seq = 0
        for at in range(0, 20 * SECOND, SECOND // 25):
            seq += 1
            if 10 * SECOND <= at < 12 * SECOND:
                continue
            host, reign = (A, 1) if at < 10 * SECOND else (B, 2)
            for writer in range(2):
                self.lsn += 10
                self.add(at + writer * 1000, host, reign, writer, seq)
                if reign == 2 or self.lsn < FORK:
                    self.rows.add((writer, seq))
            self.reads.append(Read(at + SECOND // 100, at + SECOND // 90, host, reign, reign, 0,
                                   seq))
        self.forks = {1: FORK, 2: None}

    def add(self, sent, host, reign, writer, seq, outcome="ok"):
        told = outcome == "ok"
        self.writes.append(Write(sent, sent + 2_000_000, outcome, host, reign if told else None,
                                 reign if told else None, self.lsn if told else None, writer,
                                 seq, "-"))

    def history(self, is_synchronous=False, max_lag_bytes=100):
        return checker.History(self.writes, self.reads, self.rows, self.forks, is_synchronous,
                               2000, max_lag_bytes)

    def synchronous(self):
        """The same without a loss."""
        self.rows |= {(w.writer, w.seq) for w in self.writes}
        return self

    def found(self, **more):
        return checker.check(self.history(**more))


def expect(found, *names):
    assert set(found) == set(names), f"expected {names}, found {found}"


@test
def a_right_history_passes():
    expect(Story().found())
    expect(Story().synchronous().found(is_synchronous=True))


@test
def a_lost_acknowledgement_is_found_when_replication_is_synchronous():
    s = Story().synchronous()
    s.rows.remove((1, 400))
    expect(s.found(is_synchronous=True), "lost_synchronous")


@test
def what_an_asynchronous_failover_loses_is_a_loss_when_it_claims_to_be_synchronous():
    expect(Story().found(is_synchronous=True), "lost_synchronous", "reads_of_what_went")


@test
def a_row_lost_in_the_middle_is_found():
    s = Story()
    s.rows.remove((1, 50))
    expect(s.found(), "lost_within_the_bound")


@test
def a_row_lost_on_the_last_timeline_is_found():
    s = Story()
    s.rows.remove((1, 450))
    expect(s.found(), "lost_within_the_bound")


@test
def more_lost_than_the_bound_is_found():
    s = Story()
    s.forks[1] = 1000  # a standby was chosen that had stopped long before
    s.rows = {(w.writer, w.seq) for w in s.writes if w.reign == 2 or w.lsn < 1000}
    expect(s.found(), "lost_within_the_bound")
    expect(s.found(max_lag_bytes=10000))


@test
def the_server_that_goes_on_after_its_successor_began_is_found():
    s = Story()
    s.add(13 * SECOND, A, 1, 7, 1)
    assert "two_servers" in s.found()


@test
def the_stale_answer_that_was_under_way_is_no_fault():
    s = Story()
    w = s.writes[200]
    assert w.host == A
    s.writes[200] = w._replace(received=15 * SECOND)  # asked for long before, delivered late
    assert "two_servers" not in s.found()


@test
def two_servers_on_one_timeline_are_found():
    s = Story()
    s.add(5 * SECOND, B, 1, 7, 1)
    s.writes[-1] = s.writes[-1]._replace(reign=None)  # also where no fence says the reign
    s.writes += [w._replace(writer=8, reign=None) for w in s.writes[:2]]
    assert any("timeline 1 of reign 0 was" in text for text in s.found()["two_servers"])


@test
def two_servers_of_one_reign_are_found():
    s = Story()
    s.writes.append(Write(15 * SECOND, 15 * SECOND + 1, "ok", A, 2, 3, s.lsn, 7, 1, "-"))
    s.rows.add((7, 1))
    assert any(text.startswith("reign 2 was") for text in s.found()["two_servers"])


@test
def a_stale_read_of_the_old_primary_is_found():
    s = Story()
    s.reads.append(Read(13 * SECOND, 13 * SECOND + 1, A, 1, 1, 0, 249))
    expect(s.found(), "two_servers", "reads_go_back")


@test
def a_read_that_goes_back_is_found():
    s = Story()
    s.reads.append(Read(18 * SECOND, 18 * SECOND + 1, B, 2, 2, 0, 400))
    expect(s.found(), "reads_go_back")


@test
def a_read_that_misses_an_acknowledged_write_is_found():
    s = Story()
    s.reads = [Read(18 * SECOND, 18 * SECOND + 1, B, 2, 2, 1, 400)]
    expect(s.found(), "reads_go_back")


@test
def a_read_under_way_may_miss_what_is_acknowledged_meanwhile():
    s = Story()
    w = next(w for w in s.writes if w.seq == 450 and w.writer == 1)
    s.reads = [Read(w.received - 5, w.received + 5, B, 2, 2, 1, 449)]
    expect(s.found())


@test
def a_read_that_misses_what_another_read_showed_is_found():
    """The row was never acknowledged, but it was seen, and it stayed."""
    s = Story()
    s.add(13 * SECOND, B, 2, 5, 1, outcome="open")
    s.rows.add((5, 1))
    s.reads = [Read(14 * SECOND, 14 * SECOND + 1, B, 2, 2, 5, 1),
               Read(15 * SECOND, 15 * SECOND + 1, B, 2, 2, 5, 0)]
    expect(s.found(), "reads_go_back")


@test
def a_read_may_miss_what_was_lost_within_the_bound():
    s = Story()
    kept = max(q for w, q in s.rows if w == 0 and q < 300)
    s.reads = [Read(12 * SECOND - 5, 12 * SECOND - 1, B, 2, 2, 0, kept)]
    expect(s.found())
    s.reads = [Read(12 * SECOND - 5, 12 * SECOND - 1, B, 2, 2, 0, kept - 1)]
    expect(s.found(), "reads_go_back")


@test
def a_row_that_was_shown_and_then_lost_is_found_when_replication_is_synchronous():
    s = Story().synchronous()
    s.add(9 * SECOND, A, 1, 5, 1, outcome="open")
    s.reads.append(Read(9 * SECOND + 5, 9 * SECOND + 9, A, 1, 1, 5, 1))
    expect(s.found(is_synchronous=True), "reads_of_what_went")


@test
def a_refused_row_that_is_there_is_found():
    s = Story()
    s.add(14 * SECOND, B, 2, 5, 1, outcome="no")
    expect(s.found())
    s.rows.add((5, 1))
    expect(s.found(), "refused_but_there")


@test
def an_unanswered_row_may_be_there_or_not():
    s = Story().synchronous()
    s.add(14 * SECOND, B, 2, 5, 1, outcome="open")
    expect(s.found(is_synchronous=True))
    s.rows.add((5, 1))
    expect(s.found(is_synchronous=True))


@test
def a_row_that_nobody_wrote_is_found():
    s = Story()
    s.rows.add((99, 1))
    expect(s.found(), "nobody_wrote")


@test
def a_read_of_what_was_not_asked_for_yet_is_found():
    s = Story()
    s.reads = [Read(SECOND, SECOND + 1, A, 1, 1, 0, 200)]
    expect(s.found(), "reads_of_the_future")


@test
def a_timeline_number_that_is_used_again_is_two_timelines():
    """B began timeline 2 and was lost before anybody followed; A began another timeline 2."""
    s = Story()
    for w in list(s.writes):
        if w.reign == 2:
            s.rows.discard((w.writer, w.seq))
    s.reads = []
    for i in range(100):
        s.lsn += 10
        s.writes.append(Write((22 + i) * SECOND, (22 + i) * SECOND + 1, "ok", A, 3, 2, s.lsn, 3,
                              i + 1, "-"))
        s.rows.add((3, i + 1))
    expect(s.found(max_lag_bytes=10000))
    s.rows.remove((3, 50))
    expect(s.found(max_lag_bytes=10000), "lost_within_the_bound")


@test
def lines_of_the_client_are_read_and_others_refused():
    lines = ["W 1 2 ok 10.0.0.1 3 0000000A 1/A0 4 5 -\n", "W 1 2 open 10.0.0.1 - - - 4 6 57P01\n",
             "R 3 4 10.0.0.1 3 0000000A 4 5\n", "W 1 2 o"]
    writes, reads = checker.parse_attempts(lines)
    assert writes[0] == Write(1, 2, "ok", "10.0.0.1", 3, 10, (1 << 32) + 0xA0, 4, 5, "-"), writes
    assert writes[1].timeline is None and writes[1].state == "57P01"
    assert reads == [Read(3, 4, "10.0.0.1", 3, 10, 4, 5)]
    try:
        checker.parse_attempts(["X 1 2\n"])
    except ValueError:
        return
    raise AssertionError("a strange line was taken")


@test
def a_history_file_is_read():
    text = "1\t0/5000\tno recovery target specified\n\n2\t1/10\tno recovery target specified\n"
    assert checker.parse_forks(text, 3) == {1: 0x5000, 2: (1 << 32) + 16, 3: None}
    assert checker.parse_forks("", 1) == {1: None}


@test
def every_check_is_tripped_by_some_doctored_history():
    text = open(__file__, encoding="utf-8").read()
    for c in checker.CHECKS:
        assert f'"{c.__name__}"' in text, f"nothing trips {c.__name__}"


@test
def the_same_seed_is_the_same_schedule():
    for seed in range(20):
        one = [str(f) for f in schedule.make(seed, 600, 5)]
        random.seed(seed)  # nobody else's dice matter
        assert one == [str(f) for f in schedule.make(seed, 600, 5)]
    assert [str(f) for f in schedule.make(1, 600, 5)] != one


@test
def a_schedule_ends_in_time_and_has_every_kind():
    kinds = set()
    for seed in range(20):
        faults = schedule.make(seed, 600, 3)
        kinds |= {f.kind for f in faults}
        assert all(f.end_s <= 600 for f in faults) and faults == sorted(
            faults, key=lambda f: f.at_s)
        for f in faults:
            if f.kind in schedule.ALONE:
                near = [g.kind for g in faults if g is not f and g.at_s < f.end_s
                        + schedule.AFTER_ALONE_S and g.end_s > f.at_s]
                assert not near, f"{f} is not alone: {near}"
    assert kinds == {k[0] for k in schedule.KINDS}
    two = [1 for a in faults for b in faults if a is not b and a.at_s <= b.at_s < a.end_s]
    assert two, "never two at once"


def run(counts):
    for function in TESTS:
        try:
            function()
            counts["passed"] += 1
        except Exception:  # noqa: BLE001
            counts["failed"] += 1
            print(f"failed   {function.__name__}\n{traceback.format_exc()}")
