"""How long answers took in the last minutes, in buckets: memory is bounded whatever the traffic."""

from __future__ import annotations

import math
from collections import Counter, deque

#: Each bucket reaches so much further than the one before: what is told is at most 4.5% off.
GROWTH = 2 ** (1 / 8)
#: From a tenth of a millisecond to a day.
_SHORTEST, _BUCKETS = 1e-4, 239
#: Seconds in one slice of time, and how many slices count besides the one that is being filled.
SLICE, SLICES = 30.0, 10


class Latencies:
    """Those of the last five minutes. It is told the time; not thread-safe."""

    __slots__ = ("_slices",)

    def __init__(self) -> None:
        self._slices: deque[tuple[int, Counter[int]]] = deque(maxlen=SLICES + 1)

    def add(self, now: float, seconds: float) -> None:
        """An answer came after so many seconds."""
        number = math.floor(now / SLICE)
        if not self._slices or self._slices[-1][0] < number:
            self._slices.append((number, Counter()))
        self._slices[-1][1][_bucket(seconds)] += 1

    def percentiles(self, now: float, shares: tuple[float, ...]) -> list[float] | None:
        """The seconds within which those shares (0 to 1) of the answers came. None: there was no answer."""
        oldest = math.floor(now / SLICE) - SLICES
        counts = sum((counts for number, counts in self._slices if number >= oldest), Counter[int]())
        if not counts:
            return None
        total, found = counts.total(), []
        for share in shares:
            rank, seen = max(1, math.ceil(share * total)), 0
            for bucket in sorted(counts):
                seen += counts[bucket]
                if seen >= rank:
                    found.append(_middle(bucket))
                    break
        return found

    def count(self, now: float) -> int:
        """How many answers those are."""
        oldest = math.floor(now / SLICE) - SLICES
        return sum(counts.total() for number, counts in self._slices if number >= oldest)


def _bucket(seconds: float) -> int:
    if seconds <= _SHORTEST:
        return 0
    return min(_BUCKETS, math.ceil(math.log(seconds / _SHORTEST, GROWTH)))


def _middle(bucket: int) -> float:
    return _SHORTEST * GROWTH ** (bucket - 0.5) if bucket else _SHORTEST
