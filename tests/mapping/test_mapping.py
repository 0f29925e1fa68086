"""`map_with_backpressure`: one result for each item, in order, on as many threads as there is work for, never too far
ahead. How it ends early: test_mapping_ends.py.
"""

from __future__ import annotations

import contextvars
import gc
import itertools
import pickle
import random
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_guard import (
    ConfigError,
    Result,
    Saturated,
    bounded,
    clock,
    deadline,
    map_with_backpressure,
    ramp_up,
    retry,
)
from llm_guard.clock.virtual import Deadlock, VirtualClock

R = TypeVar("R")


def after(seconds: float, value: R) -> R:
    """`value`, so much later."""
    clock.current().sleep(seconds)
    return value


class Log:
    """When items were pulled from the input, when calls started and ended, when results were taken."""

    def __init__(self) -> None:
        self.pulls: list[float] = []
        self.starts: list[float] = []
        self.ends: list[float] = []
        self.takes: list[float] = []
        self.started: list[int] = []
        self.peak = 0

    def running(self) -> int:
        return len(self.starts) - len(self.ends)


def _logged(time: VirtualClock, log: Log, most_ahead: int, durations: list[float], fails: set[int],
            input_waits: list[float]) -> tuple[Callable[[int], int], Iterator[int]]:
    def items() -> Iterator[int]:
        for item in range(len(durations)):
            if input_waits[item]:
                time.sleep(input_waits[item])
            log.pulls.append(time.now())
            assert len(log.pulls) - len(log.takes) <= most_ahead
            yield item

    def function(item: int) -> int:
        log.starts.append(time.now())
        log.started.append(item)
        log.peak = max(log.peak, log.running())
        try:
            time.sleep(durations[item])
            if item in fails:
                raise ValueError(item)
            return -item
        finally:
            log.ends.append(time.now())

    return function, items()


def _check_results(results: list[Result[int, int]], count: int, fails: set[int], ordered: bool) -> None:
    assert [result.input for result in results] == [result.index for result in results]
    indexes = [result.index for result in results]
    assert (indexes if ordered else sorted(indexes)) == list(range(count))
    for result in results:
        if result.index in fails:
            assert isinstance(result.error, ValueError)
            assert result.value is None
        else:
            assert (result.error, result.value) == (None, -result.index)


def room(workers: int, buffer: int | None, ordered: bool) -> int:
    """How many results may wait."""
    return (8 * workers if ordered else workers) if buffer is None else buffer


durations_of_calls = st.lists(st.sampled_from([0.0, 1.0, 1.0, 2.0, 3.0, 20.0]), max_size=30)
sizes = st.integers(1, 5)
buffers = st.none() | st.integers(0, 6)


@settings(max_examples=120, deadline=None)
@given(durations=durations_of_calls, workers=sizes, buffer=buffers, ordered=st.booleans(), fails=st.sets(
    st.integers(0, 29)), seed=st.integers(0, 5))
def test_all_that_may_run_runs_and_nothing_more(durations: list[float], workers: int, buffer: int | None,
                                                ordered: bool, fails: set[int], seed: int) -> None:
    """The consumer and the input are quick: whenever time passes, everything stands as far as it can."""
    log, count, ahead = Log(), len(durations), workers + room(workers, buffer, ordered)
    results: list[Result[int, int]] = []
    with VirtualClock(seed, shuffle=True) as time:
        function, items = _logged(time, log, ahead, durations, fails, [0.0] * count)
        for result in map_with_backpressure(function, items, workers=workers, buffer=buffer, ordered=ordered,
                                            on_error="return", results=True):
            log.takes.append(time.now())
            results.append(result)
    _check_results(results, count, fails, ordered)
    assert log.peak <= workers
    for now in {*log.pulls, *log.starts, *log.ends, *log.takes}:
        pulled, started, ended, taken = (sum(at <= now for at in times)
                                         for times in (log.pulls, log.starts, log.ends, log.takes))
        assert pulled == min(count, taken + ahead)
        assert started - ended == min(workers, pulled - ended)
        if not ordered:
            assert taken == ended


