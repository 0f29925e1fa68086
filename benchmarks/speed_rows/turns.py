"""Subjects that take turns, round after round, so that what the machine does meets all of them alike."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from threading import Barrier, Thread
from typing import TypeVar

import timing
from timing import Seconds

T = TypeVar("T")


def in_turns(subjects: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """What each subject gives in each round; every other round goes backwards. Garbage collection is off within one."""
    found: dict[str, list[T]] = {name: [] for name in subjects}
    for number in range(rounds):
        gc.collect()
        gc.disable()
        try:
            for name in subjects if number % 2 == 0 else reversed(list(subjects)):
                found[name].append(subjects[name]())
        finally:
            gc.enable()
    return found


def ratio(values: Sequence[float], of: Sequence[float]) -> float:
    """The median of the ratios within one round."""
    return median(value / its for value, its in zip(values, of, strict=True))


def cpu(several: Sequence[Seconds]) -> list[float]:
    return [one.cpu for one in several]


def wall(several: Sequence[Seconds]) -> list[float]:
    return [one.wall for one in several]


def run_together(jobs: Sequence[Callable[[], object]], start: Callable[[], object] | None = None) -> Seconds:
    """Each job on a thread of its own, all beginning together, after `start`; what it took until all had ended."""
    ready = Barrier(len(jobs) + 1, start)

    def begin(job: Callable[[], object]) -> None:
        ready.wait()
        job()

    threads = [Thread(target=begin, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    ready.wait()
    began = timing.read()
    for thread in threads:
        thread.join()
    return began.passed()
