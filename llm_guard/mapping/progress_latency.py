"""Percentiles of durations in little room: a histogram whose buckets grow evenly in the logarithm."""

from __future__ import annotations

import math
from collections import Counter

from llm_guard.mapping.progress import Percentiles

#: The ratio of a bucket's bounds: what is told is the geometric middle, at most 2% off. A microsecond to a day are 640.
RATIO = 1.04
_LOG = math.log(RATIO)
_LEAST = 1e-6


class Latencies:
    """Of durations in seconds."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        self._buckets[math.floor(math.log(max(seconds, _LEAST)) / _LOG)] += 1

    def percentiles(self) -> Percentiles | None:
        """None: there was none."""
        count = self._buckets.total()
        if not count:
            return None
        ranks = [math.ceil(share * count) for share in (0.50, 0.90, 0.99)]
        found: list[float] = []
        below = 0
        for bucket in sorted(self._buckets):
            below += self._buckets[bucket]
            while len(found) < len(ranks) and ranks[len(found)] <= below:
                found.append(math.exp((bucket + 0.5) * _LOG))
        return Percentiles(*found)
