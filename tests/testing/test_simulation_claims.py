"""What the recommended stack reaches in virtual time, against the bounds that the law was built for.

A bound that does not hold is not moved: it is marked as failing, with what was measured. One seed stands where three
differ by less than what is left to the bound, three where chance could carry a run over it.
"""

from __future__ import annotations

from functools import cache
from statistics import median
from typing import Any, NamedTuple

import pytest

from llm_guard.testing.simulation import Arrivals, Run, simulate

pytestmark = pytest.mark.figures

ONE, THREE = (0,), (0, 1, 2)
EVERY = 0.999  # of the items at least


class Bound(NamedTuple):
    """The medians of the seeds: at most so many calls an answer, and so many times the best sender's time."""

    scenario: str
    calls: float
    time: float
    seeds: tuple[int, ...] = ONE
    short: str = ""  # by what it falls short


BATCHES = [
    Bound("A", 1.02, 1.08, THREE), Bound("A5", 1.02, 1.08), Bound("A90", 1.02, 1.08), Bound("A-nohint", 1.02, 1.08),
    Bound("B", 1.02, 1.08), Bound("B60", 1.02, 1.08),
    Bound("C", 1.02, 1.08, THREE), Bound("C-nora", 1.02, 1.08), Bound("C-win", 1.03, 1.05),
    Bound("C-win-nora", 1.03, 1.05), Bound("C-cnt", 1.03, 1.12, THREE),
    Bound("D", 1.01, 1.10), Bound("E", 1.01, 1.02), Bound("E2", 1.03, 1.03), Bound("F", 1.02, 1.03),
    Bound("G", 1.03, 1.30, THREE, "time 1.327 (of ten seeds 1.256)"), Bound("G-ra", 1.03, 1.40), Bound("H", 1.01, 1.02),
    Bound("S", 1.45, 1.5, THREE),
]


def held(bound: Bound) -> Any:
    marks = [pytest.mark.xfail(strict=True, reason=f"measured: {bound.short}")] if bound.short else []
    return pytest.param(bound, marks=marks, id=bound.scenario)


@cache
def alone(scenario: str, seed: int) -> Run:
    return simulate(scenario, seed=seed)


@pytest.mark.parametrize("bound", [held(bound) for bound in BATCHES])
def test_a_batch_is_answered_with_few_calls_and_in_little_time(bound: Bound) -> None:
    runs = [alone(bound.scenario, seed) for seed in bound.seeds]
    assert median(run.success for run in runs) >= EVERY
    assert median(run.calls_per_answer for run in runs) <= bound.calls
    assert median(run.against_best for run in runs) <= bound.time


# G is left out: 0.87, 0.82 and 0.72 of the best, where 0.85 was to be reached.
@pytest.mark.parametrize(("scenario", "share", "seeds"), [
    ("A", 0.92, THREE), ("B", 0.95, ONE), ("C", 0.90, THREE), ("D", 0.95, ONE), ("E", 0.95, ONE), ("E2", 0.95, THREE),
    ("F", 0.95, ONE), ("H", 0.95, ONE)])
def test_of_a_spike_most_that_can_be_answered_in_time_is(scenario: str, share: float, seeds: tuple[int, ...]) -> None:
    runs = [simulate(scenario, workload="spike", seed=seed) for seed in seeds]
    assert median(run.against_best for run in runs) >= share
    assert median(run.calls_per_answer for run in runs) <= 1.05


@pytest.mark.parametrize("scenario", ["A", "C", "E"])
def test_where_a_tenth_of_the_calls_fails_all_are_answered(scenario: str) -> None:
    run = simulate(scenario, noise=0.1)  # 1/0.9 = 1.11 calls are the least
    assert run.success == 1.0
    assert run.calls_per_answer <= 1.15


def test_servers_drawn_at_random() -> None:
    runs = [simulate(f"random-{seed}", seed=seed) for seed in range(40)]
    assert [run.scenario.name for run in runs if run.success < 1.0] == []
    calls = sorted(run.calls_per_answer * (1 - run.scenario.noise) for run in runs)
    time = sorted(run.against_best for run in runs)
    assert median(calls) <= 1.02
    assert calls[36] <= 1.15
    assert median(time) <= 1.10
    assert time[36] <= 1.40


