"""A bound on what calls cost: evenly, and never more within a period, whatever they turn out to cost."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_guard.state.cost import SLICES, CostLimit, Spent

CEILING, PER = 6000.0, 60.0  # 100 a second


def starts(limit: CostLimit, costs: list[float], now: float = 0.0) -> list[tuple[float, Spent]]:
    """Starts calls of these costs as soon as each may, and says when that was."""
    made = []
    for cost in costs:
        while (at := limit.ready_at(now, cost)) > now:
            now = at
        made.append((now, limit.start(now, now, cost)))
    return made


def most_within(calls: list[tuple[float, float]], seconds: float) -> float:
    """The most that calls cost that start within so many seconds."""
    return max(sum(cost for at, cost in calls if begin <= at < begin + seconds) for begin, _ in calls)


def test_calls_follow_one_another_as_soon_as_the_one_before_is_paid_for() -> None:
    at = [start for start, _ in starts(CostLimit(CEILING, PER), [100.0, 50.0, 200.0, 0.0, 10.0])]
    assert at == pytest.approx([0.0, 1.0, 1.5, 3.5, 3.5])


def test_what_was_not_spent_is_credited() -> None:
    limit = CostLimit(CEILING, PER)
    [(_, spent)] = starts(limit, [1000.0])
    limit.end(9.0, spent, 100.0)
    at = [start for start, _ in starts(limit, [600.0, 600.0, 600.0], now=10.0)]
    # 900 of 1,000 were not spent; all but 100 of those were paid for by then.
    assert at == pytest.approx([10.0, 10.0, 14.0])


def test_what_was_spent_beyond_the_estimate_is_paid_for_by_those_who_follow() -> None:
    limit = CostLimit(CEILING, PER)
    [(_, spent)] = starts(limit, [100.0])
    limit.end(0.5, spent, 700.0)
    assert limit.ready_at(1.0, 1.0) == pytest.approx(7.0)
    assert limit.spent(1.0) == 700.0


@pytest.mark.parametrize("settled", [False, True], ids=["as estimated", "less than estimated"])
@pytest.mark.parametrize("largest", [300.0, 1500.0])
def test_no_period_has_more_than_the_ceiling(largest: float, settled: bool) -> None:
    for seed in range(20):
        random = Random(seed)
        limit = CostLimit(CEILING, PER)
        calls: list[tuple[float, float]] = []
        under_way: list[tuple[float, Spent, float]] = []
        now = 0.0
        for _ in range(400):
            cost = random.choice((1.0, 30.0, 200.0, largest))
            while (at := limit.ready_at(now, cost)) > now:
                now = min([at, *(ends for ends, _, _ in under_way if ends > now)])
                for ends, spent, true in [each for each in under_way if each[0] <= now]:
                    limit.end(ends, spent, true)
                    under_way.remove((ends, spent, true))
            spent = limit.start(now, now, cost)
            true = cost * random.uniform(0.2, 1.0) if settled else cost
            under_way.append((now + random.uniform(0.1, 5.0), spent, true))
            calls.append((now, true))
        assert most_within(calls, PER) <= CEILING
        # Nor is more given away than what a large call has to wait for to fit.
        assert sum(cost for _, cost in calls) / now >= (0.9 - largest / CEILING) * CEILING / PER


def test_calls_that_start_together_cannot_overshoot_together() -> None:
    limit = CostLimit(CEILING, PER)
    first = limit.start(0.0, 0.0, 5000.0)
    assert limit.ready_at(0.0, 1001.0) > PER
    assert limit.ready_at(0.0, 1000.0) == pytest.approx(50.0)
    limit.end(1.0, first, 100.0)
    assert limit.spent(1.0) == 100.0
    assert limit.ready_at(51.0, 5900.0) == 51.0


def test_a_call_larger_than_the_ceiling_goes_alone() -> None:
    limit = CostLimit(CEILING, PER)
    at = [start for start, _ in starts(limit, [10.0, 9000.0, 10.0])]
    assert PER <= at[1] <= PER * (1 + 2 / SLICES)  # the period before it was empty
    assert at[2] == pytest.approx(at[1] + 9000 * PER / CEILING)


def test_what_the_server_says_is_left_is_kept_to() -> None:
    limit = CostLimit(CEILING, PER)
    first, _ = limit.start(0.0, 0.0, 100.0), limit.start(1.0, 1.0, 100.0)
    limit.end(10.0, first, 100.0)
    limit.tell(10.0, left=500.0, reset=30.0)  # it does not know of the second
    assert limit.ready_at(10.0, 400.0) == 10.0
    assert limit.ready_at(10.0, 600.0) == pytest.approx(12.0)  # it fills at 100 a second
    assert limit.ready_at(10.0, 5000.0) == 40.0  # it is full again by then at the latest
    limit.start(10.0, 10.0, 400.0)
    assert limit.ready_at(15.0, 300.0) == 15.0
    limit.tell(15.0, left=0.0, reset=1000.0)  # too far off to be believed
    assert limit.ready_at(15.0, 300.0) == 15.0


def test_another_ceiling_holds_at_once() -> None:
    limit = CostLimit(CEILING, PER)
    starts(limit, [1000.0])
    limit.change(12_000.0)
    assert limit.ready_at(0.0, 1.0) == pytest.approx(5.0)
    limit.change(600.0)
    assert limit.ready_at(0.0, 1.0) == pytest.approx(100.0, abs=1.1)


def test_an_end_long_after_the_period_changes_nothing() -> None:
    limit = CostLimit(CEILING, PER)
    [(_, spent)] = starts(limit, [100.0])
    assert limit.ready_at(500.0, 1.0) == 500.0
    limit.end(500.0, spent, 100_000.0)
    assert limit.ready_at(500.0, 1.0) == 500.0
    assert limit.under_way == 0.0


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 10_000), st.floats(0, 10_000), st.floats(0, 30)), max_size=60))
def test_it_is_always_known_when_to_come_back(calls: list[tuple[float, float, float]]) -> None:
    limit = CostLimit(CEILING, PER)
    now = 1000.0
    for cost, true, takes in calls:
        for _ in range(SLICES + 5):
            at = limit.ready_at(now, cost)
            assert at < now + 300 * PER
            if at <= now:
                break
            now = at
        else:
            pytest.fail("it is put off again and again")
        spent = limit.start(now, now, cost)
        now += takes
        limit.end(now, spent, true)
    assert limit.under_way == pytest.approx(0.0, abs=1e-6)


def test_what_has_ended_ends_once() -> None:
    limit = CostLimit(100.0, 60.0)
    spent = limit.start(0.0, 0.0, 10.0)
    limit.start(0.0, 0.0, 5.0)
    for _ in range(2):
        limit.end(1.0, spent, 20.0)
        assert (limit.in_flight, limit.under_way, limit.spent(1.0)) == (1, 5.0, 25.0)
