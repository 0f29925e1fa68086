"""`map_with_backpressure(..., progress=...)`: what is told, when, to whom, and how it ends."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from llm_guard import (
    ConfigError,
    Kind,
    Outcome,
    Progress,
    Result,
    breaker,
    clock,
    disabled,
    events,
    map_with_backpressure,
    ramp_up,
    retry,
    stack,
    timeout,
)
from llm_guard.clock.virtual import VirtualClock
from llm_guard.mapping.progress_output import _Told
from llm_guard.mapping.progress_watch import Watch


@pytest.fixture
def time() -> Iterator[VirtualClock]:
    with VirtualClock() as virtual:
        yield virtual
    assert not events.everywhere, "a listener was left behind"


class Ended(Exception):
    pass


def takes(seconds: float) -> Callable[[int], int]:
    def call(item: int) -> int:
        clock.current().sleep(seconds)
        return item

    return call


def test_a_function_is_told_at_most_each_tenth_of_a_second_and_once_at_the_end(time: VirtualClock) -> None:
    told: list[tuple[float, Progress]] = []
    results = list(map_with_backpressure(takes(1.0), range(20), workers=4,
                                         progress=lambda progress: told.append((time.now(), progress))))
    assert results == list(range(20))
    assert len(told) == pytest.approx(51, abs=2)
    assert all(later - earlier > 0.0999 for (earlier, _), (later, _) in pairwise(told[:-1]))
    assert [progress.over for _, progress in told].index(True) == len(told) - 1
    half = next(progress for at, progress in told if at > 2.55)
    assert (half.total, half.done, half.in_flight, half.waiting) == (20, 8, 4, None)
    last = told[-1][1]
    assert (last.done, last.succeeded, last.failed, last.in_flight) == (20, 20, 0, 0)
    assert (last.elapsed, last.attempts, last.outcomes) == (pytest.approx(5.0), 20, {Kind.SUCCESS: 20})
    assert last.wall == pytest.approx(time.wall())


def test_the_last_is_told_before_the_end_comes_to_the_consumer(time: VirtualClock) -> None:
    last: list[Progress] = []
    mapping = map_with_backpressure(takes(1.0), range(3), progress=last.append)
    assert [*mapping] == [0, 1, 2]
    assert last[-1].over
    count = len(last)
    time.sleep(10)
    assert len(last) == count, "nothing is told after the end"


def test_it_counts_down_while_nothing_ends(time: VirtualClock) -> None:
    loads = True

    def call(item: int) -> int:
        time.sleep(0.1)
        if loads:
            raise Ended
        return item

    def read(end: object) -> Outcome | None:
        return Outcome(Kind.LOADING, hint=12.0) if isinstance(end, Ended) else None

    guarded = stack(ramp_up(classify=read), retry())(call)
    told: list[Progress] = []

    def end_loading(progress: Progress) -> None:
        nonlocal loads
        told.append(progress)
        loads = progress.elapsed < 15

    list(map_with_backpressure(guarded, range(30), workers=8, progress=end_loading))
    first = [progress for progress in told if 0.15 < progress.elapsed < 8.25]
    waits = [progress.standing.next_probe_in for progress in first if progress.standing is not None]
    assert {progress.state for progress in first} == {"cold"}
    assert len(waits) > 75
    assert all(later is not None and earlier is not None and later < earlier for earlier, later in pairwise(waits))
    assert first[0].waiting == 8
    assert {"ramping"} <= {progress.state for progress in told}
    last = told[-1]
    assert (last.done, last.outcomes[Kind.SUCCESS]) == (30, 30)
    assert last.attempts == sum(last.outcomes.values()) > 30
    assert last.retries == last.attempts - 30


@pytest.mark.parametrize("wrap", [lambda ask: lambda item: ask(item), lambda ask: ask,
                                  lambda ask: timeout(60)(lambda item: ask(item)),
                                  lambda ask: ask.with_options(attempts=3)],
                         ids=["lambda", "guarded", "within a guarded one", "with options"])
def test_a_function_around_a_guarded_one_shows_its_state(time: VirtualClock, wrap: Callable[[Any], Any]) -> None:
    ask = stack(ramp_up(), retry())(takes(1.0))
    told: list[Progress] = []
    list(map_with_backpressure(wrap(ask), range(40), workers=4, progress=told.append))
    states = {progress.state for progress in told}
    if "timeout" in repr(wrap(ask)):  # calls on worker threads are not this mapping's to see
        assert states == {None}
    else:
        assert "ramping" in states
    assert told[-1].attempts == 40


def test_attempts_of_what_a_guarded_function_calls_are_not_its_own(time: VirtualClock) -> None:
    inner = retry(takes(0.1))
    outer = retry(lambda item: inner(item) + inner(item))
    told: list[Progress] = []
    list(map_with_backpressure(lambda item: outer(item), range(10), workers=2, progress=told.append))
    assert told[-1].attempts == 10


def test_two_mappings_of_one_function_are_counted_apart(time: VirtualClock) -> None:
    ask = stack(ramp_up(), retry())(takes(1.0))
    first: list[Progress] = []
    second: list[Progress] = []
    one = map_with_backpressure(ask, range(12), workers=3, progress=first.append)
    two = map_with_backpressure(ask, range(7), workers=3, progress=second.append)
    assert [*zip(one, two, strict=False)]
    list(one), list(two)
    assert (first[-1].attempts, first[-1].done) == (12, 12)
    assert (second[-1].attempts, second[-1].done) == (7, 7)


def test_failures_are_counted_by_outcome_and_class(time: VirtualClock) -> None:
    def call(item: int) -> int:
        time.sleep(1.0)
        if item % 3 == 0:
            raise Ended
        if item % 3 == 1:
            raise TypeError
        return item

    guarded = retry(attempts=2)(call)
    told: list[Progress] = []
    list(map_with_backpressure(guarded, range(9), on_error="return", progress=told.append))
    last = told[-1]
    assert (last.succeeded, last.failed, last.retries) == (3, 6, 3)
    assert last.failures == {"failure: Ended": 3, "TypeError": 3}


def test_unguarded_failures_are_counted_by_class(time: VirtualClock) -> None:
    told: list[Progress] = []
    list(map_with_backpressure(lambda item: 1 // item, range(3), on_error="return", progress=told.append))
    assert told[-1].failures == {"ZeroDivisionError": 1}
    assert told[-1].outcomes == {Kind.SUCCESS: 2, Kind.FAILURE: 1}


def test_with_guards_switched_off_items_are_counted_as_they_are(time: VirtualClock) -> None:
    told: list[Progress] = []
    with disabled():
        list(map_with_backpressure(stack(ramp_up(), retry())(takes(1.0)), range(6), workers=3, progress=told.append))
    assert (told[5].in_flight, told[5].waiting) == (3, None)
    assert (told[-1].done, told[-1].attempts) == (6, 6)


def test_an_open_circuit_is_a_state(time: VirtualClock) -> None:
    broken = True

    def call(item: int) -> int:
        time.sleep(0.1)
        if broken:
            raise Ended
        return item

    guarded = stack(retry(attempts=100), breaker(window=5, min_calls=5, open_for=4))(call)
    told: list[Progress] = []

    def mend(progress: Progress) -> None:
        nonlocal broken
        told.append(progress)
        broken = progress.elapsed < 8

    list(map_with_backpressure(guarded, range(20), workers=4, progress=mend))
    opened = [progress.standing for progress in told if progress.state == "open"]
    assert opened
    assert opened[0] is not None
    assert opened[0].next_probe_in is not None
    assert 0 < opened[0].next_probe_in <= 5
    assert told[-1].state is None


def test_a_pause_by_hand_says_until_when(time: VirtualClock) -> None:
    ask = ramp_up(takes(1.0))
    told: list[Progress] = []

    def pause(progress: Progress) -> None:
        told.append(progress)
        if len(told) == 20:
            ask.guards[0].pause(60)

    list(map_with_backpressure(ask, range(200), workers=4, progress=pause))
    paused = [progress for progress in told if progress.state == "paused"]
    assert len(paused) == pytest.approx(600, abs=10)
    untils = {round(progress.standing.paused_until) for progress in paused
              if progress.standing is not None and progress.standing.paused_until is not None}
    assert untils == {round(told[19].wall + 60)}


@pytest.mark.parametrize("end", ["close", "error", "interrupt", "drop", "break"])
def test_however_it_ends_the_last_is_told_and_nothing_is_left_behind(time: VirtualClock, end: str) -> None:
    def call(item: int) -> int:
        time.sleep(1.0)
        if end == "error" and item == 8:
            raise Ended
        if end == "interrupt" and item == 8:
            raise KeyboardInterrupt
        return item

    told: list[Progress] = []
    mapping = map_with_backpressure(lambda item: call(item), range(1000), workers=4, progress=told.append)
    if end in ("error", "interrupt"):
        with pytest.raises((Ended, KeyboardInterrupt)):
            list(mapping)
    else:
        for _ in range(6):
            next(mapping)
        if end == "close":
            mapping.close()
    del mapping
    gc.collect()
    time.sleep(5)
    assert told[-1].over
    assert 6 <= told[-1].done < 20
    assert (told[-1].total, told[-1].in_flight) == (1000, 0)
    count = len(told)
    time.sleep(5)
    assert len(told) == count


def test_one_that_raises_is_told_no_more_and_the_mapping_goes_on(time: VirtualClock,
                                                               caplog: pytest.LogCaptureFixture) -> None:
    calls = 0

    def raises(progress: Progress) -> None:
        nonlocal calls
        calls += 1
        raise ValueError("a secret")

    assert list(map_with_backpressure(takes(1.0), range(9), workers=3, progress=raises)) == list(range(9))
    assert calls == 1
    assert [record.getMessage() for record in caplog.records] == [
        "what shows the progress raised ValueError and is dropped"]


def test_one_that_ends_the_mapping_does_not_wait_for_itself(time: VirtualClock) -> None:
    told: list[Progress] = []

    def stop(progress: Progress) -> None:
        told.append(progress)
        if len(told) == 15:
            mapping.close()

    mapping = map_with_backpressure(takes(1.0), iter(range(10**9)), workers=2, progress=stop)
    assert len(list(mapping)) < 20
    time.sleep(1)
    assert told[-1].over
    assert sum(progress.over for progress in told) == 1


def test_the_total_of_a_generator_is_known_when_given_and_at_its_end(time: VirtualClock) -> None:
    for given, expected in ((None, None), (30, 30)):
        told: list[Progress] = []
        list(map_with_backpressure(takes(1.0), iter(range(24)), workers=2, buffer=0, total=given,
                                   progress=told.append))
        assert told[50].total == expected
        assert told[-1].total == 24


def test_what_the_journal_gave_was_not_called(time: VirtualClock) -> None:
    told: list[Progress] = []
    watch = Watch(takes(1.0), _Told(told.append))
    watch.total(3)
    for index in range(2):
        watch.ended(Result(index, index, "value", None, 1, 0.5), True)
    watch.began(2)
    watch.ended(Result(2, 2, "value", None, 1, 0.5), False)
    watch.closed("done")
    assert (told[-1].done, told[-1].recorded, told[-1].attempts) == (3, 2, 1)


@pytest.mark.parametrize("progress", [None, 1, "yes", []], ids=["none", "one", "word", "list"])
def test_what_cannot_be_told_is_refused(progress: Any) -> None:
    with pytest.raises(ConfigError, match="progress="):
        map_with_backpressure(print, [], progress=progress)


@pytest.mark.parametrize("total", [-1, 2.5, True], ids=str)
def test_a_total_that_is_none_is_refused(total: Any) -> None:
    with pytest.raises(ConfigError, match="total="):
        map_with_backpressure(print, [], total=total)


def test_without_a_terminal_there_is_a_line_each_ten_seconds_and_one_at_the_end(
        time: VirtualClock, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "llm_guard"):
        list(map_with_backpressure(takes(1.0), range(50), workers=2, progress=True))
    lines = [record.getMessage().removeprefix("takes.<locals>.call: ") for record in caplog.records]
    assert lines == ["18 of 50 (36%) done, 1.9/s, 2 in flight, about 0:16 left",
                     "38 of 50 (76%) done, 2.0/s, 2 in flight, about 0:06 left",
                     "ended, 50 of 50 (100%) done, 0:25"]


def test_a_second_run_tells_what_it_found_in_the_journal(time: VirtualClock, tmp_path: Path) -> None:
    told: list[Progress] = []
    with map_with_backpressure(takes(1.0), range(40), workers=4, journal=tmp_path / "run.db") as first:
        for _ in range(12):
            next(first)
    list(map_with_backpressure(takes(1.0), range(40), workers=4, journal=tmp_path / "run.db", progress=told.append))
    assert told[0].recorded >= 12
    assert told[0].rate == 0
    last = told[-1]
    assert (last.done, last.failed) == (40, 0)
    assert last.attempts == 40 - last.recorded
