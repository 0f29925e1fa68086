"""What a guarded call costs, beside its peers: microseconds a call of a function that does nothing, in one thread.

    python benchmarks/overhead.py [--rounds N] [--slice SECONDS] [--markdown] [--json FILE]

All subjects are timed in turns, round after round, with garbage collection off; printed are medians over the rounds. A
ratio is the median of the ratios within one round, so that it is free of what the machine did from round to round.

The figure to go by is CPU time of the whole process: both threads of a hand-over are in it, other processes are not.
Beside it stands wall time, which for a hand-over (@timeout, a pool) also holds the time that waking a thread takes; for
all others it is the CPU time, or else the machine was busy. A last column shows what the timed loops leave out: how
many objects a call leaves behind that only the garbage collector finds.

@ramp_up is measured as ramp_up(start=1e9). A fresh pace lets 1000 calls a second start, and more each second in which
it had to hold some back; this loop would wait for it, and waiting is no cost of the policy's code.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from statistics import median
from threading import BoundedSemaphore
from typing import Any

import backoff
import circuitbreaker
import pybreaker
import tenacity
import timing
from timing import Seconds

from llm_guard import bounded, breaker, deadline, ramp_up, retry, stack, timeout
from llm_guard.policies.ramp_up import RampUp

LIBRARIES = ("llm-guard-flow", "tenacity", "backoff", "circuitbreaker", "pybreaker")

Decorator = Callable[[Callable[[str], str]], Callable[[str], str]]


@dataclass(frozen=True)
class Subject:
    """Something to call, and the names of those that do the same job."""

    name: str
    call: Callable[[str], str]
    peers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cost:
    """Microseconds a call, how many times those of each peer, and objects a call left to the garbage collector."""

    name: str
    us: Seconds
    garbage: float
    ratios: dict[str, Seconds]


def bare(prompt: str) -> str:
    return prompt


def never_waits() -> RampUp:
    return ramp_up(start=1e9)


def tenacious() -> Decorator:
    """tenacity as `@retry` is set: eight tries with full jitter."""
    return tenacity.retry(stop=tenacity.stop_after_attempt(8),
                          wait=tenacity.wait_random_exponential(multiplier=0.1, max=8), reraise=True)


def backing_off() -> Decorator:
    """backoff, set likewise."""
    return backoff.on_exception(backoff.expo, Exception, max_tries=8, factor=0.1, max_value=8)


def subjects(pool: ThreadPoolExecutor) -> list[Subject]:
    semaphore = BoundedSemaphore(8)

    def with_semaphore(prompt: str) -> str:
        with semaphore:
            return bare(prompt)

    def on_pool(prompt: str) -> str:
        return pool.submit(bare, prompt).result(timeout=5)

    four = stack(never_waits(), bounded(8), retry(), breaker())
    five = stack(never_waits(), bounded(8), timeout(5), retry(), breaker())
    return [  # peers side by side, so that they are timed under like conditions
        Subject("bare function", bare),
        Subject("tenacity", tenacious()(bare)),
        Subject("backoff", backing_off()(bare)),
        Subject("@retry", retry(bare), ("tenacity", "backoff")),
        Subject("@ramp_up @bounded @retry @breaker", four(bare), ("tenacity",)),
        Subject("pybreaker", pybreaker.CircuitBreaker()(bare)),
        Subject("circuitbreaker", circuitbreaker.CircuitBreaker(name="peer")(bare)),
        Subject("@breaker", breaker(bare), ("pybreaker", "circuitbreaker")),
        Subject("BoundedSemaphore", with_semaphore),
        Subject("@bounded(8)", bounded(8)(bare), ("BoundedSemaphore",)),
        Subject("@ramp_up", never_waits()(bare)),
        Subject("@deadline(5)", deadline(5)(bare)),
        Subject("pool hand-over", on_pool),
        Subject("@timeout(5)", timeout(5)(bare), ("pool hand-over",)),
        Subject("all five: @timeout too", five(bare), ("pool hand-over",)),
    ]


def timed(call: Callable[[str], str], calls: int) -> Seconds:
    """So many calls in a row."""
    began = timing.read()
    for _ in repeat(None, calls):
        call("hello")
    return began.passed()


def calls_in(seconds: float, call: Callable[[str], str]) -> int:
    """How many calls take about so many seconds. It warms up what is called, too."""
    call("hello")  # what the first one brings in takes longer than many calls
    calls = 1
    while (took := timed(call, calls).wall) < seconds / 4:
        calls *= 2
    return max(1, round(calls * seconds / took))


def garbage_of(call: Callable[[str], str], calls: int = 200) -> float:
    """Objects a call that hold each other, so that they stay until the collector runs."""
    gc.collect()
    gc.disable()
    try:
        timed(call, calls)
        return gc.collect() / calls
    finally:
        gc.enable()


def measure(chosen: list[Subject], rounds: int, seconds: float) -> list[Cost]:
    """Calls each subject for about `seconds` in each round."""
    calls = [calls_in(seconds, subject.call) for subject in chosen]
    took: dict[str, list[Seconds]] = {subject.name: [] for subject in chosen}
    for _ in range(rounds):
        gc.collect()
        gc.disable()
        try:
            for subject, number in zip(chosen, calls, strict=True):
                all_calls = timed(subject.call, number)
                took[subject.name].append(Seconds(all_calls.cpu / number, all_calls.wall / number))
        finally:
            gc.enable()
    return [Cost(subject.name, middle([Seconds(1e6 * one.cpu, 1e6 * one.wall) for one in took[subject.name]]),
                 garbage_of(subject.call),
                 {peer: middle([Seconds(own.cpu / its.cpu, own.wall / its.wall)
                                for own, its in zip(took[subject.name], took[peer], strict=True)])
                  for peer in subject.peers})
            for subject in chosen]


def middle(several: list[Seconds]) -> Seconds:
    return Seconds(median(one.cpu for one in several), median(one.wall for one in several))


def row(cost: Cost) -> list[str]:
    ratios = ", ".join(f"{ratio.cpu:.2f} ({ratio.wall:.2f}) x {peer}" for peer, ratio in cost.ratios.items())
    return [cost.name, f"{cost.us.cpu:.2f}", f"{cost.us.wall:.2f}", f"{cost.garbage:.1f}", ratios]


def facts(cost: Cost) -> dict[str, Any]:
    """For JSON: a cost without its name."""
    return {"us": cost.us._asdict(), "garbage": cost.garbage,
            "ratios": {peer: ratio._asdict() for peer, ratio in cost.ratios.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--slice", type=float, default=0.03, help="seconds for each subject in each round")
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    chosen = parser.parse_args()
    machine, libraries = timing.machine(), timing.versions(LIBRARIES)
    with ThreadPoolExecutor(1) as pool:
        costs = measure(subjects(pool), chosen.rounds, chosen.slice)
    print(timing.line_of(machine))
    print(timing.line_of(libraries))
    print(f"{chosen.rounds} rounds, in each {1000 * chosen.slice:g} ms of every subject\n")
    print(timing.table(["subject", "CPU us/call", "wall us/call", "garbage", "times its peers: CPU (wall)"],
                       [row(cost) for cost in costs], markdown=chosen.markdown))
    print("\n@ramp_up is ramp_up(start=1e9), which never waits in this loop.")
    print("garbage: objects a call that only the collector frees.")
    if chosen.json is not None:
        figures = {"machine": machine, "versions": libraries, "rounds": chosen.rounds,
                   "costs": {cost.name: facts(cost) for cost in costs}}
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
