"""When a mapping stops by itself: too many failures, an account that is exhausted; and `stop()`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from llm_guard import (
    ConfigError,
    Kind,
    QuotaExhausted,
    Stopped,
    bounded,
    call,
    clock,
    map_with_backpressure,
    ramp_up,
    retry,
    stop_after,
)
from llm_guard.clock.virtual import VirtualClock
from llm_guard.mapping.iterator import Mapping

seeds = pytest.mark.parametrize("seed", range(4))
both_orders = pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "as they end"])


class Broken(Exception):
    pass


class Calls:
    """Each takes a second, or those of its item; it fails where its item is among `fails`."""

    def __init__(self, fails: Callable[[int], bool], **seconds: float) -> None:
        self._fails = fails
        self._seconds = seconds
        self.started: list[int] = []
        self.ended: list[int] = []

    def __call__(self, item: int) -> int:
        self.started.append(item)
        clock.current().sleep(self._seconds.get(f"item{item}", 1.0))
        self.ended.append(item)
        if self._fails(item):
            raise Broken
        return item


def all_of(mapping: Mapping[Any, Any, Any]) -> tuple[list[Any], Stopped]:
    taken: list[Any] = []
    with pytest.raises(Stopped) as stopped:
        taken.extend(mapping)
    assert list(mapping) == []
    return taken, stopped.value


@seeds
@both_orders
def test_after_so_many_failures_nothing_begins_and_what_there_is_is_yielded(seed: int, ordered: bool) -> None:
    calls = Calls(lambda item: item % 2 == 1, item0=7.0)
    with VirtualClock(seed, shuffle=True) as time:
        mapping = map_with_backpressure(calls, itertools.count(), workers=4, ordered=ordered, on_error="return",
                                        results=True, stop_after=stop_after(failures=3))
        taken, stopped = all_of(mapping)
        assert 7.0 <= time.now() < 8.0
        started = len(calls.started)
        time.sleep(100)
        assert len(calls.started) == started == len(calls.ended) == len(taken)
    indexes = [result.index for result in taken]
    assert sorted(indexes) == sorted(calls.started)
    assert (indexes == sorted(indexes)) or not ordered
    failed = sum(result.error is not None for result in taken)
    assert 3 <= failed <= 3 + 3  # and those that were in flight
    assert (stopped.reason, stopped.failed, stopped.succeeded) == ("failures", failed, len(taken) - failed)
    assert isinstance(stopped.__cause__, Broken)
    assert stopped.retry_after is None
    assert "items failed" in str(stopped)


def test_fewer_failures_end_nothing() -> None:
    with VirtualClock():
        values = list(map_with_backpressure(Calls(lambda item: item < 2), range(30), workers=4, on_error="return",
                                            stop_after=stop_after(failures=3, failure_rate=0.5)))
    assert values[2:] == list(range(2, 30))


@pytest.mark.parametrize(("fails", "stops_at"), [
    (lambda item: item >= 50, 50 + 10),  # half of the last 20
    (lambda item: item < 5, 10),  # half of the first ten
    (lambda item: item % 3 == 0, None),
], ids=["later", "at the start", "a third"])
def test_a_failure_rate_is_that_of_the_last_items(fails: Callable[[int], bool], stops_at: int | None) -> None:
    calls = Calls(fails)
    with VirtualClock():
        mapping = map_with_backpressure(calls, range(200), workers=1, buffer=0, on_error="return",
                                        stop_after=stop_after(failure_rate=0.5, window=20, min_items=10))
        if stops_at is None:
            assert len(list(mapping)) == 200
            return
        taken, stopped = all_of(mapping)
    assert (len(taken), stopped.reason) == (stops_at, "failure_rate")


def test_the_last_item_may_be_the_one_too_many() -> None:
    with VirtualClock():
        taken, stopped = all_of(map_with_backpressure(Calls(lambda item: True), range(3), workers=3, on_error="return",
                                                      stop_after=stop_after(failures=3)))
    assert len(taken) == stopped.failed == 3


def used_up(item: int) -> int:
    clock.current().sleep(30.0 if item == 0 else 1.0)
    if item >= 3:
        raise QuotaExhausted("used up", policy="api", retry_after=90)
    return item


@seeds
@both_orders
@pytest.mark.parametrize("on_error", ["raise", "return"])
def test_an_exhausted_quota_stops_it_whatever_was_asked_for(seed: int, ordered: bool, on_error: Any) -> None:
    with VirtualClock(seed, shuffle=True):
        mapping = map_with_backpressure(used_up, itertools.count(), workers=4, ordered=ordered, on_error=on_error)
        taken, stopped = all_of(mapping)
    answers = [item for item in taken if isinstance(item, int)]
    assert sorted(answers) == [0, 1, 2]
    assert answers == [0, 1, 2] or not ordered
    assert (stopped.reason, stopped.succeeded, stopped.retry_after) == ("quota", 3, 90)
    assert 1 <= stopped.failed <= 4
    assert len(taken) == 3 + (stopped.failed if on_error == "return" else 0)
    assert isinstance(stopped.__cause__, QuotaExhausted)
    assert "quota is exhausted" in str(stopped)
    assert "90 s" in str(stopped)


def test_with_order_and_raised_errors_one_before_the_quota_is_raised_at_its_place() -> None:
    def function(item: int) -> int:
        if item == 1:
            clock.current().sleep(5)
            raise Broken
        return used_up(item)

    with VirtualClock():
        mapping = map_with_backpressure(function, range(9), workers=9)
        assert next(mapping) == 0
        with pytest.raises(Broken):
            next(mapping)


def test_the_functions_own_classify_tells_what_quota_is() -> None:
    ask = retry(attempts=2, classify=lambda end: Kind.QUOTA if isinstance(end, Broken) else None)(
        Calls(lambda item: item == 5))
    with VirtualClock():
        taken, stopped = all_of(map_with_backpressure(ask, itertools.count(), workers=2))
    assert taken[:5] == [0, 1, 2, 3, 4]
    assert isinstance(stopped.__cause__, Broken)
    assert (stopped.reason, stopped.retry_after) == ("quota", None)


def test_those_who_wait_behind_an_exhausted_account_are_refused_and_none_begins() -> None:
    pace = ramp_up(classify=lambda end: Kind.QUOTA if isinstance(end, Broken) else None)
    calls = Calls(lambda item: item >= 5)
    with VirtualClock() as time:
        taken, _ = all_of(map_with_backpressure(pace(retry(calls)), range(1000), workers=8, on_error="return"))
        assert time.now() < 30
    assert taken[:5] == [0, 1, 2, 3, 4]
    assert len(taken) < 30
    assert len(calls.started) < 15


@seeds
@both_orders
def test_stop_from_another_thread_yields_what_was_in_flight(seed: int, ordered: bool) -> None:
    calls = Calls(lambda item: False)
    with VirtualClock(seed, shuffle=True) as time:
        mapping = map_with_backpressure(calls, itertools.count(), workers=4, ordered=ordered)
        time.spawn(lambda: (time.sleep(5.5), mapping.stop()), "stopper")  # type: ignore[func-returns-value]
        assert sorted(mapping) == list(range(24))
        assert time.now() == 6.0
        assert len(calls.started) == 24
        mapping.stop()
        assert list(mapping) == []


def test_stop_gives_up_what_waits_and_leaves_it_out() -> None:
    limit = bounded(1)
    ask = limit(Calls(lambda item: False))
    flaky = retry(attempts=9, wait=500, jitter=None)(Calls(lambda item: item == 1))
    with VirtualClock() as time:
        mapping = map_with_backpressure(lambda item: flaky(item) if item == 1 else ask(item), range(50), workers=6,
                                        on_error="return")
        assert next(mapping) == 0
        mapping.stop()
        assert list(mapping) == [2]
        assert time.now() == 2.0
        assert limit.statistics().waiting == limit.statistics().in_flight == 0


def test_what_is_in_flight_is_not_cut_off_by_stop_but_by_close() -> None:
    cut: list[bool] = []

    def function(item: int) -> None:
        mine = call.in_progress()
        assert mine is not None
        assert mine.cut_off is not None
        clock.current().sleep(10)
        cut.append(mine.cut_off.is_cut)

    with VirtualClock() as time:
        for end in ("stop", "close"):
            mapping = map_with_backpressure(function, range(9), workers=2)
            time.spawn(lambda end=end, mapping=mapping: (time.sleep(1), getattr(mapping, end)()),  # type: ignore[misc]
                       "ender")
            assert len(list(mapping)) == (2 if end == "stop" else 0)
            time.sleep(20)
    assert cut == [False, False, True, True]


def test_stop_called_by_the_function_itself_and_before_the_first_item() -> None:
    with VirtualClock():
        mapping: Mapping[int, None, None] = map_with_backpressure(
            lambda item: mapping.stop() if item == 5 else None, itertools.count(), workers=1, buffer=0)
        assert len(list(mapping)) == 6
        mapping = map_with_backpressure(lambda item: None, range(9))
        mapping.stop()
        assert list(mapping) == []


@pytest.mark.parametrize(("parameter", "options"), [
    ("failures", {}), ("failures", {"failures": 0}), ("failures", {"failures": 1.5}), ("failure_rate", {
        "failure_rate": 0}), ("failure_rate", {"failure_rate": 1.1}), ("window", {"failures": 1, "window": 0}),
    ("min_items", {"failure_rate": 0.5, "window": 10, "min_items": 11}),
], ids=["nothing", "zero", "a fraction", "no rate", "over one", "no window", "more than the window"])
def test_a_stop_after_that_cannot_work_is_refused(parameter: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        stop_after(**options)
    assert refused.value.parameter == parameter


def test_another_stop_after_is_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        map_with_backpressure(str, [], stop_after=100)  # type: ignore[call-overload]
    assert refused.value.parameter == "stop_after"
