"""What a guarded call costs, all of it: every row of the table of goals, measured side by side in one run.

    python benchmarks/speed.py [--quick | --few] [--only PART ...] [--out DIR] [--readme FILE]
                               [--against FILE --gross FACTOR]

Whatever is compared takes turns with its peer, round after round; printed are medians over the rounds (15, or 7 with
`--quick`, which takes at most five minutes), and a ratio is the median of the ratios within one round. CPU is that of
the whole process, so that what others do on the machine hardly counts; where the wall is meant, the row says so. Each
part has a process of its own.

`--out` writes speed.md, speed.json and speed.svg there, `--readme` the head of the table into the README. `--few`
measures in seconds, for a test, what can be compared between runs. `--against` an earlier speed.json exits with status
1 where a ratio, never a time, is `--gross` times what it was there, in each of three runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import timing
from peers import LIBRARIES
from speed_rows import (
    contended,
    gross,
    growth,
    growth_picture,
    hand_over,
    importing,
    memory,
    paced,
    page,
    promises,
    success_path,
    waiters,
)
from speed_rows.row import FEW, FULL, HEAD, QUICK, Effort, Row

T = TypeVar("T")

PARTS: dict[str, Callable[[Effort], list[Row]]] = {
    "success": success_path.rows, "hand-over": hand_over.rows, "contended": contended.rows, "bucket": paced.rows,
    "waiters": waiters.rows, "memory": memory.rows, "import": importing.rows, "promises": promises.rows}
GROWTH = "growth"
#: Those whose rows may be compared between runs.
STEADY = ("success", "hand-over", "contended", "memory", "import")


def main() -> int:
    chosen = _options()
    effort = FEW if chosen.few else QUICK if chosen.quick else FULL
    machine, libraries = timing.machine(), timing.versions(LIBRARIES)
    head = (f"{timing.line_of(machine)}\n{timing.line_of(libraries)}\n{effort.rounds} rounds, {effort.scale:g} times "
            "the usual seconds")
    print(head, flush=True)
    parts = chosen.only or (STEADY if chosen.few else (*PARTS, GROWTH))
    by_part = {name: measured(name, effort, chosen.out) for name in parts}
    rows = [row for found in by_part.values() for row in found]
    machine["load at the end"] = timing.machine()["load"]
    print("\n" + page.summary(rows))
    if chosen.out is not None:
        about = {"machine": machine, "versions": libraries, "rounds": effort.rounds, "scale": effort.scale}
        page.write(chosen.out, rows, about)
    if chosen.readme is not None:
        page.put_into(chosen.readme, rows)
    if chosen.against is None:
        return 0
    before = json.loads(chosen.against.read_text(encoding="utf-8"))
    print(f"{gross.judged(rows, before)} ratios compared with {chosen.against.name}")
    said = [line for name, found in by_part.items()
            for line in grossly_worse(found, before, chosen.gross, partial(measured, name, effort, None))]
    for line in said:
        print(line, file=sys.stderr)
    return int(bool(said))


def measured(name: str, effort: Effort, out: Path | None) -> list[Row]:
    """The rows of one part, printed; the picture of how cost grows goes to `out`."""
    if name == GROWTH:
        curves = apart(growth.curves, effort)
        found = growth.rows(curves)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            growth_picture.save(curves, out / "speed.svg")
    else:
        found = apart(PARTS[name], effort)
    print("\n" + timing.table(HEAD, [row.cells() for row in found]), flush=True)
    return found


def apart(measure: Callable[[Effort], list[T]], effort: Effort) -> list[T]:
    """In a process of its own, so that no part pays for the threads and objects that another one left."""
    if effort.few:
        return measure(effort)  # starting them takes longer than measuring
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, effort).result()


def grossly_worse(rows: list[Row], before: Mapping[str, Any], factor: float,
                  again: Callable[[], list[Row]]) -> list[str]:
    """What is worse each time: a part in which something is, is measured twice more, for the machine has others."""
    said = gross.worse(rows, before, factor)
    for _ in range(2):
        if said:
            names = [line.split(" is ")[0] for line in said]
            said = [line for line in gross.worse(again(), before, factor) if line.split(" is ")[0] in names]
    return said


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--quick", action="store_true", help="seven rounds, shorter ones")
    effort.add_argument("--few", action="store_true", help="for a test: three short rounds of what can be compared")
    parser.add_argument("--only", nargs="+", metavar="PART", choices=[*PARTS, GROWTH], help="some parts alone")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write speed.md, speed.json and speed.svg there")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="put the head of the table into its section there")
    parser.add_argument("--against", type=Path, metavar="FILE", help="an earlier speed.json to compare ratios with")
    parser.add_argument("--gross", type=float, default=4.0, metavar="FACTOR", help="what is too much (default: 4)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
