"""The registry: who wants to see all guarded functions finds those that live, and keeps none alive."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from scripted import Task

from llm_guard import bounded, clock, fork, ramp_up, retry, stack, weaklist
from llm_guard.clock.virtual import VirtualClock
from llm_guard.events import AttemptEnded, AttemptStarted, CallEnded, Event
from llm_guard.runtime import registry as room
from llm_guard.runtime.guarded import Guarded
from llm_guard.runtime.registry import Member, Registry, registry


def guarded() -> Guarded[[], str]:
    @ramp_up
    @bounded(2)
    @retry
    def ask() -> str:
        return "answer"

    return ask


def test_a_function_is_there_once_while_it_lives_and_not_the_stacks_it_grew_from() -> None:
    gc.collect()
    before = registry.members()
    ask = guarded()
    assert [member for member in registry.members() if member not in before] == [ask]
    gone = weakref.ref(ask)
    del ask
    assert gone() is None
    assert registry.members() == before


def test_a_function_costs_less_than_100_bytes() -> None:
    functions = [bounded(1)(lambda: None) for _ in range(5000)]
    references = [weakref.ref(function) for function in functions]  # those of the process's registry are the same ones
    assert weakref.getweakrefcount(functions[0]) == 1
    one = references[0].__sizeof__() + 16  # with what the collector keeps of it
    assert _bytes_of(functions) / len(functions) + one < 100


def _bytes_of(functions: list[Any]) -> int:
    """What a registry takes for them, besides the references: what its own lines allocate, for other threads may do so
    meanwhile."""
    mine = Registry()
    tracemalloc.start()
    try:
        for function in functions:
            mine.add(function)
        taken = tracemalloc.take_snapshot().filter_traces([
            tracemalloc.Filter(True, file) for file in (room.__file__, weaklist.__file__)])
    finally:
        tracemalloc.stop()
    return sum(trace.size for trace in taken.traces)


def test_the_second_of_a_name_gets_a_number() -> None:
    mine = Registry()
    first, second, other = guarded(), guarded(), bounded(1)(lambda: None)
    for member in (first, second, other):
        mine.add(member)
    name = f"{__name__}.guarded.<locals>.ask"
    assert mine.named() == {name: first, f"{name}#2": second, f"{__name__}.{other.__qualname__}": other}


def test_a_method_is_one_function_for_all_instances() -> None:
    mine = registry.members()

    class Client:
        @bounded(1)
        def ask(self) -> str:
            return "answer"

    Client().ask()
    Client().ask()
    assert [member for member in registry.members() if member not in mine] == [Client.ask]


def test_a_stack_is_there_from_its_first_call_on_and_tells_of_its_calls() -> None:
    guard = stack(bounded(1), retry())
    assert guard not in registry.members()
    guard.call(len, "word")
    guard.call(len, "word")
    assert registry.members().count(guard) == 1
    assert room.name_of(guard) == "stack(bounded, retry)"
    told: list[Event] = []
    off = guard.on_event(told.append)
    guard.call(len, "word")
    off()
    guard.call(len, "word")
    assert [type(event) for event in told] == [AttemptStarted, AttemptEnded, CallEnded]


class Watcher:
    def __init__(self) -> None:
        self.seen: list[Member] = []

    def told(self, member: Member) -> None:
        self.seen.append(member)


def test_a_watcher_hears_of_those_there_are_and_of_those_that_come() -> None:
    mine, watcher = Registry(), Watcher()
    first, second, third = guarded(), guarded(), guarded()
    mine.add(first)
    end = mine.watch(watcher.told)
    mine.add(second)
    end()
    mine.add(third)
    assert watcher.seen == [first, second]


def test_a_watcher_is_not_kept_alive() -> None:
    mine, watcher = Registry(), Watcher()
    mine.watch(watcher.told)
    gone = weakref.ref(watcher)
    del watcher
    assert gone() is None
    mine.add(guarded())
    assert not mine._watching


def test_a_watcher_that_raises_is_dropped_and_hurts_no_decoration(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def told(self, member: Member) -> None:
            raise KeyError("a secret")

    mine, watcher, broken = Registry(), Watcher(), Broken()
    mine.watch(broken.told)
    mine.watch(watcher.told)
    members = [guarded(), guarded()]
    for member in members:
        mine.add(member)
    assert watcher.seen == members
    assert caplog.text.count("KeyError") == 1
    assert "secret" not in caplog.text


def test_the_members_are_a_list_that_a_fork_renews(monkeypatch: pytest.MonkeyPatch) -> None:
    renewed: list[object] = []
    monkeypatch.setattr(weaklist.WeakList, "after_fork", lambda members: renewed.append(members))
    mine = Registry()
    renewed.clear()
    fork._renew_all()
    assert mine._members in renewed


@pytest.mark.parametrize("make", [
    lambda f: bounded(1)(f), lambda f: bounded(1, per_key=lambda: "key")(f), lambda f: bounded(1, holds="call")(f),
    lambda f: ramp_up(bounded(1)(retry(f)))], ids=["attempt", "per key", "call", "pace and bounded"])
def test_it_tells_how_many_wait_at_the_door(make: Callable[[Callable[[], None]], Guarded[[], None]]) -> None:
    with VirtualClock() as time:
        ask = make(lambda: clock.current().sleep(10))
        tasks = [Task(ask) for _ in range(4)]
        time.sleep(1)
        assert ask.waiting() == 3
        for task in tasks:
            task.ended()
        assert ask.waiting() == 0


def test_who_waits_for_a_shared_pace_alone_is_not_counted_for_all_who_share_it() -> None:
    pace = ramp_up(start=1000)
    with VirtualClock() as time:
        full, free = (pace(bounded(n)(lambda: clock.current().sleep(10))) for n in (1, 50))
        tasks = [Task(full) for _ in range(3)]
        time.sleep(1)
        assert (full.waiting(), free.waiting()) == (2, 0)
        for task in tasks:
            task.ended()
