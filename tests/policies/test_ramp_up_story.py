"""`@ramp_up` seen from outside: its state, and one line in the log for each change of it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import pytest
from scripted import Ended, Server, Task, call_all, read

from llm_guard import Rejected, Stopped, clock, events, map_with_backpressure, ramp_up, retry, stack, timeout
from llm_guard.clock.virtual import VirtualClock
from llm_guard.events import Event, StateChanged
from llm_guard.outcome import Kind
from llm_guard.testing.simulation import recommended, simulate
from llm_guard.testing.virtual_server import VirtualServer, outcome_of

STATES = {"cold", "ramping", "steady", "holding", "paused", "exhausted"}
SECRET = "secret"
#: Every line there is, with # for a number.
LINES = {
    re.compile(pattern) for pattern in (
        "model is loading, next probe (in # s|at once)",
        r"(the server refuses \((rate limit|overload|traffic grew too fast)\)|calls (fail|time out) one after another"
        "|the account has no calls left for now), holding; next (probe|call) (in # s|at once)",
        "the account's quota is exhausted, next try in # s",
        "(first answer after # s|answered again after # s( without a call)?|the pause is over|resumed by hand), "
        "(ramping from|going on with at most) # calls? (in flight|a second)",
        "ramping up again from # calls? (in flight|a second)",
        "steady at about # calls a second(, at most # in flight)?",
        "paused by hand for # s",
    )}


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, "llm_guard"):
        yield caplog


def lines(told: pytest.LogCaptureFixture) -> list[str]:
    """What was told of a function, with # for each number."""
    said = []
    for record in told.records:
        function, _, words = record.getMessage().partition(": ")
        assert function.rpartition(".")[2] == "ask", record.getMessage()
        said.append(re.sub(r"\d+(\.\d+)?", "#", words))
    return said


def levels(told: pytest.LogCaptureFixture) -> list[str]:
    return [record.levelname for record in told.records]


def figures(told: pytest.LogCaptureFixture, line: int) -> list[float]:
    return [float(found) for found in re.findall(r"\d+(?:\.\d+)?", told.records[line].getMessage())]


def carry(scenario: str, items: int, seed: int = 1) -> Any:
    """A batch through the recommended stack, as a function `ask`; its pace."""
    pace = ramp_up()
    with VirtualClock(seed) as time:
        server = VirtualServer(scenario, seed)

        def ask(item: object) -> str:
            return server.call(item)

        guarded = stack(pace, retry(), timeout(server.scenario.timeout), classify=outcome_of)(ask)
        stops = pytest.raises(Stopped, match="quota") if scenario == "Q" else nullcontext()
        with stops:
            assert all(pace.statistics().pace.state in STATES
                       for _ in map_with_backpressure(guarded, range(items), workers=64, on_error="return"))
        seen = pace.statistics().pace
        assert seen.since <= time.now()
    return seen


# Whole stories.

def test_a_cold_server_in_words(told: pytest.LogCaptureFixture) -> None:
    seen = carry("A", 600)
    assert lines(told) == ["model is loading, next probe in # s",
                           "first answer after # s, ramping from # calls in flight",
                           "steady at about # calls a second, at most # in flight"]
    assert set(levels(told)) == {"INFO"}
    assert 14 < figures(told, 1)[0] < 30  # it loads for about 20 s
    assert seen.state == "steady"
    assert seen.capacity is not None
    assert seen.capacity >= 24  # eight slots and a queue of sixteen


def test_a_rate_limit_in_words(told: pytest.LogCaptureFixture) -> None:
    seen = carry("C-nora", 400)
    assert lines(told)[0] == "first answer after # s, ramping from # calls in flight"
    assert lines(told)[-1] == "steady at about # calls a second"
    assert figures(told, -1)[0] == pytest.approx(10, rel=0.2)
    assert seen.limit == pytest.approx(10, rel=0.3)


def test_a_used_up_quota_in_words(told: pytest.LogCaptureFixture) -> None:
    seen = carry("Q", 400)
    assert lines(told)[0] == "first answer after # s, ramping from # calls in flight"
    assert lines(told)[-1] == "the account's quota is exhausted, next try in # s"
    assert levels(told)[-1] == "WARNING"
    assert seen.state == "exhausted"


def test_an_outage_in_words(told: pytest.LogCaptureFixture) -> None:
    carry("F", 2600)
    assert lines(told) == ["first answer after # s, ramping from # calls in flight",
                           "steady at about # calls a second, at most # in flight",
                           "calls fail one after another, holding; next probe in # s",
                           "answered again after # s, going on with at most # calls in flight"]
    assert levels(told) == ["INFO", "INFO", "WARNING", "INFO"]
    assert figures(told, 3)[0] == pytest.approx(20, abs=4)  # it was gone for 20 s


