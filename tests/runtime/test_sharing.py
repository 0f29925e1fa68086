"""One policy object may decorate many functions: one state, and no deadlock."""

from __future__ import annotations

import gc
import weakref

import pytest
from scripted import Ended, Server, Task, call_all, read

from llm_guard import CircuitOpen, bounded, breaker, ramp_up, retry, stack, timeout
from llm_guard.clock.virtual import VirtualClock
from llm_guard.outcome import Kind


def test_a_shared_limit_counts_all_functions() -> None:
    server, limit = Server(), bounded(3)
    functions = [limit(lambda item: server(item)), limit(retry(lambda item: server(item))),
                 timeout(500)(limit(lambda item: server(item)))]
    with VirtualClock(1, shuffle=True) as time:
        call_all(lambda item: functions[item % 3](item), range(30))
        assert time.now() == pytest.approx(10)
    assert server.peak == limit.statistics().peak == 3


def test_a_shared_limit_is_first_come_first_served_across_functions() -> None:
    served: list[int] = []
    limit = bounded(1)

    def work(item: int) -> None:
        served.append(item)
        time.sleep(1)

    functions = [limit(work), limit(bounded(9)(work)), bounded(9)(limit(timeout(900)(work)))]
    with VirtualClock() as time:
        tasks = [Task(lambda item=item: functions[item % 3](item)) for item in range(12)]  # type: ignore[misc]
        for task in tasks:
            task.wait()
    assert served == list(range(12))


def test_a_shared_circuit_opens_for_all() -> None:
    votes = breaker(min_calls=10, classify=read)
    bad, good = votes(Server(then=Kind.FAILURE)), votes(Server())
    with VirtualClock():
        for _ in range(10):
            with pytest.raises(Ended):
                bad()
        with pytest.raises(CircuitOpen):
            good()


def test_a_shared_pace_learns_from_all() -> None:
    pace = ramp_up(classify=read)
    cold, other = pace(Server((Kind.LOADING, 20.0), seconds=0.1)), pace(lambda: None)
    with VirtualClock() as time:
        with pytest.raises(Ended):
            cold()
        other()
        assert time.now() > 10


def test_a_stack_can_be_used_for_many_functions_and_for_single_calls() -> None:
    limit = bounded(2)
    guard = stack(ramp_up(), limit, retry(classify=read))
    server = Server(Kind.FAILURE, Kind.FAILURE)
    one = guard(lambda item: server(item))
    with VirtualClock(1, shuffle=True):
        results = call_all(lambda item: one(item) if item % 2 else guard.call(server, item), range(20))
        assert [result.value for result in results] == list(range(20))
        assert limit.statistics().peak == server.peak == 2
        assert guard.statistics()["bounded"] == limit.statistics()
    assert one.guards == guard.policies


def test_a_stack_puts_itself_above_the_stack_of_a_guarded_function() -> None:
    inner = retry(attempts=2, classify=read)(Server(Kind.FAILURE))
    outer = stack(bounded(1), timeout(9))(inner)
    assert [policy.name for policy in outer.guards] == ["bounded", "timeout", "retry"]
    with VirtualClock():
        assert outer() == "answer"


def test_a_single_call_of_a_guarded_function_nests() -> None:
    limit = bounded(1)
    inner = limit(lambda: limit.statistics().in_flight)
    with VirtualClock():
        assert stack(limit, retry()).call(inner) == 1


@pytest.mark.parametrize("seed", range(3))
def test_many_functions_over_few_policies_in_all_orders_end(seed: int) -> None:
    a, b, c = bounded(1), bounded(2), bounded(3)
    pace, votes = ramp_up(ceiling=50), breaker()
    stacks = [stack(a, b, c, retry()), stack(c, pace, a), stack(b, retry(), votes, a), stack(votes, c, b, retry()),
              stack(retry(), pace, votes, c), stack(a)]

    def work(item: int) -> int:
        time.sleep(0.05)
        return item

    functions = [each(work) for each in stacks]
    with VirtualClock(seed, shuffle=True) as time:
        results = call_all(lambda item: functions[item % len(functions)](item), range(120))
    assert [result.value for result in results] == list(range(120))
    assert (a.statistics().peak, b.statistics().peak) == (1, 2)
    assert a.statistics().in_flight == b.statistics().in_flight == c.statistics().in_flight == 0


def test_functions_and_policies_that_are_dropped_leave_nothing_behind() -> None:
    def made() -> list[weakref.ref[object]]:
        limit, pace, bound, votes = bounded(1), ramp_up(), timeout(5), breaker(name="dropped")
        ask = limit(pace(retry(bound(votes(lambda: "answer")))))
        ask()
        return [weakref.ref(each) for each in (ask, limit, pace, bound, votes)]

    with VirtualClock():
        kept = made()
        gc.collect()
        assert [each() for each in kept] == [None] * 5
