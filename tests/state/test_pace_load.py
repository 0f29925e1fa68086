"""The parts of the pace by themselves: the rate, the window, the latency and the gate."""

from __future__ import annotations

import math
from random import Random

import pytest

from llm_guard.state.pace_gate import LONGEST_QUOTA, ServerGate
from llm_guard.state.pace_latency import Latency
from llm_guard.state.pace_load import BURST, BURST_MEMORY, SPACING, Load
from llm_guard.state.pace_rate import DORMANT, GROWTH_MEMORY, LEAST, QUIET, QUIET_GROWTH, SHORTEST, Rate

CUT_AT = 1000.0


def cut_rate(delivered: float = 10.0, latency: float | None = 1.0) -> Rate:
    """A rate that was cut at `CUT_AT`, where a second of measurement begins too."""
    rate = Rate(None, None)
    rate.measure_anew(CUT_AT)
    rate.cut(CUT_AT, delivered, latency)
    return rate


def known(latency: float, base: float | None = None, rate: Rate | None = None) -> Load:
    """A load with such a latency, of many calls, and 8 in its window, all of which were once held."""
    load = Load(rate or Rate(None, None))
    for _ in range(20):
        load.latency.add(latency)
    load.latency.base = base or latency
    load.window.size, load.window.held = 8.0, 8
    return load


def cut(load: Load, at: float = CUT_AT, *, beside: int, in_flight: int, gap: float = math.inf,
        hint: float | None = None, grew: bool = False) -> bool:
    """A call is refused that started with so many `beside` it, `gap` seconds after the last of them."""
    return load.cut(at, beside, gap, in_flight, hint, grew)


# The rate.

def test_after_a_cut_the_rate_comes_back_to_its_bound_then_tries_more_and_then_forgets_it() -> None:
    rate = cut_rate(10.0)
    assert rate.bound == 10.0
    values = {0.0: rate.value}
    while rate.learned:
        age = max(values) + 1
        rate.tick(CUT_AT + age, 1.0)
        values[age] = rate.value
    assert list(values.values()) == sorted(values.values())
    assert values[0.0] < values[9.0] < values[10.0] == 10.0 < values[20.0]
    assert 40 < max(values) < 45
    assert rate.slow_start


def test_after_a_quiet_time_the_rate_rises_ever_faster_so_that_a_limit_that_was_tripled_is_soon_followed() -> None:
    rate = cut_rate(10.0)
    for age in range(11, 41):
        rate.tick(CUT_AT + age, 1.0)
        quiet = max(0.0, age - QUIET)
        assert rate.value == pytest.approx(10 * math.exp(0.2 * (age / 10 - 1) + QUIET_GROWTH * quiet**2))
        if age == QUIET:
            assert rate.value < 1.4 * rate.bound  # until then it stays near
        if age == 30:
            assert rate.value > 3 * rate.bound


def test_a_refusal_begins_the_quiet_time_anew() -> None:
    rate = cut_rate(10.0)
    for age in range(1, 41):
        if age == 20:
            rate.cut(CUT_AT + age, 10.0, 1.0)
        rate.tick(CUT_AT + age, 1.0)
        assert rate.value < 1.4 * rate.bound


@pytest.mark.parametrize(("sent", "seconds", "bound"), [
    (20, 4.0, 5.0), (3, 0.1, 3 / SHORTEST), (3, 0.0, 3 / SHORTEST), (2000, 1.0, 0.7 * DORMANT)])
def test_a_cut_with_nothing_delivered_goes_by_what_was_sent(sent: int, seconds: float, bound: float) -> None:
    load = Load(Rate(None, None))
    for _ in range(sent):
        load.start(CUT_AT, CUT_AT)
    assert not cut(load, CUT_AT + seconds, beside=sent - 1, in_flight=sent - 1, hint=1.0)
    assert load.rate.bound == pytest.approx(bound)
    assert load.rate.value == pytest.approx(0.9 * bound)


@pytest.mark.parametrize("measure", ["measure_anew", "tick"])
def test_only_what_was_sent_since_it_measures_counts(measure: str) -> None:
    rate = Rate(None, None)
    for _ in range(100):
        rate.take(CUT_AT, CUT_AT)
    if measure == "tick":
        rate.tick(CUT_AT + 1, None)
    else:
        rate.measure_anew(CUT_AT + 1)
    for _ in range(6):
        rate.take(CUT_AT + 1, CUT_AT + 1)
    rate.cut(CUT_AT + 3, 0.0, None)
    assert rate.bound == 3


