"""Real threads, one at a time: who runs holds the baton, and hands it on to wait; where all wait, time jumps.

The next is the thread that can go on, or else the one whose wake-up comes first. So the order of events depends on
nothing but the order in which threads come to wait, and a deadlock is seen as one.
"""

from __future__ import annotations

import heapq
import sys
import traceback
from _thread import allocate_lock, get_ident
from collections import deque
from pathlib import Path
from random import Random

_HERE = str(Path(__file__).parent)


class Deadlock(RuntimeError):
    """Every thread waits, and nothing will ever wake one. The text shows where each stands."""


class Stalled(RuntimeError):
    """The thread that holds the baton blocks outside the clock. The text shows where."""


class TimeUp(RuntimeError):
    """Virtual time came to where it was to end, and threads were still at work. The text shows where each stands."""


class ClockClosed(BaseException):
    """Unwinds the threads that still wait when the clock's block ends."""


class Task:
    """A thread under the clock: its baton is a raw lock, released when it is its turn."""

    __slots__ = ("baton", "ident", "name", "turn")

    def __init__(self, name: str) -> None:
        self.name = name
        self.ident = 0
        self.turn = 0  # grows with every wake-up, so that a timer of an earlier wait is known as stale
        self.baton = allocate_lock()
        self.baton.acquire()


class Baton:
    """`order` draws which of the threads that could go on does so (None: first come, first served). `stall` is how many
    real seconds a thread may run without a switch before it is held to block outside the clock. Time does not pass
    `until`, which may be set at any time.

    `now` is virtual time in seconds; `switches` counts how often the baton was handed on.
    """

    def __init__(self, order: Random | None, stall: float, until: float) -> None:
        self.now = 0.0
        self.until = until
        self.switches = 0
        self._order = order
        self._stall = stall
        self._ready: deque[Task] = deque()
        self._timers: list[tuple[float, float, int, int, Task]] = []
        self._made = 0
        self._tasks: dict[int, Task] = {}
        self._first = 0  # the thread that entered the clock's block
        self._failure: BaseException | None = None
        self._failing = allocate_lock()

    def begin(self) -> None:
        """This thread is the first, and runs."""
        task = Task("main")
        self._first = task.ident = get_ident()
        self._tasks[task.ident] = task

    def new(self, name: str) -> Task:
        """A thread that will come by `enter`; the others count on it from now on."""
        self._made += 1
        task = Task(f"{name} ({self._made})")
        self._ready.append(task)
        return task

    def enter(self, task: Task) -> None:
        """In the new thread: waits for its turn."""
        task.ident = get_ident()
        self._tasks[task.ident] = task
        self._await_turn(task)

    def leave(self, task: Task) -> None:
        """Its thread is no longer under the clock."""
        self._tasks.pop(task.ident, None)
        if self._failure is None and (self._tasks or self._ready):
            self._hand_to(self._next())

    def has_this_thread(self) -> bool:
        """Whether the thread that asks is under the clock."""
        return get_ident() in self._tasks

    def running(self) -> Task:
        """That of the thread that asks; raises what ended all, and RuntimeError in a thread of others."""
        if self._failure is not None:
            raise self._again(self._failure)
        task = self._tasks.get(get_ident())
        if task is None:
            raise RuntimeError("this thread is not under the virtual clock: start it with clock.spawn, "
                               "or give it a ticket from clock.adopt()")
        return task

    def park(self, me: Task, timeout: float | None) -> None:
        """Lets the others run until `me` is ready again, or `timeout` seconds have passed."""
        if timeout is not None:
            self._made += 1
            tie = self._order.random() if self._order else 0.0
            heapq.heappush(self._timers, (self.now + timeout, tie, self._made, me.turn, me))
        successor = self._next()
        if successor is not me:
            self._hand_to(successor)
            self._await_turn(me)
        elif self._failure is not None:
            raise self._again(self._failure)

    def make_ready(self, task: Task) -> None:
        """It can go on."""
        task.turn += 1
        self._ready.append(task)

    def give_up(self, why: str) -> None:
        """Ends all: with `TimeUp` in the first thread, unwound elsewhere."""
        self.fail(TimeUp(f"{why}:\n{self._where_all_stand()}"))

    def fail(self, failure: BaseException) -> None:
        """Wakes every thread, to unwind with `failure`. Again: no effect."""
        with self._failing:
            if self._failure is None:
                self._failure = failure
                for task in [*self._tasks.values(), *self._ready]:
                    if task.baton.locked():
                        task.baton.release()

    def _next(self) -> Task | None:
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
                self.now = max(self.now, when)
                return task
        self.fail(Deadlock("every thread waits, and nothing will wake one:\n" + self._where_all_stand()))
        return None

    def _hand_to(self, task: Task | None) -> None:
        self.switches += 1
        if task is not None:
            task.baton.release()

    def _await_turn(self, me: Task) -> None:
        seen = self.switches
        while not me.baton.acquire(True, self._stall):
            if self.switches == seen and self._failure is None:
                self.fail(Stalled(f"no switch for {self._stall:g} real seconds: a thread blocks outside the clock, or "
                                  "a ticket was never entered:\n" + self._where_all_stand()))
            seen = self.switches
        if self._failure is not None:
            raise self._again(self._failure)

    def _where_all_stand(self) -> str:
        frames = sys._current_frames()
        lines = []
        for ident, task in list(self._tasks.items()):
            stack = traceback.extract_stack(frames[ident]) if ident in frames else []
            outside = [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in stack
                       if not frame.filename.startswith(_HERE)]
            lines.append(f"  {task.name}: " + " < ".join(outside[:-5:-1]))
        return "\n".join(lines)

    def _again(self, failure: BaseException) -> BaseException:
        """The same failure for one more thread: each raises its own, for a traceback is written onto what is raised."""
        if isinstance(failure, TimeUp) and get_ident() != self._first:
            return ClockClosed()  # which no loop of "try again, whatever it is" catches
        return type(failure)(*failure.args)
