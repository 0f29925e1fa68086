from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_guard.errors import ConfigError
from llm_guard.state.votes import Ballot, LastCalls, LastSeconds, Tally

votes = st.lists(st.tuples(st.floats(0, 3), st.booleans(), st.booleans()), max_size=60)


def ballot(**options: Any) -> Ballot:
    return Ballot(**{"failure_rate": 0.5, "window": None, "window_seconds": None, "min_calls": 10, "slow_call": None,
                     "slow_rate": 1.0, **options})


@given(votes, st.integers(1, 10))
def test_a_window_of_calls_holds_the_last_ones_however_old(cast: list[tuple[float, bool, bool]], size: int) -> None:
    window = LastCalls(size)
    now = 0.0
    for wait, bad, slow in cast:
        now += wait * 1000
        window.add(now, bad=bad, slow=slow)
    kept = cast[-size:]
    assert window.tally(now) == Tally(len(kept), sum(bad for _, bad, _ in kept), sum(slow for _, _, slow in kept))


@given(votes, st.floats(0.5, 20))
def test_a_window_of_seconds_holds_what_is_younger_and_nothing_that_is_older(
        cast: list[tuple[float, bool, bool]], seconds: float) -> None:
    window = LastSeconds(seconds)
    now = 0.0
    at = []
    for wait, bad, slow in cast:
        now += wait
        window.add(now, bad=bad, slow=slow)
        at.append(now)
        rounding = 1e-9 * (1 + now)
        least = sum(now - then < 0.99 * seconds - rounding for then in at)
        most = sum(now - then <= seconds + rounding for then in at)
        assert least <= window.tally(now).calls <= most
        found = window.tally(now)
        kept = cast[len(at) - found.calls:len(at)]
        assert found == Tally(len(kept), sum(bad for _, bad, _ in kept), sum(slow for _, _, slow in kept))


def test_votes_age_out_of_a_window_of_seconds_without_a_further_vote() -> None:
    window = LastSeconds(10)
    window.add(3, bad=True, slow=True)
    assert window.tally(12.8) == Tally(1, 1, 1)
    assert window.tally(13) == Tally()


def test_memory_of_a_window_of_seconds_is_bounded() -> None:
    window = LastSeconds(10)
    for i in range(20_000):
        window.add(i / 1000, bad=False, slow=False)
    assert len(window._slices) <= LastSeconds.SLICES


@pytest.mark.parametrize("make", [lambda: LastCalls(4), lambda: LastSeconds(4)])
def test_a_cleared_window_is_empty(make: Callable[[], LastCalls | LastSeconds]) -> None:
    window = make()
    window.add(1, bad=True, slow=True)
    window.clear()
    assert window.tally(1) == Tally()


def test_rates_are_shares_and_0_without_calls() -> None:
    assert (Tally(8, 2, 4).failure_rate, Tally(8, 2, 4).slow_rate) == (0.25, 0.5)
    assert (Tally().failure_rate, Tally().slow_rate) == (0, 0)


def test_nothing_is_judged_before_min_calls() -> None:
    votes = ballot(min_calls=4)
    assert [votes.cast(0, good=False, seconds=0) for _ in range(4)] == [False, False, False, True]


def test_min_calls_above_the_window_means_a_full_window() -> None:
    votes = ballot(window=3)
    assert [votes.cast(0, good=False, seconds=0) for _ in range(3)] == [False, False, True]


def test_a_share_of_failures_at_the_rate_is_too_bad_and_one_below_is_not() -> None:
    votes = ballot(failure_rate=0.3, window=10)
    assert not any(votes.cast(0, good=i >= 2, seconds=0) for i in range(10))
    votes.clear()
    assert [votes.cast(0, good=i >= 3, seconds=0) for i in range(10)][-1]


def test_slow_calls_are_too_bad_though_they_succeed() -> None:
    votes = ballot(slow_call=2, slow_rate=0.5, min_calls=4)
    assert [votes.cast(0, good=True, seconds=seconds) for seconds in (2, 3, 0, 2.1)] == [False, False, False, True]


def test_a_call_of_just_slow_call_is_not_slow() -> None:
    assert not ballot(slow_call=2).is_slow(2)


def test_no_call_is_slow_where_slow_call_is_not_set() -> None:
    assert not ballot().is_slow(1e9)


def test_window_and_window_seconds_together_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        ballot(window=20, window_seconds=30)
    assert caught.value.parameter == "window"
