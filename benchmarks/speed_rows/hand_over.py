"""`@timeout` and a thread pool, each called by 32 threads at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from statistics import median

from overhead import bare
from timing import Seconds

from llm_guard import timeout
from speed_rows.row import Effort, Row
from speed_rows.turns import cpu, in_turns, ratio, run_together, wall

THREADS = 32


def rows(effort: Effort) -> list[Row]:
    calls = max(10, round(100 * effort.scale))
    with ThreadPoolExecutor(THREADS) as pool:
        subjects: dict[str, Callable[[str], str]] = {
            "pool": lambda prompt: pool.submit(bare, prompt).result(timeout=5), "@timeout": timeout(5)(bare)}

        def turn(call: Callable[[str], str]) -> Callable[[], Seconds]:
            def caller() -> None:
                for _ in repeat(None, calls):
                    call("hello")

            return lambda: run_together([caller] * THREADS)

        turns = {name: turn(call) for name, call in subjects.items()}
        in_turns(turns, 1)  # starts the workers
        took = in_turns(turns, max(effort.rounds, 9))
    own, peer = took["@timeout"], took["pool"]
    each = 1e6 / (calls * THREADS)
    return [Row(f"@timeout, {THREADS} threads", "CPU, times ThreadPoolExecutor", ratio(cpu(own), cpu(peer)), 0.9,
                beside=f"us a call {each * median(cpu(own)):.0f}, of the pool {each * median(cpu(peer)):.0f}; "
                       f"wall ratio {ratio(wall(own), wall(peer)):.2f}", steady=True)]
