"""What `map_with_backpressure` itself costs: items a second through a function that does nothing, and memory.

    python benchmarks/mapping.py [--items N] [--rounds N] [--workers N] [--long N]

The peer is what people write by hand: a sliding window over `ThreadPoolExecutor.submit`, as far ahead of its consumer
as the mapping is. They take turns, and printed are medians. Then a process maps `--long` items from a generator, and
its peak of memory is set beside that of one that maps none.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from llm_guard import map_with_backpressure

PEAK = """
import resource, sys
from llm_guard import map_with_backpressure
taken = 0
for _ in map_with_backpressure(lambda item: item, (item for item in range({items})), workers={workers}):
    taken += 1
assert taken == {items}
try:  # of this program alone: ru_maxrss may be that of the process that began it
    with open("/proc/self/status") as status:
        print(next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM")))
except OSError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024 ** 2))
"""


def nothing(item: int) -> int:
    return item


def window(items: int, workers: int, ahead: int) -> Iterator[int]:
    """By hand, in order."""
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[Future[int]] = deque()
        for item in range(items):
            pending.append(pool.submit(nothing, item))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def rate(make: Callable[[], Iterator[object]], items: int) -> float:
    """Items a second."""
    began = time.perf_counter()
    taken = sum(1 for _ in make())
    assert taken == items
    return items / (time.perf_counter() - began)


def peak(items: int, workers: int) -> float:
    """MB at most, of a process."""
    run = subprocess.run([sys.executable, "-c", PEAK.format(items=items, workers=workers)], capture_output=True,
                         text=True, check=True)
    return float(run.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--long", type=int, default=10_000_000, metavar="N")
    chosen = parser.parse_args()
    items, workers = chosen.items, chosen.workers
    ahead = {True: workers * 9, False: workers * 2}
    subjects: dict[str, Callable[[], Iterator[object]]] = {
        f"window by hand, {ahead[True]} ahead": lambda: window(items, workers, ahead[True]),
        "mapping": lambda: map_with_backpressure(nothing, range(items), workers=workers),
        "mapping, results=True": lambda: map_with_backpressure(nothing, range(items), workers=workers, results=True),
        "mapping, partition_by of 100 keys": lambda: map_with_backpressure(
            nothing, range(items), workers=workers, partition_by=lambda item: item % 100),
        f"window by hand, {ahead[False]} ahead": lambda: window(items, workers, ahead[False]),
        "mapping, ordered=False": lambda: map_with_backpressure(nothing, range(items), workers=workers, ordered=False),
    }
    rates: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(chosen.rounds):
        for name, make in subjects.items():
            rates[name].append(rate(make, items))
    print(f"{workers} workers, {items:,} items, median of {chosen.rounds} rounds in turns\n")
    print("| subject | items a second | least | most |\n|---|---|---|---|")
    for name, found in rates.items():
        print(f"| {name} | {statistics.median(found):,.0f} | {min(found):,.0f} | {max(found):,.0f} |", flush=True)
    empty, full = peak(0, workers), peak(chosen.long, workers)
    print(f"\npeak of memory: {empty:.1f} MB with no items, {full:.1f} MB with {chosen.long:,}: "
          f"{full - empty:.1f} MB more")


if __name__ == "__main__":
    main()