@settings(max_examples=120, deadline=None)
@given(work=st.lists(st.tuples(st.sampled_from([0.0, 1.0, 1.5, 9.0]), st.sampled_from([0.0, 0.0, 1.0, 5.0]),
                               st.sampled_from([0.0, 0.0, 1.0, 5.0])), max_size=25),
       workers=sizes, buffer=buffers, ordered=st.booleans(), fails=st.sets(st.integers(0, 24)),
       seed=st.integers(0, 5))
def test_whoever_is_slow_each_item_has_one_result(work: list[tuple[float, float, float]], workers: int,
                                                  buffer: int | None, ordered: bool, fails: set[int],
                                                  seed: int) -> None:
    """Of each item: how long the call takes, the input, the consumer."""
    log, count, ahead = Log(), len(work), workers + room(workers, buffer, ordered)
    durations, input_waits, consumer_waits = ([times[place] for times in work] for place in range(3))
    results: list[Result[int, int]] = []
    with VirtualClock(seed, shuffle=True) as time:
        function, items = _logged(time, log, ahead, durations, fails, input_waits)
        for result in map_with_backpressure(function, items, workers=workers, buffer=buffer, ordered=ordered,
                                            on_error="return", results=True):
            log.takes.append(time.now())
            results.append(result)
            if consumer_waits[len(results) - 1]:
                time.sleep(consumer_waits[len(results) - 1])
    _check_results(results, count, fails, ordered)
    assert sorted(log.started) == list(range(count))
    assert log.peak <= workers
    for now in {*log.starts, *log.ends}:
        pulled, started, ended = (sum(at <= now for at in times) for times in (log.pulls, log.starts, log.ends))
        assert started - ended == min(workers, pulled - ended)


def test_an_endless_input_is_taken_as_far_as_there_is_room_and_not_before_the_first_result_is_asked_for() -> None:
    pulled: list[int] = []

    def items() -> Iterator[int]:
        for item in itertools.count():
            pulled.append(item)
            yield item

    with VirtualClock() as time:
        mapping = map_with_backpressure(lambda item: time.sleep(1), items(), workers=3, buffer=4)
        time.sleep(10)
        assert pulled == []
        for taken in range(5):
            next(mapping)
            assert len(pulled) == taken + 7
        time.sleep(100)
        assert len(pulled) == 11
        mapping.close()


def test_a_slow_head_holds_up_the_others_only_when_the_buffer_is_full() -> None:
    started: list[int] = []

    def function(item: int) -> int:
        started.append(item)
        time.sleep(100 if item == 0 else 1)
        return item

    with VirtualClock() as time:
        mapping = map_with_backpressure(function, itertools.count(), workers=2, buffer=6)
        time.spawn(lambda: started.append(after(99, -1)), "at second 99")
        assert next(mapping) == 0
        assert started == [*range(8), -1]
        assert [next(mapping) for _ in range(7)] == list(range(1, 8))
        assert time.now() == 100.0  # they had been waiting
        mapping.close()


def test_in_order_the_workers_hardly_ever_wait_for_a_slow_call_unless_they_are_told_to() -> None:
    seconds = [random.Random(item).lognormvariate(0, 0.8) for item in range(1000)]

    def takes(**options: Any) -> float:
        with VirtualClock() as time:
            for _ in map_with_backpressure(lambda item: time.sleep(seconds[item]), range(1000), workers=16, **options):
                pass
            return time.now()

    unordered = takes(ordered=False)
    assert takes() < 1.1 * unordered
    assert takes(buffer=16) > 1.4 * unordered


@pytest.mark.parametrize(("ordered", "ahead"), [(True, 27), (False, 6)])
def test_by_default_it_is_so_far_ahead_of_a_consumer_that_takes_its_time(ordered: bool, ahead: int) -> None:
    pulled = itertools.count()
    with VirtualClock() as time:
        mapping = map_with_backpressure(lambda item: item, pulled, workers=3, ordered=ordered)
        next(mapping)
        time.sleep(100)
        assert next(pulled) == ahead
        mapping.close()


def test_without_order_the_results_come_as_the_calls_end() -> None:
    seconds = [5.0, 1.0, 3.0, 1.0, 0.0]
    with VirtualClock() as time:
        mapping = map_with_backpressure(lambda item: after(seconds[item], item), range(5), workers=2,
                                        ordered=False)
        assert [(item, time.now()) for item in mapping] == [(1, 1.0), (2, 4.0), (0, 5.0), (3, 5.0), (4, 5.0)]


