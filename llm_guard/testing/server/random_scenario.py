"""A server drawn from a seed, so that nothing is tuned to the named ones alone."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

from llm_guard.testing.server.settings import (
    BucketLimit,
    Load,
    Scaling,
    Scenario,
    Spell,
    WarmUp,
    WindowLimit,
)

_WINDOW = 10.0  # seconds of a fixed window: several fall into a run, which lasts about a minute


def random_scenario(seed: int) -> Scenario:
    """The server with that seed; its batch is 40 s of its capacity, within 150 and 1,500 items."""
    random = Random(f"scenario {seed}")
    median = math.exp(random.uniform(math.log(0.05), math.log(4.0)))
    load, scaling = _loading(random) if random.random() < 0.5 else (None, None)
    drawn = Scenario(
        name=f"random-{seed}",
        slots=random.choice((1, 2, 4, 6, 8, 12, 16, 32, 64)),
        median=median,
        sigma=random.choice((0.1, 0.3, 0.5, 0.8)),
        queue=random.choice((0, 2, 8, 16, 32, 64, None)),
        noise=random.choice((0.0, 0.0, 0.03, 0.1)),
        load=load,
        scaling=scaling,
        limit=_limit(random) if random.random() < 0.3 else None,
        warm_up=WarmUp(random.choice((50, 200))) if random.random() < 0.2 else None,
        spells=_spells(random),
        timeout=max(5.0, 12 * median),
    )
    return replace(drawn, items=round(min(1500, max(150, 40 * drawn.capacity))))


def _loading(random: Random) -> tuple[Load, Scaling | None]:
    load = Load(seconds=random.choice((2.0, 6.0, 15.0, 40.0)),
                holds=100 if random.random() < 0.4 else 0,
                estimate_absent=random.choice((0.0, 1.0, 0.3)))
    replicas = random.choice((1, 1, 2, 4))
    return load, Scaling(most=replicas) if replicas > 1 else None


def _limit(random: Random) -> BucketLimit | WindowLimit:
    rate = math.exp(random.uniform(0.0, math.log(60.0)))
    retry_after = random.random() < 0.5
    if random.random() < 0.5:
        return BucketLimit(rate, random.choice((1.0, 5.0, 20.0)), retry_after=retry_after)
    return WindowLimit(max(1, round(rate * _WINDOW)), _WINDOW, retry_after=retry_after)


def _spells(random: Random) -> tuple[Spell, ...]:
    spells = [Spell(30.0, 70.0, 0.25)] if random.random() < 0.15 else []
    if random.random() < 0.15:
        start = random.uniform(5.0, 40.0)
        spells.append(Spell(start, start + random.choice((5.0, 20.0))))
    return tuple(spells)
