"""What a strategy comes to over all servers, in four figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, geometric_mean

from llm_guard.testing.simulation import Summary

#: Where nothing is answered, calls per answer are endless, and there is no mean of them: a server counts as so many at
#: the most.
MOST_CALLS = 20.0
HOW = "\n".join((
    "Answered: the mean over the servers. Calls per answer: the geometric mean, in which a server counts",
    f"{MOST_CALLS:g} at the most, in brackets on how many. Where hardly anything is answered they are hundreds, or",
    "endless: so this mean flatters those who fail there. Time over the best: the geometric mean, for those",
    "who answered all on every server."))


@dataclass(frozen=True, slots=True)
class Means:
    """`answered`: the mean share. `calls`: per answer, as `HOW` says. `capped`: servers whose calls were counted as 20.
    `whole`: servers on which all was answered. `time`: over the best, None where not all was answered on each."""

    answered: float
    calls: float
    capped: int
    whole: int
    servers: int
    time: float | None

    @classmethod
    def of(cls, results: Sequence[Summary]) -> Means:
        whole = [result.against_best.median for result in results if result.success.median > 0.999]
        calls = [result.calls.median for result in results]
        return cls(fmean(result.success.median for result in results),
                   geometric_mean([min(MOST_CALLS, each) for each in calls]), sum(each > MOST_CALLS for each in calls),
                   len(whole), len(results), geometric_mean(whole) if len(whole) == len(results) else None)


def means(results: Mapping[tuple[str, str], Summary], names: Sequence[str]) -> dict[str, Means]:
    """Of each strategy, over its servers."""
    return {name: Means.of([summary for (_, strategy), summary in results.items() if strategy == name])
            for name in names}


def table(of: Mapping[str, Means], label: Mapping[str, str]) -> list[str]:
    """The lines of a Markdown table, and how its figures are made."""
    lines = ["| | answered | calls per answer | all answered on | time / best |", "|---|---|---|---|---|"]
    for name, mean in of.items():
        answered = 100 * mean.answered
        shown = "100%" if answered == 100 else f"{min(answered, 99.9):.1f}%"
        capped = f" ({mean.capped} at {MOST_CALLS:g})" if mean.capped else ""
        time = "" if mean.time is None else f"{mean.time:.2f}"
        lines.append(f"| {label.get(name, name)} | {shown} | {mean.calls:.2f}{capped} | {mean.whole} of {mean.servers} "
                     f"| {time} |")
    return [*lines, "", HOW]
