"""Simulated runs side by side, one in each process: the clock is virtual, so that their neighbours do not matter."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TypeVar

from law_parts import without

from llm_guard.testing.simulation import Arrivals, Run, Strategy, Summary, recommended, simulate

#: What this project's own stack is called among the strategies.
OURS = "llm_guard"

J = TypeVar("J")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Job:
    """Runs of one strategy against one server, with the seeds from `first_seed` on; `without`: parts of the law that
    are taken out."""

    scenario: str
    strategy: str = OURS
    seeds: int = 3
    first_seed: int = 0
    workload: str | Arrivals = "batch"
    items: int | None = None
    noise: float | None = None
    clients: int = 1
    apart: float = 0.0
    without: tuple[str, ...] = ()


def each(function: Callable[[J], R], jobs: Sequence[J]) -> Iterator[R]:
    """What `function`, of a module, makes of each, in order, as they are done."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        yield from pool.map(function, jobs)


def summaries(jobs: Sequence[Job]) -> Iterator[Summary]:
    """What became of each, in order, as they are done."""
    return each(summary, jobs)


def summary(job: Job) -> Summary:
    """Runs one job here."""
    return Summary.of(runs(job))


def runs(job: Job) -> list[Run]:
    """The runs of a job, one a seed."""
    strategy = strategy_named(job.strategy)
    with without(*job.without):
        return [simulate(job.scenario, strategy, workload=job.workload, seed=seed, items=job.items, noise=job.noise,
                         clients=job.clients, apart=job.apart)
                for seed in range(job.first_seed, job.first_seed + job.seeds)]


def strategy_named(name: str) -> Strategy:
    """This project's stack, a variant of it, or one of the strategies beside it."""
    if name == OURS:
        return recommended
    from stacks import STACKS  # each where it is asked for: the strategies need libraries of their own

    if name in STACKS:
        return STACKS[name]
    from strategies import STRATEGIES

    return STRATEGIES[name]
