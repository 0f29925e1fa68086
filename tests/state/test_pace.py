"""The pace: replayed against recorded runs of its law, and its behaviour beyond them."""

from __future__ import annotations

import json
import math
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from law_parts import ADDED, without

from llm_guard.errors import ConfigError
from llm_guard.outcome import FAILURE, IGNORED, SUCCESS, TIMEOUT, Kind, Outcome
from llm_guard.state.leak import CATCH_UP
from llm_guard.state.pace import FAILURES_TO_CLOSE, Pace, Start
from llm_guard.state.pace_gate import (
    LONGEST_HINT,
    LONGEST_LOADING,
    LONGEST_PROBE,
    LONGEST_REFUSED,
    QUOTA_WAIT,
)
from llm_guard.state.pace_load import SPACING
from llm_guard.state.pace_rate import DORMANT, GROWTH_A_MINUTE, LEAST, MOST

RUNS = [json.loads(line) for line in
        Path(__file__).with_name("pace-vectors.jsonl").read_text(encoding="utf-8").splitlines()]
#: The recorded figures are rounded to nine digits, the draws to fewer.
CLOSE = 1e-7
REFUSED, LOADING, INVALID = Outcome(Kind.OVERLOAD), Outcome(Kind.LOADING), Outcome(Kind.INVALID)


class Draws(Random):
    """Chance as it was recorded: `uniform` gives these in turn, and has no more than these."""

    def __init__(self) -> None:
        super().__init__()
        self.left: list[float] = []

    def uniform(self, a: float, b: float) -> float:
        drawn = self.left.pop(0)
        assert a <= drawn <= b
        return drawn


class Caller:
    """Calls through a pace, at instants of its own."""

    def __init__(self, pace: Pace | None = None, now: float = 1000.0) -> None:
        self.pace = pace or Pace(Random(1))
        self.now = now
        self.calls: list[Start] = []  # in flight, oldest first

    def start(self) -> Start:
        """One call, as soon as the pace allows it."""
        while (at := self.pace.ready_at(self.now)) > self.now:
            assert at < math.inf
            self.now = at
        call = self.pace.start(self.now)
        self.calls.append(call)
        return call

    def fill(self) -> None:
        """As many calls as the pace takes at once: while it wants less than 0.1 s between them."""
        while self.pace.ready_at(self.now) < self.now + 0.1:
            self.start()

    def end(self, outcome: Outcome, call: Start | None = None, after: float = 0.0,
            timeout: float | None = None) -> None:
        """The oldest call, or the one given, ends so many seconds from now; `timeout` is what bounded it."""
        call = call or self.calls[0]
        self.now += after
        self.calls.remove(call)
        self.pace.end(call, self.now, outcome, self.now - call.started, timeout)

    def ramp(self, window: int) -> None:
        """Rounds of successes, 0.5 s each, until so many calls may be in flight; as many are, just started."""
        self.fill()
        while len(self.calls) < window:
            self.now += 0.5 - (self.now - self.calls[0].started)
            while self.calls:
                self.end(SUCCESS)
            self.fill()
        while len(self.calls) > window:
            self.end(IGNORED, self.calls[-1])

    def window(self) -> float:
        return self.pace.snapshot(self.now).window

    def rate(self) -> float:
        return self.pace.snapshot(self.now).rate or math.inf

    def latency(self) -> float:
        latency = self.pace.snapshot(self.now).latency
        assert latency is not None
        return latency


# The recorded runs.

@pytest.mark.parametrize("run", RUNS, ids=lambda run: run["run"])
def test_follows_the_recorded_run_to_the_last_digit(run: dict[str, Any]) -> None:
    """Without what was added to the law since: so each addition is that part and no other change."""
    with without(*ADDED):
        check_run(run)


