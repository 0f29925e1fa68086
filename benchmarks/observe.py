"""What it costs to be watched: microseconds that observation adds to a guarded call, beside the same done by hand.

    python benchmarks/observe.py [--rounds N] [--calls N] [--markdown] [--json FILE]

"by hand" is a guarded function whose author calls the Prometheus client himself, at the same places and as often as
`llm_guard.telemetry.prometheus` does: seven inc, dec and observe calls on children that were resolved beforehand, with
numbers that he need not measure. All variants are timed in turns, a few milliseconds each, with garbage collection off;
printed are medians over the rounds of what each adds to the call that nobody watches in the same round, and of the
ratio of the two. CPU time of the process. The last line is what is left where nobody listens: beside the call as it is
stands one that does not even ask whether somebody does.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from statistics import median

import timing
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from llm_guard import bounded, breaker, events, ramp_up, retry, stack
from llm_guard.runtime.stack import Stack
from llm_guard.telemetry.prometheus import BUCKETS, Prometheus

STACKS: dict[str, Callable[[], Stack]] = {
    "@retry": lambda: stack(retry()),
    "@ramp_up @bounded @retry @breaker": lambda: stack(ramp_up(start=1e9), bounded(8), retry(), breaker()),
}
SHORT = 0.001  # seconds that the author by hand observes


@dataclass(frozen=True)
class Cost:
    """Microseconds: of a call that nobody watches, and what the others add to it; `ratio`: Prometheus to by hand."""

    stack: str
    unwatched: float
    by_hand: float
    prometheus: float
    ratio: float
    listener: float
    asking: float


def bare(prompt: str) -> str:
    return prompt


def by_hand(guard: Stack) -> Callable[[str], str]:
    """The same function, with the client's calls around it and in it."""
    registry = CollectorRegistry()

    def histogram(name: str) -> Histogram:
        return Histogram(name, name, ["function"], registry=registry, buckets=BUCKETS).labels("bare")

    def counter(name: str) -> Counter:
        return Counter(name, name, ["function", "kind"], registry=registry).labels("bare", "success")

    in_flight = Gauge("in_flight", "in_flight", ["function"], registry=registry).labels("bare")
    waited, attempt, call = histogram("wait"), histogram("attempt"), histogram("call")
    attempts, calls = counter("attempts"), counter("calls")

    def observed(prompt: str) -> str:
        in_flight.inc()
        waited.observe(SHORT)
        answer = prompt
        in_flight.dec()
        attempts.inc()
        attempt.observe(SHORT)
        return answer

    guarded = guard(observed)

    def whole(prompt: str) -> str:
        answer = guarded(prompt)
        calls.inc()
        call.observe(SHORT)
        return answer

    return whole


def took(call: Callable[[str], str], calls: int) -> float:
    """Microseconds a call."""
    began = timing.read()
    for _ in repeat(None, calls):
        call("hello")
    return 1e6 * began.passed().cpu / calls


def unasked(call: Callable[[str], str], calls: int) -> float:
    """The same where no call asks who listens."""
    ask = events.audience_of
    events.audience_of = lambda listeners: None
    try:
        return took(call, calls)
    finally:
        events.audience_of = ask


def measure(name: str, rounds: int, calls: int) -> Cost:
    unwatched, watched, heard = (STACKS[name]()(bare) for _ in range(3))
    hand = by_hand(STACKS[name]())
    Prometheus(CollectorRegistry()).watch(watched)
    heard.on_event(lambda event: None)
    variants: dict[str, Callable[[], float]] = {
        "unwatched": lambda: took(unwatched, calls), "hand": lambda: took(hand, calls),
        "prometheus": lambda: took(watched, calls), "heard": lambda: took(heard, calls),
        "unasked": lambda: unasked(unwatched, calls)}
    found: dict[str, list[float]] = {variant: [] for variant in variants}
    for warm in variants.values():
        warm()
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            order = list(variants) if number % 2 else list(variants)[::-1]
            for variant in order:
                found[variant].append(variants[variant]())
            gc.collect(0)
    finally:
        gc.enable()

    def added(variant: str) -> list[float]:
        return [its - plain for its, plain in zip(found[variant], found["unwatched"], strict=True)]

    hands, clients = median(added("hand")), median(added("prometheus"))
    return Cost(name, median(found["unwatched"]), hands, clients, clients / hands, median(added("heard")),
                -median(added("unasked")))


def row(cost: Cost) -> list[str]:
    return [cost.stack, *(f"{value:.2f}" for value in (cost.unwatched, cost.by_hand, cost.prometheus, cost.ratio,
                                                       cost.listener, cost.asking)), ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--calls", type=int, default=50, help="of every variant in each round")
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    chosen = parser.parse_args()
    machine, libraries = timing.machine(), timing.versions(["llm-guard-flow", "prometheus-client"])
    costs = [measure(name, chosen.rounds, chosen.calls) for name in STACKS]
    print(timing.line_of(machine))
    print(timing.line_of(libraries))
    print(f"{chosen.rounds} rounds of {chosen.calls} calls of every variant; CPU microseconds a call\n")
    head = ["guarded by", "unwatched", "+ by hand", "+ Prometheus", "ratio", "+ a listener", "+ nobody", ""]
    print(timing.table(head, [row(cost) for cost in costs], markdown=chosen.markdown))
    if chosen.json is not None:
        figures = {"machine": machine, "versions": libraries, "rounds": chosen.rounds,
                   "costs": [vars(cost) for cost in costs]}
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
