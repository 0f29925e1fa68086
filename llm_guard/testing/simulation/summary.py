"""Many runs in one row: medians over the seeds, and the worst."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from llm_guard.testing.simulation.run import Run


@dataclass(frozen=True, slots=True)
class Spread:
    """The median over the seeds, and the worst of them."""

    median: float
    worst: float

    @classmethod
    def of(cls, values: Sequence[float], *, more_is_worse: bool) -> Spread:
        return cls(median(values), max(values) if more_is_worse else min(values))


@dataclass(frozen=True, slots=True)
class Summary:
    """Runs that differ in their seeds alone.

    `success`: share of the items answered (in time, where they had a deadline). `calls`: calls per answer.
    `against_best`: of a batch the time as a multiple of the best one, of online traffic the answers as a share of the
    best number. `wait`: the 99th percentile of the seconds that an item waited for its last call. `fairness`: Jain's
    index. `unanswered`: why items were not answered, and how many of all runs together, as in `Run.unanswered`.
    """

    scenario: str
    workload: str
    seeds: int
    success: Spread
    calls: Spread
    against_best: Spread
    wait: Spread
    fairness: Spread
    unanswered: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Summary:
        first = runs[0]
        return cls(
            first.scenario.name, first.workload, len(runs),
            success=Spread.of([run.success for run in runs], more_is_worse=False),
            calls=Spread.of([run.calls_per_answer for run in runs], more_is_worse=True),
            against_best=Spread.of([run.against_best for run in runs], more_is_worse=first.workload == "batch"),
            wait=Spread.of([run.wait() for run in runs], more_is_worse=True),
            fairness=Spread.of([run.fairness() for run in runs], more_is_worse=False),
            unanswered=dict(sum((Counter(run.unanswered) for run in runs), Counter[str]()).most_common()))

    def as_dict(self) -> dict[str, object]:
        """For JSON, which knows no number without end: None stands for one."""
        return {name: {part: number if math.isfinite(number) else None for part, number in value.items()}
                if isinstance(value, dict) else value for name, value in asdict(self).items()}

    def reasons(self) -> str | None:
        """A line on what was not answered, and why; None where all was."""
        if not self.unanswered:
            return None
        why = ", ".join(f"{number} {reason}" for reason, number in self.unanswered.items())
        return f"{self.scenario}: not answered in {self.seeds} run{'s' if self.seeds > 1 else ''}: {why}"

    @classmethod
    def from_dict(cls, figures: Mapping[str, Any]) -> Summary:
        """What `as_dict` gave."""
        fields: dict[str, Any] = {
            name: Spread(*(math.inf if value[part] is None else value[part] for part in ("median", "worst")))
            if isinstance(value, Mapping) and name != "unanswered" else value for name, value in figures.items()}
        return cls(**fields)


def markdown(rows: Sequence[Summary]) -> str:
    """The rows as a table: medians, and the worst in brackets."""
    batch = any(row.workload == "batch" for row in rows)
    lines = [f"| server | answered | calls per answer | {'time / best' if batch else 'answers / best'} "
             "| wait, 99th percentile |", "|---|---|---|---|---|"]
    for row in rows:
        lines.append(f"| {row.scenario} | {100 * row.success.median:.1f}% ({100 * row.success.worst:.1f}%) "
                     f"| {row.calls.median:.3f} ({row.calls.worst:.3f}) "
                     f"| {row.against_best.median:.3f} ({row.against_best.worst:.3f}) "
                     f"| {_seconds(row.wait.median)} ({_seconds(row.wait.worst)}) |")
    return "\n".join(lines)


def _seconds(number: float) -> str:
    return "-" if math.isnan(number) else f"{number:.1f} s"