def check_run(run: dict[str, Any]) -> None:
    draws = Draws()
    pace = Pace(draws)
    calls: list[tuple[int, Start]] = []
    for number, (what, now, *rest) in enumerate(run["events"]):
        where = f"event {number}: {what} at {now}"
        if what == "admit":
            check_admission(pace, now, rest[0], where)
            continue
        if what == "start":
            name, state = rest
            calls.append((name, pace.start(now)))
        else:
            name, kind, answered, hint, latency, draws.left, state = rest
            # Some names stand for several calls at once: the start tells them apart.
            found = min((entry for entry in calls if entry[0] == name),
                        key=lambda entry: abs(now - latency - entry[1].started))
            assert found[1].started == pytest.approx(now - latency, abs=CLOSE), where
            calls.remove(found)
            pace.end(found[1], now, Outcome(Kind(kind), hint, answered), latency, run["timeout"])
            assert not draws.left, where
        load, gate = pace._load, pace._gate
        seen = (load.window.size, load.rate.value, max(0.0, gate.at), gate.probing, pace._cold, load.latency.mean,
                load.latency.base)
        for found_value, wanted in zip(seen, state, strict=True):
            assert (found_value is None) == (wanted is None), (where, seen)
            assert wanted is None or found_value == pytest.approx(wanted, rel=CLOSE, abs=CLOSE), (where, seen)
    assert not calls


def check_admission(pace: Pace, now: float, wanted: str | float, where: str) -> None:
    if isinstance(wanted, str):
        now += CLOSE  # a wait that ends now may seem to end a rounding later
        found = pace.ready_at(now)
        assert (found <= now if wanted == "now" else found == math.inf), (where, found)
    else:
        assert now < pace.ready_at(now) == pytest.approx(wanted, rel=0, abs=CLOSE), where


# Refusals.

def test_a_burst_of_refusals_is_one_event() -> None:
    burst, single = Caller(), Caller()
    for caller in (burst, single):
        caller.ramp(30)
    for outcome_after in (0.02, *[0.001] * 29):
        burst.end(Outcome(Kind.LIMITED, hint=1.0), after=outcome_after)
    single.end(Outcome(Kind.LIMITED, hint=1.0), after=0.02)
    assert burst.window() == single.window()
    assert burst.rate() == single.rate() < math.inf
    assert burst.pace.ready_at(burst.now) == burst.now  # nor does it shut the gate


def test_the_hint_of_a_second_refusal_without_a_success_between_closes_for_all() -> None:
    caller = Caller()
    caller.ramp(8)
    caller.end(Outcome(Kind.LIMITED, hint=7.0), caller.calls[-1], after=0.02)
    while caller.calls:
        caller.end(IGNORED)
    caller.now += 0.1
    caller.start()
    caller.end(Outcome(Kind.LIMITED, hint=7.0), after=0.02)
    assert caller.pace.ready_at(caller.now) == pytest.approx(caller.now + 7.0)
    assert caller.pace.snapshot(caller.now).state == "holding"


def test_refused_beyond_what_it_ever_accepted_shrinks_the_window_and_not_the_rate() -> None:
    caller = Caller()
    caller.ramp(12)
    held = caller.pace._load.window.held
    newest = caller.calls[-1]
    assert newest.beside >= held
    caller.end(REFUSED, newest, after=0.02)
    assert caller.window() == newest.beside
    assert caller.rate() == math.inf


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_replies_out_of_order_leave_the_same_window(order: tuple[int, ...]) -> None:
    caller = Caller()
    caller.ramp(8)
    caller.end(SUCCESS, after=0.1)
    beyond = caller.calls[-4:]
    caller.pace._load.window.held = beyond[0].beside
    caller.now = beyond[-1].started + 0.02
    for place in order:
        caller.end(REFUSED, beyond[place], after=0.001)
    assert caller.window() == caller.pace._load.window.held == beyond[0].beside


def test_only_replies_of_the_same_burst_may_lower_the_window_further() -> None:
    caller = Caller()
    caller.ramp(12)
    window = caller.pace._load.window
    caller.end(REFUSED, caller.calls[-1], after=0.02)
    ancient = caller.calls[:2]
    while len(caller.calls) > 2:
        caller.end(IGNORED, caller.calls[-1])
    caller.now += 0.1
    caller.end(SUCCESS, caller.start(), after=0.5)
    window.held = 2  # of fewer slots than it had
    fewest, refused_first, most = (caller.start() for _ in range(3))
    caller.end(REFUSED, refused_first, after=0.02)
    assert window.size == window.held == refused_first.beside
    for call in (*ancient, most):
        caller.end(REFUSED, call, after=0.001)
        assert window.size == window.held == refused_first.beside
    caller.end(REFUSED, fewest, after=0.001)
    assert window.size == window.held == fewest.beside


