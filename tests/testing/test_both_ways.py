"""The simulator tells the truth: the same server, the same stack and the same threads, simulated and over real HTTP.

Both servers are sped up alike. The stack has seconds of its own, so that to it a faster server is another one: that is
why the simulated one is as fast as the real one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import requests

from llm_guard import map_with_backpressure, ramp_up, retry, stack, timeout
from llm_guard.llm import huggingface
from llm_guard.testing.cold_server import cold_server_process
from llm_guard.testing.server import SCENARIOS
from llm_guard.testing.simulation import simulate

pytestmark = [pytest.mark.real, pytest.mark.figures]

THREADS = 64


class Seen(NamedTuple):
    """Added up over the seeds."""

    items: int
    answered: int
    calls: int
    seconds: float
    refused: int


def over_http(scenario: str, speed: float, items: int, seed: int) -> Seen:
    with cold_server_process(scenario, speed=speed, seed=seed) as url:
        call = huggingface("org/model", url=url)
        ask = stack(ramp_up(), retry(), timeout(SCENARIOS[scenario].timeout / speed))(call)

        def answer(number: int) -> bool:
            return ask(f"item {number}") == f"echo: item {number}"

        answers = list(map_with_backpressure(answer, range(items), workers=THREADS, ordered=False, on_error="return"))
        stats: dict[str, Any] = requests.get(url + "/stats", timeout=10).json()
    assert False not in answers, "an item got the answer of another"
    return Seen(items, answers.count(True), stats["calls"], stats["seconds"], sum(stats["refusals"].values()))


def simulated(scenario: str, speed: float, items: int, seed: int) -> Seen:
    run = simulate(scenario, seed=seed, items=items, threads=THREADS, speed=speed)
    return Seen(items, run.answered, run.server.calls, run.server.seconds, run.refused)


def added_up(seen: list[Seen]) -> Seen:
    items, answered, calls, seconds, refused = map(sum, zip(*seen, strict=True))
    return Seen(int(items), int(answered), int(calls), seconds, int(refused))


@pytest.mark.parametrize(("scenario", "speed", "items", "seeds"), [
    ("A", 8.0, 500, 1),  # loads, then has more and more places
    ("C", 6.0, 600, 1),
    ("F", 8.0, 1700, 1),  # so many that it grows weak and is gone meanwhile
    ("S", 5.0, 100, 3),
], ids=str)
def test_simulated_and_real_agree(scenario: str, speed: float, items: int, seeds: int) -> None:
    virtual = added_up([simulated(scenario, speed, items, seed) for seed in range(seeds)])
    real = added_up([over_http(scenario, speed, items, seed) for seed in range(seeds)])
    assert real.answered == virtual.answered == items * seeds
    assert real.calls / real.answered == pytest.approx(virtual.calls / virtual.answered, rel=0.05), (real, virtual)
    if scenario == "F":  # it lived through both
        assert min(real.seconds, virtual.seconds) > 160 / speed
