"""The one seam through which all time, all waiting and all chance pass.

Everything in llm_guard asks `current()` for its clock. In production that is the `SystemClock`; a `VirtualClock` puts
itself in that place inside its `with` block, and hours of traffic pass in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from random import Random
from typing import Protocol, TypeVar
from weakref import WeakKeyDictionary

from llm_guard.clock.system import SystemClock

__all__ = ["Clock", "SystemClock", "Waiter", "chance", "current", "of_each_clock", "use"]

T = TypeVar("T")


class Waiter(Protocol):
    """A one-shot parking spot for one thread."""

    def wait(self, timeout: float | None = None) -> bool:
        """Parks until `set()` (True) or until `timeout` seconds have passed (False)."""

    def set(self) -> None:
        """Lets the parked thread go on, now or when it comes to wait. Again: no effect."""


class Clock(Protocol):
    """What tells the time, waits, starts threads and draws chance."""

    random: Random

    def now(self) -> float:
        """Monotonic seconds."""

    def wall(self) -> float:
        """Seconds since the epoch."""

    def sleep(self, seconds: float) -> None:
        """Waits that long; 0 or less only lets others go first."""

    def waiter(self) -> Waiter:
        """A new parking spot."""

    def spawn(self, function: Callable[[], object], name: str) -> None:
        """Runs `function` on a new daemon thread."""

    def adopt(self) -> AbstractContextManager[object]:
        """A ticket for a thread that others own.

        Taken in the thread that submits, before it submits; entered in the other thread around its one long task.
        """


_current: Clock = SystemClock()


def current() -> Clock:
    """The clock in force."""
    return _current


@contextmanager
def use(clock: Clock) -> Iterator[Clock]:
    """Puts `clock` in force, for the whole process, until the block ends."""
    global _current
    before, _current = _current, clock
    try:
        yield clock
    finally:
        _current = before


def of_each_clock(make: Callable[[], T]) -> Callable[[], T]:
    """What gives the object of the clock in force: one for each clock, made by `make` when it is first asked for."""
    made: WeakKeyDictionary[Clock, T] = WeakKeyDictionary()

    def found() -> T:
        clock = _current
        one = made.get(clock)
        return made.setdefault(clock, make()) if one is None else one

    return found


class _Chance(Random):
    """Draws from whichever clock is in force when it is asked."""

    def random(self) -> float:
        return _current.random.random()

    def getrandbits(self, k: int, /) -> int:
        return _current.random.getrandbits(k)


#: For state that is made under one clock and used under another.
chance: Random = _Chance()
