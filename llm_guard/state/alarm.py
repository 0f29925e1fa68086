"""An alarm clock: one daemon thread that calls functions at instants of the clock in force.

For calls with a deadline that run in their caller's own thread: nobody waits for them who could cut them off in time.
The thread starts when it is first needed, and ends when for a second there is nothing to call.
"""

from __future__ import annotations

import heapq
import logging
from _thread import allocate_lock
from collections.abc import Callable
from itertools import count

from llm_guard import clock
from llm_guard.fork import renew_after_fork

#: The thread looks up at least so often, in seconds, for timers that were cancelled: they shall not keep it alive.
LOOK_UP = 1.0

_log = logging.getLogger("llm_guard")


class Timer:
    """A function that is to be called at an instant."""

    __slots__ = ("_tell",)

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell: Callable[[], None] | None = tell

    @property
    def is_pending(self) -> bool:
        """Whether it will still fire."""
        return self._tell is not None

    def cancel(self) -> None:
        """It fires no more. One that is firing goes on. There is no lock, for a finaliser may cancel."""
        self._tell = None

    def fire(self) -> None:
        """In the alarm's thread: calls the function, once. One that raises does not rob the others."""
        tell, self._tell = self._tell, None
        if tell is None:
            return
        try:
            tell()
        except Exception as error:
            _log.error("a function called by an alarm raised %s", type(error).__name__)


class Alarm:
    """The timers under one clock, by a heap: O(log n) each."""

    def __init__(self) -> None:
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        self._lock = allocate_lock()
        self._timers: list[tuple[float, int, Timer]] = []
        self._made = count()  # for timers of the same instant, which cannot be compared
        self._runs = False
        self._up_at = 0.0  # when the thread will look up
        self._waiter: clock.Waiter | None = None

    def at(self, when: float, tell: Callable[[], None]) -> Timer:
        """Has `tell` called at the instant `when`, in the alarm's thread: it must be short."""
        timer = Timer(tell)
        time = clock.current()
        with self._lock:
            heapq.heappush(self._timers, (when, next(self._made), timer))
            starts, self._runs = not self._runs, True
            waiter = self._waiter if when < self._up_at else None
        if starts:
            try:
                time.spawn(lambda: self._loop(time), "llm_guard alarm")
            except BaseException:
                self._runs = False
                timer.cancel()
                raise
        elif waiter is not None:
            waiter.set()
        return timer

    def _loop(self, time: clock.Clock) -> None:
        try:
            swept = time.now()
            while True:
                now = time.now()
                sweeps = now >= swept + LOOK_UP
                swept = now if sweeps else swept
                waiter = time.waiter()
                due = self._due(now, waiter, sweeps)
                if due is None:
                    return
                for timer in due:
                    timer.fire()
                del due  # what fired is not kept alive
                waiter.wait(max(0.0, self._up_at - time.now()))
        except BaseException:  # its clock is over
            self._runs = False
            raise

    def _due(self, now: float, waiter: clock.Waiter, sweeps: bool) -> list[Timer] | None:
        """What is due now; `waiter` is told of what comes to be due before the thread looks up again.

        None: there is nothing more, and the thread ends.
        """
        due: list[Timer] = []
        with self._lock:
            if sweeps:
                self._timers = [entry for entry in self._timers if entry[2].is_pending]
                heapq.heapify(self._timers)
            while self._timers and (self._timers[0][0] <= now or not self._timers[0][2].is_pending):
                due.append(heapq.heappop(self._timers)[2])
            if not due and not self._timers:
                self._runs, self._waiter = False, None
                return None
            self._waiter = waiter
            self._up_at = min(self._timers[0][0] if self._timers else now, now + LOOK_UP)
        return due


#: That of the clock in force.
alarm = clock.of_each_clock(Alarm)
