"""What can be the client of a simulation, and what is said of one that is broken or comes to no end."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from llm_guard import bounded, breaker, clock, events, fallback, ramp_up, retry, stack, timeout
from llm_guard.clock.virtual import TimeUp, VirtualClock
from llm_guard.errors import ConfigError
from llm_guard.outcome import Kind, Outcome
from llm_guard.policies.ramp_up import RampUp
from llm_guard.runtime.guarded import Guarded
from llm_guard.testing.server import Scenario
from llm_guard.testing.server.settings import BucketLimit, Quota, Spell
from llm_guard.testing.simulation import Arrivals, Call, Client, NoAnswer, ServerCall, Setting, Strategy, simulate
from llm_guard.testing.simulation.plain_time import plain_time
from llm_guard.testing.virtual_server import ServerRefused, outcome_of

STEADY = Scenario("steady", slots=4, median=1.0, sigma=0.0, items=12)
LIMITED = Scenario("limited", slots=100, median=0.1, sigma=0.0, limit=BucketLimit(rate=2.0, burst=1.0), items=20)


# What can be a client

def test_a_stack_is_a_pattern_each_client_and_each_run_has_one_as_new() -> None:
    guard = stack(ramp_up(ceiling=3.0), bounded(2), retry(), breaker(), timeout(10))
    alone = simulate(STEADY, guard, items=6)
    assert simulate(STEADY, guard, items=6) == alone
    assert alone.server.peak_in_flight == 2
    both = simulate(STEADY, guard, items=12, clients=2)
    assert both.server.peak_in_flight == 4
    # What the stack itself knows has not changed.
    assert guard.statistics()["bounded"].peak == 0
    assert guard.statistics()["ramp_up"].pace.state == "cold"


def test_a_setting_that_was_changed_counts_as_it_is_now() -> None:
    limit = bounded(8)
    limit.n = 3
    assert simulate(STEADY, stack(limit)).server.peak_in_flight == 3


def test_a_policy_alone_is_a_stack_of_one() -> None:
    assert simulate(STEADY, bounded(3)).server.peak_in_flight == 3
    assert simulate(LIMITED, ramp_up(ceiling=1.0), items=5).success == 1.0


def test_policies_that_a_decorator_puts_on_the_call_are_told_how_to_read_the_server() -> None:
    heard: list[object] = []

    def client(call: ServerCall) -> Call:
        guarded: Guarded[[object], str] = ramp_up(retry(attempts=1)(call))
        guarded.on_event(heard.append)
        return guarded

    run = simulate(LIMITED, client, sample_every=1.0)
    assert run.success == 1.0
    assert run.refused > 0
    assert run.samples
    assert heard


def test_a_policy_that_says_how_to_read_the_server_is_left_alone() -> None:
    def all_fail(end: object) -> Outcome | Kind | None:
        return Kind.FAILURE if isinstance(end, Exception) else outcome_of(end)

    assert simulate(LIMITED, retry(attempts=1, classify=all_fail)).success < 1.0


def test_a_strategy_is_told_what_it_calls_and_asked_once_for_each_client() -> None:
    told: list[Setting] = []

    @Strategy
    def two_at_once(setting: Setting) -> Client:
        told.append(setting)
        return bounded(2)

    run = simulate(STEADY, two_at_once, clients=3, threads=5)
    assert run.server.peak_in_flight == 6
    assert told == [Setting(STEADY, 5)] * 3


def test_what_a_strategy_makes_is_used_as_it_is() -> None:
    guard = stack(bounded(2), classify=outcome_of)
    simulate(STEADY, Strategy(lambda setting: guard))
    assert guard.statistics()["bounded"].peak == 2


def test_a_plain_decorator_sleeps_and_reads_the_time_as_it_always_does() -> None:
    took: list[float] = []

    def tries(call: ServerCall) -> Call:
        def through(item: object) -> str:
            began = time.monotonic()
            while True:
                try:
                    answer = call(item)
                except ServerRefused:
                    time.sleep(20)
                else:
                    took.append(time.monotonic() - began)
                    return answer

        return through

    real = time.monotonic()
    run = simulate("A90", tries, items=50)
    assert run.success == 1.0
    assert run.seconds > 80
    assert time.monotonic() - real < 30
    assert sorted(took) == pytest.approx(sorted(item.ended - item.offered for item in run.items))


def test_other_threads_keep_the_machine_s_time_and_afterwards_all_do() -> None:
    functions = [time.sleep, time.time, time.monotonic, time.perf_counter, time.time_ns]
    clock_of_run = VirtualClock(wall=1000.0)
    with clock_of_run, plain_time(clock_of_run):
        time.sleep(50)
        assert (time.time(), time.monotonic(), time.perf_counter()) == (1050.0, 50.0, 50.0)
        assert (time.time_ns(), time.monotonic_ns()) == (1050 * 10**9, 50 * 10**9)
        with pytest.raises(ValueError, match="non-negative"):
            time.sleep(-1)
        seen: list[float] = []
        other = threading.Thread(target=lambda: seen.append(time.monotonic()))
        other.start()
        other.join()
    assert [time.sleep, time.time, time.monotonic, time.perf_counter, time.time_ns] == functions
    assert seen[0] == pytest.approx(time.monotonic(), abs=60)


@Strategy
def nested(setting: Setting) -> Any:
    return Strategy(lambda setting: bounded(1))


@ramp_up
def ask(prompt: str) -> str:
    return prompt


async def coroutine(call: ServerCall) -> Call:
    return call


def unmarked(setting: Any) -> Any:
    return stack(ramp_up(), timeout(setting.timeout))


@pytest.mark.parametrize(("client", "says"), [
    (None, "a Stack, a decorator .* or a Strategy"), (3, "a Stack, a decorator .* or a Strategy"),
    (ask, "of a guarded function its `stack`"), (coroutine, "coroutine functions are not called here"),
    (nested, "not another Strategy"), (Strategy(lambda setting: 3), "a Stack, a decorator"),  # type: ignore[arg-type, return-value]
    (unmarked, "decorated with Strategy.*raised AttributeError: 'function' object has no attribute 'timeout'"),
    (lambda setting: stack(ramp_up()), "decorated with Strategy.*returned a Stack"),
    (lambda call: None, "returned what is no function: NoneType"),
    (lambda call: coroutine, "coroutine functions are not called here"),
])
def test_what_can_be_no_client_is_refused(client: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=f"^client=.*{says}"):
        simulate(STEADY, client)


def test_a_strategy_is_made_of_a_function() -> None:
    with pytest.raises(ConfigError, match=r"^make=3 is not allowed: a function from a Setting"):
        Strategy(3)  # type: ignore[arg-type]


def endless(pause: float) -> Client:
    def client(call: ServerCall) -> Call:
        def through(item: object) -> str:
            while True:
                try:
                    return call(item)
                except Exception:  # whatever it is: also what ends the run
                    if pause:
                        clock.current().sleep(pause)

        return through

    return client


QUOTA = Scenario("quota", slots=4, median=1.0, sigma=0.0, quota=Quota(2), items=4)


# Clients that are broken

@pytest.mark.parametrize("workload", ["batch", Arrivals([float(at) for at in range(50)])], ids=["batch", "online"])
@pytest.mark.parametrize("clients", [1, 3])
@pytest.mark.parametrize("kind", [TypeError, AttributeError, AssertionError, partial(ConfigError, "n", 0)])
def test_a_bug_of_the_client_s_is_raised_at_once(kind: Callable[[str], Exception], clients: int,
                                                 workload: str | Arrivals) -> None:
    bug = kind("x")
    called: list[object] = []

    def broken(call: ServerCall) -> Call:
        def through(item: object) -> str:
            called.append(item)
            if item == 5:
                raise bug
            return call(item)

        return through

    with pytest.raises(type(bug)) as raised:
        simulate(STEADY, broken, workload=workload, clients=clients)
    assert raised.value is bug
    assert raised.value.__notes__ == ["llm_guard: the client itself raised this, for item 5 of the simulation"]
    assert workload == "batch" or len(called) <= 7


@pytest.mark.parametrize("workload", ["batch", Arrivals([0.0, 1.0])], ids=["batch", "online"])
def test_an_exit_is_raised_too(workload: str | Arrivals) -> None:
    def leaves(call: ServerCall) -> Call:
        def through(item: object) -> str:
            raise SystemExit(3)

        return through

    with pytest.raises(SystemExit):
        simulate(STEADY, leaves, workload=workload)


def test_a_bug_is_raised_though_other_items_are_tried_for_ever() -> None:
    def broken(call: ServerCall) -> Call:
        def through(item: object) -> str:
            clock.current().sleep(1.0)
            if item == 5:
                raise TypeError
            return endless(1.0)(call)(item)

        return through

    with pytest.raises(TypeError):
        simulate(QUOTA, broken, items=6)
    with pytest.raises(TypeError):
        simulate(QUOTA, broken, workload=Arrivals([0.0] * 6))


def test_other_errors_are_counted_by_their_class_the_most_frequent_first() -> None:
    def picky(call: ServerCall) -> Call:
        def through(item: object) -> str:
            assert isinstance(item, int)
            if item < 2:
                raise KeyError(item)
            if item < 5:
                raise ValueError(item)
            return call(item)

        return through

    run = simulate(STEADY, picky)
    assert run.answered == 7
    assert list(run.unanswered.items()) == [("ValueError", 3), ("KeyError", 2)]
    late = simulate(STEADY, picky, workload=Arrivals([0.0] * 12, deadline=1.5))
    assert late.unanswered == {"ValueError": 3, "late": 3, "KeyError": 2}


@pytest.mark.parametrize("returned", [None, "sorry", 3, b"echo: 1", ["echo: 1"]])
def test_what_is_no_answer_of_the_server_s_is_none(returned: object) -> None:
    def forgets(call: ServerCall) -> Any:
        def through(item: object) -> object:
            answer = call(item)
            return returned if item == 1 else answer

        return through

    run = simulate(STEADY, forgets)
    assert run.answered == 11
    assert run.items[1].error is NoAnswer
    assert run.items[1].answer is None
    assert run.unanswered == {"NoAnswer": 1}


def test_the_word_of_a_fallback_is_no_answer() -> None:
    run = simulate(LIMITED, stack(fallback("sorry"), timeout(5)))
    assert 0 < run.answered < 20
    assert run.unanswered == {"NoAnswer": 20 - run.answered}


def test_a_client_that_sends_something_else_than_its_item_is_told() -> None:
    with pytest.raises(TypeError, match="something else than the item"):
        simulate(STEADY, lambda call: lambda item: call(f"prompt {item}"))


# Runs without an end

@pytest.mark.parametrize(("pause", "arguments", "says"), [
    (0.0, {}, "after 2201 calls, 550 an item"), (5000.0, {}, "after 100100.* s threads are still at work"),
    (1.0, {"until": 50.0}, "after 50 s threads are still at work"),
    (1.0, {"until": 50.0, "workload": Arrivals([0.0, 1.0, 2.0])}, "after 50 s"),
    (5000.0, {"workload": Arrivals([0.0, 1.0, 300.0])}, "after 100300 s"),
])
def test_a_client_that_tries_for_ever_is_given_up(pause: float, arguments: dict[str, Any], says: str,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[simulate.__module__], "ENDLESS_CALLS", 1000)
    with pytest.raises(TimeUp, match=says):
        simulate(QUOTA, endless(pause), **arguments)


@pytest.mark.parametrize("server", [
    Scenario("too slow", slots=4, median=1.0, sigma=0.0, timeout=0.5), Scenario("fails", 4, 1.0, 0.0, noise=0.9999),
    Scenario("gone", 4, 1.0, 0.0, spells=(Spell(5.0, float("inf")),)),
], ids=lambda server: server.name)
def test_a_server_that_answers_nobody_is_refused_before_anything_is_sent(server: Scenario) -> None:
    called: list[object] = []

    def listens(call: ServerCall) -> Call:
        return lambda item: called.append(item) or call(item)  # type: ignore[func-returns-value]

    with pytest.raises(ConfigError, match=f"^scenario='{server.name}' is not allowed: a server that answers"):
        simulate(server, listens)
    assert not called


# What the policies say

@pytest.fixture
def root(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        yield caplog


def test_the_lines_of_the_log_are_in_the_run_and_not_in_the_log(root: pytest.LogCaptureFixture) -> None:
    run = simulate("A5", items=100)
    assert root.records == []
    assert [line.words.split(",")[0] for line in run.story[:1]] == ["client: model is loading"]
    assert run.story[0].level == logging.INFO
    assert [line.at for line in run.story] == sorted(line.at for line in run.story)
    assert 4.0 < run.story[1].at < 8.0
    assert str(run.story[0]) == f"     0.0 s  {run.story[0].words}"
    logging.getLogger("llm_guard").info("heard again")
    assert [record.getMessage() for record in root.records] == ["heard again"]


def test_they_are_heard_at_whatever_level_the_log_is_and_it_stays_there() -> None:
    log = logging.getLogger("llm_guard")
    for level in (logging.NOTSET, logging.ERROR):
        log.setLevel(level)
        try:
            assert len(simulate("A5", items=100).story) >= 2
            assert log.level == level
            assert log.filters == []
        finally:
            log.setLevel(logging.NOTSET)


def test_each_client_s_lines_have_its_name() -> None:
    run = simulate("A5", items=100, clients=2)
    assert {line.words.partition(":")[0] for line in run.story} == {"client 0", "client 1"}


def test_an_error_of_a_listener_reaches_the_log(root: pytest.LogCaptureFixture) -> None:
    def broken(event: events.Event) -> None:
        raise ValueError

    def client(call: ServerCall) -> Call:
        guarded: Guarded[[object], str] = RampUp.__call__(ramp_up(), call)
        guarded.on_event(broken)
        return guarded

    simulate(STEADY, client)
    assert [record.getMessage() for record in root.records] == ["a listener raised ValueError and is dropped"]