def test_with_one_worker_and_no_buffer_an_item_is_taken_only_after_the_result_before_it() -> None:
    """So an input may depend on the results."""
    seen: list[int] = [1]
    with VirtualClock():
        mapping = map_with_backpressure(lambda item: item * 2, iter(lambda: seen[-1], 64), workers=1, buffer=0)
        for value in mapping:
            seen.append(value)
    assert seen == [1, 2, 4, 8, 16, 32, 64]


@pytest.mark.parametrize("ordered", [True, False])
def test_results_of_a_slow_input_do_not_fall_behind(ordered: bool) -> None:
    """The input blocks the consumer, for it is taken in its thread: each result waits for one more item, no more."""
    taken: list[tuple[int, float]] = []
    with VirtualClock() as time:
        def items() -> Iterator[int]:
            for item in range(30):
                time.sleep(10)
                yield item

        for item in map_with_backpressure(lambda item: after(1, item), items(), workers=8, ordered=ordered):
            taken.append((item, time.now()))
    came = [10.0 * (item + 1) for item in range(30)]
    assert [item for item, _ in taken] == list(range(30))
    assert [at for _, at in taken[:-1]] == came[1:]
    assert taken[-1][1] == came[-1] + 1


def test_a_slow_consumer_finds_all_that_there_was_room_for_done() -> None:
    """Though each result was there when it came, as from a cache, and though the input was slow at first."""
    pulled: list[int] = []

    def items() -> Iterator[int]:
        for item in range(50):
            if item < 3:
                time.sleep(2)
            pulled.append(item)
            yield item

    with VirtualClock() as time:
        mapping = map_with_backpressure(lambda item: after(1, item), items(), workers=4, buffer=6)
        for taken in range(5):
            assert next(mapping) == taken
            time.sleep(100)
        assert len(pulled) == 4 + 10
        mapping.close()


def test_calls_go_on_while_the_input_blocks() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        time.sleep(100)
        yield 5

    def function(item: int) -> float:
        time.sleep(2)
        return time.now()

    with VirtualClock() as time:
        ended = list(map_with_backpressure(function, items(), workers=2, buffer=9))
    assert ended == [2.0, 2.0, 4.0, 4.0, 6.0, 102.0]


def test_no_more_threads_are_started_than_there_is_work_for() -> None:
    threads: set[str] = set()
    with VirtualClock() as time:
        def function(item: int) -> None:
            threads.add(threading.current_thread().name)
            time.sleep(1)

        list(map_with_backpressure(function, range(3), workers=1000))
    assert len(threads) == 3
    assert threading.current_thread().name not in threads


def test_the_input_is_taken_in_the_thread_that_iterates() -> None:
    threads: list[int] = []

    def items() -> Iterator[int]:
        for item in range(20):
            threads.append(threading.get_ident())
            yield item

    with VirtualClock():
        list(map_with_backpressure(abs, items(), workers=4))
    assert set(threads) == {threading.get_ident()}
    assert len(threads) == 20


class Letters:
    """Iterable in the old way."""

    def __getitem__(self, index: int) -> str:
        return "abc"[index]


@pytest.mark.parametrize(("items", "expected"), [
    (list, ""), (lambda: iter(()), ""), (lambda: (letter for letter in ""), ""), (lambda: range(0), ""),
    (lambda: "abc", "ABC"), (lambda: {"a": 1}, "A"), (Letters, "ABC"), (lambda: iter("ab"), "AB"),
], ids=["empty list", "empty iterator", "empty generator", "empty range", "text", "dict", "getitem", "iterator"])
@pytest.mark.parametrize("ordered", [True, False])
def test_any_iterable_will_do_and_none_of_its_items_is_needed(items: Callable[[], Iterable[str]], expected: str,
                                                              ordered: bool) -> None:
    with VirtualClock():
        mapping = map_with_backpressure(str.upper, items(), ordered=ordered, workers=1)
        assert list(mapping) == list(expected)
        assert list(mapping) == []