def test_a_second_with_a_refusal_does_not_raise_the_rate() -> None:
    rate = cut_rate()
    cut_to, rate.clean = rate.value, False
    rate.tick(CUT_AT + 5, 1.0)
    assert rate.value == cut_to
    rate.tick(CUT_AT + 6, 1.0)
    assert rate.value > cut_to


@pytest.mark.parametrize(("latency", "learned"), [(0.69, False), (0.71, True), (None, True)])
def test_a_bound_is_forgotten_at_once_when_the_latency_falls_well_below_that_of_the_cut(
        latency: float | None, learned: bool) -> None:
    rate = cut_rate(latency=1.0)
    rate.tick(CUT_AT + 2, latency)
    assert rate.learned == learned


def test_nothing_is_measured_in_less_than_a_second_or_a_latency() -> None:
    rate = cut_rate()
    rate.done = 30
    rate.tick(CUT_AT + 0.9, 0.1)
    rate.tick(CUT_AT + 2.9, 3.0)
    assert rate.delivered == 0
    rate.tick(CUT_AT + 3.0, 3.0)
    assert rate.delivered == 10
    rate.done = 40
    rate.tick(CUT_AT + 5.0, 1.0)
    assert rate.delivered == 15  # the mean of the last and what was before


def test_a_cut_goes_down_to_the_least_and_no_further() -> None:
    assert cut_rate(delivered=0.001).value == LEAST


def test_a_cut_does_not_raise_a_ceiling_that_is_lower_still() -> None:
    rate = Rate(None, 0.05)
    rate.cut(CUT_AT, 0.01, 1.0)
    assert rate.value == 0.05
    rate.ceiling = math.inf
    assert rate.value == 0.05


def test_what_was_wanted_above_the_ceiling_does_not_leap_when_it_is_lifted() -> None:
    rate = Rate(4.0, 10.0)
    for second in range(20):
        rate.take(float(second), float(second))
        rate.holds_back = True
        rate.tick(float(second), None)
    assert rate.value == 10
    rate.ceiling = math.inf
    assert rate.value < 20


@pytest.mark.parametrize(("after", "value"), [(GROWTH_MEMORY + 1, DORMANT), (1.0, 9.0)])
def test_a_restart_is_no_way_around_a_cap_on_growth(after: float, value: float) -> None:
    rate = cut_rate(10.0)
    rate.cap_growth(CUT_AT)
    rate.restart(CUT_AT + after)
    assert rate.value == value


# What a burst of refusals cuts.

def test_a_refusal_where_it_once_accepted_is_a_rate_limit_at_what_was_delivered() -> None:
    load = known(latency=2.0)
    assert not cut(load, beside=3, in_flight=4)
    assert load.rate.bound == pytest.approx(5 / 2.0)  # five were in flight, two seconds each
    assert load.window.size == 5
    assert (load.window.held, load.window.slots) == (3, False)


def test_where_answers_are_slow_and_few_it_is_the_queue_that_is_full() -> None:
    for grew, size in ((False, 0.7 * 5), (True, 5)):
        load = known(latency=2.0, base=1.0)
        load.rate.delivered = 5.0
        cut(load, beside=3, in_flight=4, grew=grew)
        assert load.window.size == pytest.approx(size)
        assert load.rate.learned == grew


def test_a_rate_known_to_be_limited_is_not_cut_below_what_was_let_in() -> None:
    load = known(latency=2.0, rate=cut_rate(10.0))
    load.rate.delivered = 1.0
    cut(load, CUT_AT + 5, beside=20, in_flight=16)
    assert load.rate.bound == pytest.approx(0.9 * 16 / 2.0)


def test_slots_that_are_full_forget_themselves_with_a_refusal_of_another_kind() -> None:
    load = known(latency=1.0)
    assert cut(load, beside=9, in_flight=8)
    assert load.window.slots
    cut(load, CUT_AT + 1, beside=2, in_flight=5)
    assert not load.window.slots
    assert load.rate.learned


# The window.

@pytest.mark.parametrize(("latency", "base", "timeout", "limit"), [
    (4.9, 3.5, 10.0, 5.0), (5.1, 3.5, 10.0, 5.0), (9.9, 4.0, None, 10.0), (10.1, 4.0, None, 10.0),
    (0.5, 0.5, 10.0, 1.25), (5.1, 4.0, 10.0, 5.2), (5.3, 4.0, 10.0, 5.2), (7.6, 6.0, 10.0, 7.5)])
