"""The workers of a mapping: loops on a `ThreadPoolExecutor`, fed from one queue.

A loop goes on as long as there are jobs, then ends; the pool keeps its thread for the next loop. So a thread that
belongs to the pool waits for the clock only inside a job, and the end of the interpreter finds none parked.
"""

from __future__ import annotations

import threading
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from weakref import WeakSet

from llm_guard import clock
from llm_guard.call import CutOff

_alive: WeakSet[Crew] = WeakSet()


class Crew:
    """At most `size` jobs run at once; the others wait in order. `cut_off` reaches all that wait inside a job, and is
    cut with `above`, where given."""

    def __init__(self, size: int, above: CutOff | None = None) -> None:
        self._size = size
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="llm_guard map")
        self._lock = allocate_lock()
        self._jobs: deque[Callable[[], None]] = deque()
        self._loops = 0
        self._all_gone: clock.Waiter | None = None
        self.cut_off = CutOff(above)
        _alive.add(self)

    def put(self, job: Callable[[], None]) -> None:
        """Has `job` run as soon as one of the crew is free."""
        with self._lock:
            self._jobs.append(job)
            if self._loops == self._size:
                return
            self._loops += 1
        try:
            self._pool.submit(self._loop, clock.current().adopt())
        except BaseException:
            with self._lock:
                self._loops -= 1
            raise

    def stop(self) -> None:
        """No further job begins; what waits at a door or between attempts is given up. Returns at once."""
        self._jobs.clear()
        self.cut_off.cut()

    def close(self) -> None:
        """Stops, and waits until what is in flight has ended."""
        self.stop()
        with self._lock:
            self._all_gone = clock.current().waiter() if self._loops else None
            waiter = self._all_gone
        if waiter is not None:
            waiter.wait()
        self._pool.shutdown()
        self.cut_off.close()

    def _loop(self, ticket: AbstractContextManager[object]) -> None:
        with ticket:
            while True:
                with self._lock:
                    if not self._jobs:
                        self._loops -= 1
                        if not self._loops and self._all_gone is not None:
                            self._all_gone.set()
                        return
                    job = self._jobs.popleft()
                job()
                del job


def _stop_all() -> None:
    for crew in list(_alive):
        crew.stop()


# Before the interpreter joins the pools' threads: a mapping that nobody closed must not hold it up. This is the hook by
# which concurrent.futures ends its own threads; it has no public name.
threading._register_atexit(_stop_all)  # type: ignore[attr-defined]
