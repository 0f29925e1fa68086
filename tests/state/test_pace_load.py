"""The parts of the pace by themselves: the rate, the window, the latency and the gate."""

from __future__ import annotations

import math
from random import Random

import pytest

from llm_guard.state.pace_gate import LONGEST_QUOTA, Gate
from llm_guard.state.pace_load import Load
from llm_guard.state.pace_rate import DORMANT, GROWTH_MEMORY, LEAST, Rate

CUT_AT = 1000.0


def cut_rate(delivered: float = 10.0, latency: float | None = 1.0) -> Rate:
    """A rate that was cut at `CUT_AT`, where a second of measurement begins too."""
    rate = Rate(None, None)
    rate.measure_anew(CUT_AT)
    rate.cut(CUT_AT, delivered, latency)
    return rate


def known(latency: float, base: float | None = None, rate: Rate | None = None) -> Load:
    """A load with such a latency, 8 in its window, all of which were once held."""
    load = Load(rate or Rate(None, None))
    load.latency.mean, load.latency.base = latency, base or latency
    load.window.size, load.window.held = 8.0, 8
    return load


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
    assert not load.cut(CUT_AT, k=3, in_flight=4, hint=None, grew=False)
    assert load.rate.bound == pytest.approx(5 / 2.0)  # five were in flight, two seconds each
    assert load.window.size == 5
    assert (load.window.held, load.window.slots) == (3, False)


def test_where_answers_are_slow_and_few_it_is_the_queue_that_is_full() -> None:
    for grew, size in ((False, 0.7 * 5), (True, 5)):
        load = known(latency=2.0, base=1.0)
        load.rate.delivered = 5.0
        load.cut(CUT_AT, k=3, in_flight=4, hint=None, grew=grew)
        assert load.window.size == pytest.approx(size)
        assert load.rate.learned == grew


def test_a_rate_known_to_be_limited_is_not_cut_below_what_was_let_in() -> None:
    load = known(latency=2.0, rate=cut_rate(10.0))
    load.rate.delivered = 1.0
    load.cut(CUT_AT + 5, k=20, in_flight=16, hint=None, grew=False)
    assert load.rate.bound == pytest.approx(0.9 * 16 / 2.0)


def test_slots_that_are_full_forget_themselves_with_a_refusal_of_another_kind() -> None:
    load = known(latency=1.0)
    assert load.cut(CUT_AT, k=9, in_flight=8, hint=None, grew=False)
    assert load.window.slots
    load.cut(CUT_AT + 1, k=2, in_flight=5, hint=None, grew=False)
    assert not load.window.slots
    assert load.rate.learned


# The window.

@pytest.mark.parametrize(("latency", "timeout", "steps_back"), [
    (4.9, 10.0, False), (5.1, 10.0, True), (5.1, None, False), (0.5, 10.0, False)])
def test_the_window_steps_back_before_queues_eat_up_half_the_timeout(
        latency: float, timeout: float | None, steps_back: bool) -> None:
    load = known(latency)
    load.answered(CUT_AT, latency, timeout, fresh=True)
    assert (load.window.size < 8) == steps_back


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
    load.cut(CUT_AT, k=9, in_flight=8, hint=None, grew=False)
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


# The gate.

def test_no_later_word_opens_the_gate_sooner() -> None:
    gate = Gate(Random(1))
    gate.shut(CUT_AT, 30, cold=False)
    gate.shut(CUT_AT, 1, cold=False)
    assert gate.opens_at == CUT_AT + 30


def test_a_small_hint_to_a_probe_does_not_shorten_the_pace_s_own_wait() -> None:
    gate = Gate(Random(1))
    for _ in range(20):
        gate.probe_refused(CUT_AT, 0.01)
    assert gate.opens_at > CUT_AT + 3


def test_waits_begin_anew_after_the_gate_was_open() -> None:
    gate = Gate(Random(1))
    for _ in range(20):
        gate.shut_refused(CUT_AT, None)
    assert gate.opens_at > CUT_AT + 3
    gate.open(CUT_AT)
    gate.shut_refused(CUT_AT, None)
    assert gate.opens_at < CUT_AT + 1


def test_a_probe_that_fails_leaves_a_cold_gate_cold() -> None:
    gate = Gate(Random(1))
    for cold in (True, False):
        gate.shut(CUT_AT, 1, cold)
        gate.probe_failed(CUT_AT + 1)
        assert gate.cold == cold


def test_a_quota_is_tried_again_after_a_day_whatever_the_hint() -> None:
    gate = Gate(Random(1))
    gate.shut_exhausted(CUT_AT, math.inf)
    assert gate.opens_at == CUT_AT + LONGEST_QUOTA
