"""Both runs in one picture: what became of the calls, how many were in flight, and how many prompts were answered."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from server import Stats

# Told apart in every kind of colour vision (Okabe and Ito, 2008).
ANSWERED, REFUSED, IN_FLIGHT = "#0072B2", "#D55E00", "#555555"


def save(seen: dict[str, Stats], items: int, path: Path) -> list[Path]:
    """Draws the runs and writes `path`.png and `path`.svg."""
    matplotlib.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
                                "svg.hashsalt": "llm_guard"})
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    columns = figure.subplots(3, 2, sharex=True, sharey="row").T
    for axes, (name, stats) in zip(columns, seen.items(), strict=True):
        draw_run(axes, name, stats, items)
    calls, in_flight, answers = columns[0]
    calls.set_ylabel("calls a second")
    in_flight.set_ylabel("calls in flight\non the server")
    answers.set_ylabel("prompts answered")
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [path.with_name(path.name + ending) for ending in (".png", ".svg")]
    for file in files:
        figure.savefig(file, dpi=200, metadata={"Date": None} if file.suffix == ".svg" else None)
    return files


def draw_run(axes: Any, name: str, stats: Stats, items: int) -> None:
    calls, in_flight, answers = axes
    timeline = stats["timeline"]
    end = stats["seconds"]

    answered, refused = Counter[int](), Counter[int]()
    for start, _, answered_then, refused_then in timeline:
        answered[int(start)] += answered_then
        refused[int(start)] += refused_then
    seconds = range(int(end) + 1)
    heights = [answered[second] for second in seconds]
    calls.bar(seconds, heights, width=0.9, align="edge", color=ANSWERED, label="answered")
    calls.bar(seconds, [refused[second] for second in seconds], bottom=heights, width=0.9, align="edge",
              color=REFUSED, label="refused")
    calls.legend(frameon=False, loc="upper right")
    per_answer = stats["calls"] / max(1, stats["successes"])
    calls.set_title(f"{name}\n{stats['successes']} of {items} answered, {per_answer:.2f} calls per answer",
                    fontweight="bold", fontsize=11)

    starts = [start for start, *_ in timeline] + [end]
    in_flight.stairs([most for _, most, *_ in timeline], starts, color=IN_FLIGHT, fill=True, alpha=0.35)

    answers.step(starts, [0, *accumulate(sample[2] for sample in timeline)], where="pre", color=ANSWERED, linewidth=2)
    answers.axhline(items, color="black", linewidth=0.8, linestyle=":")
    answers.set_xlabel("seconds")
