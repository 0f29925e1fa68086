"""What a guarded call costs, all of it: every row of the table of goals, measured side by side in one run.

    python benchmarks/speed.py [--quick | --few] [--only PART ...] [--out DIR] [--against FILE --gross FACTOR]

Whatever is compared takes turns with its peer, round after round; printed are medians over the rounds (15, or 7 with
`--quick`, which takes at most five minutes), and a ratio is the median of the ratios within one round. CPU is that of
the whole process, so that what others do on the machine hardly counts; where the wall is meant, the row says so.

`--out` writes speed.md, speed.json and speed.svg there. `--few` measures in seconds, for a test, what can be compared
between runs. `--against` an earlier speed.json exits with status 1 where a ratio, never a time, is `--gross` times what
it was there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    promises,
    success_path,
    waiters,
)
from speed_rows.row import FEW, FULL, HEAD, QUICK, Effort, Row

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
    rows: list[Row] = []
    for name in chosen.only or (STEADY if chosen.few else (*PARTS, GROWTH)):
        if name == GROWTH:
            curves = growth.curves(effort)
            found = growth.rows(curves)
            if chosen.out is not None:
                chosen.out.mkdir(parents=True, exist_ok=True)
                growth_picture.save(curves, chosen.out / "speed.svg")
        else:
            found = PARTS[name](effort)
        rows += found
        print("\n" + timing.table(HEAD, [row.cells() for row in found]), flush=True)
    machine["load at the end"] = timing.machine()["load"]
    print("\n" + summary(rows))
    if chosen.out is not None:
        about = {"machine": machine, "versions": libraries, "rounds": effort.rounds, "scale": effort.scale}
        write(chosen.out, rows, about)
    if chosen.against is None:
        return 0
    before = json.loads(chosen.against.read_text(encoding="utf-8"))
    said = gross.worse(rows, before, chosen.gross)
    print(f"{gross.judged(rows, before)} ratios compared with {chosen.against.name}")
    for line in said:
        print(line, file=sys.stderr)
    return int(bool(said))


def summary(rows: list[Row]) -> str:
    """How many goals are reached, and which are not."""
    judged = [row for row in rows if row.reached is not None]
    missed = [row for row in judged if not row.reached]
    return "\n".join([f"{len(judged) - len(missed)} of {len(judged)} goals reached",
                      *(f"not reached: {row.name} is {row.value:.2f}, the goal {row.goal:g}" for row in missed)])


def write(directory: Path, rows: list[Row], about: dict[str, Any]) -> None:
    """speed.md and speed.json."""
    directory.mkdir(parents=True, exist_ok=True)
    goals = [row.cells() for row in rows if row.goal is not None]
    others = [row.cells() for row in rows if row.goal is None]
    page = f"""# What it costs

Written by `make bench`. {timing.line_of(about["machine"])}.
{timing.line_of(about["versions"])}.

Whatever is compared took turns with its peer; medians of {about["rounds"]} rounds, a ratio is the median of the ratios
within one round. CPU is that of the whole process. `benchmarks/speed.py` and the modules of `benchmarks/speed_rows` say
how each is measured.

{summary(rows)}

{timing.table(HEAD, goals, markdown=True)}

## Beside them

What each promise of the runner costs, in microseconds of CPU that a call takes more; what is brought in when it is
first needed; and the same beside other peers.

{timing.table(HEAD, others, markdown=True)}

![How the cost of a call grows with calls made, keys, waiters and window length](speed.svg)
"""
    page = page.replace("\nnot reached:", "  \nnot reached:")
    (directory / "speed.md").write_text(page, encoding="utf-8")
    figures = {**about, "rows": [row.facts() for row in rows]}
    (directory / "speed.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--quick", action="store_true", help="seven rounds, shorter ones")
    effort.add_argument("--few", action="store_true", help="for a test: three short rounds of what can be compared")
    parser.add_argument("--only", nargs="+", metavar="PART", choices=[*PARTS, GROWTH], help="some parts alone")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write speed.md, speed.json and speed.svg there")
    parser.add_argument("--against", type=Path, metavar="FILE", help="an earlier speed.json to compare ratios with")
    parser.add_argument("--gross", type=float, default=4.0, metavar="FACTOR", help="what is too much (default: 4)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
