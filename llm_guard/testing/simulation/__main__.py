"""Simulates from the command line: `python -m llm_guard.testing.simulation A C --seeds 3 --plot out.svg`."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from operator import attrgetter
from pathlib import Path
from typing import cast

from llm_guard.clock.virtual import Deadlock, Stalled, TimeUp
from llm_guard.errors import ConfigError
from llm_guard.testing.server import SCENARIOS, Scenario
from llm_guard.testing.server import scenario as scenario_named
from llm_guard.testing.simulation.client import Client, Strategy, check_client, recommended
from llm_guard.testing.simulation.plot import check_picture, save
from llm_guard.testing.simulation.run import Run
from llm_guard.testing.simulation.simulate import simulate
from llm_guard.testing.simulation.summary import Summary, markdown


def main(arguments: list[str] | None = None) -> int:
    """Runs what the options ask for; 2 where one of them cannot work, 1 where the client came to no end.

    A bug of the client's is raised as it is.
    """
    chosen = _parser().parse_intermixed_args(arguments)
    try:
        if chosen.plot is not None:
            check_picture(chosen.plot)  # now, and not when all has run
        for option in ("plot", "json"):
            if (path := getattr(chosen, option)) is not None:
                check_writable(option, path)
        client = recommended if chosen.client is None else client_at(chosen.client)
        servers = [scenario_named(name) for name in chosen.scenarios]
        rows, first = [], []
        for server in servers:
            runs = _runs(server, client, chosen)
            rows.append(Summary.of(runs))
            first.append(runs[0])
            print(markdown(rows) if len(rows) == 1 else markdown(rows).splitlines()[-1], flush=True)
        for line in filter(None, [row.reasons() for row in rows]):
            print(f"\n{line}")
        if chosen.story:
            print(*(f"\n{run.scenario.name}, seed 0:\n" + "\n".join(map(str, run.story)) for run in first), sep="\n")
        if chosen.json is not None:
            chosen.json.write_text(json.dumps([row.as_dict() for row in rows], indent=1) + "\n", encoding="utf-8")
        if chosen.plot is not None:
            save(first, chosen.plot)
    except (ConfigError, ImportError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except (Deadlock, Stalled, TimeUp) as error:
        print(f"The client came to no end: {_shortened(str(error))}", file=sys.stderr)
        return 1
    return 0


def client_at(place: str) -> Client | Strategy:
    """The client or strategy at "package.module:name"; ConfigError where there is none."""
    allowed = "package.module:name, of a Stack, a decorator (a function from a call to a call) or a Strategy"
    module, _, name = place.partition(":")
    if not module or not name:
        raise ConfigError("client", place, allowed)
    try:
        found = attrgetter(name)(importlib.import_module(module))
    except Exception as error:
        raise ConfigError("client", place, f"{allowed} ({type(error).__name__}: {error})") from error
    check_client(found)
    return cast("Client | Strategy", found)


def check_writable(option: str, path: Path) -> None:
    """ConfigError where no file can be written there. Leaves what is there as it is."""
    there = path.exists()
    if there and not path.is_file() and not path.is_dir():
        return  # a device or a pipe, which an end of writing might close
    try:
        with path.open("ab"):
            pass
    except OSError as error:
        raise ConfigError(option, str(path), f"a file that can be written ({error.strerror})") from error
    if not there:
        path.unlink()


def _runs(server: Scenario, client: Client | Strategy, chosen: argparse.Namespace) -> list[Run]:
    return [simulate(server, client, workload=chosen.workload, seed=seed, items=chosen.items,
                     threads=chosen.threads, noise=chosen.noise, clients=chosen.clients, apart=chosen.apart,
                     sample_every=0.5 if chosen.plot is not None and seed == 0 else None)
            for seed in range(chosen.seeds)]


def _shortened(text: str, most: int = 4) -> str:
    """Where a few of the threads stand says as much as where all do."""
    lines = text.splitlines()
    return "\n".join([*lines[:most], f"  and {len(lines) - most} more"] if len(lines) > most else lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m llm_guard.testing.simulation", description="The real decorators, threads and mapping against "
        "servers that start cold, in virtual time. Prints medians over the seeds, and the worst in brackets; then why "
        "items were not answered, where some were not.")
    parser.add_argument("scenarios", nargs="*", default=["A", "C", "E", "F"], metavar="SCENARIO",
                        help=f"{', '.join(SCENARIOS)} or random-<seed> (default: A C E F)")
    parser.add_argument("--seeds", type=_count, default=1, help="runs of each, with the seeds from 0 on (default: 1)")
    parser.add_argument("--workload", choices=("batch", "ramp", "spike"), default="batch",
                        help="all at once, or online traffic that grows or leaps (default: batch)")
    parser.add_argument("--items", type=_count, help="items of a batch (default: the scenario's)")
    parser.add_argument("--threads", type=_count, help="of each client of a batch (default: 64)")
    parser.add_argument("--noise", type=float, help="share of calls that fail, below 1 (default: the scenario's)")
    parser.add_argument("--clients", type=_count, default=1, help="each with a state of its own (default: 1)")
    parser.add_argument("--apart", type=float, default=0.0, metavar="SECONDS",
                        help="between the beginnings of two clients of a batch")
    parser.add_argument("--client", metavar="MODULE:NAME",
                        help="a stack, a decorator or a Strategy of yours, in place of the stack that is recommended")
    parser.add_argument("--story", action="store_true",
                        help="prints what the policies said of themselves in the first run of each")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draws the first run of each: .svg or .png")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes the figures")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
