from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from itertools import islice
from random import Random
from threading import Thread
from typing import Any

import backoff
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_guard.errors import ConfigError
from llm_guard.state.schedule import FULL_JITTER, LONGEST_WAIT, Schedule


def waits(schedule: Schedule, count: int, seed: int = 0) -> list[float]:
    return list(islice(schedule.waits(Random(seed)), count))


def test_default_doubles_from_a_tenth_of_a_second_to_eight_seconds() -> None:
    assert waits(Schedule(jitter=None), 9) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 8, 8])


def test_options_without_a_generator_change_the_default() -> None:
    assert waits(Schedule(jitter=None, factor=1, max_value=3), 4) == [1, 2, 3, 3]


def test_default_jitter_is_full() -> None:
    bare = waits(Schedule(jitter=None), 200)
    drawn = waits(Schedule(), 200)
    assert all(0 <= wait <= most for wait, most in zip(drawn, bare, strict=True))
    shares = [wait / most for wait, most in zip(drawn, bare, strict=True)]
    assert min(shares) < 0.05
    assert max(shares) > 0.95
    assert waits(Schedule(jitter=FULL_JITTER), 20) == waits(Schedule(jitter=backoff.full_jitter), 20)


def test_random_jitter_adds_up_to_a_second() -> None:
    drawn = waits(Schedule(2, jitter=backoff.random_jitter), 200)
    assert all(2 <= wait <= 3 for wait in drawn)
    assert max(drawn) - min(drawn) > 0.9


@pytest.mark.parametrize("jitter", [backoff.full_jitter, backoff.random_jitter])
def test_chance_comes_from_the_given_random_alone(jitter: Any) -> None:
    import random as everyones

    before = everyones.getstate()
    schedule = Schedule(jitter=jitter)
    assert waits(schedule, 9, seed=1) == waits(schedule, 9, seed=1) != waits(schedule, 9, seed=2)
    assert everyones.getstate() == before


def test_own_jitter_is_used_and_never_makes_a_wait_negative() -> None:
    assert waits(Schedule(4, jitter=lambda wait: wait / 2), 2) == [2, 2]
    assert waits(Schedule(4, jitter=lambda wait: wait - 5), 2) == [0, 0]


def test_fibo_and_constant_and_expo_give_what_backoff_documents() -> None:
    assert waits(Schedule(backoff.fibo, None), 6) == [1, 1, 2, 3, 5, 8]
    assert waits(Schedule(backoff.constant, None, interval=0.5), 3) == [0.5] * 3
    assert waits(Schedule(backoff.expo, None, base=3, factor=2, max_value=50), 5) == [2, 6, 18, 50, 50]


def test_a_number_is_a_constant_wait() -> None:
    assert waits(Schedule(0.25, jitter=None), 3) == [0.25] * 3
    assert waits(Schedule(0, jitter=None), 3) == [0] * 3


@pytest.mark.parametrize(("wait", "options"), [
    (backoff.expo, {"base": 2.0}), (backoff.expo, {"max_value": None}), (backoff.fibo, {}),
    (partial(backoff.expo, base=2.0), {}),
])
def test_growth_without_a_bound_is_bounded_and_never_overflows(wait: Any, options: dict[str, Any]) -> None:
    assert waits(Schedule(wait, None, **options), 1500)[-1] == LONGEST_WAIT


def test_a_generator_of_ones_own_keeps_its_own_bound() -> None:
    def ramp(max_value: float = 3) -> Iterator[float]:
        wait = 1.0
        while True:
            yield min(wait, max_value)
            wait += 1

    assert waits(Schedule(ramp, None), 5) == [1, 2, 3, 3, 3]


@pytest.mark.parametrize("opening", [[], [None], [0]])
def test_a_generator_of_ones_own_may_or_may_not_open_as_those_of_backoff_do(opening: list[Any]) -> None:
    def mine() -> Iterator[Any]:
        yield from opening
        yield from (0.5, 1)

    assert waits(Schedule(mine, None), 2) == [0.5, 1]


def test_last_wait_of_a_finite_sequence_repeats() -> None:
    def finite() -> Iterator[float]:
        yield 1
        yield 2

    assert waits(Schedule(finite, None), 4) == [1, 2, 2, 2]
    assert waits(Schedule(backoff.constant, None, interval=[3, 1]), 4) == [3, 1, 1, 1]
    assert waits(Schedule(lambda: iter([0.0, 5.0]), None), 3) == [0, 5, 5]


def test_runtime_reads_each_wait_off_what_ended_the_attempt() -> None:
    class Busy(Exception):
        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

    sequence = Schedule(backoff.runtime, None, value=lambda error: error.seconds).waits(Random(0))
    assert [sequence.after(Busy(7)), sequence.after(Busy(3)), sequence.after(Busy(-1))] == [7, 3, 0]


