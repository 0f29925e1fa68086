"""One switch turns all guards off."""

from __future__ import annotations

import subprocess
import sys

import pytest
from scripted import Server, Task

import llm_guard
from llm_guard import bounded, breaker, ramp_up, retry, stack, timeout
from llm_guard.clock.virtual import VirtualClock
from llm_guard.outcome import Kind
from llm_guard.runtime import switch


class Client:
    @bounded(1)
    @retry
    def ask(self, prompt: str) -> str:
        raise ValueError(prompt)


def test_off_the_bare_function_is_called() -> None:
    server = Server(then=Kind.FAILURE, seconds=0.0)
    limit, votes = bounded(1), breaker()
    ask = limit(ramp_up(retry(votes(timeout(1)(lambda: server())))))
    with VirtualClock(), llm_guard.disabled():
        for call in (ask, ask.with_options(timeout=3), lambda: stack(retry()).call(server)):
            with pytest.raises(Exception, match="failure"):
                call()
    assert len(server.starts) == 3
    assert limit.statistics().peak == votes.statistics().calls == 0


def test_off_methods_are_bound_all_the_same() -> None:
    with llm_guard.disabled(), pytest.raises(ValueError, match="hello"):
        Client().ask("hello")


def test_the_block_ends_as_it_was() -> None:
    assert not switch.is_off
    with llm_guard.disabled():
        with llm_guard.disabled():
            assert switch.is_off
        assert switch.is_off
    assert not switch.is_off
    with pytest.raises(ZeroDivisionError), llm_guard.disabled():
        raise ZeroDivisionError
    assert not switch.is_off


def test_calls_that_began_before_go_on_under_their_guards() -> None:
    limit = bounded(1)
    ask = limit(lambda: time.sleep(10))
    with VirtualClock() as time:
        task = Task(ask)
        llm_guard.disable()
        try:
            ask()  # not bounded
            assert time.now() == 10
            task.wait()
        finally:
            llm_guard.enable()
        assert limit.statistics().in_flight == 0
        assert limit.statistics().peak == 1


@pytest.mark.real
@pytest.mark.parametrize(("value", "off"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_the_environment_sets_it_from_the_start(value: str, off: bool) -> None:
    code = "from llm_guard.runtime import switch; print(switch.is_off)"
    found = subprocess.run([sys.executable, "-c", code], env={"LLM_GUARD_DISABLED": value}, capture_output=True,
                           text=True, check=True, timeout=30)
    assert found.stdout.strip() == str(off)
