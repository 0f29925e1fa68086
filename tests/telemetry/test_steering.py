"""The controller behind `steer`, alone: told the time, a measure and the pace."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from llm_guard.telemetry.steering import Aim, Seen, Steering

AIM = Aim(target=2.0, window=60.0)


@dataclass
class Looks:
    """Looks every 10 s at calls that start at a rate, and have a measure."""

    aim: Aim = AIM
    ceiling: float | None = 10.0
    rate: Callable[[float | None], float] = field(default=lambda ceiling: ceiling or 10.0)
    now: float = 0.0
    started: float = 0.0
    latency: float | None = 1.0
    state: str = "steady"

    def __post_init__(self) -> None:
        self.steering = Steering(self.aim)
        self.moves: list[tuple[float, float]] = []
        self._look(None)

    def _look(self, measure: float | None) -> None:
        seen = Seen(self.ceiling, int(self.started), self.state, self.latency)
        self.steering.look(self.now, seen)
        new = None if measure is None else self.steering.step(self.now, measure, seen)
        if new is not None:
            self.moves.append((self.now, new / self.ceiling if self.ceiling else new))
            self.ceiling = new

    def go(self, seconds: float, measure: float | Callable[[float | None], float] | None) -> None:
        until = self.now + seconds
        while self.now < until:
            self.started += 10 * self.rate(self.ceiling)
            self.now += 10
            self._look(measure(self.ceiling) if callable(measure) else measure)


@pytest.mark.parametrize(("measure", "factor"), [
    (2.5, 0.8), (20.0, 0.7), (2.1, None), (2.0, None), (1.9, None), (1.75, 8 / 7), (0.1, 1.2)])
def test_one_step_is_proportional_within_its_bounds_and_none_within_the_tolerance(measure: float,
                                                                                 factor: float | None) -> None:
    looks = Looks()
    looks.go(70, measure)
    assert [move for _, move in looks.moves] == ([] if factor is None else [pytest.approx(factor)])


@pytest.mark.parametrize("measure", [20.0, 0.1], ids=["down", "up"])
def test_between_two_steps_the_window_and_a_call_pass(measure: float) -> None:
    looks = Looks(latency=25.0)
    looks.go(400, measure)
    instants = [at for at, _ in looks.moves]
    assert instants[0] == 90  # at first, too: what was before says nothing
    assert {later - earlier for earlier, later in pairwise(instants)} == {90}


def test_the_ceiling_is_not_raised_while_calls_run_below_it() -> None:
    looks = Looks(rate=lambda ceiling: 5.0)
    looks.go(3600, 0.5)
    assert not looks.moves
    assert "not what limits" in looks.steering.why
    looks.rate = lambda ceiling: ceiling or 0.0
    looks.go(140, 0.5)
    assert looks.moves[0][1] == pytest.approx(1.2)


def test_no_ceiling_is_set_while_the_measure_is_below_the_target() -> None:
    looks = Looks(ceiling=None)
    looks.go(3600, 0.5)
    assert looks.ceiling is None


def test_without_a_ceiling_the_first_step_goes_down_from_the_rate_that_calls_have() -> None:
    looks = Looks(ceiling=None, rate=lambda ceiling: min(40.0, ceiling or 40.0))
    looks.go(70, 20.0)
    assert looks.ceiling == pytest.approx(40 * 0.7)


def test_a_ceiling_far_above_the_calls_comes_down_in_bounded_steps_without_waiting_for_what_cannot_show() -> None:
    looks = Looks(ceiling=1000.0, rate=lambda ceiling: min(15.0, ceiling or 15.0))
    looks.go(250, 20.0)
    assert all(move == pytest.approx(0.7) for _, move in looks.moves)
    assert 5 < (looks.ceiling or 0) < 15
    first_that_binds = next(at for at, _ in looks.moves if at >= 70 + 10 * math.ceil(math.log(1000 / 15, 1 / 0.7)) - 10)
    assert first_that_binds < 200


def test_it_stays_between_least_and_most() -> None:
    looks = Looks(Aim(target=2.0, least=4.0, most=12.0))
    looks.go(3600, 20.0)
    assert looks.ceiling == 4.0
    assert "least" in looks.steering.why
    looks.go(3600, 0.5)
    assert looks.ceiling == 12.0
    assert "most" in looks.steering.why


def test_where_calls_hardly_overlap_the_rate_is_not_to_blame() -> None:
    looks = Looks(ceiling=50.0, rate=lambda ceiling: 0.2, latency=3.0)
    looks.go(3600, 20.0)
    assert not looks.moves
    looks = Looks(ceiling=50.0, latency=3.0)  # where they do, it goes down to one call at a time
    looks.go(36000, 20.0)
    assert looks.ceiling == pytest.approx(1 / 3, rel=0.01)


@pytest.mark.parametrize("state", ["cold", "paused", "exhausted"])
def test_a_pace_that_is_cold_or_paused_is_left_alone_and_for_a_window_after(state: str) -> None:
    looks = Looks(state=state)
    looks.go(600, 20.0)
    assert not looks.moves
    assert state in looks.steering.why
    looks.state = "ramping"
    looks.go(50, 20.0)
    assert not looks.moves
    looks.go(20, 20.0)
    assert len(looks.moves) == 1


def test_a_pace_that_the_server_refuses_is_not_lowered_on_top() -> None:
    looks = Looks(state="holding")
    looks.go(600, 20.0)
    assert not looks.moves


def test_a_ceiling_that_was_set_by_hand_is_taken_up_and_given_its_time() -> None:
    looks = Looks()
    looks.go(120, 20.0)
    looks.ceiling = 100.0
    looks.go(60, 20.0)
    assert len(looks.moves) == 1
    looks.go(20, 20.0)
    assert looks.ceiling == pytest.approx(70)


@pytest.mark.parametrize("steepness", [0.5, 1.0, 2.0, 5.0, 12.0])
def test_it_comes_to_the_target_however_steep_the_server_is(steepness: float) -> None:
    looks = Looks(ceiling=30.0)
    looks.go(7200, lambda ceiling: 2.0 * ((ceiling or 1.0) / 10) ** steepness)  # 10 calls a second are right
    moves = len(looks.moves)
    assert looks.ceiling == pytest.approx(10, rel=0.1 / min(1.0, steepness) + 0.11)
    looks.go(7200, lambda ceiling: 2.0 * ((ceiling or 1.0) / 10) ** steepness)
    assert len(looks.moves) == moves  # and stays there
    looks.go(7200, lambda ceiling: 2.0 * ((ceiling or 1.0) / 25) ** steepness)  # a stronger server
    assert looks.ceiling == pytest.approx(25, rel=0.1 / min(1.0, steepness) + 0.11)
