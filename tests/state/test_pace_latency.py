"""What tells a queue from a long answer: latency per token, to the first item, or of the whole call."""

from __future__ import annotations

import pytest

from llm_guard.state.pace_latency import BESIDES, Strain
from llm_guard.state.pace_load import Load
from llm_guard.state.pace_rate import Rate


def strained(*calls: tuple[float, float | None, float | None], timeout: float | None = None) -> Strain:
    """After calls of (seconds, tokens, seconds to the first item)."""
    strain = Strain()
    for seconds, tokens, first_item in calls:
        strain.add(seconds, timeout, tokens, first_item)
    return strain


SHORT = (1.0, 50.0, None)


def test_ten_times_the_tokens_in_ten_times_the_time_are_no_queue() -> None:
    strain = strained(*[SHORT] * 20, *[(10.0, 500.0, None)] * 20)
    assert strain.gradient(None) > 1
    assert not strain.above_base(1.5)
    untold = strained(*[(1.0, None, None)] * 20, *[(10.0, None, None)] * 20)
    assert untold.gradient(None) < 1


def test_as_many_tokens_in_thrice_the_time_are_one() -> None:
    strain = strained(*[SHORT] * 20, *[(3.0, 50.0, None)] * 20)
    assert strain.gradient(None) < 1
    assert strain.above_base(1.5)


def test_the_first_item_counts_where_tokens_are_not_known() -> None:
    long = strained(*[(1.0, None, 0.2)] * 20, *[(30.0, None, 0.2)] * 20)
    assert long.gradient(None) > 1
    late = strained(*[(1.0, None, 0.2)] * 20, *[(1.0, None, 0.8)] * 20)
    assert late.gradient(None) < 1


@pytest.mark.parametrize("tokens", [None, 50.0])
def test_of_a_stream_a_timeout_bounds_the_first_item(tokens: float | None) -> None:
    strain = strained(*[(60.0, tokens, 0.5)] * 20, timeout=5.0)
    assert strain.gradient(5.0) > 1
    assert strained(*[(60.0, tokens, 0.5)] * 20, *[(60.0, tokens, 3.5)] * 30, timeout=5.0).gradient(5.0) < 1


def test_calls_that_come_near_their_timeout_are_too_many_whatever_their_length() -> None:
    longer = [(0.5, 50.0, None)] * 20 + [(6.0, 600.0, None)] * 40
    assert strained(*longer, timeout=30.0).gradient(30.0) > 1
    assert strained(*longer, timeout=10.0).gradient(10.0) < 1


def test_a_call_that_was_itself_slow_for_its_length_is_told() -> None:
    strain = strained(*[SHORT] * 20)
    assert strain.add(10.0, None, 500.0, None)
    assert not strain.add(10.0, None, 50.0, None)


def test_few_tokens_are_not_taken_for_slow_ones() -> None:
    """What each call takes besides its tokens weighs the more the fewer those are."""
    assert BESIDES > 0
    overhead, per_token = 0.4, 0.02
    mixed = [(overhead + per_token * tokens, tokens, None) for tokens in (200.0, 400.0, 20.0, 300.0)] * 10
    strain = strained(*mixed)
    assert strain.add(overhead + per_token * 20, None, 20.0, None)
    assert strain.gradient(None) > 1


def test_the_seconds_of_whole_calls_are_kept_whatever_calls_are_judged_by() -> None:
    strain = strained(*[(10.0, 500.0, 0.3)] * 20)
    assert strain.whole.mean == pytest.approx(10.0)


def test_no_answer_is_so_quick_that_the_mean_is_lost() -> None:
    strain = strained(*[(0.0, 10_000.0, 0.0)] * 20, SHORT)
    assert strain.gradient(1.0) >= 0


# A base that is wrong.

def test_where_but_one_call_is_in_flight_its_latency_becomes_the_base() -> None:
    load = Load(Rate(None, None))
    for _ in range(30):
        load.answered(0.0, 1.0, None, fresh=True)
    load.window.slow_start = False
    for _ in range(400):
        load.window.holds_back = True
        load.answered(0.0, 10.0, None, fresh=True)
    assert load.window.size > 4  # it was down to 1, and grows again
    assert load.latency.base == pytest.approx(10.0, rel=0.7)


def test_above_one_it_does_not() -> None:
    load = Load(Rate(None, None))
    for _ in range(30):
        load.answered(0.0, 1.0, None, fresh=True)
    load.window.size = 1e6
    for _ in range(400):
        load.answered(0.0, 10.0, None, fresh=True)
    assert load.latency.base is not None
    assert load.latency.base < 2.0
