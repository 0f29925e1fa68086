"""The table of outcomes in ARCHITECTURE.md, row by row: what counts as an attempt, what the pace hears, who votes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from scripted import Ended, Server, Task, read

from llm_guard import QuotaExhausted, Saturated, bounded, breaker, ramp_up, retry
from llm_guard.clock.virtual import VirtualClock
from llm_guard.outcome import Kind
from llm_guard.runtime.guarded import Guarded
from llm_guard.state.circuit import CircuitSnapshot
from llm_guard.state.pace_snapshot import PaceSnapshot

GOOD, BAD, NONE = (1, 0.0), (1, 1.0), (0, 0.0)  # votes, and the share of bad ones

#: What each kind does: a failed attempt that counts, a wait, or the call's end; and its vote.
TABLE: dict[Kind, tuple[str, tuple[int, float]]] = {
    Kind.SUCCESS: ("ends", GOOD),
    Kind.LOADING: ("waited out", NONE),
    Kind.LIMITED: ("waited out", NONE),
    Kind.OVERLOAD: ("waited out", NONE),
    Kind.GROWTH_LIMITED: ("waited out", NONE),
    Kind.FAILURE: ("counted", BAD),
    Kind.TIMEOUT: ("counted", BAD),
    Kind.QUOTA: ("ends", NONE),
    Kind.INVALID: ("ends", NONE),
    Kind.IGNORED: ("ends", NONE),
}
kinds = pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.value)
paced = pytest.mark.parametrize("paced", [True, False], ids=["with a pace", "without"])
#: Where a breaker stands.
PLACES = ("above retry", "below retry", "without retry")


def _votes(snapshot: CircuitSnapshot) -> tuple[int, float]:
    return snapshot.calls, snapshot.failure_rate


def _call(function: Callable[[], object]) -> None:
    try:
        function()
    except Ended:
        pass


def test_the_table_has_every_kind() -> None:
    assert set(TABLE) == set(Kind)


@paced
@kinds
def test_what_counts_as_an_attempt(kind: Kind, paced: bool) -> None:
    server = Server(then=kind, seconds=0.1)
    ask: Guarded[[], Any] = retry(attempts=3, max_refusal_wait=60, classify=read)(lambda: server())
    if paced:
        ask = ramp_up(ask)
    with VirtualClock(1):
        _call(ask)
    expected = {"ends": {1}, "counted": {3}, "waited out": set(range(4, 1000))}[TABLE[kind][0]]
    assert len(server.starts) in expected


@paced
@pytest.mark.parametrize("place", PLACES)
@kinds
def test_the_vote(kind: Kind, place: str, paced: bool) -> None:
    vote = TABLE[kind][1]
    if kind is Kind.OVERLOAD and not paced:
        vote = BAD  # nobody else slows down for it
    server = Server(then=kind)
    policy = breaker(classify=read)
    again = retry(attempts=1, max_refusal_wait=0, classify=read)
    ask: Guarded[[], Any] = policy(lambda: server())
    if place == "above retry":
        ask = policy(again(lambda: server()))
    elif place == "below retry":
        ask = again(ask)
    if paced:
        ask = ramp_up(ask)
    with VirtualClock():
        _call(ask)
        assert len(server.starts) == 1
        assert _votes(policy.statistics()) == vote


@pytest.mark.parametrize(("place", "votes"), [("above", 1), ("below", 3)])
def test_votes_are_by_call_above_the_retry_and_by_attempt_below(place: str, votes: int) -> None:
    server = Server(then=Kind.FAILURE)
    policy, again = breaker(classify=read), retry(attempts=3)
    ask: Guarded[[], Any] = policy(again(lambda: server())) if place == "above" else again(policy(lambda: server()))
    with VirtualClock():
        _call(ask)
        assert _votes(policy.statistics()) == (votes, 1.0)


def test_above_the_retry_a_call_that_succeeds_in_the_end_votes_good() -> None:
    server = Server(Kind.FAILURE, Kind.LIMITED, Kind.FAILURE)
    policy = breaker(classify=read)
    ask = policy(retry(lambda: server()))
    with VirtualClock():
        assert ask() == "answer"
        assert _votes(policy.statistics()) == GOOD


# The column of the pace.

def _after(*script: Any, then: Any = Kind.SUCCESS) -> tuple[PaceSnapshot, PaceSnapshot]:
    """The pace after 12 calls at a time have succeeded, and after `script` besides."""
    server = Server()
    policy = ramp_up(classify=read)
    ask = policy(lambda: server())
    with VirtualClock(3):
        for _ in range(5):
            for task in [Task(ask) for _ in range(12)]:
                task.ended()
        before = policy.statistics().pace
        server.script, server.then = list(script), then
        for _ in script:
            _call(ask)
        return before, policy.statistics().pace


def test_success_grows_the_pace() -> None:
    before, _ = _after()
    assert before.state == "ramping"
    assert before.window > 4


def test_loading_closes_the_gate_until_one_probe_succeeds() -> None:
    _, after = _after((Kind.LOADING, 10.0))
    assert after.state == "cold"
    assert after.gate_in > 1


@pytest.mark.parametrize("kind", [Kind.LIMITED, Kind.OVERLOAD, Kind.GROWTH_LIMITED])
def test_refusals_cut_the_pace(kind: Kind) -> None:
    before, after = _after(kind)
    assert after.window < before.window or (after.rate is not None and before.rate is None)
    assert after.state != "cold"


@pytest.mark.parametrize("kind", [Kind.FAILURE, Kind.TIMEOUT, Kind.INVALID, Kind.IGNORED])
def test_what_says_nothing_of_load_shrinks_nothing(kind: Kind) -> None:
    before, after = _after(*[kind] * 7)
    assert (after.window, after.rate, after.state) == (before.window, before.rate, before.state)


@pytest.mark.parametrize(("kind", "state"), [(Kind.FAILURE, "holding"), (Kind.TIMEOUT, "holding"),
                                             (Kind.INVALID, "ramping"), (Kind.IGNORED, "ramping")])
def test_failures_are_counted_in_a_row(kind: Kind, state: str) -> None:
    assert _after(*[kind] * 8)[1].state == state


def test_quota_closes_for_all_who_wait_at_once() -> None:
    server = Server((Kind.QUOTA, 120.0), seconds=5.0)
    policy = ramp_up(classify=read)
    ask = bounded(1)(retry(policy(lambda: server())))
    with VirtualClock() as time:
        first = Task(ask)
        time.sleep(1)
        waiting = [Task(ask) for _ in range(5)]
        with pytest.raises(Ended):
            first.wait()
        for task in waiting:
            with pytest.raises(QuotaExhausted) as refused:
                task.wait()
            assert task.ended_at == 5.0
            assert refused.value.retry_after == pytest.approx(120.0)
        assert policy.statistics().pace.state == "exhausted"
        time.sleep(121)
        assert ask() == "answer"
        assert len(server.starts) == 2


def test_quota_without_a_hint_is_probed_after_a_minute() -> None:
    server = Server(Kind.QUOTA)
    ask = ramp_up(classify=read)(lambda: server())
    with VirtualClock() as time:
        _call(ask)
        time.sleep(59)
        with pytest.raises(QuotaExhausted):
            ask()
        time.sleep(1)
        assert ask() == "answer"


def _second_start(first_probe: Any) -> float:
    """When a second caller starts, beside a probe that takes 5 s and ends so: the server loads for all before."""
    server = Server((Kind.LOADING, 2.0), first_probe, seconds=5.0)
    ask = ramp_up(classify=read)(lambda: server())
    with VirtualClock() as time:
        _call(ask)
        tasks = [Task(ask) for _ in range(2)]
        for task in tasks:
            task.ended()
        assert time.now() < 100
    return server.starts[2] - server.ends[1]


def test_invalid_opens_a_gate() -> None:
    assert _second_start(Kind.INVALID) == 0


@pytest.mark.parametrize("end", [Kind.IGNORED, TypeError("a bug")], ids=["ignored", "bug"])
def test_ignored_gives_the_probe_back(end: Any) -> None:
    server = Server((Kind.LOADING, 2.0), end, 5.0)
    policy = ramp_up(classify=read)
    ask = policy(lambda: server())
    with VirtualClock() as time:
        _call(ask)
        tasks = [Task(ask) for _ in range(4)]
        time.sleep(5)
        assert len(server.starts) == 3  # the next probe went at once, and alone
        assert policy.statistics().pace.in_flight == 1
        for task in tasks:
            task.ended()
        assert policy.statistics().pace.in_flight == 0


# Not started.

def test_what_never_started_is_neither_attempt_nor_vote_nor_told_to_the_pace() -> None:
    server = Server(then=10.0)
    pace, votes, limit = ramp_up(classify=read), breaker(classify=read), bounded(1, max_wait=1)
    ask = limit(pace(retry(votes(lambda: server()))))
    with VirtualClock():
        first = Task(ask)
        second = Task(ask)
        with pytest.raises(Saturated) as refused:
            second.wait()
        assert refused.value.policy == "bounded"
        assert second.ended_at == 1.0
        assert len(server.starts) == 1
        assert pace.statistics().pace.in_flight == 1
        first.wait()
        assert _votes(votes.statistics()) == GOOD


def test_a_refusal_of_a_guarded_function_below_is_no_verdict() -> None:
    pace, votes = ramp_up(), breaker()
    with VirtualClock() as time:
        inner = bounded(1, max_wait=1)(time.sleep)
        outer = pace(retry(votes(lambda: inner(1.0))))
        Task(lambda: inner(100.0))
        time.sleep(1)
        with pytest.raises(Saturated):
            outer()
        assert time.now() == 2.0  # not tried again
        assert _votes(votes.statistics()) == NONE
        assert pace.statistics().pace.state == "cold"
        assert pace.statistics().pace.in_flight == 0
