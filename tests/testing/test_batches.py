"""The main job in virtual time: 64 threads, 3,000 items, the five decorators, against servers that start cold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest import mock

import pytest

from llm_guard import bounded, breaker, ramp_up, retry, stack, timeout
from llm_guard.runtime.stack import Stack
from llm_guard.state.leak import CATCH_UP, Leak
from llm_guard.state.limiter import LimitGate
from llm_guard.state.pace import Pace, Start
from llm_guard.testing.server import Scenario, best_time, scenario
from llm_guard.testing.simulation import Run, Strategy, simulate
from llm_guard.testing.virtual_server import outcome_of

pytestmark = pytest.mark.figures

ITEMS, THREADS, LIMIT = 3000, 64, 48
SCENARIOS = ("A", "C", "E", "F")
EPSILON = 1e-9


@dataclass
class Seen:
    """What the gates did, move by move."""

    starts: list[tuple[float, float, float]] = field(default_factory=list)  # when, as from when, at which rate
    over_window: list[tuple[int, float]] = field(default_factory=list)
    most_at_once: int = 0
    started: int = 0
    ended: int = 0


@contextmanager
def watching() -> Iterator[Seen]:
    """Records each move of the bucket, the window and the limit, made by whichever state is in use."""
    seen = Seen()
    take, pace_start, pace_end, limit_start = Leak.take, Pace.start, Pace.end, LimitGate.start

    def watch_take(leak: Leak, now: float, since: float, rate: float) -> None:
        take(leak, now, since, rate)
        seen.starts.append((now, leak.next_start - 1 / rate, rate))

    def watch_start(pace: Pace, now: float, since: float | None = None) -> Start:
        before = pace.snapshot(now)
        if before.in_flight >= int(before.window):
            seen.over_window.append((before.in_flight, before.window))
        seen.started += 1
        return pace_start(pace, now, since)

    def watch_end(pace: Pace, *args: object, **kwargs: object) -> None:
        seen.ended += 1
        pace_end(pace, *args, **kwargs)  # type: ignore[arg-type]

    def watch_limit(gate: LimitGate, *args: object) -> None:
        limit_start(gate, *args)  # type: ignore[arg-type]
        seen.most_at_once = max(seen.most_at_once, gate.in_flight)

    with (mock.patch.object(Leak, "take", watch_take), mock.patch.object(Pace, "start", watch_start),
          mock.patch.object(Pace, "end", watch_end), mock.patch.object(LimitGate, "start", watch_limit)):
        yield seen


def five(server: Scenario) -> Stack:
    return stack(ramp_up(), bounded(LIMIT), retry(), timeout(server.timeout), breaker(), classify=outcome_of)


def run(name: str, seed: int, guard: Stack) -> Run:
    return simulate(name, Strategy(lambda setting: guard), seed=seed, items=ITEMS, threads=THREADS)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("name", SCENARIOS)
def test_all_are_answered_with_few_calls_and_in_little_time(name: str, seed: int) -> None:
    server = scenario(name)
    guard = five(server)
    with watching() as seen:
        batch = run(name, seed, guard)

    assert batch.answered == ITEMS
    assert batch.server.calls <= 1.05 * ITEMS
    assert batch.seconds <= 1.15 * best_time(server, seed, ITEMS, THREADS)
    # One end an item, and its own answer.
    assert len(batch.items) == ITEMS
    assert all(item.answer == f"echo: {index}" and item.error is None for index, item in enumerate(batch.items))
    assert sum(item.calls for item in batch.items) == len(batch.called_at) == batch.server.calls

    # Never more at once than allowed, and no permit lost.
    assert seen.most_at_once <= LIMIT
    assert seen.over_window == []
    assert seen.started == seen.ended == batch.server.calls
    left = guard.statistics()
    assert left["bounded"].in_flight == left["bounded"].waiting == left["ramp_up"].pace.in_flight == 0
    assert batch.server.in_flight == 0

    # The bucket: each start is counted from at most CATCH_UP before it, and those counts keep the rate's distance. So
    # in any window of w seconds at a rate r at most r * (w + CATCH_UP) + 1 calls start.
    for (_, before, rate), (now, counted, _) in zip(seen.starts, seen.starts[1:], strict=False):
        assert counted <= now + EPSILON
        assert counted >= now - CATCH_UP - EPSILON
        assert counted - before >= 1 / rate - EPSILON


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_same_seed_gives_the_same_trace(name: str) -> None:
    client = Strategy(lambda setting: five(setting.scenario))
    first, second, other = (simulate(name, client, seed=seed, items=400, shuffle=True) for seed in (3, 3, 4))
    assert (first.items, first.called_at, first.server) == (second.items, second.called_at, second.server)
    assert first.seconds == second.seconds
    assert first.called_at != other.called_at
