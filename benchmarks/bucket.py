"""A LeakyBucket with many threads in line: rate, order, bound, lateness and CPU.

    python benchmarks/bucket.py [--threads N] [--rate CALLS_A_SECOND] [--seconds N] [--idle SECONDS]

The threads acquire again and again, so that all of them wait all the time. The bucket's own account is kept at the
instants when it grants, under its lock; the threads' account when `acquire` has returned to them, which adds the time
that waking takes. Beside them, in the same seconds, one thread goes by the same arithmetic (`Leak`) with nothing but
time.sleep: what it is late by is the machine's doing. Then all threads wait for a grant that does not come.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from statistics import quantiles
from threading import Thread
from time import monotonic, sleep, thread_time

import timing
from speed_rows.turns import run_together

from llm_guard import LeakyBucket
from llm_guard.state.bucket import LeakGate
from llm_guard.state.gate import Request
from llm_guard.state.leak import CATCH_UP, Leak


@dataclass
class Account:
    """Instants and seconds, one entry a start."""

    due: list[float] = field(default_factory=list)
    started: list[float] = field(default_factory=list)

    def add(self, due: float, started: float) -> None:
        self.due.append(due)
        self.started.append(started)

    def lateness(self) -> list[float]:
        """Of those that had to wait for their turn."""
        return [max(0.0, at - due) for due, at in zip(self.due, self.started, strict=True) if due > -inf]

    def rate(self) -> float:
        return (len(self.started) - 1) / (self.started[-1] - self.started[0])


class ObservedGate(LeakGate):
    """Writes down what it grants, in the order in which it does."""

    def __init__(self, rate: float) -> None:
        super().__init__(rate)
        self.granted = Account()
        self.came: list[float] = []  # when each got in line

    def start(self, now: float, request: Request) -> None:
        self.granted.add(self.leak.next_start, now)
        self.came.append(request.since)
        super().start(now, request)


class ObservedBucket(LeakyBucket):
    """A bucket whose gate is observed."""

    def __init__(self, rate: float) -> None:
        super().__init__(rate)
        self.gate = self._gate = ObservedGate(rate)
        self._gates = (self.gate,)


@dataclass(frozen=True)
class Busy:
    """What all accounts of one run say. `cpu` and `sleeper_cpu` are the shares of one processor that the bucket's
    threads and the sleeper took."""

    granted: Account
    came: list[float]
    woken: list[float]
    sleeper: Account
    cpu: float
    sleeper_cpu: float


def busy(threads: int, rate: float, seconds: float) -> Busy:
    bucket = ObservedBucket(rate)
    each = max(2, round(rate * seconds / threads))
    woken: list[float] = []
    sleeper = Account()
    sleeper_cpu: list[float] = []

    def acquire() -> None:
        for _ in range(each):
            bucket.acquire()
            woken.append(monotonic())

    def only_sleep() -> None:
        leak = Leak()
        leak.take(now := monotonic(), now, rate)
        for _ in range(each * threads - 1):
            due = leak.next_start
            while (now := monotonic()) < due:
                sleep(due - now)
            sleeper.add(due, now)
            leak.take(now, -inf, rate)
        sleeper_cpu.append(thread_time())

    took = run_together([acquire] * threads + [only_sleep])
    return Busy(bucket.gate.granted, bucket.gate.came, sorted(woken), sleeper,
                (took.cpu - sleeper_cpu[0]) / took.wall, sleeper_cpu[0] / took.wall)


def waiting_cpu(threads: int, seconds: float) -> float:
    """The share of one processor that so many threads take while none of them is granted anything."""
    bucket = LeakyBucket(1 / (1000 * seconds))
    bucket.acquire()
    waiting = [Thread(target=bucket.acquire, daemon=True) for _ in range(threads)]
    for thread in waiting:
        thread.start()
    while bucket.waiting < threads:
        sleep(0.01)
    began = timing.read()
    sleep(seconds)
    took = began.passed()
    bucket.rate = 1e6  # lets them all go
    for thread in waiting:
        thread.join()
    return took.cpu / took.wall


def furthest_ahead(started: Sequence[float], rate: float) -> float:
    """The least c, in seconds, for which every window of w seconds holds at most rate * (w + c) + 1 starts."""
    ahead, lowest = -inf, inf
    for number, at in enumerate(started):  # a window is closed by two starts: that with the least before it is worst
        before = number - rate * at
        lowest = min(lowest, before)
        ahead = max(ahead, (before - lowest) / rate)
    return ahead


def in_milliseconds(seconds: Sequence[float]) -> list[str]:
    cuts = quantiles(seconds, n=100, method="inclusive")
    return [f"{1000 * value:.2f}" for value in (cuts[49], cuts[89], cuts[98], max(seconds))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=200)
    parser.add_argument("--rate", type=float, default=500.0, help="calls a second")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--idle", type=float, default=2.0, help="seconds to wait for nothing")
    chosen = parser.parse_args()
    rate = chosen.rate
    print(timing.line_of(timing.machine()))
    run = busy(chosen.threads, rate, chosen.seconds)
    cpu_of_waiting = waiting_cpu(chosen.threads, chosen.idle)
    granted = run.granted
    late_in_line = sum(later < sooner for sooner, later in pairwise(run.came))
    print(f"{chosen.threads} threads, {len(granted.started)} acquired at {rate:g} a second\n")
    print(timing.table(["figure", "measured", "should be"], [
        ["rate, calls a second", f"{granted.rate():.1f}", f"{rate:g} within 3%, where the next line is too"],
        ["  of time.sleep alone", f"{run.sleeper.rate():.1f}", ""],
        ["granted out of turn", f"{late_in_line}", "0: first come, first served"],
        ["most ahead of the rate, ms", f"{1000 * furthest_ahead(granted.started, rate):.2f}",
         f"at most {1000 * CATCH_UP:g}: in w seconds at most rate * (w + {CATCH_UP:g}) + 1 start"],
        ["  as the threads see it", f"{1000 * furthest_ahead(run.woken, rate):.2f}", "above, by what waking varies"],
        ["CPU, % of one", f"{100 * run.cpu:.2f}", "next to none"],
        ["  of time.sleep alone", f"{100 * run.sleeper_cpu:.2f}", ""],
        ["  while nothing is granted", f"{100 * cpu_of_waiting:.2f}", "next to none"],
    ]))
    print()
    woke_late = [max(0.0, at - due) for due, at in zip(granted.due[1:], run.woken[1:], strict=True)]
    print(timing.table(["late, ms", "median", "90%", "99%", "most", ""], [
        ["grant", *in_milliseconds(granted.lateness()), "when the bucket grants"],
        ["woken", *in_milliseconds(woke_late), "when the thread goes on"],
        ["time.sleep alone", *in_milliseconds(run.sleeper.lateness()), "in the same seconds"],
    ]))


if __name__ == "__main__":
    main()
