"""A run as a picture: calls offered, admitted and answered, what was in flight, window, rate and gate over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from llm_guard.errors import ConfigError
from llm_guard.testing.simulation.run import Run, Sample

# Told apart in every kind of colour vision (Okabe and Ito, 2008).
OFFERED, ADMITTED, ANSWERED, REFUSED, IN_FLIGHT = "#999999", "#56B4E9", "#0072B2", "#D55E00", "#777777"
WINDOW, RATE, SHUT = "#009E73", "#CC79A7", "#F0E442"
_BARS = 100


def check_picture(path: Path) -> None:
    """ConfigError where no picture can be drawn into that file, ImportError where matplotlib is not there."""
    if path.suffix not in (".svg", ".png"):
        raise ConfigError("plot", str(path), "a file whose name ends in .svg or .png")
    try:
        import matplotlib  # noqa: F401
    except ImportError as missing:
        raise ImportError("a picture needs matplotlib: pip install 'llm-guard-flow[simulation]'") from missing


def save(runs: Sequence[Run], path: Path) -> None:
    """Draws the runs, one a column, into a file of the kind that its name says."""
    check_picture(path)
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
                                "svg.hashsalt": "llm_guard"})
    figure = Figure(figsize=(1.5 + 4.5 * len(runs), 6.5))
    figure.set_layout_engine("constrained")
    grid = figure.subplots(3, len(runs), sharex="col", squeeze=False)
    for column, run in zip(grid.T, runs, strict=True):
        _draw(column, run)
    for axes in grid[:, 0]:
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best", frameon=False, fontsize=8)
    metadata = {"Date": None} if path.suffix == ".svg" else None
    figure.savefig(path, dpi=120, metadata=metadata)


def _draw(column: Any, run: Run) -> None:
    counts, in_flight, pace = column
    counts.set_title(f"{run.scenario.name}, {run.workload}: {100 * run.success:.1f}% answered,\n"
                     f"{run.calls_per_answer:.3f} calls per answer, {run.against_best:.2f} of the best")
    width = max(run.seconds, 1e-9) / _BARS
    for label, colour, instants in (
            ("offered", OFFERED, [item.offered for item in run.items]),
            ("admitted", ADMITTED, run.called_at),
            ("answered", ANSWERED, [item.ended for item in run.items if item.answer is not None])):
        counts.step(*_a_second(instants, width), where="post", color=colour, label=label, linewidth=1.2)
    refused = [start for start, _, _, refusals in run.server.timeline for _ in range(refusals)]
    counts.step(*_a_second(refused, width), where="post", color=REFUSED, label="refused", linewidth=1.2)
    counts.set_ylabel("a second")
    at = [sample[0] for sample in run.server.timeline]
    in_flight.step(at, [sample[1] for sample in run.server.timeline], where="post", color=IN_FLIGHT, linewidth=1,
                   label="in flight at the server")
    in_flight.set_ylabel("calls")
    pace.set_ylabel("calls a second")
    pace.set_xlabel("seconds")
    if run.samples:
        _draw_pace(column, run.samples)
    else:
        pace.text(0.5, 0.5, "no pace to be seen", transform=pace.transAxes, ha="center", color=IN_FLIGHT)
        pace.set_yticks([])


def _draw_pace(column: Any, samples: Sequence[Sample]) -> None:
    _, in_flight, pace = column
    at = [sample.at for sample in samples]
    most = max((sample.rate for sample in samples if sample.rate is not None), default=1.0)
    in_flight.step(at, [sample.window for sample in samples], where="post", color=WINDOW, label="window")
    bounded: Callable[[Sample], float] = lambda sample: float("nan") if sample.rate is None else sample.rate  # noqa: E731
    pace.step(at, [bounded(sample) for sample in samples], where="post", color=RATE,
              label="rate (none: not bounded)")
    pace.set_yscale("log" if most > 100 else "linear")
    if all(sample.rate is None for sample in samples):
        pace.text(0.5, 0.5, "no rate limit was met", transform=pace.transAxes, ha="center", color=IN_FLIGHT)
        pace.set_yticks([])
    for axes in column:
        label: str | None = "gate shut"
        for begin, end in _shut(samples):
            axes.axvspan(begin, end, color=SHUT, alpha=0.4, linewidth=0, label=label)
            label = None


def _a_second(instants: Sequence[float], width: float) -> tuple[list[float], list[float]]:
    """Events a second in bars of `width` seconds."""
    counts = [0.0] * (_BARS + 1)
    for at in instants:
        if at == at:  # not one that never came
            counts[min(_BARS, int(at / width))] += 1 / width
    return [number * width for number in range(_BARS + 1)], counts


def _shut(samples: Sequence[Sample]) -> list[tuple[float, float]]:
    spans: list[tuple[float, float]] = []
    for sample, after in pairwise(samples):
        if sample.shut and spans and spans[-1][1] == sample.at:
            spans[-1] = (spans[-1][0], after.at)
        elif sample.shut:
            spans.append((sample.at, after.at))
    return spans
