"""The model of a server: what it does with calls that arrive at given instants."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from server_models import drain, model_of

from llm_guard.testing.server import SCENARIOS, Finished, Reason, Scenario, ServerModel, random_scenario
from llm_guard.testing.server.settings import BucketLimit, Load, Scaling, Slow, Spell, WarmUp, WindowLimit

STEADY = Scenario("steady", slots=2, median=1.0, sigma=0.0, queue=2)


def reasons(model: ServerModel, now: float, calls: Iterable[int]) -> list[Reason | None]:
    refusals = [model.arrive(now, call) for call in calls]
    return [refusal and refusal.reason for refusal in refusals]


def test_calls_wait_for_slots_first_in_first_out() -> None:
    model = model_of(STEADY)
    assert reasons(model, 0.0, range(4)) == [None] * 4
    ends = drain(model)
    assert [end.call for end in ends] == [0, 1, 2, 3]
    assert [end.at for end in ends] == pytest.approx([1.0, 1.0, 2.0, 2.0], abs=0.01)
    assert all(end.ok for end in ends)


def test_a_full_queue_refuses_without_a_hint_until_it_has_moved_up() -> None:
    model = model_of(STEADY)
    reasons(model, 0.0, range(4))
    refusal = model.arrive(0.5, 4)
    assert refusal == (Reason.OVERLOAD, None)
    # Who comes back at the very end of a call meets the queue as it was.
    assert reasons(model, 1.0, [5]) == [Reason.OVERLOAD]
    assert reasons(model, 1.1, [6, 7]) == [None, None]


def test_without_a_queue_a_free_slot_is_there_at_once() -> None:
    model = model_of(replace(STEADY, queue=0))
    assert reasons(model, 0.0, range(3)) == [None, None, Reason.OVERLOAD]
    assert reasons(model, 1.0, [3]) == [None]


def test_it_says_whether_it_would_serve_at_once() -> None:
    model = model_of(STEADY)
    model.arrive(0.0, 1)
    assert model.would_serve(0.0)
    model.arrive(0.0, 2)
    assert not model.would_serve(0.0)
    assert model.would_serve(1.5)


def test_nothing_loads_until_somebody_calls_and_estimates_are_off_by_a_factor_of_two_at_most() -> None:
    model = model_of(SCENARIOS["A"])
    assert model.is_cold(100.0)
    first = model.arrive(100.0, 0)
    assert first is not None
    assert first.reason is Reason.LOADING
    assert not model.is_cold(100.0)
    waits = []
    for call in range(1, 200):
        refusal = model.arrive(100.0 + call / 20, call)
        assert refusal is not None
        assert refusal.hint is not None
        waits.append((100.0 + call / 20, refusal.hint))
    assert reasons(model, 123.0, [1000]) == [None]
    for now, hint in waits:
        assert (118.0 - now) / 2 <= hint <= (122.0 - now) * 2


@pytest.mark.parametrize(("name", "low", "high"), [("A", 1.0, 1.0), ("A5", 0.6, 0.8), ("A-nohint", 0.0, 0.0)])
def test_a_share_of_the_estimates_is_absent(name: str, low: float, high: float) -> None:
    model = model_of(SCENARIOS[name])
    refusals = [model.arrive(0.0, call) for call in range(500)]
    assert low <= sum(refusal is not None and refusal.hint is not None for refusal in refusals) / 500 <= high


def test_calls_are_held_while_it_loads_up_to_a_hundred() -> None:
    model = model_of(SCENARIOS["B"])
    assert reasons(model, 0.0, range(101)) == [None] * 100 + [Reason.OVERLOAD]
    assert model.advance(17.9) == []
    assert sorted(end.call for end in drain(model)) == list(range(100))


def test_being_busy_adds_replicas_and_being_idle_unloads_them() -> None:
    scaling = Scaling(most=2)
    model = model_of(replace(STEADY, queue=None, load=Load(1.0, spread=0.0), scaling=scaling))
    model.arrive(0.0, 0)
    reasons(model, 1.0, range(1, 201))

    def served(start: float, end: float) -> int:
        model.advance(start)
        return len(model.advance(end))

    ordered = 1.0 + scaling.after
    assert served(5.0, ordered) == pytest.approx(2 * (ordered - 5.0), abs=2)
    joined = ordered + scaling.takes
    assert served(joined + 2.0, joined + 12.0) == pytest.approx(4 * 10.0, abs=4)
    last = drain(model)[-1].at
    assert model.would_serve(last + 59.0)
    assert model.is_cold(last + 61.0)
    # It comes back with the one replica that it began with.
    model.arrive(last + 61.0, 500)
    assert reasons(model, last + 63.0, range(501, 504)) == [None] * 3
    assert len(model.advance(last + 64.01)) == 2


def test_only_being_busy_without_a_break_adds_a_replica() -> None:
    model = model_of(replace(STEADY, queue=None, scaling=Scaling(most=2)))
    for burst in range(20):  # busy for 9 s, idle for 1 s
        reasons(model, 10.0 * burst, range(100 * burst, 100 * burst + 18))
    assert reasons(model, 200.0, range(9000, 9004)) == [None] * 4
    assert len(model.advance(201.5)) == 20 * 18 + 2


def test_a_refused_caller_who_waits_as_told_is_let_in() -> None:
    model = model_of(SCENARIOS["C"])
    assert reasons(model, 0.0, range(10)) == [None] * 10
    refusal = model.arrive(0.0, 10)
    assert refusal is not None
    assert refusal.hint is not None
    assert reasons(model, refusal.hint * 0.9, [11]) == [Reason.LIMITED]
    assert reasons(model, refusal.hint, [12]) == [None]


def test_where_refused_calls_cost_too_insisting_never_gets_in() -> None:
    model = model_of(SCENARIOS["C-cnt"])
    insisting = [model.arrive(call / 20, call) for call in range(2000)]
    assert all(refusal is not None and refusal.hint is None for refusal in insisting[20:])
    quiet = 2000 / 20 + 11 / 10  # from the floor to one token
    assert reasons(model, quiet, [2000]) == [None]


def test_a_window_lets_in_so_many_and_then_nobody_until_it_ends() -> None:
    model = model_of(SCENARIOS["C-win"])
    assert reasons(model, 20.0, range(601)) == [None] * 600 + [Reason.LIMITED]
    refusal = model.arrive(45.0, 601)
    assert refusal is not None
    assert refusal.hint == pytest.approx(15.0)
    assert reasons(model, 60.0, [602]) == [None]
    no_hint = model_of(SCENARIOS["C-win-nora"])
    assert [no_hint.arrive(0.0, call) for call in range(601)][-1] == (Reason.LIMITED, None)


def test_the_first_calls_of_a_cold_cache_are_slow() -> None:
    model = model_of(replace(STEADY, slots=1, warm_up=WarmUp(20)))
    times = []
    for call in range(60):
        start = 1000.0 * call
        model.arrive(start, call)
        times.append(drain(model)[0].at - start)
    assert times[0] == pytest.approx(10.0)
    assert times == sorted(times, reverse=True)
    assert times[-1] == pytest.approx(1.0, abs=0.01)


def test_a_spell_takes_capacity_away_and_an_outage_the_connection() -> None:
    model = model_of(replace(STEADY, slots=8, queue=None, spells=(Spell(10.0, 20.0, 0.25), Spell(30.0, 40.0))))
    reasons(model, 0.0, range(200))

    def served(start: float, end: float) -> int:
        model.advance(start)
        return len(model.advance(end))

    assert served(1.5, 9.5) == 64
    assert served(12.5, 18.5) == 12
    assert served(21.5, 23.5) == 16
    assert reasons(model, 30.0, [1000]) == [Reason.CONNECTION]
    assert reasons(model, 40.0, [1001]) == [None]


def test_traffic_may_grow_by_half_of_its_recent_mean() -> None:
    model = model_of(SCENARIOS["G"])
    accepted = []
    for step in range(12_000):
        now = step / 50
        if model.arrive(now, step) is None:
            accepted.append(now)
    tens = [sum(1 for at in accepted if start <= at < start + 10) for start in range(0, 240, 10)]
    assert max(tens[:5]) <= 20
    assert tens[-1] > 100
    for index in range(7, len(tens)):
        assert tens[index] <= max(20, 1.5 * sum(tens[index - 7:index]) / 6) + 1
    for name, hint in (("G", None), ("G-ra", 5.0)):
        fresh = model_of(SCENARIOS[name])
        assert [fresh.arrive(0.0, call) for call in range(21)] == [None] * 20 + [(Reason.GROWTH, hint)]


def test_capacity_wanders_the_same_way_whatever_the_traffic() -> None:
    def slots_seen(arrivals: int) -> list[float]:
        model = model_of(SCENARIOS["H"], seed=3)
        seen = []
        for second in range(0, 300, 5):
            for call in range(arrivals):
                model.arrive(second + 2.5, second * 1000 + call)
            model.advance(second + 2.5)
            seen.append(model._capacity.slots)
        return seen

    quiet, busy = slots_seen(1), slots_seen(80)
    assert quiet == busy
    assert len(set(quiet)) > 4
    assert min(quiet) >= 3
    assert max(quiet) <= 16


def test_a_share_of_the_calls_fails_and_a_share_is_slow() -> None:
    model = model_of(replace(STEADY, slots=math.inf, noise=0.1, slow=Slow(0.2, 3.0)))
    reasons(model, 0.0, range(2000))
    ends = drain(model)
    assert sum(not end.ok for end in ends) == pytest.approx(200, abs=60)
    assert {round(end.at, 6) for end in ends} == {1.0, 3.0}
    assert sum(end.at > 2 for end in ends) == pytest.approx(400, abs=80)


def test_how_long_services_take_does_not_depend_on_refused_calls() -> None:
    loading = replace(SCENARIOS["A"], slots=1)
    patient, pushing = model_of(loading), model_of(loading)
    patient.arrive(0.0, 0)
    reasons(pushing, 0.0, range(50))
    ends = []
    for model in (patient, pushing):
        reasons(model, 30.0, range(100, 110))
        ends.append([end.at for end in drain(model)])
    assert ends[0] == ends[1]


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.sampled_from(sorted(SCENARIOS)).map(SCENARIOS.__getitem__),
                 st.integers(0, 10_000).map(random_scenario)),
       st.lists(st.tuples(st.sampled_from([0.0, 0.01, 0.5, 7.0, 100.0]), st.integers(1, 60)), max_size=12),
       st.integers(0, 100))
def test_every_accepted_call_ends_once_and_the_counts_add_up(scenario: Scenario, bursts: list[tuple[float, int]],
                                                             seed: int) -> None:
    model = model_of(scenario, seed)
    now, calls = 0.0, 0
    accepted: dict[int, float] = {}
    ends: list[Finished] = []
    for gap, size in bursts:
        now += gap
        for _ in range(size):
            calls += 1
            if model.arrive(now, calls) is None:
                accepted[calls] = now
        ends += model.advance(now)
        stats = model.stats
        assert stats.calls == stats.successes + stats.failures + stats.in_flight + sum(stats.refusals.values())
        assert stats.in_flight == len(accepted) - len(ends)
    ends += drain(model)
    assert sorted(end.call for end in ends) == sorted(accepted)
    assert all(end.at > accepted[end.call] for end in ends)
    assert [end.at for end in ends] == sorted(end.at for end in ends)
    assert sum(sample[2] for sample in model.stats.timeline.samples) == model.stats.successes
    assert sum(sample[3] for sample in model.stats.timeline.samples) == sum(model.stats.refusals.values())
    assert max((sample[1] for sample in model.stats.timeline.samples), default=0) == model.stats.peak_in_flight


def test_the_timeline_stays_small_however_long_it_runs() -> None:
    model = model_of(STEADY)
    for hour in range(24 * 30):
        model.arrive(hour * 3600.0, hour)
    drain(model)
    samples = model.stats.timeline.samples
    assert len(samples) <= 2048
    assert sum(answered for _, _, answered, _ in samples) == 24 * 30
    width = model.stats.timeline.width
    assert [start for start, *_ in samples] == [index * width for index in range(len(samples))]


def test_limits_bound_the_capacity() -> None:
    assert replace(STEADY, limit=BucketLimit(1.5, 1.0)).capacity == 1.5
    assert replace(STEADY, limit=WindowLimit(30, 60.0)).capacity == 0.5
    assert replace(STEADY, scaling=Scaling(most=3)).capacity == 6.0