# Weak spots, so without a bound on Jain's index: E 5 s apart (0.12 to 0.67: late ones take its queue for how long it
# always takes, and stay behind) and a server without a queue 5 s apart (0.35 to 0.41).
@pytest.mark.parametrize(("scenario", "apart", "time", "seeds", "fair"), [
    ("A", 0.0, 1.10, THREE, 0.8), ("A", 5.0, 1.10, THREE, 0.8),
    ("C", 0.0, 1.10, ONE, 0.8), ("C", 5.0, 1.10, THREE, 0.8),
    ("E", 0.0, 1.10, ONE, 0.8), ("E", 5.0, 1.10, ONE, None)])
def test_ten_clients_that_know_nothing_of_each_other(scenario: str, apart: float, time: float, seeds: tuple[int, ...],
                                                     fair: float | None) -> None:
    runs = [simulate(scenario, seed=seed, clients=10, apart=apart) for seed in seeds]
    assert all(run.success == 1.0 for run in runs)
    assert median(run.calls_per_answer for run in runs) <= 1.13
    assert median(run.seconds / alone(scenario, run.seed).seconds for run in runs) <= time
    if fair is not None:
        assert median(run.fairness() for run in runs) >= fair


def test_after_ten_idle_minutes_a_burst_loses_nothing() -> None:
    before = [0.2 * number for number in range(300)]
    burst = [660 + 0.02 * number for number in range(300)]
    run = simulate("A", workload=Arrivals([*before, *burst], deadline=None))
    assert [item.error for item in run.items if item.answer is None] == []
    assert sum(item.calls for item in run.items[300:]) <= 1.05 * 300
    # It was cold again: it loads for 18 to 22 s, and then works the burst off.
    assert min(item.ended for item in run.items[300:]) > 660 + 18


@pytest.mark.parametrize("seed", [*THREE, 107, 114])  # the last two once fell to bursts when a gate opened
def test_a_limit_that_changes_is_followed_without_a_hint(seed: int) -> None:
    run = simulate("C-steps-nora", seed=seed)  # 10 calls a second; 30 from 100 s on, 3 from 200 s on
    assert run.success == 1.0
    assert run.refused <= 0.02 * len(run.called_at)
    assert sum(item.answer is not None and 130 <= item.ended < 150 for item in run.items) >= 0.8 * 30 * 20
    assert sum(230 <= at < 250 for at in run.called_at) <= 1.2 * 3 * 20


@pytest.mark.parametrize("seed", THREE)
def test_a_limit_that_changes_is_followed(seed: int) -> None:
    run = simulate("C-steps", seed=seed)  # 10 calls a second; 30 from 100 s on, 3 from 200 s on
    assert run.success == 1.0
    assert run.refused <= 0.02 * len(run.called_at)
    answered = sum(item.answer is not None and 130 <= item.ended < 150 for item in run.items)
    assert answered >= 0.8 * 30 * 20
    refused = sum(sample[3] for sample in run.server.timeline if 230 <= sample[0] < 250)
    assert refused <= 0.05 * sum(230 <= at < 250 for at in run.called_at)


@pytest.mark.parametrize(("scenario", "time"), [("M", 1.05), ("M-told", 1.05), ("L", 1.5), ("L-told", 1.05)])
def test_answers_of_mixed_length_are_not_taken_for_queues(scenario: str, time: float) -> None:
    run = alone(scenario, 0)  # where tokens are told, latency is per token
    assert run.success == 1.0
    assert run.calls_per_answer <= 1.02
    assert run.against_best <= time


@pytest.mark.parametrize("seed", THREE)
def test_an_exhausted_account_is_hardly_called_any_more(seed: int) -> None:
    run = simulate("Q", seed=seed)  # 200 calls, of 3,000 items
    assert run.answered == 200
    assert run.server.refusals["quota"] <= 5
