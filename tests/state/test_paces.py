"""The paces of one policy, and its bounds on costs: their settings hold for keys to come."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest

from llm_guard.clock.virtual import VirtualClock
from llm_guard.errors import ConfigError
from llm_guard.state.cost_gate import CostGate, Estimate
from llm_guard.state.costs import CostOptions, Costs
from llm_guard.state.gate import Gate
from llm_guard.state.keyed import Keyed
from llm_guard.state.pace import Pace
from llm_guard.state.pace_door import PaceGate
from llm_guard.state.paces import Paces


def no_one_waits(gate: Gate) -> bool:
    return False


def paces(key: str | None = "model", ceiling: float | None = None) -> Paces:
    return Paces(partial(Pace, Random(1)), ceiling, "ramp_up", key, 8)


def pace_of(made: Paces, key: str) -> PaceGate:
    assert isinstance(made.gate, Keyed)
    return made.gate.of(key, no_one_waits)


def cost_of(made: Costs, key: str) -> CostGate:
    assert isinstance(made.gate, Keyed)
    return made.gate.of(key, no_one_waits)


def test_a_pause_holds_for_keys_to_come_until_it_ends() -> None:
    with VirtualClock() as clock:
        made = paces()
        first = pace_of(made, "first")
        made.pause(clock.now(), 30.0)
        clock.sleep(10.0)
        assert [gate.pace.ready_at(clock.now()) for gate in (first, pace_of(made, "second"))] == [30.0, 30.0]
        clock.sleep(20.0)
        assert pace_of(made, "third").pace.ready_at(clock.now()) == 30.0  # now


def test_after_a_resume_no_key_waits() -> None:
    with VirtualClock() as clock:
        made = paces()
        first = pace_of(made, "first")
        made.pause(clock.now(), 30.0)
        made.resume(clock.now())
        assert [gate.pace.ready_at(clock.now()) for gate in (first, pace_of(made, "second"))] == [0.0, 0.0]


def test_in_a_forked_child_nobody_is_paused() -> None:
    with VirtualClock() as clock:
        made = paces()
        made.pause(clock.now(), 30.0)
        made.after_fork()
        assert pace_of(made, "new").pace.ready_at(clock.now()) == 0.0


def test_a_ceiling_holds_for_each_key_and_for_those_to_come() -> None:
    with VirtualClock():
        made = paces(ceiling=5.0)
        first = pace_of(made, "first")
        made.ceiling = 2.0
        assert [gate.pace.ceiling for gate in (first, pace_of(made, "second"))] == [2.0, 2.0]


def test_a_ceiling_that_cannot_work_changes_nothing() -> None:
    with VirtualClock():
        made = paces(ceiling=5.0)
        first = pace_of(made, "first")
        with pytest.raises(ConfigError, match="ceiling"):
            made.ceiling = -1.0
        assert (made.ceiling, first.pace.ceiling) == (5.0, 5.0)


def test_without_a_key_there_is_one_pace() -> None:
    with VirtualClock() as clock:
        made = paces(key=None, ceiling=5.0)
        made.ceiling = 3.0
        made.pause(clock.now(), 7.0)
        assert isinstance(made.gate, PaceGate)
        assert (made.gate.pace.ceiling, made.gate.pace.ready_at(clock.now())) == (3.0, 7.0)


def test_a_bound_on_costs_is_that_of_each_key_and_of_those_to_come() -> None:
    made = Costs(CostOptions(Estimate("tokens"), 100.0, 60.0), "ramp_up", "model", 8)
    first = cost_of(made, "first")
    first.limit.start(0.0, 0.0, 40.0)
    cost_of(made, "second").limit.start(0.0, 0.0, 5.0)
    made.set_ceiling(50.0)
    assert [gate.limit.ceiling for gate in (first, cost_of(made, "third"))] == [50.0, 50.0]
    assert (made.ceiling, made.spent(0.0), made.spent_of("first", 0.0), made.spent_of("nobody", 0.0)) == (
        50.0, 45.0, 40.0, 0.0)


def test_without_a_key_there_is_one_bound_on_costs() -> None:
    made = Costs(CostOptions(Estimate("tokens"), 100.0, 60.0), "ramp_up", None, 8)
    assert isinstance(made.gate, CostGate)
    made.gate.limit.start(0.0, 0.0, 40.0)
    assert (made.spent(0.0), made.gate.name) == (40.0, "ramp_up")
    with pytest.raises(ConfigError, match="cost_ceiling"):
        made.set_ceiling(0)
