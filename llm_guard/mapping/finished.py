"""The results of a mapping between the workers and the consumer, of whom there is one.

There is no lock: a worker puts its result and then looks whether it is awaited, the consumer says that it waits and
then looks whether the result is there, so that one of the two sees it. Each step is a single operation of a dict or a
deque. A finaliser may call all of it.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from llm_guard import clock
from llm_guard.mapping.result import Result

T = TypeVar("T")
R = TypeVar("R")


class Finished(Generic[T, R]):
    """In the order in which they came. It knows nothing of the iterator, which may be dropped."""

    def __init__(self) -> None:
        self._there: deque[Result[T, R]] = deque()
        self._awaited: clock.Waiter | None = None
        self._wanted = True
        self._over = False
        self.failure: BaseException | None = None  # of one that could not be recorded

    def put(self, result: Result[T, R]) -> None:
        self._there.append(result)
        if self._awaited is not None:
            self._wake()
        if not self._wanted:
            self._there.clear()

    def ready(self) -> bool:
        """Whether the next one is there."""
        return bool(self._there)

    def pop(self) -> Result[T, R] | None:
        """The next one, if it is there."""
        try:
            return self._there.popleft()
        except IndexError:
            return None

    def take(self) -> Result[T, R] | None:
        """The next one, as soon as it is there; None where it is over before."""
        while (result := self.pop()) is None and not self._over:
            waiter = self._awaited = clock.current().waiter()
            if not self.ready() and not self._over:
                waiter.wait()
            self._awaited = None
        return self.pop() if result is None else result

    def rest(self) -> Result[T, R] | None:
        """One that is there though others before it never came; None: there is none."""
        return self.pop()

    def count(self) -> int:
        """How many are there."""
        return len(self._there)

    def end(self) -> None:
        """Nobody waits for what is not there yet."""
        self._over = True
        self._wake()

    def fail(self, error: BaseException) -> None:
        """One could not be recorded: as `end`."""
        if self.failure is None:
            self.failure = error
        self.end()

    def _wake(self) -> None:
        waiter = self._awaited
        if waiter is not None:
            waiter.set()

    def discard(self) -> None:
        """Nobody wants what is there or will come."""
        self._wanted = False
        self._there.clear()
        self.end()


class InOrder(Finished[T, R]):
    """In the order of their items."""

    def __init__(self) -> None:
        super().__init__()
        self._by_index: dict[int, Result[T, R]] = {}
        self._next = 0

    def put(self, result: Result[T, R]) -> None:
        index = result.index
        self._by_index[index] = result
        if self._awaited is not None and index == self._next:
            self._wake()
        if not self._wanted:
            self._by_index.clear()

    def ready(self) -> bool:
        return self._next in self._by_index

    def pop(self) -> Result[T, R] | None:
        result = self._by_index.pop(self._next, None)
        if result is not None:
            self._next += 1
        return result

    def rest(self) -> Result[T, R] | None:
        if self._by_index and not self.ready():
            self._next = min(self._by_index)
        return self.pop()

    def count(self) -> int:
        return len(self._by_index)

    def discard(self) -> None:
        super().discard()
        self._by_index.clear()
