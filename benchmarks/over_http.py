"""Servers that start cold, by a few known ways to call them, over real HTTP and with each library whole.

    python benchmarks/over_http.py [--scenarios A C F] [--ways NAME ...] [--items N] [--threads 64] [--speed 2]
                                   [--seed 0] [--json FILE]

The ways are those of `http_clients.py`; `success.py` runs more of them, in virtual time. Each meets a fresh server of
the same seed, in a process of its own, `--speed` times as fast as its scenario; the waits that a way has of its own are
not scaled with it. Prints a Markdown table for each server: one run each, with real threads on a real clock, so that no
two tables are the same. Some six minutes by default. F's weak spell begins after 40 s of its own time: at speed 2 it
takes `--items 900` to see it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import requests
from http_clients import TOLD, WAYS
from timing import line_of, machine, versions

from llm_guard.testing.cold_server import cold_server_process
from llm_guard.testing.server import scenario
from llm_guard.testing.simulation import Setting

#: Prompts of a run: enough for each server to show what it is, few enough for the run to stay short.
ITEMS = {"A": 120, "C": 100, "F": 400}
ITEMS_ELSEWHERE = 200
LIBRARIES = ("tenacity", "pyrate-limiter", "adaptive-concurrency", "urllib3", "requests")
HEAD = ("| | answered | calls per answer | seconds | refusals |\n"
        "|---|---:|---:|---:|---:|")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one run. `calls` and `refusals` are the server's counts, `seconds` what the client waited."""

    scenario: str
    way: str
    items: int
    answered: int
    calls: int
    refusals: int
    seconds: float

    def row(self) -> str:
        """Its line in the table."""
        name = f"**{self.way}**" if self.way == "llm_guard" else self.way + " (told the capacity)" * (self.way in TOLD)
        share = int(1000 * self.answered / self.items) / 10  # rounded down: 100% are all
        calls = f"{self.calls / self.answered:.3f}" if self.answered else "-"
        return f"| {name} | {share:g}% | {calls} | {self.seconds:.1f} | {self.refusals} |"


def main() -> None:
    chosen = _options()
    settings = [Setting(scenario(name), chosen.threads, speed=chosen.speed) for name in chosen.scenarios]
    facts = machine()
    print(f"{line_of(facts)}; {line_of(versions(LIBRARIES))}")
    results = []
    for setting in settings:
        items = chosen.items or ITEMS.get(setting.scenario.name, ITEMS_ELSEWHERE)
        print(f"\n## {setting.scenario.name}\n\n{items} prompts, {setting.threads} threads, speed {setting.speed:g}, "
              f"seed {chosen.seed}\n\n{HEAD}", flush=True)
        for way in chosen.ways:
            results.append(run(way, setting, items, chosen.seed))
            print(results[-1].row(), flush=True)
    if chosen.json is not None:
        figures = {"machine": facts, "versions": versions(LIBRARIES), "speed": chosen.speed, "threads": chosen.threads,
                   "seed": chosen.seed, "runs": [asdict(result) for result in results]}
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def run(way: str, setting: Setting, items: int, seed: int) -> Result:
    """One way against a fresh server. Answered are the prompts whose own answer came back."""
    name = setting.scenario.name
    prompts = [f"prompt {number}" for number in range(items)]
    with cold_server_process(name, speed=setting.speed, seed=seed) as url:
        began = perf_counter()
        ends = list(WAYS[way](url, prompts, setting))
        seconds = perf_counter() - began
        stats = requests.get(url + "/stats", timeout=10).json()
    answers = {end for end in ends if isinstance(end, str)}
    answered = len(answers & {f"echo: {prompt}" for prompt in prompts})
    return Result(name, way, items, answered, stats["calls"], sum(stats["refusals"].values()), round(seconds, 2))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", nargs="+", default=["A", "C", "F"], metavar="NAME")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), metavar="NAME")
    parser.add_argument("--items", type=_whole, help="prompts of each run (default: 120 on A, 100 on C, 400 on F)")
    parser.add_argument("--threads", type=_whole, default=64)
    parser.add_argument("--speed", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def _whole(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    main()
