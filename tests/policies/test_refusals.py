"""Refusals are waited out: by the pace where there is one, else by a backoff of their own; not for ever."""

from __future__ import annotations

from typing import Any

import pytest
from scripted import Ended, Highest, Server, Task, call_all, read, waits_between

from llm_guard import Saturated, bounded, breaker, deadline, ramp_up, retry, timeout
from llm_guard.clock.virtual import VirtualClock
from llm_guard.outcome import Kind
from llm_guard.runtime.guarded import Guarded

REFUSALS = [Kind.LOADING, Kind.LIMITED, Kind.OVERLOAD, Kind.GROWTH_LIMITED]
refusals = pytest.mark.parametrize("kind", REFUSALS, ids=lambda kind: kind.value)
paced = pytest.mark.parametrize("paced", [True, False], ids=["with a pace", "without"])


def _ask(server: Server, paced: bool, **options: Any) -> Guarded[[], Any]:
    ask = retry(classify=read, **options)(lambda: server())
    return ramp_up(ask) if paced else ask


@paced
@refusals
def test_refusals_are_not_counted(kind: Kind, paced: bool) -> None:
    server = Server(*[kind] * 12, seconds=0.1)
    with VirtualClock():
        assert _ask(server, paced, attempts=1)() == "answer"


@refusals
def test_a_hint_is_a_floor_with_jitter_on_top(kind: Kind) -> None:
    seconds = []
    for seed in range(10):
        server = Server((kind, 10.0))
        with VirtualClock(seed):
            _ask(server, paced=False)()
        seconds += waits_between(server.starts, 1)
    assert all(10 <= wait <= 11 for wait in seconds)
    assert len({round(wait, 3) for wait in seconds}) > 5


@pytest.mark.parametrize("kind", [Kind.LIMITED, Kind.GROWTH_LIMITED])
def test_with_a_pace_a_limits_hint_is_the_calls_own_floor(kind: Kind) -> None:
    server = Server((kind, 10.0))
    ask = _ask(server, paced=True)
    with VirtualClock() as time:
        refused = Task(ask)
        time.sleep(2)
        assert ask() == "answer"  # one refusal holds nobody else back
        assert time.now() < 5
        refused.wait()
    assert server.starts[-1] - server.ends[0] >= 10


def test_with_a_pace_the_hint_of_a_loading_server_holds_all_back() -> None:
    server = Server((Kind.LOADING, 20.0), seconds=0.5)
    with VirtualClock() as time:
        ask = _ask(server, paced=True)
        first = Task(ask)
        time.sleep(1)
        others = [Task(ask) for _ in range(10)]
        for task in (first, *others):
            task.wait()
    assert min(server.starts[1:]) >= 0.5 + 0.7 * 20  # it is asked a little early
    assert server.starts[1] == min(server.starts[1:])
    assert min(server.starts[2:]) >= server.ends[1]  # by one probe


@paced
def test_without_a_hint_waits_grow(paced: bool) -> None:
    server = Server(*[Kind.OVERLOAD] * 9, seconds=0.0)
    with VirtualClock() as time:
        time.random = Highest()
        _ask(server, paced)()
    gaps = waits_between(server.starts, 0)
    if not paced:
        assert gaps == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30, 30])
    else:
        assert gaps[-1] > 3 > gaps[0]


@paced
@pytest.mark.parametrize(("options", "bound"), [({"max_refusal_wait": 30}, None), ({}, 30), ({}, None)],
                         ids=["max_refusal_wait", "deadline", "the default patience"])
def test_a_longer_hint_is_raised_at_once(options: dict[str, float], bound: float | None, paced: bool) -> None:
    hint = 31.0 if options or bound else 601.0
    server = Server((Kind.LIMITED, hint))
    ask = _ask(server, paced, **options)
    if bound is not None:
        ask = deadline(bound)(ask)
    with VirtualClock() as time:
        with pytest.raises(Ended) as error:
            ask()
        assert time.now() == 1.0
    assert not hasattr(error.value, "__notes__")


def test_a_hint_longer_than_what_is_left_of_the_patience_is_raised_at_once() -> None:
    server = Server((Kind.LIMITED, 20.0), (Kind.LIMITED, 20.0), seconds=0.0)
    with VirtualClock() as time:
        with pytest.raises(Ended) as error:
            _ask(server, paced=False, max_refusal_wait=30)()
        assert 20 <= time.now() <= 22
    assert error.value.__notes__ == ["llm_guard: given up after 2 attempts, 2 of them refused or made to see "
                                     "if the server is back"]


@paced
@refusals
@pytest.mark.parametrize("hint", [None, 3.0])
def test_a_server_that_refuses_for_ever_ends_the_patience(kind: Kind, hint: float | None, paced: bool) -> None:
    for seed in range(3):
        server = Server(then=(kind, hint), seconds=0.1)
        with VirtualClock(seed) as time:
            with pytest.raises(Ended) as error:
                _ask(server, paced, max_refusal_wait=60)()
            assert 55 < time.now() <= 60.3
        assert f"after {len(server.starts)} attempts" in error.value.__notes__[0]


