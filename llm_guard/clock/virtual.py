"""Time that jumps: real threads, one at a time, hours in seconds, the same every time.

One thread runs; it holds the baton. When it waits, it hands the baton to the next thread that can go on; when none can,
time jumps to the earliest wake-up. So the order of events depends on the seed alone, a deadlock is seen as one, and no
test waits for real. The idea of a clock that jumps when all wait is trio's (`trio.testing.MockClock`).
"""

from __future__ import annotations

import heapq
import math
import random
import sys
import threading
import traceback
from _thread import allocate_lock, get_ident
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import Self

from llm_guard import clock as seam

_OWN_FILE = __file__


class Deadlock(RuntimeError):
    """Every thread waits, and nothing will ever wake one. The text shows where each stands."""


class Stalled(RuntimeError):
    """The thread that holds the baton blocks outside the clock. The text shows where."""


class TimeUp(RuntimeError):
    """Virtual time came to where it was to end, and threads were still at work. The text shows where each stands."""


class ClockClosed(BaseException):
    """Unwinds the threads that still wait when the clock's block ends."""


class _Task:
    """A thread under the clock: its baton is a raw lock, released when it is its turn."""

    __slots__ = ("baton", "ident", "name", "turn")

    def __init__(self, name: str) -> None:
        self.name = name
        self.ident = 0
        self.turn = 0  # grows with every wake-up, so that a timer of an earlier wait is known as stale
        self.baton = allocate_lock()
        self.baton.acquire()


class _Ticket:
    """What an adopted thread enters around its one long task."""

    def __init__(self, clock: VirtualClock, task: _Task) -> None:
        self._clock = clock
        self._task = task

    def __enter__(self) -> None:
        self._clock._enter(self._task)

    def __exit__(self, *exc: object) -> None:
        self._clock._leave(self._task)


class VirtualWaiter:
    """A one-shot parking spot in virtual time."""

    __slots__ = ("_clock", "_is_set", "_task")

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._is_set = False
        self._task: _Task | None = None

    def wait(self, timeout: float | None = None) -> bool:
        if not self._is_set and (timeout is None or timeout > 0):
            self._task = self._clock._running()
            self._clock._park(self._task, timeout)
            self._task = None
        return self._is_set

    def set(self) -> None:
        if not self._is_set:
            self._is_set = True
            if self._task is not None:
                self._clock._make_ready(self._task)


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
        self.switches = 0
        self._order = random.Random(f"order {seed}") if shuffle else None
        self._now = 0.0
        self._wall = wall
        self._stall = stall
        self.until = until
        self._ready: deque[_Task] = deque()
        self._timers: list[tuple[float, float, int, int, _Task]] = []
        self._made = 0
        self._tasks: dict[int, _Task] = {}
        self._spawned: list[threading.Thread] = []
        self._first = 0  # the thread that entered the block
        self._failure: BaseException | None = None
        self._failing = allocate_lock()
        self._in_force = ExitStack()

    # The clock's face

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._wall + self._now

    def sleep(self, seconds: float) -> None:
        self._park(self._running(), max(0.0, seconds))

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
        self._made += 1
        task = _Task(f"{name} ({self._made})")
        self._ready.append(task)
        return _Ticket(self, task)

    def __enter__(self) -> Self:
        self._in_force.enter_context(seam.use(self))
        task = _Task("main")
        self._first = task.ident = get_ident()
        self._tasks[task.ident] = task
        return self

    def __exit__(self, *exc: object) -> None:
        self._in_force.close()
        self._fail(ClockClosed())
        for thread in self._spawned:
            thread.join(self._stall)

    def has_this_thread(self) -> bool:
        """Whether the thread that asks is under this clock."""
        return get_ident() in self._tasks

    def give_up(self, why: str) -> None:
        """Ends all that is under this clock: with `TimeUp` in the thread that entered the block, unwound elsewhere."""
        self._fail(TimeUp(f"{why}:\n{self._where_all_stand()}"))

    # The baton

    def _running(self) -> _Task:
        if self._failure is not None:
            raise self._again(self._failure)
        task = self._tasks.get(get_ident())
        if task is None:
            raise RuntimeError("this thread is not under the virtual clock: start it with clock.spawn, "
                               "or give it a ticket from clock.adopt()")
        return task

    def _enter(self, task: _Task) -> None:
        task.ident = get_ident()
        self._tasks[task.ident] = task
        self._await_baton(task)

    def _leave(self, task: _Task) -> None:
        self._tasks.pop(task.ident, None)
        if self._failure is None and (self._tasks or self._ready):
            self._hand_baton_to(self._next())

    def _park(self, me: _Task, timeout: float | None) -> None:
        if timeout is not None:
            self._made += 1
            tie = self._order.random() if self._order else 0.0
            heapq.heappush(self._timers, (self._now + timeout, tie, self._made, me.turn, me))
        self._pass_on(me)

    def _make_ready(self, task: _Task) -> None:
        task.turn += 1
        self._ready.append(task)

    def _pass_on(self, me: _Task) -> None:
        successor = self._next()
        if successor is not me:
            self._hand_baton_to(successor)
            self._await_baton(me)
        elif self._failure is not None:
            raise self._again(self._failure)

    def _hand_baton_to(self, task: _Task | None) -> None:
        self.switches += 1
        if task is not None:
            task.baton.release()

    def _next(self) -> _Task | None:
        """Whose turn it is: one that can go on, else the one that wakes first. None after a deadlock."""
        if self._ready:
            if self._order is not None:
                self._ready.rotate(-self._order.randrange(len(self._ready)))
            return self._ready.popleft()
        while self._timers:
            when, _, _, turn, task = heapq.heappop(self._timers)
            if turn == task.turn and when > self.until:
                self.give_up(f"after {self.until:g} s threads are still at work")
                return None
            if turn == task.turn:
                task.turn += 1
                self._now = max(self._now, when)
                return task
        self._fail(Deadlock("every thread waits, and nothing will wake one:\n" + self._where_all_stand()))
        return None

    def _await_baton(self, me: _Task) -> None:
        seen = self.switches
        while not me.baton.acquire(True, self._stall):
            if self.switches == seen and self._failure is None:
                self._fail(Stalled(f"no switch for {self._stall:g} real seconds: a thread blocks outside the clock, or "
                                   "a ticket was never entered:\n" + self._where_all_stand()))
            seen = self.switches
        if self._failure is not None:
            raise self._again(self._failure)

    def _fail(self, failure: BaseException) -> None:
        """Wakes every thread, to unwind with `failure`."""
        with self._failing:
            if self._failure is None:
                self._failure = failure
                for task in [*self._tasks.values(), *self._ready]:
                    if task.baton.locked():
                        task.baton.release()

    def _where_all_stand(self) -> str:
        frames = sys._current_frames()
        lines = []
        for ident, task in list(self._tasks.items()):
            stack = traceback.extract_stack(frames[ident]) if ident in frames else []
            outside = [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in stack
                       if frame.filename != _OWN_FILE]
            lines.append(f"  {task.name}: " + " < ".join(outside[:-5:-1]))
        return "\n".join(lines)

    def _again(self, failure: BaseException) -> BaseException:
        """The same failure for one more thread: each raises its own, for a traceback is written onto what is raised."""
        if isinstance(failure, TimeUp) and get_ident() != self._first:
            return ClockClosed()  # which no loop of "try again, whatever it is" catches
        return type(failure)(*failure.args)
