"""Callers of a simulated server, all at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from llm_guard.clock import Clock


def in_threads(clock: Clock, count: int, work: Callable[[int], object]) -> None:
    """Runs `work(0)` to `work(count - 1)` at once, until all are done."""
    done, ended = clock.waiter(), []

    def run(index: int) -> None:
        try:
            work(index)
        finally:
            ended.append(index)
            if len(ended) == count:
                done.set()

    for index in range(count):
        clock.spawn(partial(run, index), f"caller {index}")
    done.wait()
