"""The results of a mapping between the workers and the consumer."""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from typing import Generic, TypeVar

from llm_guard import clock
from llm_guard.call import CutOff
from llm_guard.mapping.result import Result

T = TypeVar("T")
R = TypeVar("R")


class Finished(Generic[T, R]):
    """Where workers put results and the consumer finds them; it knows nothing of the iterator, which may be dropped."""

    def __init__(self, ordered: bool) -> None:
        self._lock = allocate_lock()
        self._by_index: dict[int, Result[T, R]] = {}
        self._in_turn: deque[Result[T, R]] = deque()
        self._ordered = ordered
        self._next = 0
        self._awaited: clock.Waiter | None = None
        self._wanted = True
        self.failure: BaseException | None = None  # of one that could not be recorded

    def put(self, result: Result[T, R]) -> None:
        with self._lock:
            if not self._wanted:
                return
            if self._ordered:
                self._by_index[result.index] = result
                if result.index != self._next:
                    return
            else:
                self._in_turn.append(result)
            waiter, self._awaited = self._awaited, None
        if waiter is not None:
            waiter.set()

    def fail(self, error: BaseException) -> None:
        """No further one will do: what is there is taken, then `take` comes back with None."""
        with self._lock:
            if self.failure is None:
                self.failure = error
            waiter, self._awaited = self._awaited, None
        if waiter is not None:
            waiter.set()

    def ready(self) -> bool:
        """Whether the next one is there."""
        return self._next in self._by_index if self._ordered else bool(self._in_turn)

    def take(self, cut_off: CutOff) -> Result[T, R] | None:
        """The next one, as soon as it is there; None where `cut_off` is cut, or `fail` called, before."""
        with self._lock:
            waiter = None if self.ready() or self.failure is not None else clock.current().waiter()
            self._awaited = waiter
        if waiter is not None:
            cut_off.watch(waiter.set)
            try:
                waiter.wait()
            finally:
                cut_off.unwatch(waiter.set)
        with self._lock:
            if not self.ready():
                return None
            self._next += 1
            return self._by_index.pop(self._next - 1) if self._ordered else self._in_turn.popleft()

    def discard(self) -> None:
        """Nobody wants what is there or will come. It takes no lock, for a finaliser calls it."""
        self._wanted = False
        self._by_index.clear()
        self._in_turn.clear()
