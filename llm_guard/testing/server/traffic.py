"""When requests arrive at a service that calls a server online: Poisson processes whose rate follows its capacity."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from llm_guard.testing.server.settings import Scenario


def ramp_arrivals(scenario: Scenario, seed: int) -> list[float]:
    """300 s that grow from 0.2 to 1.2 of the capacity; instants in seconds."""
    return _poisson(lambda at: scenario.capacity * (0.2 + at / 300), scenario.capacity * 1.2, 300.0, seed)


def spike_arrivals(scenario: Scenario, seed: int) -> list[float]:
    """180 s at 0.25 of the capacity, but tenfold from 60 to 90 s; instants in seconds."""
    usual = 0.25 * scenario.capacity
    return _poisson(lambda at: 10 * usual if 60 <= at < 90 else usual, 10 * usual, 180.0, seed)


def _poisson(rate: Callable[[float], float], most: float, until: float, seed: int) -> list[float]:
    """Drawn at the highest rate and thinned: Lewis and Shedler, 1979."""
    random = Random(f"traffic {seed}")
    arrivals: list[float] = []
    at = random.expovariate(most)
    while at < until:
        if random.random() * most < rate(at):
            arrivals.append(at)
        at += random.expovariate(most)
    return arrivals