def test_a_result_tells_its_item_and_how_long_it_took_on_its_worker() -> None:
    limit = bounded(1)

    @limit
    def function(item: str) -> str:
        time.sleep(2)
        if item == "b":
            raise KeyError(item)
        return item.upper()

    with VirtualClock() as time:
        first, second, third = map_with_backpressure(function, "abc", workers=2, on_error="return", results=True)
    assert (first.index, first.input, first.value, first.error) == (0, "a", "A", None)
    assert (second.index, second.input, second.value, type(second.error)) == (1, "b", None, KeyError)
    assert (first.seconds, second.seconds) == (2.0, 4.0)  # the wait at the door is its own
    assert third.seconds == 4.0  # but not the wait for a worker
    assert pickle.loads(pickle.dumps(first)) == first


def test_a_results_repr_shows_no_payload() -> None:
    result = Result("a prompt", "an answer", "a value", ValueError("a key"), 3, 1.5)  # type: ignore[arg-type]
    shown = repr(Result(7, "a prompt", "an answer", ValueError("a key"), 3, 1.5))
    assert result.input == "an answer"
    for secret in ("prompt", "answer", "key"):
        assert secret not in shown
    assert "7" in shown


def test_a_result_counts_the_attempts_of_guarded_functions() -> None:
    tries = {"a": 1, "b": 4, "c": 2}

    @retry(attempts=5)
    def ask(item: str) -> str:
        tries[item] -= 1
        if tries[item]:
            raise ConnectionError
        return item

    def ask_twice(item: str) -> str:
        tries["a"] = 1
        return ask(item) + ask("a")

    with VirtualClock():
        expected = list(tries.values())
        assert [result.attempts for result in map_with_backpressure(ask, "abc", results=True)] == expected
        tries.update(b=4)
        assert [result.attempts for result in map_with_backpressure(ask_twice, "b", results=True)] == [5]
        assert [result.attempts for result in map_with_backpressure(str, "ab", results=True)] == [1, 1]


def test_a_call_that_was_turned_away_made_no_attempt() -> None:
    ask = bounded(1, max_wait=1)(lambda item: time.sleep(5))
    with VirtualClock() as time:
        made, refused = map_with_backpressure(ask, range(2), on_error="return", results=True)
    assert (made.attempts, made.error) == (1, None)
    assert (refused.attempts, type(refused.error)) == (0, Saturated)


def test_errors_are_yielded_at_their_place_when_asked_for() -> None:
    def function(item: int) -> int:
        if item % 2:
            raise StopIteration if item == 3 else ValueError(item)
        return item

    with VirtualClock():
        values = list(map_with_backpressure(function, range(6), workers=2, on_error="return"))
    assert values[::2] == [0, 2, 4]
    assert [type(error) for error in values[1::2]] == [ValueError, StopIteration, ValueError]


@pytest.mark.parametrize("seed", range(3))
def test_context_variables_of_the_caller_reach_the_workers_and_do_not_come_back(seed: int) -> None:
    variable = contextvars.ContextVar("variable", default="nothing")

    def function(item: int) -> str:
        seen = variable.get()
        variable.set(f"set by item {item}")
        return seen

    with VirtualClock(seed, shuffle=True):
        variable.set("the caller's")
        mapping = map_with_backpressure(function, range(20), workers=3)
        assert next(mapping) == "the caller's"
        variable.set("later")
        assert set(mapping) == {"the caller's"}
        assert variable.get() == "later"


@pytest.mark.parametrize("seed", range(5))
def test_a_guarded_function_is_mapped_under_its_limits(seed: int) -> None:
    limit, pace = bounded(3), ramp_up(start=2.0)
    running = peak = 0

    @limit
    @pace
    @retry
    def ask(item: int) -> int:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        time.sleep(1)
        running -= 1
        if time.random.random() < 0.2:
            raise ConnectionError
        return item

    with VirtualClock(seed, shuffle=True) as time:
        assert list(map_with_backpressure(ask, range(60), workers=16)) == list(range(60))
    assert peak == 3


def test_a_mapping_in_a_guarded_function_keeps_to_its_deadline() -> None:
    limit = bounded(2)
    inner = limit(lambda item: time.sleep(1))

    @deadline(5.5)
    def outer() -> list[Result[int, None]]:
        return list(map_with_backpressure(inner, range(30), workers=4, on_error="return", results=True))

    with VirtualClock() as time:
        results = outer()
        assert time.now() == 6.0  # what had started was let end
        assert [result.error for result in results[:12]] == [None] * 12
        assert {(type(result.error), result.attempts) for result in results[12:]} == {(Saturated, 0)}
        assert all(result.error is None for result in map_with_backpressure(inner, range(12), results=True))