@pytest.mark.parametrize(("apart", "spaced"), [(0.0, True), (0.02, False)])
def test_after_a_refused_burst_starts_are_spaced(apart: float, spaced: bool) -> None:
    caller = Caller()
    caller.ramp(12)
    caller.now += 0.5
    while caller.calls:
        caller.end(SUCCESS)
    for _ in range(8):
        caller.now += apart
        caller.start()
    caller.pace._load.window.held = caller.calls[-1].beside
    caller.end(REFUSED, caller.calls[-1], after=0.02)
    assert caller.rate() == math.inf
    while len(caller.calls) > 4:
        caller.end(IGNORED)
    caller.now += 1
    started = caller.start().started
    wait = caller.pace.ready_at(started + 0.002) - started
    assert wait == pytest.approx(caller.latency() / caller.window() / SPACING if spaced else 0.002)


@pytest.mark.parametrize(("hint", "least", "most"), [
    (10.0, 7.0, 7.0), (0.0, 0.5, 0.5), (-5.0, 0.5, 0.5), (1e9, LONGEST_LOADING, LONGEST_LOADING), (None, 0.375, 0.625)])
def test_loading_shuts_the_gate_for_all(hint: float | None, least: float, most: float) -> None:
    caller = Caller()
    caller.fill()
    caller.end(Outcome(Kind.LOADING, hint=hint), after=0.03)
    wait = caller.pace.snapshot(caller.now).gate_in
    assert least - CLOSE <= wait <= most + CLOSE
    for _ in range(3):  # the same burst has no second voice
        caller.end(Outcome(Kind.LOADING, hint=29.0), after=0.001)
    assert caller.pace.ready_at(caller.now) == pytest.approx(caller.now - 0.003 + wait)


def test_growth_limited_cuts_the_rate_where_other_refusals_would_cut_the_window() -> None:
    caller = Caller()
    caller.ramp(12)
    caller.end(Outcome(Kind.GROWTH_LIMITED), caller.calls[-1], after=0.02)
    assert caller.rate() < DORMANT


def test_growth_limited_caps_growth_for_minutes() -> None:
    caller = Caller()
    caller.ramp(12)
    caller.end(Outcome(Kind.GROWTH_LIMITED), caller.calls[-1], after=0.02)
    first, begun = caller.rate(), caller.now
    while caller.now < begun + 300:
        while caller.pace.ready_at(caller.now) == math.inf:
            caller.end(SUCCESS, after=0.01)
        caller.start()
        assert caller.rate() <= first * GROWTH_A_MINUTE ** ((caller.now - begun) / 60) * 1.001
    assert caller.rate() > first * 1.5


# The gate and its probe.

def shut(caller: Caller) -> None:
    """Closes the gate of a warm pace, and goes to the instant at which a probe may pass."""
    caller.ramp(8)
    caller.end(LOADING, caller.calls[-1], after=0.02)
    while caller.calls:
        caller.end(IGNORED)
    caller.now = caller.pace.ready_at(caller.now)


def test_one_probe_at_a_time() -> None:
    caller = Caller()
    shut(caller)
    assert caller.start().probing
    assert caller.pace.ready_at(caller.now + 1000) == math.inf


@pytest.mark.parametrize("hint", [None, -5.0, 0.0, 5.0, math.inf, math.nan])
@pytest.mark.parametrize("kind", list(Kind))
def test_a_probe_gives_its_place_back_however_it_ends(kind: Kind, hint: float | None) -> None:
    caller = Caller()
    shut(caller)
    caller.start()
    caller.end(Outcome(kind, hint), after=0.5)
    assert caller.pace.snapshot(caller.now).in_flight == 0
    again = caller.start()
    if kind in (Kind.SUCCESS, Kind.INVALID):
        assert not again.probing
        assert again.started == pytest.approx(caller.now)
    else:
        assert again.probing
        caller.end(SUCCESS, after=0.5)
        assert caller.pace.ready_at(caller.now) == caller.now


