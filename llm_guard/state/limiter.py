"""At most so many at once: the limit as a gate, and a limiter that makes threads wait for it in order."""

from __future__ import annotations

from collections import deque
from threading import local
from typing import Self

from llm_guard import checks, clock
from llm_guard.call import FOREVER
from llm_guard.errors import Saturated
from llm_guard.fork import renew_after_fork
from llm_guard.outcome import IGNORED
from llm_guard.state.gate import Ending, Gate, Request
from llm_guard.state.line import Line

_RELEASED = Ending(IGNORED, 0.0)


class LimitGate:
    """A limit on what is in flight. A place is kept until the function has really ended, even one that ran out of
    time. `by_key`: it is that of one key."""

    outlives = True

    def __init__(self, limit: int, name: str = "limiter", *, by_key: bool = False) -> None:
        self.name = name
        self.by_key = by_key
        self.limit = limit
        self.in_flight = 0
        self.peak = 0
        renew_after_fork(self)

    def after_fork(self) -> None:
        self.in_flight = self.peak = 0

    def ready_at(self, now: float, request: Request) -> float:
        return now if self.in_flight < self.limit else FOREVER

    def start(self, now: float, request: Request) -> None:
        in_flight = self.in_flight + 1
        if in_flight > self.peak:
            self.peak = in_flight
        self.in_flight = in_flight  # last: to compare may take more room than the stack has

    def end(self, now: float, permit: None, ending: Ending) -> None:
        self.in_flight -= 1

    def is_probe(self, permit: None) -> bool:
        return False


class _Entered(local):
    """Of each thread, the places of the `with` blocks that it is in."""

    def __init__(self) -> None:
        self.requests: list[Request] = []


class Limiter:
    """At most `limit` holders at once, first come, first served: a fair semaphore that hands its places over.

    Use `acquire` and `release`, or a `with` block.
    """

    def __init__(self, limit: int) -> None:
        self._gate = LimitGate(checks.whole("limit", limit, least=1))
        self._line = Line()
        self._gates: tuple[Gate, ...] = (self._gate,)
        self._acquired: deque[Request] = deque()
        self._entered = _Entered()

    @property
    def limit(self) -> int:
        """How many at once; may be set while threads wait. A lower one takes nothing from those inside."""
        return self._gate.limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._gate.limit = checks.whole("limit", limit, least=1)
        self._line.changed(self._gate)

    @property
    def in_flight(self) -> int:
        """How many places are held."""
        return self._gate.in_flight

    @property
    def waiting(self) -> int:
        """How many threads wait."""
        return self._line.waiting(self._gate)

    def acquire(self, timeout: float | None = None) -> bool:
        """Waits for a place; False where none came free within `timeout` seconds."""
        request = Request(self._gates)
        try:
            self._line.enter(request, give_up_at=FOREVER if timeout is None else clock.current().now() + timeout)
        except Saturated:
            return False
        self._acquired.append(request)
        return True

    def release(self) -> None:
        """Gives one place back that was acquired in any thread; whoever waits longest has it at once."""
        try:
            request = self._acquired.pop()
        except IndexError:
            raise ValueError("released more often than acquired") from None
        try:
            self._leave(request)
        except RecursionError:
            self._acquired.append(request)
            raise

    def __enter__(self) -> Self:
        request = Request(self._gates)
        self._line.enter(request)
        self._entered.requests.append(request)
        return self

    def __exit__(self, *exc: object) -> None:
        self._leave(self._entered.requests.pop())

    def _leave(self, request: Request) -> None:
        self._line.leave_whole(request, _RELEASED, clock.current().now)

    def __repr__(self) -> str:
        return f"Limiter(limit={self.limit}, in_flight={self.in_flight})"
