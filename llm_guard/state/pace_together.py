"""Several paces as one: what the statistics of a pace for each key add up to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from llm_guard.state.pace import PaceSnapshot
from llm_guard.state.pace_words import NOT_YET

N = TypeVar("N", int, float)


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
        any(each.growth_limited for each in all_of))


def _sum(values: Iterable[N | None]) -> N | None:
    """None where one of them is, or where there are none."""
    total: N | None = None
    for value in values:
        if value is None:
            return None
        total = value if total is None else total + value
    return total
