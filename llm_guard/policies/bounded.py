"""`@bounded(n)`: at most n in flight; the others wait their turn."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from llm_guard import checks
from llm_guard.errors import ConfigError
from llm_guard.runtime.door import door
from llm_guard.runtime.keys import Key, check_key
from llm_guard.runtime.plan import Plan
from llm_guard.runtime.policy import Policy
from llm_guard.state.keyed import MOST, Keyed
from llm_guard.state.limiter import LimitGate


@dataclass(frozen=True, slots=True)
class BoundedStatistics:
    """How many are in flight, of at most `limit`; the most there were; how many wait for a place, perhaps among other
    things.

    With `per_key`, of all `keys` that are kept: `in_flight` and `waiting` are sums, `limit` and `peak` those of one key
    (the highest peak there is).
    """

    limit: int
    in_flight: int
    peak: int
    waiting: int
    keys: int = 1


class Bounded(Policy):
    """See `bounded`."""

    name = "bounded"
    live = ("n",)

    def __init__(self, n: int, max_wait: float | None, holds: str, per_key: Key | None, max_keys: int) -> None:
        if callable(n):
            raise ConfigError("n", n, "a whole number of at least 1: write @bounded(8), with the limit")
        self._limit = checks.whole("n", n, least=1)
        checks.whole("max_keys", max_keys, least=1)
        self._gate: LimitGate | Keyed[LimitGate] = self._new_gate()
        if per_key is not None:
            self._gate = Keyed(self._new_gate, check_key("per_key", per_key), option="per_key", most=max_keys)
        self._max_wait = checks.optional_number("max_wait", max_wait, least=0, unit="seconds")
        self._holds = checks.one_of("holds", holds, ("attempt", "call"))

    def join(self, plan: Plan, *, by_call: bool) -> None:
        (plan.call_gates if self._holds == "call" else plan.attempt_gates).append(self._gate)
        plan.wait_at_most(self._max_wait)

    @property
    def n(self) -> int:
        """The limit, with `per_key`: of each. It may be set at any time; a lower one takes nothing from those in
        flight."""
        return self._limit

    @n.setter
    def n(self, n: int) -> None:
        checks.whole("n", n, least=1)
        with door.locked():
            self._limit = n
            gates = self._gates()
            for gate in gates:
                gate.limit = n
        for gate in gates:
            door.changed(gate)

    def statistics(self) -> BoundedStatistics:
        with door.locked():
            gates = self._gates()
            return BoundedStatistics(self._limit, sum(gate.in_flight for gate in gates),
                                     max((gate.peak for gate in gates), default=0), sum(map(door.waiting, gates)),
                                     len(gates))

    def statistics_of(self, key: Hashable) -> BoundedStatistics:
        """Of one key. One that is not kept has none in flight."""
        if not isinstance(self._gate, Keyed):
            raise ConfigError("per_key", None, "given to bounded, where one key is asked for")
        with door.locked():
            gate = self._gate.known(key) or self._new_gate()
            return BoundedStatistics(self._limit, gate.in_flight, gate.peak, door.waiting(gate))

    def _new_gate(self) -> LimitGate:
        return LimitGate(self._limit, self.name)

    def _gates(self) -> list[LimitGate]:
        return self._gate.gates() if isinstance(self._gate, Keyed) else [self._gate]

    def __repr__(self) -> str:
        return f"bounded({self.n})"


def bounded(n: int, *, max_wait: float | None = None, holds: str = "attempt", per_key: Key | None = None,
            max_keys: int = MOST) -> Bounded:
    """At most `n` attempts in flight in this process, served first come, first served.

    `max_wait`: seconds that a call waits for a place before it is `Saturated` (None: as long as it takes). `holds`:
    "attempt" gives the place back between two attempts of one call; "call" keeps it from the first to the last, as a
    mutex does. An attempt that ran out of time keeps its place until its function has really ended.

    `per_key`: at most `n` for each key. It is a function that is called with the arguments of each call, or the name of
    a parameter, and gives what can be hashed: a tenant, a model, or "self" for a limit of each instance's own. The
    limits of at most `max_keys` keys are kept; only those that nobody holds or waits for give way. No key is ever shown
    in errors, events or logs.
    """
    return Bounded(n, max_wait, holds, per_key, max_keys)
