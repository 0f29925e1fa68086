"""The pace's own figures, row by row, beside what was to be reached. In virtual time.

    python benchmarks/figures.py [--seeds N] [--servers N] [--out FILE]

Batches of 64 threads on the named servers, with and without failures; online spikes; random servers; several clients,
each with a pace of its own; a burst after ten minutes; a limit that is tripled and then cut to a tenth; a quota.
Medians of the seeds, in brackets the worst.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from side_by_side import Job, summaries

from llm_guard.testing.server import scenario
from llm_guard.testing.simulation import Arrivals, Spread, simulate

#: Calls per answer and time over the best: to reach, and what the first form of the law reached where it was tried.
BATCH = {
    "A": (1.02, 1.08, "1.003 / 1.007"), "A5": (1.02, 1.08, "1.004 / 1.011"), "A90": (1.02, 1.08, "1.005 / 1.011"),
    "A-nohint": (1.02, 1.08, "1.005 / 1.016"), "B": (1.02, 1.08, "1.002 / 1.001"), "B60": (1.02, 1.08, ""),
    "C": (1.02, 1.08, "1.010 / 1.069"), "C-nora": (1.02, 1.08, ""), "C-win": (1.03, 1.05, ""),
    "C-win-nora": (1.03, 1.05, "1.028 / 1.014"), "C-cnt": (1.03, 1.12, "1.013 / 1.108"),
    "D": (1.01, 1.10, "1.002 / 1.049"), "E": (1.01, 1.02, "1.000 / 1.001"), "H": (1.01, 1.02, "1.002 / 1.002"),
    "E2": (1.03, 1.03, "1.006 / 1.006"), "F": (1.02, 1.03, "1.012 / 1.005"), "G": (1.03, 1.30, "1.019 / 1.235"),
    "G-ra": (1.03, 1.40, ""), "S": (1.45, 1.5, "1.34 / 1.40"),
}
#: Share of the best sender's answers in time, to reach.
SPIKE = {"A": (0.92, "0.98"), "B": (0.95, "1.00"), "C": (0.90, "0.96"), "D": (0.95, "0.98"), "E": (0.95, "0.98"),
         "E2": (0.95, "0.99"), "F": (0.95, "0.99"), "G": (0.85, "0.84"), "H": (0.95, "1.00")}
CLIENTS = ("A", "C", "E", "E-noqueue")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--servers", type=int, default=200, help="random servers (default: 200)")
    parser.add_argument("--out", type=Path, help="writes the page there")
    chosen = parser.parse_args()
    lines = []
    for line in page(chosen.seeds, chosen.servers):
        print(line, flush=True)
        lines.append(line)
    if chosen.out:
        chosen.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def page(seeds: int, servers: int) -> Iterator[str]:
    """The page, line by line, as the runs are done."""
    yield from ("# Figures", "", f"Medians of {seeds} seeds (the worst in brackets), virtual time, 64 threads; written "
                "by `benchmarks/figures.py`.", "")
    yield from batches(seeds)
    yield from spikes(seeds)
    yield from random_servers(servers)
    yield from several_clients(seeds)
    yield from other(seeds)


def batches(seeds: int) -> Iterator[str]:
    yield from ("## Batches", "", "| server | answered | calls per answer | time / best | to reach | first form of the "
                "law | 10% of calls fail: answered | calls |", "|---|---|---|---|---|---|---|---|")
    jobs = [Job(name, seeds=seeds, noise=noise) for name in BATCH for noise in (None, 0.1)]
    results = summaries(jobs)
    for name, (calls, time, first) in BATCH.items():
        plain, noisy = next(results), next(results)
        short = plain.success.median < 0.999 or plain.calls.median > calls or plain.against_best.median > time
        yield (f"| {name} | {100 * plain.success.worst:.1f}% | {_spread(plain.calls)} | {_spread(plain.against_best)} "
               f"| {calls} / {time}{' (short of it)' if short else ''} | {first} "
               f"| {100 * noisy.success.worst:.1f}% | {_spread(noisy.calls)} |")
    yield ""


def spikes(seeds: int) -> Iterator[str]:
    yield from ("## A spike of online traffic", "", "180 s at a quarter of the capacity, tenfold from 60 to 90 s; 30 s "
                "for each answer. Answers in time as a share of the best sender's.", "",
                "| server | of the best | calls per answer | to reach | first form of the law |",
                "|---|---|---|---|---|")
    results = summaries([Job(name, seeds=seeds, workload="spike") for name in SPIKE])
    for (name, (least, first)), result in zip(SPIKE.items(), results, strict=True):
        short = " (short of it)" if result.against_best.median < least or result.calls.median > 1.05 else ""
        yield (f"| {name} | {_spread(result.against_best)} | {_spread(result.calls)} | {least} / 1.05{short} "
               f"| {first} |")
    yield ""


def random_servers(count: int) -> Iterator[str]:
    results = list(summaries([Job(f"random-{seed}", seeds=1, first_seed=seed) for seed in range(count)]))
    calls = [result.calls.median * (1 - scenario(result.scenario).noise) for result in results]
    times = [result.against_best.median for result in results]
    yield from ("## Random servers", "", "Calls are times the share that does not fail by chance.", "",
                "| servers | all answered on | calls, median / 90th percentile | time, median / 90th | to reach |",
                "|---|---|---|---|---|",
                f"| {count} | {sum(result.success.worst == 1 for result in results)} "
                f"| {median(calls):.3f} / {_ninetieth(calls):.3f} | {median(times):.3f} / {_ninetieth(times):.3f} "
                "| all; 1.02 / 1.15; 1.10 / 1.4 |", "")


def several_clients(seeds: int) -> Iterator[str]:
    yield from ("## Several clients, each with a pace of its own", "",
                "3,000 items in all. Time over that of one client; Jain's index of the answers while all had work.", "",
                "| server | clients | answered | calls per answer | time over one client's | Jain's index |",
                "|---|---|---|---|---|---|")
    ways = [(1, 0.0), (2, 0.0), (10, 0.0), (10, 5.0)]
    results = summaries([Job(name, seeds=seeds, clients=clients, apart=apart) for name in CLIENTS
                         for clients, apart in ways])
    for name in CLIENTS:
        alone = next(results)
        for clients, apart in ways[1:]:
            result = next(results)
            yield (f"| {name} | {clients}{f', {apart:g} s apart' if apart else ''} | {100 * result.success.worst:.1f}% "
                   f"| {_spread(result.calls)} | {result.against_best.median / alone.against_best.median:.2f} "
                   f"| {_spread(result.fairness, '.2f')} |")
    yield ""


def other(seeds: int) -> Iterator[str]:
    yield from ("## Other things", "")
    burst = Arrivals([0.0] * 200 + [600.0] * 200, deadline=None)
    bursts = list(summaries([Job(name, seeds=seeds, workload=burst) for name in ("A", "B", "C", "E")]))
    yield ("- Idle for ten minutes between two bursts of 200, on A, B, C and E: at least "
           f"{100 * min(result.success.worst for result in bursts):.1f}% answered, calls per answer at most "
           f"{max(result.calls.worst for result in bursts):.3f}.")
    for name in ("C-steps", "C-steps-nora"):
        runs = [simulate(name, seed=seed) for seed in range(seeds)]
        refused = max(run.refused / len(run.called_at) for run in runs)
        after = [[_a_second(run.items, at) for run in runs] for at in (130.0, 230.0)]
        up, down = after
        yield (f"- {name}: 10 a second, 30 from 100 s, 3 from 200 s. Answered a second, from 30 to 60 s after each: "
               f"{median(up):.1f} (worst {min(up):.1f}) and {median(down):.1f} (worst {min(down):.1f}); "
               f"refused at most {100 * refused:.1f}% of the calls.")
    runs = [simulate("Q", seed=seed) for seed in range(seeds)]
    most = max(run.refused for run in runs)
    yield f"- A quota of 200 calls, 3,000 items: at most {most} calls to the exhausted account."


def _a_second(items: Sequence[object], begin: float) -> float:
    return sum(begin < item.ended <= begin + 30 for item in items) / 30  # type: ignore[attr-defined]


def _spread(spread: Spread, form: str = ".3f") -> str:
    return f"{spread.median:{form}} ({spread.worst:{form}})"


def _ninetieth(values: Sequence[float]) -> float:
    return sorted(values)[math.ceil(0.9 * len(values)) - 1]


if __name__ == "__main__":
    main()
