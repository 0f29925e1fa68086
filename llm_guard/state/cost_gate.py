"""A bound on costs as a gate at the door. What an attempt will cost is read from its call's arguments beforehand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llm_guard import checks
from llm_guard.errors import ConfigError
from llm_guard.fork import renew_after_fork
from llm_guard.outcome import Kind
from llm_guard.state.cost import CostLimit, Spent
from llm_guard.state.gate import Ending, Request

#: Ends of attempts that cost nothing: no model has worked on them.
FREE = frozenset({Kind.LOADING, Kind.OVERLOAD, Kind.QUOTA, Kind.INVALID})


class Estimate:
    """What a call will cost: the name of a parameter that has it, or a function of the call's arguments. The cost
    itself comes with each `Request`."""

    option = "cost"

    def __init__(self, key: str | Callable[..., Any]) -> None:
        self.key = key

    @staticmethod
    def check(cost: object) -> None:
        """Refuses what is no cost. It may be an argument of the call, and is not shown."""
        try:
            checks.number("cost", cost, least=0)
        except ConfigError as wrong:
            raise ConfigError("cost", type(cost), f"{wrong.allowed}, for each call") from None


class CostGate:
    """At most `ceiling` within any `per` seconds, of what `estimate` says until the cost is known."""

    outlives = False

    def __init__(self, estimate: Estimate, ceiling: float, per: float, name: str) -> None:
        self.name = name
        self._estimate = estimate
        self.limit = CostLimit(ceiling, per)
        renew_after_fork(self)

    def after_fork(self) -> None:
        self.limit = CostLimit(self.limit.ceiling, self.limit.per)

    @property
    def in_flight(self) -> int:
        return self.limit.in_flight

    def ready_at(self, now: float, request: Request) -> float:
        return self.limit.ready_at(now, self._cost(request))

    def start(self, now: float, request: Request) -> Spent:
        return self.limit.start(now, request.since, self._cost(request))

    def end(self, now: float, permit: Spent, ending: Ending) -> None:
        outcome = ending.outcome
        self.limit.end(now, permit, 0.0 if outcome.kind in FREE else outcome.total_tokens)
        if outcome.remaining_tokens is not None and outcome.reset_tokens is not None:
            self.limit.tell(now, outcome.remaining_tokens, outcome.reset_tokens)

    def is_probe(self, permit: Spent) -> bool:
        return False

    def _cost(self, request: Request) -> float:
        assert request.keys is not None
        return request.keys[self._estimate]  # type: ignore[return-value]  # `Estimate.check` has seen it
