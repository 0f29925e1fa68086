"""What a guarded function weighs, and a caller that waits at its door: bounds that only a gross change breaks. What is
measured is in docs/speed.md."""

from __future__ import annotations

import gc
import tracemalloc
from _thread import allocate_lock
from collections.abc import Callable
from threading import Event, Thread
from time import monotonic
from typing import Any

import pytest

from llm_guard import bounded, breaker, ramp_up, retry, stack, timeout

FUNCTIONS, CALLERS = 30, 60
CALLS = 110  # more than a breaker's window holds

Decorator = Callable[[Callable[[str], str]], Callable[[str], str]]


def _bare(prompt: str) -> str:
    return prompt


def _unbounded() -> Any:
    return ramp_up(start=1e9)  # which these calls never wait for


DECORATORS: dict[str, tuple[Callable[[], Decorator], int]] = {  # with the most bytes
    "retry": (retry, 2048), "bounded": (lambda: bounded(8), 2048), "timeout": (lambda: timeout(5), 2048),
    "breaker": (breaker, 3072), "ramp_up": (_unbounded, 4096),
    "all five": (lambda: stack(_unbounded(), bounded(8), retry(), timeout(5), breaker()), 7168),
}


def _bytes_of(make: Callable[[], object]) -> float:
    """What is allocated in there and still there afterwards, while what it returns is kept."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = make()
        gc.collect()
        weight = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    del kept
    return weight


def _used(make: Callable[[], Decorator]) -> list[Callable[[str], str]]:
    functions = [make()(_bare) for _ in range(FUNCTIONS)]
    for function in functions:
        for _ in range(CALLS):
            function("hello")
    return functions


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.real if name in ("timeout", "all five") else ()) for name in DECORATORS])
def test_a_guarded_function_is_light(name: str) -> None:
    make, most = DECORATORS[name]
    first = _used(make)  # brings in what all share
    assert 500 < _bytes_of(lambda: _used(make)) / FUNCTIONS < most
    del first


def _waiting(call: Callable[[], object], waiting: Callable[[], int], release: Callable[[], None]) -> float:
    """Bytes a thread, of those that wait in `call`."""
    threads = [Thread(target=call, daemon=True) for _ in range(CALLERS)]

    def park() -> None:
        for thread in threads:
            thread.start()
        until = monotonic() + 10
        while waiting() < CALLERS and monotonic() < until:
            Event().wait(0.01)
        Event().wait(0.1)  # until the last is parked, too

    try:
        return _bytes_of(park) / CALLERS
    finally:
        assert waiting() == CALLERS
        release()
        for thread in threads:
            thread.join()


def _at_a_lock() -> float:
    lock = allocate_lock()
    lock.acquire()
    come: list[None] = []

    def wait() -> None:
        come.append(None)
        with lock:
            pass

    return _waiting(wait, lambda: len(come), lock.release)


@pytest.mark.real
@pytest.mark.parametrize("others", [(), (_unbounded, retry, lambda: timeout(50), breaker)], ids=["bounded", "all five"])
def test_a_caller_that_waits_is_light_beyond_its_thread(others: tuple[Callable[[], Any], ...]) -> None:
    entered, leave = Event(), Event()

    def hold(prompt: str) -> str:
        if prompt == "first":
            entered.set()
            leave.wait()
        return prompt

    function = stack(*(make() for make in others), bounded(1))(hold)
    Thread(target=function, args=("first",), daemon=True).start()
    assert entered.wait(10)
    thread = _at_a_lock()
    assert 300 < _waiting(lambda: function("next"), function.waiting, leave.set) - thread < 1280
