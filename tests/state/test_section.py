"""What is put off is done by whoever comes next or by one who is parked; none is missed, no lock is taken for it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from llm_guard.clock import SystemClock
from llm_guard.clock.virtual import VirtualClock
from llm_guard.state.section import InTheMidst, Section


def test_what_is_put_off_waits_for_the_next_to_catch_up() -> None:
    section, done = Section(), []
    section.put_off(lambda: done.append("change"))
    assert not done
    with section:
        section.catch_up()  # in the midst
        assert not done
    section.catch_up()
    section.catch_up()
    assert done == ["change"]


def test_what_a_change_returns_is_called_outside_by_one_who_follows_up() -> None:
    section, owned = Section(), []

    def inside() -> bool:
        try:
            section.checked()
        except InTheMidst:
            return True
        return False

    def change() -> Callable[[], object]:
        owned.append(inside())
        return lambda: owned.append(inside())

    section.put_off(change)
    section.catch_up()
    assert owned == [True]
    with section:
        section.follow_up()
    assert owned == [True]
    section.follow_up()
    section.follow_up()
    assert owned == [True, False]


def test_one_who_is_parked_is_woken_for_it() -> None:
    section, done = Section(), []
    with VirtualClock() as clock:
        for _ in range(3):
            clock.spawn(lambda: section.park(clock.waiter(), 100.0), "parked")
        clock.sleep(1)
        section.put_off(lambda: done.append(clock.now()))
        clock.sleep(1)
        assert done == [1.0]
        clock.sleep(100)
        section.put_off(lambda: done.append(clock.now()))  # nobody is parked any more
        clock.sleep(1)
        assert done == [1.0]


def test_what_was_put_off_before_one_parks_is_done_first() -> None:
    section, seen = Section(), []
    with VirtualClock() as clock:
        section.put_off(lambda: seen.append(clock.now()))
        section.park(clock.waiter(), 5.0)
        assert (seen, clock.now()) == ([0.0], 5.0)


def test_who_was_interrupted_is_not_woken_in_the_place_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    section, done = Section(), []
    with VirtualClock() as clock:
        clock.spawn(lambda: section.park(clock.waiter(), 100.0), "parked")
        clock.sleep(1)

        class Interrupted:
            def wait(self, timeout: float | None = None) -> bool:
                raise KeyboardInterrupt

            def set(self) -> None:
                raise AssertionError("it waits no longer")

        with pytest.raises(KeyboardInterrupt):
            section.park(Interrupted(), 5.0)
        section.put_off(lambda: done.append(clock.now()))
        clock.sleep(1)
        assert done == [1.0]


class Player:
    """Waits, as those at the door do, for a change that another thread puts off."""

    def __init__(self, section: Section) -> None:
        self._section = section
        self._clock = SystemClock()
        self._free = False
        self._waiter = self._clock.waiter()

    def change(self) -> None:
        self._free = True
        self._waiter.set()

    def wait(self) -> float:
        """The seconds until it was done."""
        began = self._clock.now()
        while True:
            with self._section:
                if self._free:
                    return self._clock.now() - began
                self._waiter = self._clock.waiter()
            self._section.park(self._waiter, 5.0)


@pytest.mark.real
def test_none_is_missed_while_threads_park_and_put_off() -> None:
    """Whoever waits is woken by the very change that it waits for, with no other to help."""
    section, seconds = Section(), []

    def play() -> None:
        for _ in range(300):
            player = Player(section)
            threading.Thread(target=section.put_off, args=(player.change,), daemon=True).start()
            seconds.append(player.wait())

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=play, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(usual)
    assert len(seconds) == 900
    assert max(seconds) < 4.0


def test_putting_off_takes_no_lock() -> None:
    """A finaliser may come while another thread is inside, in a thread that this one waits for."""
    section, done = Section(), []
    inside: Any = section.__enter__
    held = threading.Thread(target=inside)
    held.start()
    held.join()  # it never leaves
    section.put_off(lambda: done.append("never"))
    assert len(section.later) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, RecursionError])
def test_a_change_that_was_cut_short_is_made_by_the_next(error: type[BaseException]) -> None:
    section, errors, done = Section(), [error], []

    def change() -> None:
        if errors:
            raise errors.pop()
        done.append("change")

    section.put_off(change)
    if error is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            section.catch_up()
    else:
        section.catch_up()
    section.catch_up()
    section.catch_up()
    assert done == ["change"]


def test_a_change_that_fails_is_told_once() -> None:
    section = Section()
    section.put_off(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    with pytest.raises(ZeroDivisionError):
        section.catch_up()
    section.catch_up()
