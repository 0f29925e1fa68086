"""Time that jumps: real threads, one at a time, hours in seconds, the same every time.

The order of events depends on the seed alone, and no test waits for real; `llm_guard.clock.baton` tells how. The idea
of a clock that jumps when all wait is trio's (`trio.testing.MockClock`).
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Self

from llm_guard import clock as seam
from llm_guard.clock.baton import Baton, ClockClosed, Deadlock, Stalled, Task, TimeUp

__all__ = ["ClockClosed", "Deadlock", "Stalled", "TimeUp", "VirtualClock", "VirtualWaiter"]


class _Ticket:
    """What an adopted thread enters around its one long task."""

    def __init__(self, baton: Baton, task: Task) -> None:
        self._baton = baton
        self._task = task

    def __enter__(self) -> None:
        self._baton.enter(self._task)

    def __exit__(self, *exc: object) -> None:
        self._baton.leave(self._task)


class VirtualWaiter:
    """A one-shot parking spot in virtual time."""

    __slots__ = ("_baton", "_is_set", "_task")

    def __init__(self, clock: VirtualClock) -> None:
        self._baton = clock.baton
        self._is_set = False
        self._task: Task | None = None

    def wait(self, timeout: float | None = None) -> bool:
        if not self._is_set and (timeout is None or timeout > 0):
            self._task = self._baton.running()
            self._baton.park(self._task, timeout)
            self._task = None
        return self._is_set

    def set(self) -> None:
        if not self._is_set:
            self._is_set = True
            if self._task is not None:
                self._baton.make_ready(self._task)


class VirtualClock:
    """A clock for tests and simulations; use it as a context manager, which puts it in force.

    `seed` fixes all chance drawn from `clock.random`, and, with `shuffle=True`, the order in which threads that could
    go on do so (else: first come, first served). `stall` is how many real seconds a thread may run without a switch
    before it is held to block outside the clock. Time does not pass `until`, which may be set at any time: all that is
    not over then is given up (`TimeUp`). The thread that enters the block is the first under the clock.
    """

    def __init__(self, seed: int = 0, *, shuffle: bool = False, wall: float = 1_000_000_000.0,
                 stall: float = 20.0, until: float = math.inf) -> None:
        self.random = random.Random(seed)
        self.baton = Baton(random.Random(f"order {seed}") if shuffle else None, stall, until)
        self._wall = wall
        self._stall = stall
        self._spawned: list[threading.Thread] = []
        self._in_force = ExitStack()

    def now(self) -> float:
        return self.baton.now

    def wall(self) -> float:
        return self._wall + self.baton.now

    def sleep(self, seconds: float) -> None:
        self.baton.park(self.baton.running(), max(0.0, seconds))

    def waiter(self) -> VirtualWaiter:
        return VirtualWaiter(self)

    def spawn(self, function: Callable[[], object], name: str) -> None:
        ticket = self.adopt(name)

        def run() -> None:
            try:
                with ticket:
                    function()
            except (ClockClosed, Deadlock, Stalled, TimeUp):
                pass  # told in the thread that waits for the result of it all

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._spawned.append(thread)
        thread.start()

    def adopt(self, name: str = "adopted") -> _Ticket:
        return _Ticket(self.baton, self.baton.new(name))

    def __enter__(self) -> Self:
        self._in_force.enter_context(seam.use(self))
        self.baton.begin()
        return self

    def __exit__(self, *exc: object) -> None:
        self._in_force.close()
        self.baton.fail(ClockClosed())
        for thread in self._spawned:
            thread.join(self._stall)

    @property
    def switches(self) -> int:
        """How often another thread came to run."""
        return self.baton.switches

    @property
    def until(self) -> float:
        """The instant at which all is given up."""
        return self.baton.until

    @until.setter
    def until(self, until: float) -> None:
        self.baton.until = until

    def has_this_thread(self) -> bool:
        """Whether the thread that asks is under this clock."""
        return self.baton.has_this_thread()

    def give_up(self, why: str) -> None:
        """Ends all that is under this clock: with `TimeUp` in the thread that entered the block, unwound elsewhere."""
        self.baton.give_up(why)
