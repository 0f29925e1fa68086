"""The leaky bucket as a meter: calls leave it at an even rate, one by one.

`llm_guard.state.leak` is the arithmetic; `LeakyBucket` makes threads wait for it, first come, first served.
"""

from __future__ import annotations

from llm_guard import checks, clock
from llm_guard.call import FOREVER
from llm_guard.errors import Saturated
from llm_guard.fork import renew_after_fork
from llm_guard.state.gate import Ending, Gate, Request
from llm_guard.state.leak import Leak
from llm_guard.state.line import Line


class LeakGate:
    """A leak as a gate: at a door, or for a bucket of its own."""

    outlives = False

    def __init__(self, rate: float, name: str = "bucket") -> None:
        self.name = name
        self.rate = rate
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        self.leak = Leak()

    def ready_at(self, now: float, request: Request) -> float:
        return self.leak.next_start

    def start(self, now: float, request: Request) -> None:
        self.leak.take(now, request.since, self.rate)

    def end(self, now: float, permit: None, ending: Ending) -> None:
        """A start cannot be taken back."""

    def is_probe(self, permit: None) -> bool:
        return False


class LeakyBucket:
    """At most `rate` calls a second, evenly spaced: `acquire()` waits its turn.

    Thread-safe and fair. Only the first in line waits on time, and a change of `rate` wakes it; a wait of any length
    costs no CPU and there is no thread behind it.
    """

    def __init__(self, rate: float) -> None:
        self._gate = LeakGate(checks.number("rate", rate, above=0, unit="calls a second"))
        self._line = Line()
        self._gates: tuple[Gate, ...] = (self._gate,)

    @property
    def rate(self) -> float:
        """Calls a second; may be set while threads wait."""
        return self._gate.rate

    @rate.setter
    def rate(self, rate: float) -> None:
        with self._line.locked():
            self._gate.rate = checks.number("rate", rate, above=0, unit="calls a second")
            self._gate.leak.reschedule(self._gate.rate)
        self._line.changed(self._gate)

    @property
    def waiting(self) -> int:
        """How many threads wait."""
        return self._line.waiting(self._gate)

    def acquire(self, timeout: float | None = None) -> bool:
        """Waits until this call may start; False where that did not come within `timeout` seconds."""
        give_up_at = FOREVER if timeout is None else clock.current().now() + timeout
        try:
            self._line.enter(Request(self._gates), give_up_at=give_up_at)
        except Saturated:
            return False
        return True

    def try_acquire(self) -> bool:
        """Starts now or not at all."""
        return self.acquire(timeout=0)

    def __repr__(self) -> str:
        return f"LeakyBucket(rate={self.rate:g})"