@pytest.mark.parametrize(("end", "longest"), [(REFUSED, LONGEST_REFUSED), (FAILURE, LONGEST_PROBE),
                                              (LOADING, LONGEST_PROBE)])
def test_pauses_grow_from_probe_to_probe_up_to_a_bound(end: Outcome, longest: float) -> None:
    caller = Caller()
    shut(caller)
    waits = []
    for _ in range(2000):
        caller.start()
        caller.end(end, after=0.03)
        waits.append(caller.pace.snapshot(caller.now).gate_in)
    assert waits[0] < waits[4] <= max(waits) <= 1.25 * longest
    assert min(waits[10:]) >= 0.75 * longest


def test_a_hint_to_a_probe_is_a_floor_with_a_bound() -> None:
    for hint, floor in ((20.0, 20.0), (1e6, LONGEST_HINT)):
        caller = Caller()
        shut(caller)
        caller.start()
        caller.end(Outcome(Kind.LIMITED, hint), after=0.03)
        assert floor <= caller.pace.snapshot(caller.now).gate_in <= floor + 0.05 + CLOSE


def test_a_late_end_of_a_call_from_before_the_gate_closed_neither_opens_nor_closes_it() -> None:
    for outcome in (SUCCESS, INVALID, LOADING, REFUSED, Outcome(Kind.QUOTA)):
        caller = Caller()
        caller.ramp(8)
        caller.end(LOADING, caller.calls[-1], after=0.02)
        caller.now = caller.pace.ready_at(caller.now)
        old = caller.calls[0]
        caller.start()
        caller.end(outcome, old, after=0.1)
        assert caller.pace.ready_at(caller.now) == math.inf  # the probe is still the one to ask
        assert caller.pace.exhausted_for(caller.now) is None
        assert caller.pace.snapshot(caller.now).state == "cold"


def test_a_gate_shut_by_loading_opens_to_the_first_window() -> None:
    caller = Caller()
    first = caller.window()
    shut(caller)
    assert caller.pace.snapshot(caller.now).state == "cold"
    caller.start()
    caller.end(SUCCESS, after=0.5)
    assert caller.window() == first
    assert caller.pace.snapshot(caller.now).state == "ramping"


def test_invalid_opens_a_gate_without_a_latency() -> None:
    caller = Caller()
    shut(caller)
    latency = caller.pace.snapshot(caller.now).latency
    caller.start()
    caller.end(INVALID, after=9.0)
    assert caller.pace.ready_at(caller.now) == caller.now
    assert caller.pace.snapshot(caller.now).latency == latency


# Failures.

@given(st.lists(st.booleans(), min_size=20, max_size=150), st.sampled_from([Kind.FAILURE, Kind.TIMEOUT]))
@settings(max_examples=50, deadline=None)
def test_random_failures_never_shrink_window_or_rate(fails: list[bool], kind: Kind) -> None:
    caller = Caller()
    caller.ramp(6)
    in_a_row = 0
    for fail in fails:
        in_a_row = in_a_row + 1 if fail and in_a_row < FAILURES_TO_CLOSE - 1 else 0
        window, rate = caller.window(), caller.rate()
        caller.now = max(caller.now, caller.calls[0].started + 0.5)
        caller.end(Outcome(kind) if in_a_row else SUCCESS)
        assert caller.window() >= window
        assert caller.rate() >= rate
        caller.fill()
        assert caller.calls


def test_it_is_known_since_when_the_gate_is_shut() -> None:
    caller = Caller()
    caller.ramp(8)
    assert caller.pace.shut_since is None
    caller.end(LOADING, caller.calls[-1], after=0.02)
    shut_at = caller.now
    while caller.calls:
        caller.end(IGNORED)
    for outcome in (LOADING, REFUSED, FAILURE, Outcome(Kind.QUOTA)):
        caller.end(outcome, caller.start(), after=0.03)
        assert caller.pace.shut_since == shut_at
    caller.end(SUCCESS, caller.start(), after=0.5)
    assert caller.pace.shut_since is None
    caller.pace.pause(caller.now, 60)
    assert caller.pace.shut_since is None  # not the server's doing


