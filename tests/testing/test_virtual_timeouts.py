"""Callers of the virtual server that leave when their time is up, while their calls stay inside."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from random import Random

import pytest
from at_once import in_threads

from llm_guard.clock import SystemClock
from llm_guard.clock.virtual import VirtualClock
from llm_guard.errors import ConfigError
from llm_guard.testing.server import REFUSAL_SECONDS, SCENARIOS, Scenario
from llm_guard.testing.virtual_server import ServerRefused, ServerTimeout, VirtualServer, outcome_of

STEADY = Scenario("steady", slots=2, median=1.0, sigma=0.0)


def test_a_caller_leaves_on_time_and_its_call_is_worked_on_all_the_same() -> None:
    with VirtualClock() as clock:
        server = VirtualServer(STEADY)
        with pytest.raises(ServerTimeout):
            server.call("x", 0.25)
        assert clock.now() == 0.25
        assert server.stats().in_flight == 1
        assert server.call("y", timeout=1.0) == "echo: y"
        clock.sleep(5.0)
        stats = server.stats()
        assert (stats.calls, stats.successes, stats.in_flight) == (2, 2, 0)


def test_an_answer_that_comes_just_in_time_counts() -> None:
    with VirtualClock() as clock:
        server = VirtualServer(STEADY)
        assert server.call("x", 1.0) == "echo: x"
        assert clock.now() == 1.0


def test_a_timeout_is_in_the_clock_s_seconds_not_in_the_server_s() -> None:
    with VirtualClock() as clock:
        server = VirtualServer(STEADY, speed=10)
        assert server.call("x", 0.2) == "echo: x"
        with pytest.raises(ServerTimeout):
            server.call("x", 0.05)
        assert clock.now() == pytest.approx(0.15)


def test_a_refusal_takes_its_time_too() -> None:
    with VirtualClock() as clock:
        server = VirtualServer("A")
        with pytest.raises(ServerTimeout):
            server.call("x", REFUSAL_SECONDS / 3)
        assert clock.now() == REFUSAL_SECONDS / 3
        with pytest.raises(ServerRefused):
            server.call("x", REFUSAL_SECONDS)
        assert server.stats().calls == 2


@pytest.mark.parametrize("leaving", range(6))
@pytest.mark.parametrize("after", [0.5, 1.0, 1.5, 2.0])
def test_one_that_leaves_holds_up_nobody(leaving: int, after: float) -> None:
    with VirtualClock() as clock:
        server = VirtualServer(STEADY)
        ends: dict[int, float] = {}

        def work(item: int) -> None:
            try:
                server.call(item, after if item == leaving else None)
            except ServerTimeout:
                assert item == leaving
            ends[item] = clock.now()

        in_threads(clock, 6, work)
    usual = {item: 1.0 + item // 2 for item in range(6)}
    assert ends == pytest.approx(usual | {leaving: min(after, usual[leaving])}, abs=0.01)


def test_when_all_leave_the_server_goes_on_without_them() -> None:
    with VirtualClock() as clock:
        server = VirtualServer(STEADY)

        def work(item: int) -> None:
            with pytest.raises(ServerTimeout):
                server.call(item, 0.1 + item / 100)

        in_threads(clock, 6, work)
        assert clock.now() == pytest.approx(0.15)
        assert server.call("late") == "echo: late"
        assert clock.now() == pytest.approx(4.0, abs=0.01)
        assert server.stats().successes == 7


def ends_of(scenario: Scenario, seed: int, patience: list[float], *, shuffle: bool) -> list[float]:
    """When each of the callers, who come at random instants, has its answer; minus that where it left."""
    arrivals = [Random(f"{seed} {index}").uniform(0.0, 6.0) for index in range(len(patience))]
    ends = [math.nan] * len(patience)
    with VirtualClock(seed, shuffle=shuffle) as clock:
        server = VirtualServer(scenario, seed)

        def work(index: int) -> None:
            clock.sleep(arrivals[index])
            try:
                assert server.call(index, patience[index] if patience[index] < math.inf else None) == f"echo: {index}"
                ends[index] = clock.now()
            except ServerTimeout:
                assert clock.now() == pytest.approx(arrivals[index] + patience[index])
                ends[index] = -clock.now()

        in_threads(clock, len(patience), work)
        while server.stats().in_flight:
            clock.sleep(1.0)
        assert server.stats().successes == len(patience)
    return ends


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_those_who_stay_are_answered_as_if_nobody_had_left(seed: int, shuffle: bool) -> None:
    scenario = replace(SCENARIOS["E"], slots=2)
    random = Random(seed)
    patience = [random.choice((0.2, 1.0, 3.0, 10.0, math.inf)) * random.uniform(0.5, 1.5) for _ in range(40)]
    arrivals = [Random(f"{seed} {index}").uniform(0.0, 6.0) for index in range(40)]
    undisturbed = ends_of(scenario, seed, [math.inf] * 40, shuffle=shuffle)
    expected = [end if end <= arrival + patient else -(arrival + patient)
                for end, arrival, patient in zip(undisturbed, arrivals, patience, strict=True)]
    assert ends_of(scenario, seed, patience, shuffle=shuffle) == pytest.approx(expected)
    assert 5 < sum(end > 0 for end in expected) < 35


@pytest.mark.real
def test_on_the_machine_s_clock_too() -> None:
    clock = SystemClock()
    server = VirtualServer(STEADY, speed=20, clock=clock)
    left: list[int] = []

    def work(item: int) -> None:
        try:
            server.call(item, 0.02 if item < 3 else 10.0)
        except ServerTimeout:
            left.append(item)

    began = clock.now()
    in_threads(clock, 6, work)
    assert sorted(left) == [0, 1, 2]
    assert 0.14 < clock.now() - began < 2.0


@pytest.mark.parametrize("timeout", [0, -1.0, math.inf, math.nan, True, "1"])
def test_a_timeout_that_makes_no_sense_is_refused(timeout: float) -> None:
    with VirtualClock(), pytest.raises(ConfigError, match="timeout"):
        VirtualServer(STEADY).call("x", timeout)


def test_its_error_is_a_timeout_that_pickles_and_quotes_no_prompt() -> None:
    with VirtualClock(), pytest.raises(TimeoutError) as caught:
        VirtualServer(STEADY).call("secret", 0.1)
    assert "secret" not in repr(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert outcome_of(again) == outcome_of(caught.value)
