"""What each part of the law buys, and which stack does best: simulated with and without.

    python benchmarks/ablation.py [--seeds N] [--servers N] [--json FILE]

The law runs on the named servers and on random ones, whole and then with one part taken out (`law_parts.py`), and the
stacks of `stacks.py` run beside each other, also where 30% of the calls fail. A row shows, over those servers: the
share of items answered, calls per answer (times the share of calls that do not fail by chance) and time over the best;
means are geometric, in brackets the 90th percentile of the random servers. Below 100% answered, a short time only says
that items were given up.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean

from law_parts import PARTS
from side_by_side import OURS, Job, summaries
from stacks import STACKS

from llm_guard.testing.server import scenario
from llm_guard.testing.simulation import Summary

NAMED = ("A", "A-nohint", "B", "C", "C-nora", "C-cnt", "C-win-nora", "C-steps", "C-left", "D", "E", "E2", "F", "G", "H",
         "S")
ONLINE = ("A", "C", "E", "F")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="runs on each named server (default: 3)")
    parser.add_argument("--servers", type=int, default=100, help="random servers (default: 100)")
    parser.add_argument("--json", type=Path, help="writes the figures")
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

    def jobs(self, seeds: int, servers: int) -> list[Job]:
        common = {"strategy": self.strategy, "without": self.without, "noise": self.noise}
        named = [Job(name, seeds=seeds, **common) for name in NAMED]  # type: ignore[arg-type]
        random = [Job(f"random-{seed}", seeds=1, first_seed=seed, **common)  # type: ignore[arg-type]
                  for seed in range(servers)]
        online = [Job(name, seeds=seeds, workload="spike", **common) for name in ONLINE]  # type: ignore[arg-type]
        return named + random + online

    def row(self, results: Sequence[Summary]) -> dict[str, float]:
        batch = [result for result in results if result.workload == "batch"]
        random = [result for result in batch if result.scenario.startswith("random-")]
        named = [result for result in batch if not result.scenario.startswith("random-")]
        online = [result for result in results if result.workload != "batch"]
        return {
            "answered": sum(result.success.median for result in batch) / len(batch),
            "named calls": geometric_mean([self._calls(result) for result in named]),
            "named time": geometric_mean([result.against_best.median for result in named]),
            "random calls": geometric_mean([self._calls(result) for result in random]),
            "random calls, 90th": _ninetieth([self._calls(result) for result in random]),
            "random time": geometric_mean([result.against_best.median for result in random]),
            "random time, 90th": _ninetieth([result.against_best.median for result in random]),
            "spike": sum(result.against_best.median for result in online) / len(online),
        }

    def _calls(self, result: Summary) -> float:
        noise = scenario(result.scenario).noise if self.noise is None else self.noise
        return min(1e6, result.calls.median) * (1 - noise)


def table(head: str, variants: dict[str, Variant], chosen: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Runs the variants and prints them as they are done."""
    print(f"\n| {head} | answered | named: calls | time | random: calls | time | spike, of the best |\n"
          "|---|---|---|---|---|---|---|")
    if head == "without":
        variants = {"(the whole law)": Variant(), **variants}
    jobs = {name: variant.jobs(chosen.seeds, chosen.servers) for name, variant in variants.items()}
    results = summaries([job for each in jobs.values() for job in each])
    rows = {}
    for name, variant in variants.items():
        row = rows[name] = variant.row([next(results) for _ in jobs[name]])
        print(f"| {name} | {100 * row['answered']:.2f}% | {row['named calls']:.3f} | {row['named time']:.3f} "
              f"| {row['random calls']:.3f} ({row['random calls, 90th']:.3f}) "
              f"| {row['random time']:.3f} ({row['random time, 90th']:.3f}) | {row['spike']:.3f} |", flush=True)
    return rows


def _ninetieth(values: list[float]) -> float:
    return sorted(values)[math.ceil(0.9 * len(values)) - 1]


if __name__ == "__main__":
    main()
