"""The simulator itself: what runs, who sends, and that a run is the same for the same arguments."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from llm_guard import clock, ramp_up, retry, stack, timeout
from llm_guard.clock.virtual import Deadlock
from llm_guard.errors import ConfigError
from llm_guard.outcome import Kind, Outcome
from llm_guard.policies.ramp_up import RampUp
from llm_guard.runtime.stack import Stack
from llm_guard.testing.server import SCENARIOS, Scenario
from llm_guard.testing.server.settings import BucketLimit
from llm_guard.testing.simulation import (
    DEADLINE,
    Arrivals,
    Call,
    Client,
    Run,
    ServerCall,
    Setting,
    Strategy,
    recommended,
    simulate,
)
from llm_guard.testing.virtual_server import ServerFailed, ServerRefused, outcome_of

STEADY = Scenario("steady", slots=4, median=1.0, sigma=0.0, items=12)


def plain(call: ServerCall) -> Call:
    """Nothing around the call."""
    return call


def stubborn(call: ServerCall) -> Call:
    """A decorator as a user may write it: again after each refusal, a second later."""
    def through(item: object) -> str:
        while True:
            try:
                return call(item)
            except (ServerRefused, ServerFailed):
                clock.current().sleep(1.0)

    return through


def figures(run: Run) -> tuple[object, ...]:
    return run.items, run.called_at, run.seconds, run.server, run.best


# The same again

@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("more", [{"clients": 3, "apart": 2.0, "threads": 16}, {"noise": 0.2, "speed": 4.0},
                                  {"workload": Arrivals([0.2 * number for number in range(100)])}],
                         ids=["batch of three clients", "noise", "online"])
def test_the_same_arguments_give_the_same_run_and_another_seed_another(more: dict[str, Any], shuffle: bool) -> None:
    arguments: dict[str, Any] = {"scenario": "A", "shuffle": shuffle, **({} if "workload" in more else {"items": 100}),
                                 **more}
    first, again, other = (simulate(seed=seed, **arguments) for seed in (5, 5, 6))
    assert first == again
    assert figures(first) != figures(other)
    assert first.seed == 5


def test_shuffle_runs_threads_in_another_order() -> None:
    usual, shuffled = (simulate("E", seed=1, items=200, shuffle=shuffle) for shuffle in (False, True))
    assert usual.success == shuffled.success == 1.0
    assert usual.items != shuffled.items


def test_a_look_at_the_paces_changes_nothing_else() -> None:
    # Without `shuffle`: there the looks are turns too, and move the order drawn for the others.
    without = simulate("A", items=300)
    watched = simulate("A", items=300, sample_every=0.5)
    assert without.samples == ()
    assert replace(watched, samples=()) == without
    assert [sample.at for sample in watched.samples] == pytest.approx(
        [0.5 * number for number in range(len(watched.samples))])
    assert watched.seconds - 0.5 <= watched.samples[-1].at <= watched.seconds
    loading = [sample.shut for sample in watched.samples if 1.0 < sample.at < 17.0]
    assert all(loading)
    assert not watched.samples[-1].shut
    assert watched.samples[-1].window > 4


def test_samples_of_several_paces_are_their_sum() -> None:
    at_most = stack(ramp_up(start=2.0, ceiling=2.0), retry())
    samples = simulate("E", at_most, items=30, clients=3, sample_every=1.0).samples
    assert samples[0].rate == pytest.approx(6.0)
    assert samples[0].window == 12.0
    assert simulate("E", plain, items=30, sample_every=1.0).samples == ()


# What is sent

def test_each_item_is_answered_once_with_its_own_answer() -> None:
    run = simulate("F", items=300, seed=2)
    assert [item.answer for item in run.items] == [f"echo: {index}" for index in range(300)]
    assert sum(item.calls for item in run.items) == len(run.called_at) == run.server.calls
    assert all(item.offered <= item.called <= item.ended <= run.seconds for item in run.items)
    assert list(run.called_at) == sorted(run.called_at)


@pytest.mark.parametrize("workload", [{"items": 2}, {"workload": Arrivals([0.0, 0.5])}], ids=["batch", "online"])
def test_a_client_that_mixes_answers_up_is_found(workload: dict[str, Any]) -> None:
    def mixes(call: ServerCall) -> Call:
        return lambda item: call(1 - item) if isinstance(item, int) else ""

    with pytest.raises(AssertionError, match="the answer of another"):
        simulate(STEADY, mixes, **workload)


def test_a_batch_has_as_many_threads_as_it_is_given() -> None:
    run = simulate(STEADY, plain, threads=3)
    assert (run.workload, run.deadline, len(run.items)) == ("batch", None, 12)
    assert run.server.peak_in_flight == 3
    assert run.seconds == pytest.approx(4.0, abs=0.1)
    assert run.best == pytest.approx(4.0, abs=0.1)
    assert simulate(STEADY, plain).best == pytest.approx(3.0, abs=0.1)
    assert len(simulate(STEADY, plain, items=5).items) == 5


def test_arrivals_come_at_their_instants_each_on_a_thread_of_its_own() -> None:
    run = simulate(STEADY, plain, workload=Arrivals([1.0, 1.0, 2.5, 100.0], deadline=None))
    assert run.workload == "arrivals"
    assert [item.offered for item in run.items] == [1.0, 1.0, 2.5, 100.0]
    assert run.called_at == (1.0, 1.0, 2.5, 100.0)
    assert run.seconds == pytest.approx(101.0)
    assert run.against_best == 1.0


def test_answers_after_the_deadline_do_not_count_and_a_stack_is_told_of_it() -> None:
    at_once = [0.0] * 12  # 4 places of a second each: the answers come after 1, 2 and 3 s
    late = simulate(STEADY, plain, workload=Arrivals(at_once, deadline=2.5))
    assert all(item.answer is not None for item in late.items)
    assert (late.answered, late.deadline) == (8, 2.5)
    assert late.calls_per_answer == 1.5
    assert simulate(STEADY, plain, workload=Arrivals(at_once, deadline=None)).answered == 12
    told: list[Setting] = []

    @Strategy
    def guarded(setting: Setting) -> Client:
        told.append(setting)
        return recommended(setting)

    run = simulate(STEADY, guarded, workload=Arrivals(at_once, deadline=2.5))
    assert told[0].deadline == 2.5
    assert all(item.ended <= 2.5 + 1e-6 for item in run.items)
    assert any(item.error is not None for item in run.items)


@pytest.mark.figures
@pytest.mark.parametrize(("workload", "seconds"), [("ramp", 300.0), ("spike", 180.0)])
def test_online_workloads_arrive_as_they_are_described(workload: str, seconds: float) -> None:
    run = simulate("E2", workload=workload, seed=3)
    assert (run.workload, run.deadline) == (workload, DEADLINE)
    offered = [item.offered for item in run.items]
    capacity = run.scenario.capacity
    assert seconds - 10 < offered[-1] <= seconds
    if workload == "spike":
        assert sum(60 <= at < 90 for at in offered) == pytest.approx(30 * 2.5 * capacity, rel=0.2)
        assert sum(at < 60 for at in offered) == pytest.approx(60 * 0.25 * capacity, rel=0.3)
    else:
        assert sum(at < 60 for at in offered) == pytest.approx(60 * 0.3 * capacity, rel=0.3)
        assert sum(at >= 240 for at in offered) == pytest.approx(60 * 1.1 * capacity, rel=0.2)
    assert 0.5 < run.success <= 1.0
    assert run.calls_per_answer < 1.1


# Who sends

def test_a_client_is_any_decorator() -> None:
    lost = simulate("A5", plain, items=40)
    assert 0 < sum(item.error is ServerRefused for item in lost.items) == 40 - lost.answered
    assert len(lost.called_at) == 40
    through = simulate("A5", stubborn, items=40)
    assert through.success == 1.0
    assert through.calls_per_answer > 1.5
    assert through.refused == len(through.called_at) - 40


def test_a_stack_is_told_how_to_read_the_server_unless_it_says_how() -> None:
    limited = replace(STEADY, limit=BucketLimit(rate=2.0, burst=1.0))
    assert simulate(limited, stack(ramp_up(), retry(attempts=1))).success == 1.0

    read: list[object] = []

    def all_failures(end: object) -> Outcome | Kind | None:
        read.append(end)
        return Kind.FAILURE if isinstance(end, ServerRefused) else outcome_of(end)

    run = simulate(limited, stack(ramp_up(), retry(attempts=1), classify=all_failures))
    assert run.success < 1.0
    assert len(read) >= len(run.called_at)


def test_a_client_is_told_what_it_calls() -> None:
    told: list[Setting] = []

    @Strategy
    def listens(setting: Setting) -> Client:
        told.append(setting)
        return recommended(setting)

    simulate("C", listens, items=10, threads=7, noise=0.25, speed=5.0)
    assert told == [Setting(replace(SCENARIOS["C"], noise=0.25), 7, None, 5.0)]
    assert (told[0].timeout, told[0].capacity) == (2.0, 50.0)


def test_several_clients_have_a_state_each_and_share_the_items_evenly() -> None:
    policies: list[RampUp] = []

    @Strategy
    def own(setting: Setting) -> Client:
        policies.append(ramp_up())
        return stack(policies[-1], retry(), timeout(setting.timeout))

    run = simulate("E", own, items=100, clients=3, threads=5, apart=4.0)
    assert len(set(policies)) == 3
    assert sorted(Counter(item.client for item in run.items).values()) == [33, 33, 34]
    for client in range(3):
        assert min(item.offered for item in run.items if item.client == client) == 4.0 * client
    assert run.server.peak_in_flight <= 15
    # The first is over before the second comes: what it learned is its own.
    alone = simulate("E", items=34, threads=5)
    assert [item.ended for item in run.items if item.client == 0][:5] == [item.ended for item in alone.items][:5]


def test_clients_may_come_days_apart() -> None:
    run = simulate(STEADY, clients=3, apart=200_000.0)
    assert run.success == 1.0
    assert run.seconds > 400_000


def test_online_requests_go_to_the_clients_in_turn() -> None:
    run = simulate(STEADY, workload=Arrivals([0.0, 1.0, 2.0, 3.0]), clients=2)
    assert [item.client for item in run.items] == [0, 1, 0, 1]


def test_noise_takes_the_place_of_the_scenario_s() -> None:
    run = simulate("S", plain, noise=0.5, seed=4)
    assert run.scenario.noise == 0.5
    assert sum(item.error is ServerFailed for item in run.items) == pytest.approx(50, abs=15)
    assert simulate("S", plain, noise=0.0).success == 1.0
    assert SCENARIOS["S"].noise == 0.1


def test_a_server_that_is_so_many_times_as_fast() -> None:
    usual, quick = simulate(STEADY, plain), simulate(STEADY, plain, speed=10.0)
    assert quick.seconds == pytest.approx(usual.seconds / 10)
    assert quick.best == pytest.approx(usual.best / 10)


# What cannot be

@pytest.mark.parametrize(("named", "arguments"), [
    ("scenario", {"scenario": "Z"}), ("workload", {"workload": "burst"}), ("workload", {"workload": 3}),
    ("clients", {"clients": 0}), ("clients", {"clients": True}), ("threads", {"threads": 0}), ("items", {"items": 0}),
    ("items", {"items": "ten"}), ("noise", {"noise": 1}), ("noise", {"noise": -0.1}), ("apart", {"apart": -1}),
    ("apart", {"apart": 1.0}), ("clients", {"clients": 13}), ("seed", {"seed": 0.5}), ("until", {"until": 0}),
    ("sample_every", {"sample_every": 0}), ("sample_every", {"sample_every": 1e-6}), ("speed", {"speed": 0}),
    ("items", {"items": 3, "workload": "ramp"}), ("threads", {"threads": 3, "workload": "spike"}),
    ("apart", {"apart": 3.0, "clients": 2, "workload": Arrivals([0.0])}),
    ("instants", {"workload": Arrivals({0.0: 1})}), ("instants", {"workload": Arrivals("12")}),
    ("instants", {"workload": Arrivals([])}),
    ("instants", {"workload": Arrivals([2.0, 1.0])}), ("instants", {"workload": Arrivals([-1.0])}),
    ("instants", {"workload": Arrivals([float("nan")])}), ("deadline", {"workload": Arrivals([0.0], deadline=0.0)}),
], ids=str)
def test_what_makes_no_sense_is_refused(named: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{named}="):
        simulate(**{"scenario": STEADY, **arguments})


def test_a_policy_of_the_stack_may_say_how_the_server_is_read() -> None:
    def read(end: object) -> Outcome | None:
        asked.append(end)
        return outcome_of(end)

    asked: list[object] = []
    run = simulate("E", stack(ramp_up(), retry(classify=read)), items=20)
    assert run.answered == len(asked) == 20


class Stuck(Stack):
    """A stack whose calls never end."""

    def __call__(self, function: Any) -> Any:
        return lambda item: clock.current().waiter().wait()


def test_a_deadlock_of_the_clients_is_told_also_while_the_paces_are_looked_at() -> None:
    with pytest.raises(Deadlock):
        simulate("E", Strategy(lambda setting: Stuck((ramp_up(),), outcome_of)), items=2, sample_every=1000.0)


@pytest.mark.figures
def test_named_traffic_is_as_fast_as_the_server() -> None:
    usual, quick = (simulate("E", workload="spike", speed=speed) for speed in (1.0, 4.0))
    assert len(quick.items) == len(usual.items)
    assert quick.deadline == 7.5
    assert quick.items[-1].offered == pytest.approx(usual.items[-1].offered / 4, abs=0.01)
    assert quick.best == usual.best
