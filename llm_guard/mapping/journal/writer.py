"""Commits rows in batches: what came while one was written is the next, so that no row waits for a batch to fill."""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from llm_guard import clock
from llm_guard.mapping.seams import Then
from llm_guard.state.workers import workers

T = TypeVar("T")


class Writer(Generic[T]):
    """`commit` writes rows, all or none, and is never called twice at once. At most `batch` rows are unwritten at any
    time. After a commit that failed nothing is written any more: all rows that are there, or come, are refused with its
    error.

    The one who writes is a worker of the clock's, which is there only while there are rows.
    """

    def __init__(self, commit: Callable[[Sequence[T]], None], batch: int) -> None:
        self._commit = commit
        self._batch = batch
        self._lock = allocate_lock()
        self._rows: list[tuple[T, Then]] = []
        self._unwritten = 0  # those being written too
        self._writes = False
        self._closed = False
        self._waiting: deque[clock.Waiter] = deque()  # for room
        self._closers: list[clock.Waiter] = []  # until nobody writes
        self.error: BaseException | None = None

    def put(self, row: T, then: Then) -> None:
        """Has `row` written and then `then` called, by another thread; waits for room. After a commit that failed
        `then` gets its error at once."""
        while (waiter := self._taken(row, then)) is not None:
            waiter.wait()

    def _taken(self, row: T, then: Then) -> clock.Waiter | None:
        """None: it was taken. Else wait, and try again."""
        with self._lock:
            error = RuntimeError("the journal is closed") if self._closed else self.error
            if error is None and self._unwritten >= self._batch:
                self._waiting.append(waiter := clock.current().waiter())
                return waiter
            if error is None:
                self._rows.append((row, then))
                self._unwritten += 1
            begins = error is None and not self._writes
            self._writes |= begins
        if error is not None:
            then(error)
        elif begins:
            try:
                workers().start(self._write)
            except RuntimeError:  # no more threads, as at the end of the interpreter
                self._write()
        return None

    def _write(self) -> None:
        while rows := self._next():
            error = self.error
            if error is None:
                try:
                    self._commit([row for row, _ in rows])
                except BaseException as raised:
                    error = self.error = raised
            for _, then in rows:
                then(error)
            self._make_room(len(rows))

    def _next(self) -> list[tuple[T, Then]]:
        with self._lock:
            rows, self._rows = self._rows, []
            if not rows:
                self._writes = False
                while self._closers:
                    self._closers.pop().set()
            return rows

    def _make_room(self, count: int) -> None:
        with self._lock:
            self._unwritten -= count
            woken = len(self._waiting) if self.error is not None else min(count, len(self._waiting))
            waiters = [self._waiting.popleft() for _ in range(woken)]
        for waiter in waiters:
            waiter.set()

    def close(self) -> None:
        """Waits until all that is there was written. What comes later is refused."""
        waiter = clock.current().waiter()
        with self._lock:
            self._closed = True
            waiters, self._waiting = self._waiting, deque()
            if self._writes:
                self._closers.append(waiter)
            else:
                waiter.set()
        for late in waiters:
            late.set()
        waiter.wait()
