"""A server that ends calls as it is told, and threads in virtual time, for the tests of the runner and the policies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from random import Random
from typing import Any, Generic, TypeVar

from llm_guard import Result, clock, map_with_backpressure
from llm_guard.outcome import SUCCESS, Kind, Outcome

T = TypeVar("T")
R = TypeVar("R")


class Ended(Exception):
    """How a scripted call ended, where it was no answer."""

    def __init__(self, kind: Kind, hint: float | None = None) -> None:
        super().__init__(kind.value)
        self.outcome = Outcome(kind, hint)


def read(end: object) -> Outcome | None:
    """For `classify=`."""
    return end.outcome if isinstance(end, Ended) else None


class Server:
    """Calls take `seconds` each and end as `script` says, one after the other; those after it as `then`.

    An entry is a kind, a kind with a hint, an exception to raise, or a number of seconds to take and then succeed.
    """

    def __init__(self, *script: Any, seconds: float = 1.0, then: Any = Kind.SUCCESS) -> None:
        self.script = list(script)
        self._seconds = seconds
        self.then = then
        self.starts: list[float] = []
        self.ends: list[float] = []
        self.running = 0
        self.peak = 0

    def __call__(self, item: Any = "answer") -> Any:
        time = clock.current()
        end = self.script.pop(0) if self.script else self.then
        self.starts.append(time.now())
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            time.sleep(end if isinstance(end, float) else self._seconds)
        finally:
            self.running -= 1
            self.ends.append(time.now())
        if isinstance(end, BaseException):
            raise end
        kind, hint = end if isinstance(end, tuple) else (end, None)
        if isinstance(kind, Kind) and kind is not SUCCESS.kind:
            raise Ended(kind, hint)
        return item


class Highest(Random):
    """Chance that always draws the most."""

    def random(self) -> float:
        return 1.0 - 2.0**-53


def waits_between(starts: list[float], seconds: float) -> list[float]:
    """The waits between calls that took so long."""
    return [later - earlier - seconds for earlier, later in pairwise(starts)]


class Task(Generic[R]):
    """A function on a thread of the clock in force, which goes first (under a clock that does not shuffle)."""

    def __init__(self, function: Callable[[], R]) -> None:
        self._time = clock.current()
        self._function = function
        self._done = self._time.waiter()
        self._values: list[R] = []
        self.error: Exception | None = None
        self.ended_at: float | None = None
        self._time.spawn(self._run, "task")
        self._time.sleep(0)

    def _run(self) -> None:
        try:
            self._values.append(self._function())
        except Exception as error:
            self.error = error
        self.ended_at = self._time.now()
        self._done.set()

    def wait(self) -> R:
        """What it returned, or raises what it raised."""
        self._done.wait()
        if self.error is not None:
            raise self.error
        return self._values[0]

    def ended(self) -> Task[R]:
        """Itself, when it has ended in whatever way."""
        self._done.wait()
        return self


def call_all(function: Callable[[T], R], items: Iterable[T], threads: int = 64) -> list[Result[T, R]]:
    """Calls `function` with each of `items` on so many threads: what became of each."""
    return list(map_with_backpressure(function, items, workers=threads, on_error="return", results=True))


def assert_paced(starts: list[float], rate: float) -> None:
    """In no window of w seconds more than rate * (w + 0.010) + 1 starts."""
    starts = sorted(starts)
    for first, begin in enumerate(starts):
        for last in range(first, len(starts)):
            most = rate * (starts[last] - begin + 0.010) + 1
            assert last - first + 1 <= most + 1e-6, f"{last - first + 1} starts in {starts[last] - begin:.3f} s"
