"""Daemon threads to hand calls to, so that the caller can go on when a call does not end in time.

A worker that has ended its job waits for the next, the last one idle first, and goes after two seconds without one.
Being daemons they never hold up the end of the interpreter. Context variables go in and come back; what a framework
keeps by thread, its connections say, is put right by what it registers with `around_each_job`.
"""

from __future__ import annotations

import contextvars
from _thread import allocate_lock
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any, TypeVar

from llm_guard import clock
from llm_guard.fork import renew_after_fork

#: Seconds after which an idle worker ends.
IDLE = 2.0

R = TypeVar("R")

_UNSET = object()
_around: list[Callable[[], AbstractContextManager[object]]] = []


def around_each_job(surroundings: Callable[[], AbstractContextManager[object]]) -> None:
    """From now on `surroundings()` is called in the thread that hands a job over, and the job runs within what that
    gives. Again: no effect."""
    if surroundings not in _around:
        _around.append(surroundings)


class Surroundings:
    """The surroundings of one job, made in the thread that hands it over."""

    def __init__(self) -> None:
        self._made = [each() for each in _around]

    def run(self, job: Callable[[], R]) -> R:
        """Runs it within them, in the thread that it was handed to."""
        with ExitStack() as surroundings:
            for each in self._made:
                surroundings.enter_context(each)
            return job()
        raise AssertionError("none of them keeps an error back")


def surroundings() -> Surroundings | None:
    """The surroundings of a job that this thread hands over; None where nobody has registered any."""
    return Surroundings() if _around else None


def surrounded(job: Callable[[], R]) -> Callable[[], R]:
    """`job` within its surroundings: to be called by the thread that hands it over to another."""
    made = surroundings()
    return job if made is None else partial(made.run, job)


class Job:
    """One call on a worker. It ends once: taken by the caller who waited, or left to itself."""

    __slots__ = ("_afterwards", "_context", "_function", "_lock", "_over", "_waiter", "error", "value")

    def __init__(self, function: Callable[[], Any], waiter: clock.Waiter) -> None:
        self._function = surrounded(function)
        self._context = contextvars.copy_context()
        self._waiter = waiter
        self._lock = allocate_lock()
        self._over = False
        self._afterwards: Callable[[], None] | None = None
        self.value: Any = None
        self.error: BaseException | None = None

    def wait(self, timeout: float) -> bool:
        """Whether it ended within `timeout` seconds."""
        return self._waiter.wait(timeout)

    def leave(self, afterwards: Callable[[], None]) -> bool:
        """Gives up waiting: `afterwards` is called by the worker when the function has ended.

        False where it has ended already: then the result is there after all.
        """
        with self._lock:
            if self._over:
                return False
            self._afterwards = afterwards
            return True

    def result(self) -> Any:
        """What the function returned, or raises what it raised; what it set in context variables is set here too."""
        for variable, value in self._context.items():
            if variable.get(_UNSET) is not value:
                variable.set(value)
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None  # else the traceback, which holds this frame, would hold itself
        return self.value

    def run(self) -> clock.Waiter | None:
        """In the worker: runs the function to its end. What is to be set then, where its caller still waits."""
        try:
            self.value = self._context.run(self._function)
        except BaseException as error:
            self.error = error
        with self._lock:
            self._over = True
            afterwards = self._afterwards
        if afterwards is None:
            return self._waiter
        self.value = self.error = None
        afterwards()
        return None


class _Worker:
    """A thread that runs one job after the other."""

    __slots__ = ("_time", "job", "waiter")

    def __init__(self, job: Job, time: clock.Clock) -> None:
        self.job: Job | None = job
        self.waiter = time.waiter()
        self._time = time

    def loop(self, pool: Workers) -> None:
        while (job := self.job) is not None:
            self.job = None
            caller = job.run()
            del job  # an idle worker keeps nothing of its last call alive
            self.waiter = self._time.waiter()
            pool.put_idle(self)
            if caller is not None:  # last of all: who is woken sooner finds the interpreter's lock taken by this thread
                caller.set()
            try:
                called = self.waiter.wait(IDLE)
            except BaseException:  # its clock is over
                pool.take_out(self)
                raise
            if not called and not pool.take_out(self):
                self.waiter.wait()  # a job was given to it in the very last moment


class Workers:
    """The workers under one clock, which is in force when they are asked."""

    def __init__(self) -> None:
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        self._lock = allocate_lock()
        self._idle: dict[_Worker, None] = {}

    def start(self, function: Callable[[], Any]) -> Job:
        """Runs `function` in this thread's context, on a worker; starts one where none is idle."""
        time = clock.current()
        job = Job(function, time.waiter())
        with self._lock:
            worker = self._idle.popitem()[0] if self._idle else None
        if worker is not None:
            worker.job = job
            worker.waiter.set()
        else:
            worker = _Worker(job, time)
            time.spawn(lambda: worker.loop(self), "llm_guard worker")
        return job

    def put_idle(self, worker: _Worker) -> None:
        with self._lock:
            self._idle[worker] = None

    def take_out(self, worker: _Worker) -> bool:
        """Whether the worker was still idle."""
        with self._lock:
            if worker not in self._idle:
                return False
            del self._idle[worker]
            return True


#: Those of the clock in force.
workers = clock.of_each_clock(Workers)
