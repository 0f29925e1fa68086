"""The clock of the machine, what both clocks have in common, and the seam between them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pytest

from llm_guard import clock as seam
from llm_guard.clock import Clock, SystemClock
from llm_guard.clock.system import SystemWaiter
from llm_guard.clock.virtual import VirtualClock

pytestmark = pytest.mark.real


@contextmanager
def _system() -> Iterator[Clock]:
    yield SystemClock()


both = pytest.mark.parametrize("make", [_system, VirtualClock], ids=["system", "virtual"])


def test_the_system_clock_is_in_force_by_default() -> None:
    assert isinstance(seam.current(), SystemClock)
    assert seam.current() is seam.current()


def test_it_tells_the_machines_time() -> None:
    clock = SystemClock()
    assert time.monotonic() <= clock.now() <= time.monotonic()
    assert time.time() - 1 <= clock.wall() <= time.time() + 1


def test_a_clock_put_in_force_gives_way_again_even_after_an_error() -> None:
    before, other, inner = seam.current(), SystemClock(), SystemClock()
    with seam.use(other) as used:
        assert used is other
        with pytest.raises(KeyError), seam.use(inner):
            raise KeyError(seam.current() is inner)
        assert seam.current() is other
    assert seam.current() is before


def test_chance_comes_from_the_clock_in_force_when_it_is_drawn() -> None:
    with VirtualClock(seed=3):
        drawn = [seam.chance.random(), seam.chance.uniform(1, 2), seam.chance.randrange(1000)]
    same = Random(3)
    assert drawn == [same.random(), same.uniform(1, 2), same.randrange(1000)]


@both
def test_a_waiter_that_was_set_before_lets_its_thread_through(make: type[VirtualClock]) -> None:
    with make() as clock:
        for timeout in (None, 0, -1.0, 0.01, 1e300, math.inf):
            waiter = clock.waiter()
            waiter.set()
            waiter.set()
            assert waiter.wait(timeout) is True


@both
def test_a_waiter_that_is_not_set_runs_out_and_can_be_waited_for_again(make: type[VirtualClock]) -> None:
    with make() as clock:
        waiter = clock.waiter()
        took = []
        for _ in range(5):  # the machine may be busy with others for a moment
            before = clock.now()
            assert waiter.wait(0) is False
            assert waiter.wait(-math.inf) is False
            took.append(clock.now() - before)
        assert min(took) < 0.005
        before = clock.now()
        assert waiter.wait(0.02) is False
        assert clock.now() - before >= 0.02
        waiter.set()
        assert waiter.wait() is True


@both
def test_a_parked_thread_goes_on_when_another_sets_its_waiter(make: type[VirtualClock]) -> None:
    with make() as clock:
        for timeout in (None, 5.0):
            before, waiter = clock.now(), clock.waiter()
            clock.spawn(lambda waiter=waiter: (clock.sleep(0.02), waiter.set()), "setter")  # type: ignore[misc]
            assert waiter.wait(timeout) is True
            assert 0.015 < clock.now() - before < 2.0


@both
def test_sleeping_takes_that_long_and_never_goes_back(make: type[VirtualClock]) -> None:
    with make() as clock:
        took = []
        for _ in range(5):  # the machine may be busy with others for a moment
            before = clock.now()
            for seconds in (0.0, -5.0, -math.inf):
                clock.sleep(seconds)
            took.append(clock.now() - before)
        assert min(took) < 0.01
        before = clock.now()
        clock.sleep(0.02)
        assert clock.now() - before >= 0.02


@both
def test_a_spawned_thread_is_a_daemon_of_another_thread(make: type[VirtualClock]) -> None:
    seen: list[threading.Thread] = []
    with make() as clock:
        done = clock.waiter()
        clock.spawn(lambda: (seen.append(threading.current_thread()), done.set()), "named")
        assert done.wait(2.0)
    assert seen[0] is not threading.current_thread()
    assert seen[0].name == "named"
    assert seen[0].daemon


@both
def test_a_ticket_can_be_entered_by_a_thread_that_others_own(make: type[VirtualClock]) -> None:
    slept: list[bool] = []
    with make() as clock:
        done, ticket = clock.waiter(), clock.adopt()

        def task() -> None:
            with ticket:
                clock.sleep(0.01)
                slept.append(True)
                done.set()

        thread = threading.Thread(target=task)
        thread.start()
        assert done.wait(2.0)
    thread.join(2.0)
    assert slept == [True]


def test_giving_way_lets_those_go_first_whose_time_has_come() -> None:
    """In virtual time too: else one that gives way until another has done its part spins for ever."""
    with VirtualClock() as clock:
        order: list[str] = []
        done = clock.waiter()

        def second() -> None:
            clock.sleep(1.0)
            order.append("second")
            done.set()

        def first() -> None:
            clock.sleep(1.0)
            clock.sleep(0)
            order.append("first")

        clock.spawn(first, "first")
        clock.spawn(second, "second")
        done.wait()
        clock.sleep(1.0)
    assert order == ["second", "first"]


def test_a_sleep_may_be_longer_than_the_machine_can_count() -> None:
    """A waiter takes any timeout; so must a sleep: it waits, it does not raise."""
    clock, ended = SystemClock(), []

    def sleeper() -> None:
        try:
            clock.sleep(1e12)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=sleeper, daemon=True)
    thread.start()
    thread.join(0.05)
    assert ended == []


def test_a_set_that_races_with_the_end_of_the_wait_is_never_lost() -> None:
    clock = SystemClock()
    for number in range(200):
        waiter = clock.waiter()
        setter = threading.Thread(target=waiter.set)
        setter.start()
        in_time = waiter.wait(number * 1e-6)
        setter.join()
        assert in_time or waiter.wait(0)


def test_to_set_a_waiter_without_room_on_the_stack_is_an_error_and_setting_it_again_none() -> None:
    class NoRoom:
        def release(self) -> None:
            raise RecursionError

    waiter = SystemWaiter()
    waiter.set()
    waiter.set()
    assert waiter.wait(0)
    waiter._lock = NoRoom()  # type: ignore[assignment]
    with pytest.raises(RecursionError):
        waiter.set()
