"""64 threads on one stack, as fast as they can, beside 64 on the peers' stack: throughput, and who gets how much.

The peers' are tenacity over pyrate-limiter over pybreaker, which do what @retry @ramp_up @breaker do; once more with a
place among 64 for each. pybreaker holds its lock while the function runs, which costs nothing here, for it does
nothing. Each thread calls once, and again until time is up, which counts from when all are there. Who gets how much
shows in one long run: a thread that holds the interpreter may keep it for 5 ms, so that even threads which share
nothing do not get the same within seconds; theirs is beside.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from threading import BoundedSemaphore
from time import perf_counter

import pybreaker
import pyrate_limiter
from overhead import bare, never_waits, tenacious
from peers import NEVER

from llm_guard import bounded, breaker, retry, stack
from speed_rows.row import Effort, Row
from speed_rows.turns import in_turns, ratio, run_together

THREADS = 64

Call = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Shared:
    """Calls a second, calls in a second of CPU, and the fastest thread's calls over the slowest's."""

    rate: float
    by_cpu: float
    spread: float


def rows(effort: Effort) -> list[Row]:
    seconds = max(0.25, 1.5 * effort.scale)
    with ExitStack() as open_until_the_end:
        three = _peers(open_until_the_end)
        places = BoundedSemaphore(THREADS)

        def four(prompt: str) -> str:
            with places:
                return three(prompt)

        subjects: dict[str, Call] = {"peers": three, "own": stack(retry(), never_waits(), breaker())(bare)}
        if not effort.few:
            subjects |= {"peers, bounded": four,
                         "own, bounded": stack(retry(), never_waits(), bounded(THREADS), breaker())(bare)}
        found = in_turns({name: _turn(call, seconds) for name, call in subjects.items()}, effort.rounds)
        long = 8 * effort.scale
        spread = {} if effort.few else {name: _turn(call, long)().spread for name, call in {
            "peers": three, "own": subjects["own"], "nothing shared": bare}.items()}

    def times(own: str, peer: str, figure: str) -> float:
        return ratio([getattr(one, figure) for one in found[own]], [getattr(one, figure) for one in found[peer]])

    part = f"contended, {THREADS} threads"
    beside = f"{median(one.rate for one in found['own']):.0f} a second"
    if not effort.few:
        beside += f"; with @bounded and a semaphore {times('own, bounded', 'peers, bounded', 'rate'):.2f} times"
    found_rows = [
        Row(part, "throughput, times tenacity + pyrate-limiter + pybreaker", times("own", "peers", "rate"), 2.0,
            at_least=True, beside=beside),
        Row(part, "calls in a second of CPU, times those", times("own", "peers", "by_cpu"), at_least=True, steady=True)]
    if spread:
        found_rows.append(Row(part, f"fastest thread over slowest, in {long:g} s", spread["own"], 1.5,
                              beside=f"of the peers {spread['peers']:.2f}, of threads that share nothing "
                                     f"{spread['nothing shared']:.2f}"))
    return found_rows


def _peers(open_until_the_end: ExitStack) -> Call:
    limiter = pyrate_limiter.Limiter(pyrate_limiter.Rate(NEVER, pyrate_limiter.Duration.SECOND))
    open_until_the_end.callback(limiter.close)
    breaking: Call = pybreaker.CircuitBreaker()(bare)

    @tenacious()
    def ask(prompt: str) -> str:
        limiter.try_acquire("peer")
        return breaking(prompt)

    return ask


def _turn(call: Call, seconds: float) -> Callable[[], Shared]:
    def turn() -> Shared:
        counts: list[int] = []
        until = 0.0

        def start() -> None:
            nonlocal until
            until = perf_counter() + seconds

        def caller() -> None:
            count, time_is_left = 0, True
            while time_is_left:
                call("hello")
                count += 1
                time_is_left = perf_counter() < until
            counts.append(count)

        took = run_together([caller] * THREADS, start)
        return Shared(sum(counts) / took.wall, sum(counts) / took.cpu, max(counts) / min(counts))

    return turn
