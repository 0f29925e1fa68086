"""What each part of the law buys, and which stack does best: simulated with and without.

    python benchmarks/ablation.py [--seeds N] [--first-seed N] [--servers N] [--json FILE]

The law runs on the named servers and on random ones, whole and then with one part taken out (`law_parts.py`), and the
stacks of `stacks.py` run beside each other, also where 30% of the calls fail. Each seed has random servers of its own,
and all rows meet the same. A row shows, over the servers: the share of items answered, calls per answer (times the
share of calls that do not fail by chance) and time over the best; means are geometric, in brackets the 90th percentile
of the random servers. Each figure is the mean of the seeds, after it the standard deviation between them.

What differs from the first row by more than chance is in **bold**: the difference to it, taken seed by seed, has the
same sign on every seed, and its mean is over three times its standard error. With one seed nothing is. Below 100%
answered, a short time only says that items were given up.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, geometric_mean, stdev
from typing import Any

from law_parts import PARTS
from side_by_side import OURS, Job, summaries
from stacks import STACKS

from llm_guard.testing.server import scenario
from llm_guard.testing.simulation import Summary

NAMED = ("A", "A-nohint", "B", "C", "C-nora", "C-cnt", "C-win-nora", "C-steps", "C-left", "D", "E", "E2", "F", "G", "H",
         "L", "L-told", "S")
ONLINE = ("A", "C", "E", "F")
#: A row's figures, by seed.
Row = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="runs on each named server (default: 5)")
    parser.add_argument("--first-seed", type=int, default=0, help="the first of them (default: 0)")
    parser.add_argument("--servers", type=int, default=30, help="random servers of each seed (default: 30)")
    parser.add_argument("--json", type=Path, help="writes the figures, seed by seed")
    chosen = parser.parse_args()
    tables = {"The law": table("without", {part: Variant(without=(part,)) for part in PARTS}, chosen),
              "The stack": table("stack", {name: Variant(name) for name in STACKS}, chosen),
              "The stack, where 30% of the calls fail": table(
                  "stack", {name: Variant(name, noise=0.3) for name in STACKS}, chosen)}
    if chosen.json:
        chosen.json.write_text(json.dumps(tables, indent=1) + "\n", encoding="utf-8")


class Variant:
    """A law or a stack, and the servers that it is tried on."""

    def __init__(self, strategy: str = OURS, *, without: tuple[str, ...] = (), noise: float | None = None) -> None:
        self.strategy, self.without, self.noise = strategy, without, noise

    def jobs(self, seed: int, servers: int) -> list[Job]:
        """All of one seed."""
        common: dict[str, Any] = {"strategy": self.strategy, "without": self.without, "noise": self.noise, "seeds": 1}
        named = [Job(name, first_seed=seed, **common) for name in NAMED]
        random = [Job(f"random-{number}", first_seed=number, **common)
                  for number in range(seed * servers, (seed + 1) * servers)]
        online = [Job(name, first_seed=seed, workload="spike", **common) for name in ONLINE]
        return named + random + online

    def figures(self, results: Sequence[Summary]) -> dict[str, float]:
        """What came of the jobs of one seed."""
        batch = [result for result in results if result.workload == "batch"]
        random = [result for result in batch if result.scenario.startswith("random-")]
        named = [result for result in batch if not result.scenario.startswith("random-")]
        online = [result for result in results if result.workload != "batch"]
        return {
            "answered": fmean(result.success.median for result in batch),
            "named calls": geometric_mean([self._calls(result) for result in named]),
            "named time": geometric_mean([result.against_best.median for result in named]),
            "random calls": geometric_mean([self._calls(result) for result in random]),
            "random calls, 90th": _ninetieth([self._calls(result) for result in random]),
            "random time": geometric_mean([result.against_best.median for result in random]),
            "random time, 90th": _ninetieth([result.against_best.median for result in random]),
            "spike": fmean(result.against_best.median for result in online),
        }

    def _calls(self, result: Summary) -> float:
        noise = scenario(result.scenario).noise if self.noise is None else self.noise
        return min(1e6, result.calls.median) * (1 - noise)


def table(head: str, variants: dict[str, Variant], chosen: argparse.Namespace) -> dict[str, Row]:
    """Runs the variants and prints them as they are done."""
    print(f"\n| {head} | answered, % | named: calls | time | random: calls | time | spike, of the best |\n"
          "|---|---|---|---|---|---|---|")
    if head == "without":
        variants = {"(the whole law)": Variant(), **variants}
    seeds = range(chosen.first_seed, chosen.first_seed + chosen.seeds)
    jobs = {(name, seed): variant.jobs(seed, chosen.servers) for name, variant in variants.items() for seed in seeds}
    results = summaries([job for each in jobs.values() for job in each])
    rows: dict[str, Row] = {}
    for name, variant in variants.items():
        by_seed = [variant.figures([next(results) for _ in jobs[name, seed]]) for seed in seeds]
        rows[name] = {figure: [figures[figure] for figures in by_seed] for figure in by_seed[0]}
        print(line(name, rows[name], next(iter(rows.values()))), flush=True)
    return rows


def line(name: str, row: Row, first: Row) -> str:
    """A row of the table; what differs from the first one by more than chance is in bold."""
    def cell(figure: str, unit: float = 1.0) -> str:
        shown = f"{fmean(row[figure]) * unit:.{2 if unit > 1 else 3}f}"
        if len(row[figure]) > 1:
            shown += f" ±{stdev(row[figure]) * unit:.{2 if unit > 1 else 3}f}"
        return f"**{shown}**" if differs(row[figure], first[figure]) else shown

    return (f"| {name} | {cell('answered', 100)} | {cell('named calls')} | {cell('named time')} "
            f"| {cell('random calls')} ({cell('random calls, 90th')}) "
            f"| {cell('random time')} ({cell('random time, 90th')}) | {cell('spike')} |")


def differs(values: Sequence[float], others: Sequence[float]) -> bool:
    """Whether they differ by more than chance, compared seed by seed."""
    differences = [value - other for value, other in zip(values, others, strict=True)]
    if len(differences) < 2 or not (min(differences) > 0 or max(differences) < 0):
        return False
    return abs(fmean(differences)) > 3 * stdev(differences) / math.sqrt(len(differences))


def _ninetieth(values: list[float]) -> float:
    return sorted(values)[math.ceil(0.9 * len(values)) - 1]


if __name__ == "__main__":
    main()
