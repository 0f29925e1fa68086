"""Waiting as the strategies do it: on the clock in force, and no longer than the item has time.

All waiting goes through `llm_guard.clock.current()`: `time.sleep` and `Condition.wait` would block a virtual clock. Raw
locks are held for a few statements only, and never while a thread waits.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from llm_guard import clock

#: Seconds that a wait on a condition takes at least. Where time stands still between two statements, who waits for a
#: rounding error again and again waits for ever.
SHORTEST = 1e-6

_of_thread = threading.local()


class DeadlinePassed(TimeoutError):
    """The time that the item has is over; its client gave up."""


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Sets the time that the item has which this thread works on; None: as long as it takes."""
    before = getattr(_of_thread, "ends", math.inf)
    _of_thread.ends = math.inf if seconds is None else clock.current().now() + seconds
    try:
        yield
    finally:
        _of_thread.ends = before


def time_left() -> float:
    """Seconds that this thread's item still has; infinite where it has no deadline."""
    ends: float = getattr(_of_thread, "ends", math.inf)
    return ends - clock.current().now()


def sleep(seconds: float) -> None:
    """Sleeps that long. DeadlinePassed, at the deadline, where the item's time is over before."""
    left = time_left()
    clock.current().sleep(min(seconds, left))
    if seconds >= left:
        raise DeadlinePassed("the item's time was over while it waited")


class Condition:
    """What `threading.Condition` is, with its waits on the clock: first come, first notified.

    `wait` raises DeadlinePassed at the deadline of the thread's item.
    """

    def __init__(self, lock: threading.Lock | None = None) -> None:
        self._lock = threading.Lock() if lock is None else lock
        self._waiting: deque[clock.Waiter] = deque()

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._lock.__exit__(kind, error, trace)

    def wait(self, timeout: float | None = None) -> bool:
        """Lets go of the lock until it is notified (True) or `timeout` seconds have passed (False)."""
        left = time_left()
        pause = left if timeout is None else min(max(timeout, SHORTEST), left)
        waiter = clock.current().waiter()
        self._waiting.append(waiter)
        self._lock.release()
        try:
            notified = waiter.wait(None if math.isinf(pause) else pause)
        finally:
            self._lock.acquire()
            if waiter in self._waiting:
                self._waiting.remove(waiter)
        if time_left() <= 0:
            if notified:
                self.notify()  # it is of no use here: the next one's
            raise DeadlinePassed("the item's time was over while it waited")
        return notified

    def notify(self, n: int = 1) -> None:
        """Wakes the `n` that have waited longest."""
        for _ in range(min(n, len(self._waiting))):
            self._waiting.popleft().set()


class Turnstile:
    """Lets a few threads in at a time, first come, first served; a context manager.

    Where a library has every waiting thread wake up for each place that comes free, these few ask it here, and the next
    one when one is through: places go at the same instants, without a thousand threads that wake up in vain.
    """

    def __init__(self, places: int = 1) -> None:
        self._lock = threading.Lock()
        self._free = places
        self._queue: deque[clock.Waiter] = deque()

    def __enter__(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            waiter = clock.current().waiter()
            self._queue.append(waiter)
        left = time_left()
        if waiter.wait(None if math.isinf(left) else left):
            return
        with self._lock:
            handed_over = waiter not in self._queue
            if not handed_over:
                self._queue.remove(waiter)
        if handed_over:
            self._hand_over()
        raise DeadlinePassed("the item's time was over while it waited")

    def __exit__(self, *error: object) -> None:
        self._hand_over()

    def _hand_over(self) -> None:
        with self._lock:
            if self._queue:
                self._queue.popleft().set()
            else:
                self._free += 1
