"""What listeners are told: frozen facts, in order, without payload; and what a bad listener can do: nothing."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from scripted import Server, Task, call_all, read

from llm_guard import Cancelled, bounded, breaker, call, events, ramp_up, retry, timeout
from llm_guard.call import Call, CutOff
from llm_guard.clock.virtual import VirtualClock
from llm_guard.events import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallRejected,
    Event,
    FirstItem,
    RetryScheduled,
    StateChanged,
)
from llm_guard.outcome import Kind
from llm_guard.runtime.guarded import Guarded


@pytest.fixture
def everywhere() -> Iterator[list[Event]]:
    seen: list[Event] = []
    take_off = events.everywhere.add(seen.append)
    yield seen
    take_off()


def test_a_call_is_told_in_order() -> None:
    server = Server(Kind.FAILURE, (Kind.LIMITED, 4.0))
    ask = retry(wait=2, jitter=None, classify=read)(lambda: server())
    seen: list[Event] = []
    ask.on_event(seen.append)
    with VirtualClock():
        ask()
    name = ask.__qualname__
    hinted = seen[5]
    assert isinstance(hinted, RetryScheduled)
    assert hinted.wait >= 4
    last = 4.0 + hinted.wait
    end = seen[7]
    assert isinstance(end, AttemptEnded)
    assert seen == [
        AttemptStarted(0.0, name, attempt=1, waited=0.0),
        AttemptEnded(1.0, name, attempt=1, kind=Kind.FAILURE, seconds=1.0, hint=None, error="scripted.Ended"),
        RetryScheduled(1.0, name, attempt=1, kind=Kind.FAILURE, wait=2.0),
        AttemptStarted(3.0, name, attempt=2, waited=0.0),
        AttemptEnded(4.0, name, attempt=2, kind=Kind.LIMITED, seconds=1.0, hint=4.0, error="scripted.Ended"),
        hinted,
        AttemptStarted(last, name, attempt=3, waited=0.0),
        AttemptEnded(last + 1, name, attempt=3, kind=Kind.SUCCESS, seconds=end.seconds, hint=None),
        CallEnded(last + 1, name, attempts=3, kind=Kind.SUCCESS, seconds=last + 1),
    ]
    assert end.seconds == pytest.approx(1.0)


def test_the_wait_at_the_door_and_the_rejection_are_told(everywhere: list[Event]) -> None:
    ask = bounded(1, max_wait=5)(lambda seconds: time.sleep(seconds))
    with VirtualClock() as time:
        tasks = [Task(lambda: ask(3)), Task(lambda: ask(9)), Task(lambda: ask(1))]
        for task in tasks:
            task.ended()
    started = [event.waited for event in everywhere if isinstance(event, AttemptStarted)]
    rejected = [event for event in everywhere if isinstance(event, CallRejected)]
    assert started == [0.0, 3.0]
    assert rejected == [CallRejected(5.0, ask.__qualname__, policy="bounded", retry_after=None)]


def test_state_changes_are_told_once_each(everywhere: list[Event]) -> None:
    server = Server(*[Kind.SUCCESS] * 20, Kind.LOADING, *[Kind.SUCCESS] * 20, *[Kind.FAILURE] * 10, seconds=0.1)
    votes = breaker(window=20, min_calls=10, classify=read)
    ask = ramp_up(retry(votes(lambda item: server(item))))
    with VirtualClock(2, shuffle=True):
        call_all(ask, range(80))
    for name in ("breaker", "ramp_up"):
        changes = [event for event in everywhere if isinstance(event, StateChanged) and event.policy == name]
        assert len(changes) >= 2
        before = [change.before for change in changes]
        after = [change.after for change in changes]
        assert before[1:] == after[:-1]
        assert all(change.before != change.after for change in changes)


@pytest.mark.parametrize("kind", [AttemptStarted, AttemptEnded, RetryScheduled, CallRejected, CallEnded,
                                  StateChanged])
def test_events_are_frozen_and_have_no_place_for_payload(kind: type[Event]) -> None:
    allowed = {"at", "function", "attempt", "waited", "kind", "seconds", "hint", "wait", "policy", "retry_after",
               "before", "after", "why", "call", "attempts", "error", "output_tokens", "total_tokens"}
    fields = {field.name for field in dataclasses.fields(kind)}
    assert fields <= allowed
    event = kind(*range(len(fields) - 1), call=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.at = 1.0  # type: ignore[misc]
    assert not hasattr(event, "__dict__")


def test_all_events_of_a_call_have_its_number_and_no_other_call_has_it(everywhere: list[Event]) -> None:
    server = Server(Kind.FAILURE, then=Kind.SUCCESS)
    inner = retry(classify=read)(lambda: server())
    outer = retry(lambda: inner())
    with VirtualClock():
        outer()
        inner()
    numbers = {number: [type(event) for event in everywhere if event.call == number]
               for number in sorted({event.call for event in everywhere})}
    once = [AttemptStarted, AttemptEnded, CallEnded]
    assert list(numbers.values()) == [once, [AttemptStarted, AttemptEnded, RetryScheduled, *once], once]
    assert min(numbers) > 0


def test_a_call_that_never_started_ends_without_a_kind(everywhere: list[Event]) -> None:
    limit = bounded(1, max_wait=2)
    ask = limit(lambda: time.sleep(9))
    with VirtualClock() as time:
        Task(ask)
        Task(ask).ended()
        assert everywhere[-2:] == [CallRejected(2.0, ask.__qualname__, policy="bounded", retry_after=None),
                                   CallEnded(2.0, ask.__qualname__, attempts=0, kind=None, seconds=2.0)]
        assert isinstance(everywhere[-2], CallRejected)
        assert everywhere[-2].waited == 2.0
        time.sleep(20)


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, ValueError], ids=lambda raised: raised.__name__)
def test_whatever_ends_a_call_its_end_is_told_once(raised: type[BaseException], everywhere: list[Event]) -> None:
    def ask() -> None:
        raise raised("a secret prompt")

    guarded = bounded(1)(ask)
    with VirtualClock(), pytest.raises(raised):
        guarded()
    ended, whole = everywhere[1:]
    assert isinstance(ended, AttemptEnded)
    assert ended.error == raised.__name__
    assert isinstance(whole, CallEnded)
    assert whole.kind is ended.kind


@pytest.mark.parametrize("end", ["exhausted", "closed", "dropped", "raises"])
def test_the_call_of_a_stream_ends_with_the_stream(end: str, everywhere: list[Event]) -> None:
    @bounded(1)
    def ask() -> Iterator[str]:
        yield "a"
        time.sleep(3)
        if end == "raises":
            raise ValueError
        yield "b"

    with VirtualClock() as time:
        items = ask()
        assert [type(event) for event in everywhere] == [AttemptStarted, FirstItem]
        time.sleep(1)
        if end == "closed":
            items.close()
        elif end == "dropped":
            del items
            ask.statistics()
        else:
            with suppress(ValueError):
                list(items)
    assert [type(event) for event in everywhere[2:]] == [AttemptEnded, CallEnded]
    called = everywhere[-1]
    assert isinstance(called, CallEnded)
    assert called.kind is (Kind.FAILURE if end == "raises" else Kind.SUCCESS)
    assert called.seconds == (1.0 if end in ("closed", "dropped") else 4.0)


def test_a_stream_that_never_came_is_told_of_once(everywhere: list[Event]) -> None:
    @bounded(1)
    def ask() -> Iterator[str]:
        raise ValueError
        yield "a"

    with VirtualClock(), pytest.raises(ValueError):  # noqa: PT011 - it has no words
        ask()
    assert [type(event) for event in everywhere] == [AttemptStarted, AttemptEnded, CallEnded]


def test_the_waits_of_a_call_that_is_given_up_are_in_its_seconds(everywhere: list[Event]) -> None:
    ask = retry(wait=100, jitter=None, classify=read)(Server(then=Kind.FAILURE))
    cut_off = CutOff()

    def above() -> None:
        call.begin(Call(cut_off=cut_off))
        ask()

    with VirtualClock() as time:
        task = Task(above)
        time.sleep(30)
        cut_off.cut()
        assert isinstance(task.ended().error, Cancelled)
    assert everywhere[-1] == CallEnded(30.0, ask.label, attempts=1, kind=Kind.IGNORED, seconds=30.0)


def test_the_tokens_of_an_answer_are_told(everywhere: list[Event]) -> None:
    answer = {"choices": [{"message": {"content": "4"}}], "usage": {"prompt_tokens": 7, "completion_tokens": 2,
                                                                     "total_tokens": 9}}
    with VirtualClock():
        ramp_up(lambda: answer)()
    ended = everywhere[1]
    assert isinstance(ended, AttemptEnded)
    assert (ended.output_tokens, ended.total_tokens) == (2, 9)


def test_a_change_says_why(everywhere: list[Event]) -> None:
    server = Server(*[Kind.FAILURE] * 4)
    votes = breaker(window=4, min_calls=4, open_for=8, classify=read)
    ask = votes(lambda item: server(item))
    with VirtualClock() as time:
        call_all(ask, range(4), threads=1)
        time.sleep(20)
        ask("again")
        votes.open()
        time.sleep(20)
        ask("again")
    changes = [(event.before, event.after, event.why) for event in everywhere if isinstance(event, StateChanged)]
    opened, closed = changes
    assert opened[:2] == ("closed", "open")
    assert re.fullmatch(r"of 4 calls 100% failed; no call for [\d.]+ s", opened[2])
    assert closed == ("open", "closed", "its trials succeeded")


def test_a_listener_is_taken_off_again() -> None:
    seen: list[Event] = []
    ask = retry(lambda: None)
    take_off = ask.on_event(seen.append)
    with VirtualClock():
        ask()
        count = len(seen)
        take_off()
        take_off()
        ask()
    assert len(seen) == count == 3


def test_bound_methods_share_their_functions_listeners() -> None:
    class Client:
        @retry
        def ask(self) -> None: ...

    seen: list[Event] = []
    Client.ask.on_event(seen.append)
    with VirtualClock():
        Client().ask()
    assert [event.function for event in seen] == [Client.ask.__qualname__] * 3


def test_a_listener_that_raises_is_logged_and_dropped_and_the_call_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    limit = bounded(1)
    calls: list[Event] = []
    seen: list[Event] = []

    def bad(event: Event) -> None:
        calls.append(event)
        raise RuntimeError("about a secret prompt")

    ask = limit(retry(lambda: "answer"))
    ask.on_event(bad)
    ask.on_event(seen.append)
    with VirtualClock(), caplog.at_level(logging.DEBUG):
        assert ask() == ask() == "answer"
    assert len(calls) == 1
    assert len(seen) == 6
    assert len(caplog.records) == 1
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text
    assert limit.statistics().in_flight == 0


def test_a_listener_may_call_guarded_functions_and_read_statistics() -> None:
    limit, pace = bounded(1), ramp_up()
    other = pace(retry(lambda: "other"))
    heard: list[Any] = []

    def listener(event: Event) -> None:
        heard.append((limit.statistics().in_flight, pace.statistics().waiting, other()))

    ask = limit(pace(lambda: "answer"))
    ask.on_event(listener)
    with VirtualClock():
        assert ask() == "answer"
    assert [each[0] for each in heard[:2]] == [1, 0]  # told when it had begun, and when all was given back


def test_an_interrupt_in_a_listener_keeps_no_permit() -> None:
    def interrupt(event: Event) -> None:
        raise KeyboardInterrupt

    limit, pace = bounded(1), ramp_up()
    ask = limit(pace(lambda: "answer"))
    ask.on_event(interrupt)
    with VirtualClock():
        with pytest.raises(KeyboardInterrupt):
            ask()
        assert limit.statistics().in_flight == pace.statistics().pace.in_flight == 0


SECRET = "the secret prompt"


def _secret_calls() -> list[tuple[Guarded[[str], Any], Any]]:
    votes, busy = breaker(window=1, min_calls=1), bounded(1, max_wait=1)
    votes.open()
    return [
        (retry(attempts=2, classify=read)(Server(then=Kind.FAILURE)), None),
        (timeout(1)(Server(then=100.0)), None),
        (votes(Server()), votes),
        (busy(Server(then=5.0)), busy),
        (ramp_up(ceiling=0.001, max_wait=1)(Server()), None),
        (retry(max_refusal_wait=3, classify=read)(Server(then=Kind.LIMITED)), None),
    ]


def test_no_prompt_in_errors_events_logs_or_reprs(caplog: pytest.LogCaptureFixture, everywhere: list[Event]) -> None:
    said: list[str] = []
    with VirtualClock() as time, caplog.at_level(logging.DEBUG):
        for ask, policy in _secret_calls():
            tasks = [Task(lambda ask=ask: ask(SECRET)) for _ in range(2)]  # type: ignore[misc]
            errors = [task.ended().error for task in tasks]
            assert any(errors)
            for error in filter(None, errors):
                said += [str(error), repr(error), repr(vars(error)), str(getattr(error, "__notes__", ""))]
            said += [repr(ask), repr(policy), repr(ask.statistics()), repr(ask.stack)]
            time.sleep(200)
    said += [repr(event) for event in everywhere] + [record.getMessage() for record in caplog.records]
    assert everywhere
    assert not [text for text in said if SECRET in text]