def test_so_many_failures_in_a_row_close_the_gate() -> None:
    caller = Caller()
    caller.ramp(FAILURES_TO_CLOSE + 4)
    for _ in range(FAILURES_TO_CLOSE - 1):
        caller.end(FAILURE, after=0.001)
    assert caller.pace.snapshot(caller.now).state == "ramping"
    caller.end(FAILURE, after=0.001)
    assert caller.pace.snapshot(caller.now).state == "holding"
    assert caller.pace.ready_at(caller.now) > caller.now
    caller.now = caller.pace.ready_at(caller.now)
    window = caller.window()
    probe = caller.start()
    assert probe.beside > 0
    caller.pace._load.window.held = 0
    caller.end(SUCCESS, probe, after=0.1)
    assert caller.window() == pytest.approx(0.7 * window)
    assert caller.pace._load.window.held == 0  # what a single probe shows is not what the server holds


def test_invalid_breaks_a_row_of_failures_and_an_end_without_verdict_does_not() -> None:
    for outcome, closes in ((INVALID, False), (SUCCESS, False), (IGNORED, True)):
        caller = Caller()
        caller.ramp(2 * FAILURES_TO_CLOSE)
        for end in [FAILURE] * (FAILURES_TO_CLOSE - 1) + [outcome, FAILURE]:
            caller.end(end, after=0.001)
        assert (caller.pace.snapshot(caller.now).state == "holding") == closes


def test_only_failures_that_the_server_answered_count_as_delivered() -> None:
    caller = Caller()
    caller.ramp(8)
    rate = caller.pace._load.rate
    done = rate.done
    caller.end(Outcome(Kind.FAILURE, answered=False))
    assert rate.done == done
    caller.end(Outcome(Kind.FAILURE, answered=True))
    assert rate.done == done + 1


def test_an_end_without_verdict_changes_nothing_but_the_permit() -> None:
    caller = Caller()
    caller.ramp(8)
    before = caller.pace.snapshot(caller.now)
    caller.end(IGNORED)
    after = caller.pace.snapshot(caller.now)
    assert after.in_flight == before.in_flight - 1
    assert (after.window, after.rate, after.latency, after.state) == (
        before.window, before.rate, before.latency, before.state)


# Timeouts.

def test_a_timeout_is_heard_as_a_latency_and_may_step_the_window_back() -> None:
    caller = Caller()
    caller.ramp(8)
    latency = caller.latency()
    caller.end(TIMEOUT, after=0.4, timeout=0.4)
    assert caller.latency() == latency  # less than the others take
    window = caller.window()
    caller.end(TIMEOUT, after=9.6, timeout=10.0)
    assert latency < caller.latency() < 10
    assert caller.window() == window
    for _ in range(4):
        caller.end(TIMEOUT, timeout=10.0)
    assert caller.latency() > 2.5 * latency
    assert caller.window() < window


@pytest.mark.parametrize(("outcome", "timeout"), [(TIMEOUT, None), (FAILURE, 10.0), (IGNORED, 10.0)])
def test_only_what_ran_out_of_a_known_time_tells_a_latency(outcome: Outcome, timeout: float | None) -> None:
    caller = Caller()
    caller.ramp(8)
    latency = caller.latency()
    caller.end(outcome, after=10.0, timeout=timeout)
    assert caller.latency() == latency


def test_a_timeout_from_before_a_cut_tells_no_latency() -> None:
    caller = Caller()
    caller.ramp(8)
    latency = caller.latency()
    caller.end(REFUSED, caller.calls[-1], after=0.02)
    caller.end(TIMEOUT, after=9.98, timeout=10.0)
    assert caller.latency() == latency


def test_a_probe_or_a_cold_call_that_runs_out_of_time_tells_no_latency() -> None:
    caller = Caller()
    caller.ramp(FAILURES_TO_CLOSE)
    latency = caller.latency()
    for _ in range(FAILURES_TO_CLOSE):
        caller.end(FAILURE)
    assert caller.start().probing
    caller.end(TIMEOUT, after=10.0, timeout=10.0)
    assert caller.latency() == latency
    caller = Caller(Pace(Random(1), idle=60.0))
    caller.ramp(8)
    while caller.calls:
        caller.end(SUCCESS)
    latency, caller.now = caller.latency(), caller.now + 100
    assert caller.start().cold
    caller.end(TIMEOUT, after=10.0, timeout=10.0)
    assert caller.latency() == latency


