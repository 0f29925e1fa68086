"""Settings for a single call."""

from __future__ import annotations

from typing import Any

import pytest
from scripted import Ended, Server, Task, read

from llm_guard import CallTimeout, ConfigError, Saturated, bounded, deadline, retry, timeout
from llm_guard.clock.virtual import VirtualClock
from llm_guard.outcome import Kind


def _ended_at(function: Any) -> float:
    task = Task(function).ended()
    assert task.error is not None
    assert task.ended_at is not None
    return task.ended_at


def test_the_timeout_takes_the_place_of_the_stacks_for_this_call_alone() -> None:
    ask = timeout(10)(lambda: time.sleep(100))
    for seconds in (60.0, 2.0):
        with VirtualClock() as time:
            assert _ended_at(ask.with_options(timeout=seconds)) == seconds
            assert _ended_at(ask) == seconds + 10


def test_of_several_timeouts_it_takes_the_place_of_the_outermost() -> None:
    server = Server(then=100.0)
    ask = timeout(60)(retry(wait=0, jitter=None, attempts=99)(timeout(10)(lambda: server())))
    with VirtualClock():
        assert _ended_at(ask.with_options(timeout=25)) == 25
    assert server.starts == [0, 10, 20]


def test_below_a_retry_it_bounds_the_attempt() -> None:
    server = Server(then=100.0)
    ask = retry(wait=0, jitter=None, attempts=3)(timeout(10)(lambda: server()))
    with VirtualClock():
        assert _ended_at(ask.with_options(timeout=4)) == 12


def test_where_there_is_none_it_bounds_the_call() -> None:
    server = Server(*[Kind.FAILURE] * 3, then=100.0)
    ask = retry(wait=1, jitter=None, classify=read)(lambda: server())
    with VirtualClock():
        with pytest.raises(CallTimeout):
            ask.with_options(timeout=20)()
        assert server.starts == [0, 2, 4, 6]


def test_the_deadline_is_an_addition() -> None:
    limit = bounded(1)
    ask = deadline(10)(limit(lambda: time.sleep(100)))
    with VirtualClock() as time:
        Task(ask)
        assert _ended_at(ask.with_options(deadline=4)) == 4
        assert _ended_at(ask.with_options(deadline=40)) == 14


def test_attempts_and_patience_are_those_of_the_retry() -> None:
    server = Server(then=Kind.FAILURE)
    ask = retry(classify=read)(lambda: server())
    with VirtualClock() as time:
        with pytest.raises(Ended):
            ask.with_options(attempts=2)()
        assert len(server.starts) == 2
        server.then = (Kind.LIMITED, 30.0)
        came = time.now()
        with pytest.raises(Ended):
            ask.with_options(max_refusal_wait=29)()
        assert time.now() == came + 1
        with pytest.raises(Ended):
            ask.with_options(max_refusal_wait=0)()
        assert len(server.starts) == 4


def test_max_wait_takes_the_place_of_the_stacks() -> None:
    limit = bounded(1, max_wait=5)
    ask = limit(lambda: time.sleep(100))
    with VirtualClock() as time:
        Task(ask)
        assert _ended_at(ask.with_options(max_wait=2)) == 2
        assert _ended_at(ask.with_options(max_wait=20)) == 22
        assert _ended_at(ask.with_options(max_wait=0)) == 22
        with pytest.raises(Saturated):
            ask()


def test_they_may_be_kept_for_many_calls_and_pass_arguments_on() -> None:
    hasty = retry(lambda prompt, *, loud: (prompt, loud)).with_options(attempts=1, deadline=5)
    with VirtualClock():
        assert [hasty(prompt, loud=True) for prompt in "ab"] == [("a", True), ("b", True)]


def test_methods_have_them_too() -> None:
    class Client:
        @timeout(10)
        def ask(self, seconds: float) -> str:
            time.sleep(seconds)
            return type(self).__name__

    with VirtualClock() as time:
        assert Client().ask.with_options(timeout=60)(50.0) == "Client"
        with pytest.raises(CallTimeout):
            Client().ask(50.0)


def test_they_count_also_where_the_call_passes_through_what_it_holds() -> None:
    limit, server = bounded(1), Server(then=30.0)
    inner = limit(lambda: server())
    outer = limit(lambda: inner.with_options(timeout=3)())
    with VirtualClock():
        assert _ended_at(outer) == 3


@pytest.mark.parametrize(("option", "value"), [
    ("timeout", -1), ("timeout", 0), ("timeout", "60"), ("timeout", float("nan")), ("timeout", True),
    ("timeout", float("inf")), ("deadline", 0), ("deadline", -3.0), ("attempts", 0), ("attempts", 2.0),
    ("attempts", True), ("max_refusal_wait", -1), ("max_refusal_wait", float("inf")), ("max_wait", -0.1)])
def test_bad_values_are_refused_before_the_call(option: str, value: object) -> None:
    ask: Any = retry(lambda: None)
    with pytest.raises(ConfigError) as error:
        ask.with_options(**{option: value})
    assert error.value.parameter == option
    assert error.value.value is value
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("option", ["attempts", "max_refusal_wait"])
def test_what_the_stack_has_no_place_for_is_refused(option: str) -> None:
    ask: Any = bounded(1)(lambda: None)
    with pytest.raises(ConfigError, match="@retry") as error:
        ask.with_options(**{option: 3})
    assert error.value.parameter == option


def test_an_unknown_option_is_a_type_error_that_names_it() -> None:
    ask: Any = retry(lambda: None)
    with pytest.raises(TypeError, match="patience"):
        ask.with_options(patience=3)
