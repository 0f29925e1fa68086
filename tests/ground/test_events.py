"""Events and those who listen: told in turn, and never able to break what they watch."""

from __future__ import annotations

import dataclasses
import gc
import logging
import pickle
import sys
import threading

import pytest

from llm_guard import events
from llm_guard.events import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallRejected,
    Event,
    Listeners,
    RetryScheduled,
    StateChanged,
    audience_of,
)
from llm_guard.outcome import Kind

EACH = [
    Event(1.0, "ask"),
    AttemptStarted(1.0, "ask", attempt=1, waited=0.5),
    AttemptEnded(1.0, "ask", attempt=1, kind=Kind.OVERLOAD, seconds=0.5, hint=3.0),
    RetryScheduled(1.0, "ask", attempt=1, kind=Kind.FAILURE, wait=0.25),
    CallRejected(1.0, "ask", policy="bounded", retry_after=None),
    StateChanged(1.0, "ask", policy="breaker", before="closed", after="open"),
    CallEnded(1.0, "ask", call=7, attempts=2, kind=None, seconds=9.0),
]


@pytest.mark.parametrize("event", EACH, ids=lambda event: type(event).__name__)
def test_an_event_is_a_frozen_fact_that_survives_a_pickle(event: Event) -> None:
    assert pickle.loads(pickle.dumps(event)) == event
    for field in dataclasses.fields(event):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(event, field.name, None)
    assert not hasattr(event, "__dict__")


def test_listeners_are_told_in_turn_until_they_are_taken_off() -> None:
    told: list[tuple[str, Event]] = []
    listeners = Listeners()
    assert not listeners
    off = listeners.add(lambda event: told.append(("a", event)))
    listeners.add(lambda event: told.append(("b", event)))
    assert listeners
    listeners.tell(EACH[0])
    off()
    off()
    listeners.tell(EACH[1])
    assert told == [("a", EACH[0]), ("b", EACH[0]), ("b", EACH[1])]


def test_a_bound_method_can_listen_and_be_taken_off() -> None:
    class Exporter:
        def __init__(self) -> None:
            self.seen: list[Event] = []

        def export(self, event: Event) -> None:
            self.seen.append(event)

    exporter, listeners = Exporter(), Listeners()
    off = listeners.add(exporter.export)
    listeners.tell(EACH[0])
    off()
    assert not listeners
    listeners.tell(EACH[0])
    assert exporter.seen == [EACH[0]]


def test_a_listener_that_raises_is_logged_without_its_message_and_dropped(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Event] = []
    listeners = Listeners()

    def broken(event: Event) -> None:
        raise KeyError("a prompt that nobody may see")

    listeners.add(broken)
    listeners.add(told.append)
    with caplog.at_level(logging.DEBUG, "llm_guard"):
        listeners.tell(EACH[0])
        listeners.tell(EACH[1])
    assert told == EACH[:2]
    assert len(caplog.records) == 1
    assert caplog.records[0].name == "llm_guard"
    assert "KeyError" in caplog.text
    assert "prompt" not in caplog.text


def test_takers_are_told_of_their_kinds_only_with_the_facts_as_they_are() -> None:
    taken: list[tuple[object, ...]] = []
    listeners = Listeners()
    off = listeners.add_takers({CallEnded: lambda *facts: taken.append(facts),
                                AttemptStarted: lambda *facts: taken.append(facts)})
    told: list[Event] = []
    listeners.add(told.append)
    for event in EACH:
        listeners.tell(event)
    audience = audience_of(listeners)
    assert audience is not None
    for told_of in audience.attempt_started:
        told_of(9, 2.0, "ask", 1, 0.0)
    off()
    listeners.tell(EACH[1])
    assert taken == [(0, 1.0, "ask", 1, 0.5), (7, 1.0, "ask", 2, None, 9.0), (9, 2.0, "ask", 1, 0.0)]
    assert told == [*EACH, AttemptStarted(2.0, "ask", attempt=1, waited=0.0), EACH[1]]
    assert [event.call for event in told] == [0] * 6 + [7, 9, 0]


