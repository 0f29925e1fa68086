"""`llm-guard run` against a server that loads, limits, fails now and then and is gone for a while; killed on the way.

    python benchmarks/command_line.py [--prompts 2000] [--kills 1] [--workers 32] [--speed 1] [--plot FILE]

The server runs in a process of its own: it loads for 10 s, takes 40 calls a second (beyond them a 429), fails 2% of
them, and from the 30th second on it is not there for 10 s. The command is killed (SIGKILL) `kills` times, spread over
the run, and started again with the same options. At the end each prompt has to have its own answer once, in order, and
the calls that the server neither refused nor failed have to be at most prompts + kills x (workers + one batch).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, sleep

import requests
from timing import line_of, machine

from llm_guard import Journal
from llm_guard.testing.cold_server import ColdServer
from llm_guard.testing.server import Scenario
from llm_guard.testing.server.settings import BucketLimit, Load, Spell

BATCH = 100
STORMY = Scenario("stormy", slots=32, median=0.5, sigma=0.3, queue=64, noise=0.02, load=Load(10.0),
                  limit=BucketLimit(rate=40.0, burst=40.0), spells=(Spell(30.0, 40.0),))


@dataclass(frozen=True, slots=True)
class Run:
    """What became of it: of `prompts`, so many rows were `right` (its own answer, at its place), in `rows`. `calls`,
    `refused` and `failed` are the server's counts, `made` all others, `bound` what these may be."""

    prompts: int
    kills: int
    rows: int
    right: int
    calls: int
    refused: int
    failed: int
    made: int
    bound: int
    code: int
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether all that is promised is so."""
        return self.rows == self.right == self.prompts <= self.made <= self.bound and self.code == 0


@contextmanager
def server(speed: float) -> Iterator[str]:
    """Its URL, for a block."""
    with subprocess.Popen([sys.executable, __file__, "--serve", str(speed)], stdout=subprocess.PIPE, text=True,
                          start_new_session=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def serve(speed: float) -> None:
    """The process of the server, until it is killed."""
    found = ColdServer(STORMY, speed=speed)
    print(found.url, flush=True)
    found.serve()


def storm(prompts: int, kills: int, workers: int, speed: float, plot: Path | None) -> Run:
    """Runs it, kills it, and counts."""
    with tempfile.TemporaryDirectory() as folder, server(speed) as url:
        source, out = Path(folder, "prompts.jsonl"), Path(folder, "answers.jsonl")
        source.write_text("".join(f'{{"prompt": "question {number}"}}\n' for number in range(prompts)))
        command = [sys.executable, "-m", "llm_guard", "run", str(source), "--out", str(out), "--url", url, "--model",
                   "m", "--workers", str(workers), "--timeout", "30"]
        began = perf_counter()
        for kill in range(kills):
            kill_after(command, Path(f"{out}.journal"), prompts * (kill + 1) // (kills + 1))
            assert not out.exists()
        code = subprocess.run([*command, *(["--plot", str(plot)] if plot else [])], check=False).returncode
        seconds = perf_counter() - began
        stats = requests.get(url + "/stats", timeout=10).json()
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    right = sum(row == {**row, "index": place, "answer": f"echo: question {place}"} for place, row in enumerate(rows))
    refused, failed = sum(stats["refusals"].values()), stats["failures"]
    return Run(prompts, kills, len(rows), right, stats["calls"], refused, failed, stats["calls"] - refused - failed,
               prompts + kills * (workers + BATCH), code, round(seconds, 1))


def kill_after(command: list[str], journal: Path, answers: int) -> None:
    """Runs it until the journal has so many answers."""
    with subprocess.Popen(command) as process:
        while answered(journal) < answers:
            assert process.poll() is None, "it ended before it could be killed"
            sleep(0.05)
        process.kill()


def answered(journal: Path) -> int:
    """How many answers are recorded."""
    if not journal.exists():
        return 0
    with Journal.read(journal) as records:
        return records.counts.get("success", 0)


def main() -> int:
    if sys.argv[1:2] == ["--serve"]:
        serve(float(sys.argv[2]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in (("--prompts", 2000), ("--kills", 1), ("--workers", 32)):
        parser.add_argument(name, type=int, default=number)
    parser.add_argument("--speed", type=float, default=1.0, help="divides all the server's times")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    print(line_of(machine()), flush=True)
    run = storm(chosen.prompts, chosen.kills, chosen.workers, chosen.speed, chosen.plot)
    for name, value in asdict(run).items():
        print(f"{name:12}{value}")
    print("all that is promised holds" if run.holds else "NOT as promised")
    return 0 if run.holds else 1


if __name__ == "__main__":
    sys.exit(main())
