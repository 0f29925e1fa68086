"""What the pace was to reach, row by row, and how a figure that falls short of it is marked."""

from __future__ import annotations

from dataclasses import dataclass

from llm_guard.testing.simulation import Spread

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
ANSWERED = 0.999
NOISY_CALLS = 1.15  # where 10% of the calls fail; S has failures of its own
#: Share of the best sender's answers in time, to reach.
SPIKE = {"A": (0.92, "0.98"), "B": (0.95, "1.00"), "C": (0.90, "0.96"), "D": (0.95, "0.98"), "E": (0.95, "0.98"),
         "E2": (0.95, "0.99"), "F": (0.95, "0.99"), "G": (0.85, "0.84"), "H": (0.95, "1.00")}
SPIKE_CALLS = 1.05
CLIENTS = ("A", "C", "E", "E-noqueue")
WAYS = ((2, 0.0), (10, 0.0), (10, 5.0))  # how many, seconds apart
SHARED_CALLS, SHARED_TIME, FAIR = 1.13, 1.10, 0.8
RANDOM_CALLS, RANDOM_TIME = (1.02, 1.15), (1.10, 1.4)  # median and 90th percentile
#: Of a changed limit so much is to be answered from 30 to 60 s after it, and so much refused over the run.
FOLLOWED, REFUSED = 0.8, 0.02
QUOTA_CALLS = 5


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure, and what it was to be: at most `most`, or at least `least`."""

    figure: Spread
    most: float | None = None
    least: float | None = None

    def missed_by(self, figure: float) -> bool:
        if self.most is not None and figure > self.most:
            return True
        return self.least is not None and not figure >= self.least


def mark(*goals: Goal) -> str:
    """What is to be said of a row with these."""
    if any(goal.missed_by(goal.figure.median) for goal in goals):
        return " (short)"
    return " (worst seed short)" if any(goal.missed_by(goal.figure.worst) for goal in goals) else ""
