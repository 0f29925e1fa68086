"""Many consumers that read, close, drop, throw into and swap streams at random: never more than n at once, and in the
end all is back."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from scripted import Task

from llm_guard import CallTimeout, Rejected, bounded, breaker, call, clock, ramp_up, retry, timeout
from llm_guard.clock.virtual import VirtualClock

PLACES = 3


class Server:
    """Streams of random length, which fail, hang and are refused at random; knows which are open, without a lock, for
    some end in the midst of anything."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._open: set[object] = set()
        self._seen: list[int] = []

    @property
    def running(self) -> int:
        return len(self._open)

    @property
    def peak(self) -> int:
        return max(self._seen)

    @property
    def begun(self) -> int:
        return len(self._seen)

    def words(self, key: int) -> Iterator[int]:
        mine, token = call.in_progress(), object()
        self._open.add(token)
        self._seen.append(len(self._open))
        try:
            for number in range(self._random.randrange(6)):
                self._pause()
                assert call.in_progress() is mine, "streams are mixed up"
                if self._random.random() < 0.1:
                    raise OSError
                yield number
            self._pause()
        finally:
            self._open.discard(token)

    def _pause(self) -> None:
        hangs = self._random.random() < 0.1
        clock.current().sleep(30.0 if hangs else self._random.random())


class Consumers:
    """Each does `rounds` things with streams, some of them with one that another has opened."""

    def __init__(self, ask: Any, random: Random, rounds: int) -> None:
        self._ask = ask
        self._random = random
        self._rounds = rounds
        self._shelf: list[Any] = []
        self.odd: list[BaseException] = []

    def run(self) -> None:
        for _ in range(self._rounds):
            try:
                self._one()
            except (OSError, CallTimeout, Rejected, KeyError):
                pass
            except BaseException as error:
                self.odd.append(error)
                raise

    def _one(self) -> None:
        what = self._random.randrange(8)
        answer = self._shelf.pop() if what == 7 and self._shelf else self._ask(self._random.randrange(2))
        if what == 0:
            return  # dropped, unread
        if what == 1:
            held = [answer]
            held.append(held)  # the collector finds it one day
            return
        for number, _ in enumerate(answer):
            clock.current().sleep(self._random.random())
            if what == 2 and number:
                answer.close()
            elif what == 3 and number:
                answer.throw(KeyError())
            elif what == 4 and number:
                return  # dropped
            elif what == 5 and len(self._shelf) < 1:
                self._shelf.append(answer)
                return

    def clear(self) -> None:
        self._shelf.clear()
        gc.collect()


def stacks(server: Server) -> dict[str, tuple[Any, Any]]:
    limit = bounded(PLACES)
    again = retry(attempts=3, wait=0.1)
    bound = timeout(40, first_item=10, idle=5)
    return {
        "here": (limit, limit(again(server.words))),
        "on workers": (limit, limit(again(bound(server.words)))),
        "all": (limit, ramp_up(limit(again(breaker(min_calls=50, window=50)(bound(server.words)))))),
        "for the call": (held := bounded(PLACES, holds="call"), held(again(bound(server.words)))),
    }


@pytest.fixture
def frozen() -> Iterator[None]:
    """What was there before need not be looked at by the collector again and again."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize("stack", ["here", "on workers", "all", "for the call"])
@pytest.mark.parametrize("seed", range(6))
def test_never_more_than_n_and_all_is_back_in_the_end(stack: str, seed: int) -> None:
    random = Random(seed)
    server = Server(random)
    limit, ask = stacks(server)[stack]
    consumers = Consumers(ask, random, rounds=12)
    with VirtualClock(seed, shuffle=True) as time:
        collecting = [True]

        def collect() -> None:
            while collecting:
                time.sleep(2.0)
                gc.collect()  # what sits in a cycle holds its place until then

        time.spawn(collect, "collector")
        tasks = [Task(consumers.run) for _ in range(8)]
        for task in tasks:
            task.ended()
        consumers.clear()
        collecting.clear()
        time.sleep(100)
        assert not consumers.odd
        assert not [task.error for task in tasks if task.error is not None]
        assert server.begun >= 80
        assert limit.statistics().peak == PLACES
        # A call that holds its place from the first attempt to the last may have left one to itself.
        assert server.peak <= PLACES or stack == "for the call"
        statistics = ask.statistics()
        assert (server.running, limit.statistics().in_flight, limit.statistics().waiting) == (0, 0, 0)
        assert "timeout" not in statistics or statistics["timeout"].still_running == 0
        assert "ramp_up" not in statistics or statistics["ramp_up"].pace.in_flight == 0


@pytest.mark.real
@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize("stack", ["here", "on workers"])
def test_with_real_threads_and_a_collector_that_comes_at_any_time(stack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    random = Random(1)
    server = Server(random)
    limit, ask = stacks(server)[stack]
    consumers = Consumers(ask, random, rounds=40)
    monkeypatch.setattr(clock.current(), "sleep", lambda seconds: None)
    usual, often = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-5)
    gc.set_threshold(50)
    threads = [threading.Thread(target=consumers.run, daemon=True) for _ in range(6)]
    try:
        for thread in threads:
            thread.start()
        for _ in range(1500):
            alive = [thread for thread in threads if thread.is_alive()]
            if not alive:
                break
            alive[0].join(0.02)
            gc.collect()  # where all wait for what sits in cycles, nothing is allocated that would make it come
    finally:
        sys.setswitchinterval(usual)
        gc.set_threshold(*often)
    assert not any(thread.is_alive() for thread in threads)
    assert not consumers.odd
    assert server.begun >= 200
    assert server.peak <= PLACES
    consumers.clear()
    ends = [ask.with_options(max_wait=10) for _ in range(PLACES)]  # dropped ones may still be cleaned up by workers
    for end in ends:
        try:
            list(end(1))
        except OSError:
            pass
    assert server.running <= limit.statistics().in_flight <= PLACES
