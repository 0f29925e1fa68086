"""`@bounded(n)`: at most n in flight; the others wait their turn."""

from __future__ import annotations

from dataclasses import dataclass

from llm_guard import checks
from llm_guard.errors import ConfigError
from llm_guard.runtime.door import door
from llm_guard.runtime.plan import Plan
from llm_guard.runtime.policy import Policy
from llm_guard.state.limiter import LimitGate


@dataclass(frozen=True, slots=True)
class BoundedStatistics:
    """How many are in flight, of at most `limit`; the most there were; how many wait for a place, perhaps among other
    things."""

    limit: int
    in_flight: int
    peak: int
    waiting: int


class Bounded(Policy):
    """See `bounded`."""

    name = "bounded"

    def __init__(self, n: int, max_wait: float | None, holds: str) -> None:
        if callable(n):
            raise ConfigError("n", n, "a whole number of at least 1: write @bounded(8), with the limit")
        self._gate = LimitGate(checks.whole("n", n, least=1), self.name)
        self._max_wait = checks.optional_number("max_wait", max_wait, least=0, unit="seconds")
        self._holds = checks.one_of("holds", holds, ("attempt", "call"))

    def join(self, plan: Plan, *, by_call: bool) -> None:
        (plan.call_gates if self._holds == "call" else plan.attempt_gates).append(self._gate)
        plan.wait_at_most(self._max_wait)

    @property
    def n(self) -> int:
        """The limit. It may be set at any time; a lower one takes nothing from those in flight."""
        return self._gate.limit

    @n.setter
    def n(self, n: int) -> None:
        self._gate.limit = checks.whole("n", n, least=1)
        door.changed(self._gate)

    def statistics(self) -> BoundedStatistics:
        gate = self._gate
        return BoundedStatistics(gate.limit, gate.in_flight, gate.peak, door.waiting(gate))

    def __repr__(self) -> str:
        return f"bounded({self.n})"


def bounded(n: int, *, max_wait: float | None = None, holds: str = "attempt") -> Bounded:
    """At most `n` attempts in flight in this process, served first come, first served.

    `max_wait`: seconds that a call waits for a place before it is `Saturated` (None: as long as it takes). `holds`:
    "attempt" gives the place back between two attempts of one call; "call" keeps it from the first to the last, as a
    mutex does. An attempt that ran out of time keeps its place until its function has really ended.
    """
    return Bounded(n, max_wait, holds)
