"""What the pace shows of itself, and many paces as one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from llm_guard.state.pace_words import NOT_YET

N = TypeVar("N", int, float)


class PaceSnapshot(NamedTuple):
    """The pace at one instant.

    `state` is one of: "cold" (no success yet, the model loads, or it was idle for long), "ramping" (slow start),
    "steady", "holding" (the server refuses or fails, or the account has no calls left for now), "paused" (by hand),
    "exhausted" (the quota). It has been in it for `since` seconds, for the reason `why`.

    `window` and `in_flight` are calls, `rate` calls a second (None: not bounded), `gate_in` the seconds until a call
    may start, `next_probe_in` those until a probe may (None: none is needed), `latency` the mean in seconds, of a
    stream to its first item (None: not known). What it learned of the server: `limit` is the rate that it was seen to
    bear, in calls a second, `capacity` the most calls in flight that it accepted, where its slots were seen to be full
    (None: not known), and `growth_limited` whether it said, not long ago, that the traffic grew too fast. `started`
    counts the calls that it let start.
    """

    state: str
    window: float
    rate: float | None
    in_flight: int
    gate_in: float
    latency: float | None
    why: str
    since: float
    next_probe_in: float | None
    limit: float | None
    capacity: int | None
    growth_limited: bool
    started: int = 0


def together(all_of: list[PaceSnapshot]) -> PaceSnapshot:
    """As `llm_guard.policies.ramp_up.RampUpStatistics` says; of no pace at all: as one that had no call yet."""
    states, reasons = {each.state for each in all_of} or {"cold"}, {each.why for each in all_of} or {NOT_YET}
    latencies = [each.latency for each in all_of if each.latency is not None]
    return PaceSnapshot(
        states.pop() if len(states) == 1 else "mixed", sum(each.window for each in all_of),
        _sum(each.rate for each in all_of), sum(each.in_flight for each in all_of),
        min((each.gate_in for each in all_of), default=0.0), sum(latencies) / len(latencies) if latencies else None,
        reasons.pop() if len(reasons) == 1 else "several reasons", min((each.since for each in all_of), default=0.0),
        min((each.next_probe_in for each in all_of if each.next_probe_in is not None), default=None),
        _sum(each.limit for each in all_of), _sum(each.capacity for each in all_of),
        any(each.growth_limited for each in all_of), sum(each.started for each in all_of))


def _sum(values: Iterable[N | None]) -> N | None:
    """None where one of them is, or where there are none."""
    total: N | None = None
    for value in values:
        if value is None:
            return None
        total = value if total is None else total + value
    return total
