"""Both runs in one picture: what became of the calls, how many were in flight, and how many prompts were answered."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from watch import Stats

# Told apart in every kind of colour vision (Okabe and Ito, 2008).
ANSWERED, REFUSED, IN_FLIGHT = "#0072B2", "#D55E00", "#999999"


def save(seen: dict[str, Stats], items: int, path: Path) -> list[Path]:
    """Draws the runs, one a column, and writes `path`.png and `path`.svg."""
    matplotlib.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
                                "svg.hashsalt": "llm_guard"})
    figure = Figure(figsize=(9, 6.6))
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08)
    figure.suptitle(f"The same {items} prompts to a model that starts cold", fontsize=13)
    columns = figure.subplots(3, 2, sharex=True, sharey="row").T
    loaded = min(first_accepted(stats) for stats in seen.values())
    for axes, (name, stats) in zip(columns, seen.items(), strict=True):
        draw_run(axes, name, stats, items, loaded)
    calls, in_flight, answers = columns[0]
    calls.set_ylim(top=calls.get_ylim()[1] * 1.2)  # room for the legend above the highest bar
    calls.legend(frameon=False, loc="upper right", ncols=2)
    calls.set_ylabel("calls a second")
    in_flight.set_ylabel("calls in flight")
    answers.set_ylabel("prompts answered")
    calls.set_xlim(0, max(stats["seconds"] for stats in seen.values()) * 1.02)
    calls.xaxis.set_major_locator(MaxNLocator(integer=True))
    answers.set_ylim(0, items * 1.15)
    figure.align_ylabels(columns[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [path.with_name(path.name + ending) for ending in (".png", ".svg")]
    for file in files:
        figure.savefig(file, dpi=200, metadata={"Date": None} if file.suffix == ".svg" else None)
    return files


def first_accepted(stats: Stats) -> float:
    """When the server first took a call on, in seconds: by then its model was loaded."""
    return next((float(start) for start, most, *_ in stats["timeline"] if most), 0.0)


def draw_run(axes: Any, name: str, stats: Stats, items: int, loaded: float) -> None:
    calls, in_flight, answers = axes
    samples = stats["timeline"]
    edges = [start for start, *_ in samples] + [stats["seconds"]]
    count = stats["successes"]

    calls.set_title(f"{name}: {count} of {items} answered,\n{stats['calls'] / max(1, count):.2f} calls per answer",
                    fontsize=11, fontweight="bold")
    for part in axes:
        part.axvspan(0, loaded, color="#F0F0F0", linewidth=0)
    if loaded:
        in_flight.text(loaded / 2, 0.5, "model\nloads", transform=in_flight.get_xaxis_transform(),
                       ha="center", va="center", color="#666666")

    answered, refused = Counter[int](), Counter[int]()
    for start, _, answered_then, refused_then in samples:
        answered[int(start)] += answered_then
        refused[int(start)] += refused_then
    seconds = range(int(stats["seconds"]) + 1)
    heights = [answered[second] for second in seconds]
    calls.bar(seconds, [refused[second] for second in seconds], bottom=heights, width=0.9, align="edge",
              color=REFUSED, label="refused")
    calls.bar(seconds, heights, width=0.9, align="edge", color=ANSWERED, label="answered")

    in_flight.stairs([most for _, most, *_ in samples], edges, color=IN_FLIGHT, fill=True)

    answers.plot(edges, [0, *accumulate(sample[2] for sample in samples)], color=ANSWERED, linewidth=2.5)
    answers.axhline(items, color="black", linewidth=0.8, linestyle=":")
    lost = items - count
    answers.text(stats["seconds"], items * 1.03, f"{lost} given up" if lost else "all answered", ha="right",
                 va="bottom", fontweight="bold", color=REFUSED if lost else ANSWERED)
    answers.set_xlabel("seconds")
