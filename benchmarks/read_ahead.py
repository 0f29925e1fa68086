"""How far ahead an ordered mapping should read: time, by how many results may wait for their turn. In virtual time.

    python benchmarks/read_ahead.py [--items N] [--workers N ...]

A mapping whose server takes all that the workers send, with latencies from even to heavy-tailed: then one slow call
holds up all that come after it, and its workers wait once the buffer is full. Printed is the time over that of the same
mapping without order, for buffers of so many results a worker; at most `workers` and the buffer are read ahead of what
the consumer took, and called in vain where it stops.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from random import Random

from llm_guard import clock, map_with_backpressure
from llm_guard.clock.virtual import VirtualClock
from llm_guard.mapping.mapping import ROOM_IN_ORDER

#: Lognormal by their sigma; the last: with sigma 0.3, one call in a hundred takes 20 times as long.
LATENCIES = {"sigma 0.3": (0.3, 0.0), "sigma 0.5": (0.5, 0.0), "sigma 0.8": (0.8, 0.0), "sigma 1.0": (1.0, 0.0),
             "1% take 20 times as long": (0.3, 0.01)}
BUFFERS = (0, 1, 2, 4, 8, 16)  # results a worker


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--workers", type=int, nargs="+", default=[8, 32, 128], metavar="N")
    chosen = parser.parse_args()
    heads = [f"{buffer} a worker" + (" (default)" if buffer == ROOM_IN_ORDER else "") for buffer in BUFFERS]
    print(f"| workers | latencies | {' | '.join(heads)} |\n|{'---|' * (2 + len(BUFFERS))}")
    for workers in chosen.workers:
        for name, (sigma, stragglers) in LATENCIES.items():
            seconds = latencies(sigma, stragglers, chosen.items)
            unordered = time_of(seconds, workers, ordered=False)
            times = [time_of(seconds, workers, buffer=buffer * workers) / unordered for buffer in BUFFERS]
            print(f"| {workers} | {name} | {' | '.join(f'{time:.2f}' for time in times)} |", flush=True)


def latencies(sigma: float, stragglers: float, count: int) -> list[float]:
    """Seconds that each call takes."""
    random = Random("latencies")
    return [math.exp(random.gauss(0, sigma)) * (20 if random.random() < stragglers else 1) for _ in range(count)]


def time_of(seconds: Sequence[float], workers: int, *, ordered: bool = True, buffer: int | None = None) -> float:
    """Seconds that the mapping takes."""
    with VirtualClock() as time:
        for _ in map_with_backpressure(lambda item: clock.current().sleep(seconds[item]), range(len(seconds)),
                                       workers=workers, ordered=ordered, buffer=buffer):
            pass
        return time.now()


if __name__ == "__main__":
    main()
