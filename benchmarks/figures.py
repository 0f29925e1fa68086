"""The pace's own figures, row by row, beside what was to be reached. In virtual time.

    python benchmarks/figures.py [--seeds N] [--first-seed N] [--servers N] [--out FILE]

Batches of 64 threads on the named servers, with and without failures; online spikes; random servers; several clients,
each with a pace of its own; a burst after ten minutes; a limit that is tripled and then cut to a tenth; a quota.
Medians of the seeds, in brackets the worst. What falls short of what was to be reached says so: "short" where the
median does, "worst seed short" where only a seed does.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from goals import (
    ANSWERED,
    BATCH,
    CLIENTS,
    FAIR,
    FOLLOWED,
    NOISY_CALLS,
    QUOTA_CALLS,
    RANDOM_CALLS,
    RANDOM_TIME,
    REFUSED,
    SHARED_CALLS,
    SHARED_TIME,
    SPIKE,
    SPIKE_CALLS,
    WAYS,
    Goal,
    mark,
)
from side_by_side import Job, each, runs, summaries

from llm_guard.testing.server import scenario
from llm_guard.testing.simulation import Arrivals, Spread


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0, help="of the runs, and of the random servers (default: 0)")
    parser.add_argument("--servers", type=int, default=200, help="random servers (default: 200)")
    parser.add_argument("--out", type=Path, help="writes the page there")
    chosen = parser.parse_args()
    lines = []
    for line in page(chosen.seeds, chosen.first_seed, chosen.servers):
        print(line, flush=True)
        lines.append(line)
    if chosen.out:
        chosen.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def page(seeds: int, first: int, servers: int) -> Iterator[str]:
    """The page, line by line, as the runs are done."""
    yield from ("# Figures", "", f"Medians of {seeds} seeds from {first} on (the worst in brackets), virtual time, 64 "
                "threads; written by `benchmarks/figures.py`. \"Short\": the median misses what was to be reached; "
                "\"worst seed short\": one seed does.", "")
    yield from batches(seeds, first)
    yield from spikes(seeds, first)
    yield from random_servers(servers, first)
    yield from several_clients(seeds, first)
    yield from other(seeds, first)


def batches(seeds: int, first: int) -> Iterator[str]:
    yield from ("## Batches", "", "| server | answered | calls per answer | time / best | to reach | first form of the "
                f"law | 10% of calls fail: answered | calls, to reach {NOISY_CALLS} |",
                "|---|---|---|---|---|---|---|---|")
    results = summaries([Job(name, seeds=seeds, first_seed=first, noise=noise) for name in BATCH
                         for noise in (None, 0.1)])
    for name, (calls, time, before) in BATCH.items():
        plain, noisy = next(results), next(results)
        short = mark(Goal(plain.success, least=ANSWERED), Goal(plain.calls, most=calls),
                     Goal(plain.against_best, most=time))
        noisy_calls = NOISY_CALLS if scenario(name).noise == 0 else calls
        noisy_short = mark(Goal(noisy.success, least=ANSWERED), Goal(noisy.calls, most=noisy_calls))
        yield (f"| {name} | {100 * plain.success.worst:.1f}% | {_spread(plain.calls)} | {_spread(plain.against_best)} "
               f"| {calls} / {time}{short} | {before} "
               f"| {100 * noisy.success.worst:.1f}% | {_spread(noisy.calls)}{noisy_short} |")
    yield ""


def spikes(seeds: int, first: int) -> Iterator[str]:
    yield from ("## A spike of online traffic", "", "180 s at a quarter of the capacity, tenfold from 60 to 90 s; 30 s "
                "for each answer. Answers in time as a share of the best sender's.", "",
                "| server | of the best | calls per answer | to reach | first form of the law |",
                "|---|---|---|---|---|")
    results = summaries([Job(name, seeds=seeds, first_seed=first, workload="spike") for name in SPIKE])
    for (name, (least, before)), result in zip(SPIKE.items(), results, strict=True):
        short = mark(Goal(result.against_best, least=least), Goal(result.calls, most=SPIKE_CALLS))
        yield (f"| {name} | {_spread(result.against_best)} | {_spread(result.calls)} | {least} / {SPIKE_CALLS}{short} "
               f"| {before} |")
    yield ""


def random_servers(count: int, first: int) -> Iterator[str]:
    results = list(summaries([Job(f"random-{seed}", seeds=1, first_seed=seed) for seed in range(first, first + count)]))
    lost = [result.scenario for result in results if result.success.worst < 1]
    calls = {result.scenario: result.calls.median * (1 - scenario(result.scenario).noise) for result in results}
    times = {result.scenario: result.against_best.median for result in results}
    answered = f"{count - len(lost)} (short), not on {', '.join(lost)}" if lost else f"{count}"
    yield from ("## Random servers", "", "Calls are times the share that does not fail by chance.", "",
                "| servers | all answered on | calls: median / 90th percentile (the worst) | time | to reach |",
                "|---|---|---|---|---|",
                f"| {count}, random-{first} and after | {answered} | {_over_servers(calls, RANDOM_CALLS)} "
                f"| {_over_servers(times, RANDOM_TIME)} "
                f"| all; {RANDOM_CALLS[0]} / {RANDOM_CALLS[1]}; {RANDOM_TIME[0]:.2f} / {RANDOM_TIME[1]} |", "")


def _over_servers(values: dict[str, float], goal: tuple[float, float]) -> str:
    middle, ninetieth = median(values.values()), sorted(values.values())[math.ceil(0.9 * len(values)) - 1]
    worst = max(values, key=values.__getitem__)
    short = " (short)" if middle > goal[0] or ninetieth > goal[1] else ""
    return f"{middle:.3f} / {ninetieth:.3f}{short} ({values[worst]:.2f} on {worst})"


@dataclass(frozen=True, slots=True)
class Shared:
    """What each seed gave where clients share a server."""

    success: tuple[float, ...]
    calls: tuple[float, ...]
    seconds: tuple[float, ...]
    fairness: tuple[float, ...]


def shared(job: Job) -> Shared:
    """Runs one job here."""
    done = runs(job)
    return Shared(tuple(run.success for run in done), tuple(run.calls_per_answer for run in done),
                  tuple(run.seconds for run in done), tuple(run.fairness() for run in done))


def several_clients(seeds: int, first: int) -> Iterator[str]:
    yield from ("## Several clients, each with a pace of its own", "",
                "3,000 items in all. Time over that of one client with the same seed; Jain's index of the answers "
                f"while all had work. To reach: all answered, calls at most {SHARED_CALLS}, time at most "
                f"{SHARED_TIME:.2f}, Jain's index at least {FAIR}.", "",
                "| server | clients | answered | calls per answer | time over one client's | Jain's index | |",
                "|---|---|---|---|---|---|---|")
    results = each(shared, [Job(name, seeds=seeds, first_seed=first, clients=clients, apart=apart) for name in CLIENTS
                            for clients, apart in ((1, 0.0), *WAYS)])
    for name in CLIENTS:
        alone = next(results)
        for clients, apart in WAYS:
            result = next(results)
            success = Spread.of(result.success, more_is_worse=False)
            calls = Spread.of(result.calls, more_is_worse=True)
            time = Spread.of([own / one for own, one in zip(result.seconds, alone.seconds, strict=True)],
                             more_is_worse=True)
            fairness = Spread.of(result.fairness, more_is_worse=False)
            short = mark(Goal(success, least=1.0), Goal(calls, most=SHARED_CALLS), Goal(time, most=SHARED_TIME),
                         Goal(fairness, least=FAIR))
            yield (f"| {name} | {clients}{f', {apart:g} s apart' if apart else ''} | {100 * success.worst:.1f}% "
                   f"| {_spread(calls)} | {_spread(time)} | {_spread(fairness)} |{short} |")
    yield ""


def other(seeds: int, first: int) -> Iterator[str]:
    yield from ("## Other things", "")
    burst = Arrivals([0.0] * 200 + [600.0] * 200, deadline=None)
    bursts = list(summaries([Job(name, seeds=seeds, first_seed=first, workload=burst) for name in "ABCE"]))
    least = min(result.success.worst for result in bursts)
    yield ("- Idle for ten minutes between two bursts of 200, on A, B, C and E: at least "
           f"{100 * least:.1f}% answered, calls per answer at most "
           f"{max(result.calls.worst for result in bursts):.3f}{' (short)' if least < 1 else ''}.")
    steps = ("C-steps", "C-steps-nora")
    yield (f"- A limit of 10 a second, 30 from 100 s, 3 from 200 s. Answered from 30 to 60 s after each change, as a "
           f"share of the limit (to reach: {FOLLOWED}), and refused over the run (at most {100 * REFUSED:g}% of the "
           "calls):")
    followed = each(steps_followed, [Job(name, seeds=seeds, first_seed=first) for name in steps])
    for name, seen in zip(steps, followed, strict=True):
        up, down = (Spread.of([each_seed[at] for each_seed in seen], more_is_worse=False) for at in (0, 1))
        refused = Spread.of([each_seed[2] for each_seed in seen], more_is_worse=True)
        yield (f"  - {name}: tripled {_spread(up, '.2f')}{mark(Goal(up, least=FOLLOWED))}, cut to a tenth "
               f"{_spread(down, '.2f')}{mark(Goal(down, least=FOLLOWED))}, refused {100 * refused.median:.2f}% "
               f"({100 * refused.worst:.2f}%){mark(Goal(refused, most=REFUSED))}.")
    lengths = ("M", "M-told", "L", "L-told")
    yield ("- Answers of mixed length. M: 30% take 4 times as long, 20% 12 times. L: from 60 s on all take 10 "
           "times as long. Time over the best, of a batch, where tokens are not told and where they are:")
    for name, seen in zip(lengths, summaries([Job(name, seeds=seeds, first_seed=first) for name in lengths]),
                          strict=True):
        yield (f"  - {name}: {100 * seen.success.worst:.1f}% answered, {_spread(seen.calls)} calls per answer, time "
               f"{_spread(seen.against_best)}.")
    most = max(next(each(refused_calls, [Job("Q", seeds=seeds, first_seed=first)])))
    yield (f"- A quota of 200 calls, 3,000 items: calls to the exhausted account, at most {most}"
           f"{' (short)' if most > QUOTA_CALLS else ''}.")


def steps_followed(job: Job) -> list[tuple[float, float, float]]:
    """Of each seed: the share of the raised limit, and of the cut one, that is answered; the share that is refused."""
    return [(_a_second(run.items, 130.0) / 30.0, _a_second(run.items, 230.0) / 3.0, run.refused / len(run.called_at))
            for run in runs(job)]


def refused_calls(job: Job) -> list[int]:
    """Of each seed: the calls that were refused."""
    return [run.refused for run in runs(job)]


def _a_second(items: Sequence[object], begin: float) -> float:
    return sum(item.answer is not None and begin < item.ended <= begin + 30  # type: ignore[attr-defined]
               for item in items) / 30


def _spread(spread: Spread, form: str = ".3f") -> str:
    return f"{spread.median:{form}} ({spread.worst:{form}})"


if __name__ == "__main__":
    main()