def test_no_event_is_made_where_only_takers_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*facts: object, **named: object) -> None:
        raise AssertionError("it was made")

    monkeypatch.setattr(AttemptStarted, "__init__", made)
    taken: list[object] = []
    listeners = Listeners()
    listeners.add_takers({AttemptStarted: lambda *facts: taken.append(facts)})
    listeners.tell(EACH[1])
    assert taken == [(0, 1.0, "ask", 1, 0.5)]


def test_an_audience_is_kept_until_somebody_comes_or_goes() -> None:
    one, other = Listeners(), Listeners()
    assert audience_of(one) is None
    off = one.add(_ignore)
    before = audience_of(one)
    assert before is not None
    assert audience_of(one) is before
    assert len(before.call_ended) == 1
    assert audience_of(other) is None
    off_everywhere = events.everywhere.add_takers({CallEnded: _ignore})
    try:
        after = audience_of(one)
        assert after is not None
        assert (len(after.call_ended), len(after.attempt_started)) == (2, 1)
        assert audience_of(other) is not None
    finally:
        off_everywhere()
    off()
    assert audience_of(one) is None


def test_one_that_was_taken_off_or_dropped_is_not_told_by_an_audience_of_before() -> None:
    told: list[Event] = []
    listeners = Listeners()
    off = listeners.add(told.append)
    audience = audience_of(listeners)
    assert audience is not None
    off()
    audience.call_ended[0](1, 2.0, "ask", 1, None, 3.0)
    assert not told


def test_numbers_of_calls_are_drawn_once_each() -> None:
    drawn = [events.next_call() for _ in range(100)]
    assert drawn == sorted(set(drawn))


def test_an_interrupt_in_a_listener_is_not_swallowed() -> None:
    def interrupted(event: Event) -> None:
        raise KeyboardInterrupt

    listeners = Listeners()
    listeners.add(interrupted)
    with pytest.raises(KeyboardInterrupt):
        listeners.tell(EACH[0])
    assert listeners


def test_a_listener_may_add_and_take_off_listeners_while_it_is_told() -> None:
    told: list[str] = []
    listeners = Listeners()

    def once(event: Event) -> None:
        told.append("once")
        off()
        listeners.add(lambda event: told.append("added"))

    off = listeners.add(once)
    listeners.tell(EACH[0])
    listeners.tell(EACH[0])
    assert told == ["once", "added"]


def test_telling_those_everywhere_is_the_same_thing() -> None:
    told: list[Event] = []
    off = events.everywhere.add(told.append)
    try:
        events.everywhere.tell(EACH[3])
    finally:
        off()
    assert told == [EACH[3]]
    assert not events.everywhere


@pytest.mark.real
def test_a_finaliser_may_take_its_listener_off_in_the_midst_of_another_change() -> None:
    """The collector runs wherever something is allocated, so also inside `add`, in the thread that holds a lock."""
    listeners = Listeners()

    class Exporter:
        def __init__(self) -> None:
            self.off = listeners.add(_ignore)
            self.itself = self  # only the collector finds it

        def __del__(self) -> None:
            self.off()

    def change() -> None:
        for allocations in range(1, 40):  # the collector comes a little later each time
            gc.collect(0)
            Exporter()
            gc.set_threshold(allocations)
            off = listeners.add(_ignore)
            off()
            gc.set_threshold(*usual)

    usual = gc.get_threshold()
    thread = threading.Thread(target=change, daemon=True)
    try:
        thread.start()
        thread.join(0.5)
    finally:
        gc.set_threshold(*usual)
    assert not thread.is_alive(), "it waits for a lock that it holds itself"
    gc.collect()
    assert not listeners


def _ignore(event: Event) -> None:
    pass


@pytest.mark.real
def test_no_change_is_lost_among_threads() -> None:
    listeners = Listeners()
    told: list[Event] = []
    off = listeners.add(told.append)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def come_and_go() -> None:
        for _ in range(200):
            listeners.add(lambda event: None)()

    try:
        threads = [threading.Thread(target=come_and_go) for _ in range(6)]
        for thread in threads:
            thread.start()
        for _ in range(50):
            listeners.tell(EACH[0])
        for thread in threads:
            thread.join(5.0)
    finally:
        sys.setswitchinterval(interval)
    assert told == [EACH[0]] * 50
    off()
    assert not listeners
