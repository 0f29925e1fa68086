"""All strategies in one picture: what share of the items they answer, with how many calls, and how soon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from side_by_side import OURS
from strategies import TOLD
from success_means import MOST_CALLS, means

from llm_guard.testing.simulation import Summary

# Told apart in every kind of colour vision (Okabe and Ito, 2008).
_OURS, _USED, _PATIENT = "#0072B2", "#D55E00", "#009E73"


def save(results: Mapping[tuple[str, str], Summary], names: Sequence[str], path: Path) -> None:
    """One row a strategy, over all its servers: the mean share answered, the geometric means of calls and time."""
    matplotlib.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
                                "svg.hashsalt": "llm_guard"})
    figure = Figure(figsize=(10, 1.2 + 0.3 * len(names)))
    figure.set_layout_engine("constrained")
    answered, calls, times = figure.subplots(1, 3, sharey=True)
    servers = list(dict.fromkeys(server for server, _ in results))
    figure.suptitle(f"A batch of 64 threads on {len(servers)} servers that start cold, limit, weaken or fail: "
                    "means over the servers")
    for row, (name, mean) in enumerate(means(results, names).items()):
        colour = _OURS if name == OURS else _PATIENT if name.endswith("patient") else _USED
        _bar(answered, row, 100 * mean.answered, colour, "{:.1f}%")
        _bar(calls, row, mean.calls, colour, "{:.2f}")
        if mean.time is not None:
            _bar(times, row, mean.time, colour, "{:.2f}")
        else:
            times.text(0.0, row, f" all answered on {mean.whole} of {mean.servers} only", va="center", color="#777777")
    answered.set_yticks(range(len(names)), [name + (" *" if name in TOLD else "") for name in names])
    answered.invert_yaxis()
    answered.set_xlabel("answered, % of the items")
    calls.set_xlabel("calls per answer")
    times.set_xlabel("time / best possible")
    answered.set_xlim(0, 115)
    for axes in (calls, times):
        axes.set_xlim(0, 1.15 * axes.get_xlim()[1])
        axes.axvline(1, color="#999999", linewidth=0.8, linestyle=":")
    figure.supxlabel("* told the server's true capacity. Calls and time: geometric means; a server counts "
                     f"{MOST_CALLS:g} calls at the most. patient: with as many tries as llm_guard makes.", fontsize=8,
                     color="#777777")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _bar(axes: Any, row: int, value: float, colour: str, form: str) -> None:
    axes.barh(row, value, color=colour, height=0.7)
    axes.text(value, row, " " + form.format(value), va="center")