@pytest.mark.figures
@pytest.mark.parametrize("scenario", ["B", "C", "C-left", "C-win-nora", "G-told", "H"])
def test_no_server_floods_the_log(scenario: str, told: pytest.LogCaptureFixture) -> None:
    run = simulate(scenario, recommended, items=2000)
    assert told.records == []  # what virtual hours bring is no news to those who read the log
    said = [re.sub(r"\d+(\.\d+)?", "#", line.words.removeprefix("client: ")) for line in run.story]
    assert len(said) <= 3 + run.seconds / 5
    for line in said:
        assert any(pattern.fullmatch(line) for pattern in LINES), line
    for before, after in pairwise(said):
        assert before != after


def test_a_whole_life_in_order(told: pytest.LogCaptureFixture) -> None:
    server = Server((Kind.LOADING, 40.0), seconds=0.5)
    pace = ramp_up(classify=read)

    @pace
    def ask(then: Any = None) -> Any:
        if then is not None:
            server.script.append(then)
        return server()

    def see(then: Any = None) -> tuple[str, str]:
        try:
            ask(then)
        except (Ended, Rejected):
            pass
        clock.current().sleep(0.01)
        seen = pace.statistics().pace
        return seen.state, seen.why

    with VirtualClock() as time:
        assert pace.statistics().pace.state == "cold"
        assert see() == ("cold", "the model is loading")
        assert see()[0] == "ramping"
        assert see((Kind.LIMITED, 5.0)) == ("steady", "the server refused a call (rate limit)")
        assert see((Kind.LIMITED, 5.0)) == ("holding", "the server refuses (rate limit)")
        assert see()[0] == "steady"
        for _ in range(8):
            state = see(Kind.FAILURE)
        assert state == ("holding", "calls fail one after another")
        for _ in range(4):
            assert see(Kind.FAILURE)[0] == "holding"
        assert see(9.5)[0] == "steady"
        assert see((Kind.QUOTA, 60.0)) == ("exhausted", "the account's quota is exhausted")
        assert see() == ("exhausted", "the account's quota is exhausted")  # refused at the door
        time.sleep(60)
        assert see()[0] == "steady"
        pace.pause(30)
        assert pace.statistics().pace.state == "paused"
        time.sleep(10)
        assert pace.statistics().pace.since == pytest.approx(10)
        pace.resume()
        assert pace.statistics().pace.state == "steady"
        time.sleep(100)
        assert (pace.statistics().pace.state, pace.statistics().pace.why) == ("cold", "no call for 60 s")
        assert see()[0] == "ramping"
        assert len(set(told.messages)) == len(told.messages)
    assert lines(told) == [
        "model is loading, next probe in # s",
        "first answer after # s, ramping from # calls in flight",
        "the server refuses (rate limit), holding; next probe in # s",
        "answered again after # s, going on with at most # calls a second",
        "calls fail one after another, holding; next probe in # s",
        "answered again after # s, going on with at most # calls a second",
        "the account's quota is exhausted, next try in # s",
        "answered again after # s, going on with at most # calls a second",
        "paused by hand for # s",
        "resumed by hand, going on with at most # calls a second",
        "answered again after # s without a call, ramping from # calls a second",
    ]
    assert levels(told) == ["INFO", *["INFO", "WARNING"] * 3, *["INFO"] * 4]


def test_events_have_the_same_states() -> None:
    seen: list[Event] = []
    server = Server(Kind.SUCCESS, (Kind.LOADING, 5.0), Kind.SUCCESS, *[Kind.FAILURE] * 8, Kind.SUCCESS, seconds=0.5)
    ask = ramp_up(retry(attempts=20, classify=read)(lambda: server()))
    ask.on_event(seen.append)
    with VirtualClock():
        for _ in range(4):
            ask()
    changes = [(event.before, event.after) for event in seen if isinstance(event, StateChanged)]
    assert changes == [("cold", "ramping"), ("ramping", "cold"), ("cold", "ramping"), ("ramping", "holding"),
                       ("holding", "steady")]


# By hand.

def test_a_pause_and_its_end_are_told_though_nothing_is_called(told: pytest.LogCaptureFixture) -> None:
    pace = ramp_up()

    @pace
    def ask() -> None: ...

    with VirtualClock() as time:
        pace.resume()
        assert lines(told) == []
        pace.pause(3600)
        pace.resume()
        pace.pause(20)
        time.sleep(60)
        ask()
    assert told.messages[0].endswith("ask: paused by hand for 3600 s")
    assert lines(told) == ["paused by hand for # s", "resumed by hand, going on with at most # calls in flight",
                           "paused by hand for # s", "the pause is over, ramping from # calls in flight"]


