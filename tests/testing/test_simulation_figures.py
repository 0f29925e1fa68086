"""What a run's figures say, on runs made by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest

from llm_guard.testing.server import SCENARIOS
from llm_guard.testing.simulation import Item, Run, Spread, Summary, jain, markdown
from llm_guard.testing.virtual_server import Snapshot


def made(items: Sequence[Item], *, workload: str = "batch", deadline: float | None = None, best: float = 10.0,
         seconds: float = 10.0, calls: int = 0, refusals: dict[str, int] | None = None) -> Run:
    server = Snapshot(calls, 0, 0, 0, 0, refusals or {}, seconds, ())
    return Run(SCENARIOS["E"], workload, 0, deadline, best, seconds, tuple(items), (0.0,) * calls, server, ())


def answered(*, client: int = 0, offered: float = 0.0, called: float = 0.0, ended: float = 1.0) -> Item:
    return Item(client, offered, called, ended, 1, "echo")


def failed(*, client: int = 0, offered: float = 0.0, ended: float = 1.0) -> Item:
    return Item(client, offered, 0.5, ended, 8, None, TimeoutError)


def test_of_a_batch() -> None:
    run = made([answered(), answered(), answered(), failed()], calls=12, best=8.0, seconds=10.0,
               refusals={"limited": 3, "overload": 2})
    assert run.answered == 3
    assert run.success == 0.75
    assert run.calls_per_answer == 4.0  # what the failed item used counts too
    assert run.refused == 5
    assert run.against_best == 1.25


def test_online_an_answer_after_the_deadline_is_none() -> None:
    items = [answered(offered=5.0, ended=5.0 + late) for late in (1.0, 30.0, 30.001, 60.0)]
    run = made(items, workload="spike", deadline=30.0, best=4.0, seconds=1000.0, calls=6)
    assert run.answered == 2
    assert run.success == 0.5
    assert run.calls_per_answer == 3.0
    assert run.against_best == 0.5  # answers over answers: its seconds say nothing
    assert made(items, workload="arrivals", best=4.0).answered == 4


def test_where_nothing_was_answered_or_could_be() -> None:
    run = made([failed(), failed()], calls=4)
    assert (run.success, run.calls_per_answer) == (0.0, math.inf)
    assert math.isnan(run.wait())
    assert run.fairness() == 1.0
    assert made([failed()], workload="spike", best=0.0).against_best == 1.0


def test_the_wait_is_until_the_last_call_of_the_answered_alone() -> None:
    items = [answered(offered=10.0, called=10.0 + wait, ended=200.0) for wait in range(100, 0, -1)]
    run = made([*items, failed(offered=-1000.0)])
    assert [run.wait(share) for share in (0.0, 0.005, 0.01, 0.5, 0.501, 0.99, 1.0)] == [1, 1, 1, 50, 51, 99, 100]
    late = [answered(offered=0.0, called=50.0, ended=51.0), answered(called=2.0, ended=3.0)]
    assert made(late, workload="spike", deadline=30.0).wait(1.0) == 2.0


def test_fairness_counts_while_all_have_work() -> None:
    first = [answered(client=0, offered=0.0, ended=at) for at in (1.0, 2.0, 11.0, 12.0, 13.0, 20.0)]
    second = [answered(client=1, offered=10.0, ended=at) for at in (11.0, 25.0, 26.0, 27.0, 28.0)]
    # From 10 s, when the second one came, to 20 s, when the first one had all: 4 against 1.
    assert made([*first, *second]).fairness() == pytest.approx(jain([4, 1]))
    unanswered = [failed(client=1, offered=10.0, ended=12.0)]
    assert made([*first, *second, *unanswered]).fairness() == pytest.approx(jain([4, 1]))


def test_fairness_of_those_who_never_met_is_that_of_their_pace() -> None:
    slow = [answered(client=0, offered=0.0, ended=at) for at in (5.0, 10.0)]
    quick = [answered(client=1, offered=100.0, ended=at) for at in (101.0, 102.0)]
    assert made([*slow, *quick]).fairness() == pytest.approx(jain([0.2, 1.0]))


@pytest.mark.parametrize(("shares", "index"), [
    ([5.0], 1.0), ([3.0, 3.0, 3.0], 1.0), ([1.0, 0.0, 0.0, 0.0], 0.25), ([4.0, 1.0], 25 / 34), ([0.0, 0.0], 1.0)])
def test_jain_s_index(shares: list[float], index: float) -> None:
    assert jain(shares) == pytest.approx(index)


def test_many_runs_in_one_row_are_told_by_the_median_and_the_worst() -> None:
    batches = [made([answered(called=wait)] * good + [failed()] * (10 - good), calls=good * calls, seconds=seconds)
               for good, calls, seconds, wait in ((10, 1, 11.0, 3.0), (5, 3, 10.0, 1.0), (8, 2, 20.0, 2.0))]
    row = Summary.of(batches)
    assert (row.scenario, row.workload, row.seeds) == ("E", "batch", 3)
    assert row.success == Spread(0.8, 0.5)
    assert row.calls == Spread(2.0, 3.0)
    assert row.against_best == Spread(1.1, 2.0)
    assert row.wait == Spread(2.0, 3.0)
    # Online more is better.
    online = [made([answered()] * good, workload="spike", best=10.0) for good in (9, 10, 7)]
    assert Summary.of(online).against_best == Spread(0.9, 0.7)


def test_the_table() -> None:
    row = Summary.of([made([answered(called=1.5), failed()], calls=3, seconds=12.0)])
    assert markdown([row]).splitlines() == [
        "| server | answered | calls per answer | time / best | wait, 99th percentile |",
        "|---|---|---|---|---|",
        "| E | 50.0% (50.0%) | 3.000 (3.000) | 1.200 (1.200) | 1.5 s (1.5 s) |"]
    online = Summary.of([made([answered()], workload="spike", best=1.0, calls=1)])
    assert "| answers / best |" in markdown([online])
    assert row.as_dict()["calls"] == {"median": 3.0, "worst": 3.0}


def test_why_items_were_not_answered_over_the_seeds() -> None:
    other = Item(0, 0.0, 0.5, 1.0, 8, None, KeyError)
    late = answered(ended=31.0)
    runs = [made([answered(), failed(), other], deadline=30.0, workload="spike"),
            made([failed(), failed(), late], deadline=30.0, workload="spike")]
    assert runs[0].unanswered == {"TimeoutError": 1, "KeyError": 1}
    row = Summary.of(runs)
    assert list(row.unanswered.items()) == [("TimeoutError", 3), ("KeyError", 1), ("late", 1)]
    assert row.reasons() == "E: not answered in 2 runs: 3 TimeoutError, 1 KeyError, 1 late"
    assert Summary.from_dict(json.loads(json.dumps(row.as_dict()))).unanswered == row.unanswered
    assert Summary.of([made([answered()])]).reasons() is None


def test_figures_of_before_the_reasons_were_kept_can_be_read() -> None:
    figures = Summary.of([made([answered()], calls=1)]).as_dict()
    del figures["unanswered"]
    assert Summary.from_dict(figures) == Summary.of([made([answered()], calls=1)])
