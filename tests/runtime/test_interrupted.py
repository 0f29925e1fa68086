"""An interrupt that falls between two steps of a call: what it had taken goes back, and it is no longer in progress."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llm_guard import bounded, call, stack
from llm_guard.runtime import express
from llm_guard.runtime.attempt import Permits
from llm_guard.runtime.policy import Policy
from llm_guard.runtime.runner import Run
from llm_guard.state.circuit import Circuit
from llm_guard.state.votes import Ballot


def _interrupted(*args: Any, **kwargs: Any) -> Any:
    raise KeyboardInterrupt


def _fails() -> None:
    raise TypeError


@pytest.mark.parametrize("step", ["Permits", "Run"])
def test_before_the_end_of_a_call_that_failed(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = bounded(1)
    monkeypatch.setattr(express, step, _interrupted)
    with pytest.raises(KeyboardInterrupt):
        limit(_fails)()
    assert limit.statistics().in_flight == 0


def test_between_the_door_and_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, limit = bounded(1, holds="call"), bounded(1)
    monkeypatch.setattr(Run, "_make", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        stack(whole, limit)(_fails)()
    assert whole.statistics().in_flight == limit.statistics().in_flight == 0


@pytest.mark.parametrize("policies", [lambda limit: (limit,), lambda limit: (bounded(5, holds="call"), limit)],
                         ids=["the short way", "the runner"])
def test_right_before_the_function_runs(policies: Callable[[Policy], tuple[Policy, ...]],
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    limit, begin = bounded(1), call.begin

    def interrupted(mine: call.Call) -> None:
        begin(mine)
        raise KeyboardInterrupt

    ask = stack(*policies(limit))(lambda: None)

    def interrupt() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(call, "begin", interrupted)
            with pytest.raises(KeyboardInterrupt):
                ask()
        assert limit.statistics().in_flight == 0
        mine = call.in_progress()
        assert mine is not None
        assert not mine.active  # so what it held is held no more

    contextvars.copy_context().run(interrupt)


def test_while_a_stream_gives_back(monkeypatch: pytest.MonkeyPatch) -> None:
    limit, whole, end = bounded(1), bounded(1, holds="call"), Permits.end

    def items() -> Iterator[int]:
        yield 1

    def interrupted(permits: Permits, ending: Any) -> None:
        monkeypatch.setattr(Permits, "end", end)
        raise KeyboardInterrupt

    stream = stack(whole, limit)(items)()
    assert next(stream) == 1
    monkeypatch.setattr(Permits, "end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    assert whole.statistics().in_flight == 0
    del stream
    assert limit.statistics().in_flight == 0


def test_while_a_trial_of_a_circuit_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = Circuit(min_calls=1, open_for=0)
    with pytest.raises(TypeError), circuit:
        _fails()
    assert circuit.state == "half_open"
    with monkeypatch.context() as patched:
        patched.setattr(Ballot, "is_slow", _interrupted)
        with pytest.raises(KeyboardInterrupt), circuit:
            pass
    with circuit:
        pass
    assert circuit.state == "closed"