# The quota.

@pytest.mark.parametrize(("hint", "wait"), [
    (None, QUOTA_WAIT), (0.0, QUOTA_WAIT), (-5.0, QUOTA_WAIT), (math.nan, QUOTA_WAIT), (3600.0, 3600.0)])
def test_an_exhausted_quota_is_told_and_then_probed_by_one(hint: float | None, wait: float) -> None:
    caller = Caller()
    caller.ramp(8)
    assert caller.pace.exhausted_for(caller.now) is None
    caller.end(Outcome(Kind.QUOTA, hint), caller.calls[-1], after=0.02)
    assert caller.pace.exhausted_for(caller.now) == pytest.approx(wait)
    assert caller.pace.snapshot(caller.now).state == "exhausted"
    caller.end(SUCCESS, after=0.02)  # it was under way before
    assert caller.pace.exhausted_for(caller.now) == pytest.approx(wait - 0.02)
    caller.now += wait
    assert caller.pace.exhausted_for(caller.now) is None
    probe = caller.start()
    assert caller.pace.ready_at(caller.now) == math.inf
    caller.end(Outcome(Kind.QUOTA, hint), probe)
    assert caller.pace.exhausted_for(caller.now) == pytest.approx(wait)
    caller.now += wait
    caller.end(SUCCESS, caller.start(), after=0.1)
    while caller.calls:
        caller.end(IGNORED)
    assert not caller.start().probing


# The bucket.

RATES = st.floats(0.3, 500)
STEPS = st.lists(st.tuples(st.sampled_from([0.0, 0.0, 0.001, 0.05, 2.0]), st.sampled_from([0.0, 0.002, 0.009, 0.03])),
                 min_size=2, max_size=60)


def starts_through(pace: Pace, steps: list[tuple[float, float]], catch_up: bool, now: float = 0.0) -> list[float]:
    """When calls start that arrive with such gaps between them and wake up so late, each in its turn."""
    starts: list[float] = []
    arrival = now
    for gap, late in steps:
        arrival += gap
        now = max(now, arrival)
        while (at := pace.ready_at(now)) > now:
            now = at + late
        pace.end(pace.start(now, arrival if catch_up else None), now, IGNORED, 0.0)
        starts.append(now)
    return starts


def assert_bounded(starts: list[float], rate: float, slack: float) -> None:
    for first, begin in enumerate(starts):
        for count, end in enumerate(starts[first:], 1):
            assert count <= rate * (end - begin + slack) + 1 + CLOSE


@given(RATES, STEPS)
def test_in_every_window_no_more_start_than_rate_and_catch_up_allow(
        rate: float, steps: list[tuple[float, float]]) -> None:
    assert_bounded(starts_through(Pace(Random(1), ceiling=rate), steps, catch_up=True), rate, CATCH_UP)


@given(RATES, STEPS)
def test_without_a_wait_there_is_nothing_to_catch_up(rate: float, steps: list[tuple[float, float]]) -> None:
    assert_bounded(starts_through(Pace(Random(1), ceiling=rate), steps, catch_up=False), rate, 0.0)


def test_catching_up_makes_good_for_late_wake_ups() -> None:
    rate, steps = 50.0, [(0.0, 0.004)] * 200
    caught_up = starts_through(Pace(Random(1), ceiling=rate), steps, catch_up=True)
    slower = starts_through(Pace(Random(1), ceiling=rate), steps, catch_up=False)
    assert (len(steps) - 1) / (caught_up[-1] - caught_up[0]) == pytest.approx(rate, rel=0.01)
    assert (len(steps) - 1) / (slower[-1] - slower[0]) < 0.9 * rate


def test_the_dormant_rate_does_not_double_for_ever() -> None:
    rate = Pace(Random(1))._load.rate
    for second in range(100):
        rate.take(float(second), float(second))
        rate.holds_back = True
        rate.tick(float(second), None)
    assert DORMANT < rate.value <= MOST


