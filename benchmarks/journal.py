"""What a journal costs a mapping: items a second and memory, recorded and replayed, of a function that does nothing.

    python benchmarks/journal.py [--items 100000] [--workers 8] [--batches 100 1] [--place DIR] [--json FILE]

Each run is a process of its own. `items/s` is what a consumer sees; `cpu` what all threads of the process computed for
an item; `memory` the most that the process held, over that of a run of a hundred items; `bytes` the file's size for an
item. `fsync` is how long a commit's data takes to the disk at `--place`, which bounds what can be recorded: by default
where temporary files are.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from timing import line_of, machine, table

from llm_guard import Journal, map_with_backpressure


def nothing(item: int) -> int:
    return item


def measured(journal: str, items: int, workers: int, batch: int, keyed: bool) -> dict[str, float]:
    """One mapping; without a journal where its name is empty."""
    options: dict[str, Any] = {"journal": Journal(journal, batch=batch)} if journal else {}
    if journal and keyed:
        options["key"] = lambda item: item
    began, computed = perf_counter(), process_time()
    count = sum(1 for _ in map_with_backpressure(nothing, iter(range(items)), workers=workers, **options))
    assert count == items
    return {"seconds": perf_counter() - began, "cpu": process_time() - computed,
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def fsync(place: str) -> float:
    """Seconds that it takes to have 16 KiB at the end of a file on the disk: the median of fifty."""
    with tempfile.NamedTemporaryFile(dir=place) as file:
        seconds = []
        for _ in range(50):
            file.write(bytes(1 << 14))
            file.flush()
            began = perf_counter()
            os.fsync(file.fileno())
            seconds.append(perf_counter() - began)
    return sorted(seconds)[25]


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        journal, *numbers, keyed = sys.argv[2:]
        items, workers, batch = map(int, numbers)
        print(json.dumps(measured(journal, items, workers, batch, keyed == "True")))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--batches", type=int, nargs="+", default=[100, 1], metavar="N")
    parser.add_argument("--place", default=tempfile.gettempdir(), metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    facts = {**machine(), "fsync ms": round(1000 * fsync(chosen.place), 2)}
    print(f"{line_of(facts)}; {chosen.items} items, {chosen.workers} workers")
    figures = runs(chosen.items, chosen.workers, chosen.batches, chosen.place)
    rows = [[name, f"{run['rate']:,.0f}", f"{run['cpu']:.0f} us", f"{run['memory']:.1f} MB",
             f"{run['bytes']:.0f}" if run["bytes"] else "-"] for name, run in figures.items()]
    print(table(("", "items/s", "cpu", "memory", "bytes"), rows, markdown=True))
    if chosen.json is not None:
        chosen.json.write_text(json.dumps({"machine": facts, "items": chosen.items, "workers": chosen.workers,
                                           "runs": figures}, indent=1) + "\n", encoding="utf-8")


def runs(items: int, workers: int, batches: list[int], place: str) -> dict[str, dict[str, float]]:
    """The figures of each kind of run, by its name."""
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=place) as directory:
        base = one("", 100, workers, 1, False)["memory"]

        def run(name: str, journal: str, count: int, batch: int, keyed: bool) -> None:
            found = one(journal, count, workers, batch, keyed)
            size = Path(journal).stat().st_size / count if journal else 0.0
            figures[name] = {"rate": count / found["seconds"], "cpu": 1e6 * found["cpu"] / count,
                             "memory": found["memory"] - base, "bytes": size}

        run("no journal", "", items, 1, False)
        for keyed in (False, True):
            for batch in batches:
                journal = str(Path(directory) / f"{keyed} {batch}.db")
                count = items if batch > 1 else max(items // 50, 1)
                name = f"batch={batch}{', key=' * keyed}"
                run(f"recorded, {name}", journal, count, batch, keyed)
                if batch > 1:
                    run(f"replayed, {name}", journal, count, batch, keyed)
    return figures


def one(journal: str, *options: object) -> dict[str, float]:
    """A run in a process of its own."""
    found = subprocess.run([sys.executable, __file__, "--one", journal, *map(str, options)], check=True, text=True,
                           stdout=subprocess.PIPE)
    figures: dict[str, float] = json.loads(found.stdout)
    return figures


if __name__ == "__main__":
    main()
