"""`@ramp_up` in a stack: the bound on starts, the live settings, what it refuses."""

from __future__ import annotations

import pytest
from scripted import Ended, Server, Task, assert_paced, call_all, read

from llm_guard import ConfigError, QuotaExhausted, Saturated, bounded, ramp_up, retry
from llm_guard.clock.virtual import VirtualClock
from llm_guard.outcome import Kind


@pytest.mark.parametrize("seed", range(3))
def test_no_more_start_in_any_window_than_the_ceiling_allows(seed: int) -> None:
    server = Server(*[Kind.FAILURE, (Kind.LIMITED, 0.5), Kind.OVERLOAD] * 5, seconds=0.3)
    with VirtualClock(seed, shuffle=True):
        results = call_all(ramp_up(ceiling=10, classify=read)(retry(lambda item: server(item))), range(100))
    assert all(result.error is None for result in results)
    assert len(server.starts) > 100
    assert_paced(server.starts, 10)


def test_two_functions_share_one_pace() -> None:
    server, pace = Server(seconds=0.2), ramp_up(ceiling=10)
    one, two = pace(lambda item: server(item)), pace(retry(lambda item: server(item)))
    with VirtualClock(1, shuffle=True):
        call_all(lambda item: (one, two)[item % 2](item), range(60))
    assert_paced(server.starts, 10)


def test_the_first_rate_can_be_given() -> None:
    server = Server(seconds=0.1)
    with VirtualClock():
        call_all(ramp_up(start=1)(lambda item: server(item)), range(3))
    assert server.starts[1] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("before", "after"), [(0.1, 100.0), (0.1, None), (100.0, 0.1)])
def test_the_ceiling_can_be_set_while_threads_wait(before: float, after: float | None) -> None:
    server, pace = Server(seconds=0.1), ramp_up(ceiling=before)
    ask = pace(lambda: server())
    with VirtualClock() as time:
        tasks = [Task(ask) for _ in range(3)]
        time.sleep(1)  # nothing is in flight whose end would wake the others
        pace.ceiling = after
        assert pace.ceiling == after
        if before > 1:
            tasks += [Task(ask) for _ in range(2)]
        for task in tasks:
            task.wait()
    if before < 1:
        assert max(server.starts) < 1.1  # nobody waits for a turn of the old rate
    else:
        assert_paced(server.starts[3:], 0.1)


def test_a_ceiling_that_cannot_work_is_refused_and_changes_nothing() -> None:
    pace = ramp_up(ceiling=5)
    for wrong in (0, -1, float("nan"), "8", True):
        with pytest.raises(ConfigError, match="ceiling"):
            pace.ceiling = wrong  # type: ignore[assignment]
    assert pace.ceiling == 5


def test_a_pause_holds_all_back_and_resume_lets_them_go() -> None:
    server, pace = Server(seconds=0.1), ramp_up()
    ask = pace(lambda: server())
    with VirtualClock() as time:
        pace.pause(60)
        assert pace.statistics().pace.state == "paused"
        tasks = [Task(ask) for _ in range(3)]
        time.sleep(59)
        assert not server.starts
        assert pace.statistics().waiting == 3
        time.sleep(2)
        assert len(server.starts) == 3
        pace.pause(1000)
        tasks += [Task(ask) for _ in range(3)]
        time.sleep(5)
        pace.resume()
        for task in tasks:
            task.wait()
        assert time.now() < 70


def test_a_pause_holds_back_also_who_waited_before_it() -> None:
    server, pace = Server(seconds=0.1), ramp_up(ceiling=0.5)
    with VirtualClock() as time:
        tasks = [Task(pace(lambda: server())) for _ in range(2)]
        time.sleep(1)
        pace.pause(30)
        for task in tasks:
            task.wait()
    assert server.starts[1] >= 31


def test_resume_opens_a_gate_that_refusals_have_shut() -> None:
    server, pace = Server((Kind.LOADING, 30.0), seconds=0.1), ramp_up(classify=read)
    ask = pace(lambda: server())
    with VirtualClock() as time:
        with pytest.raises(Ended):
            ask()
        task = Task(ask)
        time.sleep(1)
        assert len(server.starts) == 1
        pace.resume()
        task.wait()
        assert time.now() < 2


def test_max_wait_bounds_the_wait() -> None:
    pace = ramp_up(ceiling=0.1, max_wait=3)
    ask = pace(lambda: None)
    with VirtualClock() as time:
        ask()
        with pytest.raises(Saturated) as error:
            ask()
        assert (time.now(), error.value.policy) == (3.0, "ramp_up")
        assert error.value.retry_after == pytest.approx(7.0, abs=0.02)


@pytest.mark.parametrize("above", [2, 9])
def test_the_shortest_max_wait_of_the_stack_holds(above: float) -> None:
    limit = bounded(1, max_wait=11 - above)
    ask = ramp_up(max_wait=above)(limit(lambda: time.sleep(60)))
    with VirtualClock() as time:
        Task(ask)
        with pytest.raises(Saturated):
            ask()
        assert time.now() == 2.0


def test_it_learns_only_of_waits_that_are_its_own() -> None:
    server, pace = Server(seconds=1.0), ramp_up(start=5)
    ask = bounded(1)(pace(lambda item: server(item)))
    with VirtualClock() as time:
        call_all(ask, range(20))
        assert time.now() == 20
        assert pace.statistics().pace.rate == 5  # it was the limit that held them back


def test_an_exhausted_quota_refuses_until_it_is_back() -> None:
    server, pace = Server((Kind.QUOTA, 100.0)), ramp_up(classify=read)
    ask = pace(retry(lambda: server()))
    with VirtualClock() as time:
        with pytest.raises(Ended):
            ask()
        time.sleep(40)
        with pytest.raises(QuotaExhausted) as error:
            ask()
        assert error.value.retry_after == pytest.approx(60)
        assert time.now() == 41
        pace.resume()
        assert ask() == "answer"


def test_a_cold_server_is_asked_by_few_and_then_by_more() -> None:
    server = Server(seconds=1.0)
    with VirtualClock() as time:
        call_all(ramp_up(lambda item: server(item)), range(200))
        assert time.now() < 12
    first = sum(start < 0.9 for start in server.starts)
    assert first <= 4
    assert server.peak > 5 * first
