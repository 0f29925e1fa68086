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
from weakref import WeakValueDictionary

from llm_guard import clock
from llm_guard.call import CutOff
from llm_guard.state.workers import surrounded

_alive: WeakValueDictionary[int, Crew] = WeakValueDictionary()


class Crew:
    """At most `size` jobs run at once; the others wait in order. `cut_off` reaches all that wait inside a job, and is
    cut with `above`, where given; once it is cut, no further job begins."""

    def __init__(self, size: int, above: CutOff | None = None) -> None:
        self._size = size
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="llm_guard map")
        self._lock = allocate_lock()
        self._jobs: deque[Callable[[], None]] = deque()
        self._loops = 0
        self._closers: list[clock.Waiter] = []  # they wait until no loop is left
        self.cut_off = CutOff(above)
        _alive[id(self)] = self

    def put(self, job: Callable[[], None]) -> None:
        """Has `job` run as soon as one of the crew is free."""
        job, grows = surrounded(job), False
        try:
            with self._lock:
                if self.cut_off.is_cut:
                    return
                self._jobs.append(job)
                grows = self._loops < self._size
                self._loops += grows
            if grows:
                self._pool.submit(self._loop, clock.current().adopt())
        except BaseException:  # also an interrupt: a loop too many in the count would hold up `close` for ever
            if grows:
                self._loop_ended()
            raise

    def stop(self) -> None:
        """No further job begins; what waits at a door or between attempts is given up. Returns at once.

        It takes no lock of its own, for a finaliser calls it.
        """
        self.cut_off.cut()
        self.cut_off.close()
        self._jobs.clear()

    def drop(self) -> None:
        """Stops; the threads end with what is in flight. For when nobody puts jobs any more.

        It says so to the pool, which may live on: the traceback of an error refers to the frames that it passed.
        """
        self.stop()
        self._pool.shutdown(wait=False)

    def close(self) -> None:
        """Stops, and waits until what is in flight has ended."""
        self.stop()
        waiter = clock.current().waiter()
        with self._lock:
            if self._loops > 0:
                self._closers.append(waiter)
            else:
                waiter.set()
        waiter.wait()
        self._pool.shutdown()

    def _loop(self, ticket: AbstractContextManager[object]) -> None:
        try:
            with ticket:
                while (job := self._next_job()) is not None:
                    job()
        except BaseException:  # the clock under which it was begun is gone
            self._loop_ended()
            raise

    def _next_job(self) -> Callable[[], None] | None:
        """None: there is none, and the loop has ended."""
        with self._lock:
            try:
                if not self.cut_off.is_cut:
                    return self._jobs.popleft()  # `stop` may empty it at any instant
            except IndexError:
                pass
            self._count_out()
            return None

    def _loop_ended(self) -> None:
        with self._lock:
            self._count_out()

    def _count_out(self) -> None:
        self._loops -= 1
        if self._loops <= 0:
            while self._closers:
                self._closers.pop().set()


def _stop_all() -> None:
    for alive in _alive.valuerefs():
        crew = alive()
        if crew is not None:
            crew.stop()


# Before the interpreter joins the pools' threads: a mapping that nobody closed must not hold it up. This is the hook by
# which concurrent.futures ends its own threads; it has no public name.
threading._register_atexit(_stop_all)  # type: ignore[attr-defined]
