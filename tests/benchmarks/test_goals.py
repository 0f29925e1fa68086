"""What the tables of the benchmarks say of a row: short of its goal, beyond chance, at the cap."""

from __future__ import annotations

import math
from collections.abc import Iterator

import ablation
import figures
import pytest
import success_means
from figures import refused_calls, shared, steps_followed
from goals import Goal, mark
from side_by_side import Job
from success_means import Means

from llm_guard.testing.server import SCENARIOS
from llm_guard.testing.simulation import Spread, Summary

# figures.py

@pytest.mark.parametrize(("goals", "says"), [
    ([], ""), ([Goal(Spread(1.0, 1.1), most=1.1)], ""), ([Goal(Spread(1.0, 1.1), most=1.09)], " (worst seed short)"),
    ([Goal(Spread(1.0, 1.1), most=0.99)], " (short)"), ([Goal(Spread(0.9, 0.8), least=0.8)], ""),
    ([Goal(Spread(0.9, 0.79), least=0.8)], " (worst seed short)"), ([Goal(Spread(0.7, 0.6), least=0.8)], " (short)"),
    ([Goal(Spread(0.9, math.nan), least=0.8)], " (worst seed short)"),
    ([Goal(Spread(1.0, 1.0), most=2.0), Goal(Spread(1.0, 3.0), most=2.0)], " (worst seed short)"),
    ([Goal(Spread(1.0, 3.0), most=2.0), Goal(Spread(0.5, 0.5), least=0.9)], " (short)"),
])
def test_a_row_that_misses_a_goal_says_so(goals: list[Goal], says: str) -> None:
    assert mark(*goals) == says


def result(scenario: str = "E", success: float = 1.0, calls: float = 1.0, time: float = 1.0,
           workload: str = "batch") -> Summary:
    one = Spread(1.0, 1.0)
    return Summary(scenario, workload, 1, Spread(success, success), Spread(calls, calls), Spread(time, time), one, one)


def test_of_random_servers_the_worst_is_named_and_what_is_short_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Job] = []

    def summaries(jobs: list[Job]) -> Iterator[Summary]:
        asked.extend(jobs)
        yield from (result(job.scenario, 0.9 if number == 2 else 1.0, 1.0 + number / 100, 1.0 + number / 5)
                    for number, job in enumerate(jobs))

    monkeypatch.setattr(figures, "summaries", summaries)
    monkeypatch.setattr(figures, "scenario", lambda name: SCENARIOS["E"])
    row = list(figures.random_servers(4, 50))[-2]
    assert [(job.scenario, job.first_seed) for job in asked] == [(f"random-{seed}", seed) for seed in range(50, 54)]
    assert "| 4, random-50 and after | 3 (short), not on random-52 |" in row
    assert "| 1.015 / 1.030 (1.03 on random-53) |" in row
    assert "| 1.300 / 1.600 (short) (1.60 on random-53) |" in row


def test_the_rows_of_several_clients_are_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    def each(function: object, jobs: list[Job]) -> Iterator[figures.Shared]:
        assert function is shared
        assert {(job.seeds, job.first_seed) for job in jobs} == {(2, 7)}
        for job in jobs:
            slow = 1.2 if (job.scenario, job.clients) == ("A", 10) else 1.0
            unfair = 0.5 if job.scenario == "E" and job.apart else 0.9
            yield figures.Shared((1.0, 1.0), (1.0, 1.14 if job.scenario == "C" else 1.0), (100 * slow, 200 * slow),
                                 (unfair, 0.9))

    monkeypatch.setattr(figures, "each", each)
    rows = [line for line in figures.several_clients(2, 7) if line.startswith("| ")][1:]
    marks = {tuple(row.split(" | ")[:2]): row.rpartition("|")[0].rpartition("|")[2].strip() for row in rows}
    assert marks["| A", "2"] == ""
    assert marks["| A", "10"] == marks["| A", "10, 5 s apart"] == "(short)"
    assert marks["| C", "10"] == "(worst seed short)"
    assert marks["| E", "10"] == ""
    assert marks["| E", "10, 5 s apart"] == "(short)"
    assert "| 1.200 (1.200) |" in rows[1]


@pytest.mark.figures
def test_a_changed_limit_is_told_as_the_share_that_was_answered() -> None:
    [(up, down, refused)] = steps_followed(Job("C-steps", seeds=1))
    assert 0.5 < up <= 1.0
    assert 0.7 < down <= 1.05
    assert 0 < refused < 0.05
    assert refused_calls(Job("Q", seeds=1, items=300))[0] >= 1


# ablation.py

@pytest.mark.parametrize(("values", "differ"), [
    ([1.1, 1.2, 1.3], True), ([0.9, 1.2, 1.1], False), ([1.1, 1.2, 1.2], False), ([1.0, 1.1, 1.19], True),
    ([1.5, 1.12, 1.21], False)])
def test_a_difference_is_beyond_chance_where_it_shows_on_every_seed(values: list[float], differ: bool) -> None:
    assert ablation.differs(values, [1.01, 1.11, 1.2]) is differ
    assert not ablation.differs(values[:1], [2.0])


def test_the_ablation_compares_seed_by_seed_on_the_same_servers(monkeypatch: pytest.MonkeyPatch,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[Job] = []

    def summaries(jobs: list[Job]) -> Iterator[Summary]:
        asked.extend(jobs)
        for job in jobs:
            worse = 0.1 if job.without == ("window",) and job.scenario == "A" else 0.0
            yield result(job.scenario, calls=1.0 + worse + job.first_seed / 1000, workload=str(job.workload))

    monkeypatch.setattr(ablation, "summaries", summaries)
    monkeypatch.setattr(ablation, "PARTS", ["window", "single probe"])
    monkeypatch.setattr(ablation, "STACKS", {})
    monkeypatch.setattr("sys.argv", ["ablation.py", "--seeds", "3", "--first-seed", "4", "--servers", "2"])
    ablation.main()
    lines = capsys.readouterr().out.splitlines()
    whole, window, probe = [line for line in lines if line.startswith(("| (the", "| window", "| single"))]
    assert "**" not in whole + probe
    assert window.count("**") == 2
    assert "±0.0" in whole
    servers = [[job.scenario for job in asked if job.without == (part,)] for part in ("window", "single probe")]
    assert servers[0] == servers[1]
    assert [name for name in servers[0] if name.startswith("random-")] == [f"random-{seed}" for seed in range(8, 14)]


# success.py

def test_means_over_the_servers_say_where_calls_were_capped() -> None:
    mean = Means.of([result(time=2.0), result(calls=400.0, success=0.0), result(calls=math.inf, success=0.5)])
    assert mean == Means(0.5, pytest.approx(400 ** (1 / 3)), 2, 1, 3, None)
    assert Means.of([result(time=2.0), result(time=8.0)]).time == pytest.approx(4.0)
    lines = success_means.table({"pool": mean}, {"pool": "**pool**"})
    assert lines[2] == "| **pool** | 50.0% | 7.37 (2 at 20) | 1 of 3 |  |"
    assert "flatters" in lines[-1]
