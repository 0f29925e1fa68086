"""The model of a server: when work begins, and what becomes of calls whose callers have gone."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from server_models import drain, model_of

from llm_guard.testing.server import SCENARIOS, Finished, Scenario, ServerModel, Started, random_scenario

STEADY = Scenario("steady", slots=1, median=1.0, sigma=0.0)
_MOVES_UP = 0.001  # a slot that came free takes the next of the queue so much later


def model_with(scenario: Scenario, calls: int = 0) -> ServerModel:
    model = model_of(scenario)
    for call in range(calls):
        assert model.arrive(0.0, call) is None
    return model


def test_it_tells_when_work_begins_and_when_it_will_end() -> None:
    model = model_with(STEADY, calls=2)
    assert model.started() == [Started(0, 0.0, 1.0, True)]
    assert model.started() == []
    drain(model)
    assert model.started() == [Started(1, pytest.approx(1.0 + _MOVES_UP), pytest.approx(2.0 + _MOVES_UP), True)]


def test_who_leaves_the_queue_lets_the_others_up() -> None:
    model = model_with(STEADY, calls=3)
    model.leave(0.5, 1)
    assert (model.stats.in_flight, model.stats.abandoned) == (2, 1)
    assert [(end.call, end.at) for end in drain(model)] == [(0, 1.0), (2, pytest.approx(2.0 + _MOVES_UP))]


def test_who_leaves_while_it_is_worked_on_frees_its_slot() -> None:
    model = model_with(STEADY, calls=2)
    model.leave(0.25, 0)
    assert model.next_event() == 0.25 + _MOVES_UP
    assert [(end.call, end.at) for end in drain(model)] == [(1, pytest.approx(1.25 + _MOVES_UP))]


def test_an_end_that_had_come_stands() -> None:
    model = model_with(STEADY, calls=1)
    model.leave(1.0, 0)
    assert (model.stats.successes, model.stats.abandoned) == (1, 0)
    assert [end.call for end in model.advance(1.0)] == [0]
    model.leave(2.0, 0)
    assert (model.stats.in_flight, model.stats.abandoned) == (0, 0)


def test_a_server_that_all_have_left_is_idle() -> None:
    model = model_with(SCENARIOS["B"], calls=3)
    for call in range(3):
        model.leave(1.0, call)
    assert model.next_event() is None
    # It loads for 20 s or so, and unloads after 60 idle ones.
    assert not model.is_cold(60.0)
    assert model.is_cold(90.0)


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.sampled_from(sorted(SCENARIOS)).map(SCENARIOS.__getitem__),
                 st.integers(0, 10_000).map(random_scenario)),
       st.lists(st.tuples(st.sampled_from([0.0, 0.01, 0.5, 7.0, 100.0]), st.integers(1, 40), st.booleans()),
                max_size=12), st.randoms(use_true_random=False))
def test_each_accepted_call_ends_once_or_is_dropped_and_the_counts_add_up(
        scenario: Scenario, bursts: list[tuple[float, int, bool]], random: Random) -> None:
    model = model_with(scenario)
    now, calls = 0.0, 0
    inside: set[int] = set()
    ends: list[Finished] = []
    dropped: set[int] = set()
    for gap, size, leave in bursts:
        now += gap
        for _ in range(size):
            calls += 1
            if model.arrive(now, calls) is None:
                inside.add(calls)
        for end in model.advance(now):
            ends.append(end)
            inside.remove(end.call)
        for call in random.sample(sorted(inside), len(inside) // 2) if leave else ():
            model.leave(now, call)
            dropped.add(call)
            inside.remove(call)
        stats = model.stats
        assert stats.in_flight == len(inside)
        assert stats.abandoned == len(dropped)
        assert stats.calls == (stats.successes + stats.failures + stats.in_flight + stats.abandoned
                               + sum(stats.refusals.values()))
    ends += drain(model)
    assert not dropped & {end.call for end in ends}
    assert inside <= {end.call for end in ends}
    begun = {work.call: work for work in model.started()}
    assert all(begun[end.call].ends == end.at and begun[end.call].ok == end.ok for end in ends)
    assert model.stats.in_flight == 0