def test_the_window_steps_back_before_queues_eat_up_half_the_timeout_unless_the_server_was_never_that_quick(
        latency: float, base: float, timeout: float | None, limit: float) -> None:
    load = known(latency, base)
    load.answered(CUT_AT, latency, timeout, fresh=True)
    assert load.latency.limit(timeout) == pytest.approx(limit, rel=1e-3)
    assert load.window.size == pytest.approx(8 - max(0.0, 0.5 * (1 - limit / latency)), abs=1e-3)
    assert (load.window.size < 8) == (latency > limit)


@pytest.mark.parametrize(("latency", "queues"), [(8.3, False), (8.5, True)])
def test_slow_start_ends_only_where_calls_queue(latency: float, queues: bool) -> None:
    load = known(latency, base=7.0)  # 1.2 times that is 8.4
    load.answered(CUT_AT, latency, 10.0, fresh=True)
    assert load.window.size < 8
    assert load.window.slow_start == (not queues)


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.2])
def test_a_server_never_quicker_than_half_its_timeout_is_slow_and_not_overrun(spread: float) -> None:
    load, random = Load(Rate(None, None)), Random(1)
    load.window.holds_back = True
    before = load.window.size
    for _ in range(200):
        load.answered(CUT_AT, 6 * random.uniform(1 - spread, 1 + spread), 10.0, fresh=True)
    assert load.window.slow_start
    assert load.window.size > before + 150  # by nearly 1 an answer


@pytest.mark.parametrize(("latency", "grows"), [(2.4, True), (2.6, False)])
def test_a_slow_call_grows_nothing_though_the_mean_is_fine(latency: float, grows: bool) -> None:
    load = known(1.0)
    load.window.holds_back = True
    load.answered(CUT_AT, latency, None, fresh=True)
    assert load.latency.mean is not None
    assert load.latency.mean < 1.2
    assert load.window.size == (9 if grows else 8)


@pytest.mark.parametrize(("latency", "steps_back"), [(2.4, False), (2.6, True)])
def test_the_window_steps_back_where_latency_rises_over_its_base(latency: float, steps_back: bool) -> None:
    load = known(latency)
    for _ in range(20):
        load.latency.add(latency)
    load.latency.base = 1.0
    load.answered(CUT_AT, latency, None, fresh=True)
    assert (load.window.size < 8) == steps_back
    assert load.window.size >= 7  # by less than one a success


def test_the_window_creeps_for_a_while_where_it_was_refused() -> None:
    load = known(1.0)
    cut(load, beside=9, in_flight=8)
    grown = []
    for after in (1.0, 30.0):
        before = load.window.size
        load.window.grow(CUT_AT + after)
        grown.append(load.window.size - before)
    assert 0 < grown[0] < grown[1] <= 1


def test_one_more_slot_is_tried_only_some_time_after_the_start_before() -> None:
    load = known(latency=2.0)
    load.window.slow_start = False
    load.start(CUT_AT, CUT_AT)
    now = CUT_AT + 0.1
    assert load.ready_at(now, in_flight=7) == now
    load.window.held = 7
    assert load.ready_at(now, in_flight=7) == CUT_AT + 2.0 / 8


def test_a_restart_forgets_what_the_server_held() -> None:
    load = known(1.0)
    load.reopen(CUT_AT, cold=True)
    assert load.window.held == 0
    assert load.window.slow_start


# Timeouts.

@pytest.mark.parametrize(("before", "seconds", "mean"), [
    (1, 8.0, 8.0), (4, 8.0, 8.0 ** 0.25), (20, 8.0, 8.0 ** 0.1), (20, 1.0, 1.0), (20, 0.5, 1.0)])
def test_a_timeout_is_a_latency_of_at_least_its_bound(before: int, seconds: float, mean: float) -> None:
    latency = Latency()
    for _ in range(before):
        latency.add(1.0)
    latency.add_timeout(seconds)
    assert latency.mean == pytest.approx(mean)
    assert latency.base == 1


def test_a_timeout_alone_tells_no_latency() -> None:
    latency = Latency()
    latency.add_timeout(5.0)
    assert latency.mean is latency.base is None


@pytest.mark.parametrize(("timeout", "base", "mean", "limit"), [
    (8.0, 0.8, 2 * 4**0.1, 2.0), (4.0, 0.8, 2 * 2**0.1, 2.0), (8.0, 1.6, 2 * 4**0.1, 4.0), (1.9, 0.7, 2.0, 0.95)])
def test_a_timeout_may_step_the_window_back(timeout: float, base: float, mean: float, limit: float) -> None:
    load = known(2.0, base)
    load.timed_out(timeout)
    assert load.latency.mean == pytest.approx(mean)
    assert load.window.size == pytest.approx(8 - max(0.0, 0.5 * (1 - limit / mean)))
    assert (load.window.size < 8) == (mean > limit)


