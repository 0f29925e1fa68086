"""A LeakyBucket on which 64 threads wait all the time: its rate, its bound in every window, and how late it wakes."""

from __future__ import annotations

from functools import partial
from statistics import median, quantiles

from bucket import Busy, busy, furthest_ahead

from llm_guard.state.leak import CATCH_UP
from speed_rows.row import Effort, Row
from speed_rows.turns import in_turns

THREADS, RATES = 64, (500, 1000, 2000, 5000)


def rows(effort: Effort) -> list[Row]:
    seconds = max(0.4, 2.0 * effort.scale)
    runs = in_turns({f"{rate}": partial(busy, THREADS, rate, seconds) for rate in RATES}, effort.rounds)
    return [row for rate in RATES for row in _of(rate, runs[f"{rate}"])]


def _of(rate: int, runs: list[Busy]) -> list[Row]:
    part = f"bucket at {rate}/s, {THREADS} threads"
    off = [100 * abs(run.granted.rate() / rate - 1) for run in runs]
    sleeper = median(100 * abs(run.sleeper.rate() / rate - 1) for run in runs)
    woken = [_late(run) for run in runs]
    alone = [run.sleeper.lateness() for run in runs]
    ahead = [round(1000 * furthest_ahead(run.granted.started, rate), 4) for run in runs]  # but for rounding
    middle = median(median(own) / median(its) for own, its in zip(woken, alone, strict=True))
    late = median(_ninetieth(own) / _ninetieth(its) for own, its in zip(woken, alone, strict=True))
    granted = median(median(run.granted.lateness()) / median(its) for run, its in zip(runs, alone, strict=True))
    return [
        Row(part, "mean rate, % off", median(off), 3.0, beside=f"of a bare sleep {sleeper:.2f}"),
        Row(part, "most ahead of the rate in any window of any round, ms", max(ahead), 1000 * CATCH_UP),
        Row(part, "late, times a bare sleep in the same seconds", middle, 1.5,
            beside=f"ms: {1000 * median(map(median, woken)):.2f}, bare sleep {1000 * median(map(median, alone)):.2f}; "
                   f"at the 90th percentile {late:.2f} times; until granted, not yet awake {granted:.2f} times")]


def _late(run: Busy) -> list[float]:
    """Of each that waited, how long after its turn its thread went on."""
    return [max(0.0, at - due) for due, at in zip(run.granted.due[1:], run.woken[1:], strict=True)]


def _ninetieth(values: list[float]) -> float:
    return quantiles(values, n=10, method="inclusive")[8]
