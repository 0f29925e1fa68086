"""One line for a change of state, none for a call, and never a flood."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from llm_guard import bounded, breaker, clock, ramp_up, retry, timeout
from llm_guard.clock.virtual import VirtualClock
from llm_guard.errors import Rejected
from llm_guard.events import Event, StateChanged, everywhere
from llm_guard.telemetry.logging import Logging
from llm_guard.telemetry.rarely import LINES, WITHIN, Rarely


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What is logged, as it comes."""
    said: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(f"{record.levelname} {record.getMessage()}")

    handler, logger = Kept(), logging.getLogger("llm_guard")
    logger.addHandler(handler)
    caplog.set_level(logging.DEBUG, "llm_guard")
    yield said
    logger.removeHandler(handler)


@pytest.fixture
def watching() -> Iterator[Logging]:
    with Logging() as exporter:
        yield exporter


def quietly(function: Any, *args: Any) -> None:
    try:
        function(*args)
    except Exception:
        pass


def test_a_circuit_that_opens_and_closes(lines: list[str], watching: Logging) -> None:
    broken = [True]

    @breaker(min_calls=4, open_for=8)
    def ask(prompt: str) -> str:
        if broken[0]:
            raise ValueError(prompt)
        return prompt

    ask.label = "ask"
    watching.watch(ask)
    with VirtualClock() as time:
        for _ in range(30):
            quietly(ask, "a secret prompt")
        assert len(lines) == 1
        assert lines[0].startswith("WARNING ask: breaker opened: of 4 calls 100% failed; no call for ")
        broken[0] = False
        time.sleep(30)
        for _ in range(30):
            ask("a secret prompt")
    assert lines[1:] == ["INFO ask: breaker closed: its trials succeeded"]


def test_what_is_refused_and_that_it_is_over(lines: list[str], watching: Logging) -> None:
    limit = bounded(1, max_wait=0)

    @limit
    def ask(seconds: float) -> None:
        clock.current().sleep(seconds)

    ask.label = "ask"
    watching.watch()
    with VirtualClock() as time:
        time.spawn(lambda: ask(20), "holds")
        for _ in range(15):
            time.sleep(1)
            quietly(ask, 1)
        assert lines == ["WARNING ask: calls are refused by bounded: no place came free in time"]
        time.sleep(6)
        ask(1)
        assert len(lines) == 1  # the last refusal is not long past
        time.sleep(10)
        ask(1)
        ask(1)
    assert lines[1:] == ["INFO ask: bounded refuses none for 10 s, after 15"]


def test_functions_that_hang_at_the_bound(lines: list[str], watching: Logging) -> None:
    @timeout(1, max_still_running=2)
    def ask() -> None:
        clock.current().sleep(30)

    ask.label = "ask"
    watching.watch(ask)
    with VirtualClock() as time:
        for _ in range(6):
            quietly(ask)
        time.sleep(40)
    assert lines == ["WARNING ask: calls are refused by timeout: too many functions that ran out of time still run"]


def test_the_lines_of_a_pace_are_said_once(lines: list[str], watching: Logging) -> None:
    pace = ramp_up()
    ask = pace(retry(lambda: None))
    ask.label = "ask"
    watching.watch(ask)
    with VirtualClock():
        for _ in range(5):
            ask()
        pace.pause(60)
        pace.resume()
    assert len(lines) == len(set(lines))
    assert len([line for line in lines if "first answer" in line]) == 1


def test_flapping_does_not_flood_and_the_last_word_is_true(lines: list[str], watching: Logging) -> None:
    watching.watch()
    told: list[Event] = [StateChanged(0.0, "ask", "breaker", "closed", "open", "of 4 calls 100% failed"),
                         StateChanged(0.0, "ask", "breaker", "open", "closed", "its trials succeeded")]
    with VirtualClock() as time:
        for number in range(100):
            now = time.now()
            event = told[number % 2]
            assert isinstance(event, StateChanged)
            everywhere.tell(StateChanged(now, event.function, event.policy, event.before, event.after, event.why))
            time.sleep(0.5)
        assert len(lines) == LINES
        time.sleep(60)
    assert lines[LINES:] == ["INFO ask: breaker closed: its trials succeeded (93 before it left out)"]


def test_rarely_lets_a_few_lines_through_and_keeps_the_last() -> None:
    about = Rarely()
    assert about.due_at is None
    for number in range(LINES):
        assert about.say(float(number), 20, f"line {number}") == (20, f"line {number}")
    assert about.say(10.0, 30, "kept") is None
    assert about.say(11.0, 20, "kept later") is None
    assert about.due_at == WITHIN
    assert about.rest(WITHIN - 0.1) is None
    assert about.rest(WITHIN) == (20, "kept later (1 before it left out)")
    assert about.due_at is None
    assert about.rest(WITHIN) is None


def test_rejected_calls_keep_their_errors_with_it(watching: Logging) -> None:
    ask = bounded(1, max_wait=0)(lambda: clock.current().sleep(5))
    watching.watch(ask)
    with VirtualClock() as time:
        time.spawn(ask, "holds")
        time.sleep(1)
        with pytest.raises(Rejected):
            ask()
        time.sleep(9)