def test_a_shared_pace_that_is_paused_is_told_of_by_its_own_name(told: pytest.LogCaptureFixture) -> None:
    pace = ramp_up()
    pace(lambda: 1)
    pace(lambda: 2)
    with VirtualClock():
        pace.pause(5)
    assert told.messages == ["ramp_up: paused by hand for 5 s"]


# With a key.

def test_each_key_has_its_lines_and_none_is_in_them(told: pytest.LogCaptureFixture) -> None:
    servers = {SECRET: Server((Kind.LOADING, 9.0), seconds=0.1), "other": Server(seconds=0.1)}
    pace = ramp_up(key="model", classify=read)

    @pace
    @retry
    def ask(model: str) -> Any:
        return servers[model]()

    with VirtualClock():
        assert pace.statistics().pace.state == "cold"
        call_all(ask, ["other", SECRET] * 4, threads=2)
        assert pace.statistics_of(SECRET).pace.why == "first answer after 6.5 s"
        pace.pause(30)
        pace.resume()
        pace.pause(30, key=SECRET)
        assert (pace.statistics().pace.state, pace.statistics().pace.why) == ("mixed", "several reasons")
        assert (pace.statistics().pace.limit, pace.statistics().pace.capacity) == (None, None)
    assert lines(told) == ["one key: first answer after # s, ramping from # calls in flight",
                           "one key: model is loading, next probe in # s",
                           "one key: first answer after # s, ramping from # calls in flight",
                           "every key: paused by hand for # s", "every key: resumed by hand",
                           "one key: paused by hand for # s"]
    assert SECRET not in told.text


# What listens to the log.

class Raises(logging.Handler):
    """A handler that does not keep to the rule that none raises."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.asked += 1
        raise RuntimeError("the disk is full")


@pytest.fixture
def raises() -> Iterator[Raises]:
    handler = Raises()
    logging.getLogger("llm_guard").addHandler(handler)
    yield handler
    logging.getLogger("llm_guard").removeHandler(handler)


def test_a_handler_that_raises_hurts_no_call_and_no_pause(raises: Raises) -> None:
    server, pace = Server((Kind.LOADING, 3.0), seconds=0.1), ramp_up(classify=read)
    ask = pace(retry(lambda: server()))
    with VirtualClock():
        assert ask() == "answer"
        pace.pause(1)
        assert ask() == "answer"
        assert pace.statistics().pace.in_flight == 0
    assert raises.asked == 4


def test_lines_are_told_outside_the_door() -> None:
    """A handler may call a function that is guarded by the same pace, from another thread."""
    pace, answers = ramp_up(), []
    ask = pace(lambda: "answer")

    class NoLock(nullcontext[None]):
        """The handler's own lock would be held over the call below."""

        def acquire(self) -> None: ...

        def release(self) -> None: ...

    class Asks(logging.Handler):
        def createLock(self) -> None:
            self.lock = NoLock()  # type: ignore[assignment]

        def emit(self, record: logging.LogRecord) -> None:
            answers.append(Task(ask).wait())

    handler = Asks()
    logging.getLogger("llm_guard").addHandler(handler)
    try:
        with VirtualClock():
            assert ask() == "answer"
            pace.pause(5)
    finally:
        logging.getLogger("llm_guard").removeHandler(handler)
    assert answers[0] == "answer"
    assert len(answers) >= 2


def test_a_call_that_changes_nothing_takes_no_lock_for_the_log(monkeypatch: pytest.MonkeyPatch,
                                                               told: pytest.LogCaptureFixture) -> None:
    from llm_guard.state.pace_story import Story
    asked: list[float] = []
    news = Story.news

    def counted(story: Story, now: float) -> tuple[int, str] | None:
        asked.append(now)
        return news(story, now)

    monkeypatch.setattr(Story, "news", counted)
    ask = ramp_up(lambda: None)
    with VirtualClock():
        for _ in range(50):
            ask()
    assert len(asked) == 1
    assert len(told.messages) == 1


def test_a_change_is_told_once_where_somebody_listens_to_events_too(told: pytest.LogCaptureFixture) -> None:
    @ramp_up
    def ask() -> None: ...

    take_off = events.everywhere.add(lambda event: None)
    with VirtualClock():
        ask()
        ask()
    take_off()
    assert len(lines(told)) == 1
