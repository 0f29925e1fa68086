"""Bytes, as tracemalloc counts them: of a guarded function's state, and of a caller that waits, beyond its thread."""

from __future__ import annotations

import gc
import tracemalloc
from _thread import allocate_lock
from collections.abc import Callable
from threading import Event, Thread
from time import sleep
from typing import Any

import tenacity
from overhead import never_waits

from llm_guard import LeakyBucket, bounded, breaker, ramp_up, retry, stack, timeout
from speed_rows.row import Effort, Row

#: Calls of each function before its state is weighed: more than a breaker's window holds.
CALLS = 150

Decorator = Callable[[Callable[[str], str]], Callable[[str], str]]


def rows(effort: Effort) -> list[Row]:
    functions, threads = (10, 50) if effort.few else (30, 300)
    alone: dict[str, Callable[[], Decorator]] = {
        "@retry": retry, "@breaker": breaker, "@bounded": lambda: bounded(8), "@ramp_up": never_waits,
        "@timeout": lambda: timeout(5)}
    weights = {name: state_of(make, functions) for name, make in alone.items()}
    together, untouched = state_of(_all_five, functions), state_of(_all_five, functions, calls=0)
    peer = state_of(_tenacity, functions)
    held = _waiting_callers(threads)
    return [
        Row("all five on a function", "bytes of its state", together, 2048, steady=True,
            beside=", ".join(f"{name} {weight:.0f}" for name, weight in weights.items())
                   + f"; tenacity {peer:.0f}; after {CALLS} calls. All five before the first call {untouched:.0f}"),
        *(Row(name, "bytes of its state, alone on a function", weight, 2048, steady=True)
          for name, weight in weights.items()),
        *(Row(name, "bytes of a waiting caller beyond its thread", weight, 1024, steady=True)
          for name, weight in held.items())]


def _all_five() -> Decorator:
    return stack(never_waits(), bounded(8), retry(), timeout(5), breaker())


def _tenacity() -> Decorator:
    return tenacity.retry(stop=tenacity.stop_after_attempt(8), reraise=True)


def state_of(make: Callable[[], Decorator], functions: int, calls: int = CALLS) -> float:
    """Bytes for each of so many functions, each with a decorator of its own, after so many calls of it. The functions
    themselves are there before."""
    def made(bares: list[Callable[[str], str]]) -> list[Any]:
        guarded = [make()(function) for function in bares]
        for call in guarded:
            for _ in range(calls):
                call("hello")
        return guarded

    bares = _functions(2 * functions)
    kept, own = made(bares[:functions]), bares[functions:]  # the first bring in what all share
    before = _traced_from()
    measured = made(own)
    gc.collect()
    weight = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    del kept, measured, own
    return weight / functions


def _functions(number: int) -> list[Callable[[str], str]]:
    """Functions, each of a name of its own."""
    def own(name: str) -> Callable[[str], str]:
        def bare(prompt: str) -> str:
            return prompt

        bare.__qualname__ = name
        return bare

    return [own(f"bare_{which}") for which in range(number)]


def _traced_from() -> int:
    gc.collect()
    tracemalloc.start()
    return tracemalloc.get_traced_memory()[0]


def _waiting_callers(threads: int) -> dict[str, float]:
    """At a bucket, at one policy and at all five, each less what a thread weighs that waits for a lock."""
    def bucket() -> tuple[Callable[[], object], Callable[[], int], Callable[[], None]]:
        made = LeakyBucket(1e-6)
        made.acquire()

        def release() -> None:
            made.rate = 1e9

        return made.acquire, lambda: made.waiting, release

    def guarded(*others: Any) -> tuple[Callable[[], object], Callable[[], int], Callable[[], None]]:
        entered, leave = Event(), Event()

        def hold(prompt: str) -> str:
            if prompt == "first":
                entered.set()
                leave.wait()
            return prompt

        function = stack(*others, bounded(1))(hold)
        Thread(target=function, args=("first",), daemon=True).start()
        entered.wait()
        return lambda: function("next"), function.waiting, leave.set

    bare_thread = _weight(threads, *_lock(threads))
    return {"LeakyBucket": _weight(threads, *bucket()) - bare_thread,
            "@bounded": _weight(threads, *guarded()) - bare_thread,
            "all five": _weight(threads, *guarded(ramp_up(start=1e9), retry(), timeout(50), breaker())) - bare_thread}


def _lock(threads: int) -> tuple[Callable[[], object], Callable[[], int], Callable[[], None]]:
    """A thread that waits, and nothing else."""
    locks = [allocate_lock() for _ in range(threads)]
    for lock in locks:
        lock.acquire()
    come: list[Any] = []

    def wait() -> None:
        lock = locks[len(come)]
        come.append(lock)
        lock.acquire()

    def release() -> None:
        for lock in locks:
            lock.release()

    return wait, lambda: len(come), release


def _weight(threads: int, wait: Callable[[], object], waiting: Callable[[], int],
            release: Callable[[], None]) -> float:
    """Bytes for each of so many threads that wait."""
    all_of_them = [Thread(target=wait, daemon=True) for _ in range(threads)]
    before = _traced_from()
    for thread in all_of_them:
        thread.start()
    while waiting() < threads:
        sleep(0.01)
    sleep(0.2)  # until the last is parked, too
    gc.collect()
    weight = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    release()
    for thread in all_of_them:
        thread.join()
    return weight / threads
