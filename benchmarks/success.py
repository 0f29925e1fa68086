"""Servers that start cold, by strategies: whose calls succeed, with how few, and how soon. In virtual time.

    python benchmarks/success.py [--quick] [--seeds N] [--scenarios A C ...] [--strategies NAME ...] [--out DIR]
                                 [--reuse FILE]

Runs this project's stack and the strategies of `strategies/`, each as people use it and with as much patience as ours,
a batch of 64 threads on each of the 19 servers. Writes success.md, success.json and success.svg into DIR. `--reuse`
takes the strategies' figures from an earlier success.json, and runs this project's stack alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from side_by_side import OURS, Job, summaries
from strategies import STRATEGIES, TOLD
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
    names = [OURS, *chosen.strategies]
    keys = [(server, name) for server in chosen.scenarios for name in names]
    results = known(chosen.reuse) if chosen.reuse else {}
    missing = [key for key in keys if key not in results]
    rows = summaries([Job(server, name, seeds=chosen.seeds) for server, name in missing])
    for key, summary in zip(missing, rows, strict=True):
        results[key] = summary
        print(f"{key[0]:12s} {key[1]:32s} {cell(summary)}", flush=True)
    results = {key: results[key] for key in keys}
    verdicts = {server: beaten_by(server, names, results) for server in chosen.scenarios}
    print(verdict(verdicts))
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "success.md").write_text(page(chosen, names, results, verdicts), encoding="utf-8")
    figures = [{"server": server, "strategy": name, **summary.as_dict()} for (server, name), summary in results.items()]
    (chosen.out / "success.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    save(results, names, chosen.out / "success.svg")


def known(file: Path) -> Results:
    """The strategies' figures of an earlier run."""
    figures = json.loads(file.read_text(encoding="utf-8"))
    return {(row.pop("server"), name): Summary.from_dict(row) for row in figures
            if (name := row.pop("strategy")) != OURS}


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


def page(chosen: argparse.Namespace, names: Sequence[str], results: Results, verdicts: dict[str, list[str]]) -> str:
    """The whole table, in Markdown."""
    lines = ["# Success, side by side", "",
             "Share of the items answered / calls per answer / time as a multiple of a sender's that knows the",
             f"server's state at every instant. A batch on 64 threads, medians of {chosen.seeds} seeds, virtual time;",
             "written by `make success`. A time under 1 beside less than 100% only says that items were given up.",
             '"patient": with as many tries as `@retry` makes.', "", verdict(verdicts), ""]
    for server in chosen.scenarios:
        best = results[server, OURS]
        lines += [f"## {server}", "", "| | answered / calls / time | wait, 99th percentile |", "|---|---|---|"]
        for name in names:
            summary = results[server, name]
            label = f"**{name}**" if summary is best else name + (" (told the capacity)" if name in TOLD else "")
            lines.append(f"| {label} | {cell(summary)} | {summary.wait.median:.1f} s |")
        lines.append("")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", nargs="+", default=list(SERVERS), metavar="NAME")
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=list(STRATEGIES), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("out"), metavar="DIR")
    parser.add_argument("--reuse", type=Path, metavar="FILE", help="an earlier success.json")
    parser.add_argument("--quick", action="store_true", help="a small subset, one seed: some seconds")
    chosen = parser.parse_args()
    if chosen.quick:
        vars(chosen).update(QUICK)
    return chosen


if __name__ == "__main__":
    main()
