"""Calls that the account has left: what the server tells, fixed windows that are learned, and both through the pace."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate
from random import Random
from typing import Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_guard.outcome import IGNORED, SUCCESS, Kind, Outcome
from llm_guard.state.pace import Pace, Start
from llm_guard.state.pace_allowance import BELIEVED, FARTHEST, PERIODS, SHARP, TRUSTED, Allowance, FixedWindows
from llm_guard.state.pace_gate import LONGEST_REFUSED, ServerGate

#: Where traffic begins: a little after the windows of the servers here, which begin at multiples of their period.
BEGIN = 0.4
#: Seconds that an answer takes, and a refusal.
ANSWERED, REFUSED = 0.1, 0.02


# What the server told.

def told(remaining: float, reset: float, after: int = 0) -> Allowance:
    """Of ten calls the first was answered, at 100 s, after so many more had started."""
    allowance = Allowance()
    for _ in range(1 + after):
        allowance.take()
    allowance.tell(100.0, remaining, reset, started=0)
    return allowance


def left(allowance: Allowance, now: float = 100.0) -> int:
    """How many calls may start at this instant, each of which does."""
    for number in range(100):
        if allowance.ready_at(now) > now:
            return number
        allowance.take()
    return 100


def test_nothing_told_bounds_nothing() -> None:
    assert left(Allowance()) == 100


@pytest.mark.parametrize(("remaining", "after", "calls"), [
    (5, 0, 5), (5, 2, 3), (5, 5, 0), (5, 9, 0), (0, 0, 0), (0.9, 0, 0), (1.9, 0, 1)])
def test_as_many_start_as_are_left_less_those_that_started_after_the_call_that_was_told(
        remaining: float, after: int, calls: int) -> None:
    assert left(told(remaining, 30.0, after)) == calls


def test_calls_that_started_before_the_one_that_was_told_are_known_to_the_server() -> None:
    allowance = Allowance()
    for _ in range(6):
        allowance.take()
    allowance.tell(100.0, 5, 30.0, started=3)  # the fourth of them: the last two are taken off
    assert left(allowance) == 3


def test_who_finds_none_left_waits_for_the_reset() -> None:
    allowance = told(0, 30.0)
    assert allowance.ready_at(100.0) == allowance.ready_at(129.9) == 130
    assert allowance.ready_at(130.5) == 130.5
    assert left(allowance, 130.0) == 100


@pytest.mark.parametrize(("reset", "calls"), [(FARTHEST, 2), (FARTHEST + 0.1, 100), (math.inf, 100), (math.nan, 100),
                                              (0.0, 100), (-5.0, 100)])
def test_resets_far_off_or_past_bound_nothing(reset: float, calls: int) -> None:
    assert left(told(2, reset)) == calls


def test_a_later_answer_takes_the_place_of_an_earlier_one() -> None:
    for remaining, reset in ((7, 20.0), (1, 40.0)):
        allowance = told(3, 30.0)
        allowance.tell(101.0, remaining, reset, started=0)
        assert left(allowance, 101.0) == remaining
        assert allowance.ready_at(101.0) == 101 + reset
    allowance.tell(102.0, 9, 2 * FARTHEST, started=0)
    assert allowance.ready_at(102.0) == 141  # of what is too far off nothing is taken


# Servers and their callers.

class Server(Protocol):
    """It decides when a call starts."""

    def __call__(self, now: float) -> Outcome: ...


class Windows:
    """So many calls in each window of `period` seconds. It may tell what is left, or with a refusal how long to
    wait."""

    def __init__(self, period: float, limit: int, *, tells: bool = False, hint: float | None = None) -> None:
        self.period, self.limit, self.tells, self.hint = period, limit, tells, hint
        self._window, self._used = -1.0, 0

    def __call__(self, now: float) -> Outcome:
        window = now // self.period
        if window != self._window:
            self._window, self._used = window, 0
        accepts = self._used < self.limit
        self._used += accepts
        told = (self.limit - self._used, (window + 1) * self.period - now) if self.tells else (None, None)
        return Outcome(Kind.SUCCESS if accepts else Kind.LIMITED, None if accepts else self.hint, True, *told)


class Bucket:
    """`burst` calls at once, and `rate` a second."""

    def __init__(self, rate: float, burst: int) -> None:
        self.rate, self.burst = rate, burst
        self._left, self._at = float(burst), 0.0

    def __call__(self, now: float) -> Outcome:
        self._left, self._at = min(self.burst, self._left + self.rate * (now - self._at)), now
        if self._left < 1:
            return Outcome(Kind.LIMITED)
        self._left -= 1
        return SUCCESS


class Traffic:
    """As many calls as a pace lets these workers start, from `BEGIN` on. It is never stuck, and one probes at most."""

    def __init__(self, server: Server, seed: int = 1, workers: float = math.inf) -> None:
        self.server, self.workers, self.pace = server, workers, Pace(Random(seed))
        self.now = BEGIN
        self.starts: list[tuple[float, Start, bool]] = []  # with whether it was let in
        self.stops: list[float] = []  # where the gate shut with a start, before anything was refused
        self._ends: list[tuple[float, int, Start, Outcome]] = []
        self._probe: Start | None = None

    def run(self, until: float) -> Traffic:
        while self.now < until:
            at = self.pace.ready_at(self.now) if len(self._ends) < self.workers else math.inf
            if at <= self.now:
                self._start()
                continue
            event = min(at, self._ends[0][0] if self._ends else math.inf)
            assert event < math.inf
            self.now = min(event, until)
            while self._ends and self._ends[0][0] <= self.now:
                _, _, call, outcome = heapq.heappop(self._ends)
                self._probe = None if call is self._probe else self._probe
                self.pace.end(call, self.now, outcome, self.now - call.started, 10.0)
        return self

    def _start(self) -> None:
        call = self.pace.start(self.now)
        if call.probing:
            assert self._probe is None
            self._probe = call
        elif self.pace.shut_since == self.now:
            self.stops.append(self.now)
        outcome = self.server(self.now)
        takes = ANSWERED if outcome.kind is Kind.SUCCESS else REFUSED
        heapq.heappush(self._ends, (self.now + takes, len(self.starts), call, outcome))
        self.starts.append((self.now, call, outcome.kind is Kind.SUCCESS))

    def count(self, period: float, wanted: Callable[[Start, bool], bool]) -> list[int]:
        """How many calls of that kind started in each window that has ended."""
        counts = Counter(at // period for at, call, accepted in self.starts if wanted(call, accepted))
        return [counts[window] for window in range(int(self.now // period))]

    def accepted(self, period: float) -> list[int]:
        return self.count(period, lambda call, accepted: accepted)

    def overran(self, period: float) -> list[bool]:
        """Of each window: calls were refused in it that were no probes."""
        return [refused > 0 for refused in self.count(period, lambda call, accepted: not (accepted or call.probing))]


# Told, through the pace.

@pytest.mark.parametrize(("period", "limit", "workers"), [(10.0, 20, 8), (60.0, 100, 16), (1.0, 7, 4), (30.0, 1, 1)])
def test_what_the_server_tells_is_used_up_and_never_overrun(period: float, limit: int, workers: int) -> None:
    traffic = Traffic(Windows(period, limit, tells=True), workers=workers).run(8 * period)
    assert all(accepted for _, _, accepted in traffic.starts)
    assert traffic.accepted(period) == [limit] * 8
    firsts = {at // period: at % period for at, _, _ in reversed(traffic.starts)}
    assert all(after <= ANSWERED + 1e-6 for window, after in firsts.items() if window > 0)  # after the reset


def test_between_the_last_call_that_is_left_and_the_reset_none_starts() -> None:
    traffic = Traffic(Windows(10.0, 20, tells=True), workers=8).run(9.0)
    last, _, _ = traffic.starts[-1]
    assert last < 2
    assert traffic.pace.in_flight == 0
    assert 10 <= traffic.pace.ready_at(traffic.now) <= 10 + ANSWERED


@pytest.mark.parametrize("outcome", [Kind.LIMITED, Kind.FAILURE, Kind.INVALID, Kind.IGNORED])
def test_an_answer_of_any_kind_may_tell(outcome: Kind) -> None:
    traffic = Traffic(lambda now: SUCCESS).run(1.0)
    call = traffic.pace.start(traffic.now)
    traffic.pace.end(call, traffic.now, Outcome(outcome, None, True, 0.0, 30.0), 0.0)
    assert traffic.pace.ready_at(traffic.now) == traffic.now + 30


# Windows that are learned.

class Asked:
    """The end of each window is asked for, by the gate of the pace, from the instant on at which it is used up."""

    def __init__(self, period: float, seed: int = 1) -> None:
        self.windows, self._gate, self._period = FixedWindows(), ServerGate(Random(seed)), period
        self.reset = 0.0  # the last one
        self.probes: list[float] = []  # of the last window

    def use_up(self, after: float, calls: int = 0) -> Asked:
        """The window that runs is used up so many seconds after it began; asks until the next one runs."""
        at, self.reset, self.probes = self.reset + after, self.reset + self._period, []
        for _ in range(calls):
            self.windows.take()
        self.windows.closed(at)
        self._gate.shut_refused(at, None, self.windows.next_probe(at))
        while (now := self._gate.opens_at) < self.reset:
            self.probes.append(now)
            self.windows.closed(now)
            self._gate.probe_refused(now, None, self.windows.next_probe(now))
        self.probes.append(now)
        self.windows.take()
        self.windows.opened(now)
        self._gate.open(now)
        return self

    def foreseen(self) -> float | None:
        """The next probe, in seconds from the reset that it asks for; as of a tenth into the window."""
        at = self.windows.next_probe(self.reset + 0.1 * self._period)
        return None if at is None else at - self.reset - self._period


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("period", [1.0, 10.0, 60.0])
def test_a_period_is_learned_from_resets_and_then_narrowed_down_to_a_quarter_of_a_second(period: float,
                                                                                        seed: int) -> None:
    asked = Asked(period, seed)
    for _ in range(BELIEVED):
        assert asked.use_up(0.2 * period).foreseen() is None
    widest = 1.25 * LONGEST_REFUSED  # seconds: the longest wait between two probes
    while widest > SHARP:  # each window halves what is possible
        foreseen = asked.use_up(0.2 * period).foreseen()
        assert foreseen is not None
        assert -widest / 2 <= foreseen <= widest / 2
        widest /= 2
    for _ in range(3):  # then one asks, and is let in
        asked.use_up(0.2 * period)
        assert len(asked.probes) == 1
        assert 0 <= asked.probes[0] - asked.reset <= SHARP


def windows(*resets: tuple[float, float]) -> FixedWindows:
    """Each reset lay between the two instants."""
    found = FixedWindows()
    for early, late in resets:
        found.closed(early)
        found.opened(late)
    return found


KNOWN = ((9.0, 11.0), (19.0, 21.0), (29.0, 31.0))


def test_the_next_probe_comes_in_the_middle_until_the_reset_is_sharp() -> None:
    found = windows(*KNOWN)
    assert found.next_probe(35.0) == 40
    found.closed(40.0)  # too early
    assert found.next_probe(40.1) == 40.5
    found.closed(40.5)
    assert found.next_probe(40.6) == 40.75
    found.closed(40.75)
    assert found.next_probe(40.8) == 41  # sharp: the latest of what is possible
    assert found.next_probe(41.0) is None
    found.opened(41.0)
    assert found.next_probe(45.0) == 51
    found = windows(*KNOWN)
    found.opened(40.0)  # just in time: so the earlier half is possible
    assert found.next_probe(45.0) == 49.5
    found.opened(49.25)
    assert found.next_probe(55.0) == 59.25


def test_where_the_middle_is_past_the_latest_possible_instant_is_next() -> None:
    found = windows(*KNOWN)
    assert found.next_probe(40.5) == 41
    assert found.next_probe(41.0) is None


def test_a_reset_that_does_not_fit_is_forgotten_with_all_before() -> None:
    found = windows(*KNOWN)
    found.closed(33.0)
    found.opened(34.0)  # too soon
    assert found.next_probe(34.5) is None
    for number in (4, 5):
        found.closed(number * 10 + 3.0)
        found.opened(number * 10 + 4.0)
        assert (found.next_probe(number * 10 + 5.0) is None) == (number == 4)  # it has to be believed anew


def test_a_period_of_another_length_takes_the_place_of_the_first() -> None:
    found = windows(*KNOWN)
    for reset in (90.0, 150.0):
        found.closed(reset - 57)  # it was used up long before
        found.closed(reset - 1)
        found.opened(reset + 1)
        assert (found.next_probe(reset + 5) is None) == (reset == 90)
    assert found.next_probe(155.0) == 210


def test_a_lull_of_some_windows_is_no_other_period() -> None:
    found = windows(*KNOWN)
    found.closed(67.0)  # nobody had called since
    found.closed(69.0)
    found.opened(71.0)
    assert found.next_probe(75.0) == 80


def irregular(gaps: list[float]) -> Iterator[FixedWindows]:
    """Resets at such distances, each known to a tenth of a second."""
    found = FixedWindows()
    for at in accumulate(gaps):
        found.closed(at - 0.1)
        found.opened(at)
        yield found


@given(st.lists(st.floats(0.3, 5000).filter(lambda gap: all(abs(gap - period) > 0.11 for period in PERIODS)),
                min_size=2, max_size=30))
@settings(max_examples=100, deadline=None)
def test_resets_at_other_distances_are_no_windows(gaps: list[float]) -> None:
    assert all(found._period is None for found in irregular(gaps))


def test_one_reset_that_fits_by_chance_is_not_believed() -> None:
    at = 0.0
    for found, gap in zip(irregular([3.0, 10.0, 3.0, 60.0, 7.0, 1.0] * 4), [3.0, 10.0, 3.0, 60.0, 7.0, 1.0] * 4,
                          strict=True):
        at += gap
        assert found.next_probe(at + 0.01) is None


# How many calls a window lets in.

def counted(*counts: int, asked: Asked | None = None) -> Asked:
    """Windows that let in so many calls, the one that opens them included."""
    asked = asked or Asked(10.0)
    for calls in counts:
        asked.use_up(2.0, calls - (1 if asked.probes else 0))
    return asked


def let_in(asked: Asked) -> int:
    """How many calls start in the window that runs, its probe included, before it is taken to be used up."""
    for number in range(1, 100):
        if asked.windows.used_up():
            return number
        asked.windows.take()
    return 100


@pytest.mark.parametrize(("counts", "full"), [
    ((20, 20), 100), ((20, 20, 20), 20), ((20, 21, 20), 20), ((20, 20, 22), 100), ((20, 100, 103), 100),
    ((20, 100, 104), 100), ((5, 20, 20), 20), ((20, 20, 20, 20), 20), ((20, 20, 20, 40), 100),
    ((20, 20, 20, 40, 40), 40), ((20, 20, 20, 8, 8), 8)])
def test_windows_that_let_in_the_same_are_taken_to_be_full_there(counts: tuple[int, ...], full: int) -> None:
    assert let_in(counted(*counts)) == full


def test_refused_calls_do_not_count() -> None:
    asked = counted(20, 20)
    for _ in range(5):
        asked.windows.take()
        asked.windows.give_back()
    assert let_in(counted(20, asked=asked)) == 20


def test_after_so_many_windows_it_is_tried_whether_the_limit_is_still_there() -> None:
    asked = counted(20, 20, 20)
    for _ in range(2):
        for _ in range(TRUSTED):
            assert asked.windows._full == 20
            counted(20, asked=asked)
        assert asked.windows._full is None
        counted(20, asked=asked)


def test_a_hint_makes_an_end_of_all_that_was_learned() -> None:
    asked = counted(20, 20, 20)
    assert asked.foreseen() is not None
    asked.windows.forget()
    assert asked.foreseen() is None
    assert let_in(asked) == 100


# Learned, through the pace.

#: Windows that are overrun before the limit is known: the resets have to fit, and the counts to be the same.
LEARNING = BELIEVED + 1


@pytest.mark.parametrize(("period", "limit"), [(10.0, 20), (60.0, 60), (10.0, 60)])
def test_once_a_limit_is_learned_calls_stop_before_it_refuses_and_try_it_now_and_then(period: float,
                                                                                     limit: int) -> None:
    traffic = Traffic(Windows(period, limit)).run(20 * period)
    overran = traffic.overran(period)
    assert overran[:LEARNING] == [True] * LEARNING
    assert overran[LEARNING:] == [number % (TRUSTED + 1) == TRUSTED for number in range(20 - LEARNING)]
    assert traffic.accepted(period) == [limit] * 20


def test_it_stops_with_the_last_call_of_a_window_and_comes_back_with_no_smaller_window() -> None:
    traffic = Traffic(Windows(10.0, 20)).run((LEARNING + 1.5) * 10)  # the second window that it does not overrun
    seen = traffic.pace.snapshot(traffic.now)
    reset = (LEARNING + 2) * 10
    assert len(traffic.stops) == 2
    assert traffic.starts[-1][0] == traffic.stops[-1]
    assert (seen.state, seen.in_flight) == ("holding", 0)
    assert traffic.now + seen.gate_in == pytest.approx(reset, abs=1)  # as sharp as it is known by now
    while traffic.pace.shut_since is not None:
        traffic.run(traffic.now + 0.01)
    assert traffic.pace.snapshot(traffic.now).window >= seen.window
    traffic.run(reset + 10)
    assert len(traffic.stops) == 3
    assert traffic.overran(10.0)[LEARNING:] == [False, False, False]


def test_a_probe_without_verdict_is_followed_by_another_at_once() -> None:
    traffic = Traffic(Windows(10.0, 20)).run((LEARNING + 1.5) * 10)
    pace, now = traffic.pace, traffic.pace.ready_at(traffic.now)
    pace.end(pace.start(now), now + 0.1, IGNORED, 0.1)
    assert pace.ready_at(now + 0.1) == now + 0.1


def test_while_all_is_refused_the_gate_asks_when_the_windows_say() -> None:
    traffic = Traffic(lambda now: Outcome(Kind.LIMITED))
    traffic.now, traffic.pace._windows = 35.0, windows(*KNOWN)
    traffic.run(42.0)
    probes = [at for at, call, _ in traffic.starts if call.probing]
    assert [at for at, _, _ in traffic.starts if 36 < at < 41.2] == probes[:4]
    assert probes[:4] == pytest.approx([40, 40.5, 40.75, 41])


@pytest.mark.parametrize("to", [40, 8])
def test_another_limit_is_found(to: int) -> None:
    server = Windows(10.0, 20)
    changed = LEARNING + TRUSTED + 1  # the window after the limit was tried and found where it was
    traffic = Traffic(server).run(changed * 10 - 0.1)
    server.limit = to
    traffic.run((changed + 12) * 10)
    found = changed if to < 20 else changed + TRUSTED
    accepted, overran = traffic.accepted(10.0), traffic.overran(10.0)
    assert accepted[:found] == [20] * found
    assert accepted[found:] == [to] * (len(accepted) - found)
    assert overran[changed:found] == [False] * (found - changed)
    assert overran[found:found + 3] == [True, True, False]  # two that let in the same, and it is known
    assert sum(overran[found + 2:found + 2 + TRUSTED]) == 0


def test_a_hint_with_a_refusal_is_followed_and_nothing_guessed_any_more() -> None:
    server = Windows(10.0, 20)
    traffic = Traffic(server).run((LEARNING + 1) * 10)
    server.hint = 3.0
    tried = LEARNING + TRUSTED + 1
    traffic.run((tried + 5) * 10)
    assert traffic.stops[-1] < tried * 10
    assert sum(traffic.overran(10.0)[tried:]) >= 4  # unless the rate that it learned is low enough for once
    probed_after = [call.gap for _, call, _ in traffic.starts if call.probing and call.started > tried * 10]
    assert probed_after
    assert min(probed_after) >= 3


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("rate", "burst"), [(2.0, 5), (5.0, 20), (0.7, 7)])
def test_a_bucket_is_not_taken_for_windows(rate: float, burst: int, seed: int) -> None:
    traffic = Traffic(Bucket(rate, burst), seed).run(200.0)
    assert sum(accepted for _, _, accepted in traffic.starts) > 0.99 * (200 * rate + burst) - 1
    assert len(traffic.stops) <= TRUSTED  # by chance a few resets may fit a second, and nothing is lost


# Whatever happens.

ACTS = st.lists(st.tuples(st.sampled_from(["take", "give_back", "closed", "opened"]),
                          st.sampled_from([0.0, 0.001, 0.3, 1.0, 9.9, 60.0, 3600.0])), max_size=60)


@given(ACTS)
@settings(max_examples=300, deadline=None)
def test_the_next_probe_is_never_further_off_than_a_period(acts: list[tuple[str, float]]) -> None:
    found, now = FixedWindows(), 0.0
    for act, seconds in acts:
        now += seconds
        getattr(found, act)(*[now] * (act in ("closed", "opened")))
        at = found.next_probe(now)
        assert at is None or now < at <= now + max(PERIODS)


class Moody:
    """Windows whose limit changes, and now and then an answer of any other kind."""

    def __init__(self, periods: tuple[float, float], limits: tuple[int, ...], noise: float, random: Random) -> None:
        self._windows = Windows(periods[0], limits[0])
        self._periods, self._limits, self._noise, self._random = periods, limits, noise, random

    def __call__(self, now: float) -> Outcome:
        draw = self._random
        if draw.random() < 0.02:
            self._windows.limit, self._windows.period = draw.choice(self._limits), draw.choice(self._periods)
        if draw.random() < self._noise:
            return Outcome(draw.choice(list(Kind)), draw.choice([None, None, 0.0, 5.0]), draw.random() < 0.5,
                           *draw.choice([(None, None), (None, None), (0.0, 3.0), (5.0, 50.0), (5.0, -1.0)]))
        return self._windows(now)


LENGTHS = st.sampled_from([*PERIODS, 7.0, 11.0])


@given(st.tuples(LENGTHS, LENGTHS), st.tuples(*[st.integers(1, 20)] * 3), st.sampled_from([0.0, 0.01, 0.1, 0.5]),
       st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_whatever_the_server_does_calls_go_on_and_one_probes_at_a_time(
        periods: tuple[float, float], limits: tuple[int, ...], noise: float, seed: int) -> None:
    traffic = Traffic(Moody(periods, limits, noise, Random(seed)), seed)
    for _ in range(20):  # none of it ever waits longer than the longest of all waits
        before = len(traffic.starts)
        while len(traffic.starts) < before + 20:
            traffic.run(traffic.now + 1.0)
            assert traffic.now - (traffic.starts[-1][0] if traffic.starts else 0) <= max(PERIODS) + 1
