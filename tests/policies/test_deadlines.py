"""`@deadline`: waits end in time, nothing begins after it, no thread is needed."""

from __future__ import annotations

import threading

import pytest
from scripted import Ended, Server, Task, read

from llm_guard import Saturated, bounded, deadline, ramp_up, retry, stack
from llm_guard.clock.virtual import VirtualClock
from llm_guard.outcome import Kind


def test_a_wait_at_the_door_ends_at_the_deadline() -> None:
    limit = bounded(1)
    ask = deadline(3)(limit(lambda: time.sleep(60)))
    with VirtualClock() as time:
        Task(limit(lambda: time.sleep(60)))
        with pytest.raises(Saturated) as error:
            ask()
        assert time.now() == 3.0
        assert error.value.policy == "bounded"


@pytest.mark.parametrize("seed", range(5))
def test_no_attempt_begins_after_it_and_the_last_error_is_raised(seed: int) -> None:
    server = Server(then=Kind.FAILURE, seconds=0.5)
    ask = retry(attempts=100, classify=read)(deadline(6)(lambda: server()))
    with VirtualClock(seed) as time:
        with pytest.raises(Ended) as error:
            ask()
        assert len(server.starts) > 3
        assert max(server.starts) < 6
        assert time.now() < 6.5  # what runs is not cut off
        assert str(len(server.starts)) in error.value.__notes__[0]


@pytest.mark.parametrize("above", [True, False], ids=["above", "below"])
def test_it_bounds_the_whole_call_wherever_it_stands(above: bool) -> None:
    server = Server(then=Kind.FAILURE)
    again = retry(attempts=100, wait=1, jitter=None, classify=read)
    ask = deadline(10)(again(lambda: server())) if above else again(deadline(10)(lambda: server()))
    with VirtualClock(), pytest.raises(Ended):
        ask()
    assert server.starts == [0, 2, 4, 6, 8]


def test_a_wait_between_attempts_that_would_pass_it_is_not_begun() -> None:
    server = Server((Kind.LIMITED, 30.0))
    ask = deadline(20)(retry(classify=read)(lambda: server()))
    with VirtualClock() as time:
        with pytest.raises(Ended):
            ask()
        assert time.now() == 1.0


def test_the_function_runs_in_the_callers_thread() -> None:
    ask = deadline(5)(retry(bounded(1)(threading.get_ident)))
    with VirtualClock():
        assert ask() == threading.get_ident()


def test_it_is_cooperative_and_the_answer_after_it_counts() -> None:
    server = Server(seconds=10.0)
    with VirtualClock():
        assert deadline(1)(lambda: server())() == "answer"


def test_of_several_deadlines_the_shortest_holds() -> None:
    limit = bounded(1)
    ask = stack(deadline(9), limit, deadline(4), deadline(6))(lambda: None)
    with VirtualClock() as time:
        Task(limit(lambda: time.sleep(60)))
        with pytest.raises(Saturated):
            ask()
        assert time.now() == 4.0


def test_it_can_be_set_for_calls_to_come() -> None:
    policy, limit = deadline(9), bounded(1)
    ask = policy(limit(lambda: None))
    with VirtualClock() as time:
        Task(limit(lambda: time.sleep(60)))
        before = Task(ask)
        time.sleep(1)
        policy.seconds = 2.0
        after = Task(ask)
        for task in (before, after):
            task.ended()
        assert (before.ended_at, after.ended_at) == (9.0, 3.0)
        assert policy.statistics().seconds == 2.0


def test_a_call_that_could_not_end_in_time_gives_its_turn_up() -> None:
    server = Server(then=10.0)
    pace, limit = ramp_up(), bounded(1)
    ask = deadline(30)(limit(pace(lambda: server())))
    with VirtualClock() as time:
        for _ in range(3):
            ask()
        came = time.now()
        tasks = [Task(ask) for _ in range(4)]
        ended = [task.ended() for task in tasks]
    assert [type(task.error) for task in ended] == [type(None)] * 3 + [Saturated]
    assert ended[3].ended_at == came + 30.0  # its turn came when 0 s were left
    assert len(server.starts) == 6


def test_slow_answers_do_not_refuse_for_ever_those_with_little_time() -> None:
    server = Server(then=3.0)
    ask = ramp_up(deadline(5)(lambda: server()))  # 2.5 times the latency is more than the call has
    with VirtualClock() as time:
        for _ in range(6):
            assert ask() == "answer"
            time.sleep(1)
