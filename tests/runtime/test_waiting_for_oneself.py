"""Guarded functions that call one another: what would wait for itself for ever is refused, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llm_guard import Saturated, bounded, map_with_backpressure, ramp_up
from llm_guard.clock import Clock
from llm_guard.clock.virtual import VirtualClock
from llm_guard.policies.bounded import Bounded


def _in_threads(clock: Clock, *calls: Callable[[], object]) -> list[object]:
    """What each returned or raised, in the order in which they ended."""
    ends: list[object] = []
    left = [clock.waiter() for _ in calls]

    def run(number: int) -> None:
        try:
            ends.append(calls[number]())
        except Exception as error:
            ends.append(error)
        left[number].set()

    for number in range(len(calls)):
        clock.spawn(lambda number=number: run(number), "caller")  # type: ignore[misc]
    for waiter in left:
        waiter.wait()
    return ends


def _pair(clock: Clock, left: Bounded, right: Bounded) -> tuple[Callable[[bool], str], Callable[[bool], str]]:
    """Two functions that call one another, each under its own limit, after a second of work."""
    @left
    def ask(further: bool) -> str:
        clock.sleep(1.0)
        return "ask " + (tell(False) if further else "")

    @right
    def tell(further: bool) -> str:
        clock.sleep(1.0)
        return "tell " + (ask(False) if further else "")

    return ask, tell


@pytest.mark.parametrize("seed", range(5))
def test_of_two_that_wait_for_one_another_one_is_refused_and_the_other_goes_on(seed: int) -> None:
    with VirtualClock(seed, shuffle=True) as clock:
        left, right = bounded(1), bounded(1)
        ask, tell = _pair(clock, left, right)
        ends = _in_threads(clock, lambda: ask(True), lambda: tell(True))
        refused = [end for end in ends if isinstance(end, Saturated)]
        assert len(refused) == 1
        assert "wait for this call" in str(refused[0])
        assert sum(end in ("ask tell ", "tell ask ") for end in ends) == 1
        assert left.statistics().in_flight == right.statistics().in_flight == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_crowd_of_them_comes_to_an_end(seed: int) -> None:
    with VirtualClock(seed, shuffle=True) as clock:
        left, right = bounded(3), bounded(2)
        ask, tell = _pair(clock, left, right)
        ends = _in_threads(clock, *([lambda: ask(True), lambda: tell(True)] * 20))
        assert len(ends) == 40
        assert all(isinstance(end, Saturated | str) for end in ends)
        assert sum(isinstance(end, str) for end in ends) >= 20
        assert left.statistics().in_flight == right.statistics().in_flight == 0


def test_windows_of_two_paces_are_seen_too() -> None:
    with VirtualClock() as clock:
        @ramp_up
        def ask(further: bool) -> str:
            clock.sleep(1.0)
            return tell(False) if further else "answer"

        @ramp_up
        def tell(further: bool) -> str:
            clock.sleep(1.0)
            return ask(False) if further else "answer"

        ends = _in_threads(clock, *([lambda: ask(True), lambda: tell(True)] * 8))
        assert len(ends) == 16
        assert sum(end == "answer" for end in ends) >= 8


def test_who_can_wait_for_somebody_else_is_not_refused() -> None:
    """One of the holders only works: it will make room."""
    with VirtualClock() as clock:
        left, right = bounded(1), bounded(2)
        ask, tell = _pair(clock, left, right)

        @right
        def work() -> str:
            clock.sleep(30.0)
            return "worked"

        assert sorted(map(str, _in_threads(clock, work, lambda: tell(True), lambda: ask(True)))) == [
            "ask tell ", "tell ask ", "worked"]


def test_who_waits_for_time_alone_is_not_refused() -> None:
    with VirtualClock() as clock:
        one = bounded(1)
        slow = ramp_up(ceiling=0.1)

        @one
        @slow
        def outer() -> str:
            return inner()

        @slow
        def other() -> str:
            return "other"

        @bounded(1)
        def inner() -> str:
            return other()

        assert _in_threads(clock, outer, other, other) == ["other", "other", "other"]


def test_calls_that_do_not_call_others_are_never_refused() -> None:
    with VirtualClock() as clock:
        @bounded(2)
        def ask(item: int) -> int:
            clock.sleep(1.0)
            return item

        def through(items: Any) -> list[int]:
            return list(map_with_backpressure(ask, items, workers=8))

        assert through(range(20)) == list(range(20))
