"""What is to be answered, and when it comes: all at once, or item by item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from llm_guard import checks
from llm_guard.errors import ConfigError
from llm_guard.testing.server import Scenario, ramp_arrivals, spike_arrivals

#: Seconds that an online request is of use.
DEADLINE = 30.0


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Requests that arrive at these instants, in seconds from the beginning, each on a thread of its own.

    `deadline`: seconds from its arrival in which an answer is of use (None: at any time).
    """

    instants: Sequence[float]
    deadline: float | None = DEADLINE


_NAMED: dict[str, Callable[[Scenario, int], Sequence[float]]] = {"ramp": ramp_arrivals, "spike": spike_arrivals}


def arrivals(workload: str | Arrivals, scenario: Scenario, seed: int, speed: float = 1.0) -> Arrivals | None:
    """The requests of a workload; None for "batch", which has all its items at once.

    "ramp": 300 s that grow from 0.2 to 1.2 of the capacity. "spike": 180 s at a quarter of it, tenfold from 60 to 90 s.
    Both are `speed` times as fast where the server is.
    """
    if isinstance(workload, Arrivals):
        if not isinstance(workload.instants, Sequence) or isinstance(workload.instants, str | bytes):
            raise ConfigError("instants", type(workload.instants).__name__, "a list or a tuple of seconds")
        if not workload.instants:
            raise ConfigError("instants", workload.instants, "at least one")
        for at in workload.instants:
            checks.number("instants", at, least=0, unit="seconds")
        for at, after in pairwise(workload.instants):
            if after < at:
                raise ConfigError("instants", after, f"in order: it comes after {at:g}")
        checks.optional_number("deadline", workload.deadline, above=0, unit="seconds")
        return workload
    checks.one_of("workload", workload, ("batch", *_NAMED))
    if workload not in _NAMED:
        return None
    return Arrivals([at / speed for at in _NAMED[workload](scenario, seed)], DEADLINE / speed)
