"""Keeps a record for each guarded function of the process, from when it is made until it is dropped itself."""

from __future__ import annotations

import weakref
from _thread import allocate_lock
from collections.abc import Callable
from threading import RLock
from weakref import WeakKeyDictionary

from llm_guard import clock
from llm_guard.clock.system import SystemClock
from llm_guard.fork import renew_after_fork
from llm_guard.runtime.registry import Member, registry
from llm_guard.web.status.curves import BINS, WIDTH
from llm_guard.web.status.record import Record


class Sampler:
    """Looks twice in every `width` seconds how many wait, on a thread of its own while there is anything to be seen:
    who waits behind a shut gate causes no event. Virtual time has none, for it would never come to an end."""

    def __init__(self, look: Callable[[], bool], width: float, bins: int) -> None:
        self._look = weakref.WeakMethod(look)
        self._width = width
        self._bins = bins
        self._is_over = False
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        self._starting = allocate_lock()
        self._rest = clock.current().waiter()
        self._runs = False

    def wake(self) -> None:
        if self._runs or self._is_over:
            return
        time = clock.current()
        if isinstance(time, SystemClock) and self._starting.acquire(False):  # else another thread does it just now
            try:
                if not self._runs:
                    self._runs = True
                    time.spawn(self._run, "llm_guard status")
            finally:
                self._starting.release()

    def end(self) -> None:
        self._is_over = True
        self._rest.set()

    def _run(self) -> None:
        idle = 0
        while idle <= 2 * self._bins:  # then the curves are empty
            self._rest.wait(self._width / 2)
            look = self._look()
            if look is None or self._is_over:
                break
            idle = 0 if look() else idle + 1
            del look  # while it rests, it keeps nothing alive
        self._runs = False


class Collector:
    """The records, found by the function. `close` ends it; so does dropping it."""

    def __init__(self, width: float = WIDTH, bins: int = BINS) -> None:
        self.width = width
        self.bins = bins
        self._adding = RLock()
        self._records: WeakKeyDictionary[Member, Record] = WeakKeyDictionary()
        self._sampler = Sampler(self.sample, width, bins)
        self._unwatch = registry.watch(self._add)
        self._end = weakref.finalize(self, _take_off, self._records, self._sampler, self._unwatch)
        self._end.atexit = False
        renew_after_fork(self)

    def after_fork(self) -> None:
        self._adding = RLock()
        for record in list(self._records.values()):
            record.forget()

    def record_of(self, member: Member) -> Record:
        """Never fails: a function that came this instant has an empty one."""
        record = self._records.get(member)
        return record if record is not None else self._add(member)

    def sample(self) -> bool:
        """Takes down how many wait; whether anything goes on."""
        now = clock.current().now()
        seen = [record.sample(now, member.waiting()) for member, record in list(self._records.items())]
        return any(seen)

    def look(self) -> None:
        """Somebody looks."""
        self.sample()
        self._sampler.wake()

    def has_answered(self) -> bool:
        """Whether any function of this process has had an answer."""
        return any(record.has_answered() for record in list(self._records.values()))

    def close(self) -> None:
        """Hears no more."""
        self._end()

    def _add(self, member: Member) -> Record:
        with self._adding:
            record = self._records.get(member)
            if record is None:
                record = self._records[member] = Record(self._sampler.wake, self.width, self.bins)
                record.off = member.on_event(record.hear)
            return record


def _take_off(records: WeakKeyDictionary[Member, Record], sampler: Sampler, unwatch: Callable[[], None]) -> None:
    unwatch()
    sampler.end()
    for record in list(records.values()):
        if record.off is not None:
            record.off()
