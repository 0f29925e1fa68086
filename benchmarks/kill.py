"""A mapping with a journal that is killed again and again, over real HTTP, until its output is whole.

    python benchmarks/kill.py [--items 5000] [--kills 20] [--workers 32] [--batch 100] [--speed 20] [--scenario A]
                              [--seed 0] [--json FILE]

A server that starts cold runs in a process of its own, and so does the mapping, which is killed (SIGKILL) at random
moments and started anew each time: every other time after so many new results, else after so many milliseconds, so that
it is killed while it starts and while it yields what is recorded too. After each kill the journal is checked. At the
end every item has to be in the output exactly once, and the calls that the server neither refused nor failed have to be
at most items + kills x (workers + batch): what was in flight, and what was not yet written.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from threading import Timer
from time import perf_counter

import requests
from timing import line_of, machine

from llm_guard import Journal, bounded, map_with_backpressure, ramp_up, retry, timeout
from llm_guard.llm import huggingface
from llm_guard.testing.cold_server import cold_server_process


@dataclass(frozen=True, slots=True)
class Run:
    """What became of it. `calls`, `refused`, `failed` (a 500) and `made` (all others) are the server's counts, `bound`
    what `made` may be. Items: `yielded` by any process, `missing`, `wrong` (another's answer, or another one than
    before), `twice` in one process, `unrecorded` though they had been yielded. `checked`: how often the journal was
    found whole."""

    items: int
    kills: int
    calls: int
    refused: int
    failed: int
    made: int
    bound: int
    yielded: int
    missing: int
    wrong: int
    twice: int
    unrecorded: int
    checked: int
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether all that is promised is so."""
        lost = self.missing or self.wrong or self.twice or self.unrecorded
        return not lost and self.items <= self.made <= self.bound and self.checked == self.kills + 1


def work(url: str, journal: str, items: int, workers: int, batch: int) -> None:
    """The process that is killed: tells that it begins, and each result once it is yielded."""
    call = huggingface("m", url=url)

    @ramp_up
    @bounded(workers)
    @retry
    @timeout(30)
    def ask(prompt: str) -> str:
        return call(prompt)

    os.write(1, b"ready\n")
    prompts = (f"prompt {number}" for number in range(items))
    with map_with_backpressure(ask, prompts, workers=workers, journal=Journal(journal, batch=batch, wait=5),
                               results=True) as results:
        for result in results:
            os.write(1, f"{result.index}\t{result.value}\n".encode())  # one write: whole, or not at all


def torture(items: int, kills: int, workers: int, batch: int, scenario: str, speed: float, seed: int) -> Run:
    """Runs it, kills it, and counts."""
    random = Random(seed)
    yielded: dict[int, str] = {}
    wrong = twice = unrecorded = checked = killed = 0
    with tempfile.TemporaryDirectory() as place, cold_server_process(scenario, speed=speed, seed=seed) as url:
        journal = str(Path(place) / "run.db")
        began = perf_counter()
        ended = False
        while not ended:
            # A random share of what is left, so that the kills are spread over the run.
            share = 1 + int(random.random() * 2 * (items - len(yielded)) / (kills - killed + 1))
            last, delay = (share, None) if killed % 2 else (None, random.random() / 2)
            if killed == kills:
                last = delay = None
            lines, ended = one_life(url, journal, items, workers, batch, last, delay, set(yielded))
            killed += not ended
            checked += is_whole(journal)
            twice += len(lines) - len(dict(lines))
            for index, answer in lines:
                wrong += answer != f"echo: prompt {index}" or yielded.setdefault(index, answer) != answer
            unrecorded += len(yielded.keys() - recorded(journal))
        seconds = perf_counter() - began
        stats = requests.get(url + "/stats", timeout=10).json()
    refused, failed = sum(stats["refusals"].values()), stats["failures"]
    return Run(items, killed, stats["calls"], refused, failed, stats["calls"] - refused - failed,
               items + killed * (workers + batch), len(yielded), items - len(yielded), wrong, twice, unrecorded,
               checked, round(seconds, 1))


def one_life(url: str, journal: str, items: int, workers: int, batch: int, last: int | None,
             delay: float | None, known: set[int]) -> tuple[list[tuple[int, str]], bool]:
    """What a process yielded, and whether it came to its end; killed after `last` results that are new, or after
    `delay` seconds from its beginning."""
    command = [sys.executable, __file__, "--work", url, journal, *map(str, (items, workers, batch))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = []
        new: set[int] = set()
        for line in told(process):
            if line == "ready\n":
                if delay is not None:
                    Timer(delay, process.kill).start()
                continue
            index, _, answer = line.rstrip("\n").partition("\t")
            lines.append((int(index), answer))
            new |= {int(index)} - known
            if last is not None and len(new) >= last:
                process.kill()
                last = None
        code = process.wait()
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the process ended with {code}")
    return lines, code == 0


def told(process: subprocess.Popen[str]) -> Iterator[str]:
    """Its lines, those too that were on their way when it was killed."""
    assert process.stdout is not None
    yield from (line for line in process.stdout if line.endswith("\n"))


def recorded(journal: str) -> set[int]:
    """The indexes of the items that are recorded."""
    if not os.path.exists(journal):
        return set()
    with Journal.read(journal) as records:
        return {record.index for record in records if record.kind == "success"}


def is_whole(journal: str) -> bool:
    """Whether SQLite finds nothing wrong with it; it may not be there yet."""
    if not os.path.exists(journal):
        return True
    with closing(sqlite3.connect(journal)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)])


def main() -> int:
    if sys.argv[1:2] == ["--work"]:
        url, journal, *numbers = sys.argv[2:]
        work(url, journal, *map(int, numbers))
        return 0
    chosen = _options()
    print(line_of(machine()))
    run = torture(chosen.items, chosen.kills, chosen.workers, chosen.batch, chosen.scenario, chosen.speed, chosen.seed)
    for name, value in asdict(run).items():
        print(f"{name:12}{value}")
    print("all that is promised holds" if run.holds else "NOT as promised")
    if chosen.json is not None:
        chosen.json.write_text(json.dumps({"machine": machine(), **asdict(run)}, indent=1) + "\n", encoding="utf-8")
    return 0 if run.holds else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in (("--items", 5000), ("--kills", 20), ("--workers", 32), ("--batch", 100), ("--seed", 0)):
        parser.add_argument(name, type=int, default=number)
    parser.add_argument("--scenario", default="A", metavar="NAME")
    parser.add_argument("--speed", type=float, default=20.0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
