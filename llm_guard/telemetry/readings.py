"""What the policies of guarded functions show of themselves at this instant, as numbers for gauges."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from llm_guard.policies.bounded import BoundedStatistics
from llm_guard.policies.ramp_up import RampUpStatistics
from llm_guard.policies.timeout import TimeoutStatistics
from llm_guard.runtime.guarded import Guarded
from llm_guard.state import pace_story as pace
from llm_guard.state.circuit_state import CLOSED, HALF_OPEN, OPEN, CircuitSnapshot

#: The states of each policy that has any, by the policy's name. "mixed": of a pace with keys that differ.
STATES = {
    "breaker": (CLOSED, OPEN, HALF_OPEN),
    "ramp_up": (pace.COLD, pace.RAMPING, pace.STEADY, pace.HOLDING, pace.PAUSED, pace.EXHAUSTED, "mixed"),
}


@dataclass(frozen=True, slots=True)
class Metric:
    """Something that policies show: its name, what it means, and what tells its readings of one function apart."""

    name: str
    means: str
    labels: tuple[str, ...] = ()


STATE = Metric("state", "1 where the policy is in that state, else 0 (several processes: how many are).",
               ("policy", "state"))
RATE = Metric("pace_rate", "Attempts a second that @ramp_up lets start; infinite where it bounds none.")
WINDOW = Metric("pace_window", "Attempts in flight that @ramp_up lets there be.")
LIMIT = Metric("bounded_limit", "Attempts in flight that @bounded lets there be.")
WAITING = Metric("waiting", "Calls that wait at the door for this policy, perhaps among others.", ("policy",))
RUNNING = Metric("still_running", "Functions that ran out of @timeout and still run.")
METRICS = (STATE, RATE, WINDOW, LIMIT, WAITING, RUNNING)


class Reading(NamedTuple):
    """One number; `labels` are the values of the metric's labels."""

    metric: Metric
    function: str
    labels: tuple[str, ...]
    value: float


def read(functions: Iterable[Guarded[Any, Any]]) -> Iterator[Reading]:
    """All readings. What is the same for two functions of one name is added up."""
    sums: dict[tuple[Metric, str, tuple[str, ...]], float] = {}
    for function in functions:
        for metric, labels, value in _of(function):
            key = (metric, function.label, labels)
            sums[key] = sums.get(key, 0.0) + value
    for key, value in sums.items():
        yield Reading(*key, value)


def _of(function: Guarded[Any, Any]) -> Iterator[tuple[Metric, tuple[str, ...], float]]:
    for name, shown in function.statistics().items():
        match shown:
            case RampUpStatistics(pace=its, waiting=waiting):
                yield from _states(name, "ramp_up", its.state)
                yield RATE, (), math.inf if its.rate is None else its.rate
                yield WINDOW, (), its.window
                yield WAITING, (name,), waiting
            case BoundedStatistics():
                yield LIMIT, (), shown.limit
                yield WAITING, (name,), shown.waiting
            case CircuitSnapshot():
                yield from _states(name, "breaker", shown.state)
            case TimeoutStatistics():
                yield RUNNING, (), shown.still_running


def _states(name: str, policy: str, now: str) -> Iterator[tuple[Metric, tuple[str, ...], float]]:
    for state in STATES[policy]:
        yield STATE, (name, state), float(state == now)
