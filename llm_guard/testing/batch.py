"""The main job in virtual time: a batch through the real decorators and threads, against a simulated server."""

from __future__ import annotations

from dataclasses import dataclass

from llm_guard.clock.virtual import VirtualClock
from llm_guard.events import AttemptEnded, AttemptStarted, Event
from llm_guard.mapping.mapping import map_with_backpressure
from llm_guard.mapping.result import Result
from llm_guard.policies.ramp_up import ramp_up
from llm_guard.policies.retry import retry
from llm_guard.policies.timeout import timeout
from llm_guard.runtime.stack import Stack, stack
from llm_guard.testing.server import Scenario
from llm_guard.testing.virtual_server import Snapshot, VirtualServer, outcome_of


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of a batch.

    `seconds` is its virtual time, `calls` the attempts that reached the server, as the server counts them. `trace` has
    each start and end of an attempt as (instant, kind of the end or "start").
    """

    seed: int
    answered: int
    calls: int
    seconds: float
    results: tuple[Result[int, str], ...]
    server: Snapshot
    trace: tuple[tuple[float, str], ...]


def recommended(scenario: Scenario) -> Stack:
    """The stack that the figures are for: a pace, a retry, and the scenario's timeout for each attempt."""
    return stack(ramp_up(), retry(), timeout(scenario.timeout), classify=outcome_of)


def run_batch(scenario: Scenario, seed: int, *, items: int, workers: int = 64, guard: Stack | None = None,
              shuffle: bool = False) -> Batch:
    """Sends `items` items on `workers` threads to a fresh server; `guard` None: the recommended stack.

    With `shuffle`, threads that could run at the same instant do so in an order drawn from the seed.
    """
    trace: list[tuple[float, str]] = []

    def record(event: Event) -> None:
        if isinstance(event, AttemptStarted):
            trace.append((event.at, "start"))
        elif isinstance(event, AttemptEnded):
            trace.append((event.at, event.kind.value))

    with VirtualClock(seed, shuffle=shuffle) as clock:
        server = VirtualServer(scenario, seed)
        call = (guard or recommended(scenario))(server.call)
        call.on_event(record)
        results = tuple(map_with_backpressure(call, range(items), workers=workers, on_error="return", results=True))
        seconds = clock.now()
        seen = server.stats()
    return Batch(seed, sum(result.error is None for result in results), seen.calls, seconds, results, seen,
                 tuple(trace))