# The spacing of starts.

EVEN = 2.0 / 8  # seconds between starts, where 8 take 2 s each


def refused(gap: float) -> Load:
    """A load of which a call was refused that had followed the one before it by so many seconds."""
    load = known(2.0)
    cut(load, beside=8, in_flight=8, gap=gap)
    assert load.window.size == 8
    return load


def wait_after_a_start(load: Load, at: float, in_flight: int = 5) -> float:
    """Seconds between a start and the next, where there is room for more."""
    load.start(at, at)
    now = at + 0.002  # the dormant rate has a spacing of its own
    return load.ready_at(now, in_flight) - at if load.ready_at(now, in_flight) > now else 0.0


@pytest.mark.parametrize(("gap", "spaced"), [(0.0, True), (0.99 * BURST * EVEN, True), (1.01 * BURST * EVEN, False)])
def test_starts_are_spaced_after_a_refused_burst_and_only_then(gap: float, spaced: bool) -> None:
    assert wait_after_a_start(refused(gap), CUT_AT + 1) == pytest.approx(EVEN / SPACING if spaced else 0)


def test_nothing_is_spaced_without_a_refusal() -> None:
    load = known(2.0)
    load.window.slow_start = False
    for second in range(5):
        assert wait_after_a_start(load, CUT_AT + second) == 0


@pytest.mark.parametrize(("after", "spaced"), [(BURST_MEMORY - 0.1, True), (BURST_MEMORY, False)])
def test_the_spacing_ends_after_a_minute(after: float, spaced: bool) -> None:
    assert (wait_after_a_start(refused(0.0), CUT_AT + after) > 0) == spaced


def test_another_refused_burst_spaces_for_another_minute() -> None:
    load = refused(0.0)
    cut(load, CUT_AT + 50, beside=8, in_flight=8, gap=0.0)
    assert wait_after_a_start(load, CUT_AT + 50 + BURST_MEMORY - 0.1) > 0


def test_nothing_is_spaced_in_slow_start_nor_where_nothing_is_in_flight() -> None:
    load = refused(0.0)
    assert wait_after_a_start(load, CUT_AT + 1, in_flight=0) == 0
    assert wait_after_a_start(load, CUT_AT + 2, in_flight=1) > 0
    load.window.slow_start = True
    assert wait_after_a_start(load, CUT_AT + 3) == 0


def test_who_comes_later_than_the_spacing_does_not_wait() -> None:
    load = refused(0.0)
    load.start(CUT_AT + 1, CUT_AT + 1)
    now = CUT_AT + 1 + EVEN
    assert load.ready_at(now, in_flight=5) == now


def test_the_gap_is_that_since_the_start_before() -> None:
    load = Load(Rate(None, None))
    assert [load.start(at, at) for at in (CUT_AT, CUT_AT + 0.5, CUT_AT + 0.5, CUT_AT + 3)] == [math.inf, 0.5, 0.0, 2.5]


# The gate.

def test_no_later_word_opens_the_gate_sooner() -> None:
    gate = ServerGate(Random(1))
    gate.shut(CUT_AT, 30, cold=False)
    gate.shut(CUT_AT, 1, cold=False)
    assert gate.opens_at == CUT_AT + 30


def test_a_small_hint_to_a_probe_does_not_shorten_the_pace_s_own_wait() -> None:
    gate = ServerGate(Random(1))
    for _ in range(20):
        gate.probe_refused(CUT_AT, 0.01)
    assert gate.opens_at > CUT_AT + 3


def test_waits_begin_anew_after_the_gate_was_open() -> None:
    gate = ServerGate(Random(1))
    for _ in range(20):
        gate.shut_refused(CUT_AT, None)
    assert gate.opens_at > CUT_AT + 3
    gate.open(CUT_AT)
    gate.shut_refused(CUT_AT, None)
    assert gate.opens_at < CUT_AT + 1


def test_a_probe_that_fails_leaves_a_cold_gate_cold() -> None:
    gate = ServerGate(Random(1))
    for cold in (True, False):
        gate.shut(CUT_AT, 1, cold)
        gate.probe_failed(CUT_AT + 1)
        assert gate.cold == cold


def test_a_quota_is_tried_again_after_a_day_whatever_the_hint() -> None:
    gate = ServerGate(Random(1))
    gate.shut_exhausted(CUT_AT, math.inf)
    assert gate.opens_at == CUT_AT + LONGEST_QUOTA