@pytest.mark.parametrize("timed", [True, False], ids=["timed", "untimed"])
def test_those_who_only_wait_behind_the_closed_gate_end_too(timed: bool) -> None:
    server = Server(then=(Kind.LOADING, 5.0), seconds=0.1)
    limit, pace = bounded(8), ramp_up()
    ask: Guarded[[int], Any] = limit(pace(retry(max_refusal_wait=60, classify=read)(lambda item: server(item))))
    if timed:
        ask = timeout(1000)(ask)
    with VirtualClock(1, shuffle=True) as time:
        results = call_all(ask, range(64))
        assert time.now() <= 61
        assert pace.statistics().waiting == pace.statistics().pace.in_flight == limit.statistics().in_flight == 0
    assert {type(result.error) for result in results} == {Ended, Saturated}
    assert all("attempts" in result.error.__notes__[0] for result in results
               if isinstance(result.error, Ended) and result.attempts > 1)
    assert all(result.error.policy == "ramp_up" for result in results if isinstance(result.error, Saturated))
    assert all(result.seconds > 50 for result in results)
    assert len(server.starts) < 64  # they shared their probes


def test_a_late_comer_is_not_made_to_wait_anew_for_a_server_that_was_given_up() -> None:
    server = Server(then=(Kind.LOADING, 5.0), seconds=0.1)
    ask = _ask(server, paced=True, max_refusal_wait=60)
    with VirtualClock() as time:
        first = Task(ask)
        time.sleep(50)
        late = Task(ask)
        for task in (first, late):
            task.ended()
        assert late.ended_at is not None
        assert late.ended_at <= 61


def test_a_failed_probe_is_waited_out_too() -> None:
    server = Server(Kind.LOADING, *[Kind.FAILURE] * 9, seconds=0.1)
    with VirtualClock():
        assert _ask(server, paced=True, attempts=2)() == "answer"


def test_without_a_pace_overload_opens_the_breaker_and_trials_are_waited_for() -> None:
    server = Server(*[Kind.OVERLOAD] * 4, seconds=0.1)
    votes = breaker(window=2, min_calls=2)
    with VirtualClock() as time:
        ask = retry(classify=read)(votes(lambda: server()))
        assert ask() == "answer"
        assert votes.statistics().state == "closed"
        assert time.now() > 3 * 5 * 0.75


def test_the_wait_at_the_door_for_other_things_is_on_account_of_the_refusal_too() -> None:
    server, limit = Server((Kind.LIMITED, 50.0)), bounded(1)
    ask = retry(max_refusal_wait=60, classify=read)(limit(lambda: server()))
    with VirtualClock() as time:
        task = Task(ask)
        time.sleep(2)
        Task(limit(lambda: time.sleep(1000)))
        assert isinstance(task.ended().error, Ended)
        assert task.ended_at == 61.0


def test_a_server_that_was_given_up_is_found_when_it_is_back() -> None:
    server = Server(then=Kind.LOADING, seconds=0.1)
    ask = _ask(server, paced=True, max_refusal_wait=20)
    with VirtualClock() as time:
        for _ in range(3):
            with pytest.raises((Ended, Saturated)):
                ask()
            time.sleep(1)
        server.then = Kind.SUCCESS
        time.sleep(10)
        assert ask() == "answer"


def test_the_less_patient_does_not_wait_behind_the_more_patient() -> None:
    server = Server(Kind.LOADING, then=100.0)
    ask = _ask(server, paced=True)
    with VirtualClock() as time:
        tasks = [Task(ask)]
        time.sleep(1.1)
        tasks += [Task(ask) for _ in range(2)]
        time.sleep(1)
        assert server.running == 1  # the probe
        hasty = Task(ask.with_options(max_refusal_wait=20))
        assert isinstance(hasty.ended().error, Saturated)
        assert hasty.ended_at == pytest.approx(21.0)  # of which the gate has been shut for 20
        for task in tasks:
            task.wait()


def _shut_pace(server: Server) -> Guarded[[], Any]:
    return _ask(server, paced=True)


def _open_circuit(server: Server) -> Guarded[[], Any]:
    return retry(classify=read)(breaker(window=2, min_calls=2)(lambda: server()))


@pytest.mark.parametrize("make", [_shut_pace, _open_circuit], ids=["a pace", "a breaker"])
@pytest.mark.parametrize("lull", [100.0, 700.0, 100_000.0])
def test_those_who_come_after_a_lull_are_as_patient_as_ever(make: Any, lull: float) -> None:
    server = Server(then=Kind.FAILURE, seconds=0.1)
    with VirtualClock() as time:
        ask = make(server)
        with pytest.raises((Ended, Saturated)):
            ask.with_options(max_refusal_wait=30)()
        server.then = Kind.SUCCESS
        time.sleep(lull)
        tasks = [Task(ask.with_options(max_refusal_wait=15)) for _ in range(64)]
        assert [task.ended().error for task in tasks] == [None] * 64


def test_after_a_lull_all_give_up_together_once_more() -> None:
    server = Server(then=Kind.LOADING, seconds=0.1)
    with VirtualClock() as time:
        ask = _ask(server, paced=True, max_refusal_wait=60)
        with pytest.raises((Ended, Saturated)):
            ask()
        time.sleep(700)
        began = time.now()
        tasks = [Task(ask) for _ in range(20)]
        for task in tasks:
            task.ended()
            assert task.ended_at == pytest.approx(began + 60, abs=6)
        late = Task(ask)
        late.ended()
        assert late.ended_at is not None
        assert late.ended_at <= began + 61


def test_a_pause_by_hand_takes_nobodys_patience() -> None:
    server, pace = Server(Kind.LOADING, seconds=0.1), ramp_up()
    ask = pace(retry(classify=read)(lambda: server()))
    with VirtualClock() as time:
        tasks = [Task(ask)]
        time.sleep(0.2)
        pace.pause(700)
        tasks += [Task(ask.with_options(max_refusal_wait=600)) for _ in range(5)]
        time.sleep(705)
        tasks += [Task(ask) for _ in range(5)]
        assert [task.ended().error for task in tasks[-5:]] == [None] * 5
