"""After `os.fork` the child's policies are fresh, and the parent's permits void in it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable

import pytest
from scripted import Ended

from llm_guard import bounded, breaker, ramp_up, retry, timeout
from llm_guard.outcome import Kind

pytestmark = [pytest.mark.real, pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
              pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")]


def in_child(check: Callable[[], None]) -> None:
    """Runs `check` in a forked child; fails where it fails there, or has not ended after ten seconds."""
    child = os.fork()
    if not child:
        signal.alarm(10)
        status = 1
        try:
            check()
            status = 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


class Busy:
    """A thread that is inside a guarded call, and others that wait at the door, until the block ends."""

    def __init__(self, ask: Callable[[Callable[[], object]], object], waiting: int = 0) -> None:
        self._inside, self._over = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=ask, args=(self._hold,))]
        self._threads += [threading.Thread(target=ask, args=(lambda: None,)) for _ in range(waiting)]

    def _hold(self) -> None:
        self._inside.set()
        self._over.wait(20)

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()
        assert self._inside.wait(10)

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(10)


def _run(function: Callable[[], object]) -> object:
    return function()


def test_places_pace_timeouts_and_circuit_are_fresh_in_the_child() -> None:
    limit, pace, bound, votes = bounded(1), ramp_up(), timeout(15), breaker()
    ask = limit(pace(bound(retry(votes(_run)))))

    def check() -> None:
        assert limit.statistics().in_flight == limit.statistics().peak == limit.statistics().waiting == 0
        assert pace.statistics().pace.in_flight == 0
        assert pace.statistics().pace.state == "cold"
        assert votes.statistics().state == "closed"
        assert ask(lambda: "in the child") == "in the child"

    with Busy(ask, waiting=2):
        votes.open()
        in_child(check)
        assert limit.statistics().in_flight == 1
        votes.close()


def test_the_limit_holds_in_each_process() -> None:
    limit = bounded(1)
    ask = limit(_run)

    def check() -> None:
        with Busy(ask):
            assert limit.statistics().in_flight == 1

    with Busy(ask):
        in_child(check)


def test_a_permit_of_the_parent_is_void_in_the_child() -> None:
    limit, pace = bounded(1), ramp_up()
    ask = limit(pace(_run))
    children: list[int] = []

    def forks() -> None:
        children.append(os.fork())
        if not children[0]:
            signal.alarm(10)

    try:
        ask(forks)
    finally:
        if children and not children[0]:
            fresh = limit.statistics().in_flight == pace.statistics().pace.in_flight == 0
            os._exit(0 if fresh and ask(lambda: "again") == "again" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
    assert limit.statistics().in_flight == pace.statistics().pace.in_flight == 0


def test_keys_are_fresh_in_the_child_and_their_permits_void() -> None:
    limit, pace = bounded(1, per_key="key"), ramp_up(key="key")

    @limit
    @pace
    def keyed(function: Callable[[], object], key: str = "a") -> object:
        return function()

    def check() -> None:
        assert (limit.statistics().keys, limit.statistics_of("a").in_flight) == (0, 0)
        assert (pace.statistics().keys, pace.statistics_of("b").pace.state) == (0, "cold")
        assert keyed(lambda: "in the child") == keyed(lambda: "in the child", key="b") == "in the child"
        assert limit.statistics().keys == 2

    with Busy(keyed, waiting=2):
        pace.pause(600)
        in_child(check)
        assert limit.statistics_of("a").in_flight == 1
        assert pace.statistics_of("b").pace.state == "paused"
        pace.resume()


def test_functions_that_still_run_in_the_parent_are_not_counted_in_the_child() -> None:
    over = threading.Event()
    bound = timeout(0.05, max_still_running=1)
    ask = bound(_run)
    with pytest.raises(TimeoutError):
        ask(lambda: over.wait(20))

    def check() -> None:
        assert bound.statistics().still_running == 0
        assert ask(lambda: "in the child") == "in the child"

    assert bound.statistics().still_running == 1
    in_child(check)
    over.set()


def test_a_retry_budget_is_fresh_in_the_child() -> None:
    def fails() -> None:
        attempts.append(1)
        raise Ended(Kind.FAILURE)

    attempts: list[int] = []
    ask = retry(budget=0.01, wait=0, jitter=None)(fails)
    for _ in range(3):
        with pytest.raises(Ended):
            ask()
    spent = len(attempts)

    def check() -> None:
        with pytest.raises(Ended):
            ask()
        assert len(attempts) > spent + 1

    in_child(check)
