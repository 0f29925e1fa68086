"""The workers of a mapping: daemon threads that are fed from one queue.

A job that is put wakes one worker at most, and a worker that takes one wakes the next where more are there: so jobs
that take no time are all done by the one that is awake, and the others are not woken in vain. Between the putter and
the workers there is no lock. Each first says what it did (a job is there, a worker is idle) and then looks at what the
other said, so that one of the two sees it.
"""

from __future__ import annotations

import threading
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Generic, Protocol, TypeVar
from weakref import WeakValueDictionary

from llm_guard import clock
from llm_guard.call import CutOff

J = TypeVar("J")

_alive: WeakValueDictionary[int, Crew[object]] = WeakValueDictionary()


class _Thread(Protocol):
    def join(self) -> None: ...


class Crew(Generic[J]):
    """At most `size` jobs run at once; the others wait in order.

    `work` does one, and is given `put` for what is to be done next; True from it winds the crew down. `over` is called
    when the crew was stopped and its last worker has ended; `failed` where another worker could not be started.
    `cut_off` reaches all that is begun in a job. `spares`: to stop it is to wind it down, for what is in flight is
    worth waiting for.
    """

    def __init__(self, size: int, work: Callable[[J, Callable[[J], None]], bool], cut_off: CutOff, *,
                 over: Callable[[], None], failed: Callable[[BaseException], None], spares: bool = False) -> None:
        self._size = size
        self._work = work
        self._over = over
        self._failed = failed
        self._spares = spares
        self._lock = allocate_lock()
        self._jobs: deque[J] = deque()
        self._idle: dict[clock.Waiter, None] = {}
        self._waking = False  # one was woken, or begun, and has not looked yet
        self._loops: dict[object, bool] = {}  # those that were begun, and whether they run
        self._gone: list[_Thread] = []
        self._closers: list[clock.Waiter] = []  # they wait until no loop is left
        self._abandoned = False
        self.stopped = False
        self.forked = False
        self.cut_off = cut_off
        _alive[id(self)] = self  # type: ignore[assignment]

    def after_fork(self) -> None:
        """In the child there are no workers, and what the parent's do is not the child's to end."""
        self.cut_off.forget()
        self._lock = allocate_lock()
        self._loops.clear()
        self._gone.clear()
        self.stopped = self.forked = True
        self._jobs.clear()
        self._idle.clear()
        self._closers.clear()

    def put(self, job: J) -> None:
        """Has `job` done as soon as one of the crew is free."""
        if self.stopped:
            return
        self._jobs.append(job)
        if not self._waking:
            self._wake_one()
        if self.stopped:
            self._jobs.clear()

    def _wake_one(self) -> None:
        if self._idle:
            try:
                waiter = self._idle.popitem()[0]
            except KeyError:
                pass
            else:
                self._waking = True
                waiter.set()
                return
        if len(self._loops) < self._size:
            self._begin_one()

    def _begin_one(self) -> None:
        token = object()
        try:
            with self._lock:
                if len(self._loops) >= self._size or self.stopped:
                    return
                self._loops[token] = False
                name = f"llm_guard map {len(self._loops)}"
            self._waking = True
            clock.current().spawn(partial(self._loop, token), name)
        except BaseException:  # also an interrupt, after which it may run or not
            self._waking = False
            with self._lock:
                if not self._loops.get(token, True):
                    del self._loops[token]
            raise

    def _loop(self, token: object) -> None:
        with self._lock:
            if token not in self._loops:
                return
            self._loops[token] = True
        jobs, work, put = self._jobs, self._work, self.put
        job: J | None = None
        try:
            self._waking = False  # before it looks: who puts a job from now on wakes another
            while self._awake():
                while not (self.stopped or self.cut_off.is_cut):
                    try:
                        job = jobs.popleft()
                    except IndexError:
                        break
                    if jobs and not self._waking:
                        self._wake_another()
                    if work(job, put):
                        self.wind_down()
                    job = None
        finally:
            job = None  # an error's traceback may hold this frame
            self._loop_ended(token)

    def _wake_another(self) -> None:
        try:
            self._wake_one()
        except BaseException as error:
            if not self.stopped:
                self._failed(error)

    def _awake(self) -> bool:
        """Waits until there may be a job; False: there will be none."""
        if self.stopped or self._has_jobs():
            return not self.stopped
        waiter = clock.current().waiter()
        self._idle[waiter] = None
        if (self.stopped or self._has_jobs()) and self._idle.pop(waiter, self) is None:
            return not self.stopped
        waiter.wait()  # also where another took it out just now: that one says that it wakes us, and is to be believed
        self._waking = False
        return not self.stopped

    def _has_jobs(self) -> bool:
        return bool(self._jobs) and not self.cut_off.is_cut

    def _loop_ended(self, token: object) -> None:
        closers: list[clock.Waiter] = []
        with self._lock:
            self._loops.pop(token, None)
            self._gone.append(threading.current_thread())
            last = not self._loops
            if last:
                closers, self._closers = self._closers, []
        if last and self.stopped:
            self._over()
        for closer in closers:
            closer.set()

    def wind_down(self) -> None:
        """No further job begins, and what waits at a door or between attempts is given up; what is in flight ends by
        itself. Returns at once. Like `stop` it takes no lock, for a finaliser or a worker calls it."""
        self.stopped = True
        self._jobs.clear()
        self.cut_off.waits.cut()
        while self._idle:
            try:
                self._idle.popitem()[0].set()
            except KeyError:
                break
        if not self._loops:
            self._over()

    def stop(self) -> None:
        """Winds down, and cuts off what is in flight, where that is not to be spared."""
        if not self._spares:
            self.cut_off.cut()
        self.wind_down()

    def abandon(self) -> None:
        """Cuts off what is in flight; nobody waits for it any more."""
        self._abandoned = True
        self.cut_off.cut()
        self.wind_down()

    def wait(self) -> None:
        """Once it was stopped: until what is in flight has ended."""
        waiter = clock.current().waiter()
        with self._lock:
            if self._loops and not self._abandoned:
                self._closers.append(waiter)
            else:
                waiter.set()
        waiter.wait()
        while self._gone:
            thread = self._gone.pop()
            if thread is not threading.current_thread():
                thread.join()  # it has nothing left to do

    def let_go(self) -> None:
        """Nothing of it is left with the call above."""
        self.cut_off.close()


def _stop_all() -> None:
    crews = [crew for crew in (alive() for alive in _alive.valuerefs()) if crew is not None]
    for crew in crews:
        crew.stop()
    for crew in crews:
        crew.wait()


# Before the interpreter ends: a mapping that nobody closed must not hold it up, but what is in flight ends. This is the
# hook by which concurrent.futures ends its own threads; it has no public name.
threading._register_atexit(_stop_all)  # type: ignore[attr-defined]
