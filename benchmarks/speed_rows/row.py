"""What is measured, and whether it is what it was to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Effort:
    """How many rounds, and how long each is: `scale` times the usual seconds. `few`: only what a test looks at."""

    rounds: int
    scale: float
    few: bool = False


FULL, QUICK, FEW = Effort(15, 1.0), Effort(7, 0.4), Effort(3, 0.1, few=True)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `part`: whose; `figure`: of what, with its unit or its peer; `goal`: at most so much, or at least
    where `at_least`; None where there is none. `beside`: further figures of the same run.

    `steady`: a ratio, or a size, that hardly depends on what else the machine does, so that two runs may be compared.
    """

    part: str
    figure: str
    value: float
    goal: float | None = None
    at_least: bool = False
    beside: str = ""
    steady: bool = False

    @property
    def name(self) -> str:
        return f"{self.part}: {self.figure}"

    @property
    def reached(self) -> bool | None:
        """None where there is no goal."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    def cells(self) -> list[str]:
        """For a table: part, figure, goal, value, reached, beside."""
        goal = "" if self.goal is None else f"{'>=' if self.at_least else '<='} {self.goal:g}"
        reached = {None: "", True: "yes", False: "no"}[self.reached]
        return [self.part, self.figure, goal, shown(self.value), reached, self.beside]

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return {"part": self.part, "figure": self.figure, "value": self.value, "goal": self.goal,
                "at_least": self.at_least, "reached": self.reached, "steady": self.steady, "beside": self.beside}


HEAD = ["part", "figure", "goal", "measured", "reached", "beside"]


def shown(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 20 else f"{value:.2f}"