def test_a_first_rate_is_doubled_while_it_holds_back_up_to_the_ceiling() -> None:
    caller = Caller(Pace(Random(1), start=5, ceiling=30))
    rates = [caller.rate()]
    while caller.now < 1020:
        while caller.pace.ready_at(caller.now) == math.inf:
            caller.end(SUCCESS, after=0.05)
        caller.start()
        rates.append(caller.rate())
    assert sorted(set(rates)) == [5, 10, 20, 30]
    assert rates == sorted(rates)


def test_the_ceiling_can_be_changed_at_any_time() -> None:
    pace = Pace(Random(1), ceiling=10)
    assert pace.snapshot(0.0).rate == 10
    pace.ceiling = 3
    assert pace.snapshot(0.0).rate == 3
    pace.ceiling = None
    assert pace.snapshot(0.0).rate is None
    with pytest.raises(ConfigError):
        pace.ceiling = 0
    assert pace.ceiling is None


@pytest.mark.parametrize("options", [{"ceiling": 0}, {"start": -1}, {"start": math.inf}, {"idle": 0}])
def test_options_that_cannot_work_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Pace(Random(1), **options)


# Whatever happens.

EVENTS = st.lists(st.tuples(
    st.sampled_from([None, None, *Kind]),  # None: a call starts, where it may
    st.sampled_from([None, None, 0.0, 0.5, 100.0]),  # the hint
    st.sampled_from([0.0, 0.001, 0.1, 1.0, 5.0]),  # seconds until then
    st.integers(0, 100),  # which call ends
    st.sampled_from([None, None, (0.0, 5.0), (3.0, 59.0), (-1.0, 61.0), (0.0, math.inf), (math.nan, math.nan)]),
), max_size=200)  # last: the calls that are left and the seconds until there are more, as the server tells
CEILINGS = st.one_of(st.none(), st.floats(0.3, 50))


@given(EVENTS, st.integers(0, 2**32), CEILINGS)
@settings(max_examples=200, deadline=None)
def test_whatever_the_ends_the_pace_keeps_its_bounds_and_comes_back(
        events: list[tuple[Kind | None, float | None, float, int, tuple[float, float] | None]], seed: int,
        ceiling: float | None) -> None:
    pace = Pace(Random(seed), ceiling=ceiling)
    now, calls, starts = 0.0, list[Start](), list[float]()
    for kind, hint, seconds, which, left in events:
        now += seconds
        if kind is None:
            if pace.ready_at(now) <= now:
                calls.append(pace.start(now))
                starts.append(now)
        elif calls:
            call = calls.pop(which % len(calls))
            remaining, reset = left or (None, None)
            pace.end(call, now, Outcome(kind, hint, True, remaining, reset), now - call.started, 10.0)
        assert sum(call.probing for call in calls) <= 1
        assert calls or pace.ready_at(now) < math.inf
        seen = pace.snapshot(now)
        assert seen.in_flight == len(calls)
        assert 1 <= seen.window < math.inf
        assert seen.rate is None or seen.rate >= LEAST
        assert seen.rate is not None or ceiling is None
        assert seen.rate is None or ceiling is None or seen.rate <= ceiling
    if ceiling is not None:
        assert_bounded(starts, ceiling, CATCH_UP)
    for call in calls:
        pace.end(call, now, IGNORED, 0.0)
    for _ in range(3):  # it never stays stuck: the next calls are let in, and their success opens the gate
        for _ in range(3):  # the gate, what the server told, the rate
            now = max(now, pace.ready_at(now))
            assert now < math.inf
        assert pace.ready_at(now) == now
        pace.end(pace.start(now), now + 0.1, SUCCESS, 0.1)
        now += 0.1
    now = max(now, pace.ready_at(now))  # a call that was still told of may have none left just now
    assert pace.snapshot(now).state in ("ramping", "steady")


def test_a_call_ends_only_once() -> None:
    caller = Caller()
    caller.fill()
    call = caller.calls[0]
    caller.end(SUCCESS, after=0.1)
    before = caller.pace.snapshot(caller.now)
    caller.pace.end(call, caller.now, SUCCESS, 0.1)
    assert caller.pace.snapshot(caller.now) == before


