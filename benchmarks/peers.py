"""Each decorator beside the libraries that do the same job, on the success path: what a call costs, and the ratio.

    python benchmarks/peers.py [--rounds N] [--slice SECONDS] [--out DIR] [--gross FACTOR]

All are timed in turns, round after round, one thread, garbage collection off; printed are medians over the rounds, and
a ratio is the median of the ratios within one round (overhead.py measures in the same way). Each peer is set up so that
it never holds a call back, as this project's own are: waiting is no cost of the code. Beside the goals stands what came
of them. `--out` writes peers.md and peers.json there. `--gross`: exit status 1 where a ratio is so many times its goal,
for a test of a few rounds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

import circuitbreaker
import func_timeout
import limits
import pebble
import pybreaker
import pyrate_limiter
import ratelimit
import stamina
import throttled
import timing
from overhead import Cost, Subject, backing_off, bare, facts, measure, never_waits, tenacious

from llm_guard import bounded, breaker, ramp_up, retry, stack, timeout

LIBRARIES = ("llm-guard-flow", "backoff", "tenacity", "stamina", "circuitbreaker", "pybreaker", "pyrate-limiter",
             "limits", "throttled-py", "ratelimit", "func-timeout", "pebble")
#: A limit that nothing here reaches, in calls a second.
NEVER = 10**9
#: The limiters, of which the fastest counts.
LIMITERS = ("pyrate-limiter", "limits, fixed window", "throttled-py, GCRA", "ratelimit")
HAND_OVER = "ThreadPoolExecutor"
FOUR, OF_FOUR = "@retry @ramp_up @bounded @breaker", "tenacity, pyrate-limiter, semaphore, pybreaker"

Call = Callable[[str], str]


@dataclass(frozen=True)
class Goal:
    """The ratio of `subject` to `peer`, or to the fastest of several, is to be at most `most`."""

    subject: str
    peers: tuple[str, ...]
    most: float

    def reached(self, costs: dict[str, Cost]) -> tuple[str, float]:
        """The peer that counts, and the ratio of CPU time."""
        peer = min(self.peers, key=lambda name: costs[name].us.cpu)
        return peer, costs[self.subject].ratios[peer].cpu


GOALS = (
    Goal("@retry", ("backoff",), 0.7),
    Goal("@retry", ("tenacity",), 0.15),
    Goal("@breaker", ("pybreaker",), 1.0),
    Goal("@bounded", ("BoundedSemaphore",), 1.0),
    Goal("@ramp_up", LIMITERS, 1.0),
    Goal(FOUR, ("tenacity",), 0.5),
    Goal("@timeout", (HAND_OVER,), 0.9),
    Goal("all five", (HAND_OVER,), 1.0),
)


def retries() -> list[tuple[str, Call]]:
    """Eight tries with full jitter, which none of these calls needs."""
    return [("backoff", backing_off()(bare)), ("tenacity", tenacious()(bare)),
            ("stamina", stamina.retry(on=Exception, attempts=8, timeout=None, wait_initial=0.1, wait_max=8)(bare))]


def breakers() -> list[tuple[str, Call]]:
    """Closed ones."""
    return [("circuitbreaker", circuitbreaker.CircuitBreaker(name="peer")(bare)),
            ("pybreaker", pybreaker.CircuitBreaker()(bare))]


def limiters(open_until_the_end: ExitStack) -> list[tuple[str, Call]]:
    """All in memory."""
    pyrate = pyrate_limiter.Limiter(pyrate_limiter.Rate(NEVER, pyrate_limiter.Duration.SECOND))
    open_until_the_end.callback(pyrate.close)
    windows = limits.strategies.FixedWindowRateLimiter(limits.storage.MemoryStorage())
    item = limits.parse(f"{NEVER}/second")
    cells = throttled.Throttled(key="peer", using="gcra", quota=throttled.per_sec(NEVER, burst=NEVER),
                                store=throttled.MemoryStore())

    def with_pyrate(prompt: str) -> str:
        pyrate.try_acquire("peer")
        return bare(prompt)

    def with_limits(prompt: str) -> str:
        if not windows.hit(item, "peer"):
            raise RuntimeError("the limit was reached")
        return bare(prompt)

    def with_throttled(prompt: str) -> str:
        if cells.limit().limited:
            raise RuntimeError("the limit was reached")
        return bare(prompt)

    return list(zip(LIMITERS, (with_pyrate, with_limits, with_throttled,
                               ratelimit.sleep_and_retry(ratelimit.limits(calls=NEVER, period=1)(bare))), strict=True))


def timeouts(open_until_the_end: ExitStack) -> list[tuple[str, Call]]:
    """Five seconds, on another thread."""
    pool = open_until_the_end.enter_context(ThreadPoolExecutor(1))
    threads = open_until_the_end.enter_context(pebble.ThreadPool(max_workers=1))
    bounded_in_time = func_timeout.func_set_timeout(5)(bare)
    return [(HAND_OVER, lambda prompt: pool.submit(bare, prompt).result(timeout=5)),
            ("func-timeout", bounded_in_time),
            ("pebble, a thread pool", lambda prompt: threads.schedule(bare, args=(prompt,)).result(timeout=5))]


def peers_stack(breaking: Call, open_until_the_end: ExitStack) -> Call:
    """What the four decorators do, from four libraries: tenacity over pyrate-limiter, a semaphore and pybreaker."""
    semaphore = BoundedSemaphore(8)
    limiter = pyrate_limiter.Limiter(pyrate_limiter.Rate(NEVER, pyrate_limiter.Duration.SECOND))
    open_until_the_end.callback(limiter.close)

    @tenacious()
    def ask(prompt: str) -> str:
        limiter.try_acquire("peer")
        with semaphore:
            return breaking(prompt)

    return ask


def subjects(open_until_the_end: ExitStack) -> list[Subject]:
    """Those that do one job stand side by side, so that they are timed under like conditions."""
    semaphore = BoundedSemaphore(8)

    def with_semaphore(prompt: str) -> str:
        with semaphore:
            return bare(prompt)

    four = stack(retry(), never_waits(), bounded(8), breaker())(bare)
    five = stack(never_waits(), bounded(8), retry(), timeout(5), breaker())(bare)
    by_job = {"retry": retries(), "breaker": breakers(), "bounded": [("BoundedSemaphore", with_semaphore)],
              "ramp_up": limiters(open_until_the_end), "timeout": timeouts(open_until_the_end)}
    own = {"retry": retry(bare), "breaker": breaker(bare), "bounded": bounded(8)(bare),
           "ramp_up": ramp_up(start=NEVER)(bare), "timeout": timeout(5)(bare)}
    made = [Subject("bare function", bare)]
    for job, peers in by_job.items():
        made += [Subject(name, call) for name, call in peers]
        made.append(Subject(f"@{job}", own[job], tuple(name for name, _ in peers)))
        if job == "retry":
            made.append(Subject(OF_FOUR, peers_stack(dict(by_job["breaker"])["pybreaker"], open_until_the_end)))
            made.append(Subject(FOUR, four, ("tenacity", OF_FOUR)))
    made.append(Subject("all five", five, (HAND_OVER,)))
    return made


def report(costs: list[Cost], *, markdown: bool) -> str:
    """Two tables: what each costs, and what came of the goals."""
    by_name = {cost.name: cost for cost in costs}
    prices = [[cost.name, f"{cost.us.cpu:.2f}", f"{cost.us.wall:.2f}",
               ", ".join(f"{ratio.cpu:.2f} ({ratio.wall:.2f}) x {peer}" for peer, ratio in cost.ratios.items())]
              for cost in costs]
    goals = []
    for goal in GOALS:
        peer, ratio = goal.reached(by_name)
        goals.append([goal.subject, f"{goal.most:g}", f"{ratio:.2f}", f"{by_name[goal.subject].ratios[peer].wall:.2f}",
                      "yes" if ratio <= goal.most else "no", peer])
    return "\n\n".join((
        timing.table(["subject", "CPU us/call", "wall us/call", "times its peers: CPU (wall)"], prices,
                     markdown=markdown),
        timing.table(["part", "goal", "CPU ratio", "wall ratio", "reached", "of"], goals, markdown=markdown)))


def figures(costs: list[Cost], about: dict[str, Any]) -> dict[str, Any]:
    by_name = {cost.name: cost for cost in costs}
    return {**about, "costs": {cost.name: facts(cost) for cost in costs},
            "goals": [{"part": goal.subject, "peer": goal.reached(by_name)[0], "most": goal.most,
                       "ratio": goal.reached(by_name)[1]} for goal in GOALS]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--slice", type=float, default=0.03, help="seconds for each subject in each round")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write peers.md and peers.json there")
    parser.add_argument("--gross", type=float, metavar="FACTOR", help="status 1 for a ratio so many times its goal")
    chosen = parser.parse_args()
    machine, libraries = timing.machine(), timing.versions(LIBRARIES)
    with ExitStack() as open_until_the_end:
        costs = measure(subjects(open_until_the_end), chosen.rounds, chosen.slice)
    head = (f"{timing.line_of(machine)}\n{timing.line_of(libraries)}\n{chosen.rounds} rounds, in each "
            f"{1000 * chosen.slice:g} ms of every subject")
    print(f"{head}\n\n{report(costs, markdown=False)}")
    if chosen.out is not None:
        chosen.out.mkdir(parents=True, exist_ok=True)
        text = ("# Beside the peers: what a call costs\n\nWritten by `python benchmarks/peers.py --out` (its first "
                "lines say what is counted). One thread, calls that succeed; ratios are medians over the rounds.\n\n")
        (chosen.out / "peers.md").write_text(
            text + head.replace("\n", "  \n") + f"\n\n{report(costs, markdown=True)}\n", encoding="utf-8")
        about = {"machine": machine, "versions": libraries, "rounds": chosen.rounds, "slice": chosen.slice}
        (chosen.out / "peers.json").write_text(json.dumps(figures(costs, about), indent=2) + "\n", encoding="utf-8")
    by_name = {cost.name: cost for cost in costs}
    is_gross = False
    for goal in GOALS if chosen.gross is not None else ():
        peer, ratio = goal.reached(by_name)
        if ratio > chosen.gross * goal.most:
            is_gross = True
            print(f"{goal.subject} costs {ratio:.2f} of {peer}: the goal is {goal.most:g}", file=sys.stderr)
    return int(is_gross)


if __name__ == "__main__":
    sys.exit(main())
