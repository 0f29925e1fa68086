"""A run as a picture: items and calls a second, what was in flight, items done, and the states in which it was."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from llm_guard.cli.history import History, Sample
from llm_guard.errors import ConfigError
from llm_guard.outcome import FINAL, REFUSALS, Kind

# Told apart in every kind of colour vision (Okabe and Ito, 2008).
ANSWERED, REFUSED, FAILED, IN_FLIGHT, WAITING = "#0072B2", "#D55E00", "#CC79A7", "#009E73", "#999999"
#: Behind the curves; what is not here is left white.
BANDS = {"cold": ("cold", "#D6E9F8"), "holding": ("holding", "#FBE7B2"), "paused": ("paused", "#E4E4E4"),
         "exhausted": ("quota exhausted", "#F3C9C2"), "open": ("circuit open", "#F3C9C2"),
         "half_open": ("circuit open", "#F3C9C2")}
_BINS, _LEAST_BIN = 120, 1.0


def check_plot(path: Path) -> None:
    """ConfigError where no picture can be drawn into that file, ImportError where matplotlib is not there: before the
    run, so that none is lost for it."""
    if path.suffix not in (".svg", ".png"):
        raise ConfigError("plot", str(path), "a file whose name ends in .svg or .png")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ConfigError("plot", str(path), "a file in a directory that exists")
    try:
        import matplotlib  # noqa: F401
    except ImportError as missing:
        raise ImportError("a picture needs matplotlib: pip install 'llm-guard-flow[plot]'") from missing


def save_plot(history: History, path: Path, title: str) -> None:
    """Draws the run into a file of the kind that its name says; the file is there whole, or as it was before. `title`
    holds no payload. OSError where it cannot be written."""
    check_plot(path)
    handle, temporary = tempfile.mkstemp(suffix=path.suffix, prefix=f".{path.stem}-", dir=path.absolute().parent)
    os.close(handle)
    try:
        _draw(history.samples, title, temporary)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _umask() -> int:
    """What other files of this process would lack, which a temporary file's mode does not follow."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _draw(samples: Sequence[Sample], title: str, file: str) -> None:
    import matplotlib
    from matplotlib.figure import Figure

    settings: Any = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
                     "svg.hashsalt": "llm_guard", "text.parse_math": False}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(10, 7.5), facecolor="white")
        figure.set_layout_engine("constrained")
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
        rates, in_flight, done = figure.subplots(3, 1, sharex=True, height_ratios=[3, 2, 2])
        end = samples[-1].at if samples else 1.0
        unit, scale = ("minutes", 60.0) if end > 600 else ("seconds", 1.0)
        at = [sample.at / scale for sample in samples]
        _draw_rates(rates, samples, end, scale)
        in_flight.step(at, [sample.in_flight for sample in samples], where="pre", color=IN_FLIGHT, label="in flight")
        if any(sample.waiting for sample in samples):
            in_flight.step(at, [sample.waiting for sample in samples], where="pre", color=WAITING, linestyle="--",
                           linewidth=1, label="waiting")
        in_flight.set_ylabel("calls")
        done.plot(at, [sample.done for sample in samples], color=ANSWERED, label="items done")
        if any(sample.failed for sample in samples):
            done.plot(at, [sample.failed for sample in samples], color=FAILED, linestyle=":", label="failed")
        done.set_ylabel("items")
        done.set_xlabel(unit)
        for axes in (rates, in_flight, done):
            _draw_bands(axes, samples, scale, named=axes is rates)
            axes.set_ylim(bottom=0)
            axes.set_xlim(0, max(end, 1e-9) / scale)
            axes.grid(axis="y", color="#00000018", linewidth=0.6)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
        figure.savefig(file, dpi=120, metadata={"Date": None} if file.endswith(".svg") else None)


def _draw_rates(axes: Any, samples: Sequence[Sample], end: float, scale: float) -> None:
    """By the outcomes of calls; each curve is calls a second in bins of even width."""
    width = max(_LEAST_BIN, end / _BINS)
    failed = (set(Kind) - REFUSALS - {Kind.SUCCESS} - FINAL) | {Kind.INVALID, Kind.QUOTA}
    for label, colour, style, kinds in (("answered", ANSWERED, "-", {Kind.SUCCESS}),
                                        ("refused", REFUSED, "-", REFUSALS), ("failed", FAILED, "--", failed)):
        counted = [sum(sample.outcomes.get(kind, 0) for kind in kinds) for sample in samples]
        if any(counted):
            at, values = _a_second([sample.at for sample in samples], counted, width, end)
            axes.stairs(values, [edge / scale for edge in at], color=colour, linestyle=style, linewidth=1.4,
                        label=label, baseline=None)
    axes.set_ylabel("calls a second")


def _a_second(instants: Sequence[float], counts: Sequence[int], width: float,
              end: float) -> tuple[list[float], list[float]]:
    """The edges of the bins, and the values between them; counts between two samples are taken to have come evenly."""
    edges = [min(number * width, end) for number in range(int(end / width) + 1)]
    if end - edges[-1] > width / 2 or len(edges) == 1:
        edges.append(max(end, 1e-9))
    else:
        edges[-1] = end
    known = [(0.0, 0), *zip(instants, counts, strict=True)]
    totals, place = [], 0
    for edge in edges:
        while place + 1 < len(known) - 1 and known[place + 1][0] < edge:
            place += 1
        (before, low), (after, high) = known[place], known[min(place + 1, len(known) - 1)]
        share = min(1.0, (edge - before) / (after - before)) if after > before else 1.0
        totals.append(low + share * (high - low))
    return edges, [(high - low) / max(right - left, 1e-9)
                   for (left, right), (low, high) in zip(pairwise(edges), pairwise(totals), strict=True)]


def _draw_bands(axes: Any, samples: Sequence[Sample], scale: float, *, named: bool) -> None:
    if not samples:
        return
    begun, state = 0.0, samples[0].state
    told: set[str] = set()
    for sample in [*samples[1:], None]:
        if sample is not None and sample.state == state:
            continue
        until = samples[-1].at if sample is None else sample.at
        if state in BANDS and until > begun:
            label, colour = BANDS[state]
            axes.axvspan(begun / scale, until / scale, color=colour, linewidth=0, zorder=0,
                         label=label if named and label not in told else None)
            told.add(label)
        if sample is not None:
            begun, state = sample.at, sample.state
