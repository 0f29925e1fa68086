"""What stands beside a mapping: one who records its results, one who watches it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from llm_guard import Result, Stopped, clock, stop_after
from llm_guard.clock.virtual import VirtualClock
from llm_guard.mapping.iterator import Mapping
from llm_guard.mapping.seams import Then, Why

seeds = pytest.mark.parametrize("seed", range(4))
both_orders = pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "as they end"])


class Recorder:
    """Says that results are safe when `batch` of them have come, or at the end."""

    def __init__(self, batch: int = 1, recorded: dict[int, str] | None = None, fails_at: int | None = None,
                 late: bool = True) -> None:
        self.batch = batch
        self.recorded = recorded or {}
        self.fails_at = fails_at
        self.late = late
        self.asked: list[int] = []
        self.safe: list[int] = []
        self.waiting: list[tuple[Result[Any, Any], Then]] = []
        self.said: list[object] = []

    def recall(self, index: int, item: int) -> Result[int, str] | None:
        self.asked.append(index)
        if index not in self.recorded:
            return None
        return Result(index, item, self.recorded[index], None, 1, 0.0)

    def record(self, result: Result[int, str], then: Then) -> None:
        if result.index == self.fails_at:
            if self.late:
                then(OSError("disk full"))
                return
            raise OSError("disk full")
        self.waiting.append((result, then))
        if len(self.waiting) >= self.batch:
            self._commit()

    def _commit(self) -> None:
        batch, self.waiting = self.waiting, []
        for result, then in batch:
            self.safe.append(result.index)
            then()

    def input_ended(self, total: int) -> None:
        self.said.append(total)

    def close(self, why: Why) -> None:
        self.said.append(why)
        self._commit()

    def drop(self) -> None:
        self.said.append("dropped")


class Observer:
    def __init__(self) -> None:
        self.totals: list[int | None] = []
        self.begun: list[int] = []
        self.ends: list[tuple[int, bool]] = []
        self.given = 0
        self.said: list[str] = []

    def total(self, items: int | None) -> None:
        self.totals.append(items)

    def began(self, index: int) -> None:
        self.begun.append(index)

    def ended(self, result: Result[Any, Any], recorded: bool) -> None:
        self.ends.append((result.index, recorded))

    def yielded(self) -> None:
        self.given += 1

    def closed(self, why: Why) -> None:
        self.said.append(why)


def mapping_of(function: Callable[[int], str], items: Any, *, recorder: Any = None, observer: Any = None,
               workers: int = 3, ordered: bool = True, raises: bool = False, **options: Any) -> Mapping[int, str, Any]:
    return Mapping(function, items, workers=workers, ordered=ordered, ahead=workers * 3, raises=raises, show=None,
                   recorder=recorder, observer=observer, **options)


def word(item: int) -> str:
    clock.current().sleep(1 + item % 3)
    return f"word {item}"


@seeds
@both_orders
@pytest.mark.parametrize("batch", [1, 3])
def test_a_result_is_given_only_when_it_is_safe(seed: int, ordered: bool, batch: int) -> None:
    recorder, taken = Recorder(batch), []
    with VirtualClock(seed, shuffle=True):
        for value in mapping_of(word, iter(range(21)), recorder=recorder, ordered=ordered):
            taken.append(value)
            assert int(value.removeprefix("word ")) in recorder.safe
    assert sorted(taken) == sorted(map("word {}".format, range(21)))
    assert recorder.asked == list(range(21))
    assert recorder.said == [21, "done"]


@seeds
@both_orders
def test_what_is_recorded_is_yielded_at_its_place_without_a_call(seed: int, ordered: bool) -> None:
    recorder, observer = Recorder(recorded={item: f"old {item}" for item in range(0, 20, 2)}), Observer()
    called: list[int] = []

    def function(item: int) -> str:
        called.append(item)
        return word(item)

    with VirtualClock(seed, shuffle=True):
        taken = list(mapping_of(function, range(20), recorder=recorder, observer=observer, ordered=ordered,
                                partition_by=lambda item: item % 3))
    expected = [f"word {item}" if item % 2 else f"old {item}" for item in range(20)]
    assert (taken if ordered else sorted(taken)) == (expected if ordered else sorted(expected))
    assert sorted(called) == sorted(observer.begun) == list(range(1, 20, 2))
    assert sorted(observer.ends) == [(item, item % 2 == 0) for item in range(20)]


@seeds
@both_orders
@pytest.mark.parametrize("late", [True, False], ids=["told", "raised"])
def test_where_recording_fails_the_mapping_ends_and_yields_nothing_that_is_not_safe(seed: int, ordered: bool,
                                                                                   late: bool) -> None:
    recorder = Recorder(fails_at=7, late=late)
    taken: list[str] = []
    with VirtualClock(seed, shuffle=True):
        mapping = mapping_of(word, itertools.count(), recorder=recorder, ordered=ordered)
        with pytest.raises(OSError, match="disk full"):
            taken.extend(mapping)
        assert list(mapping) == []
    assert {int(value.removeprefix("word ")) for value in taken} <= set(recorder.safe)
    assert "word 7" not in taken
    assert recorder.said == ["error"]


def test_what_recall_raises_comes_at_its_place() -> None:
    class Refuses(Recorder):
        def recall(self, index: int, item: int) -> None:
            if index == 4:
                raise ValueError("another input")

    taken: list[str] = []
    with VirtualClock(), pytest.raises(ValueError, match="another input"):
        taken.extend(mapping_of(word, range(9), recorder=Refuses()))
    assert len(taken) == 4


@both_orders
@pytest.mark.parametrize("end", ["stop", "close", "failures", "an error"])
def test_however_it_ends_what_was_in_flight_is_recorded_and_the_recorder_is_told_once(end: str, ordered: bool) -> None:
    recorder, observer = Recorder(batch=100), Observer()

    def function(item: int) -> str:
        clock.current().sleep(1)
        if item == 3 and end in ("failures", "an error"):
            raise LookupError
        return word(item)

    with VirtualClock() as time:
        mapping = mapping_of(function, itertools.count(), recorder=recorder, observer=observer, ordered=ordered,
                             raises=end == "an error", stop_after=stop_after(failures=1) if end != "stop" else None)
        begun: list[object] = []
        if end in ("stop", "close"):
            time.spawn(lambda: (time.sleep(2.5), getattr(mapping, end)()), "ender")  # type: ignore[func-returns-value]
        try:
            begun.extend(mapping)
        except (Stopped, LookupError):
            pass
        time.sleep(100)
        assert len(recorder.said) == len(observer.said) == 1
        assert sorted(recorder.safe) == sorted(observer.begun)
        if end != "close":
            assert len(begun) == observer.given - (end == "an error")
    assert mapping._crew.cut_off.is_cut is False  # it was spared


def test_an_observer_sees_it_all_and_the_end_of_an_input_of_unknown_length() -> None:
    observer = Observer()
    with VirtualClock():
        list(mapping_of(word, iter(range(7)), observer=observer))
        list(mapping_of(word, range(7), observer=Observer()))
    assert observer.totals == [None, 7]
    assert sorted(observer.begun) == list(range(7))
    assert sorted(observer.ends) == [(item, False) for item in range(7)]
    assert (observer.given, observer.said) == (7, ["done"])


def test_dropped_they_are_told() -> None:
    recorder, observer = Recorder(), Observer()
    with VirtualClock() as time:
        mapping = mapping_of(word, itertools.count(), recorder=recorder, observer=observer)
        next(mapping)
        del mapping
        assert (recorder.said, observer.said) == (["dropped"], ["dropped"])
        time.sleep(50)
        assert sorted(recorder.safe) == sorted(observer.begun)  # what was in flight has ended
