"""The user's own schedule: the ramp, the growth bound, and the bucket that holds calls to them."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_guard.errors import ConfigError
from llm_guard.state.pace_rate import Rate
from llm_guard.state.pace_schedule import PARTS, Growth, Ramp, RateSchedule, schedule_of


def drive(schedule: RateSchedule, now: float, until: float, every: float = 0.0) -> list[float]:
    """Calls start as soon as the schedule lets them, or `every` so many seconds where that is later."""
    starts = []
    while True:
        now = max(now, schedule.next_start)
        if now >= until:
            return starts
        schedule.note_start(now, now)
        starts.append(now)
        now += every


def allowed(start: float, ceiling: float, ramp: float, begin: float, end: float) -> float:
    """The integral of the linear ramp that begins at 0."""
    def until(t: float) -> float:
        rising = min(t, ramp)
        return start * t + (ceiling - start) * (rising * rising / (2 * ramp) + max(0.0, t - ramp))
    return until(end) - until(begin)


# The ramp.

def test_the_cap_rises_linearly_from_the_first_start() -> None:
    ramp = Ramp(1.0, 10.0, 60.0)
    assert ramp.cap(500.0) == 1.0
    ramp.note_start(1000.0)
    ramp.note_start(1015.0)
    assert [ramp.cap(1000.0 + t) for t in (0, 15, 30, 60, 1e6)] == pytest.approx([1, 3.25, 5.5, 10, 10])


def test_after_a_restart_it_begins_with_the_next_start() -> None:
    ramp = Ramp(1.0, 10.0, 60.0)
    ramp.note_start(0.0)
    ramp.restart(100.0)
    assert ramp.cap(200.0) == 1.0
    ramp.note_start(200.0)
    assert ramp.cap(230.0) == pytest.approx(5.5)


@settings(max_examples=150, deadline=None)
@given(st.floats(0.001, 20), st.floats(0, 50), st.floats(0.1, 300), st.floats(0, 400))
def test_one_start_follows_when_the_cap_has_allowed_one_more(start: float, more: float, seconds: float,
                                                             instant: float) -> None:
    ramp = Ramp(start, start + more, seconds)
    ramp.note_start(0.0)
    after = ramp.next_after(instant)
    assert allowed(start, start + more, seconds, instant, after) == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("start", [0.01, 1.0, 5.0])
def test_all_that_the_ramp_allows_may_start_and_no_more(start: float) -> None:
    schedule = schedule_of(start, 10.0, 60.0, None)
    assert schedule is not None
    starts = drive(schedule, 0.0, 200.0)
    for number, at in enumerate(starts):
        assert number == pytest.approx(allowed(start, 10, 60, 0, at), abs=1e-6)
    assert len(starts) >= allowed(start, 10, 60, 0, 200)


def test_late_starts_are_made_up_for_by_ten_milliseconds_at_most() -> None:
    schedule = RateSchedule((Ramp(10.0, 10.0, 1.0),))
    schedule.note_start(0.0, 0.0)
    assert schedule.next_start == pytest.approx(0.1)
    schedule.note_start(0.104, 0.0)
    assert schedule.next_start == pytest.approx(0.2)
    schedule.note_start(5.0, 0.0)
    assert schedule.next_start == pytest.approx(5.09)
    schedule.note_start(6.0, 6.0)  # it had not waited
    assert schedule.next_start == pytest.approx(6.1)


def test_another_ceiling_counts_from_the_last_start_on() -> None:
    schedule = RateSchedule((Ramp(1.0, 10.0, 60.0),))
    schedule.set_ceiling(0.1)
    schedule.note_start(0.0, 0.0)
    assert schedule.next_start == pytest.approx(10)
    schedule.set_ceiling(61.0)
    assert schedule.cap(30.0) == pytest.approx(31)
    assert schedule.next_start == pytest.approx(math.sqrt(3) - 1)  # t + t^2 / 2 = 1


# Growth.

def rates(starts: list[float], part: float) -> list[float]:
    """Starts a second in each part, from 0 on."""
    counts = Counter(int(at // part) for at in starts)
    return [counts[at] / part for at in range(max(counts) + 1)]


def test_it_begins_with_the_first_rate_and_holds_it_for_a_window() -> None:
    growth = Growth(2.0, 1.5, 900.0)
    schedule = RateSchedule((growth,))
    assert growth.cap(-5.0) == 2.0
    assert rates(drive(schedule, 0.0, 900.0), 30.0) == pytest.approx([2.0] * 30, abs=0.04)


def test_use_that_follows_the_cap_is_never_more_than_factor_times_what_it_was_a_window_ago() -> None:
    schedule = RateSchedule((Growth(2.0, 1.5, 900.0),))
    seen = rates(drive(schedule, 0.0, 5 * 900.0), 30.0)
    for now, before in zip(seen[PARTS:], seen, strict=False):
        assert now <= 1.5 * before + 0.1
    assert seen[60] == pytest.approx(1.5 * 2, rel=0.02)  # the most: two windows later
    assert all(later >= before - 0.04 for before, later in pairwise(seen))
    assert seen[149] > 1.31 * seen[119] > 1.7 * seen[89]


def test_from_steady_use_it_allows_factor_times_as_much_for_a_window() -> None:
    growth = Growth(0.1, 1.5, 100.0)
    schedule = RateSchedule((growth,))
    growth_begins = 3000.0
    while schedule.cap(growth_begins) < 15:  # up to 10 a second, a little below the cap
        rate = min(10.0, schedule.cap(growth_begins))
        drive(schedule, growth_begins, growth_begins + 100, every=1 / rate)
        growth_begins += 100
    assert schedule.cap(growth_begins) == pytest.approx(15, rel=0.02)
    seen = rates([at - growth_begins for at in drive(schedule, growth_begins, growth_begins + 100)], 10.0)
    assert seen == pytest.approx([15] * 10, rel=0.06)


@pytest.mark.parametrize("pause", [900.0, 1800.0, 1e7])
def test_idle_time_builds_up_no_leap(pause: float) -> None:
    schedule = RateSchedule((Growth(1.0, 2.0, 900.0),))
    used = drive(schedule, 0.0, 4 * 900.0)
    assert schedule.cap(3600.0) > 4
    again = drive(schedule, 3600.0 + pause + 60, 3600.0 + pause + 960)
    assert len(used) > 5000
    assert rates([at - again[0] for at in again], 30.0) == pytest.approx([1.0] * 30, abs=0.04)


def test_a_short_pause_costs_its_share() -> None:
    growth = Growth(0.1, 1.5, 900.0)
    schedule = RateSchedule((growth,))
    for second in range(2700):
        schedule.note_start(float(second), float(second))
    assert growth.cap(2700.0) == pytest.approx(1.5)
    assert growth.cap(3000.0) == pytest.approx(1.5 * (600 + 0.1 / 1.5 * 300) / 900)  # 300 s of 900 were idle


def test_less_use_than_the_first_rate_takes_nothing_from_it() -> None:
    growth = Growth(5.0, 1.5, 900.0)
    schedule = RateSchedule((growth,))
    drive(schedule, 0.0, 3000.0, every=10.0)
    assert growth.cap(3000.0) == pytest.approx(5)


def test_a_restart_forgets_no_use() -> None:
    growth = Growth(1.0, 2.0, 60.0)
    schedule = RateSchedule((growth,))
    drive(schedule, 0.0, 300.0)
    before = growth.cap(300.0)
    schedule.restart(300.0)
    assert growth.cap(300.0) == before > 2


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 40), st.integers(0, 30)), max_size=40))
def test_every_window_that_ended_in_the_last_one_counts(gaps: list[tuple[float, int]]) -> None:
    growth, now = Growth(1.0, 1.5, 30.0), 0.0
    starts = []
    for gap, count in gaps:
        now += gap
        growth.cap(now)
        for _ in range(count):
            growth.note_start(now)
            starts.append(now)
    cap = growth.cap(now)
    if not starts:
        assert cap == 1
        return
    parts = Counter(int((at - starts[0]) // 1.0) for at in starts)
    runs = int((now - starts[0]) // 1.0)
    means = [sum(max(1 / 1.5, parts[part]) for part in range(end - PARTS, end)) / PARTS
             for end in range(runs - PARTS, runs + 1)]
    assert cap == pytest.approx(1.5 * min(means))


def test_both_bounds_hold() -> None:
    schedule = schedule_of(1.0, 100.0, 60.0, (1.5, 900))
    assert schedule is not None
    starts = drive(schedule, 0.0, 60.0)
    assert len(starts) == pytest.approx(60, abs=1)
    assert schedule.cap(60.0) == pytest.approx(1)


def learned(rate: Rate, seconds: int) -> Rate:
    """It was cut at 0 to half a call a second, and was not refused for so many seconds, in which there was demand."""
    rate.take(0.0, 0.0)
    rate.cut(0.0, 0.5, None)
    for second in range(1, seconds):
        rate.take(float(second), float(second))
        rate.holds_back = True  # by the schedule or the ceiling, in the end
        rate.tick(float(second), None)
    return rate


@pytest.mark.parametrize("seconds", [35, 41, 200])
def test_the_law_learns_nothing_above_what_the_schedule_allows(seconds: int) -> None:
    rate = learned(Rate(1.0, None, schedule_of(1.0, None, None, (1.5, 900))), seconds)
    assert rate.value == 1
    assert rate._value <= 2


@pytest.mark.parametrize("seconds", [35, 41, 200])
def test_the_law_learns_nothing_above_the_ceiling(seconds: int) -> None:
    rate = learned(Rate(None, 1.0), seconds)
    assert rate.value == 1
    rate.ceiling = math.inf
    assert rate.value <= 2


def test_a_ceiling_below_what_was_learned_takes_nothing_from_it() -> None:
    rate = learned(Rate(None, 100.0), 10)
    rate.ceiling = 0.1
    rate.tick(12.0, None)
    assert rate.value == 0.1
    rate.ceiling = 100.0
    assert rate.value == pytest.approx(0.5, rel=0.05)


def test_without_options_there_is_no_schedule() -> None:
    assert schedule_of(1.0, 10.0, None, None) is None


@pytest.mark.parametrize(("options", "parameter"), [
    ((1.0, 10.0, 0, None), "ramp_time"), ((1.0, 10.0, "60", None), "ramp_time"), ((None, 10.0, 60, None), "ramp_time"),
    ((1.0, None, 60, None), "ramp_time"), ((1.0, 10.0, None, 1.5), "max_growth"),
    ((1.0, 10.0, None, (1, 900)), "max_growth"), ((1.0, 10.0, None, (1.5, 0)), "max_growth"),
    ((1.0, 10.0, None, (1.5, 900, 3)), "max_growth"), ((1.0, 10.0, None, (1.5, "900")), "max_growth")])
def test_what_cannot_work_is_refused(options: tuple[float | None, float | None, object, object],
                                     parameter: str) -> None:
    with pytest.raises(ConfigError) as error:
        schedule_of(*options)
    assert error.value.parameter == parameter
