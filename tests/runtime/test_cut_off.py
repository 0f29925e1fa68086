"""A call that is given up, by its timeout or by its mapping: what waits below it ends, and nothing more starts."""

from __future__ import annotations

import pytest
from scripted import Task

from llm_guard import CallTimeout, Cancelled, bounded, map_with_backpressure, timeout
from llm_guard.clock.virtual import VirtualClock


def test_a_timed_out_function_that_runs_on_is_cut_off_below() -> None:
    started: list[float] = []
    limit = bounded(1)
    inner = limit(lambda: started.append(time.now()))

    @timeout(5)
    def outer() -> None:
        inner()  # waits: all is taken

    @timeout(5)
    def late() -> None:
        time.sleep(6)
        inner()

    with VirtualClock() as time:
        holder = Task(lambda: limit(lambda: time.sleep(60))())
        time.sleep(1)
        with pytest.raises(CallTimeout):
            outer()
        time.sleep(0.1)
        assert limit.statistics().waiting == 0  # given up with its caller
        holder.wait()
        with pytest.raises(CallTimeout):
            late()
        time.sleep(10)
        assert limit.statistics().in_flight == 0
    assert not started


def test_a_call_that_was_given_up_starts_nothing_more() -> None:
    errors: list[Exception] = []
    started: list[float] = []

    def item_of_two_calls(item: int) -> None:
        if item == 0:
            return
        ask()
        try:
            ask()
        except Cancelled as error:
            errors.append(error)

    @bounded(8)
    def ask() -> None:
        started.append(time.now())
        time.sleep(10)

    with VirtualClock() as time, map_with_backpressure(item_of_two_calls, range(5), workers=5) as mapping:
        next(mapping)
        time.sleep(1)
    assert len(started) == len(errors) == 4


def test_the_cut_off_goes_down_through_a_timeout_to_those_who_wait() -> None:
    limit = bounded(1)
    inner = limit(lambda: None)
    between = timeout(500)(lambda: inner())

    def item(number: int) -> None:
        if number:
            between()

    with VirtualClock() as time:
        Task(limit(lambda: time.sleep(100)))
        with map_with_backpressure(item, range(3), workers=3) as mapping:
            next(mapping)
            time.sleep(1)
            assert limit.statistics().waiting == 2
        assert time.now() == 1.0
        assert limit.statistics().waiting == 0
