"""Servers that start cold, by strategies: whose calls succeed, with how few, and how soon. In virtual time.

    python benchmarks/success.py [--quick] [--seeds N] [--scenarios A C ...] [--strategies NAME ...] [--out DIR]
                                 [--reuse FILE | --page FILE]

Runs this project's stack and the strategies of `strategies/`, each as people use it and with as much patience as ours,
a batch of 64 threads on each of the 19 servers. Writes success.md, success.json and success.svg into DIR. `--reuse`
takes the strategies' figures from an earlier success.json, and runs this project's stack alone; `--page` runs nothing,
and writes page and picture anew from such a file.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

from side_by_side import OURS, Job, summaries
from strategies import STRATEGIES, TOLD
from success_means import means, table
from success_picture import save

from llm_guard.testing.server import SCENARIOS, scenario
from llm_guard.testing.simulation import Summary

#: The servers of the comparison; those after them in SCENARIOS show what else the pace does.
SERVERS = tuple(SCENARIOS)[:19]
QUICK = {"scenarios": ["A", "C-nora", "S"], "strategies": ["tenacity pool", "AIMD, patient"], "seeds": 1}
Results = dict[tuple[str, str], Summary]  # by server and strategy


def main() -> None:
    chosen = _options()
    for name in chosen.scenarios:
        scenario(name)  # a wrong name is told before the first run
    if chosen.page:
        write(known(chosen.page), chosen.out)
        return
    names = [OURS, *chosen.strategies]
    keys = [(server, name) for server in chosen.scenarios for name in names]
    results = {key: summary for key, summary in (known(chosen.reuse) if chosen.reuse else {}).items() if key[1] != OURS}
    missing = [key for key in keys if key not in results]
    rows = summaries([Job(server, name, seeds=chosen.seeds) for server, name in missing])
    for key, summary in zip(missing, rows, strict=True):
        results[key] = summary
        print(f"{key[0]:12s} {key[1]:32s} {cell(summary)}", flush=True)
    results = {key: results[key] for key in keys}
    chosen.out.mkdir(parents=True, exist_ok=True)
    figures = [{"server": server, "strategy": name, **summary.as_dict()} for (server, name), summary in results.items()]
    (chosen.out / "success.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    write(results, chosen.out)


def known(file: Path) -> Results:
    """The figures of an earlier run."""
    figures = json.loads(file.read_text(encoding="utf-8"))
    return {(row.pop("server"), row.pop("strategy")): Summary.from_dict(row) for row in figures}


def write(results: Results, directory: Path) -> None:
    """Writes the page and the picture, and prints who was better where."""
    servers = list(dict.fromkeys(server for server, _ in results))
    names = list(dict.fromkeys(name for _, name in results))
    verdicts = {server: beaten_by(server, names, results) for server in servers}
    print(verdict(verdicts))
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "success.md").write_text(page(servers, names, results, verdicts), encoding="utf-8")
    save(results, names, directory / "success.svg")


def cell(summary: Summary) -> str:
    """Answered %, calls per answer, time over the best: medians."""
    answered = 100 * summary.success.median
    if answered == 0:
        return "0%"
    shown = "100" if answered == 100 else f"{min(answered, 99.9):.1f}"
    return f"{shown}% / {min(999.0, summary.calls.median):.3f} / {summary.against_best.median:.2f}"


def beaten_by(server: str, names: Sequence[str], results: Results) -> list[str]:
    """Who answers more there than this project's stack, or as many with calls fewer by over 2%; of those that are not
    told the server's true capacity."""
    ours = results[server, OURS]

    def better(name: str) -> bool:
        other = results[server, name]
        if other.success.median != ours.success.median:
            return other.success.median > ours.success.median
        return other.calls.median * 1.02 < ours.calls.median

    return [name for name in names if name != OURS and name not in TOLD and better(name)]


def verdict(verdicts: dict[str, list[str]]) -> str:
    """One sentence on who was better where."""
    lost = "; ".join(f"{server}: {', '.join(names)}" for server, names in verdicts.items() if names)
    return (f"Better than {OURS}, with more answered or as many with over 2% fewer calls: {lost}." if lost else
            f"On none of the {len(verdicts)} servers did a strategy that is not told the server's capacity answer more "
            f"than {OURS}, or as many with over 2% fewer calls.")


def page(servers: Sequence[str], names: Sequence[str], results: Results, verdicts: dict[str, list[str]]) -> str:
    """The means over the servers, and the whole table, in Markdown."""
    seeds = next(iter(results.values())).seeds
    label = {name: f"**{name}**" if name == OURS else name + (" (told the capacity)" if name in TOLD else "")
             for name in names}
    lines = ["# Success, side by side", "",
             f"A batch on 64 threads on {len(servers)} servers, medians of {seeds} seeds, virtual time; written by",
             '`make success`. "patient": with as many tries as `@retry` makes.', "", verdict(verdicts), "",
             "## Over all servers", "", *table(means(results, names), label), "",
             "## Server by server", "",
             "Share of the items answered / calls per answer / time as a multiple of a sender's that knows the",
             "server's state at every instant. A time under 1 beside less than 100% only says that items were given",
             "up.", ""]
    for server in servers:
        lines += [f"### {server}", "", "| | answered / calls / time | wait, 99th percentile |", "|---|---|---|"]
        for name in names:
            summary = results[server, name]
            wait = "" if math.isinf(summary.wait.median) or math.isnan(summary.wait.median) else (
                f"{summary.wait.median:.1f} s")
            lines.append(f"| {label[name]} | {cell(summary)} | {wait} |")
        lines.append("")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", nargs="+", default=list(SERVERS), metavar="NAME")
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=list(STRATEGIES), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("out"), metavar="DIR")
    earlier = parser.add_mutually_exclusive_group()
    earlier.add_argument("--reuse", type=Path, metavar="FILE", help="an earlier success.json: runs llm_guard alone")
    earlier.add_argument("--page", type=Path, metavar="FILE", help="an earlier success.json: runs nothing")
    parser.add_argument("--quick", action="store_true", help="a small subset, one seed: some seconds")
    chosen = parser.parse_args()
    if chosen.quick:
        vars(chosen).update(QUICK)
    return chosen


if __name__ == "__main__":
    main()
