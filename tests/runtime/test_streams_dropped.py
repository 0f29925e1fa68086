"""A stream that its consumer forgets gives all back, wherever the collector finds it; who waits for that goes on."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted import Task
from streaming import Streamer

from llm_guard import Saturated, bounded, breaker, events, fallback, ramp_up, retry, stack, stream, timeout
from llm_guard.clock.virtual import VirtualClock
from llm_guard.policies.bounded import Bounded
from llm_guard.runtime.door import door
from llm_guard.state.gate import Request
from llm_guard.state.limiter import LimitGate

ROOT = Path(__file__).parents[2]


@pytest.fixture
def time() -> Iterator[VirtualClock]:
    with VirtualClock() as clock:
        yield clock


class Keeper:
    """Holds a stream, and itself: only the collector finds it."""

    def __init__(self, held: object) -> None:
        self.held = held
        self.itself = self


LIMITS: dict[str, Callable[[], Any]] = {
    "bounded": lambda: bounded(1), "for the call": lambda: bounded(1, holds="call"),
    "a key": lambda: bounded(1, per_key=lambda *args: 1),
    "a pace's window": ramp_up, "among others": lambda: stack(bounded(1), ramp_up(), retry()),
}


@pytest.mark.parametrize("made", LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize("timed", [False, True], ids=["here", "on a worker"])
@pytest.mark.parametrize("cyclic", [False, True], ids=["let go", "collected"])
def test_who_waits_for_that_very_permit_goes_on_at_once(made: Callable[[], Any], timed: bool, cyclic: bool,
                                                        time: VirtualClock) -> None:
    server = Streamer()
    ask = made()(server.stream)
    ask = timeout(600)(ask) if timed else ask
    held: list[Any] = []
    with pytest.raises(Saturated):
        held.extend(iter(ask.with_options(max_wait=1), None))  # as many as are let in
    waits = Task(lambda: list(ask()))
    time.sleep(5)
    assert waits.ended_at is None
    dropped_at = time.now()
    if cyclic:
        Keeper(held.pop())
        gc.collect()
    else:
        del held[-1]
    assert waits.wait() == ["a", "b", "c"]
    assert waits.ended_at == dropped_at + 2


def test_all_who_wait_go_on_where_all_are_dropped(time: VirtualClock) -> None:
    limit, server = bounded(3), Streamer()
    ask = limit(server.stream)
    held = [ask() for _ in range(3)]
    waits = [Task(lambda: next(ask())) for _ in range(9)]  # and drops it
    time.sleep(5)
    held.clear()
    assert [task.wait() for task in waits] == ["a"] * 9
    assert (time.now(), limit.statistics().in_flight, server.running) == (5.0, 0, 0)


def test_who_waits_for_something_else_does_it_for_who_waits_for_that(time: VirtualClock) -> None:
    """The thread that is woken for a dropped stream need not be the one that it lets in."""
    other, limit = bounded(1), bounded(1)
    Task(other(lambda: time.sleep(50)))
    held = [limit(Streamer().stream)()]
    waits = Task(limit(time.now))
    elsewhere = Task(other(time.now))  # parked last
    time.sleep(5)
    held.clear()
    assert (waits.wait(), elsewhere.wait()) == (5.0, 50.0)


def test_it_counts_no_more_for_whoever_looks_or_comes(time: VirtualClock) -> None:
    limit, votes = bounded(1, max_wait=0), breaker(open_for=1)
    ask = limit(votes(Streamer().stream))
    next(ask())
    assert limit.statistics().in_flight == 0
    next(ask())
    next(ask())  # comes to the door without a look
    votes.open()
    time.sleep(10)
    trial = ask()
    assert votes.statistics().trials == 1
    del trial
    assert (votes.statistics().trials, votes.statistics().state) == (0, "closed")  # it was answered


def test_who_comes_is_not_refused_on_account_of_it(time: VirtualClock) -> None:
    votes = breaker(open_for=1)
    ask = votes(Streamer().stream)
    votes.open()
    time.sleep(10)
    ask()  # the one trial
    assert list(ask()) == ["a", "b", "c"]


@pytest.mark.real
def test_to_drop_it_nobody_is_waited_for_or_told() -> None:
    ask = bounded(1)(retry(Streamer().stream))
    seen: list[events.Event] = []
    ask.on_event(seen.append)
    held = [ask()]
    dropped, over = threading.Event(), threading.Event()

    def drop() -> None:
        held.clear()
        dropped.set()

    def stays_inside() -> None:
        with door.locked():
            threading.Thread(target=drop, daemon=True).start()
            over.wait(10)

    inside = threading.Thread(target=stays_inside)
    inside.start()
    in_time = dropped.wait(5)
    told = len(seen)
    over.set()
    inside.join(10)
    assert in_time
    assert told == 2  # that it started, and of its first item
    ask.statistics()
    assert len(seen) == 4  # and of its end, and the call's


def test_its_permit_is_back_for_the_very_call_in_whose_midst_it_was_found(time: VirtualClock,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    limit = bounded(1)
    held: list[Any] = [limit(Streamer().stream)()]
    look = LimitGate.ready_at

    def ready_at(self: LimitGate, now: float, request: Request) -> float:
        at = look(self, now, request)
        held.clear()  # as the collector may do anywhere
        return at

    monkeypatch.setattr(LimitGate, "ready_at", ready_at)
    assert limit(lambda: "in")() == "in"
    assert limit.statistics().in_flight == 0


def test_a_dropped_generator_is_cleaned_up_before_its_place_is_free(time: VirtualClock) -> None:
    seen: list[int] = []

    def ask() -> Iterator[int]:
        try:
            yield 1
        finally:
            seen.append(limit.statistics().in_flight)

    limit: Bounded = bounded(1)
    next(limit(ask)())
    assert seen == [1]
    assert limit.statistics().in_flight == 0


def test_a_dropped_iterator_is_let_go_and_not_closed_in_the_finaliser(time: VirtualClock) -> None:
    """Its own `close` may take locks, of a pool of connections say, that this very thread may hold."""
    class Items:
        def __iter__(self) -> Items:
            return self

        def __next__(self) -> int:
            return 1

        def close(self) -> None:
            closed.append(1)

    closed: list[int] = []
    limit = bounded(1)
    ask = limit(stream(Items().__iter__))
    next(ask())
    assert (limit.statistics().in_flight, closed) == (0, [])
    next(timeout(60)(ask)())
    time.sleep(0)
    assert (limit.statistics().in_flight, closed) == (0, [1])  # a worker may


def test_a_clean_up_that_fails_when_dropped_gives_back_all_the_same(time: VirtualClock,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    def ask() -> Iterator[int]:
        try:
            yield 1
        finally:
            raise KeyError

    ignored: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: ignored.append(told.exc_type))
    limit = bounded(1)
    next(limit(ask)())
    assert (limit.statistics().in_flight, ignored) == (0, [KeyError])  # Python tells of it, as of any generator
    next(timeout(60)(limit(ask))())
    time.sleep(0)
    assert limit.statistics().in_flight == 0


def test_listeners_are_told_by_one_who_has_nothing_in_hand_and_may_call(time: VirtualClock) -> None:
    limit = bounded(1)
    ask = limit(Streamer().stream)
    seen: list[str] = []
    ask.on_event(lambda event: seen.append(limit(lambda: type(event).__name__)())
                 if isinstance(event, events.AttemptEnded) else None)
    held = [ask()]
    waits = Task(limit(lambda: time.sleep(3)))
    held.clear()
    waits.wait()
    assert (time.now(), seen) == (3.0, ["AttemptEnded"])
    next(ask())
    limit.statistics()
    assert seen == ["AttemptEnded"] * 2


def test_a_fallbacks_stream_can_be_dropped(time: VirtualClock) -> None:
    ask = fallback(["a", "b"])(retry(attempts=1)(Streamer(then=[OSError]).stream))
    answer = ask()
    assert next(answer) == "a"
    del answer
    assert list(ask()) == ["a", "b"]


@pytest.mark.real
def test_the_collector_may_find_it_anywhere() -> None:
    """Also in the thread that is in the midst of the line, or of a stream of its own."""
    limit, server = bounded(2), Streamer(then=["a", "b"])
    ask, timed = limit(server.stream), limit(timeout(60)(server.stream))
    done: list[int] = []

    def go() -> None:
        for allocations in range(1, 120):  # the collector comes a little later each time
            gc.collect(0)
            Keeper((ask if allocations % 2 else timed)())
            gc.set_threshold(allocations)
            list(ask())
            list(timed())
            gc.set_threshold(*usual)
            done.append(allocations)

    usual = gc.get_threshold()
    thread = threading.Thread(target=go, daemon=True)
    try:
        thread.start()
        thread.join(20)
    finally:
        gc.set_threshold(*usual)
    assert not thread.is_alive(), f"it hangs after {len(done)}"
    gc.collect()
    ask.with_options(max_wait=5)().close()
    timed.with_options(max_wait=5)().close()
    assert limit.statistics().in_flight == 0


@pytest.mark.real
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_reads_on_what_is_made_in_its_thread_and_no_other() -> None:
    limit, server = bounded(2), Streamer(then=["a", "b", "c"])
    here, elsewhere = limit(server.stream)(), limit(timeout(60)(server.stream))()
    dropped = [stack(retry())(server.stream)(), timeout(60)(server.stream)()]
    assert next(here) == next(elsewhere) == "a"
    child = os.fork()
    if not child:
        signal.alarm(10)
        status = 1
        try:
            assert limit.statistics().in_flight == 0
            assert list(here) == ["b", "c"]
            with pytest.raises(RuntimeError, match="only in the process that began it"):
                next(elsewhere)
            elsewhere.close()
            dropped.clear()
            timeout(60)(server.stream)().close()
            assert limit.statistics().in_flight == 0
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert limit.statistics().in_flight == 2
    assert list(elsewhere) == list(here) == ["b", "c"]
    assert limit.statistics().in_flight == 0


@pytest.mark.real
@pytest.mark.parametrize("way", ["held", "dropped", "hung", "closed"])
def test_the_end_of_the_interpreter_finds_no_thread_that_holds_it_up(way: str) -> None:
    code = f"""
import time
from llm_guard import bounded, ramp_up, retry, timeout

def words():
    yield 1
    time.sleep(60)

asks = [bounded(1)(retry(words)), timeout(0.1 if {way == 'hung'} else 60)(ramp_up(words))]
held = [ask() for ask in asks]
for each in held: next(each)
if {way == 'dropped'}: held.clear(); each = None
if {way == 'closed'}: [one.close() for one in held]
if {way == 'hung'}:
    try: next(held[1])
    except TimeoutError: pass
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=20, capture_output=True, text=True,
                           check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
