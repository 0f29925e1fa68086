"""`@breaker` in a stack: who is refused, who waits, what votes."""

from __future__ import annotations

import circuitbreaker
import pytest
from scripted import Ended, Server, Task, call_all, read

from llm_guard import CircuitOpen, ConfigError, Saturated, bounded, breaker, deadline, ramp_up, retry
from llm_guard.clock.virtual import VirtualClock
from llm_guard.outcome import Kind
from llm_guard.policies.breaker import Breaker


def _tripped(policy: Breaker) -> None:
    """Opens it by ten failures."""
    ask = policy(Server(then=Kind.FAILURE, seconds=0.1))
    for _ in range(10):
        with pytest.raises(Ended):
            ask()
    assert policy.statistics().state == "open"


def test_an_open_circuit_refuses_where_no_retry_stands_above() -> None:
    policy = breaker(min_calls=10, classify=read)
    server = Server()
    with VirtualClock() as time:
        _tripped(policy)
        for ask in (policy(lambda: server()), policy(retry(lambda: server()))):
            with pytest.raises(CircuitOpen) as error:
                ask()
            assert isinstance(error.value, circuitbreaker.CircuitBreakerError)
            assert (error.value.policy, error.value.retry_after) == ("breaker", policy.statistics().open_in)
        assert time.now() == pytest.approx(1.0)
    assert not server.starts


def test_it_keeps_its_callers_waiting_where_a_retry_stands_above() -> None:
    policy = breaker(min_calls=10, classify=read)
    server = Server(Kind.FAILURE, Kind.FAILURE)
    ask = retry(attempts=1)(policy(lambda item: server(item)))
    with VirtualClock(1, shuffle=True):
        _tripped(policy)
        results = call_all(ask, range(20))
        assert policy.statistics().state == "closed"
    assert [result.error for result in results] == [None] * 20
    assert server.starts[1] - server.ends[0] > 0.75 * 5  # single trials, until one succeeds
    assert server.starts[2] - server.ends[1] > 0.75 * 5 * 1.6
    assert min(server.starts[3:]) >= server.ends[2]


def test_those_who_wait_give_up_when_it_stays_open_too_long() -> None:
    policy = breaker(min_calls=10, classify=read)
    server = Server(then=Kind.FAILURE)
    ask = retry(max_refusal_wait=60)(policy(lambda item: server(item)))
    with VirtualClock(1, shuffle=True) as time:
        _tripped(policy)
        opened = time.now()
        results = call_all(ask, range(20))
        assert time.now() <= opened + 60 + 1
    assert {type(result.error) for result in results} <= {Ended, CircuitOpen}
    assert min(result.seconds for result in results) > 55


def test_one_trial_by_one_caller_waits_as_long_as_the_patience() -> None:
    policy = breaker(min_calls=10, classify=read)
    with VirtualClock() as time:
        _tripped(policy)
        server = Server(then=Kind.FAILURE)
        with pytest.raises(Ended):
            retry(max_refusal_wait=200)(policy(lambda: server()))()
        assert 130 < time.now() - server.ends[0] <= 201
        assert len(server.starts) > 4


@pytest.mark.parametrize("above", [True, False], ids=["above bounded", "below bounded"])
def test_it_refuses_at_once_also_who_would_wait_for_something_else(above: bool) -> None:
    policy, limit = breaker(min_calls=10, classify=read), bounded(1)
    ask = policy(limit(lambda: None)) if above else limit(policy(lambda: None))
    with VirtualClock() as time:
        _tripped(policy)
        Task(limit(lambda: time.sleep(100)))
        with pytest.raises(CircuitOpen):
            ask()
        assert time.now() == pytest.approx(1.0)


def test_opened_by_hand_it_refuses_those_who_wait_too() -> None:
    policy, limit = breaker(), bounded(1)
    ask = limit(policy(lambda: None))
    with VirtualClock() as time:
        Task(limit(lambda: time.sleep(100)))
        waiting = [Task(ask) for _ in range(3)]
        time.sleep(1)
        policy.open()
        for task in waiting:
            assert isinstance(task.ended().error, CircuitOpen)
            assert task.ended_at == 1.0
        assert limit.statistics().waiting == 0


def test_closed_by_hand_it_lets_those_who_wait_go() -> None:
    policy = breaker(min_calls=10, open_for=60)
    ask = retry(policy(lambda: None))
    with VirtualClock() as time:
        policy.open()
        waiting = [Task(ask) for _ in range(3)]
        time.sleep(1)
        assert not any(task.ended_at for task in waiting)
        policy.close()
        for task in waiting:
            task.wait()
            assert task.ended_at == 1.0


def test_a_deadline_ends_the_wait() -> None:
    policy = breaker(min_calls=10, open_for=60)
    ask = deadline(3)(retry(policy(lambda: None)))
    with VirtualClock() as time:
        policy.open()
        with pytest.raises(Saturated) as error:
            ask()
        assert (time.now(), error.value.policy) == (3.0, "breaker")


def test_durations_are_measured_without_waits() -> None:
    server = Server((Kind.LIMITED, 30.0), seconds=2.0)
    slow = breaker(slow_call=5, window=1, min_calls=1, classify=read)
    limit = bounded(1)
    ask = slow(limit(retry(lambda: server())))
    with VirtualClock() as time:
        Task(limit(lambda: time.sleep(60)))
        ask()
        assert time.now() > 90
        assert slow.statistics().slow_rate == 0.0
        server.script = [(Kind.LIMITED, 1.0)] * 2
        ask()  # three attempts, 6 s in all
        assert slow.statistics().state == "open"


def test_a_late_answer_does_not_vote_in_a_new_era() -> None:
    policy = breaker(min_calls=10, classify=read, open_for=1)
    with VirtualClock() as time:
        late = Task(policy(Server(Kind.FAILURE, seconds=20.0)))
        _tripped(policy)
        time.sleep(2)
        policy(Server())()
        assert policy.statistics().state == "closed"
        late.ended()
        assert policy.statistics().calls == 0


def test_a_trial_without_verdict_gives_its_place_to_the_next() -> None:
    policy = breaker(min_calls=10, classify=read)
    with VirtualClock() as time:
        _tripped(policy)
        time.sleep(10)
        with pytest.raises(Ended):
            policy(Server(Kind.INVALID))()
        assert policy.statistics().state == "half_open"
        assert policy(Server())() == "answer"
        assert policy.statistics().state == "closed"


def test_below_a_ramp_up_overload_is_the_paces_to_deal_with() -> None:
    policy = breaker(min_calls=10, classify=read)
    server = Server(*[Kind.OVERLOAD] * 15, seconds=0.1)
    with VirtualClock():
        assert ramp_up(retry(policy(lambda: server())))() == "answer"
        assert policy.statistics().calls == 1


def test_it_takes_the_name_of_the_function_or_the_one_given() -> None:
    @breaker
    def ask_a_model() -> None: ...

    named = ask_a_model.guards[0]
    assert isinstance(named, Breaker)
    assert "ask_a_model" in str(named.circuit.name)
    assert breaker(name="hf").circuit.name == "hf"
    with pytest.raises(ConfigError):
        breaker(name="")


def test_the_called_form_is_listed_under_its_first_function_too() -> None:
    from circuitbreaker import CircuitBreakerMonitor

    @breaker(window=4)
    def listed_by_its_function() -> None:
        pass

    name = listed_by_its_function.__qualname__
    assert CircuitBreakerMonitor.get(name) == listed_by_its_function.guards[0].circuit  # type: ignore[attr-defined]
