"""Batches against servers that start cold, in virtual time: the decorators and threads that people run.

    python benchmarks/success.py [SCENARIO ...] [--seeds N]

Prints, for each scenario, the medians over the seeds (and the worst) of: answers per item, calls per answer, and the
time as a multiple of that of a sender who knows at every instant whether the server would serve one more at once.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

from llm_guard.testing.batch import run_batch
from llm_guard.testing.server import best_time, scenario


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", default=["A", "C", "E", "F"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--workers", type=int, default=64)
    chosen = parser.parse_args()
    print(f"{chosen.items} items, {chosen.workers} threads, {chosen.seeds} seeds; median (worst)\n")
    print("| server | answered | calls per answer | time / best | real seconds a run |\n|---|---|---|---|---|")
    for name in chosen.scenarios:
        server = scenario(name)
        began = time.perf_counter()
        runs = [run_batch(server, seed, items=chosen.items, workers=chosen.workers) for seed in range(chosen.seeds)]
        real = (time.perf_counter() - began) / chosen.seeds
        times = [run.seconds / best_time(server, run.seed, chosen.items, chosen.workers) for run in runs]
        answered = [100 * run.answered / chosen.items for run in runs]
        calls = [run.calls / max(1, run.answered) for run in runs]
        print(f"| {name} | {median(answered):.1f}% ({min(answered):.1f}%) | {median(calls):.3f} ({max(calls):.3f}) "
              f"| {median(times):.3f} ({max(times):.3f}) | {real:.1f} |", flush=True)


if __name__ == "__main__":
    main()