def test_a_policy_that_the_call_around_the_mapping_holds_is_passed_through() -> None:
    limit, other = bounded(1), bounded(1)
    inner = limit(other(lambda item: after(1, limit).statistics().in_flight))
    outer = limit(lambda: list(map_with_backpressure(inner, range(4), workers=4)))
    with VirtualClock() as time:
        assert outer() == [1] * 4
        assert time.now() == 4.0  # what it does not hold is not passed through
        assert limit.statistics().in_flight == 0


def test_a_mapping_that_outlives_the_guarded_call_around_it_holds_nothing_of_it() -> None:
    limit = bounded(1)
    inner = limit(lambda item: after(1, limit).statistics().in_flight)
    outer = limit(lambda: map_with_backpressure(inner, range(3), workers=3))
    with VirtualClock() as time:
        assert list(outer()) == [1] * 3
        assert time.now() == 3.0


@pytest.mark.xfail(raises=Deadlock, strict=True,
                   reason="the search for calls that wait for one another does not see through a mapping")
def test_calls_that_would_wait_for_one_another_through_a_mapping_are_refused() -> None:
    one, other = bounded(1), bounded(1)

    @one
    def mapping() -> None:
        time.sleep(1)
        list(map_with_backpressure(other(lambda item: time.sleep(1)), range(2)))

    @other
    def calling() -> None:
        time.sleep(1)
        one(lambda: None)()

    with VirtualClock() as time:
        time.spawn(calling, "calling")
        with pytest.raises(Saturated):
            mapping()


@pytest.mark.parametrize("seed", range(3))
def test_a_mapped_function_may_map_in_turn(seed: int) -> None:
    def inner(item: int) -> int:
        time.sleep(1)
        return item

    def outer(count: int) -> int:
        return sum(map_with_backpressure(inner, range(count), workers=2))

    with VirtualClock(seed, shuffle=True) as time:
        assert list(map_with_backpressure(outer, range(8), workers=3)) == [0, 0, 1, 3, 6, 10, 15, 21]


def test_mappings_can_be_chained_and_iterated_side_by_side() -> None:
    with VirtualClock() as time:
        def double(item: int) -> int:
            time.sleep(1)
            return item * 2

        first = map_with_backpressure(double, itertools.count(), workers=2)
        both: Iterable[tuple[int, int]] = zip(map_with_backpressure(double, first, workers=2),
                                              map_with_backpressure(double, range(6)), strict=False)
        assert list(both) == [(item * 4, item * 2) for item in range(6)]
        first.close()


class Failure(Exception):
    pass


class Payload:
    def __init__(self, fails: bool = False) -> None:
        self.fails = fails


def test_what_was_taken_is_not_kept() -> None:
    """Neither the items, nor the values, nor the errors; without the garbage collector's help."""
    kept: list[weakref.ref[object]] = []

    def remember(payload: R) -> R:
        kept.append(weakref.ref(payload))
        return payload

    def function(item: Payload) -> Payload:
        if item.fails:
            raise remember(Failure())
        return remember(Payload())

    gc.disable()
    try:
        with VirtualClock():
            mapping = map_with_backpressure(function, (remember(Payload(item % 2 == 1)) for item in range(8)),
                                            workers=2, buffer=0, on_error="return", results=True)
            for result in mapping:
                del result
            assert len(kept) == 16
            assert [reference() for reference in kept] == [None] * 16
    finally:
        gc.enable()


@pytest.mark.parametrize(("parameter", "value"), [
    ("function", None), ("function", "ask"), ("items", 5), ("items", None), ("workers", 0), ("workers", -1),
    ("workers", 2.0), ("workers", True), ("buffer", -1), ("buffer", 0.5), ("buffer", False), ("on_error", "ignore"),
    ("on_error", None), ("ordered", 1), ("ordered", None), ("results", "yes"),
])
def test_an_option_that_cannot_work_is_refused_at_once(parameter: str, value: object) -> None:
    options: dict[str, Any] = {"function": str, "items": ["a"], parameter: value}
    with pytest.raises(ConfigError) as refused:
        map_with_backpressure(**options)
    assert refused.value.parameter == parameter
