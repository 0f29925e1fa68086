"""What the benchmarks share: two clocks that are read together, the machine they ran on, and tables."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from time import perf_counter, process_time
from typing import NamedTuple


class Seconds(NamedTuple):
    """Readings of both clocks, or what passed between two of them.

    `cpu` is what all threads of this process computed together: what other processes do on the machine hardly moves it.
    `wall` is what the caller waited, other processes and the wake-up of other threads included.
    """

    cpu: float
    wall: float

    def passed(self) -> Seconds:
        """What has passed since this reading."""
        return Seconds(process_time() - self.cpu, perf_counter() - self.wall)


def read() -> Seconds:
    """Both clocks at this instant."""
    return Seconds(process_time(), perf_counter())


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """The installed version of each distribution."""
    return {name: version(name) for name in distributions}


def machine() -> dict[str, str | int | float]:
    """What the figures depend on: the interpreter, the machine, and how busy it was over the last minute."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count() or 0,
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else 0.0,
        "switch interval": sys.getswitchinterval(),
    }


def line_of(facts: dict[str, str] | dict[str, str | int | float]) -> str:
    """Facts in one line."""
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool = False) -> str:
    """Aligned columns; the first and the last to the left, those between them, which are numbers, to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    last = len(head) - 1
    left = [column in (0, last) for column in range(len(head))]

    def lined_up(row: Sequence[str]) -> list[str]:
        return [cell.ljust(width) if to_left else cell.rjust(width)
                for cell, width, to_left in zip(row, widths, left, strict=True)]

    rule = ["-" * width if to_left or not markdown else "-" * (width - 1) + ":"
            for width, to_left in zip(widths, left, strict=True)]
    lines = [lined_up(head), rule, *map(lined_up, rows)]
    if markdown:
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n".join("  ".join(line).rstrip() for line in lines)
