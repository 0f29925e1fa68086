"""The curves of `growth` in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from speed_rows.growth import FLAT, Curve

# Told apart in every kind of colour vision (Okabe and Ito, 2008).
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
_MARKS = "osD^v"


def save(curves: Sequence[Curve], path: Path) -> None:
    """Size across, on a logarithmic scale; upwards the cost of a call, times that at the curve's smallest size."""
    matplotlib.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
                                "svg.hashsalt": "llm_guard"})
    figure = Figure(figsize=(10, 5.2), facecolor="white")
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    axes.axhspan(1 / FLAT, FLAT, color="#eeeeee", zorder=0)
    for curve, colour, mark in zip(curves, _COLOURS, _MARKS, strict=False):
        first = next(iter(curve.costs.values()))
        axes.plot(list(curve.costs), _over(first, curve.costs), mark + "-", color=colour,
                  markersize=5, label=f"{curve.name}: {first:.1f} us at first")
        if curve.machine is not None:
            raw = next(iter(curve.machine.values()))
            axes.plot(list(curve.machine), _over(raw, curve.machine), "--", color=colour,
                      linewidth=1, label=f"  as many threads on raw locks: {raw:.1f} us at first")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(0, 1.1 * max(2.0, *(max(line.get_ydata()) for line in axes.get_lines())))
    axes.set_xlabel("how many")
    axes.set_ylabel("CPU of a call, times the first of its line")
    axes.set_title(f"How the cost of a call grows (grey: within {FLAT:g} times)", loc="left")
    figure.legend(frameon=False, loc="outside lower center", ncols=2)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _over(first: float, costs: Mapping[int, float]) -> list[float]:
    return [cost / first for cost in costs.values()]
