"""The alarm clock: what it calls, when, and when its thread is there."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable

import pytest

from llm_guard.clock.virtual import VirtualClock
from llm_guard.state.alarm import LOOK_UP, Alarm, alarm


class CountingClock(VirtualClock):
    """Counts the threads that are spawned, and those that have ended."""

    def __init__(self, seed: int = 0, *, shuffle: bool = False) -> None:
        super().__init__(seed, shuffle=shuffle)
        self.spawned = self.ended = 0

    def spawn(self, function: Callable[[], object], name: str) -> None:
        def counted() -> None:
            function()
            self.ended += 1

        self.spawned += 1
        super().spawn(counted, name)


def test_each_timer_fires_once_at_its_instant_in_whatever_order_they_were_set() -> None:
    fired: list[tuple[str, float]] = []
    with VirtualClock() as clock:
        for name, when in (("third", 30.0), ("first", 0.25), ("second", 2.0), ("with the second", 2.0)):
            alarm().at(when, lambda name=name: fired.append((name, clock.now())))  # type: ignore[misc]
        clock.sleep(40)
    assert fired == [("first", 0.25), ("second", 2.0), ("with the second", 2.0), ("third", 30.0)]


@pytest.mark.parametrize("seed", range(6))
def test_an_earlier_timer_wakes_the_thread_that_waits_for_a_later_one(seed: int) -> None:
    fired: list[float] = []
    with VirtualClock(seed, shuffle=True) as clock:
        alarm().at(0.9, lambda: fired.append(clock.now()))
        clock.sleep(0.1)
        alarm().at(0.3, lambda: fired.append(clock.now()))
        alarm().at(0.2, lambda: fired.append(clock.now()))
        clock.sleep(1)
    assert fired == pytest.approx([0.2, 0.3, 0.9])


def test_an_instant_that_has_passed_rings_at_once() -> None:
    fired: list[float] = []
    with VirtualClock() as clock:
        clock.sleep(5)
        alarm().at(1.0, lambda: fired.append(clock.now()))
        clock.sleep(0)
        assert fired == [5.0]


def test_a_cancelled_timer_does_not_fire() -> None:
    fired: list[str] = []
    with VirtualClock() as clock:
        first, second = (alarm().at(1.0, lambda name=name: fired.append(name))  # type: ignore[misc]
                         for name in ("first", "second"))
        assert first.is_pending
        first.cancel()
        assert not first.is_pending
        clock.sleep(2)
        assert not second.is_pending
        second.cancel()
    assert fired == ["second"]


def test_a_function_that_raises_does_not_rob_the_others(caplog: pytest.LogCaptureFixture) -> None:
    fired: list[float] = []

    def fails() -> None:
        raise KeyError("a secret")

    with VirtualClock() as clock, caplog.at_level(logging.ERROR, "llm_guard"):
        for tell in (fails, lambda: fired.append(clock.now())):
            alarm().at(1.0, tell)
        clock.sleep(2)
    assert fired == [1.0]
    assert "KeyError" in caplog.text
    assert "a secret" not in caplog.text


def test_there_is_one_thread_from_the_first_timer_until_a_moment_after_the_last() -> None:
    with CountingClock() as clock:
        timers = [alarm().at(60.0 + number, lambda: None) for number in range(50)]
        clock.sleep(10)
        assert (clock.spawned, clock.ended) == (1, 0)
        for timer in timers:
            timer.cancel()
        clock.sleep(2 * LOOK_UP)
        assert (clock.spawned, clock.ended) == (1, 1)
        alarm().at(clock.now() + 1, lambda: None)
        clock.sleep(2)
        assert (clock.spawned, clock.ended) == (2, 2)


def test_cancelled_timers_do_not_pile_up() -> None:
    with VirtualClock() as clock:
        kept = alarm()
        last = kept.at(1e6, lambda: None)
        for _ in range(100):
            for _ in range(10):
                kept.at(1e6, lambda: None).cancel()
            clock.sleep(0.1)
        assert len(kept._timers) <= 1 + 10 * (10 * LOOK_UP + 1)
        assert last.is_pending


def test_what_fired_or_was_cancelled_is_not_kept_alive() -> None:
    class Told:
        def tell(self) -> None:
            pass

    with VirtualClock() as clock:
        rung, cancelled = Told(), Told()
        gone = [weakref.ref(rung), weakref.ref(cancelled)]
        alarm().at(1.0, rung.tell)
        alarm().at(50.0, cancelled.tell).cancel()
        keeps_it_running = alarm().at(60.0, lambda: None)
        clock.sleep(1.5)
        del rung, cancelled
        gc.collect()
        assert [each() for each in gone] == [None, None]
        assert keeps_it_running.is_pending


def test_where_no_thread_can_be_started_the_next_timer_tries_again() -> None:
    class Poor(VirtualClock):
        has_none = True

        def spawn(self, function: Callable[[], object], name: str) -> None:
            if self.has_none:
                raise RuntimeError("can't start new thread")
            super().spawn(function, name)

    fired: list[float] = []
    with Poor() as clock:
        with pytest.raises(RuntimeError):
            alarm().at(1.0, lambda: fired.append(clock.now()))
        clock.has_none = False
        alarm().at(2.0, lambda: fired.append(clock.now()))
        clock.sleep(3)
    assert fired == [2.0]


def alarm_threads() -> int:
    """Others may come and go: workers of other tests."""
    return sum(thread.name == "llm_guard alarm" for thread in threading.enumerate())


@pytest.mark.real
def test_on_the_machine_s_clock_it_fires_and_its_thread_ends() -> None:
    before = alarm_threads()
    fired = threading.Event()
    began = time.monotonic()
    alarm().at(began + 0.05, fired.set)
    assert alarm_threads() == before + 1
    assert fired.wait(5)
    assert 0.05 <= time.monotonic() - began < 1
    until = time.monotonic() + 5
    while alarm_threads() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert alarm_threads() == before


@pytest.mark.real
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_after_a_fork_the_child_s_is_empty_and_works() -> None:
    inherited = threading.Event()
    timer = alarm().at(time.monotonic() + 0.1, inherited.set)
    pid = os.fork()
    if pid == 0:
        try:
            own = threading.Event()
            alarm().at(time.monotonic() + 0.2, own.set)
            os._exit(0 if own.wait(5) and not inherited.is_set() else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    assert inherited.wait(5)
    assert not timer.is_pending


def test_each_clock_has_its_own() -> None:
    with VirtualClock():
        first = alarm()
        assert alarm() is first
    with VirtualClock():
        assert isinstance(alarm(), Alarm)
        assert alarm() is not first
