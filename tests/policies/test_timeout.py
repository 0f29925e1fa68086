"""`@timeout`: control returns in time; what still runs keeps its place in `@bounded`, and no other."""

from __future__ import annotations

import pytest
from scripted import Server, Task, read

from llm_guard import CallTimeout, Saturated, bounded, breaker, ramp_up, retry, timeout
from llm_guard.clock.virtual import VirtualClock
from llm_guard.outcome import Kind


def test_control_returns_in_time_whatever_the_function_does() -> None:
    server = Server(then=100.0)
    ask = timeout(5)(lambda: server())
    with VirtualClock() as time:
        with pytest.raises(CallTimeout) as error:
            ask()
        assert time.now() == 5.0
        assert server.running == 1
    assert isinstance(error.value, TimeoutError)
    assert error.value.seconds == 5.0
    assert error.value.still_running


def test_a_late_answer_is_dropped_and_an_early_one_returned() -> None:
    server = Server(100.0, 4.0)
    ask = timeout(5)(lambda: server())
    with VirtualClock() as time:
        with pytest.raises(CallTimeout):
            ask()
        assert ask() == "answer"
        assert time.now() == 9.0


def test_above_retry_it_bounds_the_call_and_below_each_attempt() -> None:
    with VirtualClock() as time:
        server = Server(then=100.0)
        again = retry(attempts=3, wait=1, jitter=None)
        with pytest.raises(CallTimeout):
            again(timeout(5)(lambda: server()))()
        assert server.starts == [0, 6, 12]
        came = time.now()
        server = Server(Kind.FAILURE, Kind.FAILURE, then=100.0)
        with pytest.raises(CallTimeout) as error:
            timeout(5)(retry(attempts=9, wait=1, jitter=None, classify=read)(lambda: server()))()
        assert [start - came for start in server.starts] == [0, 2, 4]
        assert time.now() == came + 5.0
        assert error.value.seconds == pytest.approx(1.0)  # what was left


def test_both_may_stand_there() -> None:
    server = Server(then=100.0)
    ask = timeout(60)(retry(attempts=99, wait=0, jitter=None)(timeout(10)(lambda: server())))
    with VirtualClock() as time:
        with pytest.raises(CallTimeout):
            ask()
        assert time.now() == 60.0
        assert server.starts == [0, 10, 20, 30, 40, 50]


def test_expiry_at_the_door_is_saturated_and_no_vote() -> None:
    limit, votes = bounded(1), breaker()
    ask = timeout(5)(votes(limit(lambda: None)))
    with VirtualClock() as time:
        Task(limit(lambda: time.sleep(60)))
        with pytest.raises(Saturated) as error:
            ask()
        assert time.now() == 5.0
        assert error.value.policy == "bounded"
        assert not isinstance(error.value, TimeoutError)
        assert votes.statistics().calls == 0


def test_expiry_while_running_is_a_bad_vote() -> None:
    votes = breaker()
    ask = timeout(5)(votes(lambda: time.sleep(60)))
    with VirtualClock() as time:
        with pytest.raises(CallTimeout):
            ask()
        assert (votes.statistics().calls, votes.statistics().failure_rate) == (1, 1.0)


def test_what_still_runs_keeps_its_place_in_bounded_but_not_in_the_window() -> None:
    server = Server(20.0)
    limit, pace, bound = bounded(1), ramp_up(), timeout(5)
    ask = limit(pace(bound(lambda: server())))
    with VirtualClock() as time:
        with pytest.raises(CallTimeout):
            ask()
        assert limit.statistics().in_flight == 1
        assert pace.statistics().pace.in_flight == 0
        assert bound.statistics().still_running == 1
        time.sleep(12)
        assert ask() == "answer"  # waited for the place
        assert server.starts == [0.0, 20.0]
        assert limit.statistics().in_flight == bound.statistics().still_running == 0


def test_a_place_held_for_the_whole_call_is_kept_until_all_its_functions_have_ended() -> None:
    server = Server(30.0, 9.0, 2.0)
    limit = bounded(1, holds="call")
    ask = limit(retry(wait=0, jitter=None)(timeout(5)(lambda: server())))
    with VirtualClock() as time:
        assert ask() == "answer"
        assert time.now() == 12.0
        assert limit.statistics().in_flight == 1
        time.sleep(17.9)
        assert limit.statistics().in_flight == 1
        time.sleep(0.2)
        assert limit.statistics().in_flight == 0


def test_past_max_still_running_new_calls_are_refused() -> None:
    server = Server(30.0, 40.0, seconds=0.5)
    bound, limit = timeout(1, max_still_running=2), bounded(2)
    ask = limit(bound(lambda: server()))  # both places are taken too: refused, not left to wait
    with VirtualClock() as time:
        for _ in range(2):
            with pytest.raises(CallTimeout):
                ask()
        with pytest.raises(Saturated, match="2 calls") as error:
            ask()
        assert (time.now(), error.value.policy) == (2.0, "timeout")
        time.sleep(30)
        assert bound.statistics().still_running == 1
        assert ask() == "answer"


def test_the_bound_can_be_set_while_calls_run() -> None:
    bound = timeout(50)
    ask = bound(lambda: time.sleep(100))
    with VirtualClock() as time:
        before = Task(ask)
        time.sleep(1)
        bound.seconds = 5
        after = Task(ask)
        for task in (before, after):
            task.ended()
        assert (before.ended_at, after.ended_at) == (50.0, 6.0)
        assert bound.statistics().seconds == 5.0


def test_a_timeout_of_the_functions_own_is_tried_again() -> None:
    server = Server(TimeoutError(), seconds=1.0)
    ask = retry(timeout(5)(lambda: server()))
    with VirtualClock():
        assert ask() == "answer"


def test_an_answer_at_the_very_instant_is_either_returned_or_timed_out_and_nothing_is_kept() -> None:
    outcomes = set()
    for seed in range(12):
        limit, bound = bounded(1), timeout(5)
        server = Server(5.0)
        ask = limit(bound(lambda server=server: server()))
        with VirtualClock(seed, shuffle=True) as time:
            try:
                outcomes.add(ask())
            except CallTimeout:
                outcomes.add("timed out")
            assert time.now() == 5.0
            time.sleep(1)
            assert (limit.statistics().in_flight, bound.statistics().still_running) == (0, 0)
    assert outcomes == {"answer", "timed out"}
