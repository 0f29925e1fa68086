"""Which bound a stream reaches first, and what counts: the seconds in which it is waited for."""

from __future__ import annotations

import pickle
from math import inf

import pytest

from llm_guard.state.stream_time import UNLIMITED, Bounds, Limit, StreamTime

FREE = Bounds()


def test_without_bounds_there_is_no_limit_and_no_deadline() -> None:
    time = StreamTime(0.0, 2.0, FREE, FREE)
    assert time.ask(2.0, inf) is UNLIMITED
    assert time.deadline(inf) == inf


def test_a_deadline_alone_counts_from_the_call() -> None:
    time = StreamTime(1.0, 2.0, FREE, FREE)
    assert time.ask(3.0, 11.0) == Limit(8.0, "deadline", 10.0)


@pytest.mark.parametrize(("call", "attempt", "limit"), [
    (FREE, Bounds(total=20.0), Limit(20.0, "total", 20.0)),
    (FREE, Bounds(20.0, first_item=5.0), Limit(5.0, "first_item", 5.0)),
    (FREE, Bounds(20.0, idle=3.0), Limit(20.0, "total", 20.0)),
    (Bounds(total=20.0), FREE, Limit(10.0, "total", 20.0)),
    (Bounds(20.0, first_item=12.0), FREE, Limit(2.0, "first_item", 12.0)),
    (Bounds(20.0, first_item=18.0), Bounds(9.0, first_item=4.0), Limit(4.0, "first_item", 4.0)),
    (Bounds(total=13.0), Bounds(total=9.0), Limit(3.0, "total", 13.0)),
])
def test_before_the_first_item_the_nearest_bound_counts_from_the_call_or_from_the_attempt(
        call: Bounds, attempt: Bounds, limit: Limit) -> None:
    assert StreamTime(0.0, 10.0, call, attempt).ask(10.0, inf) == limit


def test_the_bound_between_items_does_not_bound_the_first() -> None:
    assert StreamTime(0.0, 0.0, FREE, Bounds(idle=3.0)).ask(0.0, inf).within == inf


def test_after_the_first_item_each_wait_is_bounded_and_the_sum_of_them() -> None:
    time = StreamTime(0.0, 0.0, FREE, Bounds(total=10.0, first_item=6.0, idle=3.0))
    time.ask(0.0, inf)
    time.item(5.0)
    assert (time.took, time.first_item) == (5.0, 5.0)
    assert time.ask(5.0, inf) == Limit(3.0, "idle", 3.0)
    time.item(7.5)
    assert time.ask(7.5, inf) == Limit(2.5, "total", 10.0)
    time.stop(9.0)
    assert (time.took, time.first_item) == (9.0, 5.0)


def test_what_the_consumer_does_between_items_is_its_own_time() -> None:
    time = StreamTime(0.0, 0.0, FREE, Bounds(total=10.0, idle=8.0))
    time.ask(0.0, inf)
    time.item(4.0)
    assert time.ask(1000.0, inf) == Limit(6.0, "total", 10.0)
    assert time.deadline(inf) == 1006.0  # what the item may take is handed down as an instant
    time.item(1001.0)
    assert time.ask(2000.0, inf) == Limit(5.0, "total", 10.0)
    assert time.took == 5.0


def test_no_pause_puts_a_deadline_off() -> None:
    time = StreamTime(0.0, 0.0, FREE, Bounds(total=10.0))
    time.ask(0.0, 30.0)
    time.item(4.0)
    assert time.ask(29.0, 30.0) == Limit(1.0, "deadline", 30.0)
    time.item(29.5)
    assert time.ask(40.0, 30.0).within == -10.0
    assert time.deadline(30.0) == 30.0


@pytest.mark.parametrize(("name", "says"), [("first_item", "no first item"), ("idle", "no further item"),
                                            ("total", "no end within 2 s"), ("deadline", "before the deadline")])
def test_its_error_tells_which_bound_it_was(name: str, says: str) -> None:
    error = pickle.loads(pickle.dumps(Limit(1.0, name, 2.0).error(still_running=True)))
    assert says in str(error)
    assert (error.bound, error.seconds, error.still_running) == (name, 2.0, True)
