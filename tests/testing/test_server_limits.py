"""What a server does with an account: limits that change, quotas, what it tells of them; and calls of mixed length."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import fmean

import pytest
from server_models import model_of

from llm_guard.testing.server import (
    SCENARIOS,
    Left,
    Reason,
    Scenario,
    ServerModel,
    best_answers,
    best_time,
    random_scenario,
)
from llm_guard.testing.server.settings import BucketLimit, GrowthLimit, Load, Quota, Slow, WindowLimit

OPEN = Scenario("open", slots=math.inf, median=1.0, sigma=0.0)
# Of random-0, -1, -7 and -42: slots, median, queue, items; and the best seconds for 100 items.
DRAWN = [(12, 3.62706, 64, 150), (6, 1.574624, 2, 150), (12, 1.635005, 32, 292), (16, 0.19548, 0, 1500)]
BEST = [97.021595, 50.987121, 14.482808, 5.55142]


def accepted(model: ServerModel, start: float, end: float, every: float = 0.02) -> int:
    """How many of the calls that insist from `start` until `end` are let in."""
    count = round((end - start) / every)
    return sum(model.arrive(start + call * every, call) is None for call in range(count))


# Limits that change


def test_a_bucket_s_rate_changes_at_its_times() -> None:
    model = model_of(SCENARIOS["C-steps"])
    assert accepted(model, 0.0, 100.0) == pytest.approx(10 * 100 + 10, abs=2)
    assert accepted(model, 100.0, 200.0) == pytest.approx(30 * 100, abs=2)
    assert accepted(model, 200.0, 400.0) == pytest.approx(3 * 200, abs=2)


def test_a_bucket_fills_at_the_rate_of_each_moment_even_when_nobody_looks() -> None:
    model = model_of(replace(OPEN, limit=BucketLimit(10.0, 20.0, changes=((100.0, 30.0), (101.0, 1.0)))))
    assert accepted(model, 99.9, 99.9 + 1e-6, every=1e-7) == 10
    assert accepted(model, 99.9, 99.9 + 1.4e-6, every=1e-7) == 10
    assert [model.arrive(100.1, call) is None for call in range(6)] == [True] * 4 + [False] * 2


@pytest.mark.parametrize("now", [50.0, 150.0, 250.0])
def test_who_waits_as_told_is_in_time_at_each_rate(now: float) -> None:
    model = model_of(SCENARIOS["C-steps"])
    for call in range(11):
        refusal = model.arrive(now, call)
    assert refusal is not None
    assert refusal.hint is not None
    assert model.arrive(now + 0.9 * refusal.hint, 11) is not None
    assert model.arrive(now + refusal.hint, 12) is None


def test_a_change_is_not_foretold() -> None:
    model = model_of(SCENARIOS["C-steps"])
    for call in range(11):
        refusal = model.arrive(199.99, call)
    assert refusal == (Reason.LIMITED, pytest.approx(1 / 30))
    model = model_of(SCENARIOS["C-steps-nora"])
    assert [model.arrive(199.99, call) for call in range(11)][-1] == (Reason.LIMITED, None)


def test_a_window_s_calls_change_at_their_times_within_a_window_too() -> None:
    model = model_of(replace(OPEN, limit=WindowLimit(10, 60.0, changes=((30.0, 25), (120.0, 4)))))
    assert accepted(model, 0.0, 30.0) == 10
    assert accepted(model, 30.0, 60.0) == 15
    assert accepted(model, 60.0, 120.0) == 25
    assert accepted(model, 120.0, 240.0) == 8


# Quotas


def test_a_quota_counts_accepted_calls_and_refuses_all_after_them() -> None:
    quota = Quota(20, retry_after=7.0)
    model = model_of(replace(OPEN, quota=quota, limit=BucketLimit(1.0, 10.0, retry_after=False)))
    for call in range(15):
        model.arrive(0.0, call)
    assert model.stats.refusals[Reason.LIMITED] == 5
    assert not model.is_used_up()
    assert accepted(model, 10.0, 20.0, every=0.5) == 10
    assert model.is_used_up()
    assert not model.would_serve(100.0)
    # It is told before a limit on the rate would be.
    assert [model.arrive(20.0, call) for call in range(3)] == [(Reason.QUOTA, 7.0)] * 3
    assert model.arrive(1e9, 99) == (Reason.QUOTA, 7.0)


def test_a_quota_is_renewed_some_time_after_it_was_used_up() -> None:
    model = model_of(replace(OPEN, quota=Quota(2, renews_after=50.0)))
    assert [model.arrive(now, 0) for now in (0.0, 30.0)] == [None, None]
    assert [model.arrive(now, 1) for now in (30.0, 79.9)] == [(Reason.QUOTA, None)] * 2
    assert not model.is_used_up()
    assert [model.arrive(80.0, call) for call in range(3)] == [None, None, (Reason.QUOTA, None)]


def test_a_used_up_account_loads_no_model() -> None:
    model = model_of(replace(OPEN, quota=Quota(0), load=Load(10.0)))
    assert model.arrive(0.0, 0) == (Reason.QUOTA, None)
    assert model.is_cold(1.0)


def test_the_best_sender_ends_with_its_quota_and_waits_for_a_new_one() -> None:
    q, e = SCENARIOS["Q"], SCENARIOS["E"]
    assert best_time(q, 1) == pytest.approx(best_time(e, 1, items=200))
    assert best_answers(q, 1, [call / 5 for call in range(300)]) == 200
    renewing = replace(q, quota=Quota(200, renews_after=100.0))
    twice = best_time(renewing, 1, items=400)
    assert 2 * best_time(e, 1, items=200) + 95 < twice < 2 * best_time(e, 1, items=200) + 105
    # Calls that an accepted call's failure leaves over are dropped too.
    assert best_time(replace(q, noise=0.2), 1) < 20.0


# What is left


def test_a_window_tells_what_is_left_of_it_and_when_it_ends() -> None:
    model = model_of(SCENARIOS["C-left"])
    assert model.left(0.0) == Left(600, 60.0)
    assert [model.arrive(15.0, call) for call in range(100)] == [None] * 100
    assert model.left(15.0) == Left(500, 45.0)
    accepted(model, 20.0, 40.0)
    assert model.left(40.0) == Left(0, 20.0)
    assert model.left(60.0) == Left(600, 60.0)
    shrinking = model_of(replace(OPEN, limit=WindowLimit(10, 60.0, changes=((30.0, 4),), remaining=True)))
    assert accepted(shrinking, 0.0, 1.0) == 10
    assert shrinking.left(30.0) == Left(0, 30.0)


def test_a_bucket_tells_what_it_holds_and_when_it_is_full() -> None:
    model = model_of(replace(OPEN, limit=BucketLimit(2.0, 10.0, changes=((100.0, 4.0),), remaining=True)))
    assert model.left(0.0) == Left(10, 0.0)
    assert [model.arrive(1.0, call) for call in range(9)] == [None] * 9
    assert model.left(1.0) == Left(1, 4.5)
    assert model.left(1.4) == Left(1, pytest.approx(4.1))
    assert model.left(1.5) == Left(2, pytest.approx(4.0))
    accepted(model, 100.0, 110.0)
    full = model.left(110.0)
    assert full is not None
    assert full.seconds == pytest.approx(2.5, abs=0.3)


def test_a_bucket_that_is_overdrawn_has_nothing_left() -> None:
    model = model_of(replace(OPEN, limit=BucketLimit(1.0, 2.0, refused_cost=1.0, remaining=True)))
    for call in range(6):
        model.arrive(0.0, call)
    assert model.left(0.0) == Left(0, 6.0)


@pytest.mark.parametrize("name", ["A", "C", "C-win", "C-steps", "Q"])
def test_others_tell_nothing(name: str) -> None:
    model = model_of(SCENARIOS[name])
    model.arrive(0.0, 0)
    assert model.left(1.0) is None


def test_to_tell_changes_nothing() -> None:
    def hints(limit: BucketLimit | WindowLimit) -> list[float | None]:
        model = model_of(replace(OPEN, limit=limit))
        found = []
        for step in range(1000):
            refusal = model.arrive(step * 0.05, step)
            found.append(refusal and round(refusal.hint or 0.0, 6))
            model.left(step * 0.05 + 0.025)
        return found

    assert hints(BucketLimit(3.0, 7.0)) == hints(BucketLimit(3.0, 7.0, remaining=True))
    assert hints(WindowLimit(30, 10.0)) == hints(WindowLimit(30, 10.0, remaining=True))


# Growth, lengths, and the rest


def test_growth_is_refused_alike_whether_it_is_told_or_not() -> None:
    ends = []
    for name in ("G", "G-told"):
        model = model_of(SCENARIOS[name])
        ends.append([model.arrive(step / 20, step) for step in range(2000)])
    assert ends[0] == ends[1]
    assert (Reason.GROWTH, None) in ends[0]
    assert SCENARIOS["G-told"].growth == GrowthLimit(told=True)


def lengths_of(scenario: Scenario, count: int) -> list[float]:
    model = model_of(replace(scenario, slots=math.inf))
    for call in range(count):
        model.arrive(0.0, call)
    return [end.at for end in model.advance(1e9)]


def test_a_share_of_the_calls_takes_so_many_times_as_long() -> None:
    seconds = lengths_of(replace(SCENARIOS["M"], sigma=0.0), 4000)
    assert {round(each, 6) for each in seconds} == {0.5, 2.0, 6.0}
    assert seconds.count(0.5) / 4000 == pytest.approx(0.5, abs=0.03)
    assert sum(each > 5 for each in seconds) / 4000 == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("scenario", [
    SCENARIOS["M"], replace(OPEN, lengths=((0.5, 3.0),)), replace(OPEN, lengths=((0.5, 3.0),), slow=Slow(0.2, 9.0)),
    replace(OPEN, lengths=((0.25, 0.0), (0.75, 2.0)))])
def test_the_mean_service_counts_the_lengths(scenario: Scenario) -> None:
    assert fmean(lengths_of(scenario, 20_000)) == pytest.approx(scenario.mean_service, rel=0.03)


def test_the_capacity_is_that_of_the_beginning() -> None:
    assert SCENARIOS["C-steps"].capacity == SCENARIOS["C-steps-nora"].capacity == 10.0
    assert replace(OPEN, limit=WindowLimit(30, 60.0, changes=((9.0, 60),))).capacity == 0.5
    assert SCENARIOS["Q"].capacity == SCENARIOS["E"].capacity
    assert SCENARIOS["M"].capacity == pytest.approx(8 / (0.5 * math.exp(0.045) * 4.1))
    assert best_time(SCENARIOS["M"], 1) == pytest.approx(3000 / SCENARIOS["M"].capacity, rel=0.03)


def test_the_best_sender_follows_a_limit_that_changes() -> None:
    # 10 + 1,000 calls until 100 s, 3,000 until 200 s, and the 290 that are left at 3 a second.
    assert best_time(SCENARIOS["C-steps"], 1) == pytest.approx(200 + 290 / 3, abs=3)
    assert best_time(SCENARIOS["C-left"], 1) == best_time(SCENARIOS["C-win"], 1)


def test_the_servers_that_were_there_stay_as_they_are() -> None:
    assert list(SCENARIOS) == [
        "A", "A5", "A90", "A-nohint", "B", "B60", "C", "C-nora", "C-cnt", "C-win", "C-win-nora", "D", "E", "E2", "F",
        "G", "G-ra", "H", "S", "C-steps", "C-steps-nora", "C-left", "Q", "E-noqueue", "M",
        "M-told", "L", "L-told", "G-told"]
    drawn = [random_scenario(seed) for seed in (0, 1, 7, 42)]
    assert [(server.slots, round(server.median, 6), server.queue, server.items) for server in drawn] == DRAWN
    assert [round(best_time(server, 3, items=100), 6) for server in drawn] == BEST
