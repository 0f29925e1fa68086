"""Simulates from the command line: `python -m llm_guard.testing.simulation A C --seeds 3 --plot out.svg`."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import sys
from pathlib import Path
from typing import cast

from llm_guard.errors import ConfigError
from llm_guard.testing.server import SCENARIOS, Scenario
from llm_guard.testing.server import scenario as scenario_named
from llm_guard.testing.simulation.client import Strategy, recommended
from llm_guard.testing.simulation.plot import check_picture, save
from llm_guard.testing.simulation.run import Run
from llm_guard.testing.simulation.simulate import simulate
from llm_guard.testing.simulation.summary import Summary, markdown


def main(arguments: list[str] | None = None) -> int:
    """Runs what the options ask for; 2 where one of them cannot work."""
    chosen = _parser().parse_args(arguments)
    logging.getLogger("llm_guard").addHandler(logging.NullHandler())  # what a pace says of virtual hours is no news
    try:
        if chosen.plot is not None:
            check_picture(chosen.plot)  # now, and not when all has run
        strategy = recommended if chosen.client is None else strategy_at(chosen.client)
        servers = [scenario_named(name) for name in chosen.scenarios]
        rows, first = [], []
        for server in servers:
            runs = _runs(server, strategy, chosen)
            rows.append(Summary.of(runs))
            first.append(runs[0])
            print(markdown(rows) if len(rows) == 1 else markdown(rows).splitlines()[-1], flush=True)
        if chosen.json is not None:
            chosen.json.write_text(json.dumps([row.as_dict() for row in rows], indent=1) + "\n", encoding="utf-8")
        if chosen.plot is not None:
            save(first, chosen.plot)
    except (ConfigError, ImportError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def strategy_at(place: str) -> Strategy:
    """The strategy at "package.module:name"; ConfigError where there is none."""
    module, _, name = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), name) if name else None
    except (ImportError, AttributeError):
        found = None
    if not callable(found):
        raise ConfigError("client", place, "package.module:function, the function from a Setting to a client")
    return cast(Strategy, found)


def _runs(server: Scenario, strategy: Strategy, chosen: argparse.Namespace) -> list[Run]:
    return [simulate(server, strategy, workload=chosen.workload, seed=seed, items=chosen.items,
                     threads=chosen.threads, noise=chosen.noise, clients=chosen.clients, apart=chosen.apart,
                     sample_every=0.5 if chosen.plot is not None and seed == 0 else None)
            for seed in range(chosen.seeds)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m llm_guard.testing.simulation", description="The real decorators, threads and mapping against "
        "servers that start cold, in virtual time. Prints medians over the seeds, and the worst in brackets.")
    parser.add_argument("scenarios", nargs="*", default=["A", "C", "E", "F"], metavar="SCENARIO",
                        help=f"{', '.join(SCENARIOS)} or random-<seed> (default: A C E F)")
    parser.add_argument("--seeds", type=_count, default=1, help="runs of each, with the seeds from 0 on (default: 1)")
    parser.add_argument("--workload", choices=("batch", "ramp", "spike"), default="batch")
    parser.add_argument("--items", type=_count, help="items of a batch (default: the scenario's)")
    parser.add_argument("--threads", type=_count, default=64, help="of each client of a batch (default: 64)")
    parser.add_argument("--noise", type=float, help="share of calls that fail, in place of the scenario's")
    parser.add_argument("--clients", type=_count, default=1, help="each with a state of its own (default: 1)")
    parser.add_argument("--apart", type=float, default=0.0, metavar="SECONDS",
                        help="between the beginnings of two clients")
    parser.add_argument("--client", metavar="MODULE:FUNCTION", help="a strategy of yours in place of llm_guard's stack")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draws the first run of each: .svg or .png")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes the figures")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
