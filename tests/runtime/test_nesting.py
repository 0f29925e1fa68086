"""A guarded function that calls guarded functions: the deadline and the cut-off go down, and nothing else."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

import pytest
from scripted import Ended, Server, call_all, read

from llm_guard import (
    CallTimeout,
    Saturated,
    bounded,
    breaker,
    deadline,
    ramp_up,
    retry,
    stack,
    timeout,
)
from llm_guard.clock.virtual import VirtualClock
from llm_guard.outcome import Kind
from llm_guard.runtime.policy import Policy


def test_recursion_passes_through_what_the_call_holds() -> None:
    limit = bounded(1)
    pace = ramp_up(ceiling=1)

    @limit
    @pace
    @retry
    @timeout(30)
    @breaker
    def factorial(n: int) -> int:
        assert limit.statistics().in_flight == 1
        return 1 if n == 0 else n * factorial(n - 1)

    with VirtualClock() as time:
        assert factorial(10) == 3628800
        assert time.now() < 1  # paced once
    assert limit.statistics().in_flight == 0


def test_a_shared_policy_passes_through_and_the_others_do_not() -> None:
    shared, own = bounded(1), bounded(1)

    @own
    @shared
    def inner() -> tuple[int, int]:
        return shared.statistics().in_flight, own.statistics().in_flight

    @shared
    def outer() -> tuple[int, int]:
        return inner()

    with VirtualClock():
        assert outer() == (1, 1)
        assert own.statistics().in_flight == shared.statistics().in_flight == 0


def test_a_policy_two_calls_above_is_still_held() -> None:
    top, middle = bounded(1), bounded(1)
    inner = top(middle(lambda: "answer"))
    between = middle(lambda: inner())
    outer = top(lambda: between())
    with VirtualClock():
        assert outer() == "answer"


@pytest.mark.parametrize("seed", range(4))
def test_policies_shared_in_opposite_orders_do_not_deadlock(seed: int) -> None:
    first, second, pace = bounded(1), bounded(2), ramp_up(ceiling=100)

    def work(item: int) -> int:
        time.sleep(0.1)
        return item

    one = first(pace(second(retry(work))))
    two = second(retry(first(pace(work))))
    both = stack(pace, second, first)(lambda item: one(item) + two(item))
    with VirtualClock(seed, shuffle=True) as time:
        results = call_all(lambda item: (one, two, both)[item % 3](item), range(60))
    assert [result.value for result in results] == [item * (2 if item % 3 == 2 else 1) for item in range(60)]
    assert first.statistics().peak == 1
    assert first.statistics().in_flight == second.statistics().in_flight == 0


def test_the_deadline_is_handed_down() -> None:
    ends: list[float] = []

    @retry
    def inner() -> None:
        ends.append(time.now())
        raise ConnectionError

    outer = deadline(3)(lambda: inner())
    with VirtualClock() as time:
        with pytest.raises(ConnectionError):
            outer()
        assert time.now() <= 3
        ends.clear()
        with pytest.raises(ConnectionError):
            inner()  # by itself it has none: the outer call's is over
        assert len(ends) == 8


def test_the_shorter_deadline_holds_in_the_function_below() -> None:
    inner = timeout(10)(lambda: time.sleep(100))
    outer = deadline(4)(lambda: inner())
    quick = deadline(60)(lambda: inner())
    with VirtualClock() as time:
        with pytest.raises(CallTimeout) as error:
            outer()
        assert (time.now(), error.value.seconds) == (4.0, 4.0)
        with pytest.raises(CallTimeout) as error:
            quick()
        assert (time.now(), error.value.seconds) == (14.0, 10.0)


def test_below_a_deadline_that_has_passed_nothing_starts() -> None:
    started: list[float] = []
    limit = bounded(1)
    inner = limit(lambda: started.append(time.now()))

    @deadline(1)
    def outer() -> None:
        time.sleep(2)
        inner()

    @limit
    @deadline(1)
    def holds_all() -> None:
        time.sleep(2)
        inner()

    with VirtualClock() as time:
        for function in (outer, holds_all):
            with pytest.raises(Saturated, match="deadline"):
                function()
    assert not started


def test_no_attempt_number_and_no_outcome_go_up_or_down() -> None:
    server = Server(Kind.FAILURE, Kind.LIMITED, Kind.FAILURE, Kind.FAILURE)
    outer_votes, inner_votes = breaker(classify=read), breaker(classify=read)
    inner = retry(attempts=2)(inner_votes(lambda: server()))
    outer = retry(attempts=2)(outer_votes(lambda: inner()))
    with VirtualClock():
        assert outer() == "answer"
        assert len(server.starts) == 5  # two that count and a refusal, then two more
        assert inner_votes.statistics().calls == 4
        assert outer_votes.statistics().calls == 2


def test_no_permit_goes_down() -> None:
    limit, inner_limit = bounded(4), bounded(2)
    inner = inner_limit(lambda item: time.sleep(1.0))
    outer = limit(lambda item: inner(item))
    with VirtualClock() as time:
        call_all(outer, range(8))
        assert limit.statistics().peak == 4
        assert inner_limit.statistics().peak == 2


def test_the_bound_of_an_attempt_is_a_deadline_for_the_functions_below() -> None:
    server = Server((Kind.LIMITED, 10.0))
    inner = retry(classify=read)(lambda: server())
    outer = retry(attempts=1)(timeout(5)(lambda: inner()))
    with VirtualClock() as time:
        with pytest.raises(Ended):
            outer()
        assert time.now() == 1.0  # its hint was longer than what was left


def test_the_attempts_made_for_an_item_of_a_mapping_are_counted() -> None:
    server = Server(Kind.FAILURE, Kind.LIMITED)
    ask = ramp_up(retry(classify=read)(lambda item: server(item)))
    with VirtualClock():
        assert [result.attempts for result in call_all(ask, range(3), threads=1)] == [3, 1, 1]


def test_a_context_that_outlives_its_call_holds_nothing() -> None:
    limit = bounded(1)
    contexts: list[contextvars.Context] = []

    @limit
    def outer() -> None:
        contexts.append(contextvars.copy_context())

    inner: Callable[[], int] = limit(lambda: limit.statistics().in_flight)
    with VirtualClock():
        outer()
        assert contexts[0].run(inner) == 1  # it took a place of its own
        assert limit.statistics().in_flight == 0


def test_a_mapping_inside_a_guarded_call_keeps_its_deadline_and_passes_what_it_holds() -> None:
    limit = bounded(1)

    @limit
    def inner(item: int) -> int:
        time.sleep(1.0)
        return item

    @limit
    @deadline(10)
    def outer(count: int) -> list[Any]:
        return [result.error for result in call_all(inner, range(count), threads=2)]

    with VirtualClock() as time:
        assert outer(4) == [None] * 4
        assert time.now() == 2.0
        late = [type(error) for error in outer(30)]
    assert late.count(type(None)) == 20
    assert late.count(Saturated) == 10


@pytest.mark.parametrize("outer_policy", [timeout(9), bounded(1), retry(attempts=1), ramp_up()], ids=repr)
def test_errors_pass_through_two_guarded_functions_as_they_are(outer_policy: Policy) -> None:
    error = Ended(Kind.INVALID)
    inner = retry(classify=read)(timeout(5)(Server(error)))
    outer = outer_policy(lambda: inner())
    with VirtualClock(), pytest.raises(Ended) as raised:
        outer()
    assert raised.value is error