def test_reset_goes_back_to_the_first_state_and_forgets_the_calls_under_way() -> None:
    caller = Caller(Pace(Random(1), ceiling=100))
    fresh = caller.pace.snapshot(caller.now)
    caller.ramp(8)
    caller.end(Outcome(Kind.QUOTA), caller.calls[-1], after=0.1)
    caller.pace.reset()
    assert caller.pace.snapshot(caller.now) == fresh
    for _ in range(3):
        caller.end(LOADING)
    assert caller.pace.snapshot(caller.now) == fresh
    assert caller.pace.ready_at(caller.now) == caller.now


# By hand, deadlines, idleness.

def test_a_pause_by_hand_holds_everybody_until_it_ends_or_is_lifted() -> None:
    caller = Caller()
    caller.ramp(8)
    caller.end(SUCCESS, after=0.1)
    caller.pace.pause(caller.now, 60)
    seen = caller.pace.snapshot(caller.now)
    assert seen.state == "paused"
    assert seen.gate_in == pytest.approx(60)
    assert caller.pace.ready_at(caller.now) == caller.now + 60
    assert caller.pace.ready_at(caller.now + 60) == caller.now + 60
    caller.pace.resume(caller.now)
    assert caller.pace.ready_at(caller.now) == caller.now
    assert caller.window() == seen.window


def test_resume_opens_a_gate_that_the_server_had_shut() -> None:
    caller = Caller()
    caller.ramp(8)
    caller.end(Outcome(Kind.QUOTA, hint=3600.0), caller.calls[-1], after=0.1)
    caller.pace.resume(caller.now)
    assert caller.pace.exhausted_for(caller.now) is None
    while len(caller.calls) >= int(caller.window()):
        caller.end(IGNORED)
    assert not caller.start().probing


@pytest.mark.parametrize("seconds", [-1, math.nan])
def test_a_pause_of_no_length_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError):
        Pace(Random(1)).pause(0.0, seconds)


def test_a_call_is_hopeless_where_two_and_a_half_latencies_do_not_fit() -> None:
    caller = Caller()
    assert not caller.pace.hopeless(caller.now, caller.now)  # nothing is known yet
    assert caller.pace.hopeless(caller.now, caller.now - 1)
    caller.ramp(8)
    latency = caller.pace.snapshot(caller.now).latency
    assert latency is not None
    assert caller.pace.hopeless(caller.now, caller.now + 2.4 * latency)
    assert not caller.pace.hopeless(caller.now, caller.now + 2.6 * latency)


def test_a_long_latency_makes_no_call_hopeless_that_has_eight_seconds() -> None:
    caller = Caller()
    for _ in range(2):  # the first may have waited for the model: it tells no latency
        caller.start()
        caller.end(SUCCESS, after=30.0)
    assert caller.pace.hopeless(caller.now, caller.now + 7.9)
    assert not caller.pace.hopeless(caller.now, caller.now + 8.1)


@pytest.mark.parametrize("idle", [None, 60.0])
def test_after_idleness_the_server_is_taken_to_be_cold(idle: float | None) -> None:
    caller = Caller(Pace(Random(1), idle=idle))
    first = caller.window()
    caller.ramp(8)
    caller.now += 100
    assert caller.pace.ready_at(caller.now) == math.inf  # in flight is not idle
    assert caller.window() > first
    while caller.calls:
        caller.end(SUCCESS)
    caller.now += 61
    assert caller.start().cold == (idle is not None)
    assert (caller.window() == first) == (idle is not None)


def test_an_answer_in_no_time_at_all_is_no_latency_of_zero() -> None:
    caller = Caller()
    for _ in range(50):
        caller.start()
        caller.end(SUCCESS)
    latency = caller.pace.snapshot(caller.now).latency
    assert latency is not None
    assert latency > 0


def test_the_state_in_one_word() -> None:
    caller = Caller()
    assert caller.pace.snapshot(caller.now).state == "cold"
    caller.ramp(8)
    assert caller.pace.snapshot(caller.now).state == "ramping"
    caller.end(REFUSED, caller.calls[-1], after=0.02)
    assert caller.pace.snapshot(caller.now).state == "steady"