def test_every_call_begins_the_sequence_afresh_while_threads_share_the_schedule() -> None:
    schedule = Schedule(backoff.fibo, None)
    one, other = schedule.waits(Random(0)), schedule.waits(Random(0))
    found: list[tuple[float, float]] = []
    for _ in range(5):
        thread = Thread(target=lambda: found.append((next(one), next(other))))
        thread.start()
        thread.join()
    assert found == [(1, 1), (1, 1), (2, 2), (3, 3), (5, 5)]


def test_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Schedule().wait = backoff.fibo  # type: ignore[misc]


def test_refusals_wait_half_a_second_doubling_to_half_a_minute_with_full_jitter() -> None:
    class Highest(Random):
        def random(self) -> float:
            return 1.0

    schedule = Schedule(99)
    assert list(islice(schedule.refusal_waits(Highest()), 8)) == [0.5, 1, 2, 4, 8, 16, 30, 30]
    drawn = list(islice(schedule.refusal_waits(Random(0)), 6))
    assert all(0 <= wait <= most for wait, most in zip(drawn, [0.5, 1, 2, 4, 8, 16], strict=True))


@given(wait=st.floats(0, 1e6), hint=st.none() | st.floats(-1, 1e6), seed=st.integers(0, 99))
def test_a_hint_is_a_floor_with_little_jitter_on_top(wait: float, hint: float | None, seed: int) -> None:
    found = Schedule().with_hint(wait, hint, Random(seed))
    assert found >= wait
    assert found >= (hint or 0)
    assert found <= max(wait, (hint or 0) * 1.1)


def test_those_with_the_same_hint_do_not_come_back_together() -> None:
    random = Random(0)
    found = {Schedule().with_hint(0, 10, random) for _ in range(50)}
    assert len(found) == 50
    assert max(found) - min(found) > 0.8


def nothing() -> Iterator[float]:
    yield from ()


def text() -> Iterator[Any]:
    yield "soon"


def broken() -> Iterator[float]:
    yield 1 / 0


@pytest.mark.parametrize(("arguments", "parameter"), [
    ({"wait": -1}, "wait"), ({"wait": True}, "wait"), ({"wait": float("inf")}, "wait"), ({"wait": "1"}, "wait"),
    ({"wait": backoff.expo()}, "wait"), ({"wait": nothing}, "wait"), ({"wait": text}, "wait"),
    ({"wait": broken}, "wait"), ({"wait": len}, "wait"), ({"wait": lambda: 3}, "wait"),
    ({"wait": 1, "factor": 2}, "factor"), ({"wait": 1, "interval": 2}, "interval"),
    ({"factor": 0}, "factor"), ({"factor": "2"}, "factor"), ({"base": -1}, "base"), ({"max_value": -1}, "max_value"),
    ({"bass": 2}, "bass"), ({"wait": backoff.fibo, "max_value": "8"}, "max_value"),
    ({"wait": backoff.constant, "interval": [1, -1]}, "interval"),
    ({"wait": backoff.constant, "interval": []}, "wait"), ({"wait": backoff.constant, "interval": -1}, "wait"),
    ({"wait": backoff.constant, "interval": iter([1])}, "interval"),
    ({"wait": backoff.runtime}, "value"), ({"wait": backoff.runtime, "value": 3}, "value"),
    ({"jitter": 0.5}, "jitter"), ({"jitter": lambda: 1.0}, "jitter"), ({"jitter": lambda wait: "x"}, "jitter"),
])
def test_bad_options_are_refused_by_name_when_the_schedule_is_made(arguments: Any, parameter: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Schedule(**arguments)
    assert caught.value.parameter == parameter


def test_a_wait_that_is_no_number_is_told_when_it_is_drawn() -> None:
    schedule = Schedule(backoff.runtime, value=lambda seen: None)
    with pytest.raises(ConfigError, match="wait=None"):
        next(schedule.waits(Random(0)))


def test_a_generator_that_one_day_yields_nothing_is_told_as_such() -> None:
    days: Iterator[list[float]] = iter([[1.0], []])

    def changing() -> Iterator[float]:
        yield from next(days)

    schedule = Schedule(changing)
    with pytest.raises(ConfigError, match="wait"):
        schedule.waits(Random(0)).after(ValueError())


@pytest.mark.real
def test_backoff_is_imported_when_the_first_schedule_is_made_and_not_before() -> None:
    code = ("import sys; from llm_guard.state.schedule import Schedule; assert 'backoff' not in sys.modules; "
            "Schedule(); assert 'backoff' in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)
