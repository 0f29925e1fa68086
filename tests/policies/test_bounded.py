"""`@bounded(n)`: at most n in flight, first come, first served."""

from __future__ import annotations

import pytest
from scripted import Server, Task, call_all, read

from llm_guard import Saturated, bounded, ramp_up, retry
from llm_guard.clock.virtual import VirtualClock
from llm_guard.outcome import Kind


@pytest.mark.parametrize("seed", range(3))
def test_never_more_than_n_in_flight_and_all_are_used(seed: int) -> None:
    server = Server()
    limit = bounded(7)
    with VirtualClock(seed, shuffle=True) as time:
        results = call_all(limit(lambda item: server(item)), range(70))
        assert time.now() == pytest.approx(10)  # no place stays empty
    assert [result.value for result in results] == list(range(70))
    assert server.peak == limit.statistics().peak == 7
    assert limit.statistics().in_flight == limit.statistics().waiting == 0


def test_first_come_first_served() -> None:
    served: list[int] = []

    @bounded(1)
    def ask(item: int) -> None:
        served.append(item)
        time.sleep(1)

    def comes(item: int) -> None:
        time.sleep(item / 1000)
        ask(item)

    with VirtualClock(5, shuffle=True) as time:
        call_all(comes, range(40))
    assert served == list(range(40))


def test_retries_go_first() -> None:
    server = Server(Kind.FAILURE, seconds=1.0)
    served: list[str] = []

    @retry(wait=0.5, jitter=None, classify=read)
    @bounded(1)
    def ask(item: str) -> None:
        served.append(item)
        server()

    with VirtualClock():
        tasks = [Task(lambda item=item: ask(item)) for item in "abcd"]  # type: ignore[misc]
        for task in tasks:
            task.wait()
    assert "".join(served) == "abacd"


def test_the_place_is_free_between_two_attempts() -> None:
    server = Server((Kind.LIMITED, 10.0))
    limit = bounded(1)
    ask = retry(classify=read)(limit(lambda: server()))
    with VirtualClock() as time:
        first = Task(ask)
        time.sleep(2)
        assert limit.statistics().in_flight == 0
        assert ask() == "answer"
        assert time.now() == 3.0
        first.wait()


def test_held_for_the_call_it_is_a_mutex() -> None:
    server = Server((Kind.LIMITED, 10.0), Kind.FAILURE)
    limit = bounded(1, holds="call")
    ask = limit(ramp_up(retry(classify=read)(lambda item: server(item))))
    with VirtualClock() as time:
        first = Task(lambda: ask("first"))
        time.sleep(2)
        assert limit.statistics().in_flight == 1
        second = Task(lambda: ask("second"))
        assert limit.statistics().waiting == 1
        first.wait()
        second.wait()
        assert limit.statistics().peak == 1
        assert limit.statistics().in_flight == 0
    assert len(server.starts) == 4
    assert server.starts[3] == first.ended_at  # handed over when the call had ended, not sooner


@pytest.mark.parametrize("above", [True, False], ids=["above retry", "below retry"])
def test_held_for_the_call_it_means_the_same_above_and_below_the_retry(above: bool) -> None:
    server, limit = Server(*[Kind.FAILURE] * 5), bounded(1, holds="call")
    again = retry(classify=read)
    ask = limit(again(lambda: server())) if above else again(limit(lambda: server()))
    with VirtualClock(1, shuffle=True):
        tasks = [Task(ask) for _ in range(5)]
        for task in tasks:
            task.wait()
    assert len(server.starts) == 10
    assert limit.statistics().peak == 1


def test_max_wait_bounds_the_wait_for_a_place() -> None:
    limit = bounded(1, max_wait=2)
    ask = limit(lambda: time.sleep(10))
    with VirtualClock() as time:
        Task(ask)
        time.sleep(1)
        with pytest.raises(Saturated, match="bounded") as error:
            ask()
        assert (time.now(), error.value.policy) == (3.0, "bounded")
        assert limit.statistics().waiting == 0


def test_max_wait_of_zero_starts_now_or_never() -> None:
    limit = bounded(1, max_wait=0)
    ask = limit(lambda: time.sleep(10))
    with VirtualClock() as time:
        first = Task(ask)
        with pytest.raises(Saturated):
            ask()
        assert time.now() == 0
        first.wait()
        ask()
        assert time.now() == 20


def test_the_limit_can_be_raised_while_threads_wait() -> None:
    limit = bounded(1)
    ask = limit(lambda: time.sleep(10))
    with VirtualClock() as time:
        tasks = [Task(ask) for _ in range(6)]
        time.sleep(1)
        limit.n = 4
        assert limit.n == limit.statistics().limit == 4
        for task in tasks:
            task.wait()
        assert sorted(task.ended_at or 0 for task in tasks) == [10, 11, 11, 11, 20, 21]


def test_a_lower_limit_takes_nothing_from_those_in_flight() -> None:
    limit, server = bounded(4), Server(seconds=10.0)
    ask = limit(lambda: server())
    with VirtualClock() as time:
        tasks = [Task(ask) for _ in range(6)]
        time.sleep(1)
        limit.n = 1
        assert limit.statistics().in_flight == 4
        for task in tasks:
            task.wait()
        assert server.starts == [0, 0, 0, 0, 10, 20]
