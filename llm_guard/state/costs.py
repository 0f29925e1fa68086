"""The bounds on costs of one policy: one for all calls, or one for each key, all under the same settings."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple

from llm_guard import checks
from llm_guard.state.cost_gate import CostGate, Estimate
from llm_guard.state.keyed import Keyed, gates_of


class CostOptions(NamedTuple):
    """A bound on costs as the user asks for it: `ceiling` within any `per` seconds of what `estimate` says."""

    estimate: Estimate
    ceiling: float
    per: float


class Costs:
    """The bound on the costs of all calls, or of those of each key: `gate` is the one, or the family of at most `most`.

    A ceiling holds for keys to come too. Not thread-safe: all methods are called under the line's lock.
    """

    __slots__ = ("_name", "_options", "gate")

    def __init__(self, options: CostOptions, name: str, key: str | Callable[..., Hashable] | None, most: int) -> None:
        self._options = options
        self._name = name
        self.gate: CostGate | Keyed[CostGate] = (self._new_gate() if key is None
                                                 else Keyed(self._new_gate, key, most=most))

    @property
    def estimate(self) -> Estimate:
        """What a call will cost."""
        return self._options.estimate

    @property
    def ceiling(self) -> float:
        """What calls may cost, those of each key."""
        return self._options.ceiling

    def set_ceiling(self, ceiling: object) -> None:
        """Another one, of each key."""
        self._options = self._options._replace(ceiling=check_ceiling(ceiling))
        for gate in gates_of(self.gate):
            gate.limit.change(self.ceiling)

    def spent(self, now: float) -> float:
        """What the calls of the last period cost, of all keys, as far as is known."""
        return sum(gate.limit.spent(now) for gate in gates_of(self.gate))

    def spent_of(self, key: Hashable, now: float) -> float:
        """The same of one key."""
        gate = self.gate.known(key) if isinstance(self.gate, Keyed) else self.gate
        return 0.0 if gate is None else gate.limit.spent(now)

    def _new_gate(self) -> CostGate:
        return CostGate(*self._options, self._name)


def check_ceiling(ceiling: object) -> float:
    """What calls may cost, where it is a number above 0."""
    return checks.number("cost_ceiling", ceiling, above=0)
